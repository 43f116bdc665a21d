//! From the messages of CSI to values of ours, and back: what several RPCs read or say in the same way.
//!
//! Proto types live here and in the RPC files for two lines each; everything below knows only our values.

use std::collections::HashMap;

use crate::access::Mode;
use crate::backend::Kind;
use crate::csi;
use crate::csi::volume_capability::AccessType;
use crate::csi::volume_capability::access_mode::Mode as WireMode;
use crate::driver::Driver;
use crate::error::{Error, Result};
use crate::id::VolumeId;
use crate::mount_options::{self, Giver};
use crate::sys::mount::Attributes;
use crate::volume::Volume;

/// No file system that Linux has holds a larger file tree under one quota: 1 EiB (ext4).
const LARGEST: i64 = 1 << 60;

/// A volume capability, checked.
#[derive(Debug, Clone)]
pub struct Capability {
    /// How the volume is used.
    pub mode: Mode,
    /// What they mean to any mount.
    pub attributes: Attributes,
    /// What they mean to a mount of NFS, as nfs(5) spells it.
    pub options: Vec<String>,
    /// Whether the flags ask for a mount that is read-only.
    pub read_only: bool,
}

/// A required text.
pub fn required<'a>(field: &str, value: &'a str) -> Result<&'a str> {
    if value.is_empty() { Err(Error::invalid(field, "is missing")) } else { Ok(value) }
}

/// Reads one capability.
///
/// # Errors
/// INVALID_ARGUMENT for block access, an unknown mode, and for every option that would not take effect.
pub fn capability(
    driver: &Driver,
    field: &str,
    capability: Option<&csi::VolumeCapability>,
) -> Result<Capability> {
    let missing = || Error::invalid(field, "is missing");
    let capability = capability.ok_or_else(missing)?;
    let mount = match &capability.access_type {
        Some(AccessType::Mount(mount)) => mount,
        Some(AccessType::Block(_)) => {
            let why = "asks for a block device; Berth serves directories: ask for volumeMode Filesystem";
            return Err(Error::invalid(format!("{field}.block"), why));
        }
        None => return Err(Error::invalid(format!("{field}.access_type"), "is missing: mount is served")),
    };
    if !mount.fs_type.is_empty() {
        let why = format!(
            "{:?} can't be had: a directory has the file system of its root; leave it out",
            mount.fs_type
        );
        return Err(Error::invalid(format!("{field}.mount.fs_type"), why));
    }
    if !mount.volume_mount_group.is_empty() {
        let why = "is not supported (VOLUME_MOUNT_GROUP is not advertised)";
        return Err(Error::invalid(format!("{field}.mount.volume_mount_group"), why));
    }
    let flags_field = format!("{field}.mount.mount_flags");
    let split = match driver.kind {
        Kind::Local => {
            let flags = mount.mount_flags.iter().flat_map(|flags| flags.split(',')).map(String::from);
            mount_options::Split { generic: flags.collect(), nfs: Vec::new() }
        }
        Kind::Nfs => mount_options::split(&flags_field, &mount.mount_flags, Giver::Volume)?,
    };
    let mut attributes = Attributes::safe();
    for flag in &split.generic {
        if !attributes.add(flag) {
            // What follows a name may be a credential.
            let name = flag.split('=').next().unwrap_or_default();
            let why = format!(
                "{name:?} can't take effect on a directory; known are ro, rw, relatime, strictatime, and with or \
                 without no in front: suid, dev, exec, atime, diratime, symfollow"
            );
            return Err(Error::invalid(flags_field, why));
        }
    }
    let last = split.generic.iter().rfind(|flag| matches!(flag.as_str(), "ro" | "rw"));
    let read_only = last.is_some_and(|flag| flag == "ro");
    let number = capability
        .access_mode
        .ok_or_else(|| Error::invalid(format!("{field}.access_mode"), "is missing"))?
        .mode;
    let mode = match WireMode::try_from(number) {
        Ok(WireMode::SingleNodeWriter) => Mode::SingleNodeWriter,
        Ok(WireMode::SingleNodeReaderOnly) => Mode::SingleNodeReaderOnly,
        Ok(WireMode::MultiNodeReaderOnly) => Mode::MultiNodeReaderOnly,
        Ok(WireMode::MultiNodeSingleWriter) => Mode::MultiNodeSingleWriter,
        Ok(WireMode::MultiNodeMultiWriter) => Mode::MultiNodeMultiWriter,
        Ok(WireMode::SingleNodeSingleWriter) => Mode::SingleNodeSingleWriter,
        Ok(WireMode::SingleNodeMultiWriter) => Mode::SingleNodeMultiWriter,
        Ok(WireMode::Unknown) | Err(_) => {
            return Err(Error::invalid(format!("{field}.access_mode"), format!("{number} is no known mode")));
        }
    };
    Ok(Capability { mode, attributes, options: split.nfs, read_only })
}

