//! Two driver processes on one root, killed and started again at random moments, while several callers create, publish,
//! unpublish and delete the same names: what was answered OK holds, and in the end records and directories agree.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use berth::csi::*;

use crate::rig::*;

/// Chosen once; a failure is looked into with the same one. What the kernel's scheduler does is still its own.
const SEED: u64 = 0x5eed_0fbe_47b0_a700;
const LASTS: Duration = Duration::from_secs(5);
const CALLERS: usize = 4;
/// Names that one caller has for itself, so that it knows what holds; and names that all of them fight for.
const OWN: usize = 4;
const SHARED: usize = 4;

/// xorshift64: the same numbers on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }
}

/// What a caller knows of a name: true or false since the last OK, nothing after an answer that was lost.
#[derive(Debug, Default, Clone)]
struct Known {
    exists: Option<bool>,
    mounted: Option<bool>,
    has_file: Option<bool>,
}

struct Caller {
    random: Random,
    sockets: [PathBuf; 2],
    /// How this thread sees the rig's mount namespace.
    view: String,
    answers: usize,
}

/// An answer of the driver, or nothing when it died on the way.
fn answered<T>(answer: Answer<T>) -> Option<Result<T, tonic::Status>>
where
    T: std::fmt::Debug,
{
    match answer.result() {
        Err(status) if std::error::Error::source(&status).is_some() => None,
        answer => Some(answer),
    }
}

impl Caller {
    fn client(&mut self) -> Client {
        Client::of(&self.sockets[self.random.below(2)])
    }

    fn mounts_at(&self, target: &str) -> Vec<Mount> {
        let table = fs::read_to_string(format!("{}/mountinfo", self.view)).unwrap();
        parse(&table).into_iter().filter(|mount| mount.at == target).collect()
    }

    /// The one mount at a target, which is the data of `name`, in its place.
    fn check_mount(&self, name: &str, target: &str) {
        let mounts = self.mounts_at(target);
        assert_eq!(mounts.len(), 1, "{name} was published at {target}: {mounts:?}");
        assert!(mounts[0].root.starts_with(&format!("/{name}.")), "{name} at {target}: {mounts:?}");
    }

    /// One call about `name`; what it was answered has to agree with what is known, if anything is, and is known from then on.
    fn call(&mut self, name: &str, target: &str, known: &mut Known, shared: bool) {
        let id = format!("node-1/main/{name}");
        let file = format!("{}/root{target}/file", self.view);
        let mut client = self.client();
        let what = self.random.below(5);
        let before = known.clone();
        let told = match what {
            0 => answered(client.create(create(name))).map(|answer| answer.map(drop)),
            1 => answered(client.publish(publish(&id, target))).map(|answer| answer.map(drop)),
            2 => answered(client.unpublish(&id, target)).map(|answer| answer.map(drop)),
            3 => answered(client.delete(&id)).map(|answer| answer.map(drop)),
            _ => {
                let request = ControllerGetVolumeRequest { volume_id: id.clone() };
                answered(client.get_volume(request)).map(|answer| answer.map(drop))
            }
        };
        self.answers += usize::from(told.is_some());
        let code = told.as_ref().map(|answer| answer.as_ref().err().map_or(Code::Ok, tonic::Status::code));
        match (what, code) {
            (_, None | Some(Code::Aborted)) => match what {
                0 if known.exists == Some(true) => {}
                0 => *known = Known { mounted: known.mounted, ..Known::default() },
                1 | 2 => known.mounted = None,
                3 if known.mounted == Some(true) => {}
                3 => *known = Known { mounted: known.mounted, ..Known::default() },
                _ => {}
            },
            (0, Some(Code::Ok)) => {
                if known.exists == Some(false) {
                    known.has_file = Some(false);
                }
                known.exists = Some(true);
            }
            (1, Some(Code::Ok)) => {
                assert_ne!(known.exists, Some(false), "{name} was published and had been deleted");
                (known.exists, known.mounted) = (Some(true), Some(true));
                self.check_mount(name, target);
                if let (Some(expected), false) = (known.has_file, shared) {
                    assert_eq!(fs::exists(&file).unwrap(), expected, "the file in {name}");
                }
                fs::write(&file, "x").unwrap();
                known.has_file = Some(true);
            }
            (2, Some(Code::Ok)) => {
                assert_eq!(self.mounts_at(target), [], "{name} was unpublished");
                known.mounted = Some(false);
            }
            (3, Some(Code::Ok)) => {
                assert_ne!(
                    known.mounted,
                    Some(true),
                    "{name} was deleted while it was published at {target}"
                );
                *known = Known { exists: Some(false), mounted: known.mounted, has_file: None };
            }
            (3, Some(Code::FailedPrecondition)) if known.mounted != Some(false) || shared => {}
            (4, Some(Code::Ok)) => {
                assert_ne!(known.exists, Some(false), "{name} had been deleted");
                known.exists = Some(true);
            }
            (1 | 4, Some(Code::NotFound)) => {
                assert_ne!(known.exists, Some(true), "{name} had been created");
                if what == 4 {
                    known.exists = Some(false);
                }
            }
            _ => panic!("{name}: call {what}, known {before:?}: {told:?}"),
        }
        // While a caller has it published, nobody deletes it.
        if known.mounted == Some(true) {
            self.check_mount(name, target);
        }
        if shared {
            *known = Known { mounted: known.mounted, ..Known::default() };
        }
    }
}

