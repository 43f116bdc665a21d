//! `berth local` on disks of its own: real file systems, and a node that loses its power.

use berth::access::Mode;
use tonic::Code;

use super::NODE_A;
use crate::driver::Driver;
use crate::fleet::Fleet;
use crate::host::{Host, Spec};
use crate::runner::Group;
use crate::volumes::Fails as _;
use crate::{server, trials};

/// XFS wants 300 MiB.
const NODE: Spec = Spec { disks: &[600, 128], at_boot: mount_roots, ..NODE_A };

pub const GROUP: Group = Group {
    name: "local",
    hosts: &[NODE],
    trials: trials![
        a_volume_lives_and_ends_on_xfs_and_on_ext4,
        a_second_target_of_a_single_writer_is_refused,
        what_was_answered_outlasts_a_crash_of_the_kernel,
        a_volume_that_was_deleted_before_a_crash_does_not_come_back,
        a_driver_that_is_killed_leaves_its_mounts_to_the_next,
    ],
};

const ROOTS: [&str; 2] = ["xfs", "ext4"];

fn mount_roots(host: &Host) {
    for (root, device) in ROOTS.iter().zip(["/dev/ubda", "/dev/ubdb"]) {
        server::mount_disk(host, root, device, &format!("/mnt/{root}"));
    }
}

/// The node, with a driver that serves both roots.
fn berth(fleet: &Fleet) -> Driver {
    fleet.host("node-a").berth("local", &["--root", "xfs=/mnt/xfs", "--root", "ext4=/mnt/ext4"])
}

fn target(name: &str) -> String {
    format!("/var/lib/kubelet/pods/{name}/mount")
}

const ONE: Mode = Mode::SingleNodeSingleWriter;

fn a_volume_lives_and_ends_on_xfs_and_on_ext4(fleet: &Fleet) {
    let driver = berth(fleet);
    let node = driver.host();
    for root in ROOTS {
        let (id, target) = (node.create(root, ONE, &[("root", root)]).unwrap(), target(root));
        assert_eq!(id, format!("node-a/{root}/{root}"));
        node.publish(&id, &target, ONE).unwrap();
        node.run(&format!("echo data >{target}/file && sync {target}/file"));
        assert_eq!(node.run(&format!("cat /mnt/{root}/{root}.*/file")), "data");
        assert_eq!(node.run(&format!("findmnt -no FSTYPE {target}")), root);
        node.unpublish(&id, &target).unwrap();
        assert!(!node.can(&format!("test -e {target}")));
        node.delete(&id).unwrap();
        assert_eq!(node.run(&format!("ls /mnt/{root} | grep -v lost+found || true")), "");
    }
    assert_eq!(driver.stop(), 0);
}

fn a_second_target_of_a_single_writer_is_refused(fleet: &Fleet) {
    let driver = berth(fleet);
    let node = driver.host();
    let id = node.create("single", ONE, &[("root", "xfs")]).unwrap();
    node.publish(&id, &target("first"), ONE).unwrap();
    node.publish(&id, &target("second"), ONE).fails(Code::FailedPrecondition, "first");
    node.unpublish(&id, &target("first")).unwrap();
    node.publish(&id, &target("second"), ONE).unwrap();
    node.unpublish(&id, &target("second")).unwrap();
    node.delete(&id).unwrap();
    assert_eq!(driver.stop(), 0);
}

/// Nothing is synced by anybody but the driver, and the kernel has no time to write by itself.
fn what_was_answered_outlasts_a_crash_of_the_kernel(fleet: &Fleet) {
    let mut driver = berth(fleet);
    let node = driver.host().clone();
    for root in ROOTS {
        let name = format!("answered-{root}");
        let id = node.create(&name, ONE, &[("root", root)]).unwrap();
        node.crash();
        node.boot();
        driver.start_again();
        // The very same, and it can be had.
        assert_eq!(node.create(&name, ONE, &[("root", root)]).unwrap(), id);
        let target = target(&name);
        node.publish(&id, &target, ONE).unwrap();
        node.run(&format!("echo data >{target}/file && sync {target}/file"));
        node.crash();
        node.boot();
        driver.start_again();
        // The mount went with the kernel, and so did the publication; the data did not.
        node.publish(&id, &format!("{target}-again"), ONE).unwrap();
        assert_eq!(node.run(&format!("cat {target}-again/file")), "data");
        node.unpublish(&id, &target).unwrap();
        node.unpublish(&id, &format!("{target}-again")).unwrap();
        node.delete(&id).unwrap();
    }
    assert_eq!(driver.stop(), 0);
}

fn a_volume_that_was_deleted_before_a_crash_does_not_come_back(fleet: &Fleet) {
    let mut driver = berth(fleet);
    let node = driver.host().clone();
    let ids = ROOTS.map(|root| node.create(&format!("deleted-{root}"), ONE, &[("root", root)]).unwrap());
    for id in &ids {
        node.delete(id).unwrap();
    }
    node.crash();
    node.boot();
    driver.start_again();
    for id in &ids {
        node.publish(id, &target("deleted"), ONE).fails(Code::NotFound, id);
    }
    assert_eq!(driver.stop(), 0);
}

fn a_driver_that_is_killed_leaves_its_mounts_to_the_next(fleet: &Fleet) {
    let mut driver = berth(fleet);
    let node = driver.host().clone();
    let id = node.create("killed", ONE, &[("root", "ext4")]).unwrap();
    node.publish(&id, &target("killed"), ONE).unwrap();
    let before = driver.pid();
    driver.restart();
    assert_ne!(driver.pid(), before);
    node.publish(&id, &target("killed"), ONE).unwrap();
    node.publish(&id, &target("other"), ONE).fails(Code::FailedPrecondition, "killed");
    node.unpublish(&id, &target("killed")).unwrap();
    node.delete(&id).unwrap();
    assert_eq!(driver.stop(), 0);
}
