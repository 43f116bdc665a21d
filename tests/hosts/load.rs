//! The guest's side of the benchmark: life cycles by the driver and as bare system calls, in turns, in one process of the
//! node, so that nothing of the harness is in the times.
//!
//! The bare calls do what a life cycle cannot do without, with the directories known and nothing asked beforehand: a directory
//! made, records written, synced and linked, mount(2), umount(2), renames into place and away, removals.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use berth::access::Mode;
use berth::csi::controller_client::ControllerClient;
use berth::csi::node_client::NodeClient;
use berth::csi::*;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde::{Deserialize, Serialize};
use tonic::transport::{Channel, Endpoint};

use crate::driver::SOCKET;
use crate::volumes::capability;

/// The calls of a life cycle, in their order.
pub const CALLS: [&str; 6] = [
    "CreateVolume",
    "ControllerPublishVolume",
    "NodePublishVolume",
    "NodeUnpublishVolume",
    "ControllerUnpublishVolume",
    "DeleteVolume",
];

/// Life cycles of one side in a round.
const CYCLES: usize = 10;

/// What one side did in one round.
#[derive(Debug, Serialize, Deserialize)]
pub struct Round {
    /// The time of each call, for each of [`CALLS`].
    pub calls: Vec<Vec<Duration>>,
    /// From the first call until nothing was left to be done, for all cycles.
    pub all: Duration,
    /// The round trips in it.
    pub round_trips: u64,
    pub cycles: usize,
}

/// What was measured.
#[derive(Debug, Serialize, Deserialize)]
pub struct Measured {
    pub berth: Vec<Round>,
    pub raw: Vec<Round>,
    /// One round trip that changes nothing (statfs).
    pub question: Vec<Duration>,
    /// One that changes a name, which the server syncs (mkdir).
    pub change: Vec<Duration>,
    /// mount(2) without `sec=`, as a program mounts that does not know better.
    pub without_sec: Vec<Duration>,
    /// The driver's function that mounts, called here: a mount whose caller can give it up, which takes a child.
    pub in_a_child: Vec<Duration>,
}

type Failed = Box<dyn std::error::Error>;

/// Measures, and writes the result to a file. Arguments: the share, the node, how many rounds, the file.
pub fn run(arguments: &[String]) -> io::Result<()> {
    let [share, node, rounds, output] = arguments else {
        return Err(io::Error::other("--load SHARE NODE ROUNDS FILE"));
    };
    let rounds = rounds.parse().map_err(io::Error::other)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let measured = runtime.block_on(measure(share, node, rounds));
    let measured = measured.map_err(|error| io::Error::other(error.to_string()))?;
    fs::write(output, serde_json::to_vec(&measured)?)
}

async fn measure(share: &str, node: &str, rounds: usize) -> Result<Measured, Failed> {
    let channel = Endpoint::from_shared(format!("unix://{SOCKET}"))?.connect().await?;
    let mut client =
        Client { controller: ControllerClient::new(channel.clone()), node: NodeClient::new(channel) };
    let raw = Raw::new(share)?;
    // A first life, which finds caches cold, and a publication that keeps the server's client alive, as on a node with any.
    client.life("warm", node).await?;
    client.publish("kept", node).await?;
    raw.life("warm")?;
    let mut measured = Measured {
        berth: Vec::new(),
        raw: Vec::new(),
        question: Vec::new(),
        change: Vec::new(),
        without_sec: Vec::new(),
        in_a_child: Vec::new(),
    };
    for round in 0..rounds {
        let (began, before) = begin();
        let mut calls = vec![Vec::new(); CALLS.len()];
        for cycle in 0..CYCLES {
            for (samples, took) in
                calls.iter_mut().zip(client.life(&format!("v-{round}-{cycle}"), node).await?)
            {
                samples.push(took);
            }
        }
        measured.berth.push(end(began, before, calls));
        let (began, before) = begin();
        let mut calls = vec![Vec::new(); CALLS.len()];
        for cycle in 0..CYCLES {
            for (samples, took) in calls.iter_mut().zip(raw.life(&format!("v-{round}-{cycle}"))?) {
                samples.push(took);
            }
        }
        measured.raw.push(end(began, before, calls));
        for _ in 0..CYCLES {
            measured.question.push(timed(|| raw.ask())?);
            measured.change.push(timed(|| Ok(fs::create_dir(raw.base.join("made"))?))?);
            fs::remove_dir(raw.base.join("made"))?;
            measured.in_a_child.push(timed(|| raw.mount_in_a_child())?);
        }
        measured.without_sec.push(timed(|| raw.mount(&raw.base.join("kept"), ""))?);
        umount2(&raw.target, MntFlags::empty())?;
    }
    Ok(measured)
}

