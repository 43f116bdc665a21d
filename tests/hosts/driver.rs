//! The driver under test, as a process on a host.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use berth::csi::{ProbeRequest, ProbeResponse};
use nix::sys::signal::Signal;
use tonic::Code;

use crate::host::{Host, Process};

/// Where every driver is called.
pub const SOCKET: &str = "/run/berth/csi.sock";

/// How long a driver may take to start.
const LIMIT: Duration = Duration::from_secs(30);

/// How long it may take to end, even killed: with it goes its own mount of a share, and while a server of version 4 is dead the
/// kernel was seen to take 40 s over the last of them.
const END: Duration = Duration::from_secs(90);

/// A driver on a host. Dropping it leaves it running: its host ends it.
pub struct Driver {
    process: Process,
    command: String,
}

impl Host {
    /// Starts `berth local` or `berth nfs` with the host's name as the node's, and waits until it is ready. Its log is shown when
    /// the trial fails. `arguments` are what differs: `&["--root", "main=10.99.0.1:/export"]`.
    #[track_caller]
    pub fn berth(self: &Arc<Self>, kind: &str, arguments: &[&str]) -> Driver {
        self.berth_as(self.name(), kind, arguments)
    }

    /// The same for a host that says it is another node.
    #[track_caller]
    pub fn berth_as(self: &Arc<Self>, node: &str, kind: &str, arguments: &[&str]) -> Driver {
        self.berth_logging("debug", node, kind, arguments)
    }

    /// The same with another level of the log than `debug`.
    #[track_caller]
    pub fn berth_logging(
        self: &Arc<Self>,
        level: &str,
        node: &str,
        kind: &str,
        arguments: &[&str],
    ) -> Driver {
        let arguments: String = arguments.iter().map(|argument| format!(" '{argument}'")).collect();
        let command = format!(
            "/share/berth {kind} --node-id {node} --endpoint unix://{SOCKET} --log-level {level}{arguments}"
        );
        Driver { process: start(self, &command), command }
    }
}

#[track_caller]
fn start(host: &Arc<Host>, command: &str) -> Process {
    let process = host.start(command, "berth");
    let begin = Instant::now();
    loop {
        match host.call::<_, ProbeResponse>("Identity", "Probe", ProbeRequest {}) {
            Ok(_) => return process,
            // Nobody listens yet. A connection that breaks is another thing: somebody was there who should not have been.
            Err(status) if status.code() == Code::Unavailable => {}
            Err(status) => panic!("{}: Probe: {status}", host.name()),
        }
        if let Some(code) = process.ended_within(Duration::ZERO) {
            panic!("{}: `{command}` ended with {code}", host.name());
        }
        assert!(begin.elapsed() < LIMIT, "{}: `{command}` is not ready after {LIMIT:?}", host.name());
        thread::sleep(Duration::from_millis(50));
    }
}

impl Driver {
    /// SIGKILL.
    #[track_caller]
    pub fn kill(&self) {
        self.end(Signal::SIGKILL);
    }

    /// SIGTERM; how it ended.
    #[track_caller]
    pub fn stop(&self) -> i32 {
        self.end(Signal::SIGTERM)
    }

    #[track_caller]
    fn end(&self, signal: Signal) -> i32 {
        self.process.signal(signal);
        let end = self.process.ended_within(END);
        end.unwrap_or_else(|| panic!("{}: berth still runs {END:?} after {signal}", self.host().name()))
    }

    /// A new process with the same flags, where the one before has ended or its host was booted again.
    #[track_caller]
    pub fn start_again(&mut self) {
        self.process = start(self.host(), &self.command);
    }

    /// kill -9 and a new process.
    #[track_caller]
    pub fn restart(&mut self) {
        self.kill();
        self.start_again();
    }

    /// The host that it runs on.
    pub fn host(&self) -> &Arc<Host> {
        self.process.host()
    }

    /// Its number on the host.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}
