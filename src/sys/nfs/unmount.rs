//! Unmounting without asking the server whether it lives.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;

use super::super::child::{self, Outcome};
use super::super::table::Table;
use crate::error::{Error, Result};

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmounted {
    /// Nothing is mounted there any more.
    Gone,
    /// A process still uses it.
    Busy,
}

/// Removes every mount at `target`, the path as the mount table has it. With `lazily` also one that is in use, whose
/// users keep it until they let go.
///
/// The last unmount of an NFSv4 server says goodbye to it, and hangs when that is dead; but the mount is out of the
/// table before. So the table tells whether it worked, and not whether the call came back within `patience`.
///
/// # Errors
/// ABORTED when a mount stays in the table and the call does not come back.
pub fn unmount(target: &Path, lazily: bool, patience: Duration) -> Result<Unmounted> {
    let deadline = Instant::now() + patience;
    let what = format!("unmount {}", target.display());
    let path = CString::new(target.as_os_str().as_bytes())
        .map_err(|_| Error::invalid("target_path", "has a zero byte"))?;
    let flags = libc::UMOUNT_NOFOLLOW | if lazily { libc::MNT_DETACH } else { 0 };
    let mut mounts = at(target)?;
    while !mounts.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        // SAFETY: the path ends in a zero and lives over the call.
        let outcome = child::call(&what, left, None, || unsafe {
            libc::syscall(libc::SYS_umount2, path.as_ptr(), flags)
        })?;
        let before = mounts;
        mounts = at(target)?;
        if before.iter().any(|id| !mounts.contains(id)) {
            continue;
        }
        return match outcome {
            Outcome::Failed(Errno::EBUSY) if !lazily => Ok(Unmounted::Busy),
            Outcome::Failed(errno) => Err(Error::io(what, errno)),
            Outcome::Silent | Outcome::Done => {
                let seconds = patience.as_secs();
                Err(Error::Silent { what, why: format!("it does not come to an end within {seconds} s") })
            }
        };
    }
    Ok(Unmounted::Gone)
}

/// The mounts there, by the kernel's numbers.
fn at(target: &Path) -> Result<Vec<u64>> {
    Ok(Table::read()?.at(target).map(|mount| mount.id).collect())
}
