//! The generated interface, fenced in: its lints are off here and nowhere else.

#![allow(clippy::all, clippy::pedantic, missing_docs, unreachable_pub)]

tonic::include_proto!("csi.v1");
include!(concat!(env!("OUT_DIR"), "/redacted.rs"));
