//! A node's own directory as a root: recognised, never mistaken for another.
//!
//! An unmounted disk must not look like an empty root, a disk that moved must not answer to another's name, and
//! a root within a root would let one volume hold another. All of this is checked whenever the directory at
//! the root's path is not the one that was checked before, so a root may come and go while the driver runs;
//! no descriptor is kept that would hold its disk busy.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

use super::identity::{Claim, FILE, Identity};
use super::{Backend, OpenRoot, root_name};
use crate::error::{Error, Result};
use crate::id::OWN_DIRECTORY;
use crate::store::{Errand, Own, Store};
use crate::sys::fs::Dir;
use crate::sys::table::Table;

/// What the administrator says of a root: `NAME=DIRECTORY[,plain][,records=DIRECTORY]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootSpec {
    /// The name that a StorageClass picks it by.
    pub name: String,
    /// The directory, absolute.
    pub path: PathBuf,
    /// Whether it may be a directory within a file system, not only the root of one.
    pub plain: bool,
    /// Where its records are kept when nothing of Berth's may be written to it.
    pub records: Option<PathBuf>,
}

impl FromStr for RootSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = "NAME=DIRECTORY[,plain][,records=DIRECTORY]";
        let (name, rest) = text.split_once('=').ok_or(format!("a root is {form}"))?;
        let name = root_name(name)?;
        let mut words = rest.split(',');
        let path = absolute(words.next().unwrap_or_default())?;
        let mut spec = Self { name, path, plain: false, records: None };
        for word in words {
            match word.split_once('=') {
                None if word == "plain" => spec.plain = true,
                Some(("records", path)) => spec.records = Some(absolute(path)?),
                _ => return Err(format!("{word:?} is no option of a root; a root is {form}")),
            }
        }
        Ok(spec)
    }
}

fn absolute(path: &str) -> Result<PathBuf, String> {
    if !path.starts_with('/') {
        return Err(format!("{path:?} is no absolute path of a directory"));
    }
    Ok(Path::new(path).components().collect())
}

/// What mkfs and Berth put into a root, and nobody else.
const FRESH: [&str; 2] = ["lost+found", OWN_DIRECTORY];

/// The directory that was found good, and whose it was.
#[derive(Debug, Clone)]
struct Seen {
    device: u64,
    inode: u64,
    /// Of `root.json`: a disk that has the device number of one that went has another.
    identity: (u64, i64, i64),
    uuid: String,
}

/// A root of this node, there or not.
#[derive(Debug)]
pub struct Root {
    /// What the administrator said.
    pub spec: RootSpec,
    seen: Mutex<Option<Seen>>,
    errands: Sender<Errand>,
}

impl Root {
    /// A root that has not been looked at yet; what comes up to be done behind the answers goes to `errands`.
    pub fn new(spec: RootSpec, errands: Sender<Errand>) -> Self {
        Self { spec, seen: Mutex::new(None), errands }
    }

