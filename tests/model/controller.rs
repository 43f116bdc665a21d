//! The controller's RPCs and the sweep: each a call that makes one step of the file system at a time.

use crate::rules::Rule;
use crate::store::{Loaded, Made, Next, Step};
use crate::world::{ADOPTED, At, Lies, Rpc};

/// How often a creation begins anew before it is ABORTED.
const ROUNDS: u8 = 3;

impl Step<'_> {
    /// `controller::volume::create`.
    pub fn create_volume(&mut self) -> Made {
        let at = self.call.at;
        match at {
            At::Begin | At::Open | At::Read => match self.load() {
                (Loaded::Reading, what) => (Next::Goes, what),
                (Loaded::Nothing, what) => self.goes(At::Build, what),
                (Loaded::Found, _) if !self.call.record.deleting => {
                    self.goes(At::LookPlaced, "reads a live record")
                }
                (Loaded::Found, _) if self.rules.hold(Rule::RollForward) => {
                    self.goes(self.first_of_deletion(), "reads Deleting, and finishes it")
                }
                (Loaded::Found, _) => (Next::Error, "reads Deleting"),
            },
            At::Build => {
                self.call.tree = self.world.fresh();
                let tree = self.call.tree;
                *self.tree(tree) = Lies::New;
                self.goes(At::Prepare, "builds a tree in new")
            }
            At::Prepare | At::AskBorn | At::Born | At::LinkFirst => self.born(At::Place),
            At::Place => self.place(),
            At::LookPlaced if self.is_placed() => (Next::Ok, "finds the data in its place"),
            At::LookPlaced => self.goes(At::Place, "does not find the data in its place"),
            At::FindPlaced if self.is_placed() => (Next::Ok, "finds the data in its place"),
            At::FindPlaced if !self.rules.hold(Rule::RollForward) => (Next::Error, "finds the data nowhere"),
            At::FindPlaced => {
                self.call.record.deleting = true;
                self.goes(At::Ask, "finds the data nowhere: this creation never ended")
            }
            At::Ask | At::Link | At::List => self.win(),
            _ => match self.finish_deletion() {
                (Next::Ok, what) => self.again(what),
                made => made,
            },
        }
    }

    fn is_placed(&self) -> bool {
        match self.rules.hold(Rule::DataHasOwnName) {
            true => self.world.trees[usize::from(self.call.record.incarnation)] == Lies::InPlace,
            false => self.world.placed().is_some(),
        }
    }

    /// `OpenRoot::place`: what is in `new` goes where it belongs.
    fn place(&mut self) -> Made {
        let incarnation = self.call.record.incarnation;
        if *self.tree(incarnation) != Lies::New {
            return self.goes(At::FindPlaced, "has nothing in new to rename");
        }
        if let Some(other) = self.world.placed().filter(|_| !self.rules.hold(Rule::DataHasOwnName)) {
            // It is empty still, so the rename replaces it.
            *self.tree(other) = Lies::Nowhere;
        }
        *self.tree(incarnation) = Lies::InPlace;
        (Next::Ok, "renames the tree into its place")
    }

    fn again(&mut self, what: &'static str) -> Made {
        self.call.round += 1;
        self.call.tree = ADOPTED;
        if self.call.round < ROUNDS { self.goes(At::Open, what) } else { (Next::Error, what) }
    }

    /// `controller::volume::delete`.
    pub fn delete_volume(&mut self) -> Made {
        let at = self.call.at;
        match at {
            At::Begin if self.rules.hold(Rule::DeleteDiscards) => self.discard_prepared(),
            At::Discard => self.discard_prepared(),
            At::Begin | At::Open | At::Read => match self.load() {
                (Loaded::Reading, what) => (Next::Goes, what),
                (Loaded::Nothing, what) => (Next::Ok, what),
                (Loaded::Found, _) if self.call.record.deleting => {
                    self.goes(self.first_of_deletion(), "reads Deleting, and finishes it")
                }
                (Loaded::Found, _) if self.call.record.admitted != 0 => {
                    (Next::Error, "reads that a node has it")
                }
                (Loaded::Found, _) => {
                    self.call.record.deleting = true;
                    self.goes(At::Ask, "reads a live record")
                }
            },
            At::Ask | At::Link | At::List => self.win(),
            _ => self.finish_deletion(),
        }
    }

    /// `controller::publish::publish`. `others` are the actors that share no node with this one.
    pub fn controller_publish(&mut self, others: u8) -> Made {
        let at = self.call.at;
        match at {
            At::Begin | At::Open | At::Read => match self.load() {
                (Loaded::Reading, what) => (Next::Goes, what),
                (Loaded::Nothing, what) if self.adopted => {
                    self.call.tree = self.world.fresh();
                    self.goes(At::Prepare, what)
                }
                (Loaded::Nothing, what) => (Next::Error, what),
                (Loaded::Found, _) if !self.call.record.deleting => self.admit(others),
                (Loaded::Found, _) if self.adopted => {
                    self.goes(self.first_of_deletion(), "reads Deleting, and buries it")
                }
                (Loaded::Found, _) => (Next::Error, "reads Deleting"),
            },
            At::Prepare | At::AskBorn => self.born(At::Look),
            At::Born | At::LinkFirst => match self.born(At::Look) {
                (Next::Goes, what) => {
                    self.call.tree = ADOPTED;
                    self.admit(others);
                    (Next::Goes, what)
                }
                made => made,
            },
            At::Ask | At::Link | At::List => self.win(),
            // A record of existing data that was on its way to the grave: another one is born.
            _ => match self.finish_deletion() {
                (Next::Ok, what) => {
                    self.call.tree = self.world.fresh();
                    self.goes(At::Prepare, what)
                }
                made => made,
            },
        }
    }

    /// The access table's row of a single node: there is room when nobody on another node has it.
    fn admit(&mut self, others: u8) -> Made {
        if self.call.record.admits(self.call.actor) {
            return (Next::Ok, "reads that it is admitted already");
        }
        if self.call.record.admitted & others != 0 {
            return (Next::Error, "reads that another node has it");
        }
        self.call.record.admitted |= 1 << self.call.actor;
        self.goes(At::Ask, "reads that there is room")
    }

    /// `controller::publish::unpublish`.
    pub fn controller_unpublish(&mut self) -> Made {
        let at = self.call.at;
        match at {
            At::Begin if self.adopted && self.rules.hold(Rule::DiscardPrepared) => self.discard_prepared(),
            At::Discard => self.discard_prepared(),
            At::Begin | At::Open | At::Read => match self.load() {
                (Loaded::Reading, what) => (Next::Goes, what),
                (Loaded::Nothing, what) => (Next::Ok, what),
                (Loaded::Found, _) if self.call.record.deleting && self.adopted => {
                    self.goes(self.first_of_deletion(), "reads Deleting, and buries it")
                }
                (Loaded::Found, _) if self.call.record.deleting => (Next::Ok, "reads Deleting"),
                (Loaded::Found, _) => {
                    let bit = 1 << self.call.actor;
                    if self.call.record.admitted & bit == 0 && !self.rules.hold(Rule::UnpublishWrites) {
                        return (Next::Ok, "reads that it is not admitted");
                    }
                    self.call.record.admitted &= !bit;
                    self.call.record.deleting = self.adopted && self.call.record.admitted == 0;
                    self.goes(At::Ask, "reads a live record")
                }
            },
            At::Ask | At::Link | At::List => self.win(),
            _ => self.finish_deletion(),
        }
    }

    /// `Store::sweep` at one entry of `new`, however young it is. (The real one leaves what is younger than ten minutes.)
    pub fn sweep(&mut self) -> Made {
        let tree = self.call.tree;
        let at = self.call.at;
        match at {
            At::Begin => {
                let is_named =
                    self.world.record().is_some_and(|record| record.incarnation == tree && !record.deleting);
                if is_named {
                    return (Next::Ok, "finds that a live record names it");
                }
                self.goes(At::RemoveNew, "finds that no live record names it")
            }
            _ if !self.rules.hold(Rule::TrashFirst) => {
                *self.tree(tree) = Lies::Nowhere;
                (Next::Ok, "deletes what is in it, through its descriptor")
            }
            _ => {
                if *self.tree(tree) == Lies::New {
                    *self.tree(tree) = Lies::Trash;
                }
                (Next::Ok, "renames it to the trash")
            }
        }
    }

    /// One step of a call.
    pub fn make(&mut self, others: u8) -> Made {
        match self.call.rpc {
            Rpc::CreateVolume => self.create_volume(),
            Rpc::DeleteVolume => self.delete_volume(),
            Rpc::ControllerPublish => self.controller_publish(others),
            Rpc::ControllerUnpublish => self.controller_unpublish(),
            Rpc::NodePublish => self.node_publish(),
            Rpc::NodeUnpublish => self.node_unpublish(),
            Rpc::Sweep => self.sweep(),
            Rpc::None => unreachable!("no call"),
        }
    }
}
