//! Requests with sensible defaults, and how they differ from them.

use std::collections::HashMap;

use berth::csi::volume_capability::access_mode::Mode;
use berth::csi::volume_capability::{AccessMode, AccessType, MountVolume};
use berth::csi::*;

/// A CreateVolume of 1 MiB, ReadWriteOnce.
pub fn create(name: &str) -> CreateVolumeRequest {
    CreateVolumeRequest {
        name: name.into(),
        capacity_range: Some(CapacityRange { required_bytes: 1 << 20, limit_bytes: 0 }),
        volume_capabilities: vec![capability(Mode::SingleNodeMultiWriter)],
        ..Default::default()
    }
}

/// A NodePublishVolume, ReadWriteOnce, read-write.
pub fn publish(id: &str, target: &str) -> NodePublishVolumeRequest {
    NodePublishVolumeRequest {
        volume_id: id.into(),
        target_path: target.into(),
        volume_capability: Some(capability(Mode::SingleNodeMultiWriter)),
        ..Default::default()
    }
}

/// A mount volume in a mode.
pub fn capability(mode: Mode) -> VolumeCapability {
    VolumeCapability {
        access_type: Some(AccessType::Mount(MountVolume::default())),
        access_mode: Some(AccessMode { mode: mode.into() }),
    }
}

fn add_flag(capability: &mut VolumeCapability, flag: &str) {
    if let Some(AccessType::Mount(mount)) = &mut capability.access_type {
        mount.mount_flags.push(flag.into());
    }
}

/// CreateVolume, changed a little.
pub trait CreateWith {
    fn bytes(self, bytes: i64) -> Self;
    fn range(self, required: i64, limit: i64) -> Self;
    fn mode(self, mode: Mode) -> Self;
    fn parameter(self, key: &str, value: &str) -> Self;
}

impl CreateWith for CreateVolumeRequest {
    fn bytes(self, bytes: i64) -> Self {
        self.range(bytes, 0)
    }
    fn range(mut self, required_bytes: i64, limit_bytes: i64) -> Self {
        self.capacity_range = Some(CapacityRange { required_bytes, limit_bytes });
        self
    }
    fn mode(mut self, mode: Mode) -> Self {
        self.volume_capabilities = vec![capability(mode)];
        self
    }
    fn parameter(mut self, key: &str, value: &str) -> Self {
        self.parameters.insert(key.into(), value.into());
        self
    }
}

/// NodePublishVolume, changed a little.
pub trait PublishWith {
    fn mode(self, mode: Mode) -> Self;
    fn read_only(self) -> Self;
    fn flag(self, flag: &str) -> Self;
    fn context(self, key: &str, value: &str) -> Self;
}

impl PublishWith for NodePublishVolumeRequest {
    fn mode(mut self, mode: Mode) -> Self {
        self.volume_capability = Some(capability(mode));
        self
    }
    fn read_only(mut self) -> Self {
        self.readonly = true;
        self
    }
    fn flag(mut self, flag: &str) -> Self {
        add_flag(self.volume_capability.as_mut().unwrap(), flag);
        self
    }
    fn context(mut self, key: &str, value: &str) -> Self {
        self.volume_context = HashMap::from([(key.into(), value.into())]);
        self
    }
}
