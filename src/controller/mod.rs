//! The Controller service: one line for each RPC, and what this driver can do.
//!
//! A capability is advertised when it works for users. Attaching and expansion by the controller would be empty for a
//! node's own directories, so the local driver answers UNIMPLEMENTED there.

mod capacity;
mod expand;
mod publish;
mod query;
mod volume;

use tonic::{Request, Response, Status};

use crate::backend::Kind;
use crate::csi::controller_service_capability::{Rpc, Type, rpc};
use crate::csi::{self, controller_server::Controller};
use crate::server::Edge;

/// What both drivers can do.
const CAPABILITIES: [rpc::Type; 5] = [
    rpc::Type::CreateDeleteVolume,
    rpc::Type::ListVolumes,
    rpc::Type::GetCapacity,
    rpc::Type::GetVolume,
    // In Node's list too, or Kubernetes maps ReadWriteOnce and ReadWriteOncePod to the same old mode.
    rpc::Type::SingleNodeMultiWriter,
];

/// What the driver can do whose volumes every node reaches.
const SHARED: [rpc::Type; 4] = [
    rpc::Type::PublishUnpublishVolume,
    rpc::Type::PublishReadonly,
    rpc::Type::ListVolumesPublishedNodes,
    rpc::Type::ExpandVolume,
];

#[tonic::async_trait]
impl Controller for Edge {
    async fn create_volume(
        &self,
        request: Request<csi::CreateVolumeRequest>,
    ) -> Result<Response<csi::CreateVolumeResponse>, Status> {
        self.run("CreateVolume", request, volume::create).await
    }

    async fn delete_volume(
        &self,
        request: Request<csi::DeleteVolumeRequest>,
    ) -> Result<Response<csi::DeleteVolumeResponse>, Status> {
        self.run("DeleteVolume", request, volume::delete).await
    }

    async fn controller_publish_volume(
        &self,
        request: Request<csi::ControllerPublishVolumeRequest>,
    ) -> Result<Response<csi::ControllerPublishVolumeResponse>, Status> {
        self.only(Kind::Nfs, "ControllerPublishVolume")?;
        self.run("ControllerPublishVolume", request, publish::publish).await
    }

    async fn controller_unpublish_volume(
        &self,
        request: Request<csi::ControllerUnpublishVolumeRequest>,
    ) -> Result<Response<csi::ControllerUnpublishVolumeResponse>, Status> {
        self.only(Kind::Nfs, "ControllerUnpublishVolume")?;
        self.run("ControllerUnpublishVolume", request, publish::unpublish).await
    }

    async fn controller_expand_volume(
        &self,
        request: Request<csi::ControllerExpandVolumeRequest>,
    ) -> Result<Response<csi::ControllerExpandVolumeResponse>, Status> {
        self.only(Kind::Nfs, "ControllerExpandVolume")?;
        self.run("ControllerExpandVolume", request, expand::expand).await
    }

    async fn validate_volume_capabilities(
        &self,
        request: Request<csi::ValidateVolumeCapabilitiesRequest>,
    ) -> Result<Response<csi::ValidateVolumeCapabilitiesResponse>, Status> {
        self.run("ValidateVolumeCapabilities", request, query::validate).await
    }

    async fn list_volumes(
        &self,
        request: Request<csi::ListVolumesRequest>,
    ) -> Result<Response<csi::ListVolumesResponse>, Status> {
        self.run("ListVolumes", request, query::list).await
    }

    async fn controller_get_volume(
        &self,
        request: Request<csi::ControllerGetVolumeRequest>,
    ) -> Result<Response<csi::ControllerGetVolumeResponse>, Status> {
        self.run("ControllerGetVolume", request, query::get).await
    }

    async fn get_capacity(
        &self,
        request: Request<csi::GetCapacityRequest>,
    ) -> Result<Response<csi::GetCapacityResponse>, Status> {
        self.run("GetCapacity", request, capacity::get).await
    }

    async fn controller_get_capabilities(
        &self,
        request: Request<csi::ControllerGetCapabilitiesRequest>,
    ) -> Result<Response<csi::ControllerGetCapabilitiesResponse>, Status> {
        self.run("ControllerGetCapabilities", request, |driver, _, _| {
            let shared = if driver.kind == Kind::Nfs { &SHARED[..] } else { &[] };
            let capability = |rpc: rpc::Type| csi::ControllerServiceCapability {
                r#type: Some(Type::Rpc(Rpc { r#type: rpc.into() })),
            };
            let all = CAPABILITIES.iter().chain(shared).copied();
            Ok(csi::ControllerGetCapabilitiesResponse { capabilities: all.map(capability).collect() })
        })
        .await
    }
}
