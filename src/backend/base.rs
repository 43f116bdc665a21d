//! Berth's own mount of a share: where records are read and written, never a pod's.
//!
//! It is attached nowhere, so nobody else sees it and it ends with the process. Its options are chosen so that another
//! host's writes are seen at once: no name is answered from a cache (`lookupcache=none`), and no listing, see
//! [`Dir::scan`]; attributes may be, for nothing is decided by them that a name did not bring fresh. And so that every
//! call on it ends: `soft`, since a call that fails is repeated, while one that hangs holds a thread. `softerr` would be
//! worse: with it Linux answers from its cache what the server was asked (`softreval`).

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::identity::{Claim, Identity};
use super::nfs::Spec;
use super::nodes::Nodes;
use super::share::Share;
use crate::error::{Error, Result};
use crate::id::OWN_DIRECTORY;
use crate::mount_options;
use crate::store::Own;
use crate::sys::fs::Dir;
use crate::sys::mount::{Attributes, Detached};
use crate::sys::nfs;

/// How long mounting may take before it is ended.
pub(super) const PATIENCE: Duration = Duration::from_secs(6);

/// The options of Berth's own mounts, over those of the root. `timeo` is in tenths of a second: a call that is not
/// answered is sent once more after 1.2 seconds, and fails after 2.4 more: well before the edge's deadline.
const OWN_OPTIONS: [&str; 6] = ["soft", "timeo=12", "retrans=1", "lookupcache=none", "nordirplus", "nolock"];

/// A share that is mounted, and is the root that it should be.
#[derive(Debug)]
pub(super) struct Base {
    /// Where the data lies.
    pub(super) dir: Dir,
    /// The root's own directories.
    pub(super) own: Arc<Own>,
    /// The nodes that can mount the root.
    pub(super) nodes: Nodes,
    /// The version of NFS that server and kernel agreed upon.
    pub(super) version: String,
    /// Of this root and no other.
    pub(super) uuid: String,
    /// Of [`Base::for_removals`].
    removals: Mutex<Option<Dir>>,
    _mounts: Vec<Detached>,
}

impl Base {
    /// Mounts a root's share, and makes sure that it is that root; one that was `known` before is not laid out anew.
    pub(super) fn mount(spec: &Spec, known: bool) -> Result<Self> {
        let (mount, version) = mount(spec, &spec.share, &[])?;
        let dir = mount.dir(PathBuf::from(spec.share.to_string()))?;
        let (parent, mounts) = match &spec.records {
            None => (dir.duplicate()?, vec![mount]),
            Some(records) => {
                let (other, _) = self::mount(spec, records, &[])?;
                (other.dir(PathBuf::from(records.to_string()))?, vec![mount, other])
            }
        };
        let place = spec.share.to_string();
        let claim = Claim { name: &spec.name, kind: "nfs", place: &place };
        let (own, identity) = recognise(&claim, &dir, &parent, known, spec.records.is_some())?;
        let nodes = Nodes::open(&own, &spec.name)?;
        tracing::info!(root = spec.name, share = place, version, uuid = identity.uuid, "root found");
        Ok(Self {
            own: Arc::new(Own::open(own)?),
            dir,
            nodes,
            version,
            uuid: identity.uuid,
            removals: Mutex::default(),
            _mounts: mounts,
        })
    }

    /// The root's own directory by a mount that shares nothing with this one. A removal waits for whoever has a
    /// delegation of the file, for a lease's time if that one is cut off, and locks the directory meanwhile; so it is
    /// made where nothing else is done.
    pub(super) fn for_removals(&self, spec: &Spec) -> Result<Dir> {
        let mut removals = self.removals.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = removals.as_ref() {
            return own.duplicate();
        }
        let share = spec.records.as_ref().unwrap_or(&spec.share);
        // Names may come from a cache here: of directories that lead to what is removed, each of which has a name of its own
        // for each incarnation. A name that is missing there may not, for then nothing would be removed.
        let alone = ["nosharecache", "lookupcache=positive", &format!("vers={}", self.version)];
        let (mount, _) = mount(spec, share, &alone)?;
        let own = mount.dir(PathBuf::from(share.to_string()))?.dir(OWN_DIRECTORY)?;
        *removals = Some(own.duplicate()?);
        Ok(own)
    }

    /// Whether this mount leads nowhere any more: what was exported is not the same.
    pub(super) fn is_stale(&self) -> bool {
        self.dir.stat().is_err_and(|error| error.is_gone())
    }
}

fn mount(spec: &Spec, share: &Share, more: &[&str]) -> Result<(Detached, String)> {
    let own: Vec<String> = OWN_OPTIONS.iter().chain(more).map(ToString::to_string).collect();
    let mut options = mount_options::merge(&spec.options, &own);
    options.retain(|option| option != "softreval");
    let source = nfs::Source { server: &share.server, path: &share.path };
    nfs::mount_any_version(&source, &options, Attributes::safe(), PATIENCE)
}

fn recognise(
    claim: &Claim<'_>,
    dir: &Dir,
    parent: &Dir,
    known: bool,
    elsewhere: bool,
) -> Result<(Dir, Identity)> {
    let laid_out = claim.own_directory(parent, known).and_then(|own| {
        if !known && !Claim::is_laid_out(&own)? {
            if !elsewhere && dir.is_empty_but_for(&["lost+found", OWN_DIRECTORY])? {
                // What is in the root is for Berth's mounts alone. A server may not let us; then it has its reasons.
                let found = dir.stat()?;
                if let Err(error) = dir.own(found.st_uid, found.st_gid, 0o700) {
                    tracing::warn!(root = claim.name, %error, "the directory stays open to users of the server");
                }
            }
            claim.lay_out(parent, &own)?;
        }
        let identity = claim.check(&own)?;
        Ok((own, identity))
    });
    laid_out.map_err(|error| explain(claim, error))
}

/// What a server's refusal means, and what its administrator can do.
fn explain(claim: &Claim<'_>, error: Error) -> Error {
    use nix::errno::Errno;
    let advice = match error.errno() {
        Some(Errno::EACCES | Errno::EPERM) => {
            "root may not write there: export it with no_root_squash, or give the directory to the user that the \
             server makes of root (root_squash; often 65534)"
        }
        Some(Errno::EROFS) => {
            "it is exported read-only: export it with rw; to serve existing data that must stay untouched, keep the \
             records on another share with ,records=SERVER:/PATH"
        }
        Some(Errno::ENOSPC | Errno::EDQUOT) => "it is full: make room on the server",
        _ => return error,
    };
    claim.unusable(format!("{error}: {advice}"))
}
