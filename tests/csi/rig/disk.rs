//! What lies on a root, read without Berth: records, data, and whether they agree.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::Rig;

/// A root as it is on disk.
#[derive(Debug, Default)]
pub struct Disk {
    /// The records, by name. A name without an incarnation has none.
    pub records: BTreeMap<String, Option<OnDisk>>,
    /// Every directory outside `.berth` that is named like a volume's data, beneath the root.
    pub data: Vec<String>,
    /// What lies in `.berth/new`.
    pub new: Vec<String>,
}

/// A record, as far as a human reads it.
#[derive(Debug, Clone)]
pub struct OnDisk {
    pub incarnation: String,
    pub state: String,
    pub capacity_bytes: i64,
    /// Where its data belongs, beneath the root.
    pub data: String,
    /// How its tree is called while it is being built.
    pub building: String,
}

impl Rig {
    /// Reads the root `main`.
    pub fn disk(&self) -> Disk {
        Disk::read(&self.root())
    }

    /// The records of the root `main`.
    pub fn volumes_dir(&self) -> PathBuf {
        self.root().join(".berth/volumes")
    }
}

impl Disk {
    /// Reads a root, whose records all have to be good.
    pub fn read(root: &Path) -> Self {
        let mut disk = Self { new: names(&root.join(".berth/new")), ..Self::default() };
        for name in names(&root.join(".berth/volumes")) {
            let record = read_record(&root.join(".berth/volumes").join(&name), &name);
            disk.records.insert(name, record);
        }
        find_data(root, "", &mut disk.data);
        disk
    }

    /// The record of a name, if it has one.
    pub fn record(&self, name: &str) -> Option<&OnDisk> {
        self.records.get(name).and_then(Option::as_ref)
    }

    /// Whether the record of a name says that it exists.
    pub fn is_live(&self, name: &str) -> bool {
        self.record(name).is_some_and(|record| record.state == "live")
    }

    /// Whether the tree of a record is in its place, or being built.
    pub fn has_tree(&self, name: &str) -> bool {
        self.record(name)
            .is_some_and(|record| self.data.contains(&record.data) || self.new.contains(&record.building))
    }

    /// Nothing is lost and nothing is nobody's: the tree of each live record is in its place or, until somebody
    /// rolls it forward, being built; all data is of a record.
    #[track_caller]
    pub fn check_explained(&self) {
        let mut claimed = Vec::new();
        for record in self.records.values().flatten() {
            let (placed, built) = (self.data.contains(&record.data), self.new.contains(&record.building));
            assert!(!(placed && built), "{record:?} has two trees: {self:#?}");
            assert!(record.state != "live" || placed || built, "{record:?} has no tree: {self:#?}");
            claimed.push(&record.data);
        }
        for data in &self.data {
            assert!(claimed.contains(&data), "{data} is of no record: {self:#?}");
        }
    }

    /// Nothing is half done: every name has a live record, every record its data, all data a record.
    #[track_caller]
    pub fn check_settled(&self) {
        for (name, record) in &self.records {
            let record = record.as_ref().unwrap_or_else(|| panic!("{name} has no record: {self:#?}"));
            assert_eq!(record.state, "live", "{name}: {self:#?}");
            assert!(self.data.contains(&record.data), "the data of {name} is not in its place: {self:#?}");
        }
        assert_eq!(self.records.len(), self.data.len(), "data of no record: {self:#?}");
    }
}

fn read_record(directory: &Path, name: &str) -> Option<OnDisk> {
    let incarnations = names(directory);
    assert!(incarnations.len() <= 1, "{}: {incarnations:?}", directory.display());
    let incarnation = incarnations.first()?.clone();
    let generation = |file: &String| file.strip_suffix(".json").unwrap().parse::<u64>().unwrap();
    let files = names(&directory.join(&incarnation));
    let highest = files.iter().max_by_key(|file| generation(file)).expect("a record has a generation");
    let text = fs::read(directory.join(&incarnation).join(highest)).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(json["incarnation"], incarnation.as_str());
    Some(OnDisk {
        state: json["state"].as_str().unwrap().into(),
        capacity_bytes: json["capacity_bytes"].as_i64().unwrap(),
        data: format!("{}.{incarnation}", json["path"].as_str().unwrap()),
        building: format!("{name}.{incarnation}"),
        incarnation,
    })
}

fn find_data(directory: &Path, beneath: &str, found: &mut Vec<String>) {
    for name in names(directory).into_iter().filter(|name| name != ".berth") {
        let path = if beneath.is_empty() { name.clone() } else { format!("{beneath}/{name}") };
        let hex = |end: &str| end.len() == 16 && end.bytes().all(|byte| byte.is_ascii_hexdigit());
        if name.rsplit_once('.').is_some_and(|(_, end)| hex(end)) {
            found.push(path);
        } else if fs::symlink_metadata(directory.join(&name)).unwrap().is_dir() {
            find_data(&directory.join(&name), &path, found);
        }
    }
}

/// The names in a directory, sorted.
pub fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
