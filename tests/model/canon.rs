//! One form for all worlds that nobody can tell apart. It is what makes the worlds finite, and few.

use crate::world::{
    ADOPTED, At, Call, DIRECTORIES, Directory, GENERATIONS, LABELS, Lies, Record, Rpc, World,
};

impl World {
    /// Brings a world to its one form: what only the purge or the sweep would meet goes, incarnations, directories and
    /// generations get the smallest numbers that keep them apart, calls stand in order.
    pub fn forget(&mut self, renumber: bool, mirror: bool) {
        for at in 0..DIRECTORIES {
            let number = at as u8 + 1;
            if self.name != number && !self.calls.iter().any(|call| call.dir == number) {
                self.dirs[at].purge();
            } else if renumber {
                let is_held = |call: &&mut Call| call.dir == number && call.generation != 0;
                let mut held: Vec<&mut u8> =
                    self.calls.iter_mut().filter(is_held).map(|call| &mut call.generation).collect();
                self.dirs[at].renumber(&mut held);
            }
        }
        // What a dead call has prepared is never renamed, for only its own call would.
        let being_born = self.calls.iter().filter(|call| call.at == At::AskBorn || call.at == At::Born);
        self.prepared &= being_born.fold(0, |bits, call| bits | 1 << call.tree);
        // The two actors are alike: the one that is further goes first.
        if mirror && self.standing(0) < self.standing(1) {
            self.publications.swap(0, 1);
            self.pods.swap(0, 1);
            self.mounts.swap(0, 1);
            let turned = |bits: u8| bits >> 1 & 1 | bits << 1 & 2;
            for packed in self.dirs.iter_mut().flat_map(|dir| &mut dir.generations) {
                if let Some(record) = Record::unpack(*packed) {
                    *packed = Record { admitted: turned(record.admitted), ..record }.pack();
                }
            }
            for call in self.calls.iter_mut().filter(|call| call.rpc != Rpc::None) {
                call.record.admitted = turned(call.record.admitted);
                call.actor ^=
                    u8::from(!matches!(call.rpc, Rpc::CreateVolume | Rpc::DeleteVolume | Rpc::Sweep));
            }
        }
        // In order by all but what is numbered anew.
        self.calls
            .sort_by_key(|call| std::cmp::Reverse((call.rpc, call.at, call.actor, call.caller, call.closed)));
        self.number_directories();
        self.label_incarnations();
        self.calls.sort_unstable_by(|a, b| b.cmp(a));
    }

    fn standing(&self, actor: usize) -> impl Ord + use<> {
        let of = |call: &&Call| usize::from(call.actor) == actor;
        let mount = self.mounts[actor].map(|mount| mount.confirmed);
        let calls = self
            .calls
            .map(|call| Some(call).filter(|call| of(&call)).map(|call| (call.rpc, call.at, call.caller)));
        (self.publications[actor], mount, self.pods[actor], calls.into_iter().flatten().max())
    }

    /// The named directory comes first, then those that calls hold.
    fn number_directories(&mut self) {
        let (old, mut new, mut given) = (self.dirs, [0; DIRECTORIES + 1], 0);
        self.dirs = Default::default();
        for number in std::iter::once(&mut self.name).chain(self.calls.iter_mut().map(|call| &mut call.dir)) {
            let at = usize::from(*number);
            if at != 0 {
                if new[at] == 0 {
                    given += 1;
                    new[at] = given;
                    self.dirs[usize::from(given - 1)] = old[at - 1];
                }
                *number = new[at];
            }
        }
    }

    /// Incarnations are labelled as they come: in the record, on the nodes, in calls. A tree that nobody knows and that is not
    /// in place is nobody's.
    fn label_incarnations(&mut self) {
        let (mut new, mut given) = ([0; LABELS], 0);
        let mut label = |old: u8| {
            let slot = &mut new[usize::from(old)];
            if old != ADOPTED && *slot == 0 {
                given += 1;
                *slot = given;
            }
            *slot
        };
        for dir in &mut self.dirs {
            for packed in dir.generations.iter_mut().rev().filter(|packed| **packed != 0) {
                let mut record = Record::unpack(*packed).expect("a record");
                record.incarnation = label(record.incarnation);
                *packed = record.pack();
            }
        }
        self.created = label(self.created);
        for mount in self.mounts.iter_mut().flatten() {
            (mount.tree, mount.noted) = (label(mount.tree), label(mount.noted));
        }
        for call in &mut self.calls {
            (call.record.incarnation, call.tree) = (label(call.record.incarnation), label(call.tree));
        }
        for placed in (1..LABELS as u8).filter(|tree| self.trees[usize::from(*tree)] == Lies::InPlace) {
            label(placed);
        }
        let (old, prepared) = (self.trees, self.prepared);
        (self.trees, self.prepared) = (Default::default(), 0);
        self.trees[0] = old[0];
        for (before, after) in new.into_iter().enumerate().filter(|(_, after)| *after != 0) {
            self.trees[usize::from(after)] = old[before];
            self.prepared |= (prepared >> before & 1) << after;
        }
    }
}

impl Directory {
    /// Gives generations smaller numbers, in the same order; what follows at once still does. Of one that was replaced only
    /// matters that it is there, and to nobody but a call that would link it. (What stood before `Deleting` comes to light
    /// again when a purge has begun.)
    fn renumber(&mut self, held: &mut [&mut u8]) {
        let mut below = usize::from(self.highest().map_or(0, |(highest, _)| highest));
        if self.highest().is_some_and(|(_, record)| record.deleting) {
            below = self.generations[..below].iter().rposition(|packed| *packed != 0).unwrap_or(0);
        }
        for (number, packed) in
            self.generations[..below].iter_mut().enumerate().filter(|(_, packed)| **packed != 0)
        {
            let matters = held.iter().any(|held| usize::from(**held) + 1 == number);
            *packed = if matters { Record::default().pack() } else { 0 };
        }
        let mut numbers: Vec<u8> =
            (1..GENERATIONS as u8).filter(|n| self.generations[usize::from(*n)] != 0).collect();
        numbers.extend(held.iter().flat_map(|held| [**held, **held + 1]));
        numbers.sort_unstable();
        numbers.dedup();
        let (mut new, mut last, mut given) = ([0; GENERATIONS + 2], 0, 0);
        for number in numbers {
            given += if last == 0 { 1 } else { (number - last).min(2) };
            new[usize::from(number)] = given;
            last = number;
        }
        let old = std::mem::take(&mut self.generations);
        for (number, packed) in old.into_iter().enumerate().filter(|(_, packed)| *packed != 0) {
            self.generations[usize::from(new[number])] = packed;
        }
        held.iter_mut().for_each(|held| **held = new[usize::from(**held)]);
    }
}
