//! NodeGetVolumeStats: bytes and inodes, as the file system counts them.

use crate::csi::{self, VolumeUsage, volume_usage::Unit};
use crate::driver::Driver;
use crate::error::Result;
use crate::guard::Call;
use crate::messages;
use crate::node::publication;

/// What df would say at the publication.
pub(super) fn get(
    driver: &Driver,
    _: &Call,
    request: csi::NodeGetVolumeStatsRequest,
) -> Result<csi::NodeGetVolumeStatsResponse> {
    let volume_id = messages::required("volume_id", &request.volume_id)?;
    let path = messages::required("volume_path", &request.volume_path)?;
    let found = publication::find(driver, volume_id, path)?;
    let space = found.data.space()?;
    let usage = |unit: Unit, all: u64, free: u64, available: u64, size: u64| {
        let count = |units: u64| i64::try_from(units.saturating_mul(size)).unwrap_or(i64::MAX);
        VolumeUsage {
            unit: unit.into(),
            total: count(all),
            used: count(all.saturating_sub(free)),
            available: count(available),
        }
    };
    Ok(csi::NodeGetVolumeStatsResponse {
        usage: vec![
            usage(
                Unit::Bytes,
                space.blocks(),
                space.blocks_free(),
                space.blocks_available(),
                space.fragment_size(),
            ),
            usage(Unit::Inodes, space.files(), space.files_free(), space.files_available(), 1),
        ],
    })
}
