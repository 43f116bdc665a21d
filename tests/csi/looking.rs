//! Looking at volumes: records that can't be read, ControllerGetVolume, ValidateVolumeCapabilities.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use berth::csi::volume_capability::access_mode::Mode;
use berth::csi::volume_capability::{AccessType, BlockVolume, MountVolume};
use berth::csi::*;

use crate::rig::*;

/// The file that holds a volume's record.
fn record_of(rig: &Rig, name: &str) -> PathBuf {
    let directory = rig.root().join(".berth/volumes").join(name);
    fs::read_dir(directory).unwrap().next().unwrap().unwrap().path().join("1.json")
}

fn get(id: &str) -> ControllerGetVolumeRequest {
    ControllerGetVolumeRequest { volume_id: id.into() }
}

#[test]
fn a_record_that_cannot_be_read_leaves_the_others_listed_and_is_named_in_the_log() {
    let mut rig = Rig::new();
    for name in ["a", "b", "c"] {
        rig.create(create(name)).ok();
    }
    let file = record_of(&rig, "b");
    let good = fs::read_to_string(&file).unwrap();
    for bad in [
        String::new(),
        good[..good.len() / 2].to_string(),
        "\0".repeat(good.len()),
        "[]".into(),
        "null".into(),
        good.replace("\"format\": 1", "\"format\": 2"),
        good.replace("\"name\": \"b\"", "\"name\": \"a\""),
        good.replace("\"path\": \"b\"", "\"path\": \"../b\""),
        good.replace("\"live\"", "\"resting\""),
        good.replacen('{', "{ \"colour\": \"red\",", 1),
    ] {
        assert_ne!(bad, good);
        fs::write(&file, &bad).unwrap();
        rig.unchanged(|rig| {
            for size in [0, 1, 2] {
                assert_eq!(rig.list_ids(size), ["node-1/main/a", "node-1/main/c"], "{bad}");
            }
            let path = file.display().to_string();
            rig.get_volume(get("node-1/main/b")).fails(Code::Internal, &path);
            rig.create(create("b")).fails(Code::Internal, &path);
            rig.delete("node-1/main/b").fails(Code::Internal, &path);
            let target = rig.target("t");
            rig.publish(publish("node-1/main/b", &target)).fails(Code::Internal, &path);
            rig.get_volume(get("node-1/main/a")).ok();
        });
        assert!(rig.log().contains("left out of ListVolumes"));
    }
    fs::write(&file, &good).unwrap();
    assert_eq!(rig.list_ids(1).len(), 3);
    rig.delete("node-1/main/b").ok();
}

#[test]
fn what_is_no_record_among_the_records_is_left_alone() {
    let mut rig = Rig::new();
    rig.create(create("m")).ok();
    let volumes = rig.root().join(".berth/volumes");
    fs::write(volumes.join("a-file"), "x").unwrap();
    fs::create_dir(volumes.join("an-empty-directory")).unwrap();
    fs::create_dir(volumes.join("not a name")).unwrap();
    fs::create_dir_all(volumes.join("no-incarnation/x")).unwrap();
    fs::create_dir_all(volumes.join("no-generation/0123456789abcdef")).unwrap();
    symlink("m", volumes.join("z-link")).unwrap();
    symlink("/nowhere", volumes.join("dangling")).unwrap();
    rig.unchanged(|rig| {
        for size in [0, 1] {
            assert_eq!(rig.list_ids(size), ["node-1/main/m"]);
        }
        rig.get_volume(get("node-1/main/an-empty-directory")).fails(Code::NotFound, "an-empty-directory");
        for odd in ["a-file", "no-incarnation", "no-generation", "z-link", "dangling"] {
            rig.get_volume(get(&format!("node-1/main/{odd}"))).fails(Code::Internal, odd);
        }
    });
}

