//! The same work as bare system calls: what the protocol of records and mounts costs without a driver.
//!
//! These are the steps of docs/developer/protocol.md and the saves of `src/store.rs`, in their order, by a program
//! that keeps the directories open, trusts every name, parses nothing and answers nobody. What a driver does beyond
//! them (transport, threads, checks, confined look-ups, its log) is its own cost, and shows as the ratio. The
//! purge of the trash, which the driver does behind its answer, is done in line here and counted with the life
//! cycle, not with DeleteVolume.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use berth::volume::Volume;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat, renameat};
use nix::libc;
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::{Mode, fchmod, mkdirat};
use nix::sys::statvfs::fstatvfs;
use nix::unistd::{LinkatFlags, UnlinkatFlags, fdatasync, fsync, linkat, read, unlinkat, write};

use crate::Result;
use crate::layout::{Layout, name, record};

/// The directories, open.
pub(crate) struct Raw {
    root: OwnedFd,
    new: OwnedFd,
    volumes: OwnedFd,
    trash: OwnedFd,
    notes: OwnedFd,
    above: OwnedFd,
    targets: PathBuf,
}

const EMPTY: &CStr = c"";

fn open_dir(path: &Path) -> Result<OwnedFd> {
    Ok(open(path, OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?)
}

fn dir_at(dir: impl AsFd, name: &str) -> nix::Result<OwnedFd> {
    openat(dir, name, OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
}

fn create_at(dir: impl AsFd, name: &str, text: &[u8]) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let file = openat(dir, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
    write(&file, text)?;
    Ok(file)
}

/// Reads until the end, as nobody can know where it is.
fn read_to_end(file: OwnedFd) -> nix::Result<usize> {
    let (mut buffer, mut length) = ([0; 64 * 1024], 0);
    loop {
        match read(&file, &mut buffer)? {
            0 => return Ok(length),
            more => length += more,
        }
    }
}

/// Reads all names of a directory; the last one is given back.
fn names(dir: impl AsFd, mut visit: impl FnMut(&str)) -> nix::Result<()> {
    #[repr(align(8))]
    struct Buffer([u8; 16 * 1024]);
    let mut buffer = Buffer([0; 16 * 1024]);
    loop {
        // SAFETY: the buffer is valid for writes of the length that is passed, and lives over the call.
        let answer = unsafe {
            libc::syscall(
                libc::SYS_getdents64,
                dir.as_fd().as_raw_fd(),
                buffer.0.as_mut_ptr(),
                buffer.0.len(),
            )
        };
        let length = usize::try_from(Errno::result(answer)?).unwrap_or(0);
        let mut rest = &buffer.0[..length];
        if rest.is_empty() {
            return Ok(());
        }
        while rest.len() > 19 {
            let (entry, after) = rest.split_at(usize::from(u16::from_ne_bytes([rest[16], rest[17]])));
            let name = CStr::from_bytes_until_nul(&entry[19..]).unwrap_or(EMPTY).to_str().unwrap_or("");
            if !matches!(name, "." | "..") {
                visit(name);
            }
            rest = after;
        }
    }
}

/// Finds the incarnation and the generation, and reads the record.
fn read_record(volumes: impl AsFd, name: &str) -> nix::Result<OwnedFd> {
    let mut found = String::new();
    let outer = dir_at(volumes, name)?;
    names(&outer, |name| found = name.to_string())?;
    let dir = dir_at(&outer, &found)?;
    names(&dir, |name| found = name.to_string())?;
    read_to_end(openat(&dir, found.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?)?;
    Ok(dir)
}

fn read_mount_table() -> nix::Result<usize> {
    read_to_end(open("/proc/self/mountinfo", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?)
}

/// Clones the mount of an open directory, sets its attributes, attaches it.
fn bind_mount(source: &OwnedFd, target: &OwnedFd) -> nix::Result<()> {
    let clone = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH as libc::c_uint;
    // SAFETY: the descriptor is open, the path is a string that ends in a zero.
    let answer = unsafe { libc::syscall(libc::SYS_open_tree, source.as_raw_fd(), EMPTY.as_ptr(), clone) };
    let fd = libc::c_int::try_from(Errno::result(answer)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel just gave this descriptor to us, and nobody else has it.
    let tree = unsafe { OwnedFd::from_raw_fd(fd) };
    let change = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV,
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    };
    // SAFETY: `change` has the layout that the kernel expects and the size that is passed.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            EMPTY.as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const change,
            size_of::<libc::mount_attr>(),
        )
    };
    Errno::result(answer)?;
    // SAFETY: both descriptors are open, both paths are strings that end in a zero.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            EMPTY.as_ptr(),
            target.as_raw_fd(),
            EMPTY.as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH,
        )
    };
    Errno::result(answer).map(drop)
}

