//! Target paths: where a pod sees a volume. The CO owns them and all that leads to them; Berth makes and removes
//! the last directory, and never what is in it.

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;

use crate::backend::{Kind, Root};
use crate::driver::Driver;
use crate::error::{Error, Result};
use crate::id::{Incarnation, OWN_DIRECTORY};
use crate::messages::required;
use crate::sys::fs::Dir;
use crate::sys::table::Table;

/// The longest path that Linux takes, its final zero included, and the longest name in it.
const PATH_MAX: usize = 4096;
const NAME_MAX: usize = 255;

/// A path as the CO gives it: absolute, without `..`; doubled slashes and single dots are dropped.
pub(super) fn check(field: &str, path: &str) -> Result<PathBuf> {
    if path.len() >= PATH_MAX || path.split('/').any(|name| name.len() > NAME_MAX) {
        return Err(Error::invalid(field, "is longer than Linux allows, or a name in it is"));
    }
    let why = if !required(field, path)?.starts_with('/') {
        "is not absolute"
    } else if path.contains('\0') {
        "has a zero byte"
    } else if Path::new(path).components().any(|part| part == Component::ParentDir) {
        "has the component .."
    } else if Path::new(path).file_name().is_none() {
        "is no name of a directory"
    } else {
        return Ok(Path::new(path).components().collect());
    };
    Err(Error::invalid(field, format!("{path:?} {why}")))
}

/// The path under which the kernel knows a target: links above it are followed, for they are the CO's own; the
/// target itself is not. Nothing when the directory above it does not exist.
pub(super) fn resolve(target: &Path) -> Result<Option<String>> {
    let (Some(above), Some(name)) = (target.parent(), target.file_name()) else { return Ok(None) };
    match std::fs::canonicalize(above) {
        Ok(above) => Ok(Some(above.join(name).display().to_string())),
        Err(error) => match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
            _ => Err(Error::io(format!("resolve {}", above.display()), error)),
        },
    }
}

/// Refuses a target that lies in a volume or among what is Berth's own, directly or through a mount: an unpublish would
/// remove an empty directory there, which may be all that there is of a volume.
pub(super) fn check_outside(driver: &Driver, field: &str, target: &str) -> Result<()> {
    let path = Path::new(target);
    let (Some(above), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let within = match driver.kind {
        Kind::Local => local_root_of(driver, above, name)?,
        Kind::Nfs => shared_root_of(driver, &Table::read()?, above),
    };
    match within {
        None => Ok(()),
        Some(root) => {
            let why = format!("{target:?} lies in a volume of root {root} or in its .berth");
            Err(Error::invalid(field, why))
        }
    }
}

/// The root whose data or own directory a target would lie in.
fn local_root_of(driver: &Driver, above: &Path, name: &OsStr) -> Result<Option<String>> {
    let above = match Dir::open(above).and_then(Dir::at_its_real_path) {
        Err(error) if error.is_gone() || error.errno() == Some(Errno::ENOTDIR) => return Ok(None),
        answer => answer?,
    };
    let device = above.stat()?.st_dev;
    for root in &driver.roots {
        let Ok(dir) = Dir::open(Path::new(&root.place())).and_then(Dir::at_its_real_path) else { continue };
        if dir.stat()?.st_dev != device {
            continue;
        }
        let table = Table::read()?;
        let (place, root_place) = (table.place_of(&above)?, table.place_of(&dir)?);
        let within = place.1.join(name);
        if place.0 == root_place.0
            && let Ok(within) = within.strip_prefix(&root_place.1)
            && is_taken(within)
        {
            return Ok(Some(root.name().to_string()));
        }
    }
    Ok(None)
}

/// The same where nothing on the way may be opened, for its server may not answer: by the mount table alone.
fn shared_root_of(driver: &Driver, table: &Table, above: &Path) -> Option<String> {
    let holding = table.of_nfs(|_| true).find(|mount| above.starts_with(&mount.at))?;
    let roots = driver.roots.iter().filter_map(|root| match root {
        Root::Nfs(root) => Some(&root.spec),
        Root::Local(_) => None,
    });
    let mut within = roots.filter(|spec| spec.beneath(&holding.source).is_some());
    within.next().map(|spec| spec.name.clone())
}

/// Whether a path beneath a root leads to or into a volume's data, or Berth's own directory.
fn is_taken(path: &Path) -> bool {
    path.starts_with(OWN_DIRECTORY)
        || path.components().any(|part| part.as_os_str().to_str().is_some_and(Incarnation::ends))
}

/// The directory that a mount is attached to.
pub(super) struct Place<'a> {
    target: &'a str,
    /// The open directory.
    pub(super) dir: Dir,
    made: bool,
}

impl<'a> Place<'a> {
    /// Opens the target, making it where only its parent exists (NodePublishVolume: "SP MUST ensure").
    pub(super) fn prepare(target: &'a str) -> Result<Self> {
        let path = Path::new(target);
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Error::invalid("target_path", "is no name of a directory"));
        };
        let parent = Dir::open(above).map_err(|error| Error::Refused {
            what: format!("publish at {target}"),
            why: format!("{error}: the CO makes the directory above a target"),
        })?;
        let made = match parent.mkdir(name) {
            Ok(()) => true,
            Err(error) if error.errno() == Some(Errno::EEXIST) => false,
            Err(error) => return Err(error),
        };
        let refused =
            |why: &str| Error::Refused { what: format!("publish at {target}"), why: why.to_string() };
        let dir = parent.dir(name).map_err(|error| match error.errno() {
            Some(Errno::EXDEV) => {
                refused("something else is mounted there: unmount it, or use another target")
            }
            Some(Errno::ELOOP | Errno::ENOTDIR) => {
                refused("it is a file or a symbolic link, no directory: remove it, or use another target")
            }
            Some(Errno::ENOENT) => removed_meanwhile(target),
            _ => error,
        })?;
        if !made && !dir.is_empty_but_for(&[])? {
            return Err(refused(
                "the directory is not empty, and a mount would hide what is in it: empty it",
            ));
        }
        Ok(Self { target, dir, made })
    }

    /// Says why a mount could not be attached here.
    pub(super) fn explain(&self, error: Error) -> Error {
        match error.errno() {
            Some(Errno::ENOENT) => removed_meanwhile(self.target),
            _ => error,
        }
    }

    /// Removes the directory again if this call made it.
    pub(super) fn give_up(&self) {
        if self.made {
            // Fails where something was put into it or mounted on it meanwhile, and then it stays.
            let _ = remove(self.target);
        }
    }
}

/// An unpublish came while the publish was at work, or the CO itself removes the target.
fn removed_meanwhile(target: &str) -> Error {
    Error::Pending {
        what: format!("publish at {target}"),
        why: "the directory was removed meanwhile; the same call may be repeated".into(),
    }
}

/// Removes the directory of a target, never what is in it.
pub(super) fn remove(target: &str) -> Result<()> {
    match std::fs::remove_dir(target) {
        Ok(()) => Ok(()),
        Err(error) => match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOENT) => Ok(()),
            // A file, or a directory with something in it, was not made by Berth.
            Some(Errno::ENOTEMPTY | Errno::EEXIST | Errno::ENOTDIR) => {
                tracing::warn!(target, %error, "left as it is");
                Ok(())
            }
            _ => Err(Error::io(format!("remove directory {target}"), error)),
        },
    }
}
