//! `berth nfs`: what users of a share do, with nodes that crash and a server that dies.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use super::{both, examples};
use crate::cluster::{self, Cluster, Kind, TOP};
use crate::images;
use crate::runner::Group;
use crate::space::Space;
use crate::trials;
use both::{
    Writer, a_driver_that_is_killed_deleted_and_replaced_disturbs_no_pod,
    a_kubelet_that_restarts_keeps_its_pods_and_publishes_again,
    a_second_pod_with_rwop_waits_and_forced_past_the_scheduler_is_refused,
    an_uninstalled_berth_leaves_the_data_and_a_new_one_finds_it,
};

pub const GROUP: Group = Group {
    name: "nfs",
    start: || {
        images::make_postgres(&cluster::images());
        let cluster = Cluster::new(Kind::Nfs, &["postgres"]);
        examples::fill(&cluster);
        cluster
    },
    together: (
        4,
        &[
            examples::NFS,
            trials![
                a_second_pod_with_rwop_waits_and_forced_past_the_scheduler_is_refused,
                a_pod_with_rox_cannot_write_on_either_node,
                an_rwo_volume_moves_to_another_node_only_when_it_is_released,
                two_controllers_run_and_one_is_enough,
            ],
        ],
    ),
    alone: trials![
        a_kubelet_that_restarts_keeps_its_pods_and_publishes_again,
        a_driver_that_is_killed_deleted_and_replaced_disturbs_no_pod,
        a_dead_server_delays_no_pod_that_does_not_use_it_and_its_pods_go_on_when_it_is_back,
        a_crashed_nodes_volume_moves_and_the_node_comes_back_to_nothing,
        a_node_that_is_cut_off_loses_its_volume_and_mounts_it_no_more,
        a_database_keeps_each_row_that_it_confirmed_when_its_node_crashes,
        an_uninstalled_berth_leaves_the_data_and_a_new_one_finds_it,
    ],
};

fn a_pod_with_rox_cannot_write_on_either_node(cluster: &Cluster) {
    let space = cluster.space("rox");
    space.claim("data", "ReadOnlyMany");
    // It does not ask for `readOnly`, and is root.
    let script = "touch /data/file 2>&1; mount -o remount,rw /data 2>&1 | grep -c . ; grep ' /data ' /proc/mounts | cut -d' ' -f4 | cut -d, -f1; sleep 1000";
    for node in ["node-a", "node-b"] {
        space.pod(node, "data", node, script);
    }
    for node in ["node-a", "node-b"] {
        space.wait_running(node);
        let said = || space.try_k(&format!("logs {node}")).unwrap_or_default();
        cluster.wait_for("the pod to have tried", || said().ends_with("ro\n"));
        assert!(said().starts_with("touch: /data/file: Read-only file system\n"), "{}", said());
    }
    // Both have it at the same time.
    assert!(space.exec("node-a", "ls /data").is_ok() && space.exec("node-b", "ls /data").is_ok());
}

fn an_rwo_volume_moves_to_another_node_only_when_it_is_released(cluster: &Cluster) {
    let space = cluster.space("rwo");
    space.claim("data", "ReadWriteOnce");
    space.pod("first", "data", "node-a", "echo first >/data/file; sleep 1000");
    space.wait_running("first");
    space.pod("neighbour", "data", "node-a", "cat /data/file");
    assert_eq!(space.output("neighbour"), "first");
    space.pod("second", "data", "node-b", "echo second >>/data/file; cat /data/file");
    space.event("second", "FailedAttachVolume");
    // Even where somebody says that it is attached, the node reads the record and mounts nothing: an attachment made by hand.
    let volume = space.volume("data");
    cluster.apply(&format!(
        "{{apiVersion: storage.k8s.io/v1, kind: VolumeAttachment, metadata: {{name: by-hand}}, spec: {{attacher: nfs.berth.dev,
          nodeName: node-b, source: {{persistentVolumeName: {volume}}}}}}}"
    ));
    cluster.wait_for("Berth to refuse the attachment", || {
        cluster
            .try_k("get volumeattachment by-hand -o jsonpath={.status.attachError.message}")
            .is_ok_and(|why| why.contains("node-a"))
    });
    cluster.k("delete volumeattachment by-hand --timeout=60s");
    assert_eq!(space.exec("first", "cat /data/file").unwrap(), "first");
    assert_eq!(space.field("pod/second", ".status.phase"), "Pending");
    space.delete_pods("first neighbour");
    assert_eq!(space.output("second"), "first\nsecond");
}

