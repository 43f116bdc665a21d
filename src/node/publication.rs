//! Finding a publication by the path that the CO gives: what stats and expansion begin with.

use crate::backend::OpenRoot;
use crate::driver::Driver;
use crate::error::{Error, Result};
use crate::id::{Handle, VolumeId};
use crate::node::target;
use crate::store::Found;
use crate::sys::fs::Dir;
use crate::volume::State;

/// A volume that is published at the path asked for.
pub(super) struct Publication {
    /// Its id.
    pub(super) id: VolumeId,
    /// Its root.
    pub(super) open: OpenRoot,
    /// Its record; nothing for adopted data.
    pub(super) record: Option<Found>,
    /// Its data.
    pub(super) data: Dir,
}

/// The volume `volume_id` as it is published at `path`.
///
/// # Errors
/// NOT_FOUND when there is no such volume, or it is not published there; also for a path that could be none.
pub(super) fn find(driver: &Driver, volume_id: &str, path: &str) -> Result<Publication> {
    let missing = || driver.no_such_volume(volume_id);
    let unpublished = || Error::NotFound {
        what: format!("a publication of volume {volume_id} at {path}"),
        why: String::new(),
    };
    let (root, id) = driver.find(volume_id).ok_or_else(missing)?;
    let open = root.open()?;
    let found = match (&id.handle, open.is_shared()) {
        (Handle::Adopted { .. }, false) => None,
        _ => open.store.load(&id.handle.record())?.filter(|found| found.volume.state == State::Live),
    };
    let (at, data) = match (&id.handle, &found) {
        (Handle::Adopted { path, .. }, _) => (path.clone(), open.adopted(path)?),
        (Handle::Made(_), None) => return Err(missing()),
        (Handle::Made(_), Some(found)) => {
            // A creation that was cut short is published nowhere.
            let data = open
                .data(&found.volume)
                .map_err(|error| if error.is_gone() { unpublished() } else { error })?;
            (found.volume.data_path(), data)
        }
    };
    let incarnation = found.as_ref().map(|found| found.volume.incarnation.as_str().to_string());
    let target =
        target::check("volume_path", path).ok().and_then(|path| target::resolve(&path).ok().flatten());
    let published = driver.published(&open, &id.key(), &at, incarnation.as_deref())?;
    if !published.iter().any(|found| Some(&found.publication.at) == target.as_ref()) {
        return Err(unpublished());
    }
    Ok(Publication { id, open, record: found, data })
}
