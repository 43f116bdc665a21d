//! A set of hosts on one network, with a directory that they share with the harness.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use crate::ground::GROUND;
use crate::host::{Host, Spec};
use crate::switch::Switch;

/// What hosts find in /share, beside the two programs.
const GUEST: [(&str, &str); 3] = [
    ("init.sh", include_str!("guest/init.sh")),
    ("stage2.sh", include_str!("guest/stage2.sh")),
    ("nfsd.sh", include_str!("guest/nfsd.sh")),
];

/// How many lines of each log a failure shows.
const SHOWN: usize = 100;

/// Hosts; they end when it is dropped, and nothing is left of them.
pub struct Fleet {
    hosts: Vec<Arc<Host>>,
    switch: Switch,
    directory: tempfile::TempDir,
}

impl Fleet {
    /// Hosts that are not booted yet. The programs are copied, so that a build meanwhile changes nothing.
    pub fn new(specs: &[Spec]) -> Self {
        let directory = tempfile::tempdir_in(GROUND).unwrap();
        let share = directory.path().join("share");
        fs::create_dir(&share).unwrap();
        for (name, text) in GUEST {
            fs::write(share.join(name), text).unwrap();
            fs::set_permissions(share.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        fs::copy(env!("CARGO_BIN_EXE_berth"), share.join("berth")).unwrap();
        fs::copy("/proc/self/exe", share.join("hosts")).unwrap();
        let switch = Switch::default();
        let host = |spec: &Spec| Arc::new(Host::new(*spec, directory.path(), &switch).unwrap());
        Self { hosts: specs.iter().map(host).collect(), switch, directory }
    }

    /// The host of this name.
    #[track_caller]
    pub fn host(&self, name: &str) -> &Arc<Host> {
        self.hosts.iter().find(|host| host.name() == name).unwrap_or_else(|| panic!("no host {name}"))
    }

    /// All hosts.
    pub fn hosts(&self) -> &[Arc<Host>] {
        &self.hosts
    }

    /// Their network, which tests/cluster joins to another.
    #[allow(dead_code)] // here
    pub fn switch(&self) -> &Switch {
        &self.switch
    }

    /// The directory that has all of its files.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Every link is whole and every host runs: those that don't are booted, at once.
    pub fn revive(&self) {
        self.switch.heal_all();
        self.hosts.iter().for_each(|host| host.thaw());
        thread::scope(|scope| {
            let down = self.hosts.iter().filter(|host| !host.runs());
            let boots: Vec<_> = down.map(|host| scope.spawn(|| host.reboot())).collect();
            for boot in boots {
                if let Err(panic) = boot.join() {
                    std::panic::resume_unwind(panic);
                }
            }
        });
    }

    /// The end of each host's console and logs.
    pub fn logs(&self) -> String {
        let mut text = String::new();
        for host in &self.hosts {
            let mut files: Vec<PathBuf> =
                fs::read_dir(host.logs()).unwrap().map(|entry| entry.unwrap().path()).collect();
            files.sort();
            files.insert(0, host.console());
            for file in files {
                let log = fs::read(&file).unwrap_or_default();
                let log = String::from_utf8_lossy(&log);
                let lines: Vec<&str> = log.lines().collect();
                let name = file.file_name().unwrap_or_default().display();
                let _ = writeln!(text, "--- {} {name}, {} lines", host.name(), lines.len());
                for line in &lines[lines.len().saturating_sub(SHOWN)..] {
                    let _ = writeln!(text, "  {line}");
                }
            }
        }
        text
    }
}
