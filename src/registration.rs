//! Registration with the kubelet: a second socket, at which it asks who serves CSI on its node, and where.
//!
//! A kubelet calls whenever a socket appears in its directory, and for each that is there when it starts. What it could
//! not register it tries again by itself. So all there is to do is to answer, and to keep the socket in its place: while
//! it is there the driver is registered, and when it goes the kubelet calls the driver no more.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};

use crate::authority::Readable;
use crate::error::Result;
use crate::socket::{Claim, Socket};
use wire::registration_server::{self, RegistrationServer};
use wire::{InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse};

/// Generated from `proto/pluginregistration.proto`.
#[allow(clippy::all, clippy::pedantic, missing_docs, unreachable_pub)]
pub mod wire {
    tonic::include_proto!("pluginregistration");
}

/// How often the socket is looked for: whoever empties the kubelet's directory takes the driver from the kubelet.
const LOOK: Duration = Duration::from_secs(2);
/// How long to wait where it can't be made anew.
const AGAIN: Duration = Duration::from_secs(30);
/// A kubelet that watches the directory asks within a second or two.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the kubelet is told, and where.
#[derive(Debug, Clone)]
pub struct Registration {
    socket: PathBuf,
    info: PluginInfo,
    asked: Arc<AtomicBool>,
}

impl Registration {
    /// Of the driver of this name, whose CSI socket the kubelet finds at `endpoint`. `registry` is the kubelet's directory.
    #[must_use]
    pub fn new(registry: &Path, driver_name: &str, endpoint: &str) -> Self {
        let info = PluginInfo {
            r#type: "CSIPlugin".into(),
            name: driver_name.into(),
            endpoint: endpoint.into(),
            // Of CSI: any 1.x is the same to a kubelet.
            supported_versions: vec!["1.0.0".into()],
        };
        Self { socket: registry.join(format!("{driver_name}-reg.sock")), info, asked: Arc::default() }
    }

    /// Serves for ever, or tells why it can't begin. Whoever drops this takes the socket away, and the driver from the kubelet.
    pub(crate) async fn serve(self) -> Result<Infallible> {
        let mut socket = self.bind()?;
        loop {
            let Socket { listener, claim } = socket;
            let server = tonic::transport::Server::builder()
                .add_service(RegistrationServer::new(self.clone()))
                .serve_with_incoming(
                    UnixListenerStream::new(listener).map(|accepted| accepted.map(Readable::of_kubelet)),
                );
            tokio::select! {
                ended = server => tracing::warn!(?ended, "the registration with the kubelet ended; it begins anew"),
                () = self.lost(&claim) => {
                    tracing::warn!(socket = %self.socket.display(), "the socket for the kubelet was taken away; it is made anew");
                }
            }
            drop(claim);
            socket = loop {
                match self.bind() {
                    Ok(socket) => break socket,
                    Err(error) => tracing::warn!(%error, "the kubelet can't find this driver"),
                }
                tokio::time::sleep(AGAIN).await;
            };
        }
    }

    fn bind(&self) -> Result<Socket> {
        Socket::bind("--kubelet-registry", &self.socket)
    }

    /// Ends when the socket is not in its place any more.
    async fn lost(&self, claim: &Claim) {
        let (began, mut told) = (Instant::now(), false);
        while claim.stands() {
            tokio::time::sleep(LOOK).await;
            if !told && !self.asked.load(Relaxed) && began.elapsed() > PATIENCE {
                told = true;
                let socket = self.socket.display().to_string();
                tracing::warn!(
                    socket,
                    "no kubelet has asked who is there; is this its directory plugins_registry?"
                );
            }
        }
    }
}

#[tonic::async_trait]
impl registration_server::Registration for Registration {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        self.asked.store(true, Relaxed);
        Ok(Response::new(self.info.clone()))
    }

    async fn notify_registration_status(
        &self,
        request: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        let RegistrationStatus { plugin_registered, error } = request.into_inner();
        if plugin_registered {
            tracing::info!(endpoint = self.info.endpoint, "registered with the kubelet");
        } else {
            // A field, for the kubelet's words may hold a newline.
            tracing::warn!(error, "the kubelet refuses to register the driver; it tries again by itself");
        }
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}
