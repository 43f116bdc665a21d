//! NFS mounts by system call, without a helper program, and without waiting longer than the caller can.
//!
//! mount.nfs(8) looks up the server's name, tries versions of the protocol and adds options that the kernel wants; all
//! of that is done here. The kernel is told everything (fsopen(2), fsconfig(2)), asks the server in a child
//! (`child`), and hands over a mount that nobody sees yet (fsmount(2)).

mod address;
mod alive;
mod failure;
mod unmount;

use std::ffi::{CStr, CString};
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;

pub use self::alive::answers;
use self::failure::Failure;
pub use self::unmount::{Unmounted, unmount};
use super::child::{self, Outcome};
use super::mount::{Attributes, Detached};
use crate::error::{Error, Result};

/// What is mounted.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// The server as the administrator wrote it: a name, an IPv4 address, or an IPv6 address in brackets.
    pub server: &'a str,
    /// An absolute path on the server.
    pub path: &'a str,
}

impl fmt::Display for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.server, self.path)
    }
}

/// Versions of the protocol, the one to try first in front.
const VERSIONS: [&str; 4] = ["4.2", "4.1", "4.0", "3"];

/// The longest text that fsconfig(2) takes, in bytes, its final zero left out (fs/fsopen.c).
pub const MAX_TEXT: usize = 255;

/// Mounts out of sight. `options` are `key` or `key=value` as nfs(5) spells them, checked by
/// [`crate::mount_options`]; without `vers`, or with `vers=4`, the newest version that the server speaks is taken.
///
/// # Errors
/// ABORTED when the server does not answer within `patience`; FAILED_PRECONDITION for what it or the kernel refuses.
pub fn mount(
    source: &Source<'_>,
    options: &[String],
    attributes: Attributes,
    patience: Duration,
) -> Result<Detached> {
    mount_any_version(source, options, attributes, patience).map(|(mount, _)| mount)
}

/// Does as [`mount`] and tells the version that was taken, as the option `vers` spells it: later mounts of that server
/// need no search.
pub fn mount_any_version(
    source: &Source<'_>,
    options: &[String],
    attributes: Attributes,
    patience: Duration,
) -> Result<(Detached, String)> {
    let length = source.to_string().len();
    if length > MAX_TEXT {
        let why = format!("server and path have {length} bytes together, and Linux takes {MAX_TEXT}");
        return Err(Error::Refused { what: format!("mount {source}"), why });
    }
    let deadline = Instant::now() + patience;
    let wanted = value(options, "vers");
    let wanted =
        |version: &str| wanted.is_none_or(|w| w == version || (w == "4" && version.starts_with("4.")));
    let versions: Vec<&'static str> = VERSIONS.into_iter().filter(|version| wanted(version)).collect();
    let addresses = address::of(source, value(options, "proto"), patience)?;
    let mut last = Error::invalid("mount_flags.vers", format!("known are {}", VERSIONS.join(", ")));
    for (at, address) in addresses.iter().enumerate() {
        // An address that is silent leaves time for those behind it.
        let share = u32::try_from(addresses.len() - at).unwrap_or(1);
        let until = Instant::now() + deadline.saturating_duration_since(Instant::now()) / share;
        for version in &versions {
            let failure = match attempt(source, address, version, options, attributes, until) {
                Ok(mount) => return Ok((mount, version.to_string())),
                Err(failure) => failure,
            };
            let (another_version, another_address) = (failure.is_of_version(), failure.is_of_address());
            last = failure.explain(source, address, version);
            if another_address {
                break;
            }
            if !another_version {
                return Err(last);
            }
        }
    }
    Err(last)
}

/// The value of an option, if it is given.
fn value<'a>(options: &'a [String], key: &str) -> Option<&'a str> {
    options.iter().rev().find_map(|option| option.strip_prefix(key)?.strip_prefix('='))
}

