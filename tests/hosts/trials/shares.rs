//! What servers and administrators do with a share: versions, mount options, squashed roots, read-only exports, several
//! roots, and shares that are not what they were.

use berth::access::Mode;
use tonic::Code;

use super::{NODE_A, NODE_B, SERVER};
use crate::cluster::{Cluster, Share, clear};
use crate::fleet::Fleet;
use crate::host::{Host, wait_for};
use crate::runner::Group;
use crate::volumes::Fails as _;
use crate::{server, trials};

const RWX: Mode = Mode::MultiNodeMultiWriter;

pub const GROUP: Group = Group {
    name: "shares",
    hosts: &[SERVER, NODE_A, NODE_B],
    trials: trials![
        every_version_serves_and_two_of_them_meet_on_one_record,
        options_of_the_root_and_of_the_storage_class_hold_and_the_latter_come_last,
        an_option_that_the_kernel_refuses_is_refused_in_its_words,
        a_server_that_squashes_root_is_explained_or_served,
        a_read_only_export_is_explained,
        a_share_that_is_not_exported_or_not_there_is_explained,
        a_server_is_found_by_its_name_at_each_mount,
        a_share_that_was_replaced_is_refused_and_one_that_came_back_is_served,
        volumes_lie_where_sub_dir_says_and_are_kept_where_on_delete_says,
        a_root_has_one_name,
    ],
};

fn life(node: &Host, name: &str, parameters: &[(&str, &str)]) -> (String, String) {
    let (id, target) = (node.create(name, RWX, parameters).unwrap(), format!("/pods/{name}"));
    node.controller_publish(&id, node.name(), RWX).unwrap();
    node.publish(&id, &target, RWX).unwrap();
    (id, target)
}

/// The options of the mount at a target, as the kernel has them.
fn options(node: &Host, target: &str) -> String {
    node.run(&format!("grep ' {target} ' /proc/self/mountinfo"))
}

fn every_version_serves_and_two_of_them_meet_on_one_record(fleet: &Fleet) {
    let (a, b) = (fleet.host("node-a"), fleet.host("node-b"));
    for (version, kind) in [("4.2", "vers=4.2"), ("4.1", "vers=4.1"), ("4.0", "vers=4.0"), ("3", "vers=3")] {
        clear(a);
        clear(b);
        let share = Share::export(fleet, &format!("v{version}"), "");
        let _a = share.serve(a, &format!(",vers={version},nolock"));
        let _b = share.serve(b, "");
        let (id, target) = life(a, "v", &[]);
        assert!(options(a, &target).contains(kind), "{}", options(a, &target));
        b.controller_publish(&id, "node-b", RWX).unwrap();
        b.publish(&id, &target, RWX).unwrap();
        assert!(options(b, &target).contains("vers=4.2"), "the newest that both speak");
        a.run(&format!("echo {version} > {target}/f; sync {target}/f"));
        assert_eq!(b.run(&format!("cat {target}/f")), version);
        for node in [a, b] {
            node.unpublish(&id, &target).unwrap();
            node.controller_unpublish(&id, node.name()).unwrap();
        }
        b.delete(&id).unwrap();
        a.controller_publish(&id, "node-a", RWX).fails(Code::NotFound, "does not exist");
    }
}

fn options_of_the_root_and_of_the_storage_class_hold_and_the_latter_come_last(fleet: &Fleet) {
    let Cluster { a, .. } = &Cluster::with(fleet, "options", "", ",timeo=300,rsize=4096");
    let flags = ["timeo=100,noexec", "softerr"];
    let id = a.create_with_flags("v", RWX, &flags).unwrap();
    a.controller_publish(&id, "node-a", RWX).unwrap();
    a.publish_with_flags(&id, "/pods/v", RWX, &flags).unwrap();
    let has = options(a, "/pods/v");
    for option in ["timeo=100", "rsize=4096", "softerr", "noexec", "nosuid", "nodev"] {
        assert!(has.contains(option), "{option}: {has}");
    }
    let (_, plain) = life(a, "plain", &[]);
    let has = options(a, &plain);
    assert!(has.contains("timeo=300") && has.contains("hard") && !has.contains("noexec"), "{has}");
}

fn an_option_that_the_kernel_refuses_is_refused_in_its_words(fleet: &Fleet) {
    let Cluster { a, .. } = &Cluster::new(fleet, "refused");
    a.create_with_flags("v", RWX, &["nolok"]).fails(Code::InvalidArgument, "nolock");
    a.create_with_flags("v", RWX, &["addr=10.99.0.9"]).fails(Code::InvalidArgument, "addr");
    let (id, _) = life(a, "v", &[]);
    // Known here, and not to a kernel of that age.
    a.publish_with_flags(&id, "/pods/again", RWX, &["xprtsec=tls"])
        .expect_err("this kernel has no TLS for NFS");
    a.publish(&id, "/pods/again", RWX).unwrap();
}

fn a_server_that_squashes_root_is_explained_or_served(fleet: &Fleet) {
    let (a, srv) = (fleet.host("node-a"), fleet.host("srv"));
    clear(a);
    let share = Share::export(fleet, "squash", "root_squash");
    let driver = a.berth("nfs", &["--root", &share.root("")]);
    a.create("v", RWX, &[]).fails(Code::FailedPrecondition, "no_root_squash");
    // What the message says to do.
    srv.run(&format!("chown 65534:65534 {}", share.path));
    wait_for("the share to be usable", || a.create("v", RWX, &[]).is_ok());
    share.wait_for_node("node-a");
    let (_, target) = life(a, "v", &[]);
    a.run(&format!("echo x > {target}/f"));
    a.create("owned", RWX, &[("uid", "1000")]).fails(Code::FailedPrecondition, "root_squash");
    drop(driver);
}

