//! Nodes that crash, are cut off, come back, are unknown, or have a name that another host has.

use std::thread;
use std::time::Duration;

use berth::access::Mode;
use tonic::Code;

use super::{NODE_A, NODE_B, SERVER};
use crate::cluster::{Cluster, clear};
use crate::fleet::Fleet;
use crate::host::wait_for;
use crate::runner::Group;
use crate::trials;
use crate::volumes::Fails as _;

const RWO: Mode = Mode::SingleNodeMultiWriter;

pub const GROUP: Group = Group {
    name: "nodes",
    hosts: &[SERVER, NODE_A, NODE_B],
    trials: trials![
        a_node_that_is_not_registered_is_not_found,
        the_volume_of_a_node_that_crashed_moves_with_all_that_was_synced,
        a_node_that_comes_back_under_its_name_publishes_what_the_record_says,
        a_node_that_was_cut_off_and_lost_its_admission_publishes_nothing_more,
        a_node_that_is_cut_off_holds_up_no_other,
        an_unpublish_without_a_node_takes_all_nodes_out_and_may_be_repeated,
        a_publication_whose_admission_ended_is_unmounted_when_it_is_asked_for_again,
        a_second_host_with_the_name_of_a_node_is_refused_and_named,
        a_driver_that_was_killed_finds_its_publications_again,
        a_volume_whose_data_is_away_is_not_begun_anew_while_a_node_has_it,
    ],
};

fn a_node_that_is_not_registered_is_not_found(fleet: &Fleet) {
    let Cluster { a, .. } = &Cluster::new(fleet, "unknown");
    let id = a.create("v", RWO, &[]).unwrap();
    a.controller_publish(&id, "node-z", RWO).fails(Code::NotFound, "node node-z");
    a.controller_unpublish(&id, "node-z").unwrap();
    a.controller_publish(&id, "node-b", RWO).unwrap();
}

fn the_volume_of_a_node_that_crashed_moves_with_all_that_was_synced(fleet: &Fleet) {
    let Cluster { a, b, .. } = &Cluster::new(fleet, "crash");
    let id = a.create("v", RWO, &[]).unwrap();
    a.controller_publish(&id, "node-a", RWO).unwrap();
    a.publish(&id, "/pods/v", RWO).unwrap();
    a.run(
        "for n in 1 2 3 4 5; do echo $n > /pods/v/$n; done; sync /pods/v/*; echo lost > /pods/v/not-synced",
    );
    a.crash();
    b.controller_publish(&id, "node-b", RWO).fails(Code::FailedPrecondition, "node-a holds it");
    // The CO knows that the node is gone.
    b.controller_unpublish(&id, "node-a").unwrap();
    b.controller_publish(&id, "node-b", RWO).unwrap();
    b.publish(&id, "/pods/v", RWO).unwrap();
    assert_eq!(b.run("cd /pods/v && cat 1 2 3 4 5"), "1\n2\n3\n4\n5");
    b.run("echo from b > /pods/v/6; sync /pods/v/6");
}

fn a_node_that_comes_back_under_its_name_publishes_what_the_record_says(fleet: &Fleet) {
    let Cluster { a, b, drivers: [driver, _], share } = &mut Cluster::new(fleet, "back");
    let (kept, lost) = (a.create("kept", RWO, &[]).unwrap(), a.create("lost", RWO, &[]).unwrap());
    for id in [&kept, &lost] {
        a.controller_publish(id, "node-a", RWO).unwrap();
        a.publish(id, &format!("/pods/{id}"), RWO).unwrap();
    }
    a.run(&format!("echo kept > /pods/{kept}/f; sync /pods/{kept}/f"));
    a.reboot();
    b.controller_unpublish(&lost, "node-a").unwrap();
    driver.start_again();
    share.wait_for_node("node-a");
    a.run("mkdir -p /pods");
    wait_for("the boot to be registered", || a.publish(&kept, &format!("/pods/{kept}"), RWO).is_ok());
    assert_eq!(a.run(&format!("cat /pods/{kept}/f")), "kept");
    a.publish(&lost, &format!("/pods/{lost}"), RWO).fails(Code::FailedPrecondition, "node-a is not admitted");
}

