//! The control plane: etcd, kube-apiserver, kube-controller-manager and kube-scheduler in a network namespace of their own.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use crate::ground;

/// The control plane's address on the nodes' network. Nodes send it what is for no network of theirs.
pub const GATEWAY: &str = "10.99.0.254";

/// The address of the service `kubernetes`. The apiserver listens there itself, so that pods reach it without a kube-proxy.
const SERVICE: &str = "10.0.0.1";

/// Keys and certificates, made in the directory of the configuration.
const KEYS: &str = r"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -keyout ca.key -out ca.crt -subj /CN=tests
openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout api.key -out api.csr -subj /CN=kube-apiserver
openssl x509 -req -in api.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -out api.crt -extfile <(
    echo subjectAltName=IP:10.99.0.254,IP:10.0.0.1,IP:127.0.0.1,DNS:localhost,DNS:kubernetes.default.svc)
openssl base64 -A -in ca.crt -out ca.base64
openssl ecparam -name prime256v1 -genkey -noout -out accounts.key
";

/// A control plane; its processes end with it.
pub struct Control {
    /// Of the whole cluster: `config`, `log`, and what nodes have.
    pub top: PathBuf,
    /// The directory of the programs.
    pub programs: PathBuf,
    /// Its network namespace.
    pub network: String,
    processes: Mutex<Vec<(String, Child)>>,
}

