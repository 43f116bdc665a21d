//! Mount flags take effect or are refused, never ignored.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use berth::csi::*;

use crate::rig::*;

/// A volume in a rig of its own, and a target.
fn volume() -> (Rig, String, String) {
    let mut rig = Rig::new();
    let (id, target) = (rig.create(create("a")).id(), rig.target("t"));
    (rig, id, target)
}

fn with_flags(id: &str, target: &str, flags: &[&str]) -> NodePublishVolumeRequest {
    flags.iter().fold(publish(id, target), |request, flag| request.flag(flag))
}

/// The options of the mount that a publish with these flags makes.
#[track_caller]
fn options(rig: &mut Rig, id: &str, target: &str, flags: &[&str]) -> Vec<String> {
    rig.publish(with_flags(id, target, flags)).ok();
    let options = rig.mounts_at(target).remove(0).options;
    rig.unpublish(id, target).ok();
    options
}

#[test]
fn each_flag_is_seen_in_the_mount_table() {
    let (mut rig, id, target) = volume();
    for (flags, expected) in [
        (&[][..], "rw,nosuid,nodev,relatime"),
        (&["rw"], "rw,nosuid,nodev,relatime"),
        (&["ro"], "ro,nosuid,nodev,relatime"),
        (&["nosuid"], "rw,nosuid,nodev,relatime"),
        (&["suid"], "rw,nodev,relatime"),
        (&["nodev"], "rw,nosuid,nodev,relatime"),
        (&["dev"], "rw,nosuid,relatime"),
        (&["noexec"], "rw,nosuid,nodev,noexec,relatime"),
        (&["exec"], "rw,nosuid,nodev,relatime"),
        (&["noatime"], "rw,nosuid,nodev,noatime"),
        (&["atime"], "rw,nosuid,nodev,relatime"),
        (&["relatime"], "rw,nosuid,nodev,relatime"),
        (&["strictatime"], "rw,nosuid,nodev"),
        (&["nodiratime"], "rw,nosuid,nodev,nodiratime,relatime"),
        (&["diratime"], "rw,nosuid,nodev,relatime"),
        (&["nosymfollow"], "rw,nosuid,nodev,relatime,nosymfollow"),
        (&["symfollow"], "rw,nosuid,nodev,relatime"),
        (&["ro", "noexec", "noatime", "suid", "dev"], "ro,noexec,noatime"),
        (&["ro,noexec,noatime,suid,dev"], "ro,noexec,noatime"),
        // The last word wins, as with mount(8).
        (&["noexec", "exec"], "rw,nosuid,nodev,relatime"),
        (&["exec", "noexec"], "rw,nosuid,nodev,noexec,relatime"),
        (&["noatime", "strictatime"], "rw,nosuid,nodev"),
        (&["noatime", "relatime"], "rw,nosuid,nodev,relatime"),
        (&["suid", "nosuid"], "rw,nosuid,nodev,relatime"),
    ] {
        assert_eq!(options(&mut rig, &id, &target, flags).join(","), expected, "{flags:?}");
    }
}

#[test]
fn a_flag_that_would_have_no_effect_is_refused_by_name_when_publishing_and_when_creating() {
    let (mut rig, id, target) = volume();
    let before = rig.snapshot();
    for flag in [
        "nolock",
        "vers=4.1",
        "bind",
        "rbind",
        "remount",
        "remount,rw",
        "uid=0",
        "size=1g",
        "RO",
        "no exec",
        "-o",
        "defaults",
        "noexec ",
        "ro\0",
        "shared",
        "sync",
        "loop",
        "x-berth.made-up",
        "context=system_u",
    ] {
        let named = format!("{:?}", flag.split([',', '=']).next().unwrap());
        for request in [with_flags(&id, &target, &[flag]), with_flags(&id, &target, &["noexec", flag])] {
            rig.publish(request).fails(Code::InvalidArgument, &named);
        }
        let mut request = create("b");
        request.volume_capabilities = vec![publish(&id, &target).flag(flag).volume_capability.unwrap()];
        rig.create(request).fails(Code::InvalidArgument, &named);
        rig.is_as(&before);
    }
    for flag in ["", "ro,,noexec", ","] {
        rig.publish(with_flags(&id, &target, &[flag])).fails(Code::InvalidArgument, "mount_flags");
        rig.is_as(&before);
    }
}

