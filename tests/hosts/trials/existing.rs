//! Existing data that is published as it is, and what a share holds that is hostile.

use berth::access::Mode;
use tonic::Code;

use super::{NODE_A, NODE_B, SERVER};
use crate::cluster::{Cluster, Share, clear};
use crate::fleet::Fleet;
use crate::runner::Group;
use crate::trials;
use crate::volumes::Fails as _;

const ROX: Mode = Mode::MultiNodeReaderOnly;
const RWO: Mode = Mode::SingleNodeMultiWriter;
const RWX: Mode = Mode::MultiNodeMultiWriter;

pub const GROUP: Group = Group {
    name: "existing data",
    hosts: &[SERVER, NODE_A, NODE_B],
    trials: trials![
        existing_data_has_a_record_while_it_is_published_and_is_never_touched,
        two_handles_of_one_directory_hold_one_mode_between_them,
        a_share_whose_records_lie_elsewhere_stays_untouched,
        a_link_that_leads_out_is_no_directory,
        a_directory_that_was_swapped_for_a_link_is_not_mounted,
        what_a_volume_holds_is_deleted_and_what_it_points_to_is_not,
    ],
};

fn existing_data_has_a_record_while_it_is_published_and_is_never_touched(fleet: &Fleet) {
    let Cluster { a, b, share, .. } = &Cluster::new(fleet, "photos");
    fleet
        .host("srv")
        .run(&format!("mkdir -p {0}/a/b && echo old > {0}/a/b/f && chown -R 7:8 {0}/a", share.path));
    let (id, before) = ("main/=a/b", share.data());
    a.publish(id, "/pods/v", RWO).fails(Code::FailedPrecondition, "not admitted");
    a.controller_publish("main/=a/none", "node-a", RWO).fails(Code::NotFound, "directory a/none");
    a.controller_publish(id, "node-a", RWO).unwrap();
    a.publish(id, "/pods/v", RWO).unwrap();
    assert_eq!(a.run("cat /pods/v/f; stat -c %u:%g /pods/v"), "old\n7:8");
    b.controller_publish(id, "node-b", RWO).fails(Code::FailedPrecondition, "node-a holds it");
    assert!(share.records().contains("\"adopted\": true"), "{}", share.records());
    assert_eq!(a.list(), []);
    // Its record's name is no second handle of it.
    let record = fleet.host("srv").run(&format!("ls {}/.berth/volumes", share.path));
    a.controller_publish(&format!("main/{record}"), "node-a", RWO).fails(Code::NotFound, "does not exist");
    a.delete(&format!("main/{record}")).unwrap();
    assert!(share.records().contains("node-a"), "{}", share.records());
    a.delete(id).fails(Code::FailedPrecondition, "never deleted");
    a.unpublish(id, "/pods/v").unwrap();
    for _ in 0..2 {
        b.controller_unpublish(id, "node-a").unwrap();
        assert_eq!(share.records(), "");
    }
    b.controller_publish(id, "node-b", ROX).unwrap();
    b.publish(id, "/pods/v", ROX).unwrap();
    assert_eq!(b.run("cat /pods/v/f"), "old");
    b.unpublish(id, "/pods/v").unwrap();
    b.controller_unpublish(id, "").unwrap();
    assert_eq!(share.data(), before);
}

fn two_handles_of_one_directory_hold_one_mode_between_them(fleet: &Fleet) {
    let Cluster { a, b, share, .. } = &Cluster::new(fleet, "aliases");
    fleet.host("srv").run(&format!("mkdir {}/d", share.path));
    let (one, two) = ("main/=d#one", "main/=d#two");
    a.controller_publish(one, "node-a", RWX).unwrap();
    b.controller_publish(two, "node-b", ROX).fails(Code::FailedPrecondition, "leaves no room");
    for (node, id) in [(a, two), (b, two), (b, one)] {
        node.controller_publish(id, node.name(), RWX).unwrap();
    }
    a.publish(one, "/pods/one", RWX).unwrap();
    b.publish(two, "/pods/two", RWX).unwrap();
    a.run("echo shared > /pods/one/f; sync /pods/one/f");
    assert_eq!(b.run("cat /pods/two/f"), "shared");
    // Each handle is let go for itself.
    a.controller_unpublish(one, "node-a").unwrap();
    a.publish(one, "/pods/again", RWX).fails(Code::FailedPrecondition, "not admitted");
    a.publish(two, "/pods/two", RWX).unwrap();
    for id in [one, two] {
        a.controller_unpublish(id, "").unwrap();
    }
    assert_eq!(share.records(), "");
}

