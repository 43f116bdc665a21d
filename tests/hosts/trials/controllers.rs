//! Several controllers on one share, with no leader among them: killed, cut off, stopped and healed at any moment.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use berth::access::Mode;
use tonic::Code;

use super::{NODE_A, NODE_B, SERVER};
use crate::cluster::Cluster;
use crate::driver::Driver;
use crate::fleet::Fleet;
use crate::host::{Host, wait_for};
use crate::runner::Group;
use crate::trials;
use crate::volumes::Fails as _;

const RWO: Mode = Mode::SingleNodeMultiWriter;
const NAMES: usize = 100;
const TIME: Duration = Duration::from_secs(25);

pub const GROUP: Group = Group {
    name: "controllers",
    hosts: &[SERVER, NODE_A, NODE_B],
    trials: trials![
        two_controllers_that_create_and_delete_the_same_hundred_names_while_they_are_killed_agree_on_each,
        a_volume_of_one_node_is_never_held_by_two_while_controllers_are_killed_and_cut_off,
        a_controller_that_was_stopped_over_a_change_wins_nothing_with_what_it_knew,
    ],
};

/// Numbers that look random and are the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % most as u64).unwrap()
    }
}

/// What a call may come to while others work on the same volume, and drivers are killed.
fn is_expected(code: Code) -> bool {
    matches!(
        code,
        Code::Aborted | Code::FailedPrecondition | Code::NotFound | Code::Unavailable | Code::Unknown
    )
}

/// Kills and cuts off one node after another, until it is told to stop; then everything runs again.
fn disturb(nodes: [&Arc<Host>; 2], drivers: &mut [Driver; 2], done: &AtomicBool, cuts: bool) -> usize {
    let (mut dice, mut times) = (Dice(88_172_645_463_325_252), 0);
    while !done.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(300 + dice.below(1200) as u64));
        let which = dice.below(2);
        times += 1;
        match dice.below(if cuts { 4 } else { 2 }) {
            0 | 1 => drivers[which].restart(),
            2 => {
                nodes[which].cut();
                thread::sleep(Duration::from_millis(500 + dice.below(3000) as u64));
                nodes[which].heal();
            }
            _ => {
                nodes[which].freeze();
                thread::sleep(Duration::from_millis(500 + dice.below(3000) as u64));
                nodes[which].thaw();
            }
        }
    }
    times
}

