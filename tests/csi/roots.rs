//! Roots that are not there: missing, read-only, unmounted, another's. A volume on a disk that is away is not gone.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use berth::csi::*;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::rig::*;

/// A disk, mounted aside; it is put into the rig's root and taken out of it, and keeps what is on it.
fn disk(rig: &Rig, name: &str) -> PathBuf {
    let disk = rig.scratch().join(name);
    fs::create_dir(&disk).unwrap();
    rig.mount_tmpfs(&disk, "size=16m,mode=0755");
    disk
}

fn rig_with_disk() -> (Rig, PathBuf) {
    let mut rig = Rig::without_driver();
    let disk = disk(&rig, "disk");
    rig.bind(&disk, &rig.root());
    rig.set_roots(&[format!("main={}", rig.root().display())]);
    rig.start();
    (rig, disk)
}

/// What an administrator does, who is told "target is busy" when somebody uses the disk.
fn unmount(at: &Path) {
    // A call of the moment may still have it open.
    let deadline = Instant::now() + Duration::from_secs(2);
    while let Err(errno) = umount2(at, MntFlags::empty()) {
        assert_eq!(errno, Errno::EBUSY);
        assert!(Instant::now() < deadline, "the driver keeps the disk busy");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// All that can be asked of a root that can't be used: nothing is created elsewhere, and nothing is said to be gone.
fn is_away(rig: &mut Rig, id: &str, words: &str) {
    let target = rig.target("away");
    let before = rig.snapshot();
    let path = rig.root().display().to_string();
    let told = rig.create(create("new")).fails(Code::ResourceExhausted, words);
    assert!(told.contains(&path), "{told}");
    assert_eq!(rig.capacity(GetCapacityRequest::default()).ok().available_capacity, 0);
    rig.delete(id).fails(Code::FailedPrecondition, words);
    rig.publish(publish(id, &target)).fails(Code::FailedPrecondition, words);
    let request = ControllerGetVolumeRequest { volume_id: id.into() };
    rig.get_volume(request).fails(Code::FailedPrecondition, words);
    let request =
        NodeGetVolumeStatsRequest { volume_id: id.into(), volume_path: target.clone(), ..Default::default() };
    rig.stats(request).fails(Code::FailedPrecondition, words);
    rig.list(ListVolumesRequest::default()).fails(Code::FailedPrecondition, words);
    rig.unpublish(id, &target).ok();
    assert_eq!(rig.snapshot(), before);
}

#[test]
fn a_root_that_is_missing_at_the_start_may_appear_later() {
    let mut rig = Rig::without_driver();
    fs::remove_dir(rig.root()).unwrap();
    rig.set_roots(&[format!("main={}", rig.root().display())]);
    rig.start();
    is_away(&mut rig, "node-1/main/a", "No such file or directory");
    fs::create_dir(rig.root()).unwrap();
    is_away(&mut rig, "node-1/main/a", "mount the disk");
    rig.mount_tmpfs(&rig.root(), "size=16m");
    let id = rig.create(create("a")).id();
    assert_eq!(rig.list_ids(0), [id]);
}

#[test]
fn an_empty_directory_where_the_disk_was_is_not_the_root() {
    let (mut rig, disk) = rig_with_disk();
    let id = rig.create(create("a")).id();
    fs::write(rig.data_of("a").join("file"), "precious").unwrap();
    rig.kill();
    unmount(&rig.root());
    rig.start();
    is_away(&mut rig, &id, "mount the disk");
    assert_eq!(names(&rig.root()), Vec::<String>::new());
    rig.bind(&disk, &rig.root());
    let target = rig.target("t");
    rig.publish(publish(&id, &target)).ok();
    assert_eq!(fs::read_to_string(format!("{target}/file")).unwrap(), "precious");
}

#[test]
fn a_disk_can_be_unmounted_while_the_driver_runs_and_mounted_again() {
    let (mut rig, disk) = rig_with_disk();
    let (id, target) = (rig.create(create("a")).id(), rig.target("t"));
    rig.publish(publish(&id, &target)).ok();
    fs::write(format!("{target}/file"), "precious").unwrap();
    rig.unpublish(&id, &target).ok();
    let gone = rig.create(create("gone")).id();
    rig.delete(&gone).ok();
    rig.wait_for_purge();
    unmount(&rig.root());
    is_away(&mut rig, &id, "mount the disk");
    assert_eq!(names(&rig.root()), Vec::<String>::new());
    rig.bind(&disk, &rig.root());
    assert_eq!(rig.list_ids(0), std::slice::from_ref(&id));
    rig.publish(publish(&id, &target)).ok();
    assert_eq!(fs::read_to_string(format!("{target}/file")).unwrap(), "precious");
}

#[test]
fn a_volume_is_unpublished_while_its_disk_is_not_where_it_was() {
    let (mut rig, _disk) = rig_with_disk();
    let (id, target) = (rig.create(create("a")).id(), rig.target("t"));
    rig.publish(publish(&id, &target)).ok();
    // The pod's mount is one of its own: the disk stays mounted below it.
    unmount(&rig.root());
    rig.unpublish(&id, &target).ok();
    assert_eq!(rig.mounts_at(&target).len(), 0);
    assert!(!fs::exists(&target).unwrap());
}

#[test]
fn another_disk_in_the_place_of_a_root_is_refused_by_its_identity() {
    let (mut rig, one) = rig_with_disk();
    let id = rig.create(create("a")).id();
    rig.kill();
    unmount(&rig.root());
    let two = disk(&rig, "disk-two");
    rig.bind(&two, &rig.root());
    rig.start();
    rig.create(create("b")).ok();
    unmount(&rig.root());
    rig.bind(&one, &rig.root());
    is_away(&mut rig, &id, "mount the right disk");
    unmount(&rig.root());
    // A fresh disk is not laid out under a driver that knows another one.
    let three = disk(&rig, "disk-three");
    rig.bind(&three, &rig.root());
    is_away(&mut rig, &id, "keeps its records there");
    assert_eq!(names(&three), Vec::<String>::new());
    unmount(&rig.root());
    rig.bind(&two, &rig.root());
    assert_eq!(rig.list_ids(0), ["node-1/main/b"]);
}

#[test]
fn another_disk_is_told_from_the_root_even_where_it_has_the_same_device_number() {
    let mut rig = Rig::new();
    let id = rig.create(create("a")).id();
    let aside = rig.scratch().join("aside");
    fs::create_dir_all(aside.join(".berth/volumes")).unwrap();
    let identity = fs::read_to_string(rig.root().join(".berth/root.json")).unwrap();
    let other = identity.replace("\"uuid\": \"", "\"uuid\": \"other-");
    // The kernel gives the number of a file system that went to the one that comes.
    unmount(&rig.root());
    rig.mount_tmpfs(&rig.root(), "size=16m,mode=0755");
    for directory in ["volumes", "new", "trash"] {
        fs::create_dir_all(rig.root().join(".berth").join(directory)).unwrap();
    }
    fs::write(rig.root().join(".berth/root.json"), other).unwrap();
    is_away(&mut rig, &id, "mount the right disk");
}

fn remount(at: &Path, flags: MsFlags) {
    mount(None::<&str>, at, None::<&str>, MsFlags::MS_REMOUNT | flags, None::<&str>).unwrap();
}

#[test]
fn a_read_only_root_serves_what_is_on_it() {
    // Of the mount alone, and of the file system as a whole.
    for (now, later) in
        [(MsFlags::MS_BIND | MsFlags::MS_RDONLY, MsFlags::MS_BIND), (MsFlags::MS_RDONLY, MsFlags::empty())]
    {
        let mut rig = Rig::new();
        let (id, target) = (rig.create(create("a")).id(), rig.target("t"));
        fs::write(rig.data_of("a").join("file"), "precious").unwrap();
        remount(&rig.root(), now);
        for _ in 0..2 {
            let told = rig.create(create("b")).fails(Code::ResourceExhausted, "Read-only file system");
            assert!(told.contains("main") || told.contains(&rig.root().display().to_string()), "{told}");
            assert_eq!(rig.create(create("a")).id(), id);
            rig.publish(publish(&id, &target)).ok();
            rig.publish(publish(&id, &target)).ok();
            assert_eq!(fs::read_to_string(format!("{target}/file")).unwrap(), "precious");
            let written = fs::write(format!("{target}/file"), "x").unwrap_err();
            assert_eq!(written.raw_os_error(), Some(Errno::EROFS as i32));
            assert_eq!(rig.list_ids(0), std::slice::from_ref(&id));
            rig.get_volume(ControllerGetVolumeRequest { volume_id: id.clone() }).ok();
            rig.unpublish(&id, &target).ok();
            rig.delete(&id).fails(Code::Internal, "Read-only file system");
            rig.delete("node-1/main/never").ok();
            assert_eq!(rig.disk().new, Vec::<String>::new());
            rig.restart();
        }
        remount(&rig.root(), later);
        rig.delete(&id).ok();
        rig.create(create("b")).ok();
        rig.disk().check_settled();
    }
}
