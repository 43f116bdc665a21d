//! ControllerExpandVolume, where every node reaches a volume: the record takes the new size, and no node has to do a thing.

use crate::csi;
use crate::driver::Driver;
use crate::error::Result;
use crate::guard::Call;
use crate::messages;
use crate::volume::State;

/// Grows a volume; a size that it has already is no change.
pub(super) fn expand(
    driver: &Driver,
    call: &Call,
    request: csi::ControllerExpandVolumeRequest,
) -> Result<csi::ControllerExpandVolumeResponse> {
    let volume_id = messages::required("volume_id", &request.volume_id)?;
    if request.volume_capability.is_some() {
        messages::capability(driver, "volume_capability", request.volume_capability.as_ref())?;
    }
    let range = messages::range(request.capacity_range.as_ref())?;
    let missing = || driver.no_such_volume(volume_id);
    let (root, id) = driver.find(volume_id).ok_or_else(missing)?;
    let open = root.open()?;
    let guard = driver.guards.acquire(call, id.key())?;
    let found = open.store.load(&id.handle.record())?;
    let found = found.filter(|found| found.volume.state == State::Live).ok_or_else(missing)?;
    let capacity_bytes = open.grow(&guard, found, range)?;
    Ok(csi::ControllerExpandVolumeResponse { capacity_bytes, node_expansion_required: false })
}
