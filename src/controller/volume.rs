//! CreateVolume and DeleteVolume: a volume's birth and its end.

use crate::backend::{Kind, OpenRoot, Placement, Root};
use crate::csi;
use crate::driver::Driver;
use crate::error::{Error, Result};
use crate::guard::{Call, Guard};
use crate::id::{Handle, Incarnation, RecordName};
use crate::messages;
use crate::parameters::Parameters;
use crate::path::check_new_path;
use crate::store::Found;
use crate::sys::random;
use crate::volume::{State, Volume, Wanted};

/// The longest name of a CO, in bytes; the spec's own limit for a text is 128.
const LONGEST_NAME: usize = 1024;

/// CreateVolume: the same name and a compatible request give the same volume, whatever happened before.
pub(super) fn create(
    driver: &Driver,
    call: &Call,
    request: csi::CreateVolumeRequest,
) -> Result<csi::CreateVolumeResponse> {
    let (root, wanted) = parse(driver, &request)?;
    let name = RecordName::of(&wanted.name);
    let id = driver.id(root.name(), Handle::Made(name.clone()));
    let what = || format!("create volume {}", wanted.name);
    // A root that is missing on this node may be there on another.
    let open = root.open().map_err(|error| match error {
        Error::RootUnusable { .. } if driver.kind == Kind::Local => {
            Error::NoSpace { what: what(), why: error.to_string() }
        }
        _ => error,
    })?;
    if open.adopted_only {
        let why =
            format!("keeps its records elsewhere and serves existing directories only ({})", root.place());
        return Err(Error::invalid("parameters.root", format!("{} {why}", open.name)));
    }
    // A name is one volume on all roots: two calls for two of them look whether the other one has it, in turn.
    let several = driver.roots.len() > 1;
    let _in_turn = several.then(|| driver.guards.acquire(call, format!("*/{name}"))).transpose()?;
    let guard = driver.guards.acquire(call, id.key())?;
    elsewhere(driver, root, &name, &wanted)?;
    for _ in 0..3 {
        let (found, placement) = match open.store.load(&name)? {
            None => {
                let born = begin(&open, &guard, &name, &wanted).map_err(|error| match error.errno() {
                    // A root that can't be written to: another node's may be.
                    Some(nix::errno::Errno::EROFS) => Error::NoSpace { what: what(), why: error.to_string() },
                    _ => error,
                })?;
                let placement = open.place(&name, &born.volume)?;
                (born, placement)
            }
            Some(found) if found.volume.state == State::Deleting => {
                finish_deletion(driver, &open, &guard, &name, &found)?;
                continue;
            }
            Some(found) => match wanted.mismatch(&found.volume) {
                Some(differs) => {
                    return Err(Error::AlreadyExists { what: format!("volume {}", wanted.name), differs });
                }
                None => {
                    let placement = open.place_found(&name, &found.volume)?;
                    (found, placement)
                }
            },
        };
        if placement == Placement::Done {
            open.store.settle()?;
            let volume = messages::volume(driver, &id, Some(&found.volume));
            return Ok(csi::CreateVolumeResponse { volume: Some(volume) });
        }
        // A creation that never ended: nothing of it was ever answered, so it is ended and begun anew.
        unpublished(driver, &open, &guard, &found.volume)?;
        let mut dying = found.volume.clone();
        dying.state = State::Deleting;
        let found = open.store.win(&guard, found, dying)?;
        finish_deletion(driver, &open, &guard, &name, &found)?;
    }
    Err(Error::Pending {
        what: what(),
        why: "others create and delete it at the same time; try again".into(),
    })
}

/// Builds the tree, then its record; the record is what counts.
fn begin(open: &OpenRoot, guard: &Guard<'_>, name: &RecordName, wanted: &Wanted) -> Result<Found> {
    let asks_for_room = wanted.required_bytes > 0 || wanted.limit_bytes > 0;
    let free = if asks_for_room { open.dir.free_bytes()? } else { i64::MAX };
    if wanted.required_bytes > free {
        return Err(Error::NoSpace {
            what: format!("create volume {}", wanted.name),
            why: format!("root {} has {free} bytes left, {} are required", open.name, wanted.required_bytes),
        });
    }
    let mut volume = wanted.born(Incarnation::new(random()?), format!("{:016x}", random()?));
    // A limit alone asks for no more than there is.
    volume.capacity_bytes = volume.capacity_bytes.min(free);
    open.check_length(&volume.data_path())?;
    let born = open.build(name, &volume).and_then(|()| open.store.born(guard, name, volume.clone()));
    if born.is_err() {
        open.give_up(name, &volume)?;
    }
    born
}

/// Refuses a name that another root of this driver has: the name alone is the volume's (CSI: CreateVolume). Roots of
/// other servers are not asked, for they may not answer.
fn elsewhere(driver: &Driver, root: &Root, name: &RecordName, wanted: &Wanted) -> Result<()> {
    for other in driver.roots.iter().filter(|other| other.name() != root.name() && other.lives_with(root)) {
        let Ok(open) = other.open() else { continue };
        if open.store.load(name)?.is_some_and(|found| found.volume.state == State::Live) {
            let differs = format!("root ({}, now {})", other.name(), root.name());
            return Err(Error::AlreadyExists { what: format!("volume {}", wanted.name), differs });
        }
    }
    Ok(())
}

