//! What lies on disk: records and directories made without the driver, thousands of them in no time.

use std::path::{Path, PathBuf};

use berth::access::Mode;
use berth::id::Incarnation;
use berth::parameters::{OnDelete, Owner};
use berth::sys::random;
use berth::volume::{Volume, Wanted};

use crate::Result;

/// The directories of a root.
pub(crate) struct Layout {
    pub(crate) root: PathBuf,
    pub(crate) volumes: PathBuf,
    pub(crate) new: PathBuf,
    pub(crate) trash: PathBuf,
}

impl Layout {
    pub(crate) fn of(root: &Path) -> Self {
        let own = root.join(".berth");
        Self {
            root: root.to_path_buf(),
            volumes: own.join("volumes"),
            new: own.join("new"),
            trash: own.join("trash"),
        }
    }

    /// Makes volumes until there are `count`, each as CreateVolume leaves it, and gives their number back. Nothing
    /// is synced one by one; one sync at the end keeps the write-back out of what is measured next.
    pub(crate) fn fill(&self, count: usize) -> Result<usize> {
        let present = std::fs::read_dir(&self.volumes)?.count();
        for _ in present..count {
            let (volume, text) = record(&name()?)?;
            let record = self.volumes.join(&volume.name).join(volume.incarnation.as_str());
            std::fs::create_dir_all(&record)?;
            std::fs::write(record.join("1.json"), text)?;
            std::fs::create_dir(self.root.join(volume.data_path()))?;
        }
        nix::unistd::sync();
        Ok(std::fs::read_dir(&self.volumes)?.count())
    }

    /// Puts `count` small files into the volume `name`.
    pub(crate) fn put_files(&self, name: &str, count: usize) -> Result<()> {
        let data = self.data(name)?;
        for number in 0..count {
            std::fs::write(data.join(format!("file-{number}")), b"content")?;
        }
        nix::unistd::sync();
        Ok(())
    }

    /// Where the data of the volume `name` lies.
    pub(crate) fn data(&self, name: &str) -> Result<PathBuf> {
        let mut incarnations = std::fs::read_dir(self.volumes.join(name))?;
        let incarnation = incarnations.next().ok_or("a record without an incarnation")??.file_name();
        Ok(self.root.join(format!("{name}.{}", incarnation.display())))
    }

    /// Waits until the trash is purged, so that the purge of one measurement is no burden of the next.
    pub(crate) fn wait_for_purge(&self) -> Result<()> {
        for _ in 0..300_000 {
            if std::fs::read_dir(&self.trash)?.next().is_none() {
                return Ok(());
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        Err(format!("{} is not purged within five minutes", self.trash.display()).into())
    }
}

/// A name as the external-provisioner makes it, new each time.
pub(crate) fn name() -> Result<String> {
    let (high, low) = (random()?, random()?);
    let text = format!("{high:016x}{low:016x}");
    Ok(format!("pvc-{}-{}-{}-{}-{}", &text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]))
}

/// The record that CreateVolume writes for `name`, and its text.
pub(crate) fn record(name: &str) -> Result<(Volume, Vec<u8>)> {
    let wanted = Wanted {
        name: name.to_string(),
        required_bytes: 0,
        limit_bytes: 0,
        modes: vec![Mode::SingleNodeMultiWriter],
        path: name.to_string(),
        owner: Owner::default(),
        on_delete: OnDelete::Delete,
        parameters: Default::default(),
        mount_options: Vec::new(),
    };
    let volume = wanted.born(Incarnation::new(random()?), format!("{:016x}", random()?));
    let mut text = serde_json::to_vec_pretty(&volume)?;
    text.push(b'\n');
    Ok((volume, text))
}
