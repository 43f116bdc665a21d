//! What a host's kernel has asked NFS servers, counted by procedure (/proc/net/rpc/nfs).
//!
//! /proc/self/mountstats has the same by mount, but not of a mount that is attached nowhere, as Berth's own are. What NFSv3
//! asks of mountd and rpcbind at a mount is in neither.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use crate::host::Host;

/// The procedures in the order of the kernel's counters (include/linux/nfs3.h, include/linux/nfs4.h). Of NFSv4 each is a
/// compound, named by what it is for.
const V3: &str = "null getattr setattr lookup access readlink read write create mkdir symlink mknod remove rmdir rename link \
    readdir readdirplus fsstat fsinfo pathconf commit";
const V4: &str = "null read write commit open open_confirm open_noattr open_downgrade close setattr fsinfo renew setclientid \
    setclientid_confirm lock lockt locku access getattr lookup lookup_root remove rename link symlink create pathconf statfs \
    readlink readdir server_caps delegreturn getacl setacl fs_locations release_lockowner secinfo fsid_present exchange_id \
    create_session destroy_session sequence get_lease_time reclaim_complete layoutget getdeviceinfo layoutcommit layoutreturn \
    secinfo_no_name test_stateid free_stateid getdevicelist bind_conn_to_session destroy_clientid seek allocate deallocate \
    layoutstats clone copy offload_cancel lookupp layouterror copy_notify getxattr setxattr listxattrs removexattr read_plus";

/// What comes with time, and not with a call: a lease is kept alive, a delegation that nobody uses any more is given back.
const OF_TIME: [&str; 3] = ["sequence", "renew", "delegreturn"];

/// How long nothing may be asked before a call's work is over, also what it leaves behind its answer.
const QUIET: Duration = Duration::from_millis(300);

/// Round trips by procedure.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct RoundTrips(pub BTreeMap<&'static str, u64>);

impl RoundTrips {
    /// What the kernel's file says, what comes with time left out.
    pub fn parse(text: &str) -> Self {
        let mut counts = BTreeMap::new();
        for line in text.lines() {
            let names = match line.split(' ').next() {
                Some("proc3") => V3,
                Some("proc4") => V4,
                _ => continue,
            };
            // The kernel's list may be longer or shorter than ours: versions add to its end.
            let values = line.split(' ').skip(2).map(|value| value.parse::<u64>().unwrap());
            for (name, value) in names.split_whitespace().zip(values) {
                if !OF_TIME.contains(&name) {
                    *counts.entry(name).or_default() += value;
                }
            }
        }
        Self(counts)
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// What came since `before`.
    fn since(&self, before: &Self) -> Self {
        let more = |(name, count): (&&'static str, &u64)| {
            (*name, count.saturating_sub(before.0.get(name).copied().unwrap_or(0)))
        };
        Self(self.0.iter().map(more).filter(|(_, count)| *count > 0).collect())
    }
}

impl std::fmt::Display for RoundTrips {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts: Vec<String> = self.0.iter().map(|(name, count)| format!("{count} {name}")).collect();
        f.write_str(&parts.join(", "))
    }
}

impl Host {
    /// All round trips of this boot so far.
    #[track_caller]
    fn round_trips(&self) -> RoundTrips {
        RoundTrips::parse(&self.run("cat /proc/net/rpc/nfs"))
    }

    /// The same, once nothing is under way.
    #[track_caller]
    fn settled(&self) -> RoundTrips {
        let mut before = self.round_trips();
        loop {
            thread::sleep(QUIET);
            let now = self.round_trips();
            if now == before {
                return now;
            }
            before = now;
        }
    }

    /// The round trips of each of these calls, with what it leaves to be done behind its answer. Nobody else may use NFS on
    /// the host meanwhile.
    #[track_caller]
    pub fn counting(&self, calls: &[&dyn Fn()]) -> Vec<RoundTrips> {
        let mut before = self.settled();
        let mut count = |call: &&dyn Fn()| {
            call();
            let after = self.settled();
            let found = after.since(&before);
            before = after;
            found
        };
        calls.iter().map(&mut count).collect()
    }
}
