//! Whose mount, whose directory: what Berth must recognise as its own, and what it must leave alone.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use berth::csi::volume_capability::access_mode::Mode;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::rig::*;

#[test]
fn a_target_within_a_root_is_refused_and_nothing_there_is_removed() {
    let mut rig = Rig::new();
    let (a, b) = (rig.create(create("a")).id(), rig.create(create("b")).id());
    let data = rig.data_of("a").display().to_string();
    for target in
        [data.clone(), format!("{data}/inner"), rig.root().join(".berth/trash").display().to_string()]
    {
        rig.publish(publish(&b, &target)).fails(Code::InvalidArgument, "target_path");
        rig.unpublish(&b, &target).fails(Code::InvalidArgument, "target_path");
        rig.unpublish(&a, &target).fails(Code::InvalidArgument, "target_path");
    }
    assert!(fs::exists(&data).unwrap());
    // The same through a mount of the volume.
    let target = rig.target("t");
    rig.publish(publish(&a, &target)).ok();
    fs::create_dir(format!("{target}/empty")).unwrap();
    rig.unpublish(&a, &format!("{target}/empty")).fails(Code::InvalidArgument, "target_path");
    rig.publish(publish(&b, &format!("{target}/empty"))).fails(Code::InvalidArgument, "target_path");
    assert!(fs::exists(format!("{target}/empty")).unwrap());
}

#[test]
fn an_unpublish_reaches_a_mount_of_a_root_that_is_not_served_any_more() {
    let mut rig = Rig::new();
    let target = rig.target("t");
    let id = rig.create(create("a")).id();
    rig.publish(publish(&id, &target)).ok();
    let other = rig.scratch().join("other");
    fs::create_dir(&other).unwrap();
    rig.set_roots(&[format!("other={},plain", other.display())]);
    rig.restart();
    rig.unpublish(&id, &rig.target("never")).ok();
    rig.unpublish(&id, &target).ok();
    assert_eq!(rig.mounts_at(&target).len(), 0);
    assert!(!fs::exists(&target).unwrap());
}

#[test]
fn targets_that_can_be_seen_at_two_places_are_one_publication_each() {
    let mut rig = Rig::without_driver();
    // As where a distribution binds /var/lib/kubelet to elsewhere: both are peers, and each mount appears twice.
    let (targets, again) = (rig.scratch().join("targets"), rig.scratch().join("again"));
    fs::create_dir(&again).unwrap();
    rig.mount_tmpfs(&targets, "size=1m");
    mount(None::<&str>, &targets, None::<&str>, MsFlags::MS_SHARED, None::<&str>).unwrap();
    rig.bind(&targets, &again);
    let root = rig.root();
    rig.mount_tmpfs(&root, "size=64m,mode=0755");
    rig.set_roots(&[format!("main={}", root.display())]);
    rig.start();
    let id = rig.create(create("a")).id();
    let (one, two) = (rig.target("one"), rig.target("two"));
    rig.publish(publish(&id, &one)).ok();
    assert_eq!(rig.mounts_at(&again.join("one").display().to_string()).len(), 1);
    rig.publish(publish(&id, &two)).ok();
    rig.publish(publish(&id, &one)).ok();
    rig.delete(&id).fails(Code::FailedPrecondition, &one);
    rig.unpublish(&id, &one).ok();
    rig.unpublish(&id, &two).ok();
    assert_eq!(rig.mounts_at(&again.join("two").display().to_string()).len(), 0);
    rig.delete(&id).ok();
    let mode = Mode::SingleNodeSingleWriter;
    let id = rig.create(create("b").mode(mode)).id();
    rig.publish(publish(&id, &one).mode(mode)).ok();
    rig.publish(publish(&id, &one).mode(mode)).ok();
    rig.publish(publish(&id, &two).mode(mode)).fails(Code::FailedPrecondition, &one);
    // Without its note a mount counts as exclusive at every place where it can be seen.
    fs::remove_dir_all(rig.run_dir()).unwrap();
    rig.publish(publish(&id, &two).mode(mode)).fails(Code::FailedPrecondition, "not known");
    rig.delete(&id).fails(Code::FailedPrecondition, "published");
}

#[test]
fn a_target_that_holds_a_name_of_any_bytes_is_not_empty() {
    let mut rig = Rig::new();
    let (id, target) = (rig.create(create("a")).id(), rig.target("t"));
    fs::create_dir(&target).unwrap();
    fs::write(Path::new(&target).join(OsStr::from_bytes(b"\xff\xfe")), "precious").unwrap();
    rig.unchanged(|rig| rig.publish(publish(&id, &target)).fails(Code::FailedPrecondition, "not empty"));
}

#[test]
fn an_unpublish_that_cannot_reach_its_mount_is_not_answered_as_done() {
    let mut rig = Rig::new();
    let above = rig.scratch().join("targets/pod");
    fs::create_dir(&above).unwrap();
    let (id, target) = (rig.create(create("a")).id(), rig.target("pod/t"));
    rig.publish(publish(&id, &target)).ok();
    rig.mount_tmpfs(&above, "size=1m");
    rig.unpublish(&id, &target).fails(Code::FailedPrecondition, "mounted over");
    fs::create_dir(&target).unwrap();
    rig.unpublish(&id, &target).fails(Code::FailedPrecondition, "mounted over");
    rig.mount_tmpfs(&rig.scratch().join("targets"), "size=1m");
    rig.unpublish(&id, &target).fails(Code::FailedPrecondition, "mounted over");
    umount2(&rig.scratch().join("targets"), MntFlags::empty()).unwrap();
    umount2(&above, MntFlags::empty()).unwrap();
    rig.publish(publish(&id, &target)).ok();
    rig.unpublish(&id, &target).ok();
    rig.delete(&id).ok();
}

#[test]
fn a_publication_with_a_large_context_is_known_again_or_refused() {
    let mut rig = Rig::new();
    let (id, target) = (rig.create(create("a")).id(), rig.target("t"));
    for (bytes, known) in [(60 << 10, true), (2 << 20, false)] {
        let mut request = publish(&id, &target);
        request.publish_context.insert("large".into(), "x".repeat(bytes));
        if known {
            rig.publish(request.clone()).ok();
            rig.publish(request).ok();
            rig.unpublish(&id, &target).ok();
        } else {
            rig.unchanged(|rig| rig.publish(request).fails(Code::InvalidArgument, "publish_context"));
        }
    }
}
