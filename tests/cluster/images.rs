//! The images of the cluster's pods, as archives that containerd imports: made here of Debian's programs and of our builds, since there is
//! no registry to pull from.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::{Value, json};

use crate::control::{bash, sha256};

const TYPE: &str = "application/vnd.oci.image";

/// The sidecars under the names that deploy/ has, and the programs that they are.
const SIDECARS: [(&str, &str); 3] = [
    ("registry.k8s.io/sig-storage/csi-provisioner:v6.3.0", "csi-provisioner"),
    ("registry.k8s.io/sig-storage/csi-attacher:v4.12.0", "csi-attacher"),
    ("registry.k8s.io/sig-storage/csi-resizer:v2.2.0", "csi-resizer"),
];

/// A directory that becomes an archive: its blobs, and the manifests of its images.
struct Layout<'a> {
    directory: &'a Path,
    manifests: Vec<Value>,
}

/// Writes the archives that every cluster has to `to`; what is there already stays.
#[track_caller]
pub fn make(programs: &Path, to: &Path, e2e: bool) {
    fs::create_dir_all(to).unwrap();
    let work = tempfile::tempdir_in(to).unwrap();
    let mut layout = Layout { directory: work.path(), manifests: Vec::new() };
    let base = layout.layer(busybox);
    let shell = json!({"Env": ["PATH=/bin"], "Cmd": ["/bin/sh"]});
    // Ends when it is told to, as the real one does.
    let pause = "trap exit TERM; while :; do sleep 2147483647 & wait; done";
    layout.image(
        &["localhost/pause:1", "registry.k8s.io/pause:3.10.2"],
        std::slice::from_ref(&base),
        &json!({"Cmd": ["/bin/sh", "-c", pause]}),
    );
    let names = [
        "docker.io/library/busybox:1.37",
        "registry.k8s.io/e2e-test-images/busybox:1.37.0-1",
        "registry.k8s.io/e2e-test-images/nginx:1.15-4",
        "registry.k8s.io/e2e-test-images/glibc-dns-testing:2.0.0",
    ];
    layout.image(&names, std::slice::from_ref(&base), &shell);
    for (name, program) in SIDECARS {
        let layer = layout.layer(|root| copy(&programs.join(program), &root.join(program)));
        layout.image(&[name], &[layer], &json!({"Entrypoint": [format!("/{program}")]}));
    }
    if e2e {
        let layer = layout.layer(|root| copy(&programs.join("agnhost"), &root.join("agnhost")));
        let config = json!({"Env": ["PATH=/bin"], "Entrypoint": ["/agnhost"], "Cmd": ["pause"]});
        layout.image(&["registry.k8s.io/e2e-test-images/agnhost:2.63.0"], &[base, layer], &config);
    }
    layout.archive(&to.join("pods.tar"));
}

/// Writes an image of Debian's PostgreSQL, laid out as the official one: its programs, its user, a shell, no entrypoint.
#[track_caller]
pub fn make_postgres(to: &Path) {
    let work = tempfile::tempdir_in(to).unwrap();
    let mut layout = Layout { directory: work.path(), manifests: Vec::new() };
    let base = layout.layer(busybox);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cluster/postgres.sh");
    let layer = layout.layer(|root| drop(bash(&format!("{script} {}", root.display()))));
    let config =
        json!({"Env": ["PATH=/usr/lib/postgresql/15/bin:/bin", "LANG=C.UTF-8"], "Cmd": ["postgres"]});
    layout.image(&["docker.io/library/postgres:15"], &[base, layer], &config);
    layout.archive(&to.join("postgres.tar"));
}

#[track_caller]
fn copy(from: &Path, to: &Path) {
    fs::copy(from, to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
}

/// A file system with Debian's static busybox and all of its names.
fn busybox(root: &Path) {
    for directory in
        ["bin", "etc", "proc", "sys", "dev", "home", "root", "var/run", "usr", "mnt", "tmp", "run"]
    {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    bash(&format!("chmod 1777 {}/tmp", root.display()));
    copy(Path::new("/usr/bin/busybox"), &root.join("bin/busybox"));
    for name in bash("/usr/bin/busybox --list").lines().filter(|name| *name != "busybox") {
        symlink("busybox", root.join("bin").join(name)).unwrap();
    }
    for (link, to) in [("usr/bin", "/bin"), ("sbin", "/bin")] {
        symlink(to, root.join(link)).unwrap();
    }
    let users = "root:x:0:0:root:/root:/bin/sh\npostgres:x:999:999:postgres:/tmp:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n";
    fs::write(root.join("etc/passwd"), users).unwrap();
    fs::write(root.join("etc/group"), "root:x:0:\npostgres:x:999:\nnogroup:x:65534:\n").unwrap();
}

impl Layout<'_> {
    /// A blob, as a descriptor.
    fn blob(&self, bytes: &[u8], kind: &str) -> Value {
        let digest = sha256(bytes);
        let blobs = self.directory.join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        fs::write(blobs.join(&digest), bytes).unwrap();
        json!({"mediaType": format!("{TYPE}.{kind}"), "digest": format!("sha256:{digest}"), "size": bytes.len()})
    }

    /// A layer of what `fill` puts into an empty directory.
    #[track_caller]
    fn layer(&mut self, fill: impl FnOnce(&Path)) -> Value {
        let root = tempfile::tempdir().unwrap();
        fill(root.path());
        let tar = self.directory.join("layer");
        bash(&format!(
            "tar --owner=0 --group=0 --numeric-owner --sort=name --mtime=@0 -C {} -cf {} .",
            root.path().display(),
            tar.display()
        ));
        let bytes = fs::read(&tar).unwrap();
        fs::remove_file(tar).unwrap();
        self.blob(&bytes, "layer.v1.tar")
    }

    /// An image under these names.
    fn image(&mut self, names: &[&str], layers: &[Value], config: &Value) {
        let digests: Vec<&Value> = layers.iter().map(|layer| &layer["digest"]).collect();
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let config = json!({
            "architecture": architecture, "os": "linux", "config": config,
            "rootfs": {"type": "layers", "diff_ids": digests},
        });
        let config = self.blob(config.to_string().as_bytes(), "config.v1+json");
        let manifest = json!({
            "schemaVersion": 2, "mediaType": format!("{TYPE}.manifest.v1+json"), "config": config, "layers": layers,
        });
        let manifest = self.blob(manifest.to_string().as_bytes(), "manifest.v1+json");
        for name in names {
            let mut named = manifest.clone();
            named["annotations"] = json!({"io.containerd.image.name": name});
            self.manifests.push(named);
        }
    }

    /// Writes all of it to one file, which appears complete.
    #[track_caller]
    fn archive(&self, to: &Path) {
        let write =
            |name: &str, value: &Value| fs::write(self.directory.join(name), value.to_string()).unwrap();
        write("oci-layout", &json!({"imageLayoutVersion": "1.0.0"}));
        write("index.json", &json!({"schemaVersion": 2, "manifests": self.manifests}));
        let whole = to.with_extension("new");
        bash(&format!(
            "tar -C {} -cf {} oci-layout index.json blobs",
            self.directory.display(),
            whole.display()
        ));
        fs::rename(whole, to).unwrap();
    }
}
