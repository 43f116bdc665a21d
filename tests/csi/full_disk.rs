//! A full disk, and a disk that fails: a clear error, nothing half-made, nothing lost, and room can always be made by
//! deleting volumes.

use std::fs;
use std::path::{Path, PathBuf};

use berth::csi::*;

use crate::rig::*;
use crate::scene::Scene;

/// A root of its own size, in bytes and inodes.
fn small(options: &str) -> Rig {
    let mut rig = Rig::without_driver();
    rig.mount_tmpfs(&rig.root(), options);
    rig.set_roots(&[format!("main={}", rig.root().display())]);
    rig.start();
    rig
}

/// Writes until there is not one byte left.
fn fill_bytes(rig: &Rig) -> PathBuf {
    let filler = rig.root().join("filler");
    let mut file = fs::File::options().create(true).append(true).open(&filler).unwrap();
    while std::io::Write::write_all(&mut file, &[1; 4096]).is_ok() {}
    filler
}

/// Makes files until there is not one inode left.
fn fill_inodes(rig: &Rig) -> PathBuf {
    let filler = rig.root().join("fillers");
    fs::create_dir_all(&filler).unwrap();
    let begin = fs::read_dir(&filler).unwrap().count();
    for number in begin.. {
        if fs::write(filler.join(number.to_string()), "").is_err() {
            return filler;
        }
    }
    unreachable!()
}

fn any_size(name: &str) -> CreateVolumeRequest {
    create(name).range(0, 0)
}

/// Takes all room of one kind, and says where.
type Fill = fn(&Rig) -> PathBuf;

/// Both ways in which a disk gets full.
const FULL: &[(&str, Fill)] =
    &[("size=1m,mode=0755", fill_bytes), ("size=16m,nr_inodes=128,mode=0755", fill_inodes)];

fn make_room(filler: &Path) {
    if filler.is_dir() { fs::remove_dir_all(filler).unwrap() } else { fs::remove_file(filler).unwrap() }
}

#[test]
fn what_a_full_disk_has_no_room_for_leaves_nothing_and_works_when_there_is() {
    for (options, fill) in FULL {
        let mut rig = small(options);
        let (id, target) = (rig.create(any_size("a")).id(), rig.target("t"));
        rig.publish(publish(&id, &target)).ok();
        let filler = fill(&rig);
        for _ in 0..3 {
            rig.create(any_size("b")).fails(Code::ResourceExhausted, "No space left on device");
            assert_eq!(rig.list_ids(0), std::slice::from_ref(&id));
            rig.publish(publish("node-1/main/b", &rig.target("b"))).fails(Code::NotFound, "b");
            rig.disk().check_settled();
            assert_eq!(rig.disk().new, Vec::<String>::new());
        }
        let before = rig.disk().record("a").unwrap().capacity_bytes;
        let request = NodeExpandVolumeRequest {
            volume_id: id.clone(),
            volume_path: target.clone(),
            capacity_range: Some(CapacityRange { required_bytes: before + 1, limit_bytes: 0 }),
            ..Default::default()
        };
        rig.expand(request.clone()).fails(Code::ResourceExhausted, "");
        assert_eq!(rig.disk().record("a").unwrap().capacity_bytes, before);
        rig.publish(publish(&id, &target)).ok();
        make_room(&filler);
        rig.create(any_size("b")).ok();
        rig.expand(request).ok();
        rig.disk().check_settled();
    }
}

#[test]
fn a_volume_that_is_larger_than_what_is_left_is_refused_with_both_figures() {
    let mut rig = small("size=1m,mode=0755");
    fill_bytes(&rig);
    let told = rig.create(create("b").bytes(4096)).fails(Code::ResourceExhausted, "0 bytes left");
    assert!(told.contains("4096 are required"), "{told}");
}

#[test]
fn volumes_can_be_deleted_from_a_full_disk_one_after_another() {
    for (options, fill) in FULL {
        for on_delete in ["delete", "retain", "archive"] {
            let mut rig = small(options);
            let request = |name: &str| any_size(name).parameter("onDelete", on_delete);
            let ids = ["a", "b", "c"].map(|name| rig.create(request(name)).id());
            rig.wait_for_reserve();
            let mut filler = fill(&rig);
            for id in &ids {
                rig.delete(id).ok();
                rig.disk().check_settled();
                filler = fill(&rig);
            }
            assert_eq!(rig.list_ids(0), Vec::<String>::new());
            make_room(&filler);
            rig.create(any_size("again")).ok();
            rig.delete("node-1/main/again").ok();
            rig.wait_for_reserve();
        }
    }
}

