//! Access modes: one table, and one function that decides who may come alongside.
//!
//! Pure: no I/O, no lock, no clock. The same function serves nodes (ControllerPublishVolume) and target paths
//! of one node (NodePublishVolume); only the column of the table differs.
//! Source: CSI spec 1.13, `VolumeCapability.AccessMode` and the tables of NodePublishVolume.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// How a volume may be used; the spec's `VolumeCapability.AccessMode.Mode` without UNKNOWN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Mode {
    /// One node, one target: the mode of orchestrators that know neither of the two that replace it.
    SingleNodeWriter,
    /// One node, one target, nobody writes.
    SingleNodeReaderOnly,
    /// One target in the whole cluster: ReadWriteOncePod.
    SingleNodeSingleWriter,
    /// One node, as many targets as it likes: ReadWriteOnce.
    SingleNodeMultiWriter,
    /// Everybody reads, nobody writes: ReadOnlyMany.
    MultiNodeReaderOnly,
    /// Everybody reads, one node writes.
    MultiNodeSingleWriter,
    /// Everybody writes: ReadWriteMany.
    MultiNodeMultiWriter,
}

/// A column's entry: how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Limit {
    /// Not a single one.
    None,
    /// One at a time.
    One,
    /// As many as like.
    Many,
}

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Nodes that may have the volume at once.
    pub nodes: Limit,
    /// Target paths on one node.
    pub targets: Limit,
    /// Nodes that may write.
    pub writers: Limit,
}

impl Mode {
    /// All modes, in the order of the table.
    pub const ALL: [Self; 7] = [
        Self::SingleNodeWriter,
        Self::SingleNodeReaderOnly,
        Self::SingleNodeSingleWriter,
        Self::SingleNodeMultiWriter,
        Self::MultiNodeReaderOnly,
        Self::MultiNodeSingleWriter,
        Self::MultiNodeMultiWriter,
    ];

    /// The table.
    pub const fn row(self) -> Row {
        use Limit::{Many, None, One};
        let (nodes, targets, writers) = match self {
            Self::SingleNodeWriter => (One, One, One),
            Self::SingleNodeReaderOnly => (One, One, None),
            Self::SingleNodeSingleWriter => (One, One, One),
            Self::SingleNodeMultiWriter => (One, Many, One),
            Self::MultiNodeReaderOnly => (Many, Many, None),
            Self::MultiNodeSingleWriter => (Many, Many, One),
            Self::MultiNodeMultiWriter => (Many, Many, Many),
        };
        Row { nodes, targets, writers }
    }

    /// Whether nobody may write, whatever a request's `readonly` says (Kubernetes sends ReadOnlyMany with
    /// `readonly = false`).
    pub fn is_read_only(self) -> bool {
        self.row().writers == Limit::None
    }

    /// Whether several nodes may have the volume at once.
    pub fn spans_nodes(self) -> bool {
        self.row().nodes == Limit::Many
    }

    /// Whether a volume created with `granted` may be published as `self`: no column may be wider. (Kubernetes
    /// documents changing a PersistentVolume from ReadWriteOnce to ReadWriteOncePod.)
    pub fn within(self, granted: Mode) -> bool {
        let (asked, given) = (self.row(), granted.row());
        asked.nodes <= given.nodes && asked.targets <= given.targets && asked.writers <= given.writers
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SingleNodeWriter => "SINGLE_NODE_WRITER",
            Self::SingleNodeReaderOnly => "SINGLE_NODE_READER_ONLY",
            Self::SingleNodeSingleWriter => "SINGLE_NODE_SINGLE_WRITER",
            Self::SingleNodeMultiWriter => "SINGLE_NODE_MULTI_WRITER",
            Self::MultiNodeReaderOnly => "MULTI_NODE_READER_ONLY",
            Self::MultiNodeSingleWriter => "MULTI_NODE_SINGLE_WRITER",
            Self::MultiNodeMultiWriter => "MULTI_NODE_MULTI_WRITER",
        })
    }
}

/// Whom a publication is counted among.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Publications are nodes of the cluster.
    Nodes,
    /// Publications are target paths of one node.
    Targets,
}

/// A volume made available at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// A node id or a target path, as the scope says.
    pub at: String,
    /// Nothing when it is not known any more; such a publication counts as exclusive.
    pub mode: Option<Mode>,
    /// What holds, not what was asked: a mode without writers makes it true.
    pub read_only: bool,
    /// The other arguments of the request, by name.
    pub arguments: BTreeMap<String, String>,
}

/// What [`admit`] decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// There is room.
    Admit,
    /// The same place and an equal request: it is done already.
    Repeat,
    /// The same place and another request (ALREADY_EXISTS); which argument differs, with both values.
    Incompatible {
        /// Name, then both values.
        differs: String,
    },
    /// Another place holds the volume in a way that leaves no room (FAILED_PRECONDITION).
    InUse {
        /// Who holds it, and why that leaves no room.
        by: String,
    },
}

