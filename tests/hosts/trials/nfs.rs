//! `berth nfs` against a real server: what the plainest life of a volume needs.

use berth::access::Mode;
use tonic::Code;

use super::{NODE_A, NODE_B, SERVER};
use crate::driver::Driver;
use crate::fleet::Fleet;
use crate::runner::Group;
use crate::volumes::Fails as _;
use crate::{server, trials};

pub const GROUP: Group = Group {
    name: "nfs",
    hosts: &[SERVER, NODE_A, NODE_B],
    trials: trials![a_volume_is_written_by_one_node_and_handed_over_to_another],
};

const TARGET: &str = "/var/lib/kubelet/pods/p/mount";

/// A driver on each node, with the controller in both: one would do, and any may be asked.
fn berths(fleet: &Fleet) -> [Driver; 2] {
    server::export(fleet.host("srv"), "/srv/nfs/main", "10.99.0.0/24", "");
    ["node-a", "node-b"]
        .map(|node| fleet.host(node).berth("nfs", &["--root", "main=10.99.0.1:/srv/nfs/main"]))
}

fn a_volume_is_written_by_one_node_and_handed_over_to_another(fleet: &Fleet) {
    let [on_a, on_b] = berths(fleet);
    let (a, b) = (on_a.host(), on_b.host());
    let mode = Mode::SingleNodeSingleWriter;
    let id = a.create("v", mode, &[]).unwrap();
    b.publish(&id, TARGET, mode).fails(Code::FailedPrecondition, "");
    a.controller_publish(&id, "node-a", mode).unwrap();
    a.publish(&id, TARGET, mode).unwrap();
    a.run(&format!("echo of a >{TARGET}/file"));
    b.controller_publish(&id, "node-b", mode).fails(Code::FailedPrecondition, "node-a");
    a.unpublish(&id, TARGET).unwrap();
    b.controller_unpublish(&id, "node-a").unwrap();
    b.controller_publish(&id, "node-b", mode).unwrap();
    b.publish(&id, TARGET, mode).unwrap();
    assert_eq!(b.run(&format!("cat {TARGET}/file")), "of a");
    b.unpublish(&id, TARGET).unwrap();
    b.controller_unpublish(&id, "node-b").unwrap();
    b.delete(&id).unwrap();
    assert_eq!([on_a.stop(), on_b.stop()], [0, 0]);
}
