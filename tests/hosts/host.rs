//! One host: a User-Mode Linux kernel with a card, a serial line and disks of its own, and what can happen to it.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tonic::{Code, Status};

use crate::ground;
use crate::link::Link;
use crate::switch::Switch;
use crate::wire::{Answer, Ask, SHARE};

/// What a command, a call or a boot may take, unless a trial says otherwise.
const LIMIT: Duration = Duration::from_secs(60);

/// What a host is made of.
#[derive(Clone, Copy)]
pub struct Spec {
    /// Its name, and what it is called on the network.
    pub name: &'static str,
    /// The last part of its address, 10.99.0.N.
    pub number: u8,
    /// Of its memory, in MiB.
    pub memory: u32,
    /// Of its disks /dev/ubda, /dev/ubdb …, in MiB. They stay over crashes, and take as much room as is written.
    pub disks: &'static [u64],
    /// What has to be done after each boot.
    pub at_boot: fn(&Host),
}

/// A host that runs, or does not.
pub struct Host {
    spec: Spec,
    directory: PathBuf,
    share: PathBuf,
    switch: Switch,
    machine: Mutex<Option<Machine>>,
}

/// One boot of a host.
struct Machine {
    process: Child,
    link: Arc<Link>,
}

/// What a command did.
#[derive(Debug, Clone)]
pub struct Output {
    /// As `sh` has it: 128 and more for a signal.
    pub code: i32,
    /// What it wrote to either of its outputs.
    pub text: String,
}

impl Host {
    /// A host that was not booted yet. `top` is the fleet's directory; `share` in it is what all hosts see as /share.
    pub fn new(spec: Spec, top: &Path, switch: &Switch) -> io::Result<Self> {
        let (directory, share) = (top.join(spec.name), top.join("share"));
        fs::create_dir_all(&directory)?;
        fs::create_dir_all(share.join(spec.name))?;
        let host = Self { spec, directory, share, switch: switch.clone(), machine: Mutex::default() };
        host.blank_disks()?;
        Ok(host)
    }

    /// Puts blank disks in the place of its own, while it does not run.
    pub fn blank_disks(&self) -> io::Result<()> {
        let disks = self.spec.disks.iter().enumerate();
        let mut blank = disks.map(|(number, size)| {
            File::create(self.directory.join(format!("disk{number}")))?.set_len(size << 20)
        });
        blank.try_for_each(|made| made)
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.spec.name
    }

    /// Its address.
    pub fn address(&self) -> String {
        format!("10.99.0.{}", self.spec.number)
    }

    /// The directory that is its own in what it shares with the harness: its logs lie there.
    pub fn logs(&self) -> PathBuf {
        self.share.join(self.spec.name)
    }

    /// What its kernel wrote in all its boots.
    pub fn console(&self) -> PathBuf {
        self.directory.join("console")
    }

    /// Boots, waits until it answers, and does what has to be done after a boot.
    #[track_caller]
    pub fn boot(&self) {
        let start = Instant::now();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let card = self.switch.plug(self.spec.name).unwrap();
        // What the boot before says about its process, which is gone.
        let _ = fs::remove_dir_all(self.directory.join(self.spec.name));
        let words = self.command_line(theirs.as_raw_fd(), card.as_raw_fd());
        let console = File::options().create(true).append(true).open(self.console()).unwrap();
        let process = ground::launch(&words, vec![theirs.into(), card], console);
        let process = process.unwrap_or_else(|error| panic!("start linux.uml for {}: {error}", self.name()));
        let (link, is_up) = Link::new(ours, &self.share).unwrap();
        *self.machine.lock().unwrap() = Some(Machine { process, link: Arc::new(link) });
        if let Err(error) = is_up.recv_timeout(LIMIT) {
            let why = match error {
                RecvTimeoutError::Timeout => "no answer in time",
                RecvTimeoutError::Disconnected => {
                    "its kernel ended; are user-mode-linux and util-linux there?"
                }
            };
            panic!("boot {}: {why} after {:?}", self.name(), start.elapsed());
        }
        (self.spec.at_boot)(self);
    }

