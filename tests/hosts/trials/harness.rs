//! The hosts themselves: what trials take for granted.

use std::thread;
use std::time::{Duration, Instant};

use super::{NODE_A, NODE_B, nothing};
use crate::fleet::Fleet;
use crate::host::{Spec, wait_for};
use crate::runner::Group;
use crate::trials;

const WITH_DISK: Spec = Spec { name: "disk", number: 1, memory: 128, disks: &[64], at_boot: nothing };

pub const GROUP: Group = Group {
    name: "harness",
    hosts: &[WITH_DISK, NODE_A, NODE_B],
    trials: trials![
        three_hosts_have_names_kernels_and_addresses_of_their_own,
        a_link_that_is_cut_lets_nothing_through_either_way_until_it_is_healed,
        a_command_that_hangs_keeps_no_other_waiting_and_ends_at_its_limit,
        large_answers_and_files_pass_whole,
        a_host_that_crashed_has_its_disk_and_nothing_else,
        a_host_that_is_frozen_answers_when_it_is_thawed,
        a_host_ends_by_its_own_kernel_without_a_sync,
        a_host_whose_kernel_panics_is_known_to_be_gone,
        a_process_can_be_signalled_and_its_end_is_known,
        a_fleet_that_is_dropped_leaves_no_process_and_no_file,
        a_harness_that_is_killed_leaves_no_process,
    ],
};

fn three_hosts_have_names_kernels_and_addresses_of_their_own(fleet: &Fleet) {
    let names: Vec<String> = fleet.hosts().iter().map(|host| host.run("hostname")).collect();
    assert_eq!(names, ["disk", "node-a", "node-b"]);
    let boots: std::collections::BTreeSet<String> =
        fleet.hosts().iter().map(|host| host.run("cat /proc/sys/kernel/random/boot_id")).collect();
    assert_eq!(boots.len(), 3);
    assert!(fleet.host("node-a").run("ip addr show vec0").contains("10.99.0.2/24"));
    assert!(fleet.host("node-a").run("uname -r; cat /proc/version").contains("Linux version"));
}

fn reaches(fleet: &Fleet, from: &str, to: &str) -> bool {
    // The other host has no such port: a refusal says that packets go there and come back.
    let address = fleet.host(to).address();
    let connect = format!("timeout 1 bash -c 'echo >/dev/tcp/{address}/9' 2>&1");
    let output = fleet.host(from).attempt(&connect, Duration::from_secs(20)).unwrap();
    output.text.contains("refused")
}

fn a_link_that_is_cut_lets_nothing_through_either_way_until_it_is_healed(fleet: &Fleet) {
    let a = fleet.host("node-a");
    assert!(reaches(fleet, "node-a", "node-b") && reaches(fleet, "node-b", "node-a"));
    a.cut();
    assert!(!reaches(fleet, "node-a", "node-b") && !reaches(fleet, "node-b", "node-a"));
    assert!(reaches(fleet, "disk", "node-b"), "only one link is cut");
    a.heal();
    wait_for("the way from node-a", || reaches(fleet, "node-a", "node-b"));
    wait_for("the way to node-a", || reaches(fleet, "node-b", "node-a"));
}

fn a_command_that_hangs_keeps_no_other_waiting_and_ends_at_its_limit(fleet: &Fleet) {
    let a = fleet.host("node-a");
    thread::scope(|scope| {
        let begin = Instant::now();
        let hangs = scope.spawn(|| a.attempt("echo before; exec sleep 1000", Duration::from_secs(3)));
        wait_for("the other command to run", || a.can("pidof sleep"));
        assert_eq!(a.run("echo quick"), "quick");
        assert!(begin.elapsed() < Duration::from_secs(3), "the quick command waited for the other");
        assert_eq!(hangs.join().unwrap().unwrap_err(), "before\n");
        wait_for("the other command to be gone", || !a.can("pidof sleep"));
    });
}

fn large_answers_and_files_pass_whole(fleet: &Fleet) {
    let a = fleet.host("node-a");
    let contents: Vec<u8> = (0_u32..1 << 20).flat_map(u32::to_le_bytes).collect();
    a.write("/tmp/large", &contents);
    assert!(a.read("/tmp/large") == contents, "a file of 4 MiB came back as another");
    let text = a.run("head -c 3000000 /dev/zero | tr '\\0' x");
    assert_eq!(text.len(), 3_000_000);
    // Around the size from which a message goes another way.
    for size in (0..1200).step_by(50) {
        a.write("/tmp/small", &contents[..size]);
        assert!(a.read("/tmp/small") == contents[..size], "a file of {size} bytes");
    }
}

