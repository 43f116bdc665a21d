//! `berth local`: what a user of one node's disks does.

use crate::cluster::{Cluster, Kind};
use crate::runner::Group;
use crate::trials;

pub const GROUP: Group = Group {
    name: "local",
    start: || Cluster::new(Kind::Local, &[]),
    together: (4, trials![a_claim_binds_where_its_pod_runs_and_its_data_outlives_the_pod]),
    alone: trials![],
};

fn a_claim_binds_where_its_pod_runs_and_its_data_outlives_the_pod(cluster: &Cluster) {
    let space = cluster.space("first");
    space.claim("data", "ReadWriteOnce");
    space.pod("writer", "data", "node-b", "echo hello >/data/file");
    space.output("writer");
    space.delete_pods("writer");
    // No node is named: the volume says where it is.
    space.pod("reader", "data", "", "cat /data/file");
    assert_eq!(space.output("reader"), "hello\n");
    assert_eq!(space.field("pod/reader", ".spec.nodeName"), "node-b");
}
