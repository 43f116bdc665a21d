//! How many bytes are asked for, given, and left.

use std::fs;
use std::path::Path;

use berth::csi::volume_capability::access_mode::Mode;
use berth::csi::volume_capability::{AccessType, BlockVolume, MountVolume};
use berth::csi::*;
use nix::mount::{MntFlags, umount2};

use crate::rig::*;

const MIB: i64 = 1 << 20;
const EIB: i64 = 1 << 60;

/// What df says that users may still write.
fn free(path: &Path) -> i64 {
    let space = nix::sys::statvfs::statvfs(path).unwrap();
    i64::try_from(space.blocks_available() * space.fragment_size()).unwrap()
}

fn capacity_of(volume: Option<Volume>) -> i64 {
    volume.unwrap().capacity_bytes
}

#[test]
fn the_size_that_is_required_is_given_and_recorded() {
    let mut rig = Rig::new();
    for (name, required, limit, given) in [
        ("one-byte", 1, 0, 1),
        ("required", 3 * MIB, 0, 3 * MIB),
        ("both", 2 * MIB, 3 * MIB, 2 * MIB),
        ("exact", 2 * MIB, 2 * MIB, 2 * MIB),
        ("wide", 1, i64::MAX, 1),
        ("limit", 0, 5 * MIB, 5 * MIB),
        ("zeros", 0, 0, 0),
    ] {
        let created = rig.create(create(name).range(required, limit)).ok();
        assert_eq!(capacity_of(created.volume), given, "{name}");
        let volume_id = format!("node-1/main/{name}");
        let found = rig.get_volume(ControllerGetVolumeRequest { volume_id }).ok();
        assert_eq!(capacity_of(found.volume), given, "{name}");
    }
    let mut without_range = create("none");
    without_range.capacity_range = None;
    assert_eq!(capacity_of(rig.create(without_range).ok().volume), 0);
}

#[test]
fn a_size_that_only_has_a_limit_is_never_more_than_there_is() {
    let mut rig = Rig::new();
    for limit in [1 << 30, EIB, i64::MAX] {
        let name = format!("v{limit}");
        let given = capacity_of(rig.create(create(&name).range(0, limit)).ok().volume);
        assert!(given > 0 && given <= 64 * MIB, "limit {limit}: {given}");
        assert_eq!(capacity_of(rig.create(create(&name).range(0, limit)).ok().volume), given);
    }
}

#[test]
fn a_range_that_contradicts_itself_is_refused() {
    let mut rig = Rig::new();
    for (required, limit, why) in [
        (-1, 0, "negative"),
        (0, -1, "negative"),
        (i64::MIN, i64::MIN, "negative"),
        (i64::MIN, i64::MAX, "negative"),
        (MIB, -1, "negative"),
        (2 * MIB, MIB, "required_bytes (2097152) is more than limit_bytes (1048576)"),
        (i64::MAX, i64::MAX - 1, "is more than limit_bytes"),
        (2, 1, "is more than limit_bytes"),
    ] {
        rig.unchanged(|rig| {
            let error = rig.create(create("a").range(required, limit)).fails(Code::InvalidArgument, why);
            assert!(error.starts_with("capacity_range: "), "{error}");
        });
    }
}

#[test]
fn what_no_node_could_give_is_out_of_range_and_what_this_one_cannot_is_exhausted() {
    let mut rig = Rig::new();
    let left = free(&rig.root());
    for (required, limit, code) in [
        (i64::MAX, 0, Code::OutOfRange),
        (i64::MAX, i64::MAX, Code::OutOfRange),
        (EIB + 1, 0, Code::OutOfRange),
        (EIB, 0, Code::ResourceExhausted),
        (left + 1, 0, Code::ResourceExhausted),
        (left + 1, i64::MAX, Code::ResourceExhausted),
    ] {
        rig.unchanged(|rig| {
            rig.create(create("a").range(required, limit)).fails(code, &required.to_string());
        });
    }
    rig.create(create("a").bytes(left / 2)).ok();
}

#[test]
fn no_room_says_how_much_there_is_and_passes_when_there_is_room_again() {
    let mut rig = Rig::new();
    let file = rig.root().join("file");
    fs::write(&file, vec![1; 40 << 20]).unwrap();
    let left = free(&rig.root());
    rig.unchanged(|rig| {
        rig.create(create("a").bytes(40 * MIB))
            .fails(Code::ResourceExhausted, &format!("root main has {left} bytes left"))
    });
    fs::remove_file(&file).unwrap();
    rig.create(create("a").bytes(40 * MIB)).ok();
}

fn whole_root() -> GetCapacityRequest {
    GetCapacityRequest::default()
}

fn of_node(node: &str) -> GetCapacityRequest {
    let segments = [("local.berth.dev/node".to_string(), node.to_string())].into();
    GetCapacityRequest { accessible_topology: Some(Topology { segments }), ..Default::default() }
}

