//! File handles: whether two descriptors are of one directory, whatever mounts they came by.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _};

use nix::errno::Errno;
use nix::libc;

use super::fs::Dir;
use super::mount::Detached;
use crate::error::{Error, Result};

/// The longest handle that Linux makes (MAX_HANDLE_SZ, open_by_handle_at(2)).
const LONGEST: libc::c_uint = 128;

#[repr(C)]
struct Handle {
    bytes: libc::c_uint,
    kind: libc::c_int,
    handle: [u8; LONGEST as usize],
}

/// Whether a mount shows this directory, by the handle that the server gave for each; where Linux has none to show, as
/// of NFSv4.0, by inode and owner. Asks no server.
pub fn is_same_directory(mount: &Detached, dir: &Dir) -> Result<bool> {
    let same = match of(mount).and_then(|a| of(dir).map(|b| a == b)) {
        Err(Errno::EOPNOTSUPP) => known(mount).and_then(|a| known(dir).map(|b| a == b)),
        answer => answer,
    };
    same.map_err(|errno| Error::io(format!("read the file handle of {}", dir.path().display()), errno))
}

/// Inode, owner, group and permission bits, as far as they are known here.
fn known(fd: &impl AsFd) -> Result<(u64, u32, u32, u16), Errno> {
    let mut found = MaybeUninit::<libc::statx>::uninit();
    let flags = libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC;
    // SAFETY: the descriptor is open, the path is a string that ends in a zero, and there is room for what is written.
    let answer = unsafe {
        libc::statx(fd.as_fd().as_raw_fd(), c"".as_ptr(), flags, libc::STATX_BASIC_STATS, found.as_mut_ptr())
    };
    Errno::result(answer)?;
    // SAFETY: the call succeeded, so it was written.
    let found = unsafe { found.assume_init() };
    Ok((found.stx_ino, found.stx_uid, found.stx_gid, found.stx_mode))
}

fn of(fd: &impl AsFd) -> Result<(libc::c_int, Vec<u8>), Errno> {
    let mut handle = Handle { bytes: LONGEST, kind: 0, handle: [0; LONGEST as usize] };
    let mut mount_id: libc::c_int = 0;
    // SAFETY: the descriptor is open, the path is a string that ends in a zero, and there is room for what is written,
    // which the first field says.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            fd.as_fd().as_raw_fd(),
            c"".as_ptr(),
            &raw mut handle,
            &raw mut mount_id,
            libc::AT_EMPTY_PATH,
        )
    };
    Errno::result(answer)?;
    let length = handle.bytes.min(LONGEST) as usize;
    Ok((handle.kind, handle.handle[..length].to_vec()))
}
