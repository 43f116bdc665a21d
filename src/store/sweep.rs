//! What creations that died have left behind.

use std::time::Duration;

use super::Store;
use crate::error::{Error, Result};
use crate::id::{Incarnation, RecordName};
use crate::sys::random;
use crate::volume::State;

impl Store {
    /// Moves to the trash what creations that died have left in `new`. What changed within `age` may still be
    /// at work; what a live record names is no remainder, only not in its place yet.
    pub fn sweep(&self, age: Duration) -> Result<()> {
        let new = self.new_dir().dir(".")?;
        let mut entries = Vec::new();
        new.scan(|entry, _| entries.push(entry.to_string()))?;
        if entries.is_empty() {
            return Ok(());
        }
        let now = self.now()?;
        for entry in entries {
            let Some(found) = new.stat_of(&entry)? else { continue };
            let changed = Duration::from_secs(u64::try_from(found.st_ctime).unwrap_or(0));
            if now.saturating_sub(changed) < age {
                continue;
            }
            match self.is_named(&entry) {
                Ok(false) => {}
                Ok(true) => continue,
                Err(error) => {
                    tracing::warn!(root = self.root, entry, %error, "kept, since its record can't be read");
                    continue;
                }
            }
            tracing::info!(root = self.root, entry, "a creation that never ended goes to the trash");
            if entry.ends_with(".json") {
                // It may be a second name of what others have read.
                self.remove(&new, "new".into(), vec![entry])?;
            } else {
                self.discard(&entry)?;
            }
        }
        Ok(())
    }

    /// The time, by the clock that stamps the files: a server has its own.
    fn now(&self) -> Result<Duration> {
        let (new, name) = (self.new_dir(), format!("now.{:016x}", random()?));
        new.create(&name, b"", false)?;
        let found = new.stat_of(&name);
        new.unlink(&name)?;
        let changed = found?.map_or(0, |found| found.st_ctime);
        Ok(Duration::from_secs(u64::try_from(changed).unwrap_or(0)))
    }

    /// Whether an entry of `new` is the tree of a record that lives.
    fn is_named(&self, entry: &str) -> Result<bool> {
        let Some((name, incarnation)) = entry.rsplit_once('.') else { return Ok(false) };
        let (Some(name), Some(incarnation)) = (RecordName::parse(name), Incarnation::parse(incarnation))
        else {
            return Ok(false);
        };
        match self.load(&name) {
            Ok(found) => Ok(found.is_some_and(|found| {
                found.volume.incarnation == incarnation && found.volume.state == State::Live
            })),
            // Nobody can say what it names, and it holds nothing else up.
            Err(Error::BadRecord { .. }) => Ok(true),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::Own;
    use super::*;
    use crate::guard::{Call, Guards};
    use crate::parameters::{OnDelete, Owner};
    use crate::sys::fs::Dir;
    use crate::volume::Volume;

    const LIVE: &str = "00000000000000aa";
    const OTHER: &str = "00000000000000bb";

    /// A store with a volume `v` of the incarnation [`LIVE`], whose tree was never put in its place.
    fn store() -> (tempfile::TempDir, Store) {
        let scratch = tempfile::tempdir().unwrap();
        let own = Dir::open(scratch.path()).unwrap();
        Own::lay_out(&own).unwrap();
        let store = Store::new(Arc::new(Own::open(own).unwrap()), "r", std::sync::mpsc::channel().0);
        let volume = Volume {
            format: Volume::FORMAT,
            name: "v".into(),
            incarnation: Incarnation::parse(LIVE).unwrap(),
            nonce: "0".into(),
            state: State::Live,
            path: "v".into(),
            capacity_bytes: 0,
            modes: Vec::new(),
            owner: Owner::default(),
            on_delete: OnDelete::Delete,
            parameters: Default::default(),
            adopted: false,
            mount_options: Vec::new(),
            admitted: Vec::new(),
        };
        let guards = Guards::default();
        let guard = guards.acquire(&Call::default(), "r/v".into()).unwrap();
        store.born(&guard, &RecordName::of("v"), volume).unwrap();
        (scratch, store)
    }

    fn left_after_sweep(store: &Store, scratch: &tempfile::TempDir, age: Duration) -> Vec<String> {
        let new = scratch.path().join("new");
        for tree in
            [format!("v.{LIVE}"), format!("v.{OTHER}"), format!("w.{LIVE}"), format!("v.{OTHER}.record")]
        {
            std::fs::create_dir(new.join(tree)).unwrap();
        }
        std::fs::write(new.join("v.0123.json"), "{").unwrap();
        store.sweep(age).unwrap();
        let mut left: Vec<_> = std::fs::read_dir(new)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        left
    }

    #[test]
    fn what_no_record_names_goes_to_the_trash_and_the_tree_of_a_live_one_stays() {
        let (scratch, store) = store();
        assert_eq!(left_after_sweep(&store, &scratch, Duration::ZERO), [format!("v.{LIVE}")]);
        assert_eq!(std::fs::read_dir(scratch.path().join("trash")).unwrap().count(), 3);
    }

    #[test]
    fn what_changed_lately_may_still_be_at_work() {
        let (scratch, store) = store();
        assert_eq!(left_after_sweep(&store, &scratch, Duration::from_secs(600)).len(), 5);
    }

    #[test]
    fn a_bad_record_keeps_its_trees_and_holds_up_nothing_else() {
        let (scratch, store) = store();
        std::fs::write(scratch.path().join(format!("volumes/v/{LIVE}/1.json")), "").unwrap();
        let left = left_after_sweep(&store, &scratch, Duration::ZERO);
        assert_eq!(left, [format!("v.{LIVE}"), format!("v.{OTHER}")]);
    }
}