impl Raw {
    pub(crate) fn open(layout: &Layout, run: &Path, targets: &Path) -> Result<Self> {
        Ok(Self {
            root: open_dir(&layout.root)?,
            new: open_dir(&layout.new)?,
            volumes: open_dir(&layout.volumes)?,
            trash: open_dir(&layout.trash)?,
            notes: open_dir(run)?,
            above: open_dir(targets)?,
            targets: targets.to_path_buf(),
        })
    }

    /// A whole life: how long each of the five RPCs' work took, and how long the purge.
    pub(crate) fn cycle(&self) -> Result<([Duration; 5], Duration)> {
        let (mut volume, first) = record(&name()?)?;
        volume.state = berth::volume::State::Deleting;
        let mut second = serde_json::to_vec_pretty(&volume)?;
        second.push(b'\n');
        let mut began = Instant::now();
        let mut lap = || std::mem::replace(&mut began, Instant::now()).elapsed();
        self.create(&volume, &first)?;
        let create = lap();
        self.publish(&volume)?;
        let publish = lap();
        self.stats(&volume)?;
        let stats = lap();
        self.unpublish(&volume)?;
        let unpublish = lap();
        self.delete(&volume, &second)?;
        let delete = lap();
        self.purge(&volume)?;
        Ok(([create, publish, stats, unpublish, delete], lap()))
    }

    /// CreateVolume: room? known? the tree and its record are built in `new`, the record is synced, both are
    /// renamed to their places, and the names are synced.
    pub(crate) fn create(&self, volume: &Volume, text: &[u8]) -> nix::Result<()> {
        let name = volume.name.as_str();
        if dir_at(&self.volumes, name).err() != Some(Errno::ENOENT) {
            return Err(Errno::EEXIST);
        }
        fstatvfs(&self.root)?;
        let data = volume.data_path();
        mkdirat(&self.new, data.as_str(), Mode::S_IRWXU)?;
        fchmod(dir_at(&self.new, &data)?, Mode::S_IRWXU | Mode::S_IRWXG | Mode::S_IRWXO)?;
        let outer = format!("{name}.{}.record", volume.incarnation);
        mkdirat(&self.new, outer.as_str(), Mode::S_IRWXU)?;
        let inner = format!("{outer}/{}", volume.incarnation);
        mkdirat(&self.new, inner.as_str(), Mode::S_IRWXU)?;
        fdatasync(create_at(&self.new, &format!("{inner}/1.json"), text)?)?;
        renameat(&self.new, outer.as_str(), &self.volumes, name)?;
        renameat(&self.new, data.as_str(), &self.root, data.as_str())?;
        fsync(&self.volumes)
    }

    /// NodePublishVolume: the record, the mount table, a detached mount, a target, a note, the mount, the record
    /// once more, the note confirmed.
    fn publish(&self, volume: &Volume) -> nix::Result<()> {
        let name = volume.name.as_str();
        read_record(&self.volumes, name)?;
        let source = dir_at(&self.root, &volume.data_path())?;
        read_mount_table()?;
        mkdirat(&self.above, name, Mode::S_IRWXU)?;
        let target = dir_at(&self.above, name)?;
        mkdirat(&self.notes, name, Mode::S_IRWXU)?;
        let notes = dir_at(&self.notes, name)?;
        drop(create_at(&notes, "target.new", name.as_bytes())?);
        renameat(&notes, "target.new", &notes, "target.attaching")?;
        bind_mount(&source, &target)?;
        read_record(&self.volumes, name)?;
        names(&notes, |_| ())?;
        renameat(&notes, "target.attaching", &notes, "target.confirmed")
    }

