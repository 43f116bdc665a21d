//! One gRPC call of any method, whose messages pass as bytes: the types are known to the harness only.

use std::io;
use std::time::Duration;

use prost::bytes::{Buf as _, BufMut as _};
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Endpoint;
use tonic::{Request, Status};

use crate::wire::Answer;

/// Neither encodes nor decodes.
#[derive(Default)]
struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, message: Vec<u8>, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put_slice(&message);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut message = vec![0; from.remaining()];
        from.copy_to_slice(&mut message);
        Ok(Some(message))
    }
}

/// Calls the method at `path` of the server at a socket. The server is told the limit, as the sidecars and kubelet tell it.
pub fn call(socket: &str, path: &str, message: Vec<u8>, limit: Duration) -> (Answer, Vec<u8>) {
    let called = || -> io::Result<Result<Vec<u8>, Status>> {
        let endpoint = Endpoint::from_shared(format!("unix://{socket}")).map_err(io::Error::other)?;
        let path = path.parse().map_err(io::Error::other)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let reply = async {
                // The one code that no driver of ours answers: it means that nobody is there.
                let away = |error| Status::unavailable(format!("connect to {socket}: {error}"));
                let channel = endpoint.connect().await.map_err(away)?;
                let mut grpc = Grpc::new(channel).max_decoding_message_size(1 << 30);
                grpc.ready().await.map_err(away)?;
                let mut request = Request::new(message);
                request.set_timeout(limit);
                grpc.unary(request, path, Bytes).await.map(tonic::Response::into_inner)
            };
            let late = |_| Err(Status::deadline_exceeded("the caller gave up"));
            Ok(tokio::time::timeout(limit, reply).await.unwrap_or_else(late))
        })
    };
    match called() {
        Ok(Ok(reply)) => (Answer::Done, reply),
        Ok(Err(status)) => {
            let (code, message) = (status.code() as i32, status.message().to_string());
            (Answer::Status { code, message }, Vec::new())
        }
        Err(error) => (Answer::Failed { why: format!("call {path} at {socket}: {error}") }, Vec::new()),
    }
}
