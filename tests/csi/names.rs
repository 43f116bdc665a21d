//! Names are any text that gRPC carries: each gives a volume of its own within the root, or a clear error.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::symlink;

use crate::rig::*;

/// Names that mean something to a file system, a shell, a log, a terminal or an id.
fn odd_names() -> Vec<String> {
    let mut names: Vec<String> = [
        "a",
        "A",
        "a/b",
        "a//b",
        "a_b",
        "a.b",
        "/a",
        "a/",
        "/",
        "..",
        "../a",
        "../../etc",
        ".",
        ".a",
        "...",
        ".berth",
        ".berth/volumes",
        "-",
        "-rf",
        "--help",
        " ",
        "a b",
        " a",
        "a ",
        "a\n",
        "a\nb",
        "\n",
        "a\tb",
        "a\r\nb",
        "a\0b",
        "\0",
        "\u{1}",
        "\u{7f}",
        "\u{1b}[31m",
        "\u{e4}",
        "a\u{308}",
        "日本語",
        "🐙",
        "\u{202e}txt",
        "a:b",
        "a*b",
        "a?b",
        "a\\b",
        "a\"b",
        "a'b",
        "$(a)",
        "${pvc.metadata.name}",
        "`a`",
        "%2e%2e",
        "~",
        "a~b",
        "#",
        "=a",
        "=photos#2",
        "a@b",
        "a,b",
        "a|b",
        "archived",
        "new",
        "trash",
        "volumes",
        "lost+found",
        "root.json",
        "a.retained-0123456789abcdef",
        "a.0123456789ABCDEF",
    ]
    .map(str::to_string)
    .into();
    names.extend([46, 47, 127, 128, 129, 255, 256, 1024].map(|length| "n".repeat(length)));
    names.push("🐙".repeat(256));
    names
}

#[test]
fn every_name_gives_a_volume_of_its_own_within_the_root() {
    let mut rig = Rig::new();
    let beside_the_root = |rig: &Rig| -> Vec<_> {
        fs::read_dir(rig.scratch()).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    };
    let before = beside_the_root(&rig);
    let (mut ids, names) = (HashSet::new(), odd_names());
    for name in &names {
        let id = rig.create(create(name)).id();
        assert!(id.len() <= 128, "{name:?}: {id}");
        assert!(id.chars().all(|c| c.is_ascii_graphic()), "{name:?}: {id}");
        assert!(ids.insert(id.clone()), "{name:?} has the id of another name: {id}");
        assert_eq!(rig.create(create(name)).id(), id, "{name:?} again");
    }
    assert_eq!(rig.data().len(), names.len(), "each has a directory, and none lies in another");
    for directory in rig.data() {
        assert_eq!(fs::read_dir(rig.root().join(&directory)).unwrap().count(), 0, "{directory}");
    }
    assert_eq!(beside_the_root(&rig), before);
    assert_eq!(rig.list_ids(0).into_iter().collect::<HashSet<_>>(), ids);
    for id in ids {
        rig.delete(&id).ok();
    }
    assert_eq!(rig.data(), Vec::<String>::new());
}

#[test]
fn names_that_look_alike_have_data_of_their_own() {
    let mut rig = Rig::new();
    let long = "x".repeat(1023);
    let names = ["a/b", "a_b", "a b", "ab", "\u{e4}", "a\u{308}", &long, &(long.clone() + "y")];
    let targets: Vec<_> = (0..names.len()).map(|i| rig.target(&format!("t{i}"))).collect();
    for (name, target) in names.iter().zip(&targets) {
        let id = rig.create(create(name)).id();
        rig.publish(publish(&id, target)).ok();
        assert_eq!(fs::read_dir(target).unwrap().count(), 0, "{name:?} begins empty");
        fs::write(format!("{target}/file"), name).unwrap();
    }
    for (name, target) in names.iter().zip(&targets) {
        assert_eq!(fs::read_to_string(format!("{target}/file")).unwrap(), **name);
    }
}

#[test]
fn a_name_that_is_missing_or_too_long_is_refused() {
    let mut rig = Rig::new();
    for name in [String::new(), "n".repeat(1025), "n".repeat(4096), "n".repeat(1 << 20), "\0".repeat(1 << 20)]
    {
        rig.unchanged(|rig| rig.create(create(&name)).fails(Code::InvalidArgument, "name: "));
    }
    assert_eq!(rig.list_ids(0), Vec::<String>::new());
}