#[test]
fn a_file_system_type_and_a_mount_group_are_refused() {
    let (mut rig, id, target) = volume();
    let before = rig.snapshot();
    type Change = fn(&mut volume_capability::MountVolume);
    let changes: [(Change, &str); 2] = [
        (|mount| mount.fs_type = "ext4".into(), "fs_type"),
        (|mount| mount.volume_mount_group = "1000".into(), "volume_mount_group"),
    ];
    for (change, words) in changes {
        let mut request = publish(&id, &target);
        let capability = request.volume_capability.as_mut().unwrap();
        let Some(volume_capability::AccessType::Mount(mount)) = &mut capability.access_type else { panic!() };
        change(mount);
        let capability = capability.clone();
        rig.publish(request).fails(Code::InvalidArgument, words);
        let mut request = create("b");
        request.volume_capabilities = vec![capability];
        rig.create(request).fails(Code::InvalidArgument, words);
        rig.is_as(&before);
    }
}

/// Puts a program into the volume `a`.
fn program(rig: &Rig, mode: u32) {
    let path = rig.data_of("a").join("program");
    fs::copy("/usr/bin/id", &path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_program_runs_unless_noexec() {
    let (mut rig, id, target) = volume();
    program(&rig, 0o755);
    let run = || Command::new(format!("{target}/program")).output();
    for (flags, runs) in [(&[][..], true), (&["noexec"], false), (&["noexec", "exec"], true)] {
        rig.publish(with_flags(&id, &target, flags)).ok();
        match run() {
            Ok(output) => assert!(runs && output.status.success(), "{flags:?}"),
            Err(error) => {
                assert!(!runs, "{flags:?}: {error}");
                assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
            }
        }
        rig.unpublish(&id, &target).ok();
    }
}

#[test]
fn a_set_user_id_program_gives_no_rights_unless_suid_is_asked() {
    let (mut rig, id, target) = volume();
    program(&rig, 0o4755);
    fs::set_permissions(rig.scratch(), fs::Permissions::from_mode(0o755)).unwrap();
    for (flags, effective) in [(&[][..], "65534"), (&["suid"], "0"), (&["suid", "nosuid"], "65534")] {
        rig.publish(with_flags(&id, &target, flags)).ok();
        assert_eq!(rig.mounts_at(&target)[0].has("nosuid"), effective != "0");
        let nobody = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
        let output =
            Command::new("setpriv").args(nobody).arg(format!("{target}/program")).arg("-u").output().unwrap();
        if has_other_users() {
            assert!(output.status.success(), "{output:?}");
            assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), effective, "{flags:?}");
        } else {
            assert!(!output.status.success(), "nobody else is here who could run it");
        }
        rig.unpublish(&id, &target).ok();
    }
}

#[test]
fn a_device_node_opens_no_device_unless_dev_is_asked() {
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};
    let (mut rig, id, target) = volume();
    let null = rig.data_of("a").join("null");
    let made = mknod(&null, SFlag::S_IFCHR, Mode::S_IRWXU, makedev(1, 3));
    for (flags, opens) in [(&[][..], false), (&["dev"], true), (&["dev", "nodev"], false)] {
        rig.publish(with_flags(&id, &target, flags)).ok();
        assert_eq!(rig.mounts_at(&target)[0].has("nodev"), !opens);
        if made.is_ok() {
            let opened = fs::File::open(format!("{target}/null"));
            assert_eq!(opened.is_ok(), opens, "{flags:?}: {opened:?}");
        } else {
            // Who may make no devices in a user namespace could have none in the volume.
            assert!(!has_other_users(), "{made:?}");
        }
        rig.unpublish(&id, &target).ok();
    }
}

#[test]
fn a_link_is_followed_unless_nosymfollow() {
    let (mut rig, id, target) = volume();
    fs::write(rig.data_of("a").join("file"), "x").unwrap();
    symlink("file", rig.data_of("a").join("link")).unwrap();
    for (flags, follows) in [(&[][..], true), (&["nosymfollow"], false)] {
        rig.publish(with_flags(&id, &target, flags)).ok();
        let read = fs::read_to_string(format!("{target}/link"));
        assert_eq!(read.is_ok(), follows, "{flags:?}: {read:?}");
        rig.unpublish(&id, &target).ok();
    }
}

