//! All groups of trials.

mod both;
pub mod e2e;
mod examples;
mod local;
mod nfs;

use crate::runner::Group;

/// The long one first. Those that need kernels of their own as well come last: two clusters of them at once are slow while many
/// pods start, and by then the first one does one thing at a time.
pub const GROUPS: &[Group] = &[nfs::GROUP, local::GROUP, e2e::LOCAL, examples::BOTH, e2e::NFS];
