//! Ids that nobody was given: gone is gone for those who delete or unpublish, NOT_FOUND for everybody else.

use std::fs;

use berth::csi::*;

use crate::rig::*;

/// Ids that Berth never makes, and some that it could have made but has not.
fn hand_made() -> Vec<String> {
    let mut ids: Vec<String> = [
        "a",
        "a/b",
        "/",
        "//",
        "///",
        ".",
        "..",
        "../../etc",
        "/etc/passwd",
        "node-1",
        "node-1/",
        "node-1/main",
        "node-1/main/",
        "node-1/main/.",
        "node-1/main/..",
        "node-1/main/../real",
        "node-1/main/.berth",
        "node-1/main/x/y",
        "node-1/main/real/",
        "/node-1/main/real",
        "node-1//real",
        "node-1/MAIN/real",
        "node-1/other/real",
        "NODE-1/main/real",
        "node-2/main/real",
        "node-1/main/REAL",
        "node-1/main/real ",
        "node-1/main/real\n",
        "node-1/main/real\0",
        "node-1/main/-rf",
        "node-1/main/re al",
        "node-1/main/ä",
        "node-1/main/~",
        "node-1/main/real~0123456789abcdef0123456789abcdef",
        "node-1/main/=",
        "node-1/main/=.",
        "node-1/main/=..",
        "node-1/main/=/etc",
        "node-1/main/=../root",
        "node-1/main/=.berth",
        "node-1/main/=.berth/volumes/real",
        "node-1/main/=.BERTH",
        "node-1/main/=x//y",
        "node-1/main/=#",
        "node-1/main/=nothing",
        "node-1/main/=nothing#alias",
        "node-1/main/=file",
        "node-1/main/=link",
        "node-1/main/=link/real",
        "🐙",
        "\0",
        "\n",
        " ",
        "${pvc.metadata.name}",
    ]
    .map(str::to_string)
    .into();
    ids.extend([129, 4096, 1 << 20].map(|length| "n".repeat(length)));
    ids.push(format!("node-1/main/{}", "n".repeat(47)));
    ids.push(format!("node-1/main/={}", "n/".repeat(2000) + "n"));
    ids
}

/// A driver with a volume `real` that is published, and things beside it that ids could be about.
fn rig() -> (Rig, String, String) {
    let mut rig = Rig::new();
    let (id, target) = (rig.create(create("real")).id(), rig.target("real"));
    rig.publish(publish(&id, &target)).ok();
    fs::write(format!("{target}/file"), "content").unwrap();
    fs::write(rig.root().join("file"), "a file").unwrap();
    std::os::unix::fs::symlink("/etc", rig.root().join("link")).unwrap();
    (rig, id, target)
}

/// The hand-made ids, and those that name the data of `real` by its path.
fn with_data(rig: &Rig) -> Vec<String> {
    let data = rig.data_of("real").file_name().unwrap().to_str().unwrap().to_string();
    let poses = [
        format!("node-1/main/={data}"),
        format!("node-1/main/={data}/file"),
        format!("node-1/main/{data}"),
        rig.data_of("real").display().to_string(),
    ];
    hand_made().into_iter().chain(poses).collect()
}

#[test]
fn deleting_an_id_that_cannot_be_ours_is_ok_and_touches_nothing() {
    let (mut rig, ..) = rig();
    for id in with_data(&rig) {
        rig.unchanged(|rig| rig.delete(&id).ok());
    }
    rig.delete("").fails(Code::InvalidArgument, "volume_id");
}

#[test]
fn unpublishing_an_id_that_cannot_be_ours_is_ok_and_touches_nothing() {
    let (mut rig, _, target) = rig();
    for id in with_data(&rig) {
        rig.unchanged(|rig| {
            rig.unpublish(&id, &target).ok();
            rig.unpublish(&id, &rig.target("nothing")).ok();
            rig.unpublish(&id, "/nowhere/at/all").ok();
        });
    }
    rig.unpublish("", &target).fails(Code::InvalidArgument, "volume_id");
}

