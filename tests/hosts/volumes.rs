//! The calls that most trials make, with defaults for what they don't care about. Each gives what the driver answered.

use berth::access::Mode;
use berth::csi::volume_capability::access_mode::Mode as CsiMode;
use berth::csi::volume_capability::{AccessMode, AccessType, MountVolume};
use berth::csi::*;
use tonic::{Code, Status};

use crate::host::Host;

/// A mount in a mode.
pub fn capability(mode: Mode) -> VolumeCapability {
    capability_with(mode, &[])
}

/// A mount in a mode, with the flags that mountOptions of a StorageClass become.
pub fn capability_with(mode: Mode, flags: &[&str]) -> VolumeCapability {
    let mode = match mode {
        Mode::SingleNodeWriter => CsiMode::SingleNodeWriter,
        Mode::SingleNodeReaderOnly => CsiMode::SingleNodeReaderOnly,
        Mode::SingleNodeSingleWriter => CsiMode::SingleNodeSingleWriter,
        Mode::SingleNodeMultiWriter => CsiMode::SingleNodeMultiWriter,
        Mode::MultiNodeReaderOnly => CsiMode::MultiNodeReaderOnly,
        Mode::MultiNodeSingleWriter => CsiMode::MultiNodeSingleWriter,
        Mode::MultiNodeMultiWriter => CsiMode::MultiNodeMultiWriter,
    };
    VolumeCapability {
        access_type: Some(AccessType::Mount(MountVolume {
            mount_flags: flags.iter().map(ToString::to_string).collect(),
            ..Default::default()
        })),
        access_mode: Some(AccessMode { mode: mode.into() }),
    }
}

impl Host {
    /// CreateVolume of 1 MiB, with these parameters of a StorageClass; the volume's id.
    #[track_caller]
    pub fn create(&self, name: &str, mode: Mode, parameters: &[(&str, &str)]) -> Result<String, Status> {
        let request = CreateVolumeRequest {
            name: name.into(),
            capacity_range: Some(CapacityRange { required_bytes: 1 << 20, limit_bytes: 0 }),
            volume_capabilities: vec![capability(mode)],
            parameters: parameters.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
            ..Default::default()
        };
        let created: CreateVolumeResponse = self.call("Controller", "CreateVolume", request)?;
        Ok(created.volume.expect("CreateVolume answers with a volume").volume_id)
    }

    /// CreateVolume with mount flags.
    #[track_caller]
    pub fn create_with_flags(&self, name: &str, mode: Mode, flags: &[&str]) -> Result<String, Status> {
        let request = CreateVolumeRequest {
            name: name.into(),
            volume_capabilities: vec![capability_with(mode, flags)],
            ..Default::default()
        };
        let created: CreateVolumeResponse = self.call("Controller", "CreateVolume", request)?;
        Ok(created.volume.expect("CreateVolume answers with a volume").volume_id)
    }

    /// NodePublishVolume with mount flags.
    #[track_caller]
    pub fn publish_with_flags(
        &self,
        id: &str,
        target: &str,
        mode: Mode,
        flags: &[&str],
    ) -> Result<(), Status> {
        let request = NodePublishVolumeRequest {
            volume_id: id.into(),
            target_path: target.into(),
            volume_capability: Some(capability_with(mode, flags)),
            ..Default::default()
        };
        self.call::<_, NodePublishVolumeResponse>("Node", "NodePublishVolume", request).map(drop)
    }

    /// DeleteVolume.
    #[track_caller]
    pub fn delete(&self, id: &str) -> Result<(), Status> {
        let request = DeleteVolumeRequest { volume_id: id.into(), ..Default::default() };
        self.call::<_, DeleteVolumeResponse>("Controller", "DeleteVolume", request).map(drop)
    }

