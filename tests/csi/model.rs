//! Calls and mishaps in any order, beside a model of what each has to answer and of what has to be mounted then.
//!
//! The model is the table of access modes and four sentences; it knows nothing of records, files or the mount table.

use std::collections::{BTreeMap, HashMap};
use std::fs;

use berth::csi::volume_capability::access_mode::Mode;
use nix::mount::{MntFlags, umount2};

use crate::rig::*;

/// Nodes, targets on a node, writing nodes: 0, 1 or many (2).
const TABLE: [(Mode, [u8; 3]); 7] = [
    (Mode::SingleNodeWriter, [1, 1, 1]),
    (Mode::SingleNodeReaderOnly, [1, 1, 0]),
    (Mode::SingleNodeSingleWriter, [1, 1, 1]),
    (Mode::SingleNodeMultiWriter, [1, 2, 1]),
    (Mode::MultiNodeReaderOnly, [2, 2, 0]),
    (Mode::MultiNodeSingleWriter, [2, 2, 1]),
    (Mode::MultiNodeMultiWriter, [2, 2, 2]),
];
const NAMES: [&str; 3] = ["a", "b", "c"];
const ADOPTED: &str = "node-1/main/=photos";
const TARGETS: [&str; 4] = ["one", "two", "three", "four"];

fn row(mode: Mode) -> [u8; 3] {
    TABLE.iter().find(|(known, _)| *known == mode).unwrap().1
}

fn within(asked: Mode, given: Mode) -> bool {
    row(asked).iter().zip(row(given)).all(|(asked, given)| *asked <= given)
}

/// A mount that has to be there.
#[derive(Debug, Clone, PartialEq)]
struct Mounted {
    id: String,
    mode: Mode,
    read_only: bool,
    /// Whether its note is still there: without one it counts as exclusive.
    noted: bool,
}

#[derive(Debug, Default)]
struct Model {
    volumes: HashMap<String, Mode>,
    mounted: BTreeMap<&'static str, Mounted>,
}

impl Model {
    fn publish(&mut self, target: &'static str, wanted: &Mounted) -> Option<Code> {
        if wanted.id != ADOPTED {
            match self.volumes.get(&wanted.id) {
                None => return Some(Code::NotFound),
                Some(given) if !within(wanted.mode, *given) => return Some(Code::FailedPrecondition),
                Some(_) => {}
            }
        }
        if let Some(found) = self.mounted.get(target).filter(|found| found.id == wanted.id) {
            return (found != wanted).then_some(Code::AlreadyExists);
        }
        let others = self.mounted.values().filter(|other| other.id == wanted.id);
        let leaves_room =
            |other: &Mounted| other.noted && other.mode == wanted.mode && row(wanted.mode)[1] > 1;
        if self.mounted.contains_key(target) || !others.into_iter().all(leaves_room) {
            return Some(Code::FailedPrecondition);
        }
        self.mounted.insert(target, wanted.clone());
        None
    }

    fn unpublish(&mut self, id: &str, target: &str) {
        self.mounted.retain(|at, found| !(*at == target && found.id == id));
    }

    fn create(&mut self, id: &str, mode: Mode) -> Option<Code> {
        match self.volumes.get(id) {
            Some(given) => (!within(mode, *given)).then_some(Code::AlreadyExists),
            None => {
                self.volumes.insert(id.into(), mode);
                None
            }
        }
    }

    fn delete(&mut self, id: &str) -> Option<Code> {
        if id == ADOPTED || self.mounted.values().any(|found| found.id == id) {
            return Some(Code::FailedPrecondition);
        }
        self.volumes.remove(id);
        None
    }
}

/// Numbers that look random and are the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

#[track_caller]
fn compare<T: std::fmt::Debug>(answer: Answer<T>, expected: Option<Code>, history: &[String]) {
    let found = answer.result().err();
    let tail = &history[history.len().saturating_sub(40)..];
    assert_eq!(found.as_ref().map(tonic::Status::code), expected, "{found:?} after {tail:#?}");
}

