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

mod reserve;
mod sweep;

use std::path::PathBuf;

use nix::errno::Errno;

use crate::error::{Error, Result};
use crate::guard::Guard;
use crate::id::{Incarnation, RecordName};
use crate::sys::fs::{Dir, Kind};
use crate::sys::order::sync_unless_ordered;
use crate::sys::random;
use crate::volume::{State, Volume};

/// The records of one root.
#[derive(Debug)]
pub struct Store {
    own: Dir,
    root: String,
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

impl Found {
    /// Waits until the newest generation's name is on disk.
    pub fn settle(&self) -> Result<()> {
        self.dir.sync()
    }
}

impl Store {
    /// The records in the directory `own`, which is a root's `.berth`.
    pub fn new(own: Dir, root: &str) -> Self {
        Self { own, root: root.to_string() }
    }

    /// Makes the directories that records need, where they are missing.
    pub fn lay_out(own: &Dir) -> Result<()> {
        ["volumes", "new", "trash"].iter().try_for_each(|name| own.mkdir_if_missing(name))
    }

    /// Where things are built, out of sight.
    pub fn new_dir(&self) -> Result<Dir> {
        self.own.dir("new")
    }

    /// Where things go to be purged.
    pub fn trash(&self) -> Result<Dir> {
        self.own.dir("trash")
    }

    fn volumes(&self) -> Result<Dir> {
        self.own.dir("volumes")
    }

