//! Access modes across nodes: every cell of the table, with a real file that is written or refused.

use berth::access::{Limit, Mode};
use tonic::Code;

use super::{NODE_A, NODE_B, SERVER};
use crate::cluster::Cluster;
use crate::fleet::Fleet;
use crate::host::Host;
use crate::runner::Group;
use crate::trials;
use crate::volumes::Fails as _;

pub const GROUP: Group = Group {
    name: "modes",
    hosts: &[SERVER, NODE_A, NODE_B],
    trials: trials![
        every_cell_of_the_table_holds_on_two_nodes,
        a_second_node_is_refused_while_the_first_holds_a_volume_and_admitted_after_it_let_go,
        what_is_read_only_can_be_written_on_no_node_as_root_too,
        what_both_nodes_write_both_nodes_read,
        of_two_writers_of_one_volume_one_is_admitted,
        a_node_that_may_only_read_is_not_made_a_writer_by_a_request,
        a_read_only_and_a_writing_publication_of_one_volume_do_not_change_each_other,
        a_volume_may_be_published_narrower_than_it_was_made_and_never_wider,
    ],
};

/// Whether a file can be written at a publication.
fn writes(host: &Host, target: &str) -> bool {
    host.can(&format!("echo {} > {target}/by-{}", host.name(), host.name()))
}

fn every_cell_of_the_table_holds_on_two_nodes(fleet: &Fleet) {
    let Cluster { a, b, .. } = &Cluster::new(fleet, "table");
    for mode in Mode::ALL {
        let row = mode.row();
        let id = a.create(&mode.to_string(), mode, &[]).unwrap();
        let at = |target: &str| format!("/pods/{mode}-{target}");
        a.controller_publish(&id, "node-a", mode).unwrap();
        a.publish(&id, &at("1"), mode).unwrap();
        assert_eq!(writes(a, &at("1")), row.writers != Limit::None, "{mode}: the first node writes");
        // Targets of one node.
        let second = a.publish(&id, &at("2"), mode);
        assert_eq!(second.is_ok(), row.targets == Limit::Many, "{mode}: a second target: {second:?}");
        // The other node: refused by the controller, and by the node itself.
        let other = b.controller_publish(&id, "node-b", mode);
        let (room, writer) = (row.nodes == Limit::Many, row.writers == Limit::One);
        match (room, writer) {
            (false, _) | (true, true) => other.fails(Code::FailedPrecondition, "node-a"),
            (true, false) => {
                other.unwrap();
                b.publish(&id, &at("3"), mode).unwrap();
                assert_eq!(writes(b, &at("3")), row.writers == Limit::Many, "{mode}: the other node writes");
                b.unpublish(&id, &at("3")).unwrap();
                b.controller_unpublish(&id, "node-b").unwrap();
            }
        }
        if !room || writer {
            b.publish(&id, &at("3"), mode).fails(Code::FailedPrecondition, "node-b is not admitted");
            assert!(!b.can(&format!("grep -q ' {} ' /proc/self/mountinfo", at("3"))));
        }
        for target in ["1", "2"] {
            a.unpublish(&id, &at(target)).unwrap();
        }
        a.controller_unpublish(&id, "node-a").unwrap();
        a.delete(&id).unwrap();
    }
}

fn a_second_node_is_refused_while_the_first_holds_a_volume_and_admitted_after_it_let_go(fleet: &Fleet) {
    let Cluster { a, b, .. } = &Cluster::new(fleet, "moves");
    for mode in [Mode::SingleNodeMultiWriter, Mode::SingleNodeSingleWriter] {
        let (id, target) = (a.create(&format!("v-{mode}"), mode, &[]).unwrap(), format!("/pods/{mode}"));
        a.controller_publish(&id, "node-a", mode).unwrap();
        a.publish(&id, &target, mode).unwrap();
        a.run(&format!("echo moved > {target}/f; sync {target}/f"));
        b.controller_publish(&id, "node-b", mode).fails(Code::FailedPrecondition, "node-a holds it");
        b.delete(&id).fails(Code::FailedPrecondition, "node-a");
        a.unpublish(&id, &target).unwrap();
        b.controller_publish(&id, "node-b", mode).fails(Code::FailedPrecondition, "node-a holds it");
        // Any controller may say so.
        b.controller_unpublish(&id, "node-a").unwrap();
        b.controller_publish(&id, "node-b", mode).unwrap();
        b.publish(&id, &target, mode).unwrap();
        assert_eq!(b.run(&format!("cat {target}/f")), "moved");
        a.publish(&id, &target, mode)
            .fails(Code::FailedPrecondition, "node-a is not admitted to it (node-b is)");
        b.unpublish(&id, &target).unwrap();
    }
}

