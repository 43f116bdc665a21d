//! A cluster for a developer, with a `kubectl`.

use std::process::Stdio;

use crate::cluster::{Cluster, Kind};
use crate::runner;

/// Brings a cluster up, and a shell in it; both end together.
pub fn serve(words: &[String]) -> Result<(), String> {
    let kind = match words.first().map(String::as_str) {
        None | Some("local") => Kind::Local,
        Some("nfs") => Kind::Nfs,
        Some(other) => return Err(format!("{other}: there are clusters for `local` and `nfs`")),
    };
    println!(
        "bringing up a control plane, two nodes and berth {}...",
        words.first().map_or("local", |word| word)
    );
    let cluster = runner::caught(|| Cluster::new(kind, &[]))?;
    println!("{}", cluster.k("get nodes,pods -A -o wide"));
    println!("\nkubectl is yours, and node-a and node-b; `exit` ends all of it.");
    println!(
        "Logs lie in {}; `kubectl apply -f examples/...` is a beginning.\n",
        cluster.control.top.display()
    );
    let mut shell = cluster.within(&["bash", "--norc", "-i"]);
    shell.current_dir(crate::cluster::TOP).envs(cluster.environment("default")).env("PS1", "cluster$ ");
    shell.stdin(Stdio::inherit()).status().map(drop).map_err(|error| error.to_string())
}
