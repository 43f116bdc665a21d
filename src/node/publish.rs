//! NodePublishVolume and NodeUnpublishVolume: who may come alongside, decided where the mount is made.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::access::{Mode, Publication, Scope, Verdict, admit};
use crate::backend::local::Root;
use crate::backend::{OpenRoot, Placement};
use crate::csi;
use crate::driver::Driver;
use crate::error::{Error, Result};
use crate::guard::{Call, Publishing};
use crate::id::{Handle, Incarnation, RecordName, VolumeId};
use crate::messages;
use crate::node::target::{self, Place};
use crate::parameters::SIDECAR_PREFIX;
use crate::publications::Note;
use crate::sys::fs::Dir;
use crate::sys::mount::{Detached, Mount, Table, unmount};
use crate::volume::{State, Volume};

/// Everything of a request that is noted, in bytes: a note has to stay readable. (CSI asks for 4 KiB a map.)
const MAX_BYTES: usize = 64 << 10;

/// What is to be mounted.
struct Source {
    /// Where the data lies beneath the root.
    path: String,
    /// Which creation of the volume; nothing for adopted data.
    incarnation: Option<String>,
    data: Dir,
}

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
    let capability = messages::capability("volume_capability", request.volume_capability.as_ref())?;
    let mode = capability.mode;
    let mut attributes = capability.attributes;
    let asked_ro = capability
        .mount_flags
        .iter()
        .flat_map(|flags| flags.split(','))
        .rfind(|flag| matches!(*flag, "ro" | "rw"));
    let read_only = request.readonly || mode.is_read_only() || asked_ro == Some("ro");
    if read_only && !attributes.add("ro") {
        return Err(Error::invalid("readonly", "can't be had"));
    }
    let (root, id) = driver.find(volume_id).ok_or_else(|| driver.no_such_volume(volume_id))?;
    messages::check_context(&request.volume_context)?;

    let target = target::resolve(&asked)?.ok_or_else(|| Error::Refused {
        what: format!("publish at {}", asked.display()),
        why: "the directory above it does not exist: the CO makes it".into(),
    })?;
    target::check_outside(driver, "target_path", &target)?;
    let publishing = driver.targets.publish(call, &target)?;
    let guard = driver.guards.acquire(call, id.key())?;
    let open = root.open()?;
    let source = source(driver, &open, &id, mode)?;
    let arguments = arguments(&request)?;
    let wanted = Publication { at: target.clone(), mode: Some(mode), read_only, arguments };
    let published = driver.published(&open, guard.key(), &source.path, source.incarnation.as_deref())?;
    let existing: Vec<_> = published.iter().map(|found| found.publication.clone()).collect();
    let done = Ok(csi::NodePublishVolumeResponse {});
    match admit(Scope::Targets, &existing, &wanted) {
        Verdict::Admit => {}
        Verdict::Repeat => {
            alone(&open, &source, &target)?;
            if published.iter().any(|found| found.publication.at == target && !found.confirmed) {
                // Attached by a process that died before it looked again; that look is taken now.
                check_again(driver, &open, &id, guard.key(), &source, &wanted, &publishing)?;
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
    let mount = Detached::clone_of(&source.data, attributes)?;
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
    check_again(driver, &open, &id, guard.key(), &source, &wanted, &publishing)?;
    done
}

/// FAILED_PRECONDITION where something else is mounted at a target as well: a pod would see that, or the volume
/// would come to light behind it.
fn alone(open: &OpenRoot, source: &Source, target: &str) -> Result<()> {
    let table = Table::read()?;
    let (device, root) = open.in_table(&table, &source.path)?;
    match table.at(Path::new(target)).find(|mount| mount.device != device || mount.root != root) {
        None => Ok(()),
        Some(other) => Err(Error::Refused {
            what: format!("publish at {target}"),
            why: format!(
                "something else is mounted there as well ({} of a {}): unmount it",
                other.root.display(),
                other.file_system
            ),
        }),
    }
}

/// Looks again when the mount is there: the record must still name this creation, and no other process of this
/// node may have been faster. Confirms the mount, or undoes it.
fn check_again(
    driver: &Driver,
    open: &OpenRoot,
    id: &VolumeId,
    key: &str,
    source: &Source,
    wanted: &Publication,
    publishing: &Publishing<'_>,
) -> Result<()> {
    let lost = || -> Result<Option<String>> {
        if let Handle::Made(name) = &id.handle {
            let live = open.store.load(name)?.filter(|found| found.volume.state == State::Live);
            if live
                .is_none_or(|found| Some(found.volume.incarnation.as_str()) != source.incarnation.as_deref())
            {
                return Ok(Some("the volume was deleted meanwhile".into()));
            }
        }
        // Every process notes a mount before it attaches it, so without other notes there is nobody to ask for.
        if !driver.notes.others(key, &wanted.at)? {
            return Ok(None);
        }
        let published = driver.published(open, key, &source.path, source.incarnation.as_deref())?;
        let others: Vec<_> = published
            .into_iter()
            .map(|found| found.publication)
            .filter(|found| found.at != wanted.at)
            .collect();
        Ok(match admit(Scope::Targets, &others, wanted) {
            Verdict::Admit | Verdict::Repeat => None,
            Verdict::Incompatible { differs } => Some(differs),
            Verdict::InUse { by } => Some(by),
        })
    };
    match lost() {
        Ok(None) => publishing.step(|| driver.notes.confirm(key, &wanted.at)),
        Ok(Some(why)) => {
            undo(driver, key, wanted, publishing)?;
            Err(Error::Pending { what: format!("publish {id} at {}", wanted.at), why })
        }
        Err(error) => {
            undo(driver, key, wanted, publishing)?;
            Err(error)
        }
    }
}

fn undo(driver: &Driver, key: &str, wanted: &Publication, publishing: &Publishing<'_>) -> Result<()> {
    publishing.undo(|| {
        unmount(Path::new(&wanted.at))?;
        driver.notes.forget(key, &wanted.at)?;
        target::remove(&wanted.at)
    })
}

/// The data to mount, in its place.
fn source(driver: &Driver, open: &OpenRoot, id: &VolumeId, mode: Mode) -> Result<Source> {
    let missing = || driver.no_such_volume(&id.to_string());
    match &id.handle {
        Handle::Adopted { path, .. } => {
            Ok(Source { data: open.adopted(path)?, path: path.clone(), incarnation: None })
        }
        Handle::Made(name) => {
            let found = open
                .store
                .load(name)?
                .filter(|found| found.volume.state == State::Live)
                .ok_or_else(missing)?;
            let volume = found.volume;
            if !volume.allows(mode) {
                let modes: Vec<_> = volume.modes.iter().map(Mode::to_string).collect();
                return Err(Error::Refused {
                    what: format!("publish volume {id} as {mode}"),
                    why: format!("it was created as {}, and a publication can't be wider", modes.join(", ")),
                });
            }
            if place(open, name, &volume)? == Placement::Nowhere {
                return Err(missing());
            }
            let data = open.data(&volume)?;
            Ok(Source {
                data,
                path: volume.data_path(),
                incarnation: Some(volume.incarnation.as_str().to_string()),
            })
        }
    }
}

/// Looks for the data in its place first: it is there but for a creation that was cut short.
fn place(open: &OpenRoot, name: &RecordName, volume: &Volume) -> Result<Placement> {
    match open.data(volume) {
        Ok(_) => Ok(Placement::Done),
        Err(error) if error.is_gone() => open.place(name, volume),
        Err(error) => Err(error),
    }
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

/// NodeUnpublishVolume: the target is no mount point and no directory any more. Takes the lock of the target and
/// no other, so it waits for nobody who works on the volume.
pub(super) fn unpublish(
    driver: &Driver,
    call: &Call,
    request: csi::NodeUnpublishVolumeRequest,
) -> Result<csi::NodeUnpublishVolumeResponse> {
    let volume_id = messages::required("volume_id", &request.volume_id)?;
    let asked = target::check("target_path", &request.target_path)?;
    let done = Ok(csi::NodeUnpublishVolumeResponse {});
    let Some(id) = VolumeId::parse(volume_id).filter(|id| driver.is_here(id)) else { return done };
    let Some(target) = target::resolve(&asked)? else {
        return reached(&asked).and(done);
    };
    let root = driver.find(volume_id).map(|(root, _)| root);
    // The root may be served no more; a mount of it that is noted is ours all the same.
    if root.is_none() && driver.notes.find(&id.key(), &target).is_none() {
        return done;
    }
    target::check_outside(driver, "target_path", &target)?;
    driver.targets.unpublish(call, &target, || {
        let mounted: Vec<_> = Table::read()?.at(Path::new(&target)).collect();
        if !mounted.is_empty() {
            if !is_ours(driver, root, &id, &target, &mounted) {
                // Somebody else's mount, or another volume's: what was asked for is not published there.
                tracing::warn!(
                    volume = volume_id,
                    target,
                    "left as it is: what is mounted there is not this volume"
                );
                return Ok(());
            }
            unmount(Path::new(&target))?;
            reached(Path::new(&target))?;
        }
        driver.notes.forget(&id.key(), &target)?;
        target::remove(&target)
    })?;
    done
}

/// FAILED_PRECONDITION while the kernel still has a mount at a target though nothing is seen there: the path leads
/// elsewhere.
fn reached(target: &Path) -> Result<()> {
    match Table::read()?.at(target).next() {
        None => Ok(()),
        Some(_) => Err(Error::Refused {
            what: format!("unpublish at {}", target.display()),
            why: "a directory above it is mounted over, so its mount can't be reached: unmount what hides it"
                .into(),
        }),
    }
}

/// Whether what is mounted at a target is this volume: by its record; or by its note, unless the mount is
/// certainly another's, for the data may have been renamed since; or, when both are lost, because it is data of this root
/// that no record and no note claims.
fn is_ours(driver: &Driver, root: Option<&Root>, id: &VolumeId, target: &str, mounted: &[Mount]) -> bool {
    // The root, how the mount table names it, and where beneath it the volume's data is if it has a record.
    let look_up = |root: &Root| -> Result<(OpenRoot, (String, PathBuf), Option<String>)> {
        let open = root.open()?;
        let path = match &id.handle {
            Handle::Adopted { path, .. } => Some(path.clone()),
            Handle::Made(name) => open.store.load(name)?.map(|found| found.volume.data_path()),
        };
        let place = open.in_table(&Table::read()?, "")?;
        Ok((open, place, path))
    };
    let found = root.and_then(|root| look_up(root).ok());
    let Some((open, (device, base), path)) = found else {
        return !driver.notes.claimed_by_others(&id.key(), target)
            && (driver.notes.find(&id.key(), target).is_some() || mounted.iter().any(is_data));
    };
    let mut here = mounted.iter().filter(|mount| mount.device == device).peekable();
    if let Some(path) = &path
        && here.clone().any(|mount| mount.root == base.join(path))
    {
        return true;
    }
    if here.peek().is_none() || driver.notes.claimed_by_others(&id.key(), target) {
        return false;
    }
    let noted = driver.notes.find(&id.key(), target).is_some();
    here.any(|mount| {
        let beneath = mount.root.strip_prefix(&base).ok().and_then(Path::to_str);
        (noted || path.is_none() && is_data(mount))
            && !beneath.is_some_and(|beneath| open.has_owner(beneath).unwrap_or(true))
    })
}

/// Whether a mount is of data that Berth made, in its place or in the trash.
fn is_data(mount: &Mount) -> bool {
    mount.root.file_name().and_then(|name| name.to_str()).is_some_and(Incarnation::ends)
}
