//! What of a volume is published on this node: the kernel's mount table, with notes beside it.
//!
//! The table is the truth; it dies with a reboot exactly as the mounts do. What it cannot tell (the access mode
//! and the request) is noted under the run directory of the host, one file for each target, so that a new driver
//! process finds it. A note without a mount says nothing; a mount without a note counts as exclusive.
//!
//! ```text
//! <run>/<driver>/                                                             locked by whoever attaches a mount
//! <run>/<driver>/<hash of the volume's key>/<hash of the target>.attaching    written before the mount is attached
//! <run>/<driver>/<hash of the volume's key>/<hash of the target>.confirmed    renamed so when it was checked after
//! ```

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use crate::access::{Mode, Publication};
use crate::error::{Error, Result};
use crate::id::hash;
use crate::sys::fs::Dir;
use crate::sys::random;
use crate::sys::table::Mount;

/// The newest format of notes that this Berth knows.
const FORMAT: u32 = 1;
const ATTACHING: &str = "attaching";
const CONFIRMED: &str = "confirmed";

/// What is noted of a mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    format: u32,
    /// The key of the volume; see [`crate::id::VolumeId::key`].
    pub volume: String,
    /// Which creation of the volume; nothing for adopted data.
    pub incarnation: Option<String>,
    /// Where.
    pub target_path: String,
    /// The mode that was asked for.
    pub mode: Mode,
    /// Whether the mount is read-only.
    pub read_only: bool,
    /// The other arguments of the request.
    pub arguments: BTreeMap<String, String>,
}

/// A mount of the volume, and what is noted of it.
#[derive(Debug)]
pub struct Published {
    /// As the rules see it.
    pub publication: Publication,
    /// Whether it was checked after it was attached.
    pub confirmed: bool,
}

/// The notes of one driver on this node.
#[derive(Debug)]
pub struct Notes {
    directory: PathBuf,
}

impl Note {
    /// A note of `publication`, whose mode has to be known.
    pub fn of(volume: &str, incarnation: Option<&str>, mode: Mode, publication: &Publication) -> Self {
        Self {
            format: FORMAT,
            volume: volume.to_string(),
            incarnation: incarnation.map(str::to_string),
            target_path: publication.at.clone(),
            mode,
            read_only: publication.read_only,
            arguments: publication.arguments.clone(),
        }
    }
}

impl Notes {
    /// The notes in `run`/`driver_name`, made when they are needed.
    pub fn new(run: &Path, driver_name: &str) -> Self {
        Self { directory: run.join(driver_name) }
    }

    fn of_volume(&self, volume: &str) -> PathBuf {
        self.directory.join(hash(volume))
    }

    /// The right to attach mounts, among the processes of this host that share the run directory: dropped, it is the
    /// next one's. The kernel would put two mounts at one target on top of each other, and tell neither.
    ///
    /// # Errors
    /// ABORTED when another process holds it for three seconds: one that was stopped, for it takes microseconds.
    pub fn only_one(&self) -> Result<File> {
        make_directories(&self.directory)?;
        let failed = |error| Error::io(format!("lock {}", self.directory.display()), error);
        let file = File::open(&self.directory).map_err(failed)?;
        for _ in 0..3000 {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(1)),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
        let why = "another process of this host is attaching a mount and does not come to an end".to_string();
        Err(Error::Pending { what: self.directory.display().to_string(), why })
    }

    /// Notes that a mount is about to be attached.
    pub fn attaching(&self, note: &Note) -> Result<()> {
        let (path, name) = (self.of_volume(&note.volume), hash(&note.target_path));
        let text = serde_json::to_vec_pretty(note)
            .map_err(|error| Error::io("write a note", std::io::Error::from(error)))?;
        // An unpublish of another target may remove the directory at any moment.
        for _ in 0..100 {
            make_directories(&path)?;
            let temporary = format!("{name}.{:016x}.new", random()?);
            let written = Dir::open(&path).and_then(|dir| {
                dir.create(&temporary, &text, false)?;
                dir.rename(&temporary, &dir, format!("{name}.{ATTACHING}"))
            });
            match written {
                Err(error) if error.is_gone() => continue,
                answer => return answer,
            }
        }
        Err(Error::io(format!("write a note in {}", path.display()), Errno::ENOENT))
    }

