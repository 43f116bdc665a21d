//! `berth probe`: yes with 0, no with 1, and in time.

use std::future::Future;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use berth::csi::controller_client::ControllerClient;
use berth::csi::identity_server::{Identity, IdentityServer};
use berth::csi::*;
use nix::sys::signal::Signal;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};

use crate::driver::{Scratch, call, create, run};

/// Asks whoever is at a path: the exit code, what is said, and how long it took.
fn probe(scratch: &Scratch, path: &Path, seconds: u64) -> (Option<i32>, String, String, Duration) {
    let endpoint = format!("unix://{}", path.display());
    let mut command = scratch.berth();
    command.args(["probe", "--endpoint", &endpoint, "--timeout", &seconds.to_string()]);
    let began = Instant::now();
    let (code, out, err) = run(&mut command);
    (code, out, err, began.elapsed())
}

/// A refusal within that time, in one line with these words.
fn says_no(scratch: &Scratch, path: &Path, seconds: u64, words: &str) {
    let (code, out, err, took) = probe(scratch, path, seconds);
    assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
    let about = format!("berth probe: {}: ", path.display());
    assert!(err.starts_with(&about) && err.contains(words) && err.lines().count() == 1, "{err}");
    assert!(took < Duration::from_secs(seconds + 2), "{took:?}");
}

#[test]
fn a_driver_that_serves_is_named() {
    let scratch = Scratch::new();
    let mut driver = scratch.start(&mut scratch.local());
    let expected = format!("local.berth.dev {}: ready\n", env!("CARGO_PKG_VERSION"));
    let (code, out, err, took) = probe(&scratch, &scratch.socket(), 5);
    assert_eq!((code, &out, err.as_str()), (Some(0), &expected, ""));
    // Two calls; on a busy machine the start of a process takes some time.
    assert!(took < Duration::from_secs(2), "{took:?}");
    // As a container has it: the socket in the environment.
    let (code, out, _) = run(scratch.berth().arg("probe").env("CSI_ENDPOINT", scratch.socket()));
    assert_eq!((code, out), (Some(0), expected));
    driver.stop();
    says_no(&scratch, &scratch.socket(), 5, "No such file or directory");
}

#[test]
fn where_nobody_listens_the_answer_is_no() {
    let scratch = Scratch::new();
    drop(UnixListener::bind(scratch.socket()).unwrap());
    says_no(&scratch, &scratch.socket(), 5, "Connection refused");
    let (code, out, err) = run(scratch.berth().args(["probe", "--endpoint", "tcp://127.0.0.1:1"]));
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains("is no unix socket"), "{err}");
}

#[test]
fn a_driver_that_is_stopped_in_its_tracks_is_given_up_in_time() {
    let scratch = Scratch::new();
    let driver = scratch.start(&mut scratch.local());
    driver.signal(Signal::SIGSTOP);
    says_no(&scratch, &scratch.socket(), 1, "no answer within 1s");
    driver.signal(Signal::SIGCONT);
    assert_eq!(probe(&scratch, &scratch.socket(), 5).0, Some(0));
}

#[test]
fn what_is_no_driver_is_none() {
    let scratch = Scratch::new();
    // Silent, for nobody accepts.
    let _silent = UnixListener::bind(scratch.path("silent")).unwrap();
    says_no(&scratch, &scratch.path("silent"), 1, "no answer within 1s");
    // Another protocol.
    let other = UnixListener::bind(scratch.path("other")).unwrap();
    let thread = std::thread::spawn(move || {
        use std::io::Write as _;
        let _ = other.accept().unwrap().0.write_all(b"220 mail.example.com ESMTP\r\n");
    });
    says_no(&scratch, &scratch.path("other"), 5, "");
    thread.join().unwrap();
    // Another service: the driver's own for the kubelet.
    let mut command = scratch.local();
    command.args(["--kubelet-registration-path", "/csi.sock", "--kubelet-registry"]);
    let _driver = scratch.start(command.arg(scratch.path("registry")));
    let registration = scratch.path("registry").join("local.berth.dev-reg.sock");
    says_no(&scratch, &registration, 5, "this is no CSI driver");
}

/// Says this of itself.
struct Says(Option<bool>);

#[tonic::async_trait]
impl Identity for Says {
    async fn get_plugin_info(
        &self,
        _: Request<GetPluginInfoRequest>,
    ) -> Result<Response<GetPluginInfoResponse>, Status> {
        let (name, vendor_version) = ("other.example.com".into(), "7".into());
        Ok(Response::new(GetPluginInfoResponse { name, vendor_version, manifest: Default::default() }))
    }

    async fn probe(&self, _: Request<ProbeRequest>) -> Result<Response<ProbeResponse>, Status> {
        Ok(Response::new(ProbeResponse { ready: self.0 }))
    }
}

/// A server of this service, as long as `meanwhile` runs.
fn served<T: Send + 'static>(
    path: &Path,
    says: Says,
    meanwhile: impl FnOnce() -> T + Send + 'static,
) -> impl Future<Output = T> {
    let listener = tokio::net::UnixListener::bind(path).unwrap();
    let server = tonic::transport::Server::builder()
        .add_service(IdentityServer::new(says))
        .serve_with_incoming(UnixListenerStream::new(listener));
    async {
        tokio::select! {
            ended = server => panic!("the server ended: {ended:?}"),
            told = tokio::task::spawn_blocking(meanwhile) => told.unwrap(),
        }
    }
}

#[test]
fn who_says_that_it_is_not_ready_is_not_and_who_says_nothing_is() {
    for (ready, code, said) in [
        (Some(true), 0, "other.example.com 7: ready\n"),
        (None, 0, "other.example.com 7: ready\n"),
        (Some(false), 1, "other.example.com 7: not ready\n"),
    ] {
        let scratch = Scratch::new();
        let path = scratch.socket();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let answer = runtime.block_on(async {
            let at = path.clone();
            served(&path, Says(ready), move || probe(&scratch, &at, 5)).await
        });
        assert_eq!(answer.0, Some(code), "{ready:?}: {answer:?}");
        assert!(format!("{}{}", answer.1, answer.2).ends_with(said), "{answer:?}");
    }
}

#[test]
fn a_driver_all_of_whose_threads_wait_for_a_disk_is_ready() {
    let scratch = Scratch::new();
    let mut driver = scratch.start(&mut scratch.local_slowed("renameat,renameat2:delay_enter=60s"));
    call(&scratch.socket(), |channel| async move {
        // More than the process has threads for.
        let calls: Vec<_> = (0..80)
            .map(|number| {
                let mut controller = ControllerClient::new(channel.clone());
                tokio::spawn(async move { controller.create_volume(create(&format!("v{number}"))).await })
            })
            .collect();
        tokio::time::sleep(Duration::from_secs(3)).await;
        let asked = tokio::task::spawn_blocking(move || {
            let answer = probe(&scratch, &scratch.socket(), 4);
            driver.stop_under_strace();
            (answer, scratch)
        });
        let ((code, out, err, _), scratch) = asked.await.unwrap();
        assert_eq!((code, err.as_str()), (Some(0), ""), "{out}{}", scratch.log());
        // They did all hang: none was answered with OK.
        for call in calls {
            assert!(call.await.unwrap().is_err());
        }
    });
}
