//! What a pod may leave in its volume, and what is mounted there: nothing of it reaches outside.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::fcntl::{OFlag, openat};
use nix::mount::umount;
use nix::sys::stat::{Mode, SFlag, makedev, mkdirat, mknod};

use crate::rig::*;

/// Something outside that has to be there in the end.
fn precious(rig: &Rig) -> PathBuf {
    let outside = rig.scratch().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("precious"), "x").unwrap();
    outside
}

fn is_whole(outside: &Path) {
    assert_eq!(fs::read_to_string(outside.join("precious")).unwrap(), "x");
    assert_eq!(fs::read_dir(outside).unwrap().count(), 1);
}

/// A volume whose deletion has the trash purged once more.
fn purge_again(rig: &mut Rig) {
    let id = rig.create(create("another")).id();
    rig.delete(&id).ok();
}

#[test]
fn links_that_lead_out_of_a_volume_are_deleted_and_not_followed() {
    let mut rig = Rig::new();
    let outside = precious(&rig);
    let (id, target) = (rig.create(create("a")).id(), rig.target("t"));
    rig.publish(publish(&id, &target)).ok();
    let at = |name: &str| Path::new(&target).join(name);
    symlink(&outside, at("directory")).unwrap();
    symlink(outside.join("precious"), at("file")).unwrap();
    symlink("/etc", at("etc")).unwrap();
    symlink("/", at("root")).unwrap();
    symlink("../../../..", at("up")).unwrap();
    symlink("circle", at("circle")).unwrap();
    symlink("/proc/self/cwd", at("magic")).unwrap();
    symlink(rig.root().join(".berth"), at(".berth")).unwrap();
    fs::hard_link(at("circle"), at("hard")).unwrap();
    rig.unpublish(&id, &target).ok();
    rig.delete(&id).ok();
    rig.wait_for_purge();
    is_whole(&outside);
    assert!(Path::new("/etc/passwd").exists());
    assert!(rig.root().join(".berth/root.json").exists());
}

#[test]
fn every_kind_of_file_in_a_volume_is_deleted() {
    let mut rig = Rig::new();
    let id = rig.create(create("a")).id();
    let data = rig.data_of("a");
    nix::unistd::mkfifo(&data.join("pipe"), Mode::S_IRWXU).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(data.join("socket")).unwrap();
    // Only whoever may make devices can leave one.
    let _ = mknod(&data.join("device"), SFlag::S_IFCHR, Mode::S_IRWXU, makedev(1, 3));
    fs::write(data.join("setuid"), "x").unwrap();
    fs::set_permissions(data.join("setuid"), fs::Permissions::from_mode(0o6777)).unwrap();
    fs::create_dir_all(data.join("shut/inner")).unwrap();
    fs::set_permissions(data.join("shut"), fs::Permissions::from_mode(0o000)).unwrap();
    fs::write(data.join(".berth"), "x").unwrap();
    fs::write(data.join("1.json"), "{}").unwrap();
    rig.delete(&id).ok();
    rig.wait_for_purge();
}

#[test]
fn names_of_any_bytes_and_of_every_length_are_deleted() {
    let mut rig = Rig::new();
    let id = rig.create(create("a")).id();
    let data = rig.data_of("a");
    for byte in (1..=255u8).filter(|byte| *byte != b'/' && *byte != b'.') {
        fs::write(data.join(OsString::from_vec(vec![byte])), "x").unwrap();
        fs::create_dir_all(
            data.join(OsString::from_vec(vec![byte; 255])).join(OsString::from_vec(vec![byte; 2])),
        )
        .unwrap();
    }
    rig.delete(&id).ok();
    rig.wait_for_purge();
}

#[test]
fn a_tree_deeper_than_any_path_is_deleted() {
    let mut rig = Rig::new();
    let id = rig.create(create("a")).id();
    let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut here = nix::fcntl::open(&rig.data_of("a"), flags, Mode::empty()).unwrap();
    let name = OsString::from_vec(vec![0xff; 255]);
    for _ in 0..3000 {
        mkdirat(&here, name.as_os_str(), Mode::S_IRWXU).unwrap();
        here = openat(&here, name.as_os_str(), flags, Mode::empty()).unwrap();
    }
    drop(here);
    rig.delete(&id).ok();
    rig.wait_for_purge();
}

