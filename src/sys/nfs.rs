//! Mounts of NFS servers by system call: no helper program, the server's name resolved here, and the kernel's own words
//! when it refuses. What may hang is done in a child.

use std::ffi::{CStr, CString};
use std::net::{IpAddr, ToSocketAddrs as _};
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;

use super::child::{self, Outcome};
use super::mount::{Attributes, Detached};
use super::table::Table;
use crate::error::{Error, Result};

/// Commands and flags of fsopen(2) and its kin, which libc has no names for.
const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSCONFIG_SET_FLAG: libc::c_uint = 0;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;

/// Versions of NFS, the newest first.
const VERSIONS: [&str; 4] = ["4.2", "4.1", "4.0", "3"];

/// What to mount.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// A name, an IPv4 address, or an IPv6 address in brackets.
    pub server: &'a str,
    /// An absolute path on the server.
    pub path: &'a str,
}

impl std::fmt::Display for Source<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.server, self.path)
    }
}

/// Mounts with the newest version that both sides know, unless the options name one; says which it was.
pub fn mount_any_version(
    source: &Source<'_>,
    options: &[String],
    attributes: Attributes,
    patience: Duration,
) -> Result<(Detached, String)> {
    if let Some(version) = options.iter().find_map(|option| option.strip_prefix("vers=")) {
        return Ok((mount(source, options, attributes, patience)?, version.to_string()));
    }
    let mut last = None;
    for version in VERSIONS {
        let mut all = options.to_vec();
        all.push(format!("vers={version}"));
        match mount(source, &all, attributes, patience) {
            Ok(mount) => return Ok((mount, version.to_string())),
            Err(error) if error.errno() == Some(Errno::EPROTONOSUPPORT) => last = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(last.unwrap_or_else(|| Error::io(format!("mount {source}"), Errno::EPROTONOSUPPORT)))
}

/// Mounts out of sight. The options are as nfs(5) spells them, `vers` among them; whether the mount is read-only is an
/// attribute of it alone, never of the file system, which other mounts may share.
///
/// # Errors
/// ABORTED when the server does not answer within `patience`; else the kernel's, with what it says about them.
pub fn mount(
    source: &Source<'_>,
    options: &[String],
    attributes: Attributes,
    patience: Duration,
) -> Result<Detached> {
    let mut last = None;
    for address in resolve(source.server)? {
        match mount_at(source, address, options, attributes, patience) {
            Err(error)
                if matches!(
                    error.errno(),
                    Some(Errno::ECONNREFUSED | Errno::EHOSTUNREACH | Errno::ENETUNREACH)
                ) =>
            {
                last = Some(error);
            }
            answer => return answer,
        }
    }
    Err(last
        .unwrap_or_else(|| Error::io(format!("find an address of {}", source.server), Errno::EHOSTUNREACH)))
}

/// The addresses of a server, as they are now.
fn resolve(server: &str) -> Result<Vec<IpAddr>> {
    let bare = server.trim_start_matches('[').trim_end_matches(']');
    let found = (bare, 2049).to_socket_addrs().map_err(|error| Error::Refused {
        what: format!("find the address of NFS server {server}"),
        why: format!("{error}: the driver looks it up where it runs, in its /etc/hosts and /etc/resolv.conf"),
    })?;
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in found.map(|address| address.ip()) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

fn mount_at(
    source: &Source<'_>,
    address: IpAddr,
    options: &[String],
    attributes: Attributes,
    patience: Duration,
) -> Result<Detached> {
    let version =
        options.iter().rfind(|option| option.starts_with("vers=")).map_or("", |option| &option[5..]);
    let context = Context::open(if version == "3" { c"nfs" } else { c"nfs4" })
        .map_err(|errno| explain(source, version, errno, String::new()))?;
    let source_text = source.to_string();
    let address = address.to_string();
    let has_security = options.iter().any(|option| option.starts_with("sec="));
    let ours = [("source", source_text.as_str()), ("addr", address.as_str())];
    let set = || -> Result<(), Errno> {
        for (key, value) in ours {
            context.set(key, Some(value))?;
        }
        // Without it client and server negotiate, which takes seconds where the client has no Kerberos.
        if !has_security {
            context.set("sec", Some("sys"))?;
        }
        for option in options {
            match option.split_once('=') {
                Some((key, value)) => context.set(key, Some(value))?,
                None => context.set(option, None)?,
            }
        }
        Ok(())
    };
    set().map_err(|errno| explain(source, version, errno, context.words()))?;
    match context.create(&source_text, patience)? {
        Outcome::Done => {}
        Outcome::Failed(errno) => return Err(explain(source, version, errno, context.words())),
        Outcome::Silent => return Err(silent(source, patience)),
    }
    context.mount(attributes).map_err(|errno| explain(source, version, errno, context.words()))
}

fn silent(source: &Source<'_>, patience: Duration) -> Error {
    Error::Silent {
        what: format!("mount {source}"),
        why: format!(
            "the server does not answer within {} s: is it up, and does the network lead to it? The same call may be \
             repeated",
            patience.as_secs()
        ),
    }
}

/// A refusal, with what the kernel says about it and what an administrator can do.
fn explain(source: &Source<'_>, version: &str, errno: Errno, words: String) -> Error {
    let advice = match errno {
        Errno::ENOENT => "the server has no such directory, or does not export it to this host",
        Errno::EACCES | Errno::EPERM => {
            "the server does not export it to this host, or not with this security flavour (sec=)"
        }
        Errno::EPROTONOSUPPORT => "the server does not speak this version of NFS (vers=)",
        Errno::ECONNREFUSED if version == "3" => {
            "no NFS server listens there; or rpc.statd does not run on this host: start it, or mount with nolock, which \
             makes locks local to each node"
        }
        Errno::ECONNREFUSED => "no NFS server listens there",
        Errno::ENODEV => "this kernel has no NFS client: modprobe nfs nfsv4",
        Errno::EINVAL => "an option is not known to this kernel, or does not go with the others",
        Errno::ETIMEDOUT | Errno::EIO => {
            return Error::Silent {
                what: format!("mount {source}"),
                why: format!("the server does not answer ({errno}); the same call may be repeated"),
            };
        }
        _ => "",
    };
    let words = if words.is_empty() { String::new() } else { format!(" ({words})") };
    let vers = if version.is_empty() { String::new() } else { format!(" with NFS {version}") };
    let mut doing = format!("mount {source}{vers}{words}");
    if !advice.is_empty() {
        doing = format!("{doing}: {advice}");
    }
    Error::io(doing, errno)
}

/// A file system that is being configured, fsopen(2).
struct Context(OwnedFd);

impl Context {
    fn open(file_system: &CStr) -> Result<Self, Errno> {
        // SAFETY: the name is a string that ends in a zero.
        let fd =
            Errno::result(unsafe { libc::syscall(libc::SYS_fsopen, file_system.as_ptr(), FSOPEN_CLOEXEC) })?;
        owned(fd).map(Self)
    }

    fn set(&self, key: &str, value: Option<&str>) -> Result<(), Errno> {
        let key = CString::new(key).map_err(|_| Errno::EINVAL)?;
        let value = value.map(CString::new).transpose().map_err(|_| Errno::EINVAL)?;
        let (command, pointer) = match &value {
            Some(value) => (FSCONFIG_SET_STRING, value.as_ptr()),
            None => (FSCONFIG_SET_FLAG, std::ptr::null()),
        };
        // SAFETY: both texts end in a zero and live over the call; a flag has no value.
        let answer = unsafe {
            libc::syscall(libc::SYS_fsconfig, self.0.as_raw_fd(), command, key.as_ptr(), pointer, 0)
        };
        Errno::result(answer).map(drop)
    }

    /// Lets the kernel connect to the server.
    fn create(&self, source: &str, patience: Duration) -> Result<Outcome> {
        let fd = self.0.as_raw_fd();
        let null = std::ptr::null::<libc::c_char>();
        child::call(&format!("mount {source}"), patience, Some(self.0.as_fd()), || {
            // SAFETY: the command takes no arguments.
            unsafe { libc::syscall(libc::SYS_fsconfig, fd, FSCONFIG_CMD_CREATE, null, null, 0) }
        })
    }

    fn mount(&self, attributes: Attributes) -> Result<Detached, Errno> {
        // SAFETY: the call takes three numbers.
        let answer = unsafe { libc::syscall(libc::SYS_fsmount, self.0.as_raw_fd(), 1, 0) };
        let tree = Detached::of(owned(Errno::result(answer)?)?);
        tree.set(attributes)?;
        Ok(tree)
    }

    /// What the kernel says of the last failure, in one line: lines that begin with `e `, `w ` or `i `.
    fn words(&self) -> String {
        let mut words = Vec::new();
        let mut buffer = [0_u8; 1024];
        for _ in 0..16 {
            match nix::unistd::read(&self.0, &mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(length) => {
                    let line = String::from_utf8_lossy(&buffer[..length]).trim().to_string();
                    words.push(line.get(2..).unwrap_or_default().to_string());
                }
            }
        }
        words.join("; ")
    }
}

fn owned(fd: libc::c_long) -> Result<OwnedFd, Errno> {
    let fd = libc::c_int::try_from(fd).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel just gave this descriptor to us, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What came of an unmount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmounted {
    /// Nothing is mounted there any more.
    Gone,
    /// A process uses it.
    Busy,
}

/// Removes every mount at `target`; `lazily` also those that are in use: then they are gone from sight, and end with
/// their last user. Asks no server. The last unmount of a server waits in the kernel for that server's answer, but the
/// mount is gone from the table at once, and that is what counts.
pub fn unmount(target: &Path, lazily: bool, patience: Duration) -> Result<Unmounted> {
    let what = format!("unmount {}", target.display());
    let path = CString::new(target.as_os_str().as_encoded_bytes())
        .map_err(|_| Error::invalid("target_path", "has a zero byte"))?;
    let flags = libc::UMOUNT_NOFOLLOW | if lazily { libc::MNT_DETACH } else { 0 };
    let count = |table: &Table| table.at(target).count();
    let mut there = count(&Table::read()?);
    while there > 0 {
        // SAFETY: the path ends in a zero and was made before.
        let outcome = child::call(&what, patience, None, || unsafe {
            libc::syscall(libc::SYS_umount2, path.as_ptr(), flags)
        })?;
        let left = count(&Table::read()?);
        match outcome {
            _ if left < there => there = left,
            Outcome::Failed(Errno::EBUSY) => return Ok(Unmounted::Busy),
            Outcome::Failed(errno) => return Err(Error::io(what, errno)),
            Outcome::Silent => {
                let why = format!("it does not come to an end within {} s", patience.as_secs());
                return Err(Error::Silent { what, why });
            }
            // Somebody mounts there as fast as it is unmounted.
            Outcome::Done => there = left,
        }
    }
    Ok(Unmounted::Gone)
}
