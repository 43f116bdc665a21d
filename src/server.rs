//! The edge: a private unix socket, and the way from async to plain functions and back.
//!
//! An RPC runs to its end on a blocking thread. The edge waits for it until the caller goes away or the edge's own
//! deadline passes; then it tells the thread so, and answers ABORTED, the one code for "still at work". The
//! thread keeps its guard, wins nothing more, and finishes what it has won.

use std::fmt;
use std::fs::{File, TryLockError};
use std::future::Future;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
use nix::sys::stat::{Mode, fchmod};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Code, Request, Response, Status};

use crate::csi;
use crate::driver::Driver;
use crate::error::{Error, Result};
use crate::guard::Call;

/// Below the shortest deadline of a CO (10 s, the external-provisioner's default), so that the CO hears ABORTED
/// rather than guess.
const DEADLINE: Duration = Duration::from_secs(8);
/// How long a call that is at work may go on after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);
/// gRPC carries a message in a header, which clients cut off or refuse beyond some kilobytes.
const LONGEST_MESSAGE: usize = 2048;

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
    driver: Arc<Driver>,
    controller: bool,
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
    fn log(&self, code: Code, message: &str) {
        let millis = self.began.elapsed().as_micros() as f64 / 1000.0;
        let (rpc, volume, code) = (self.rpc, self.subject.as_str(), format!("{code:?}"));
        if message.is_empty() {
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

impl Edge {
    pub(crate) fn serves_controller(&self) -> bool {
        self.controller
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
        tracing::debug!(rpc, ?request);
        let call = Call::default();
        let subject: String = request.subject().chars().take(256).collect();
        let mut waiting =
            Waiting { call: call.clone(), rpc, subject, began: Instant::now(), answered: false };
        let driver = self.driver.clone();
        let work = tokio::task::spawn_blocking(move || {
            catch_unwind(AssertUnwindSafe(|| function(&driver, &call, request)))
                .map_err(|_| Status::internal(format!("{rpc} panicked: this is a bug in Berth, see its log")))
                .and_then(|answer| answer.map_err(Status::from))
        });
        let answer = match tokio::time::timeout(DEADLINE, work).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(stopped)) => Err(Status::internal(format!("{rpc} was stopped: {stopped}"))),
            Err(_) => {
                waiting.call.give_up();
                Err(Status::aborted(format!(
                    "{rpc} is still at work after {DEADLINE:?}; the same call may be repeated"
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

/// A socket that is ours alone: bound, with a lock beside it that ends with the process.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    inode: u64,
    /// Held until the end: who has it may take over what lies at the path.
    _lock: File,
    lock_path: PathBuf,
}

impl Socket {
    /// Binds `unix:///path`. What a dead process left there is taken over; a live one's is refused.
    ///
    /// # Errors
    /// Says why: the endpoint is no unix socket, the path is too long or taken.
    pub fn bind(endpoint: &str) -> Result<Self> {
        let invalid = |why: String| Error::invalid("--endpoint", why);
        let path =
            endpoint.strip_prefix("unix://").or_else(|| endpoint.strip_prefix("unix:")).unwrap_or(endpoint);
        if !path.starts_with('/') {
            return Err(invalid(format!("{endpoint:?} is no unix socket: say unix:///run/berth/csi.sock")));
        }
        let path = PathBuf::from(path);
        let address = UnixAddr::new(&path).map_err(|error| {
            invalid(format!("{}: {error} (a socket's path has 107 bytes at most)", path.display()))
        })?;
        let failed = |doing: &str, error: io::Error| Error::io(format!("{doing} {}", path.display()), error);
        let (lock, lock_path) = Self::lock(&path)?;
        match std::fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("look at", error)),
            Ok(found) if !found.file_type().is_socket() => {
                return Err(invalid(format!("{} exists and is no socket: remove it", path.display())));
            }
            Ok(_) => match UnixStream::connect(&path) {
                Ok(_) => {
                    return Err(invalid(format!("another process serves {}: stop it first", path.display())));
                }
                Err(_) => {
                    std::fs::remove_file(&path).map_err(|error| failed("remove the stale socket", error))?
                }
            },
        }
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)
            .map_err(|e| failed("open", e.into()))?;
        // Before it is bound: the name is born with this mode, at no moment with another.
        fchmod(&fd, Mode::S_IRUSR | Mode::S_IWUSR).map_err(|e| failed("set the mode of", e.into()))?;
        bind(fd.as_raw_fd(), &address).map_err(|e| failed("bind", e.into()))?;
        Backlog::new(1024)
            .and_then(|backlog| listen(&fd, backlog))
            .map_err(|e| failed("listen on", e.into()))?;
        let inode = std::fs::symlink_metadata(&path).map_err(|error| failed("look at", error))?.ino();
        let listener = UnixListener::from_std(fd.into()).map_err(|error| failed("listen on", error))?;
        Ok(Self { listener, path, inode, _lock: lock, lock_path })
    }

    /// Takes the lock beside the socket, so that of two processes that start at once one is refused.
    fn lock(path: &Path) -> Result<(File, PathBuf)> {
        let mut lock_path = path.as_os_str().to_os_string();
        lock_path.push(".lock");
        let lock_path = PathBuf::from(lock_path);
        let failed = |error: io::Error| Error::io(format!("lock {}", lock_path.display()), error);
        loop {
            let file = File::options()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&lock_path)
                .map_err(failed)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(Error::invalid(
                        "--endpoint",
                        format!("another process serves {}: stop it first", path.display()),
                    ));
                }
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
            // Its last holder may have removed it between the two steps: then it is the lock of nothing.
            let ours = file.metadata().map_err(failed)?.ino();
            if std::fs::metadata(&lock_path).is_ok_and(|found| found.ino() == ours) {
                return Ok((file, lock_path));
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
    socket: Socket,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    let has = |service: Service| services.contains(&service);
    let edge = Edge { driver, controller: has(Service::Controller) };
    let Socket { listener, path, inode, _lock, lock_path } = socket;
    let (told, heard) = tokio::sync::oneshot::channel::<()>();
    let server = tonic::transport::Server::builder()
        .add_service(csi::identity_server::IdentityServer::new(edge.clone()))
        .add_optional_service(
            has(Service::Controller).then(|| csi::controller_server::ControllerServer::new(edge.clone())),
        )
        .add_optional_service(has(Service::Node).then(|| csi::node_server::NodeServer::new(edge)))
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), async move {
            let _ = heard.await;
        });
    let mut server = tokio::spawn(server);
    let ended = tokio::select! {
        ended = &mut server => ended,
        () = stop => {
            let _ = told.send(());
            // A client that holds a stream open would hold the server up for ever.
            match tokio::time::timeout(GRACE, &mut server).await {
                Ok(ended) => ended,
                Err(_) => {
                    tracing::warn!("calls are still at work after {GRACE:?}; what they have won is finished by a retry");
                    Ok(Ok(()))
                }
            }
        }
    };
    // Only if it is still ours: a process that follows may have bound the path already.
    if std::fs::symlink_metadata(&path).is_ok_and(|found| found.ino() == inode) {
        let _ = std::fs::remove_file(&path);
    }
    let _ = std::fs::remove_file(&lock_path);
    match ended {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Error::io("serve", io::Error::other(error))),
        Err(error) => Err(Error::io("serve", io::Error::other(error))),
    }
}
