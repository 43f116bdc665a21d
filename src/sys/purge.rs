//! Emptying a directory, politely: on descriptors, following nothing, stopping at a mount border.
//!
//! (`std::fs::remove_dir_all` empties the source of a bind mount that lies in the tree.) The trees are hostile: they
//! may hold millions of names in a directory, or directories a million deep. So names are taken a chunk at a
//! time, and what lies too deep is moved up, to be found again in its turn: that bounds both memory and descriptors.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use nix::errno::Errno;

use super::fs::{Dir, name};
use super::list::Kind;
use super::random;
use crate::error::Result;

/// Directories held open at once.
const MAX_DEPTH: usize = 64;

/// What came of it.
#[derive(Debug, Default)]
pub struct Purged {
    /// How many names were removed.
    pub removed: u64,
    /// What could not be removed, and why.
    pub kept: Vec<String>,
}

/// A directory that is being emptied.
struct Frame {
    dir: Dir,
    name: OsString,
    pending: Vec<(OsString, Kind)>,
    /// Whether another pass over the directory follows: where this one removed anything, it may have missed a name.
    again: bool,
}

impl Frame {
    fn new(dir: Dir, name: OsString) -> Self {
        Self { dir, name, pending: Vec::new(), again: false }
    }

    /// The next name, from the next chunk, or from the beginning where another pass was asked for.
    fn next(&mut self) -> Result<Option<(OsString, Kind)>> {
        loop {
            if let Some(entry) = self.pending.pop() {
                return Ok(Some(entry));
            }
            let Self { dir, pending, .. } = self;
            if !dir.chunk(|bytes, kind| pending.push((name(bytes).to_os_string(), kind)))? {
                return Ok(None);
            }
        }
    }

    /// Begins another pass, if this one removed anything.
    fn begin_again(&mut self) -> Result<bool> {
        let again = std::mem::take(&mut self.again);
        if again {
            self.dir.rewind()?;
        }
        Ok(again)
    }
}

impl Purged {
    fn keep(&mut self, why: impl Into<String>) {
        let why = why.into();
        if self.kept.len() < 100 && !self.kept.contains(&why) {
            self.kept.push(why);
        }
    }
}

/// Deletes all that is in `trash`; `progress` hears what is at work and the count so far, now and then.
///
/// # Errors
/// Only where `trash` itself cannot be read. What can't be removed is in [`Purged::kept`]; the same call later
/// goes on.
pub fn purge(trash: &Dir, mut progress: impl FnMut(&OsStr, u64)) -> Result<Purged> {
    let mut purged = Purged::default();
    let top = trash.dir(".")?;
    top.rewind()?;
    let mut stack = vec![Frame::new(top, OsString::new())];
    loop {
        let depth = stack.len();
        let Some(frame) = stack.last_mut() else { return Ok(purged) };
        let (entry, kind) = match frame.next() {
            Ok(Some(found)) => found,
            Err(error) if depth == 1 => return Err(error),
            Ok(None) if depth == 1 && frame.begin_again()? => continue,
            ended => {
                match ended {
                    // It can't be read; or another purge was faster.
                    Err(error) if !error.is_gone() => purged.keep(error.to_string()),
                    _ => {}
                }
                let Some(mut done) = stack.pop() else { return Ok(purged) };
                let Some(above) = stack.last_mut() else { return Ok(purged) };
                // Mostly it is empty after one pass, and need not be read once more to know it.
                match above.dir.rmdir(&done.name) {
                    Ok(()) => {
                        purged.removed += 1;
                        // What comes into the trash meanwhile waits, or this would never end.
                        above.again |= depth > 2;
                    }
                    Err(error) if error.is_gone() => {}
                    Err(error) if matches!(error.errno(), Some(Errno::ENOTEMPTY | Errno::EEXIST)) => {
                        // What this pass missed; otherwise the reason lies deeper and was kept there.
                        if matches!(done.begin_again(), Ok(true)) {
                            stack.push(done);
                        }
                    }
                    Err(error) => purged.keep(error.to_string()),
                }
                continue;
            }
        };
        if kind != Kind::Directory {
            match frame.dir.unlink(&entry) {
                Ok(()) => {
                    frame.again |= depth > 1;
                    purged.removed += 1;
                    if purged.removed.is_multiple_of(1024) {
                        progress(stack.get(1).map_or(&entry, |tree| &tree.name), purged.removed);
                    }
                    continue;
                }
                Err(error) if error.is_gone() => continue,
                Err(error)
                    if matches!(error.errno(), Some(Errno::EISDIR | Errno::EPERM))
                        && is_dir(&frame.dir, &entry) => {}
                Err(error) => {
                    purged.keep(error.to_string());
                    continue;
                }
            }
        }
        match frame.dir.dir(&entry) {
            Ok(dir) if depth <= MAX_DEPTH => stack.push(Frame::new(dir, entry)),
            Ok(_) => match frame.dir.rename(&entry, trash, format!("deep.{:016x}", random()?)) {
                Ok(()) => {
                    frame.again = true;
                    // It is there now, and to be found.
                    stack[0].again = true;
                }
                Err(error) => purged.keep(error.to_string()),
            },
            Err(error) if error.is_gone() => {}
            Err(error) if error.errno() == Some(Errno::EXDEV) => {
                let path = frame.dir.path().join(&entry);
                purged.keep(format!("{}: something is mounted there; unmount it", path.display()));
            }
            Err(error) => purged.keep(error.to_string()),
        }
    }
}

