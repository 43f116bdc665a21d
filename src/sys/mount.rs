//! Mounts: made detached and complete, then attached in one step; and the kernel's mount table.
//!
//! A bind mount made by mount(2) is writable until a second call makes it read-only. Here the tree is cloned
//! (open_tree(2)), gets its attributes while nobody can see it (mount_setattr(2)), and appears with move_mount(2).
//! Needs Linux 5.12. nix has none of the three calls, so they are made by number.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{self, OFlag};
use nix::libc;
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::Mode;

use super::check;
use crate::error::{Error, Result};

const EMPTY: &CStr = c"";

/// Attributes of a mount, as mount_setattr(2) takes them: what to set, what to clear, and what has to be left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes {
    set: u64,
    clear: u64,
    without: u64,
}

/// What forbids, the bit by which statvfs(3) tells it, and the flag that asks for its absence.
const FORBIDS: [(u64, libc::c_ulong, &str); 6] = [
    (libc::MOUNT_ATTR_RDONLY, libc::ST_RDONLY, "rw"),
    (libc::MOUNT_ATTR_NOSUID, libc::ST_NOSUID, "suid"),
    (libc::MOUNT_ATTR_NODEV, libc::ST_NODEV, "dev"),
    (libc::MOUNT_ATTR_NOEXEC, libc::ST_NOEXEC, "exec"),
    (libc::MOUNT_ATTR_NODIRATIME, libc::ST_NODIRATIME, "diratime"),
    (libc::MOUNT_ATTR_NOSYMFOLLOW, ST_NOSYMFOLLOW, "symfollow"),
];
/// Linux 5.10; libc has no name for it.
const ST_NOSYMFOLLOW: libc::c_ulong = 0x2000;

impl Attributes {
    /// What every mount gets that says nothing else: content is hostile, so no devices and no set-user-id.
    pub fn safe() -> Self {
        Self { set: libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV, clear: 0, without: 0 }
    }

    /// Adds a flag as mount(8) spells it; false when it is not one that a directory's mount can have. A flag that
    /// allows something never takes away what the file system's own mount forbids: see [`Detached::clone_of`].
    #[must_use]
    pub fn add(&mut self, flag: &str) -> bool {
        let (set, clear, without) = match flag {
            "ro" => (libc::MOUNT_ATTR_RDONLY, 0, 0),
            "nosuid" => (libc::MOUNT_ATTR_NOSUID, 0, 0),
            "nodev" => (libc::MOUNT_ATTR_NODEV, 0, 0),
            "noexec" => (libc::MOUNT_ATTR_NOEXEC, 0, 0),
            "nodiratime" => (libc::MOUNT_ATTR_NODIRATIME, 0, 0),
            "nosymfollow" => (libc::MOUNT_ATTR_NOSYMFOLLOW, 0, 0),
            // The three exclude each other: the field is cleared before it is set.
            "noatime" => (libc::MOUNT_ATTR_NOATIME, libc::MOUNT_ATTR__ATIME, 0),
            "strictatime" => (libc::MOUNT_ATTR_STRICTATIME, libc::MOUNT_ATTR__ATIME, 0),
            "relatime" | "atime" => (libc::MOUNT_ATTR_RELATIME, libc::MOUNT_ATTR__ATIME, 0),
            _ => match FORBIDS.iter().find(|(_, _, allows)| *allows == flag) {
                Some((forbids, _, _)) => (0, 0, *forbids),
                None => return false,
            },
        };
        // The last word wins, as with mount(8).
        self.set = (self.set & !clear & !without) | set;
        self.clear = (self.clear & !set) | clear;
        self.without = (self.without & !set) | without;
        true
    }
}

impl AsFd for Detached {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A mount that nobody sees yet. Dropping it is undoing it.
#[derive(Debug)]
pub struct Detached(OwnedFd);

impl Detached {
    /// A second mount of the tree at `source`, private, with these attributes.
    ///
    /// # Errors
    /// FAILED_PRECONDITION when a flag allows what the mount of `source` forbids: who mounted that has the last word.
    pub fn clone_of(source: &super::fs::Dir, attributes: Attributes) -> Result<Self> {
        let shown = source.path().display();
        let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH as libc::c_uint;
        // SAFETY: the descriptor is open, the path is a string that ends in a zero.
        let answer =
            unsafe { libc::syscall(libc::SYS_open_tree, source.as_fd().as_raw_fd(), EMPTY.as_ptr(), flags) };
        let what = format!("clone the mount of {shown}");
        let fd = check(|| what, answer)
            .map_err(|error| forbidden(error, "the driver may not mount: it needs CAP_SYS_ADMIN"))?;
        let fd = libc::c_int::try_from(fd).map_err(|_| Error::io("clone a mount", Errno::EBADF))?;
        // SAFETY: the kernel just gave this descriptor to us, and nobody else has it.
        let tree = Self(unsafe { OwnedFd::from_raw_fd(fd) });
        let why = "in a user namespace a mount can't allow what the root's own mount forbids";
        tree.set(attributes)
            .map_err(|errno| Error::io(format!("set the mount flags of {shown}"), errno))
            .map_err(|error| forbidden(error, why))?;
        let has =
            tree.flags().map_err(|errno| Error::io(format!("read the mount flags of {shown}"), errno))?;
        match FORBIDS.iter().find(|(bit, told, _)| attributes.without & bit != 0 && has & told != 0) {
            None => Ok(tree),
            Some((_, _, flag)) => Err(Error::Refused {
                what: format!("mount {shown} with the flag {flag}"),
                why: "the mount or the file system that it lies on forbids that".into(),
            }),
        }
    }

