//! What `berth` says of itself, and to those who call it wrongly.

use std::collections::BTreeSet;
use std::fs;

use berth::csi::controller_client::ControllerClient;
use berth::csi::identity_client::IdentityClient;
use berth::csi::node_client::NodeClient;
use berth::csi::*;
use berth::registration::wire::InfoRequest;
use berth::registration::wire::registration_client::RegistrationClient;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use tonic::Code;

use crate::driver::{ENVIRONMENT, Scratch, call, create, read_write_once, refused, run};

#[test]
fn help_and_version_teach() {
    let scratch = Scratch::new();
    let (code, out, err) = run(scratch.berth().arg("--version"));
    assert_eq!((code, out, err.as_str()), (Some(0), format!("berth {}\n", env!("CARGO_PKG_VERSION")), ""));

    let (code, out, err) = run(scratch.berth().arg("--help"));
    assert_eq!((code, err.as_str()), (Some(0), ""));
    for words in [
        "CSI driver",
        "access modes",
        "Usage: berth <COMMAND>",
        "local",
        "probe  Ask a driver whether it is there",
    ] {
        assert!(out.contains(words), "{words:?} is not in {out}");
    }

    let (code, out, err) = run(scratch.berth().args(["local", "--help"]));
    assert_eq!((code, err.as_str()), (Some(0), ""));
    for words in
        ["Examples:", "--root ssd=/mnt/ssd", "NAME=DIRECTORY[,plain]", "0600", "unix:///run/berth/csi.sock"]
    {
        assert!(out.contains(words), "{words:?} is not in {out}");
    }
}

#[test]
fn whoever_says_nothing_is_told_what_could_be_said() {
    let (code, err) = refused(&mut Scratch::new().berth());
    assert_eq!(code, Some(2));
    assert!(err.contains("Usage: berth <COMMAND>") && err.contains("local"), "{err}");
}

#[test]
fn every_flag_has_a_name_in_the_environment() {
    let (_, help, _) = run(Scratch::new().berth().args(["local", "--help"]));
    let is_flag = |line: &&str| line.trim_start().starts_with("--") && !line.contains("--help");
    let names: BTreeSet<&str> =
        help.lines().filter_map(|line| line.trim().strip_prefix("[env: ")?.strip_suffix("=]")).collect();
    assert_eq!(
        help.lines().take_while(|line| *line != "Examples:").filter(is_flag).count(),
        names.len(),
        "{help}"
    );
    assert_eq!(names, BTreeSet::from(ENVIRONMENT));
}

