//! The log: one line for each call, and never a secret.

use std::time::Duration;

use berth::csi::controller_client::ControllerClient;
use berth::csi::identity_client::IdentityClient;
use berth::csi::node_client::NodeClient;
use berth::csi::volume_capability::{AccessType, MountVolume};
use berth::csi::*;
use tonic::{Code, Request};

use crate::driver::{Scratch, call, create, read_write_once};

/// Four calls, two of which fail.
fn four_calls(scratch: &Scratch) {
    call(&scratch.socket(), |channel| async move {
        let (mut controller, mut node) =
            (ControllerClient::new(channel.clone()), NodeClient::new(channel.clone()));
        controller.create_volume(create("v")).await.unwrap();
        let nameless = controller.create_volume(create("")).await.unwrap_err();
        assert_eq!(nameless.code(), Code::InvalidArgument);
        node.node_get_info(NodeGetInfoRequest {}).await.unwrap();
        let stats = NodeGetVolumeStatsRequest {
            volume_id: "node-1/main/v\nINFO rpc=\"forged\"".into(),
            volume_path: "/dev/null".into(),
            ..Default::default()
        };
        assert_eq!(node.node_get_volume_stats(stats).await.unwrap_err().code(), Code::NotFound);
    });
}

#[test]
fn each_call_is_one_line_of_text() {
    let scratch = Scratch::new();
    let mut driver = scratch.start(&mut scratch.local());
    four_calls(&scratch);
    driver.stop();
    let log = scratch.log();
    let calls: Vec<&str> =
        log.lines().filter(|line| line.contains("rpc=\"") && !line.contains("\"Probe\"")).collect();
    assert_eq!(calls.len(), 4, "{log}");
    for (line, words) in calls.iter().zip([
        [r#"rpc="CreateVolume""#, r#"volume="v""#, r#"code="Ok""#],
        [r#"rpc="CreateVolume""#, r#"volume="""#, r#"code="InvalidArgument""#],
        [r#"rpc="NodeGetInfo""#, r#"volume="""#, r#"code="Ok""#],
        // What a caller writes can't make a line of its own.
        [
            r#"rpc="NodeGetVolumeStats""#,
            r#"volume="node-1/main/v\nINFO rpc=\"forged\""#,
            r#"code="NotFound""#,
        ],
    ]) {
        assert!(words.iter().all(|word| line.contains(word)), "{words:?}: {line}");
        assert!(line.contains(" INFO "), "{line}");
        let (_, millis) = line.split_once("millis=").unwrap();
        let millis: f64 = millis.split(' ').next().unwrap().parse().unwrap();
        assert!(millis > 0.0 && millis < 10_000.0, "{line}");
    }
    assert!(calls[1].contains("name: is missing"), "{}", calls[1]);
}

#[test]
fn each_call_is_one_object_of_json() {
    let scratch = Scratch::new();
    let mut driver = scratch.start(scratch.local().args(["--log-format", "json"]));
    four_calls(&scratch);
    driver.stop();
    let log = scratch.log();
    let lines: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let calls: Vec<_> =
        lines.iter().filter(|line| line["rpc"].is_string() && line["rpc"] != "Probe").collect();
    let read = |key: &str| calls.iter().map(|call| call[key].as_str().unwrap_or("?")).collect::<Vec<_>>();
    assert_eq!(read("rpc"), ["CreateVolume", "CreateVolume", "NodeGetInfo", "NodeGetVolumeStats"]);
    assert_eq!(read("volume"), ["v", "", "", "node-1/main/v\nINFO rpc=\"forged\""]);
    assert_eq!(read("code"), ["Ok", "InvalidArgument", "Ok", "NotFound"]);
    assert_eq!(read("level"), ["INFO"; 4]);
    assert!(calls.iter().all(|call| call["millis"].as_f64().is_some_and(|millis| millis > 0.0)), "{log}");
}

#[test]
fn no_level_of_the_log_shows_a_secret() {
    const SECRET: &str = "pa55w0rd";
    for level in ["info", "debug", "trace"] {
        for format in ["text", "json"] {
            let scratch = Scratch::new();
            let flags = ["--log-level", level, "--log-format", format];
            let mut driver = scratch.start(scratch.local().args(flags));
            call(&scratch.socket(), |channel| async move {
                let secrets = || [("password".to_string(), SECRET.to_string())].into();
                let (mut controller, mut node) =
                    (ControllerClient::new(channel.clone()), NodeClient::new(channel.clone()));
                let request = CreateVolumeRequest { secrets: secrets(), ..create("v") };
                let volume = controller.create_volume(request).await.unwrap().into_inner().volume.unwrap();
                // A flag of a mount, which can't take effect, and may hold a credential.
                let mut capability = read_write_once();
                let flags = vec![format!("password={SECRET}")];
                capability.access_type =
                    Some(AccessType::Mount(MountVolume { mount_flags: flags, ..Default::default() }));
                let request = NodePublishVolumeRequest {
                    volume_id: volume.volume_id.clone(),
                    target_path: "/dev/null/target".into(),
                    volume_capability: Some(capability),
                    secrets: secrets(),
                    ..Default::default()
                };
                let refused = node.node_publish_volume(request).await.unwrap_err();
                assert_eq!(refused.code(), Code::InvalidArgument);
                assert!(
                    refused.message().contains("password") && !refused.message().contains(SECRET),
                    "{refused}"
                );
                let request = DeleteVolumeRequest { volume_id: volume.volume_id, secrets: secrets() };
                controller.delete_volume(request).await.unwrap();
            });
            driver.stop();
            let log = scratch.log();
            assert!(log.contains("DeleteVolume"), "{log}");
            assert!(!log.contains(SECRET), "{level}, {format}: {log}");
            // Debug shows the request, and that there were secrets.
            assert_eq!(log.contains("<1 redacted>"), level != "info", "{level}, {format}: {log}");
        }
    }
}

#[test]
fn a_caller_that_goes_away_is_told_of_and_nothing_is_created_for_it() {
    let scratch = Scratch::new();
    let mut driver = scratch.start(&mut scratch.local());
    call(&scratch.socket(), |channel| async move {
        ControllerClient::new(channel).create_volume(create("before")).await.unwrap();
    });
    driver.stop();
    // The first sync of a creation is that of its record's content; the record is won after it.
    let _driver = scratch.start(&mut scratch.local_slowed("fsync,fdatasync:delay_enter=2s"));
    let ids = call(&scratch.socket(), |channel| async move {
        let mut controller = ControllerClient::new(channel);
        let mut request = Request::new(create("v"));
        request.set_timeout(Duration::from_secs(1));
        controller.create_volume(request).await.unwrap_err();
        scratch.wait_for_log("the caller gave up");
        let log = scratch.log();
        let line = log.lines().find(|line| line.contains("the caller gave up")).unwrap();
        assert!(line.contains(r#"rpc="CreateVolume" volume="v" code="Aborted""#), "{line}");
        // Long enough for the creation to come to where it asks whether it is still wanted.
        tokio::time::sleep(Duration::from_secs(4)).await;
        let volumes = controller.list_volumes(ListVolumesRequest::default()).await.unwrap().into_inner();
        volumes.entries.into_iter().map(|entry| entry.volume.unwrap().volume_id).collect::<Vec<_>>()
    });
    assert_eq!(ids, ["node-1/main/before"]);
}

#[test]
fn a_probe_that_is_answered_well_is_a_line_of_debug() {
    for (level, lines) in [("info", 0), ("debug", 1)] {
        let scratch = Scratch::new();
        let mut driver = scratch.spawn(scratch.local().args(["--log-level", level]));
        scratch.wait_for_log("serving");
        call(&scratch.socket(), |channel| async move {
            IdentityClient::new(channel).probe(ProbeRequest {}).await.unwrap();
        });
        driver.stop();
        let log = scratch.log();
        assert_eq!(log.matches(r#"rpc="Probe" volume="" code="Ok""#).count(), lines, "{log}");
    }
}
