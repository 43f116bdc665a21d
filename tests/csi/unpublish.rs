//! NodeUnpublishVolume: it closes the door of the volume that it names, and touches nothing else.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::mount::umount;

use crate::rig::*;

#[test]
fn what_is_gone_foreign_or_never_was_is_unpublished_already() {
    let mut rig = Rig::new();
    let (id, target) = (rig.create(create("a")).id(), rig.target("t"));
    fs::create_dir(rig.root().join("photos")).unwrap();
    rig.publish(publish(&id, &target)).ok();
    let before = rig.snapshot();
    for other in [
        "node-1/main/b",
        "node-1/main/=photos",
        "node-1/main/=photos#alias",
        "node-1/main/=missing",
        "node-1/other/a",
        "node-2/main/a",
        "node-2/main/=photos",
        "a",
        "x/y",
        "../../etc",
        "node-1/main/=../../etc",
        "node-1/main/=.berth",
        "\u{1}\n",
        &"x".repeat(4000),
    ] {
        rig.unpublish(other, &target).ok();
        rig.unpublish(other, &rig.target("missing")).ok();
        rig.unpublish(other, &rig.target("missing/deeper")).ok();
        rig.is_as(&before);
    }
    rig.unpublish("", &target).fails(Code::InvalidArgument, "volume_id");
    rig.is_as(&before);
    fs::write(format!("{target}/file"), "still mounted").unwrap();
}

#[test]
fn a_volume_is_never_unmounted_in_the_name_of_another() {
    let mut rig = Rig::new();
    let (a, b) = (rig.create(create("a")).id(), rig.create(create("b")).id());
    let gone = rig.create(create("gone")).id();
    rig.delete(&gone).ok();
    let target = rig.target("t");
    // A was published there, and unmounted by hand; its note is still there.
    rig.publish(publish(&a, &target)).ok();
    umount(target.as_str()).unwrap();
    rig.publish(publish(&b, &target)).ok();
    for other in [&a, &gone] {
        rig.unpublish(other, &target).ok();
        assert_eq!(rig.mounts_at(&target).len(), 1, "{other}");
    }
    rig.publish(publish(&b, &target)).ok();
    fs::write(format!("{target}/file"), "of b").unwrap();
    assert!(rig.data_of("b").join("file").exists());
    rig.unpublish(&b, &target).ok();
    assert_eq!(rig.mounts_at(&target), []);
}

#[test]
fn what_somebody_mounted_where_a_publication_was_removed_by_hand_stays() {
    let mut rig = Rig::new();
    let (id, target) = (rig.create(create("a")).id(), rig.target("t"));
    rig.publish(publish(&id, &target)).ok();
    umount(target.as_str()).unwrap();
    rig.mount_tmpfs(Path::new(&target), "size=1m");
    fs::write(format!("{target}/precious"), "x").unwrap();
    rig.unpublish(&id, &target).ok();
    assert_eq!(rig.mounts_at(&target)[0].file_system, "tmpfs");
    assert_eq!(fs::read_to_string(format!("{target}/precious")).unwrap(), "x");
    umount(target.as_str()).unwrap();
    rig.unpublish(&id, &target).ok();
    assert!(!fs::exists(&target).unwrap());
}

#[test]
fn what_lies_under_a_target_is_never_deleted() {
    let mut rig = Rig::new();
    let (id, target) = (rig.create(create("a")).id(), rig.target("t"));
    rig.publish(publish(&id, &target)).ok();
    umount(target.as_str()).unwrap();
    fs::create_dir(format!("{target}/directory")).unwrap();
    fs::write(format!("{target}/directory/precious"), "x").unwrap();
    for _ in 0..2 {
        rig.unpublish(&id, &target).ok();
        assert_eq!(fs::read_to_string(format!("{target}/directory/precious")).unwrap(), "x");
    }
    // Nor is it hidden by a mount.
    rig.publish(publish(&id, &target)).fails(Code::FailedPrecondition, "not empty");
    rig.delete(&id).ok();
}

