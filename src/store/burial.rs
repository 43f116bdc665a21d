//! The end of records, and of what never became one: to the trash, by a rename.

use nix::errno::Errno;

use super::{Found, Store};
use crate::error::Result;
use crate::guard::Guard;
use crate::id::RecordName;
use crate::sys::random;
use crate::volume::State;

impl Store {
    /// Moves to the trash what creations of `name` have prepared and not won: none of them is born any more.
    pub fn discard_prepared(&self, guard: &Guard<'_>, name: &RecordName) -> Result<()> {
        self.check(guard, name);
        let mut prepared = Vec::new();
        self.new_dir().dir(".")?.scan(|entry, _| {
            let rest = entry.strip_prefix(name.as_str()).and_then(|rest| rest.strip_prefix('.'));
            if rest.is_some_and(|rest| rest.ends_with(".record")) {
                prepared.push(entry.to_string());
            }
        })?;
        prepared.iter().try_for_each(|entry| self.discard(entry).map(drop))
    }

    /// Ends a record whose deletion is won and done: to the trash, then its name.
    pub fn bury(&self, guard: &Guard<'_>, found: &Found) -> Result<()> {
        self.check(guard, &found.name);
        debug_assert_eq!(found.volume.state, State::Deleting);
        let (volumes, incarnation) = (self.volumes(), found.volume.incarnation.as_str());
        let buried = match volumes.dir(found.name.as_str()) {
            Ok(dir) => {
                dir.rename(incarnation, self.trash(), format!("{incarnation}.record.{:016x}", random()?))
            }
            Err(error) => Err(error),
        };
        match buried {
            Err(error) if !error.is_missing() => return Err(error),
            _ => {}
        }
        match volumes.rmdir(found.name.as_str()) {
            // Not empty: the name was created again already.
            Err(error) if !error.is_missing() && error.errno() != Some(Errno::ENOTEMPTY) => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes what a burial that died left of a name that has no record.
    pub fn clear(&self, guard: &Guard<'_>, name: &RecordName) -> Result<()> {
        self.check(guard, name);
        // An empty directory says that there is no volume, as none does: fine where it has to stay.
        let _ = self.volumes().rmdir(name.as_str());
        Ok(())
    }

    /// Moves something from `new` to the trash; false when it is not there.
    pub fn discard(&self, entry: &str) -> Result<bool> {
        let to = format!("{entry}.{:016x}", random()?);
        match self.new_dir().rename(entry, self.trash(), to) {
            Ok(()) => Ok(true),
            Err(error) if error.is_missing() => Ok(false),
            Err(error) => Err(error),
        }
    }
}
