//! `berth probe`: asks a driver whether it is there, for a kubelet's probe and for whoever wants to know.
//!
//! Whatever goes wrong is one answer, no; and there is an answer in time, also of a driver that was stopped in its tracks.

use std::time::Duration;

use tonic::Code;
use tonic::transport::Endpoint;

use crate::csi::identity_client::IdentityClient;
use crate::csi::{GetPluginInfoRequest, ProbeRequest};
use crate::socket;

/// Who answers at `endpoint`, and that it is ready.
///
/// # Errors
/// Why not, in one line.
pub fn ask(endpoint: &str, limit: Duration) -> Result<String, String> {
    let path = socket::path(endpoint).map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("start the runtime: {error}"))?;
    let asked = async {
        let channel = Endpoint::from_shared(format!("unix://{}", path.display()))
            .map_err(innermost)?
            .connect()
            .await
            .map_err(innermost)?;
        let mut identity = IdentityClient::new(channel);
        let plugin = identity.get_plugin_info(GetPluginInfoRequest {}).await.map_err(said)?.into_inner();
        let who = format!("{} {}", plugin.name, plugin.vendor_version);
        let ready = identity.probe(ProbeRequest {}).await.map_err(said)?.into_inner().ready;
        // CSI: who says nothing of it is ready.
        if ready.unwrap_or(true) { Ok(who + ": ready") } else { Err(who + ": not ready") }
    };
    let answer = runtime.block_on(async { tokio::time::timeout(limit, asked).await });
    answer
        .unwrap_or_else(|_| Err(format!("no answer within {limit:?}")))
        .map_err(|why| format!("{}: {why}", path.display()).replace(['\n', '\r'], " "))
}

/// What the kernel said; what stands around it is of the transport.
fn innermost(error: tonic::transport::Error) -> String {
    let mut inner: &dyn std::error::Error = &error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

fn said(status: tonic::Status) -> String {
    match status.code() {
        Code::Unimplemented => "this is no CSI driver".into(),
        code => format!("{code:?}: {}", status.message()),
    }
}
