//! The parameters of a StorageClass: parsed once, each unknown one refused by name.
//!
//! Pure rules. A parameter that Berth does not know is an error that names the nearest one it does, since a
//! misspelt parameter that is silently ignored is found out when the data is gone.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::path::check_new_path;

/// What the sidecars add to parameters, volume contexts and the like; never compared, never recorded.
pub const SIDECAR_PREFIX: &str = "csi.storage.k8s.io/";

const KNOWN: [&str; 7] = ["root", "subDir", "nodeSharing", "mode", "uid", "gid", "onDelete"];

/// What a `subDir` may hold, and the key that the provisioner sends for it (with `--extra-create-metadata`).
const VARIABLES: [(&str, &str); 3] = [
    ("${pvc.metadata.name}", "csi.storage.k8s.io/pvc/name"),
    ("${pvc.metadata.namespace}", "csi.storage.k8s.io/pvc/namespace"),
    ("${pv.metadata.name}", "csi.storage.k8s.io/pv/name"),
];

/// All keys and values together, in bytes: what is recorded has to stay readable. (CSI asks for 4 KiB.)
const MAX_BYTES: usize = 64 << 10;

/// What DeleteVolume does with the data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDelete {
    /// It goes to the trash and is purged.
    #[default]
    Delete,
    /// It stays where it is, as `<path>.retained-<incarnation>`.
    Retain,
    /// It moves to `archived/<path>-<incarnation>` of the root.
    Archive,
}

/// Who owns a new data directory, and its permission bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Owner {
    /// Permission bits, as chmod(2) takes them; in a record in octal, as people read them.
    #[serde(with = "octal")]
    pub mode: u32,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

mod octal {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(mode: &u32, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{mode:04o}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::permission_bits(&text).map_err(D::Error::custom)
    }
}

impl Default for Owner {
    /// Any user of a pod can write; the root's own mode keeps the host's users out.
    fn default() -> Self {
        Self { mode: 0o777, uid: 0, gid: 0 }
    }
}

/// The parameters of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parameters {
    /// Which root; may be left out when there is just one.
    pub root: Option<String>,
    /// Where beneath the root, with its variables filled in.
    pub sub_dir: Option<String>,
    /// Whether modes of several nodes are allowed, for the pods of the volume's one node.
    pub node_sharing: bool,
    /// Owner and permission bits.
    pub owner: Owner,
    /// What DeleteVolume does.
    pub on_delete: OnDelete,
    /// All of the above as it was asked, for comparison.
    pub asked: BTreeMap<String, String>,
}

impl Parameters {
    /// Parses the parameters of a request.
    ///
    /// # Errors
    /// INVALID_ARGUMENT, naming the parameter, for one that is unknown or has a value that makes no sense.
    pub fn parse(parameters: &HashMap<String, String>) -> Result<Self> {
        let mut parsed = Self::default();
        let bytes: usize = parameters.iter().map(|(key, value)| key.len() + value.len()).sum();
        if bytes > MAX_BYTES {
            return Err(Error::invalid("parameters", format!("have {bytes} bytes, {MAX_BYTES} are allowed")));
        }
        for (key, value) in parameters {
            if key.starts_with(SIDECAR_PREFIX) {
                continue;
            }
            let bad = |why: String| Error::invalid(format!("parameters.{key}"), why);
            match key.as_str() {
                "root" => parsed.root = Some(value.clone()),
                "subDir" => parsed.sub_dir = Some(expand(value, parameters).map_err(bad)?),
                "nodeSharing" => {
                    parsed.node_sharing = match value.as_str() {
                        "true" => true,
                        "false" => false,
                        _ => return Err(bad(format!("{value:?} is neither \"true\" nor \"false\""))),
                    }
                }
                "mode" => parsed.owner.mode = permission_bits(value).map_err(bad)?,
                "uid" => parsed.owner.uid = user_id(value).map_err(bad)?,
                "gid" => parsed.owner.gid = user_id(value).map_err(bad)?,
                "onDelete" => {
                    parsed.on_delete = match value.as_str() {
                        "delete" => OnDelete::Delete,
                        "retain" => OnDelete::Retain,
                        "archive" => OnDelete::Archive,
                        _ => return Err(bad(format!("{value:?} is none of delete, retain, archive"))),
                    }
                }
                _ => {
                    let known = format!("known are {}", KNOWN.join(", "));
                    return Err(bad(format!("is not known{}; {known}", nearest(key))));
                }
            }
            parsed.asked.insert(key.clone(), value.clone());
        }
        Ok(parsed)
    }
}

fn nearest(key: &str) -> String {
    let distance = |known: &str| strsim::osa_distance(&key.to_lowercase(), &known.to_lowercase());
    let closest = KNOWN.into_iter().min_by_key(|known| distance(known));
    match closest {
        Some(known) if distance(known) <= 3 => format!(": is {known} meant?"),
        _ => String::new(),
    }
}

