//! What a CreateVolume may ask of this driver, and what it is told when it asks for more.

use std::collections::HashMap;

use berth::csi::volume_capability::access_mode::Mode;
use berth::csi::volume_capability::{AccessMode, AccessType, BlockVolume, MountVolume};
use berth::csi::volume_content_source::{SnapshotSource, Type, VolumeSource};
use berth::csi::*;

use crate::rig::*;

fn with_capabilities(capabilities: Vec<VolumeCapability>) -> CreateVolumeRequest {
    CreateVolumeRequest { volume_capabilities: capabilities, ..create("a") }
}

fn mount(mount: MountVolume) -> VolumeCapability {
    VolumeCapability {
        access_type: Some(AccessType::Mount(mount)),
        ..capability(Mode::SingleNodeMultiWriter)
    }
}

fn flag(flag: &str) -> VolumeCapability {
    mount(MountVolume { mount_flags: vec![flag.into()], ..Default::default() })
}

fn number(mode: i32) -> VolumeCapability {
    VolumeCapability { access_mode: Some(AccessMode { mode }), ..capability(Mode::SingleNodeMultiWriter) }
}

#[test]
fn a_capability_that_cannot_be_kept_is_refused_by_its_field() {
    let mut rig = Rig::new();
    let good = || capability(Mode::SingleNodeMultiWriter);
    let block = VolumeCapability { access_type: Some(AccessType::Block(BlockVolume {})), ..good() };
    let fs_type = MountVolume { fs_type: "xfs".into(), ..Default::default() };
    let group = MountVolume { volume_mount_group: "1000".into(), ..Default::default() };
    for (bad, field) in [
        (number(0), "access_mode: 0 is no known mode"),
        (number(99), "access_mode: 99 is no known mode"),
        (number(-1), "access_mode: -1 is no known mode"),
        (VolumeCapability { access_mode: None, ..good() }, "access_mode: is missing"),
        (VolumeCapability { access_type: None, ..good() }, "access_type: is missing"),
        (VolumeCapability::default(), "access_type: is missing"),
        (block, "block: asks for a block device"),
        (mount(fs_type), "mount.fs_type: \"xfs\""),
        (mount(group), "mount.volume_mount_group: is not supported"),
    ] {
        rig.unchanged(|rig| {
            let words = format!("volume_capabilities[0].{field}");
            rig.create(with_capabilities(vec![bad.clone()])).fails(Code::InvalidArgument, &words);
            let words = format!("volume_capabilities[1].{field}");
            rig.create(with_capabilities(vec![good(), bad])).fails(Code::InvalidArgument, &words);
        });
    }
    rig.unchanged(|rig| {
        rig.create(with_capabilities(vec![])).fails(Code::InvalidArgument, "volume_capabilities: is missing")
    });
}

#[test]
fn a_mount_flag_that_would_have_no_effect_is_refused_before_anything_is_created() {
    let mut rig = Rig::new();
    for bad in [
        "",
        "bogus",
        "ro,bogus",
        "bogus,ro",
        "RO",
        " ro",
        "ro ",
        "bind",
        "remount",
        "defaults",
        "size=1g",
        "uid=0",
        "nfsvers=4",
        "noexec;nosuid",
        "nolock",
        "\0",
        "x-systemd.automount",
    ] {
        rig.unchanged(|rig| {
            rig.create(with_capabilities(vec![flag(bad)]))
                .fails(Code::InvalidArgument, "volume_capabilities[0].mount.mount_flags")
        });
    }
    for good in ["ro", "rw", "noexec", "nosuid", "nodev", "noatime", "relatime", "ro,noexec,nosuid"] {
        let id = rig.create(with_capabilities(vec![flag(good)])).id();
        rig.delete(&id).ok();
    }
}

