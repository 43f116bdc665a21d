//! ValidateVolumeCapabilities, ControllerGetVolume, ListVolumes: what there is. They read records and change nothing,
//! so they take no guard.

use std::time::{Duration, Instant};

use prost::Message as _;

use crate::csi;
use crate::driver::Driver;
use crate::error::{Error, Result};
use crate::guard::Call;
use crate::id::{Handle, RecordName, VolumeId};
use crate::messages;
use crate::parameters::Parameters;
use crate::volume::{State, Volume};

/// A list answer stays well below the 4 MiB at which gRPC clients refuse a message.
const LARGEST_ANSWER: usize = 3 << 20;
/// After this long an answer is given with what there is, well before the edge's deadline: ABORTED would come again
/// on every repetition, and the list would never be had.
const LONGEST_WALK: Duration = Duration::from_secs(3);
/// Records looked up at once while a list is made.
const PAGE: usize = 1024;
/// What a token of ListVolumes begins with; the last volume of its page follows.
const TOKEN: &str = "after:";

/// ValidateVolumeCapabilities: what a publication of the volume would allow.
pub(super) fn validate(
    driver: &Driver,
    _: &Call,
    request: csi::ValidateVolumeCapabilitiesRequest,
) -> Result<csi::ValidateVolumeCapabilitiesResponse> {
    let volume_id = messages::required("volume_id", &request.volume_id)?;
    if request.volume_capabilities.is_empty() {
        return Err(Error::invalid("volume_capabilities", "is missing"));
    }
    let (_, found) = look_up(driver, volume_id)?;
    let refused = disagreement(driver, &request, found.as_ref());
    let csi::ValidateVolumeCapabilitiesRequest {
        volume_context,
        volume_capabilities,
        parameters,
        mutable_parameters,
        ..
    } = request;
    let confirmed = csi::validate_volume_capabilities_response::Confirmed {
        volume_context,
        volume_capabilities,
        parameters,
        mutable_parameters,
    };
    Ok(match refused {
        None => {
            csi::ValidateVolumeCapabilitiesResponse { confirmed: Some(confirmed), message: String::new() }
        }
        Some(message) => csi::ValidateVolumeCapabilitiesResponse { confirmed: None, message },
    })
}

/// Why a publication of the volume would not be as the request has it, if it would not; adopted data has no record, and
/// no parameters.
fn disagreement(
    driver: &Driver,
    request: &csi::ValidateVolumeCapabilitiesRequest,
    found: Option<&Volume>,
) -> Option<String> {
    let checked = || -> Result<_> {
        let modes = messages::modes(driver, "volume_capabilities", &request.volume_capabilities)?;
        messages::check_context(&request.volume_context)?;
        messages::check_mutable(&request.mutable_parameters)?;
        Ok((modes, Parameters::parse(&request.parameters)?.asked))
    };
    let (modes, asked) = match checked() {
        Ok(checked) => checked,
        Err(error) => return Some(error.to_string()),
    };
    if let Some(mode) = modes.iter().find(|mode| found.is_some_and(|volume| !volume.allows(**mode))) {
        return Some(format!("the volume was not created for {mode}"));
    }
    let given = |key: &String| found.and_then(|volume| volume.parameters.get(key));
    let (key, value) = asked.iter().find(|(key, value)| given(key) != Some(*value))?;
    Some(format!("the volume was not created with {key} = {value:?}"))
}

/// The volume of an id; the record is missing for adopted data, which has none.
fn look_up(driver: &Driver, volume_id: &str) -> Result<(VolumeId, Option<Volume>)> {
    let missing = || driver.no_such_volume(volume_id);
    let (root, id) = driver.find(volume_id).ok_or_else(missing)?;
    let open = root.open()?;
    let volume = match &id.handle {
        Handle::Made(name) => {
            let found = open.store.load(name)?.filter(|found| found.volume.state == State::Live);
            Some(found.ok_or_else(missing)?.volume)
        }
        Handle::Adopted { path, .. } => {
            open.adopted(path)?;
            // It has a record while it is published, and one that allows every mode.
            match open.is_shared() {
                true => open.store.load(&id.handle.record())?.map(|found| found.volume),
                false => None,
            }
        }
    };
    Ok((id, volume))
}