fn what_is_read_only_can_be_written_on_no_node_as_root_too(fleet: &Fleet) {
    let Cluster { a, b, share, .. } = &Cluster::new(fleet, "rox");
    let mode = Mode::MultiNodeReaderOnly;
    let id = a.create("v", mode, &[]).unwrap();
    let data = share.data().lines().last().unwrap().to_string();
    fleet.host("srv").run(&format!("echo read > '{}/{data}/f'", share.path));
    for node in [a, b] {
        // Kubernetes sends it with readonly = false.
        node.controller_publish(&id, node.name(), mode).unwrap();
        node.publish(&id, "/pods/v", mode).unwrap();
        assert_eq!(node.run("cat /pods/v/f"), "read");
        for attempt in ["echo x > /pods/v/f", "touch /pods/v/new", "rm /pods/v/f", "chmod 700 /pods/v"] {
            let output = node.attempt(attempt, std::time::Duration::from_secs(20)).unwrap();
            assert!(output.code != 0 && output.text.contains("Read-only"), "{attempt}: {output:?}");
        }
    }
    assert_eq!(a.list(), [(id, vec!["node-a".to_string(), "node-b".to_string()])]);
}

fn what_both_nodes_write_both_nodes_read(fleet: &Fleet) {
    let Cluster { a, b, .. } = &Cluster::new(fleet, "rwx");
    let id = a.create("v", Mode::MultiNodeMultiWriter, &[]).unwrap();
    for node in [a, b] {
        node.controller_publish(&id, node.name(), Mode::MultiNodeMultiWriter).unwrap();
        node.publish(&id, "/pods/v", Mode::MultiNodeMultiWriter).unwrap();
        assert!(writes(node, "/pods/v"));
    }
    for node in [a, b] {
        assert_eq!(node.run("cat /pods/v/by-node-a /pods/v/by-node-b"), "node-a\nnode-b");
    }
}

fn of_two_writers_of_one_volume_one_is_admitted(fleet: &Fleet) {
    let Cluster { a, b, .. } = &Cluster::new(fleet, "single-writer");
    let mode = Mode::MultiNodeSingleWriter;
    let id = a.create("v", mode, &[]).unwrap();
    a.controller_publish(&id, "node-a", mode).unwrap();
    b.controller_publish(&id, "node-b", mode).fails(Code::FailedPrecondition, "only one may");
    b.controller_publish_read_only(&id, "node-b", mode).unwrap();
    for node in [a, b] {
        node.publish(&id, "/pods/v", mode).unwrap();
    }
    assert!(writes(a, "/pods/v") && !writes(b, "/pods/v"));
    assert_eq!(b.run("cat /pods/v/by-node-a"), "node-a");
}

fn a_node_that_may_only_read_is_not_made_a_writer_by_a_request(fleet: &Fleet) {
    let Cluster { a, .. } = &Cluster::new(fleet, "only-reads");
    let mode = Mode::MultiNodeMultiWriter;
    let id = a.create("v", mode, &[]).unwrap();
    a.controller_publish_read_only(&id, "node-a", mode).unwrap();
    // The request says nothing of readonly.
    a.publish(&id, "/pods/v", mode).unwrap();
    assert!(!writes(a, "/pods/v"));
    a.controller_publish(&id, "node-a", mode).fails(Code::AlreadyExists, "readonly (true, now false)");
}

fn a_read_only_and_a_writing_publication_of_one_volume_do_not_change_each_other(fleet: &Fleet) {
    let Cluster { a, .. } = &Cluster::new(fleet, "both-ways");
    let mode = Mode::MultiNodeMultiWriter;
    let id = a.create("v", mode, &[]).unwrap();
    a.controller_publish(&id, "node-a", mode).unwrap();
    a.publish(&id, "/pods/rw", mode).unwrap();
    a.publish_read_only(&id, "/pods/ro", mode).unwrap();
    assert!(writes(a, "/pods/rw") && !writes(a, "/pods/ro"));
    a.unpublish(&id, "/pods/ro").unwrap();
    assert!(writes(a, "/pods/rw"));
    a.publish_read_only(&id, "/pods/ro", mode).unwrap();
    a.unpublish(&id, "/pods/rw").unwrap();
    assert!(!writes(a, "/pods/ro"));
}

fn a_volume_may_be_published_narrower_than_it_was_made_and_never_wider(fleet: &Fleet) {
    let Cluster { a, b, .. } = &Cluster::new(fleet, "narrower");
    let rwo = a.create("rwo", Mode::SingleNodeMultiWriter, &[]).unwrap();
    a.controller_publish(&rwo, "node-a", Mode::MultiNodeMultiWriter)
        .fails(Code::FailedPrecondition, "can't be wider");
    a.controller_publish(&rwo, "node-a", Mode::SingleNodeSingleWriter).unwrap();
    a.publish(&rwo, "/pods/rwo", Mode::SingleNodeMultiWriter)
        .fails(Code::FailedPrecondition, "was admitted as");
    a.publish(&rwo, "/pods/rwo", Mode::SingleNodeSingleWriter).unwrap();
    // One mode at a time: a reader's node cannot join a writer's.
    let rwx = a.create("rwx", Mode::MultiNodeMultiWriter, &[]).unwrap();
    a.controller_publish(&rwx, "node-a", Mode::MultiNodeMultiWriter).unwrap();
    b.controller_publish(&rwx, "node-b", Mode::MultiNodeReaderOnly)
        .fails(Code::FailedPrecondition, "leaves no room");
}
