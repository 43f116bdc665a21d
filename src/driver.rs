//! What every RPC may touch: the roots, the guards, the notes of this node, the trash.

use std::collections::HashMap;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::backend::nodes::Host;
use crate::backend::{Kind, OpenRoot, Root, Specs};
use crate::error::{Error, Result};
use crate::guard::{Guards, Targets};
use crate::id::{Handle, VolumeId, node_part, topology_value};
use crate::publications::{Notes, Published};
use crate::store::{self, Errand};
use crate::sys::purge;
use crate::sys::table::Table;

/// What in `new` did not change for so long was left by a process that died.
const LEFT_BEHIND: Duration = Duration::from_secs(10 * 60);
/// How often a root is looked after when nobody deletes anything: roots appear, mounts in deleted trees go away.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// How often a root that can't be used is looked for: a node that is new in the cluster is waited for.
const LOOK_FOR: Duration = Duration::from_secs(5);
/// How often a long purge says how far it is.
const PROGRESS: Duration = Duration::from_secs(10);

/// What the administrator says of this process.
#[derive(Debug, Clone)]
pub struct Config {
    /// The driver's name, as in CSIDriver and StorageClass objects.
    pub driver_name: String,
    /// This host; its node's name is as the CO knows it.
    pub host: Host,
    /// The most volumes that the CO should place on this node; 0 leaves it to the CO.
    pub max_volumes: i64,
    /// Whether the Controller service is served here.
    pub controller: bool,
    /// Whether the Node service is served here.
    pub node: bool,
}

/// The driver: one for each process.
#[derive(Debug)]
pub struct Driver {
    /// What the administrator said.
    pub config: Config,
    /// Which of the two drivers this is.
    pub kind: Kind,
    /// The roots, in the order of their names.
    pub roots: Vec<Root>,
    /// Guards of volumes.
    pub guards: Guards,
    /// Target paths at work.
    pub targets: Targets,
    /// What is noted of this node's publications.
    pub notes: Notes,
    /// What the log was told of roots that can't be used.
    told: Mutex<HashMap<String, String>>,
}

impl Driver {
    /// A driver over these roots, each with a thread that looks after it. Nothing is read here: a root that is missing,
    /// full of volumes or on a server that does not answer delays no start.
    pub fn new(config: Config, specs: Specs, run: &Path) -> Result<Arc<Self>> {
        let kind = specs.kind();
        let (roots, errands): (Vec<_>, Vec<_>) = specs.roots()?.into_iter().unzip();
        let driver = Arc::new(Self {
            notes: Notes::new(run, &config.driver_name),
            config,
            kind,
            roots,
            guards: Guards::default(),
            targets: Targets::default(),
            told: Mutex::default(),
        });
        for (index, errands) in errands.into_iter().enumerate() {
            let (wake, woken) = channel();
            let weak = Arc::downgrade(&driver);
            let behind = move || {
                while let Some(driver) = weak.upgrade() {
                    let usable = driver.look_after(&driver.roots[index]);
                    drop(driver);
                    if wait(&woken, if usable { LOOK_AGAIN } else { LOOK_FOR }, &weak, index).is_err() {
                        return;
                    }
                }
            };
            start("root", behind)?;
            // A purge may take hours, and records must not grow meanwhile.
            let weak = Arc::downgrade(&driver);
            start("errands", move || do_errands(&errands, &wake, &weak, index))?;
        }
        Ok(driver)
    }

    /// The root that a request names; with a single root it may be left out.
    pub fn root(&self, name: Option<&str>) -> Result<&Root> {
        let known = || self.roots.iter().map(Root::name).collect::<Vec<_>>().join(", ");
        match (name, self.roots.as_slice()) {
            (None, [only]) => Ok(only),
            (None, _) => {
                Err(Error::invalid("parameters.root", format!("is needed: this driver has {}", known())))
            }
            (Some(name), roots) => roots.iter().find(|root| root.name() == name).ok_or_else(|| {
                Error::invalid(
                    "parameters.root",
                    format!("{name:?} is no root of this driver: it has {}", known()),
                )
            }),
        }
    }

