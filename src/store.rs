//! Records: one small file for each generation, won by `link`, born and buried as a directory.
//!
//! ```text
//! .berth/new/…                                     being written or built; nobody else looks here
//! .berth/volumes/<name>/<incarnation>/<n>.json     the record of a volume: the highest generation holds
//! .berth/trash/…                                   what is to be purged
//! .berth/reserve/…                                 room for deletions
//! ```
//!
//! There is no lock between processes. Two facts of the file system stand in for it: `link` to a name that
//! exists fails, and `rename` of a directory onto one that is not empty fails. So of two who decide on the same
//! generation one wins, and of two who create the same name one does. `docs/developer/protocol.md` has the rules by
//! number and what goes wrong without each.
//!
//! What is durable, and why (each sync is most of what a life cycle costs):
//! - a record's content before its name: a name must never lead to a torn record;
//! - the names, before a creation or a deletion is answered: [`Store::settle`]. Until then a power cut may undo
//!   what nobody was told.

mod burial;
mod record;
mod reserve;
mod sweep;

use std::sync::Arc;
use std::sync::mpsc::Sender;

use nix::errno::Errno;

use crate::error::{Error, Result};
use crate::guard::Guard;
use crate::id::{Incarnation, RecordName};
use crate::sys::fs::Dir;
use crate::sys::order::keeps_order;
use crate::sys::random;
use crate::volume::{State, Volume};
use record::{content, generations, highest, misplaced, parse, shown};

/// A root's own directories, open.
#[derive(Debug)]
pub struct Own {
    own: Dir,
    new: Dir,
    trash: Dir,
    volumes: Dir,
    keeps_order: bool,
}

/// The records of one root.
#[derive(Debug)]
pub struct Store {
    own: Arc<Own>,
    root: String,
    errands: Sender<Errand>,
    leaves_removals: bool,
}

/// What is left to who looks after a root, behind the answers.
#[derive(Debug)]
pub enum Errand {
    /// Something was moved to the trash.
    Purge,
    /// Files in `.berth` that nobody needs any more; see [`Store::leaving_removals`].
    Remove {
        /// Their directory, beneath `.berth`.
        directory: String,
        /// Their names.
        names: Vec<String>,
    },
}

/// A record as it was found: the volume, which generation says so, and the directory it was read from.
#[derive(Debug)]
pub struct Found {
    /// What the record says.
    pub volume: Volume,
    name: RecordName,
    generation: u64,
    dir: Dir,
}

impl Own {
    /// Makes the directories that records need, where they are missing.
    pub fn lay_out(own: &Dir) -> Result<()> {
        ["volumes", "new", "trash"].iter().try_for_each(|name| own.mkdir_if_missing(name))
    }

    /// Opens a root's own directory, `.berth`.
    pub fn open(own: Dir) -> Result<Self> {
        Ok(Self {
            new: own.dir("new")?,
            trash: own.dir("trash")?,
            volumes: own.dir("volumes")?,
            keeps_order: keeps_order(&own)?,
            own,
        })
    }

    /// The directory itself.
    pub fn dir(&self) -> &Dir {
        &self.own
    }
}

impl Found {
    /// Where the record lies, beneath the directory of all.
    fn place(&self) -> String {
        format!("{}/{}", self.name, self.volume.incarnation)
    }

    /// Waits until the newest generation's name is on disk.
    pub fn settle(&self) -> Result<()> {
        self.dir.sync()
    }
}

impl Store {
    /// The records in a root's own directories. Who receives the errands looks after the root.
    pub fn new(own: Arc<Own>, root: &str, errands: Sender<Errand>) -> Self {
        Self { own, root: root.to_string(), errands, leaves_removals: false }
    }

    /// Leaves the removal of files that others may have read to who looks after the root, and to another mount than
    /// this one. On a server it may take a lease's time: who has read a file may hold a delegation of it, and be cut
    /// off. And as long as it takes, the kernel lets nobody else into the directory on that mount.
    pub fn leaving_removals(mut self) -> Self {
        self.leaves_removals = true;
        self
    }

    /// The root's own directory.
    pub fn own_directory(&self) -> Result<Dir> {
        self.own.dir().duplicate()
    }

    /// Has the trash purged, behind the answer.
    pub fn purge_soon(&self) {
        let _ = self.errands.send(Errand::Purge);
    }

    /// Where things are built, out of sight.
    pub fn new_dir(&self) -> &Dir {
        &self.own.new
    }

    /// Where things go to be purged.
    pub fn trash(&self) -> &Dir {
        &self.own.trash
    }

    fn volumes(&self) -> &Dir {
        &self.own.volumes
    }

