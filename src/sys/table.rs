//! The kernel's mount table, /proc/self/mountinfo: what is mounted where. Reading it asks no file system, so it can't hang.

use std::ffi::OsString;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::error::{Error, Result};

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
    /// What was mounted, as whoever mounted it said: a device, or `SERVER:/PATH`.
    pub source: String,
}

/// Whether a mount is of an NFS server: whatever looks into it may hang.
pub fn is_nfs(mount: &Mount) -> bool {
    matches!(mount.file_system.as_str(), "nfs" | "nfs4")
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

    /// Every NFS mount whose source `wanted` accepts.
    pub fn of_nfs(&self, wanted: impl Fn(&str) -> bool) -> impl Iterator<Item = Mount> {
        self.lines(|_| true).filter(move |mount| is_nfs(mount) && wanted(&mount.source))
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
                source: unescape(words.next()?).display().to_string(),
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
}
