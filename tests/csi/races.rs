//! Publishing while others publish, unpublish, look, and swap what is at the target.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;

use berth::csi::volume_capability::access_mode::Mode;

use crate::rig::*;

/// Runs `watch` again and again on a thread of its own for as long as `work` takes; how often it ran.
fn while_working(work: impl FnOnce(), mut watch: impl FnMut() + Send) -> usize {
    let (done, times) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                watch();
                times.fetch_add(1, Ordering::SeqCst);
            }
        });
        /// The watch ends with the work, however that ends.
        struct Ends<'a>(&'a AtomicBool);
        impl Drop for Ends<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let _ends = Ends(&done);
        work();
    });
    times.into_inner()
}

#[test]
fn a_mount_is_read_only_and_safe_from_its_first_visible_moment() {
    let mut rig = Rig::new();
    let (id, target) = (rig.create(create("a")).id(), rig.target("t"));
    let mut client = rig.client();
    let (mut seen, watched) = (0, target.clone());
    let work = || {
        for _ in 0..120 {
            client.publish(publish(&id, &target).read_only().flag("noexec")).ok();
            client.unpublish(&id, &target).ok();
        }
    };
    let looked = while_working(work, || {
        for mount in mounts().into_iter().filter(|mount| mount.at == watched) {
            seen += 1;
            for option in ["ro", "nosuid", "nodev", "noexec"] {
                assert!(mount.has(option), "{option}: {mount:?}");
            }
        }
    });
    assert!(seen > 0, "the mount was seen {seen} times in {looked} looks");
}

#[test]
fn a_read_only_publication_can_be_written_at_no_moment() {
    let mut rig = Rig::new();
    let (id, target) = (rig.create(create("a")).id(), rig.target("t"));
    fs::write(rig.data_of("a").join("file"), "as it was").unwrap();
    let mut client = rig.client();
    let file = Path::new(&target).join("file");
    let mut refused = 0;
    let work = || {
        for _ in 0..120 {
            // A target that is busy is aborted, and busy it is now and then.
            client.publish(publish(&id, &target).mode(Mode::SingleNodeMultiWriter).read_only()).ok();
            while !client.unpublish(&id, &target).ok_or_aborted() {}
        }
    };
    while_working(work, || match fs::OpenOptions::new().append(true).open(&file) {
        Ok(_) => panic!("opened for writing"),
        Err(error) if error.raw_os_error() == Some(nix::libc::EROFS) => refused += 1,
        Err(_) => {}
    });
    assert!(refused > 0);
}

