//! All groups of trials.

mod both;
mod examples;
mod local;
mod nfs;

use crate::runner::Group;

/// The long ones first, so that none is alone at the end.
pub const GROUPS: &[Group] = &[nfs::GROUP, examples::BOTH, local::GROUP];
