//! The guest's side: the test binary itself, started by the host's init on its serial line.
//!
//! Each request has a thread, so one that hangs (a dead server) keeps no other waiting. Whatever is answered comes within
//! the request's limit; what hangs in the kernel is left there.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::grpc;
use crate::wire::{self, Answer, Ask, Reply, Request, SHARE};

type Answered = (Answer, Vec<u8>);

/// How a process ended, once it has.
#[derive(Default)]
struct End {
    code: Mutex<Option<i32>>,
    ended: Condvar,
}

impl End {
    /// Notes the end of a process, whenever it comes.
    fn of(mut child: Child) -> Arc<Self> {
        let end = Arc::new(Self::default());
        let seen = end.clone();
        thread::spawn(move || {
            let code = child.wait().map_or(-1, code_of);
            *seen.code.lock().unwrap() = Some(code);
            seen.ended.notify_all();
        });
        end
    }

    fn wait(&self, limit: Duration) -> Option<i32> {
        let code = self.code.lock().unwrap();
        *self.ended.wait_timeout_while(code, limit, |code| code.is_none()).unwrap().0
    }
}

fn code_of(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Serves the line until the harness closes it.
pub fn serve() -> io::Result<()> {
    let mut line = File::options().read(true).write(true).open("/dev/ttyS0")?;
    let answers = Arc::new(Mutex::new(line.try_clone()?));
    let started = Arc::new(Mutex::new(HashMap::new()));
    let say = move |id, (answer, body): Answered| {
        let mut line = answers.lock().unwrap();
        let reply = Reply { id, answer };
        if let Err(error) = wire::send(&mut *line, Path::new(SHARE), &own_name(), &reply, &body) {
            eprintln!("agent: answer {id}: {error}");
        }
    };
    say(0, (Answer::Up, Vec::new()));
    while let Some((request, body)) = wire::receive::<Request>(&mut line, Path::new(SHARE))? {
        let (say, started) = (say.clone(), started.clone());
        thread::spawn(move || {
            let failed = |error: io::Error| (Answer::Failed { why: error.to_string() }, Vec::new());
            say(request.id, act(&request, body, &started).unwrap_or_else(failed));
        });
    }
    Ok(())
}

fn own_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().into()
}

fn act(request: &Request, body: Vec<u8>, started: &Mutex<HashMap<u32, Arc<End>>>) -> io::Result<Answered> {
    let limit = request.limit;
    let done = |body| Ok((Answer::Done, body));
    match &request.ask {
        Ask::Run { command } => run(command, limit),
        Ask::Start { command, log } => {
            let log = File::options().create(true).append(true).open(log)?;
            let child = shell(&format!("exec {command}"), log)?;
            let pid = child.id();
            started.lock().unwrap().insert(pid, End::of(child));
            Ok((Answer::Started { pid }, Vec::new()))
        }
        Ask::Signal { pid, signal } => {
            kill(Pid::from_raw(pid.cast_signed()), Signal::try_from(*signal)?)?;
            done(Vec::new())
        }
        Ask::Wait { pid } => {
            let end = started.lock().unwrap().get(pid).cloned();
            let end = end.ok_or_else(|| io::Error::other(format!("no process {pid} was started")))?;
            Ok((end.wait(limit).map_or(Answer::TimedOut, |code| Answer::Ended { code }), Vec::new()))
        }
        Ask::Call { socket, path } => Ok(grpc::call(socket, path, body, limit)),
        Ask::Read { path } => done(fs::read(path)?),
        Ask::Write { path } => {
            fs::write(path, body)?;
            done(Vec::new())
        }
        Ask::PowerOff => match reboot(RebootMode::RB_POWER_OFF) {
            Ok(never) => match never {},
            Err(errno) => Err(errno.into()),
        },
    }
}

/// A command in a process group of its own, so that all of it can be killed.
fn shell(command: &str, output: File) -> io::Result<Child> {
    Command::new("sh")
        .args(["-c", command])
        .current_dir("/root")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
}

/// The output goes to a file and not through a pipe: what a command leaves running may hold it open.
fn run(command: &str, limit: Duration) -> io::Result<Answered> {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let output = format!("/tmp/.run-{}", RUNS.fetch_add(1, Ordering::Relaxed));
    let child = shell(command, File::create(&output)?)?;
    let group = Pid::from_raw(child.id().cast_signed());
    let answer = match End::of(child).wait(limit) {
        Some(code) => Answer::Ended { code },
        None => {
            let _ = killpg(group, Signal::SIGKILL);
            Answer::TimedOut
        }
    };
    let written = fs::read(&output)?;
    fs::remove_file(&output)?;
    Ok((answer, written))
}