fn for_capability(capability: VolumeCapability) -> GetCapacityRequest {
    GetCapacityRequest { volume_capabilities: vec![capability], ..Default::default() }
}

fn with_parameter(mut request: GetCapacityRequest, key: &str, value: &str) -> GetCapacityRequest {
    request.parameters.insert(key.into(), value.into());
    request
}

fn with_access(access_type: Option<AccessType>) -> VolumeCapability {
    VolumeCapability { access_type, ..capability(Mode::SingleNodeMultiWriter) }
}

#[test]
fn capacity_is_what_is_free_on_the_root_for_whatever_could_be_created_there() {
    let mut rig = Rig::new();
    let shared = for_capability(capability(Mode::MultiNodeMultiWriter));
    for request in [
        whole_root(),
        of_node("node-1"),
        GetCapacityRequest { accessible_topology: Some(Topology::default()), ..Default::default() },
        for_capability(capability(Mode::SingleNodeMultiWriter)),
        for_capability(capability(Mode::SingleNodeSingleWriter)),
        with_parameter(shared, "nodeSharing", "true"),
        with_parameter(whole_root(), "root", "main"),
        with_parameter(whole_root(), "onDelete", "retain"),
        with_parameter(whole_root(), "csi.storage.k8s.io/fstype", "ext4"),
    ] {
        let answer = rig.capacity(request.clone()).ok();
        assert_eq!(answer.available_capacity, free(&rig.root()), "{request:?}");
        assert_eq!(answer.maximum_volume_size, Some(answer.available_capacity), "{request:?}");
    }
    let before = free(&rig.root());
    fs::write(rig.root().join("file"), vec![1; 20 << 20]).unwrap();
    let after = rig.capacity(whole_root()).ok().available_capacity;
    assert!((before - after) >= 20 * MIB && after == free(&rig.root()), "{before} {after}");
    rig.create(create("a").bytes(after + 1)).fails(Code::ResourceExhausted, "bytes left");
}

#[test]
fn capacity_is_nothing_where_nothing_could_be_created() {
    let mut rig = Rig::new();
    let fs_type = MountVolume { fs_type: "ext4".into(), ..Default::default() };
    let elsewhere = Topology { segments: [("example.com/zone".to_string(), "a".to_string())].into() };
    for request in [
        of_node("node-2"),
        of_node("NODE-1"),
        of_node(""),
        GetCapacityRequest { accessible_topology: Some(elsewhere), ..Default::default() },
        for_capability(capability(Mode::MultiNodeMultiWriter)),
        for_capability(capability(Mode::MultiNodeReaderOnly)),
        for_capability(capability(Mode::Unknown)),
        for_capability(with_access(None)),
        for_capability(with_access(Some(AccessType::Block(BlockVolume {})))),
        for_capability(with_access(Some(AccessType::Mount(fs_type)))),
        for_capability(VolumeCapability::default()),
    ] {
        let answer = rig.capacity(request.clone()).ok();
        assert_eq!(answer.available_capacity, 0, "{request:?}");
        assert_eq!(answer.maximum_volume_size, Some(0), "{request:?}");
    }
}

#[test]
fn capacity_for_parameters_that_are_not_known_is_refused_as_their_creation_would_be() {
    let mut rig = Rig::new();
    for (key, value, words) in [
        ("subdir", "x", "is subDir meant?"),
        ("root", "ssd", "is no root of this driver"),
        ("onDelete", "never", "parameters.onDelete"),
        ("mode", "rwx", "parameters.mode"),
    ] {
        rig.capacity(with_parameter(whole_root(), key, value)).fails(Code::InvalidArgument, words);
    }
}

#[test]
fn capacity_is_nothing_while_the_root_is_missing_and_a_claim_goes_to_another_node() {
    let mut rig = Rig::new();
    let root = rig.root();
    let before = rig.capacity(whole_root()).ok().available_capacity;
    assert!(before > 0);
    let created = rig.create(create("a")).id();
    let disk = rig.scratch().join("disk");
    fs::create_dir(&disk).unwrap();
    rig.bind(&root, &disk);
    // The disk is gone: an empty directory is where it was.
    umount2(&root, MntFlags::MNT_DETACH).unwrap();
    for gone in ["not mounted", "no directory"] {
        if gone == "no directory" {
            fs::remove_dir(&root).unwrap();
        }
        assert_eq!(rig.capacity(whole_root()).ok().available_capacity, 0, "{gone}");
        rig.create(create("b")).fails(Code::ResourceExhausted, "root main");
        rig.create(create("a")).fails(Code::ResourceExhausted, "root main");
    }
    fs::create_dir(&root).unwrap();
    assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
    rig.delete(&created).fails(Code::FailedPrecondition, "root main");
    assert_eq!(fs::read_dir(&root).unwrap().count(), 0, "nothing is made where the disk was");
    rig.bind(&disk, &root);
    assert_eq!(rig.capacity(whole_root()).ok().available_capacity, free(&root));
    assert_eq!(rig.create(create("a")).id(), created);
    rig.delete(&created).ok();
}
