//! The edge: a private unix socket, and the way from async to plain functions and back.
//!
//! An RPC runs to its end on a blocking thread. The edge waits for it until the caller goes away or the edge's own
//! deadline passes; then it tells the thread so, and answers ABORTED, the one code for "still at work". The
//! thread keeps its guard, wins nothing more, and finishes what it has won.

use std::fmt;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinError;
use tokio_stream::{StreamExt as _, wrappers::UnixListenerStream};
use tonic::{Code, Request, Response, Status};

use crate::authority::Readable;
use crate::backend::Kind;
use crate::csi;
use crate::driver::Driver;
use crate::error::{Error, Result};
use crate::guard::Call;
use crate::registration::Registration;
use crate::socket::Socket;

/// Below the shortest deadline of a CO (10 s, the external-provisioner's default), so that the CO hears ABORTED
/// rather than guess.
const DEADLINE: Duration = Duration::from_secs(8);
/// How long a call that is at work may go on after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);
/// gRPC carries a message in a header, which clients cut off or refuse beyond some kilobytes.
const LONGEST_MESSAGE: usize = 2048;
/// What probes call, thousands of times a day: as long as all is well that is no news.
const PROBED: [&str; 2] = ["GetPluginInfo", "Probe"];

/// A service of CSI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Identity: always served, whatever else is.
    Identity,
    /// Controller: volumes come and go.
    Controller,
    /// Node: volumes are mounted.
    Node,
}

impl std::str::FromStr for Service {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "identity" => Ok(Self::Identity),
            "controller" => Ok(Self::Controller),
            "node" => Ok(Self::Node),
            _ => Err(format!("{text:?} is none of identity, controller, node")),
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Identity => "identity",
            Self::Controller => "controller",
            Self::Node => "node",
        })
    }
}

/// What serves all RPCs.
#[derive(Debug, Clone)]
pub(crate) struct Edge {
    pub(crate) driver: Arc<Driver>,
    deadline: Duration,
}

/// What a request is about, for the log.
pub(crate) trait Subject {
    /// The volume's id or name, if it is about one.
    fn subject(&self) -> &str {
        ""
    }
}

macro_rules! subjects {
    ($($request:ident $(. $field:ident)?),* $(,)?) => {
        $(impl Subject for csi::$request {
            $(fn subject(&self) -> &str { &self.$field })?
        })*
    };
}

subjects!(
    GetPluginInfoRequest,
    GetPluginCapabilitiesRequest,
    ProbeRequest,
    CreateVolumeRequest.name,
    DeleteVolumeRequest.volume_id,
    ControllerPublishVolumeRequest.volume_id,
    ControllerUnpublishVolumeRequest.volume_id,
    ControllerExpandVolumeRequest.volume_id,
    ValidateVolumeCapabilitiesRequest.volume_id,
    ListVolumesRequest,
    ControllerGetVolumeRequest.volume_id,
    GetCapacityRequest,
    ControllerGetCapabilitiesRequest,
    NodePublishVolumeRequest.volume_id,
    NodeUnpublishVolumeRequest.volume_id,
    NodeGetVolumeStatsRequest.volume_id,
    NodeExpandVolumeRequest.volume_id,
    NodeGetCapabilitiesRequest,
    NodeGetInfoRequest,
);

/// A call on its way; dropped before its end, it was given up.
struct Waiting {
    call: Call,
    rpc: &'static str,
    subject: String,
    began: Instant,
    answered: bool,
}

impl Waiting {
    fn new<Q: Subject + fmt::Debug>(rpc: &'static str, request: &Q) -> Self {
        tracing::debug!(rpc, ?request);
        let subject = request.subject().chars().take(256).collect();
        Self { call: Call::default(), rpc, subject, began: Instant::now(), answered: false }
    }

    fn log(&self, code: Code, message: &str) {
        let millis = self.began.elapsed().as_micros() as f64 / 1000.0;
        let (rpc, volume, code) = (self.rpc, self.subject.as_str(), format!("{code:?}"));
        if PROBED.contains(&rpc) && message.is_empty() {
            tracing::debug!(rpc, volume, code, millis);
        } else if message.is_empty() {
            tracing::info!(rpc, volume, code, millis);
        } else {
            // A field, not the event's message: that is written as it is, and a name may hold a newline.
            tracing::info!(rpc, volume, code, millis, error = message);
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.answered {
            self.call.give_up();
            self.log(Code::Aborted, "the caller gave up; what was won is finished behind");
        }
    }
}

#[allow(clippy::result_large_err)] // it is what tonic answers with
impl Edge {
    /// UNIMPLEMENTED for the other driver, in which an RPC would be empty.
    pub(crate) fn only(&self, kind: Kind, rpc: &str) -> Result<(), Status> {
        if self.driver.kind == kind {
            return Ok(());
        }
        Err(Status::unimplemented(format!("{rpc} has nothing to do in this driver")))
    }

