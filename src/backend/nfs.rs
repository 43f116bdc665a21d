//! A share of an NFS server as a root: every node reaches it, and each publication is a mount of its own.
//!
//! Berth keeps one mount for itself (`base`) and touches no pod's mount but to make and to remove it: whatever
//! looks at one may hang for as long as its server is dead.

use std::path::Path;
use std::str::FromStr;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::base::{Base, PATIENCE};
use super::server::Server;
use super::share::Share;
use super::{Backend, OpenRoot, root_name};
use crate::error::{Error, Result};
use crate::guard::{Call, Guards};
use crate::id::Incarnation;
use crate::mount_options::{self, Giver};
use crate::store::{Errand, Store};
use crate::sys::fs::Dir;
use crate::sys::handle::is_same_directory;
use crate::sys::mount::{Attributes, Detached};
use crate::sys::nfs::{self, Unmounted};

/// How long an unmount may take before the target is looked at without its answer.
const UNMOUNT: Duration = Duration::from_secs(3);
/// How long a server may take to show that it lives, before a target that is in use is unmounted all the same.
const PROBE: Duration = Duration::from_secs(2);

/// What the administrator says of a root: `NAME=SERVER:/PATH[,option…][,records=SERVER:/PATH]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// The name that a StorageClass picks it by.
    pub name: String,
    /// Where it is.
    pub share: Share,
    /// Mount options, as nfs(5) spells them: of Berth's own mount where they make sense there, and of each publication.
    pub options: Vec<String>,
    /// Where its records are kept when nothing of Berth's may be written to it.
    pub records: Option<Share>,
}

impl FromStr for Spec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = "NAME=SERVER:/PATH[,OPTION…][,records=SERVER:/PATH]";
        let (name, rest) = text.split_once('=').ok_or(format!("a root is {form}"))?;
        let name = root_name(name)?;
        let mut words = rest.split(',');
        let share = words.next().unwrap_or_default().parse()?;
        let (mut flags, mut records) = (Vec::new(), None);
        for word in words {
            match word.strip_prefix("records=") {
                Some(share) => records = Some(share.parse()?),
                None => flags.push(word.to_string()),
            }
        }
        let split = mount_options::split("root", &flags, Giver::Root).map_err(|error| error.to_string())?;
        if let Some(flag) = split.generic.first() {
            return Err(format!("{flag} is for mountOptions of a StorageClass; a root is {form}"));
        }
        Ok(Self { name, share, options: split.nfs, records })
    }
}

impl Spec {
    /// Whether a volume at `path` could be mounted: Linux takes no longer source.
    ///
    /// # Errors
    /// INVALID_ARGUMENT when server and path are too long together.
    pub(super) fn check_length(&self, path: &str) -> Result<()> {
        let length = self.share.server.len() + 1 + self.share.beneath(path).len();
        if length <= nfs::MAX_TEXT {
            return Ok(());
        }
        let why = format!(
            "{}:{} has {length} bytes, and Linux mounts no NFS path of more than {}: shorten it",
            self.share.server,
            self.share.beneath(path),
            nfs::MAX_TEXT
        );
        Err(Error::invalid("parameters.subDir", why))
    }

    /// Whether a mount whose source the kernel calls `source` is of the data at `path` beneath this root. Data that Berth
    /// made has a name that nothing else has, so it is known by that, whatever its server was called when it was mounted.
    pub(super) fn is_source_of(&self, source: &str, path: &str) -> bool {
        source.parse::<Share>().is_ok_and(|found| {
            let is_here = found.server == self.share.server && found.path == self.share.beneath(path);
            is_here || Incarnation::ends(path) && found.path.ends_with(&format!("/{path}"))
        })
    }

    /// The path beneath this root that a mount's source leads to, if it leads there.
    pub fn beneath<'a>(&self, source: &'a str) -> Option<&'a str> {
        let path = source.strip_prefix(&self.share.server)?.strip_prefix(':')?;
        path.strip_prefix(self.share.path.trim_end_matches('/'))?.strip_prefix('/')
    }

    /// A mount of its own of the directory at `path`, which the server was just seen to have as `data`.
    pub(super) fn mount(
        &self,
        base: &Base,
        path: &str,
        data: &Dir,
        attributes: Attributes,
        options: &[String],
    ) -> Result<Detached> {
        let merged = mount_options::merge(&self.options, options);
        let has_version = merged.iter().any(|option| option.starts_with("vers="));
        let version = (!has_version).then(|| format!("vers={}", base.version));
        let options: Vec<String> = merged.into_iter().chain(version).collect();
        let path = self.share.beneath(path);
        let source = nfs::Source { server: &self.share.server, path: &path };
        let mount = nfs::mount(&source, &options, attributes, PATIENCE)?;
        // The server resolves the path anew, and follows links on the way: somebody may have swapped one in.
        if is_same_directory(&mount, data)? {
            return Ok(mount);
        }
        Err(Error::Pending {
            what: format!("mount {}:{path}", self.share.server),
            why: "another directory was put in its place meanwhile, or a link on the way to it".into(),
        })
    }
}

/// A root on a server, there or not.
#[derive(Debug)]
pub struct Root {
    /// What the administrator said.
    pub spec: Arc<Spec>,
    server: Arc<Server>,
    base: Mutex<Option<Arc<Base>>>,
    /// One mounts, the others wait for it, for a short time.
    mounting: Guards,
    /// The identity that was seen first.
    uuid: Mutex<Option<String>>,
    errands: Sender<Errand>,
}