fn is_dir(within: &Dir, entry: &OsString) -> bool {
    matches!(within.stat_of(name(entry.as_bytes())), Ok(Some(found)) if found.st_mode & nix::libc::S_IFMT == nix::libc::S_IFDIR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn trash() -> (tempfile::TempDir, Dir) {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::create_dir(scratch.path().join("trash")).unwrap();
        let dir = Dir::open(&scratch.path().join("trash")).unwrap();
        (scratch, dir)
    }

    #[test]
    fn a_tree_is_deleted_and_what_its_links_point_to_is_not() {
        let (scratch, trash) = trash();
        let tree = scratch.path().join("trash/t");
        std::fs::create_dir_all(tree.join("a/b/c")).unwrap();
        std::fs::create_dir(scratch.path().join("outside")).unwrap();
        std::fs::write(scratch.path().join("outside/precious"), "x").unwrap();
        std::fs::write(tree.join("a/b/file"), "x").unwrap();
        symlink(scratch.path().join("outside"), tree.join("a/link")).unwrap();
        symlink("..", tree.join("up")).unwrap();
        let purged = purge(&trash, |_, _| ()).unwrap();
        assert_eq!(purged.kept, Vec::<String>::new());
        assert_eq!(purged.removed, 7);
        assert!(!tree.exists());
        assert!(scratch.path().join("outside/precious").exists());
    }

    #[test]
    fn a_directory_of_many_names_is_deleted_whole() {
        let (scratch, trash) = trash();
        let tree = scratch.path().join("trash/t");
        std::fs::create_dir(&tree).unwrap();
        for i in 0..5000 {
            std::fs::write(tree.join(format!("{i}")), "").unwrap();
        }
        assert_eq!(purge(&trash, |_, _| ()).unwrap().removed, 5001);
        assert!(trash.is_empty_but_for(&[]).unwrap());
    }

    #[test]
    fn a_tree_deeper_than_any_path_is_deleted_with_few_descriptors() {
        let (scratch, trash) = trash();
        std::fs::create_dir(scratch.path().join("trash/t")).unwrap();
        let mut dir = Dir::open(&scratch.path().join("trash/t")).unwrap();
        for _ in 0..3000 {
            dir.mkdir("d").unwrap();
            dir = dir.dir("d").unwrap();
        }
        let purged = purge(&trash, |_, _| ()).unwrap();
        assert_eq!(purged.kept, Vec::<String>::new());
        assert!(trash.is_empty_but_for(&[]).unwrap());
    }

    #[test]
    fn a_tree_that_is_wide_where_it_is_deep_is_deleted() {
        let (scratch, trash) = trash();
        std::fs::create_dir(scratch.path().join("trash/t")).unwrap();
        let mut dir = Dir::open(&scratch.path().join("trash/t")).unwrap();
        for depth in 0..150 {
            dir.mkdir("d").unwrap();
            for i in 0..if depth % 10 == 2 { 700 } else { 0 } {
                dir.mkdir(format!("{i}")).unwrap();
            }
            dir = dir.dir("d").unwrap();
        }
        let purged = purge(&trash, |_, _| ()).unwrap();
        assert_eq!(purged.kept, Vec::<String>::new());
        assert_eq!(purged.removed, 151 + 15 * 700);
        assert!(trash.is_empty_but_for(&[]).unwrap());
    }

    #[test]
    fn an_empty_trash_is_no_error() {
        let (_scratch, trash) = trash();
        assert_eq!(purge(&trash, |_, _| ()).unwrap().removed, 0);
    }
}
