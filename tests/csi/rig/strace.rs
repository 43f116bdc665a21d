//! Faults from outside: strace(1) does to the thread that runs RPCs what the kernel or a power cut might do.
//!
//! A driver that has been called one call at a time has one thread for them, and strace is attached to that thread
//! alone. So the N-th system call that it counts is the N-th of the RPC that comes next, and never one of the
//! start, of the purge or of the transport.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use berth::csi::ProbeRequest;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Answer, Calls as _, Rig};

/// Every system call of an RPC that changes something on disk or in the mount table, or waits for it to be durable. (A
/// file that is created is written next, so between the two is before `write`.) The last one, a `write` as well, has the
/// answer sent.
pub const CHANGES: &str = "mkdirat,mkdir,write,fdatasync,fsync,fchmod,fchown,linkat,renameat,renameat2,unlinkat,\
                           unlink,rmdir,open_tree,mount_setattr,move_mount,umount2";

/// strace at work; dropped, it lets go of the driver.
pub struct Injection {
    strace: Child,
    output: PathBuf,
    /// `/proc/…/task/…` of the threads that are watched.
    watched: Vec<PathBuf>,
}

impl Rig {
    /// From the next RPC on, `calls` are watched, and a fault happens, said as strace's `inject` takes it: to which of the
    /// calls, what, when. None when it is empty.
    pub fn inject(&mut self, calls: &str, fault: &str) -> Injection {
        // A thread that had no call for ten seconds ends, and the next call would be run by one that nobody watches.
        self.probe(ProbeRequest {}).ok();
        let driver = self.driver.as_ref().expect("the driver runs").id();
        let threads = rpc_threads(driver);
        let output = self.scratch().join("strace.out");
        let mut command = Command::new("strace");
        command.args(["-e", &format!("trace={calls}"), "-o"]).arg(&output);
        if !fault.is_empty() {
            command.args(["-e", &format!("inject={fault}")]);
        }
        for thread in &threads {
            command.args(["-p", &thread.to_string()]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut strace = command.spawn().expect("strace is needed: make needs installs it");
        // It says of each thread when it is attached. What it says later is nobody's.
        let mut said = BufReader::new(strace.stderr.take().unwrap()).lines();
        for _ in &threads {
            let line = said.next().expect("strace says what it does").unwrap();
            assert!(line.ends_with("attached"), "{line}");
        }
        std::thread::spawn(move || said.for_each(drop));
        let task = |thread: &u32| PathBuf::from(format!("/proc/{driver}/task/{thread}"));
        Injection { strace, output, watched: threads.iter().map(task).collect() }
    }
}

/// A system call of an RPC: which one, and the how-many-th of its name it is, as `when=` of strace counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub name: String,
    pub number: usize,
}

impl Rig {
    /// The changes that a call makes, in their order. It has to be OK.
    pub fn steps_of<T: std::fmt::Debug>(&mut self, call: impl FnOnce(&mut Rig) -> Answer<T>) -> Vec<Step> {
        let injection = self.inject(CHANGES, "");
        let answer = call(self);
        let mut steps: Vec<Step> = Vec::new();
        for name in injection.end() {
            let number = 1 + steps.iter().filter(|step| step.name == name).count();
            steps.push(Step { name, number });
        }
        answer.ok();
        assert!(!steps.is_empty(), "the call was run by a thread that strace did not watch");
        steps
    }

    /// Makes a call during which the driver is killed, as it is about to make the last of these steps.
    pub fn killed_at<T>(&mut self, steps: &[Step], call: impl FnOnce(&mut Rig) -> Answer<T>) {
        let Step { name, number } = steps.last().unwrap();
        let injection = self.inject(CHANGES, &format!("{name}:signal=KILL:when={number}"));
        let _ = call(self);
        let made: Vec<_> = steps.iter().map(|step| step.name.clone()).collect();
        if self.runs_still() {
            // The transport needs no write to be woken where it is awake; then the call came to its end, and is killed there.
            let all_before = &made[..made.len() - 1];
            assert!(name == "write", "the driver was not killed at {steps:?}");
            assert_eq!(
                injection.end(),
                all_before,
                "the driver was not killed, and the call went another way"
            );
            self.kill();
            return;
        }
        self.kill();
        assert_eq!(injection.end(), made, "the call went another way than before");
    }

