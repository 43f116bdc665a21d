//! Roots: where volumes lie, and the trees in them. What is here holds for any directory tree; how a node's own
//! disk is recognised and guarded against mix-ups is in [`local`].
//!
//! ```text
//! <root>/<path>.<incarnation>/               the data: exactly what a pod sees, nothing of ours inside
//! <root>/.berth/root.json                    who this root is
//! <root>/.berth/new/<name>.<incarnation>/    a tree being built
//! ```
//!
//! Nothing outside `.berth/` is ever deleted or emptied: data leaves its place by a rename, and only the trash
//! is purged.

pub mod local;

use std::path::PathBuf;

use nix::errno::Errno;

use crate::error::{Error, Result};
use crate::id::RecordName;
use crate::parameters::OnDelete;
use crate::store::Store;
use crate::sys::fs::Dir;
use crate::sys::mount::Table;
use crate::sys::order::sync_unless_ordered;
use crate::sys::random;
use crate::volume::Volume;

/// Records looked up at once.
const PAGE: usize = 1024;

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
}

/// What [`OpenRoot::place`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Placement {
    /// The data is where the record says.
    Done,
    /// It is neither there nor being built: a creation that never ended.
    Nowhere,
}

impl OpenRoot {
    fn new_name(name: &RecordName, volume: &Volume) -> String {
        format!("{name}.{}", volume.incarnation)
    }

    /// Builds the tree of a new volume out of sight, and the directories that its path lies in.
    pub fn build(&self, name: &RecordName, volume: &Volume) -> Result<()> {
        self.make_parent(&volume.path)?;
        let (new, entry) = (self.store.new_dir()?, Self::new_name(name, volume));
        new.mkdir(&entry)?;
        let owner = volume.owner;
        new.dir(&entry)?.own(owner.uid, owner.gid, owner.mode).map_err(|error| match error.errno() {
            Some(Errno::EINVAL) => Error::invalid(
                "parameters.uid, parameters.gid",
                format!("{} and {} are not mapped in the driver's user namespace", owner.uid, owner.gid),
            ),
            _ => error,
        })
    }

    /// Gives up a tree whose record was not won; it is purged from the trash.
    pub fn give_up(&self, name: &RecordName, volume: &Volume) -> Result<()> {
        self.store.discard(&Self::new_name(name, volume))
    }

    /// Renames the tree of a live record into its place, unless it is there.
    pub fn place(&self, name: &RecordName, volume: &Volume) -> Result<Placement> {
        let renamed = self.parent(&volume.path).and_then(|(parent, last)| {
            let (new, to) = (self.store.new_dir()?, format!("{last}.{}", volume.incarnation));
            new.rename(Self::new_name(name, volume), &parent, to)?;
            sync_unless_ordered(&[&parent, &new])
        });
        match renamed {
            Ok(()) => Ok(Placement::Done),
            Err(error) if error.is_gone() => match self.data(volume) {
                Ok(_) => Ok(Placement::Done),
                Err(error) if error.is_gone() => Ok(Placement::Nowhere),
                Err(error) => Err(error),
            },
            // The kernel says so of a read-only root before it looks whether there is anything to rename.
            Err(error) if error.errno() == Some(Errno::EROFS) && self.data(volume).is_ok() => {
                Ok(Placement::Done)
            }
            Err(error) => Err(error),
        }
    }

    /// Takes a volume whose deletion is won out of its place, as its `onDelete` says.
    pub fn remove(&self, name: &RecordName, volume: &Volume) -> Result<()> {
        self.store.discard(&Self::new_name(name, volume))?;
        let (parent, last) = match self.parent(&volume.path) {
            Ok(found) => found,
            Err(error) if error.is_gone() => return Ok(()),
            Err(error) => return Err(error),
        };
        let (data, incarnation) = (format!("{last}.{}", volume.incarnation), &volume.incarnation);
        let moved = match volume.on_delete {
            OnDelete::Delete => {
                parent.rename(data, &self.store.trash()?, format!("{incarnation}.{:016x}", random()?))
            }
            OnDelete::Retain => parent.rename(data, &parent, format!("{last}.retained-{incarnation}")),
            OnDelete::Archive => {
                let path = format!("archived/{}", volume.path);
                self.make_parent(&path)?;
                let (archive, last) = self.parent(&path)?;
                parent.rename(data, &archive, format!("{last}-{incarnation}"))
            }
        };
        match moved {
            Err(error) if !error.is_gone() => Err(error),
            // The record is buried after this: data must not come back to its place without one.
            _ => sync_unless_ordered(&[&parent]),
        }
    }

    /// The data of a volume.
    pub fn data(&self, volume: &Volume) -> Result<Dir> {
        self.dir.dir(volume.data_path())
    }

    /// Existing data that is published as it is.
    ///
    /// # Errors
    /// NOT_FOUND where there is no such directory; a link is none.
    pub fn adopted(&self, path: &str) -> Result<Dir> {
        self.dir.dir(path).map_err(|error| match error.errno() {
            Some(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EXDEV) => Error::NotFound {
                what: format!("directory {path} of root {}", self.name),
                why: format!(" ({error})"),
            },
            _ => error,
        })
    }

    /// Whether a record says that its data lies at `path`. Reads all records.
    pub fn has_owner(&self, path: &str) -> Result<bool> {
        let mut names = self.store.names_after(None, PAGE)?;
        while let Some(last) = names.last().map(RecordName::to_string) {
            let is_owner =
                |name| matches!(self.store.load(name), Ok(Some(found)) if found.volume.data_path() == path);
            if names.iter().any(is_owner) {
                return Ok(true);
            }
            names = self.store.names_after(Some(&last), PAGE)?;
        }
        Ok(false)
    }

    /// How the mount table names a path beneath this root: its device, and its path in that file system.
    pub fn in_table(&self, table: &Table, path: &str) -> Result<(String, PathBuf)> {
        let (device, root) = table.place_of(&self.dir)?;
        Ok((device, root.join(path)))
    }

    /// The directory that a path's last component lies in, and that component.
    fn parent<'a>(&self, path: &'a str) -> Result<(Dir, &'a str)> {
        match path.rsplit_once('/') {
            None => Ok((self.dir.dir(".")?, path)),
            Some((above, last)) => Ok((self.dir.dir(above)?, last)),
        }
    }

    /// Makes the directories above a path, where they are missing. Those that exist are left as they are.
    fn make_parent(&self, path: &str) -> Result<()> {
        let Some((above, _)) = path.rsplit_once('/') else { return Ok(()) };
        let mut dir = self.dir.dir(".")?;
        for part in above.split('/') {
            dir.mkdir_if_missing(part)?;
            sync_unless_ordered(&[&dir])?;
            dir = dir.dir(part).map_err(|error| match error.errno() {
                Some(Errno::ENOTDIR | Errno::ELOOP | Errno::EXDEV) => Error::Refused {
                    what: format!("make {path} beneath root {}", self.name),
                    why: format!(
                        "{part:?} exists and is no directory of this root: move it away, or change subDir"
                    ),
                },
                _ => error,
            })?;
        }
        Ok(())
    }
}
