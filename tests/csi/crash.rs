//! kill -9 between any two steps of every RPC, followed by every RPC.
//!
//! The driver is killed as it enters its first, second, third … change of a call, until the call comes to its end. What
//! has to follow is read from the disk and from the mount table, never asked of the driver.

use std::fs;

use berth::csi::*;
use nix::mount::{MntFlags, umount2};

use crate::rig::*;
use crate::scene::Next::*;
use crate::scene::{EACH, Next, Scene};

/// Kills the driver before each change of `call`, each time on a scene that `prepare` made ready, and lets each of the next
/// calls follow.
fn at_every_step<T: std::fmt::Debug>(
    least: usize,
    next: &[Next],
    request: impl Fn(&str) -> CreateVolumeRequest,
    prepare: impl Fn(&mut Rig, &Scene),
    call: impl Fn(&mut Rig, &Scene) -> Answer<T>,
) {
    let mut rig = Rig::new();
    rig.create(create("beside")).ok();
    fs::write(rig.data_of("beside").join("file"), "precious").unwrap();
    let scene = |rig: &mut Rig, name: &str| {
        let scene = Scene::of(rig, request(name));
        prepare(rig, &scene);
        scene
    };
    // What the first call of all makes is there from now on.
    scene(&mut rig, "first").live_and_die(&mut rig);
    let whole = scene(&mut rig, "whole");
    let steps = rig.steps_of(|rig| call(rig, &whole));
    // The answer needs no write where the transport is awake.
    let unseen = usize::from(steps.last().is_none_or(|step| step.name != "write"));
    assert!(steps.len() + unseen >= least, "{steps:?}");
    whole.live_and_die(&mut rig);
    for step in 1..=steps.len() {
        for next in next.iter().copied() {
            let scene = scene(&mut rig, &format!("v{step}-{next:?}").to_lowercase());
            rig.killed_at(&steps[..step], |rig| call(rig, &scene));
            eprintln!("killed at {:?}, then {next:?}", steps[step - 1]);
            rig.start();
            rig.disk().check_explained();
            scene.next(&mut rig, next);
            rig.disk().check_explained();
            scene.live_and_die(&mut rig);
            assert_eq!(fs::read_to_string(rig.data_of("beside").join("file")).unwrap(), "precious");
        }
    }
}

#[test]
fn a_creation_may_die_at_any_step() {
    at_every_step(10, EACH, create, |_, _| (), |rig, scene| rig.create(scene.request.clone()));
}

#[test]
fn a_creation_in_a_sub_directory_may_die_at_any_step() {
    let request = |name: &str| create(name).parameter("subDir", &format!("team/deeper/{name}"));
    at_every_step(12, &[Create, Delete], request, |_, _| (), |rig, scene| rig.create(scene.request.clone()));
}

#[test]
fn a_repeated_creation_may_die_at_any_step() {
    at_every_step(
        2,
        &[Create, Delete, Publish],
        create,
        |rig, scene| {
            rig.create(scene.request.clone()).ok();
        },
        |rig, scene| rig.create(scene.request.clone()),
    );
}

fn created_with_a_file(rig: &mut Rig, scene: &Scene) {
    rig.create(scene.request.clone()).ok();
    let data = rig.disk().record(scene.name()).unwrap().data.clone();
    fs::write(rig.root().join(data).join("file"), "x").unwrap();
}

fn deletion_at_every_step(on_delete: &str, next: &[Next]) {
    let request = |name: &str| create(name).parameter("onDelete", on_delete);
    at_every_step(9, next, request, created_with_a_file, |rig, scene| rig.delete(&scene.id));
}

#[test]
fn a_deletion_may_die_at_any_step() {
    deletion_at_every_step("delete", EACH);
}

#[test]
fn a_deletion_that_retains_may_die_at_any_step() {
    deletion_at_every_step("retain", &[Delete, Create]);
}

#[test]
fn a_deletion_that_archives_may_die_at_any_step() {
    deletion_at_every_step("archive", &[Delete, Create]);
}

#[test]
fn a_publication_may_die_at_any_step() {
    at_every_step(8, EACH, create, created_with_a_file, |rig, scene| {
        rig.publish(publish(&scene.id, &scene.target))
    });
}

fn published(rig: &mut Rig, scene: &Scene) {
    created_with_a_file(rig, scene);
    rig.publish(publish(&scene.id, &scene.target)).ok();
}

#[test]
fn an_unpublication_may_die_at_any_step() {
    at_every_step(6, EACH, create, published, |rig, scene| rig.unpublish(&scene.id, &scene.target));
}

#[test]
fn an_expansion_may_die_at_any_step() {
    at_every_step(6, &[Expand, Publish, Unpublish], create, published, |rig, scene| {
        rig.expand(scene.expansion())
    });
}

#[test]
fn the_first_opening_of_a_root_may_die_at_any_step() {
    let mut rig = Rig::without_driver();
    let root = rig.root();
    rig.set_roots(&[format!("main={}", root.display())]);
    let open = |rig: &mut Rig| rig.list(ListVolumesRequest::default());
    let mount_fresh = |rig: &mut Rig| {
        rig.start();
        open(rig).fails(Code::FailedPrecondition, "mount the disk");
        rig.mount_tmpfs(&root, "size=8m,mode=0755");
    };
    let unmount = |rig: &mut Rig| {
        rig.kill();
        umount2(&root, MntFlags::empty()).unwrap();
    };
    mount_fresh(&mut rig);
    let steps = rig.steps_of(open);
    assert!(steps.len() >= 10, "{steps:?}");
    unmount(&mut rig);
    for step in 1..=steps.len() {
        mount_fresh(&mut rig);
        rig.killed_at(&steps[..step], open);
        rig.start();
        let id = rig.create(create("a")).id();
        assert_eq!(rig.list_ids(0), [id]);
        rig.disk().check_settled();
        let identity = fs::read(root.join(".berth/root.json")).unwrap();
        rig.restart();
        assert_eq!(rig.create(create("a")).id(), "node-1/main/a");
        assert_eq!(fs::read(root.join(".berth/root.json")).unwrap(), identity);
        unmount(&mut rig);
    }
}
