//! All groups of trials.

mod examples;
mod local;

use crate::runner::Group;

/// The long ones first, so that none is alone at the end.
pub const GROUPS: &[Group] = &[examples::LOCAL, local::GROUP];