#[test]
fn a_time_of_access_is_kept_as_the_flag_says() {
    let (mut rig, id, target) = volume();
    let file = rig.data_of("a").join("file");
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    for (flags, kept) in
        [(&["noatime"][..], false), (&["strictatime"], true), (&["relatime"], true), (&[], true)]
    {
        fs::write(&file, "x").unwrap();
        let times = fs::FileTimes::new().set_accessed(long_ago);
        fs::File::options().write(true).open(&file).unwrap().set_times(times).unwrap();
        rig.publish(with_flags(&id, &target, flags)).ok();
        fs::read(format!("{target}/file")).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().atime() != 1_000_000, kept, "{flags:?}");
        rig.unpublish(&id, &target).ok();
    }
}

#[test]
fn a_read_only_flag_is_a_read_only_mount_and_leaves_other_mounts_alone() {
    let (mut rig, id, target) = volume();
    let other = rig.target("other");
    rig.publish(with_flags(&id, &target, &["ro"])).ok();
    rig.publish(publish(&id, &other)).ok();
    let error = fs::write(format!("{target}/file"), "x").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(nix::libc::EROFS));
    fs::write(format!("{other}/file"), "x").unwrap();
    assert!(rig.mounts_at(&rig.root().display().to_string())[0].has("rw"));
}

#[test]
fn a_mount_gets_no_more_than_its_root_has() {
    // The administrator's own flags: what the root's mount forbids by itself is not granted by leaving it out.
    let mut rig = Rig::without_driver();
    let root = rig.root();
    rig.mount_tmpfs(&root, "size=64m,mode=0755");
    remount(&root, "noexec");
    rig.set_roots(&[format!("main={}", root.display())]);
    rig.start();
    let (id, target) = (rig.create(create("a")).id(), rig.target("t"));
    let options = options(&mut rig, &id, &target, &[]);
    assert_eq!(options.join(","), "rw,nosuid,nodev,noexec,relatime");
}

fn remount(at: &Path, options: &str) {
    let words = ["-o", &format!("remount,bind,{options}"), &at.display().to_string()];
    assert!(Command::new("mount").args(words).status().unwrap().success());
}

#[test]
fn a_flag_that_the_kernel_has_locked_is_refused_and_nothing_is_mounted() {
    // In a user namespace what the mount outside forbids can't be allowed.
    let mut rig = Rig::without_driver();
    let root = rig.root();
    rig.mount_tmpfs(&root, "size=64m,mode=0755");
    remount(&root, "nosuid,nodev,noexec,noatime");
    rig.set_roots(&[format!("main={}", root.display())]);
    rig.start_under(&[
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "--propagation",
        "private",
        "--fork",
        "--kill-child",
    ]);
    let (id, target) = (rig.create(create("a")).id(), rig.target("t"));
    for flag in ["suid", "dev", "exec", "strictatime", "relatime"] {
        rig.publish(with_flags(&id, &target, &[flag])).fails(Code::FailedPrecondition, "forbids");
        assert!(!fs::exists(&target).unwrap(), "{flag}: nothing is left");
    }
    rig.publish(with_flags(&id, &target, &["noexec"])).ok();
    rig.unpublish(&id, &target).ok();
    rig.delete(&id).ok();
}

#[test]
fn a_publication_of_the_old_kind_of_string_is_the_same_as_its_words() {
    // mount(8) takes options in one string, CSI in many: the request differs, the mount does not.
    let (mut rig, id, target) = volume();
    let one = options(&mut rig, &id, &target, &["ro,noexec"]);
    let many = options(&mut rig, &id, &target, &["ro", "noexec"]);
    assert_eq!(one, many);
}

#[test]
fn no_flag_allows_what_the_administrator_mounted_the_root_without() {
    let (mut rig, id, target) = volume();
    remount(&rig.root(), "ro,noexec,nosuid,nodev,nodiratime,nosymfollow");
    let before = rig.snapshot();
    for flag in ["rw", "exec", "suid", "dev", "diratime", "symfollow"] {
        rig.publish(with_flags(&id, &target, &[flag])).fails(Code::FailedPrecondition, flag);
        rig.is_as(&before);
    }
    let options = options(&mut rig, &id, &target, &[]);
    assert_eq!(options.join(","), "ro,nosuid,nodev,noexec,nodiratime,relatime,nosymfollow");
}