/// Fills in the variables of a `subDir`. A value is one component: a slash in it is refused, whoever wrote it.
fn expand(template: &str, parameters: &HashMap<String, String>) -> Result<String, String> {
    let mut path = String::new();
    let mut rest = template;
    while let Some(start) = rest.find("${") {
        path.push_str(&rest[..start]);
        let end = rest[start..].find('}').ok_or(format!("{template:?} has a ${{ without a }}"))? + start + 1;
        let variable = &rest[start..end];
        let Some((_, key)) = VARIABLES.iter().find(|(name, _)| *name == variable) else {
            let known: Vec<_> = VARIABLES.iter().map(|(name, _)| *name).collect();
            return Err(format!("{variable} is not known; known are {}", known.join(", ")));
        };
        let value = parameters.get(*key).ok_or(format!(
            "{variable} has no value: the external-provisioner sends it with --extra-create-metadata"
        ))?;
        if value.is_empty() || value.contains('/') || value == "." || value == ".." {
            return Err(format!("{variable} is {value:?}, which is no name of a directory"));
        }
        path.push_str(value);
        rest = &rest[end..];
    }
    path.push_str(rest);
    check_new_path(&path)?;
    Ok(path)
}

fn permission_bits(value: &str) -> Result<u32, String> {
    let bits = u32::from_str_radix(value, 8).ok().filter(|_| value.bytes().all(|b| b.is_ascii_digit()));
    match bits {
        Some(bits) if bits <= 0o7777 && value.len() >= 3 => Ok(bits),
        _ => Err(format!("{value:?} is no octal mode such as \"0770\"")),
    }
}

fn user_id(value: &str) -> Result<u32, String> {
    let id =
        value.parse::<u32>().ok().filter(|id| *id != u32::MAX && value.bytes().all(|b| b.is_ascii_digit()));
    id.ok_or(format!("{value:?} is no user or group id (0 to 4294967294)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<Parameters> {
        Parameters::parse(&pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect())
    }

    #[test]
    fn all_known_parameters_are_taken() {
        let parsed = parse(&[
            ("root", "ssd"),
            ("subDir", "a/b"),
            ("nodeSharing", "true"),
            ("mode", "0750"),
            ("uid", "1000"),
            ("gid", "100"),
            ("onDelete", "archive"),
        ])
        .unwrap();
        assert_eq!(parsed.root.as_deref(), Some("ssd"));
        assert_eq!(parsed.sub_dir.as_deref(), Some("a/b"));
        assert!(parsed.node_sharing);
        assert_eq!(parsed.owner, Owner { mode: 0o750, uid: 1000, gid: 100 });
        assert_eq!(parsed.on_delete, OnDelete::Archive);
        assert_eq!(parsed.asked.len(), 7);
    }

    #[test]
    fn an_unknown_parameter_is_refused_with_the_nearest_known_one() {
        for (key, word) in [
            ("subdir", "is subDir meant?"),
            ("onDelet", "is onDelete meant?"),
            ("rot", "is root meant?"),
            ("reclaimPolicyOfMine", "known are root"),
        ] {
            let error = parse(&[(key, "x")]).unwrap_err().to_string();
            assert!(error.contains(&format!("parameters.{key}")) && error.contains(word), "{error}");
        }
    }

    #[test]
    fn values_that_make_no_sense_are_refused_by_name() {
        for (key, value) in [
            ("nodeSharing", "yes"),
            ("mode", "rwx"),
            ("mode", "77777"),
            ("mode", "9"),
            ("mode", "+77"),
            ("uid", "-1"),
            ("uid", "4294967295"),
            ("gid", "users"),
            ("gid", "+5"),
            ("onDelete", "keep"),
            ("subDir", ""),
            ("subDir", "../x"),
            ("subDir", "/x"),
            ("subDir", ".berth"),
            ("subDir", "."),
            ("subDir", "${pvc"),
            ("subDir", "${pod.name}"),
            ("subDir", "${pvc.metadata.name}"),
        ] {
            let error = parse(&[(key, value)]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("parameters.{key}: ")), "{error}");
        }
    }

    #[test]
    fn keys_of_the_sidecars_are_understood_and_not_recorded() {
        let parsed = parse(&[
            ("subDir", "${pvc.metadata.namespace}/${pvc.metadata.name}-x"),
            ("csi.storage.k8s.io/pvc/name", "data"),
            ("csi.storage.k8s.io/pvc/namespace", "shop"),
            ("csi.storage.k8s.io/new-in-a-later-sidecar", "z"),
        ])
        .unwrap();
        assert_eq!(parsed.sub_dir.as_deref(), Some("shop/data-x"));
        assert_eq!(parsed.asked.len(), 1);
    }

    #[test]
    fn a_variable_cannot_smuggle_a_path_in() {
        for value in ["../x", "a/b", "..", ".", ""] {
            let pairs = [("subDir", "x/${pvc.metadata.name}"), ("csi.storage.k8s.io/pvc/name", value)];
            assert!(parse(&pairs).is_err(), "{value:?}");
        }
    }
}
