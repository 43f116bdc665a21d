//! `subDir` says where beneath the root a volume lies: nowhere else, whatever is there and whoever moves it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use crate::rig::*;

/// The directories beneath the root that end in an incarnation, from the root.
fn data_below(root: &Path, below: &str) -> Vec<String> {
    let entries = fs::read_dir(root.join(below)).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = entries.map(|name| format!("{below}/{}", name.display())).collect();
    names.sort();
    names
}

/// A driver whose root is a directory of a file system that has an `outside` as well, so that nothing but the driver
/// keeps a rename from going there.
fn with_outside() -> Rig {
    let mut rig = Rig::without_driver();
    rig.mount_tmpfs(rig.scratch(), "size=64m,mode=0700");
    for directory in ["root", "targets", "outside"] {
        fs::create_dir(rig.scratch().join(directory)).unwrap();
    }
    rig.set_roots(&[format!("main={},plain", rig.root().display())]);
    rig.start();
    rig.list_ids(0);
    rig
}

#[test]
fn a_volume_lies_where_sub_dir_says_with_its_incarnation_behind() {
    let mut rig = Rig::new();
    let target = rig.target("t");
    let id = rig.create(create("a").parameter("subDir", "shop/data/x")).id();
    assert_eq!(id, "node-1/main/a", "the id is the name's, not the path's");
    let data = data_below(&rig.root(), "shop/data");
    assert_eq!(data.len(), 1);
    assert!(data[0].starts_with("shop/data/x.") && data[0].len() == "shop/data/x.".len() + 16, "{data:?}");
    rig.publish(publish(&id, &target)).ok();
    fs::write(format!("{target}/file"), "content").unwrap();
    assert_eq!(fs::read_to_string(rig.root().join(&data[0]).join("file")).unwrap(), "content");
    assert_eq!(rig.mounts_at(&target)[0].root, format!("/{}", data[0]));
    rig.unpublish(&id, &target).ok();
    rig.delete(&id).ok();
    assert_eq!(data_below(&rig.root(), "shop/data"), Vec::<String>::new());
}

#[test]
fn variables_are_filled_in_with_what_the_provisioner_sends() {
    let mut rig = Rig::new();
    let from_claim = |name: &str, namespace: &str, claim: &str| {
        create(name)
            .parameter("subDir", "${pvc.metadata.namespace}/${pvc.metadata.name}-of-${pv.metadata.name}")
            .parameter("csi.storage.k8s.io/pvc/namespace", namespace)
            .parameter("csi.storage.k8s.io/pvc/name", claim)
            .parameter("csi.storage.k8s.io/pv/name", name)
    };
    rig.create(from_claim("pvc-1", "shop", "data")).ok();
    let data = data_below(&rig.root(), "shop");
    assert!(data.len() == 1 && data[0].starts_with("shop/data-of-pvc-1."), "{data:?}");
    rig.unchanged(|rig| {
        rig.create(from_claim("pvc-1", "shop", "data")).ok();
        rig.create(from_claim("pvc-1", "shop", "other")).fails(Code::AlreadyExists, "subDir");
        for value in ["..", ".", "", "a/b", "../../etc", "/etc", "a\nb", ".berth/x"] {
            rig.create(from_claim("pvc-2", "shop", value)).fails(Code::InvalidArgument, "parameters.subDir");
            rig.create(from_claim("pvc-2", value, "data")).fails(Code::InvalidArgument, "parameters.subDir");
        }
        rig.create(from_claim("pvc-2", ".berth", "data")).fails(Code::InvalidArgument, "Berth's own");
        rig.create(create("pvc-2").parameter("subDir", "${pvc.metadata.name}"))
            .fails(Code::InvalidArgument, "--extra-create-metadata");
        rig.create(create("pvc-2").parameter("subDir", "${pod.name}"))
            .fails(Code::InvalidArgument, "known are ${pvc.metadata.name}");
        rig.create(create("pvc-2").parameter("subDir", "a/${pvc.metadata.name"))
            .fails(Code::InvalidArgument, "parameters.subDir");
    });
}

