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
        let answer = csi::GetPluginInfoResponse {
            name: self.driver.config.driver_name.clone(),
            vendor_version: env!("CARGO_PKG_VERSION").to_string(),
            manifest: Default::default(),
        };
        self.tell("GetPluginInfo", &request, answer)
    }

    async fn get_plugin_capabilities(
        &self,
        request: Request<csi::GetPluginCapabilitiesRequest>,
    ) -> Result<Response<csi::GetPluginCapabilitiesResponse>, Status> {
        let service =
            |service: service::Type| plugin_capability::Type::Service(Service { r#type: service.into() });
        let online = VolumeExpansion { r#type: volume_expansion::Type::Online.into() };
        let types = [
            self.driver.config.controller.then(|| service(service::Type::ControllerService)),
            self.driver.topology().map(|_| service(service::Type::VolumeAccessibilityConstraints)),
            Some(plugin_capability::Type::VolumeExpansion(online)),
        ];
        let capability = |kind| csi::PluginCapability { r#type: Some(kind) };
        let capabilities = types.into_iter().flatten().map(capability).collect();
        self.tell("GetPluginCapabilities", &request, csi::GetPluginCapabilitiesResponse { capabilities })
    }

    /// Ready as soon as it answers: a root that is missing is reported by the calls that need it, for the other
    /// roots serve on, and no disk or server that does not answer is a reason to restart a driver.
    async fn probe(
        &self,
        request: Request<csi::ProbeRequest>,
    ) -> Result<Response<csi::ProbeResponse>, Status> {
        self.tell("Probe", &request, csi::ProbeResponse { ready: Some(true) })
    }
}
