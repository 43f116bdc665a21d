//! The parameters of a StorageClass: each has its effect, and none is ignored.

use std::fs;

use berth::csi::volume_capability::access_mode::Mode;

use crate::rig::*;

/// A driver with the roots `hdd` and `ssd`.
fn two_roots() -> Rig {
    let mut rig = Rig::without_driver();
    let roots = ["ssd", "hdd"].map(|name| {
        let path = rig.scratch().join(name);
        fs::create_dir(&path).unwrap();
        rig.mount_tmpfs(&path, "size=64m");
        format!("{name}={}", path.display())
    });
    rig.set_roots(&roots);
    rig.start();
    rig
}

/// How many directories of data lie on a root.
fn data_on(rig: &Rig, root: &str) -> usize {
    let entries = fs::read_dir(rig.scratch().join(root)).unwrap();
    entries.filter(|entry| entry.as_ref().unwrap().file_name() != ".berth").count()
}

#[test]
fn root_picks_where_a_volume_lies() {
    let mut rig = two_roots();
    assert_eq!(rig.create(create("a").parameter("root", "ssd")).id(), "node-1/ssd/a");
    assert_eq!(rig.create(create("b").parameter("root", "hdd")).id(), "node-1/hdd/b");
    assert_eq!((data_on(&rig, "ssd"), data_on(&rig, "hdd")), (1, 1));
    let (one, two) = (rig.target("one"), rig.target("two"));
    rig.publish(publish("node-1/ssd/a", &one)).ok();
    rig.publish(publish("node-1/hdd/b", &two)).ok();
    fs::write(format!("{one}/file"), "x").unwrap();
    assert_eq!(fs::read_dir(&two).unwrap().count(), 0);
}

#[test]
fn root_may_be_left_out_only_when_there_is_one() {
    let mut rig = two_roots();
    rig.create(create("a"))
        .fails(Code::InvalidArgument, "parameters.root: is needed: this driver has hdd, ssd");
    assert_eq!((data_on(&rig, "ssd"), data_on(&rig, "hdd")), (0, 0));
    let mut rig = Rig::new();
    rig.create(create("a")).ok();
    rig.create(create("b").parameter("root", "main")).ok();
}

#[test]
fn a_root_that_the_administrator_did_not_name_is_refused_also_one_that_is_a_path() {
    let mut rig = two_roots();
    let path = rig.scratch().join("ssd").display().to_string();
    for root in ["", "SSD", "ssd ", "nvme", "/", "..", "ssd/..", ".berth", &path, "nas.example.com:/export"] {
        rig.create(create("a").parameter("root", root))
            .fails(Code::InvalidArgument, "is no root of this driver: it has hdd, ssd");
    }
    assert_eq!((data_on(&rig, "ssd"), data_on(&rig, "hdd")), (0, 0));
}

#[test]
fn node_sharing_alone_allows_modes_of_several_nodes() {
    let mut rig = Rig::new();
    for mode in [Mode::MultiNodeReaderOnly, Mode::MultiNodeSingleWriter, Mode::MultiNodeMultiWriter] {
        rig.unchanged(|rig| {
            rig.create(create("a").mode(mode)).fails(Code::InvalidArgument, "nodeSharing: \"true\"");
            rig.create(create("a").mode(mode).parameter("nodeSharing", "false"))
                .fails(Code::InvalidArgument, "nodeSharing: \"true\"");
        });
        let id = rig.create(create("a").mode(mode).parameter("nodeSharing", "true")).id();
        rig.publish(publish(&id, &rig.target("t")).mode(mode)).ok();
        rig.unpublish(&id, &rig.target("t")).ok();
        rig.delete(&id).ok();
    }
    rig.create(create("a").parameter("nodeSharing", "true")).ok();
}

#[test]
fn a_parameter_that_is_misspelt_or_unknown_is_refused_with_the_nearest_one() {
    let mut rig = Rig::new();
    for (key, words) in [
        ("subdir", "is subDir meant?"),
        ("sub-dir", "is subDir meant?"),
        ("ondelete", "is onDelete meant?"),
        ("onDelte", "is onDelete meant?"),
        ("nodesharing", "is nodeSharing meant?"),
        ("Root", "is root meant?"),
        ("modes", "is mode meant?"),
        ("UID", "is uid meant?"),
        ("gids", "is gid meant?"),
        ("archiveOnDelete", "known are root, subDir, nodeSharing, mode, uid, gid, onDelete"),
        ("server", "known are root"),
        ("", "known are root"),
        ("root\n", "is root meant?"),
        ("csi.storage.k8s.io", "known are root"),
    ] {
        rig.unchanged(|rig| {
            let error = rig.create(create("a").parameter(key, "x")).fails(Code::InvalidArgument, words);
            assert!(error.starts_with(&format!("parameters.{key}: ")), "{error}");
        });
    }
}

#[test]
fn a_value_that_makes_no_sense_is_refused_by_the_name_of_its_parameter() {
    let mut rig = Rig::new();
    for (key, value) in [
        ("nodeSharing", ""),
        ("nodeSharing", "yes"),
        ("nodeSharing", "True"),
        ("onDelete", ""),
        ("onDelete", "Retain"),
        ("onDelete", "keep"),
        ("mode", ""),
        ("mode", "7"),
        ("mode", "888"),
        ("mode", "0o770"),
        ("mode", "u=rwx"),
        ("mode", "17777"),
        ("mode", "-777"),
        ("mode", "+777"),
        ("mode", " 777"),
        ("uid", ""),
        ("uid", "-1"),
        ("uid", "+1"),
        ("uid", "root"),
        ("uid", "0x10"),
        ("uid", "4294967295"),
        ("uid", "4294967296"),
        ("gid", "1000 "),
        ("gid", "4294967295"),
        ("gid", "٣"),
    ] {
        rig.unchanged(|rig| {
            let error = rig.create(create("a").parameter(key, value)).fails(Code::InvalidArgument, key);
            assert!(error.starts_with(&format!("parameters.{key}: ")), "{error}");
        });
    }
    let endless = create("a").parameter("mode", &"0".repeat(1 << 20));
    rig.unchanged(|rig| rig.create(endless).fails(Code::InvalidArgument, "parameters"));
}

#[test]
fn what_the_sidecars_add_is_understood_and_makes_no_other_request() {
    let mut rig = Rig::new();
    let with_claim = |claim: &str| {
        create("a")
            .parameter("onDelete", "retain")
            .parameter("csi.storage.k8s.io/pvc/name", claim)
            .parameter("csi.storage.k8s.io/pvc/namespace", "shop")
            .parameter("csi.storage.k8s.io/fstype", "ext4")
            .parameter("csi.storage.k8s.io/of-a-later-sidecar", "x")
    };
    let id = rig.create(with_claim("data")).id();
    rig.unchanged(|rig| {
        assert_eq!(rig.create(with_claim("data")).id(), id);
        assert_eq!(rig.create(with_claim("other")).id(), id);
        assert_eq!(rig.create(create("a").parameter("onDelete", "retain")).id(), id);
        // Of whom the rest is, is not known; so it is not ignored.
        rig.create(create("a").parameter("example.com/x", "y")).fails(Code::InvalidArgument, "example.com/x");
    });
}
