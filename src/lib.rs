//! Berth: a CSI driver for directories whose access modes are true.
//!
//! # The map
//!
//! ```text
//! main                       flags, log, the process
//! server socket identity     the edge: the socket, async to blocking, deadlines, the request log, panics, the end
//! registration authority     the kubelet is told who is here, in a way that its calls can be read
//! probe                      a command that asks a driver whether all is well
//! controller/ node/          one function for each RPC; they read top to bottom
//! messages                   what several RPCs read from messages or write into them
//! driver                     what every RPC may touch
//! store guard publications   records of volumes, who works on what, what is mounted here
//! backend/                   roots and the trees in them
//! access id path volume parameters mount_options error
//!                            the rules: values and pure functions
//! sys/                       the kernel: files, mounts, deletion; it has never heard of a volume
//! csi                        generated from proto/csi.proto
//! ```
//!
//! Imports go downwards only: `main → server → controller, node, identity → driver → store, publications, backend →
//! sys`; the rules import nothing but each other. `tests/tidy.rs` holds this. A CreateVolume goes
//! `server → controller/volume → backend → sys`, a NodePublishVolume `server → node/publish → backend →
//! sys/mount`: four files deep.
//!
//! # Six ideas that carry everything
//!
//! 1. An RPC is a plain synchronous function, run to its end on a blocking thread. Async lives at the edge alone,
//!    for when a client's deadline passes, its future is dropped, and half-done work must not be.
//! 2. First the record, then reality, and both only roll forward. The CO's retry is the only engine: no undo, no
//!    journal. Nothing outside `.berth/` is ever deleted.
//! 3. The guard is an argument, the record is a compare-and-swap: between processes there is no lock.
//! 4. Access modes are one table and one pure function, [`access::admit`].
//! 5. A backend answers a handful of questions; where there is only one, there is no abstraction.
//! 6. [`sys`] is the kernel, and the only folder with `unsafe`.
//!
//! # Words
//!
//! CSI's and Linux's own, and four of ours:
//! - a *root* is a directory, of a node or of a server, that the administrator gave a name: there volumes lie;
//! - a *record* is the file that says that a volume exists, and how;
//! - a *guard* is the right to change one volume, in this process;
//! - an *incarnation* is the random name of one creation of a volume.

#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod access;
mod authority;
pub mod backend;
mod controller;
pub mod csi;
pub mod driver;
pub mod error;
pub mod guard;
pub mod id;
mod identity;
pub mod messages;
pub mod mount_options;
mod node;
pub mod parameters;
pub mod path;
pub mod probe;
pub mod publications;
pub mod registration;
pub mod server;
pub mod socket;
pub mod store;
#[allow(unsafe_code)]
pub mod sys;
pub mod volume;