/// The modes of a list of capabilities, each once.
pub fn modes(driver: &Driver, field: &str, capabilities: &[csi::VolumeCapability]) -> Result<Vec<Mode>> {
    let mut modes = Vec::new();
    for (index, wanted) in capabilities.iter().enumerate() {
        let mode = capability(driver, &format!("{field}[{index}]"), Some(wanted))?.mode;
        if !modes.contains(&mode) {
            modes.push(mode);
        }
    }
    Ok(modes)
}

/// The mount options that a list of capabilities asks for, those of NFS.
pub fn mount_options(
    driver: &Driver,
    field: &str,
    capabilities: &[csi::VolumeCapability],
) -> Result<Vec<String>> {
    let mut options = Vec::new();
    for (index, wanted) in capabilities.iter().enumerate() {
        for option in capability(driver, &format!("{field}[{index}]"), Some(wanted))?.options {
            if !options.contains(&option) {
                options.push(option);
            }
        }
    }
    Ok(options)
}

/// Whether this driver creates volumes of these modes.
///
/// # Errors
/// INVALID_ARGUMENT for modes of several nodes, which a node's directory can't keep, unless they are meant for
/// the pods of its one node.
pub fn check_modes(driver: &Driver, modes: &[Mode], node_sharing: bool) -> Result<()> {
    if driver.kind == Kind::Nfs {
        let why = "is for volumes that lie on one node; here every node reaches a volume, and its mode says which may";
        return if node_sharing { Err(Error::invalid("parameters.nodeSharing", why)) } else { Ok(()) };
    }
    match modes.iter().find(|mode| mode.spans_nodes() && !node_sharing) {
        Some(mode) => Err(Error::invalid(
            "volume_capabilities.access_mode",
            format!(
                "{mode} spans nodes, and this volume will lie on one: use ReadWriteOnce, or say nodeSharing: \"true\" \
                 in the StorageClass if the pods of that one node shall share it"
            ),
        )),
        None => Ok(()),
    }
}

/// Refuses attributes of a volume that would have no effect. Keys with a prefix are other programs'.
pub fn check_context(volume_context: &HashMap<String, String>) -> Result<()> {
    match volume_context.keys().filter(|key| !key.contains('/')).min() {
        Some(key) => Err(Error::invalid(
            format!("volume_context.{key}"),
            "is not known: a volume of Berth has no attributes",
        )),
        None => Ok(()),
    }
}

/// Refuses parameters that could be changed later, of which there are none.
pub fn check_mutable(mutable_parameters: &HashMap<String, String>) -> Result<()> {
    match mutable_parameters.keys().min() {
        Some(key) => {
            Err(Error::invalid(format!("mutable_parameters.{key}"), "is not known: this driver has none"))
        }
        None => Ok(()),
    }
}

/// The topology of this node; nothing where all nodes reach all volumes.
pub fn topology(driver: &Driver) -> Option<csi::Topology> {
    driver.topology().map(|own| csi::Topology { segments: HashMap::from([own]) })
}

/// Whether a topology includes this node.
pub fn is_here(driver: &Driver, topology: &csi::Topology) -> bool {
    match driver.topology() {
        Some((key, value)) => topology.segments.is_empty() || topology.segments.get(&key) == Some(&value),
        None => true,
    }
}

/// A volume as CSI describes it.
pub fn volume(driver: &Driver, id: &VolumeId, volume: Option<&Volume>) -> csi::Volume {
    csi::Volume {
        capacity_bytes: volume.map_or(0, |volume| volume.capacity_bytes),
        volume_id: id.to_string(),
        volume_context: HashMap::new(),
        content_source: None,
        accessible_topology: topology(driver).into_iter().collect(),
    }
}

/// The bounds of a capacity range, in bytes; 0 for one that is left open.
///
/// # Errors
/// INVALID_ARGUMENT for what contradicts itself, OUT_OF_RANGE for what no node could ever give.
pub fn range(range: Option<&csi::CapacityRange>) -> Result<(i64, i64)> {
    let Some(csi::CapacityRange { required_bytes, limit_bytes }) = range.copied() else { return Ok((0, 0)) };
    if required_bytes < 0 || limit_bytes < 0 {
        return Err(Error::invalid("capacity_range", "a number of bytes is negative"));
    }
    if limit_bytes > 0 && required_bytes > limit_bytes {
        let why = format!("required_bytes ({required_bytes}) is more than limit_bytes ({limit_bytes})");
        return Err(Error::invalid("capacity_range", why));
    }
    if required_bytes > LARGEST {
        return Err(Error::OutOfRange {
            why: format!("{required_bytes} bytes are required, {LARGEST} is the most there can be"),
        });
    }
    Ok((required_bytes, limit_bytes.min(LARGEST)))
}