    /// Answers at once with what the process knows, without a thread: also while all of them wait for a disk.
    pub(crate) fn tell<Q: Subject + fmt::Debug, R>(
        &self,
        rpc: &'static str,
        request: &Request<Q>,
        answer: R,
    ) -> Result<Response<R>, Status> {
        let mut waiting = Waiting::new(rpc, request.get_ref());
        waiting.answered = true;
        waiting.log(Code::Ok, "");
        Ok(Response::new(answer))
    }

    /// Runs an RPC on a blocking thread and waits for its answer.
    pub(crate) async fn run<Q, R>(
        &self,
        rpc: &'static str,
        request: Request<Q>,
        function: impl FnOnce(&Driver, &Call, Q) -> Result<R> + Send + 'static,
    ) -> Result<Response<R>, Status>
    where
        Q: Subject + fmt::Debug + Send + 'static,
        R: Send + 'static,
    {
        let request = request.into_inner();
        let mut waiting = Waiting::new(rpc, &request);
        let call = waiting.call.clone();
        let driver = self.driver.clone();
        let work = tokio::task::spawn_blocking(move || {
            let run = || function(&driver, &call, request).map_err(|error| driver.judge(error));
            catch_unwind(AssertUnwindSafe(run))
                .map_err(|_| Status::internal(format!("{rpc} panicked: this is a bug in Berth, see its log")))
                .and_then(|answer| answer.map_err(Status::from))
        });
        let answer = match tokio::time::timeout(self.deadline, work).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(stopped)) => Err(Status::internal(format!("{rpc} was stopped: {stopped}"))),
            Err(_) => {
                waiting.call.give_up();
                Err(Status::aborted(format!(
                    "{rpc} is still at work after {:?}; the same call may be repeated",
                    self.deadline
                )))
            }
        };
        waiting.answered = true;
        match answer {
            Ok(answer) => {
                waiting.log(Code::Ok, "");
                Ok(Response::new(answer))
            }
            Err(status) => {
                waiting.log(status.code(), status.message());
                if status.message().len() <= LONGEST_MESSAGE {
                    return Err(status);
                }
                let short: String = status.message().chars().take(LONGEST_MESSAGE / 4).collect();
                Err(Status::new(status.code(), short + " …"))
            }
        }
    }
}

