//! A volume from its birth to its end, as an orchestrator goes through it.

use std::fs;

use berth::csi::*;

use crate::rig::*;

#[test]
fn a_volume_is_created_published_written_unpublished_and_deleted() {
    let mut rig = Rig::new();
    let volume = rig.create(create("pvc-1")).ok().volume.unwrap();
    assert_eq!(volume.volume_id, "node-1/main/pvc-1");
    assert_eq!(volume.capacity_bytes, 1 << 20);
    assert_eq!(volume.accessible_topology[0].segments["local.berth.dev/node"], "node-1");
    let (id, target) = (volume.volume_id, rig.target("t"));
    rig.publish(publish(&id, &target)).ok();
    fs::write(format!("{target}/file"), "content").unwrap();
    assert_eq!(fs::read_to_string(rig.data_of("pvc-1").join("file")).unwrap(), "content");
    let request = NodeGetVolumeStatsRequest {
        volume_id: id.clone(),
        volume_path: target.clone(),
        ..Default::default()
    };
    let usage = rig.stats(request).ok().usage;
    assert_eq!(usage.len(), 2);
    assert!(usage.iter().all(|usage| usage.total > 0 && usage.used > 0 && usage.available > 0));
    rig.unpublish(&id, &target).ok();
    assert!(!fs::exists(&target).unwrap());
    rig.delete(&id).ok();
    assert_eq!(rig.data(), Vec::<String>::new());
    rig.wait_for_purge();
}

#[test]
fn each_call_may_be_repeated_and_changes_nothing_then() {
    let mut rig = Rig::new();
    let target = rig.target("t");
    let id = rig.create(create("a")).id();
    assert_eq!(rig.create(create("a")).id(), id);
    assert_eq!(rig.data().len(), 1);
    rig.publish(publish(&id, &target)).ok();
    rig.publish(publish(&id, &target)).ok();
    assert_eq!(rig.mounts_at(&target).len(), 1);
    rig.unpublish(&id, &target).ok();
    rig.unpublish(&id, &target).ok();
    rig.delete(&id).ok();
    rig.delete(&id).ok();
}

#[test]
fn data_outlives_the_driver_and_a_reboot() {
    let mut rig = Rig::new();
    let target = rig.target("t");
    let id = rig.create(create("a")).id();
    rig.publish(publish(&id, &target)).ok();
    fs::write(format!("{target}/file"), "x").unwrap();
    rig.restart();
    rig.publish(publish(&id, &target)).ok();
    assert_eq!(rig.mounts_at(&target).len(), 1);
    rig.reboot();
    assert_eq!(rig.mounts_at(&target).len(), 0);
    rig.publish(publish(&id, &target)).ok();
    assert_eq!(fs::read_to_string(format!("{target}/file")).unwrap(), "x");
}

#[test]
fn modes_hold_on_a_root_that_is_reached_through_a_link() {
    let mut rig = Rig::new();
    let link = rig.scratch().join("link");
    std::os::unix::fs::symlink("root", &link).unwrap();
    rig.set_roots(&[format!("main={}", link.display())]);
    rig.restart();
    let mode = berth::csi::volume_capability::access_mode::Mode::SingleNodeSingleWriter;
    let id = rig.create(create("a").mode(mode)).id();
    let (one, two) = (rig.target("one"), rig.target("two"));
    rig.publish(publish(&id, &one).mode(mode)).ok();
    rig.publish(publish(&id, &one).mode(mode)).ok();
    rig.publish(publish(&id, &two).mode(mode)).fails(Code::FailedPrecondition, &one);
    rig.delete(&id).fails(Code::FailedPrecondition, &one);
}

#[test]
fn a_node_says_who_it_is_and_where_its_volumes_are() {
    let mut rig = Rig::new();
    let info = rig.node_info(NodeGetInfoRequest {}).ok();
    assert_eq!((info.node_id.as_str(), info.max_volumes_per_node), ("node-1", 0));
    let volume = rig.create(create("a")).ok().volume.unwrap();
    assert_eq!(volume.accessible_topology, [info.accessible_topology.unwrap()]);
}
