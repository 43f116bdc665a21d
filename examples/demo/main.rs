//! The main job, played for a reader: a real driver process, its real gRPC interface, real mounts.
//!
//! `make demo` runs it, as root or as any user. All of it happens in a mount namespace of its own and on a tmpfs, so
//! nothing is left when it ends, however it ends. It exits with 1 when anything is not as told.

#![allow(clippy::print_stdout, reason = "it is here to be read")]

mod stage;

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::process::ExitCode;
use std::time::Instant;

use berth::csi;
use berth::csi::controller_client::ControllerClient;
use berth::csi::node_client::NodeClient;
use berth::csi::volume_capability::access_mode::Mode;
use berth::csi::volume_capability::{AccessMode, AccessType, MountVolume};
use berth::sys::table::{Mount, Table};
use nix::errno::Errno;
use stage::{Driver, Scratch};
use tokio::signal::unix::{SignalKind, signal};
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;
type Answer<T> = Result<Response<T>, Status>;

const GREETING: &str = "ahoy";

fn main() -> ExitCode {
    let began = Instant::now();
    match run() {
        Ok(()) => {
            println!("\nAll as told, in {:.1} s. Nothing is left of it.", began.elapsed().as_secs_f64());
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("\nNOT as told: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome {
    let who = stage::enter_namespace()?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    println!("Berth {} on Linux {}, {who}", env!("CARGO_PKG_VERSION"), kernel.trim());
    let scratch = Scratch::new()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let played = runtime.block_on(play_unless_stopped(&scratch));
    let log = fs::read_to_string(scratch.path("driver.log")).unwrap_or_default();
    if played.is_err() && !log.is_empty() {
        println!("\n\nThe driver's log:\n{log}");
    }
    let removed = scratch.remove().map_err(|error| format!("take the scratch directory down: {error}"));
    played.and(removed.map_err(Into::into))
}

/// Stopped on its way, the play is dropped, and the driver with it.
async fn play_unless_stopped(scratch: &Scratch) -> Outcome {
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    let mut hung_up = signal(SignalKind::hangup())?;
    tokio::select! {
        played = play(scratch) => played,
        _ = interrupted.recv() => Err("interrupted".into()),
        _ = terminated.recv() => Err("terminated".into()),
        _ = hung_up.recv() => Err("hung up".into()),
    }
}

async fn play(scratch: &Scratch) -> Outcome {
    use Mode::{MultiNodeReaderOnly, SingleNodeMultiWriter, SingleNodeSingleWriter};

    chapter("The driver starts on an empty file system");
    let mut demo = Demo::start(scratch).await?;
    demo.kernel_shows("root", "rw")?;

    chapter("ReadWriteOnce: the pods of one node share the files");
    let shared = volume_id(granted(demo.create("shared", SingleNodeMultiWriter, &[]).await)?);
    for pod in ["pods/a", "pods/b"] {
        granted(demo.publish(&shared, pod, SingleNodeMultiWriter).await)?;
        demo.kernel_shows(pod, "rw")?;
    }
    demo.write("pods/a")?;
    demo.read("pods/b")?;

    chapter("ReadWriteOncePod: one pod, and no second one");
    let alone = volume_id(granted(demo.create("alone", SingleNodeSingleWriter, &[]).await)?);
    granted(demo.publish(&alone, "pods/c", SingleNodeSingleWriter).await)?;
    demo.kernel_shows("pods/c", "rw")?;
    let second = demo.publish(&alone, "pods/d", SingleNodeSingleWriter).await;
    refused(second, Code::FailedPrecondition, "pods/c holds it as SINGLE_NODE_SINGLE_WRITER")?;
    demo.kernel_shows_nothing("pods/d")?;

    chapter("ReadOnlyMany: nobody writes, though readonly=false is asked, as Kubernetes asks it");
    let without = demo.create("charts", MultiNodeReaderOnly, &[]).await;
    refused(without, Code::InvalidArgument, "say nodeSharing: \"true\"")?;
    let sharing = [("nodeSharing", "true")];
    let charts = volume_id(granted(demo.create("charts", MultiNodeReaderOnly, &sharing).await)?);
    for pod in ["pods/e", "pods/f"] {
        granted(demo.publish(&charts, pod, MultiNodeReaderOnly).await)?;
        demo.kernel_shows(pod, "ro")?;
    }
    demo.cannot_write("pods/e")?;

    chapter("The driver is killed and started anew: pods notice nothing, and all still holds");
    say("run", "kill -9");
    demo.driver.kill()?;
    demo.read("pods/b")?;
    let mut demo = Demo::start(scratch).await?;
    demo.lists(&[&alone, &charts, &shared]).await?;
    granted(demo.publish(&shared, "pods/b", SingleNodeMultiWriter).await)?;
    demo.kernel_shows("pods/b", "rw")?;
    let second = demo.publish(&alone, "pods/d", SingleNodeSingleWriter).await;
    refused(second, Code::FailedPrecondition, "pods/c holds it as SINGLE_NODE_SINGLE_WRITER")?;

    chapter("A volume is deleted, but never under its pods");
    refused(demo.delete(&shared).await, Code::FailedPrecondition, "it is published at")?;
    demo.read("pods/b")?;
    demo.end(&shared, &["pods/a", "pods/b"]).await?;
    demo.end(&alone, &["pods/c"]).await?;
    demo.end(&charts, &["pods/e", "pods/f"]).await?;
    demo.lists(&[]).await
}

struct Demo<'a> {
    scratch: &'a Scratch,
    driver: Driver,
    controller: ControllerClient<Channel>,
    node: NodeClient<Channel>,
}

impl<'a> Demo<'a> {
    async fn start(scratch: &'a Scratch) -> Outcome<Self> {
        let mut driver = Driver::start(scratch)?;
        let channel = driver.connect(scratch).await?;
        let (controller, node) = (ControllerClient::new(channel.clone()), NodeClient::new(channel));
        Ok(Self { scratch, driver, controller, node })
    }

    async fn create(
        &mut self,
        name: &str,
        mode: Mode,
        parameters: &[(&str, &str)],
    ) -> Answer<csi::CreateVolumeResponse> {
        let with: String = parameters.iter().map(|(key, value)| format!(", {key}: {value:?}")).collect();
        ask(&format!("CreateVolume {name} as {}{with}", mode.as_str_name()));
        let request = csi::CreateVolumeRequest {
            name: name.into(),
            capacity_range: Some(csi::CapacityRange { required_bytes: 1 << 20, limit_bytes: 0 }),
            volume_capabilities: vec![capability(mode)],
            parameters: parameters.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
            ..Default::default()
        };
        self.controller.create_volume(request).await
    }

    async fn publish(
        &mut self,
        volume_id: &str,
        pod: &str,
        mode: Mode,
    ) -> Answer<csi::NodePublishVolumeResponse> {
        ask(&format!("NodePublishVolume {volume_id} at {pod}"));
        let request = csi::NodePublishVolumeRequest {
            volume_id: volume_id.into(),
            target_path: self.scratch.path(pod).display().to_string(),
            volume_capability: Some(capability(mode)),
            readonly: false,
            ..Default::default()
        };
        self.node.node_publish_volume(request).await
    }

    async fn unpublish(&mut self, volume_id: &str, pod: &str) -> Answer<csi::NodeUnpublishVolumeResponse> {
        ask(&format!("NodeUnpublishVolume {volume_id} at {pod}"));
        let request = csi::NodeUnpublishVolumeRequest {
            volume_id: volume_id.into(),
            target_path: self.scratch.path(pod).display().to_string(),
        };
        self.node.node_unpublish_volume(request).await
    }

    async fn delete(&mut self, volume_id: &str) -> Answer<csi::DeleteVolumeResponse> {
        ask(&format!("DeleteVolume {volume_id}"));
        let request = csi::DeleteVolumeRequest { volume_id: volume_id.into(), ..Default::default() };
        self.controller.delete_volume(request).await
    }

    /// Unpublishes a volume everywhere and deletes it.
    async fn end(&mut self, volume_id: &str, pods: &[&str]) -> Outcome {
        for pod in pods {
            granted(self.unpublish(volume_id, pod).await)?;
            self.kernel_shows_nothing(pod)?;
        }
        granted(self.delete(volume_id).await)?;
        Ok(())
    }

    async fn lists(&mut self, wanted: &[&str]) -> Outcome {
        ask("ListVolumes");
        let answer = granted(self.controller.list_volumes(csi::ListVolumesRequest::default()).await)?;
        let volumes = answer.entries.into_iter().filter_map(|entry| entry.volume);
        let ids: Vec<_> = volumes.map(|volume| volume.volume_id).collect();
        say("answer", &if ids.is_empty() { "no volumes".into() } else { ids.join(", ") });
        as_told(ids == wanted, || format!("the volumes should be {wanted:?}"))
    }

    fn mounts(&self, at: &str) -> Outcome<Vec<Mount>> {
        Ok(Table::read()?.at(&self.scratch.path(at)).collect())
    }

    /// Shows the mount table's lines of a path as findmnt(8) does; there should be one, with this option.
    fn kernel_shows(&self, at: &str, option: &str) -> Outcome {
        let mounts = self.mounts(at)?;
        for Mount { at, file_system, root, options, .. } in &mounts {
            say("kernel", &format!("{}  {file_system}[{}]  {options}", at.display(), root.display()));
        }
        let right = mounts.len() == 1 && mounts[0].options.split(',').any(|found| found == option);
        as_told(right, || format!("{at} should be mounted once, and {option}"))
    }

    fn kernel_shows_nothing(&self, at: &str) -> Outcome {
        let nothing = self.mounts(at)?.is_empty() && !self.scratch.path(at).exists();
        as_told(nothing, || format!("there should be no mount and no directory at {at}"))?;
        say("kernel", &format!("nothing at {at}"));
        Ok(())
    }

    fn open_to_write(&self, pod: &str) -> io::Result<File> {
        let path = self.scratch.path(pod).join("greeting");
        File::options().write(true).create(true).truncate(true).open(path)
    }

    fn write(&self, pod: &str) -> Outcome {
        say("pod", &format!("writes {GREETING:?} to {pod}/greeting"));
        Ok(self.open_to_write(pod)?.write_all(GREETING.as_bytes())?)
    }

    fn read(&self, pod: &str) -> Outcome {
        let mut text = String::new();
        File::open(self.scratch.path(pod).join("greeting"))?.read_to_string(&mut text)?;
        say("pod", &format!("reads {text:?} from {pod}/greeting"));
        as_told(text == GREETING, || format!("it should be {GREETING:?}"))
    }

    fn cannot_write(&self, pod: &str) -> Outcome {
        say("pod", &format!("writes to {pod}/greeting, as root"));
        let Err(error) = self.open_to_write(pod) else { return Err("the write should fail".into()) };
        say("kernel", &error.to_string());
        let right = error.raw_os_error() == Some(Errno::EROFS as i32);
        as_told(right, || "it should be EROFS".into())
    }
}

fn capability(mode: Mode) -> csi::VolumeCapability {
    csi::VolumeCapability {
        access_type: Some(AccessType::Mount(MountVolume::default())),
        access_mode: Some(AccessMode { mode: mode.into() }),
    }
}

fn volume_id(created: csi::CreateVolumeResponse) -> String {
    created.volume.unwrap_or_default().volume_id
}

fn granted<T>(answer: Answer<T>) -> Outcome<T> {
    let answer = answer.map_err(|status| format!("it should be granted: {}", words(&status)))?;
    println!(": OK");
    Ok(answer.into_inner())
}

fn refused<T>(answer: Answer<T>, code: Code, word: &str) -> Outcome {
    println!();
    let Err(status) = answer else { return Err("it should be refused".into()) };
    say("answer", &words(&status));
    let right = status.code() == code && status.message().contains(word);
    as_told(right, || format!("it should be {code:?} with {word:?}"))
}

/// The code as the spec writes it, and the driver's own words.
fn words(status: &Status) -> String {
    let code = format!("{:?}", status.code());
    let apart = |c: char| if c.is_uppercase() { format!("_{c}") } else { c.to_uppercase().to_string() };
    format!("{}: {}", code.chars().map(apart).collect::<String>().trim_start_matches('_'), status.message())
}

fn as_told(right: bool, told: impl FnOnce() -> String) -> Outcome {
    if right { Ok(()) } else { Err(told().into()) }
}

fn chapter(title: &str) {
    println!("\n{title}");
}

/// Says what is asked; the answer follows on the same line.
fn ask(what: &str) {
    print!("  ask     {what}");
    let _ = io::stdout().flush();
}

fn say(who: &str, what: &str) {
    println!("  {who:<7} {what}");
}