    /// Reads the record of `name`; nothing when there is no such volume.
    ///
    /// # Errors
    /// INTERNAL for a record that can't be believed: torn, empty, foreign, of a newer format.
    pub fn load(&self, name: &RecordName) -> Result<Option<Found>> {
        // What is read may be replaced or buried at the same moment; then it is looked up anew.
        let mut empty = None;
        for _ in 0..100 {
            let dir = match self.volumes()?.dir(name.as_str()) {
                Ok(dir) => dir,
                Err(error) if error.errno() == Some(Errno::ENOENT) => return Ok(None),
                Err(error) => return Err(misplaced(error, &self.volumes()?, name.as_str())),
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
            match dir.read(&file) {
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

    /// Gives `volume` its first generation, under a name that is free.
    ///
    /// # Errors
    /// ABORTED when another call has created that name meanwhile, or the caller gave up.
    pub fn born(&self, guard: &Guard<'_>, name: &RecordName, volume: Volume) -> Result<Found> {
        self.check(guard, name);
        let prepared = format!("{name}.{}.record", volume.incarnation);
        let born = self.prepare(&prepared, &volume).and_then(|new| {
            let volumes = self.volumes()?;
            guard.call().still_wanted(guard.key())?;
            new.rename(&prepared, &volumes, name.as_str())?;
            volumes.dir(format!("{name}/{}", volume.incarnation))
        });
        match born {
            Ok(dir) => Ok(Found { volume, name: name.clone(), generation: 1, dir }),
            Err(error) => {
                self.discard(&prepared)?;
                let taken = matches!(error.errno(), Some(Errno::ENOTEMPTY | Errno::EEXIST));
                Err(if taken { self.beaten(name, "another call created it first") } else { error })
            }
        }
    }

    /// Writes a first generation out of sight, whole and on disk.
    fn prepare(&self, entry: &str, volume: &Volume) -> Result<Dir> {
        let new = self.new_dir()?;
        new.mkdir(entry)?;
        let outer = new.dir(entry)?;
        outer.mkdir(volume.incarnation.as_str())?;
        let dir = outer.dir(volume.incarnation.as_str())?;
        dir.create("1.json", &content(volume)?, true)?;
        // Also the name of the tree in `new`, which was made before.
        sync_unless_ordered(&[&dir, &outer, &new])?;
        Ok(new)
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
        let (new, temporary) = (self.new_dir()?, format!("{}.{nonce}.json", found.name));
        guard.call().still_wanted(guard.key())?;
        new.create(&temporary, &content(&next)?, true)?;
        // Asked again, for a disk may take its time, and the caller may have got the opposite elsewhere meanwhile.
        let wanted = guard.call().still_wanted(guard.key());
        let linked = wanted.and_then(|()| new.link(&temporary, &found.dir, &file));
        new.unlink(&temporary)?;
        match linked {
            Ok(()) => {}
            // An answer may have been lost on the way: then what stands there is ours.
            Err(error) if error.errno() == Some(Errno::EEXIST) => {
                let ours = found.dir.read(&file).is_ok_and(|text| {
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
        let here = self.volumes()?.dir(format!("{}/{}", found.name, found.volume.incarnation));
        let there = match generations(&found.dir) {
            Err(error) if error.is_gone() => Vec::new(),
            answer => answer?,
        };
        if there.iter().max() != Some(&generation) || here.is_err() {
            return Err(self.beaten(&found.name, "another call got ahead"));
        }
        for older in there.into_iter().filter(|older| *older < generation) {
            match found.dir.unlink(format!("{older}.json")) {
                Err(error) if !error.is_gone() => return Err(error),
                _ => {}
            }
        }
        sync_unless_ordered(&[&found.dir])?;
        Ok(Found { volume: next, generation, ..found })
    }

    /// Ends a record whose deletion is won and done: to the trash, then its name.
    pub fn bury(&self, guard: &Guard<'_>, found: &Found) -> Result<()> {
        self.check(guard, &found.name);
        debug_assert_eq!(found.volume.state, State::Deleting);
        let (volumes, incarnation) = (self.volumes()?, found.volume.incarnation.as_str());
        let buried = match volumes.dir(found.name.as_str()) {
            Ok(dir) => {
                dir.rename(incarnation, &self.trash()?, format!("{incarnation}.record.{:016x}", random()?))
            }
            Err(error) => Err(error),
        };
        match buried {
            Err(error) if !error.is_gone() => return Err(error),
            _ => {}
        }
        match volumes.rmdir(found.name.as_str()) {
            // Not empty: the name was created again already.
            Err(error) if !error.is_gone() && error.errno() != Some(Errno::ENOTEMPTY) => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes what a burial that died left of a name that has no record.
    pub fn clear(&self, guard: &Guard<'_>, name: &RecordName) -> Result<()> {
        self.check(guard, name);
        // An empty directory says that there is no volume, as none does: fine where it has to stay.
        let _ = self.volumes()?.rmdir(name.as_str());
        Ok(())
    }

    /// Waits until it is on disk which names have records. Before a creation or a deletion is answered, also one
    /// that is found done: the call that did it may have died before it came here.
    pub fn settle(&self) -> Result<()> {
        self.volumes()?.sync()
    }

    /// Moves something from `new` to the trash; fine when it is gone.
    pub fn discard(&self, entry: &str) -> Result<()> {
        let to = format!("{entry}.{:016x}", random()?);
        match self.new_dir()?.rename(entry, &self.trash()?, to) {
            Err(error) if !error.is_gone() => Err(error),
            _ => Ok(()),
        }
    }

    /// The names of up to `most` records that come after `after`, in their order.
    pub fn names_after(&self, after: Option<&str>, most: usize) -> Result<Vec<RecordName>> {
        let mut names = std::collections::BinaryHeap::new();
        self.volumes()?.scan(|entry, _| {
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
        assert_eq!(
            guard.key().split_once('/'),
            Some((self.root.as_str(), name.as_str())),
            "the guard of another volume"
        );
    }

    fn beaten(&self, name: &RecordName, why: &str) -> Error {
        Error::Pending {
            what: format!("{}/{name}", self.root),
            why: format!("{why}; the same call may be repeated"),
        }
    }
}

fn shown(dir: &Dir, file: &str) -> String {
    let path: PathBuf = if file.is_empty() { dir.path().to_path_buf() } else { dir.path_of(file) };
    path.display().to_string()
}

/// A link, or a file for a directory, where a record should be: as bad as a torn one.
fn misplaced(error: Error, dir: &Dir, entry: &str) -> Error {
    match error.errno() {
        Some(errno @ (Errno::ENOTDIR | Errno::ELOOP)) => Error::BadRecord {
            path: shown(dir, entry),
            why: format!(
                "is not what Berth put there ({}): restore it from a backup, or move it away to give up the volume",
                errno.desc()
            ),
        },
        _ => error,
    }
}

/// The generations that a record directory holds.
fn generations(dir: &Dir) -> Result<Vec<u64>> {
    for _ in 0..100 {
        let mut found = Vec::new();
        let reads = dir.scan(|entry, kind| {
            let number = entry.strip_suffix(".json").filter(|number| !number.starts_with('0'));
            if let Some(number) = number.and_then(|number| number.parse().ok())
                && kind != Kind::Directory
            {
                found.push(number);
            }
        })?;
        // More than one read is no snapshot: a generation that is replaced meanwhile may be missing.
        if reads <= 1 {
            return Ok(found);
        }
    }
    Err(Error::BadRecord { path: shown(dir, ""), why: "holds more files than a record has".into() })
}

fn highest(dir: &Dir) -> Result<Option<u64>> {
    match generations(dir) {
        Ok(found) => Ok(found.into_iter().max()),
        Err(error) if error.is_gone() => Ok(None),
        Err(error) => Err(error),
    }
}

fn content(volume: &Volume) -> Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(volume)
        .map_err(|error| Error::io("write a record", std::io::Error::from(error)))?;
    text.push(b'\n');
    Ok(text)
}

fn parse(content: &[u8], name: &RecordName, incarnation: &str, path: &str) -> Result<Volume> {
    #[derive(serde::Deserialize)]
    struct Format {
        format: u32,
    }
    let bad = |why: String| Error::BadRecord { path: path.to_string(), why };
    if content.is_empty() {
        return Err(bad(
            "is empty: restore it from a backup, or move its directory away to give up the volume".into(),
        ));
    }
    let format = serde_json::from_slice::<Format>(content)
        .map_err(|error| bad(format!("is no record of Berth ({error}): restore it from a backup")))?
        .format;
    if format > Volume::FORMAT {
        return Err(bad(format!(
            "has format {format}, this Berth knows {} at most: use a newer one",
            Volume::FORMAT
        )));
    }
    let volume: Volume = serde_json::from_slice(content)
        .map_err(|error| bad(format!("can't be read ({error}): restore it from a backup")))?;
    if RecordName::of(&volume.name) != *name || volume.incarnation.as_str() != incarnation {
        return Err(bad(format!(
            "is of another volume ({:?}, incarnation {}): restore it from a backup",
            volume.name, volume.incarnation
        )));
    }
    crate::id::check_path(&volume.path)
        .map_err(|why| bad(format!("its path {why}: restore it from a backup")))?;
    Ok(volume)
}
