//! Deleting a tree, politely: on descriptors, following nothing, stopping at a mount border.
//!
//! (`std::fs::remove_dir_all` empties the source of a bind mount that lies in the tree.) The tree is hostile: it
//! may hold millions of names in a directory, or directories a million deep. So names are taken a chunk at a
//! time, and what lies too deep is first moved up into the trash, which bounds both memory and descriptors.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;

use nix::errno::Errno;

use super::fs::{Dir, Kind, name};
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
    /// Whether this pass over the directory removed anything: if so, another one follows.
    removed_any: bool,
}

/// Deletes `entry` of `trash` and all beneath it; `progress` hears the count so far, now and then.
///
/// # Errors
/// Only where `trash` itself cannot be read. What can't be removed is in [`Purged::kept`]; the same call later
/// goes on.
pub fn purge(trash: &Dir, entry: &str, mut progress: impl FnMut(u64)) -> Result<Purged> {
    let mut purged = Purged::default();
    let mut tops = vec![OsString::from(entry)];
    while let Some(top) = tops.pop() {
        purge_tree(trash, top, &mut tops, &mut purged, &mut progress)?;
    }
    Ok(purged)
}

fn purge_tree(
    trash: &Dir,
    top: OsString,
    tops: &mut Vec<OsString>,
    purged: &mut Purged,
    progress: &mut impl FnMut(u64),
) -> Result<()> {
    let mut stack: Vec<Frame> = Vec::new();
    let mut next = Some((top, Kind::Unknown));
    loop {
        // Where the next name lies: in the directory on top of the stack, or in the trash itself.
        let depth = stack.len();
        let within = stack.last().map_or(trash, |frame| &frame.dir);
        if let Some((entry, kind)) = next.take() {
            let mut keep = |why: String| {
                if purged.kept.len() < 100 {
                    purged.kept.push(why);
                }
            };
            if kind != Kind::Directory {
                match within.unlink(&entry) {
                    Ok(()) => {
                        purged.removed += 1;
                        if purged.removed.is_multiple_of(1024) {
                            progress(purged.removed);
                        }
                        if let Some(frame) = stack.last_mut() {
                            frame.removed_any = true;
                        }
                    }
                    Err(error) if error.is_gone() => {}
                    Err(error)
                        if matches!(error.errno(), Some(Errno::EISDIR | Errno::EPERM))
                            && is_dir(within, &entry) =>
                    {
                        next = Some((entry, Kind::Directory));
                        continue;
                    }
                    Err(error) => keep(error.to_string()),
                }
            } else {
                match within.dir(&entry) {
                    Ok(dir) if depth < MAX_DEPTH => {
                        stack.push(Frame { dir, name: entry, pending: Vec::new(), removed_any: false });
                    }
                    Ok(_) => {
                        let up = OsString::from(format!("deep.{:016x}", random()?));
                        match within.rename(&entry, trash, &up) {
                            Ok(()) => {
                                tops.push(up);
                                if let Some(frame) = stack.last_mut() {
                                    frame.removed_any = true;
                                }
                            }
                            Err(error) => keep(error.to_string()),
                        }
                    }
                    Err(error) if error.is_gone() => {}
                    Err(error) if error.errno() == Some(Errno::EXDEV) => {
                        let path = within.path().join(&entry);
                        keep(format!("{}: something is mounted there; unmount it", path.display()));
                    }
                    Err(error) => keep(error.to_string()),
                }
            }
        }
        let Some(frame) = stack.last_mut() else { return Ok(()) };
        if let Some(entry) = frame.pending.pop() {
            next = Some(entry);
            continue;
        }
        let Frame { dir, pending, .. } = frame;
        if dir.chunk(|bytes, kind| pending.push((name(bytes).to_os_string(), kind)))? {
            continue;
        }
        if frame.removed_any {
            frame.removed_any = false;
            frame.dir.rewind()?;
            continue;
        }
        let Some(done) = stack.pop() else { return Ok(()) };
        let above = stack.last().map_or(trash, |frame| &frame.dir);
        match above.rmdir(&done.name) {
            Ok(()) => {
                purged.removed += 1;
                if let Some(frame) = stack.last_mut() {
                    frame.removed_any = true;
                }
            }
            // Not empty: the reason lies deeper and was kept there.
            Err(error) if error.is_gone() || error.errno() == Some(Errno::ENOTEMPTY) => {}
            Err(error) => purged.kept.push(error.to_string()),
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
        let purged = purge(&trash, "t", |_| ()).unwrap();
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
        assert_eq!(purge(&trash, "t", |_| ()).unwrap().removed, 5001);
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
        let purged = purge(&trash, "t", |_| ()).unwrap();
        assert_eq!(purged.kept, Vec::<String>::new());
        assert!(trash.is_empty_but_for(&[]).unwrap());
    }

    #[test]
    fn what_is_gone_already_is_no_error() {
        let (_scratch, trash) = trash();
        assert_eq!(purge(&trash, "nothing", |_| ()).unwrap().removed, 0);
    }
}
