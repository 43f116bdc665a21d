//! What a publish asks before and after its mount is attached: is the place its own, may this node still have the volume,
//! was another process faster? And how it takes its mount back.

use std::path::Path;

use crate::access::{Publication, Scope, Verdict, admit};
use crate::backend::{OpenRoot, Root};
use crate::driver::Driver;
use crate::error::{Error, Result};
use crate::guard::Publishing;
use crate::id::VolumeId;
use crate::node::ours::is_ours;
use crate::node::source::{Source, admission};
use crate::node::target;
use crate::sys::table::Table;
use crate::volume::{State, Volume};

/// A publish at its target, once all that it is about is open.
pub(super) struct Attempt<'a> {
    pub(super) driver: &'a Driver,
    pub(super) root: &'a Root,
    pub(super) open: &'a OpenRoot,
    pub(super) id: &'a VolumeId,
    /// Of the volume's guard, and of its notes.
    pub(super) key: &'a str,
    pub(super) target: &'a str,
    pub(super) publishing: &'a Publishing<'a>,
}

impl Attempt<'_> {
    /// FAILED_PRECONDITION where something else is mounted at the target as well: a pod would see that, or the volume
    /// would come to light behind it.
    pub(super) fn alone(&self, source: &Source) -> Result<()> {
        let table = Table::read()?;
        let own = self.open.mounts_of(&table, &source.path)?;
        match table.at(Path::new(self.target)).find(|mount| own.iter().all(|own| own.id != mount.id)) {
            None => Ok(()),
            Some(other) => Err(Error::Refused {
                what: format!("publish at {}", self.target),
                why: format!(
                    "something else is mounted there as well ({} of a {}): unmount it",
                    other.root.display(),
                    other.file_system
                ),
            }),
        }
    }

    /// Removes what is mounted at the target, if this node may have the volume no more.
    ///
    /// # Errors
    /// Always: the one that says so, or ABORTED when there was a mount.
    pub(super) fn over<T>(&self, error: Error) -> Result<T> {
        if let Error::NotAdmitted { .. } | Error::NotFound { .. } = error {
            self.give_up_stale(None)?;
        }
        Err(error)
    }

    /// Where nodes are admitted: removes a mount that was made for an admission that is over, or for none that is known
    /// (PROTOCOL, rule 7).
    ///
    /// # Errors
    /// ABORTED when there was one.
    pub(super) fn give_up_stale(&self, incarnation: Option<&str>) -> Result<()> {
        if !self.open.is_shared() {
            return Ok(());
        }
        let Some((note, _)) = self.driver.notes.find(self.key, self.target) else { return Ok(()) };
        let is_over = incarnation.is_none() || note.incarnation.as_deref() != incarnation;
        let mounted: Vec<_> = Table::read()?.at(Path::new(self.target)).collect();
        if !is_over
            || mounted.is_empty()
            || !is_ours(self.driver, Some(self.root), self.id, self.target, &mounted)
        {
            return Ok(());
        }
        self.undo()?;
        Err(Error::Pending {
            what: format!("publish {} at {}", self.id, self.target),
            why: "what was mounted there was for a publication that is over, and is unmounted now".into(),
        })
    }

    /// Looks again when the mount is there: the record must still name this creation and admit this node, and no other
    /// process of this node may have been faster. Confirms the mount, or undoes it.
    pub(super) fn check_again(&self, source: &Source, wanted: &Publication) -> Result<()> {
        match self.lost(source, wanted) {
            Ok(None) => self.publishing.step(|| self.driver.notes.confirm(self.key, self.target)),
            Ok(Some(why)) => {
                self.take_back()?;
                Err(Error::Pending { what: format!("publish {} at {}", self.id, self.target), why })
            }
            Err(error) => {
                self.take_back()?;
                Err(error)
            }
        }
    }

    /// Why the mount has to go, if it has to.
    fn lost(&self, source: &Source, wanted: &Publication) -> Result<Option<String>> {
        let Self { driver, open, id, key, .. } = self;
        // What is as it was needs no second judgement.
        let is_unchanged = source.found.as_ref().map_or(Ok(true), |found| open.store.is_unchanged(found))?;
        if !is_unchanged {
            let live = open.store.load(&id.handle.record())?.map(|found| found.volume);
            let same = |volume: &Volume| {
                volume.state == State::Live
                    && Some(volume.incarnation.as_str()) == source.incarnation.as_deref()
            };
            let Some(volume) = live.filter(same) else {
                return Ok(Some("the volume was deleted or unpublished meanwhile".into()));
            };
            match wanted.mode.map(|mode| admission(driver, open, id, &volume, mode)) {
                Some(Ok(only_reads)) if wanted.read_only || !only_reads => {}
                Some(Err(error)) => return Ok(Some(error.to_string())),
                _ => return Ok(Some("this node may only read by now".into())),
            }
        }
        if let Some(nodes) = open.nodes() {
            nodes.register(&driver.config.host)?;
        }
        // Every process notes a mount before it attaches it, so without other notes there is nobody to ask for.
        if !driver.notes.others(key, &wanted.at)? {
            return Ok(None);
        }
        let published = driver.published(open, key, &source.path, source.incarnation.as_deref())?;
        let others: Vec<_> = published
            .into_iter()
            .map(|found| found.publication)
            .filter(|found| found.at != wanted.at)
            .collect();
        Ok(match admit(Scope::Targets, &others, wanted) {
            Verdict::Admit | Verdict::Repeat => None,
            Verdict::Incompatible { differs } => Some(differs),
            Verdict::InUse { by } => Some(by),
        })
    }

    /// Removes the mount of this publish, which is not confirmed. One that is was made at the same target by another process
    /// since, after an unpublish of this one, and is not ours to remove.
    fn take_back(&self) -> Result<()> {
        match self.driver.notes.find(self.key, self.target) {
            Some((_, true)) => Ok(()),
            _ => self.undo(),
        }
    }

    fn undo(&self) -> Result<()> {
        self.publishing.undo(|| {
            self.root.unmount(Path::new(self.target))?;
            self.driver.notes.forget(self.key, self.target)?;
            target::remove(self.target)
        })
    }
}