    fn command_line(&self, line: i32, card: i32) -> Vec<String> {
        // A PID namespace of its own: when its first process goes, so do all of a host's processes here. That is a shell, since a
        // first process can't abort, which is how the kernel ends when it panics.
        let namespace =
            ["unshare", "--pid", "--fork", "--kill-child", "sh", "-c", "\"$@\"; exit", "sh", "env"];
        let mut words: Vec<String> = namespace.map(String::from).into();
        words.extend([format!("LD_PRELOAD={}", ground::xstate()), "linux.uml".into()]);
        let Spec { name, number, memory, .. } = self.spec;
        let share = self.share.display();
        let mut kernel = vec![
            format!("mem={memory}M"),
            format!("umid={name}"),
            format!("uml_dir={}/", self.directory.display()),
            "root=/dev/root rootfstype=hostfs ro quiet".into(),
            format!("init={share}/init.sh"),
            "con=null con0=null,fd:1 ssl=null".into(),
            format!("ssl0=fd:{line}"),
            format!("vec0:transport=fd,fd={card},mac=02:00:00:00:00:{number:02x}"),
            format!("host={name} hip={}/24 share={share}", self.address()),
        ];
        let disks = 0..self.spec.disks.len();
        kernel.extend(disks.map(|disk| format!("ubd{disk}={}/disk{disk}", self.directory.display())));
        words.extend(kernel.iter().flat_map(|word| word.split(' ')).map(String::from));
        words
    }

    /// Whether its kernel runs.
    pub fn runs(&self) -> bool {
        let mut machine = self.machine.lock().unwrap();
        machine.as_mut().is_some_and(|machine| matches!(machine.process.try_wait(), Ok(None)))
    }

    /// Its power fails, at this very moment.
    pub fn crash(&self) {
        if let Some(mut machine) = self.machine.lock().unwrap().take() {
            let _ = machine.process.kill();
            let _ = machine.process.wait();
        }
        self.switch.unplug(self.spec.name);
    }

    /// Crashes it if it runs, and boots it from the same disks.
    #[track_caller]
    pub fn reboot(&self) {
        self.crash();
        self.boot();
    }

    /// Its own kernel ends it, without a sync.
    #[track_caller]
    pub fn power_off(&self) {
        let Err(_gone) = self.link().ask(Ask::PowerOff, &[], LIMIT) else {
            panic!("{} answered to its own end", self.name());
        };
        wait_for(&format!("{} to be off", self.name()), || !self.runs());
        self.crash();
    }

    /// It stops, as if paused by a hypervisor, until [`Host::thaw`].
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// It goes on.
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Signals the kernel's main process only, which traces all others: a group that was stopped would not go on.
    fn signal(&self, signal: Signal) {
        let Some(unshare) = self.machine.lock().unwrap().as_ref().map(|machine| machine.process.id()) else {
            return;
        };
        // Of unshare the shell, and of the shell the kernel.
        let child_of = |pid: u32| {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            children.trim().parse().unwrap_or_else(|_| panic!("children of {pid}: {children:?}"))
        };
        let main: u32 = child_of(child_of(unshare));
        kill(Pid::from_raw(main.cast_signed()), signal).unwrap();
    }

    /// No frame comes from it or to it, until [`Host::heal`].
    pub fn cut(&self) {
        self.switch.cut(self.spec.name);
    }

    /// Its link is whole again.
    pub fn heal(&self) {
        self.switch.heal(self.spec.name);
    }

    #[track_caller]
    fn link(&self) -> Arc<Link> {
        let link = self.machine.lock().unwrap().as_ref().map(|machine| machine.link.clone());
        link.unwrap_or_else(|| panic!("{} does not run", self.name()))
    }

    #[track_caller]
    fn ask(&self, ask: Ask, body: &[u8], limit: Duration) -> (Answer, Vec<u8>) {
        let what = format!("{ask:?}");
        match self.link().ask(ask, body, limit) {
            Ok((Answer::Failed { why }, _)) => panic!("{}: {what}: {why}", self.name()),
            Ok(answered) => answered,
            Err(why) => panic!("{}: {what}: {why}", self.name()),
        }
    }

    /// Runs a command of `sh`, which has to succeed; what it wrote, without the blanks around it.
    #[track_caller]
    pub fn run(&self, command: &str) -> String {
        let Output { code, text } = self.attempt(command, LIMIT).unwrap_or_else(|output| {
            panic!("{}: `{command}` did not end in {LIMIT:?} and wrote:\n{output}", self.name())
        });
        assert_eq!(code, 0, "{}: `{command}` wrote:\n{text}", self.name());
        text.trim().to_string()
    }

