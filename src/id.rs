//! Names: volume ids, record names, incarnations.
//!
//! Pure. An id is a function of the CO's name and never a path, the same function of the same request every time;
//! so there is no index, and no second set of guards. Parsing is validation: what parses is safe as a file name.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::path::check_path;

/// The directory at a root that is Berth's own.
pub const OWN_DIRECTORY: &str = ".berth";

/// The longest node, root and name in an id, in bytes: with two separators they make the 128 that the CSI spec
/// allows every CO to insist on.
const MAX_NODE: usize = 48;
/// Likewise; root names are never shortened, longer ones are refused at the start.
pub const MAX_ROOT: usize = 32;
const MAX_NAME: usize = 46;

/// A name made fit for an id and for a file name: itself when it is short and made of `[A-Za-z0-9._-]`, else a
/// readable prefix, `~`, and 128 bits of its hash. `~` is in no other name, so two names never meet.
fn encode(text: &str, max: usize) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    if text.len() <= max && starts_well && text.chars().all(safe) {
        return text.to_string();
    }
    let prefix: String = text.chars().filter(|c| c.is_ascii_alphanumeric()).take(max - 33).collect();
    format!("{prefix}~{}", hash(text))
}

/// 128 bits of SHA-256, in lower-case hexadecimal.
pub fn hash(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// The name of a volume's record: the CO's name, encoded. Safe as a file name by construction.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordName(String);

impl RecordName {
    /// The record name of a CO's name.
    pub fn of(name: &str) -> Self {
        Self(encode(name, MAX_NAME))
    }

    /// The name of the record that existing data at `path` has while it is published: two `~`, which no other has.
    pub fn adopted(path: &str) -> Self {
        let prefix: String = path.chars().filter(|c| c.is_ascii_alphanumeric()).take(MAX_NAME - 34).collect();
        Self(format!("{prefix}~~{}", hash(path)))
    }

    /// A record name as it stands in an id or a directory; nothing when Berth could not have made it.
    pub fn parse(text: &str) -> Option<Self> {
        let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '~');
        let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '~');
        (text.len() <= MAX_NAME && starts_well && text.chars().all(safe)).then(|| Self(text.to_string()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RecordName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The node's part of an id.
pub fn node_part(node_id: &str) -> String {
    encode(node_id, MAX_NODE)
}

/// A node's name as the value of a topology: 63 characters at most, letters, digits, and inside also `.`, `_` and `-`.
pub fn topology_value(node_id: &str) -> String {
    const MAX: usize = 63;
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let is_outer = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let fits = node_id.len() <= MAX && node_id.chars().all(inner);
    if fits && is_outer(node_id.chars().next()) && is_outer(node_id.chars().last()) {
        return node_id.to_string();
    }
    let prefix: String = node_id.chars().filter(char::is_ascii_alphanumeric).take(MAX - 33).collect();
    format!("{prefix}-{}", hash(node_id)).trim_start_matches('-').to_string()
}

/// A volume id: `<root>/<name>` for a volume that Berth made, `<root>/=<path>` (or with `#<alias>` behind it) for a
/// directory that existed before; with `<node>/` in front where volumes lie on nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeId {
    /// The node that holds the volume, encoded; nothing where all nodes reach it.
    pub node: Option<String>,
    /// The root's name.
    pub root: String,
    /// Which volume of the root.
    pub handle: Handle,
}

impl Handle {
    /// The name of the record that this volume has, or would have.
    pub fn record(&self) -> RecordName {
        match self {
            Self::Made(name) => name.clone(),
            Self::Adopted { path, .. } => RecordName::adopted(path),
        }
    }

    /// What tells several PersistentVolumes of one directory apart.
    pub fn alias(&self) -> Option<&str> {
        match self {
            Self::Made(_) => None,
            Self::Adopted { alias, .. } => alias.as_deref(),
        }
    }
}

/// The last part of a volume id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handle {
    /// A volume with a record.
    Made(RecordName),
    /// Existing data, published as it is, never deleted.
    Adopted {
        /// Its path beneath the root.
        path: String,
        /// Tells two PersistentVolumes of one directory apart; the volume is the same.
        alias: Option<String>,
    },
}

impl VolumeId {
    /// Reads an id, which begins with a node if it is `of_a_node`; nothing when Berth could not have made it, which
    /// means that such a volume does not exist.
    pub fn parse(text: &str, of_a_node: bool) -> Option<Self> {
        let (node, rest) = match of_a_node {
            true => text.split_once('/').map(|(node, rest)| (Some(node.to_string()), rest))?,
            false => (None, text),
        };
        let (root, rest) = rest.split_once('/')?;
        let handle = match rest.strip_prefix('=') {
            // The record of existing data has a handle of its own.
            None => Handle::Made(RecordName::parse(rest).filter(|name| !name.as_str().contains("~~"))?),
            Some(path) => {
                let (path, alias) = match path.rsplit_once('#') {
                    Some((path, alias)) if !alias.contains('/') => (path, Some(alias.to_string())),
                    _ => (path, None),
                };
                check_path(path).ok()?;
                Handle::Adopted { path: path.to_string(), alias }
            }
        };
        if node.as_deref() == Some("") || !is_root_name(root) {
            return None;
        }
        Some(Self { node, root: root.to_string(), handle })
    }

    /// What has to be guarded: the same text for every id that means the same data.
    pub fn key(&self) -> String {
        match &self.handle {
            Handle::Made(name) => format!("{}/{name}", self.root),
            Handle::Adopted { path, .. } => format!("{}/={path}", self.root),
        }
    }
}

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(node) = &self.node {
            write!(f, "{node}/")?;
        }
        write!(f, "{}/", self.root)?;
        match &self.handle {
            Handle::Made(name) => write!(f, "{name}"),
            Handle::Adopted { path, alias: None } => write!(f, "={path}"),
            Handle::Adopted { path, alias: Some(alias) } => write!(f, "={path}#{alias}"),
        }
    }
}

