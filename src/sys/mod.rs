//! The kernel: mounts, durable writes, confined paths. It has never heard of a volume.
//!
//! The only folder with `unsafe`. Every path beneath a directory is opened with openat2(2) and
//! `RESOLVE_BENEATH | NO_SYMLINKS | NO_MAGICLINKS | NO_XDEV`: what a volume's content or a StorageClass says can
//! never lead out of it, not even while somebody swaps a directory for a link.

mod child;
pub mod fs;
pub mod handle;
pub mod list;
pub mod mount;
pub mod nfs;
pub mod order;
pub mod purge;
pub mod table;

use std::io;

use crate::error::{Error, Result};

/// 64 random bits, from the kernel.
pub fn random() -> Result<u64> {
    getrandom::u64().map_err(|error| Error::io("read random bits", io::Error::from(error)))
}

/// The last system call's answer as a result.
fn check(doing: impl FnOnce() -> String, answer: nix::libc::c_long) -> Result<nix::libc::c_long> {
    if answer < 0 { Err(Error::io(doing(), io::Error::last_os_error())) } else { Ok(answer) }
}
