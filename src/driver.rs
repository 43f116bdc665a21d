//! What every RPC may touch: the roots, the guards, the notes of this node, the trash.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::backend::OpenRoot;
use crate::backend::local::{Root, RootSpec};
use crate::error::{Error, Result};
use crate::guard::{Guards, Targets};
use crate::id::{Handle, VolumeId, node_part};
use crate::publications::{Notes, Published};
use crate::sys::mount::Table;
use crate::sys::purge;

/// What in `new` did not change for so long was left by a process that died.
const LEFT_BEHIND: Duration = Duration::from_secs(10 * 60);
/// How often the trash is looked at when nobody deletes anything: roots appear, mounts in deleted trees go away.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// How often a long purge says how far it is.
const PROGRESS: Duration = Duration::from_secs(10);

/// What the administrator says of this process.
#[derive(Debug, Clone)]
pub struct Config {
    /// The driver's name, as in CSIDriver and StorageClass objects.
    pub driver_name: String,
    /// The node's name, as the CO knows it.
    pub node_id: String,
    /// The most volumes that the CO should place on this node; 0 leaves it to the CO.
    pub max_volumes: i64,
}

/// The driver: one for each process.
#[derive(Debug)]
pub struct Driver {
    /// What the administrator said.
    pub config: Config,
    /// The roots, in the order of their names.
    pub roots: Vec<Root>,
    /// Guards of volumes.
    pub guards: Guards,
    /// Target paths at work.
    pub targets: Targets,
    /// What is noted of this node's publications.
    pub notes: Notes,
    purge: Sender<()>,
}

impl Driver {
    /// A driver over these roots, with its purge of their trash running behind. Nothing is read here: a
    /// root that is missing or full of volumes delays no start.
    pub fn new(config: Config, mut roots: Vec<RootSpec>, run: &Path) -> Result<Arc<Self>> {
        roots.sort_by(|a, b| a.name.cmp(&b.name));
        if let Some(pair) = roots.windows(2).find(|pair| pair[0].name == pair[1].name) {
            return Err(Error::invalid("--root", format!("{} is given twice", pair[0].name)));
        }
        for a in &roots {
            if let Some(b) = roots.iter().find(|b| a.name != b.name && a.path.starts_with(&b.path)) {
                let why =
                    format!("{} ({}) lies in {} ({})", a.name, a.path.display(), b.name, b.path.display());
                return Err(Error::invalid("--root", why));
            }
        }
        let (purge, wake) = channel();
        let driver = Arc::new(Self {
            notes: Notes::new(run, &config.driver_name),
            config,
            roots: roots.into_iter().map(Root::new).collect(),
            guards: Guards::default(),
            targets: Targets::default(),
            purge,
        });
        let weak = Arc::downgrade(&driver);
        let behind = move || {
            loop {
                let Some(driver) = weak.upgrade() else { return };
                driver.tidy();
                drop(driver);
                match wake.recv_timeout(LOOK_AGAIN) {
                    Err(RecvTimeoutError::Disconnected) => return,
                    Ok(()) => while wake.try_recv().is_ok() {},
                    Err(RecvTimeoutError::Timeout) => {}
                }
            }
        };
        let spawned = thread::Builder::new().name("purge".into()).spawn(behind);
        spawned.map_err(|error| Error::io("start the thread that purges the trash", error))?;
        Ok(driver)
    }

    /// Has the trash purged, behind the answer.
    pub fn purge(&self) {
        let _ = self.purge.send(());
    }

    /// The root that a request names; with a single root it may be left out.
    pub fn root(&self, name: Option<&str>) -> Result<&Root> {
        let known = || self.roots.iter().map(|root| root.spec.name.as_str()).collect::<Vec<_>>().join(", ");
        match (name, self.roots.as_slice()) {
            (None, [only]) => Ok(only),
            (None, _) => {
                Err(Error::invalid("parameters.root", format!("is needed: this driver has {}", known())))
            }
            (Some(name), roots) => roots.iter().find(|root| root.spec.name == name).ok_or_else(|| {
                Error::invalid(
                    "parameters.root",
                    format!("{name:?} is no root of this driver: it has {}", known()),
                )
            }),
        }
    }

    /// The volume that an id names on this node, and its root; nothing when no such volume can exist here.
    pub fn find(&self, volume_id: &str) -> Option<(&Root, VolumeId)> {
        let id = VolumeId::parse(volume_id).filter(|id| self.is_here(id))?;
        Some((self.roots.iter().find(|root| root.spec.name == id.root)?, id))
    }

    /// Whether an id is one of this node, whatever its root.
    pub fn is_here(&self, id: &VolumeId) -> bool {
        id.node == node_part(&self.config.node_id)
    }

    /// NOT_FOUND for an id, saying so when it is one of another node.
    pub fn no_such_volume(&self, volume_id: &str) -> Error {
        let here = node_part(&self.config.node_id);
        let why = match VolumeId::parse(volume_id) {
            Some(id) if id.node != here => format!(": it belongs to node {}, this is {here}", id.node),
            Some(id) if self.roots.iter().all(|root| root.spec.name != id.root) => {
                format!(": this driver has no root {}", id.root)
            }
            _ => String::new(),
        };
        Error::NotFound { what: format!("volume {volume_id}"), why }
    }

    /// The id of a volume of this node.
    pub fn id(&self, root: &str, handle: Handle) -> VolumeId {
        VolumeId { node: node_part(&self.config.node_id), root: root.to_string(), handle }
    }

    /// What the topology of this node and of its volumes is called.
    pub fn topology_key(&self) -> String {
        format!("{}/node", self.config.driver_name)
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
            let table = Table::read()?;
            let (device, in_file_system) = root.in_table(&table, path)?;
            let mounts =
                table.of(&device, &in_file_system).filter(|mount| mount.at != root.dir.path().join(path));
            Ok(self.notes.publications(key, incarnation, mounts))
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

    /// Moves to the trash what dead creations left, purges it, and keeps room for deletions, root by root.
    fn tidy(&self) {
        for root in &self.roots {
            let tidied = root.open().and_then(|open| {
                let swept = open.store.sweep(LEFT_BEHIND);
                empty_trash(&open)?;
                open.store.lay_reserve()?;
                swept
            });
            if let Err(error) = tidied {
                tracing::debug!(root = root.spec.name, %error, "the trash waits");
            }
        }
    }
}

fn empty_trash(root: &OpenRoot) -> Result<()> {
    let trash = root.store.trash()?;
    let (began, mut told) = (Instant::now(), Instant::now());
    let purged = purge::purge(&trash, |entry, removed| {
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