    fn runs_still(&mut self) -> bool {
        let deadline = Instant::now() + Duration::from_secs(5);
        while self.runs() {
            if Instant::now() > deadline {
                return true;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        false
    }
}

impl Injection {
    /// Lets go of the driver and tells the names of the system calls that were watched.
    pub fn end(mut self) -> Vec<String> {
        self.let_go();
        let text = fs::read_to_string(&self.output).unwrap();
        // With more than one thread, a line begins with the thread's number.
        let name =
            |line: &str| line.split_once('(').map(|(name, _)| name.rsplit(' ').next().unwrap().to_string());
        text.lines().filter_map(name).collect()
    }

    /// Waits until a call hangs in a delay before this system call: a thread stands still there for far longer than strace needs
    /// to look at it.
    pub fn wait_until_it_hangs(&self, name: &str) {
        let number = number_of(name);
        let stands = |task: &PathBuf| {
            let status = fs::read_to_string(task.join("status")).unwrap_or_default();
            let waits_in = fs::read_to_string(task.join("syscall")).unwrap_or_default();
            status.contains("(tracing stop)") && waits_in.split(' ').next() == Some(&number.to_string())
        };
        let (deadline, mut still) = (Instant::now() + Duration::from_secs(20), 0);
        while still < 80 {
            still = if self.watched.iter().any(stands) { still + 1 } else { 0 };
            assert!(Instant::now() < deadline, "no call came to the delay");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn let_go(&mut self) {
        // It has ended by itself where the driver did.
        if let Ok(None) = self.strace.try_wait() {
            let _ = kill(Pid::from_raw(self.strace.id().cast_signed()), Signal::SIGTERM);
            let _ = self.strace.wait();
        }
    }
}

impl Drop for Injection {
    fn drop(&mut self) {
        self.let_go();
    }
}

/// The threads that run RPCs. All of the runtime's have the same name, but these alone wait for work with a time limit.
fn rpc_threads(driver: u32) -> Vec<u32> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let (mut idle, mut busy) = (Vec::new(), false);
        for task in fs::read_dir(format!("/proc/{driver}/task")).unwrap().map(|task| task.unwrap().path()) {
            if !fs::read_to_string(task.join("comm")).is_ok_and(|name| name.starts_with("tokio")) {
                continue;
            }
            // proc(5): the number of the system call that it waits in, and its arguments; futex(2): the fourth is a time limit.
            let waits_in = fs::read_to_string(task.join("syscall")).unwrap_or_default();
            let words: Vec<_> = waits_in.split(' ').collect();
            busy |= words.len() < 5;
            // Who was watched before waits in restart_syscall(2), with the same arguments.
            let waits = [nix::libc::SYS_futex, nix::libc::SYS_restart_syscall]
                .iter()
                .any(|number| words[0] == number.to_string());
            if words.len() >= 5 && waits && words[4] != "0x0" {
                idle.push(task.file_name().unwrap().to_str().unwrap().parse().unwrap());
            }
        }
        if !busy && !idle.is_empty() {
            return idle;
        }
        assert!(
            Instant::now() < deadline,
            "no thread of the driver waits for an RPC: has it been called yet?"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The kernel's number of a system call.
fn number_of(name: &str) -> nix::libc::c_long {
    match name {
        "fdatasync" => nix::libc::SYS_fdatasync,
        "fsync" => nix::libc::SYS_fsync,
        "linkat" => nix::libc::SYS_linkat,
        "mount_setattr" => nix::libc::SYS_mount_setattr,
        "move_mount" => nix::libc::SYS_move_mount,
        "open_tree" => nix::libc::SYS_open_tree,
        "renameat" => nix::libc::SYS_renameat,
        "unlinkat" => nix::libc::SYS_unlinkat,
        _ => panic!("{name} has no number here"),
    }
}
