//! Calls over a socket, and answers that wait to be judged.

use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use berth::csi::controller_client::ControllerClient;
use berth::csi::identity_client::IdentityClient;
use berth::csi::node_client::NodeClient;
use berth::csi::*;
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::Rig;

/// An answer, waiting to be judged.
pub struct Answer<T> {
    rpc: &'static str,
    result: Result<T, Status>,
}

impl<T: std::fmt::Debug> Answer<T> {
    /// It has to be OK.
    #[track_caller]
    pub fn ok(self) -> T {
        match self.result {
            Ok(answer) => answer,
            Err(status) => panic!("{} failed: {:?}: {}", self.rpc, status.code(), status.message()),
        }
    }

    /// It has to fail with this code and a message that has these words.
    #[track_caller]
    pub fn fails(self, code: Code, words: &str) -> String {
        match self.result {
            Ok(answer) => panic!("{} was to fail with {code:?} ({words}) and answered {answer:?}", self.rpc),
            Err(status) => {
                assert_eq!(status.code(), code, "{}: {}", self.rpc, status.message());
                assert!(status.message().contains(words), "{words:?} is not in {:?}", status.message());
                status.message().to_string()
            }
        }
    }

    /// It has to be OK, or else ABORTED, which is what a call says that lost a race; whether it was OK.
    #[track_caller]
    pub fn ok_or_aborted(self) -> bool {
        match self.result {
            Ok(_) => true,
            Err(status) if status.code() == Code::Aborted => false,
            Err(status) => panic!("{} failed: {:?}: {}", self.rpc, status.code(), status.message()),
        }
    }

    /// Whether the caller gave up before there was an answer.
    pub fn was_given_up(&self) -> bool {
        let code = self.result.as_ref().err().map(Status::code);
        matches!(code, Some(Code::DeadlineExceeded | Code::Cancelled))
    }

    /// Either way.
    pub fn result(self) -> Result<T, Status> {
        self.result
    }
}

impl Answer<CreateVolumeResponse> {
    /// The id of the volume, which has to have been created.
    #[track_caller]
    pub fn id(self) -> String {
        self.ok().volume.expect("CreateVolume answers with a volume").volume_id
    }
}

/// A connection and what drives it.
pub struct Client {
    runtime: Runtime,
    channel: Channel,
    deadline: Option<Duration>,
}

impl Client {
    /// A client of the driver at a socket, which need not be there yet.
    pub fn of(socket: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display())).unwrap();
        let channel = {
            let _in_runtime = runtime.enter();
            endpoint.connect_lazy()
        };
        Self { runtime, channel, deadline: None }
    }

    /// How long this client waits for each answer; a driver is told, as the sidecars and kubelet tell it.
    pub fn within(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// A CreateVolume whose caller goes away after so long, with its connection.
    pub fn creates_and_hangs_up(self, request: CreateVolumeRequest, after: Duration) {
        let call = async { ControllerClient::new(self.channel).create_volume(request).await };
        let _ = self.runtime.block_on(async { tokio::time::timeout(after, call).await });
    }

    /// A NodePublishVolume whose caller goes away after so long, with its connection.
    pub fn gives_up(self, request: NodePublishVolumeRequest, after: Duration) {
        let call = async { NodeClient::new(self.channel).node_publish_volume(request).await };
        let _ = self.runtime.block_on(async { tokio::time::timeout(after, call).await });
    }
}