#[test]
fn every_flag_takes_effect_from_the_environment() {
    // A publication is a mount, which nobody else shall see.
    unshare(CloneFlags::CLONE_NEWNS)
        .expect("a mount namespace of its own: run as root, or with make check as an unprivileged user");
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
    let scratch = Scratch::new();
    let root = |name: &str| format!("{name}={},plain", scratch.path(name).display());
    fs::create_dir(scratch.path("other")).unwrap();
    let run_dir = scratch.path("notes");
    let mut command = scratch.berth();
    command.arg("local").env("CSI_ENDPOINT", format!("unix://{}", scratch.socket().display()));
    command.env("BERTH_NODE_ID", "node-e").env("BERTH_ROOTS", format!("{} {}", root("root"), root("other")));
    command.env("BERTH_DRIVER_NAME", "e.example.com").env("BERTH_SERVICES", "identity,controller,node");
    command.env("BERTH_RUN_DIR", &run_dir).env("BERTH_MAX_VOLUMES", "17");
    command.env("BERTH_KUBELET_REGISTRATION_PATH", "/k/csi.sock");
    command.env("BERTH_KUBELET_REGISTRY", scratch.path("registry"));
    command.env("BERTH_LOG_FORMAT", "json").env("BERTH_LOG_LEVEL", "debug");
    let mut driver = scratch.start(&mut command);

    let target = scratch.path("target");
    let publish = |volume_id: String| NodePublishVolumeRequest {
        volume_id,
        target_path: target.display().to_string(),
        volume_capability: Some(read_write_once()),
        ..Default::default()
    };
    call(&scratch.socket(), |channel| async move {
        let plugin = IdentityClient::new(channel.clone()).get_plugin_info(GetPluginInfoRequest {}).await;
        assert_eq!(plugin.unwrap().into_inner().name, "e.example.com");
        let node = NodeClient::new(channel.clone()).node_get_info(NodeGetInfoRequest {}).await;
        let node = node.unwrap().into_inner();
        assert_eq!((node.node_id.as_str(), node.max_volumes_per_node), ("node-e", 17));
        let in_other =
            CreateVolumeRequest { parameters: [("root".into(), "other".into())].into(), ..create("v") };
        let created = ControllerClient::new(channel.clone()).create_volume(in_other).await;
        let id = created.unwrap().into_inner().volume.unwrap().volume_id;
        assert_eq!(id, "node-e/other/v");
        NodeClient::new(channel).node_publish_volume(publish(id)).await.unwrap();
    });
    let plugin = call(&scratch.path("registry").join("e.example.com-reg.sock"), |channel| async move {
        RegistrationClient::new(channel).get_info(InfoRequest {}).await.unwrap().into_inner()
    });
    assert_eq!((plugin.name.as_str(), plugin.endpoint.as_str()), ("e.example.com", "/k/csi.sock"));
    assert!(run_dir.is_dir(), "nothing is noted in the run directory");
    umount2(&target, MntFlags::MNT_DETACH).unwrap();
    driver.stop();
    let log = scratch.log();
    assert!(log.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{log}");
    assert!(log.contains(r#""level":"DEBUG""#), "{log}");

    // Services last: with fewer of them there would have been nothing to ask for the rest.
    let _driver = scratch.start(command.env("BERTH_SERVICES", "node"));
    let answer = call(&scratch.socket(), |channel| async move {
        ControllerClient::new(channel).create_volume(create("v")).await
    });
    assert_eq!(answer.unwrap_err().code(), Code::Unimplemented);
}

#[test]
fn a_flag_wins_over_the_environment() {
    let scratch = Scratch::new();
    let _driver = scratch.start(scratch.local().env("BERTH_NODE_ID", "other"));
    let node = call(&scratch.socket(), |channel| async move {
        NodeClient::new(channel).node_get_info(NodeGetInfoRequest {}).await.unwrap().into_inner()
    });
    assert_eq!(node.node_id, "node-1");
}

#[test]
fn what_is_wrong_is_refused_with_what_would_be_right_and_nothing_is_left_behind() {
    let too_long = format!("unix:///tmp/{}", "x".repeat(108));
    let long_name = "x".repeat(64);
    // What is added to a command line that is right, the exit code, and words of the answer. 2: the usage is wrong.
    let wrong: &[(&[&str], i32, &[&str])] = &[
        (&["--rot", "a=/b"], 2, &["--rot", "--root"]),
        (&["--root", "a"], 2, &["NAME=DIRECTORY[,plain]"]),
        (&["--root", "a=b"], 2, &["\"b\" is no absolute path"]),
        (&["--root", "A=/b"], 2, &["\"A\" is no name of a root"]),
        (&["--root", "a=/b,plane"], 2, &["plane", "NAME=DIRECTORY[,plain]"]),
        (&["--root", "main=/b"], 1, &["--root", "main is given twice"]),
        (&["--root", "a=/b", "--root", "c=/b/d"], 1, &["--root", "c (/b/d) lies in a (/b)"]),
        (&["--node-id", ""], 1, &["--node-id", "is empty"]),
        (
            &["--endpoint", "tcp://127.0.0.1:9000"],
            1,
            &["--endpoint", "no unix socket", "unix:///run/berth/csi.sock"],
        ),
        (&["--endpoint", "csi.sock"], 1, &["--endpoint", "no unix socket"]),
        (&["--endpoint", &too_long], 1, &["--endpoint", "107 bytes"]),
        (&["--endpoint", "unix:///dev/null/csi.sock"], 1, &["/dev/null/csi.sock", "Not a directory"]),
        (&["--driver-name", ""], 1, &["--driver-name", "domain name"]),
        (&["--driver-name", "a b"], 1, &["--driver-name", "\"a b\"", "domain name"]),
        (&["--driver-name", "a.example.com."], 1, &["--driver-name", "domain name"]),
        (&["--driver-name", &long_name], 1, &["--driver-name", "63 characters"]),
        (&["--services", "nodes"], 2, &["\"nodes\" is none of identity, controller, node"]),
        (&["--max-volumes=-1"], 2, &["--max-volumes", "-1"]),
        (&["--kubelet-registration-path", "csi.sock"], 1, &["\"csi.sock\" is no absolute path"]),
        (&["--kubelet-registration-path", "unix:///csi.sock"], 1, &["no absolute path"]),
        (
            &["--kubelet-registration-path", "/csi.sock", "--services", "controller"],
            1,
            &["--kubelet-registration-path", "the node service"],
        ),
        (
            &["--kubelet-registration-path", "/csi.sock", "--kubelet-registry", "/dev/null/registry"],
            1,
            &["/dev/null/registry", "Not a directory"],
        ),
        (&["--log-format", "xml"], 2, &["xml", "text, json"]),
        (&["--log-level", "loud"], 2, &["loud", "error, warn, info, debug, trace"]),
        // It would hide why a process can't start.
        (&["--log-level", "off"], 2, &["off", "error, warn, info, debug, trace"]),
    ];
    for (added, exit, words) in wrong {
        let scratch = Scratch::new();
        // A flag that is given twice: the last one would be an error of its own.
        let mut command = scratch.berth();
        command.arg("local");
        for (flag, value) in [
            ("--endpoint", format!("unix://{}", scratch.socket().display())),
            ("--node-id", "node-1".into()),
            ("--driver-name", "local.example.com".into()),
            ("--run-dir", scratch.path("run").display().to_string()),
        ] {
            if !added.contains(&flag) {
                command.args([flag, &value]);
            }
        }
        command.arg("--root").arg(format!("main={}", scratch.path("root").display()));
        let (code, err) = refused(command.args(*added));
        assert_eq!(code, Some(*exit), "{added:?}: {err}");
        for word in *words {
            assert!(err.contains(word), "{added:?}: {word:?} is not in {err}");
        }
        assert_eq!(scratch.left(), [""; 0], "{added:?}");
    }
}

#[test]
fn a_flag_that_is_needed_is_asked_for() {
    let scratch = Scratch::new();
    let (code, err) = refused(scratch.berth().args(["local", "--root", "a=/b"]));
    assert!(code == Some(2) && err.contains("--node-id"), "{err}");
    let (code, err) = refused(scratch.berth().args(["local", "--node-id", "n"]));
    assert!(code == Some(2) && err.contains("--root"), "{err}");
}
