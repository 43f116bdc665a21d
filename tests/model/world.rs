//! What there is: a share with one volume's record and trees, the mounts of nodes, the calls at work, and what the CO knows.
//!
//! Everything is small and counted, so that two worlds that differ only in what nobody can see any more are one
//! ([`World::forget`], in canon.rs). Labels are used again: a label stands for "the same" and "another", as random names do.

/// Labels of incarnations, 0 being the tree of adopted data.
pub const LABELS: usize = 7;
/// The tree of adopted data.
pub const ADOPTED: u8 = 0;
/// Record directories that exist or that a call still holds open.
pub const DIRECTORIES: usize = 4;
/// Generations that can be told apart in one directory; their numbers count from 1.
pub const GENERATIONS: usize = 10;
/// Calls at work at once, at most.
pub const CALLS: usize = 3;
/// Pairs of a handle and a node that may publish.
pub const ACTORS: usize = 2;

/// One state of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Record {
    pub incarnation: u8,
    pub deleting: bool,
    /// One bit for each actor.
    pub admitted: u8,
}

impl Record {
    pub fn admits(self, actor: u8) -> bool {
        !self.deleting && self.admitted & (1 << actor) != 0
    }

    /// In one byte, never 0: a world is compared and hashed often.
    pub fn pack(self) -> u8 {
        0x80 | self.incarnation << 3 | u8::from(self.deleting) << 2 | self.admitted
    }

    pub fn unpack(packed: u8) -> Option<Self> {
        (packed != 0).then_some(Self {
            incarnation: packed >> 3 & 0xf,
            deleting: packed & 4 != 0,
            admitted: packed & 3,
        })
    }
}

/// Where something lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lies {
    /// It does not exist, or was deleted.
    #[default]
    Nowhere,
    /// In `.berth/new`.
    New,
    /// Where it belongs: `<path>.<incarnation>`, `volumes/<name>/<incarnation>`.
    InPlace,
    /// In `.berth/trash`.
    Trash,
}

/// The directory of a record: an inode, reached by name or through a descriptor.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Directory {
    pub lies: Lies,
    pub generations: [u8; GENERATIONS],
}

impl Directory {
    pub fn get(&self, generation: u8) -> Option<Record> {
        Record::unpack(
            *self.generations.get(usize::from(generation)).expect("more generations than the model has"),
        )
    }

    pub fn put(&mut self, generation: u8, record: Record) {
        self.generations[usize::from(generation)] = record.pack();
    }

    pub fn unlink(&mut self, generation: u8) {
        self.generations[usize::from(generation)] = 0;
    }

    /// What a listing and a read give: the highest generation holds.
    pub fn highest(&self) -> Option<(u8, Record)> {
        let generation = self.generations.iter().rposition(|packed| *packed != 0)?;
        Some((generation as u8, Record::unpack(self.generations[generation])?))
    }

    /// Whether generations were replaced that are not to go with the record.
    pub fn has_older(&self) -> bool {
        self.generations.iter().filter(|packed| **packed != 0).count() > 1
            && self.highest().is_some_and(|(_, record)| !record.deleting)
    }

    pub fn unlink_older(&mut self) {
        if let Some((highest, _)) = self.highest() {
            self.generations[..usize::from(highest)].fill(0);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.highest().is_none()
    }

    pub fn purge(&mut self) {
        *self = Self::default();
    }
}

/// A mount at an actor's target, and its note.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mount {
    /// Which tree the pod sees.
    pub tree: u8,
    /// The incarnation in the note.
    pub noted: u8,
    pub confirmed: bool,
}

/// What the CO asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rpc {
    #[default]
    None,
    CreateVolume,
    DeleteVolume,
    ControllerPublish,
    ControllerUnpublish,
    NodePublish,
    NodeUnpublish,
    /// Berth's own: what creations that died left behind.
    Sweep,
}

/// Whether somebody waits for the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Caller {
    /// The call was given up, and knows it (`Call::still_wanted`).
    #[default]
    Gone,
    /// Waits, on a node that the CO holds for dead: nobody acts on the answer.
    CutOff,
    Waits,
}