/// ControllerGetVolume.
pub(super) fn get(
    driver: &Driver,
    _: &Call,
    request: csi::ControllerGetVolumeRequest,
) -> Result<csi::ControllerGetVolumeResponse> {
    let (id, found) = look_up(driver, messages::required("volume_id", &request.volume_id)?)?;
    let published_node_ids = found.as_ref().map(Volume::nodes).unwrap_or_default();
    Ok(csi::ControllerGetVolumeResponse {
        volume: Some(messages::volume(driver, &id, found.as_ref())),
        status: Some(csi::controller_get_volume_response::VolumeStatus { published_node_ids }),
    })
}

/// ListVolumes: in the order of roots and names, so that a token is a place in that order and holds whatever is
/// created or deleted meanwhile, even the volume that it names.
pub(super) fn list(
    driver: &Driver,
    _: &Call,
    request: csi::ListVolumesRequest,
) -> Result<csi::ListVolumesResponse> {
    let most = match usize::try_from(request.max_entries) {
        Ok(0) => usize::MAX,
        Ok(most) => most,
        Err(_) => return Err(Error::invalid("max_entries", "is negative")),
    };
    let bad_token = || Error::BadToken { token: request.starting_token.clone() };
    let start = match request.starting_token.as_str() {
        "" => None,
        token => {
            let (root, name) =
                token.strip_prefix(TOKEN).and_then(|place| place.split_once('/')).ok_or_else(bad_token)?;
            if driver.roots.iter().all(|known| known.name() != root) || RecordName::parse(name).is_none() {
                return Err(bad_token());
            }
            Some((root, name))
        }
    };
    let (mut entries, mut bytes, began) = (Vec::new(), 0, Instant::now());
    let mut last: Option<String> = None;
    for root in &driver.roots {
        let root_name = root.name();
        let mut after = match start {
            Some((begun, _)) if root_name < begun => continue,
            Some((begun, name)) if root_name == begun => Some(name.to_string()),
            _ => None,
        };
        let open = root.open()?;
        loop {
            // One more than fits tells whether another page follows.
            let names = open.store.names_after(
                after.as_deref(),
                most.saturating_sub(entries.len()).min(PAGE).saturating_add(1),
            )?;
            let Some(end) = names.last().map(RecordName::to_string) else { break };
            for name in names {
                let entry = match open.store.load(&name) {
                    Ok(Some(found)) if found.volume.state == State::Live && !found.volume.adopted => {
                        let status = csi::list_volumes_response::VolumeStatus {
                            published_node_ids: found.volume.nodes(),
                        };
                        let id = driver.id(root_name, Handle::Made(name.clone()));
                        csi::list_volumes_response::Entry {
                            volume: Some(messages::volume(driver, &id, Some(&found.volume))),
                            status: open.is_shared().then_some(status),
                        }
                    }
                    Ok(_) => continue,
                    // Of a server that does not answer nobody knows what is there.
                    Err(error) if open.is_shared() && !matches!(error, Error::BadRecord { .. }) => {
                        return Err(error);
                    }
                    // One bad record is one bad volume: it is named in the log, the others are listed.
                    Err(error) => {
                        tracing::error!(volume = %name, root = root_name, %error, "left out of ListVolumes");
                        continue;
                    }
                };
                let size = entry.encoded_len() + 8;
                let late = !entries.is_empty() && began.elapsed() > LONGEST_WALK;
                if entries.len() == most || bytes + size > LARGEST_ANSWER || late {
                    let next_token = last.map(|place| format!("{TOKEN}{place}")).unwrap_or_default();
                    return Ok(csi::ListVolumesResponse { entries, next_token });
                }
                bytes += size;
                entries.push(entry);
                last = Some(format!("{root_name}/{name}"));
            }
            after = Some(end);
        }
    }
    Ok(csi::ListVolumesResponse { entries, next_token: String::new() })
}