/// Each RPC as a method: `rig.create(request)` gives an [`Answer`].
macro_rules! calls {
    ($($name:ident, $client:ident, $rpc:ident, $request:ty, $response:ty;)*) => {
        /// Whoever can call a driver.
        pub trait Calls {
            /// Through which client.
            fn through(&mut self) -> &mut Client;
            $(fn $name(&mut self, request: $request) -> Answer<$response> {
                let client = self.through();
                let channel = client.channel.clone();
                let mut request = tonic::Request::new(request);
                if let Some(deadline) = client.deadline {
                    request.set_timeout(deadline);
                }
                let result = client.runtime.block_on(async { $client::new(channel).$rpc(request).await });
                Answer { rpc: stringify!($rpc), result: result.map(tonic::Response::into_inner) }
            })*

            /// DeleteVolume by id alone.
            fn delete(&mut self, id: &str) -> Answer<DeleteVolumeResponse> {
                self.delete_volume(DeleteVolumeRequest { volume_id: id.into(), ..Default::default() })
            }

            /// NodeUnpublishVolume by id and target.
            fn unpublish(&mut self, id: &str, target: &str) -> Answer<NodeUnpublishVolumeResponse> {
                let request = NodeUnpublishVolumeRequest { volume_id: id.into(), target_path: target.into() };
                self.unpublish_volume(request)
            }

            /// The ids of all volumes, page by page.
            fn list_ids(&mut self, page: i32) -> Vec<String> {
                let (mut ids, mut token) = (Vec::new(), String::new());
                loop {
                    let request = ListVolumesRequest { max_entries: page, starting_token: token.clone() };
                    let answer = self.list(request).ok();
                    ids.extend(answer.entries.into_iter().map(|entry| entry.volume.unwrap().volume_id));
                    if answer.next_token.is_empty() {
                        return ids;
                    }
                    assert_ne!(answer.next_token, token, "it goes in circles");
                    token = answer.next_token;
                }
            }
        }
    };
}

calls! {
    create, ControllerClient, create_volume, CreateVolumeRequest, CreateVolumeResponse;
    delete_volume, ControllerClient, delete_volume, DeleteVolumeRequest, DeleteVolumeResponse;
    validate, ControllerClient, validate_volume_capabilities, ValidateVolumeCapabilitiesRequest, ValidateVolumeCapabilitiesResponse;
    list, ControllerClient, list_volumes, ListVolumesRequest, ListVolumesResponse;
    get_volume, ControllerClient, controller_get_volume, ControllerGetVolumeRequest, ControllerGetVolumeResponse;
    capacity, ControllerClient, get_capacity, GetCapacityRequest, GetCapacityResponse;
    publish, NodeClient, node_publish_volume, NodePublishVolumeRequest, NodePublishVolumeResponse;
    unpublish_volume, NodeClient, node_unpublish_volume, NodeUnpublishVolumeRequest, NodeUnpublishVolumeResponse;
    stats, NodeClient, node_get_volume_stats, NodeGetVolumeStatsRequest, NodeGetVolumeStatsResponse;
    expand, NodeClient, node_expand_volume, NodeExpandVolumeRequest, NodeExpandVolumeResponse;
    node_info, NodeClient, node_get_info, NodeGetInfoRequest, NodeGetInfoResponse;
    probe, IdentityClient, probe, ProbeRequest, ProbeResponse;
}

impl Calls for Client {
    fn through(&mut self) -> &mut Client {
        self
    }
}

impl Calls for Rig {
    fn through(&mut self) -> &mut Client {
        let socket = self.scratch.path().join("csi.sock");
        self.client.get_or_insert_with(|| Client::of(&socket))
    }
}

/// A driver process besides the rig's own; it ends when this is dropped.
pub struct Another {
    driver: Child,
    client: Client,
}

impl Another {
    pub(super) fn start(mut command: Command, socket: &Path) -> Self {
        let mut another = Self { driver: command.spawn().unwrap(), client: Client::of(socket) };
        let deadline = Instant::now() + Duration::from_secs(20);
        while another.probe(ProbeRequest {}).result.is_err() {
            assert!(Instant::now() < deadline, "the second driver did not start");
            another.client = Client::of(socket);
            std::thread::sleep(Duration::from_millis(5));
        }
        another
    }
}

impl Calls for Another {
    fn through(&mut self) -> &mut Client {
        &mut self.client
    }
}

impl Drop for Another {
    fn drop(&mut self) {
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