fn a_node_that_was_cut_off_and_lost_its_admission_publishes_nothing_more(fleet: &Fleet) {
    let Cluster { a, b, .. } = &Cluster::new(fleet, "cut");
    let id = a.create("v", RWO, &[]).unwrap();
    a.controller_publish(&id, "node-a", RWO).unwrap();
    a.publish(&id, "/pods/first", RWO).unwrap();
    a.cut();
    b.controller_unpublish(&id, "node-a").unwrap();
    b.controller_publish(&id, "node-b", RWO).unwrap();
    b.publish(&id, "/pods/v", RWO).unwrap();
    b.run("echo b > /pods/v/f; sync /pods/v/f");
    // It can't reach the record, so it mounts nothing; and when it can, the record does not admit it.
    a.publish(&id, "/pods/second", RWO).fails(Code::Aborted, "");
    a.heal();
    wait_for("the record to be read", || {
        a.publish(&id, "/pods/second", RWO).is_err_and(|status| status.code() == Code::FailedPrecondition)
    });
    assert!(!a.can("grep -q ' /pods/second ' /proc/self/mountinfo"));
    // What docs/operator/nfs.md says honestly: the mount that it had is there, and no external share can take it away.
    assert!(a.can("grep -q ' /pods/first ' /proc/self/mountinfo"));
    a.unpublish(&id, "/pods/first").unwrap();
    assert_eq!(b.run("cat /pods/v/f"), "b");
}

fn a_node_that_is_cut_off_holds_up_no_other(fleet: &Fleet) {
    let Cluster { a, b, .. } = &Cluster::new(fleet, "delegation");
    let id = a.create("v", Mode::MultiNodeMultiWriter, &[]).unwrap();
    for node in ["node-a", "node-b"] {
        b.controller_publish(&id, node, Mode::MultiNodeMultiWriter).unwrap();
    }
    // It has read the record, and the server may have given it a delegation of that generation.
    a.publish(&id, "/pods/v", Mode::MultiNodeMultiWriter).unwrap();
    a.cut();
    let begin = std::time::Instant::now();
    b.controller_unpublish(&id, "node-a").unwrap();
    b.publish(&id, "/pods/v", Mode::MultiNodeMultiWriter).unwrap();
    b.unpublish(&id, "/pods/v").unwrap();
    b.controller_unpublish(&id, "node-b").unwrap();
    b.delete(&id).unwrap();
    assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
}

fn an_unpublish_without_a_node_takes_all_nodes_out_and_may_be_repeated(fleet: &Fleet) {
    let Cluster { a, share, .. } = &Cluster::new(fleet, "all");
    let id = a.create("v", Mode::MultiNodeMultiWriter, &[]).unwrap();
    for node in ["node-a", "node-b"] {
        a.controller_publish(&id, node, Mode::MultiNodeMultiWriter).unwrap();
        a.controller_publish(&id, node, Mode::MultiNodeMultiWriter).unwrap();
    }
    assert!(share.records().contains("node-a") && share.records().contains("node-b"));
    for _ in 0..2 {
        a.controller_unpublish(&id, "").unwrap();
        // The generation before is removed behind the answer.
        wait_for("the record without nodes to stand alone", || !share.records().contains("node-"));
    }
    a.controller_unpublish("main/no-such-volume", "node-a").unwrap();
    // Of a root that it was not told of it can't say so.
    a.controller_unpublish("other/v", "node-a").fails(Code::FailedPrecondition, "has no root other");
    a.delete("other/v").fails(Code::FailedPrecondition, "has no root other");
    a.controller_unpublish("no id at all", "node-a").unwrap();
    a.delete(&id).unwrap();
    a.controller_unpublish(&id, "node-a").unwrap();
}