/// Serves the driver until `stop` ends, and for a bounded time after that.
///
/// # Errors
/// What the transport says; a client's errors are its own.
pub async fn serve(
    driver: Arc<Driver>,
    services: &[Service],
    Socket { listener, claim }: Socket,
    registration: Option<Registration>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    let has = |service: Service| services.contains(&service);
    let edge = Edge { driver, deadline: DEADLINE };
    let (told, heard) = tokio::sync::oneshot::channel::<()>();
    let incoming = UnixListenerStream::new(listener).map(|accepted| accepted.map(Readable::as_it_is));
    let server = tonic::transport::Server::builder()
        .add_service(csi::identity_server::IdentityServer::new(edge.clone()))
        .add_optional_service(
            has(Service::Controller).then(|| csi::controller_server::ControllerServer::new(edge.clone())),
        )
        .add_optional_service(has(Service::Node).then(|| csi::node_server::NodeServer::new(edge)))
        .serve_with_incoming_shutdown(incoming, async move { _ = heard.await });
    let mut server = tokio::spawn(server);
    let outcome = |ended: Result<_, JoinError>| match ended {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Error::io("serve", io::Error::other(error))),
        Err(error) => Err(Error::io("serve", io::Error::other(error))),
    };
    // Only now, for the kubelet calls back at once.
    let registered = async {
        match registration {
            Some(registration) => registration.serve().await,
            None => std::future::pending().await,
        }
    };
    let ended = tokio::select! {
        ended = &mut server => outcome(ended),
        Err(error) = registered => Err(error),
        // The registration ends here as well, and the kubelet sends no more calls.
        () = stop => {
            let _ = told.send(());
            // A client that holds a stream open would hold the server up for ever.
            match tokio::time::timeout(GRACE, &mut server).await {
                Ok(ended) => outcome(ended),
                Err(_) => {
                    tracing::warn!("calls are still at work after {GRACE:?}; what they have won is finished by a retry");
                    Ok(())
                }
            }
        }
    };
    drop(claim);
    ended
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::backend::Specs;
    use crate::backend::nodes::Host;
    use crate::driver::Config;

    /// An edge before a driver whose one root can't exist.
    fn edge(deadline: Duration, scratch: &tempfile::TempDir) -> Edge {
        let host = Host { node_id: "n".into(), host_name: "h".into(), boot_id: "b".into() };
        let config =
            Config { driver_name: "test".into(), host, max_volumes: 0, controller: true, node: true };
        let root = "main=/dev/null,plain".parse().unwrap();
        let driver = Driver::new(config, Specs::Local(vec![root]), scratch.path()).unwrap();
        Edge { driver, deadline }
    }

    const NEVER: Duration = Duration::from_secs(60);

    /// Runs a test on a runtime as the process has it.
    fn at_the_edge<F: Future<Output = ()>>(deadline: Duration, test: impl FnOnce(Edge) -> F) {
        let scratch = tempfile::tempdir().unwrap();
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap()
            .block_on(test(edge(deadline, &scratch)));
    }

    fn probe() -> Request<csi::ProbeRequest> {
        Request::new(csi::ProbeRequest {})
    }

    /// Works until the call is given up, then says what `still_wanted` told.
    fn until_given_up(
        said: mpsc::Sender<Result<()>>,
    ) -> impl FnOnce(&Driver, &Call, csi::ProbeRequest) -> Result<()> {
        move |_, call, _| {
            let began = Instant::now();
            while call.still_wanted("x").is_ok() && began.elapsed() < Duration::from_secs(10) {
                std::thread::sleep(Duration::from_millis(5));
            }
            let _ = said.send(call.still_wanted("x"));
            Ok(())
        }
    }

    #[test]
    fn a_panic_is_internal_for_that_call_alone() {
        at_the_edge(NEVER, |edge| async move {
            let (go_on, wait) = mpsc::channel::<()>();
            let other = {
                let edge = edge.clone();
                tokio::spawn(async move {
                    edge.run("Other", probe(), move |_, _, _| Ok(wait.recv().is_ok())).await
                })
            };
            let panics = |driver: &Driver, call: &Call, _: csi::ProbeRequest| -> Result<()> {
                let _guard = driver.guards.acquire(call, "main/a".into())?;
                panic!("on purpose");
            };
            let status = edge.run("Panics", probe(), panics).await.unwrap_err();
            assert_eq!(status.code(), Code::Internal);
            assert!(status.message().contains("Panics panicked"), "{status}");
            // The call that was at work beside it goes on, and the guard that it held is the next one's.
            go_on.send(()).unwrap();
            assert!(other.await.unwrap().unwrap().into_inner());
            let next = |driver: &Driver, call: &Call, _: csi::ProbeRequest| -> Result<()> {
                driver.guards.acquire(call, "main/a".into()).map(drop)
            };
            edge.run("Next", probe(), next).await.unwrap();
        });
    }

    #[test]
    fn a_call_beyond_its_deadline_is_answered_aborted_and_told_to_win_nothing_more() {
        at_the_edge(Duration::from_millis(200), |edge| async move {
            let (said, heard) = mpsc::channel();
            let status = edge.run("Slow", probe(), until_given_up(said)).await.unwrap_err();
            assert_eq!(status.code(), Code::Aborted);
            assert!(status.message().contains("still at work"), "{status}");
            assert!(heard.recv().unwrap().is_err());
        });
    }

    #[test]
    fn a_call_whose_client_went_away_runs_to_its_end_and_is_told_to_win_nothing_more() {
        at_the_edge(NEVER, |edge| async move {
            let (said, heard) = mpsc::channel();
            let call = edge.run("Slow", probe(), until_given_up(said));
            assert!(tokio::time::timeout(Duration::from_millis(50), call).await.is_err());
            assert!(heard.recv().unwrap().is_err());
        });
    }

    #[test]
    fn a_call_in_time_is_wanted_to_its_end() {
        at_the_edge(NEVER, |edge| async move {
            edge.run("Quick", probe(), |_, call, _| call.still_wanted("x")).await.unwrap();
        });
    }

    #[test]
    fn a_long_message_is_cut_to_what_a_header_can_carry() {
        at_the_edge(NEVER, |edge| async move {
            let long = |_: &Driver, _: &Call, _: csi::ProbeRequest| -> Result<()> {
                Err(Error::invalid("name", "\u{1F6A2}".repeat(5000)))
            };
            let status = edge.run("Long", probe(), long).await.unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument);
            assert!(status.message().starts_with("name: "), "{status}");
            assert!(status.message().len() <= LONGEST_MESSAGE + 10, "{}", status.message().len());
        });
    }
}