/// Whether `name` may name a root: `[a-z0-9-]`, 1 to 32 bytes, beginning with a letter or digit.
pub fn is_root_name(name: &str) -> bool {
    (1..=MAX_ROOT).contains(&name.len())
        && !name.starts_with('-')
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// The random name of one creation: 64 bits, in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Incarnation(String);

impl Incarnation {
    const LENGTH: usize = 16;

    /// The incarnation of these random bits.
    pub fn new(random: u64) -> Self {
        Self(format!("{random:016x}"))
    }

    /// An incarnation as it stands in a file name.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        (text.len() == Self::LENGTH && text.bytes().all(hex)).then(|| Self(text.to_string()))
    }

    /// Whether a file name ends in a dot and an incarnation.
    pub fn ends(name: &str) -> bool {
        name.rsplit_once('.').is_some_and(|(_, end)| Self::parse(end).is_some())
    }

    /// The incarnation as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Incarnation {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or(format!("{text:?} is no incarnation"))
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_safe_name_is_its_own_record_name() {
        assert_eq!(RecordName::of("pvc-5b3c.x_1").as_str(), "pvc-5b3c.x_1");
    }

    #[test]
    fn unsafe_and_long_names_become_a_prefix_and_a_hash_that_no_safe_name_can_equal() {
        let long = "p".repeat(128);
        for name in ["a/b", "..", ".", "", "-x", ".hidden", "a b", "ä", "x\ny", "a~b", long.as_str()] {
            let record = RecordName::of(name);
            assert!(record.as_str().contains('~'), "{record}");
            assert!(record.as_str().len() <= MAX_NAME);
            assert_eq!(RecordName::parse(record.as_str()), Some(record.clone()));
        }
    }

    #[test]
    fn names_that_differ_have_records_that_differ() {
        let long = "p".repeat(128);
        let names = ["a/b", "a_b", "ab", "a.b", "a:b", "A/B", "", long.as_str(), &long[..127]];
        let records: std::collections::HashSet<_> = names.iter().map(|n| RecordName::of(n)).collect();
        assert_eq!(records.len(), names.len());
    }

    #[test]
    fn an_id_is_at_most_128_bytes_and_reads_back() {
        let id = VolumeId {
            node: Some(node_part(&"n".repeat(253))),
            root: "r".repeat(MAX_ROOT),
            handle: Handle::Made(RecordName::of(&"v".repeat(500))),
        };
        let text = id.to_string();
        assert_eq!(text.len(), 128);
        assert_eq!(VolumeId::parse(&text, true), Some(id));
    }

    #[test]
    fn every_node_has_a_name_that_a_topology_takes() {
        assert_eq!(topology_value("worker-1.example.com"), "worker-1.example.com");
        let long = "n".repeat(64);
        for node in ["a/b", "-x", "x.", "ä", "", long.as_str()] {
            let value = topology_value(node);
            assert!(
                value.len() <= 63 && value.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'),
                "{value}"
            );
            assert!(value.starts_with(|c: char| c.is_ascii_alphanumeric()), "{value}");
        }
        assert_ne!(topology_value("a/b"), topology_value("a_b/"));
    }

    #[test]
    fn hand_made_ids_name_nothing() {
        for text in [
            "",
            "a",
            "a/b",
            "a/b/",
            "/b/c",
            "a//c",
            "a/b/..",
            "a/b/.",
            "a/b/c/d",
            "a/B/c",
            "a/b/c d",
            "a/b/\0",
            "a/b/=",
            "a/b/=/etc",
            "a/b/=../x",
            "a/b/=x/..",
            "a/b/=.berth",
            "a/b/=.berth/volumes",
            "a/b/=x//y",
            "a/b/=v.0123456789abcdef",
            "a/b/=v.0123456789abcdef/inner",
            "a/b/-rf",
            "a/b/photos~~84a6dae49cf0481203aa97872cc3301b",
        ] {
            assert_eq!(VolumeId::parse(text, true), None, "{text:?}");
            assert_eq!(VolumeId::parse(text.strip_prefix("a/").unwrap_or(text), false), None, "{text:?}");
        }
    }

    #[test]
    fn an_alias_is_another_id_of_the_same_data() {
        let one = VolumeId::parse("n/r/=photos/2024", true).unwrap();
        let two = VolumeId::parse("n/r/=photos/2024#second", true).unwrap();
        assert_eq!(one.key(), two.key());
        assert_eq!(two.to_string(), "n/r/=photos/2024#second");
    }

    #[test]
    fn where_all_nodes_reach_a_volume_its_id_names_none() {
        let id = VolumeId::parse("main/pvc-1", false).unwrap();
        assert_eq!((id.node.as_deref(), id.root.as_str()), (None, "main"));
        assert_eq!(id.to_string(), "main/pvc-1");
    }

    #[test]
    fn the_record_of_existing_data_is_none_that_a_name_could_have() {
        for path in ["photos", "photos/2024", "a b"] {
            let record = RecordName::adopted(path);
            assert_eq!(RecordName::parse(record.as_str()), Some(record.clone()));
            for name in [path, &format!("={path}"), record.as_str()] {
                assert_ne!(RecordName::of(name), record);
            }
        }
    }
}
