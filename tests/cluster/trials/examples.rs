//! The READMEs of `examples/`, played word by word.

use crate::cluster::{Cluster, Kind, SHARE, TOP};
use crate::console;
use crate::runner::{Group, Trial};
use crate::trials;

/// The trial that plays an example.
macro_rules! example {
    ($folder:literal) => {
        Trial { name: concat!("example ", $folder), run: |cluster| play(cluster, $folder) }
    };
}

/// Those of `berth local`.
pub const LOCAL: &[Trial] = &[
    example!("statefulset"),
    example!("reclaim"),
    example!("deployment"),
    example!("dynamic"),
    example!("read-write-once-pod"),
    example!("many-pods"),
];

/// Those of `berth nfs`, where the share has what [`fill`] puts there.
pub const NFS: &[Trial] = &[
    example!("postgresql"),
    example!("two-namespaces"),
    example!("backup"),
    example!("read-write-once"),
    example!("fill-then-serve"),
    example!("read-only-many"),
    example!("log-directory"),
    example!("read-write-many"),
    example!("static-binding"),
    example!("expansion"),
];

/// This one installs Berth itself, with both drivers.
pub const BOTH: Group = Group {
    name: "examples of both drivers",
    start: || {
        let cluster = Cluster::bare(Kind::Nfs, &["pods", "berth"]);
        for node in &cluster.nodes {
            node.run(DISKS);
        }
        cluster
    },
    together: (1, &[&[example!("roots-by-class")]]),
    alone: trials![],
};

/// Two disks of a node; what is mounted on a host is seen in its pods.
const DISKS: &str = "mount -t tmpfs none /mnt && mount --make-rshared /mnt && mkdir /mnt/ssd /mnt/hdd &&
    mount -t tmpfs none /mnt/ssd && mount -t tmpfs none /mnt/hdd";

/// Puts on the share what was there before Berth came.
pub fn fill(cluster: &Cluster) {
    cluster.server().run(EXISTING);
}

const EXISTING: &str = "cd /srv/nfs/main && mkdir -p photos projects films/short films/long films/archive
    echo hello >photos/hello.txt; echo a short film >films/short/title; echo a long film >films/long/title
    echo an old film >films/archive/title; chmod 777 projects";

/// Plays an example as a user does who has a namespace; nothing of it may be left.
fn play(cluster: &Cluster, folder: &str) {
    let space = cluster.space(folder);
    let mut shell = cluster.within(&["bash", "--norc"]);
    shell.current_dir(TOP).envs(cluster.environment(&space.name)).env("NAS", SHARE);
    let readme = std::path::Path::new("examples").join(folder).join("README.md");
    if let Err(why) = console::play(&readme, shell) {
        let mut said = space.try_k("get events --sort-by=.lastTimestamp").unwrap_or_default();
        for pod in space.try_k("get pods -o name").unwrap_or_default().lines() {
            said += &space
                .try_k(&format!("logs {pod} --prefix --timestamps --tail=20"))
                .unwrap_or_else(|why| why);
        }
        panic!("{why}\n{said}");
    }
    cluster.wait_for("nothing of it to be left", || {
        let of_claims = "get pv -o jsonpath={.items[*].spec.claimRef.namespace}";
        let has_volumes = cluster.k(of_claims).split(' ').any(|namespace| namespace == space.name);
        !has_volumes
            && space
                .k("get pods,persistentvolumeclaims,deployments,statefulsets,jobs,cronjobs -o name")
                .is_empty()
    });
}