#[test]
fn a_volume_of_several_modes_is_published_in_any_of_them() {
    let mut rig = Rig::new();
    let modes = [Mode::SingleNodeSingleWriter, Mode::SingleNodeReaderOnly];
    let id = rig.create(with_capabilities(modes.map(capability).into())).id();
    let target = rig.target("t");
    for mode in modes {
        rig.publish(publish(&id, &target).mode(mode)).ok();
        rig.unpublish(&id, &target).ok();
    }
    rig.unchanged(|rig| {
        rig.publish(publish(&id, &target).mode(Mode::SingleNodeMultiWriter))
            .fails(Code::FailedPrecondition, "SINGLE_NODE_SINGLE_WRITER, SINGLE_NODE_READER_ONLY")
    });
}

#[test]
fn one_mode_of_several_nodes_among_others_is_refused_as_it_would_be_alone() {
    let mut rig = Rig::new();
    let modes = [Mode::SingleNodeMultiWriter, Mode::MultiNodeReaderOnly];
    rig.unchanged(|rig| {
        rig.create(with_capabilities(modes.map(capability).into()))
            .fails(Code::InvalidArgument, "MULTI_NODE_READER_ONLY spans nodes")
    });
}

#[test]
fn a_volume_begins_empty_so_a_content_source_is_refused() {
    let mut rig = Rig::new();
    let volume = rig.create(create("source")).id();
    let of = |source| CreateVolumeRequest {
        volume_content_source: Some(VolumeContentSource { r#type: source }),
        ..create("a")
    };
    for source in [
        Some(Type::Volume(VolumeSource { volume_id: volume.clone() })),
        Some(Type::Snapshot(SnapshotSource { snapshot_id: "s".into() })),
        None,
    ] {
        rig.unchanged(|rig| rig.create(of(source)).fails(Code::InvalidArgument, "volume_content_source"));
    }
}

#[test]
fn mutable_parameters_are_refused_by_name_since_there_are_none() {
    let mut rig = Rig::new();
    let mutable_parameters = HashMap::from([("onDelete".to_string(), "retain".to_string())]);
    let request = CreateVolumeRequest { mutable_parameters, ..create("a") };
    rig.unchanged(|rig| rig.create(request).fails(Code::InvalidArgument, "mutable_parameters.onDelete"));
}

/// An `accessibility_requirements` of nodes, by what is required and what is preferred.
fn at(requisite: &[&str], preferred: &[&str]) -> CreateVolumeRequest {
    let topologies = |nodes: &[&str]| -> Vec<Topology> {
        let segments = |node: &&str| [("local.berth.dev/node".to_string(), node.to_string())].into();
        nodes.iter().map(|node| Topology { segments: segments(node) }).collect()
    };
    CreateVolumeRequest {
        accessibility_requirements: Some(TopologyRequirement {
            requisite: topologies(requisite),
            preferred: topologies(preferred),
        }),
        ..create("a")
    }
}

#[test]
fn a_volume_that_is_wanted_on_other_nodes_is_refused_so_that_they_are_tried() {
    let mut rig = Rig::new();
    for nodes in [&["node-2"][..], &["node-2", "node-3"], &["NODE-1"], &[""]] {
        rig.unchanged(|rig| {
            rig.create(at(nodes, nodes)).fails(Code::ResourceExhausted, "other nodes than node-1")
        });
    }
    let zone = Topology { segments: [("example.com/zone".to_string(), "node-1".to_string())].into() };
    let mut other_key = at(&[], &[]);
    other_key.accessibility_requirements.as_mut().unwrap().requisite = vec![zone];
    rig.unchanged(|rig| rig.create(other_key).fails(Code::ResourceExhausted, "other nodes than node-1"));
}

#[test]
fn a_volume_that_may_lie_here_does_and_says_so() {
    for request in [
        at(&[], &[]),
        at(&["node-1"], &["node-1"]),
        at(&["node-2", "node-1"], &[]),
        at(&["node-1", "node-2"], &["node-2", "node-1"]),
        at(&[], &["node-1"]),
    ] {
        let mut rig = Rig::new();
        let volume = rig.create(request).ok().volume.unwrap();
        assert_eq!(volume.accessible_topology.len(), 1);
        let segments = HashMap::from([("local.berth.dev/node".to_string(), "node-1".to_string())]);
        assert_eq!(volume.accessible_topology[0].segments, segments);
    }
}