    /// Reads the record of `name`; nothing when there is no such volume.
    ///
    /// # Errors
    /// INTERNAL for a record that can't be believed: torn, empty, foreign, of a newer format.
    pub fn load(&self, name: &RecordName) -> Result<Option<Found>> {
        // What is read may be replaced or buried at the same moment; then it is looked up anew.
        let mut empty = None;
        for _ in 0..100 {
            let dir = match self.volumes().dir(name.as_str()) {
                Ok(dir) => dir,
                Err(error) if error.errno() == Some(Errno::ENOENT) => return Ok(None),
                Err(error) => return Err(misplaced(error, self.volumes(), name.as_str())),
            };
            let mut incarnations = Vec::new();
            match dir.scan(|entry, _| incarnations.push(entry.to_string())) {
                Err(error) if error.is_gone() => continue,
                answer => answer?,
            };
            let incarnation = match incarnations.as_slice() {
                [] => return Ok(None),
                [one] if Incarnation::parse(one).is_some() => one,
                _ => {
                    let why = format!(
                        "holds {incarnations:?} where one incarnation is expected: move the others away"
                    );
                    return Err(Error::BadRecord { path: shown(&dir, ""), why });
                }
            };
            let dir = match dir.dir(incarnation) {
                Ok(dir) => dir,
                Err(error) if error.is_gone() => continue,
                Err(error) => return Err(misplaced(error, &dir, incarnation)),
            };
            let Some(generation) = highest(&dir)? else {
                empty = Some(dir);
                continue;
            };
            let file = format!("{generation}.json");
            match self.read(&dir, &file) {
                Ok(content) => {
                    let volume = parse(&content, name, incarnation, &shown(&dir, &file))?;
                    return Ok(Some(Found { volume, name: name.clone(), generation, dir }));
                }
                // A newer generation took its place.
                Err(error) if error.is_gone() => continue,
                Err(error) => return Err(misplaced(error, &dir, &file)),
            }
        }
        match empty {
            Some(dir) => {
                let why =
                    "holds no generation: restore it, or move it away to give up the volume".to_string();
                Err(Error::BadRecord { path: shown(&dir, ""), why })
            }
            None => Err(self.beaten(name, "the record changes faster than it can be read")),
        }
    }

    /// Whether a record is still as it was found, which takes less than to load it again.
    ///
    /// Listed first, looked up then: what is in its place has not been purged before, so that the listing was whole. And a
    /// generation is never written again.
    pub fn is_unchanged(&self, found: &Found) -> Result<bool> {
        if highest(&found.dir)? != Some(found.generation) {
            return Ok(false);
        }
        match self.volumes().reach(found.place()) {
            Ok(_) => Ok(true),
            Err(error) if error.is_gone() => Ok(false),
            Err(error) => Err(misplaced(error, self.volumes(), &found.place())),
        }
    }

    /// Gives `volume` its first generation, under a name that is free.
    ///
    /// # Errors
    /// ABORTED when another call has created that name meanwhile, or the caller gave up.
    pub fn born(&self, guard: &Guard<'_>, name: &RecordName, volume: Volume) -> Result<Found> {
        self.check(guard, name);
        let prepared = format!("{name}.{}.record", volume.incarnation);
        let born = self.prepare(&prepared, &volume).and_then(|dir| {
            let volumes = self.volumes();
            guard.call().still_wanted(guard.key())?;
            self.new_dir().rename(&prepared, volumes, name.as_str())?;
            // It has moved with the directory that it lies in, and needs no look-up.
            let path = volumes.path_of(name.as_str()).join(volume.incarnation.as_str());
            Ok(dir.now_at(path))
        });
        match born {
            Ok(dir) => Ok(Found { volume, name: name.clone(), generation: 1, dir }),
            Err(error) => {
                self.discard(&prepared)?;
                Err(match error.errno() {
                    Some(Errno::ENOTEMPTY | Errno::EEXIST) => {
                        self.beaten(name, "another call created it first")
                    }
                    Some(Errno::ENOENT) => self.beaten(name, "another call put an end to it"),
                    _ => error,
                })
            }
        }
    }

    /// Writes a first generation out of sight, whole and on disk.
    fn prepare(&self, entry: &str, volume: &Volume) -> Result<Dir> {
        let new = self.new_dir();
        new.mkdir(entry)?;
        let outer = new.dir(entry)?;
        outer.mkdir(volume.incarnation.as_str())?;
        let dir = outer.dir(volume.incarnation.as_str())?;
        dir.create_at_random("1.json", &content(volume)?, true)?;
        // Also the name of the tree in `new`, which was made before.
        self.sync_unless_ordered(&[&dir, &outer, new])?;
        Ok(dir)
    }

