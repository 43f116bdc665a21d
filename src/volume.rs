//! What a volume is: its record, and when two requests mean the same one.
//!
//! Values and rules only, no I/O. The path of its data lies in the record, with the *incarnation* behind it, a
//! random suffix of each creation; so a new volume never meets a directory that exists, and a late step of an
//! earlier life never meets a later one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::access::Mode;
use crate::id::Incarnation;
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
}

impl Volume {
    /// The newest format of records that this Berth knows.
    pub const FORMAT: u32 = 1;

    /// Where the data lies, beneath the root.
    pub fn data_path(&self) -> String {
        format!("{}.{}", self.path, self.incarnation)
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
        (self.path != found.path).then(|| format!("subDir ({:?}, now {:?})", found.path, self.path))
    }
}