/// Decides whether `wanted` may join `existing`, the publications of the same volume.
pub fn admit(scope: Scope, existing: &[Publication], wanted: &Publication) -> Verdict {
    if let Some(same) = existing.iter().find(|p| p.at == wanted.at) {
        return match difference(same, wanted) {
            None => Verdict::Repeat,
            Some(differs) => Verdict::Incompatible { differs },
        };
    }
    existing.iter().find_map(|held| conflict(scope, held, wanted)).unwrap_or(Verdict::Admit)
}

/// Decides whether a node may be admitted to a volume beside `existing`. A node may have it by several handles, told
/// apart by the argument `alias`: each is admitted for itself, and all of one node are one place.
pub fn admit_node(existing: &[Publication], wanted: &Publication) -> Verdict {
    let is_same = |held: &&Publication| held.at == wanted.at && alias(held) == alias(wanted);
    if let Some(same) = existing.iter().find(is_same) {
        return admit(Scope::Nodes, std::slice::from_ref(same), wanted);
    }
    let refused = existing.iter().find_map(|held| match held.at == wanted.at {
        false => conflict(Scope::Nodes, held, wanted),
        true if held.mode == wanted.mode => None,
        true => {
            let as_mode = held.mode.map_or("an unknown mode".to_string(), |mode| mode.to_string());
            Some(Verdict::InUse { by: format!("{} holds it by another handle as {as_mode}", held.at) })
        }
    });
    refused.unwrap_or(Verdict::Admit)
}

fn alias(publication: &Publication) -> Option<&String> {
    publication.arguments.get("alias")
}

fn conflict(scope: Scope, held: &Publication, wanted: &Publication) -> Option<Verdict> {
    let in_use = |why: String| Some(Verdict::InUse { by: format!("{} holds it{why}", held.at) });
    let Some(wanted_mode) = wanted.mode else {
        return in_use(" and the mode asked is not known".into());
    };
    let Some(held_mode) = held.mode else {
        return in_use(
            " in a mode that is not known any more, which counts as exclusive: unpublish it".into(),
        );
    };
    if held_mode != wanted_mode {
        return in_use(format!(" as {held_mode}, which leaves no room for {wanted_mode}"));
    }
    let row = held_mode.row();
    let limit = match scope {
        Scope::Nodes => row.nodes,
        Scope::Targets => row.targets,
    };
    if limit != Limit::Many {
        return in_use(format!(" as {held_mode}, which allows no second one"));
    }
    if scope == Scope::Nodes && row.writers == Limit::One && !held.read_only && !wanted.read_only {
        return in_use(format!(" as {held_mode} and writes, and only one may"));
    }
    None
}

