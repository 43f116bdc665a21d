//! One system call in a child process, so that it can be ended: a thread that hangs in the kernel can't.
//!
//! A call that asks an NFS server may hang for as long as the server is silent. Nearly every such wait ends with
//! SIGKILL, and only a process can be killed, so the call is made by a child that does nothing else.
//!
//! The child closes its copies of the driver's descriptors, but for the one that the call needs: else the driver's
//! socket and its locks would live on for as long as the call hangs, and a new driver that is started in its place would
//! find them taken. What is open for writing alone it leaves open: to close such a file of a server that does not
//! answer is to wait for it. (Berth writes nothing there but records, which such a wait holds up for seconds.)

use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;

use super::check;
use crate::error::{Error, Result};

/// What came of a call in a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It succeeded.
    Done,
    /// It failed.
    Failed(Errno),
    /// It did not come back in time and was killed: what it was to do may have happened, or not.
    Silent,
}

/// How many children that outlive SIGKILL there may be. Each costs a process, a thread and little memory, and more of
/// them would only wait for the same servers.
const MAX_LEFT: usize = 16;

/// How long a killed child is waited for. It ends within milliseconds, or when the kernel lets go of it.
const DYING: Duration = Duration::from_millis(500);

/// How many children there are that SIGKILL did not end: a fact about the process, which is why it is a global.
static LEFT: AtomicUsize = AtomicUsize::new(0);

/// Makes one system call in a child, and kills that after `patience`.
///
/// `call` runs between fork and exit in a process of many threads: it makes one raw system call on memory that is
/// ready, and neither allocates nor takes a lock. What it writes to memory is lost, but to [`Shared`]. Of descriptors it
/// has the one that it `needs`.
///
/// # Errors
/// ABORTED when too many earlier calls hang in spite of SIGKILL.
pub(super) fn call(
    what: &str,
    patience: Duration,
    needs: Option<BorrowedFd<'_>>,
    call: impl FnOnce() -> libc::c_long,
) -> Result<Outcome> {
    if LEFT.load(Ordering::Relaxed) >= MAX_LEFT {
        let why = format!("{MAX_LEFT} earlier calls hang in the kernel; the same call may be repeated");
        return Err(Error::Silent { what: what.into(), why });
    }
    let answer = Shared::new(AtomicI64::new(NONE))?;
    let needs = needs.map(|fd| fd.as_raw_fd());
    let child = Child::start(what, || {
        close_all_but(needs);
        let answered = if call() < 0 { i64::from(Errno::last_raw()) } else { 0 };
        answer.get().store(answered, Ordering::Release);
    })?;
    let begun = Instant::now();
    let mut ended = child.ends_within(patience);
    if !ended {
        child.kill();
        ended = child.ends_within(DYING);
    }
    let outcome = match answer.get().load(Ordering::Acquire) {
        NONE if ended && begun.elapsed() < patience => Outcome::Failed(Errno::EINTR), // ended by others
        NONE => Outcome::Silent,
        0 => Outcome::Done,
        errno => Outcome::Failed(known(errno)),
    };
    if ended {
        child.reap()
    } else {
        child.leave(what.to_string())
    }
    Ok(outcome)
}

/// No answer yet.
const NONE: i64 = i64::MIN;

/// An errno as programs know it. NFS lets some of the kernel's own numbers slip out (include/linux/errno.h).
fn known(errno: i64) -> Errno {
    match i32::try_from(errno) {
        Ok(524) => Errno::EOPNOTSUPP, // ENOTSUPP
        Ok(521) => Errno::ESTALE,     // EBADHANDLE
        Ok(errno) if errno < 512 => Errno::from_raw(errno),
        _ => Errno::EIO,
    }
}

/// A value in memory that a child shares with its parent.
pub(super) struct Shared<T>(NonNull<T>);

impl<T> Shared<T> {
    /// Puts a value there; it is never dropped.
    pub(super) fn new(value: T) -> Result<Self> {
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping, at an address of the kernel's choice, touches no other memory.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), size_of::<T>().max(1), protection, flags, -1, 0) };
        let at = NonNull::new(at.cast::<T>()).filter(|at| at.as_ptr().cast() != libc::MAP_FAILED);
        let at = at.ok_or_else(|| Error::io("map memory", Errno::last()))?;
        // SAFETY: the mapping is as large as the value, begins at a page and is ours alone.
        unsafe { at.write(value) };
        Ok(Self(at))
    }

    /// The value.
    pub(super) fn get(&self) -> &T {
        // SAFETY: it was written when this was made, and is mapped for as long as this lives.
        unsafe { self.0.as_ref() }
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: this mapping was made by `new`, and no reference to it outlives `self`. A child has its own.
        unsafe { libc::munmap(self.0.as_ptr().cast(), size_of::<T>().max(1)) };
    }
}

/// A child that is not reaped yet, by a descriptor: its number can't be mistaken for another's.
struct Child(OwnedFd);

