//! Listings of directories, a read at a time.

use std::os::fd::{AsFd as _, AsRawFd as _};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::libc;
use nix::unistd;

use super::check;
use super::fs::Dir;
use crate::error::{Error, Result};

/// What a directory entry is, as far as the listing tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// Anything that is certainly no directory.
    Other,
    /// The file system does not say.
    Unknown,
}

impl Dir {
    /// Shows every entry to `visit` and returns how many reads of the directory gave any. A listing that took
    /// more than one read is no snapshot: entries made and removed meanwhile may be missing.
    pub fn scan(&self, mut visit: impl FnMut(&str, Kind)) -> Result<usize> {
        self.rewind()?;
        let mut reads = 0;
        while self.chunk(|name, kind| {
            // A name that is no UTF-8 is none of Berth's; content of volumes is never scanned this way.
            if let Ok(name) = std::str::from_utf8(name) {
                visit(name, kind);
            }
        })? {
            reads += 1;
        }
        Ok(reads)
    }

    /// Back to the first entry, and past what the kernel keeps of an earlier listing: of a directory on a server that
    /// may be old, and its time of change does not tell where two changes fall into one tick of the server's clock.
    pub(super) fn rewind(&self) -> Result<()> {
        let failed = |errno| Error::io(format!("read directory {}", self.path().display()), errno);
        unistd::lseek(self, 0, unistd::Whence::SeekSet).map_err(failed)?;
        posix_fadvise(self, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).map_err(failed)
    }

    /// One read of the directory, without `.` and `..`; false at its end.
    pub(super) fn chunk(&self, mut visit: impl FnMut(&[u8], Kind)) -> Result<bool> {
        /// Room for some 500 entries, aligned as the kernel's records are.
        #[repr(align(8))]
        struct Buffer([u8; 16 * 1024]);
        let mut buffer = Buffer([0; 16 * 1024]);
        // SAFETY: the buffer is valid for writes of the length that is passed, and lives over the call.
        let answer = unsafe {
            libc::syscall(
                libc::SYS_getdents64,
                self.as_fd().as_raw_fd(),
                buffer.0.as_mut_ptr(),
                buffer.0.len(),
            )
        };
        let length = check(|| format!("read directory {}", self.path().display()), answer)?;
        let mut rest = &buffer.0[..usize::try_from(length).unwrap_or(0)];
        let any = !rest.is_empty();
        // struct linux_dirent64: u64 inode, i64 offset, u16 record length, u8 type, name with a zero (getdents(2)).
        while rest.len() > 19 {
            let record_length = usize::from(u16::from_ne_bytes([rest[16], rest[17]]));
            let Some(record) = rest.get(..record_length) else { break };
            let kind = match record[18] {
                libc::DT_DIR => Kind::Directory,
                libc::DT_UNKNOWN => Kind::Unknown,
                _ => Kind::Other,
            };
            let name = record[19..].split(|byte| *byte == 0).next().unwrap_or_default();
            if name != b"." && name != b".." {
                visit(name, kind);
            }
            rest = &rest[record_length..];
        }
        Ok(any)
    }

    /// Whether there is nothing in this directory, or nothing but these names. Names may be of any bytes.
    pub fn is_empty_but_for(&self, names: &[&str]) -> Result<bool> {
        self.rewind()?;
        let mut others = false;
        while self.chunk(|name, _| others |= !names.iter().any(|known| known.as_bytes() == name))? {}
        Ok(!others)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fs::name;
    use super::*;

    fn scratch() -> (tempfile::TempDir, Dir) {
        let scratch = tempfile::tempdir().unwrap();
        let dir = Dir::open(scratch.path()).unwrap();
        (scratch, dir)
    }

    #[test]
    fn a_scan_shows_every_entry_and_counts_its_reads() {
        let (_scratch, dir) = scratch();
        assert!(dir.is_empty_but_for(&[]).unwrap());
        for i in 0..3000 {
            dir.create(&format!("file-{i:05}"), b"", false).unwrap();
        }
        let mut names = Vec::new();
        let reads = dir.scan(|name, _| names.push(name.to_string())).unwrap();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 3000);
        assert!(reads > 1);
    }

    #[test]
    fn a_name_of_any_bytes_is_something() {
        let (scratch, dir) = scratch();
        std::fs::create_dir(scratch.path().join("known")).unwrap();
        assert!(dir.is_empty_but_for(&["known"]).unwrap() && !dir.is_empty_but_for(&[]).unwrap());
        std::fs::create_dir(scratch.path().join(name(b"\xff"))).unwrap();
        assert!(!dir.is_empty_but_for(&["known"]).unwrap());
    }
}
