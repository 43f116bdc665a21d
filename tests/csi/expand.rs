//! NodeExpandVolume: the record takes the new size, and everybody sees it.

use berth::csi::*;

use crate::rig::*;

const MIB: i64 = 1 << 20;

fn to(volume_id: &str, volume_path: &str, required_bytes: i64, limit_bytes: i64) -> NodeExpandVolumeRequest {
    NodeExpandVolumeRequest {
        volume_id: volume_id.into(),
        volume_path: volume_path.into(),
        capacity_range: Some(CapacityRange { required_bytes, limit_bytes }),
        ..Default::default()
    }
}

/// A rig with the volume `a` of 2 MiB, published.
fn published() -> (Rig, String, String) {
    let mut rig = Rig::new();
    let (id, target) = (rig.create(create("a").bytes(2 * MIB)).id(), rig.target("t"));
    rig.publish(publish(&id, &target)).ok();
    (rig, id, target)
}

/// The size that ListVolumes and ControllerGetVolume tell.
#[track_caller]
fn size(rig: &mut Rig, id: &str) -> i64 {
    let listed = rig.list(ListVolumesRequest::default()).ok().entries.remove(0).volume.unwrap();
    let got = rig.get_volume(ControllerGetVolumeRequest { volume_id: id.into() }).ok().volume.unwrap();
    assert_eq!((listed.volume_id.as_str(), got.volume_id.as_str()), (id, id));
    assert_eq!(listed.capacity_bytes, got.capacity_bytes);
    got.capacity_bytes
}

/// The text of the record of `a`.
fn record(rig: &Rig) -> String {
    let directory = rig.root().join(".berth/volumes/a");
    let incarnation = std::fs::read_dir(directory).unwrap().next().unwrap().unwrap().path();
    let files: Vec<_> = std::fs::read_dir(incarnation).unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "one generation is left: {files:?}");
    std::fs::read_to_string(&files[0]).unwrap()
}

#[test]
fn a_published_volume_grows_and_list_get_and_create_again_see_it() {
    let (mut rig, id, target) = published();
    assert_eq!(rig.expand(to(&id, &target, 5 * MIB, 0)).ok().capacity_bytes, 5 * MIB);
    assert_eq!(size(&mut rig, &id), 5 * MIB);
    assert!(record(&rig).contains(&format!("{}", 5 * MIB)), "{}", record(&rig));
    // The provisioner repeats what it once asked; the volume may have grown since.
    let again = rig.create(create("a").range(5 * MIB, 5 * MIB)).ok().volume.unwrap();
    assert_eq!(again.capacity_bytes, 5 * MIB);
    rig.create(create("a").range(1, 2 * MIB)).fails(Code::AlreadyExists, "capacity");
    rig.create(create("a").bytes(6 * MIB)).fails(Code::AlreadyExists, "capacity");
    rig.restart();
    assert_eq!(size(&mut rig, &id), 5 * MIB);
    rig.reboot();
    assert_eq!(size(&mut rig, &id), 5 * MIB);
    rig.publish(publish(&id, &target)).ok();
    assert_eq!(rig.expand(to(&id, &target, 6 * MIB, 7 * MIB)).ok().capacity_bytes, 6 * MIB);
    rig.unpublish(&id, &target).ok();
    rig.delete(&id).ok();
    assert_eq!(
        rig.create(create("a")).ok().volume.unwrap().capacity_bytes,
        MIB,
        "another life, another size"
    );
}

#[test]
fn growing_leaves_the_data_and_the_publication_as_they_are() {
    let (mut rig, id, target) = published();
    std::fs::write(format!("{target}/file"), "x").unwrap();
    let before = rig.mounts_at(&target);
    let data = rig.data();
    rig.expand(to(&id, &target, 5 * MIB, 0)).ok();
    assert_eq!((rig.mounts_at(&target), rig.data()), (before, data));
    assert_eq!(std::fs::read_to_string(format!("{target}/file")).unwrap(), "x");
    rig.publish(publish(&id, &target)).ok();
    assert_eq!(rig.mounts_at(&target).len(), 1);
}

#[test]
fn a_size_that_the_volume_has_already_is_no_change() {
    let (mut rig, id, target) = published();
    for (required, limit) in [(2 * MIB, 0), (2 * MIB, 2 * MIB), (MIB, 0), (0, 3 * MIB), (0, 0), (1, 1 << 62)]
    {
        let answer = rig.unchanged(|rig| rig.expand(to(&id, &target, required, limit)).ok());
        assert_eq!(answer.capacity_bytes, 2 * MIB, "{required} {limit}");
    }
    let mut without_range = to(&id, &target, 0, 0);
    without_range.capacity_range = None;
    assert_eq!(rig.unchanged(|rig| rig.expand(without_range).ok()).capacity_bytes, 2 * MIB);
}

#[test]
fn a_volume_never_shrinks_and_never_becomes_what_cannot_be() {
    let (mut rig, id, target) = published();
    for (required, limit, code, words) in [
        (0, MIB, Code::OutOfRange, "at most"),
        (1, 2 * MIB - 1, Code::OutOfRange, "at most"),
        (1 << 62, 0, Code::OutOfRange, "the most there can be"),
        (i64::MAX, 0, Code::OutOfRange, "the most there can be"),
        (-1, 0, Code::InvalidArgument, "negative"),
        (0, -1, Code::InvalidArgument, "negative"),
        (i64::MIN, i64::MIN, Code::InvalidArgument, "negative"),
        (4 * MIB, 3 * MIB, Code::InvalidArgument, "limit_bytes"),
        (1 << 40, 0, Code::ResourceExhausted, "bytes left"),
    ] {
        rig.unchanged(|rig| rig.expand(to(&id, &target, required, limit)).fails(code, words));
    }
    assert_eq!(size(&mut rig, &id), 2 * MIB);
}

#[test]
fn a_capability_that_is_not_served_is_refused_and_one_that_is_is_fine() {
    use berth::csi::volume_capability::{AccessType, BlockVolume, access_mode::Mode};
    let (mut rig, id, target) = published();
    let mut request = to(&id, &target, 5 * MIB, 0);
    let mut block = capability(Mode::SingleNodeWriter);
    block.access_type = Some(AccessType::Block(BlockVolume {}));
    request.volume_capability = Some(block);
    rig.unchanged(|rig| rig.expand(request.clone()).fails(Code::InvalidArgument, "block"));
    request.volume_capability = Some(capability(Mode::SingleNodeWriter));
    rig.expand(request).ok();
    assert_eq!(size(&mut rig, &id), 5 * MIB);
}

#[test]
fn equal_expansions_at_once_are_each_done_and_different_ones_end_at_the_largest() {
    let (mut rig, id, target) = published();
    let mut clients: Vec<_> = (1..=8).map(|i| (rig.client(), i)).collect();
    for round in 0..5 {
        std::thread::scope(|scope| {
            for (client, i) in &mut clients {
                let (id, target) = (&id, &target);
                let bytes = (3 + 4 * round) * MIB + *i % 4 * MIB;
                scope.spawn(move || client.expand(to(id, target, bytes, 0)).ok());
            }
        });
        assert_eq!(size(&mut rig, &id), (3 + 4 * round) * MIB + 3 * MIB);
        record(&rig);
    }
}
