//! Whether a server answers.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;

use super::super::child::{self, Outcome};
use super::super::fs::Dir;

/// Whether the server of an open directory answers within `patience`; false only where it was asked and kept silent. The free space is what Linux never answers from a
/// cache (nfs_statfs).
pub fn answers(dir: &Dir, patience: Duration) -> bool {
    let fd = dir.as_fd().as_raw_fd();
    let mut found = MaybeUninit::<libc::statfs>::uninit();
    let at = found.as_mut_ptr();
    let what = format!("ask whether the server of {} answers", dir.path().display());
    // SAFETY: the descriptor is open, and there is room for what is written, in the child's own memory.
    let outcome = child::call(&what, patience, Some(dir.as_fd()), || unsafe {
        libc::syscall(libc::SYS_fstatfs, fd, at)
    });
    // A refusal is an answer, and so is that it could not be asked: then nobody knows that it is dead.
    !matches!(outcome, Ok(Outcome::Silent | Outcome::Failed(Errno::EIO | Errno::ETIMEDOUT)))
}
