//! All groups of trials.

mod conformance;
mod controllers;
mod dead_server;
mod existing;
pub mod harness;
mod local;
mod modes;
mod nfs;
mod nodes;
mod round_trips;
mod server;
mod shares;

use crate::host::{Host, Spec};
use crate::runner::Group;

/// The long ones first, so that none is alone at the end.
pub const GROUPS: &[Group] = &[
    dead_server::GROUP,
    controllers::GROUP,
    harness::GROUP,
    server::GROUP,
    local::GROUP,
    nfs::GROUP,
    shares::GROUP,
    nodes::GROUP,
    modes::GROUP,
    existing::GROUP,
    conformance::GROUP,
    round_trips::GROUP,
];

/// An NFS server with a disk of 600 MiB, 10.99.0.1; `/srv/nfs` of it is for exports.
pub const SERVER: Spec =
    Spec { name: "srv", number: 1, memory: 128, disks: &[600], at_boot: crate::server::start };

/// A node without disks, 10.99.0.2.
pub const NODE_A: Spec = Spec { name: "node-a", number: 2, memory: 128, disks: &[], at_boot: nothing };

/// A node without disks, 10.99.0.3.
pub const NODE_B: Spec = Spec { name: "node-b", number: 3, memory: 128, disks: &[], at_boot: nothing };

fn nothing(_: &Host) {}
