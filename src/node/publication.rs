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
    let (record, at, incarnation, data) = match &id.handle {
        Handle::Made(name) => {
            let found = open
                .store
                .load(name)?
                .filter(|found| found.volume.state == State::Live)
                .ok_or_else(missing)?;
            // A creation that was cut short is published nowhere.
            let data = open
                .data(&found.volume)
                .map_err(|error| if error.is_gone() { unpublished() } else { error })?;
            let (at, incarnation) = (found.volume.data_path(), found.volume.incarnation.as_str().to_string());
            (Some(found), at, Some(incarnation), data)
        }
        Handle::Adopted { path, .. } => (None, path.clone(), None, open.adopted(path)?),
    };
    let target =
        target::check("volume_path", path).ok().and_then(|path| target::resolve(&path).ok().flatten());
    let published = driver.published(&open, &id.key(), &at, incarnation.as_deref())?;
    if !published.iter().any(|found| Some(&found.publication.at) == target.as_ref()) {
        return Err(unpublished());
    }
    Ok(Publication { id, open, record, data })
}
