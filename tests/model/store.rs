//! The steps on records that RPCs share: load, born, win, bury (`src/store.rs`).

use crate::rules::{Rule, Rules};
use crate::world::{ADOPTED, At, Call, Caller, Directory, Lies, Record, Rpc, World};

/// What comes of a step.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The call goes on.
    Goes,
    Ok,
    Error,
}

/// A step that was made: what it did, and what comes of it.
pub type Made = (Next, &'static str);

/// What `load` found.
pub enum Loaded {
    Reading,
    Nothing,
    Found,
}

pub struct Step<'a> {
    pub world: &'a mut World,
    pub call: &'a mut Call,
    pub rules: Rules,
    /// The volume is existing data, and has no tree of Berth's.
    pub adopted: bool,
}

impl Step<'_> {
    pub fn goes(&mut self, at: At, what: &'static str) -> Made {
        self.call.at = at;
        (Next::Goes, what)
    }

    pub fn dir(&mut self) -> &mut Directory {
        &mut self.world.dirs[usize::from(self.call.dir - 1)]
    }

    /// Where a label's tree lies.
    pub fn tree(&mut self, label: u8) -> &mut Lies {
        &mut self.world.trees[usize::from(label)]
    }

    /// `Call::still_wanted`.
    pub fn still_wanted(&self) -> bool {
        self.call.caller != Caller::Gone || !self.rules.hold(Rule::AsksStillWanted)
    }

    /// `Store::load`, in two steps: the directory is opened, then its highest generation is read through the descriptor.
    /// (Listing is one read of the directory or repeated, and a generation that is gone when it is opened was replaced:
    /// so listing and reading are one step.)
    pub fn load(&mut self) -> (Loaded, &'static str) {
        if self.call.at != At::Read {
            self.call.dir = self.world.name;
            self.call.generation = 0;
            self.call.record = Record::default();
            if self.world.name == 0 {
                return (Loaded::Nothing, "finds no record");
            }
            self.call.at = At::Read;
            return (Loaded::Reading, "opens the record's directory");
        }
        match self.dir().highest() {
            Some((generation, record)) => {
                self.call.generation = generation;
                self.call.record = record;
                (Loaded::Found, "reads the highest generation")
            }
            // An empty directory is no record. One that is gone is looked up anew.
            None if self.dir().lies == Lies::InPlace => (Loaded::Nothing, "finds an empty directory"),
            None => {
                self.call.at = At::Open;
                (Loaded::Reading, "reads in a directory that is gone")
            }
        }
    }

    /// `Store::win`: what is in `call.record` becomes the generation after the one that was read.
    pub fn win(&mut self) -> Made {
        let (next, record) = (self.call.generation + 1, self.call.record);
        let at = self.call.at;
        match at {
            At::Ask if self.still_wanted() => self.goes(At::Link, "asks: the caller still waits"),
            At::Ask => (Next::Error, "asks: the caller is gone, so nothing is won"),
            At::Link if self.dir().lies == Lies::Nowhere => (Next::Error, "links: the directory is gone"),
            At::Link if self.dir().get(next).is_some() && self.rules.hold(Rule::WonByLink) => {
                (Next::Error, "links: another call was first")
            }
            At::Link => {
                self.dir().put(next, record);
                if self.call.rpc == Rpc::ControllerUnpublish {
                    self.cut_off();
                }
                self.goes(At::List, "links the next generation")
            }
            _ => {
                let highest = self.dir().highest().is_some_and(|(highest, _)| highest == next);
                if !highest || self.world.name != self.call.dir && self.rules.hold(Rule::NameLeadsHere) {
                    return (Next::Error, "lists: another call got ahead");
                }
                self.call.generation = next;
                if !record.deleting {
                    return (Next::Ok, "lists: it has won");
                }
                self.goes(self.first_of_deletion(), "lists: it has won")
            }
        }
    }

    /// From here on a node that has the mount and has taken its last look at the record can't be stopped by any record. The
    /// CO holds it for dead if it did not unpublish there first; its answers reach nobody.
    fn cut_off(&mut self) {
        let actor = self.call.actor;
        self.world.pods[usize::from(actor)] = false;
        for call in
            self.world.calls.iter_mut().filter(|call| call.rpc == Rpc::NodePublish && call.actor == actor)
        {
            if matches!(call.at, At::Look | At::Reach | At::Confirm) && call.caller == Caller::Waits {
                call.caller = Caller::CutOff;
            }
        }
    }

    /// `Store::born`: a first generation is prepared, then renamed onto the name.
    pub fn born(&mut self, then: At) -> Made {
        let bit = 1 << self.call.tree;
        let at = self.call.at;
        match at {
            At::Prepare => {
                self.call.record = Record { incarnation: self.call.tree, ..Record::default() };
                self.world.prepared |= bit;
                self.goes(At::AskBorn, "prepares a first generation")
            }
            At::AskBorn if self.still_wanted() => {
                let at = if self.rules.hold(Rule::RecordIsDirectory) { At::Born } else { At::LinkFirst };
                self.goes(at, "asks: the caller still waits")
            }
            At::AskBorn => (Next::Error, "asks: the caller is gone, so nothing is born"),
            At::LinkFirst => {
                self.call.dir =
                    if self.world.name == 0 { self.world.named_directory() } else { self.world.name };
                let record = self.call.record;
                if !self.dir().is_empty() {
                    return (Next::Error, "links a first generation: there is a record");
                }
                self.dir().put(1, record);
                self.call.generation = 1;
                self.goes(then, "links a first generation")
            }
            _ if self.world.prepared & bit == 0 => (Next::Error, "renames its record: it was taken away"),
            _ if self.world.name != 0 => (Next::Error, "renames its record: the name is taken"),
            _ => {
                self.world.prepared &= !bit;
                self.call.dir = self.world.named_directory();
                let record = self.call.record;
                self.dir().put(1, record);
                self.call.generation = 1;
                self.goes(then, "renames its record onto the name")
            }
        }
    }

    /// Where the act of a won `Deleting` begins. Adopted data has no act but the burial.
    pub fn first_of_deletion(&self) -> At {
        if self.adopted && self.rules.hold(Rule::AdoptedIsKept) { At::Bury } else { At::RemoveData }
    }

    /// `finish_deletion`: `OpenRoot::remove`, then `Store::bury`. `Next::Ok` says that it is done.
    pub fn finish_deletion(&mut self) -> Made {
        let incarnation = self.call.record.incarnation;
        let at = self.call.at;
        match at {
            At::RemoveData => match self.take_away() {
                true => self.goes(At::Bury, "renames the data to the trash"),
                false => self.goes(At::RemoveNew, "does not find the data in its place"),
            },
            At::RemoveNew if *self.tree(incarnation) == Lies::New => {
                *self.tree(incarnation) = Lies::Trash;
                self.goes(At::Bury, "renames what is in new to the trash")
            }
            At::RemoveNew => self.goes(At::RemovePlaced, "finds nothing in new"),
            At::RemovePlaced => {
                let what = if self.take_away() { "renames the data to the trash" } else { "finds no data" };
                self.goes(At::Bury, what)
            }
            At::Bury if self.rules.hold(Rule::RecordIsDirectory) => {
                if self.world.name == self.call.dir {
                    self.world.name = 0;
                    self.dir().lies = Lies::Trash;
                }
                (Next::Ok, "renames the record to the trash")
            }
            At::Bury => {
                self.dir().unlink_older();
                self.goes(At::UnlinkLast, "unlinks the older generations")
            }
            At::UnlinkLast => {
                let generation = self.call.generation;
                self.dir().unlink(generation);
                self.goes(At::Rmdir, "unlinks the last generation")
            }
            _ => {
                if self.world.name != 0 && self.world.dirs[usize::from(self.world.name - 1)].is_empty() {
                    self.world.dirs[usize::from(self.world.name - 1)].purge();
                    self.world.name = 0;
                }
                (Next::Ok, "removes the name")
            }
        }
    }

    /// `OpenRoot::take_away`: whether there was data in its place.
    fn take_away(&mut self) -> bool {
        let own = self.call.record.incarnation;
        let there = match (self.adopted, self.rules.hold(Rule::DataHasOwnName)) {
            (true, _) => Some(ADOPTED),
            (_, true) => Some(own).filter(|own| *self.tree(*own) == Lies::InPlace),
            (_, false) => self.world.placed(),
        };
        there.map(|label| *self.tree(label) = Lies::Trash).is_some()
    }

    /// `Store::discard_prepared`: none of the records that are prepared is born any more.
    pub fn discard_prepared(&mut self) -> Made {
        match self.world.prepared {
            0 => self.goes(At::Open, "finds nothing prepared"),
            prepared => {
                self.world.prepared &= prepared - 1;
                self.goes(At::Discard, "renames a prepared record to the trash")
            }
        }
    }
}