#[test]
fn of_equal_publishes_at_once_each_is_done_or_aborted_and_one_mount_is_made() {
    let mut rig = Rig::new();
    let (id, target) = (rig.create(create("a")).id(), rig.target("t"));
    let mut clients: Vec<_> = (0..8).map(|_| rig.client()).collect();
    for _ in 0..20 {
        let barrier = Barrier::new(clients.len());
        let done = AtomicUsize::new(0);
        thread::scope(|scope| {
            for client in &mut clients {
                scope.spawn(|| {
                    barrier.wait();
                    if client.publish(publish(&id, &target)).ok_or_aborted() {
                        done.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!(done.into_inner() > 0);
        assert_eq!(rig.mounts_at(&target).len(), 1);
        rig.publish(publish(&id, &target)).ok();
        rig.unpublish(&id, &target).ok();
        assert_eq!(rig.mounts_at(&target), []);
    }
}

#[test]
fn of_publishes_at_many_targets_at_once_one_gets_an_exclusive_volume() {
    let mut rig = Rig::new();
    let id = rig.create(create("a").mode(Mode::SingleNodeSingleWriter)).id();
    let mut clients: Vec<_> = (0..8).map(|i| (rig.client(), rig.target(&format!("t{i}")))).collect();
    for _ in 0..20 {
        let barrier = Barrier::new(clients.len());
        let done = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for (client, target) in &mut clients {
                scope.spawn(|| {
                    barrier.wait();
                    let request = publish(&id, target).mode(Mode::SingleNodeSingleWriter);
                    match client.publish(request).result() {
                        Ok(_) => done.lock().unwrap().push(target.clone()),
                        Err(status) => assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}"),
                    }
                });
            }
        });
        let done = done.into_inner().unwrap();
        assert_eq!(done.len(), 1, "{done:?}");
        let mounted: Vec<_> = clients.iter().filter(|(_, at)| !rig.mounts_at(at).is_empty()).collect();
        assert_eq!(mounted.len(), 1);
        assert_eq!(fs::read_dir(rig.target("")).unwrap().count(), 1, "the others left nothing");
        rig.unpublish(&id, &done[0]).ok();
    }
}

#[test]
fn two_driver_processes_never_both_give_an_exclusive_volume_away() {
    let mut rig = Rig::new();
    let mut another = rig.another_driver();
    let id = rig.create(create("a").mode(Mode::SingleNodeSingleWriter)).id();
    let (one, two) = (rig.target("one"), rig.target("two"));
    let mut given = 0;
    for round in 0..40 {
        let barrier = Barrier::new(2);
        let mut client = rig.client();
        let (first, second) = thread::scope(|scope| {
            let first = scope.spawn(|| {
                barrier.wait();
                client.publish(publish(&id, &one).mode(Mode::SingleNodeSingleWriter)).result()
            });
            barrier.wait();
            let second = another.publish(publish(&id, &two).mode(Mode::SingleNodeSingleWriter)).result();
            (first.join().unwrap(), second)
        });
        assert!(first.is_err() || second.is_err(), "round {round}: both were given the volume");
        for (answer, target) in [(&first, &one), (&second, &two)] {
            match answer {
                Ok(_) => {
                    given += 1;
                    assert_eq!(rig.mounts_at(target).len(), 1, "round {round}");
                }
                Err(status) => {
                    let code = status.code();
                    assert!(matches!(code, Code::Aborted | Code::FailedPrecondition), "{status:?}");
                    assert_eq!(rig.mounts_at(target), [], "round {round}: {status:?}");
                    assert!(!fs::exists(target).unwrap(), "round {round}: {status:?}");
                }
            }
        }
        // Each process unpublishes what the other has published as well.
        rig.unpublish(&id, &two).ok();
        another.unpublish(&id, &one).ok();
        rig.publish(publish(&id, &two).mode(Mode::SingleNodeSingleWriter)).ok();
        another
            .publish(publish(&id, &one).mode(Mode::SingleNodeSingleWriter))
            .fails(Code::FailedPrecondition, &two);
        another.unpublish(&id, &two).ok();
    }
    assert!(given > 0, "somebody got it now and then");
}

#[test]
fn two_driver_processes_at_one_target_mount_it_once_and_leave_nothing_behind() {
    let mut rig = Rig::new();
    let mut another = rig.another_driver();
    let id = rig.create(create("a")).id();
    let target = rig.target("t");
    for _ in 0..50 {
        let barrier = Barrier::new(2);
        let mut client = rig.client();
        let done = thread::scope(|scope| {
            let first = scope.spawn(|| {
                barrier.wait();
                client.publish(publish(&id, &target)).result()
            });
            barrier.wait();
            let second = another.publish(publish(&id, &target)).result();
            [first.join().unwrap(), second]
        });
        assert!(done.iter().any(Result::is_ok), "{done:?}");
        assert_eq!(rig.mounts_at(&target).len(), 1, "{done:?}");
        rig.unpublish(&id, &target).ok();
        assert_eq!(rig.mounts_at(&target), []);
        assert!(!fs::exists(&target).unwrap());
    }
    rig.delete(&id).ok();
}

#[test]
fn after_the_last_unpublish_nothing_is_mounted() {
    let mut rig = Rig::new();
    let (id, target) = (rig.create(create("a")).id(), rig.target("t"));
    let mut clients: Vec<_> = (0..4).map(|_| rig.client()).collect();
    for _ in 0..50 {
        let barrier = Barrier::new(clients.len());
        thread::scope(|scope| {
            for (i, client) in clients.iter_mut().enumerate() {
                let (id, target, barrier) = (&id, &target, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    if i % 2 == 0 {
                        client.publish(publish(id, target)).ok_or_aborted();
                    } else {
                        client.unpublish(id, target).ok_or_aborted();
                    }
                });
            }
        });
        assert!(rig.mounts_at(&target).len() <= 1);
        rig.unpublish(&id, &target).ok();
        assert_eq!(rig.mounts_at(&target), []);
        assert!(!fs::exists(&target).unwrap());
    }
    rig.delete(&id).ok();
}

#[test]
fn a_publish_whose_caller_went_away_and_that_was_unpublished_mounts_nothing() {
    let mut rig = Rig::new();
    let (id, target) = (rig.create(create("a")).id(), rig.target("t"));
    for round in 0..50 {
        let client = rig.client();
        // A deadline between nothing and more than enough.
        client.gives_up(publish(&id, &target), std::time::Duration::from_micros(round * 60));
        rig.unpublish(&id, &target).ok();
        assert_eq!(rig.mounts_at(&target), [], "round {round}");
    }
    // Whatever was still at work by then.
    thread::sleep(std::time::Duration::from_millis(200));
    assert_eq!(rig.mounts_at(&target), []);
    rig.delete(&id).ok();
}

#[test]
fn a_target_that_is_swapped_for_a_link_leads_nowhere_else() {
    let mut rig = Rig::new();
    let (id, target) = (rig.create(create("a")).id(), rig.target("t"));
    let outside = rig.scratch().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::create_dir(outside.join("empty")).unwrap();
    let mut client = rig.client();
    let (work_at, swap_at, link) = (target.clone(), target.clone(), outside.join("empty"));
    let work = || {
        for _ in 0..150 {
            let _ = client.publish(publish(&id, &work_at)).result();
            let _ = client.unpublish(&id, &work_at).result();
        }
    };
    let mut swapped = 0;
    while_working(work, || {
        if fs::remove_dir(&swap_at).is_ok() || !fs::exists(&swap_at).unwrap_or(true) {
            swapped += usize::from(symlink(&link, &swap_at).is_ok());
        }
        let _ = fs::remove_file(&swap_at);
    });
    assert!(swapped > 0, "swapped {swapped} times");
    let reached: Vec<_> =
        mounts().into_iter().filter(|mount| Path::new(&mount.at).starts_with(&outside)).collect();
    assert_eq!(reached, []);
    assert!(outside.join("empty").is_dir(), "not removed through the link");
    rig.unpublish(&id, &target).ok();
    rig.publish(publish(&id, &target)).ok();
    rig.unpublish(&id, &target).ok();
    rig.delete(&id).ok();
}