#[test]
fn a_sub_dir_that_leads_out_hides_or_is_none_is_refused() {
    let mut rig = Rig::new();
    let (long, deep) = ("n".repeat(221), "n/".repeat(600) + "n");
    for (sub_dir, why) in [
        ("", "is empty"),
        ("..", ".."),
        ("../x", ".."),
        ("a/../../x", ".."),
        ("a/..", ".."),
        (".", "component ."),
        ("./a", "component ."),
        ("a/.", "component ."),
        ("/", "absolute"),
        ("/etc", "absolute"),
        ("//a", "absolute"),
        ("a//b", "empty component"),
        ("a/", "empty component"),
        (".berth", "Berth's own"),
        (".berth/volumes/a", "Berth's own"),
        (".berth/trash", "Berth's own"),
        (".BERTH/x", "Berth's own"),
        ("a\0b", "control character"),
        ("a\nb", "control character"),
        ("x.0123456789abcdef", "looks like a volume's data"),
        ("x.0123456789abcdef/inner", "looks like a volume's data"),
        ("shop/x.0123456789abcdef/inner", "looks like a volume's data"),
        (".0123456789abcdef", "looks like a volume's data"),
        (&long, "more than 220 bytes"),
        (&deep, "longer than 1024 bytes"),
    ] {
        rig.unchanged(|rig| {
            let error =
                rig.create(create("a").parameter("subDir", sub_dir)).fails(Code::InvalidArgument, why);
            assert!(error.starts_with("parameters.subDir: "), "{error}");
        });
    }
}

#[test]
fn a_volume_never_lies_in_the_directory_of_another() {
    let mut rig = Rig::new();
    rig.create(create("a")).ok();
    rig.create(create("b").parameter("subDir", "shop/b")).ok();
    let (a, b) = (rig.data_of("a"), data_below(&rig.root(), "shop").remove(0));
    let a = a.file_name().unwrap().to_str().unwrap();
    for sub_dir in [a, &format!("{a}/x"), &format!("{a}/x/y"), &b, &format!("{b}/x")] {
        rig.unchanged(|rig| {
            rig.create(create("c").parameter("subDir", sub_dir))
                .fails(Code::InvalidArgument, "looks like a volume's data")
        });
    }
    // The path of another volume, and one beneath it, are free: its data is not there.
    rig.create(create("c").parameter("subDir", "a")).ok();
    rig.create(create("d").parameter("subDir", "a/d")).ok();
    assert_eq!(data_below(&rig.root(), "a").len(), 1);
    assert_eq!(fs::read_dir(rig.root().join(a)).unwrap().count(), 0);
    assert_eq!(rig.list_ids(0).len(), 4);
}

#[test]
fn two_volumes_of_one_sub_dir_have_two_directories() {
    let mut rig = Rig::new();
    let targets = [rig.target("one"), rig.target("two")];
    let ids = ["one", "two"].map(|name| rig.create(create(name).parameter("subDir", "shop/data")).id());
    for (id, target) in ids.iter().zip(&targets) {
        rig.publish(publish(id, target)).ok();
        fs::write(format!("{target}/file"), id).unwrap();
    }
    assert_eq!(data_below(&rig.root(), "shop").len(), 2);
    rig.unpublish(&ids[0], &targets[0]).ok();
    rig.delete(&ids[0]).ok();
    assert_eq!(fs::read_to_string(format!("{}/file", targets[1])).unwrap(), ids[1]);
    assert_eq!(data_below(&rig.root(), "shop").len(), 1);
}

#[test]
fn directories_on_the_way_are_made_for_root_alone_and_left_as_they_are_where_they_exist() {
    use std::os::unix::fs::MetadataExt as _;
    use std::os::unix::fs::PermissionsExt as _;
    let mut rig = Rig::new();
    let root = rig.root();
    fs::create_dir(root.join("shop")).unwrap();
    fs::write(root.join("shop/file"), "mine").unwrap();
    fs::set_permissions(root.join("shop"), fs::Permissions::from_mode(0o751)).unwrap();
    let id = rig.create(create("a").parameter("subDir", "shop/new/a")).id();
    let mode = |path: &str| fs::metadata(root.join(path)).unwrap().mode() & 0o7777;
    assert_eq!(mode("shop"), 0o751);
    assert_eq!(mode("shop/new"), 0o700);
    rig.delete(&id).ok();
    assert_eq!(fs::read_to_string(root.join("shop/file")).unwrap(), "mine");
    assert!(root.join("shop/new").is_dir(), "others may use it");
}

