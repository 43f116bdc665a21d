//! Which services a process serves.

use berth::csi::controller_client::ControllerClient;
use berth::csi::identity_client::IdentityClient;
use berth::csi::node_client::NodeClient;
use berth::csi::plugin_capability::{Type, service};
use berth::csi::*;
use tonic::Code;

use crate::driver::{Scratch, call};

/// The codes of a call to Controller and of one to Node, and whether the plugin says that it has a controller.
fn asked(services: Option<&str>) -> (Code, Code, bool) {
    let scratch = Scratch::new();
    let mut command = scratch.local();
    if let Some(list) = services {
        command.args(["--services", list]);
    }
    let _driver = scratch.start(&mut command);
    call(&scratch.socket(), |channel| async move {
        let code = |status: Option<tonic::Status>| status.map_or(Code::Ok, |status| status.code());
        let controller = ControllerClient::new(channel.clone())
            .controller_get_capabilities(ControllerGetCapabilitiesRequest {})
            .await
            .err();
        let node =
            NodeClient::new(channel.clone()).node_get_capabilities(NodeGetCapabilitiesRequest {}).await.err();
        let plugin = IdentityClient::new(channel)
            .get_plugin_capabilities(GetPluginCapabilitiesRequest {})
            .await
            .unwrap();
        let is_controller = |capability: &PluginCapability| match &capability.r#type {
            Some(Type::Service(service)) => service.r#type() == service::Type::ControllerService,
            Some(Type::VolumeExpansion(_)) | None => false,
        };
        (code(controller), code(node), plugin.into_inner().capabilities.iter().any(is_controller))
    })
}

#[test]
fn all_services_are_served_unless_it_is_said_otherwise() {
    assert_eq!(asked(None), (Code::Ok, Code::Ok, true));
    assert_eq!(asked(Some("identity,controller,node")), (Code::Ok, Code::Ok, true));
}

#[test]
fn a_service_that_is_not_served_is_unimplemented_and_not_advertised() {
    assert_eq!(asked(Some("node")), (Code::Unimplemented, Code::Ok, false));
    assert_eq!(asked(Some("identity,node")), (Code::Unimplemented, Code::Ok, false));
    assert_eq!(asked(Some("controller")), (Code::Ok, Code::Unimplemented, true));
    assert_eq!(asked(Some("identity")), (Code::Unimplemented, Code::Unimplemented, false));
}
