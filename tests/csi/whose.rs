//! Whose mount, whose directory: what Berth must recognise as its own, and what it must leave alone.

use std::fs;

use berth::csi::volume_capability::access_mode::Mode;
use nix::mount::{MsFlags, mount};

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
