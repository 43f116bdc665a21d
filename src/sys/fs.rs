//! Directories by descriptor: confined look-ups, durable writes, listings.
//!
//! A [`Dir`] keeps its path only to say it in errors. Everything that has to survive a power cut is synced
//! by name: a file's content with [`Dir::create`], the names in directories with [`Dir::sync`] and
//! [`super::order`].

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{self, AtFlags, OFlag, OpenHow, ResolveFlag};
use nix::sys::stat::{self, FileStat, Mode};
use nix::sys::statvfs;
use nix::unistd::{self, Gid, LinkatFlags, Uid, UnlinkatFlags};

use crate::error::{Error, Result};

/// Nothing on the way may be a link or lead to another mount, and nothing leads out.
const CONFINED: ResolveFlag = ResolveFlag::RESOLVE_BENEATH
    .union(ResolveFlag::RESOLVE_NO_SYMLINKS)
    .union(ResolveFlag::RESOLVE_NO_MAGICLINKS)
    .union(ResolveFlag::RESOLVE_NO_XDEV);

/// The longest file that [`Dir::read`] takes, in bytes. Berth's own files are far smaller.
const MAX_FILE: usize = 1 << 20;

/// An open directory.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Dir {
    /// Opens a directory that the administrator or the CO names; links on the way are theirs.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = fcntl::open(path, flags, Mode::empty())
            .map_err(|errno| Error::io(format!("open directory {}", path.display()), errno))?;
        Ok(Self { fd, path: path.to_path_buf() })
    }

    /// The same directory, under the path by which the kernel's mount table knows it: links on the way resolved.
    pub fn at_its_real_path(mut self) -> Result<Self> {
        let link = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
        self.path = std::fs::read_link(&link)
            .map_err(|error| Error::io(format!("resolve {}", self.path.display()), error))?;
        Ok(self)
    }

    /// Where the directory was when it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a name in this directory, for errors.
    pub fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn openat2(&self, name: &OsStr, flags: OFlag) -> Result<OwnedFd, Errno> {
        let mode = if flags.contains(OFlag::O_CREAT) { 0o600 } else { 0 };
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW)
            .mode(Mode::from_bits_truncate(mode))
            .resolve(CONFINED);
        // EAGAIN: the kernel could not be sure that a concurrent rename did not lead out (openat2(2)).
        for _ in 0..100 {
            match fcntl::openat2(&self.fd, name, how) {
                Err(Errno::EAGAIN) => continue,
                answer => return answer,
            }
        }
        Err(Errno::EAGAIN)
    }

    /// Opens a directory beneath this one; `path` may have several components.
    ///
    /// # Errors
    /// ELOOP for a link anywhere on the way, EXDEV for a mount point, ENOTDIR, ENOENT.
    pub fn dir(&self, path: impl AsRef<OsStr>) -> Result<Self> {
        let path = path.as_ref();
        let joined = if path == "." { self.path.clone() } else { self.path.join(path) };
        match self.openat2(path, OFlag::O_DIRECTORY) {
            Ok(fd) => Ok(Self { fd, path: joined }),
            Err(errno) => Err(Error::io(format!("open directory {}", joined.display()), errno)),
        }
    }

    /// Finds a directory as [`Dir::dir`] does and opens it no further (O_PATH): enough to name it, to mount it, to ask for its
    /// space, and one round trip less where a server has to be asked who may read it.
    pub fn reach(&self, path: impl AsRef<OsStr>) -> Result<Self> {
        let path = path.as_ref();
        let joined = self.path.join(path);
        match self.openat2(path, OFlag::O_DIRECTORY | OFlag::O_PATH) {
            Ok(fd) => Ok(Self { fd, path: joined }),
            Err(errno) => Err(Error::io(format!("open directory {}", joined.display()), errno)),
        }
    }

    /// The same directory, after it was renamed.
    pub fn now_at(self, path: PathBuf) -> Self {
        Self { path, ..self }
    }

    /// A second descriptor of this directory, with the same place in its listing: for everything but a scan.
    pub fn duplicate(&self) -> Result<Self> {
        let fd = self.fd.try_clone();
        let fd = fd.map_err(|error| Error::io(format!("duplicate {}", self.path.display()), error))?;
        Ok(Self { fd, path: self.path.clone() })
    }

    /// A directory that was opened by other means, and what to call it in errors.
    pub(super) fn of(fd: OwnedFd, path: PathBuf) -> Self {
        Self { fd, path }
    }

    /// The directory above, which may be on another mount.
    pub fn parent(&self) -> Result<Self> {
        let path = self.path.join("..");
        let fd = fcntl::openat(&self.fd, "..", OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(|errno| Error::io(format!("open directory {}", path.display()), errno))?;
        Ok(Self { fd, path })
    }

    fn failed(&self, doing: &str, name: impl AsRef<OsStr>) -> impl FnOnce(Errno) -> Error {
        let text = format!("{doing} {}", self.path.join(name.as_ref()).display());
        move |errno| Error::io(text, errno)
    }

    /// Makes a directory that only root may enter.
    pub fn mkdir(&self, name: impl AsRef<OsStr>) -> Result<()> {
        let name = name.as_ref();
        stat::mkdirat(&self.fd, name, Mode::S_IRWXU).map_err(|e| self.failed("make directory", name)(e))
    }

    /// Makes a directory unless there is one.
    pub fn mkdir_if_missing(&self, name: impl AsRef<OsStr>) -> Result<()> {
        match self.mkdir(name) {
            Err(error) if error.errno() == Some(Errno::EEXIST) => Ok(()),
            answer => answer,
        }
    }

    /// Owner and permission bits of this directory, whatever the process's umask is.
    pub fn own(&self, uid: u32, gid: u32, mode: u32) -> Result<()> {
        // A new directory belongs to the process; chown is left out where it would change nothing, so that an
        // unprivileged user namespace, which has no other ids, can do without it.
        let found = self.stat()?;
        if (found.st_uid, found.st_gid) != (uid, gid) {
            unistd::fchown(&self.fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
                .map_err(|e| self.failed(&format!("give to user {uid} and group {gid}"), "")(e))?;
        }
        stat::fchmod(&self.fd, Mode::from_bits_truncate(mode))
            .map_err(|e| self.failed("set permission bits of", "")(e))
    }

    /// What fstat(2) says of this directory.
    pub fn stat(&self) -> Result<FileStat> {
        stat::fstat(&self.fd).map_err(|e| self.failed("stat", "")(e))
    }

    /// What is at a name, without following it; nothing when there is nothing.
    pub fn stat_of(&self, name: impl AsRef<OsStr>) -> Result<Option<FileStat>> {
        let name = name.as_ref();
        match stat::fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(self.failed("stat", name)(errno)),
        }
    }

    /// Free and total space of the file system that this directory lies on.
    pub fn space(&self) -> Result<statvfs::Statvfs> {
        statvfs::fstatvfs(&self.fd).map_err(|e| self.failed("read the free space of", "")(e))
    }

    /// What unprivileged users could still write to the file system that this directory lies on, in bytes.
    pub fn free_bytes(&self) -> Result<i64> {
        let space = self.space()?;
        let free = space.blocks_available().saturating_mul(space.fragment_size());
        Ok(i64::try_from(free).unwrap_or(i64::MAX))
    }

    /// The whole content of a file.
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        self.read_whole(name, OFlag::O_NONBLOCK)
    }

    /// The same of a file on a server, past the cache: so Linux tells an NFSv4.1 server that no delegation is wanted
    /// (OPEN4_SHARE_ACCESS_WANT_NO_DELEG, RFC 8881, section 18.16.3). One that is held makes who removes the file wait for
    /// this host, and this process wait, when it ends, for a server that does not answer.
    pub fn read_and_keep_nothing(&self, name: &str) -> Result<Vec<u8>> {
        match self.read_whole(name, OFlag::O_NONBLOCK | OFlag::O_DIRECT) {
            // A disk wants buffers that are aligned.
            Err(error) if error.errno() == Some(Errno::EINVAL) => self.read(name),
            answer => answer,
        }
    }

    fn read_whole(&self, name: &str, how: OFlag) -> Result<Vec<u8>> {
        let flags = OFlag::O_RDONLY | how;
        let fd = self.openat2(OsStr::new(name), flags).map_err(|e| self.failed("read", name)(e))?;
        let (mut file, mut content, mut length) = (File::from(fd), vec![0; 16 << 10], 0);
        loop {
            let read = file.read(&mut content[length..]);
            length +=
                read.map_err(|error| Error::io(format!("read {}", self.path_of(name).display()), error))?;
            // Less than there was room for is all there is: to ask for more would be another round trip.
            if length < content.len() || length >= MAX_FILE {
                content.truncate(length);
                return Ok(content);
            }
            content.resize(2 * length, 0);
        }
    }

    /// Creates a file that must not exist yet. With `sync` its content is on disk when this returns; its name
    /// is not: see [`Dir::sync`].
    pub fn create(&self, name: &str, content: &[u8], sync: bool) -> Result<()> {
        self.write_whole(name, content, sync, OFlag::O_EXCL)
    }

    /// The same under a name with so many random bits that nobody else can have it. What exists would be written over: that
    /// is not asked, since of NFSv4 an exclusive creation takes one round trip more (RFC 8881, section 18.16.3: the mode is
    /// set after it).
    pub fn create_at_random(&self, name: &str, content: &[u8], sync: bool) -> Result<()> {
        self.write_whole(name, content, sync, OFlag::O_TRUNC)
    }

    fn write_whole(&self, name: &str, content: &[u8], sync: bool, how: OFlag) -> Result<()> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | how;
        let fd = self.openat2(OsStr::new(name), flags).map_err(|e| self.failed("create", name)(e))?;
        let mut file = File::from(fd);
        let written = file.write_all(content).and_then(|()| if sync { file.sync_data() } else { Ok(()) });
        written.map_err(|error| {
            // What could not be written whole must not lie about; the caller makes a new one on its retry.
            let _ = self.unlink(name);
            Error::io(format!("write {}", self.path_of(name).display()), error)
        })
    }

    /// Takes a file's content away.
    pub fn truncate(&self, name: &str) -> Result<()> {
        let fd = self.openat2(OsStr::new(name), OFlag::O_WRONLY);
        fd.and_then(|fd| unistd::ftruncate(&fd, 0)).map_err(|e| self.failed("cut short", name)(e))
    }

    /// Renames a name of this directory to a name of another, in one step.
    pub fn rename(&self, name: impl AsRef<OsStr>, to: &Dir, new: impl AsRef<OsStr>) -> Result<()> {
        let (name, new) = (name.as_ref(), new.as_ref());
        fcntl::renameat(&self.fd, name, &to.fd, new).map_err(|errno| {
            let (from, to) = (self.path.join(name), to.path.join(new));
            Error::io(format!("rename {} to {}", from.display(), to.display()), errno)
        })
    }

    /// Gives a file of this directory a second name; fails with EEXIST where that name is taken.
    pub fn link(&self, name: &str, to: &Dir, new: &str) -> Result<()> {
        unistd::linkat(&self.fd, name, &to.fd, new, LinkatFlags::empty()).map_err(|errno| {
            let (from, to) = (self.path_of(name), to.path_of(new));
            Error::io(format!("link {} as {}", from.display(), to.display()), errno)
        })
    }

    /// Removes a file.
    pub fn unlink(&self, name: impl AsRef<OsStr>) -> Result<()> {
        let name = name.as_ref();
        unistd::unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir)
            .map_err(|e| self.failed("remove", name)(e))
    }

    /// Removes an empty directory.
    pub fn rmdir(&self, name: impl AsRef<OsStr>) -> Result<()> {
        let name = name.as_ref();
        unistd::unlinkat(&self.fd, name, UnlinkatFlags::RemoveDir)
            .map_err(|e| self.failed("remove directory", name)(e))
    }

    /// Waits until the names in this directory are on disk.
    pub fn sync(&self) -> Result<()> {
        unistd::fsync(&self.fd).map_err(|e| self.failed("sync directory", "")(e))
    }
}

