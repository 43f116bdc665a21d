//! The socket: private from its first moment, and ours alone.
//!
//! A lock beside it decides between processes that start at once, and ends with its process, whatever kills it. So
//! whoever has the lock may take over a socket that nobody listens at.

use std::fs::{File, TryLockError};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
use nix::sys::stat::{Mode, fchmod};
use tokio::net::UnixListener;

use crate::error::{Error, Result};

/// A socket that listens; its file and its lock's go with it.
#[derive(Debug)]
pub struct Socket {
    pub(crate) listener: UnixListener,
    pub(crate) claim: Claim,
}

/// What lies at a socket's path, and the right to it.
#[derive(Debug)]
pub(crate) struct Claim {
    socket: Name,
    _lock: Lock,
}

/// A lock file, locked until the end.
#[derive(Debug)]
struct Lock {
    _name: Name,
    _file: File,
}

/// A file of ours, removed in the end if it is still ours: others may have cleared the path and made it theirs.
#[derive(Debug)]
struct Name {
    path: PathBuf,
    inode: u64,
}

impl Claim {
    /// Whether the socket is still in its place.
    pub(crate) fn stands(&self) -> bool {
        self.socket.is_ours()
    }
}

impl Name {
    fn is_ours(&self) -> bool {
        std::fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode)
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        if self.is_ours() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The path in `unix:///path`, `unix:/path` or `/path`.
///
/// # Errors
/// The endpoint is no unix socket.
pub fn path(endpoint: &str) -> Result<PathBuf> {
    let path =
        endpoint.strip_prefix("unix://").or_else(|| endpoint.strip_prefix("unix:")).unwrap_or(endpoint);
    if path.starts_with('/') {
        return Ok(path.into());
    }
    let why = format!("{endpoint:?} is no unix socket: say unix:///run/berth/csi.sock");
    Err(Error::invalid("--endpoint", why))
}

impl Socket {
    /// Binds what a flag gave. What a dead process left there is taken over; a live one's is refused.
    ///
    /// # Errors
    /// Says why: the path is too long or taken.
    pub fn bind(flag: &str, path: &Path) -> Result<Self> {
        let address = UnixAddr::new(path).map_err(|error| {
            let why = format!("{}: {error} (a socket's path has 107 bytes at most)", path.display());
            Error::invalid(flag, why)
        })?;
        let failed = |doing: &str, error: io::Error| Error::io(format!("{doing} {}", path.display()), error);
        // The last directory is made, as /run/berth after a boot; one that is further up was misspelt.
        if let Some(above) = path.parent()
            && let Err(error) = std::fs::DirBuilder::new().mode(0o755).create(above)
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            return Err(Error::io(format!("make directory {}", above.display()), error));
        }
        let lock = Lock::take(flag, path)?;
        clear(flag, path)?;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)
            .map_err(|e| failed("open", e.into()))?;
        // Before it is bound: the name is born with this mode, at no moment with another.
        fchmod(&fd, Mode::S_IRUSR | Mode::S_IWUSR).map_err(|e| failed("set the mode of", e.into()))?;
        bind(fd.as_raw_fd(), &address).map_err(|e| failed("bind", e.into()))?;
        let inode = std::fs::symlink_metadata(path).map_err(|error| failed("look at", error))?.ino();
        let claim = Claim { socket: Name { path: path.to_path_buf(), inode }, _lock: lock };
        Backlog::new(1024)
            .and_then(|backlog| listen(&fd, backlog))
            .map_err(|e| failed("listen on", e.into()))?;
        let listener = UnixListener::from_std(fd.into()).map_err(|error| failed("listen on", error))?;
        Ok(Self { listener, claim })
    }
}

/// Clears the path of what a dead process left. Anything that is no socket, or that somebody listens at, stays.
fn clear(flag: &str, path: &Path) -> Result<()> {
    let failed = |doing: &str, error: io::Error| Error::io(format!("{doing} {}", path.display()), error);
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("look at", error)),
        Ok(found) if !found.file_type().is_socket() => {
            let why = format!("{} exists and is no socket: remove it", path.display());
            return Err(Error::invalid(flag, why));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(taken(flag, path)),
        // The one answer that says that nobody is there; a socket of another type is somebody's too.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(|error| failed("remove the stale socket", error))
        }
        Err(error) => Err(failed("connect to the socket that exists already:", error)),
    }
}

impl Lock {
    /// Takes the lock beside the socket, so that of two processes that start at once one is refused.
    fn take(flag: &str, socket: &Path) -> Result<Self> {
        let mut path = socket.as_os_str().to_os_string();
        path.push(".lock");
        let path = PathBuf::from(path);
        let failed = |error: io::Error| Error::io(format!("lock {}", path.display()), error);
        loop {
            let file = File::options()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&path)
                .map_err(failed)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(taken(flag, socket)),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
            // Its last holder may have removed it between the two steps: then it is the lock of nothing.
            let inode = file.metadata().map_err(failed)?.ino();
            if std::fs::metadata(&path).is_ok_and(|found| found.ino() == inode) {
                return Ok(Self { _name: Name { path, inode }, _file: file });
            }
        }
    }
}

fn taken(flag: &str, path: &Path) -> Error {
    Error::invalid(flag, format!("another process serves {}: stop it first", path.display()))
}
