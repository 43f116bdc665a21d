//! A namespace of Kubernetes for one trial: claims and pods, and what becomes of them.

use std::thread;

use serde_json::{Value, json};

use crate::cluster::Cluster;

/// A namespace of Kubernetes, and the objects that most trials need.
pub struct Space<'a> {
    pub cluster: &'a Cluster,
    pub name: String,
}

impl Space<'_> {
    /// `kubectl` in this namespace.
    #[track_caller]
    pub fn k(&self, words: &str) -> String {
        self.cluster.k(&format!("-n {} {words}", self.name))
    }

    /// The same where it may fail.
    pub fn try_k(&self, words: &str) -> Result<String, String> {
        self.cluster.try_k(&format!("-n {} {words}", self.name))
    }

    /// Applies manifests in this namespace.
    #[track_caller]
    pub fn apply(&self, yaml: &str) {
        if let Err(said) = self.cluster.control.kubectl(&["-n", &self.name, "apply", "-f", "-"], yaml) {
            panic!("kubectl apply: {said}\n{yaml}");
        }
    }

    /// A claim of the driver's class; `mode` is one of Kubernetes' words.
    #[track_caller]
    pub fn claim(&self, name: &str, mode: &str) {
        self.claim_of(name, mode, &format!("berth-{}", self.cluster.driver()), "100Mi");
    }

    /// A claim of any class and size.
    #[track_caller]
    pub fn claim_of(&self, name: &str, mode: &str, class: &str, size: &str) {
        self.apply(&format!(
            "{{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {{name: {name}}}, spec: {{storageClassName: {class}, \
             accessModes: [{mode}], resources: {{requests: {{storage: {size}}}}}}}}}"
        ));
    }

    /// A pod that runs a script with the claim at /data, on a node (or wherever the scheduler puts it, where `node` is empty).
    #[track_caller]
    pub fn pod(&self, name: &str, claim: &str, node: &str, script: &str) {
        let place = json!({"kubernetes.io/hostname": node});
        self.pod_with(name, claim, script, if node.is_empty() { Value::Null } else { place }, "");
    }

    /// A pod that is put on a node without the scheduler's word.
    #[track_caller]
    pub fn forced_pod(&self, name: &str, claim: &str, node: &str, script: &str) {
        self.pod_with(name, claim, script, Value::Null, node);
    }

    fn pod_with(&self, name: &str, claim: &str, script: &str, selector: Value, node: &str) {
        // A crashed node's pods stay where they are until a trial says otherwise.
        let patience = ["unreachable", "not-ready"].map(|what| {
            json!({"key": format!("node.kubernetes.io/{what}"), "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 3600})
        });
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {
                "restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "tolerations": patience,
                "containers": [{
                    "name": "pod", "image": "busybox:1.37", "command": ["sh", "-c", script],
                    "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                }],
                "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}],
            },
        });
        if !selector.is_null() {
            pod["spec"]["nodeSelector"] = selector;
        }
        if !node.is_empty() {
            pod["spec"]["nodeName"] = node.into();
        }
        self.apply(&pod.to_string());
    }

    /// A field of an object, by JSONPath.
    pub fn field(&self, object: &str, path: &str) -> String {
        self.try_k(&format!("get {object} -o jsonpath={{{path}}}")).unwrap_or_default()
    }

    /// Waits until a pod runs.
    #[track_caller]
    pub fn wait_running(&self, pod: &str) {
        self.wait_phase(pod, &["Running"]);
    }

    /// Waits until a pod has done its work; what it wrote, without the blanks around it.
    #[track_caller]
    pub fn output(&self, pod: &str) -> String {
        self.wait_phase(pod, &["Succeeded"]);
        self.k(&format!("logs {pod}"))
    }

    /// Waits until a pod is in one of these phases; a pod that ended in another is not waited for.
    #[track_caller]
    pub fn wait_phase(&self, pod: &str, phases: &[&str]) {
        self.cluster.wait_for(&format!("pod {pod} to be {}", phases.join(" or ")), || {
            let phase = self.field(&format!("pod/{pod}"), ".status.phase");
            let is_over = ["Succeeded", "Failed"].contains(&phase.as_str());
            assert!(
                !is_over || phases.contains(&phase.as_str()),
                "pod {pod}: {phase}: {}",
                self.try_k(&format!("logs {pod}")).unwrap_or_default()
            );
            phases.contains(&phase.as_str())
        });
    }

    /// Runs a script in a running pod: its output, or what went wrong.
    pub fn exec(&self, pod: &str, script: &str) -> Result<String, String> {
        let words = ["-n", &self.name, "exec", pod, "--", "sh", "-c", script];
        self.cluster.control.kubectl(&words, "").map(|said| said.trim().into())
    }

    /// Waits for an event about an object whose text has these words; the event.
    #[track_caller]
    pub fn event(&self, object: &str, words: &str) -> String {
        let mut found = None;
        self.cluster.wait_for(&format!("an event of {object} with `{words}`"), || {
            found = self.events(object).into_iter().find(|event| event.contains(words));
            found.is_some()
        });
        found.unwrap()
    }

    /// All events about an object: reason and text.
    pub fn events(&self, object: &str) -> Vec<String> {
        let said = self.try_k("get events -o json").unwrap_or_default();
        let events: Value = serde_json::from_str(&said).unwrap_or_default();
        let of = |event: &&Value| event["involvedObject"]["name"] == object;
        let text = |event: &Value| {
            let word = |key: &str| event[key].as_str().unwrap_or_default().to_string();
            format!("{}: {}", word("reason"), word("message"))
        };
        events["items"].as_array().into_iter().flatten().filter(of).map(text).collect()
    }

    /// Deletes pods and waits until they are gone.
    #[track_caller]
    pub fn delete_pods(&self, pods: &str) {
        self.k(&format!("delete pod {pods} --timeout=300s"));
    }

    /// The volume of a claim: its PersistentVolume's name.
    #[track_caller]
    pub fn volume(&self, claim: &str) -> String {
        let mut name = String::new();
        self.cluster.wait_for(&format!("claim {claim} to be bound"), || {
            let phase = self.field(&format!("pvc/{claim}"), ".status.phase");
            name = self.field(&format!("pvc/{claim}"), ".spec.volumeName");
            phase == "Bound"
        });
        name
    }

    /// Waits until nobody has a volume attached.
    #[track_caller]
    pub fn wait_detached(&self, volume: &str) {
        self.cluster.wait_for(&format!("{volume} to be detached"), || {
            self.cluster.try_k("get volumeattachments").is_ok_and(|all| !all.contains(volume))
        });
    }
}

impl Drop for Space<'_> {
    fn drop(&mut self) {
        // What failed is looked at first; the cluster's end ends it all.
        if !thread::panicking() {
            let _ = self.cluster.try_k(&format!("delete namespace {} --wait=false", self.name));
        }
    }
}
