//! Who owns a new directory, who may write to it, and who does not even come to it.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Command, Output};

use crate::rig::*;

/// A user of a pod, and of the host.
const SOMEBODY: u32 = 12345;

/// Whether a user id exists here: all do for root, only one's own in the user namespace of an unprivileged user.
fn mapped(id: u32) -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap();
    map.lines().any(|line| {
        let numbers: Vec<u64> = line.split_whitespace().map(|number| number.parse().unwrap()).collect();
        (numbers[0]..numbers[0] + numbers[2]).contains(&u64::from(id))
    })
}

/// Runs a shell line as [`SOMEBODY`], with `path` as its first argument.
fn as_somebody(line: &str, path: &Path) -> Output {
    let id = SOMEBODY.to_string();
    Command::new("setpriv")
        .args(["--reuid", &id, "--regid", &id, "--clear-groups"])
        .args(["sh", "-c", line, "sh"])
        .arg(path)
        .output()
        .unwrap()
}

/// A driver whose files anybody can come to, as far as their own modes allow.
fn rig() -> Rig {
    let rig = Rig::new();
    for open in [rig.scratch().to_path_buf(), rig.scratch().join("targets")] {
        fs::set_permissions(open, fs::Permissions::from_mode(0o755)).unwrap();
    }
    rig
}

fn permissions(path: impl AsRef<Path>) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn any_user_of_a_pod_can_write_unless_the_parameters_say_otherwise() {
    let mut rig = rig();
    let target = rig.target("t");
    let id = rig.create(create("a")).id();
    rig.publish(publish(&id, &target)).ok();
    assert_eq!(permissions(&target), 0o777);
    let written = as_somebody("echo content > \"$1/file\"", Path::new(&target));
    if mapped(SOMEBODY) {
        assert!(written.status.success(), "{written:?}");
        assert_eq!(fs::metadata(rig.data_of("a").join("file")).unwrap().uid(), SOMEBODY);
    } else {
        // There is no other user here whom it could concern.
        assert!(!written.status.success(), "{written:?}");
        assert_eq!(fs::metadata(&target).unwrap().uid(), 0);
    }
}

#[test]
fn nobody_on_the_host_comes_to_the_data_but_through_a_mount() {
    let mut rig = rig();
    rig.create(create("a")).ok();
    rig.create(create("b").parameter("subDir", "shop/b")).ok();
    let data = rig.data_of("a");
    fs::write(data.join("file"), "secret").unwrap();
    fs::set_permissions(data.join("file"), fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(permissions(rig.root()), 0o700);
    assert_eq!(permissions(rig.root().join(".berth")), 0o700);
    if mapped(SOMEBODY) {
        for line in ["ls \"$1\"", "cat \"$1/file\"", "echo x > \"$1/file\"", "touch \"$1/new\""] {
            let tried = as_somebody(line, &data);
            assert!(!tried.status.success(), "{line}: {tried:?}");
            assert!(String::from_utf8_lossy(&tried.stderr).contains("Permission denied"), "{tried:?}");
        }
        assert!(
            as_somebody("ls \"$1\"", rig.scratch()).status.success(),
            "it is the root that keeps them out"
        );
    }
}

#[test]
fn mode_uid_and_gid_are_those_of_the_directory_at_the_target() {
    let mut rig = rig();
    for (name, mode, bits) in [
        ("a", "0750", 0o750),
        ("b", "777", 0o777),
        ("c", "2770", 0o2770),
        ("d", "1777", 0o1777),
        ("e", "000", 0),
    ] {
        let target = rig.target(name);
        let id = rig.create(create(name).parameter("mode", mode)).id();
        rig.publish(publish(&id, &target)).ok();
        assert_eq!(permissions(&target), bits, "{mode}");
    }
    let with_owner = create("f").parameter("uid", "1000").parameter("gid", "12345").parameter("mode", "0770");
    if mapped(1000) {
        let (id, target) = (rig.create(with_owner).id(), rig.target("f"));
        rig.publish(publish(&id, &target)).ok();
        let found = fs::metadata(&target).unwrap();
        assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (1000, 12345, 0o770));
        assert!(as_somebody("touch \"$1/file\"", Path::new(&target)).status.success(), "by its group");
        let other = rig.create(create("g").parameter("uid", "1000").parameter("mode", "0700")).id();
        let target = rig.target("g");
        rig.publish(publish(&other, &target)).ok();
        assert!(!as_somebody("touch \"$1/file\"", Path::new(&target)).status.success());
    } else {
        rig.unchanged(|rig| rig.create(with_owner).fails(Code::InvalidArgument, "parameters.uid"));
    }
}

#[test]
fn the_mode_does_not_depend_on_the_umask_of_the_driver() {
    for umask in ["000", "077", "777"] {
        let mut rig = rig();
        rig.kill();
        rig.start_under(&["sh", "-c", &format!("umask {umask}; exec \"$@\""), "sh"]);
        rig.create(create("a")).ok();
        rig.create(create("b").parameter("mode", "0751").parameter("subDir", "new/b")).ok();
        assert_eq!(permissions(rig.data_of("a")), 0o777, "umask {umask}");
        let b = fs::read_dir(rig.root().join("new")).unwrap().next().unwrap().unwrap().path();
        assert_eq!(permissions(b), 0o751, "umask {umask}");
        assert_eq!(permissions(rig.root().join("new")) & 0o077, 0, "umask {umask}");
        let target = rig.target("t");
        rig.publish(publish("node-1/main/a", &target)).ok();
        rig.unpublish("node-1/main/a", &target).ok();
        rig.delete("node-1/main/a").ok();
        rig.delete("node-1/main/b").ok();
    }
}

#[test]
fn a_root_that_held_data_before_keeps_its_mode_and_the_log_says_so() {
    let mut rig = Rig::without_driver();
    let root = rig.root();
    rig.mount_tmpfs(&root, "size=64m,mode=0755");
    fs::create_dir(root.join("photos")).unwrap();
    rig.set_roots(&[format!("main={}", root.display())]);
    rig.start();
    rig.create(create("a")).ok();
    assert_eq!(permissions(&root), 0o755);
    assert_eq!(permissions(root.join(".berth")), 0o700);
    assert!(rig.log().contains("chmod 700"), "{}", rig.log());
}
