//! The READMEs of `examples/`, played word by word.

use crate::cluster::{Cluster, Kind, TOP};
use crate::console;
use crate::runner::{Group, Trial};
use crate::trials;

/// The trial that plays an example.
macro_rules! example {
    ($folder:literal) => {
        Trial { name: concat!("example ", $folder), run: |cluster| play(cluster, $folder) }
    };
}

pub const LOCAL: Group = Group {
    name: "examples of local",
    start: || Cluster::new(Kind::Local, &[]),
    together: (
        4,
        &[
            example!("statefulset"),
            example!("reclaim"),
            example!("deployment"),
            example!("dynamic"),
            example!("read-write-once-pod"),
            example!("many-pods"),
        ],
    ),
    alone: trials![],
};

/// Plays an example as a user does who has a namespace; nothing of it may be left.
fn play(cluster: &Cluster, folder: &str) {
    let space = cluster.space(folder);
    let mut shell = cluster.within(&["bash", "--norc"]);
    shell.current_dir(TOP).envs(cluster.environment(&space.name));
    let readme = std::path::Path::new("examples").join(folder).join("README.md");
    if let Err(why) = console::play(&readme, shell) {
        let events: Vec<String> = space.try_k("get events --sort-by=.lastTimestamp").into_iter().collect();
        panic!("{why}\n{}", events.join("\n"));
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
