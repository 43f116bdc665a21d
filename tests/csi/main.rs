//! Everything that an orchestrator can observe: RPCs over the real socket of the real binary, real mounts.
//!
//! Each test has a mount namespace, a root and a driver of its own; see [`rig`]. Run as an unprivileged user, the
//! whole binary has to be started in a user namespace, which the Makefile does.

#![allow(unreachable_pub, missing_docs, clippy::unwrap_used, clippy::disallowed_methods)]

mod access;
mod adopted;
mod again;
mod capabilities;
mod capacity;
mod concurrency;
mod crash;
mod disks;
mod expand;
mod flags;
mod full_disk;
mod given_up;
mod halfway;
mod hostile;
mod ids;
mod lifecycle;
mod listing;
mod looking;
mod midway;
mod model;
mod names;
mod on_delete;
mod ownership;
mod parameters;
mod races;
mod records;
mod rig;
mod root_names;
mod roots;
mod scene;
mod state;
mod stats;
mod storm;
mod sub_dir;
mod targets;
mod unpublish;
mod whose;
