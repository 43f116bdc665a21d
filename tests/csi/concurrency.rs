//! Equal calls at once, and opposite ones: of each kind one happens, and nobody is told a lie.

use std::fs;

use berth::csi::*;

use crate::rig::*;

const CALLERS: usize = 12;

/// Makes the same call from many clients at once, through both processes where there are two.
fn at_once<T: Send>(rig: &Rig, call: impl Fn(&mut Client, usize) -> T + Sync) -> Vec<T> {
    let another = rig.scratch().join("another.sock");
    let clients = (0..CALLERS)
        .map(|number| if another.exists() && number % 2 == 1 { Client::of(&another) } else { rig.client() });
    let clients: Vec<_> = clients.collect();
    std::thread::scope(|scope| {
        let call = &call;
        let threads: Vec<_> = clients
            .into_iter()
            .enumerate()
            .map(|(number, mut client)| scope.spawn(move || call(&mut client, number)))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn equal_creations_at_once_make_one_volume() {
    for processes in [1, 2] {
        let mut rig = Rig::new();
        let _another = (processes == 2).then(|| rig.another_driver());
        for round in 0..8 {
            let name = format!("v{round}");
            let done = at_once(&rig, |client, _| client.create(create(&name)).ok_or_aborted());
            assert!(done.contains(&true));
            rig.disk().check_settled();
            assert_eq!(rig.disk().records.len(), round + 1);
            assert_eq!(rig.create(create(&name)).id(), format!("node-1/main/{name}"));
        }
        assert_eq!(rig.disk().new, Vec::<String>::new());
    }
}

#[test]
fn of_creations_with_different_sizes_at_once_one_gives_the_size_and_the_others_hear_of_it() {
    let rig = Rig::new();
    let _another = rig.another_driver();
    for round in 0..8 {
        let name = format!("v{round}");
        let size = |number: usize| (1 + number as i64) << 20;
        let answers = at_once(&rig, |client, number| {
            client.create(create(&name).range(size(number), size(number))).result()
        });
        let capacity = rig.disk().record(&name).unwrap().capacity_bytes;
        for (number, answer) in answers.into_iter().enumerate() {
            match answer {
                Ok(_) => assert_eq!(size(number), capacity),
                Err(status) => assert!(matches!(status.code(), Code::AlreadyExists | Code::Aborted)),
            }
        }
        rig.disk().check_settled();
    }
}

#[test]
fn equal_deletions_at_once_delete_one_volume_and_no_other() {
    for processes in [1, 2] {
        let mut rig = Rig::new();
        let _another = (processes == 2).then(|| rig.another_driver());
        rig.create(create("beside")).ok();
        for _ in 0..8 {
            let id = rig.create(create("v")).id();
            fs::write(rig.data_of("v").join("file"), "x").unwrap();
            let done = at_once(&rig, |client, _| client.delete(&id).ok_or_aborted());
            assert!(done.contains(&true));
            rig.delete(&id).ok();
            rig.disk().check_settled();
            assert_eq!(rig.list_ids(0), ["node-1/main/beside"]);
        }
        rig.wait_for_purge();
    }
}

#[test]
fn creations_and_deletions_of_one_name_at_once_leave_one_volume_or_none() {
    for processes in [1, 2] {
        let mut rig = Rig::new();
        let _another = (processes == 2).then(|| rig.another_driver());
        for _ in 0..8 {
            at_once(&rig, |client, number| {
                for _ in 0..4 {
                    if number % 4 < 2 {
                        client.create(create("v")).ok_or_aborted();
                    } else {
                        client.delete("node-1/main/v").ok_or_aborted();
                    }
                }
            });
            rig.disk().check_explained();
            assert!(rig.list_ids(0).len() <= 1);
            rig.create(create("v")).ok();
            rig.disk().check_settled();
            assert_eq!(rig.disk().records.len(), 1);
        }
    }
}

#[test]
fn expansions_at_once_end_in_the_largest_size() {
    let mut rig = Rig::new();
    let _another = rig.another_driver();
    let (id, target) = (rig.create(create("a")).id(), rig.target("t"));
    rig.publish(publish(&id, &target)).ok();
    at_once(&rig, |client, number| {
        let request = NodeExpandVolumeRequest {
            volume_id: id.clone(),
            volume_path: target.clone(),
            capacity_range: Some(CapacityRange { required_bytes: (2 + number as i64) << 20, limit_bytes: 0 }),
            ..Default::default()
        };
        while !client.expand(request.clone()).ok_or_aborted() {}
    });
    assert_eq!(rig.disk().record("a").unwrap().capacity_bytes, (1 + CALLERS as i64) << 20);
    rig.disk().check_settled();
}
