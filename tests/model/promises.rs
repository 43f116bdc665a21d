//! What must never be so, and what must come when faults stop.

use crate::co::{Event, Scenario};
use crate::rules::Rules;
use crate::store::Next;
use crate::world::{ACTORS, Lies, Publication, Rpc, Volume, World};

/// How often a call is repeated, alone and without faults, before it counts as one that never succeeds.
const PATIENCE: usize = 4;

impl Scenario {
    /// Which promise is broken in a world, whatever is at work in it.
    pub fn broken(&self, world: &World) -> Option<&'static str> {
        let record = world.record();
        let live = record.filter(|record| !record.deleting);
        let admits = |actor: usize| live.is_some_and(|record| record.admits(actor as u8));
        let lies = |tree: u8| world.trees[usize::from(tree)];
        if self.adopted && lies(0) != Lies::InPlace {
            return Some("data that was adopted is touched");
        }
        if record.is_some_and(|record| record.admitted == 3) && !self.one_node {
            return Some("two nodes are admitted to a single-node volume");
        }
        if world.pods == [true; ACTORS] && !self.one_node {
            return Some("two nodes have it mounted, both answered OK");
        }
        if world.volume == Volume::Exists && !self.adopted {
            if live.is_none_or(|record| record.incarnation != world.created) {
                return Some("a volume that was created has no live record of its own");
            }
            if lies(world.created) != Lies::InPlace {
                return Some("the data of a volume that was created is touched");
            }
        }
        let nobody_has_it = world.publications == [Publication::None; ACTORS];
        if self.adopted && record.is_some() && nobody_has_it && world.at_work() == 0 {
            return Some("a record of existing data outlives its last publication");
        }
        if world.volume == Volume::Absent {
            if record.is_some() && self.deletes_for_good {
                return Some("a volume whose deletion was answered OK has a record");
            }
            let placed = world.placed().filter(|tree| live.is_none_or(|record| record.incarnation != *tree));
            if placed.is_some() && world.at_work() == 0 {
                return Some("data that no record names is left");
            }
        }
        for actor in 0..self.actors {
            match world.publications[actor] {
                Publication::None if admits(actor) => {
                    return Some("a node whose unpublish was answered OK is admitted");
                }
                Publication::Published | Publication::OnNode | Publication::LeavingNode if !admits(actor) => {
                    return Some("a node whose publish was answered OK is not admitted");
                }
                _ => {}
            }
            if world.pods[actor] {
                let Some(mount) = world.mounts[actor] else {
                    return Some("a mount that was answered OK is gone");
                };
                if !admits(actor) {
                    return Some("a mount that was answered OK is not in the record");
                }
                let own = if self.adopted { 0 } else { record.map_or(0, |record| record.incarnation) };
                if mount.tree != own || lies(mount.tree) != Lies::InPlace {
                    return Some("a mount that was answered OK shows other data than the record names");
                }
            }
            let nobody_works =
                world.calls.iter().all(|call| call.rpc != Rpc::NodePublish || call.actor != actor as u8);
            let left = !self.forces
                && matches!(world.publications[actor], Publication::None | Publication::Published);
            if left && nobody_works && world.mounts[actor].is_some() {
                return Some("a mount outlives the unpublish that was answered OK");
            }
        }
        None
    }

    /// Which call never succeeds, or what is not as asked, once nothing is at work and faults have stopped: what was begun is
    /// finished, then everything is taken back, and begun anew for the last actor.
    pub fn stuck(&self, world: &World, rules: Rules) -> Option<&'static str> {
        Scenario { mirrored: false, ..*self }.come_right(*world, rules).err()
    }

    fn come_right(&self, mut world: World, rules: Rules) -> Result<(), &'static str> {
        let actors = 0..self.actors as u8;
        match world.volume {
            Volume::Creating => self.repeat(&mut world, Rpc::CreateVolume, 0, rules)?,
            Volume::Deleting => self.repeat(&mut world, Rpc::DeleteVolume, 0, rules)?,
            _ => {}
        }
        for actor in actors.clone() {
            if world.publications[usize::from(actor)] == Publication::OnNode {
                self.repeat(&mut world, Rpc::NodePublish, actor, rules)?;
            }
        }
        for actor in actors.clone() {
            let publication = world.publications[usize::from(actor)];
            if matches!(publication, Publication::OnNode | Publication::LeavingNode) {
                self.repeat(&mut world, Rpc::NodeUnpublish, actor, rules)?;
            }
            if publication != Publication::None {
                self.repeat(&mut world, Rpc::ControllerUnpublish, actor, rules)?;
            }
        }
        if self.lives {
            self.repeat(&mut world, Rpc::DeleteVolume, 0, rules)?;
            self.repeat(&mut world, Rpc::CreateVolume, 0, rules)?;
        }
        if let Some(last) = actors.last() {
            self.repeat(&mut world, Rpc::ControllerPublish, last, rules)?;
            self.repeat(&mut world, Rpc::NodePublish, last, rules)?;
        }
        Ok(())
    }

    /// Repeats a call until it is OK; what it was asked for is so then, or a promise is broken.
    fn repeat(&self, world: &mut World, rpc: Rpc, actor: u8, rules: Rules) -> Result<(), &'static str> {
        for _ in 0..PATIENCE {
            self.happen(world, Event::Calls(rpc, actor), rules);
            loop {
                match self.happen(world, Event::Steps(0), rules).0 {
                    Next::Goes => {}
                    Next::Ok => return self.broken(world).map_or(Ok(()), Err),
                    Next::Error => break,
                }
            }
        }
        Err(match rpc {
            Rpc::CreateVolume => "once faults stop, CreateVolume never succeeds",
            Rpc::DeleteVolume => "once faults stop, DeleteVolume never succeeds",
            Rpc::ControllerPublish => "once faults stop, ControllerPublishVolume never succeeds",
            Rpc::ControllerUnpublish => "once faults stop, ControllerUnpublishVolume never succeeds",
            Rpc::NodePublish => "once faults stop, NodePublishVolume never succeeds",
            _ => "once faults stop, NodeUnpublishVolume never succeeds",
        })
    }
}
