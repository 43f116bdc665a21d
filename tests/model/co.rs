//! The CO, the crashes, and all that can happen next.
//!
//! A CO that keeps to the spec: it repeats a call until it is answered OK, or asks for the inverse; it may give up waiting at
//! any moment, and the call goes on. It does not begin the same again before the inverse was answered OK.

use crate::rules::{Rule, Rules};
use crate::store::{Next, Step};
use crate::world::{ACTORS, Call, Caller, DIRECTORIES, Lies, Publication, Record, Rpc, Volume, World};

/// What is played, and how much of it at once.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Existing data; else a volume of Berth's.
    pub adopted: bool,
    /// The volume is created and deleted, again and again; else it is there from the beginning.
    pub lives: bool,
    /// How many actors publish: a handle on a node each.
    pub actors: usize,
    /// The actors are two handles on one node; else each has a node of its own.
    pub one_node: bool,
    /// The CO may hold a node for dead, and unpublish it without NodeUnpublish.
    pub forces: bool,
    /// Berth cleans up while calls are at work: a sweeper runs, the trash is purged, replaced generations are removed.
    pub cleans: bool,
    /// What was deleted has to stay away, though a creation may have been given up before.
    pub deletes_for_good: bool,
    /// Worlds that differ only in which actor is which are one. (Half as many, but a story of them confuses.)
    pub mirrored: bool,
    /// Calls at work at once, those that were given up and never stop among them.
    pub at_once: usize,
}

impl Scenario {
    /// Actors on other nodes, as bits.
    pub fn others(&self, actor: u8) -> u8 {
        if self.one_node { 0 } else { !(1 << actor) & 3 }
    }

    /// How everything begins.
    pub fn begin(&self) -> World {
        let mut world = World::default();
        if self.adopted {
            world.trees[0] = Lies::InPlace;
            world.volume = Volume::Exists;
        } else if !self.lives {
            world.named_directory();
            world.dirs[0].put(1, Record { incarnation: 1, ..Record::default() });
            world.trees[1] = Lies::InPlace;
            (world.volume, world.created) = (Volume::Exists, 1);
        }
        world
    }
}

/// Something that happens.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// The CO calls, for an actor; or the sweeper begins with a tree of that label.
    Calls(Rpc, u8),
    /// The CO waits no more for the call in this slot.
    GivesUp(usize),
    /// The call in this slot makes its next step.
    Steps(usize),
    /// The process with the call in this slot dies. (Each call of a controller may be in a process of its own.)
    Dies(usize),
    /// The process of an actor's node dies, with all its calls.
    NodeDies(u8),
    /// An actor's node reboots: mounts, notes and pods are gone.
    Reboots(u8),
    /// The purge removes a file of a record directory in the trash (the newest, which is worst), at last the directory.
    Purges(usize),
    /// Generations that were replaced are removed, behind the answer.
    Tidies(usize),
}

impl Scenario {
    /// All that can happen next.
    pub fn events(&self, world: &World, found: &mut Vec<Event>) {
        found.clear();
        if world.at_work() < self.at_once {
            self.calls(world, found);
        }
        for (slot, call) in world.calls.iter().enumerate().filter(|(_, call)| call.rpc != Rpc::None) {
            found.push(Event::Steps(slot));
            if call.caller != Caller::Gone {
                found.push(Event::GivesUp(slot));
            }
            if !is_of_node(call.rpc) {
                found.push(Event::Dies(slot));
            }
        }
        for actor in 0..self.actors as u8 {
            if world.calls.iter().any(|call| is_of_node(call.rpc) && self.shares_node(call.actor, actor)) {
                found.push(Event::NodeDies(actor));
            }
            if world.mounts[usize::from(actor)].is_some() {
                found.push(Event::Reboots(actor));
            }
        }
        for dir in (0..DIRECTORIES).filter(|_| self.cleans) {
            if world.dirs[dir].lies == Lies::Trash {
                found.push(Event::Purges(dir));
            }
            if world.dirs[dir].has_older() {
                found.push(Event::Tidies(dir));
            }
        }
    }

    fn calls(&self, world: &World, found: &mut Vec<Event>) {
        let waits = |of: &dyn Fn(&Call) -> bool| {
            world.calls.iter().any(|call| call.caller != Caller::Gone && of(call))
        };
        let nobody_has_it = world.publications.iter().all(|publication| *publication == Publication::None);
        if self.lives && !waits(&|call| matches!(call.rpc, Rpc::CreateVolume | Rpc::DeleteVolume)) {
            match world.volume {
                Volume::Absent => found.push(Event::Calls(Rpc::CreateVolume, 0)),
                Volume::Creating => {
                    found.push(Event::Calls(Rpc::CreateVolume, 0));
                    found.push(Event::Calls(Rpc::DeleteVolume, 0));
                }
                Volume::Exists if nobody_has_it => found.push(Event::Calls(Rpc::DeleteVolume, 0)),
                Volume::Exists => {}
                Volume::Deleting => found.push(Event::Calls(Rpc::DeleteVolume, 0)),
            }
        }
        for actor in 0..self.actors as u8 {
            let publication = world.publications[usize::from(actor)];
            let on_node = matches!(publication, Publication::OnNode | Publication::LeavingNode);
            if !waits(&|call| call.actor == actor && is_of_publication(call.rpc)) {
                if matches!(publication, Publication::None | Publication::Publishing)
                    && world.volume == Volume::Exists
                {
                    found.push(Event::Calls(Rpc::ControllerPublish, actor));
                }
                if publication != Publication::None && (!on_node || self.forces) {
                    found.push(Event::Calls(Rpc::ControllerUnpublish, actor));
                }
            }
            if !waits(&|call| call.actor == actor && is_of_node(call.rpc)) {
                if matches!(publication, Publication::Published | Publication::OnNode) {
                    found.push(Event::Calls(Rpc::NodePublish, actor));
                }
                if on_node {
                    found.push(Event::Calls(Rpc::NodeUnpublish, actor));
                }
            }
        }
        if self.cleans && !world.calls.iter().any(|call| call.rpc == Rpc::Sweep) {
            let in_new = (1..).zip(&world.trees[1..]).filter(|(_, lies)| **lies == Lies::New);
            found.extend(in_new.map(|(label, _)| Event::Calls(Rpc::Sweep, label)));
        }
    }

