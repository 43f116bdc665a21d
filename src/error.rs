//! What can go wrong, in the spec's words, and the one gRPC code for each.
//!
//! A variant is a *condition that a caller can act on*, never a failing line: what was being done, to which
//! path, travels in the message. Messages say what, where, why, and what to do when there is one thing to do.
//!
//! The codes decide what the sidecars and kubelet do next (`checkError` of the external provisioner): ABORTED
//! pins a claim to its node and is repeated, RESOURCE_EXHAUSTED lets another node be tried, everything else is
//! a failure that is retried afresh. So ABORTED is said only while Berth really still works, or another caller
//! got ahead, and UNAVAILABLE, DEADLINE_EXCEEDED, CANCELLED and UNKNOWN never leave the driver.

use std::io;

use nix::errno::Errno;
use tonic::Code;

/// What every fallible function of Berth returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A condition that a caller can act on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request is malformed, or asks for what this driver never does.
    #[error("{field}: {why}")]
    InvalidArgument {
        /// The field of the request, as the spec spells it.
        field: String,
        /// What is wrong, and what would be right.
        why: String,
    },
    /// What the request names does not exist (any more, or ever).
    #[error("{what} does not exist{why}")]
    NotFound {
        /// The volume, path or node.
        what: String,
        /// Empty, or how that is known, beginning with a separator.
        why: String,
    },
    /// The same name or the same place, with other arguments.
    #[error("{what} exists already with another {differs}")]
    AlreadyExists {
        /// The volume or the target path.
        what: String,
        /// The argument that differs, with both values.
        differs: String,
    },
    /// The access mode of the volume leaves no room beside those who hold it.
    #[error("{what} is in use: {by}")]
    InUse {
        /// The volume.
        what: String,
        /// Who holds it, where, in which mode.
        by: String,
    },
    /// The state of things forbids it, and a repetition alone will not help.
    #[error("{what}: {why}")]
    Refused {
        /// What was to be done, or to what.
        what: String,
        /// Why not, and what to do.
        why: String,
    },
    /// The record does not admit this node.
    #[error("{what}: {why}")]
    NotAdmitted {
        /// What was to be done with which volume.
        what: String,
        /// Which node this is, and who is admitted.
        why: String,
    },
    /// A server does not answer. What it was asked may still come to pass.
    #[error("{what}: {why}")]
    Silent {
        /// What it was asked, and where it is.
        what: String,
        /// How long was waited, or who waits already.
        why: String,
    },
    /// A root cannot be used now: missing, not mounted, another's, unreadable.
    #[error("root {root}: {why}")]
    RootUnusable {
        /// The root's name.
        root: String,
        /// Why, and what to do.
        why: String,
    },
    /// Another call is at work on the same thing, or got ahead; the same call may be repeated.
    #[error("{what}: {why}")]
    Pending {
        /// The volume or target path.
        what: String,
        /// Who is at work.
        why: String,
    },
    /// ListVolumes was given a `starting_token` that no answer of ours holds.
    #[error("starting_token {token:?} was not given by this driver: list from the beginning")]
    BadToken {
        /// The token as it came.
        token: String,
    },
    /// Not on this node: no room, the root is missing here, or the topology names another.
    #[error("{what}: {why}")]
    NoSpace {
        /// What was to be created.
        what: String,
        /// What is lacking, with figures.
        why: String,
    },
    /// No node could ever serve this capacity.
    #[error("capacity_range: {why}")]
    OutOfRange {
        /// The bound that is passed.
        why: String,
    },
    /// A record that cannot be believed. One such record is one bad volume, never a failed start.
    #[error("record {path}: {why}")]
    BadRecord {
        /// The file.
        path: String,
        /// What is wrong with it, and what to do.
        why: String,
    },
    /// The kernel or the disk refused.
    #[error("{doing}: {source}")]
    Io {
        /// The step and the path.
        doing: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl Error {
    /// INVALID_ARGUMENT for `field`.
    pub fn invalid(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self::InvalidArgument { field: field.into(), why: why.into() }
    }

    /// NOT_FOUND for `what`.
    pub fn not_found(what: impl Into<String>) -> Self {
        Self::NotFound { what: what.into(), why: String::new() }
    }

    /// A failed system call while `doing` something to a path.
    pub fn io(doing: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Io { doing: doing.into(), source: source.into() }
    }

    /// The errno of a failed system call; nothing for every other condition.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Io { source, .. } => source.raw_os_error().map(Errno::from_raw),
            Self::InvalidArgument { .. }
            | Self::NotFound { .. }
            | Self::AlreadyExists { .. }
            | Self::InUse { .. }
            | Self::Refused { .. }
            | Self::NotAdmitted { .. }
            | Self::Silent { .. }
            | Self::RootUnusable { .. }
            | Self::Pending { .. }
            | Self::BadToken { .. }
            | Self::NoSpace { .. }
            | Self::OutOfRange { .. }
            | Self::BadRecord { .. } => None,
        }
    }

    /// Whether a system call failed because there is no such name.
    pub fn is_missing(&self) -> bool {
        self.errno() == Some(Errno::ENOENT)
    }

    /// Whether a system call failed because a name or an open directory leads nowhere. Of a server the latter (ESTALE) may
    /// also mean that it does not export the share at this moment; so it is good for another look and for no decision.
    pub fn is_gone(&self) -> bool {
        matches!(self.errno(), Some(Errno::ENOENT | Errno::ESTALE))
    }

    /// The gRPC code: one for each condition.
    pub fn code(&self) -> Code {
        match self {
            Self::InvalidArgument { .. } => Code::InvalidArgument,
            Self::NotFound { .. } => Code::NotFound,
            Self::AlreadyExists { .. } => Code::AlreadyExists,
            Self::InUse { .. }
            | Self::Refused { .. }
            | Self::NotAdmitted { .. }
            | Self::RootUnusable { .. } => Code::FailedPrecondition,
            Self::Pending { .. } | Self::Silent { .. } | Self::BadToken { .. } => Code::Aborted,
            Self::NoSpace { .. } => Code::ResourceExhausted,
            Self::OutOfRange { .. } => Code::OutOfRange,
            Self::BadRecord { .. } => Code::Internal,
            Self::Io { .. } => match self.errno() {
                Some(Errno::ENOSPC | Errno::EDQUOT) => Code::ResourceExhausted,
                _ => Code::Internal,
            },
        }
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        tonic::Status::new(error.code(), error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_of_each() -> Vec<Error> {
        let (what, why) = (|| "x".to_string(), || "y".to_string());
        vec![
            Error::invalid("name", "is empty"),
            Error::not_found("x"),
            Error::AlreadyExists { what: what(), differs: why() },
            Error::InUse { what: what(), by: why() },
            Error::Refused { what: what(), why: why() },
            Error::NotAdmitted { what: what(), why: why() },
            Error::Silent { what: what(), why: why() },
            Error::RootUnusable { root: what(), why: why() },
            Error::Pending { what: what(), why: why() },
            Error::BadToken { token: what() },
            Error::NoSpace { what: what(), why: why() },
            Error::OutOfRange { why: why() },
            Error::BadRecord { path: what(), why: why() },
            Error::io("x", Errno::EIO),
            Error::io("x", Errno::ENOSPC),
        ]
    }

    #[test]
    fn codes_that_park_a_claim_for_ever_never_leave_the_driver() {
        for error in one_of_each() {
            let code = error.code();
            assert!(
                !matches!(
                    code,
                    Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown | Code::Ok
                ),
                "{error}: {code:?}"
            );
        }
    }

    #[test]
    fn a_handle_that_is_stale_is_good_for_another_look_and_no_absence() {
        let (stale, absent) = (Error::io("open", Errno::ESTALE), Error::io("open", Errno::ENOENT));
        assert!(stale.is_gone() && !stale.is_missing());
        assert!(absent.is_gone() && absent.is_missing());
    }

    #[test]
    fn a_full_disk_sends_the_claim_to_another_node() {
        assert_eq!(Error::io("write", Errno::ENOSPC).code(), Code::ResourceExhausted);
        assert_eq!(Error::io("write", Errno::EDQUOT).code(), Code::ResourceExhausted);
        assert_eq!(Error::io("write", Errno::EIO).code(), Code::Internal);
    }

    #[test]
    fn a_message_says_what_was_done_and_what_the_kernel_said() {
        let error = Error::io("make directory /mnt/ssd/a", Errno::EROFS);
        assert_eq!(error.to_string(), "make directory /mnt/ssd/a: Read-only file system (os error 30)");
    }
}
