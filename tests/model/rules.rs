//! The rules of the protocol, each with a switch.

/// A rule of docs/developer/protocol.md, or a part of one that can be left out alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// 1: data has a name of its own for each incarnation.
    DataHasOwnName,
    /// 2: a record is born and dies as a directory.
    RecordIsDirectory,
    /// 2: who has won looks whether the name still leads to the directory that was read.
    NameLeadsHere,
    /// 3: a generation is won by `link`, which fails for all but one. (Else: by a rename, which replaces.)
    WonByLink,
    /// 3: a call that was given up wins nothing more.
    AsksStillWanted,
    /// 3, 6: whoever finds a decision whose act is missing does the act.
    RollForward,
    /// 4: unpublishing an existing record always writes a generation.
    UnpublishWrites,
    /// 4: where there may be no record to write to, what is prepared under the name is taken away before the record is read.
    DiscardPrepared,
    /// 5: one lock for each target, over "given up?" and the attaching.
    TargetLock,
    /// 6: nothing is deleted but in the trash. (Else: through a descriptor, wherever it lies by then.)
    TrashFirst,
    /// 7: the record is read again when the mount is attached.
    LookAgain,
    /// 7: a mount that is found is good only when confirmed, still admitted, and of the same incarnation.
    FoundMountIsChecked,
    /// The data of adopted volumes is never touched.
    AdoptedIsKept,
    /// 4: so does DeleteVolume.
    DeleteDiscards,
}

/// Which rules hold.
#[derive(Clone, Copy)]
pub struct Rules {
    off: Option<Rule>,
}

impl Rules {
    /// Those that Berth keeps: all.
    pub const BERTH: Self = Self { off: None };

    /// All but one.
    pub const fn without(rule: Rule) -> Self {
        Self { off: Some(rule) }
    }

    /// Whether this one holds.
    pub fn hold(self, rule: Rule) -> bool {
        self.off != Some(rule)
    }
}