    fn shares_node(&self, actor: u8, other: u8) -> bool {
        actor == other || self.one_node
    }

    /// Makes an event happen; says what was seen of it.
    pub fn happen(&self, world: &mut World, event: Event, rules: Rules) -> (Next, &'static str) {
        let mut made = (Next::Goes, "");
        match event {
            Event::Calls(rpc, actor) => world.begin(rpc, actor),
            Event::GivesUp(slot) => world.calls[slot].caller = Caller::Gone,
            Event::Dies(slot) => world.calls[slot] = Call::default(),
            Event::NodeDies(node) => self.node_dies(world, node),
            Event::Reboots(node) => {
                self.node_dies(world, node);
                for actor in (0..ACTORS as u8).filter(|actor| self.shares_node(*actor, node)) {
                    world.mounts[usize::from(actor)] = None;
                    world.pods[usize::from(actor)] = false;
                }
            }
            Event::Purges(dir) => match world.dirs[dir].highest() {
                Some((highest, _)) => world.dirs[dir].unlink(highest),
                None => world.dirs[dir].purge(),
            },
            Event::Tidies(dir) => world.dirs[dir].unlink_older(),
            Event::Steps(slot) => {
                let mut call = std::mem::take(&mut world.calls[slot]);
                let others = self.others(call.actor);
                made = Step { world, call: &mut call, rules, adopted: self.adopted }.make(others);
                match made.0 {
                    Next::Goes => world.calls[slot] = call,
                    Next::Ok => world.hears_ok(&call),
                    Next::Error => {}
                }
            }
        }
        world.forget(rules.hold(Rule::RecordIsDirectory), self.mirrored);
        made
    }

    fn node_dies(&self, world: &mut World, node: u8) {
        for call in
            world.calls.iter_mut().filter(|call| is_of_node(call.rpc) && self.shares_node(call.actor, node))
        {
            *call = Call::default();
        }
    }
}

fn is_of_node(rpc: Rpc) -> bool {
    matches!(rpc, Rpc::NodePublish | Rpc::NodeUnpublish)
}

fn is_of_publication(rpc: Rpc) -> bool {
    matches!(rpc, Rpc::ControllerPublish | Rpc::ControllerUnpublish)
}

impl World {
    fn begin(&mut self, rpc: Rpc, actor: u8) {
        let publication = &mut self.publications[usize::from(actor) % ACTORS];
        match rpc {
            Rpc::CreateVolume => self.volume = Volume::Creating,
            Rpc::DeleteVolume => (self.volume, self.created) = (Volume::Deleting, 0),
            Rpc::ControllerPublish => *publication = Publication::Publishing,
            Rpc::ControllerUnpublish => *publication = Publication::Unpublishing,
            Rpc::NodePublish => *publication = Publication::OnNode,
            Rpc::NodeUnpublish => {
                *publication = Publication::LeavingNode;
                self.pods[usize::from(actor)] = false;
            }
            Rpc::Sweep | Rpc::None => {}
        }
        let call = match rpc {
            Rpc::Sweep => Call { rpc, tree: actor, ..Call::default() },
            _ => Call { rpc, actor, caller: Caller::Waits, ..Call::default() },
        };
        *self.calls.iter_mut().find(|call| call.rpc == Rpc::None).expect("a free slot") = call;
    }

    fn hears_ok(&mut self, call: &Call) {
        let publication = &mut self.publications[usize::from(call.actor)];
        match (call.caller, call.rpc) {
            (Caller::Waits, Rpc::NodePublish) => self.pods[usize::from(call.actor)] = true,
            (Caller::Gone, _) => {}
            (_, Rpc::CreateVolume) => (self.volume, self.created) = (Volume::Exists, call.record.incarnation),
            (_, Rpc::DeleteVolume) => self.volume = Volume::Absent,
            (_, Rpc::ControllerPublish) => *publication = Publication::Published,
            (_, Rpc::ControllerUnpublish) => *publication = Publication::None,
            (_, Rpc::NodeUnpublish) if *publication == Publication::LeavingNode => {
                *publication = Publication::Published
            }
            _ => {}
        }
    }
}