fn a_read_only_export_is_explained(fleet: &Fleet) {
    let a = fleet.host("node-a");
    clear(a);
    let share = Share::export(fleet, "read-only", "ro");
    let _driver = a.berth("nfs", &["--root", &share.root("")]);
    a.create("v", RWX, &[]).fails(Code::FailedPrecondition, "exported read-only");
}

fn a_share_that_is_not_exported_or_not_there_is_explained(fleet: &Fleet) {
    let (a, srv) = (fleet.host("node-a"), fleet.host("srv"));
    clear(a);
    srv.run("mkdir -p /srv/nfs/mine");
    server::export(srv, "/srv/nfs/mine", "10.99.0.77", "");
    let _driver = a.berth(
        "nfs",
        &[
            "--root",
            "one=10.99.0.1:/srv/nfs/mine",
            "--root",
            "two=10.99.0.1:/srv/nfs/none",
            "--root",
            "three=10.99.0.9:/x",
        ],
    );
    a.create("v", RWX, &[("root", "one")]).fails(Code::FailedPrecondition, "export");
    a.create("v", RWX, &[("root", "two")]).fails(Code::FailedPrecondition, "export");
    let status = a.create("v", RWX, &[("root", "three")]).unwrap_err();
    assert!(matches!(status.code(), Code::Aborted | Code::FailedPrecondition), "{status}");
    // What is exported later is found without a restart.
    server::export(srv, "/srv/nfs/mine", "10.99.0.0/24", "");
    wait_for("the export", || a.create("v", RWX, &[("root", "one")]).is_ok());
}

fn a_server_is_found_by_its_name_at_each_mount(fleet: &Fleet) {
    let a = fleet.host("node-a");
    clear(a);
    let share = Share::export(fleet, "named", "");
    let root = format!("main=nas.test:{}", share.path);
    a.run("sed -i '/nas.test/d' /etc/hosts");
    let _driver = a.berth("nfs", &["--root", &root]);
    a.create("v", RWX, &[]).fails(Code::FailedPrecondition, "nas.test");
    a.run("echo 10.99.0.1 nas.test >> /etc/hosts");
    wait_for("the name", || a.create("v", RWX, &[]).is_ok());
    share.wait_for_node("node-a");
    let (id, target) = life(a, "v", &[]);
    assert!(options(a, &target).contains("nas.test:"), "{}", options(a, &target));
    a.publish(&id, &target, RWX).unwrap();
    a.run("sed -i '/nas.test/d' /etc/hosts");
    a.unpublish(&id, &target).unwrap();
}

fn a_share_that_was_replaced_is_refused_and_one_that_came_back_is_served(fleet: &Fleet) {
    let Cluster { a, share, .. } = &Cluster::new(fleet, "replaced");
    let srv = fleet.host("srv");
    let (id, target) = life(a, "v", &[]);
    a.unpublish(&id, &target).unwrap();
    // Another share comes under its path, as when a disk is not mounted after a boot of the server.
    srv.run(&format!("exportfs -u 10.99.0.0/24:{0} && mv {0} {0}.away && mkdir {0}", share.path));
    server::export(srv, &share.path, "10.99.0.0/24", "");
    let refusal = || a.create("w", RWX, &[]).expect_err("the volume of another share").code();
    wait_for("the other share to be seen", || refusal() == Code::FailedPrecondition);
    a.publish(&id, &target, RWX).unwrap_err();
    assert_eq!(share.data(), ".");
    srv.run(&format!("exportfs -u 10.99.0.0/24:{0} && rm -r {0} && mv {0}.away {0}", share.path));
    server::export(srv, &share.path, "10.99.0.0/24", "");
    wait_for("the share to be back", || a.publish(&id, &target, RWX).is_ok());
}

fn volumes_lie_where_sub_dir_says_and_are_kept_where_on_delete_says(fleet: &Fleet) {
    let Cluster { a, share, .. } = &Cluster::new(fleet, "sub-dir");
    let pairs = |sub_dir, on_delete| {
        [("subDir", sub_dir), ("onDelete", on_delete), ("mode", "0750"), ("uid", "7"), ("gid", "8")]
    };
    for (name, on_delete, left) in [
        ("d", "delete", None),
        ("r", "retain", Some("./shop/data.retained-")),
        ("h", "archive", Some("./archived/shop/data-")),
    ] {
        let parameters = pairs("shop/data", on_delete);
        let (id, target) = life(a, name, &parameters);
        assert!(share.data().contains("./shop/data."), "{}", share.data());
        assert_eq!(a.run(&format!("stat -c %a:%u:%g {target}")), "750:7:8");
        a.run(&format!("echo {name} > {target}/f"));
        a.unpublish(&id, &target).unwrap();
        a.controller_unpublish(&id, "node-a").unwrap();
        a.delete(&id).unwrap();
        let data = share.data();
        let kept: Vec<&str> = data.lines().filter(|path| path.ends_with("/f")).collect();
        match left {
            None => assert_eq!(kept, Vec::<&str>::new()),
            Some(place) => assert!(kept.iter().any(|path| path.starts_with(place)), "{on_delete}: {data}"),
        }
    }
}

fn a_root_has_one_name(fleet: &Fleet) {
    let (a, b) = (fleet.host("node-a"), fleet.host("node-b"));
    clear(a);
    clear(b);
    let share = Share::export(fleet, "one-name", "");
    let _a = share.serve(a, "");
    a.create("v", RWX, &[]).unwrap();
    let _b = b.berth("nfs", &["--root", &share.root("").replace("main=", "other=")]);
    b.create("v", RWX, &[]).fails(Code::FailedPrecondition, "the nfs root main");
}
