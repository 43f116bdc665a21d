//! The data that a publication mounts, and whether this node may have it.

use crate::access::Mode;
use crate::backend::{OpenRoot, Placement};
use crate::driver::Driver;
use crate::error::{Error, Result};
use crate::id::{Handle, VolumeId};
use crate::store::Found;
use crate::sys::fs::Dir;
use crate::volume::{Admitted, State, Volume};

/// What is to be mounted.
pub(super) struct Source {
    /// Where the data lies beneath the root.
    pub(super) path: String,
    /// The record as it was found; nothing where there is none.
    pub(super) found: Option<Found>,
    /// Which creation of the record.
    pub(super) incarnation: Option<String>,
    /// Its directory, open.
    pub(super) data: Dir,
    /// Whether this node may only read it.
    pub(super) read_only: bool,
}

/// The data to mount, in its place, and how this node may have it.
pub(super) fn source(driver: &Driver, open: &OpenRoot, id: &VolumeId, mode: Mode) -> Result<Source> {
    let missing = || driver.no_such_volume(&id.to_string());
    if let (Handle::Adopted { path, .. }, false) = (&id.handle, open.is_shared()) {
        let data = open.adopted(path)?;
        return Ok(Source { data, path: path.clone(), found: None, incarnation: None, read_only: false });
    }
    let name = id.handle.record();
    let found = open.store.load(&name)?.filter(|found| found.volume.state == State::Live);
    let found = match (found, &id.handle) {
        (Some(found), _) => found,
        (None, Handle::Made(_)) => return Err(missing()),
        (None, Handle::Adopted { .. }) => return Err(not_admitted(driver, id, Vec::new())),
    };
    let volume = &found.volume;
    if !volume.allows(mode) {
        let modes: Vec<_> = volume.modes.iter().map(Mode::to_string).collect();
        return Err(Error::Refused {
            what: format!("publish volume {id} as {mode}"),
            why: format!("it was created as {}, and a publication can't be wider", modes.join(", ")),
        });
    }
    let read_only = admission(driver, open, id, volume, mode)?;
    let data = match &id.handle {
        Handle::Adopted { path, .. } => open.adopted(path)?,
        Handle::Made(_) => match open.data(volume) {
            // It is in its place but for a creation that was cut short.
            Err(error) if error.is_missing() && open.place(&name, volume)? == Placement::Nowhere => {
                return Err(missing());
            }
            Err(error) if error.is_missing() => open.data(volume)?,
            answer => answer?,
        },
    };
    let incarnation = Some(volume.incarnation.as_str().to_string());
    Ok(Source { data, path: volume.data_path(), incarnation, read_only, found: Some(found) })
}

/// Whether this node may only read a volume.
///
/// # Errors
/// FAILED_PRECONDITION when the record does not admit it, or not in this mode. Who this node is says its administrator,
/// never a request.
pub(super) fn admission(
    driver: &Driver,
    open: &OpenRoot,
    id: &VolumeId,
    volume: &Volume,
    mode: Mode,
) -> Result<bool> {
    if !open.is_shared() {
        return Ok(false);
    }
    let node_id = &driver.config.host.node_id;
    let is_own =
        |admitted: &&Admitted| admitted.node_id == *node_id && admitted.alias.as_deref() == id.handle.alias();
    match volume.admitted.iter().find(is_own) {
        Some(admitted) if mode.within(admitted.mode) => Ok(admitted.read_only),
        Some(admitted) => Err(Error::Refused {
            what: format!("publish volume {id} as {mode}"),
            why: format!(
                "node {node_id} was admitted as {}, and a publication can't be wider",
                admitted.mode
            ),
        }),
        None => Err(not_admitted(driver, id, volume.nodes())),
    }
}

fn not_admitted(driver: &Driver, id: &VolumeId, others: Vec<String>) -> Error {
    let held = match others.as_slice() {
        [] => "no node is".to_string(),
        nodes => format!("{} is", nodes.join(", ")),
    };
    Error::NotAdmitted {
        what: format!("publish volume {id}"),
        why: format!(
            "node {} is not admitted to it ({held}): ControllerPublishVolume comes first",
            driver.config.host.node_id
        ),
    }
}
