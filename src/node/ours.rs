//! Whether what is mounted at a target is the volume that is asked for: nobody else's mount is ever removed.

use std::path::{Path, PathBuf};

use crate::backend::{OpenRoot, Root, nfs};
use crate::driver::Driver;
use crate::error::Result;
use crate::id::{Handle, Incarnation, VolumeId};
use crate::sys::table::{Mount, Table, is_nfs};

/// Whether what is mounted at a target is this volume: by its record; or by its note, unless the mount is
/// certainly another's, for the data may have been renamed since; or, when both are lost, because it is data of this root
/// that no record and no note claims.
pub(super) fn is_ours(
    driver: &Driver,
    root: Option<&Root>,
    id: &VolumeId,
    target: &str,
    mounted: &[Mount],
) -> bool {
    if let Some(Root::Nfs(root)) = root {
        return is_of_share(driver, root, id, target, mounted);
    }
    // The root, how the mount table names it, and where beneath it the volume's data is if it has a record.
    let look_up = |root: &Root| -> Result<(OpenRoot, (String, PathBuf), Option<String>)> {
        let open = root.open()?;
        let path = match &id.handle {
            Handle::Adopted { path, .. } => Some(path.clone()),
            Handle::Made(name) => open.store.load(name)?.map(|found| found.volume.data_path()),
        };
        let place = Table::read()?.place_of(&open.dir)?;
        Ok((open, place, path))
    };
    let found = root.and_then(|root| look_up(root).ok());
    let Some((open, (device, base), path)) = found else {
        return !driver.notes.claimed_by_others(&id.key(), target)
            && (driver.notes.find(&id.key(), target).is_some() || mounted.iter().any(is_data));
    };
    let mut here = mounted.iter().filter(|mount| mount.device == device).peekable();
    if let Some(path) = &path
        && here.clone().any(|mount| mount.root == base.join(path))
    {
        return true;
    }
    if here.peek().is_none() || driver.notes.claimed_by_others(&id.key(), target) {
        return false;
    }
    let noted = driver.notes.find(&id.key(), target).is_some();
    here.any(|mount| {
        let beneath = mount.root.strip_prefix(&base).ok().and_then(Path::to_str);
        (noted || path.is_none() && is_data(mount))
            && !beneath.is_some_and(|beneath| open.has_owner(beneath).unwrap_or(true))
    })
}

/// The same where no server may be asked: by the mount's source, which is a path with the incarnation in it, and by the
/// note.
fn is_of_share(driver: &Driver, root: &nfs::Root, id: &VolumeId, target: &str, mounted: &[Mount]) -> bool {
    let note = driver.notes.find(&id.key(), target).map(|(note, _)| note);
    let claimed = note.is_none() && driver.notes.claimed_by_others(&id.key(), target);
    mounted.iter().filter(|mount| is_nfs(mount)).any(|mount| {
        match (root.spec.beneath(&mount.source), &id.handle, &note) {
            (Some(path), Handle::Adopted { path: own, .. }, _) => path == own,
            (Some(path), Handle::Made(_), Some(note)) => note
                .incarnation
                .as_ref()
                .is_some_and(|incarnation| path.ends_with(&format!(".{incarnation}"))),
            (Some(path), Handle::Made(_), None) => Incarnation::ends(path) && !claimed,
            // The server had another name when it was mounted.
            (None, Handle::Made(_), None) => Incarnation::ends(&mount.source) && !claimed,
            (None, _, note) => note.is_some(),
        }
    })
}

/// Whether a mount is of data that Berth made, in its place or in the trash.
fn is_data(mount: &Mount) -> bool {
    let by_root = mount.root.file_name().and_then(|name| name.to_str()).is_some_and(Incarnation::ends);
    by_root || is_nfs(mount) && Incarnation::ends(&mount.source)
}
