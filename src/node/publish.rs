//! NodePublishVolume: who may come alongside, decided where the mount is made.

use std::collections::BTreeMap;

use crate::access::{Publication, Scope, Verdict, admit};
use crate::csi;
use crate::driver::Driver;
use crate::error::{Error, Result};
use crate::guard::Call;
use crate::messages;
use crate::node::attempt::Attempt;
use crate::node::source::source;
use crate::node::target::{self, Place};
use crate::parameters::SIDECAR_PREFIX;
use crate::publications::Note;

/// Everything of a request that is noted, in bytes: a note has to stay readable. (CSI asks for 4 KiB a map.)
const MAX_BYTES: usize = 64 << 10;

/// NodePublishVolume.
///
/// In order: read the record, ask who is here already, build the mount where nobody sees it; then attach it
/// unless the call was given up; then look again, and undo it if the volume went or another process was faster.
pub(super) fn publish(
    driver: &Driver,
    call: &Call,
    request: csi::NodePublishVolumeRequest,
) -> Result<csi::NodePublishVolumeResponse> {
    let volume_id = messages::required("volume_id", &request.volume_id)?;
    let asked = target::check("target_path", &request.target_path)?;
    let capability = messages::capability(driver, "volume_capability", request.volume_capability.as_ref())?;
    let mode = capability.mode;
    let (root, id) = driver.find(volume_id).ok_or_else(|| driver.no_such_volume(volume_id))?;
    messages::check_context(&request.volume_context)?;

    let target = target::resolve(&asked)?.ok_or_else(|| Error::Refused {
        what: format!("publish at {}", asked.display()),
        why: "the directory above it does not exist: the CO makes it".into(),
    })?;
    target::check_outside(driver, "target_path", &target)?;
    let publishing = driver.targets.publish(call, &target)?;
    let open = root.open()?;
    let guard = driver.guards.acquire(call, id.key())?;
    let attempt = Attempt {
        driver,
        root,
        open: &open,
        id: &id,
        key: guard.key(),
        target: &target,
        publishing: &publishing,
    };
    let source = source(driver, &open, &id, mode).or_else(|error| attempt.over(error))?;
    let read_only = request.readonly || mode.is_read_only() || capability.read_only || source.read_only;
    let mut attributes = capability.attributes;
    if read_only && !attributes.add("ro") {
        return Err(Error::invalid("readonly", "can't be had"));
    }
    let arguments = arguments(&request)?;
    let wanted = Publication { at: target.clone(), mode: Some(mode), read_only, arguments };
    attempt.give_up_stale(source.incarnation.as_deref())?;
    let published = driver.published(&open, guard.key(), &source.path, source.incarnation.as_deref())?;
    let existing: Vec<_> = published.iter().map(|found| found.publication.clone()).collect();
    let done = Ok(csi::NodePublishVolumeResponse {});
    match admit(Scope::Targets, &existing, &wanted) {
        Verdict::Admit => {}
        Verdict::Repeat => {
            attempt.alone(&source)?;
            if published.iter().any(|found| found.publication.at == target && !found.confirmed) {
                // Attached by a process that died before it looked again; that look is taken now.
                attempt.check_again(&source, &wanted)?;
            }
            return done;
        }
        Verdict::Incompatible { differs } => {
            return Err(Error::AlreadyExists {
                what: format!("the publication of {volume_id} at {target}"),
                differs,
            });
        }
        Verdict::InUse { by } => return Err(Error::InUse { what: format!("volume {volume_id}"), by }),
    }
    if let Some(nodes) = open.nodes() {
        nodes.register_once(&driver.config.host)?;
    }
    let mount = open.mount(&source.path, &source.data, attributes, &capability.options)?;
    let note = Note::of(guard.key(), source.incarnation.as_deref(), mode, &wanted);
    publishing.step(|| {
        let _only_one = driver.notes.only_one()?;
        // Refuses a target that something is mounted at; nobody of Berth's can come between.
        let place = Place::prepare(&target)?;
        driver.notes.attaching(&note).and_then(|()| mount.attach(&place.dir)).or_else(|error| {
            driver.notes.forget(guard.key(), &target)?;
            place.give_up();
            Err(place.explain(error))
        })
    })?;
    attempt.check_again(&source, &wanted)?;
    done
}

/// What the request says beyond mode and `readonly`; secrets and what sidecars and kubelet add are not compared.
fn arguments(request: &csi::NodePublishVolumeRequest) -> Result<BTreeMap<String, String>> {
    let mut arguments = BTreeMap::new();
    if let Some(csi::volume_capability::AccessType::Mount(mount)) =
        request.volume_capability.as_ref().and_then(|capability| capability.access_type.as_ref())
        && !mount.mount_flags.is_empty()
    {
        arguments.insert("mount_flags".to_string(), mount.mount_flags.join(","));
    }
    for (context, pairs) in
        [("volume_context", &request.volume_context), ("publish_context", &request.publish_context)]
    {
        for (key, value) in pairs.iter().filter(|(key, _)| !key.starts_with(SIDECAR_PREFIX)) {
            arguments.insert(format!("{context}.{key}"), value.clone());
        }
    }
    let bytes: usize = arguments.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > MAX_BYTES {
        let why = format!("have {bytes} bytes with the mount flags, {MAX_BYTES} are allowed");
        return Err(Error::invalid("volume_context, publish_context", why));
    }
    Ok(arguments)
}
