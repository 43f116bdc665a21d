//! In which order names come to a disk, and how many syncs that takes.

use nix::sys::statfs::{EXT4_SUPER_MAGIC, TMPFS_MAGIC, XFS_SUPER_MAGIC, fstatfs};

use super::fs::Dir;
use crate::error::{Error, Result};

/// Waits until the names in these directories are on disk, unless the file system's journal keeps the order of
/// names anyhow, so that a later sync includes them.
pub fn sync_unless_ordered(dirs: &[&Dir]) -> Result<()> {
    match dirs.first() {
        Some(first) if !keeps_order(first)? => dirs.iter().try_for_each(|dir| dir.sync()),
        _ => Ok(()),
    }
}

/// Whether the file system's journal keeps the order of names: ext4 and XFS write all metadata through one log, so
/// the fsync(2) of a directory includes every change that was made before the directory's own last one. (tmpfs keeps
/// nothing anyhow.)
fn keeps_order(dir: &Dir) -> Result<bool> {
    let found = fstatfs(dir).map_err(|errno| {
        Error::io(format!("read the file system type of {}", dir.path().display()), errno)
    })?;
    Ok([EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC, TMPFS_MAGIC].contains(&found.filesystem_type()))
}
