//! NodeUnpublishVolume: the door closes, whatever else is at work, and whether or not a server answers.

use std::path::Path;

use crate::backend::unmount_unserved;
use crate::csi;
use crate::driver::Driver;
use crate::error::{Error, Result};
use crate::guard::Call;
use crate::messages;
use crate::node::ours::is_ours;
use crate::node::target;
use crate::sys::table::Table;

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
    let Some(id) = driver.parse(volume_id) else { return done };
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
            match root {
                Some(root) => root.unmount(Path::new(&target))?,
                None => mounted.iter().try_for_each(|mount| unmount_unserved(mount, Path::new(&target)))?,
            }
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