fn a_share_whose_records_lie_elsewhere_stays_untouched(fleet: &Fleet) {
    let (a, srv) = (fleet.host("node-a"), fleet.host("srv"));
    clear(a);
    let share = Share::export(fleet, "untouched", "ro");
    let records = Share::export(fleet, "records", "");
    srv.run(&format!("mkdir {0}/d && echo old > {0}/d/f", share.path));
    let before = srv.run(&format!("find {} | sort", share.path));
    let root = share.root(&format!(",records=10.99.0.1:{}", records.path));
    let _driver = a.berth("nfs", &["--root", &root]);
    records.wait_for_node("node-a");
    a.create("v", RWO, &[]).fails(Code::InvalidArgument, "serves existing directories only");
    a.controller_publish("main/=d", "node-a", ROX).unwrap();
    a.publish("main/=d", "/pods/v", ROX).unwrap();
    assert_eq!(a.run("cat /pods/v/f"), "old");
    a.unpublish("main/=d", "/pods/v").unwrap();
    a.controller_unpublish("main/=d", "node-a").unwrap();
    assert_eq!(srv.run(&format!("find {} | sort", share.path)), before);
}

fn a_link_that_leads_out_is_no_directory(fleet: &Fleet) {
    let Cluster { a, share, .. } = &Cluster::new(fleet, "links");
    let srv = fleet.host("srv");
    srv.run(&format!(
        "cd {} && ln -s /etc etc && ln -s ../modes out && mkdir d && ln -s /etc d/etc",
        share.path
    ));
    for path in ["etc", "out", "d/etc", "d/etc/ssh", ".berth", "../links", "d/../etc"] {
        let id = format!("main/={path}");
        a.controller_publish(&id, "node-a", RWO).fails(Code::NotFound, "does not exist");
        a.create("v", RWO, &[("subDir", &format!("{path}/x"))]).unwrap_err();
    }
}

fn a_directory_that_was_swapped_for_a_link_is_not_mounted(fleet: &Fleet) {
    let Cluster { a, share, .. } = &Cluster::new(fleet, "swapped");
    let srv = fleet.host("srv");
    srv.run(&format!(
        "cd {} && mkdir -p pod/inner secret && echo secret > secret/f && echo own > pod/inner/f",
        share.path
    ));
    a.controller_publish("main/=pod/inner", "node-a", RWO).unwrap();
    // Whoever has `pod` swaps what lies in it, again and again, while it is published.
    let swap = srv.start(
        &format!(
            "sh -c 'cd {}/pod; while true; do mv inner kept; ln -s ../secret inner; sleep 0.02; rm inner; mv kept inner; \
             sleep 0.02; done'",
            share.path
        ),
        "swap",
    );
    let mut mounted = 0;
    for round in 0..40 {
        let target = format!("/pods/{round}");
        if a.publish("main/=pod/inner", &target, RWO).is_ok() {
            mounted += 1;
            assert_eq!(a.run(&format!("cat {target}/f")), "own", "round {round}");
        }
        a.unpublish("main/=pod/inner", &target).unwrap();
    }
    swap.signal(nix::sys::signal::Signal::SIGKILL);
    println!("       {mounted} of 40 publishes mounted the directory, and none the link");
    assert!(mounted > 0);
}

fn what_a_volume_holds_is_deleted_and_what_it_points_to_is_not(fleet: &Fleet) {
    let Cluster { a, share, .. } = &Cluster::new(fleet, "hostile");
    let srv = fleet.host("srv");
    srv.run(&format!("mkdir {0}/neighbour && echo precious > {0}/neighbour/f", share.path));
    let id = a.create("v", RWO, &[]).unwrap();
    a.controller_publish(&id, "node-a", RWO).unwrap();
    a.publish(&id, "/pods/v", RWO).unwrap();
    a.run(
        "cd /pods/v && ln -s /etc etc && ln -s ../neighbour up && ln -s ../.berth own && mkdir -p d/e/f && ln -s ../../.. d/e/top \
         && touch 'a b' $'new\\nline' -- -rf && mkfifo pipe && mkdir .berth && touch .berth/root.json",
    );
    a.unpublish(&id, "/pods/v").unwrap();
    a.controller_unpublish(&id, "node-a").unwrap();
    a.delete(&id).unwrap();
    crate::host::wait_for("the trash to be empty", || {
        srv.run(&format!("ls -A {}/.berth/trash | wc -l", share.path)) == "0"
    });
    assert_eq!(share.data(), ".\n./neighbour\n./neighbour/f");
    assert!(srv.can(&format!("test -s {}/.berth/root.json", share.path)));
}