    /// Opens the root for one call.
    ///
    /// # Errors
    /// FAILED_PRECONDITION, saying why and what to do, when it is missing, not mounted, another's, nested, or of
    /// a newer format.
    pub fn open(&self) -> Result<OpenRoot> {
        let unusable = |why: String| Error::RootUnusable { root: self.spec.name.clone(), why };
        let path = &self.spec.path;
        let dir = Dir::open(path)
            .and_then(Dir::at_its_real_path)
            .map_err(|error| unusable(format!("{error}: is the disk mounted there?")))?;
        let found = dir.stat()?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let own = match seen.as_ref() {
            Some(seen) if (seen.device, seen.inode) == (found.st_dev, found.st_ino) => {
                self.own_directory(&dir).ok().filter(|own| stamp(own) == Some(seen.identity))
            }
            _ => None,
        };
        let own = if let Some(own) = own {
            own
        } else {
            let (own, identity) = self.recognise(&dir, seen.is_some()).map_err(|error| match error {
                Error::Io { .. } => unusable(error.to_string()),
                _ => error,
            })?;
            if let Some(before) = seen.as_ref().filter(|before| before.uuid != identity.uuid) {
                return Err(unusable(format!(
                    "{} was root {} when this driver started and is root {} now: mount the right disk, or restart",
                    path.display(),
                    before.uuid,
                    identity.uuid
                )));
            }
            tracing::info!(root = self.spec.name, path = %path.display(), uuid = identity.uuid, "root found");
            let stamp = stamp(&own).ok_or_else(|| unusable(format!("{FILE} went away")))?;
            *seen = Some(Seen {
                device: found.st_dev,
                inode: found.st_ino,
                identity: stamp,
                uuid: identity.uuid,
            });
            own
        };
        Ok(OpenRoot {
            name: self.spec.name.clone(),
            dir,
            store: Store::new(Arc::new(Own::open(own)?), &self.spec.name, self.errands.clone()),
            adopted_only: self.spec.records.is_some(),
            backend: Backend::Local,
        })
    }

    /// Where this root's own directory lies: in it, or where its records are kept.
    fn own_parent(&self, dir: &Dir) -> Result<Dir> {
        match &self.spec.records {
            None => dir.dir("."),
            Some(path) => Dir::open(path),
        }
    }

    fn own_directory(&self, dir: &Dir) -> Result<Dir> {
        self.own_parent(dir)?.dir(OWN_DIRECTORY)
    }

    /// Makes sure that the directory is this root and no other. One that was `known` before is not laid out anew.
    fn recognise(&self, dir: &Dir, known: bool) -> Result<(Dir, Identity)> {
        let Self { spec, .. } = self;
        let path = spec.path.display().to_string();
        let claim = Claim { name: &spec.name, kind: "local", place: &path };
        if !spec.plain {
            let mount = Table::read()?.holding(dir)?;
            if mount.root != Path::new("/") || mount.at != dir.path() {
                return Err(claim.unusable(format!(
                    "{path} is not the root of a file system (it is {} of the {} mounted at {}): mount the disk, \
                     or say --root {}={path},plain if a plain directory is meant",
                    mount.root.display(),
                    mount.file_system,
                    mount.at.display(),
                    spec.name
                )));
            }
        }
        if let Some(outer) = enclosing_root(dir)? {
            return Err(
                claim.unusable(format!("{path} lies in another root, {outer}: roots can't be nested"))
            );
        }
        let parent = self.own_parent(dir)?;
        let fresh = spec.records.is_none() && dir.is_empty_but_for(&FRESH)?;
        let own = claim.own_directory(&parent, known)?;
        if !known && !Claim::is_laid_out(&own)? {
            if fresh {
                // Nobody on the host comes to the volumes but through their mounts. First, for what has an identity
                // is not looked at again.
                let found = dir.stat()?;
                dir.own(found.st_uid, found.st_gid, 0o700)?;
            } else if spec.records.is_none() && dir.stat()?.st_mode & 0o011 != 0 {
                tracing::warn!(
                    root = spec.name,
                    "{path} held data before and is open to users of this host: chmod 700 it if they need not enter"
                );
            }
            claim.lay_out(&parent, &own)?;
        }
        let identity = claim.check(&own)?;
        Ok((own, identity))
    }
}

/// What tells one `root.json` from another without reading it.
fn stamp(own: &Dir) -> Option<(u64, i64, i64)> {
    let found = own.stat_of(FILE).ok()??;
    Some((found.st_ino, found.st_ctime, found.st_ctime_nsec))
}