    /// ControllerPublishVolume: the node may have the volume.
    #[track_caller]
    pub fn controller_publish(&self, id: &str, node: &str, mode: Mode) -> Result<(), Status> {
        let request = ControllerPublishVolumeRequest {
            volume_id: id.into(),
            node_id: node.into(),
            volume_capability: Some(capability(mode)),
            ..Default::default()
        };
        let answer =
            self.call::<_, ControllerPublishVolumeResponse>("Controller", "ControllerPublishVolume", request);
        answer.map(drop)
    }

    /// The same, and it may only read.
    #[track_caller]
    pub fn controller_publish_read_only(&self, id: &str, node: &str, mode: Mode) -> Result<(), Status> {
        let request = ControllerPublishVolumeRequest {
            volume_id: id.into(),
            node_id: node.into(),
            volume_capability: Some(capability(mode)),
            readonly: true,
            ..Default::default()
        };
        let answer =
            self.call::<_, ControllerPublishVolumeResponse>("Controller", "ControllerPublishVolume", request);
        answer.map(drop)
    }

    /// ControllerUnpublishVolume: the node may not have it any more.
    #[track_caller]
    pub fn controller_unpublish(&self, id: &str, node: &str) -> Result<(), Status> {
        let request = ControllerUnpublishVolumeRequest {
            volume_id: id.into(),
            node_id: node.into(),
            ..Default::default()
        };
        let answer = self.call::<_, ControllerUnpublishVolumeResponse>(
            "Controller",
            "ControllerUnpublishVolume",
            request,
        );
        answer.map(drop)
    }

    /// NodePublishVolume at a path whose directory is made, as kubelet makes it.
    #[track_caller]
    pub fn publish(&self, id: &str, target: &str, mode: Mode) -> Result<(), Status> {
        self.run(&format!("mkdir -p \"$(dirname '{target}')\""));
        let request = NodePublishVolumeRequest {
            volume_id: id.into(),
            target_path: target.into(),
            volume_capability: Some(capability(mode)),
            ..Default::default()
        };
        self.call::<_, NodePublishVolumeResponse>("Node", "NodePublishVolume", request).map(drop)
    }

    /// The same, with `readonly`.
    #[track_caller]
    pub fn publish_read_only(&self, id: &str, target: &str, mode: Mode) -> Result<(), Status> {
        let request = NodePublishVolumeRequest {
            volume_id: id.into(),
            target_path: target.into(),
            volume_capability: Some(capability(mode)),
            readonly: true,
            ..Default::default()
        };
        self.call::<_, NodePublishVolumeResponse>("Node", "NodePublishVolume", request).map(drop)
    }

    /// NodeGetVolumeStats.
    #[track_caller]
    pub fn stats(&self, id: &str, path: &str) -> Result<NodeGetVolumeStatsResponse, Status> {
        let request = NodeGetVolumeStatsRequest {
            volume_id: id.into(),
            volume_path: path.into(),
            ..Default::default()
        };
        self.call("Node", "NodeGetVolumeStats", request)
    }

    /// NodeUnpublishVolume.
    #[track_caller]
    pub fn unpublish(&self, id: &str, target: &str) -> Result<(), Status> {
        let request = NodeUnpublishVolumeRequest { volume_id: id.into(), target_path: target.into() };
        self.call::<_, NodeUnpublishVolumeResponse>("Node", "NodeUnpublishVolume", request).map(drop)
    }
}

/// What has to have failed.
pub trait Fails {
    /// With this code, and a message that has these words.
    #[track_caller]
    fn fails(self, code: Code, words: &str);
}

impl<T: std::fmt::Debug> Fails for Result<T, Status> {
    #[track_caller]
    fn fails(self, code: Code, words: &str) {
        match self {
            Ok(answer) => panic!("it was to fail with {code:?} ({words}) and answered {answer:?}"),
            Err(status) => {
                assert_eq!(status.code(), code, "{}", status.message());
                assert!(status.message().contains(words), "{words:?} is not in {:?}", status.message());
            }
        }
    }
}
