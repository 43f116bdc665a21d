//! The node's RPCs. Of one node one process runs at a time, so a target's lock is one for all its calls.

use crate::rules::Rule;
use crate::store::{Loaded, Made, Next, Step};
use crate::world::{ADOPTED, At, Call, Caller, Lies, Mount, Rpc};

impl Step<'_> {
    fn mount(&mut self) -> &mut Option<Mount> {
        &mut self.world.mounts[usize::from(self.call.actor)]
    }

    /// `Publishing::step`: refused when an unpublish came or the caller went.
    fn may_step(&self) -> bool {
        !(self.rules.hold(Rule::TargetLock) && (self.call.closed || self.call.caller == Caller::Gone))
    }

    fn target_is_taken(&self) -> bool {
        let at_work = |call: &Call| call.rpc == Rpc::NodePublish && call.at != At::Begin;
        self.world.calls.iter().any(|call| at_work(call) && call.actor == self.call.actor)
    }

    /// `node::publish::publish`.
    pub fn node_publish(&mut self) -> Made {
        let actor = self.call.actor;
        let at = self.call.at;
        match at {
            At::Begin if self.rules.hold(Rule::TargetLock) && self.target_is_taken() => {
                (Next::Error, "finds another publish at its target")
            }
            At::Begin | At::Open | At::Read => match self.load() {
                (Loaded::Reading, what) => (Next::Goes, what),
                (Loaded::Found, _) if self.call.record.admits(actor) => {
                    self.goes(At::Look, "reads that it is admitted")
                }
                (_, what) if self.rules.hold(Rule::FoundMountIsChecked) => {
                    self.call.record.admitted = 0;
                    self.goes(At::Look, what)
                }
                (_, what) => (Next::Error, what),
            },
            At::Look => self.look(),
            At::Mount => {
                let incarnation = self.call.record.incarnation;
                let tree = match (self.adopted, self.rules.hold(Rule::DataHasOwnName)) {
                    (true, _) => Some(ADOPTED),
                    (_, true) => {
                        Some(incarnation).filter(|own| self.world.trees[usize::from(*own)] == Lies::InPlace)
                    }
                    (_, false) => self.world.placed(),
                };
                let Some(tree) = tree else { return (Next::Error, "finds no data to mount") };
                self.call.tree = tree;
                self.goes(At::Attach, "makes a mount that nobody sees")
            }
            At::Attach if !self.may_step() => (Next::Error, "was given up, and attaches nothing"),
            At::Attach if self.mount().is_some() => (Next::Error, "finds the target mounted over"),
            At::Attach => {
                let (tree, noted) = (self.call.tree, self.call.record.incarnation);
                *self.mount() = Some(Mount { tree, noted, confirmed: false });
                if self.rules.hold(Rule::LookAgain) {
                    return self.goes(At::ListAgain, "attaches, and has noted so before");
                }
                self.goes(At::Confirm, "attaches, and has noted so before")
            }
            // `Store::is_unchanged`: listed first, looked up then.
            At::ListAgain => {
                let generation = self.call.generation;
                let same = self.dir().highest().is_some_and(|(highest, _)| highest == generation);
                match same {
                    true => self.goes(At::Reach, "lists again: the same generation"),
                    false => self.goes(At::ReadAgain, "lists again: another generation"),
                }
            }
            At::Reach if self.world.name == self.call.dir => {
                self.goes(At::Confirm, "finds the record in its place")
            }
            At::Reach => self.goes(At::ReadAgain, "finds the record gone from its place"),
            At::ReadAgain => {
                let own = self.call.record.incarnation;
                let good = self
                    .world
                    .record()
                    .is_some_and(|record| record.admits(actor) && record.incarnation == own);
                let (at, what) = match good {
                    true => (At::Confirm, "reads again: still admitted"),
                    false => (At::Undo, "reads again: it has lost"),
                };
                self.goes(at, what)
            }
            At::Confirm if !self.may_step() => (Next::Error, "was given up, and confirms nothing"),
            At::Confirm => {
                if let Some(mount) = self.mount() {
                    mount.confirmed = true;
                }
                (Next::Ok, "confirms the mount")
            }
            _ => {
                *self.mount() = None;
                (Next::Error, "takes the mount back")
            }
        }
    }

    /// What is mounted at the target already? A record that does not admit this node was read as one that admits nobody.
    fn look(&mut self) -> Made {
        let (actor, record) = (self.call.actor, self.call.record);
        let Some(mount) = *self.mount() else {
            if record.admits(actor) {
                return self.goes(At::Mount, "finds nothing mounted at its target");
            }
            return (Next::Error, "is not admitted");
        };
        if !self.rules.hold(Rule::FoundMountIsChecked) {
            return (Next::Ok, "finds itself mounted");
        }
        if !record.admits(actor) || mount.noted != record.incarnation {
            return self.goes(At::Undo, "finds a mount for a publication that is over");
        }
        if mount.confirmed {
            return (Next::Ok, "finds itself mounted, and confirmed");
        }
        self.goes(At::ListAgain, "finds itself mounted, and not confirmed")
    }

    /// `node::unpublish::unpublish`: all of it under the target's lock.
    pub fn node_unpublish(&mut self) -> Made {
        if self.rules.hold(Rule::TargetLock) && self.call.caller == Caller::Gone {
            return (Next::Error, "was given up, and unmounts nothing");
        }
        let actor = self.call.actor;
        for call in
            self.world.calls.iter_mut().filter(|call| call.rpc == Rpc::NodePublish && call.actor == actor)
        {
            call.closed = call.at != At::Begin;
        }
        *self.mount() = None;
        (Next::Ok, "makes publishes give up, and unmounts")
    }
}
