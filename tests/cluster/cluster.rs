//! A cluster: a control plane, two nodes, Berth as deploy/ installs it, and what a trial asks of them.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::control::{Control, bash};
use crate::fleet::Fleet;
use crate::host::Spec;
use crate::node::{self, Namespaces, Node};
use crate::space::Space;
use crate::{ground, runner, server, tap};

/// What a trial waits for anything, unless it says otherwise.
pub const LIMIT: Duration = Duration::from_secs(300);

/// The top of the repository.
pub const TOP: &str = env!("CARGO_MANIFEST_DIR");

/// How control groups and networks of the tests are called; a harness's number follows.
const PREFIX: &str = "berth-cluster-";

/// The NFS server, 10.99.0.1. It exports `/srv/nfs/main`.
const SERVER: Spec = Spec { name: "srv", number: 1, memory: 192, disks: &[4096], at_boot: server::start };

/// The root of the NFS driver.
pub const SHARE: &str = "10.99.0.1:/srv/nfs/main";

/// Which nodes a cluster has, and which of the drivers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nodes `node-a` and `node-b` are namespaces of this machine; `berth local`.
    Local,
    /// They are hosts with kernels of their own beside an NFS server; `berth nfs`.
    Nfs,
}

/// A cluster. All of it ends when it is dropped.
pub struct Cluster {
    pub kind: Kind,
    pub control: Control,
    pub nodes: Vec<Node>,
    // After the nodes, which are of its hosts.
    fleet: Option<Fleet>,
    spaces: AtomicU64,
    _directory: tempfile::TempDir,
}

/// The programs that `tests/cluster/programs/build` made.
pub fn programs() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    Path::new(TOP).join(target).join("programs")
}

/// The images for a cluster's nodes, made by [`crate::prepare`].
pub fn images() -> PathBuf {
    Path::new(ground::GROUND).join("images")
}

impl Cluster {
    /// A cluster whose nodes are ready; Berth is not there yet.
    #[track_caller]
    pub fn bare(kind: Kind, images: &[&str]) -> Self {
        static CLUSTERS: AtomicU64 = AtomicU64::new(0);
        let id = format!("{PREFIX}{}-{}", std::process::id(), CLUSTERS.fetch_add(1, Ordering::Relaxed));
        let directory = tempfile::tempdir_in(ground::GROUND).unwrap();
        let fleet = (kind == Kind::Nfs)
            .then(|| Fleet::new(&[SERVER, node::host("node-a", 30), node::host("node-b", 31)]));
        // Hosts see one directory only, so the cluster's lies in there.
        let top =
            fleet.as_ref().map_or(directory.path().to_path_buf(), |fleet| fleet.directory().join("share"));
        let programs = programs()
            .canonicalize()
            .unwrap_or_else(|error| panic!("{}: {error}; `make programs` builds them", programs().display()));
        let control = Control::start(&top, &programs, &id, &["node-a", "node-b"]);
        for script in ["node.sh", "namespaces.sh"] {
            fs::copy(Path::new(TOP).join("tests/cluster").join(script), control.config(script)).unwrap();
        }
        for image in images {
            let archive = format!("{image}.tar");
            fs::hard_link(self::images().join(&archive), control.config(&format!("images/{archive}")))
                .unwrap();
        }
        let nodes = match &fleet {
            None => [("node-a", 10), ("node-b", 11)]
                .map(|(name, number)| Node::Namespaces(Namespaces::start(&control, name, number)))
                .into(),
            Some(fleet) => {
                tap::join(fleet.switch(), &control.network);
                let seen = fleet.directory().join("share/programs");
                fs::create_dir(&seen).unwrap();
                bash(&format!("mount --bind {} {}", programs.display(), seen.display()));
                fleet.revive();
                server::export(fleet.host("srv"), "/srv/nfs/main", "10.99.0.0/24", "");
                let hosts = ["node-a", "node-b"].map(|name| fleet.host(name).clone());
                hosts.iter().for_each(|host| node::start_on(host, &control));
                hosts.map(Node::Host).into()
            }
        };
        let cluster = Self { kind, control, nodes, fleet, spaces: AtomicU64::new(0), _directory: directory };
        cluster.or_say_all(Self::wait_until_ready);
        cluster
    }

