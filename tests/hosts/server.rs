//! The NFS server on a host: the kernel's own, with its state on the disk /dev/ubda, so that a crash is a crash.

use crate::host::Host;

/// Where the disk is mounted: `/srv/nfs` is what is exported, `/srv/state` is the server's.
const DISK: &str = "/srv";

/// What every export has.
const OPTIONS: &str = "rw,sync,no_root_squash,no_subtree_check,sec=sys";

/// exportfs does not see to it that its table outlasts a crash.
const SYNC: &str = "sync -f /var/lib/nfs/etab";

/// Mounts the server's disk, an XFS that is made at the first boot, and starts the server; the exports of the last boot are there
/// again. It is what [`crate::host::Spec::at_boot`] of a server calls.
#[track_caller]
pub fn start(host: &Host) {
    mount_disk(host, "xfs", "/dev/ubda", DISK);
    host.run(&format!("mkdir -p {DISK}/nfs && /share/nfsd.sh {DISK}/state"));
}

/// Mounts a disk of a host, and makes a file system there first if there is none.
#[track_caller]
pub fn mount_disk(host: &Host, kind: &str, device: &str, at: &str) {
    let quiet = if kind == "xfs" { "-q" } else { "-qF" };
    host.run(&format!(
        "blkid -p {device} >/run/blkid || mkfs.{kind} {quiet} {device}; mkdir -p {at} && mount -t {kind} {device} {at}"
    ));
}

/// Makes a directory of the disk, and exports it to a client: an address, a network or `*`. `options` come on top; where they
/// contradict the usual ones they win.
#[track_caller]
pub fn export(host: &Host, directory: &str, client: &str, options: &str) {
    let all = [OPTIONS, options].join(",");
    let all = all.trim_end_matches(',');
    host.run(&format!("mkdir -p '{directory}' && exportfs -o '{all}' '{client}:{directory}' && {SYNC}"));
}

/// Takes an export back from a client.
#[track_caller]
pub fn unexport(host: &Host, directory: &str, client: &str) {
    host.run(&format!("exportfs -u '{client}:{directory}' && {SYNC}"));
}

/// The server's threads end; its host goes on, and refuses connections.
#[track_caller]
pub fn stop(host: &Host) {
    host.run("rpc.nfsd 0");
}

/// Threads again.
#[track_caller]
pub fn resume(host: &Host) {
    host.run("rpc.nfsd 4");
}

/// After a boot the server waits ten seconds for clients that want their locks and open files back. Where a trial has none, it ends
/// that here.
#[track_caller]
pub fn end_grace(host: &Host) {
    host.run("for end in nfsd/v4_end_grace lockd/nlm_end_grace; do echo Y >/proc/fs/$end; done");
}
