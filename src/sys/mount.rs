//! Mounts: made detached and complete, then attached in one step; and the kernel's mount table.
//!
//! A bind mount made by mount(2) is writable until a second call makes it read-only. Here the tree is cloned
//! (open_tree(2)), gets its attributes while nobody can see it (mount_setattr(2)), and appears with move_mount(2).
//! Needs Linux 5.12. nix has none of the three calls, so they are made by number.

use std::ffi::{CStr, OsString};
use std::os::fd::{AsFd, AsRawFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc;
use nix::mount::{MntFlags, umount2};

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
                tree.0.as_raw_fd(),
                EMPTY.as_ptr(),
                libc::AT_EMPTY_PATH,
                &raw const change,
                size_of::<libc::mount_attr>(),
            )
        };
        let what = format!("set the mount flags of {shown}");
        let why = "in a user namespace a mount can't allow what the root's own mount forbids";
        check(|| what, answer).map_err(|error| forbidden(error, why))?;
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

/// A line of the mount table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The kernel's number of the mount.
    pub id: u64,
    /// Major and minor number of the file system's device.
    pub device: String,
    /// Which directory of that file system is mounted, as an absolute path in it.
    pub root: PathBuf,
    /// Where.
    pub at: PathBuf,
    /// Options of this mount, separated by commas.
    pub options: String,
    /// The groups of mounts that it shares events with, or receives them from (mount_namespaces(7)). A mount that is
    /// attached where such a group can see it appears once for each member, and those copies are a group.
    pub groups: Vec<u64>,
    /// The file system's type.
    pub file_system: String,
}

/// The mount table of this process's mount namespace, as the kernel wrote it at one moment.
#[derive(Debug)]
pub struct Table(Vec<u8>);

impl Table {
    /// Reads the table.
    pub fn read() -> Result<Self> {
        let path = "/proc/self/mountinfo";
        std::fs::read(path).map(Self).map_err(|error| Error::io(format!("read {path}"), error))
    }

    /// Every mount of the directory `root` of the file system `device`.
    pub fn of(&self, device: &str, root: &Path) -> impl Iterator<Item = Mount> + '_ {
        let (device, root) = (device.to_string(), escape(root));
        self.lines(move |fields| fields[2] == device.as_bytes() && fields[3] == root)
    }

    /// Every mount at `target`, the one that hides the others last.
    pub fn at(&self, target: &Path) -> impl Iterator<Item = Mount> + '_ {
        let target = escape(target);
        self.lines(move |fields| fields[4] == target)
    }

    /// How the table names an open directory, which knows its real path: the device of its file system, and its
    /// path in that, whatever mounts are on the way.
    pub fn place_of(&self, dir: &super::fs::Dir) -> Result<(String, PathBuf)> {
        let holding = self.holding(dir)?;
        let deeper = dir.path().strip_prefix(&holding.at).map_err(|_| {
            let doing = format!("find {} in the mount at {}", dir.path().display(), holding.at.display());
            Error::io(doing, Errno::ENOENT)
        })?;
        Ok((holding.device, holding.root.join(deeper)))
    }

    /// The mount that an open directory lies on.
    pub fn holding(&self, dir: &super::fs::Dir) -> Result<Mount> {
        let path = format!("/proc/self/fdinfo/{}", dir.as_fd().as_raw_fd());
        let text =
            std::fs::read_to_string(&path).map_err(|error| Error::io(format!("read {path}"), error))?;
        let id =
            text.lines().find_map(|line| line.strip_prefix("mnt_id:")).map(str::trim).unwrap_or_default();
        self.lines(move |fields| fields[0] == id.as_bytes()).next().ok_or_else(|| {
            Error::io(format!("find the mount of {} in the mount table", dir.path().display()), Errno::ENOENT)
        })
    }

    /// The lines whose first six fields `wanted` accepts. proc(5): id, parent, device, root, mount point,
    /// options, any number of tags, `-`, type, source, options of the file system.
    fn lines(&self, wanted: impl Fn(&[&[u8]; 6]) -> bool) -> impl Iterator<Item = Mount> {
        self.0.split(|byte| *byte == b'\n').filter_map(move |line| {
            let mut words = line.split(|byte| *byte == b' ');
            let mut fields: [&[u8]; 6] = [b""; 6];
            for field in &mut fields {
                *field = words.next()?;
            }
            if !wanted(&fields) {
                return None;
            }
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let tags = words.by_ref().take_while(|word| *word != b"-");
            let groups = tags.filter_map(|tag| {
                let number = tag.strip_prefix(b"shared:").or_else(|| tag.strip_prefix(b"master:"))?;
                text(number).parse().ok()
            });
            Some(Mount {
                id: text(fields[0]).parse().ok()?,
                device: text(fields[2]),
                root: unescape(fields[3]),
                at: unescape(fields[4]),
                options: text(fields[5]),
                groups: groups.collect(),
                file_system: text(words.next()?),
            })
        })
    }
}

/// A path as the mount table writes it: blanks and backslashes in octal.
fn escape(path: &Path) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(path.as_os_str().len());
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => escaped.extend(format!("\\{byte:03o}").into_bytes()),
            _ => escaped.push(*byte),
        }
    }
    escaped
}

fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        let octal = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if *first == b'\\' => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        Table(
            b"22 27 0:21 / /proc rw,relatime - proc proc rw\n\
              40 27 254:1 / /mnt/ssd rw,relatime shared:7 master:1 - ext4 /dev/vda1 rw\n\
              41 40 254:1 /a\\040b.0123 /pods/x ro,nosuid - ext4 /dev/vda1 rw\n\
              42 40 254:1 /other /pods/x rw - ext4 /dev/vda1 rw\n\
              a broken line\n"
                .to_vec(),
        )
    }

    #[test]
    fn a_mount_is_found_by_what_is_mounted_and_by_where() {
        let table = table();
        let found: Vec<_> = table.of("254:1", Path::new("/a b.0123")).collect();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].at, Path::new("/pods/x"));
        assert_eq!(found[0].options, "ro,nosuid");
        assert_eq!(found[0].file_system, "ext4");
        assert_eq!(table.of("254:2", Path::new("/a b.0123")).count(), 0);
        let layers: Vec<_> = table.at(Path::new("/pods/x")).map(|mount| mount.id).collect();
        assert_eq!(layers, [41, 42]);
    }

    #[test]
    fn tags_before_the_type_tell_the_groups() {
        let found: Vec<_> = table().at(Path::new("/mnt/ssd")).collect();
        assert_eq!(found[0].file_system, "ext4");
        assert_eq!(found[0].groups, [7, 1]);
    }

    #[test]
    fn a_path_survives_escaping() {
        for path in ["/a b", "/a\tb\n", "/back\\slash", "/\\040", "/ü"] {
            assert_eq!(unescape(&escape(Path::new(path))), Path::new(path));
        }
    }

    #[test]
    fn the_mount_of_an_open_directory_is_in_the_table() {
        let dir = super::super::fs::Dir::open(Path::new("/proc")).unwrap();
        let mount = Table::read().unwrap().holding(&dir).unwrap();
        assert_eq!(mount.file_system, "proc");
        assert_eq!(mount.at, Path::new("/proc"));
    }

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