/// The first argument in which two publications of one place differ, with both values.
fn difference(found: &Publication, wanted: &Publication) -> Option<String> {
    if found.mode != wanted.mode {
        let name = |mode: Option<Mode>| mode.map_or("unknown".to_string(), |m| m.to_string());
        return Some(format!("access_mode ({}, now {})", name(found.mode), name(wanted.mode)));
    }
    if found.read_only != wanted.read_only {
        return Some(format!("readonly ({}, now {})", found.read_only, wanted.read_only));
    }
    let keys = found.arguments.keys().chain(wanted.arguments.keys());
    keys.into_iter().find_map(|key| {
        let (a, b) = (found.arguments.get(key), wanted.arguments.get(key));
        let text = |value: Option<&String>| value.map_or("none", String::as_str).to_string();
        (a != b).then(|| format!("{key} ({}, now {})", text(a), text(b)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publication(at: &str, mode: Mode, read_only: bool) -> Publication {
        Publication {
            at: at.into(),
            mode: Some(mode),
            read_only: read_only || mode.is_read_only(),
            arguments: BTreeMap::new(),
        }
    }

    #[test]
    fn the_same_place_and_an_equal_request_is_a_repetition_in_every_mode() {
        for mode in Mode::ALL {
            let held = publication("/a", mode, false);
            for scope in [Scope::Nodes, Scope::Targets] {
                assert_eq!(admit(scope, std::slice::from_ref(&held), &held), Verdict::Repeat, "{mode}");
            }
        }
    }

    #[test]
    fn the_same_place_with_another_argument_is_incompatible_and_names_it() {
        let held = publication("/a", Mode::SingleNodeMultiWriter, false);
        let mut flags = held.clone();
        flags.arguments.insert("mount_flags".into(), "noexec".into());
        for (wanted, word) in [
            (publication("/a", Mode::SingleNodeMultiWriter, true), "readonly (false, now true)"),
            (publication("/a", Mode::SingleNodeWriter, false), "access_mode (SINGLE_NODE_MULTI_WRITER"),
            (flags, "mount_flags (none, now noexec)"),
        ] {
            match admit(Scope::Targets, std::slice::from_ref(&held), &wanted) {
                Verdict::Incompatible { differs } => assert!(differs.contains(word), "{differs}"),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_second_target_is_admitted_just_where_the_table_of_the_spec_says_ok() {
        use Mode::*;
        for mode in Mode::ALL {
            let many = matches!(
                mode,
                SingleNodeMultiWriter | MultiNodeReaderOnly | MultiNodeSingleWriter | MultiNodeMultiWriter
            );
            for read_only in [false, true] {
                let verdict = admit(
                    Scope::Targets,
                    &[publication("/a", mode, false)],
                    &publication("/b", mode, read_only),
                );
                assert_eq!(verdict == Verdict::Admit, many, "{mode} {read_only} {verdict:?}");
            }
        }
    }

    #[test]
    fn a_second_node_is_admitted_just_where_the_mode_spans_nodes_and_one_writes() {
        use Mode::*;
        for mode in Mode::ALL {
            for (first, second) in [(false, false), (false, true), (true, false), (true, true)] {
                let room = match mode {
                    MultiNodeReaderOnly | MultiNodeMultiWriter => true,
                    MultiNodeSingleWriter => first || second,
                    SingleNodeWriter
                    | SingleNodeReaderOnly
                    | SingleNodeSingleWriter
                    | SingleNodeMultiWriter => false,
                };
                let verdict =
                    admit(Scope::Nodes, &[publication("a", mode, first)], &publication("b", mode, second));
                assert_eq!(verdict == Verdict::Admit, room, "{mode} {first} {second} {verdict:?}");
            }
        }
    }

    #[test]
    fn two_modes_never_share_a_volume() {
        for held in Mode::ALL {
            for wanted in Mode::ALL.into_iter().filter(|w| *w != held) {
                for scope in [Scope::Nodes, Scope::Targets] {
                    let verdict =
                        admit(scope, &[publication("/a", held, false)], &publication("/b", wanted, false));
                    assert!(matches!(verdict, Verdict::InUse { .. }), "{held} {wanted} {verdict:?}");
                }
            }
        }
    }

    #[test]
    fn a_publication_whose_mode_is_unknown_is_exclusive() {
        let mut held = publication("/a", Mode::MultiNodeMultiWriter, false);
        held.mode = None;
        let verdict = admit(Scope::Targets, &[held], &publication("/b", Mode::MultiNodeMultiWriter, false));
        assert!(matches!(verdict, Verdict::InUse { .. }));
    }

    #[test]
    fn a_refusal_names_who_holds_the_volume() {
        let verdict = admit(
            Scope::Targets,
            &[publication("/pods/a", Mode::SingleNodeSingleWriter, false)],
            &publication("/pods/b", Mode::SingleNodeSingleWriter, false),
        );
        let Verdict::InUse { by } = verdict else { panic!("{verdict:?}") };
        assert!(by.contains("/pods/a") && by.contains("SINGLE_NODE_SINGLE_WRITER"), "{by}");
    }

    #[test]
    fn a_node_that_has_a_volume_by_one_handle_may_have_it_by_another_in_the_same_mode_only() {
        let by = |node: &str, alias: &str, mode| {
            let mut publication = publication(node, mode, false);
            publication.arguments.insert("alias".into(), alias.into());
            publication
        };
        let held = [by("n1", "a", Mode::SingleNodeMultiWriter)];
        let verdict = |wanted| admit_node(&held, &wanted);
        assert_eq!(verdict(by("n1", "a", Mode::SingleNodeMultiWriter)), Verdict::Repeat);
        assert_eq!(verdict(by("n1", "b", Mode::SingleNodeMultiWriter)), Verdict::Admit);
        assert!(matches!(verdict(by("n1", "b", Mode::MultiNodeReaderOnly)), Verdict::InUse { .. }));
        assert!(matches!(verdict(by("n2", "b", Mode::SingleNodeMultiWriter)), Verdict::InUse { .. }));
        assert!(matches!(verdict(by("n1", "a", Mode::SingleNodeSingleWriter)), Verdict::Incompatible { .. }));
    }

    #[test]
    fn a_request_may_be_narrower_than_the_volume_and_never_wider() {
        use Mode::*;
        assert!(SingleNodeSingleWriter.within(SingleNodeMultiWriter));
        assert!(!SingleNodeMultiWriter.within(SingleNodeSingleWriter));
        assert!(MultiNodeReaderOnly.within(MultiNodeMultiWriter));
        assert!(!MultiNodeMultiWriter.within(MultiNodeReaderOnly));
        assert!(!MultiNodeReaderOnly.within(SingleNodeMultiWriter));
        assert!(!SingleNodeWriter.within(MultiNodeReaderOnly));
        for mode in Mode::ALL {
            assert!(mode.within(mode) && mode.within(MultiNodeMultiWriter));
        }
    }

    #[test]
    fn modes_without_writers_are_read_only() {
        for mode in Mode::ALL {
            let expected = matches!(mode, Mode::SingleNodeReaderOnly | Mode::MultiNodeReaderOnly);
            assert_eq!(mode.is_read_only(), expected, "{mode}");
        }
    }
}
