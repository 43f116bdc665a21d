//! GetCapacity: what this node could still give.

use crate::csi;
use crate::driver::Driver;
use crate::error::{Error, Result};
use crate::guard::Call;
use crate::messages;
use crate::parameters::Parameters;

/// The free bytes of the root that the parameters pick; 0 where nothing could be created at all.
pub(super) fn get(
    driver: &Driver,
    _: &Call,
    request: csi::GetCapacityRequest,
) -> Result<csi::GetCapacityResponse> {
    let parameters = Parameters::parse(&request.parameters)?;
    let root = driver.root(parameters.root.as_deref())?;
    let here = request.accessible_topology.is_none_or(|topology| messages::is_here(driver, &topology));
    let modes = messages::modes(driver, "volume_capabilities", &request.volume_capabilities);
    let possible = here
        && modes.is_ok_and(|modes| messages::check_modes(driver, &modes, parameters.node_sharing).is_ok());
    let available_capacity = if possible {
        match root.open() {
            Ok(open) if !open.adopted_only => open.dir.free_bytes()?,
            Ok(_) | Err(Error::RootUnusable { .. }) => 0,
            Err(error) => return Err(error),
        }
    } else {
        0
    };
    Ok(csi::GetCapacityResponse {
        available_capacity,
        maximum_volume_size: Some(available_capacity),
        minimum_volume_size: None,
    })
}
