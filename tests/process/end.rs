//! The end: in bounded time, whatever clients hold open.

use std::time::{Duration, Instant};

use berth::csi::controller_client::ControllerClient;
use berth::csi::identity_client::IdentityClient;
use berth::csi::{DeleteVolumeRequest, ListVolumesRequest, ProbeRequest, ProbeResponse};
use nix::sys::signal::Signal;
use tonic::Request;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic_prost::ProstCodec;

use crate::driver::{Scratch, call, channel, create};

/// Grace and a margin for a busy machine.
const BOUND: Duration = Duration::from_secs(8);

/// A root with its directories laid out, so that what follows is slow only where it is meant to be.
fn used() -> Scratch {
    let scratch = Scratch::new();
    let mut driver = scratch.start(&mut scratch.local());
    call(&scratch.socket(), |channel| async move {
        ControllerClient::new(channel).create_volume(create("before")).await.unwrap();
    });
    driver.stop();
    scratch
}

#[test]
fn sigterm_and_sigint_end_it_at_once_with_a_connection_open() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let scratch = Scratch::new();
        let mut driver = scratch.start(&mut scratch.local());
        call(&scratch.socket(), |channel| async {
            let mut client = IdentityClient::new(channel);
            client.probe(ProbeRequest {}).await.unwrap();
            let began = Instant::now();
            driver.signal(signal);
            // The client's side of the connection has to run for the two to part in order.
            let ended = tokio::task::spawn_blocking(move || driver.end()).await.unwrap();
            assert!(ended.success(), "{ended}");
            assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
            assert!(client.probe(ProbeRequest {}).await.is_err());
        });
        assert_eq!(scratch.left(), [""; 0]);
    }
}

#[test]
fn a_client_that_does_not_even_speak_does_not_hold_up_the_end() {
    let scratch = Scratch::new();
    let mut driver = scratch.start(&mut scratch.local());
    let _silent = std::os::unix::net::UnixStream::connect(scratch.socket()).unwrap();
    assert!(scratch.answers());
    let took = driver.stop();
    assert!(took < BOUND, "{took:?}");
    assert_eq!(scratch.left(), [""; 0]);
}

#[test]
fn a_stream_that_is_held_open_ends_with_the_process() {
    let scratch = Scratch::new();
    let mut driver = scratch.start(&mut scratch.local());
    call(&scratch.socket(), |_| async {
        // A call whose request never comes: its headers are sent, and the stream stays open.
        let mut client = Grpc::new(channel(&scratch.socket()));
        client.ready().await.unwrap();
        let held = tokio::spawn(async move {
            let path = PathAndQuery::from_static("/csi.v1.Identity/Probe");
            let nothing = tokio_stream::pending::<ProbeRequest>();
            let codec = ProstCodec::<ProbeRequest, ProbeResponse>::default();
            client.client_streaming(Request::new(nothing), path, codec).await.map(drop)
        });
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(!held.is_finished());
        let took = tokio::task::spawn_blocking(move || driver.stop()).await.unwrap();
        assert!(took < BOUND, "{took:?}");
        assert!(held.await.unwrap().is_err());
    });
    assert_eq!(scratch.left(), [""; 0]);
}

#[test]
fn a_call_that_is_at_work_is_still_answered() {
    let scratch = used();
    let mut driver = scratch.start(&mut scratch.local_slowed("renameat,renameat2:delay_enter=1500ms"));
    call(&scratch.socket(), |channel| async {
        let answer =
            tokio::spawn(async move { ControllerClient::new(channel).create_volume(create("v")).await });
        tokio::time::sleep(Duration::from_millis(700)).await;
        let took = tokio::task::spawn_blocking(move || driver.stop()).await.unwrap();
        assert!(took > Duration::from_millis(300) && took < BOUND, "{took:?}");
        assert_eq!(answer.await.unwrap().unwrap().into_inner().volume.unwrap().volume_id, "node-1/main/v");
    });
    assert_eq!(scratch.left(), [""; 0]);
}

#[test]
fn a_call_that_is_stuck_does_not_hold_up_the_end_and_a_repetition_finishes_it() {
    let scratch = used();
    let mut driver = scratch.start(&mut scratch.local_slowed("renameat,renameat2:delay_enter=60s"));
    let delete = || DeleteVolumeRequest { volume_id: "node-1/main/before".into(), ..Default::default() };
    call(&scratch.socket(), |channel| async {
        let stuck = tokio::spawn(async move { ControllerClient::new(channel).delete_volume(delete()).await });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!stuck.is_finished());
        let took = tokio::task::spawn_blocking(move || driver.stop_under_strace()).await.unwrap();
        assert!(took < BOUND, "{took:?}");
        // The connection broke off: the caller knows nothing, and asks again.
        assert!(stuck.await.unwrap().is_err());
    });
    assert_eq!(scratch.left(), [""; 0]);
    let _driver = scratch.start(&mut scratch.local());
    call(&scratch.socket(), |channel| async move {
        let mut controller = ControllerClient::new(channel);
        controller.delete_volume(delete()).await.unwrap();
        let volumes = controller.list_volumes(ListVolumesRequest::default()).await.unwrap().into_inner();
        assert_eq!(volumes.entries, []);
    });
}
