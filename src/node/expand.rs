//! NodeExpandVolume: the record takes the new size. (The resizer has no mode for controllers on nodes, so for a
//! node's own directories the node is where a volume grows.)

use crate::csi;
use crate::driver::Driver;
use crate::error::{Error, Result};
use crate::guard::Call;
use crate::messages;
use crate::node::publication;

/// Grows a published volume; a size that it has already is no change.
pub(super) fn expand(
    driver: &Driver,
    call: &Call,
    request: csi::NodeExpandVolumeRequest,
) -> Result<csi::NodeExpandVolumeResponse> {
    let volume_id = messages::required("volume_id", &request.volume_id)?;
    let path = messages::required("volume_path", &request.volume_path)?;
    let key = publication::find(driver, volume_id, path)?.id.key();
    if request.volume_capability.is_some() {
        messages::capability(driver, "volume_capability", request.volume_capability.as_ref())?;
    }
    let range = messages::range(request.capacity_range.as_ref())?;
    let guard = driver.guards.acquire(call, key)?;
    // What was found before may have changed while the guard was waited for.
    let found = publication::find(driver, volume_id, path)?;
    let Some(record) = found.record else {
        return Err(Error::Refused {
            what: format!("expand volume {volume_id}"),
            why: "it existed before Berth, which keeps no size for it".into(),
        });
    };
    Ok(csi::NodeExpandVolumeResponse { capacity_bytes: found.open.grow(&guard, record, range)? })
}