fn timed(work: impl FnOnce() -> Result<(), Failed>) -> Result<Duration, Failed> {
    let began = Instant::now();
    work()?;
    Ok(began.elapsed())
}

/// All round trips of this host so far, those left out that keep a lease.
fn round_trips() -> u64 {
    let text = fs::read_to_string("/proc/net/rpc/nfs").unwrap_or_default();
    crate::round_trips::RoundTrips::parse(&text).total()
}

fn begin() -> (Instant, u64) {
    (Instant::now(), round_trips())
}

/// Waits until nothing is asked any more for a while; the while does not count.
fn end(began: Instant, before: u64, calls: Vec<Vec<Duration>>) -> Round {
    const QUIET: Duration = Duration::from_millis(300);
    let (mut seen, mut at) = (round_trips(), Instant::now());
    while at.elapsed() < QUIET {
        std::thread::sleep(Duration::from_millis(5));
        let now = round_trips();
        if now != seen {
            (seen, at) = (now, Instant::now());
        }
    }
    Round { cycles: calls[0].len(), calls, all: at - began, round_trips: seen - before }
}

/// The driver.
struct Client {
    controller: ControllerClient<Channel>,
    node: NodeClient<Channel>,
}

const RWO: Mode = Mode::SingleNodeMultiWriter;

impl Client {
    /// A volume's creation, and its publication on this node.
    async fn publish(&mut self, name: &str, node: &str) -> Result<Vec<Duration>, Failed> {
        let (volume_id, target_path) = (format!("main/{name}"), format!("/pods/{name}"));
        let create = CreateVolumeRequest {
            name: name.into(),
            capacity_range: Some(CapacityRange { required_bytes: 1 << 20, limit_bytes: 0 }),
            volume_capabilities: vec![capability(RWO)],
            ..Default::default()
        };
        let admit = ControllerPublishVolumeRequest {
            volume_id: volume_id.clone(),
            node_id: node.into(),
            volume_capability: Some(capability(RWO)),
            ..Default::default()
        };
        let publish = NodePublishVolumeRequest {
            volume_id,
            target_path,
            volume_capability: Some(capability(RWO)),
            ..Default::default()
        };
        let mut times = vec![Instant::now()];
        self.controller.create_volume(create).await?;
        times.push(Instant::now());
        self.controller.controller_publish_volume(admit).await?;
        times.push(Instant::now());
        self.node.node_publish_volume(publish).await?;
        times.push(Instant::now());
        Ok(differences(&times))
    }

    async fn life(&mut self, name: &str, node: &str) -> Result<Vec<Duration>, Failed> {
        let mut calls = self.publish(name, node).await?;
        let (volume_id, target_path) = (format!("main/{name}"), format!("/pods/{name}"));
        let unpublish = NodeUnpublishVolumeRequest { volume_id: volume_id.clone(), target_path };
        let withdraw = ControllerUnpublishVolumeRequest {
            volume_id: volume_id.clone(),
            node_id: node.into(),
            ..Default::default()
        };
        let delete = DeleteVolumeRequest { volume_id, ..Default::default() };
        let mut times = vec![Instant::now()];
        self.node.node_unpublish_volume(unpublish).await?;
        times.push(Instant::now());
        self.controller.controller_unpublish_volume(withdraw).await?;
        times.push(Instant::now());
        self.controller.delete_volume(delete).await?;
        times.push(Instant::now());
        calls.extend(differences(&times));
        Ok(calls)
    }
}

