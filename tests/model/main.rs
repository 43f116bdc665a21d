//! The protocol of records and mounts as a model, explored exhaustively: docs/developer/model.md tells how to read it.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::print_stdout, clippy::cast_possible_truncation)]

mod canon;
mod co;
mod controller;
mod explore;
mod node;
mod promises;
mod rules;
mod store;
mod world;

use co::Scenario;
use explore::explore;
use rules::{Rule, Rules};

/// A volume that is there, and two nodes that want it: their publishes and unpublishes overlap.
const TWO_NODES: Scenario = Scenario {
    adopted: false,
    lives: false,
    actors: 2,
    one_node: false,
    forces: false,
    cleans: true,
    deletes_for_good: false,
    mirrored: true,
    at_once: 2,
};
/// And the CO may hold a node for dead that is not.
const DEAD_NODE: Scenario = Scenario { forces: true, cleans: false, ..TWO_NODES };
/// Existing data, published under one handle on each of two nodes.
const EXISTING_DATA: Scenario = Scenario { adopted: true, ..TWO_NODES };
/// Existing data under two handles on one node.
const TWO_HANDLES: Scenario = Scenario { one_node: true, cleans: false, ..EXISTING_DATA };
/// One name that is created and deleted again and again, while a sweeper runs.
const ONE_NAME: Scenario = Scenario { lives: true, actors: 0, mirrored: false, ..TWO_NODES };
/// Whole lives: created, published on a node, deleted, created again.
const WHOLE_LIVES: Scenario = Scenario { actors: 1, ..ONE_NAME };
/// And the node may be held for dead.
const LIVES_AND_DEATH: Scenario = Scenario { forces: true, cleans: false, ..WHOLE_LIVES };

/// Explores all of a scenario under the rules that Berth keeps.
fn holds(scenario: Scenario) {
    let explored = explore(&scenario, Rules::BERTH);
    println!("{} worlds, {} steps between them", explored.worlds, explored.steps);
    if let Some((broken, story)) = explored.broken {
        panic!("{broken}:\n{story}");
    }
}

/// Shows what happens when one rule is left out.
fn breaks(rules: Rules, scenario: Scenario, promise: &str) {
    let explored = explore(&Scenario { mirrored: false, ..scenario }, rules);
    let (broken, story) =
        explored.broken.unwrap_or_else(|| panic!("nothing broke in {} worlds", explored.worlds));
    println!("{broken}:\n{story}");
    assert_eq!(broken, promise);
}

fn without(rule: Rule, scenario: Scenario, promise: &str) {
    breaks(Rules::without(rule), scenario, promise);
}

// With all rules, no promise is broken anywhere, and from wherever nothing is at work repeated calls come to what is asked.

#[test]
fn two_nodes_that_want_one_volume_never_both_have_it() {
    holds(TWO_NODES);
}

#[test]
fn a_node_that_is_held_for_dead_and_is_not_gets_no_mount_beside_the_next_one() {
    holds(DEAD_NODE);
}

#[test]
fn one_directory_under_two_handles_on_two_nodes_is_one_volume() {
    holds(EXISTING_DATA);
}

#[test]
fn two_handles_on_one_node_do_not_end_each_other() {
    holds(TWO_HANDLES);
}

#[test]
fn a_name_that_is_created_again_is_another_volume() {
    holds(ONE_NAME);
}

#[test]
fn a_volume_that_lives_again_and_again_keeps_its_mounts_and_its_data() {
    holds(WHOLE_LIVES);
}

#[test]
fn a_node_that_was_held_for_dead_meets_no_later_life_of_the_volume() {
    holds(LIVES_AND_DEATH);
}

#[test]
#[ignore = "minutes where it is not optimized: make model, which is a part of make test"]
fn a_name_that_three_calls_work_on_at_once_is_still_one_volume() {
    holds(Scenario { at_once: 3, ..ONE_NAME });
}

// Without one of them, some promise is; the test prints how.

#[test]
fn rule_1_without_names_of_its_own_data_is_replaced() {
    without(Rule::DataHasOwnName, ONE_NAME, "the data of a volume that was created is touched");
}

#[test]
fn rule_2_without_directories_for_records_a_late_step_hits_a_later_life() {
    without(Rule::RecordIsDirectory, ONE_NAME, "a volume that was created has no live record of its own");
}

#[test]
fn rule_2_without_a_look_at_the_name_a_record_in_the_trash_is_won() {
    without(Rule::NameLeadsHere, EXISTING_DATA, "a node whose publish was answered OK is not admitted");
}

#[test]
fn rule_3_without_link_one_decision_replaces_another() {
    without(Rule::WonByLink, TWO_NODES, "a node whose publish was answered OK is not admitted");
}

#[test]
fn rule_3_without_asking_a_call_that_was_given_up_wins_later() {
    without(Rule::AsksStillWanted, TWO_NODES, "a node whose unpublish was answered OK is admitted");
}

#[test]
fn rule_3_without_rolling_forward_a_creation_that_died_is_never_ended() {
    without(Rule::RollForward, ONE_NAME, "once faults stop, CreateVolume never succeeds");
}

#[test]
fn rule_4_without_a_generation_of_the_unpublish_a_late_publish_wins() {
    without(Rule::UnpublishWrites, TWO_NODES, "a node whose unpublish was answered OK is admitted");
}

#[test]
fn rule_4_without_taking_away_what_is_prepared_a_late_record_is_born_and_stays() {
    without(Rule::DiscardPrepared, EXISTING_DATA, "a record of existing data outlives its last publication");
}

#[test]
fn rule_5_without_a_lock_a_late_step_at_a_target_is_made_after_the_answer() {
    without(Rule::TargetLock, TWO_NODES, "a mount outlives the unpublish that was answered OK");
}

#[test]
fn rule_6_without_the_trash_data_is_deleted_in_its_place() {
    without(Rule::TrashFirst, ONE_NAME, "the data of a volume that was created is touched");
}

#[test]
fn rule_7_without_a_second_look_a_node_keeps_a_mount_that_the_record_no_longer_admits() {
    without(Rule::LookAgain, DEAD_NODE, "a mount that was answered OK is not in the record");
}

#[test]
fn rule_7_without_checking_a_mount_that_is_found_a_pod_sees_an_earlier_life() {
    without(
        Rule::FoundMountIsChecked,
        LIVES_AND_DEATH,
        "a mount that was answered OK shows other data than the record names",
    );
}

#[test]
fn existing_data_would_go_where_data_goes() {
    without(Rule::AdoptedIsKept, EXISTING_DATA, "data that was adopted is touched");
}

#[test]
fn rule_4_without_taking_what_is_prepared_a_creation_that_was_given_up_survives_its_deletion() {
    let for_good = Scenario { deletes_for_good: true, ..ONE_NAME };
    without(Rule::DeleteDiscards, for_good, "a volume whose deletion was answered OK has a record");
    let explored = explore(&for_good, Rules::BERTH);
    assert_eq!(explored.broken, None);
}