#[test]
fn a_volume_whose_deletion_is_decided_is_there_for_nobody() {
    let mut rig = Rig::new();
    let id = rig.create(create("a").parameter("onDelete", "archive")).id();
    fs::write(rig.root().join("archived"), "in the way").unwrap();
    rig.delete(&id).fails(Code::FailedPrecondition, "archived");
    rig.unchanged(|rig| {
        assert_eq!(rig.list_ids(0), Vec::<String>::new());
        rig.get_volume(get(&id)).fails(Code::NotFound, &id);
        rig.validate(validate(&id)).fails(Code::NotFound, &id);
        let target = rig.target("t");
        rig.publish(publish(&id, &target)).fails(Code::NotFound, &id);
    });
}

#[test]
fn a_list_while_a_root_is_missing_is_refused_rather_than_cut_short() {
    let mut rig = Rig::new();
    rig.create(create("a")).ok();
    nix::mount::umount2(&rig.root(), nix::mount::MntFlags::MNT_DETACH).unwrap();
    let whole = ListVolumesRequest::default();
    rig.list(whole).fails(Code::FailedPrecondition, "root main");
    rig.get_volume(get("node-1/main/a")).fails(Code::FailedPrecondition, "root main");
}

#[test]
fn a_volume_is_got_as_it_was_created_and_existing_data_without_a_size() {
    let mut rig = Rig::new();
    let created = rig.create(create("a").bytes(3 << 20)).ok().volume;
    assert_eq!(rig.get_volume(get("node-1/main/a")).ok().volume, created);
    rig.restart();
    assert_eq!(rig.get_volume(get("node-1/main/a")).ok().volume, created);
    fs::create_dir_all(rig.root().join("photos/2024")).unwrap();
    fs::write(rig.root().join("file"), "x").unwrap();
    symlink("photos", rig.root().join("link")).unwrap();
    for id in ["node-1/main/=photos", "node-1/main/=photos/2024", "node-1/main/=photos#second"] {
        let volume = rig.get_volume(get(id)).ok().volume.unwrap();
        assert_eq!((volume.volume_id.as_str(), volume.capacity_bytes), (id, 0));
        assert_eq!(volume.accessible_topology[0].segments["local.berth.dev/node"], "node-1");
    }
    for id in ["node-1/main/=nothing", "node-1/main/=file", "node-1/main/=link", "node-1/main/=link/2024"] {
        rig.get_volume(get(id)).fails(Code::NotFound, "directory");
    }
}

/// A ValidateVolumeCapabilities of ReadWriteOnce.
fn validate(id: &str) -> ValidateVolumeCapabilitiesRequest {
    ValidateVolumeCapabilitiesRequest {
        volume_id: id.into(),
        volume_capabilities: vec![capability(Mode::SingleNodeMultiWriter)],
        ..Default::default()
    }
}

fn pairs(key: &str, value: &str) -> HashMap<String, String> {
    HashMap::from([(key.to_string(), value.to_string())])
}

/// Confirmed: all that was asked is repeated.
#[track_caller]
fn confirmed(rig: &mut Rig, request: ValidateVolumeCapabilitiesRequest) {
    let answer = rig.unchanged(|rig| rig.validate(request.clone()).ok());
    let confirmed = answer.confirmed.unwrap_or_else(|| panic!("not confirmed: {}", answer.message));
    assert_eq!(confirmed.volume_capabilities, request.volume_capabilities);
    assert_eq!(confirmed.volume_context, request.volume_context);
    assert_eq!(confirmed.parameters, request.parameters);
    assert_eq!(answer.message, "");
}

/// Not confirmed, and the message says why.
#[track_caller]
fn not_confirmed(rig: &mut Rig, request: ValidateVolumeCapabilitiesRequest, words: &str) {
    let answer = rig.unchanged(|rig| rig.validate(request).ok());
    assert_eq!(answer.confirmed, None);
    assert!(answer.message.contains(words), "{words:?} is not in {:?}", answer.message);
}

