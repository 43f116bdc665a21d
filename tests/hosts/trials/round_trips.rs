//! How many round trips each RPC takes: exact, unlike times, so that one more is a failure. docs/performance.md says what each
//! is for.

use std::fmt::Write as _;

use berth::access::Mode;

use super::{NODE_A, SERVER};
use crate::cluster::{Share, clear};
use crate::fleet::Fleet;
use crate::host::Host;
use crate::round_trips::RoundTrips;
use crate::runner::Group;
use crate::trials;

const RWO: Mode = Mode::SingleNodeMultiWriter;

pub const GROUP: Group = Group {
    name: "round trips",
    hosts: &[SERVER, NODE_A],
    trials: trials![no_rpc_takes_more_round_trips_than_are_written_here],
};

/// The most of each RPC, for versions 4.2, 4.1, 4.0 and 3.
const MOST: [(&str, [u64; 4]); 9] = [
    ("CreateVolume", [20, 20, 20, 20]),
    ("CreateVolume, repeated", [11, 11, 11, 10]),
    ("ControllerPublishVolume", [30, 30, 29, 28]),
    ("NodePublishVolume", [50, 50, 50, 18]),
    ("NodePublishVolume, repeated", [11, 11, 10, 8]),
    ("NodeGetVolumeStats", [10, 10, 10, 9]),
    ("NodeUnpublishVolume", [0, 0, 0, 0]),
    ("ControllerUnpublishVolume", [26, 26, 25, 27]),
    ("DeleteVolume", [55, 55, 54, 50]),
];

fn no_rpc_takes_more_round_trips_than_are_written_here(fleet: &Fleet) {
    let host = fleet.host("node-a");
    let (mut table, mut exceeded) = (String::new(), Vec::new());
    for (column, version) in ["4.2", "4.1", "4.0", "3"].into_iter().enumerate() {
        clear(host);
        let share = Share::export(fleet, &format!("trips-{version}"), "");
        let driver = share.serve(host, &format!(",vers={version},nolock"));
        // Another publication keeps the server's client alive, as on a node that has any.
        let id = host.create("kept", RWO, &[]).unwrap();
        host.controller_publish(&id, "node-a", RWO).unwrap();
        host.publish(&id, "/pods/kept", RWO).unwrap();
        // What mount(2) takes of the same directory, without anything of ours.
        let data = share.data();
        let data = data.lines().find(|line| line.starts_with("./kept.")).unwrap().trim_start_matches("./");
        let kind = if version == "3" { "nfs" } else { "nfs4" };
        let source = format!("10.99.0.1:{}/{data}", share.path);
        let bare = format!(
            "mkdir -p /pods/bare && mount -i -t {kind} -o addr=10.99.0.1,vers={version},sec=sys,nolock {source} /pods/bare"
        );
        for found in host.counting(&[&|| drop(host.run(&bare))]) {
            let _ = writeln!(table, "       {version:3} {:28} {:3}: {found}", "mount(2)", found.total());
        }
        host.run("umount /pods/bare");
        // The first life on a mount has more to ask, and so has one that took so long that what is cached is too old.
        let lives = ["v-1", "v-2", "v-3"].map(|name| life(host, name));
        for (at, (rpc, most)) in MOST.iter().enumerate() {
            let found = lives.iter().map(|life| &life[at]).min_by_key(|found| found.total()).unwrap();
            let total = found.total();
            let _ = writeln!(table, "       {version:3} {rpc:28} {total:3}: {found}");
            if total > most[column] {
                exceeded.push(format!("{version} {rpc}: {total}, at most {} are due", most[column]));
            }
        }
        driver.stop();
    }
    print!("{table}");
    assert!(exceeded.is_empty(), "{}\n{table}", exceeded.join("\n"));
}

/// A volume's life, in the order of [`MOST`].
fn life(host: &Host, name: &str) -> Vec<RoundTrips> {
    let (id, target) = (format!("main/{name}"), format!("/pods/{name}"));
    let create = || drop(host.create(name, RWO, &[]).unwrap());
    let publish = || host.publish(&id, &target, RWO).unwrap();
    let calls: [&dyn Fn(); 9] = [
        &create,
        &create,
        &|| host.controller_publish(&id, "node-a", RWO).unwrap(),
        &publish,
        &publish,
        &|| drop(host.stats(&id, &target).unwrap()),
        &|| host.unpublish(&id, &target).unwrap(),
        &|| host.controller_unpublish(&id, "node-a").unwrap(),
        &|| host.delete(&id).unwrap(),
    ];
    host.counting(&calls)
}