    /// Notes that a mount was checked after it was attached.
    ///
    /// # Errors
    /// ABORTED when it was forgotten meanwhile: another process of this node has unpublished it.
    pub fn confirm(&self, volume: &str, target_path: &str) -> Result<()> {
        let name = hash(target_path);
        let renamed = Dir::open(&self.of_volume(volume))
            .and_then(|dir| dir.rename(format!("{name}.{ATTACHING}"), &dir, format!("{name}.{CONFIRMED}")));
        renamed.map_err(|error| match error.is_gone() {
            true => Error::Pending {
                what: target_path.to_string(),
                why: "it was unpublished while it was being published".into(),
            },
            false => error,
        })
    }

    /// Forgets a target. Fine when nothing is known of it.
    pub fn forget(&self, volume: &str, target_path: &str) -> Result<()> {
        let path = self.of_volume(volume);
        let dir = match Dir::open(&path) {
            Err(error) if error.is_gone() => return Ok(()),
            answer => answer?,
        };
        for state in [ATTACHING, CONFIRMED] {
            match dir.unlink(format!("{}.{state}", hash(target_path))) {
                Err(error) if !error.is_gone() => return Err(error),
                _ => {}
            }
        }
        // Fails where other targets have notes.
        let _ = std::fs::remove_dir(path);
        Ok(())
    }

    /// Whether anything is noted of targets of the volume other than this one.
    pub fn others(&self, volume: &str, target_path: &str) -> Result<bool> {
        let (dir, own) = match Dir::open(&self.of_volume(volume)) {
            Err(error) if error.is_gone() => return Ok(false),
            answer => (answer?, hash(target_path)),
        };
        let mut others = false;
        match dir.scan(|name, _| others |= !name.starts_with(&own)) {
            // Forgotten meanwhile, and the directory with it.
            Err(error) if error.is_gone() => Ok(false),
            Err(error) => Err(error),
            Ok(_) => Ok(others),
        }
    }

    /// Whether anything is noted of a target for another volume.
    pub fn claimed_by_others(&self, volume: &str, target_path: &str) -> bool {
        let (own, note_of) = (hash(volume), hash(target_path));
        let Ok(volumes) = Dir::open(&self.directory) else { return false };
        let (mut names, mut claimed) = (Vec::new(), false);
        let scanned = volumes.scan(|name, _| names.push(name.to_string()));
        for name in names.into_iter().filter(|name| *name != own) {
            if let Ok(dir) = volumes.dir(name) {
                let _ = dir.scan(|note, _| claimed |= note.starts_with(&note_of));
            }
        }
        scanned.is_ok() && claimed
    }

    /// What is noted of a target, and whether it was confirmed; nothing for a note that can't be read or is of
    /// another target. A confirmed note beside one that is not is older: its mount was removed by other hands.
    pub fn find(&self, volume: &str, target_path: &str) -> Option<(Note, bool)> {
        let dir = Dir::open(&self.of_volume(volume)).ok()?;
        [ATTACHING, CONFIRMED].into_iter().find_map(|state| {
            let text = dir.read(&format!("{}.{state}", hash(target_path))).ok()?;
            let note: Note = serde_json::from_slice(&text).ok()?;
            let same = note.format == FORMAT && note.volume == volume && note.target_path == target_path;
            same.then_some((note, state == CONFIRMED))
        })
    }