#[test]
fn the_reserve_is_for_deletions_alone_and_not_touched_while_there_is_room() {
    let mut rig = small("size=1m,mode=0755");
    let id = rig.create(any_size("a")).id();
    rig.wait_for_reserve();
    let reserve = rig.root().join(".berth/reserve");
    let whole = names(&reserve);
    rig.delete(&id).ok();
    rig.create(any_size("a")).ok();
    fill_bytes(&rig);
    rig.create(any_size("b")).fails(Code::ResourceExhausted, "No space left on device");
    assert_eq!(names(&reserve), whole);
    rig.delete(&id).ok();
}

/// Lets each change of a call fail once with an error of the disk, then looks whether the call may be repeated, and whether all
/// is well after that.
fn each_step_fails<T: std::fmt::Debug>(
    error: &str,
    code: Code,
    request: impl Fn(&str) -> CreateVolumeRequest,
    prepare: impl Fn(&mut Rig, &Scene),
    call: impl Fn(&mut Rig, &Scene) -> Answer<T>,
) {
    let mut rig = Rig::new();
    rig.wait_for_reserve();
    rig.create(create("beside")).ok();
    fs::write(rig.data_of("beside").join("file"), "precious").unwrap();
    // What the first call of all makes is there from now on.
    Scene::of(&rig, request("first")).live_and_die(&mut rig);
    let whole = Scene::of(&rig, request("whole"));
    prepare(&mut rig, &whole);
    let mut steps = rig.steps_of(|rig| call(rig, &whole));
    whole.live_and_die(&mut rig);
    // The last one wakes the edge: no disk.
    steps.pop();
    for (index, step) in steps.iter().enumerate() {
        eprintln!("{error} at {step:?}");
        let scene = Scene::of(&rig, request(&format!("v{index}")));
        prepare(&mut rig, &scene);
        let injection = rig.inject(CHANGES, &format!("{}:error={error}:when={}", step.name, step.number));
        let answer = call(&mut rig, &scene).result();
        let made = injection.end();
        assert_eq!(made[index], step.name);
        rig.disk().check_explained();
        if let Err(status) = answer {
            assert_eq!(status.code(), code, "{status:?}");
            assert!(status.message().contains(&rig.scratch().display().to_string()), "{status:?}");
        }
        call(&mut rig, &scene).ok();
        scene.live_and_die(&mut rig);
        assert_eq!(fs::read_to_string(rig.data_of("beside").join("file")).unwrap(), "precious");
    }
}

/// Errors of a disk, and the code that the CO gets.
const ERRORS: [(&str, Code); 2] = [("ENOSPC", Code::ResourceExhausted), ("EIO", Code::Internal)];

#[test]
fn a_creation_whose_disk_fails_at_any_step_says_so_and_may_be_repeated() {
    for (error, code) in ERRORS {
        let request = |name: &str| any_size(name).parameter("subDir", &format!("team/{name}"));
        each_step_fails(error, code, request, |_, _| (), |rig, scene| rig.create(scene.request.clone()));
    }
}

fn created(rig: &mut Rig, scene: &Scene) {
    rig.create(scene.request.clone()).ok();
}

#[test]
fn a_deletion_whose_disk_fails_at_any_step_says_so_and_may_be_repeated() {
    for (error, code) in ERRORS {
        each_step_fails(error, code, any_size, created, |rig, scene| rig.delete(&scene.id));
    }
}

#[test]
fn a_publication_whose_disk_fails_at_any_step_says_so_and_may_be_repeated() {
    for (error, code) in ERRORS {
        each_step_fails(error, code, any_size, created, |rig, scene| {
            rig.publish(publish(&scene.id, &scene.target))
        });
    }
}

#[test]
fn an_unpublication_whose_disk_fails_at_any_step_says_so_and_may_be_repeated() {
    let published = |rig: &mut Rig, scene: &Scene| {
        created(rig, scene);
        rig.publish(publish(&scene.id, &scene.target)).ok();
    };
    let unpublish = |rig: &mut Rig, scene: &Scene| rig.unpublish(&scene.id, &scene.target);
    each_step_fails("EIO", Code::Internal, any_size, published, unpublish);
}
