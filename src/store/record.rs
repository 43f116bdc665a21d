//! A record's files: what stands in one, and which of them holds.

use std::path::PathBuf;

use nix::errno::Errno;

use super::Store;
use crate::error::{Error, Result};
use crate::id::RecordName;
use crate::path::check_path;
use crate::sys::fs::Dir;
use crate::sys::list::Kind;
use crate::volume::Volume;

impl Store {
    /// Reads a generation.
    pub(super) fn read(&self, record: &Dir, file: &str) -> Result<Vec<u8>> {
        if self.leaves_removals { record.read_and_keep_nothing(file) } else { record.read(file) }
    }
}

pub(super) fn shown(dir: &Dir, file: &str) -> String {
    let path: PathBuf = if file.is_empty() { dir.path().to_path_buf() } else { dir.path_of(file) };
    path.display().to_string()
}

/// A link, or a file for a directory, where a record should be: as bad as a torn one.
pub(super) fn misplaced(error: Error, dir: &Dir, entry: &str) -> Error {
    match error.errno() {
        Some(errno @ (Errno::ENOTDIR | Errno::ELOOP)) => Error::BadRecord {
            path: shown(dir, entry),
            why: format!(
                "is not what Berth put there ({}): restore it from a backup, or move it away to give up the volume",
                errno.desc()
            ),
        },
        _ => error,
    }
}

/// The generations that a record directory holds.
pub(super) fn generations(dir: &Dir) -> Result<Vec<u64>> {
    for _ in 0..100 {
        let mut found = Vec::new();
        let reads = dir.scan(|entry, kind| {
            let number = entry.strip_suffix(".json").filter(|number| !number.starts_with('0'));
            if let Some(number) = number.and_then(|number| number.parse().ok())
                && kind != Kind::Directory
            {
                found.push(number);
            }
        })?;
        // More than one read is no snapshot: a generation that is replaced meanwhile may be missing.
        if reads <= 1 {
            return Ok(found);
        }
    }
    Err(Error::BadRecord { path: shown(dir, ""), why: "holds more files than a record has".into() })
}

pub(super) fn highest(dir: &Dir) -> Result<Option<u64>> {
    match generations(dir) {
        Ok(found) => Ok(found.into_iter().max()),
        Err(error) if error.is_gone() => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn content(volume: &Volume) -> Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(volume)
        .map_err(|error| Error::io("write a record", std::io::Error::from(error)))?;
    text.push(b'\n');
    Ok(text)
}

pub(super) fn parse(content: &[u8], name: &RecordName, incarnation: &str, path: &str) -> Result<Volume> {
    #[derive(serde::Deserialize)]
    struct Format {
        format: u32,
    }
    let bad = |why: String| Error::BadRecord { path: path.to_string(), why };
    if content.is_empty() {
        return Err(bad(
            "is empty: restore it from a backup, or move its directory away to give up the volume".into(),
        ));
    }
    let format = serde_json::from_slice::<Format>(content)
        .map_err(|error| bad(format!("is no record of Berth ({error}): restore it from a backup")))?
        .format;
    if format > Volume::FORMAT {
        return Err(bad(format!(
            "has format {format}, this Berth knows {} at most: use a newer one",
            Volume::FORMAT
        )));
    }
    let volume: Volume = serde_json::from_slice(content)
        .map_err(|error| bad(format!("can't be read ({error}): restore it from a backup")))?;
    if volume.record_name() != *name || volume.incarnation.as_str() != incarnation {
        return Err(bad(format!(
            "is of another volume ({:?}, incarnation {}): restore it from a backup",
            volume.name, volume.incarnation
        )));
    }
    check_path(&volume.path).map_err(|why| bad(format!("its path {why}: restore it from a backup")))?;
    Ok(volume)
}
