//! A driver on a root of its own, in a mount namespace of its own, and calls that read like sentences:
//!
//! ```text
//! let mut rig = Rig::new();
//! let id = rig.create(create("a").bytes(1 << 20)).id();
//! rig.publish(publish(&id, &rig.target("t"))).ok();
//! rig.create(create("a").bytes(2 << 20)).fails(Code::AlreadyExists, "capacity");
//! ```

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use berth::csi::ProbeRequest;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
pub use tonic::Code;

mod client;
mod disk;
mod requests;
mod strace;
mod table;
pub use client::*;
pub use disk::*;
pub use requests::*;
pub use strace::*;
pub use table::*;

/// A directory, a driver that serves it, and a client.
pub struct Rig {
    scratch: tempfile::TempDir,
    roots: Vec<String>,
    node_id: String,
    driver: Option<Child>,
    client: Option<Client>,
}

impl Rig {
    /// A driver `node-1` with one root, `main`, on a tmpfs of 64 MiB.
    pub fn new() -> Self {
        let mut rig = Self::without_driver();
        let root = rig.root();
        rig.mount_tmpfs(&root, "size=64m,mode=0755");
        rig.roots = vec![format!("main={}", root.display())];
        rig.start();
        // Whoever comes to a new root first lays it out: no test shall meet it half done.
        rig.list_ids(0);
        rig
    }

    /// A private mount namespace and empty directories; roots are up to the test.
    pub fn without_driver() -> Self {
        unshare(CloneFlags::CLONE_NEWNS)
            .expect("a mount namespace of its own: run as root, or with make check as an unprivileged user");
        sys_mount_private();
        let scratch = tempfile::Builder::new().prefix("berth-").tempdir().unwrap();
        for directory in ["root", "targets"] {
            fs::create_dir(scratch.path().join(directory)).unwrap();
        }
        Self { scratch, roots: Vec::new(), node_id: "node-1".into(), driver: None, client: None }
    }

    /// The directory that all of this test's files lie in.
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// The directory of the root `main`.
    pub fn root(&self) -> PathBuf {
        self.scratch().join("root")
    }

    /// The run directory, which a reboot would empty.
    pub fn run_dir(&self) -> PathBuf {
        self.scratch().join("run")
    }

    /// A target path; the directory above it exists.
    pub fn target(&self, name: &str) -> String {
        self.scratch().join("targets").join(name).display().to_string()
    }

    /// The values of `--root` from the next start on.
    pub fn set_roots(&mut self, roots: &[String]) {
        self.roots = roots.to_vec();
    }

    /// The value of `--node-id` from the next start on.
    pub fn set_node_id(&mut self, node_id: &str) {
        self.node_id = node_id.into();
    }

    /// Mounts a file system that lives in memory.
    pub fn mount_tmpfs(&self, at: &Path, options: &str) {
        sys_mount::Mount::builder().fstype("tmpfs").data(options).mount("berth-test", at).unwrap();
    }

    /// Binds a directory to another place.
    pub fn bind(&self, from: &Path, to: &Path) {
        sys_mount::Mount::builder()
            .fstype("none")
            .flags(sys_mount::MountFlags::BIND)
            .mount(from, to)
            .unwrap();
    }

    /// The command that starts the driver; `wrapper` may be empty.
    pub fn command(&self, wrapper: &[&str], socket: &str) -> Command {
        // The driver ends with the test's thread, however that ends.
        let ends_with_us = ["setpriv", "--pdeathsig", "KILL"];
        let mut words: Vec<String> =
            ends_with_us.iter().chain(wrapper).map(|word| word.to_string()).collect();
        words.extend([env!("CARGO_BIN_EXE_berth").to_string(), "local".into()]);
        let mut command = Command::new(&words[0]);
        let endpoint = format!("unix://{}", self.scratch().join(socket).display());
        command.args(&words[1..]).args(["--endpoint", &endpoint, "--node-id", &self.node_id]);
        command.args(["--run-dir", &self.run_dir().display().to_string(), "--log-level", "debug"]);
        for root in &self.roots {
            command.args(["--root", root]);
        }
        let log =
            fs::OpenOptions::new().create(true).append(true).open(self.scratch().join("driver.log")).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command
    }

    /// Starts the driver and waits until it answers.
    pub fn start(&mut self) {
        self.start_under(&[]);
    }

