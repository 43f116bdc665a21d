//! Whose mount, whose directory: what Berth must recognise as its own, and what it must leave alone.

use std::fs;

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
