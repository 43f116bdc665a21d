//! What holds for both drivers: the table of access modes as pods see it, and drivers that come and go beneath running pods.

use std::fmt::Write as _;
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::cluster::{Cluster, Kind};
use crate::space::Space;

/// Writes a number ten times a second, for ever, and stops at the first that fails.
const COUNTS: &str = "n=0; while echo $n >>/data/numbers && echo $n >/data/last; do n=$((n+1)); sleep 0.1; done; echo stopped at $n";

/// A pod that writes all the time.
pub struct Writer<'a> {
    space: Space<'a>,
}

impl<'a> Writer<'a> {
    /// Starts it with a claim of its own, on a node.
    #[track_caller]
    pub fn start(cluster: &'a Cluster, name: &str, node: &str) -> Self {
        let space = cluster.space(name);
        space.claim("data", "ReadWriteOnce");
        space.pod("writer", "data", node, COUNTS);
        space.wait_running("writer");
        let writer = Self { space };
        writer.goes_on();
        writer
    }

    fn last(&self) -> u64 {
        self.space.exec("writer", "cat /data/last").ok().and_then(|said| said.parse().ok()).unwrap_or(0)
    }

    /// It writes more than it has written, and has never been interrupted.
    #[track_caller]
    pub fn goes_on(&self) {
        let before = self.last();
        self.space.cluster.wait_for("the pod to write on", || self.last() > before + 3);
        let numbers = self.space.exec("writer", "cat /data/numbers").unwrap();
        for (number, line) in numbers.lines().enumerate() {
            assert_eq!(line, number.to_string(), "the pod's own count");
        }
        assert_eq!(self.space.field("pod/writer", ".status.containerStatuses[0].restartCount"), "0");
    }

    /// The node that it runs on.
    pub fn node(&self) -> String {
        self.space.field("pod/writer", ".spec.nodeName")
    }
}

/// One pod has it; a second one waits, and neither a node's name nor a second volume of the same data lets it in.
pub fn a_second_pod_with_rwop_waits_and_forced_past_the_scheduler_is_refused(cluster: &Cluster) {
    let space = cluster.space("rwop");
    space.claim("data", "ReadWriteOncePod");
    space.pod("first", "data", "node-a", "echo mine >/data/file; sleep 1000");
    space.wait_running("first");
    space.pod("second", "data", "", "echo stolen >/data/file");
    space.event("second", "ReadWriteOncePod");
    space.forced_pod("forced", "data", "node-a", "echo stolen >/data/file");
    // The kubelet looks at the claim by itself.
    space.event("forced", "already in use by another pod");
    // It tries one pod after the other of those that want the same data; this one's turn would keep the next one waiting.
    space.delete_pods("forced");
    // It believes a volume that says that many may have this data. Berth does not.
    let (volume, liar) = (space.volume("data"), format!("{}-liar", space.name));
    let mut lie = cluster.get(&format!("pv {volume}"))["spec"].clone();
    lie["accessModes"] = json!([if cluster.kind == Kind::Local { "ReadWriteOnce" } else { "ReadWriteMany" }]);
    lie["claimRef"] = json!({"namespace": space.name, "name": "liar"});
    lie["persistentVolumeReclaimPolicy"] = "Retain".into();
    let named =
        json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": liar}, "spec": lie});
    cluster.apply(&named.to_string());
    space.apply(&format!(
        "{{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {{name: liar}}, spec: {{volumeName: {liar}, storageClassName: {},
          accessModes: {}, resources: {{requests: {{storage: 1Mi}}}}}}}}",
        lie["storageClassName"], lie["accessModes"]
    ));
    space.volume("liar");
    space.forced_pod("thief", "liar", "node-a", "echo stolen >/data/file");
    let event = space.event("thief", "rpc error");
    assert!(event.contains("holds it") || event.contains("can't be wider"), "{event}");
    assert_eq!(space.field("pod/second", ".status.phase"), "Pending");
    assert_eq!(space.exec("first", "cat /data/file").unwrap(), "mine");
    space.delete_pods("thief");
    space.k("delete pvc liar");
    cluster.k(&format!("delete pv {liar}"));
    // Whoever is next comes in when it is free.
    space.delete_pods("first --force --grace-period=0");
    assert_eq!(space.output("second"), "");
}