fn parse<'a>(driver: &'a Driver, request: &csi::CreateVolumeRequest) -> Result<(&'a Root, Wanted)> {
    let name = messages::required("name", &request.name)?.to_string();
    if name.len() > LONGEST_NAME {
        return Err(Error::invalid("name", format!("is longer than {LONGEST_NAME} bytes")));
    }
    if request.volume_capabilities.is_empty() {
        return Err(Error::invalid("volume_capabilities", "is missing"));
    }
    let parameters = Parameters::parse(&request.parameters)?;
    let modes = messages::modes(driver, "volume_capabilities", &request.volume_capabilities)?;
    messages::check_modes(driver, &modes, parameters.node_sharing)?;
    let mount_options = messages::mount_options(driver, "volume_capabilities", &request.volume_capabilities)?;
    messages::check_mutable(&request.mutable_parameters)?;
    if request.volume_content_source.is_some() {
        return Err(Error::invalid(
            "volume_content_source",
            "is not supported: volumes of this driver begin empty",
        ));
    }
    let (required_bytes, limit_bytes) = messages::range(request.capacity_range.as_ref())?;
    if let Some(wanted) = &request.accessibility_requirements
        && !wanted.requisite.is_empty()
        && !wanted.requisite.iter().any(|topology| messages::is_here(driver, topology))
    {
        let why =
            format!("accessibility_requirements ask for other nodes than {}", driver.config.host.node_id);
        return Err(Error::NoSpace { what: format!("create volume {name}"), why });
    }
    let root = driver.root(parameters.root.as_deref())?;
    let path = match parameters.sub_dir {
        Some(path) => path,
        None => RecordName::of(&name).as_str().to_string(),
    };
    check_new_path(&path).map_err(|why| Error::invalid("name", why))?;
    let Parameters { owner, on_delete, asked, .. } = parameters;
    let wanted = Wanted {
        name,
        required_bytes,
        limit_bytes,
        modes,
        path,
        owner,
        on_delete,
        parameters: asked,
        mount_options,
    };
    Ok((root, wanted))
}

/// DeleteVolume: gone is gone, however many files there were.
pub(super) fn delete(
    driver: &Driver,
    call: &Call,
    request: csi::DeleteVolumeRequest,
) -> Result<csi::DeleteVolumeResponse> {
    let volume_id = messages::required("volume_id", &request.volume_id)?;
    let gone = Ok(csi::DeleteVolumeResponse {});
    driver.check_root(volume_id)?;
    let Some((root, id)) = driver.find(volume_id) else { return gone };
    let name = match &id.handle {
        Handle::Made(name) => name,
        Handle::Adopted { path, .. } => {
            if let Err(Error::NotFound { .. }) = root.open()?.adopted(path) {
                return gone;
            }
            let why = format!(
                "{path} of root {} existed before Berth and is never deleted: use the reclaim policy Retain",
                root.name()
            );
            return Err(Error::Refused { what: format!("delete volume {volume_id}"), why });
        }
    };
    let open = root.open()?;
    let guard = driver.guards.acquire(call, id.key())?;
    open.store.with_reserve(|| {
        // A creation that was given up may be about to name its record, whatever was created and deleted since.
        open.store.discard_prepared(&guard, name)?;
        let Some(mut found) = open.store.load(name)? else { return open.store.clear(&guard, name) };
        unpublished(driver, &open, &guard, &found.volume)?;
        if found.volume.state != State::Deleting {
            let mut dying = found.volume.clone();
            dying.state = State::Deleting;
            found = open.store.win(&guard, found, dying)?;
        }
        finish_deletion(driver, &open, &guard, name, &found)
    })?;
    open.store.purge_soon();
    open.store.settle()?;
    gone
}

/// Does what a won deletion still lacks. A volume that somebody mounted at the last moment keeps its data until
/// it is unpublished and the deletion is asked for again.
fn finish_deletion(
    driver: &Driver,
    open: &OpenRoot,
    guard: &Guard<'_>,
    name: &RecordName,
    found: &Found,
) -> Result<()> {
    unpublished(driver, open, guard, &found.volume)?;
    open.remove(name, &found.volume)?;
    open.store.bury(guard, found)
}

/// FAILED_PRECONDITION while the volume is published (DeleteVolume: "Volume in use"): on a node that its record admits,
/// or, where nodes are not admitted, on this one.
fn unpublished(driver: &Driver, open: &OpenRoot, guard: &Guard<'_>, volume: &Volume) -> Result<()> {
    let by = if open.is_shared() {
        let nodes = volume.nodes();
        (!nodes.is_empty()).then(|| format!("node {} has it", nodes.join(", ")))
    } else {
        let incarnation = Some(volume.incarnation.as_str());
        let published = driver.published(open, guard.key(), &volume.data_path(), incarnation)?;
        published.first().map(|first| format!("it is published at {}", first.publication.at))
    };
    match by {
        None => Ok(()),
        Some(by) => Err(Error::InUse {
            what: format!("volume {}", volume.name),
            by: format!("{by}: unpublish it first"),
        }),
    }
}
