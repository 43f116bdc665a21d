//! One system call that may hang, made in a child so that it can be ended.
//!
//! A thread that waits for a dead NFS server can't be ended alone; a process can, by SIGKILL, for NFS waits are killable.
//! So the call is made by a fork of this process that does nothing else: it closes what is not its own (a copy of a
//! descriptor would keep locks and connections alive), makes the call, and exits with the error as its status. What the
//! call does to a descriptor, as fsconfig(2) to a file system's context, holds for this process too.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::error::{Error, Result};

/// Children that were killed and do not end: as many may be waited for at once.
const MOST_LEFT: usize = 16;
/// How long a killed child may take to end before somebody else waits for it.
const LAST_BREATH: Duration = Duration::from_millis(500);

/// Children that were killed and have not ended, in this process.
static LEFT: AtomicUsize = AtomicUsize::new(0);

/// What came of a call in a child.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It succeeded.
    Done,
    /// It failed.
    Failed(Errno),
    /// It did not come back in time, and was ended.
    Silent,
}

/// Makes a system call in a child, for `patience` at most. `kept` is the descriptor that the call needs, if any. The call
/// has to be a bare system call on memory that was prepared before: between fork(2) and exit nothing else is safe in a
/// process with threads (signal-safety(7)).
///
/// # Errors
/// ABORTED when too many earlier children still hang; and when there can be no child.
pub fn call(
    what: &str,
    patience: Duration,
    kept: Option<BorrowedFd<'_>>,
    call: impl FnOnce() -> libc::c_long,
) -> Result<Outcome> {
    if LEFT.load(Ordering::SeqCst) >= MOST_LEFT {
        let why = format!("{MOST_LEFT} earlier calls hang in the kernel; the same call may be repeated");
        return Err(Error::Silent { what: what.to_string(), why });
    }
    let kept = kept.map(|fd| fd.as_raw_fd());
    // SAFETY: fork(2) by its number, without the handlers of the C library; the child makes bare system calls only.
    let pid = Errno::result(unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) })
        .map_err(|errno| Error::io(format!("fork to {what}"), errno))?;
    if pid == 0 {
        close_but(kept);
        let answer = call();
        let status = if answer < 0 { Errno::last_raw() } else { 0 };
        // SAFETY: _exit(2) does not return and runs nothing of this process.
        unsafe { libc::_exit(status) };
    }
    let pid = Pid::from_raw(libc::pid_t::try_from(pid).unwrap_or(-1));
    let ended = ended_within(pid, patience);
    if ended {
        return Ok(reap(pid));
    }
    let _ = kill(pid, Signal::SIGKILL);
    if ended_within(pid, LAST_BREATH) {
        // It may have come to its end in the last moment; then that holds.
        return Ok(match reap(pid) {
            Outcome::Done => Outcome::Done,
            _ => Outcome::Silent,
        });
    }
    leave(what.to_string(), pid);
    Ok(Outcome::Silent)
}

/// Closes every descriptor but one, in the child.
fn close_but(kept: Option<RawFd>) {
    let close = |first: libc::c_uint, last: libc::c_uint| {
        if first <= last {
            // SAFETY: the child uses no descriptor but the one that stays.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
    };
    match kept.and_then(|fd| libc::c_uint::try_from(fd).ok()) {
        None => close(0, libc::c_uint::MAX),
        Some(fd) => {
            if fd > 0 {
                close(0, fd - 1);
            }
            close(fd + 1, libc::c_uint::MAX);
        }
    }
}

fn ended_within(pid: Pid, patience: Duration) -> bool {
    // SAFETY: the call takes two numbers; what it returns is a new descriptor of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    let Ok(fd) = Errno::result(fd).map(|fd| RawFd::try_from(fd).unwrap_or(-1)) else { return false };
    // SAFETY: the kernel just gave this descriptor to us, and nobody else has it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let until = Instant::now() + patience;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(Errno::EINTR) => continue,
            Err(_) => return false,
        }
    }
}

fn reap(pid: Pid) -> Outcome {
    loop {
        match waitpid(pid, None) {
            Err(Errno::EINTR) => continue,
            Ok(WaitStatus::Exited(_, 0)) => return Outcome::Done,
            Ok(WaitStatus::Exited(_, status)) => return Outcome::Failed(Errno::from_raw(status)),
            _ => return Outcome::Silent,
        }
    }
}

/// Waits behind for a child that does not end, since the kernel does not let it.
fn leave(what: String, pid: Pid) {
    let left = LEFT.fetch_add(1, Ordering::SeqCst) + 1;
    tracing::warn!(what, pid = pid.as_raw(), left, "a call hangs in the kernel and can't be ended");
    let spawned = std::thread::Builder::new().name("left".into()).spawn(move || {
        reap(pid);
        let left = LEFT.fetch_sub(1, Ordering::SeqCst) - 1;
        tracing::info!(what, pid = pid.as_raw(), left, "a call that hung has ended");
    });
    if let Err(error) = spawned {
        tracing::warn!(pid = pid.as_raw(), %error, "nobody waits for a child that hangs");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    /// A bare call that fails with EBADF, since the child has no such descriptor.
    fn fsync(fd: RawFd) -> libc::c_long {
        // SAFETY: a system call with one number.
        unsafe { libc::syscall(libc::SYS_fsync, fd) }
    }

    #[test]
    fn a_call_in_a_child_answers_as_it_would_here() {
        let file = File::open("/proc/self/status").unwrap();
        // SAFETY: a system call without arguments.
        let pid = || unsafe { libc::syscall(libc::SYS_getpid) };
        assert_eq!(call("x", Duration::from_secs(5), None, pid).unwrap(), Outcome::Done);
        let fd = file.as_raw_fd();
        let failed = call("x", Duration::from_secs(5), Some(file.as_fd()), || fsync(fd)).unwrap();
        assert_eq!(failed, Outcome::Failed(Errno::EINVAL));
    }

    #[test]
    fn a_child_has_no_descriptor_but_the_one_it_needs() {
        let (file, other) = (File::open("/").unwrap(), File::open("/").unwrap());
        let fd = other.as_raw_fd();
        let failed = call("x", Duration::from_secs(5), Some(file.as_fd()), || fsync(fd)).unwrap();
        assert_eq!(failed, Outcome::Failed(Errno::EBADF));
    }

    #[test]
    fn a_call_that_hangs_is_ended_when_patience_is() {
        let began = Instant::now();
        // SAFETY: a system call without arguments.
        let pause = || unsafe { libc::syscall(libc::SYS_pause) };
        assert_eq!(call("x", Duration::from_millis(100), None, pause).unwrap(), Outcome::Silent);
        assert!(began.elapsed() < Duration::from_secs(5));
    }
}