/// The path of the nearest root above this directory, if there is one.
fn enclosing_root(dir: &Dir) -> Result<Option<String>> {
    let mut here = dir.dir(".")?;
    for _ in 0..1000 {
        let above = here.parent()?;
        let (a, b) = (above.stat()?, here.stat()?);
        if (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino) {
            return Ok(None);
        }
        if above.stat_of(Path::new(OWN_DIRECTORY).join(FILE))?.is_some() {
            let path = std::fs::canonicalize(above.path()).unwrap_or(above.path().to_path_buf());
            return Ok(Some(path.display().to_string()));
        }
        here = above;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(spec: String) -> Root {
        Root::new(spec.parse().unwrap(), std::sync::mpsc::channel().0)
    }

    fn plain(path: &Path) -> Root {
        root(format!("main={},plain", path.display()))
    }

    #[test]
    fn a_root_is_a_name_a_directory_and_options() {
        let spec: RootSpec = "ssd=/mnt/ssd/,plain,records=/var/lib/berth".parse().unwrap();
        assert_eq!(spec.name, "ssd");
        assert_eq!(spec.path, Path::new("/mnt/ssd"));
        assert!(spec.plain);
        assert_eq!(spec.records.as_deref(), Some(Path::new("/var/lib/berth")));
        for bad in [
            "/mnt",
            "SSD=/mnt",
            "a b=/mnt",
            "=/mnt",
            "ssd=mnt",
            "ssd=",
            "ssd=/mnt,plane",
            "ssd=/mnt,records=x",
        ] {
            assert!(bad.parse::<RootSpec>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_root_keeps_its_identity_and_refuses_another_name() {
        let scratch = tempfile::tempdir().unwrap();
        plain(scratch.path()).open().unwrap();
        let before = std::fs::read(scratch.path().join(".berth/root.json")).unwrap();
        plain(scratch.path()).open().unwrap();
        assert_eq!(std::fs::read(scratch.path().join(".berth/root.json")).unwrap(), before);
        let other = root(format!("other={},plain", scratch.path().display()));
        let why = other.open().unwrap_err().to_string();
        assert!(why.contains("local root main"), "{why}");
    }

    #[test]
    fn a_directory_within_a_file_system_is_no_root_unless_it_says_plain() {
        let scratch = tempfile::tempdir().unwrap();
        let root = root(format!("main={}", scratch.path().display()));
        let why = root.open().unwrap_err().to_string();
        assert!(why.contains(",plain"), "{why}");
        assert!(!scratch.path().join(".berth").exists());
    }

    #[test]
    fn a_root_within_a_root_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        plain(scratch.path()).open().unwrap();
        let inner = scratch.path().join("a/b");
        std::fs::create_dir_all(&inner).unwrap();
        let why = plain(&inner).open().unwrap_err().to_string();
        assert!(why.contains("nested"), "{why}");
    }

    #[test]
    fn a_root_of_a_newer_format_is_refused_not_guessed_at() {
        let scratch = tempfile::tempdir().unwrap();
        plain(scratch.path()).open().unwrap();
        let file = scratch.path().join(".berth/root.json");
        let text = std::fs::read_to_string(&file).unwrap().replace("\"format\": 1", "\"format\": 2");
        std::fs::write(&file, text).unwrap();
        let why = plain(scratch.path()).open().unwrap_err().to_string();
        assert!(why.contains("newer"), "{why}");
    }

    #[test]
    fn a_root_that_lost_its_records_while_the_driver_runs_is_not_laid_out_anew() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("root");
        std::fs::create_dir(&path).unwrap();
        let root = plain(&path);
        root.open().unwrap();
        std::fs::rename(&path, scratch.path().join("away")).unwrap();
        assert!(root.open().is_err());
        std::fs::create_dir(&path).unwrap();
        assert!(root.open().is_err());
        assert!(!path.join(".berth").exists());
        std::fs::remove_dir(&path).unwrap();
        std::fs::rename(scratch.path().join("away"), &path).unwrap();
        root.open().unwrap();
    }

    #[test]
    fn a_fresh_root_keeps_the_users_of_the_host_out() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("root");
        std::fs::create_dir(&path).unwrap();
        plain(&path).open().unwrap();
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&path).unwrap());
        assert_eq!(mode & 0o777, 0o700);
    }
}
