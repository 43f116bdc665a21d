//! The Node service: one line for each RPC, and what this driver can do.
//!
//! There is no staging: a directory is mounted straight to its target, and a second state would have to be kept
//! idempotent for nothing.

mod expand;
mod publication;
mod publish;
mod stats;
mod target;

use tonic::{Request, Response, Status};

use crate::csi::node_service_capability::{Rpc, Type, rpc};
use crate::csi::{self, node_server::Node};
use crate::messages;
use crate::server::Edge;

const CAPABILITIES: [rpc::Type; 3] =
    [rpc::Type::GetVolumeStats, rpc::Type::ExpandVolume, rpc::Type::SingleNodeMultiWriter];

#[tonic::async_trait]
impl Node for Edge {
    async fn node_publish_volume(
        &self,
        request: Request<csi::NodePublishVolumeRequest>,
    ) -> Result<Response<csi::NodePublishVolumeResponse>, Status> {
        self.run("NodePublishVolume", request, publish::publish).await
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<csi::NodeUnpublishVolumeRequest>,
    ) -> Result<Response<csi::NodeUnpublishVolumeResponse>, Status> {
        self.run("NodeUnpublishVolume", request, publish::unpublish).await
    }

    async fn node_get_volume_stats(
        &self,
        request: Request<csi::NodeGetVolumeStatsRequest>,
    ) -> Result<Response<csi::NodeGetVolumeStatsResponse>, Status> {
        self.run("NodeGetVolumeStats", request, stats::get).await
    }

    async fn node_expand_volume(
        &self,
        request: Request<csi::NodeExpandVolumeRequest>,
    ) -> Result<Response<csi::NodeExpandVolumeResponse>, Status> {
        self.run("NodeExpandVolume", request, expand::expand).await
    }

    async fn node_get_capabilities(
        &self,
        request: Request<csi::NodeGetCapabilitiesRequest>,
    ) -> Result<Response<csi::NodeGetCapabilitiesResponse>, Status> {
        self.run("NodeGetCapabilities", request, |_, _, _| {
            let capability = |rpc: rpc::Type| csi::NodeServiceCapability {
                r#type: Some(Type::Rpc(Rpc { r#type: rpc.into() })),
            };
            Ok(csi::NodeGetCapabilitiesResponse { capabilities: CAPABILITIES.map(capability).into() })
        })
        .await
    }

    async fn node_get_info(
        &self,
        request: Request<csi::NodeGetInfoRequest>,
    ) -> Result<Response<csi::NodeGetInfoResponse>, Status> {
        self.run("NodeGetInfo", request, |driver, _, _| {
            Ok(csi::NodeGetInfoResponse {
                node_id: driver.config.node_id.clone(),
                max_volumes_per_node: driver.config.max_volumes,
                accessible_topology: Some(messages::topology(driver)),
            })
        })
        .await
    }
}
