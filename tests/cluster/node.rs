//! A node: namespaces of this machine, which are up in seconds, or a host with a kernel of its own, which can mount NFS, crash and
//! be cut off.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use crate::control::{Control, GATEWAY, bash};
use crate::ground;
use crate::host::{Host, Spec};

/// What a command on a node may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Where a host finds the programs.
pub const PROGRAMS: &str = "/share/programs";

/// A node of the cluster.
pub enum Node {
    Namespaces(Namespaces),
    Host(Arc<Host>),
}

impl Node {
    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::Namespaces(node) => &node.name,
            Self::Host(host) => host.name(),
        }
    }

    /// Runs a script of `sh` as root on the node: its exit code, and what it wrote.
    #[track_caller]
    pub fn attempt(&self, script: &str) -> (i32, String) {
        match self {
            Self::Namespaces(node) => node.attempt(script),
            Self::Host(host) => match host.attempt(script, LIMIT) {
                Ok(output) => (output.code, output.text),
                Err(text) => (-1, text),
            },
        }
    }

    /// The same for a script that has to succeed; what it wrote, without the blanks around it.
    #[track_caller]
    pub fn run(&self, script: &str) -> String {
        let (code, text) = self.attempt(script);
        assert_eq!(code, 0, "{}: `{script}` wrote:\n{text}", self.name());
        text.trim().into()
    }

    /// Whether a script succeeds.
    #[track_caller]
    pub fn can(&self, script: &str) -> bool {
        self.attempt(script).0 == 0
    }

    /// The host that it is; a trial of crashes has no other nodes.
    #[track_caller]
    pub fn host(&self) -> &Arc<Host> {
        match self {
            Self::Host(host) => host,
            Self::Namespaces(node) => panic!("{} has no kernel of its own", node.name),
        }
    }
}

/// A node without a kernel of its own.
pub struct Namespaces {
    name: String,
    network: String,
    process: Child,
    /// Its directories in the machine's hierarchies of control groups (version 1).
    groups: Vec<String>,
}

impl Namespaces {
    /// Starts the node with the last part of its address, 10.99.0.N.
    #[track_caller]
    pub fn start(control: &Control, name: &str, number: u8) -> Self {
        let Control { network: outside, top, programs, .. } = control;
        let (network, own) = (format!("{outside}-{name}"), top.join(name));
        let log = top.join("log").join(name);
        for directory in [&own, &log] {
            fs::create_dir_all(directory).unwrap();
        }
        bash(&format!(
            "ip netns add {network}
            ip link add v{number} netns {outside} type veth peer name eth0 netns {network}
            ip -n {outside} link set v{number} master br0 up
            ip -n {network} link set lo up
            ip -n {network} addr add 10.99.0.{number}/24 dev eth0
            ip -n {network} link set eth0 up
            ip -n {network} route add default via {GATEWAY}
            ip -n {outside} route add 10.88.{number}.0/24 via 10.99.0.{number}"
        ));
        let groups = groups(&network);
        // Not `ip netns exec`, which mounts a /sys without control groups.
        let words = [
            "nsenter",
            &format!("--net=/run/netns/{network}"),
            "unshare",
            "--mount",
            "--uts",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "env",
            &format!("NAME={name}"),
            &format!("IP=10.99.0.{number}"),
            &format!("PODS=10.88.{number}.0/24"),
            &format!("PROGRAMS={}", programs.display()),
            &format!("OWN={}", own.display()),
            &format!("TOP={}", top.display()),
            &format!("CGROUP_ROOT=/{network}"),
            "sh",
            &format!("{}/config/namespaces.sh", top.display()),
        ];
        let output = File::create(log.join("start.log")).unwrap();
        let process = ground::launch(&words.map(String::from), Vec::new(), output).unwrap();
        Self { name: name.into(), network, process, groups }
    }

