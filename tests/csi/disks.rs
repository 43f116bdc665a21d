//! Disks that are gone, full, or not the one they were.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use crate::rig::*;

#[test]
fn a_fresh_root_is_closed_to_the_hosts_users_however_its_first_start_ends() {
    for call in ["fchmod", "linkat", "unlinkat"] {
        let mut rig = Rig::without_driver();
        let root = rig.root();
        rig.mount_tmpfs(&root, "size=64m,mode=0755");
        rig.set_roots(&[format!("main={}", root.display())]);
        // Only what is done to the root, for the socket gets a mode as well.
        let (inject, root_path) = (format!("inject={call}:signal=KILL"), root.display().to_string());
        let new_path = format!("{root_path}/.berth/new");
        let strace = ["strace", "-f", "-o", "/dev/null", "-P", &root_path, "-P", &new_path, "-e", &inject];
        let mut dies = rig.command(&strace, "csi.sock").spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while dies.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "{call}: the driver was to be killed");
            std::thread::sleep(Duration::from_millis(5));
        }
        rig.start();
        rig.create(create("a")).id();
        let mode = fs::metadata(&root).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{call}");
    }
}
