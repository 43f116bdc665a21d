//! NodeGetVolumeStats: what df says at a publication, and NOT_FOUND everywhere else.

use std::fs;
use std::os::unix::fs::symlink;

use berth::csi::volume_usage::Unit;
use berth::csi::*;
use nix::mount::umount;
use nix::sys::statvfs::statvfs;

use crate::rig::*;

fn of(volume_id: &str, volume_path: &str) -> NodeGetVolumeStatsRequest {
    NodeGetVolumeStatsRequest {
        volume_id: volume_id.into(),
        volume_path: volume_path.into(),
        ..Default::default()
    }
}

/// What the kernel says at a path: total, used and available, of bytes and of inodes.
fn of_the_kernel(path: &str) -> [(Unit, i64, i64, i64); 2] {
    let found = statvfs(path).unwrap();
    let size = found.fragment_size();
    let signed = |number: u64| i64::try_from(number).unwrap();
    [
        (
            Unit::Bytes,
            signed(found.blocks() * size),
            signed((found.blocks() - found.blocks_free()) * size),
            signed(found.blocks_available() * size),
        ),
        (
            Unit::Inodes,
            signed(found.files()),
            signed(found.files() - found.files_free()),
            signed(found.files_available()),
        ),
    ]
}

fn figures(rig: &mut Rig, id: &str, path: &str) -> Vec<(Unit, i64, i64, i64)> {
    let usage = rig.stats(of(id, path)).ok().usage;
    usage.iter().map(|usage| (usage.unit(), usage.total, usage.used, usage.available)).collect()
}

#[test]
fn the_figures_are_those_of_the_file_system_and_follow_what_is_written() {
    let mut rig = Rig::new();
    let (id, target) = (rig.create(create("a")).id(), rig.target("t"));
    rig.publish(publish(&id, &target)).ok();
    let before = figures(&mut rig, &id, &target);
    assert_eq!(before, of_the_kernel(&target));
    assert_eq!(before[0].1, 64 << 20);
    fs::write(format!("{target}/file"), vec![1; 4 << 20]).unwrap();
    let after = figures(&mut rig, &id, &target);
    assert_eq!(after, of_the_kernel(&target));
    assert_eq!(after[0].2 - before[0].2, 4 << 20);
    assert_eq!(before[0].3 - after[0].3, 4 << 20);
    assert_eq!(after[1].2 - before[1].2, 1);
}

#[test]
fn a_volume_is_measured_at_each_of_its_targets_however_that_is_spelt() {
    let mut rig = Rig::new();
    let (id, one, two) = (rig.create(create("a")).id(), rig.target("one"), rig.target("two"));
    fs::create_dir(rig.target("real")).unwrap();
    symlink("real", rig.target("link")).unwrap();
    let through = rig.target("link/t");
    for target in [&one, &two, &through] {
        rig.publish(publish(&id, target)).ok();
    }
    let above = rig.target("");
    for path in [
        one.clone(),
        two,
        through,
        rig.target("real/t"),
        format!("{one}/"),
        format!("/{one}//"),
        format!("{above}./one/."),
    ] {
        assert_eq!(figures(&mut rig, &id, &path).len(), 2, "{path}");
    }
    rig.restart();
    assert_eq!(figures(&mut rig, &id, &one).len(), 2);
}

#[test]
fn a_path_that_is_no_publication_of_the_volume_is_not_found() {
    let mut rig = Rig::new();
    let (a, b) = (rig.create(create("a")).id(), rig.create(create("b")).id());
    let (of_a, of_b, by_hand) = (rig.target("a"), rig.target("b"), rig.target("by-hand"));
    rig.publish(publish(&a, &of_a)).ok();
    rig.publish(publish(&b, &of_b)).ok();
    rig.publish(publish(&a, &by_hand)).ok();
    umount(by_hand.as_str()).unwrap();
    fs::create_dir(format!("{of_a}/inner")).unwrap();
    symlink(&of_a, rig.target("link")).unwrap();
    let data = rig.data_of("a").display().to_string();
    let long = format!("/{}", "x".repeat(5000));
    for path in [
        &of_b,
        &by_hand,
        &rig.target("missing"),
        &rig.target("missing/deeper"),
        &format!("{of_a}/inner"),
        &rig.target("link"),
        &rig.target(""),
        &data,
        &rig.root().display().to_string(),
        "/",
        "a",
        "./a",
        "../a",
        "targets/a",
        ".",
        "..",
        &format!("{of_a}/../a"),
        &format!("{of_a}/.."),
        &format!("{of_a}\0"),
        &long,
        " ",
    ] {
        rig.unchanged(|rig| {
            rig.stats(of(&a, path)).fails(Code::NotFound, "");
            rig.expand(NodeExpandVolumeRequest {
                volume_id: a.clone(),
                volume_path: path.into(),
                capacity_range: Some(CapacityRange { required_bytes: 2 << 20, limit_bytes: 0 }),
                ..Default::default()
            })
            .fails(Code::NotFound, "");
        });
    }
    rig.stats(of(&a, "")).fails(Code::InvalidArgument, "volume_path");
    rig.stats(of(&a, &of_a)).ok();
    rig.unpublish(&a, &of_a).ok();
    rig.stats(of(&a, &of_a)).fails(Code::NotFound, &of_a);
}

#[test]
fn a_volume_is_measured_also_where_only_reading_is_allowed_and_never_changed_by_it() {
    let mut rig = Rig::new();
    let (id, target) = (rig.create(create("a")).id(), rig.target("t"));
    rig.publish(publish(&id, &target).read_only()).ok();
    let expected = of_the_kernel(&target);
    let found = rig.unchanged(|rig| figures(rig, &id, &target));
    assert_eq!(found, expected);
}
