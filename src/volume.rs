//! What a volume is: its record, and when two requests mean the same one.
//!
//! Values and rules only, no I/O. The path of its data lies in the record, with the *incarnation* behind it, a
//! random suffix of each creation; so a new volume never meets a directory that exists, and a late step of an
//! earlier life never meets a later one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::access::{Mode, Publication, Verdict, admit_node};
use crate::id::{Incarnation, RecordName};
use crate::parameters::{OnDelete, Owner};

/// Where a volume is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It exists: its tree is in its place, or about to be renamed there.
    Live,
    /// Its deletion is decided: whoever finds this record finishes it.
    Deleting,
}

/// The record of a volume, as it stands on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// [`Volume::FORMAT`].
    pub format: u32,
    /// The CO's name, as it was given.
    pub name: String,
    /// Which creation this is.
    pub incarnation: Incarnation,
    /// Which attempt wrote this generation: tells a lost answer from a lost race.
    pub nonce: String,
    /// Where it is in its life.
    pub state: State,
    /// Its data lies at `<path>.<incarnation>` beneath the root.
    pub path: String,
    /// The size given, in bytes; 0 when none was asked for.
    pub capacity_bytes: i64,
    /// The modes that it was created with; a publication may be narrower, never wider.
    pub modes: Vec<Mode>,
    /// Who owns the data directory, and its permission bits.
    pub owner: Owner,
    /// What DeleteVolume does with the data.
    pub on_delete: OnDelete,
    /// The parameters of the request, without those that the sidecars add.
    pub parameters: BTreeMap<String, String>,
    /// Whether the data existed before Berth: it lies at `path` itself, and is never touched.
    #[serde(default, skip_serializing_if = "is_false")]
    pub adopted: bool,
    /// The mount options that the StorageClass gave, as nfs(5) spells them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mount_options: Vec<String>,
    /// Who may have the volume now. Every node that can write is here, at every instant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub admitted: Vec<Admitted>,
}

/// A node that ControllerPublishVolume admitted, until ControllerUnpublishVolume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admitted {
    /// The node's name, as the CO knows it.
    pub node_id: String,
    /// By which of several handles of the same existing directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// How.
    pub mode: Mode,
    /// Whether it may only read.
    pub read_only: bool,
}

impl Admitted {
    /// As the rules see it.
    pub fn publication(&self) -> Publication {
        Publication {
            at: self.node_id.clone(),
            mode: Some(self.mode),
            read_only: self.read_only,
            arguments: self.alias.iter().map(|alias| ("alias".to_string(), alias.clone())).collect(),
        }
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

impl Volume {
    /// The newest format of records that this Berth knows.
    pub const FORMAT: u32 = 1;

    /// The record that existing data at `path` gets with its first publication.
    pub fn of_existing(path: &str, incarnation: Incarnation, nonce: String) -> Self {
        Self {
            format: Self::FORMAT,
            name: format!("={path}"),
            incarnation,
            nonce,
            state: State::Live,
            path: path.to_string(),
            capacity_bytes: 0,
            modes: Mode::ALL.into(),
            owner: Owner::default(),
            on_delete: OnDelete::Retain,
            parameters: BTreeMap::new(),
            adopted: true,
            mount_options: Vec::new(),
            admitted: Vec::new(),
        }
    }

    /// The name of the record.
    pub fn record_name(&self) -> RecordName {
        if self.adopted { RecordName::adopted(&self.path) } else { RecordName::of(&self.name) }
    }

    /// Where the data lies, beneath the root.
    pub fn data_path(&self) -> String {
        if self.adopted { self.path.clone() } else { format!("{}.{}", self.path, self.incarnation) }
    }

    /// Whether a node may be admitted beside those that are.
    pub fn admit(&self, wanted: &Admitted) -> Verdict {
        let existing: Vec<_> = self.admitted.iter().map(Admitted::publication).collect();
        admit_node(&existing, &wanted.publication())
    }

    /// The nodes that are admitted, each once.
    pub fn nodes(&self) -> Vec<String> {
        let mut nodes: Vec<_> = self.admitted.iter().map(|admitted| admitted.node_id.clone()).collect();
        nodes.sort();
        nodes.dedup();
        nodes
    }

    /// Whether the volume may be published in `mode`.
    pub fn allows(&self, mode: Mode) -> bool {
        self.modes.iter().any(|granted| mode.within(*granted))
    }
}

/// What a CreateVolume asks for, with every default filled in.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The CO's name.
    pub name: String,
    /// At least so many bytes; 0 when it does not matter.
    pub required_bytes: i64,
    /// At most so many bytes; 0 when it does not matter.
    pub limit_bytes: i64,
    /// Every mode that is asked for.
    pub modes: Vec<Mode>,
    /// The path beneath the root, without the incarnation.
    pub path: String,
    /// Who owns the data directory, and its permission bits.
    pub owner: Owner,
    /// What DeleteVolume does with the data.
    pub on_delete: OnDelete,
    /// The parameters, without those that the sidecars add.
    pub parameters: BTreeMap<String, String>,
    /// The mount options, as nfs(5) spells them.
    pub mount_options: Vec<String>,
}

impl Wanted {
    /// The record of a volume that is born of this request.
    pub fn born(&self, incarnation: Incarnation, nonce: String) -> Volume {
        Volume {
            format: Volume::FORMAT,
            name: self.name.clone(),
            incarnation,
            nonce,
            state: State::Live,
            path: self.path.clone(),
            capacity_bytes: if self.required_bytes > 0 { self.required_bytes } else { self.limit_bytes },
            modes: self.modes.clone(),
            owner: self.owner,
            on_delete: self.on_delete,
            parameters: self.parameters.clone(),
            adopted: false,
            mount_options: self.mount_options.clone(),
            admitted: Vec::new(),
        }
    }

    /// The argument in which this request differs from the volume that has its name, with both values
    /// (CreateVolume: "Volume already exists but is incompatible").
    pub fn mismatch(&self, found: &Volume) -> Option<String> {
        if self.name != found.name {
            return Some(format!("name ({:?})", found.name));
        }
        let size = found.capacity_bytes;
        if size < self.required_bytes || (self.limit_bytes > 0 && size > self.limit_bytes) {
            return Some(format!(
                "capacity_range (it has {size} bytes, now required {} and limit {})",
                self.required_bytes, self.limit_bytes
            ));
        }
        if let Some(mode) = self.modes.iter().find(|mode| !found.allows(**mode)) {
            let given: Vec<_> = found.modes.iter().map(Mode::to_string).collect();
            return Some(format!("access_mode ({}, now {mode})", given.join(", ")));
        }
        let keys = found.parameters.keys().chain(self.parameters.keys());
        for key in keys {
            let (a, b) = (found.parameters.get(key), self.parameters.get(key));
            if a != b {
                let text = |value: Option<&String>| value.map_or("none".to_string(), |v| format!("{v:?}"));
                return Some(format!("parameters.{key} ({}, now {})", text(a), text(b)));
            }
        }
        if self.mount_options != found.mount_options {
            // What follows an option's name may be a credential.
            return Some("mount_flags".to_string());
        }
        (self.path != found.path).then(|| format!("subDir ({:?}, now {:?})", found.path, self.path))
    }
}
