//! Targets of every kind. The CO owns them: Berth makes and removes the last directory, and touches nothing else.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use berth::csi::volume_capability::access_mode::Mode;
use nix::mount::umount;

use crate::rig::*;

/// The volume `a`, of which one target at a time is admitted.
fn exclusive(rig: &mut Rig) -> String {
    rig.create(create("a").mode(Mode::SingleNodeSingleWriter)).id()
}

fn request(id: &str, target: &str) -> berth::csi::NodePublishVolumeRequest {
    publish(id, target).mode(Mode::SingleNodeSingleWriter)
}

/// Publishes, writes, and unpublishes; `shown` is where the kernel has the mount.
#[track_caller]
fn serves(rig: &mut Rig, id: &str, target: &str, shown: &str) {
    for _ in 0..2 {
        rig.publish(request(id, target)).ok();
        assert_eq!(rig.mounts_at(shown).len(), 1, "{target}");
    }
    fs::write(format!("{target}/file"), "x").unwrap();
    assert!(rig.data_of("a").join("file").exists());
    for _ in 0..2 {
        rig.unpublish(id, target).ok();
        assert_eq!(rig.mounts_at(shown), [], "{target}");
        assert!(fs::symlink_metadata(target).is_err(), "{target} is gone");
    }
}

/// A publish that is refused with these words and leaves all as it is.
#[track_caller]
fn refused(rig: &mut Rig, id: &str, target: &str, code: Code, words: &str) {
    let before = rig.snapshot();
    rig.publish(request(id, target)).fails(code, words);
    rig.is_as(&before);
}

#[test]
fn a_target_that_is_no_absolute_name_of_a_directory_is_refused() {
    let mut rig = Rig::new();
    let id = exclusive(&mut rig);
    let base = rig.target("t");
    let long = format!("{base}/{}", "x".repeat(4096));
    let component = rig.target(&"x".repeat(256));
    for (target, words) in [
        ("", "is missing"),
        ("t", "not absolute"),
        ("./t", "not absolute"),
        ("../t", "not absolute"),
        ("/", "no name of a directory"),
        ("//", "no name of a directory"),
        ("/.", "no name of a directory"),
        (&format!("{base}/.."), ".."),
        (&format!("{base}/../t"), ".."),
        (&format!("{base}\0x"), "zero byte"),
        (long.as_str(), "longer than Linux allows"),
        (component.as_str(), "longer than Linux allows"),
    ] {
        refused(&mut rig, &id, target, Code::InvalidArgument, "target_path");
        rig.publish(request(&id, target)).fails(Code::InvalidArgument, words);
        let before = rig.snapshot();
        rig.unpublish(&id, target).fails(Code::InvalidArgument, words);
        rig.is_as(&before);
    }
}

#[test]
fn doubled_slashes_single_dots_and_a_slash_at_the_end_mean_the_same_target() {
    let mut rig = Rig::new();
    let (id, target) = (exclusive(&mut rig), rig.target("t"));
    let above = rig.target("");
    for spelt in
        [format!("{target}/"), format!("{target}//"), format!("{above}/.//t"), format!("/{target}/.")]
    {
        rig.publish(request(&id, &spelt)).ok();
        rig.publish(request(&id, &target)).ok();
        assert_eq!(rig.mounts_at(&target).len(), 1, "{spelt}");
        rig.unpublish(&id, &spelt).ok();
        assert_eq!(rig.mounts_at(&target), [], "{spelt}");
        assert!(!fs::exists(&target).unwrap(), "{spelt}");
    }
}

#[test]
fn a_target_as_long_as_linux_allows_is_served() {
    let mut rig = Rig::new();
    let id = exclusive(&mut rig);
    let mut target = rig.target("deep");
    while target.len() + 201 < 4095 {
        target.push('/');
        target.push_str(&"d".repeat(200));
    }
    fs::create_dir_all(Path::new(&target).parent().unwrap()).unwrap();
    rig.publish(request(&id, &target)).ok();
    assert_eq!(rig.mounts_at(&target).len(), 1);
    rig.unpublish(&id, &target).ok();
    assert_eq!(rig.mounts_at(&target), []);
}