    /// NodeGetVolumeStats: the record, the mount table, the file system's counts.
    fn stats(&self, volume: &Volume) -> nix::Result<()> {
        read_record(&self.volumes, &volume.name)?;
        let data = dir_at(&self.root, &volume.data_path())?;
        read_mount_table()?;
        fstatvfs(&data).map(drop)
    }

    /// NodeUnpublishVolume: the mount table, unmounted until it is no mount point, the note, the directory.
    fn unpublish(&self, volume: &Volume) -> nix::Result<()> {
        let name = volume.name.as_str();
        let target = self.targets.join(name);
        read_mount_table()?;
        while umount2(&target, MntFlags::UMOUNT_NOFOLLOW).is_ok() {}
        let notes = dir_at(&self.notes, name)?;
        unlinkat(&notes, "target.confirmed", UnlinkatFlags::NoRemoveDir)?;
        unlinkat(&self.notes, name, UnlinkatFlags::RemoveDir)?;
        unlinkat(&self.above, name, UnlinkatFlags::RemoveDir)
    }

    /// DeleteVolume: the record, published?; the generation `Deleting` is written, synced and won; published
    /// meanwhile? the data goes to the trash, then the record; and the names are synced.
    pub(crate) fn delete(&self, volume: &Volume, text: &[u8]) -> nix::Result<()> {
        let (name, incarnation) = (volume.name.as_str(), volume.incarnation.as_str());
        let dir = read_record(&self.volumes, name)?;
        read_mount_table()?;
        let temporary = format!("{name}.json");
        fdatasync(create_at(&self.new, &temporary, text)?)?;
        linkat(&self.new, temporary.as_str(), &dir, "2.json", LinkatFlags::empty())?;
        unlinkat(&self.new, temporary.as_str(), UnlinkatFlags::NoRemoveDir)?;
        dir_at(&self.volumes, &format!("{name}/{incarnation}"))?;
        names(dir_at(&dir, ".")?, |_| ())?;
        unlinkat(&dir, "1.json", UnlinkatFlags::NoRemoveDir)?;
        read_mount_table()?;
        let data = volume.data_path();
        renameat(&self.root, data.as_str(), &self.trash, data.as_str())?;
        let outer = dir_at(&self.volumes, name)?;
        renameat(&outer, incarnation, &self.trash, incarnation)?;
        unlinkat(&self.volumes, name, UnlinkatFlags::RemoveDir)?;
        fsync(&self.volumes)
    }

    /// The trash's purge of an empty volume: the data directory, the record and its directory.
    fn purge(&self, volume: &Volume) -> nix::Result<()> {
        let (data, incarnation) = (volume.data_path(), volume.incarnation.as_str());
        names(dir_at(&self.trash, &data)?, |_| ())?;
        unlinkat(&self.trash, data.as_str(), UnlinkatFlags::RemoveDir)?;
        let record = dir_at(&self.trash, incarnation)?;
        names(&record, |_| ())?;
        unlinkat(&record, "2.json", UnlinkatFlags::NoRemoveDir)?;
        unlinkat(&self.trash, incarnation, UnlinkatFlags::RemoveDir)
    }

    /// Reads the directory of records and every record in it.
    pub(crate) fn walk(&self) -> nix::Result<usize> {
        let mut all = Vec::new();
        names(dir_at(&self.volumes, ".")?, |name| all.push(name.to_string()))?;
        for name in &all {
            read_record(&self.volumes, name)?;
        }
        Ok(all.len())
    }
}
