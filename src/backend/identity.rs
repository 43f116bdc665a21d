//! Who a root is: `.berth/root.json`. Another root, another name for a root, or a newer format is refused, not
//! guessed at.

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::id::OWN_DIRECTORY;
use crate::store::Own;
use crate::sys::fs::Dir;
use crate::sys::random;

const FORMAT: u32 = 1;
/// The file, in a root's own directory.
pub(super) const FILE: &str = "root.json";

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Identity {
    format: u32,
    /// Of this root and no other.
    pub(super) uuid: String,
    name: String,
    kind: String,
}

/// Whom a directory has to be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claim<'a> {
    /// The root's name.
    pub(super) name: &'a str,
    /// Which driver serves it.
    pub(super) kind: &'static str,
    /// Where it is, as the administrator says it.
    pub(super) place: &'a str,
}

impl Claim<'_> {
    /// FAILED_PRECONDITION for this root.
    pub(super) fn unusable(&self, why: impl Into<String>) -> Error {
        Error::RootUnusable { root: self.name.to_string(), why: why.into() }
    }

    /// Opens the root's own directory in `parent`. One that was `known` before is not made anew: an empty directory
    /// where it was is not it.
    pub(super) fn own_directory(&self, parent: &Dir, known: bool) -> Result<Dir> {
        match parent.dir(OWN_DIRECTORY) {
            Err(error) if error.errno() == Some(Errno::ENOENT) && !known => {
                parent.mkdir_if_missing(OWN_DIRECTORY)?;
                parent.dir(OWN_DIRECTORY)
            }
            Err(error) => Err(self.unusable(format!("{error}: a root keeps its records there"))),
            found => found,
        }
    }

    /// Whether the root has an identity yet.
    pub(super) fn is_laid_out(own: &Dir) -> Result<bool> {
        Ok(own.stat_of(FILE)?.is_some())
    }

    /// Reads the identity, and makes sure that it is the one that is wanted.
    pub(super) fn check(&self, own: &Dir) -> Result<Identity> {
        let at = own.path_of(FILE);
        let identity: Identity = serde_json::from_slice(&own.read(FILE)?)
            .map_err(|error| self.unusable(format!("{}: {error}: restore it from a backup", at.display())))?;
        if identity.format > FORMAT {
            let (at, format) = (at.display(), identity.format);
            return Err(self
                .unusable(format!("{at} has format {format}, this Berth knows {FORMAT}: use a newer one")));
        }
        if identity.name != self.name || identity.kind != self.kind {
            return Err(self.unusable(format!(
                "{} says that {} is the {} root {}: give it that name, or mount the right disk",
                at.display(),
                self.place,
                identity.kind,
                identity.name
            )));
        }
        Own::lay_out(own)?;
        Ok(identity)
    }

    /// Gives a new root its identity. Two processes may do so at once: the first one's holds.
    pub(super) fn lay_out(&self, parent: &Dir, own: &Dir) -> Result<()> {
        Own::lay_out(own)?;
        let (high, low) = (random()?, random()?);
        let identity = Identity {
            format: FORMAT,
            uuid: format!(
                "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
                high >> 32,
                (high >> 16) & 0xffff,
                high & 0xffff,
                low >> 48,
                low & 0xffff_ffff_ffff
            ),
            name: self.name.to_string(),
            kind: self.kind.to_string(),
        };
        let mut text = serde_json::to_vec_pretty(&identity)
            .map_err(|error| Error::io("write root.json", std::io::Error::from(error)))?;
        text.push(b'\n');
        let new = own.dir("new")?;
        let temporary = format!("root.{low:016x}.json");
        new.create(&temporary, &text, true)?;
        let linked = new.link(&temporary, own, FILE);
        new.unlink(&temporary)?;
        match linked {
            Err(error) if error.errno() != Some(Errno::EEXIST) => Err(error),
            _ => {
                own.sync()?;
                parent.sync()
            }
        }
    }
}