fn two_controllers_run_and_one_is_enough(cluster: &Cluster) {
    let ready = cluster.k("-n berth get deployment berth-nfs-controller -o jsonpath={.status.readyReplicas}");
    assert_eq!(ready, "2");
    let space = cluster.space("controllers");
    space.claim("data", "ReadWriteMany");
    for node in ["node-a", "node-b"] {
        space.pod(node, "data", node, "hostname >/data/$(hostname); sync");
        space.output(node);
    }
    space.pod("reader", "data", "", "ls /data");
    assert_eq!(space.output("reader"), "node-a\nnode-b");
}

/// A Deployment of one pod that appends its node's name and a heartbeat, and stays where it is until somebody says that its node is gone.
#[track_caller]
fn deployment<'a>(cluster: &'a Cluster, name: &str) -> (Space<'a>, String) {
    let space = cluster.space(name);
    space.claim("data", "ReadWriteOnce");
    space.apply(
        r#"{"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "app"}, "spec": {
            "serviceName": "app", "replicas": 1, "selector": {"matchLabels": {"app": "app"}},
            "template": {"metadata": {"labels": {"app": "app"}}, "spec": {
                "terminationGracePeriodSeconds": 1,
                "tolerations": [
                    {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 3600},
                    {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 3600}],
                "containers": [{"name": "pod", "image": "busybox:1.37",
                    "env": [{"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
                    "command": ["sh", "-c", "echo $NODE >>/data/nodes; sync /data/nodes; while date >/data/beat; do sleep 0.5; done"],
                    "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
                "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]}}}}"#,
    );
    space.cluster.wait_for("the pod", || space.field("pod/app-0", ".status.phase") == "Running");
    cluster.wait_for("its first word", || {
        space.exec("app-0", "cat /data/nodes").is_ok_and(|said| !said.is_empty())
    });
    let node = space.field("pod/app-0", ".spec.nodeName");
    (space, node)
}

fn other(node: &str) -> &'static str {
    if node == "node-a" { "node-b" } else { "node-a" }
}

fn wait_until_gone(cluster: &Cluster, node: &str) {
    cluster.wait_for(&format!("{node} to be known as gone"), || {
        let status =
            format!("get node {node} -o jsonpath={{.status.conditions[?(@.type==\"Ready\")].status}}");
        cluster.try_k(&status).is_ok_and(|status| status == "Unknown")
    });
}

/// Says that a node is gone, and waits for its pod to run on the other one.
#[track_caller]
fn move_from(space: &Space, pod: &str, node: &str) {
    let cluster = space.cluster;
    cluster.k(&format!("taint node {node} node.kubernetes.io/out-of-service=gone:NoExecute"));
    cluster.wait_for("the pod to run on the other node", || {
        space.field(pod, ".spec.nodeName") == other(node) && space.field(pod, ".status.phase") == "Running"
    });
}

#[track_caller]
fn moves(space: &Space, from: &str) {
    move_from(space, "pod/app-0", from);
    let both = format!("{from}\n{}", other(from));
    space.cluster.wait_for("its word beneath that of the pod before", || {
        space.exec("app-0", "cat /data/nodes").is_ok_and(|nodes| nodes == both)
    });
}

#[track_caller]
fn back(space: &Space, node: &str) {
    let cluster = space.cluster;
    cluster.wait_until_ready();
    cluster.k(&format!("taint node {node} node.kubernetes.io/out-of-service-"));
    let volume = space.volume("data");
    cluster.wait_for("nothing of the volume to be mounted there", || {
        !cluster.node(node).can(&format!("grep -q {volume} /proc/self/mountinfo"))
    });
    // It is a node as any other again.
    space.claim("another", "ReadWriteOnce");
    space.pod("again", "another", node, "echo again >/data/file; cat /data/file");
    assert_eq!(space.output("again"), "again");
}

fn a_crashed_nodes_volume_moves_and_the_node_comes_back_to_nothing(cluster: &Cluster) {
    let (space, node) = deployment(cluster, "crash");
    cluster.node(&node).host().crash();
    wait_until_gone(cluster, &node);
    assert_eq!(space.field("pod/app-0", ".spec.nodeName"), node, "nobody has said that the node is gone");
    moves(&space, &node);
    cluster.revive();
    back(&space, &node);
}

/// The example's PostgreSQL.
fn a_database_keeps_each_row_that_it_confirmed_when_its_node_crashes(cluster: &Cluster) {
    let space = cluster.space("database");
    space.apply(&fs::read_to_string(Path::new(TOP).join("examples/postgresql/postgres.yaml")).unwrap());
    let asks = |query: &str| space.exec("postgres-0", &format!("psql -Atqc \"{query}\""));
    // Its birth is a thousand small files, each of which the server syncs.
    let patience = Duration::from_secs(900);
    cluster
        .control
        .wait_for("the database", patience, || asks("CREATE TABLE IF NOT EXISTS log (n int)").is_ok());
    let node = space.field("pod/postgres-0", ".spec.nodeName");
    let host = cluster.node(&node).host();
    let (confirmed, crashed) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            while confirmed.load(Relaxed) < 5 {
                thread::sleep(Duration::from_millis(100));
            }
            // Into the midst of a row, or not.
            thread::sleep(Duration::from_millis(700));
            crashed.store(true, Relaxed);
            host.crash();
        });
        // Each row is a transaction of its own.
        while !crashed.load(Relaxed) {
            if asks(&format!("INSERT INTO log VALUES ({})", confirmed.load(Relaxed) + 1)).is_ok() {
                confirmed.fetch_add(1, Relaxed);
            }
        }
    });
    let confirmed = confirmed.into_inner();
    wait_until_gone(cluster, &node);
    move_from(&space, "pod/postgres-0", &node);
    let mut rows = String::new();
    cluster.wait_for("the database on the other node", || {
        asks("SELECT count(DISTINCT n), max(n) FROM log").is_ok_and(|said| {
            rows = said;
            true
        })
    });
    let (count, max) = rows.split_once('|').unwrap();
    assert_eq!(count, max, "a row is missing");
    // One more may be there, that nobody was told of.
    assert!(
        (confirmed..=confirmed + 1).contains(&count.parse().unwrap()),
        "{count} rows, {confirmed} were confirmed"
    );
    cluster.revive();
    cluster.k(&format!("taint node {node} node.kubernetes.io/out-of-service-"));
}

fn a_node_that_is_cut_off_loses_its_volume_and_mounts_it_no_more(cluster: &Cluster) {
    let (space, node) = deployment(cluster, "partition");
    let host = cluster.node(&node).host();
    host.cut();
    wait_until_gone(cluster, &node);
    moves(&space, &node);
    host.heal();
    back(&space, &node);
    assert_eq!(
        space.exec("app-0", "cat /data/nodes").unwrap().lines().count(),
        2,
        "the pod of before came back"
    );
}

fn a_dead_server_delays_no_pod_that_does_not_use_it_and_its_pods_go_on_when_it_is_back(cluster: &Cluster) {
    let writer = Writer::start(cluster, "dead-server", "node-a");
    assert_eq!(writer.node(), "node-a");
    let server = cluster.server();
    server.freeze();
    let space = cluster.space("no-nfs");
    let plain = |name: &str| {
        space.apply(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{restartPolicy: Never, terminationGracePeriodSeconds: 1,
              nodeName: node-a, containers: [{{name: pod, image: 'busybox:1.37', command: [sh, -c, 'echo plain >/data/file && cat /data/file'],
              volumeMounts: [{{name: data, mountPath: /data}}]}}], volumes: [{{name: data, emptyDir: {{}}}}]}}}}"
        ));
        let begin = Instant::now();
        assert_eq!(space.output(name), "plain");
        space.delete_pods(name);
        begin.elapsed()
    };
    let times: Vec<Duration> = ["one", "two", "three"].map(plain).into();
    // The kubelet asks for the statistics of all volumes meanwhile, and the drivers are probed.
    thread::sleep(Duration::from_secs(20));
    let later = plain("four");
    assert!(times.iter().chain([&later]).all(|time| *time < Duration::from_secs(60)), "{times:?} {later:?}");
    let restarts = cluster.k("-n berth get pods -o jsonpath={.items[*].status.containerStatuses[?(@.name==\"berth\")].restartCount}");
    server.thaw();
    writer.goes_on();
    let after = cluster.k("-n berth get pods -o jsonpath={.items[*].status.containerStatuses[?(@.name==\"berth\")].restartCount}");
    assert_eq!(restarts, after, "a dead server is no reason to restart a driver");
}
