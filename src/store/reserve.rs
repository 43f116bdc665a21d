//! Room that is kept for deletions.
//!
//! A deletion begins with a record, and a full disk has no room for one: then nobody could make room by deleting a
//! volume. So some files lie in `.berth/reserve`. A deletion that finds no room gives up one of them and begins anew, and
//! what purges the trash lays them again. `docs/decisions/0010-a-reserve-for-deletions.md` has the figures.

use nix::errno::Errno;

use super::Store;
use crate::error::{Error, Result};

const DIRECTORY: &str = "reserve";
/// A record, its second name, directories that grow: each may need an inode or a block of its own.
const FILES: u64 = 8;
/// XFS makes a file only where the longest way to make one would find room, some 200 KiB; so two files are enough for it.
const LARGEST: u64 = 128 << 10;
/// A small root keeps less: all files together are a thirty-second of it.
const SHARE: u64 = 32 * FILES;

impl Store {
    /// Runs a deletion, which may be begun anew at any point, with all the room there is.
    ///
    /// # Errors
    /// The deletion's own; for lack of room only when nothing of the reserve is left.
    pub fn with_reserve<T>(&self, mut deletion: impl FnMut() -> Result<T>) -> Result<T> {
        loop {
            match deletion() {
                Err(error) if has_no_room(&error) && self.give_up_one()? => {
                    tracing::warn!(root = self.root, %error, "a part of the reserve is given up");
                }
                answer => return answer,
            }
        }
    }

    /// Lays the reserve, as far as there is room.
    pub fn lay_reserve(&self) -> Result<()> {
        self.own.dir().mkdir_if_missing(DIRECTORY)?;
        let reserve = self.own.dir().dir(DIRECTORY)?;
        let mut there = 0;
        reserve.scan(|_, _| there += 1)?;
        if there >= FILES {
            return Ok(());
        }
        let space = reserve.space()?;
        let size = (space.blocks().saturating_mul(space.fragment_size()) / SHARE).min(LARGEST);
        let content = vec![0; usize::try_from(size).unwrap_or(0)];
        for number in 0..FILES {
            match reserve.create(&number.to_string(), &content, false) {
                Err(error) if error.errno() == Some(Errno::EEXIST) => {}
                answer => answer?,
            }
        }
        Ok(())
    }

    /// Makes room; false when there is nothing left to give up.
    fn give_up_one(&self) -> Result<bool> {
        let reserve = match self.own.dir().dir(DIRECTORY) {
            Err(error) if error.is_gone() => return Ok(false),
            answer => answer?,
        };
        for number in 0..FILES {
            let name = number.to_string();
            // XFS gives the blocks of a file back at once where it is cut short, and later where it is removed.
            match reserve.truncate(&name).and_then(|()| reserve.unlink(&name)) {
                Err(error) if error.is_gone() => {}
                answer => return answer.map(|()| true),
            }
        }
        Ok(false)
    }
}

fn has_no_room(error: &Error) -> bool {
    matches!(error.errno(), Some(Errno::ENOSPC | Errno::EDQUOT))
}