fn differences(times: &[Instant]) -> Vec<Duration> {
    times.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

/// The same work without a driver, in a directory of the same export.
struct Raw {
    share: String,
    /// A mount of the share's directory `raw`.
    base: PathBuf,
    target: PathBuf,
    record: String,
}

impl Raw {
    fn new(share: &str) -> Result<Self, Failed> {
        let raw = Self {
            share: share.into(),
            base: "/bench/base/raw".into(),
            target: "/bench/target".into(),
            record: "a record of some length\n".repeat(24),
        };
        fs::create_dir_all("/bench/base")?;
        fs::create_dir_all(&raw.target)?;
        raw.mount_at(Path::new("/bench/base"), share, ",sec=sys")?;
        for directory in ["new", "volumes", "trash", "kept"] {
            fs::create_dir_all(raw.base.join(directory))?;
        }
        Ok(raw)
    }

    fn mount_at(&self, at: &Path, source: &str, options: &str) -> Result<(), Failed> {
        let server = self.share.split(':').next().unwrap_or_default();
        let options = format!("addr={server},vers=4.2{options}");
        Ok(mount(Some(source), at, Some("nfs4"), MsFlags::empty(), Some(options.as_str()))?)
    }

    /// A mount of its own of a directory of the base.
    fn mount(&self, directory: &Path, options: &str) -> Result<(), Failed> {
        let path = directory.strip_prefix("/bench/base")?;
        self.mount_at(&self.target, &format!("{}/{}", self.share, path.display()), options)
    }

    /// One question to the server, which no cache answers.
    fn ask(&self) -> Result<(), Failed> {
        nix::sys::statvfs::statvfs(&self.base)?;
        Ok(())
    }

    /// As the driver mounts; nothing is attached, so it ends with this call.
    fn mount_in_a_child(&self) -> Result<(), Failed> {
        let (server, path) = self.share.split_once(':').unwrap_or_default();
        let source = berth::sys::nfs::Source { server, path: &format!("{path}/raw/kept") };
        let (options, attributes) = (["vers=4.2".to_string()], berth::sys::mount::Attributes::safe());
        drop(berth::sys::nfs::mount(&source, &options, attributes, Duration::from_secs(5))?);
        Ok(())
    }

    /// The next generation of a record: written out of sight, synced, won by a link.
    fn win(&self, name: &str, generation: u32) -> Result<(), Failed> {
        let temporary = self.base.join(format!("new/{name}.{generation}"));
        self.write(&temporary)?;
        let record = self.base.join(format!("volumes/{name}"));
        fs::hard_link(&temporary, record.join(format!("{generation}.json")))?;
        fs::remove_file(&temporary)?;
        Ok(fs::remove_file(record.join(format!("{}.json", generation - 1)))?)
    }

    fn write(&self, at: &Path) -> Result<(), Failed> {
        let mut file = File::create_new(at)?;
        file.write_all(self.record.as_bytes())?;
        Ok(file.sync_data()?)
    }

    fn life(&self, name: &str) -> Result<Vec<Duration>, Failed> {
        let at = |path: &str| self.base.join(path).join(name);
        let mut times = vec![Instant::now()];
        // Created: the tree and its record out of sight, both renamed into their places.
        fs::create_dir(at("new"))?;
        let prepared = self.base.join(format!("new/{name}.record"));
        fs::create_dir(&prepared)?;
        self.write(&prepared.join("1.json"))?;
        fs::rename(&prepared, at("volumes"))?;
        fs::rename(at("new"), at(""))?;
        times.push(Instant::now());
        self.win(name, 2)?;
        times.push(Instant::now());
        self.mount(&at(""), ",sec=sys")?;
        times.push(Instant::now());
        umount2(&self.target, MntFlags::empty())?;
        times.push(Instant::now());
        self.win(name, 3)?;
        times.push(Instant::now());
        // Deleted: the record says so, data and record go to the trash, and are removed from it.
        self.win(name, 4)?;
        fs::rename(at(""), at("trash"))?;
        let record = self.base.join(format!("trash/{name}.record"));
        fs::rename(at("volumes"), &record)?;
        fs::remove_dir(at("trash"))?;
        fs::remove_file(record.join("4.json"))?;
        fs::remove_dir(&record)?;
        times.push(Instant::now());
        Ok(differences(&times))
    }
}