fn check_mounts(rig: &Rig, model: &Model, history: &[String]) {
    for target in TARGETS {
        let mounts = rig.mounts_at(&rig.target(target));
        let tail = &history[history.len().saturating_sub(40)..];
        match model.mounted.get(target) {
            None => assert_eq!(mounts, [], "{target} after {tail:#?}"),
            Some(wanted) => {
                assert_eq!(mounts.len(), 1, "{target} after {tail:#?}");
                let name = wanted.id.rsplit_once(['/', '=']).unwrap().1;
                let root = &mounts[0].root;
                assert!(
                    root == &format!("/{name}") || root.starts_with(&format!("/{name}.")),
                    "{root}: {tail:#?}"
                );
                assert_eq!(mounts[0].has("ro"), wanted.read_only, "{target} after {tail:#?}");
            }
        }
    }
}

fn play(seed: u64, steps: usize) {
    let mut random = Random(seed);
    let mut rig = Rig::new();
    fs::create_dir(rig.root().join("photos")).unwrap();
    let mut other = None;
    let (mut model, mut history) = (Model::default(), vec![format!("seed {seed}")]);
    for _ in 0..steps {
        let name = random.of(&NAMES);
        let made = format!("node-1/main/{name}");
        let id = if random.below(5) == 0 { ADOPTED.to_string() } else { made.clone() };
        let (target, mode) = (random.of(&TARGETS), random.of(&TABLE).0);
        let read_only = random.below(4) == 0;
        let what = random.below(100);
        history.push(match what {
            0..45 => format!("publish {id} at {target} {mode:?} ro={read_only}"),
            45..65 => format!("unpublish {id} at {target}"),
            65..80 => format!("create {name} {mode:?}"),
            80..88 => format!("delete {id}"),
            88..90 => "kill".into(),
            90..91 => "reboot".into(),
            91..93 => "notes lost".into(),
            93..96 => format!("unmount {target} by hand"),
            96..98 => "another driver comes".into(),
            _ => "another driver goes".into(),
        });
        let mut client = Client::of(&rig.scratch().join("csi.sock"));
        if other.is_some() && random.below(2) == 0 {
            client = Client::of(&rig.scratch().join("another.sock"));
            history.last_mut().unwrap().push_str(" (other)");
        }
        match what {
            0..45 => {
                let mut request = publish(&id, &rig.target(target)).mode(mode);
                request.readonly = read_only;
                let read_only = read_only || row(mode)[2] == 0;
                let expected = model.publish(target, &Mounted { id, mode, read_only, noted: true });
                compare(client.publish(request), expected, &history);
            }
            45..65 => {
                model.unpublish(&id, target);
                compare(client.unpublish(&id, &rig.target(target)), None, &history);
            }
            65..80 => {
                let request = create(name).mode(mode).parameter("nodeSharing", "true");
                compare(client.create(request), model.create(&made, mode), &history);
            }
            80..88 => compare(client.delete(&id), model.delete(&id), &history),
            88..90 => rig.restart(),
            90..91 => {
                drop(other.take());
                rig.reboot();
                model.mounted.clear();
            }
            91..93 => {
                let _ = fs::remove_dir_all(rig.run_dir());
                model.mounted.values_mut().for_each(|found| found.noted = false);
            }
            93..96 => {
                let _ = umount2(rig.target(target).as_str(), MntFlags::empty());
                model.mounted.remove(target);
            }
            96..98 => {
                if other.is_none() {
                    other = Some(rig.another_driver());
                }
            }
            _ => drop(other.take()),
        }
        check_mounts(&rig, &model, &history);
    }
}

#[test]
fn whatever_comes_in_whatever_order_answers_and_mounts_are_those_of_the_model() {
    for seed in 1..=4 {
        play(seed, 250);
    }
}