fn two_controllers_that_create_and_delete_the_same_hundred_names_while_they_are_killed_agree_on_each(
    fleet: &Fleet,
) {
    let Cluster { a, b, drivers, share } = &mut Cluster::new(fleet, "hundred");
    let (done, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let unexpected = Mutex::new(Vec::new());
    let times = thread::scope(|scope| {
        for (seed, node) in [(1_u64, &*a), (2, &*a), (3, &*b), (4, &*b)] {
            let (done, answered, unexpected) = (&done, &answered, &unexpected);
            scope.spawn(move || {
                let mut dice = Dice(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
                while !done.load(Ordering::Relaxed) {
                    let name = format!("n{}", dice.below(NAMES));
                    let id = format!("main/{name}");
                    let answer = match dice.below(5) {
                        0 | 1 => node.create(&name, RWO, &[]).map(drop),
                        2 => node.controller_publish(&id, node.name(), RWO),
                        3 => node.controller_unpublish(&id, node.name()),
                        _ => node.delete(&id),
                    };
                    match answer {
                        Ok(()) => drop(answered.fetch_add(1, Ordering::Relaxed)),
                        Err(status) if is_expected(status.code()) => {}
                        Err(status) => {
                            done.store(true, Ordering::Relaxed);
                            unexpected.lock().unwrap().push(format!("{id}: {status}"));
                        }
                    }
                }
            });
        }
        let chaos = scope.spawn(|| disturb([*a, *b], drivers, &done, false));
        thread::sleep(TIME);
        done.store(true, Ordering::Relaxed);
        chaos.join().unwrap()
    });
    assert_eq!(unexpected.into_inner().unwrap(), Vec::<String>::new());
    println!("       {} calls answered OK, {times} kills", answered.load(Ordering::Relaxed));
    let names: Vec<String> = (0..NAMES).map(|number| format!("n{number}")).collect();
    for name in &names {
        wait_for(name, || a.create(name, RWO, &[]).is_ok());
    }
    let mut ids: Vec<String> = names.iter().map(|name| format!("main/{name}")).collect();
    ids.sort();
    for node in [&*a, &*b] {
        let mut listed: Vec<String> = node.list().into_iter().map(|(id, _)| id).collect();
        listed.sort();
        assert_eq!(listed, ids);
    }
    // Each record has its one directory, and each directory its record.
    let srv = fleet.host("srv");
    let of_records = srv.run(&format!(
        "cd {}/.berth/volumes && for name in *; do echo ./$name.$(ls $name); done | sort",
        share.path
    ));
    let data = share.data();
    assert_eq!(data.lines().skip(1).collect::<Vec<_>>(), of_records.lines().collect::<Vec<_>>());
    for id in &ids {
        wait_for(id, || b.controller_unpublish(id, "").is_ok() && b.delete(id).is_ok());
    }
    assert_eq!((share.data().as_str(), share.records().as_str()), (".", ""));
}

fn a_volume_of_one_node_is_never_held_by_two_while_controllers_are_killed_and_cut_off(fleet: &Fleet) {
    let Cluster { a, b, drivers, .. } = &mut Cluster::new(fleet, "held");
    let ids: Vec<String> = (0..2).map(|number| a.create(&format!("v{number}"), RWO, &[]).unwrap()).collect();
    let (done, held) = (AtomicBool::new(false), [AtomicUsize::new(0), AtomicUsize::new(0)]);
    let times = thread::scope(|scope| {
        for (index, node) in [&*a, &*b].into_iter().enumerate() {
            let (done, held, ids) = (&done, &held[index], &ids);
            scope.spawn(move || {
                let (mut dice, mut round) = (Dice(index as u64 + 7), 0);
                while !done.load(Ordering::Relaxed) {
                    round += 1;
                    let (id, target) = (&ids[dice.below(ids.len())], format!("/pods/{round}"));
                    let has = node.controller_publish(id, node.name(), RWO).is_ok()
                        && node.publish(id, &target, RWO).is_ok();
                    if has {
                        // A directory can be made by one at a time: whoever finds it is not alone.
                        let script = format!("mkdir {target}/held && sleep 0.05 && rmdir {target}/held");
                        assert_eq!(
                            node.run(&format!("({script}) 2>&1; true")),
                            "",
                            "{} is not alone",
                            node.name()
                        );
                        held.fetch_add(1, Ordering::Relaxed);
                    }
                    // A CO that was not told OK takes it back, as long as it needs.
                    wait_for("the unpublish", || node.unpublish(id, &target).is_ok());
                    wait_for("the record to let go", || node.controller_unpublish(id, node.name()).is_ok());
                }
            });
        }
        let chaos = scope.spawn(|| disturb([*a, *b], drivers, &done, true));
        thread::sleep(TIME);
        done.store(true, Ordering::Relaxed);
        chaos.join().unwrap()
    });
    let held = held.map(AtomicUsize::into_inner);
    println!("       held {} times by one node, {} by the other, {times} disturbances", held[0], held[1]);
    assert!(held.iter().all(|times| *times > 3), "{held:?}");
}

fn a_controller_that_was_stopped_over_a_change_wins_nothing_with_what_it_knew(fleet: &Fleet) {
    let Cluster { a, b, share, .. } = &Cluster::new(fleet, "stopped");
    for round in 0..6 {
        let id = b.create(&format!("v{round}"), RWO, &[]).unwrap();
        thread::scope(|scope| {
            let call = scope.spawn(|| a.controller_publish(&id, "node-a", RWO));
            thread::sleep(Duration::from_millis(4 * round));
            a.freeze();
            // The CO gives up on the first controller, and asks the other one for the opposite.
            b.controller_unpublish(&id, "node-a").unwrap();
            let other = b.controller_publish(&id, "node-b", RWO);
            a.thaw();
            let first = call.join().unwrap();
            // The first may have been admitted before it was stopped; then it was taken out.
            let nodes = b.list().into_iter().find(|(found, _)| *found == id).unwrap().1;
            match other {
                Ok(()) => {
                    assert_eq!(nodes, ["node-b"], "round {round}: {first:?}");
                    let target = format!("/pods/{round}");
                    a.publish(&id, &target, RWO).fails(Code::FailedPrecondition, "not admitted");
                }
                Err(_) => assert!(first.is_ok() && nodes == ["node-a"], "round {round}: {first:?} {nodes:?}"),
            }
        });
    }
    assert!(!share.records().is_empty());
}