    /// Runs a command that may fail. If it is not done within the limit it is killed, and the error is what it wrote.
    #[track_caller]
    pub fn attempt(&self, command: &str, limit: Duration) -> Result<Output, String> {
        let (answer, written) = self.ask(Ask::Run { command: command.into() }, &[], limit);
        let text = String::from_utf8_lossy(&written).into_owned();
        match answer {
            Answer::Ended { code } => Ok(Output { code, text }),
            _ => Err(text),
        }
    }

    /// Whether a command succeeds.
    #[track_caller]
    pub fn can(&self, command: &str) -> bool {
        self.attempt(command, LIMIT).is_ok_and(|output| output.code == 0)
    }

    /// Starts a process that goes on; what it writes goes to the file `log`.log among the logs that a failure shows.
    #[track_caller]
    pub fn start(self: &Arc<Self>, command: &str, log: &str) -> Process {
        let log = format!("{SHARE}/{}/{log}.log", self.name());
        let ask = Ask::Start { command: command.into(), log };
        let (Answer::Started { pid }, _) = self.ask(ask, &[], LIMIT) else {
            panic!("{}: start `{command}`", self.name());
        };
        Process { host: self.clone(), link: self.link(), pid }
    }

    /// One gRPC call of a service of CSI, at the driver's socket of [`crate::driver`]: `call("Node", "NodeGetInfo", request)`.
    #[track_caller]
    pub fn call<Q: prost::Message, R: prost::Message + Default>(
        &self,
        service: &str,
        method: &str,
        request: Q,
    ) -> Result<R, Status> {
        self.call_within(crate::driver::SOCKET, service, method, request, LIMIT)
    }

    /// The same at any socket, by a caller that gives up after `limit`.
    #[track_caller]
    pub fn call_within<Q: prost::Message, R: prost::Message + Default>(
        &self,
        socket: &str,
        service: &str,
        method: &str,
        request: Q,
        limit: Duration,
    ) -> Result<R, Status> {
        let ask = Ask::Call { socket: socket.into(), path: format!("/csi.v1.{service}/{method}") };
        match self.ask(ask, &request.encode_to_vec(), limit) {
            (Answer::Status { code, message }, _) => Err(Status::new(Code::from_i32(code), message)),
            (_, reply) => {
                Ok(R::decode(reply.as_slice()).unwrap_or_else(|error| panic!("{method} replied: {error}")))
            }
        }
    }

    /// What is in a file.
    #[track_caller]
    pub fn read(&self, path: &str) -> Vec<u8> {
        self.ask(Ask::Read { path: path.into() }, &[], LIMIT).1
    }

    /// Makes a file with these contents.
    #[track_caller]
    pub fn write(&self, path: &str, contents: &[u8]) {
        self.ask(Ask::Write { path: path.into() }, contents, LIMIT);
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.crash();
    }
}

/// A process on a host.
pub struct Process {
    host: Arc<Host>,
    /// Of the boot that it was started in.
    link: Arc<Link>,
    pid: u32,
}

impl Process {
    /// The host that it runs on, or ran.
    pub fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// Its number on the host.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        let ask = Ask::Signal { pid: self.pid, signal: signal as i32 };
        match self.link.ask(ask, &[], LIMIT) {
            Ok((Answer::Done, _)) => {}
            other => panic!("{}: {signal} to {}: {other:?}", self.host.name(), self.pid),
        }
    }

    /// How it ended, if it does within the limit, as `sh` has it.
    #[track_caller]
    pub fn ended_within(&self, limit: Duration) -> Option<i32> {
        match self.link.ask(Ask::Wait { pid: self.pid }, &[], limit) {
            Ok((Answer::Ended { code }, _)) => Some(code),
            Ok((Answer::TimedOut, _)) => None,
            other => panic!("{}: wait for {}: {other:?}", self.host.name(), self.pid),
        }
    }
}

/// Waits until something is so, for a minute at most.
#[track_caller]
pub fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < LIMIT, "waited {LIMIT:?} for {what}");
        thread::sleep(Duration::from_millis(20));
    }
}
