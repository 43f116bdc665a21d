//! All groups of trials.

mod both;
pub mod e2e;
mod examples;
mod local;
mod nfs;

use crate::runner::Group;

/// The long ones first, so that none is alone at the end.
pub const GROUPS: &[Group] = &[nfs::GROUP, e2e::NFS, examples::BOTH, e2e::LOCAL, local::GROUP];
