//! Calls that nobody waits for any more: their caller's deadline passed, or the connection is gone, or the edge answered
//! ABORTED in their place. They win nothing after the opposite call was answered.
//!
//! The disk is made slow, so that there is time for all of this in the middle of a call.

use std::fs;
use std::time::{Duration, Instant};

use berth::csi::*;

use crate::rig::*;

const SOON: Duration = Duration::from_millis(200);

/// How long each sync takes, for strace; far longer than [`SOON`], far below the patience of a call that waits.
const SLOW: &str = "fdatasync:delay_enter=1500000";

fn live_on_disk(rig: &Rig, name: &str) -> bool {
    let disk = rig.disk();
    disk.check_explained();
    disk.is_live(name)
}

/// Whether the slow call has still not come to its end: else the test would show nothing.
fn is_at_work(rig: &Rig) -> bool {
    !rig.disk().new.is_empty()
}

/// Waits until the slow call has come to its end, whatever that is.
fn until_it_ended(began: Instant) {
    std::thread::sleep(Duration::from_secs(3).saturating_sub(began.elapsed()));
}

#[test]
fn a_creation_that_was_given_up_creates_nothing_after_the_deletion_was_answered() {
    for hangs_up in [false, true] {
        let mut rig = Rig::new();
        let slow = rig.inject("fdatasync", SLOW);
        let began = Instant::now();
        if hangs_up {
            rig.client().creates_and_hangs_up(create("a"), SOON);
        } else {
            assert!(rig.client().within(SOON).create(create("a")).was_given_up());
        }
        assert!(is_at_work(&rig));
        rig.delete("node-1/main/a").ok();
        assert!(!live_on_disk(&rig, "a"));
        until_it_ended(began);
        assert!(!live_on_disk(&rig, "a"), "created after its deletion was answered");
        slow.end();
        assert!(rig.log().contains("the caller gave up"), "{}", rig.log());
        rig.create(create("a")).ok();
        rig.disk().check_settled();
    }
}

#[test]
fn a_creation_that_was_given_up_creates_nothing_after_another_process_answered_the_deletion() {
    let mut rig = Rig::new();
    let mut another = rig.another_driver();
    let slow = rig.inject("fdatasync", SLOW);
    let began = Instant::now();
    assert!(rig.client().within(SOON).create(create("a")).was_given_up());
    another.delete("node-1/main/a").ok();
    assert!(is_at_work(&rig));
    until_it_ended(began);
    slow.end();
    assert!(!live_on_disk(&rig, "a"), "created after its deletion was answered");
    another.create(create("a")).ok();
    rig.disk().check_settled();
}

#[test]
fn a_deletion_that_was_given_up_deletes_nothing_after_a_creation_was_answered() {
    let mut rig = Rig::new();
    let mut another = rig.another_driver();
    let id = rig.create(create("a")).id();
    fs::write(rig.data_of("a").join("file"), "precious").unwrap();
    let slow = rig.inject("fdatasync", SLOW);
    let began = Instant::now();
    assert!(rig.client().within(SOON).delete(&id).was_given_up());
    assert_eq!(another.create(create("a")).id(), id);
    assert!(is_at_work(&rig));
    until_it_ended(began);
    slow.end();
    assert!(live_on_disk(&rig, "a"), "deleted after its creation was answered");
    assert_eq!(fs::read_to_string(rig.data_of("a").join("file")).unwrap(), "precious");
    rig.delete(&id).ok();
    rig.disk().check_settled();
}

#[test]
fn an_expansion_that_was_given_up_and_its_retry_give_one_size() {
    let mut rig = Rig::new();
    let (id, target) = (rig.create(create("a")).id(), rig.target("t"));
    rig.publish(publish(&id, &target)).ok();
    let request = |bytes| NodeExpandVolumeRequest {
        volume_id: id.clone(),
        volume_path: target.clone(),
        capacity_range: Some(CapacityRange { required_bytes: bytes, limit_bytes: 0 }),
        ..Default::default()
    };
    let slow = rig.inject("fdatasync", SLOW);
    let began = Instant::now();
    assert!(rig.client().within(SOON).expand(request(2 << 20)).was_given_up());
    assert_eq!(rig.expand(request(3 << 20)).ok().capacity_bytes, 3 << 20);
    until_it_ended(began);
    slow.end();
    assert_eq!(rig.disk().record("a").unwrap().capacity_bytes, 3 << 20);
}

#[test]
fn a_publish_that_was_given_up_attaches_nothing_after_the_unpublish_was_answered() {
    for step in ["mount_setattr", "move_mount"] {
        let mut rig = Rig::new();
        let (id, target) = (rig.create(create("a")).id(), rig.target("t"));
        let slow = rig.inject(step, &format!("{step}:delay_enter=1500000"));
        let began = Instant::now();
        assert!(rig.client().within(SOON).publish(publish(&id, &target)).was_given_up());
        rig.unpublish(&id, &target).ok();
        assert_eq!(rig.mounts_at(&target).len(), 0, "{step}");
        until_it_ended(began);
        slow.end();
        assert_eq!(rig.mounts_at(&target).len(), 0, "{step}: attached after the unpublish was answered");
        rig.delete(&id).ok();
        rig.disk().check_settled();
    }
}

/// Past the edge's own deadline, and past the end of the work behind it.
const VERY_SLOW: &str = "delay_enter=10000000";

fn past_the_deadline(slow_call: &str) -> (Rig, Duration) {
    let mut rig = Rig::new();
    let slow = rig.inject(slow_call, &format!("{slow_call}:{VERY_SLOW}:when=1"));
    let mut second = rig.client();
    let began = Instant::now();
    let waited = std::thread::scope(|scope| {
        scope.spawn(|| {
            // In the middle of the first call: waits for it for a while, and does nothing of its own.
            std::thread::sleep(Duration::from_secs(1));
            second.create(create("a")).fails(Code::Aborted, "another call is at work");
        });
        rig.create(create("a")).fails(Code::Aborted, "still at work after 8s");
        began.elapsed()
    });
    std::thread::sleep(Duration::from_secs(11).saturating_sub(began.elapsed()));
    slow.end();
    (rig, waited)
}

#[test]
fn the_edge_answers_aborted_below_every_callers_deadline_and_what_was_won_is_finished_behind() {
    let (mut rig, waited) = past_the_deadline("fsync");
    assert!(waited < Duration::from_millis(9500), "{waited:?}");
    let incarnation = rig.disk().record("a").unwrap().incarnation.clone();
    rig.disk().check_settled();
    rig.create(create("a")).ok();
    assert_eq!(rig.disk().record("a").unwrap().incarnation, incarnation);
}

#[test]
fn what_was_not_won_when_the_edge_answered_aborted_is_not_won_behind_it() {
    let (mut rig, _) = past_the_deadline("fdatasync");
    assert!(!live_on_disk(&rig, "a"));
    assert_eq!(rig.disk().new, Vec::<String>::new());
    rig.create(create("a")).ok();
    rig.disk().check_settled();
}