/// The bytes of a name, as the kernel takes them.
pub(super) fn name(bytes: &[u8]) -> &OsStr {
    OsStr::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn scratch() -> (tempfile::TempDir, Dir) {
        let scratch = tempfile::tempdir().unwrap();
        let dir = Dir::open(scratch.path()).unwrap();
        (scratch, dir)
    }

    #[test]
    fn a_link_anywhere_on_the_way_is_refused() {
        let (scratch, dir) = scratch();
        std::fs::create_dir_all(scratch.path().join("real/inner")).unwrap();
        symlink("real", scratch.path().join("link")).unwrap();
        symlink("inner", scratch.path().join("real/last")).unwrap();
        assert!(dir.dir("real/inner").is_ok());
        for path in ["link", "link/inner", "real/last"] {
            let errno = dir.dir(path).unwrap_err().errno();
            assert!(matches!(errno, Some(Errno::ELOOP | Errno::ENOTDIR)), "{path}: {errno:?}");
        }
    }

    #[test]
    fn a_path_that_climbs_is_refused() {
        let (_scratch, dir) = scratch();
        for path in ["..", "../x", "/etc", "/"] {
            assert_eq!(dir.dir(path).unwrap_err().errno(), Some(Errno::EXDEV), "{path}");
        }
    }

    #[test]
    fn a_file_that_is_a_link_or_a_pipe_is_not_read() {
        let (scratch, dir) = scratch();
        symlink("/etc/passwd", scratch.path().join("link")).unwrap();
        nix::unistd::mkfifo(&scratch.path().join("pipe"), Mode::S_IRWXU).unwrap();
        assert_eq!(dir.read("link").unwrap_err().errno(), Some(Errno::ELOOP));
        assert_eq!(dir.read("pipe").unwrap(), b"");
    }

    #[test]
    fn a_file_is_created_once_with_its_whole_content() {
        let (_scratch, dir) = scratch();
        dir.create("a", b"one", true).unwrap();
        assert_eq!(dir.create("a", b"two", true).unwrap_err().errno(), Some(Errno::EEXIST));
        assert_eq!(dir.read("a").unwrap(), b"one");
    }

    #[test]
    fn the_umask_does_not_touch_permission_bits() {
        let (_scratch, dir) = scratch();
        dir.mkdir("d").unwrap();
        let made = dir.dir("d").unwrap();
        let found = made.stat().unwrap();
        made.own(found.st_uid, found.st_gid, 0o2777).unwrap();
        assert_eq!(made.stat().unwrap().st_mode & 0o7777, 0o2777);
    }
}
