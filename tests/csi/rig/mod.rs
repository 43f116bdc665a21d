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

use berth::csi::controller_client::ControllerClient;
use berth::csi::identity_client::IdentityClient;
use berth::csi::node_client::NodeClient;
use berth::csi::*;
use nix::mount::{MntFlags, MsFlags, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tonic::transport::{Channel, Endpoint};
pub use tonic::{Code, Status};

mod requests;
pub use requests::*;

/// A directory, a driver that serves it, and a client.
pub struct Rig {
    scratch: tempfile::TempDir,
    roots: Vec<String>,
    node_id: String,
    driver: Option<Child>,
    runtime: tokio::runtime::Runtime,
    channel: Option<Channel>,
}

/// An answer, waiting to be judged.
pub struct Answer<T> {
    rpc: &'static str,
    result: Result<T, Status>,
}

impl<T: std::fmt::Debug> Answer<T> {
    /// It has to be OK.
    #[track_caller]
    pub fn ok(self) -> T {
        match self.result {
            Ok(answer) => answer,
            Err(status) => panic!("{} failed: {:?}: {}", self.rpc, status.code(), status.message()),
        }
    }

    /// It has to fail with this code and a message that has these words.
    #[track_caller]
    pub fn fails(self, code: Code, words: &str) -> String {
        match self.result {
            Ok(answer) => panic!("{} was to fail with {code:?} ({words}) and answered {answer:?}", self.rpc),
            Err(status) => {
                assert_eq!(status.code(), code, "{}: {}", self.rpc, status.message());
                assert!(status.message().contains(words), "{words:?} is not in {:?}", status.message());
                status.message().to_string()
            }
        }
    }

    /// Either way.
    pub fn result(self) -> Result<T, Status> {
        self.result
    }
}

impl Answer<CreateVolumeResponse> {
    /// The id of the volume, which has to have been created.
    #[track_caller]
    pub fn id(self) -> String {
        self.ok().volume.expect("CreateVolume answers with a volume").volume_id
    }
}

/// Each RPC as a method: `rig.create(request)` gives an [`Answer`].
macro_rules! calls {
    ($($name:ident, $client:ident, $rpc:ident, $request:ty, $response:ty;)*) => {
        impl Rig {
            $(pub fn $name(&mut self, request: $request) -> Answer<$response> {
                let channel = self.channel();
                let result = self.runtime.block_on(async { $client::new(channel).$rpc(request).await });
                Answer { rpc: stringify!($rpc), result: result.map(tonic::Response::into_inner) }
            })*
        }
    };
}

calls! {
    create, ControllerClient, create_volume, CreateVolumeRequest, CreateVolumeResponse;
    delete_volume, ControllerClient, delete_volume, DeleteVolumeRequest, DeleteVolumeResponse;
    validate, ControllerClient, validate_volume_capabilities, ValidateVolumeCapabilitiesRequest, ValidateVolumeCapabilitiesResponse;
    list, ControllerClient, list_volumes, ListVolumesRequest, ListVolumesResponse;
    get_volume, ControllerClient, controller_get_volume, ControllerGetVolumeRequest, ControllerGetVolumeResponse;
    capacity, ControllerClient, get_capacity, GetCapacityRequest, GetCapacityResponse;
    publish, NodeClient, node_publish_volume, NodePublishVolumeRequest, NodePublishVolumeResponse;
    unpublish_volume, NodeClient, node_unpublish_volume, NodeUnpublishVolumeRequest, NodeUnpublishVolumeResponse;
    stats, NodeClient, node_get_volume_stats, NodeGetVolumeStatsRequest, NodeGetVolumeStatsResponse;
    expand, NodeClient, node_expand_volume, NodeExpandVolumeRequest, NodeExpandVolumeResponse;
    node_info, NodeClient, node_get_info, NodeGetInfoRequest, NodeGetInfoResponse;
    probe, IdentityClient, probe, ProbeRequest, ProbeResponse;
}

impl Rig {
    /// A driver `node-1` with one root, `main`, on a tmpfs of 64 MiB.
    pub fn new() -> Self {
        let mut rig = Self::without_driver();
        let root = rig.root();
        rig.mount_tmpfs(&root, "size=64m,mode=0755");
        rig.roots = vec![format!("main={}", root.display())];
        rig.start();
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
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { scratch, roots: Vec::new(), node_id: "node-1".into(), driver: None, runtime, channel: None }
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
        self.channel = None;
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.probe(ProbeRequest {}).result.is_err() {
            assert!(Instant::now() < deadline, "the driver did not start:\n{}", self.log());
            self.channel = None;
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// SIGKILL, at this very moment.
    pub fn kill(&mut self) {
        if let Some(mut driver) = self.driver.take() {
            let _ = driver.kill();
            let _ = driver.wait();
        }
        self.channel = None;
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
        self.channel = None;
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

    /// A connection of its own, for calls from other threads.
    pub fn connect(&self) -> Channel {
        let endpoint = format!("unix://{}", self.scratch().join("csi.sock").display());
        Endpoint::from_shared(endpoint).unwrap().connect_lazy()
    }

    fn channel(&mut self) -> Channel {
        if self.channel.is_none() {
            let _in_runtime = self.runtime.enter();
            self.channel = Some(self.connect());
        }
        self.channel.clone().unwrap()
    }

    /// DeleteVolume by id alone.
    pub fn delete(&mut self, id: &str) -> Answer<DeleteVolumeResponse> {
        self.delete_volume(DeleteVolumeRequest { volume_id: id.into(), ..Default::default() })
    }

    /// NodeUnpublishVolume by id and target.
    pub fn unpublish(&mut self, id: &str, target: &str) -> Answer<NodeUnpublishVolumeResponse> {
        self.unpublish_volume(NodeUnpublishVolumeRequest { volume_id: id.into(), target_path: target.into() })
    }

    /// The ids of all volumes, page by page.
    pub fn list_ids(&mut self, page: i32) -> Vec<String> {
        let (mut ids, mut token) = (Vec::new(), String::new());
        loop {
            let answer = self.list(ListVolumesRequest { max_entries: page, starting_token: token }).ok();
            ids.extend(answer.entries.into_iter().map(|entry| entry.volume.unwrap().volume_id));
            token = answer.next_token;
            if token.is_empty() {
                return ids;
            }
        }
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
            umount2(mount.at.as_str(), MntFlags::MNT_DETACH).unwrap();
        }
    }
}

/// A line of the mount table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Which directory of its file system is mounted.
    pub root: String,
    /// Where.
    pub at: String,
    /// The options of the mount.
    pub options: Vec<String>,
}

fn mounts() -> Vec<Mount> {
    let table = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    let parse = |line: &str| {
        let fields: Vec<_> = line.split(' ').collect();
        let text = |field: &str| field.replace("\\040", " ");
        let options = fields[5].split(',').map(str::to_string).collect();
        Mount { root: text(fields[3]), at: text(fields[4]), options }
    };
    table.lines().map(parse).collect()
}

fn sys_mount_private() {
    let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    nix::mount::mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).unwrap();
}