/// Runs a script of `bash` that has to succeed.
#[track_caller]
pub fn bash(script: &str) -> String {
    let output = Command::new("bash").args(["-euc", script]).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "`{script}`: {}: {said}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

impl Control {
    /// Starts one for nodes of these names, and waits until it answers. `id` tells it from others of this machine.
    #[track_caller]
    pub fn start(top: &Path, programs: &Path, id: &str, nodes: &[&str]) -> Self {
        let network = id.to_string();
        for directory in ["config/images", "log/control"] {
            fs::create_dir_all(top.join(directory)).unwrap();
        }
        bash(&format!(
            "ip netns add {network}; ip -n {network} link set lo up; ip -n {network} addr add {SERVICE}/32 dev lo
            ip -n {network} link add br0 type bridge; ip -n {network} addr add {GATEWAY}/24 dev br0; ip -n {network} link set br0 up
            nsenter --net=/run/netns/{network} sysctl -q -w net.ipv4.ip_forward=1"
        ));
        bash(&format!("cd {}\n{KEYS}", top.join("config").display()));
        let control =
            Self { top: top.into(), programs: programs.into(), network, processes: Mutex::default() };
        control.boot(nodes);
        control
    }

    fn boot(&self, nodes: &[&str]) {
        let mut users = vec![
            ("admin", "admin".to_string(), "system:masters"),
            ("controllers", "system:kube-controller-manager".into(), ""),
            ("scheduler", "system:kube-scheduler".into(), ""),
        ];
        users.extend(nodes.iter().map(|node| (*node, format!("system:node:{node}"), "system:nodes")));
        let mut tokens = String::new();
        for (name, user, group) in &users {
            let token = token();
            let _ = writeln!(tokens, "{token},{user},{user},\"{group}\"");
            self.write_kubeconfig(name, &token, "default");
        }
        let config = self.config("");
        fs::write(self.config("tokens.csv"), tokens).unwrap();
        self.spawn("etcd", &format!(
            "etcd --data-dir {}/etcd --unsafe-no-fsync --listen-peer-urls http://127.0.0.1:2380 --log-level warn",
            self.top.display()
        ));
        self.spawn("apiserver", &format!(
            "kube-apiserver --etcd-servers=http://127.0.0.1:2379 --advertise-address={GATEWAY} --secure-port=443 \
             --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged \
             --service-cluster-ip-range=10.0.0.0/24 --client-ca-file={config}ca.crt --tls-cert-file={config}api.crt \
             --tls-private-key-file={config}api.key --service-account-issuer=https://kubernetes.default.svc \
             --service-account-key-file={config}accounts.key --service-account-signing-key-file={config}accounts.key \
             --token-auth-file={config}tokens.csv --kubelet-preferred-address-types=InternalIP"
        ));
        self.wait_for("the apiserver", Duration::from_secs(90), || {
            self.kubectl(&["get", "--raw", "/readyz"], "").is_ok()
        });
        // A node that crashed is known to be gone after 20 s, not 40: every trial of that waits for it.
        self.spawn("controllers", &format!(
            "kube-controller-manager --kubeconfig={config}controllers.kubeconfig --root-ca-file={config}ca.crt \
             --service-account-private-key-file={config}accounts.key --use-service-account-credentials \
             --leader-elect=false --bind-address=127.0.0.1 --node-monitor-grace-period=20s"
        ));
        self.spawn("scheduler", &format!(
            "kube-scheduler --kubeconfig={config}scheduler.kubeconfig --leader-elect=false --bind-address=127.0.0.1"
        ));
    }

    /// The path of a file of the configuration.
    pub fn config(&self, name: &str) -> String {
        format!("{}/config/{name}", self.top.display())
    }

    /// Writes what `kubectl` and the kubelet go by; its path.
    pub fn write_kubeconfig(&self, name: &str, token: &str, namespace: &str) -> String {
        let path = self.config(&format!("{name}.kubeconfig"));
        let cluster = serde_json::json!({
            "server": format!("https://{GATEWAY}:443"),
            "certificate-authority-data": fs::read_to_string(self.config("ca.base64")).unwrap(),
        });
        let config = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "tests",
            "clusters": [{"name": "tests", "cluster": cluster}],
            "users": [{"name": name, "user": {"token": token}}],
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": name, "namespace": namespace}}],
        });
        fs::write(&path, config.to_string()).unwrap();
        path
    }

    /// What the administrator has, with another namespace; its path.
    pub fn kubeconfig_in(&self, namespace: &str) -> String {
        let admin: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(self.config("admin.kubeconfig")).unwrap()).unwrap();
        let token = admin["users"][0]["user"]["token"].as_str().unwrap();
        self.write_kubeconfig(&format!("in-{namespace}"), token, namespace)
    }

    /// The words that run a command in the control plane's network.
    pub fn here(&self) -> Vec<String> {
        vec!["nsenter".into(), format!("--net=/run/netns/{}", self.network)]
    }

    /// Starts one of the programs in `kube`; its output is in `log/control`.
    fn spawn(&self, name: &str, command: &str) {
        let mut words = self.here();
        words.push(self.programs.join("kube").display().to_string());
        words.extend(command.split_whitespace().map(String::from));
        let log = File::create(self.top.join(format!("log/control/{name}.log"))).unwrap();
        let child = ground::launch(&words, Vec::new(), log).unwrap();
        self.processes.lock().unwrap().push((name.into(), child));
    }

    /// Runs `kubectl`: what it printed, or what it complained of.
    pub fn kubectl(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let here = self.here();
        let mut child = Command::new(&here[0])
            .args(&here[1..])
            .arg(self.programs.join("kubectl"))
            .arg("--kubeconfig")
            .arg(self.config("admin.kubeconfig"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A kubectl that fails early does not read it.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&stdout).into_owned();
        if status.success() { Ok(said) } else { Err(said + &String::from_utf8_lossy(&stderr)) }
    }

    /// Waits until something is so.
    #[track_caller]
    pub fn wait_for(&self, what: &str, limit: Duration, mut is_so: impl FnMut() -> bool) {
        let start = Instant::now();
        while !is_so() {
            self.check();
            assert!(start.elapsed() < limit, "waited {limit:?} for {what}");
            thread::sleep(Duration::from_millis(250));
        }
    }

    /// A program that ended is the end of the trial.
    #[track_caller]
    fn check(&self) {
        for (name, child) in self.processes.lock().unwrap().iter_mut() {
            if let Ok(Some(status)) = child.try_wait() {
                panic!("{name} of the control plane ended: {status}");
            }
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        for (_, child) in self.processes.get_mut().unwrap() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A secret that nobody else has.
fn token() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).unwrap();
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// In hexadecimal, as OCI's digests have it.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
