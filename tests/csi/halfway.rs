//! A crash is a directory: every half-done layout, written by hand, and every call on each of them.
//!
//! What a real kill leaves is in `crash`. Here is also what only two processes, a sweeper or a restored backup can leave.

use std::fs;
use std::path::PathBuf;

use crate::rig::*;
use crate::scene::{EACH, Scene};

/// The parts of a volume that was whole; a layout moves them about.
struct Parts {
    root: PathBuf,
    name: String,
    incarnation: String,
    /// `.berth/volumes/<name>`.
    record: PathBuf,
    /// Where its data is.
    data: PathBuf,
}

impl Parts {
    fn own(&self, path: &str) -> PathBuf {
        self.root.join(".berth").join(path)
    }

    fn building(&self) -> PathBuf {
        self.own(&format!("new/{}.{}", self.name, self.incarnation))
    }

    fn generation(&self, number: u32) -> PathBuf {
        self.record.join(&self.incarnation).join(format!("{number}.json"))
    }

    /// Writes another generation, changed a little.
    fn write(&self, number: u32, key: &str, value: &str) {
        let text = fs::read(self.generation(1)).unwrap();
        let mut json: serde_json::Value = serde_json::from_slice(&text).unwrap();
        json[key] = serde_json::from_str(value).unwrap();
        fs::write(self.generation(number), serde_json::to_vec(&json).unwrap()).unwrap();
    }

    fn mark_deleting(&self) {
        self.write(2, "state", "\"deleting\"");
        fs::remove_file(self.generation(1)).unwrap();
    }

    fn bury(&self) {
        let buried = self.own(&format!("trash/{}.record.0123456789abcdef", self.incarnation));
        fs::rename(self.record.join(&self.incarnation), buried).unwrap();
    }

    /// What a creation has that was not won yet.
    fn prepare(&self) -> PathBuf {
        let prepared = self.own(&format!("new/{}.{}.record", self.name, self.incarnation));
        fs::rename(&self.record, &prepared).unwrap();
        fs::rename(&self.data, self.building()).unwrap();
        prepared
    }
}

/// Makes a layout out of a volume that is whole.
type Layout = fn(&Parts);

/// What was going on, and how far it came.
const LAYOUTS: &[(&str, Layout)] = &[
    ("a tree is being built", |parts| {
        fs::remove_dir_all(parts.prepare()).unwrap();
    }),
    ("a tree is being built, and its record is empty", |parts| {
        let file = parts.prepare().join(&parts.incarnation).join("1.json");
        fs::write(file, "").unwrap();
    }),
    ("a tree is built, and its record prepared", |parts| {
        parts.prepare();
    }),
    ("the record is won, the tree not in its place", |parts| {
        fs::rename(&parts.data, parts.building()).unwrap();
    }),
    ("the record is won, and the tree was swept away", |parts| {
        fs::rename(&parts.data, parts.own("trash/swept")).unwrap();
    }),
    ("the deletion is won, the data in its place", |parts| parts.mark_deleting()),
    ("the deletion is won, the tree was never in its place", |parts| {
        parts.mark_deleting();
        fs::rename(&parts.data, parts.building()).unwrap();
    }),
    ("the deletion is won, the data in the trash", |parts| {
        parts.mark_deleting();
        fs::rename(&parts.data, parts.own(&format!("trash/{}.0", parts.incarnation))).unwrap();
    }),
    ("the record is buried, its name is left", |parts| {
        parts.mark_deleting();
        fs::rename(&parts.data, parts.own(&format!("trash/{}.0", parts.incarnation))).unwrap();
        parts.bury();
    }),
    ("all is gone but the trash", |parts| {
        parts.mark_deleting();
        fs::rename(&parts.data, parts.own(&format!("trash/{}.0", parts.incarnation))).unwrap();
        parts.bury();
        fs::remove_dir(&parts.record).unwrap();
    }),
    ("an expansion is won, the older generation is left", |parts| {
        parts.write(2, "capacity_bytes", "1500000");
    }),
    ("a deletion is won, two older generations are left", |parts| {
        parts.write(2, "capacity_bytes", "1500000");
        parts.write(3, "state", "\"deleting\"");
    }),
    ("generations were counted far", |parts| {
        fs::rename(parts.generation(1), parts.generation(4_000_000_000)).unwrap();
    }),
    ("temporary files of all sorts are left", |parts| {
        let text = fs::read(parts.generation(1)).unwrap();
        fs::write(parts.own(&format!("new/{}.0123456789abcdef.json", parts.name)), text).unwrap();
        fs::write(parts.own("new/root.0123456789abcdef.json"), "").unwrap();
        fs::write(parts.own("new/something"), "").unwrap();
        fs::create_dir(parts.own(&format!("new/{}.0123456789abcdef", parts.name))).unwrap();
    }),
    ("the identity of the root is missing", |parts| {
        fs::remove_file(parts.own("root.json")).unwrap();
    }),
];

#[test]
fn every_call_on_every_half_done_layout_comes_to_the_right_end() {
    for (layout, make) in LAYOUTS {
        let mut rig = Rig::new();
        rig.create(create("beside")).ok();
        let beside = rig.data_of("beside").join("file");
        fs::write(&beside, "precious").unwrap();
        for next in EACH.iter().copied() {
            eprintln!("{layout}, then {next:?}");
            let scene = Scene::of(&rig, create(&format!("v-{next:?}").to_lowercase()));
            rig.create(scene.request.clone()).ok();
            rig.kill();
            let record = rig.disk().record(scene.name()).unwrap().clone();
            make(&Parts {
                root: rig.root(),
                name: scene.name().into(),
                record: rig.volumes_dir().join(scene.name()),
                data: rig.root().join(&record.data),
                incarnation: record.incarnation,
            });
            rig.start();
            scene.next(&mut rig, next);
            scene.live_and_die(&mut rig);
            assert_eq!(rig.list_ids(0), ["node-1/main/beside"]);
            assert_eq!(fs::read_to_string(&beside).unwrap(), "precious");
        }
    }
}