#[test]
fn capabilities_that_a_publication_would_have_are_confirmed() {
    let mut rig = Rig::new();
    let id = rig.create(create("a").parameter("onDelete", "retain")).id();
    confirmed(&mut rig, validate(&id));
    let narrower = [Mode::SingleNodeSingleWriter, Mode::SingleNodeWriter, Mode::SingleNodeReaderOnly];
    for mode in narrower {
        let request = ValidateVolumeCapabilitiesRequest {
            volume_capabilities: vec![capability(mode), capability(Mode::SingleNodeMultiWriter)],
            ..validate(&id)
        };
        confirmed(&mut rig, request);
    }
    for parameters in [pairs("onDelete", "retain"), pairs("csi.storage.k8s.io/pvc/name", "x"), HashMap::new()]
    {
        confirmed(&mut rig, ValidateVolumeCapabilitiesRequest { parameters, ..validate(&id) });
    }
    let volume_context = pairs("storage.kubernetes.io/csiProvisionerIdentity", "x");
    confirmed(&mut rig, ValidateVolumeCapabilitiesRequest { volume_context, ..validate(&id) });
}

#[test]
fn capabilities_that_a_publication_would_not_have_are_answered_with_the_reason() {
    let mut rig = Rig::new();
    let id = rig.create(create("a").parameter("onDelete", "retain")).id();
    let other = |capability| ValidateVolumeCapabilitiesRequest {
        volume_capabilities: vec![super::rig::capability(Mode::SingleNodeMultiWriter), capability],
        ..validate(&id)
    };
    let access = |access| VolumeCapability { access_type: access, ..capability(Mode::SingleNodeMultiWriter) };
    let fs_type = MountVolume { fs_type: "xfs".into(), ..Default::default() };
    let bad_flag = MountVolume { mount_flags: vec!["bogus".into()], ..Default::default() };
    for (request, words) in [
        (other(capability(Mode::MultiNodeMultiWriter)), "not created for MULTI_NODE_MULTI_WRITER"),
        (other(capability(Mode::Unknown)), "0 is no known mode"),
        (other(VolumeCapability::default()), "access_type"),
        (other(access(Some(AccessType::Block(BlockVolume {})))), "block"),
        (other(access(Some(AccessType::Mount(fs_type)))), "fs_type"),
        (other(access(Some(AccessType::Mount(bad_flag)))), "bogus"),
    ] {
        not_confirmed(&mut rig, request, words);
    }
    for (parameters, words) in [
        (pairs("onDelete", "delete"), "onDelete"),
        (pairs("subDir", "a"), "subDir"),
        (pairs("ondelete", "retain"), "is onDelete meant?"),
    ] {
        not_confirmed(&mut rig, ValidateVolumeCapabilitiesRequest { parameters, ..validate(&id) }, words);
    }
    let volume_context = pairs("share", "x");
    let request = ValidateVolumeCapabilitiesRequest { volume_context, ..validate(&id) };
    not_confirmed(&mut rig, request, "volume_context.share");
    let mutable_parameters = pairs("iops", "5");
    let request = ValidateVolumeCapabilitiesRequest { mutable_parameters, ..validate(&id) };
    not_confirmed(&mut rig, request, "mutable_parameters.iops");
}

#[test]
fn existing_data_is_confirmed_for_every_mode_and_no_parameter() {
    let mut rig = Rig::new();
    fs::create_dir(rig.root().join("photos")).unwrap();
    let id = "node-1/main/=photos";
    for mode in [Mode::SingleNodeSingleWriter, Mode::MultiNodeReaderOnly, Mode::MultiNodeMultiWriter] {
        let request =
            ValidateVolumeCapabilitiesRequest { volume_capabilities: vec![capability(mode)], ..validate(id) };
        confirmed(&mut rig, request);
    }
    let parameters = pairs("onDelete", "delete");
    not_confirmed(&mut rig, ValidateVolumeCapabilitiesRequest { parameters, ..validate(id) }, "onDelete");
}

#[test]
fn a_volume_that_is_not_there_cannot_be_validated_nor_one_for_nothing() {
    let mut rig = Rig::new();
    rig.validate(validate("node-1/main/a")).fails(Code::NotFound, "node-1/main/a");
    rig.validate(validate("node-1/main/=photos")).fails(Code::NotFound, "photos");
    rig.validate(validate("")).fails(Code::InvalidArgument, "volume_id");
    let id = rig.create(create("a")).id();
    let nothing = ValidateVolumeCapabilitiesRequest { volume_capabilities: vec![], ..validate(&id) };
    rig.validate(nothing).fails(Code::InvalidArgument, "volume_capabilities");
}
