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
        messages::capability("volume_capability", request.volume_capability.as_ref())?;
    }
    let (required, limit) = messages::range(request.capacity_range.as_ref())?;
    let guard = driver.guards.acquire(call, key)?;
    // What was found before may have changed while the guard was waited for.
    let found = publication::find(driver, volume_id, path)?;
    let Some(record) = found.record else {
        return Err(Error::Refused {
            what: format!("expand volume {volume_id}"),
            why: "it existed before Berth, which keeps no size for it".into(),
        });
    };
    let has = record.volume.capacity_bytes;
    if limit > 0 && has > limit {
        return Err(Error::OutOfRange {
            why: format!("the volume has {has} bytes, and at most {limit} are asked for"),
        });
    }
    if required <= has {
        return Ok(csi::NodeExpandVolumeResponse { capacity_bytes: has });
    }
    let free = messages::free_bytes(&found.data)?;
    if required - has > free {
        return Err(Error::NoSpace {
            what: format!("expand volume {volume_id}"),
            why: format!(
                "root {} has {free} bytes left, growing from {has} to {required} needs more",
                found.open.name
            ),
        });
    }
    let mut grown = record.volume.clone();
    grown.capacity_bytes = required;
    let record = found.open.store.win(&guard, record, grown)?;
    record.settle()?;
    Ok(csi::NodeExpandVolumeResponse { capacity_bytes: required })
}
