//! The driver as an orchestrator meets it: its own process, its socket, the generated client.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use berth::csi::controller_client::ControllerClient;
use berth::csi::identity_client::IdentityClient;
use berth::csi::node_client::NodeClient;
use berth::csi::volume_capability::access_mode::Mode;
use berth::csi::volume_capability::{AccessMode, AccessType, MountVolume};
use berth::csi::{self, VolumeCapability};
use tonic::transport::{Channel, Endpoint};

use crate::Result;

/// The node's and the root's name.
const NODE: &str = "bench";
const ROOT: &str = "main";

/// Where everything lies.
#[derive(Clone)]
pub(crate) struct Place {
    /// The release binary.
    pub(crate) berth: PathBuf,
    /// The root, on a disk.
    pub(crate) root: PathBuf,
    /// The run directory, on a tmpfs as /run is.
    pub(crate) run: PathBuf,
    /// Where volumes are published.
    pub(crate) targets: PathBuf,
    /// The socket and the driver's log.
    pub(crate) socket: PathBuf,
    pub(crate) log: PathBuf,
}

/// A running driver; dropped, it is ended.
pub(crate) struct Driver {
    child: Child,
    pub(crate) socket: PathBuf,
    /// From the start of the process to the first answer of Probe.
    pub(crate) ready_after: Duration,
}

impl Driver {
    /// Starts the driver and waits for its first answer.
    pub(crate) async fn start(place: &Place) -> Result<Self> {
        let log = std::fs::File::options().append(true).create(true).open(&place.log)?;
        let root = format!("{ROOT}={},plain", place.root.display());
        let mut command = Command::new(&place.berth);
        command
            .args(["local", "--node-id", NODE, "--root", &root])
            .arg("--endpoint")
            .arg(format!("unix://{}", place.socket.display()))
            .arg("--run-dir")
            .arg(&place.run)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let began = Instant::now();
        let child = command.spawn()?;
        let mut driver = Self { child, socket: place.socket.clone(), ready_after: Duration::ZERO };
        loop {
            match probe(&driver.socket).await {
                Ok(()) => break,
                Err(error) => {
                    if let Some(status) = driver.child.try_wait()? {
                        return Err(
                            format!("the driver ended with {status}: see {}", place.log.display()).into()
                        );
                    }
                    if began.elapsed() > Duration::from_secs(10) {
                        return Err(format!("the driver is not ready after 10 s: {error}").into());
                    }
                    std::thread::sleep(Duration::from_micros(50));
                }
            }
        }
        driver.ready_after = began.elapsed();
        Ok(driver)
    }

    /// The memory of the process that is resident now, in MiB.
    pub(crate) fn resident(&self) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib / 1024.0)
    }

    /// The processor time that the process has used so far, in user and system mode.
    pub(crate) fn processor_time(&self) -> Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // proc(5): the name in parentheses may hold blanks; after it, utime and stime are words 12 and 13.
        let (_, after) = stat.rsplit_once(") ").ok_or("no name in stat")?;
        let ticks = |word: usize| -> Result<f64> {
            Ok(after.split(' ').nth(word).ok_or("too few words in stat")?.parse()?)
        };
        let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.ok_or("no CLK_TCK")?;
        Ok(Duration::from_secs_f64((ticks(11)? + ticks(12)?) / per_second as f64))
    }

    /// A client with a connection of its own.
    pub(crate) async fn connect(&self) -> Result<Client> {
        let channel = channel(&self.socket).await?;
        // A list answer may be larger than the 4 MiB that are tonic's default only if Berth breaks its promise.
        Ok(Client { controller: ControllerClient::new(channel.clone()), node: NodeClient::new(channel) })
    }
}

impl Drop for Driver {
    /// Ends it as a crash would, which costs nothing: a gentle end would wait for this process's connections.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.socket);
    }
}

async fn channel(socket: &Path) -> Result<Channel> {
    Ok(Endpoint::try_from(format!("unix://{}", socket.display()))?.connect().await?)
}

async fn probe(socket: &Path) -> Result<()> {
    if !socket.exists() {
        return Err("there is no socket".into());
    }
    IdentityClient::new(channel(socket).await?).probe(csi::ProbeRequest {}).await?;
    Ok(())
}

/// A client of the driver.
pub(crate) struct Client {
    controller: ControllerClient<Channel>,
    node: NodeClient<Channel>,
}

/// ReadWriteOnce, as Kubernetes sends it.
fn capability() -> Option<VolumeCapability> {
    Some(VolumeCapability {
        access_type: Some(AccessType::Mount(MountVolume::default())),
        access_mode: Some(AccessMode { mode: Mode::SingleNodeMultiWriter.into() }),
    })
}

/// The id of the volume `name`.
fn id(name: &str) -> String {
    format!("{NODE}/{ROOT}/{name}")
}

impl Client {
    pub(crate) async fn create(&mut self, name: &str) -> Result<Duration> {
        let request = csi::CreateVolumeRequest {
            name: name.to_string(),
            volume_capabilities: capability().into_iter().collect(),
            ..Default::default()
        };
        let began = Instant::now();
        let answer = self.controller.create_volume(request).await?.into_inner();
        let took = began.elapsed();
        match answer.volume {
            Some(volume) if volume.volume_id == id(name) => Ok(took),
            other => Err(format!("CreateVolume of {name} answers {other:?}").into()),
        }
    }

    pub(crate) async fn publish(&mut self, name: &str, target: &Path) -> Result<Duration> {
        let request = csi::NodePublishVolumeRequest {
            volume_id: id(name),
            target_path: target.display().to_string(),
            volume_capability: capability(),
            ..Default::default()
        };
        let began = Instant::now();
        self.node.node_publish_volume(request).await?;
        Ok(began.elapsed())
    }

    pub(crate) async fn stats(&mut self, name: &str, target: &Path) -> Result<Duration> {
        let request = csi::NodeGetVolumeStatsRequest {
            volume_id: id(name),
            volume_path: target.display().to_string(),
            ..Default::default()
        };
        let began = Instant::now();
        let answer = self.node.node_get_volume_stats(request).await?.into_inner();
        let took = began.elapsed();
        if answer.usage.len() == 2 { Ok(took) } else { Err(format!("stats answer {answer:?}").into()) }
    }

    pub(crate) async fn unpublish(&mut self, name: &str, target: &Path) -> Result<Duration> {
        let request = csi::NodeUnpublishVolumeRequest {
            volume_id: id(name),
            target_path: target.display().to_string(),
        };
        let began = Instant::now();
        self.node.node_unpublish_volume(request).await?;
        Ok(began.elapsed())
    }

    pub(crate) async fn delete(&mut self, name: &str) -> Result<Duration> {
        let request = csi::DeleteVolumeRequest { volume_id: id(name), ..Default::default() };
        let began = Instant::now();
        self.controller.delete_volume(request).await?;
        Ok(began.elapsed())
    }

    /// Walks the whole list in pages, and says how many volumes it had.
    pub(crate) async fn walk(&mut self, page: i32) -> Result<(usize, Duration)> {
        let began = Instant::now();
        let (mut count, mut starting_token) = (0, String::new());
        loop {
            let request = csi::ListVolumesRequest { max_entries: page, starting_token };
            let answer = self.controller.list_volumes(request).await?.into_inner();
            count += answer.entries.len();
            starting_token = answer.next_token;
            if starting_token.is_empty() {
                return Ok((count, began.elapsed()));
            }
        }
    }
}