    /// A mount that was made by other means, and that nobody sees.
    pub(super) fn of(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Gives the mount its attributes, and takes it out of every group of mounts that share events.
    pub(super) fn set(&self, attributes: Attributes) -> Result<(), Errno> {
        let change = libc::mount_attr {
            attr_set: attributes.set,
            attr_clr: attributes.clear,
            propagation: libc::MS_PRIVATE,
            userns_fd: 0,
        };
        // SAFETY: `change` has the layout that the kernel expects and the size that is passed.
        let answer = unsafe {
            libc::syscall(
                libc::SYS_mount_setattr,
                self.0.as_raw_fd(),
                EMPTY.as_ptr(),
                libc::AT_EMPTY_PATH,
                &raw const change,
                size_of::<libc::mount_attr>(),
            )
        };
        Errno::result(answer).map(drop)
    }

    /// The top of the mounted tree, and what to call it in errors.
    pub fn dir(&self, shown: PathBuf) -> Result<super::fs::Dir> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        match fcntl::openat(&self.0, ".", flags, Mode::empty()) {
            Ok(fd) => Ok(super::fs::Dir::of(fd, shown)),
            Err(errno) => Err(Error::io(format!("open directory {}", shown.display()), errno)),
        }
    }

    /// The flags of the mount and of its file system, as statvfs(3) tells them.
    fn flags(&self) -> Result<libc::c_ulong, Errno> {
        let mut found = std::mem::MaybeUninit::<libc::statvfs>::uninit();
        // SAFETY: the descriptor is open, and there is room for what is written.
        Errno::result(unsafe { libc::fstatvfs(self.0.as_raw_fd(), found.as_mut_ptr()) })?;
        // SAFETY: the call succeeded, so it was written.
        Ok(unsafe { found.assume_init() }.f_flag)
    }

    /// Shows the mount at an open directory, complete from its first visible moment.
    pub fn attach(self, target: &super::fs::Dir) -> Result<()> {
        let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
        // SAFETY: both descriptors are open, both paths are strings that end in a zero.
        let answer = unsafe {
            libc::syscall(
                libc::SYS_move_mount,
                self.0.as_raw_fd(),
                EMPTY.as_ptr(),
                target.as_fd().as_raw_fd(),
                EMPTY.as_ptr(),
                flags,
            )
        };
        check(|| format!("attach a mount at {}", target.path().display()), answer)?;
        Ok(())
    }
}

/// FAILED_PRECONDITION, with the reason, for what the kernel does not permit.
fn forbidden(error: Error, why: &str) -> Error {
    match error {
        Error::Io { doing, source } if source.raw_os_error() == Some(libc::EPERM) => {
            Error::Refused { what: doing, why: why.to_string() }
        }
        _ => error,
    }
}

/// Removes every mount at `target`, the last one first, and says how many there were.
///
/// # Errors
/// ABORTED while a process uses it: the door is closed when this succeeds, so it is never closed lazily.
pub fn unmount(target: &Path) -> Result<usize> {
    let mut removed = 0;
    loop {
        match umount2(target, MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => removed += 1,
            // EINVAL: no mount point.
            Err(Errno::EINVAL | Errno::ENOENT | Errno::ENOTDIR) => return Ok(removed),
            Err(Errno::EBUSY) => {
                let what = format!("unmount {}", target.display());
                return Err(Error::Pending { what, why: "a process still uses it".into() });
            }
            Err(errno) => return Err(Error::io(format!("unmount {}", target.display()), errno)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_that_no_directory_mount_has_is_refused_and_the_last_word_wins() {
        let mut attributes = Attributes::safe();
        assert!(!attributes.add("nolock"));
        assert!(!attributes.add(""));
        assert!(attributes.add("suid") && attributes.add("noatime") && attributes.add("relatime"));
        assert_eq!(attributes.set & libc::MOUNT_ATTR_NOSUID, 0);
        assert_eq!(attributes.set & libc::MOUNT_ATTR_NOATIME, 0);
    }
}
