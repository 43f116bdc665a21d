//! What the harness stands on, so that nothing is left of it, whatever happens to it: a file system in memory that nobody else
//! sees and that goes with the last process, and one thread that starts all processes and takes them along when it dies.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{LazyLock, Mutex};
use std::thread;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// Where everything lies: short, for sockets' names; a directory that every system has; and nothing that the hosts' kernel
/// mounts over, as it does over /dev.
pub const GROUND: &str = "/run";

/// Takes the ground, before there is a second thread.
pub fn take() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(|errno| {
        io::Error::other(format!("a mount namespace of its own: {errno}; run as root, or by make"))
    })?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)?;
    mount(Some("berth-hosts"), GROUND, Some("tmpfs"), MsFlags::empty(), Some("mode=755,size=90%"))?;
    let (source, library) = (format!("{GROUND}/xstate.c"), xstate());
    fs::write(&source, include_str!("xstate.c"))?;
    let compiler = Command::new("cc")
        .env("TMPDIR", GROUND)
        .args(["-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", &library, &source])
        .output()?;
    let said = String::from_utf8_lossy(&compiler.stderr);
    if compiler.status.success() { Ok(()) } else { Err(io::Error::other(format!("cc xstate.c: {said}"))) }
}

/// What `linux.uml` has to be started with, as LD_PRELOAD; `xstate.c` says why.
pub fn xstate() -> String {
    format!("{GROUND}/xstate.so")
}

type Job = Box<dyn FnOnce() + Send>;

/// Starts a program that ends when the harness does, however that ends. It inherits the descriptors `fds` under the numbers
/// that they have, and no other.
pub fn launch(words: &[String], fds: Vec<OwnedFd>, output: File) -> io::Result<Child> {
    // The kernel kills a child when the *thread* that started it ends, so this is one that doesn't. And since it is the only one,
    // no other child is started while the descriptors can be inherited.
    static LAUNCHER: LazyLock<Mutex<Sender<Job>>> = LazyLock::new(|| {
        let (jobs, queue) = channel::<Job>();
        thread::spawn(move || queue.into_iter().for_each(|job| job()));
        Mutex::new(jobs)
    });
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).args(words).env("TMPDIR", GROUND);
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    let (started, child) = channel();
    let job = move || {
        let inherited = fds.iter().try_for_each(|fd| fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty())).map(drop));
        let _ = started.send(inherited.map_err(io::Error::from).and_then(|()| command.spawn()));
    };
    LAUNCHER.lock().unwrap().send(Box::new(job)).unwrap();
    child.recv().unwrap()
}