/// A kubelet that is killed comes back to pods that never noticed.
pub fn a_kubelet_that_restarts_keeps_its_pods_and_publishes_again(cluster: &Cluster) {
    let writer = Writer::start(cluster, "kubelet", "node-b");
    let node = cluster.node("node-b");
    node.run("touch /run/hold; pkill -KILL -f '[k]ube kubelet'; sleep 2; rm /run/hold");
    cluster.wait_for("the kubelet", || {
        cluster.try_k("get --raw /api/v1/nodes/node-b/proxy/healthz").is_ok_and(|said| said == "ok")
    });
    writer.goes_on();
    let space = cluster.space("kubelet-after");
    space.claim("data", "ReadWriteOnce");
    space.pod("after", "data", "node-b", "echo after >/data/file; cat /data/file");
    assert_eq!(space.output("after"), "after");
}

/// The driver's pods of the node service.
fn driver_pods(cluster: &Cluster) -> Vec<String> {
    let all = cluster.k("-n berth get pods -o name");
    let names = all.lines().filter_map(|name| name.strip_prefix("pod/"));
    names.filter(|name| name.starts_with(cluster.daemon_set())).map(String::from).collect()
}

/// kill -9, deletion, a rolling restart, the image of a next version: none of it is felt by a pod that writes.
pub fn a_driver_that_is_killed_deleted_and_replaced_disturbs_no_pod(cluster: &Cluster) {
    let writer = Writer::start(cluster, "restarts", "node-a");
    let node = cluster.node("node-a");

    node.run(&format!("pkill -KILL -f '^/berth {} '", cluster.driver()));
    writer.goes_on();
    cluster.wait_for_berth();

    for pod in driver_pods(cluster) {
        cluster.k(&format!("-n berth delete pod {pod} --timeout=120s"));
    }
    writer.goes_on();
    cluster.wait_for_berth();

    cluster.k(&format!("-n berth rollout restart daemonset/{}", cluster.daemon_set()));
    cluster.wait_for_berth();
    writer.goes_on();

    for node in &cluster.nodes {
        node.run("ctr -n k8s.io images tag --force localhost/berth:0.1.0 localhost/berth:next");
    }
    cluster.k(&format!("-n berth set image daemonset/{} berth=localhost/berth:next", cluster.daemon_set()));
    if cluster.kind == Kind::Nfs {
        cluster.k("-n berth set image deployment/berth-nfs-controller berth=localhost/berth:next");
    }
    cluster.wait_for_berth();
    writer.goes_on();

    // What the driver before has mounted, the next one knows: a second pod comes in, and both go.
    let space = &writer.space;
    space.pod("second", "data", "node-a", "tail -n 1 /data/numbers");
    space.output("second");
    space.delete_pods("second writer");
    let volume = space.volume("data");
    space.k("delete pvc data --timeout=120s");
    cluster.wait_for("the volume to be deleted", || cluster.try_k(&format!("get pv {volume}")).is_err());
    cluster.apply(&cluster.manifests());
    cluster.wait_for_berth();
}

/// What Berth wrote, its uninstalling leaves; a new installation has it again.
pub fn an_uninstalled_berth_leaves_the_data_and_a_new_one_finds_it(cluster: &Cluster) {
    let space = cluster.space("uninstall");
    space.claim("data", "ReadWriteOnce");
    space.pod("writer", "data", "node-a", "echo kept >/data/file; sync /data/file");
    space.output("writer");
    space.delete_pods("writer");
    space.wait_detached(&space.volume("data"));
    let mut objects = cluster.manifests();
    let _ = writeln!(objects);
    if let Err(said) = cluster.control.kubectl(&["delete", "-f", "-", "--timeout=120s"], &objects) {
        panic!("kubectl delete: {said}");
    }
    thread::sleep(Duration::from_secs(2));
    cluster.install();
    space.pod("reader", "data", "", "cat /data/file");
    assert_eq!(space.output("reader"), "kept");
}
