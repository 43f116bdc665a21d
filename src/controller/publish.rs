//! ControllerPublishVolume and ControllerUnpublishVolume: which nodes may have a volume. The record's list is the truth,
//! and a node reads it when it mounts.

use crate::access::{Mode, Verdict};
use crate::backend::OpenRoot;
use crate::csi;
use crate::driver::Driver;
use crate::error::{Error, Result};
use crate::guard::{Call, Guard};
use crate::id::{Handle, Incarnation, VolumeId};
use crate::messages;
use crate::store::Found;
use crate::sys::random;
use crate::volume::{Admitted, State, Volume};

/// ControllerPublishVolume: writes into the record that the node may have the volume, if the others leave room.
pub(super) fn publish(
    driver: &Driver,
    call: &Call,
    request: csi::ControllerPublishVolumeRequest,
) -> Result<csi::ControllerPublishVolumeResponse> {
    let volume_id = messages::required("volume_id", &request.volume_id)?;
    let node_id = messages::required("node_id", &request.node_id)?;
    let capability = messages::capability(driver, "volume_capability", request.volume_capability.as_ref())?;
    let mode = capability.mode;
    messages::check_context(&request.volume_context)?;
    let (root, id) = driver.find(volume_id).ok_or_else(|| driver.no_such_volume(volume_id))?;
    let open = root.open()?;
    let guard = driver.guards.acquire(call, id.key())?;
    let found = live(driver, &open, &guard, &id)?;
    if !found.volume.allows(mode) {
        let modes: Vec<_> = found.volume.modes.iter().map(Mode::to_string).collect();
        return Err(Error::Refused {
            what: format!("publish volume {id} as {mode}"),
            why: format!("it was created as {}, and a publication can't be wider", modes.join(", ")),
        });
    }
    let wanted = Admitted {
        node_id: node_id.to_string(),
        alias: id.handle.alias().map(str::to_string),
        mode,
        read_only: request.readonly || mode.is_read_only() || capability.read_only,
    };
    let done = Ok(csi::ControllerPublishVolumeResponse { publish_context: Default::default() });
    match found.volume.admit(&wanted) {
        Verdict::Repeat => done,
        Verdict::Admit => {
            if !open.nodes().map_or(Ok(true), |nodes| nodes.knows(node_id))? {
                return Err(Error::NotFound {
                    what: format!("node {node_id}"),
                    why: format!(
                        ": no berth that serves nodes has registered it on root {}; does one run there, with that \
                         --node-id, and can it mount the share?",
                        open.name
                    ),
                });
            }
            let mut next = found.volume.clone();
            next.admitted.push(wanted);
            open.store.win(&guard, found, next)?;
            done
        }
        Verdict::Incompatible { differs } => Err(Error::AlreadyExists {
            what: format!("the publication of {volume_id} on node {node_id}"),
            differs,
        }),
        Verdict::InUse { by } => {
            Err(Error::InUse { what: format!("volume {volume_id}"), by: format!("node {by}") })
        }
    }
}

/// The record to admit a node in; one of existing data is born here.
fn live(driver: &Driver, open: &OpenRoot, guard: &Guard<'_>, id: &VolumeId) -> Result<Found> {
    let name = id.handle.record();
    let missing = || driver.no_such_volume(&id.to_string());
    let found = open.store.load(&name)?;
    let Handle::Adopted { path, .. } = &id.handle else {
        return found.filter(|found| found.volume.state == State::Live).ok_or_else(missing);
    };
    match found {
        Some(found) if found.volume.state == State::Live => return Ok(found),
        // Its last publication ended, and whoever ended it died before it was buried.
        Some(found) => open.store.bury(guard, &found)?,
        None => {}
    }
    open.adopted(path)?;
    let (incarnation, nonce) = (Incarnation::new(random()?), format!("{:016x}", random()?));
    open.store.born(guard, &name, Volume::of_existing(path, incarnation, nonce))
}

/// ControllerUnpublishVolume: the node, or every node when none is named, may have the volume no more.
///
/// A generation is written even when nothing changes (PROTOCOL, rule 4): a publish that is still on its way, and read the
/// record before, must not win.
pub(super) fn unpublish(
    driver: &Driver,
    call: &Call,
    request: csi::ControllerUnpublishVolumeRequest,
) -> Result<csi::ControllerUnpublishVolumeResponse> {
    let volume_id = messages::required("volume_id", &request.volume_id)?;
    let done = Ok(csi::ControllerUnpublishVolumeResponse {});
    driver.check_root(volume_id)?;
    let Some((root, id)) = driver.find(volume_id) else { return done };
    let open = root.open()?;
    let guard = driver.guards.acquire(call, id.key())?;
    if let Handle::Adopted { .. } = id.handle {
        // There may be no record to write a generation of: what a late publish has prepared is taken from it instead.
        open.store.discard_prepared(&guard, &id.handle.record())?;
    }
    open.store.with_reserve(|| withdraw(&open, &guard, &id, &request.node_id))?;
    done
}

/// Takes a node, or all, out of the record. That of existing data ends with its last one.
fn withdraw(open: &OpenRoot, guard: &Guard<'_>, id: &VolumeId, node_id: &str) -> Result<()> {
    let Some(found) = open.store.load(&id.handle.record())? else { return Ok(()) };
    let adopted = found.volume.adopted;
    let mut next = found.volume.clone();
    next.admitted.retain(|admitted| {
        let is_meant = node_id.is_empty() || admitted.node_id == node_id;
        !(is_meant && admitted.alias.as_deref() == id.handle.alias())
    });
    if adopted && next.admitted.is_empty() {
        next.state = State::Deleting;
    }
    // What is ending anyhow, and admits nobody that is meant, needs no other generation.
    let is_over = found.volume.state == State::Deleting && found.volume.admitted == next.admitted;
    let won = if is_over { found } else { open.store.win(guard, found, next)? };
    // A volume of ours is ended by DeleteVolume, and has data to be ended before its record.
    if adopted && won.volume.state == State::Deleting {
        open.store.bury(guard, &won)?;
        open.store.purge_soon();
    }
    Ok(())
}
