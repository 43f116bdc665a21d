//! Registration with the kubelet, which is played here: its directory, and its calls.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use berth::csi::NodeGetInfoRequest;
use berth::csi::controller_client::ControllerClient;
use berth::csi::node_client::NodeClient;
use berth::registration::wire::registration_client::RegistrationClient;
use berth::registration::wire::{InfoRequest, PluginInfo, RegistrationStatus};
use nix::sys::signal::Signal;

use crate::driver::{Scratch, call, create, refused};

/// As the kubelet sees it, which is elsewhere than the driver does.
const ENDPOINT: &str = "/var/lib/kubelet/plugins/local.berth.dev/csi.sock";

struct Kubelet<'a>(&'a Scratch);

impl Kubelet<'_> {
    fn directory(&self) -> PathBuf {
        self.0.path("plugins_registry")
    }

    fn socket(&self) -> PathBuf {
        self.directory().join("local.berth.dev-reg.sock")
    }

    /// A driver that shall register here.
    fn with(&self, mut command: Command) -> Command {
        command.args(["--kubelet-registration-path", ENDPOINT, "--kubelet-registry"]).arg(self.directory());
        command
    }

    fn local(&self) -> Command {
        self.with(self.0.local())
    }

    /// What lies in its directory.
    fn left(&self) -> Vec<String> {
        let entries = fs::read_dir(self.directory()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// Waits until somebody listens at the socket.
    fn wait(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while UnixStream::connect(self.socket()).is_err() {
            assert!(Instant::now() < deadline, "nobody registers:\n{}", self.0.log());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn ask(&self) -> PluginInfo {
        call(&self.socket(), |channel| async move {
            RegistrationClient::new(channel).get_info(InfoRequest {}).await.unwrap().into_inner()
        })
    }

    fn tell(&self, error: &str) {
        let status = RegistrationStatus { plugin_registered: error.is_empty(), error: error.into() };
        call(&self.socket(), |channel| async move {
            RegistrationClient::new(channel).notify_registration_status(status).await.unwrap();
        });
    }
}

fn info() -> PluginInfo {
    PluginInfo {
        r#type: "CSIPlugin".into(),
        name: "local.berth.dev".into(),
        endpoint: ENDPOINT.into(),
        supported_versions: vec!["1.0.0".into()],
    }
}

#[test]
fn the_kubelet_is_told_who_serves_csi_and_where_as_soon_as_it_is_served() {
    let scratch = Scratch::new();
    let kubelet = Kubelet(&scratch);
    // What the driver binds is held up, so that whatever is too early would be seen.
    let _driver = scratch.spawn(&mut kubelet.with(scratch.local_slowed("bind:delay_enter=500ms")));
    kubelet.wait();
    // The kubelet's next call, with no second try.
    let node = call(&scratch.socket(), |channel| async move {
        NodeClient::new(channel).node_get_info(NodeGetInfoRequest {}).await.unwrap().into_inner()
    });
    assert_eq!(node.node_id, "node-1");
    assert_eq!(kubelet.ask(), info());
    assert_eq!(fs::metadata(kubelet.socket()).unwrap().permissions().mode() & 0o777, 0o600);
    kubelet.tell("");
    scratch.wait_for_log("registered with the kubelet");
}

#[test]
fn without_the_flag_there_is_no_registration() {
    let scratch = Scratch::new();
    let mut command = scratch.local();
    let _driver = scratch.start(command.arg("--kubelet-registry").arg(Kubelet(&scratch).directory()));
    std::thread::sleep(Duration::from_millis(500));
    assert!(!Kubelet(&scratch).directory().exists());
}

#[test]
fn when_it_is_told_to_end_the_kubelet_is_the_first_to_know() {
    let scratch = Scratch::new();
    let kubelet = Kubelet(&scratch);
    let slowed = scratch.local_slowed("renameat,renameat2:delay_enter=1500ms");
    let mut driver = scratch.start(&mut kubelet.with(slowed));
    kubelet.wait();
    call(&scratch.socket(), |channel| async {
        let answer =
            tokio::spawn(async move { ControllerClient::new(channel).create_volume(create("v")).await });
        tokio::time::sleep(Duration::from_millis(500)).await;
        driver.signal(Signal::SIGTERM);
        let told = Instant::now();
        while kubelet.socket().exists() {
            assert!(told.elapsed() < Duration::from_secs(10), "the socket stays");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // The call is at work still, and is answered.
        assert!(!answer.is_finished());
        answer.await.unwrap().unwrap();
    });
    assert!(driver.end().success());
    assert_eq!(kubelet.left(), [""; 0]);
    assert_eq!(scratch.left(), ["plugins_registry"]);
}

#[test]
fn a_socket_that_a_killed_driver_left_is_taken_over() {
    let scratch = Scratch::new();
    let kubelet = Kubelet(&scratch);
    let mut driver = scratch.start(&mut kubelet.local());
    kubelet.wait();
    // A second name keeps the inode from being given to the next socket.
    fs::hard_link(kubelet.socket(), scratch.path("first")).unwrap();
    driver.signal(Signal::SIGKILL);
    driver.end();
    assert!(kubelet.socket().exists() && UnixStream::connect(kubelet.socket()).is_err());

    let mut driver = scratch.start(&mut kubelet.local());
    kubelet.wait();
    let inode = |path: PathBuf| fs::metadata(path).unwrap().ino();
    // A new socket: this is what the kubelet watches for.
    assert_ne!(inode(kubelet.socket()), inode(scratch.path("first")));
    assert_eq!(kubelet.ask(), info());
    driver.stop();
    assert_eq!(kubelet.left(), [""; 0]);
}

#[test]
fn a_socket_that_somebody_removes_is_made_anew() {
    let scratch = Scratch::new();
    let kubelet = Kubelet(&scratch);
    let mut driver = scratch.start(&mut kubelet.local());
    kubelet.wait();
    assert_eq!(kubelet.ask(), info());
    // The socket alone, all that is in the directory, and the directory.
    fs::remove_file(kubelet.socket()).unwrap();
    kubelet.wait();
    assert_eq!(kubelet.ask(), info());
    kubelet.left().iter().for_each(|name| fs::remove_file(kubelet.directory().join(name)).unwrap());
    kubelet.wait();
    assert_eq!(kubelet.ask(), info());
    fs::remove_dir_all(kubelet.directory()).unwrap();
    kubelet.wait();
    assert_eq!(kubelet.ask(), info());
    assert_eq!(scratch.log().matches("was taken away").count(), 3, "{}", scratch.log());
    driver.stop();
    assert_eq!(kubelet.left(), [""; 0]);
}

#[test]
fn a_refusal_is_told_in_the_kubelets_words_and_the_next_try_is_answered() {
    let scratch = Scratch::new();
    let kubelet = Kubelet(&scratch);
    let _driver = scratch.start(&mut kubelet.local());
    kubelet.wait();
    for _ in 0..2 {
        assert_eq!(kubelet.ask(), info());
        kubelet.tell("no such node\nINFO forged");
    }
    assert_eq!(kubelet.ask(), info());
    kubelet.tell("");
    scratch.wait_for_log("registered with the kubelet");
    let log = scratch.log();
    let refusals: Vec<&str> = log.lines().filter(|line| line.contains("refuses to register")).collect();
    assert_eq!(refusals.len(), 2, "{log}");
    for line in refusals {
        assert!(line.contains(" WARN ") && line.contains(r#"error="no such node\nINFO forged""#), "{line}");
    }
    assert!(scratch.answers());
}

#[test]
fn a_second_driver_of_that_name_is_refused_and_the_first_stays_registered() {
    let scratch = Scratch::new();
    let kubelet = Kubelet(&scratch);
    let mut first = scratch.start(&mut kubelet.local());
    kubelet.wait();
    let endpoint = format!("unix://{}", scratch.path("other.sock").display());
    let root = format!("main={},plain", scratch.path("root").display());
    let mut second = scratch.berth();
    second.args(["local", "--node-id", "node-1", "--endpoint", &endpoint, "--root", &root]);
    second.arg("--run-dir").arg(scratch.path("run"));
    let (code, err) = refused(&mut kubelet.with(second));
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("--kubelet-registry: another process serves"), "{err}");
    assert_eq!(kubelet.ask(), info());
    first.stop();
    assert_eq!(kubelet.left(), [""; 0]);
}

#[test]
fn in_the_end_what_another_process_put_there_stays() {
    let scratch = Scratch::new();
    let kubelet = Kubelet(&scratch);
    let mut driver = scratch.start(&mut kubelet.local());
    kubelet.wait();
    fs::remove_file(kubelet.socket()).unwrap();
    let _another = UnixListener::bind(kubelet.socket()).unwrap();
    scratch.wait_for_log("the kubelet can't find this driver");
    assert!(scratch.log().contains("another process serves"), "{}", scratch.log());
    driver.stop();
    assert_eq!(kubelet.left(), ["local.berth.dev-reg.sock"]);
    assert!(UnixStream::connect(kubelet.socket()).is_ok());
}

#[test]
fn where_no_kubelet_asks_the_log_says_so_once() {
    let (forgotten, asked) = (Scratch::new(), Scratch::new());
    let _drivers = [&forgotten, &asked].map(|scratch| scratch.start(&mut Kubelet(scratch).local()));
    let began = Instant::now();
    Kubelet(&asked).wait();
    assert_eq!(Kubelet(&asked).ask(), info());
    forgotten.wait_for_log("no kubelet has asked");
    assert!(began.elapsed() > Duration::from_secs(8), "{:?}", began.elapsed());
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(forgotten.log().matches("no kubelet has asked").count(), 1, "{}", forgotten.log());
    assert!(!asked.log().contains("no kubelet has asked"), "{}", asked.log());
}