#[test]
fn a_volume_that_is_written_to_while_it_is_deleted_is_deleted_in_the_end() {
    let mut rig = Rig::new();
    let id = rig.create(create("a")).id();
    // A process that has the directory open still, though its mount is gone.
    let open = nix::fcntl::open(&rig.data_of("a"), OFlag::O_DIRECTORY, Mode::empty()).unwrap();
    for i in 0..2000 {
        let flags = OFlag::O_CREAT | OFlag::O_WRONLY;
        openat(&open, format!("{i}").as_str(), flags, Mode::S_IRWXU).unwrap();
    }
    rig.delete(&id).ok();
    let mut made = 0;
    for i in 2000..4000 {
        let flags = OFlag::O_CREAT | OFlag::O_WRONLY;
        made += usize::from(openat(&open, format!("{i}").as_str(), flags, Mode::S_IRWXU).is_ok());
    }
    drop(open);
    purge_again(&mut rig);
    rig.wait_for_purge();
    assert!(made <= 2000);
}

#[test]
fn what_is_bound_into_a_deleted_volume_stays_and_the_trash_is_emptied_when_it_is_gone() {
    let mut rig = Rig::new();
    let outside = precious(&rig);
    let id = rig.create(create("a")).id();
    let inner = rig.data_of("a").join("deep/inner");
    fs::create_dir_all(&inner).unwrap();
    fs::write(rig.data_of("a").join("deep/file"), "x").unwrap();
    rig.bind(&outside, &inner);
    rig.delete(&id).ok();
    assert_eq!(rig.data(), Vec::<String>::new());
    let trash = rig.root().join(".berth/trash");
    let bound = mounts().into_iter().find(|mount| Path::new(&mount.at).starts_with(&trash)).unwrap().at;
    // All but the way to it is purged.
    let file = Path::new(&bound).parent().unwrap().join("file");
    wait_until(|| !file.exists());
    wait_until(|| rig.log().contains("something is mounted there"));
    is_whole(&outside);
    // The name is free meanwhile.
    let again = rig.create(create("a")).id();
    rig.delete(&again).ok();
    is_whole(&outside);
    assert_eq!(rig.mounts_at(&bound).len(), 1);
    umount(bound.as_str()).unwrap();
    purge_again(&mut rig);
    rig.wait_for_purge();
    is_whole(&outside);
}

#[test]
fn a_trash_that_held_a_mount_is_emptied_by_the_next_driver() {
    let mut rig = Rig::new();
    let outside = precious(&rig);
    let id = rig.create(create("a")).id();
    let inner = rig.data_of("a").join("inner");
    fs::create_dir(&inner).unwrap();
    rig.bind(&outside, &inner);
    rig.delete(&id).ok();
    let trash = rig.root().join(".berth/trash");
    let bound = mounts().into_iter().find(|mount| Path::new(&mount.at).starts_with(&trash)).unwrap().at;
    rig.restart();
    is_whole(&outside);
    umount(bound.as_str()).unwrap();
    rig.restart();
    rig.wait_for_purge();
    is_whole(&outside);
}

#[test]
fn a_mount_made_inside_a_published_volume_is_not_passed_on_and_survives_unpublishing() {
    let mut rig = Rig::new();
    let outside = precious(&rig);
    let (id, one, two) = (rig.create(create("a")).id(), rig.target("one"), rig.target("two"));
    let inner = rig.data_of("a").join("inner");
    fs::create_dir(&inner).unwrap();
    rig.publish(publish(&id, &one)).ok();
    rig.bind(&outside, &inner);
    rig.publish(publish(&id, &two)).ok();
    for target in [&one, &two] {
        assert_eq!(
            fs::read_dir(format!("{target}/inner")).unwrap().count(),
            0,
            "{target}: beneath the mount"
        );
        rig.unpublish(&id, target).ok();
    }
    is_whole(&outside);
    assert_eq!(rig.mounts_at(&inner.display().to_string()).len(), 1);
    umount(&inner).unwrap();
    rig.delete(&id).ok();
    rig.wait_for_purge();
    is_whole(&outside);
}

