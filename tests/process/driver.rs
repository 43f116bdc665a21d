//! A scratch directory, the command line of a driver in it, and the process.

use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use berth::csi::identity_client::IdentityClient;
use berth::csi::{CreateVolumeRequest, ProbeRequest, VolumeCapability, volume_capability as capability};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

/// What a driver may read from its environment; tests start without any of it.
pub const ENVIRONMENT: [&str; 11] = [
    "CSI_ENDPOINT",
    "BERTH_DRIVER_NAME",
    "BERTH_KUBELET_REGISTRATION_PATH",
    "BERTH_KUBELET_REGISTRY",
    "BERTH_LOG_FORMAT",
    "BERTH_LOG_LEVEL",
    "BERTH_MAX_VOLUMES",
    "BERTH_NODE_ID",
    "BERTH_ROOTS",
    "BERTH_RUN_DIR",
    "BERTH_SERVICES",
];

/// A directory of a test's own. In it: `root`, and what a driver makes.
pub struct Scratch(TempDir);

impl Scratch {
    pub fn new() -> Self {
        let scratch = tempfile::Builder::new().prefix("berth-").tempdir().unwrap();
        fs::create_dir(scratch.path().join("root")).unwrap();
        Self(scratch)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn socket(&self) -> PathBuf {
        self.path("csi.sock")
    }

    /// The program itself, with an empty environment.
    pub fn berth(&self) -> Command {
        self.under(&[])
    }

    /// The program, started by another one, which it does not outlive.
    fn under(&self, wrapper: &[&str]) -> Command {
        let ends_with_us = ["setpriv", "--pdeathsig", "KILL"];
        let words = [&ends_with_us, wrapper].concat();
        let words = if wrapper.is_empty() { words } else { [&words[..], &ends_with_us].concat() };
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg(env!("CARGO_BIN_EXE_berth"));
        for name in ENVIRONMENT {
            command.env_remove(name);
        }
        command.stdin(Stdio::null());
        command
    }

    /// `berth local`, complete.
    pub fn local(&self) -> Command {
        self.local_under(&[])
    }

    /// The same, while one of the driver's system calls is held up: `inject` is what strace takes.
    pub fn local_slowed(&self, inject: &str) -> Command {
        let (call, _) = inject.split_once(':').unwrap();
        let (trace, inject) = (format!("trace={call}"), format!("inject={inject}"));
        self.local_under(&["strace", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject])
    }

    fn local_under(&self, wrapper: &[&str]) -> Command {
        let mut command = self.under(wrapper);
        command.arg("local").arg("--endpoint").arg(format!("unix://{}", self.socket().display()));
        command.args(["--node-id", "node-1", "--root"]);
        command.arg(format!("main={},plain", self.path("root").display()));
        command.arg("--run-dir").arg(self.path("run"));
        command
    }

    /// Starts a driver and waits until it answers.
    pub fn start(&self, command: &mut Command) -> Driver {
        let driver = self.spawn(command);
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.answers() {
            assert!(Instant::now() < deadline, "the driver did not start:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
        driver
    }

    /// Starts a driver.
    pub fn spawn(&self, command: &mut Command) -> Driver {
        let log = fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
        Driver(command.stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }

    /// Whether somebody answers a Probe at the socket.
    pub fn answers(&self) -> bool {
        call(&self.socket(), |channel| async move {
            IdentityClient::new(channel).probe(ProbeRequest {}).await.is_ok()
        })
    }

    /// What the drivers of this directory wrote.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Waits until the log has these words.
    pub fn wait_for_log(&self, words: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.log().contains(words) {
            assert!(Instant::now() < deadline, "{words:?} is not in the log:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What lies in the directory, but for what a test or a driver's records need.
    pub fn left(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| !["root", "run", "log"].contains(&name.as_str()));
        names.sort();
        names
    }
}

/// A process that was started here, and ends with the test.
pub struct Driver(Child);

/// How long a process that has to end may take, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

impl Driver {
    /// The driver itself, also when something else started it.
    pub fn pid(&self) -> Pid {
        let own = self.0.id();
        let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap();
        let child = children.split_whitespace().next().and_then(|child| child.parse().ok());
        Pid::from_raw(child.unwrap_or(own.cast_signed()))
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Waits for its end, and says how that was.
    pub fn end(&mut self) -> ExitStatus {
        self.try_end().expect("the process does not end")
    }

    fn try_end(&mut self) -> Option<ExitStatus> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if let Some(status) = self.0.try_wait().unwrap() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }

    /// SIGTERM until the driver itself is gone, whatever started it may wait for: how long that took.
    pub fn stop_under_strace(&mut self) -> Duration {
        let (began, stat) = (Instant::now(), format!("/proc/{}/stat", self.pid()));
        self.signal(Signal::SIGTERM);
        let is_gone = |stat: Result<String, _>| stat.map_or(true, |stat| stat.contains(") Z "));
        while !is_gone(fs::read_to_string(&stat)) {
            assert!(began.elapsed() < PATIENCE, "the process does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
        began.elapsed()
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    /// SIGTERM until the end, which has to be an orderly one: how long that took.
    pub fn stop(&mut self) -> Duration {
        let began = Instant::now();
        self.signal(Signal::SIGTERM);
        let status = self.end();
        assert!(status.success(), "{status}");
        began.elapsed()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a program that has to end by itself: its exit code, and what it wrote to standard output and error.
pub fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let mut driver = Driver(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let status = driver.try_end().unwrap_or_else(|| panic!("this was to end by itself: {command:?}"));
    let read = |pipe: &mut dyn std::io::Read| {
        let mut text = String::new();
        pipe.read_to_string(&mut text).unwrap();
        text
    };
    let (out, err) = (driver.0.stdout.take(), driver.0.stderr.take());
    (status.code(), read(&mut out.unwrap()), read(&mut err.unwrap()))
}

/// A driver that must not start: its exit code, and what it says on standard error.
pub fn refused(command: &mut Command) -> (Option<i32>, String) {
    let (code, out, err) = run(command);
    assert_eq!(out, "");
    (code, err)
}

/// Runs calls at a socket to their end.
pub fn call<T, F: Future<Output = T>>(socket: &Path, calls: impl FnOnce(Channel) -> F) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { calls(channel(socket)).await })
}

/// A connection that is made when it is used.
pub fn channel(socket: &Path) -> Channel {
    Endpoint::from_shared(format!("unix://{}", socket.display())).unwrap().connect_lazy()
}

/// A CreateVolume, ReadWriteOnce.
pub fn create(name: &str) -> CreateVolumeRequest {
    CreateVolumeRequest {
        name: name.into(),
        volume_capabilities: vec![read_write_once()],
        ..Default::default()
    }
}

pub fn read_write_once() -> VolumeCapability {
    let mode = capability::access_mode::Mode::SingleNodeMultiWriter.into();
    VolumeCapability {
        access_type: Some(capability::AccessType::Mount(Default::default())),
        access_mode: Some(capability::AccessMode { mode }),
    }
}
