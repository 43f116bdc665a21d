//! `berth local`: what users of nodes' own disks do.

use super::{both, examples};
use crate::cluster::{Cluster, Kind};
use crate::runner::Group;
use crate::trials;
use both::{
    a_driver_that_is_killed_deleted_and_replaced_disturbs_no_pod,
    a_kubelet_that_restarts_keeps_its_pods_and_publishes_again,
    a_second_pod_with_rwop_waits_and_forced_past_the_scheduler_is_refused,
    an_uninstalled_berth_leaves_the_data_and_a_new_one_finds_it,
};

pub const GROUP: Group = Group {
    name: "local",
    start,
    together: (
        5,
        &[
            examples::LOCAL,
            trials![
                a_second_pod_with_rwop_waits_and_forced_past_the_scheduler_is_refused,
                a_claim_binds_where_its_pod_runs_and_its_data_outlives_the_pod,
                pods_of_one_node_share_a_claim_and_another_node_is_never_chosen,
                a_mode_of_many_nodes_is_refused_with_a_word_on_what_allows_it,
                a_full_node_is_not_chosen_and_a_claim_that_fits_nowhere_waits,
            ],
        ],
    ),
    alone: trials![
        a_kubelet_that_restarts_keeps_its_pods_and_publishes_again,
        a_driver_that_is_killed_deleted_and_replaced_disturbs_no_pod,
        an_uninstalled_berth_leaves_the_data_and_a_new_one_finds_it,
    ],
};

/// The disks of the two nodes are of unequal size.
fn start() -> Cluster {
    let cluster = Cluster::bare(Kind::Local, &["pods", "berth"]);
    for (node, size) in [("node-a", "300M"), ("node-b", "900M")] {
        let directory = "/var/lib/berth/main";
        cluster
            .node(node)
            .run(&format!("mkdir -p {directory} && mount -t tmpfs -o size={size} disk {directory}"));
    }
    cluster.or_say_all(Cluster::install);
    cluster
}

fn a_claim_binds_where_its_pod_runs_and_its_data_outlives_the_pod(cluster: &Cluster) {
    let space = cluster.space("first");
    space.claim("data", "ReadWriteOnce");
    space.pod("writer", "data", "node-b", "echo hello >/data/file");
    space.output("writer");
    space.delete_pods("writer");
    // No node is named: the volume says where it is.
    space.pod("reader", "data", "", "cat /data/file");
    assert_eq!(space.output("reader"), "hello");
    assert_eq!(space.field("pod/reader", ".spec.nodeName"), "node-b");
}

fn pods_of_one_node_share_a_claim_and_another_node_is_never_chosen(cluster: &Cluster) {
    let space = cluster.space("shared");
    space.claim("data", "ReadWriteOnce");
    space.pod("first", "data", "node-b", "echo first >>/data/log; sleep 1000");
    space.wait_running("first");
    space.pod("second", "data", "", "echo second >>/data/log; cat /data/log");
    assert_eq!(space.output("second"), "first\nsecond");
    assert_eq!(space.field("pod/second", ".spec.nodeName"), "node-b");
    space.pod("elsewhere", "data", "node-a", "true");
    space.event("elsewhere", "didn't match PersistentVolume's node affinity");
    // Put there past the scheduler: the kubelet knows where the volume is, as Berth would by its id.
    space.forced_pod("forced", "data", "node-a", "echo stolen >>/data/log");
    space.event("forced", "NodeAffinity check failed");
    assert_eq!(space.exec("first", "cat /data/log").unwrap(), "first\nsecond");
}

fn a_mode_of_many_nodes_is_refused_with_a_word_on_what_allows_it(cluster: &Cluster) {
    let space = cluster.space("many");
    space.claim("data", "ReadWriteMany");
    space.pod("pod", "data", "node-a", "true");
    let event = space.event("data", "ProvisioningFailed");
    assert!(event.contains("nodeSharing"), "{event}");
    cluster.apply(
        "{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: shared-on-a-node}, provisioner: local.berth.dev,
          volumeBindingMode: WaitForFirstConsumer, parameters: {root: main, nodeSharing: 'true'}}",
    );
    space.claim_of("readable", "ReadOnlyMany", "shared-on-a-node", "10Mi");
    let script =
        "touch /data/file 2>&1 && echo written; cat /proc/mounts | grep /data | cut -d' ' -f4 | cut -d, -f1";
    for pod in ["reader", "another"] {
        space.pod(pod, "readable", "node-a", script);
        assert_eq!(space.output(pod), "touch: /data/file: Read-only file system\nro");
    }
}

fn a_full_node_is_not_chosen_and_a_claim_that_fits_nowhere_waits(cluster: &Cluster) {
    let space = cluster.space("capacity");
    cluster.wait_for("both nodes to tell what they have", || {
        let classes = cluster.k("get csistoragecapacities -n berth -o jsonpath={.items[*].storageClassName}");
        classes.split(' ').filter(|class| *class == "berth-local").count() == 2
    });
    for number in 0..4 {
        let claim = format!("large-{number}");
        space.claim_of(&claim, "ReadWriteOnce", "berth-local", "500Mi");
        space.pod(&claim, &claim, "", "true");
        space.output(&claim);
        assert_eq!(space.field(&format!("pod/{claim}"), ".spec.nodeName"), "node-b");
    }
    space.claim_of("too-large", "ReadWriteOnce", "berth-local", "2Gi");
    space.pod("waits", "too-large", "", "true");
    space.event("waits", "did not have enough free storage");
}