#[test]
fn every_other_rpc_does_not_find_an_id_that_cannot_be_ours() {
    let (mut rig, _, target) = rig();
    let new = rig.target("new");
    for id in with_data(&rig) {
        rig.unchanged(|rig| {
            let (volume_id, volume_path) = (id.clone(), target.clone());
            rig.publish(publish(&id, &new)).fails(Code::NotFound, "");
            rig.get_volume(ControllerGetVolumeRequest { volume_id }).fails(Code::NotFound, "");
            rig.validate(ValidateVolumeCapabilitiesRequest {
                volume_id: id.clone(),
                volume_capabilities: create("x").volume_capabilities,
                ..Default::default()
            })
            .fails(Code::NotFound, "");
            let volume_id = id.clone();
            rig.stats(NodeGetVolumeStatsRequest { volume_id, volume_path, ..Default::default() })
                .fails(Code::NotFound, "");
            let (volume_id, volume_path) = (id.clone(), target.clone());
            rig.expand(NodeExpandVolumeRequest {
                volume_id,
                volume_path,
                capacity_range: Some(CapacityRange { required_bytes: 2 << 20, limit_bytes: 0 }),
                ..Default::default()
            })
            .fails(Code::NotFound, "");
        });
    }
}

#[test]
fn an_id_that_is_missing_is_refused_by_every_rpc() {
    let (mut rig, _, target) = rig();
    rig.unchanged(|rig| {
        rig.publish(publish("", &target)).fails(Code::InvalidArgument, "volume_id");
        rig.get_volume(ControllerGetVolumeRequest::default()).fails(Code::InvalidArgument, "volume_id");
        rig.validate(ValidateVolumeCapabilitiesRequest {
            volume_capabilities: create("x").volume_capabilities,
            ..Default::default()
        })
        .fails(Code::InvalidArgument, "volume_id");
        let volume_path = target.clone();
        rig.stats(NodeGetVolumeStatsRequest { volume_path, ..Default::default() })
            .fails(Code::InvalidArgument, "volume_id");
        let volume_path = target.clone();
        rig.expand(NodeExpandVolumeRequest { volume_path, ..Default::default() })
            .fails(Code::InvalidArgument, "volume_id");
    });
}

#[test]
fn existing_data_is_never_deleted_only_when_it_is_gone_is_it_gone() {
    let mut rig = Rig::new();
    fs::create_dir_all(rig.root().join("photos/2024")).unwrap();
    fs::write(rig.root().join("photos/2024/file"), "mine").unwrap();
    for path in ["=photos", "=photos/2024", "=photos/2024#second"] {
        let id = format!("node-1/main/{path}");
        rig.unchanged(|rig| rig.delete(&id).fails(Code::FailedPrecondition, "existed before Berth"));
    }
    fs::rename(rig.root().join("photos/2024"), rig.root().join("away")).unwrap();
    rig.unchanged(|rig| rig.delete("node-1/main/=photos/2024").ok());
}

#[test]
fn an_id_of_another_node_is_known_as_such_and_its_data_is_left_alone() {
    let mut rig = Rig::new();
    let id = rig.create(create("a")).id();
    rig.kill();
    rig.set_node_id("node-2");
    rig.start();
    let target = rig.target("t");
    rig.unchanged(|rig| {
        let words = "it belongs to node node-1, this is node-2";
        rig.publish(publish(&id, &target)).fails(Code::NotFound, words);
        rig.get_volume(ControllerGetVolumeRequest { volume_id: id.clone() }).fails(Code::NotFound, words);
        rig.delete(&id).ok();
    });
    assert_eq!(rig.data().len(), 1);
}

#[test]
fn an_id_of_a_root_that_this_driver_does_not_have_says_so() {
    let mut rig = Rig::new();
    let volume_id = "node-1/ssd/a".to_string();
    rig.get_volume(ControllerGetVolumeRequest { volume_id }).fails(Code::NotFound, "has no root ssd");
}

#[test]
fn ids_of_nodes_with_long_or_odd_names_stay_below_128_bytes_and_differ() {
    let mut rig = Rig::new();
    let long = "n".repeat(253);
    let (mut ids, mut values) = (Vec::new(), Vec::new());
    for node in [long.as_str(), &long[..252], "node.example.com", "a/b", "a b", "ä"] {
        rig.kill();
        rig.set_node_id(node);
        rig.start();
        let volume = rig.create(create(&"v".repeat(128))).ok().volume.unwrap();
        let value = &volume.accessible_topology[0].segments["local.berth.dev/node"];
        assert!(value.len() <= 63 && !values.contains(value), "{value}");
        assert_eq!(value == node, node == "node.example.com");
        values.push(value.clone());
        assert!(volume.volume_id.len() <= 128, "{}", volume.volume_id);
        let target = rig.target("t");
        rig.publish(publish(&volume.volume_id, &target)).ok();
        rig.unpublish(&volume.volume_id, &target).ok();
        assert!(!ids.contains(&volume.volume_id));
        ids.push(volume.volume_id);
    }
}
