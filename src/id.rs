//! Names: volume ids, record names, incarnations, and which paths may lie beneath a root.
//!
//! Pure. An id is a function of the CO's name and never a path, the same function of the same request every time;
//! so there is no index, and no second set of guards. Parsing is validation: what parses is safe as a file name.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The directory at a root that is Berth's own.
pub const OWN_DIRECTORY: &str = ".berth";

/// The longest node, root and name in an id, in bytes: with two separators they make the 128 that the CSI spec
/// allows every CO to insist on.
const MAX_NODE: usize = 48;
/// Likewise; root names are never shortened, longer ones are refused at the start.
pub const MAX_ROOT: usize = 32;
const MAX_NAME: usize = 46;

/// The longest component of a path and the longest path beneath a root, in bytes: Linux's own (NAME_MAX), and well
/// below PATH_MAX, whatever the root's own path is.
const MAX_EXISTING: (usize, usize) = (255, 2048);
/// The same for a new volume: they leave room for what Berth adds, also when it is retained or archived.
const MAX_NEW: (usize, usize) = (220, 1024);

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

/// A volume id: `<node>/<root>/<name>` for a volume that Berth made, `<node>/<root>/=<path>` (or with `#<alias>`
/// behind it) for a directory that existed before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeId {
    /// The node that holds the volume, encoded.
    pub node: String,
    /// The root's name.
    pub root: String,
    /// Which volume of the root.
    pub handle: Handle,
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
    /// Reads an id; nothing when Berth could not have made it, which means that such a volume does not exist.
    pub fn parse(text: &str) -> Option<Self> {
        let (node, rest) = text.split_once('/')?;
        let (root, rest) = rest.split_once('/')?;
        let handle = match rest.strip_prefix('=') {
            None => Handle::Made(RecordName::parse(rest)?),
            Some(path) => {
                let (path, alias) = match path.rsplit_once('#') {
                    Some((path, alias)) if !alias.contains('/') => (path, Some(alias.to_string())),
                    _ => (path, None),
                };
                check_path(path).ok()?;
                Handle::Adopted { path: path.to_string(), alias }
            }
        };
        if node.is_empty() || !is_root_name(root) {
            return None;
        }
        Some(Self { node: node.to_string(), root: root.to_string(), handle })
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
        write!(f, "{}/{}/", self.node, self.root)?;
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

/// Whether `path` may lie beneath a root. The kernel confines every path when it is opened; this is about names
/// that would be misunderstood: Berth's own, an incarnation's, and those that are no names.
pub fn check_path(path: &str) -> Result<(), String> {
    check(path, MAX_EXISTING)
}

/// Whether a new volume may lie at `path`: as [`check_path`], and there is room for what Berth adds to its names.
pub fn check_new_path(path: &str) -> Result<(), String> {
    check(path, MAX_NEW)
}

fn check(path: &str, (max_component, max_path): (usize, usize)) -> Result<(), String> {
    if path.is_empty() {
        return Err("is empty".into());
    }
    if path.len() > max_path {
        return Err(format!("is longer than {max_path} bytes"));
    }
    if path.starts_with('/') {
        return Err(format!("{path:?} is absolute; it has to be relative to the root"));
    }
    for (depth, part) in path.split('/').enumerate() {
        if part.len() > max_component {
            return Err(format!("{path:?} has a component of more than {max_component} bytes"));
        }
        let why = if part.is_empty() {
            "has an empty component"
        } else if part == "." || part == ".." {
            "has the component . or .."
        } else if part.chars().any(char::is_control) {
            "has a control character"
        } else if depth == 0 && part.eq_ignore_ascii_case(OWN_DIRECTORY) {
            "lies in .berth, which is Berth's own"
        } else if Incarnation::ends(part) {
            "has a component that looks like a volume's data (a dot and 16 hexadecimal digits at its end)"
        } else {
            continue;
        };
        return Err(format!("{path:?} {why}"));
    }
    Ok(())
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
            node: node_part(&"n".repeat(253)),
            root: "r".repeat(MAX_ROOT),
            handle: Handle::Made(RecordName::of(&"v".repeat(500))),
        };
        let text = id.to_string();
        assert_eq!(text.len(), 128);
        assert_eq!(VolumeId::parse(&text), Some(id));
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
        ] {
            assert_eq!(VolumeId::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn an_alias_is_another_id_of_the_same_data() {
        let one = VolumeId::parse("n/r/=photos/2024").unwrap();
        let two = VolumeId::parse("n/r/=photos/2024#second").unwrap();
        assert_eq!(one.key(), two.key());
        assert_eq!(two.to_string(), "n/r/=photos/2024#second");
    }

    #[test]
    fn a_path_that_climbs_hides_or_poses_as_data_is_refused_with_its_reason() {
        for (path, word) in [
            ("", "empty"),
            ("/a", "absolute"),
            (".", "."),
            ("a/../b", ".."),
            ("a//b", "empty component"),
            ("a/", "empty"),
            (".berth/x", ".berth"),
            (".BERTH", ".berth"),
            ("a.0123456789abcdef/b", "looks like"),
            ("a\n", "control"),
        ] {
            let why = check_path(path).unwrap_err();
            assert!(why.contains(word), "{path:?}: {why}");
        }
        for path in ["a", "a/b", ".hidden", "a.b.c", "a.0123456789ABCDEF", "my data", "a/.berth", "-x"] {
            assert_eq!(check_path(path), Ok(()), "{path}");
        }
    }

    #[test]
    fn existing_data_may_have_a_longer_path_than_a_new_volume_which_gets_longer_when_it_is_kept() {
        let longest = format!("{}{}", "d/".repeat(402), "n".repeat(220));
        assert_eq!(check_new_path(&longest), Ok(()));
        assert!(check_new_path(&format!("d/{longest}")).is_err());
        assert!(check_new_path(&"n".repeat(221)).is_err());
        for kept in
            [format!("{longest}.retained-0123456789abcdef"), format!("archived/{longest}-0123456789abcdef")]
        {
            assert_eq!(check_path(&kept), Ok(()));
        }
        assert!(check_path(&"n".repeat(256)).is_err());
        assert!(check_path(&format!("{}n", "d/".repeat(1024))).is_err());
    }
}