#[test]
fn a_file_or_a_link_or_a_mount_on_the_way_is_refused_and_not_followed() {
    let mut rig = with_outside();
    let (root, outside) = (rig.root(), rig.scratch().join("outside"));
    fs::create_dir(outside.join("inner")).unwrap();
    fs::create_dir_all(root.join("deep/real")).unwrap();
    fs::write(root.join("file"), "mine").unwrap();
    fs::write(root.join("deep/file"), "mine").unwrap();
    symlink(&outside, root.join("link")).unwrap();
    symlink("deep", root.join("inside")).unwrap();
    symlink("../../outside", root.join("deep/link")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    symlink("/proc/self/cwd", root.join("magic")).unwrap();
    fs::create_dir(root.join("mounted")).unwrap();
    rig.bind(&outside, &root.join("mounted"));
    for way in [
        "file",
        "deep/file",
        "link",
        "inside",
        "deep/link",
        "dangling",
        "loop",
        "magic",
        "mounted",
        "link/inner",
    ] {
        let part = way.split('/').find(|part| !["deep"].contains(part)).unwrap();
        rig.unchanged(|rig| {
            rig.create(create("a").parameter("subDir", &format!("{way}/x")))
                .fails(Code::FailedPrecondition, &format!("{part:?} exists and is no directory of this root"))
        });
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1, "{way}");
        assert_eq!(fs::read_dir(outside.join("inner")).unwrap().count(), 0, "{way}");
    }
    // Nothing is remembered of what was refused: the way is free, and so is the name.
    fs::remove_file(root.join("link")).unwrap();
    rig.create(create("a").parameter("subDir", "link/x")).ok();
}

#[test]
fn what_has_the_last_name_of_a_sub_dir_is_kept_whatever_it_is() {
    let mut rig = Rig::new();
    let root = rig.root();
    fs::create_dir(root.join("shop")).unwrap();
    fs::write(root.join("shop/file"), "mine").unwrap();
    symlink("/etc", root.join("shop/link")).unwrap();
    for last in ["file", "link"] {
        rig.unchanged(|rig| {
            let id = rig.create(create("a").parameter("subDir", &format!("shop/{last}"))).id();
            assert_eq!(data_below(&rig.root(), "shop").len(), 3);
            rig.delete(&id).ok();
            rig.wait_for_purge();
        });
    }
}

/// Ends the thread that swaps, also when an assertion fails: the test would wait for it for ever.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_directory_that_is_swapped_for_a_link_during_the_call_leads_nowhere() {
    let mut rig = with_outside();
    let (root, outside) = (rig.root(), rig.scratch().join("outside"));
    fs::create_dir(root.join("way")).unwrap();
    symlink(&outside, root.join("other")).unwrap();
    let stop = AtomicBool::new(false);
    let (swapped, heard) = channel();
    let (way, other) = (root.join("way"), root.join("other"));
    let mut outcomes = [0, 0];
    std::thread::scope(|scope| {
        // A thread of this one's mount namespace: it sees the same root.
        scope.spawn(|| {
            let mut swaps = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                renameat2(AT_FDCWD, &way, AT_FDCWD, &other, RenameFlags::RENAME_EXCHANGE).unwrap();
                swaps += 1;
                std::thread::yield_now();
            }
            // An even number: the directory is back in its place.
            if swaps % 2 == 1 {
                renameat2(AT_FDCWD, &way, AT_FDCWD, &other, RenameFlags::RENAME_EXCHANGE).unwrap();
            }
            swapped.send(swaps).unwrap();
        });
        let _stop = Stop(&stop);
        for i in 0..150 {
            let name = format!("v{i}");
            let created = rig.create(create(&name).parameter("subDir", "way/x")).result();
            match &created {
                Ok(_) => outcomes[0] += 1,
                Err(status) => {
                    let expected = [Code::FailedPrecondition, Code::Internal];
                    assert!(expected.contains(&status.code()), "{status:?}");
                    outcomes[1] += 1;
                }
            }
            if i % 2 == 0 {
                let _ = rig.delete(&format!("node-1/main/{name}")).result();
            }
            assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{name}: something was made outside");
        }
    });
    assert!(heard.recv().unwrap() > 100);
    assert!(outcomes[0] > 0 && outcomes[1] > 0, "both were seen: {outcomes:?}");
    // With the directory in its place, whatever was half-done goes on.
    for i in 0..150 {
        let id = format!("node-1/main/v{i}");
        if i % 2 == 0 {
            rig.delete(&id).ok();
        } else {
            assert_eq!(rig.create(create(&format!("v{i}")).parameter("subDir", "way/x")).id(), id);
        }
    }
    assert_eq!(rig.list_ids(0).len(), 75);
    assert_eq!(data_below(&root, "way").len(), 75);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}