    /// The volume that an id names on this node, and its root; nothing when no such volume can exist here.
    pub fn find(&self, volume_id: &str) -> Option<(&Root, VolumeId)> {
        let id = self.parse(volume_id)?;
        Some((self.roots.iter().find(|root| root.name() == id.root)?, id))
    }

    /// Refuses an id of a root that this driver of shared volumes was not told of: there may be a volume, whose record says
    /// that a node has it.
    pub fn check_root(&self, volume_id: &str) -> Result<()> {
        match self.parse(volume_id) {
            Some(id) if self.kind == Kind::Nfs && self.roots.iter().all(|root| root.name() != id.root) => {
                let why = format!("this driver has no root {}: start it with that root", id.root);
                Err(Error::Refused { what: format!("volume {volume_id}"), why })
            }
            _ => Ok(()),
        }
    }

    /// A volume id that this driver could have made on this node, whatever its root.
    pub fn parse(&self, volume_id: &str) -> Option<VolumeId> {
        VolumeId::parse(volume_id, self.kind == Kind::Local).filter(|id| id.node == self.node_part())
    }

    /// What the ids of this driver's volumes begin with, if with anything.
    fn node_part(&self) -> Option<String> {
        (self.kind == Kind::Local).then(|| node_part(&self.config.host.node_id))
    }

    /// NOT_FOUND for an id, saying so when it is one of another node.
    pub fn no_such_volume(&self, volume_id: &str) -> Error {
        let here = self.node_part();
        let why = match VolumeId::parse(volume_id, here.is_some()) {
            Some(VolumeId { node: Some(node), .. }) if here.as_ref().is_some_and(|here| *here != node) => {
                format!(": it belongs to node {node}, this is {}", here.unwrap_or_default())
            }
            Some(id) if self.roots.iter().all(|root| root.name() != id.root) => {
                format!(": this driver has no root {}", id.root)
            }
            _ => String::new(),
        };
        Error::NotFound { what: format!("volume {volume_id}"), why }
    }

    /// The id of a volume.
    pub fn id(&self, root: &str, handle: Handle) -> VolumeId {
        VolumeId { node: self.node_part(), root: root.to_string(), handle }
    }

    /// The topology of this node and of its volumes, if they lie on it: a key and a value, which a CO makes labels of
    /// (CSI, Topology: "Each value MUST contain 63 characters or less", and so on).
    pub fn topology(&self) -> Option<(String, String)> {
        let key = format!("{}/node", self.config.driver_name.to_lowercase());
        (self.kind == Kind::Local).then(|| (key, topology_value(&self.config.host.node_id)))
    }

    /// What an error of a call means in this driver. Berth's own mounts of a server are `soft`: what it does not answer in
    /// time fails with EIO. And what a server exports may become another thing: then descriptors of it are stale, and it is
    /// looked for anew.
    pub fn judge(&self, error: Error) -> Error {
        match (self.kind, error.errno(), error) {
            (Kind::Nfs, Some(Errno::EIO | Errno::ETIMEDOUT), Error::Io { doing, source }) => Error::Silent {
                what: doing,
                why: format!("the server does not answer ({source}); the same call may be repeated"),
            },
            (Kind::Nfs, Some(Errno::ESTALE), Error::Io { doing, source }) => {
                self.roots.iter().for_each(Root::look_again);
                let why =
                    format!("what the server exports has changed ({source}); the same call may be repeated");
                Error::Pending { what: doing, why }
            }
            (_, _, error) => error,
        }
    }

    /// Where the data at `path` beneath a root is published on this node.
    pub fn published(
        &self,
        root: &OpenRoot,
        key: &str,
        path: &str,
        incarnation: Option<&str>,
    ) -> Result<Vec<Published>> {
        let look = || -> Result<Vec<Published>> {
            let mounts = root.mounts_of(&Table::read()?, path)?;
            Ok(self.notes.publications(key, incarnation, mounts.into_iter()))
        };
        let mut found = look()?;
        // A note that is missing may have gone with its mount since the table was read: an unpublish waits for nobody.
        for _ in 0..2 {
            if found.iter().all(|found| found.publication.mode.is_some()) {
                break;
            }
            found = look()?;
        }
        Ok(found)
    }