    /// The publications that `mounts`, all those of a volume's data, make. A mount without a note that is a copy of
    /// one with a note (where a directory of targets can be seen at two places, each mount in it appears twice)
    /// is no publication of its own.
    pub fn publications(
        &self,
        volume: &str,
        incarnation: Option<&str>,
        mounts: impl Iterator<Item = Mount>,
    ) -> Vec<Published> {
        let with_note = |mount: Mount| {
            let noted = self.find(volume, &mount.at.display().to_string());
            (mount, noted.filter(|(note, _)| note.incarnation.as_deref() == incarnation))
        };
        let (noted, unknown): (Vec<_>, Vec<_>) = mounts.map(with_note).partition(|(_, note)| note.is_some());
        let is_copy = |mount: &Mount| {
            noted.iter().any(|(other, _)| other.groups.iter().any(|group| mount.groups.contains(group)))
        };
        let unknown: Vec<_> = unknown.into_iter().filter(|(mount, _)| !is_copy(mount)).collect();
        let published = |(mount, note): (Mount, Option<(Note, bool)>)| {
            let at = mount.at.display().to_string();
            let is_ro = mount.options.split(',').any(|option| option == "ro");
            // A mount may be read-only though nobody asked for it, where the root's own mount is.
            let (mode, arguments, read_only, confirmed) = match note {
                Some((note, confirmed)) => {
                    (Some(note.mode), note.arguments, is_ro && note.read_only, confirmed)
                }
                None => (None, BTreeMap::new(), is_ro, false),
            };
            Published { publication: Publication { at, mode, read_only, arguments }, confirmed }
        };
        noted.into_iter().chain(unknown).map(published).collect()
    }
}

fn make_directories(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| Error::io(format!("make directory {}", path.display()), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publication(at: &str) -> Publication {
        Publication {
            at: at.into(),
            mode: Some(Mode::SingleNodeMultiWriter),
            read_only: false,
            arguments: BTreeMap::from([("mount_flags".to_string(), "noexec".to_string())]),
        }
    }

    fn mount(at: &str) -> Mount {
        Mount {
            id: 1,
            device: "0:1".into(),
            root: "/v".into(),
            at: at.into(),
            options: "rw,noexec".into(),
            groups: Vec::new(),
            file_system: "tmpfs".into(),
            source: "tmpfs".into(),
        }
    }

    #[test]
    fn a_note_is_found_by_its_mount_and_says_whether_it_was_confirmed() {
        let scratch = tempfile::tempdir().unwrap();
        let notes = Notes::new(scratch.path(), "d");
        let note = Note::of("r/v", Some("i"), Mode::SingleNodeMultiWriter, &publication("/t"));
        notes.attaching(&note).unwrap();
        assert_eq!(notes.find("r/v", "/t"), Some((note.clone(), false)));
        notes.confirm("r/v", "/t").unwrap();
        assert_eq!(notes.find("r/v", "/t"), Some((note, true)));
        let found = notes.publications("r/v", Some("i"), [mount("/t")].into_iter());
        assert_eq!(found[0].publication, publication("/t"));
        assert!(found[0].confirmed);
    }

    #[test]
    fn a_note_of_another_incarnation_says_nothing() {
        let scratch = tempfile::tempdir().unwrap();
        let notes = Notes::new(scratch.path(), "d");
        notes
            .attaching(&Note::of("r/v", Some("old"), Mode::SingleNodeMultiWriter, &publication("/t")))
            .unwrap();
        let found = notes.publications("r/v", Some("new"), [mount("/t")].into_iter());
        assert_eq!(found[0].publication.mode, None);
    }

    #[test]
    fn a_mount_without_a_note_has_no_known_mode_and_a_note_without_a_mount_counts_for_nothing() {
        let scratch = tempfile::tempdir().unwrap();
        let notes = Notes::new(scratch.path(), "d");
        notes.attaching(&Note::of("r/v", None, Mode::SingleNodeMultiWriter, &publication("/a"))).unwrap();
        let found = notes.publications("r/v", None, [mount("/b")].into_iter());
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].publication.mode, None);
    }

    #[test]
    fn forgetting_is_repeatable_and_leaves_other_targets() {
        let scratch = tempfile::tempdir().unwrap();
        let notes = Notes::new(scratch.path(), "d");
        for at in ["/a", "/b"] {
            notes.attaching(&Note::of("r/v", None, Mode::SingleNodeMultiWriter, &publication(at))).unwrap();
        }
        assert!(notes.others("r/v", "/a").unwrap());
        notes.forget("r/v", "/a").unwrap();
        notes.forget("r/v", "/a").unwrap();
        assert!(notes.find("r/v", "/b").is_some());
        notes.forget("r/v", "/b").unwrap();
        assert!(!notes.others("r/v", "/a").unwrap());
        assert_eq!(std::fs::read_dir(scratch.path().join("d")).unwrap().count(), 0);
    }
}
