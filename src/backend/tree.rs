//! The trees in a root: built out of sight, renamed into place, renamed away. It is the same on a disk and on a server.
//!
//! Nothing outside `.berth/` is ever deleted or emptied: data leaves its place by a rename, and only the trash
//! is purged.

use nix::errno::Errno;

use super::OpenRoot;
use crate::error::{Error, Result};
use crate::guard::Guard;
use crate::id::RecordName;
use crate::parameters::{OnDelete, Owner};
use crate::store::Found;
use crate::sys::fs::Dir;
use crate::sys::random;
use crate::volume::Volume;

/// Records looked up at once.
const PAGE: usize = 1024;

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
        let (new, entry) = (self.store.new_dir(), Self::new_name(name, volume));
        new.mkdir(&entry)?;
        self.own(&new.dir(&entry)?, volume.owner)
    }

    /// Gives a new tree its owner and permission bits.
    fn own(&self, tree: &Dir, owner: Owner) -> Result<()> {
        let is_default = (owner.uid, owner.gid) == (Owner::default().uid, Owner::default().gid);
        match tree.own(owner.uid, owner.gid, owner.mode) {
            // A server that squashes root makes everything belong to somebody else, and lets nobody give it away.
            Err(error) if error.errno() == Some(Errno::EPERM) && self.is_shared() => {
                let found = tree.stat()?;
                if is_default {
                    return tree.own(found.st_uid, found.st_gid, owner.mode);
                }
                Err(Error::Refused {
                    what: format!("give a volume of root {} to {}:{}", self.name, owner.uid, owner.gid),
                    why: format!(
                        "the server makes root's files belong to {}:{} (root_squash): leave uid and gid out of the \
                         StorageClass, or export the share with no_root_squash",
                        found.st_uid, found.st_gid
                    ),
                })
            }
            Err(error) if error.errno() == Some(Errno::EINVAL) => Err(Error::invalid(
                "parameters.uid, parameters.gid",
                format!("{} and {} are not mapped in the driver's user namespace", owner.uid, owner.gid),
            )),
            answer => answer,
        }
    }

    /// Gives up a tree whose record was not won; it is purged from the trash.
    pub fn give_up(&self, name: &RecordName, volume: &Volume) -> Result<()> {
        self.store.discard(&Self::new_name(name, volume)).map(drop)
    }

    /// Puts the tree of a live record that was found into its place, unless it is there, as it mostly is.
    pub fn place_found(&self, name: &RecordName, volume: &Volume) -> Result<Placement> {
        match self.data(volume) {
            Ok(_) => Ok(Placement::Done),
            Err(error) if error.is_missing() => self.place(name, volume),
            Err(error) => Err(error),
        }
    }

    /// Renames the tree of a live record into its place, unless it is there.
    pub fn place(&self, name: &RecordName, volume: &Volume) -> Result<Placement> {
        assert!(!volume.adopted, "existing data is where it is");
        let renamed = self.parent(&volume.path).and_then(|(parent, last)| {
            let (new, to) = (self.store.new_dir(), format!("{last}.{}", volume.incarnation));
            new.rename(Self::new_name(name, volume), &parent, to)?;
            self.store.sync_unless_ordered(&[&parent, new])
        });
        match renamed {
            Ok(()) => Ok(Placement::Done),
            Err(error) if error.is_missing() => match self.data(volume) {
                Ok(_) => Ok(Placement::Done),
                Err(error) if error.is_missing() => Ok(Placement::Nowhere),
                Err(error) => Err(error),
            },
            // The kernel says so of a read-only root before it looks whether there is anything to rename.
            Err(error) if error.errno() == Some(Errno::EROFS) && self.data(volume).is_ok() => {
                Ok(Placement::Done)
            }
            Err(error) => Err(error),
        }
    }

    /// Takes a volume whose deletion is won away, as its `onDelete` says: out of its place, or from where it was built.
    ///
    /// It is one tree, which only ever moves from the latter to the former. So where it is in its place nothing else is left;
    /// and where it was in neither, somebody placed it between the two looks, and the third finds it.
    pub fn remove(&self, name: &RecordName, volume: &Volume) -> Result<()> {
        assert!(!volume.adopted, "existing data is never touched");
        if self.take_away(volume)? || self.store.discard(&Self::new_name(name, volume))? {
            return Ok(());
        }
        self.take_away(volume).map(drop)
    }

    /// Takes a volume out of its place; false where it is not there.
    fn take_away(&self, volume: &Volume) -> Result<bool> {
        let (parent, last) = match self.parent(&volume.path) {
            Ok(found) => found,
            Err(error) if error.is_missing() => return Ok(false),
            Err(error) => return Err(error),
        };
        let (data, incarnation) = (format!("{last}.{}", volume.incarnation), &volume.incarnation);
        let moved = match volume.on_delete {
            OnDelete::Delete => {
                parent.rename(data, self.store.trash(), format!("{incarnation}.{:016x}", random()?))
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
            Err(error) if error.is_missing() => {
                self.store.sync_unless_ordered(&[&parent])?;
                Ok(false)
            }
            Err(error) => Err(error),
            // The record is buried after this: data must not come back to its place without one.
            Ok(()) => self.store.sync_unless_ordered(&[&parent]).map(|()| true),
        }
    }

    /// Grows a volume to `required` bytes: the record takes the new size; one that it has already is no change.
    ///
    /// # Errors
    /// OUT_OF_RANGE when it has more than `limit`, RESOURCE_EXHAUSTED when there is no room.
    pub fn grow(&self, guard: &Guard<'_>, found: Found, (required, limit): (i64, i64)) -> Result<i64> {
        let (what, has) = (format!("expand volume {}", found.volume.name), found.volume.capacity_bytes);
        if found.volume.adopted {
            let why = "it existed before Berth, which keeps no size for it".to_string();
            return Err(Error::Refused { what, why });
        }
        if limit > 0 && has > limit {
            let why = format!("the volume has {has} bytes, and at most {limit} are asked for");
            return Err(Error::OutOfRange { why });
        }
        if required <= has {
            return Ok(has);
        }
        let free = self.dir.free_bytes()?;
        if required - has > free {
            let why = format!(
                "root {} has {free} bytes left, growing from {has} to {required} needs more",
                self.name
            );
            return Err(Error::NoSpace { what, why });
        }
        let mut grown = found.volume.clone();
        grown.capacity_bytes = required;
        self.store.win(guard, found, grown)?.settle()?;
        Ok(required)
    }

    /// The data of a volume.
    pub fn data(&self, volume: &Volume) -> Result<Dir> {
        self.dir.reach(volume.data_path())
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

    /// The directory that a path's last component lies in, and that component.
    fn parent<'a>(&self, path: &'a str) -> Result<(Dir, &'a str)> {
        match path.rsplit_once('/') {
            // Another descriptor and not `.` opened anew, which a server would be asked about.
            None => Ok((self.dir.duplicate()?, path)),
            Some((above, last)) => Ok((self.dir.dir(above)?, last)),
        }
    }

    /// Makes the directories above a path, where they are missing. Those that exist are left as they are.
    fn make_parent(&self, path: &str) -> Result<()> {
        let Some((above, _)) = path.rsplit_once('/') else { return Ok(()) };
        let mut dir = self.dir.duplicate()?;
        for part in above.split('/') {
            dir.mkdir_if_missing(part)?;
            self.store.sync_unless_ordered(&[&dir])?;
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