#[test]
fn data_that_somebody_mounted_over_is_neither_published_nor_deleted() {
    let mut rig = Rig::new();
    let outside = precious(&rig);
    let (id, target) = (rig.create(create("a")).id(), rig.target("t"));
    let data = rig.data_of("a");
    fs::write(data.join("file"), "of a").unwrap();
    rig.bind(&outside, &data);
    assert!(rig.publish(publish(&id, &target)).result().is_err());
    assert_eq!(rig.mounts_at(&target), []);
    assert!(!fs::exists(&target).unwrap());
    assert!(rig.delete(&id).result().is_err());
    is_whole(&outside);
    umount(&data).unwrap();
    assert_eq!(fs::read_to_string(data.join("file")).unwrap(), "of a");
    rig.delete(&id).ok();
    rig.wait_for_purge();
    is_whole(&outside);
}

#[test]
fn a_link_where_the_data_of_a_volume_was_is_not_followed() {
    let mut rig = Rig::new();
    let outside = precious(&rig);
    let (id, target) = (rig.create(create("a")).id(), rig.target("t"));
    let data = rig.data_of("a");
    let away = rig.scratch().join("away");
    fs::create_dir(&away).unwrap();
    fs::remove_dir(&data).unwrap();
    symlink(&outside, &data).unwrap();
    assert!(rig.publish(publish(&id, &target)).result().is_err());
    assert_eq!(rig.mounts_at(&target), []);
    rig.delete(&id).ok();
    rig.wait_for_purge();
    is_whole(&outside);
    assert!(fs::symlink_metadata(&data).is_err(), "the link went to the trash");
}

#[test]
fn a_file_that_cannot_be_deleted_delays_nothing_and_is_named() {
    let mut rig = Rig::new();
    let (first, second) = (rig.create(create("a")).id(), rig.create(create("b")).id());
    fs::create_dir(rig.data_of("a").join("deep")).unwrap();
    let file = rig.data_of("a").join("deep/immutable");
    fs::write(&file, "x").unwrap();
    let set = |flag: &str, path: &Path| {
        Command::new("chattr").arg(flag).arg(path).status().is_ok_and(|status| status.success())
    };
    let stuck = set("+i", &file);
    // In a user namespace nobody can make such a file; then there is nothing to be kept.
    assert!(stuck || !has_other_users(), "chattr +i");
    fs::write(rig.data_of("b").join("file"), "x").unwrap();
    rig.delete(&first).ok();
    rig.delete(&second).ok();
    if stuck {
        let trash = rig.root().join(".berth/trash");
        wait_until(|| fs::read_dir(&trash).unwrap().count() == 1);
        wait_until(|| rig.log().contains("immutable"));
        let kept = fs::read_dir(&trash).unwrap().next().unwrap().unwrap().path().join("deep/immutable");
        assert_eq!(fs::read_to_string(&kept).unwrap(), "x");
        assert!(set("-i", &kept));
        purge_again(&mut rig);
    }
    rig.wait_for_purge();
}

#[track_caller]
fn wait_until(mut done: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !done() {
        assert!(std::time::Instant::now() < deadline, "waited for it in vain");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[test]
fn a_directory_that_cannot_be_read_holds_up_nothing_else_in_the_trash() {
    let mut rig = Rig::new();
    rig.stop();
    let trash = rig.root().join(".berth/trash");
    // Whatever the order in which they are found.
    for tree in ["first", "second", "third"] {
        fs::create_dir(trash.join(tree)).unwrap();
        fs::write(trash.join(tree).join("file"), "x").unwrap();
    }
    let bad = trash.join("second").display().to_string();
    // -D: so that the driver is what is killed, not strace.
    let inject = ["-P", &bad, "-e", "inject=getdents64:error=EIO"];
    rig.start_under(&[&["strace", "-D", "-f", "-o", "/dev/null"], inject.as_slice()].concat());
    wait_until(|| fs::read_dir(&trash).unwrap().count() == 1);
    wait_until(|| rig.log().contains("kept in the trash"));
    assert!(Path::new(&bad).join("file").exists());
    rig.restart();
    rig.wait_for_purge();
}