impl Child {
    /// Starts a child that does `work` and exits.
    fn start(what: &str, work: impl FnOnce()) -> Result<Self> {
        let mut pidfd: libc::c_int = -1;
        // struct clone_args (clone(2)): flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls.
        // No exit signal: nobody but us waits for it, and an ignored SIGCHLD can't take its end away.
        let mut arguments = [0_u64; 8];
        arguments[0] = libc::CLONE_PIDFD.unsigned_abs().into();
        arguments[1] = (&raw mut pidfd).expose_provenance() as u64;
        // The child must run none of our signal handlers; what is blocked stays so in it, but for SIGKILL.
        let before = block_signals();
        // SAFETY: the arguments have the layout and size that the kernel expects. Without CLONE_VM this is fork(2): the
        // child goes on with its own copy of the memory and the stack, in this thread alone. It calls nothing but
        // `work`, which takes no lock, and ends without unwinding or running what glibc does at exit.
        let answer = unsafe { libc::syscall(libc::SYS_clone3, arguments.as_ptr(), size_of_val(&arguments)) };
        if answer == 0 {
            // When the driver is killed, nobody is left to end a call that hangs.
            // SAFETY: the call touches no memory.
            unsafe { libc::syscall(libc::SYS_prctl, libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) };
            let _exit = Exit;
            work();
            end();
        }
        let answer = check(|| format!("start a process to {what}"), answer);
        restore_signals(&before);
        answer?;
        // SAFETY: the kernel just gave this descriptor to us, and nobody else has it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(pidfd) }))
    }

    /// Waits for its end; false when that takes longer.
    fn ends_within(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            let mut wanted = libc::pollfd { fd: self.0.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            let left = deadline.saturating_duration_since(Instant::now());
            // Up to the next millisecond, or the last one would be spent in a circle.
            let left_ms = left.as_micros().div_ceil(1000);
            // SAFETY: one entry, valid for writes.
            let ready = unsafe { libc::poll(&raw mut wanted, 1, i32::try_from(left_ms).unwrap_or(i32::MAX)) };
            if ready > 0 {
                return true;
            }
            if left.is_zero() {
                return false;
            }
        }
    }

    fn kill(&self) {
        let no_details = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: the descriptor is open; no details are passed.
        unsafe {
            libc::syscall(libc::SYS_pidfd_send_signal, self.0.as_raw_fd(), libc::SIGKILL, no_details, 0)
        };
    }

    /// Waits for its end without a bound and lets go of its number.
    fn reap(self) {
        let mut told = std::mem::MaybeUninit::<libc::siginfo_t>::uninit();
        let fd = self.0.as_raw_fd().unsigned_abs();
        // SAFETY: the descriptor is open, and there is room for what is written.
        while unsafe { libc::waitid(libc::P_PIDFD, fd, told.as_mut_ptr(), libc::WEXITED | libc::__WALL) } < 0
            && Errno::last() == Errno::EINTR
        {}
    }

    /// Leaves a killed child to the kernel, with a thread that reaps it whenever it ends.
    fn leave(self, what: String) {
        LEFT.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(doing = what, "a system call hangs and outlives SIGKILL; it is left to itself");
        let since = Instant::now();
        let reaper = std::thread::Builder::new().name("reaper".into()).spawn(move || {
            self.reap();
            LEFT.fetch_sub(1, Ordering::Relaxed);
            tracing::info!(
                doing = what,
                seconds = since.elapsed().as_secs(),
                "a system call that hung has ended"
            );
        });
        if let Err(error) = reaper {
            // It stays counted, for it stays a process.
            tracing::warn!(%error, "no thread can be started to reap a process");
        }
    }
}

/// Closes the child's copies of descriptors; see the module's description for which stay. They are numbered from below
/// without large gaps, so a long gap is the end.
fn close_all_but(needed: Option<RawFd>) {
    const GAP: RawFd = 256;
    let (mut fd, mut last) = (0, 0);
    while fd < last + GAP {
        // SAFETY: the calls touch no memory, and the child uses no descriptor but the one that it needs.
        unsafe {
            let flags = libc::syscall(libc::SYS_fcntl, fd, libc::F_GETFL);
            if flags >= 0 {
                last = fd;
                let only_written =
                    flags & libc::c_long::from(libc::O_ACCMODE) == libc::c_long::from(libc::O_WRONLY);
                if Some(fd) != needed && !only_written {
                    libc::syscall(libc::SYS_close, fd);
                }
            }
        }
        fd += 1;
    }
}

/// Ends a child whose work panics: it must not unwind into what its parent was doing.
struct Exit;

impl Drop for Exit {
    fn drop(&mut self) {
        end();
    }
}

/// Ends this process at once.
fn end() -> ! {
    loop {
        // SAFETY: the call touches no memory, and does not return.
        unsafe { libc::syscall(libc::SYS_exit_group, 0) };
    }
}

