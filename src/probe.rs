//! `berth probe`: asks a driver whether it is there, for a kubelet's probe and for whoever wants to know.
//!
//! Whatever goes wrong is one answer, no; and there is an answer in time, also of a driver that was stopped in its tracks.
//! Two calls on a connection of their own need nothing of tonic's client, which would be a twentieth of the program.

use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use h2::client::SendRequest;
use prost::Message;
use tokio::net::UnixStream;
use tonic::codegen::{Bytes, http};
use tonic::{Code, Status};

use crate::csi::{GetPluginInfoResponse, ProbeResponse};
use crate::socket;

/// A message without a field, as both requests are: not compressed, and a length of zero. What follows is the message.
const EMPTY: [u8; 5] = [0; 5];
/// More than a driver has to say of itself.
const LONGEST_ANSWER: usize = 64 << 10;

/// Who answers at `endpoint`, and that it is ready.
///
/// # Errors
/// Why not, in one line.
pub fn ask(endpoint: &str, limit: Duration) -> Result<String, String> {
    let path = socket::path(endpoint).map_err(said)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("start the runtime: {error}"))?;
    let answer = runtime.block_on(async { tokio::time::timeout(limit, asked(&path)).await });
    answer
        .unwrap_or_else(|_| Err(format!("no answer within {limit:?}")))
        .map_err(|why| format!("{}: {why}", path.display()).replace(['\n', '\r'], " "))
}

async fn asked(path: &Path) -> Result<String, String> {
    let stream = UnixStream::connect(path).await.map_err(said)?;
    let (calls, connection) = h2::client::handshake(stream).await.map_err(said)?;
    let connection = tokio::spawn(connection);
    let plugin: GetPluginInfoResponse = call(&calls, "GetPluginInfo").await?;
    let who = format!("{} {}", plugin.name, plugin.vendor_version);
    let ProbeResponse { ready } = call(&calls, "Probe").await?;
    connection.abort();
    // CSI: who says nothing of it is ready.
    if ready.unwrap_or(true) { Ok(who + ": ready") } else { Err(who + ": not ready") }
}

/// One call of Identity, as gRPC puts it into HTTP/2.
async fn call<R: Message + Default>(calls: &SendRequest<Bytes>, rpc: &str) -> Result<R, String> {
    let head = http::Request::post(format!("http://localhost/csi.v1.Identity/{rpc}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .map_err(said)?;
    let (answer, mut body) =
        calls.clone().ready().await.map_err(said)?.send_request(head, false).map_err(said)?;
    body.send_data(Bytes::from_static(&EMPTY), true).map_err(said)?;

    let (head, mut body) = answer.await.map_err(said)?.into_parts();
    check(&head.headers)?;
    let mut framed = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.map_err(said)?;
        body.flow_control().release_capacity(data.len()).map_err(said)?;
        framed.extend_from_slice(&data);
        if framed.len() > LONGEST_ANSWER {
            return Err(format!("the answer to {rpc} does not end"));
        }
    }
    let trailers = body.trailers().await.map_err(said)?;
    check(&trailers.unwrap_or_default())?;
    let message = framed.get(EMPTY.len()..).ok_or_else(|| format!("the answer to {rpc} is cut off"))?;
    R::decode(message).map_err(said)
}

/// What gRPC says at the end, or in place of an answer.
fn check(headers: &http::HeaderMap) -> Result<(), String> {
    match Status::from_header_map(headers) {
        Some(status) if status.code() == Code::Unimplemented => Err("this is no CSI driver".into()),
        Some(status) if status.code() != Code::Ok => {
            Err(format!("{:?}: {}", status.code(), status.message()))
        }
        _ => Ok(()),
    }
}

fn said(error: impl Display) -> String {
    error.to_string()
}