    /// Registers this node, moves to the trash what dead creations left, purges it, and keeps room for deletions. False
    /// while the root can't be used.
    fn look_after(&self, root: &Root) -> bool {
        root.look_again();
        let looked = root.open().and_then(|open| {
            if let Some(nodes) = open.nodes().filter(|_| self.config.node) {
                nodes.register(&self.config.host)?;
            }
            // Of a root that all nodes reach the controllers take care.
            if open.is_shared() && !self.config.controller {
                return Ok(());
            }
            let swept = open.store.sweep(LEFT_BEHIND);
            empty_trash(&open)?;
            open.store.lay_reserve()?;
            swept
        });
        let looked = looked.map_err(|error| self.judge(error));
        let why = looked.as_ref().err().filter(|error| is_for_the_log(error)).map(Error::to_string);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let before = told.get(root.name()).cloned();
        match (&why, &looked) {
            (Some(why), _) if before.as_ref() != Some(why) => {
                tracing::warn!(root = root.name(), why, "the root can't be used");
                told.insert(root.name().to_string(), why.clone());
            }
            (None, Ok(())) if before.is_some() => {
                tracing::info!(root = root.name(), "the root can be used again");
                told.remove(root.name());
            }
            (_, Err(error)) => tracing::debug!(root = root.name(), %error, "the root waits"),
            _ => {}
        }
        looked.is_ok()
    }
}

fn empty_trash(root: &OpenRoot) -> Result<()> {
    let (began, mut told) = (Instant::now(), Instant::now());
    let purged = purge::purge(root.store.trash(), |entry, removed| {
        if told.elapsed() > PROGRESS {
            told = Instant::now();
            tracing::info!(root = root.name, entry = %entry.display(), removed, "purging the trash");
        }
    })?;
    for why in &purged.kept {
        tracing::warn!(root = root.name, why, "kept in the trash");
    }
    if began.elapsed() > Duration::from_secs(1) {
        let seconds = began.elapsed().as_secs();
        tracing::info!(root = root.name, removed = purged.removed, seconds, "purged");
    }
    Ok(())
}

/// Whether an administrator has to know why a root can't be looked after, though nobody asked.
fn is_for_the_log(error: &Error) -> bool {
    matches!(error, Error::Silent { .. } | Error::Refused { .. } | Error::RootUnusable { .. })
}

fn start(name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    let spawned = thread::Builder::new().name(name.into()).spawn(work);
    spawned.map(drop).map_err(|error| Error::io("start a thread that looks after a root", error))
}

/// Purges the trash of a root as often as it is woken, until it is time to look after it; an error when the driver is gone.
fn wait(
    woken: &Receiver<()>,
    time: Duration,
    driver: &Weak<Driver>,
    root: usize,
) -> Result<(), RecvTimeoutError> {
    let until = Instant::now() + time;
    loop {
        match woken.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Err(RecvTimeoutError::Timeout) => return Ok(()),
            answer => answer?,
        }
        while woken.try_recv().is_ok() {}
        let driver = driver.upgrade().ok_or(RecvTimeoutError::Disconnected)?;
        let root = &driver.roots[root];
        let purged = root.open().and_then(|open| {
            empty_trash(&open)?;
            // On a server that is worth its round trips once a minute.
            if open.is_shared() { Ok(()) } else { open.store.lay_reserve() }
        });
        if let Err(error) = purged {
            tracing::debug!(root = root.name(), %error, "the trash waits");
        }
    }
}

/// Does what comes up for a root behind the answers, and has the trash purged, until the driver is gone.
fn do_errands(errands: &Receiver<Errand>, wake: &Sender<()>, driver: &Weak<Driver>, root: usize) {
    for errand in errands {
        let (directory, names) = match errand {
            Errand::Remove { directory, names } => (directory, names),
            Errand::Purge => {
                let _ = wake.send(());
                continue;
            }
        };
        let Some(driver) = driver.upgrade() else { return };
        let root = &driver.roots[root];
        let removed = root.open().and_then(|open| {
            let own = open.for_removals()?;
            store::remove(&own.dir(&directory)?, &names)
        });
        if let Err(error) = removed {
            tracing::debug!(root = root.name(), directory, %error, "files that nobody needs stay");
        }
    }
}
