//! The nodes that can mount a root: each writes a file there, `.berth/nodes/<node>.json`, in the background and before
//! its first mount. ControllerPublishVolume of a node without one is NOT_FOUND.
//!
//! A node's name is what its publications are admitted under, so two hosts that have one name would have each other's.
//! The file says which host has it, and which boot of that host.

use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::id::node_part;
use crate::sys::fs::Dir;
use crate::sys::random;

const FORMAT: u32 = 1;

/// This host, as others know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// The name that the CO calls the node.
    pub node_id: String,
    /// What `uname -n` says.
    pub host_name: String,
    /// The kernel's name for this boot: it tells one host from another, and lasts until the next boot.
    pub boot_id: String,
}

impl Host {
    /// This host, under the name that the CO gives the node.
    pub fn this(node_id: String) -> Result<Self> {
        let path = "/proc/sys/kernel/random/boot_id";
        let boot_id =
            std::fs::read_to_string(path).map_err(|error| Error::io(format!("read {path}"), error))?;
        let host_name =
            nix::sys::utsname::uname().map_err(|errno| Error::io("read the host's name", errno))?;
        let host_name = host_name.nodename().to_string_lossy().into_owned();
        Ok(Self { node_id, host_name, boot_id: boot_id.trim().to_string() })
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Registration {
    format: u32,
    node_id: String,
    host_name: String,
    boot_id: String,
}

/// The registrations of a root.
#[derive(Debug)]
pub struct Nodes {
    dir: Dir,
    /// Where files are written, before they have their names.
    new: Dir,
    root: String,
    /// Inode and time of change of this host's own file, once it is written.
    own: Mutex<Option<(u64, i64, i64)>>,
}

impl Nodes {
    /// The registrations in a root's own directory.
    pub(super) fn open(own: &Dir, root: &str) -> Result<Self> {
        own.mkdir_if_missing("nodes")?;
        Ok(Self {
            dir: own.dir("nodes")?,
            new: own.dir("new")?,
            root: root.to_string(),
            own: Mutex::new(None),
        })
    }

    /// Whether a node has ever been able to mount this root.
    pub fn knows(&self, node_id: &str) -> Result<bool> {
        Ok(self.dir.stat_of(file(node_id))?.is_some())
    }

    /// Makes sure that this host is registered, without asking the server once it is.
    pub fn register_once(&self, host: &Host) -> Result<()> {
        let is_registered = self.own.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        if is_registered { Ok(()) } else { self.register(host) }
    }

    /// Makes sure that this host has its name to itself.
    ///
    /// # Errors
    /// FAILED_PRECONDITION, naming both hosts, when another one has it.
    pub fn register(&self, host: &Host) -> Result<()> {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let name = file(&host.node_id);
        let found = self.dir.stat_of(&name)?.map(|found| (found.st_ino, found.st_ctime, found.st_ctime_nsec));
        if found.is_some() && found == *own {
            return Ok(());
        }
        for _ in 0..3 {
            match self.read(&name)? {
                None => match self.write(&name, host, false) {
                    Err(error) if error.errno() == Some(Errno::EEXIST) => continue,
                    answer => answer?,
                },
                Some(there) if there.boot_id == host.boot_id => {}
                // The same host after a boot; but this one has been registered since its own.
                Some(there) if there.host_name == host.host_name && own.is_none() => {
                    self.write(&name, host, true)?;
                }
                Some(there) => return Err(self.claimed(&there, host)),
            }
            let found = self.dir.stat_of(&name)?;
            *own = found.map(|found| (found.st_ino, found.st_ctime, found.st_ctime_nsec));
            tracing::info!(root = self.root, node = host.node_id, host = host.host_name, "registered");
            return Ok(());
        }
        let what = format!("register node {} on root {}", host.node_id, self.root);
        Err(Error::Pending { what, why: "others register the same name at the same time".into() })
    }

    fn claimed(&self, there: &Registration, host: &Host) -> Error {
        Error::Refused {
            what: format!("use root {} as node {}", self.root, host.node_id),
            why: format!(
                "host {} (boot {}) has that name, this is host {} (boot {}): give each host a --node-id of its own; if \
                 that one is gone for good, remove {}",
                there.host_name,
                there.boot_id,
                host.host_name,
                host.boot_id,
                self.dir.path_of(&file(&host.node_id)).display()
            ),
        }
    }

    fn read(&self, name: &str) -> Result<Option<Registration>> {
        let text = match self.dir.read_and_keep_nothing(name) {
            Err(error) if error.is_gone() => return Ok(None),
            answer => answer?,
        };
        let path = self.dir.path_of(name).display().to_string();
        let found: Registration = serde_json::from_slice(&text).map_err(|error| Error::BadRecord {
            path: path.clone(),
            why: format!("is no registration of a node ({error}): remove it"),
        })?;
        if found.format > FORMAT {
            let why = format!("has format {}, this Berth knows {FORMAT}: use a newer one", found.format);
            return Err(Error::BadRecord { path, why });
        }
        Ok(Some(found))
    }

    /// Writes the file whole: as a new one, or in place of another.
    fn write(&self, name: &str, host: &Host, replace: bool) -> Result<()> {
        let Host { node_id, host_name, boot_id } = host.clone();
        let registration = Registration { format: FORMAT, node_id, host_name, boot_id };
        let mut text = serde_json::to_vec_pretty(&registration)
            .map_err(|error| Error::io("write a registration", std::io::Error::from(error)))?;
        text.push(b'\n');
        let temporary = format!("node.{:016x}.json", random()?);
        self.new.create_at_random(&temporary, &text, true)?;
        if replace {
            return self.new.rename(&temporary, &self.dir, name);
        }
        let linked = self.new.link(&temporary, &self.dir, name);
        self.new.unlink(&temporary)?;
        linked
    }
}

/// The file of a node; its name is safe whatever the node's is.
fn file(node_id: &str) -> String {
    format!("{}.json", node_part(node_id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(host_name: &str, boot_id: &str) -> Host {
        Host { node_id: "n/1".into(), host_name: host_name.into(), boot_id: boot_id.into() }
    }

    /// What another process of the same or another host sees.
    fn nodes(scratch: &tempfile::TempDir) -> Nodes {
        let own = Dir::open(scratch.path()).unwrap();
        own.mkdir_if_missing("new").unwrap();
        Nodes::open(&own, "main").unwrap()
    }

    #[test]
    fn a_node_is_known_once_it_has_registered_and_may_register_again() {
        let scratch = tempfile::tempdir().unwrap();
        assert!(!nodes(&scratch).knows("n/1").unwrap());
        let own = nodes(&scratch);
        own.register(&host("a", "1")).unwrap();
        own.register(&host("a", "1")).unwrap();
        nodes(&scratch).register(&host("a", "1")).unwrap();
        assert!(nodes(&scratch).knows("n/1").unwrap());
        assert!(!nodes(&scratch).knows("n").unwrap());
    }

    #[test]
    fn a_host_takes_its_name_over_after_a_boot() {
        let scratch = tempfile::tempdir().unwrap();
        nodes(&scratch).register(&host("a", "1")).unwrap();
        nodes(&scratch).register(&host("a", "2")).unwrap();
        nodes(&scratch).register(&host("a", "2")).unwrap();
    }

    #[test]
    fn a_second_host_with_the_name_of_a_node_is_refused_and_both_are_named() {
        let scratch = tempfile::tempdir().unwrap();
        nodes(&scratch).register(&host("a", "1")).unwrap();
        let why = nodes(&scratch).register(&host("b", "2")).unwrap_err().to_string();
        assert!(why.contains("host a") && why.contains("host b") && why.contains("--node-id"), "{why}");
    }

    #[test]
    fn a_clone_with_the_same_host_name_is_found_by_the_one_that_it_took_the_name_from() {
        let scratch = tempfile::tempdir().unwrap();
        let first = nodes(&scratch);
        first.register(&host("a", "1")).unwrap();
        nodes(&scratch).register(&host("a", "2")).unwrap();
        assert_eq!(first.register(&host("a", "1")).unwrap_err().code(), tonic::Code::FailedPrecondition);
    }
}
