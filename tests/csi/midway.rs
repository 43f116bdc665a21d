//! Another process, or the opposite call, in the middle of a call: exactly between what it decided on and what it does.
//!
//! One process hangs before one system call while the other does as it likes. So each of these is one of the races
//! that `docs/developer/protocol.md` has its rules for, and no matter of luck.

use std::fs;

use berth::csi::*;

use crate::rig::*;

/// Runs `call` in the rig's own driver, which hangs before its `number`-th system call of this name until `meanwhile`, which
/// has a second process, is done.
fn in_the_middle<T: Send>(
    rig: &mut Rig,
    (name, number): (&str, usize),
    call: impl FnOnce(&mut Client) -> T + Send,
    meanwhile: impl FnOnce(&mut Rig, &mut Another),
) -> T {
    let mut another = rig.another_driver();
    // Longer than any test takes: strace ends it.
    let slow = rig.inject(name, &format!("{name}:delay_enter=60s:when={number}"));
    let mut client = rig.client();
    std::thread::scope(|scope| {
        let called = scope.spawn(move || call(&mut client));
        slow.wait_until_it_hangs(name);
        meanwhile(rig, &mut another);
        slow.end();
        called.join().unwrap()
    })
}

fn expansion(id: &str, target: &str, bytes: i64) -> NodeExpandVolumeRequest {
    NodeExpandVolumeRequest {
        volume_id: id.into(),
        volume_path: target.into(),
        capacity_range: Some(CapacityRange { required_bytes: bytes, limit_bytes: 0 }),
        ..Default::default()
    }
}

/// A second life of `a`, with a file that the end of the first one must not touch.
fn lives_again(driver: &mut impl Calls, rig: &Rig) {
    driver.create(create("a")).ok();
    fs::write(rig.data_of("a").join("file"), "precious").unwrap();
}

fn is_untouched(rig: &mut Rig) {
    assert_eq!(fs::read_to_string(rig.data_of("a").join("file")).unwrap(), "precious");
    rig.disk().check_settled();
    let id = rig.create(create("a")).id();
    rig.delete(&id).ok();
    rig.disk().check_settled();
    rig.wait_for_purge();
}

#[test]
fn of_two_processes_that_create_a_name_one_wins_and_the_other_is_aborted() {
    for step in [("fdatasync", 1), ("renameat", 1)] {
        let mut rig = Rig::new();
        let create_a = |client: &mut Client| client.create(create("a"));
        let slow = in_the_middle(&mut rig, step, create_a, |rig, another| lives_again(another, rig));
        slow.fails(Code::Aborted, "another call created it first");
        assert_eq!(rig.disk().new, Vec::<String>::new());
        is_untouched(&mut rig);
    }
}

#[test]
fn of_two_processes_that_decide_on_one_generation_one_wins_and_the_other_is_aborted() {
    for step in [("fdatasync", 1), ("linkat", 1)] {
        let mut rig = Rig::new();
        let (id, target) = (rig.create(create("a")).id(), rig.target("t"));
        rig.publish(publish(&id, &target)).ok();
        let small = expansion(&id, &target, 2 << 20);
        let slow = in_the_middle(
            &mut rig,
            step,
            |client| client.expand(small),
            |_, another| {
                another.expand(expansion(&id, &target, 3 << 20)).ok();
            },
        );
        slow.fails(Code::Aborted, "another call changed it first");
        assert_eq!(rig.disk().record("a").unwrap().capacity_bytes, 3 << 20);
        assert_eq!(rig.disk().new, Vec::<String>::new());
    }
}

#[test]
fn a_generation_that_is_won_in_a_buried_record_is_nobodys() {
    for step in [("fdatasync", 1), ("linkat", 1)] {
        let mut rig = Rig::new();
        let (id, target) = (rig.create(create("a")).id(), rig.target("t"));
        rig.publish(publish(&id, &target)).ok();
        let larger = expansion(&id, &target, 2 << 20);
        let slow = in_the_middle(
            &mut rig,
            step,
            |client| client.expand(larger),
            |rig, another| {
                another.unpublish(&id, &target).ok();
                another.delete(&id).ok();
                lives_again(another, rig);
            },
        );
        slow.fails(Code::Aborted, "");
        assert_eq!(rig.disk().record("a").unwrap().capacity_bytes, 1 << 20);
        is_untouched(&mut rig);
    }
}