#[test]
fn a_file_or_a_link_that_took_the_place_of_a_target_stays() {
    let mut rig = Rig::new();
    let (id, target) = (rig.create(create("a")).id(), rig.target("t"));
    for link in [false, true] {
        rig.publish(publish(&id, &target)).ok();
        umount(target.as_str()).unwrap();
        fs::remove_dir(&target).unwrap();
        if link {
            symlink(rig.root(), &target).unwrap();
        } else {
            fs::write(&target, "precious").unwrap();
        }
        rig.unpublish(&id, &target).ok();
        assert!(fs::symlink_metadata(&target).is_ok());
        fs::remove_file(&target).unwrap();
        assert_eq!(rig.mounts_at(&rig.root().display().to_string()).len(), 1, "the root is mounted");
    }
}

#[test]
fn a_target_in_use_is_aborted_and_stays_until_nobody_uses_it() {
    let mut rig = Rig::new();
    let (id, target) = (rig.create(create("a")).id(), rig.target("t"));
    rig.publish(publish(&id, &target)).ok();
    fs::write(format!("{target}/file"), "x").unwrap();
    let open = fs::File::open(format!("{target}/file")).unwrap();
    let before = rig.snapshot();
    for _ in 0..2 {
        rig.unpublish(&id, &target).fails(Code::Aborted, "still uses it");
        rig.is_as(&before);
    }
    rig.publish(publish(&id, &target)).ok();
    drop(open);
    let mut works_there =
        Command::new("cat").current_dir(&target).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    rig.unpublish(&id, &target).fails(Code::Aborted, "still uses it");
    rig.is_as(&before);
    works_there.kill().unwrap();
    works_there.wait().unwrap();
    rig.unpublish(&id, &target).ok();
    assert_eq!(rig.mounts_at(&target), []);
    assert!(!fs::exists(&target).unwrap());
}

#[test]
fn a_mount_within_a_target_keeps_it_in_use() {
    let mut rig = Rig::new();
    let (id, target) = (rig.create(create("a")).id(), rig.target("t"));
    rig.publish(publish(&id, &target)).ok();
    let inner = format!("{target}/inner");
    fs::create_dir(&inner).unwrap();
    rig.mount_tmpfs(Path::new(&inner), "size=1m");
    fs::write(format!("{inner}/precious"), "x").unwrap();
    let before = rig.snapshot();
    rig.unpublish(&id, &target).fails(Code::Aborted, "still uses it");
    rig.is_as(&before);
    assert!(fs::exists(format!("{inner}/precious")).unwrap());
    umount(inner.as_str()).unwrap();
    rig.unpublish(&id, &target).ok();
    rig.delete(&id).ok();
    rig.wait_for_purge();
}

#[test]
fn a_publication_is_unpublished_though_its_root_or_its_record_is_gone() {
    for what in ["root", "record", "record and notes", "root and notes"] {
        let mut rig = Rig::new();
        let (id, target) = (rig.create(create("a")).id(), rig.target("t"));
        rig.publish(publish(&id, &target)).ok();
        let record = rig.root().join(".berth/volumes/a");
        if what.starts_with("root") {
            nix::mount::umount2(&rig.root(), nix::mount::MntFlags::MNT_DETACH).unwrap();
        } else {
            fs::remove_dir_all(record).unwrap();
        }
        if what.ends_with("notes") {
            fs::remove_dir_all(rig.run_dir()).unwrap();
        }
        rig.unpublish(&id, &target).ok();
        assert_eq!(rig.mounts_at(&target), [], "{what}");
        assert!(!fs::exists(&target).unwrap(), "{what}");
    }
}

#[test]
fn a_publication_whose_data_was_renamed_beneath_it_is_unpublished() {
    let mut rig = Rig::new();
    let (id, target) = (rig.create(create("a")).id(), rig.target("t"));
    rig.publish(publish(&id, &target)).ok();
    fs::rename(rig.data_of("a"), rig.root().join("renamed-by-hand")).unwrap();
    rig.unpublish(&id, &target).ok();
    assert_eq!(rig.mounts_at(&target), []);
    assert!(rig.root().join("renamed-by-hand").exists());
}
