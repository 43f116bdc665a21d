//! The Node service: one line for each RPC, and what this driver can do.
//!
//! There is no staging: a directory is mounted straight to its target, and a second state would have to be kept
//! idempotent for nothing.

mod attempt;
mod expand;
mod ours;
mod publication;
mod publish;
mod source;
mod stats;
mod target;
mod unpublish;

use tonic::{Request, Response, Status};

use crate::backend::Kind;
use crate::csi::node_service_capability::{Rpc, Type, rpc};
use crate::csi::{self, node_server::Node};
use crate::messages;
use crate::server::Edge;

/// What both drivers can do.
const CAPABILITIES: [rpc::Type; 2] = [rpc::Type::GetVolumeStats, rpc::Type::SingleNodeMultiWriter];

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
        self.run("NodeUnpublishVolume", request, unpublish::unpublish).await
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
        self.only(Kind::Local, "NodeExpandVolume")?;
        self.run("NodeExpandVolume", request, expand::expand).await
    }

    async fn node_get_capabilities(
        &self,
        request: Request<csi::NodeGetCapabilitiesRequest>,
    ) -> Result<Response<csi::NodeGetCapabilitiesResponse>, Status> {
        self.run("NodeGetCapabilities", request, |driver, _, _| {
            // Where every node reaches a volume, the controller grows it.
            let expand = (driver.kind == Kind::Local).then_some(rpc::Type::ExpandVolume);
            let capability = |rpc: rpc::Type| csi::NodeServiceCapability {
                r#type: Some(Type::Rpc(Rpc { r#type: rpc.into() })),
            };
            let all = CAPABILITIES.into_iter().chain(expand);
            Ok(csi::NodeGetCapabilitiesResponse { capabilities: all.map(capability).collect() })
        })
        .await
    }

    async fn node_get_info(
        &self,
        request: Request<csi::NodeGetInfoRequest>,
    ) -> Result<Response<csi::NodeGetInfoResponse>, Status> {
        self.run("NodeGetInfo", request, |driver, _, _| {
            Ok(csi::NodeGetInfoResponse {
                node_id: driver.config.host.node_id.clone(),
                max_volumes_per_node: driver.config.max_volumes,
                accessible_topology: messages::topology(driver),
            })
        })
        .await
    }
}