/// One version, one address.
fn attempt(
    source: &Source<'_>,
    address: &SocketAddr,
    version: &str,
    options: &[String],
    attributes: Attributes,
    until: Instant,
) -> Result<Detached, Failure> {
    let context = Context::open(if version == "3" { c"nfs" } else { c"nfs4" })?;
    context.set("source", Some(&source.to_string()))?;
    context.set("addr", Some(&address::text(address)))?;
    context.set("vers", Some(version))?;
    if value(options, "sec").is_none() {
        // Otherwise the first mount of a server takes seconds to find a flavour.
        context.set("sec", Some("sys"))?;
    }
    for option in options {
        match option.split_once('=') {
            Some(("vers", _)) => {}
            Some((key, value)) => context.set(key, Some(value))?,
            None => context.set(option, None)?,
        }
    }
    context.connect(&format!("mount {source}"), until.saturating_duration_since(Instant::now()))?;
    let mount = context.mount()?;
    mount.set(attributes).map_err(Failure::of)?;
    Ok(mount)
}

/// A file system that is being set up (fsopen(2)).
struct Context(OwnedFd);

impl Context {
    fn open(file_system: &CStr) -> Result<Self, Failure> {
        // SAFETY: the name is a string that ends in a zero.
        let answer = unsafe { libc::syscall(libc::SYS_fsopen, file_system.as_ptr(), libc::FSOPEN_CLOEXEC) };
        match Errno::result(answer) {
            Ok(fd) => Ok(Self(owned(fd))),
            Err(errno) => Err(Failure::of(errno)),
        }
    }

    /// An option with its value, or without any.
    fn set(&self, key: &str, value: Option<&str>) -> Result<(), Failure> {
        let text = |text: &str| CString::new(text).map_err(|_| Failure::of(Errno::EINVAL));
        let (key, value) = (text(key)?, value.map(text).transpose()?);
        let (command, value) = match &value {
            Some(value) => (libc::FSCONFIG_SET_STRING, value.as_ptr()),
            None => (libc::FSCONFIG_SET_FLAG, std::ptr::null()),
        };
        // SAFETY: the descriptor is open, both texts end in a zero and live over the call.
        let answer =
            unsafe { libc::syscall(libc::SYS_fsconfig, self.0.as_raw_fd(), command, key.as_ptr(), value, 0) };
        Errno::result(answer).map(drop).map_err(|errno| self.refused(errno))
    }

    /// Makes the file system: here the server is asked.
    fn connect(&self, what: &str, patience: Duration) -> Result<(), Failure> {
        let (fd, command, none) =
            (self.0.as_raw_fd(), libc::FSCONFIG_CMD_CREATE, std::ptr::null::<libc::c_char>());
        // SAFETY: the descriptor is open, and the context behind it is the same in the child; nothing else is passed.
        let outcome = child::call(what, patience, Some(self.0.as_fd()), || unsafe {
            libc::syscall(libc::SYS_fsconfig, fd, command, none, none, 0)
        })?;
        match outcome {
            Outcome::Done => Ok(()),
            Outcome::Failed(errno) => Err(self.refused(errno)),
            // What the kernel has to say can't be read while the child may still hold the context.
            Outcome::Silent => Err(Failure::Silent(patience)),
        }
    }

    /// A mount of the file system.
    fn mount(&self) -> Result<Detached, Failure> {
        // SAFETY: the descriptor is open.
        let answer =
            unsafe { libc::syscall(libc::SYS_fsmount, self.0.as_raw_fd(), libc::FSMOUNT_CLOEXEC, 0) };
        Errno::result(answer).map(|fd| Detached::of(owned(fd))).map_err(|errno| self.refused(errno))
    }

    /// What the kernel wrote about a failure: lines that begin with a level and the file system's name (`e nfs4: …`).
    fn refused(&self, errno: Errno) -> Failure {
        let mut words = Vec::new();
        let mut line = [0; 1024];
        // One line for each read; ENODATA ends them.
        while let Ok(length) = nix::unistd::read(&self.0, &mut line) {
            let text = String::from_utf8_lossy(&line[..length]).trim().to_string();
            let text = text
                .strip_prefix("e ")
                .or_else(|| text.strip_prefix("w "))
                .map(str::to_string)
                .unwrap_or(text);
            if length == 0 || words.len() == 8 {
                break;
            }
            words.push(text);
        }
        Failure::Refused { errno, words: words.join("; ") }
    }
}

/// A descriptor that the kernel just gave to us.
fn owned(fd: libc::c_long) -> OwnedFd {
    let fd = libc::c_int::try_from(fd).unwrap_or(-1);
    // SAFETY: it comes from a system call that makes a descriptor and succeeded, and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
