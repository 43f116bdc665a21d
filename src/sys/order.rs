//! In which order names come to a disk, and so how many syncs that takes.

use nix::sys::statfs::{EXT4_SUPER_MAGIC, NFS_SUPER_MAGIC, TMPFS_MAGIC, XFS_SUPER_MAGIC, fstatfs};

use super::fs::Dir;
use crate::error::{Error, Result};

/// Whether names come to the disk in the order in which they were made. ext4 and XFS write all metadata through one
/// log, so the fsync(2) of a directory includes every change that was made before the directory's own last one. An NFS
/// server has a change of names on its disk before it answers (RFC 1813, section 3.3; the export option `sync`).
/// tmpfs keeps nothing anyhow.
pub fn keeps_order(dir: &Dir) -> Result<bool> {
    let found = fstatfs(dir).map_err(|errno| {
        Error::io(format!("read the file system type of {}", dir.path().display()), errno)
    })?;
    let ordered = [EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC, TMPFS_MAGIC, NFS_SUPER_MAGIC];
    Ok(ordered.contains(&found.filesystem_type()))
}
