//! The process: flags, the socket, signals, the log, as whoever starts it meets them. On the real binary.
//!
//! What takes long inside the driver is made to: strace holds up one of its system calls, as a slow disk would.

#![allow(unreachable_pub, missing_docs, clippy::unwrap_used, clippy::disallowed_methods)]

mod driver;
mod end;
mod flags;
mod log;
mod probe;
mod registration;
mod services;
mod socket;
