//! The Controller service: one line for each RPC, and what this driver can do.
//!
//! A capability is advertised when it works for users. Staging, attaching and expansion by the controller would be
//! empty for a node's own directories, so they answer UNIMPLEMENTED (the generated default).

mod capacity;
mod query;
mod volume;

use tonic::{Request, Response, Status};

use crate::csi::controller_service_capability::{Rpc, Type, rpc};
use crate::csi::{self, controller_server::Controller};
use crate::server::Edge;

const CAPABILITIES: [rpc::Type; 5] = [
    rpc::Type::CreateDeleteVolume,
    rpc::Type::ListVolumes,
    rpc::Type::GetCapacity,
    rpc::Type::GetVolume,
    // In Node's list too, or Kubernetes maps ReadWriteOnce and ReadWriteOncePod to the same old mode.
    rpc::Type::SingleNodeMultiWriter,
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
        self.run("ControllerGetCapabilities", request, |_, _, _| {
            let capability = |rpc: rpc::Type| csi::ControllerServiceCapability {
                r#type: Some(Type::Rpc(Rpc { r#type: rpc.into() })),
            };
            Ok(csi::ControllerGetCapabilitiesResponse { capabilities: CAPABILITIES.map(capability).into() })
        })
        .await
    }
}