/// Blocks every signal in this thread and returns those that were blocked before.
fn block_signals() -> libc::sigset_t {
    let mut all = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: both sets have room, the first is filled before it is read, and the call fails for none of its arguments,
    // so that the second is written.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
        before.assume_init()
    }
}

fn restore_signals(before: &libc::sigset_t) {
    // SAFETY: the set is valid; nothing is asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before, std::ptr::null_mut()) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd as _;

    const LONG: Duration = Duration::from_secs(20);

    fn close(fd: libc::c_int) -> libc::c_long {
        // SAFETY: the tests close what they opened for that, or nothing.
        unsafe { libc::syscall(libc::SYS_close, fd) }
    }

    /// Waits for a byte in a pipe, without end when there is none.
    fn read_byte(fd: &OwnedFd) -> libc::c_long {
        let mut byte = 0_u8;
        // SAFETY: there is room for one byte.
        unsafe { libc::syscall(libc::SYS_read, fd.as_raw_fd(), &raw mut byte, 1) }
    }

    #[test]
    fn a_call_tells_how_it_ended() {
        assert_eq!(call("do nothing", LONG, None, || 0).unwrap(), Outcome::Done);
        assert_eq!(call("close nothing", LONG, None, || close(-1)).unwrap(), Outcome::Failed(Errno::EBADF));
    }

    #[test]
    fn a_call_that_hangs_is_ended_in_time() {
        let (never, _open) = nix::unistd::pipe().unwrap();
        let begun = Instant::now();
        let outcome =
            call("read", Duration::from_millis(50), Some(never.as_fd()), || read_byte(&never)).unwrap();
        assert_eq!(outcome, Outcome::Silent);
        assert!(begun.elapsed() >= Duration::from_millis(50) && begun.elapsed() < LONG);
    }

    #[test]
    fn a_child_has_the_descriptor_that_it_needs_and_holds_no_other_open() {
        let (never, open) = nix::unistd::pipe().unwrap();
        let number = never.as_raw_fd();
        assert_eq!(call("close", LONG, Some(never.as_fd()), || close(number)).unwrap(), Outcome::Done);
        assert_eq!(call("close", LONG, None, || close(number)).unwrap(), Outcome::Failed(Errno::EBADF));
        // While a child hangs, what its parent closes is closed: who is at the other end sees it.
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let hangs = scope.spawn(|| {
                tell.send(nix::unistd::gettid()).unwrap();
                call("read", LONG, Some(never.as_fd()), || read_byte(&never)).unwrap()
            });
            let children = format!("/proc/self/task/{}/children", told.recv().unwrap());
            while std::fs::read_to_string(&children).unwrap().is_empty() {
                std::thread::sleep(Duration::from_millis(1));
            }
            drop(ours);
            assert_eq!(std::io::Read::read(&mut &theirs, &mut [0]).unwrap(), 0);
            nix::unistd::write(open.as_fd(), b"x").unwrap();
            assert_eq!(hangs.join().unwrap(), Outcome::Done);
        });
    }

    #[test]
    fn many_calls_leave_neither_processes_nor_descriptors() {
        let (never, _open) = nix::unistd::pipe().unwrap();
        std::thread::spawn(move || {
            for _ in 0..50 {
                assert_eq!(call("do nothing", LONG, None, || 0).unwrap(), Outcome::Done);
                let hangs = call("read", Duration::from_millis(1), Some(never.as_fd()), || read_byte(&never))
                    .unwrap();
                assert_eq!(hangs, Outcome::Silent);
            }
            let children = format!("/proc/self/task/{}/children", nix::unistd::gettid());
            assert_eq!(std::fs::read_to_string(children).unwrap(), "");
        })
        .join()
        .unwrap();
        let names = std::fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
        let pidfds = names.filter(|name| {
            std::fs::read_link(name)
                .is_ok_and(|link| link.to_str().is_some_and(|link| link.contains("pidfd")))
        });
        // Other tests may be in the middle of a call.
        assert!(pidfds.count() < 10);
    }

    #[test]
    fn a_panic_in_the_child_ends_it_and_goes_no_further() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let outcome = std::panic::catch_unwind(|| {
            call("panic", LONG, None, || std::panic::resume_unwind(Box::new("nothing is printed for this")))
                .unwrap()
        });
        let Ok(outcome) = outcome else {
            // This is the child, and it is where only its parent should be.
            nix::unistd::write(&writer, b"x").unwrap();
            end();
        };
        assert_eq!(outcome, Outcome::Failed(Errno::EINTR));
        drop(writer);
        assert_eq!(read_byte(&reader), 0);
    }

    #[test]
    fn numbers_that_are_the_kernels_own_get_one_that_programs_know() {
        assert_eq!(known(524), Errno::EOPNOTSUPP);
        assert_eq!(known(521), Errno::ESTALE);
        assert_eq!(known(599), Errno::EIO);
        assert_eq!(known(2), Errno::ENOENT);
    }
}