/// The next step of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum At {
    #[default]
    Begin,
    Open,
    Read,
    Build,
    Prepare,
    AskBorn,
    Born,
    /// Without rule 2: a first generation is linked into a directory that anybody may have made.
    LinkFirst,
    LookPlaced,
    Place,
    FindPlaced,
    Ask,
    Link,
    List,
    RemoveData,
    RemoveNew,
    RemovePlaced,
    Bury,
    /// Without rule 2: the last generation, then the directory.
    UnlinkLast,
    Rmdir,
    Discard,
    Look,
    Mount,
    Attach,
    ListAgain,
    Reach,
    ReadAgain,
    Confirm,
    Undo,
}

/// A call at work, with what it has in its hands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Call {
    pub rpc: Rpc,
    pub at: At,
    pub actor: u8,
    pub caller: Caller,
    /// An unpublish at its target came (`Publishing`).
    pub closed: bool,
    /// The record directory it has open, as index + 1.
    pub dir: u8,
    /// The generation it has read, or won; 0 for none.
    pub generation: u8,
    /// What it has read, or is about to write.
    pub record: Record,
    /// What it builds, sweeps or mounts.
    pub tree: u8,
    /// How often it began anew.
    pub round: u8,
}

/// How far the CO is with one volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Volume {
    #[default]
    Absent,
    Creating,
    Exists,
    Deleting,
}

/// How far the CO is with one publication.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Publication {
    #[default]
    None,
    Publishing,
    /// ControllerPublish was answered OK.
    Published,
    /// NodePublish was called, and perhaps answered.
    OnNode,
    /// NodeUnpublish was called.
    LeavingNode,
    Unpublishing,
}

/// All of it.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct World {
    /// Where `volumes/<name>` leads, as index + 1. An empty directory there counts as none, for `rename` replaces it.
    pub name: u8,
    pub dirs: [Directory; DIRECTORIES],
    pub trees: [Lies; LABELS],
    /// The `new/<name>.<incarnation>.record` that exist.
    pub prepared: u8,
    pub mounts: [Option<Mount>; ACTORS],
    pub calls: [Call; CALLS],
    /// What the CO was told of the volume.
    pub volume: Volume,
    /// The incarnation it was told to exist.
    pub created: u8,
    pub publications: [Publication; ACTORS],
    /// NodePublish was answered OK: a pod runs.
    pub pods: [bool; ACTORS],
}

impl World {
    /// The record, as anybody would read it now.
    pub fn record(&self) -> Option<Record> {
        let dir = self.dirs.get(usize::from(self.name).checked_sub(1)?)?;
        dir.highest().map(|(_, record)| record)
    }

    pub fn at_work(&self) -> usize {
        self.calls.iter().filter(|call| call.rpc != Rpc::None).count()
    }

    /// The tree that lies in place, where there is but one path (without rule 1).
    pub fn placed(&self) -> Option<u8> {
        (1..LABELS as u8).find(|tree| self.trees[usize::from(*tree)] == Lies::InPlace)
    }

    /// A label that nobody knows: the smallest are taken.
    pub fn fresh(&self) -> u8 {
        let mut known = 1 << ADOPTED | 1 << self.created | self.prepared;
        for call in &self.calls {
            known |= 1 << call.record.incarnation | 1 << call.tree;
        }
        for mount in self.mounts.iter().flatten() {
            known |= 1 << mount.tree | 1 << mount.noted;
        }
        for record in self.dirs.iter().flat_map(|dir| dir.generations).filter_map(Record::unpack) {
            known |= 1 << record.incarnation;
        }
        let free = |label: &u8| known & 1 << label == 0 && self.trees[usize::from(*label)] == Lies::Nowhere;
        (1..LABELS as u8).find(free).expect("more incarnations than the model has labels")
    }

    /// Makes a record directory at the name.
    pub fn named_directory(&mut self) -> u8 {
        let held = |dir: u8| self.calls.iter().any(|call| call.dir == dir);
        let free = (1..=DIRECTORIES as u8).find(|dir| {
            self.dirs[usize::from(dir - 1)] == Directory::default() && self.name != *dir && !held(*dir)
        });
        self.name = free.expect("more record directories than the model has");
        self.dirs[usize::from(self.name - 1)].lies = Lies::InPlace;
        self.name
    }
}