impl Root {
    /// A root that has not been looked at yet. What comes up to be done behind the answers goes to `errands`.
    pub(super) fn new(spec: Spec, server: Arc<Server>, errands: Sender<Errand>) -> Self {
        Self {
            spec: Arc::new(spec),
            server,
            base: Mutex::new(None),
            mounting: Guards::default(),
            uuid: Mutex::new(None),
            errands,
        }
    }

    /// Opens the root for one call, which takes one of its server's places.
    pub(super) fn open(&self) -> Result<OpenRoot> {
        let place = self.server.enter()?;
        let base = self.base()?;
        Ok(OpenRoot {
            name: self.spec.name.clone(),
            dir: base.dir.duplicate()?,
            store: Store::new(base.own.clone(), &self.spec.name, self.errands.clone()).leaving_removals(),
            adopted_only: self.spec.records.is_some(),
            backend: Backend::Nfs { spec: self.spec.clone(), base, _place: place },
        })
    }

    /// Berth's own mount, which is made where there is none.
    fn base(&self) -> Result<Arc<Base>> {
        if let Some(base) = self.mounted() {
            return Ok(base);
        }
        let _one = self.mounting.acquire(&Call::default(), format!("root {}", self.spec.name))?;
        match self.mounted() {
            Some(base) => Ok(base),
            None => self.mount(),
        }
    }

    /// Whether the server shows life. Takes no place, for those may all be taken; and what else is wrong with the root does
    /// not make its server dead.
    fn answers(&self) -> bool {
        match self.base() {
            Ok(base) => nfs::answers(&base.dir, PROBE),
            Err(Error::Silent { .. }) => false,
            Err(_) => true,
        }
    }

    fn mounted(&self) -> Option<Arc<Base>> {
        self.base.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn mount(&self) -> Result<Arc<Base>> {
        let mut seen = self.uuid.lock().unwrap_or_else(PoisonError::into_inner);
        let base = Arc::new(Base::mount(&self.spec, seen.is_some())?);
        match seen.as_ref() {
            Some(before) if *before != base.uuid => {
                let why = format!(
                    "{} was root {before} when this driver started and is root {} now: export the right one, or restart",
                    self.spec.share, base.uuid
                );
                return Err(Error::RootUnusable { root: self.spec.name.clone(), why });
            }
            _ => *seen = Some(base.uuid.clone()),
        }
        *self.base.lock().unwrap_or_else(PoisonError::into_inner) = Some(base.clone());
        Ok(base)
    }

    /// Gives Berth's own mount up where the server exports something else now; the next call mounts anew.
    pub fn look_again(&self) {
        if self.mounted().is_some_and(|base| base.is_stale()) {
            tracing::warn!(root = self.spec.name, share = %self.spec.share, "what was mounted is gone: mounting anew");
            *self.base.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// Removes every mount at a target.
    pub(super) fn unmount(&self, target: &Path) -> Result<()> {
        unmount(target, || self.answers())
    }
}

/// Removes every mount at a target. A busy one is removed from sight only where its server does not answer: nobody could
/// end what uses it.
pub(super) fn unmount(target: &Path, answers: impl FnOnce() -> bool) -> Result<()> {
    let shown = target.display();
    if nfs::unmount(target, false, UNMOUNT)? == Unmounted::Gone {
        return Ok(());
    }
    let busy = || Error::Pending { what: format!("unmount {shown}"), why: "a process still uses it".into() };
    if answers() {
        return Err(busy());
    }
    tracing::warn!(
        target = %shown,
        "unmounted while a process uses it, since its server does not answer; that process goes on when it does"
    );
    match nfs::unmount(target, true, UNMOUNT)? {
        Unmounted::Gone => Ok(()),
        Unmounted::Busy => Err(busy()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_is_a_name_a_share_and_options() {
        let spec: Spec = "main=nas:/export/k8s,vers=4.1,nconnect=4,records=nas:/berth".parse().unwrap();
        assert_eq!((spec.name.as_str(), spec.share.to_string().as_str()), ("main", "nas:/export/k8s"));
        assert_eq!(spec.options, ["vers=4.1", "nconnect=4"]);
        assert_eq!(spec.records.unwrap().path, "/berth");
        for bad in ["nas:/export", "Main=nas:/x", "main=/x", "main=nas:/x,ro", "main=nas:/x,records=/y"] {
            assert!(bad.parse::<Spec>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_mount_is_of_a_volume_by_its_source() {
        let spec: Spec = "main=[fd00::1]:/export".parse().unwrap();
        assert!(spec.is_source_of("[fd00::1]:/export/a/b.0123456789abcdef", "a/b.0123456789abcdef"));
        for other in
            ["[fd00::2]:/export/a", "[fd00::1]:/export2/a", "[fd00::1]:/export/a/b", "[fd00::1]:/a", "tmpfs"]
        {
            assert!(!spec.is_source_of(other, "a"), "{other}");
        }
        assert!(spec.is_source_of("nas:/other/a/b.0123456789abcdef", "a/b.0123456789abcdef"));
        assert!(!spec.is_source_of("nas:/other/a/c.0123456789abcdef", "a/b.0123456789abcdef"));
        assert_eq!(spec.beneath("[fd00::1]:/export/a/b"), Some("a/b"));
        assert_eq!(spec.beneath("[fd00::1]:/exported/a"), None);
    }
}