#[test]
fn a_deletion_in_the_middle_of_which_the_volume_was_deleted_and_created_again_leaves_the_new_one() {
    // The record and its temporary file; the data, the record; its name.
    let steps = [
        ("fdatasync", 1),
        ("linkat", 1),
        ("unlinkat", 1),
        ("renameat", 1),
        ("renameat", 2),
        ("unlinkat", 2),
        ("fsync", 1),
    ];
    for step in steps {
        eprintln!("{step:?}");
        let mut rig = Rig::new();
        let id = rig.create(create("a")).id();
        let slow = in_the_middle(
            &mut rig,
            step,
            |client| client.delete(&id).ok_or_aborted(),
            |rig, another| {
                another.delete(&id).ok();
                lives_again(another, rig);
            },
        );
        eprintln!("done: {slow}");
        is_untouched(&mut rig);
    }
}

#[test]
fn a_creation_in_the_middle_of_which_the_volume_was_deleted_and_created_again_leaves_the_new_one() {
    for step in [("renameat", 2), ("fsync", 1)] {
        let mut rig = Rig::new();
        let slow = in_the_middle(
            &mut rig,
            step,
            |client| client.create(create("a")).ok_or_aborted(),
            |rig, another| {
                another.delete("node-1/main/a").ok();
                lives_again(another, rig);
            },
        );
        eprintln!("{step:?}, done: {slow}");
        is_untouched(&mut rig);
    }
}

#[test]
fn a_volume_that_is_published_while_its_deletion_is_being_won_keeps_its_data() {
    for step in [("fdatasync", 1), ("linkat", 1)] {
        let mut rig = Rig::new();
        let (id, target) = (rig.create(create("a")).id(), rig.target("t"));
        let slow = in_the_middle(
            &mut rig,
            step,
            |client| client.delete(&id),
            |_, another| {
                another.publish(publish(&id, &target)).ok();
                fs::write(format!("{target}/file"), "precious").unwrap();
            },
        );
        slow.fails(Code::FailedPrecondition, &target);
        assert_eq!(fs::read_to_string(rig.data_of("a").join("file")).unwrap(), "precious");
        assert!(rig.mounts_at(&target)[0].root.starts_with("/a."));
        rig.unpublish(&id, &target).ok();
        rig.delete(&id).ok();
        rig.disk().check_settled();
    }
}

#[test]
fn a_volume_that_is_deleted_while_it_is_being_published_is_mounted_nowhere() {
    // Data that is retained could still be mounted; data that is purged could not.
    for on_delete in ["retain", "delete"] {
        for step in ["open_tree", "mount_setattr", "move_mount"] {
            let mut rig = Rig::new();
            let target = rig.target("t");
            let id = rig.create(create("a").parameter("onDelete", on_delete)).id();
            let slow = in_the_middle(
                &mut rig,
                (step, 1),
                |client| client.publish(publish(&id, &target)).result(),
                |_, another| {
                    another.delete(&id).ok();
                },
            );
            let code = slow.unwrap_err().code();
            assert!(matches!(code, Code::Aborted | Code::NotFound), "{on_delete}, {step}: {code:?}");
            assert_eq!(rig.mounts_at(&target), [], "{on_delete}, {step}");
            assert!(!fs::exists(&target).unwrap(), "{on_delete}, {step}");
            rig.publish(publish(&id, &target)).fails(Code::NotFound, &id);
            rig.disk().check_settled();
        }
    }
}

#[test]
fn a_publish_that_is_unpublished_in_its_middle_attaches_nothing() {
    for step in ["open_tree", "mount_setattr"] {
        let mut rig = Rig::new();
        let (id, target) = (rig.create(create("a")).id(), rig.target("t"));
        let slow = in_the_middle(
            &mut rig,
            (step, 1),
            |client| client.publish(publish(&id, &target)),
            |rig, _| {
                rig.unpublish(&id, &target).ok();
            },
        );
        slow.fails(Code::Aborted, "it was unpublished while it was being published");
        assert_eq!(rig.mounts_at(&target), [], "{step}");
        assert!(!fs::exists(&target).unwrap(), "{step}");
    }
}