#[test]
fn a_name_that_poses_as_the_data_of_a_volume_is_refused_unless_sub_dir_gives_another_path() {
    let mut rig = Rig::new();
    rig.create(create("a")).ok();
    let data = rig.data().remove(0);
    for name in [data.as_str(), "b.0123456789abcdef"] {
        rig.unchanged(|rig| {
            rig.create(create(name)).fails(Code::InvalidArgument, "looks like a volume's data")
        });
    }
    let id = rig.create(create(&data).parameter("subDir", "b")).id();
    assert_eq!(rig.data().len(), 2);
    rig.delete(&id).ok();
    assert_eq!(rig.data(), [data]);
}

#[test]
fn a_name_makes_no_lines_of_its_own_in_the_log() {
    let mut rig = Rig::new();
    rig.create(create("a\nFORGED one")).ok();
    rig.create(create("a\nFORGED one").bytes(2 << 20)).fails(Code::AlreadyExists, "capacity_range");
    rig.delete("node-1/main/a\nFORGED two").ok();
    rig.get_volume(berth::csi::ControllerGetVolumeRequest { volume_id: "a\nFORGED three".into() })
        .fails(Code::NotFound, "a");
    let log = rig.log();
    assert!(log.contains("FORGED three"), "{log}");
    assert!(!log.lines().any(|line| line.starts_with("FORGED")), "{log}");
}

#[test]
fn a_name_can_be_created_again_and_again_while_its_data_waits_in_the_trash() {
    let mut rig = Rig::new();
    let precious = rig.scratch().join("precious");
    fs::create_dir(&precious).unwrap();
    fs::write(precious.join("file"), "kept").unwrap();
    let trash = rig.root().join(".berth/trash");
    let id = rig.create(create("a")).id();
    for round in 1..=2 {
        // What is mounted in a deleted tree is not Berth's to unmount, so the purge waits for it.
        let data = rig.data_of("a");
        fs::create_dir(data.join("mounted")).unwrap();
        fs::write(data.join("round"), round.to_string()).unwrap();
        rig.bind(&precious, &data.join("mounted"));
        rig.delete(&id).ok();
        assert_eq!(rig.data(), Vec::<String>::new());
        assert_eq!(rig.list_ids(0), Vec::<String>::new());
        assert_eq!(rig.create(create("a")).id(), id);
        assert_eq!(fs::read_dir(rig.data_of("a")).unwrap().count(), 0, "it begins empty");
        let waiting = || -> Vec<_> {
            let entries = fs::read_dir(&trash).unwrap().map(|entry| entry.unwrap().path());
            entries.filter(|entry| entry.join("mounted/file").exists()).collect()
        };
        assert_eq!(waiting().len(), round);
    }
    rig.create(create("a").bytes(2 << 20)).fails(Code::AlreadyExists, "capacity_range");
    for entry in fs::read_dir(&trash).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.join("mounted").exists() {
            nix::mount::umount(&entry.join("mounted")).unwrap();
        }
    }
    rig.delete(&id).ok();
    rig.wait_for_purge();
    assert_eq!(fs::read_to_string(precious.join("file")).unwrap(), "kept");
}

#[test]
fn what_lies_where_new_paths_would_go_is_kept_as_it_is() {
    let mut rig = Rig::new();
    let root = rig.root();
    fs::write(root.join("file"), "mine").unwrap();
    fs::write(root.join("file.0123456789abcdef"), "mine").unwrap();
    fs::create_dir(root.join("directory")).unwrap();
    fs::create_dir(root.join("directory.0123456789abcdef")).unwrap();
    fs::write(root.join("directory/file"), "mine").unwrap();
    fs::write(root.join("directory.0123456789abcdef/file"), "mine").unwrap();
    fs::create_dir(root.join("empty")).unwrap();
    fs::create_dir(root.join("empty.0123456789abcdef")).unwrap();
    symlink("/etc", root.join("link")).unwrap();
    symlink("directory", root.join("link.0123456789abcdef")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    let target = rig.target("t");
    let other = rig.create(create("other")).id();
    rig.publish(publish(&other, &rig.target("other"))).ok();
    rig.unchanged(|rig| {
        for name in ["file", "directory", "empty", "link", "dangling"] {
            let id = rig.create(create(name)).id();
            rig.publish(publish(&id, &target)).ok();
            assert_eq!(fs::read_dir(&target).unwrap().count(), 0, "{name} begins empty");
            fs::write(format!("{target}/file"), "of the volume").unwrap();
            rig.unpublish(&id, &target).ok();
            rig.delete(&id).ok();
        }
        rig.wait_for_purge();
    });
}
