//! The same name once more: an equal or a compatible request gives the same volume, another one an error that
//! names what differs.

use std::collections::HashSet;
use std::fs;

use berth::csi::volume_capability::access_mode::Mode;

use crate::rig::*;

const MIB: i64 = 1 << 20;

#[test]
fn a_range_that_holds_the_size_gives_the_volume_and_any_other_is_refused_with_both() {
    let mut rig = Rig::new();
    let id = rig.create(create("a").bytes(2 * MIB)).id();
    rig.unchanged(|rig| {
        for (required, limit) in [(2, 0), (2, 2), (1, 0), (0, 0), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
            .map(|(r, l)| (r * MIB, l * MIB))
        {
            let volume = rig.create(create("a").range(required, limit)).ok().volume.unwrap();
            assert_eq!((volume.volume_id.as_str(), volume.capacity_bytes), (id.as_str(), 2 * MIB));
        }
        let mut without_range = create("a");
        without_range.capacity_range = None;
        assert_eq!(rig.create(without_range).id(), id);
        for (required, limit) in [(3, 0), (3, 4), (0, 1), (1, 1)].map(|(r, l)| (r * MIB, l * MIB)) {
            let words =
                format!("capacity_range (it has 2097152 bytes, now required {required} and limit {limit})");
            rig.create(create("a").range(required, limit)).fails(Code::AlreadyExists, &words);
        }
    });
}

#[test]
fn a_mode_that_is_no_wider_gives_the_volume_and_any_other_is_refused_with_both() {
    use Mode::*;
    let modes = [
        SingleNodeWriter,
        SingleNodeReaderOnly,
        SingleNodeSingleWriter,
        SingleNodeMultiWriter,
        MultiNodeReaderOnly,
        MultiNodeSingleWriter,
        MultiNodeMultiWriter,
    ];
    // One for each row of the table: nodes, targets, writers; 0 none, 1 one, 2 many.
    let row = |mode: Mode| match mode {
        SingleNodeWriter | SingleNodeSingleWriter => [1, 1, 1],
        SingleNodeReaderOnly => [1, 1, 0],
        SingleNodeMultiWriter => [1, 2, 1],
        MultiNodeReaderOnly => [2, 2, 0],
        MultiNodeSingleWriter => [2, 2, 1],
        MultiNodeMultiWriter => [2, 2, 2],
        Unknown => unreachable!(),
    };
    let mut rig = Rig::new();
    let request = |mode: Mode| create("a").mode(mode).parameter("nodeSharing", "true");
    for created in modes {
        let id = rig.create(request(created)).id();
        rig.unchanged(|rig| {
            for asked in modes {
                let answer = rig.create(request(asked));
                if row(asked).iter().zip(row(created)).all(|(asked, created)| *asked <= created) {
                    assert_eq!(answer.id(), id, "{created:?}, then {asked:?}");
                } else {
                    let words =
                        format!("access_mode ({}, now {})", created.as_str_name(), asked.as_str_name());
                    answer.fails(Code::AlreadyExists, &words);
                }
            }
        });
        rig.delete(&id).ok();
    }
}

#[test]
fn a_parameter_that_differs_is_named_with_both_values() {
    let mut rig = Rig::new();
    let full = || {
        create("a")
            .parameter("onDelete", "retain")
            .parameter("subDir", "shop/a")
            .parameter("mode", "0770")
            .parameter("uid", "0")
            .parameter("nodeSharing", "true")
    };
    let id = rig.create(full()).id();
    rig.unchanged(|rig| {
        assert_eq!(rig.create(full()).id(), id);
        for (key, was, now) in [
            ("onDelete", "retain", "delete"),
            ("onDelete", "retain", "archive"),
            ("subDir", "shop/a", "shop/b"),
            ("subDir", "shop/a", "a"),
            ("mode", "0770", "0777"),
            ("nodeSharing", "true", "false"),
        ] {
            let words = format!("another parameters.{key} ({was:?}, now {now:?})");
            rig.create(full().parameter(key, now)).fails(Code::AlreadyExists, &words);
            let mut without = full();
            without.parameters.remove(key);
            let words = format!("another parameters.{key} ({was:?}, now none)");
            rig.create(without).fails(Code::AlreadyExists, &words);
        }
        let words = "another parameters.root (none, now \"main\")";
        rig.create(full().parameter("root", "main")).fails(Code::AlreadyExists, words);
    });
}

/// A driver with the roots `one` and `two`.
fn two_roots() -> Rig {
    let mut rig = Rig::without_driver();
    let roots = ["one", "two"].map(|name| {
        let path = rig.scratch().join(name);
        fs::create_dir(&path).unwrap();
        rig.mount_tmpfs(&path, "size=64m");
        format!("{name}={}", path.display())
    });
    rig.set_roots(&roots);
    rig.start();
    rig
}

#[test]
fn a_name_is_one_volume_on_all_roots_and_free_again_when_it_is_deleted() {
    let mut rig = two_roots();
    let id = rig.create(create("a").parameter("root", "one")).id();
    rig.create(create("a").parameter("root", "two")).fails(Code::AlreadyExists, "root (one, now two)");
    assert_eq!(rig.list_ids(0), ["node-1/one/a"]);
    rig.delete(&id).ok();
    assert_eq!(rig.create(create("a").parameter("root", "two")).id(), "node-1/two/a");
    rig.create(create("a").parameter("root", "one")).fails(Code::AlreadyExists, "root (two, now one)");
    assert_eq!(rig.list_ids(0), ["node-1/two/a"]);
}

#[test]
fn a_name_that_is_created_on_two_roots_at_once_is_one_volume() {
    let mut rig = two_roots();
    for round in 0..40 {
        let name = format!("v{round}");
        let barrier = std::sync::Barrier::new(2);
        let won: Vec<bool> = std::thread::scope(|scope| {
            let calls = ["one", "two"].map(|root| {
                let (mut client, request, barrier) =
                    (rig.client(), create(&name).parameter("root", root), &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    match client.create(request).result() {
                        Ok(_) => true,
                        Err(status) => {
                            assert_eq!(status.code(), Code::AlreadyExists, "{status:?}");
                            false
                        }
                    }
                })
            });
            calls.into_iter().map(|call| call.join().unwrap()).collect()
        });
        assert_eq!(won.iter().filter(|won| **won).count(), 1, "{name}");
    }
    let names: HashSet<_> =
        rig.list_ids(0).into_iter().map(|id| id.rsplit('/').next().unwrap().to_string()).collect();
    assert_eq!((names.len(), rig.list_ids(0).len()), (40, 40));
}
