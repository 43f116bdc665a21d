//! Why a mount failed, for the one who can do something about it.

use std::net::SocketAddr;
use std::time::Duration;

use nix::errno::Errno;

use super::Source;
use crate::error::Error;

/// What came of an attempt.
#[derive(Debug)]
pub(super) enum Failure {
    /// The kernel or the server said no; `words` are what the kernel wrote about it.
    Refused { errno: Errno, words: String },
    /// No answer within this time.
    Silent(Duration),
    /// Nothing that has to do with the server.
    Other(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl Failure {
    /// A failure that the kernel has no words for.
    pub(super) fn of(errno: Errno) -> Self {
        Self::Refused { errno, words: String::new() }
    }

    /// Whether another version of the protocol may do better.
    pub(super) fn is_of_version(&self) -> bool {
        matches!(self, Self::Refused { errno: Errno::EPROTONOSUPPORT, .. })
    }

    /// Whether another address of the server may do better.
    pub(super) fn is_of_address(&self) -> bool {
        match self {
            Self::Refused { errno, .. } => *errno == Errno::ECONNREFUSED || is_silence(*errno),
            Self::Silent(_) => true,
            Self::Other(_) => false,
        }
    }

    /// The error, with what an administrator can do.
    pub(super) fn explain(self, source: &Source<'_>, address: &SocketAddr, version: &str) -> Error {
        let at = super::address::text(address);
        let what = format!("mount {source} with NFS {version}");
        let silent = |how: String| {
            let why = format!(
                "the server does not answer ({how}; address {at}): is it up, and does the network lead to \
                               it? The same call may be repeated"
            );
            Error::Silent { what: format!("mount {source}"), why }
        };
        let (errno, words) = match self {
            Self::Other(error) => return error,
            Self::Silent(patience) => {
                return silent(format!("nothing within {:.1} s", patience.as_secs_f32()));
            }
            Self::Refused { errno, words } => (errno, words),
        };
        let said = if words.is_empty() { errno.desc().into() } else { format!("{} ({words})", errno.desc()) };
        if is_silence(errno) {
            return silent(said);
        }
        let advice = match errno {
            Errno::ENOENT => "there is no such directory on the server, or it is not exported",
            Errno::EACCES => {
                "the server exports no such directory, or not to this node, or not with this security flavour (sec=)"
            }
            Errno::EPERM => {
                "the driver may not mount (it needs CAP_SYS_ADMIN), or the server refuses this security flavour (sec=) or source \
                 port (noresvport)"
            }
            // What Linux says when it finds no module for the version.
            Errno::EPROTONOSUPPORT if words.contains("Version unavailable") => {
                "this node's kernel does not have it: modprobe nfsv4 or nfsv3"
            }
            Errno::EPROTONOSUPPORT => "the server does not speak it: give another vers=, or none",
            Errno::ECONNREFUSED if version == "3" => {
                "no NFS service runs there; or no rpc.statd on this node, which locks of NFSv3 need: start it, or give \
                 nolock, with which locks hold on this node only"
            }
            Errno::ECONNREFUSED => "no NFS service runs there",
            Errno::ENODEV => "this node's kernel has no NFS client: modprobe nfs",
            Errno::EINVAL => {
                "the kernel does not take these options, or not together; sec=krb5 needs rpc.gssd on this node"
            }
            _ if words.is_empty() => return Error::io(what, errno),
            _ => return Error::io(format!("{what} ({words})"), errno),
        };
        Error::Refused { what: format!("{what}: {said}"), why: advice.into() }
    }
}

/// Whether an errno says that nothing came back. EIO is what a `soft` mount makes of it.
fn is_silence(errno: Errno) -> bool {
    use Errno::{EHOSTDOWN, EHOSTUNREACH, EIO, ENETDOWN, ENETUNREACH, ETIMEDOUT};
    matches!(errno, ETIMEDOUT | EIO | EHOSTUNREACH | EHOSTDOWN | ENETUNREACH | ENETDOWN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    fn explained(errno: Errno, words: &str, version: &str) -> (Code, String) {
        let (source, address) = (Source { server: "nas", path: "/x" }, ([10, 0, 0, 1], 0).into());
        let error = Failure::Refused { errno, words: words.into() }.explain(&source, &address, version);
        (error.code(), error.to_string())
    }

    #[test]
    fn a_refusal_tells_what_was_tried_what_the_kernel_said_and_what_to_do() {
        let (code, text) = explained(Errno::ENOENT, "NFS4: Couldn't follow remote path", "4.2");
        assert_eq!(code, Code::FailedPrecondition);
        assert_eq!(
            text,
            "mount nas:/x with NFS 4.2: No such file or directory (NFS4: Couldn't follow remote path): there is no such \
             directory on the server, or it is not exported"
        );
    }

    #[test]
    fn each_errno_that_a_server_was_seen_to_cause_has_its_advice() {
        for (errno, words, version, advice) in [
            (Errno::EACCES, "", "3", "exports no such directory"),
            (Errno::EPERM, "", "4.2", "noresvport"),
            (Errno::EPROTONOSUPPORT, "", "4.2", "the server does not speak it"),
            (Errno::EPROTONOSUPPORT, "NFS: Version unavailable", "4.2", "modprobe nfsv4"),
            (Errno::ECONNREFUSED, "", "3", "nolock"),
            (Errno::ECONNREFUSED, "", "4.2", "no NFS service runs there"),
            (Errno::ENODEV, "", "4.2", "modprobe nfs"),
            (Errno::EINVAL, "nfs4: Unknown parameter 'x'", "4.2", "Unknown parameter 'x'"),
        ] {
            let (code, text) = explained(errno, words, version);
            assert_eq!(code, Code::FailedPrecondition, "{errno}");
            assert!(text.contains(advice), "{errno}: {text}");
        }
        assert!(!explained(Errno::ECONNREFUSED, "", "4.2").1.contains("nolock"));
        assert_eq!(explained(Errno::EMFILE, "", "4.2").0, Code::Internal);
    }

    #[test]
    fn silence_is_not_a_refusal_and_the_next_address_may_do_better() {
        for errno in [Errno::ETIMEDOUT, Errno::EIO, Errno::EHOSTUNREACH, Errno::ENETUNREACH] {
            let (code, text) = explained(errno, "", "4.2");
            assert_eq!(code, Code::Aborted);
            assert!(text.starts_with("mount nas:/x: the server does not answer ("), "{text}");
            assert!(Failure::of(errno).is_of_address() && !Failure::of(errno).is_of_version());
        }
        assert!(Failure::of(Errno::ECONNREFUSED).is_of_address());
        assert!(!Failure::of(Errno::ENOENT).is_of_address() && !Failure::of(Errno::ENOENT).is_of_version());
        assert!(Failure::of(Errno::EPROTONOSUPPORT).is_of_version());
    }
}
