//! Roots: where volumes lie. A root is a directory tree, on a node's own disk ([`local`]) or on a server ([`nfs`]); only
//! where the two differ is there a `match`. What is in the tree is in `tree`.
//!
//! ```text
//! <root>/<path>.<incarnation>/               the data: exactly what a pod sees, nothing of ours inside
//! <root>/.berth/root.json                    who this root is
//! <root>/.berth/new/<name>.<incarnation>/    a tree being built
//! <root>/.berth/nodes/<node>.json            nfs: a node that can mount this root
//! ```

mod base;
mod identity;
pub mod local;
pub mod nfs;
pub mod nodes;
mod server;
mod share;
mod specs;
mod tree;

use std::path::Path;
use std::sync::Arc;

use crate::error::Result;
use crate::id::{MAX_ROOT, is_root_name};
use crate::store::Store;
use crate::sys::fs::Dir;
use crate::sys::mount::{Attributes, Detached, unmount};
use crate::sys::table::{Mount, Table, is_nfs};
use base::Base;
pub use specs::Specs;
pub use tree::Placement;

/// Which of the two drivers this is. CSI states its facts for each driver, not for each volume, so a process is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Directories of a node's own disks: a volume lies on one node.
    Local,
    /// Directories of NFS servers: every node reaches them, and ControllerPublishVolume admits them.
    Nfs,
}

/// A root, there or not.
#[derive(Debug)]
pub enum Root {
    /// A directory of this node.
    Local(local::Root),
    /// A share of a server.
    Nfs(nfs::Root),
}

/// A root that is there and is what it should be, open for the length of one call.
#[derive(Debug)]
pub struct OpenRoot {
    /// The root's name.
    pub name: String,
    /// The directory that the data lies in.
    pub dir: Dir,
    /// The records.
    pub store: Store,
    /// Whether the records lie elsewhere, so that nothing may be created here.
    pub adopted_only: bool,
    backend: Backend,
}

/// Where the two kinds of root differ, once they are open.
#[derive(Debug)]
enum Backend {
    Local,
    Nfs { spec: Arc<nfs::Spec>, base: Arc<Base>, _place: server::Place },
}

impl Root {
    /// The root's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Local(root) => &root.spec.name,
            Self::Nfs(root) => &root.spec.name,
        }
    }

    /// Where it is, as the administrator says it.
    pub fn place(&self) -> String {
        match self {
            Self::Local(root) => root.spec.path.display().to_string(),
            Self::Nfs(root) => root.spec.share.to_string(),
        }
    }

    /// Whether two roots answer together or not at all: on one node, or on one server.
    pub fn lives_with(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Nfs(a), Self::Nfs(b)) => a.spec.share.server == b.spec.share.server,
            _ => true,
        }
    }

    /// Opens the root for one call.
    ///
    /// # Errors
    /// FAILED_PRECONDITION, saying why and what to do, when it is missing or is not what it should be; ABORTED when its
    /// server does not answer, at once where enough calls wait for it already.
    pub fn open(&self) -> Result<OpenRoot> {
        match self {
            Self::Local(root) => root.open(),
            Self::Nfs(root) => root.open(),
        }
    }

    /// Gives up what leads nowhere any more; the next call opens it anew.
    pub fn look_again(&self) {
        match self {
            // It is looked at with every call.
            Self::Local(_) => {}
            Self::Nfs(root) => root.look_again(),
        }
    }

    /// Removes every mount at a target, which is this root's. Asks no server, unless the target is busy.
    ///
    /// # Errors
    /// ABORTED while a process uses it, except where its server does not answer.
    pub fn unmount(&self, target: &Path) -> Result<()> {
        match self {
            Self::Local(_) => unmount(target).map(drop),
            Self::Nfs(root) => root.unmount(target),
        }
    }
}

impl OpenRoot {
    /// Whether other hosts reach the same directories.
    pub fn is_shared(&self) -> bool {
        matches!(self.backend, Backend::Nfs { .. })
    }

    /// The nodes that can mount this root; nothing where it is one node's own.
    pub fn nodes(&self) -> Option<&nodes::Nodes> {
        match &self.backend {
            Backend::Local => None,
            Backend::Nfs { base, .. } => Some(&base.nodes),
        }
    }

    /// The root's own directory where files are removed: see [`Store::leaving_removals`].
    pub fn for_removals(&self) -> Result<Dir> {
        match &self.backend {
            Backend::Local => self.store.own_directory(),
            Backend::Nfs { spec, base, .. } => base.for_removals(spec),
        }
    }

    /// Whether a volume at `path` beneath the root could be published.
    pub fn check_length(&self, path: &str) -> Result<()> {
        match &self.backend {
            Backend::Local => Ok(()),
            Backend::Nfs { spec, .. } => spec.check_length(path),
        }
    }

    /// Every mount of the data at `path` beneath the root that is a publication.
    pub fn mounts_of(&self, table: &Table, path: &str) -> Result<Vec<Mount>> {
        match &self.backend {
            Backend::Local => {
                let (device, root) = table.place_of(&self.dir)?;
                let own = self.dir.path().join(path);
                Ok(table.of(&device, &root.join(path)).filter(|mount| mount.at != own).collect())
            }
            Backend::Nfs { spec, .. } => Ok(table.of_nfs(|source| spec.is_source_of(source, path)).collect()),
        }
    }

    /// A mount of `data`, which lies at `path` beneath the root, that nobody sees yet.
    pub fn mount(
        &self,
        path: &str,
        data: &Dir,
        attributes: Attributes,
        options: &[String],
    ) -> Result<Detached> {
        match &self.backend {
            Backend::Local => Detached::clone_of(data, attributes),
            Backend::Nfs { spec, base, .. } => spec.mount(base, path, data, attributes, options),
        }
    }
}

/// Reads the name of a root.
fn root_name(name: &str) -> Result<String, String> {
    if is_root_name(name) {
        return Ok(name.to_string());
    }
    Err(format!("{name:?} is no name of a root: a-z, 0-9 and -, {MAX_ROOT} bytes at most"))
}

/// Removes a mount of ours whose root is served no more.
pub fn unmount_unserved(mount: &Mount, target: &Path) -> Result<()> {
    // Of its server nothing is known, so it counts as alive: a mount that is in use stays.
    if is_nfs(mount) { nfs::unmount(target, || true) } else { unmount(target).map(drop) }
}