#[test]
fn two_processes_that_are_killed_at_random_tell_no_lie_and_leave_nothing_half_done() {
    eprintln!("seed {SEED:#x}");
    let mut rig = Rig::new();
    let mut another = Some(rig.another_driver());
    let view = format!("/proc/self/task/{}", nix::unistd::gettid());
    let sockets = ["csi.sock", "another.sock"].map(|name| rig.scratch().join(name));
    let targets = rig.scratch().join("targets").display().to_string();
    let stop = AtomicBool::new(false);
    let known: Vec<(String, Known)> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|number| {
                let mut caller = Caller {
                    random: Random(SEED + 1 + number as u64),
                    sockets: sockets.clone(),
                    view: view.clone(),
                    answers: 0,
                };
                let (stop, targets) = (&stop, &targets);
                scope.spawn(move || {
                    let own = (0..OWN).map(|index| format!("own-{number}-{index}"));
                    let shared = (0..SHARED).map(|index| format!("shared-{index}"));
                    let mut names: Vec<_> = own.chain(shared).map(|name| (name, Known::default())).collect();
                    while !stop.load(Ordering::Relaxed) {
                        let index = caller.random.below(names.len());
                        let (name, known) = &mut names[index];
                        let target = format!("{targets}/{name}-{number}");
                        caller.call(name, &target, known, index >= OWN);
                    }
                    eprintln!("caller {number}: {} answers", caller.answers);
                    assert!(caller.answers > 20, "only {} answers", caller.answers);
                    names.truncate(OWN);
                    names
                })
            })
            .collect();
        let (mut random, end) = (Random(SEED), Instant::now() + LASTS);
        let mut kills = 0;
        while Instant::now() < end && callers.iter().all(|caller| !caller.is_finished()) {
            std::thread::sleep(Duration::from_millis(20 + random.below(200) as u64));
            if random.below(2) == 0 {
                rig.restart();
            } else {
                drop(another.take());
                another = Some(rig.another_driver());
            }
            kills += 1;
        }
        eprintln!("{kills} kills");
        stop.store(true, Ordering::Relaxed);
        callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect()
    });
    drop(another);
    rig.restart();
    let disk = rig.disk();
    disk.check_explained();
    for (name, known) in &known {
        if let Some(exists) = known.exists {
            assert_eq!(disk.is_live(name), exists, "{name}: {known:?}");
        }
    }
    // The quiet retries of an orchestrator.
    let names: Vec<_> = known
        .iter()
        .map(|(name, _)| name.clone())
        .chain((0..SHARED).map(|index| format!("shared-{index}")))
        .collect();
    for name in &names {
        for number in 0..CALLERS {
            let target = format!("{targets}/{name}-{number}");
            rig.unpublish(&format!("node-1/main/{name}"), &target).ok();
            assert_eq!(rig.mounts_at(&target), []);
        }
        rig.create(create(name)).ok();
    }
    rig.disk().check_settled();
    assert_eq!(rig.disk().records.len(), names.len());
    assert_eq!(rig.list_ids(0).len(), names.len());
    for name in &names {
        rig.delete(&format!("node-1/main/{name}")).ok();
    }
    rig.disk().check_settled();
    assert_eq!(rig.data(), Vec::<String>::new());
    rig.wait_for_purge();
}