    /// Starts the driver under another program, such as strace, which then is what [`Rig::kill`] kills first.
    pub fn start_under(&mut self, wrapper: &[&str]) {
        let mut command = self.command(wrapper, "csi.sock");
        self.driver = Some(command.spawn().unwrap());
        self.client = None;
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.probe(ProbeRequest {}).result().is_err() {
            assert!(Instant::now() < deadline, "the driver did not start:\n{}", self.log());
            self.client = None;
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// SIGKILL, at this very moment.
    pub fn kill(&mut self) {
        if let Some(mut driver) = self.driver.take() {
            let _ = driver.kill();
            let _ = driver.wait();
        }
        self.client = None;
    }

    /// Whether the driver process still runs.
    pub fn runs(&mut self) -> bool {
        self.driver.as_mut().is_some_and(|driver| matches!(driver.try_wait(), Ok(None)))
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(&mut self) {
        if let Some(mut driver) = self.driver.take() {
            kill(Pid::from_raw(driver.id().cast_signed()), Signal::SIGTERM).unwrap();
            driver.wait().unwrap();
        }
        self.client = None;
    }

    /// kill -9 and a new process.
    pub fn restart(&mut self) {
        self.kill();
        self.start();
    }

    /// What a reboot does: the mounts are gone, the run directory is empty, the disks are as they were.
    pub fn reboot(&mut self) {
        self.kill();
        for mount in self.mounts_below(&self.scratch().join("targets")) {
            umount2(mount.at.as_str(), MntFlags::MNT_DETACH).unwrap();
        }
        let _ = fs::remove_dir_all(self.run_dir());
        self.start();
    }

    /// What the driver logged so far.
    pub fn log(&self) -> String {
        let mut text = String::new();
        let _ = fs::File::open(self.scratch().join("driver.log"))
            .and_then(|mut log| log.read_to_string(&mut text));
        text
    }

    /// A client of its own, for calls from another thread.
    pub fn client(&self) -> Client {
        Client::of(&self.scratch().join("csi.sock"))
    }

    /// A second driver process on the same roots and the same run directory.
    pub fn another_driver(&self) -> Another {
        Another::start(self.command(&[], "another.sock"), &self.scratch().join("another.sock"))
    }

    /// All mounts at a path, as the kernel tells; the one that hides the others last.
    pub fn mounts_at(&self, path: &str) -> Vec<Mount> {
        mounts().into_iter().filter(|mount| mount.at == path).collect()
    }

    fn mounts_below(&self, path: &Path) -> Vec<Mount> {
        let mut found: Vec<_> =
            mounts().into_iter().filter(|mount| Path::new(&mount.at).starts_with(path)).collect();
        found.reverse();
        found
    }

    /// The directories of data at the root, by name; Berth's own is left out.
    pub fn data(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.root())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != ".berth")
            .collect();
        names.sort();
        names
    }

    /// The data directory of the volume that was created as `name`.
    pub fn data_of(&self, name: &str) -> PathBuf {
        let found: Vec<_> =
            self.data().into_iter().filter(|entry| entry.starts_with(&format!("{name}."))).collect();
        assert_eq!(found.len(), 1, "the data of {name}: {found:?}");
        self.root().join(&found[0])
    }

    /// Waits until the room for deletions is kept.
    pub fn wait_for_reserve(&self) {
        let reserve = self.root().join(".berth/reserve");
        let deadline = Instant::now() + Duration::from_secs(20);
        while fs::read_dir(&reserve).map_or(0, Iterator::count) < 8 {
            assert!(Instant::now() < deadline, "the reserve is not laid:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until the trash is empty.
    pub fn wait_for_purge(&self) {
        let trash = self.root().join(".berth/trash");
        let deadline = Instant::now() + Duration::from_secs(20);
        while fs::read_dir(&trash).unwrap().next().is_some() {
            assert!(Instant::now() < deadline, "the trash is not emptied:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("the driver's log:\n{}", self.log());
        }
        // Before the scratch directory is removed: nothing may be deleted through a mount.
        for mount in self.mounts_below(self.scratch()) {
            match umount2(mount.at.as_str(), MntFlags::MNT_DETACH) {
                // EINVAL: it went with its peer.
                Ok(()) | Err(Errno::EINVAL) => {}
                Err(errno) => panic!("unmount {}: {errno}", mount.at),
            }
        }
    }
}

fn sys_mount_private() {
    let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    nix::mount::mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).unwrap();
}