    /// Makes `next` the generation after `found`.
    ///
    /// # Errors
    /// ABORTED when another call has won that generation, or the caller gave up.
    pub fn win(&self, guard: &Guard<'_>, found: Found, mut next: Volume) -> Result<Found> {
        self.check(guard, &found.name);
        next.nonce = format!("{:016x}", random()?);
        let (nonce, generation) = (next.nonce.clone(), found.generation + 1);
        let file = format!("{generation}.json");
        let (new, temporary) = (self.new_dir(), format!("{}.{nonce}.json", found.name));
        guard.call().still_wanted(guard.key())?;
        new.create_at_random(&temporary, &content(&next)?, true)?;
        // Asked again, for a disk may take its time, and the caller may have got the opposite elsewhere meanwhile.
        let wanted = guard.call().still_wanted(guard.key());
        let linked = wanted.and_then(|()| new.link(&temporary, &found.dir, &file));
        self.remove(new, "new".into(), vec![temporary])?;
        match linked {
            Ok(()) => {}
            // An answer may have been lost on the way: then what stands there is ours.
            Err(error) if error.errno() == Some(Errno::EEXIST) => {
                let ours = self.read(&found.dir, &file).is_ok_and(|text| {
                    serde_json::from_slice::<Volume>(&text).is_ok_and(|volume| volume.nonce == nonce)
                });
                if !ours {
                    return Err(self.beaten(&found.name, "another call changed it first"));
                }
            }
            Err(error) if error.is_gone() => {
                return Err(self.beaten(&found.name, "another call deleted it first"));
            }
            Err(error) => return Err(error),
        }
        // Won only if nobody is ahead, and if the name still leads here: a directory that was buried meanwhile
        // takes links as well.
        let here = self.volumes().reach(found.place());
        let there = match generations(&found.dir) {
            Err(error) if error.is_gone() => Vec::new(),
            answer => answer?,
        };
        if there.iter().max() != Some(&generation) || here.is_err() {
            return Err(self.beaten(&found.name, "another call got ahead"));
        }
        // Those of a volume that is being deleted go with it.
        if next.state == State::Live {
            let older = there.into_iter().filter(|older| *older < generation);
            let older = older.map(|older| format!("{older}.json")).collect();
            self.remove(&found.dir, format!("volumes/{}", found.place()), older)?;
        }
        self.sync_unless_ordered(&[&found.dir])?;
        Ok(Found { volume: next, generation, ..found })
    }

    /// Waits until it is on disk which names have records. Before a creation or a deletion is answered, also one
    /// that is found done: the call that did it may have died before it came here.
    pub fn settle(&self) -> Result<()> {
        self.volumes().sync()
    }

    /// Removes files of a directory of ours, which lies at `path` beneath `.berth`; one that is gone is no error.
    fn remove(&self, directory: &Dir, path: String, names: Vec<String>) -> Result<()> {
        if self.leaves_removals {
            let _ = self.errands.send(Errand::Remove { directory: path, names });
            return Ok(());
        }
        remove(directory, &names)
    }

    /// Waits until the names in these directories of the root are on disk, unless its file system keeps the order of
    /// names anyhow, so that a later sync includes them.
    pub fn sync_unless_ordered(&self, dirs: &[&Dir]) -> Result<()> {
        if self.own.keeps_order { Ok(()) } else { dirs.iter().try_for_each(|dir| dir.sync()) }
    }

    /// The names of up to `most` records that come after `after`, in their order.
    pub fn names_after(&self, after: Option<&str>, most: usize) -> Result<Vec<RecordName>> {
        let mut names = std::collections::BinaryHeap::new();
        self.volumes().dir(".")?.scan(|entry, _| {
            let new = match after {
                Some(after) => entry > after,
                None => true,
            };
            // Only the smallest are kept, so that a page of a large root costs a page of memory.
            let full = names.len() >= most;
            if new
                && !(full && names.peek().is_some_and(|last: &RecordName| last.as_str() <= entry))
                && let Some(name) = RecordName::parse(entry)
            {
                names.push(name);
                if full {
                    names.pop();
                }
            }
        })?;
        Ok(names.into_sorted_vec())
    }

    /// Whether the guard is this volume's; anything else is a mistake in Berth itself.
    fn check(&self, guard: &Guard<'_>, name: &RecordName) {
        let is_its = |key: &str| match key.strip_prefix('=') {
            Some(path) => RecordName::adopted(path) == *name,
            None => key == name.as_str(),
        };
        let (root, key) = guard.key().split_once('/').unwrap_or_default();
        assert!(root == self.root && is_its(key), "the guard of {} is another volume's", guard.key());
    }

    fn beaten(&self, name: &RecordName, why: &str) -> Error {
        Error::Pending {
            what: format!("{}/{name}", self.root),
            why: format!("{why}; the same call may be repeated"),
        }
    }
}

/// Removes files; one that is gone is no error.
pub fn remove(directory: &Dir, names: &[String]) -> Result<()> {
    for name in names {
        match directory.unlink(name) {
            Err(error) if !error.is_gone() => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