#[test]
fn any_name_that_linux_allows_is_served() {
    let mut rig = Rig::new();
    let id = exclusive(&mut rig);
    for name in [
        "a blank",
        "tab\there",
        "new\nline",
        "back\\slash",
        "\\040",
        "grüße-港",
        "#hash",
        "-rf",
        "…",
        "a,b=c:d",
    ] {
        let target = rig.target(name);
        serves(&mut rig, &id, &target, &target);
        // The way there as well.
        fs::create_dir(&target).unwrap();
        let within = format!("{target}/{name}");
        serves(&mut rig, &id, &within, &within);
    }
}

#[test]
fn an_empty_directory_is_taken_as_it_is_and_removed_in_the_end() {
    let mut rig = Rig::new();
    let (id, target) = (exclusive(&mut rig), rig.target("t"));
    fs::create_dir(&target).unwrap();
    serves(&mut rig, &id, &target, &target);
}

#[test]
fn a_file_a_link_and_a_directory_with_something_in_it_are_refused_and_left_alone() {
    let mut rig = Rig::new();
    let id = exclusive(&mut rig);
    let elsewhere = rig.scratch().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let at = |name: &str| rig.target(name);
    let (file, link, dangling, full) = (at("file"), at("link"), at("dangling"), at("full"));
    fs::write(&file, "precious").unwrap();
    symlink(&elsewhere, &link).unwrap();
    symlink("/nowhere", &dangling).unwrap();
    fs::create_dir_all(format!("{full}/inner")).unwrap();
    nix::unistd::mkfifo(at("pipe").as_str(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for (target, words) in [
        (&file, "it is a file"),
        (&link, "a symbolic link"),
        (&dangling, "a symbolic link"),
        (&full, "not empty"),
        (&at("pipe"), "it is a file"),
    ] {
        refused(&mut rig, &id, target, Code::FailedPrecondition, words);
        let before = rig.snapshot();
        rig.unpublish(&id, target).ok();
        rig.is_as(&before);
    }
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
}

#[test]
fn a_target_whose_parent_is_missing_is_refused_and_unpublished_without_more_ado() {
    let mut rig = Rig::new();
    let id = exclusive(&mut rig);
    fs::write(rig.target("file"), "x").unwrap();
    for target in [rig.target("missing/t"), rig.target("missing/deeper/t"), rig.target("file/t")] {
        refused(&mut rig, &id, &target, Code::FailedPrecondition, "directory above");
        let before = rig.snapshot();
        rig.unpublish(&id, &target).ok();
        rig.is_as(&before);
    }
}

#[test]
fn a_parent_that_is_reached_through_a_link_is_the_directory_that_it_leads_to() {
    let mut rig = Rig::new();
    let id = exclusive(&mut rig);
    let real = rig.target("real");
    fs::create_dir(&real).unwrap();
    symlink("real", rig.target("link")).unwrap();
    let (through, direct) = (rig.target("link/t"), format!("{real}/t"));
    serves(&mut rig, &id, &through, &direct);
    // Either name means the same place.
    rig.publish(request(&id, &through)).ok();
    rig.publish(request(&id, &direct)).ok();
    assert_eq!(rig.mounts_at(&direct).len(), 1);
    rig.unpublish(&id, &direct).ok();
    assert_eq!(rig.mounts_at(&direct), []);
    // A link that leads in circles leads nowhere.
    symlink("circle", rig.target("circle")).unwrap();
    let before = rig.snapshot();
    assert!(rig.publish(request(&id, &rig.target("circle/t"))).result().is_err());
    rig.is_as(&before);
}

#[test]
fn where_somebody_else_has_mounted_something_nothing_is_published_and_nothing_unmounted() {
    let mut rig = Rig::new();
    let (id, target) = (exclusive(&mut rig), rig.target("t"));
    fs::create_dir(&target).unwrap();
    rig.mount_tmpfs(Path::new(&target), "size=1m");
    refused(&mut rig, &id, &target, Code::FailedPrecondition, "something else is mounted there");
    let before = rig.snapshot();
    rig.unpublish(&id, &target).ok();
    rig.is_as(&before);
}

#[test]
fn a_publication_that_somebody_mounted_over_is_no_publication_until_that_is_gone() {
    let mut rig = Rig::new();
    let (id, target) = (exclusive(&mut rig), rig.target("t"));
    rig.publish(request(&id, &target)).ok();
    rig.mount_tmpfs(Path::new(&target), "size=1m");
    refused(&mut rig, &id, &target, Code::FailedPrecondition, "something else is mounted");
    umount(target.as_str()).unwrap();
    rig.publish(request(&id, &target)).ok();
    // What hides the volume is in the way of unpublishing it.
    rig.mount_tmpfs(Path::new(&target), "size=1m");
    rig.unpublish(&id, &target).ok();
    assert_eq!(rig.mounts_at(&target), []);
    assert!(!fs::exists(&target).unwrap());
}

#[test]
fn a_target_that_is_mounted_twice_is_unmounted_twice() {
    let mut rig = Rig::new();
    let (id, target) = (exclusive(&mut rig), rig.target("t"));
    rig.publish(request(&id, &target)).ok();
    rig.bind(Path::new(&target), Path::new(&target));
    assert_eq!(rig.mounts_at(&target).len(), 2);
    rig.publish(request(&id, &target)).ok();
    assert_eq!(rig.mounts_at(&target).len(), 2);
    rig.unpublish(&id, &target).ok();
    assert_eq!(rig.mounts_at(&target), []);
    assert!(!fs::exists(&target).unwrap());
}

#[test]
fn a_target_that_was_unmounted_by_hand_is_published_again() {
    let mut rig = Rig::new();
    let (id, target) = (exclusive(&mut rig), rig.target("t"));
    for remove_it_too in [false, true] {
        rig.publish(request(&id, &target)).ok();
        umount(target.as_str()).unwrap();
        if remove_it_too {
            fs::remove_dir(&target).unwrap();
        }
        rig.unpublish(&id, &target).ok();
        assert!(!fs::exists(&target).unwrap());
        rig.publish(request(&id, &target)).ok();
        umount(target.as_str()).unwrap();
        if remove_it_too {
            fs::remove_dir(&target).unwrap();
        }
        serves(&mut rig, &id, &target, &target);
    }
}

#[test]
fn a_target_that_was_removed_from_another_mount_namespace_is_gone_with_its_mount() {
    let mut rig = Rig::new();
    let (id, target) = (exclusive(&mut rig), rig.target("t"));
    for publish_again in [false, true] {
        rig.publish(request(&id, &target)).ok();
        let elsewhere =
            ["--mount", "--propagation", "private", "sh", "-c", "umount \"$0\" && rmdir \"$0\"", &target];
        assert!(std::process::Command::new("unshare").args(elsewhere).status().unwrap().success());
        assert_eq!(rig.mounts_at(&target), []);
        if publish_again {
            serves(&mut rig, &id, &target, &target);
        } else {
            rig.unpublish(&id, &target).ok();
        }
    }
}

#[test]
fn a_target_whose_parent_went_away_is_unpublished_and_the_volume_free() {
    let mut rig = Rig::new();
    let (id, target) = (exclusive(&mut rig), rig.target("pod/t"));
    fs::create_dir(rig.target("pod")).unwrap();
    rig.publish(request(&id, &target)).ok();
    umount(target.as_str()).unwrap();
    fs::remove_dir_all(rig.target("pod")).unwrap();
    rig.unpublish(&id, &target).ok();
    let other = rig.target("other");
    serves(&mut rig, &id, &other, &other);
    rig.delete(&id).ok();
}

#[test]
fn a_target_whose_parent_was_renamed_is_known_by_where_it_is_now() {
    let mut rig = Rig::new();
    let (id, target) = (exclusive(&mut rig), rig.target("pod/t"));
    fs::create_dir(rig.target("pod")).unwrap();
    rig.publish(request(&id, &target)).ok();
    fs::rename(rig.target("pod"), rig.target("moved")).unwrap();
    let (now, other) = (rig.target("moved/t"), rig.target("other"));
    rig.unpublish(&id, &target).ok();
    assert_eq!(rig.mounts_at(&now).len(), 1);
    refused(&mut rig, &id, &other, Code::FailedPrecondition, &now);
    rig.delete(&id).fails(Code::FailedPrecondition, &now);
    rig.unpublish(&id, &now).ok();
    assert_eq!(rig.mounts_at(&now), []);
    rig.delete(&id).ok();
}
