//! What the kernel and the disks hold: the oracle of all tests.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::Rig;

/// A line of the mount table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Which directory of its file system is mounted.
    pub root: String,
    /// Where.
    pub at: String,
    /// The options of the mount.
    pub options: Vec<String>,
    /// The file system's type.
    pub file_system: String,
}

impl Mount {
    /// Whether the mount has this option.
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().any(|have| have == option)
    }
}

/// All mounts that this thread sees, in the kernel's order.
pub fn mounts() -> Vec<Mount> {
    parse(&fs::read_to_string("/proc/thread-self/mountinfo").unwrap())
}

/// Reads a mount table.
pub fn parse(table: &str) -> Vec<Mount> {
    let line = |line: &str| {
        let fields: Vec<_> = line.split(' ').collect();
        let behind = fields.iter().position(|field| *field == "-").unwrap();
        let options = fields[5].split(',').map(str::to_string).collect();
        Mount {
            root: unescape(fields[3]),
            at: unescape(fields[4]),
            options,
            file_system: fields[behind + 1].into(),
        }
    };
    table.lines().map(line).collect()
}

fn unescape(field: &str) -> String {
    // The backslash last: what it stands before is no escape then.
    let blanks = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    blanks.iter().fold(field.to_string(), |text, (octal, plain)| text.replace(octal, plain))
}

/// Whether there are other users than root here; in the user namespace of an unprivileged user there are none.
pub fn has_other_users() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap();
    let count = map.split_whitespace().nth(2).and_then(|count| count.parse::<u64>().ok()).unwrap();
    count > 65534
}

impl Rig {
    /// All that a call could have changed, as lines: the root and its records, the targets and the notes, the mounts. What
    /// waits for its purge, the reserve and directories for notes are left out, and nothing is looked at through a mount at a target.
    pub fn snapshot(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let targets = self.scratch().join("targets");
        for (place, directories) in [(self.root(), true), (targets, true), (self.run_dir(), false)] {
            if let Ok(found) = fs::metadata(&place) {
                walk(&place, found.dev(), directories, &mut lines);
            }
        }
        let own = mounts().into_iter().filter(|mount| Path::new(&mount.at).starts_with(self.scratch()));
        lines.extend(own.map(|mount| format!("{mount:?}")));
        lines
    }

    /// A call, or several, that may change nothing that lasts; gives what it gives.
    #[track_caller]
    pub fn unchanged<T>(&mut self, call: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.snapshot();
        let answer = call(self);
        self.is_as(&before);
        answer
    }

    /// Everything has to be as it was when the snapshot was taken.
    #[track_caller]
    pub fn is_as(&self, before: &[String]) {
        let after = self.snapshot();
        let gone: Vec<_> = before.iter().filter(|line| !after.contains(line)).collect();
        let new: Vec<_> = after.iter().filter(|line| !before.contains(line)).collect();
        assert!(gone.is_empty() && new.is_empty(), "gone: {gone:#?}\nnew: {new:#?}");
        assert_eq!(after.len(), before.len(), "{after:#?}");
    }
}

fn walk(directory: &Path, device: u64, directories: bool, lines: &mut Vec<String>) {
    let mut entries: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.ends_with(".berth/reserve") {
            continue;
        }
        let found = fs::symlink_metadata(&path).unwrap();
        let shown = format!("{} {:o} {}:{}", path.display(), found.mode(), found.uid(), found.gid());
        if found.is_dir() {
            if directories {
                lines.push(shown);
            }
            if found.dev() == device && !path.ends_with(".berth/trash") {
                walk(&path, device, directories, lines);
            }
        } else if found.is_symlink() {
            lines.push(format!("{shown} -> {}", fs::read_link(&path).unwrap().display()));
        } else if found.is_file() {
            lines.push(format!("{shown} {:?}", String::from_utf8_lossy(&fs::read(&path).unwrap())));
        } else {
            lines.push(shown);
        }
    }
}
