//! Every world that can be reached, breadth first, so that a counterexample is as short as any.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write;
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;

use crate::co::{Event, Scenario};
use crate::rules::Rules;
use crate::store::Next;
use crate::world::{Caller, Rpc, World};

/// The worlds that were seen, each with the one that it came from.
type Seen = HashMap<Rc<World>, Option<Rc<World>>, BuildHasherDefault<Mix>>;

/// A hash that is fast without optimization, where most of the time of a test would go into the usual one. Worlds that have
/// the same are compared all the same.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            self.write_u64(chunk.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)));
        }
    }

    fn write_u8(&mut self, byte: u8) {
        self.write_u64(u64::from(byte));
    }

    fn write_isize(&mut self, variant: isize) {
        self.write_u64(variant.cast_unsigned() as u64);
    }

    fn write_usize(&mut self, length: usize) {
        self.write_u64(length as u64);
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
}

/// What an exploration came to.
pub struct Explored {
    pub worlds: usize,
    pub steps: usize,
    /// The promise that is broken, and how it came to that.
    pub broken: Option<(&'static str, String)>,
}

/// Explores all of a scenario, or up to the first promise that is broken.
pub fn explore(scenario: &Scenario, rules: Rules) -> Explored {
    let begin = Rc::new(scenario.begin());
    let mut seen = Seen::from_iter([(begin.clone(), None)]);
    let (mut ahead, mut events, mut steps) = (VecDeque::from([begin]), Vec::new(), 0);
    while let Some(world) = ahead.pop_front() {
        let quiet = world.at_work() == 0;
        let stuck = || if quiet { scenario.stuck(&world, rules) } else { None };
        let broken = match scenario.broken(&world) {
            Some(broken) => Some((broken, "")),
            None => stuck()
                .map(|broken| (broken, "  and then, without faults, calls are repeated until they are OK\n")),
        };
        if let Some((broken, end)) = broken {
            let story = told(scenario, rules, &seen, &world) + end;
            return Explored { worlds: seen.len(), steps, broken: Some((broken, story)) };
        }
        scenario.events(&world, &mut events);
        for event in &events {
            let mut next = *world;
            scenario.happen(&mut next, *event, rules);
            steps += 1;
            if !seen.contains_key(&next) {
                let next = Rc::new(next);
                seen.insert(next.clone(), Some(world.clone()));
                ahead.push_back(next);
            }
        }
    }
    Explored { worlds: seen.len(), steps, broken: None }
}

/// How a world came to be, a line for each event.
fn told(scenario: &Scenario, rules: Rules, seen: &Seen, last: &Rc<World>) -> String {
    let mut way = vec![last.clone()];
    while let Some(before) = way.last().and_then(|world| seen[world].clone()) {
        way.push(before);
    }
    way.reverse();
    let (mut story, mut events) = (String::new(), Vec::new());
    for (before, after) in way.iter().zip(&way[1..]) {
        scenario.events(before, &mut events);
        let (event, made) = events
            .iter()
            .find_map(|event| {
                let mut world = **before;
                let made = scenario.happen(&mut world, *event, rules);
                (world == **after).then_some((*event, made))
            })
            .expect("some event leads there");
        let _ = writeln!(story, "  {}{}", line(before, event, made), shown(before, after));
    }
    story
}

fn line(world: &World, event: Event, (next, what): (Next, &'static str)) -> String {
    let name = |rpc: Rpc, actor: u8| match rpc {
        Rpc::CreateVolume | Rpc::DeleteVolume | Rpc::Sweep => format!("{rpc:?}"),
        _ => format!("{rpc:?} {}", letter(actor)),
    };
    let of = |slot: usize| name(world.calls[slot].rpc, world.calls[slot].actor);
    match event {
        Event::Calls(Rpc::Sweep, _) => "a sweeper begins".into(),
        Event::Calls(rpc, actor) => format!("the CO calls {}", name(rpc, actor)),
        Event::GivesUp(slot) => format!("the CO gives up {}", of(slot)),
        Event::Dies(slot) => format!("the process of {} dies", of(slot)),
        Event::NodeDies(actor) => format!("the process on node {} dies", letter(actor)),
        Event::Reboots(actor) => format!("node {} reboots", letter(actor)),
        Event::Purges(_) => {
            "the purge removes a file of a record in the trash, or its empty directory".into()
        }
        Event::Tidies(_) => "older generations are removed".into(),
        Event::Steps(slot) => {
            let is_late = world.calls[slot].caller == Caller::Gone && world.calls[slot].rpc != Rpc::Sweep;
            let late = if is_late { "(late) " } else { "" };
            let end = match next {
                Next::Goes => "",
                Next::Ok => ": OK",
                Next::Error => ": an error",
            };
            format!("{late}{} {what}{end}", of(slot))
        }
    }
}

fn letter(actor: u8) -> char {
    char::from(b'a' + actor)
}

/// What changed on the share and on the nodes.
fn shown(before: &World, after: &World) -> String {
    let mut changes = Vec::new();
    if before.record() != after.record() {
        changes.push(match after.record() {
            None => "no record".into(),
            Some(record) => {
                let admitted: String =
                    (0..2).filter(|actor| record.admitted & 1 << actor != 0).map(letter).collect();
                let state = if record.deleting { "deleting" } else { "live" };
                format!("record: incarnation {}, {state}, admits {{{admitted}}}", record.incarnation)
            }
        });
    }
    for actor in 0..2 {
        if before.mounts[actor] != after.mounts[actor] {
            let is = if after.mounts[actor].is_some() { "mounted" } else { "not mounted" };
            changes.push(format!("{is} at {}", letter(actor as u8)));
        }
    }
    if changes.is_empty() { String::new() } else { format!("   [{}]", changes.join("; ")) }
}
