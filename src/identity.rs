//! The Identity service: who this driver is.

use tonic::{Request, Response, Status};

use crate::csi::plugin_capability::{self, Service, VolumeExpansion, service, volume_expansion};
use crate::csi::{self, identity_server::Identity};
use crate::server::Edge;

#[tonic::async_trait]
impl Identity for Edge {
    async fn get_plugin_info(
        &self,
        request: Request<csi::GetPluginInfoRequest>,
    ) -> Result<Response<csi::GetPluginInfoResponse>, Status> {
        self.run("GetPluginInfo", request, |driver, _, _| {
            Ok(csi::GetPluginInfoResponse {
                name: driver.config.driver_name.clone(),
                vendor_version: env!("CARGO_PKG_VERSION").to_string(),
                manifest: Default::default(),
            })
        })
        .await
    }

    async fn get_plugin_capabilities(
        &self,
        request: Request<csi::GetPluginCapabilitiesRequest>,
    ) -> Result<Response<csi::GetPluginCapabilitiesResponse>, Status> {
        self.run("GetPluginCapabilities", request, |driver, _, _| {
            let service =
                |service: service::Type| plugin_capability::Type::Service(Service { r#type: service.into() });
            let online = VolumeExpansion { r#type: volume_expansion::Type::Online.into() };
            let types = [
                driver.config.controller.then(|| service(service::Type::ControllerService)),
                driver.topology().map(|_| service(service::Type::VolumeAccessibilityConstraints)),
                Some(plugin_capability::Type::VolumeExpansion(online)),
            ];
            let capability = |kind| csi::PluginCapability { r#type: Some(kind) };
            Ok(csi::GetPluginCapabilitiesResponse {
                capabilities: types.into_iter().flatten().map(capability).collect(),
            })
        })
        .await
    }

    /// Ready as soon as it answers: a root that is missing is reported by the calls that need it, for the other
    /// roots serve on.
    async fn probe(
        &self,
        request: Request<csi::ProbeRequest>,
    ) -> Result<Response<csi::ProbeResponse>, Status> {
        self.run("Probe", request, |_, _, _| Ok(csi::ProbeResponse { ready: Some(true) })).await
    }
}