fn a_host_that_crashed_has_its_disk_and_nothing_else(fleet: &Fleet) {
    let host = fleet.host("disk");
    host.run("mkfs.ext4 -q /dev/ubda && mount /dev/ubda /mnt && echo kept >/mnt/file && sync /mnt/file");
    host.run("echo lost >/tmp/file");
    let boot = host.run("cat /proc/sys/kernel/random/boot_id");
    host.crash();
    assert!(!host.runs());
    host.boot();
    assert_ne!(host.run("cat /proc/sys/kernel/random/boot_id"), boot);
    assert_eq!(host.run("mount /dev/ubda /mnt && cat /mnt/file"), "kept");
    assert!(!host.can("test -e /tmp/file"));
}

fn a_host_that_is_frozen_answers_when_it_is_thawed(fleet: &Fleet) {
    let a = fleet.host("node-a");
    a.freeze();
    assert!(!reaches(fleet, "node-b", "node-a"));
    thread::scope(|scope| {
        let asked = scope.spawn(|| a.run("echo here"));
        thread::sleep(Duration::from_millis(300));
        assert!(!asked.is_finished(), "a frozen host answered");
        a.thaw();
        assert_eq!(asked.join().unwrap(), "here");
    });
}

fn a_host_ends_by_its_own_kernel_without_a_sync(fleet: &Fleet) {
    let b = fleet.host("node-b");
    b.power_off();
    assert!(!b.runs());
    b.boot();
    assert_eq!(b.run("hostname"), "node-b");
}

fn a_host_whose_kernel_panics_is_known_to_be_gone(fleet: &Fleet) {
    let b = fleet.host("node-b");
    let panics = b.start("sh -c 'echo c >/proc/sysrq-trigger'", "panics");
    wait_for("node-b to be gone", || !b.runs());
    assert_eq!(panics.host().name(), "node-b");
    assert!(fleet.logs().contains("Kernel panic"), "{}", fleet.logs());
    b.boot();
}

fn a_process_can_be_signalled_and_its_end_is_known(fleet: &Fleet) {
    let a = fleet.host("node-a");
    let process = a.start("sleep 1000", "sleep");
    assert_eq!(process.ended_within(Duration::from_millis(50)), None);
    process.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(process.ended_within(Duration::from_secs(20)), Some(128 + 15));
    let process = a.start("sh -c 'echo in the log; exit 37'", "exits");
    assert_eq!(process.ended_within(Duration::from_secs(20)), Some(37));
    assert_eq!(std::fs::read_to_string(a.logs().join("exits.log")).unwrap(), "in the log\n");
}

/// All processes of this machine that have a word in their arguments.
fn processes_with(word: &str) -> Vec<String> {
    let arguments = |entry: std::io::Result<std::fs::DirEntry>| {
        let arguments = std::fs::read(entry.ok()?.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&arguments).replace('\0', " "))
    };
    let all = std::fs::read_dir("/proc").unwrap().filter_map(arguments);
    all.filter(|arguments| arguments.contains(word)).collect()
}

fn a_fleet_that_is_dropped_leaves_no_process_and_no_file(_: &Fleet) {
    let fleet = Fleet::new(&[NODE_A]);
    fleet.revive();
    let directory = fleet.directory().to_path_buf();
    let word = directory.display().to_string();
    assert!(!processes_with(&word).is_empty());
    drop(fleet);
    wait_for("its processes to be gone", || processes_with(&word).is_empty());
    assert!(!directory.exists());
}

fn a_harness_that_is_killed_leaves_no_process(fleet: &Fleet) {
    let output = tempfile::NamedTempFile::new_in(crate::ground::GROUND).unwrap();
    let harness = fleet.directory().join("share/hosts").display().to_string();
    let said = || std::fs::read_to_string(output.path()).unwrap();
    let words = [harness, "--wait".into()];
    let mut child = crate::ground::launch(&words, Vec::new(), output.reopen().unwrap()).unwrap();
    wait_for("another harness to boot a host", || said().ends_with('\n'));
    let directory = said().trim().to_string();
    assert!(directory.starts_with(crate::ground::GROUND), "{directory}");
    // The names of its kernel's files are in the arguments, of all of its processes.
    assert!(processes_with(&directory).len() > 2);
    child.kill().unwrap();
    child.wait().unwrap();
    wait_for("all of its processes to be gone", || processes_with(&directory).is_empty());
}

/// What the trial above starts: a harness that boots a host, says where, and waits to be killed.
pub fn wait() -> std::io::Result<()> {
    let fleet = Fleet::new(&[NODE_A]);
    fleet.revive();
    println!("{}", fleet.directory().display());
    loop {
        thread::park();
    }
}