fn a_publication_whose_admission_ended_is_unmounted_when_it_is_asked_for_again(fleet: &Fleet) {
    let Cluster { a, b, .. } = &Cluster::new(fleet, "over");
    let id = a.create("v", RWO, &[]).unwrap();
    a.controller_publish(&id, "node-a", RWO).unwrap();
    a.publish(&id, "/pods/v", RWO).unwrap();
    b.controller_unpublish(&id, "node-a").unwrap();
    b.controller_publish(&id, "node-b", RWO).unwrap();
    a.publish(&id, "/pods/v", RWO).fails(Code::Aborted, "for a publication that is over");
    assert!(!a.can("grep -q ' /pods/v ' /proc/self/mountinfo"));
    a.publish(&id, "/pods/v", RWO).fails(Code::FailedPrecondition, "node-b is");
}

fn a_second_host_with_the_name_of_a_node_is_refused_and_named(fleet: &Fleet) {
    let Cluster { a, b, share, .. } = &Cluster::new(fleet, "twins");
    let id = a.create("v", RWO, &[]).unwrap();
    a.controller_publish(&id, "node-a", RWO).unwrap();
    clear(b);
    // It says that it is node-a.
    let _twin = b.berth_as("node-a", "nfs", &["--root", &share.root("")]);
    b.publish(&id, "/pods/v", RWO).fails(Code::FailedPrecondition, "host node-a");
    assert!(!b.can("grep -q ' /pods/v ' /proc/self/mountinfo"));
    wait_for("the log to name both", || {
        let log = String::from_utf8(b.read("/share/node-b/berth.log")).unwrap();
        log.contains("host node-a") && log.contains("host node-b")
    });
    a.publish(&id, "/pods/v", RWO).unwrap();
}

fn a_driver_that_was_killed_finds_its_publications_again(fleet: &Fleet) {
    let Cluster { a, b, drivers: [driver, _], .. } = &mut Cluster::new(fleet, "killed");
    let id = a.create("v", RWO, &[]).unwrap();
    a.controller_publish(&id, "node-a", RWO).unwrap();
    a.publish(&id, "/pods/one", RWO).unwrap();
    // At any moment of a publish.
    for round in 0..8 {
        thread::scope(|scope| {
            let call = scope.spawn(|| drop(a.publish(&id, "/pods/two", RWO)));
            thread::sleep(Duration::from_millis(5 * round));
            driver.kill();
            call.join().unwrap();
        });
        driver.start_again();
        wait_for("the publish", || a.publish(&id, "/pods/two", RWO).is_ok());
        assert_eq!(a.run("grep -c ' /pods/two ' /proc/self/mountinfo"), "1");
        a.run("echo x > /pods/two/f; cat /pods/one/f");
        a.publish(&id, "/pods/one", RWO).unwrap();
        a.unpublish(&id, "/pods/two").unwrap();
    }
    b.controller_publish(&id, "node-b", RWO).fails(Code::FailedPrecondition, "node-a holds it");
    a.unpublish(&id, "/pods/one").unwrap();
}

fn a_volume_whose_data_is_away_is_not_begun_anew_while_a_node_has_it(fleet: &Fleet) {
    let Cluster { a, share, .. } = &Cluster::new(fleet, "away");
    let (id, srv) = (a.create("v", RWO, &[]).unwrap(), fleet.host("srv"));
    a.controller_publish(&id, "node-a", RWO).unwrap();
    srv.run(&format!("cd {} && mv v.* away", share.path));
    a.create("v", RWO, &[]).fails(Code::FailedPrecondition, "node-a has it");
    assert!(share.records().contains("\"live\""), "{}", share.records());
    a.controller_unpublish(&id, "node-a").unwrap();
    a.create("v", RWO, &[]).unwrap();
    a.controller_publish(&id, "node-a", RWO).unwrap();
    a.publish(&id, "/pods/v", RWO).unwrap();
    assert!(share.data().contains("./away"));
}