    /// Does something without which there is no cluster; where it fails, everybody's words are in the panic.
    #[track_caller]
    pub fn or_say_all(&self, what: impl FnOnce(&Self)) {
        if let Err(why) = runner::caught(|| what(self)) {
            panic!("{why}\n{}", self.logs());
        }
    }

    /// A cluster with Berth, installed from deploy/kubernetes, and its registration seen by both kubelets.
    #[track_caller]
    pub fn new(kind: Kind, images: &[&str]) -> Self {
        let cluster = Self::bare(kind, &[&["pods", "berth"], images].concat());
        cluster.or_say_all(Self::install);
        cluster
    }

    /// Installs Berth as a user does.
    #[track_caller]
    pub fn install(&self) {
        self.apply(&self.manifests());
        self.wait_for_berth();
    }

    /// The plain manifests, with the server that is here.
    #[track_caller]
    pub fn manifests(&self) -> String {
        let folder = Path::new(TOP).join("deploy/kubernetes").join(self.driver());
        let mut files: Vec<PathBuf> =
            fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
        files.sort();
        let texts: Vec<String> = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
        texts.join("\n---\n").replace("nas.example.com:/export/k8s", SHARE)
    }

    /// `local` or `nfs`.
    pub fn driver(&self) -> &'static str {
        if self.kind == Kind::Local { "local" } else { "nfs" }
    }

    /// The driver's DaemonSet.
    pub fn daemon_set(&self) -> &'static str {
        if self.kind == Kind::Local { "berth-local" } else { "berth-nfs-node" }
    }

    /// Waits until Berth's pods run and the kubelets know the driver.
    #[track_caller]
    pub fn wait_for_berth(&self) {
        self.k(&format!("-n berth rollout status daemonset/{} --timeout=300s", self.daemon_set()));
        if self.kind == Kind::Nfs {
            self.k("-n berth rollout status deployment/berth-nfs-controller --timeout=300s");
        }
        for node in &self.nodes {
            self.wait_for(&format!("the driver on {}", node.name()), || {
                let query = format!("get csinode {} -o jsonpath={{.spec.drivers[*].name}}", node.name());
                self.try_k(&query).is_ok_and(|names| names.contains(".berth.dev"))
            });
        }
    }

    /// Waits until every node is ready, and pods can be made.
    #[track_caller]
    pub fn wait_until_ready(&self) {
        for node in &self.nodes {
            let query = format!(
                "get node {} -o jsonpath={{.status.conditions[?(@.type==\"Ready\")].status}}",
                node.name()
            );
            self.wait_for(&format!("{} to be ready", node.name()), || {
                self.try_k(&query).is_ok_and(|status| status == "True")
            });
        }
        self.wait_for("the default account", || self.try_k("get serviceaccount default").is_ok());
    }

    /// Boots what does not run and heals what is cut; all nodes are ready then.
    #[track_caller]
    pub fn revive(&self) {
        if let Some(fleet) = &self.fleet {
            let dead: Vec<_> = fleet.hosts().iter().filter(|host| !host.runs()).cloned().collect();
            fleet.revive();
            for host in dead.iter().filter(|host| host.name() != "srv") {
                node::start_on(host, &self.control);
            }
        }
        for node in &self.nodes {
            node.run("rm -f /run/hold");
        }
        self.wait_until_ready();
    }

    /// The node of this name.
    #[track_caller]
    pub fn node(&self, name: &str) -> &Node {
        self.nodes.iter().find(|node| node.name() == name).unwrap_or_else(|| panic!("no node {name}"))
    }

    /// The NFS server.
    #[track_caller]
    pub fn server(&self) -> &std::sync::Arc<crate::host::Host> {
        self.fleet.as_ref().expect("this cluster has no NFS server").host("srv")
    }

    /// Runs `kubectl` with these words, separated by blanks.
    pub fn try_k(&self, words: &str) -> Result<String, String> {
        self.control.kubectl(&words.split_whitespace().collect::<Vec<_>>(), "")
    }

    /// The same where it has to succeed; what it printed, without the blanks around it.
    #[track_caller]
    pub fn k(&self, words: &str) -> String {
        match self.try_k(words) {
            Ok(said) => said.trim().into(),
            Err(said) => panic!("kubectl {words}: {said}"),
        }
    }

    /// Objects as JSON: `get("pv").` of all namespaces where they have one.
    #[track_caller]
    pub fn get(&self, words: &str) -> Value {
        let said = self.k(&format!("get {words} -o json"));
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("kubectl get {words}: {error}"))
    }

    /// Applies manifests.
    #[track_caller]
    pub fn apply(&self, yaml: &str) {
        if let Err(said) = self.control.kubectl(&["apply", "-f", "-"], yaml) {
            panic!("kubectl apply: {said}\n{yaml}");
        }
    }

    /// Waits until something is so.
    #[track_caller]
    pub fn wait_for(&self, what: &str, is_so: impl FnMut() -> bool) {
        self.control.wait_for(what, LIMIT, is_so);
    }

    /// A namespace for a trial.
    #[track_caller]
    pub fn space(&self, name: &str) -> Space<'_> {
        let name = format!("{name}-{}", self.spaces.fetch_add(1, Ordering::Relaxed));
        self.k(&format!("create namespace {name}"));
        self.wait_for("its account", || self.try_k(&format!("-n {name} get serviceaccount default")).is_ok());
        Space { cluster: self, name }
    }

    /// What a user's shell has: `kubectl` in the PATH, and the namespace that its words go to.
    pub fn environment(&self, namespace: &str) -> Vec<(String, String)> {
        let path = std::env::var("PATH").unwrap_or_default();
        vec![
            ("PATH".into(), format!("{}:{path}", self.control.programs.display())),
            ("KUBECONFIG".into(), self.control.kubeconfig_in(namespace)),
        ]
    }

    /// Runs something in the control plane's network, where the apiserver is reached.
    pub fn within(&self, words: &[&str]) -> Command {
        let here = self.control.here();
        let mut command = Command::new(&here[0]);
        command.args(&here[1..]).args(words);
        command
    }

    /// What there is, and what everybody said: for a trial that failed.
    pub fn logs(&self) -> String {
        let mut text = String::new();
        let mut show = |what: &str, words: &str, lines: usize| {
            let said = self.try_k(words).unwrap_or_else(|said| said);
            let all: Vec<&str> = said.lines().collect();
            let _ = writeln!(text, "--- {what}");
            for line in &all[all.len().saturating_sub(lines)..] {
                let _ = writeln!(text, "  {line}");
            }
        };
        show(
            "objects",
            "get nodes,pods,persistentvolumeclaims,persistentvolumes,volumeattachments -A -o wide",
            60,
        );
        show("events", "get events -A --sort-by=.lastTimestamp", 60);
        let pods = self.try_k("-n berth get pods -o name").unwrap_or_default();
        for pod in pods.lines() {
            show(pod, &format!("-n berth logs {pod} --all-containers --prefix --tail=60"), 180);
            show(
                &format!("{pod}, before"),
                &format!("-n berth logs {pod} --all-containers --prefix --tail=20 --previous"),
                30,
            );
        }
        let failed =
            self.try_k("get pods -A --field-selector=status.phase=Failed --no-headers").unwrap_or_default();
        for line in failed.lines() {
            let mut words = line.split_whitespace();
            if let (Some(namespace), Some(pod)) = (words.next(), words.next()) {
                show(pod, &format!("-n {namespace} logs {pod} --tail=20"), 20);
            }
        }
        for node in &self.nodes {
            let log = self.control.top.join(if self.fleet.is_some() { "" } else { "log" }).join(node.name());
            let said = bash(&format!(
                "cd {}; tail -n 5 start.log images.log containerd.log; grep -E 'berth|MountVolume|E[0-9]{{4}}' kubelet.log | tail -n 25 || true",
                log.display()
            ));
            let _ = writeln!(text, "--- {}\n{said}", node.name());
        }
        if let Some(fleet) = &self.fleet {
            let console = bash(&format!("tail -n 5 {}/*/console", fleet.directory().display()));
            let _ = writeln!(text, "--- consoles\n{console}");
        }
        text
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Their files are of the directory that goes with the fleet.
        if let Some(fleet) = &self.fleet {
            let _ =
                bash(&format!("umount -l {} || true", fleet.directory().join("share/programs").display()));
        }
    }
}

/// Removes what harnesses that were killed have left.
pub fn sweep() {
    node::sweep(PREFIX);
}