    /// What runs a command in all of its namespaces: those of the first process, which `unshare` started.
    fn inside(&self) -> Command {
        let unshare = self.process.id();
        let children = fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children"));
        let first = children.unwrap_or_default();
        let first = first.split_whitespace().next().unwrap_or("0").to_string();
        let mut command = Command::new("nsenter");
        command.args(["-t", &first, "-m", "-u", "-p", "-n"]).stdin(Stdio::null());
        command
    }

    fn attempt(&self, script: &str) -> (i32, String) {
        let limit = LIMIT.as_secs().to_string();
        let words = ["timeout", "-s", "KILL", &limit, "sh", "-c", &format!("exec 2>&1; {script}")];
        let output = self.inside().args(words).output().unwrap();
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text += &String::from_utf8_lossy(&output.stderr);
        (output.status.code().unwrap_or(-1), text)
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = Command::new("ip").args(["netns", "del", &self.network]).status();
        self.groups.iter().for_each(|group| remove_group(group));
    }
}

/// A directory in each hierarchy of control groups, so that kubelets of one kernel don't meet.
#[track_caller]
fn groups(name: &str) -> Vec<String> {
    let mut made = Vec::new();
    for entry in fs::read_dir("/sys/fs/cgroup").unwrap().map(Result::unwrap) {
        let hierarchy = entry.path();
        if !entry.file_type().unwrap().is_dir() || hierarchy.ends_with("unified") {
            continue;
        }
        let group = hierarchy.join(name);
        fs::create_dir_all(&group).unwrap();
        if hierarchy.ends_with("cpuset") {
            for file in ["cpuset.cpus", "cpuset.mems"] {
                fs::write(group.join(file), fs::read(hierarchy.join(file)).unwrap()).unwrap();
            }
        }
        made.push(group.display().to_string());
    }
    made
}

/// Removes a control group with those below it, once nobody is in there.
fn remove_group(group: &str) {
    let remove = "for try in $(seq 50); do find \"$0\" -depth -type d -exec rmdir {} + 2>/dev/null; [ -d \"$0\" ] || exit 0; sleep 0.1; done";
    let _ = Command::new("sh").args(["-c", remove, group]).status();
}

/// Removes what a harness that was killed has left: its control groups. All else went with it.
pub fn sweep(prefix: &str) {
    let Ok(hierarchies) = fs::read_dir("/sys/fs/cgroup") else { return };
    for hierarchy in hierarchies.flatten() {
        for entry in fs::read_dir(hierarchy.path()).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(rest) = name.strip_prefix(prefix) else { continue };
            let harness = rest.split('-').next().unwrap_or_default();
            if !fs::exists(format!("/proc/{harness}")).unwrap_or(true) {
                remove_group(&entry.path().display().to_string());
            }
        }
    }
}

/// A node with a kernel of its own: 10.99.0.N, a disk for its containers.
pub const fn host(name: &'static str, number: u8) -> Spec {
    Spec { name, number, memory: 1280, disks: &[6144], at_boot: nothing }
}

fn nothing(_: &Host) {}

/// Makes a node of a host that has booted, or booted again.
#[track_caller]
pub fn start_on(host: &Arc<Host>, control: &Control) {
    let address = host.address();
    let number = address.rsplit('.').next().unwrap();
    let (name, network) = (host.name(), &control.network);
    bash(&format!("ip -n {network} route replace 10.88.{number}.0/24 via {address}"));
    crate::server::mount_disk(host, "xfs", "/dev/ubda", "/disk");
    host.run(&format!(
        "ip route add default via {GATEWAY}
        for directory in /var/lib/containerd /var/lib/kubelet /var/lib/berth; do
            mkdir -p /disk$directory $directory && mount --bind /disk$directory $directory || exit 1
        done
        mkdir -p /var/log /opt/cni
        for module in overlay bridge veth; do modprobe -d /var/modules $module || exit 1; done"
    ));
    host.start(
        &format!(
            "env NAME={name} IP={address} PODS=10.88.{number}.0/24 PROGRAMS={PROGRAMS} CONFIG=/share/config LOG=/share/{name} \
             setsid sh /share/config/node.sh"
        ),
        "start",
    );
}
