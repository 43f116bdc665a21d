//! What is known of publications when the driver was killed, the node was rebooted, or what was noted is lost.

use std::fs;
use std::path::PathBuf;

use berth::csi::volume_capability::access_mode::Mode;
use berth::csi::*;

use crate::rig::*;

const MODES: [Mode; 7] = [
    Mode::SingleNodeWriter,
    Mode::SingleNodeReaderOnly,
    Mode::SingleNodeSingleWriter,
    Mode::SingleNodeMultiWriter,
    Mode::MultiNodeReaderOnly,
    Mode::MultiNodeSingleWriter,
    Mode::MultiNodeMultiWriter,
];

/// Those of which a node has one target at a time.
const EXCLUSIVE: [Mode; 3] =
    [Mode::SingleNodeWriter, Mode::SingleNodeReaderOnly, Mode::SingleNodeSingleWriter];

fn volume(rig: &mut Rig) -> String {
    rig.create(create("v").mode(Mode::MultiNodeMultiWriter).parameter("nodeSharing", "true")).id()
}

/// The files in which publications are noted.
fn notes(rig: &Rig) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![rig.run_dir()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                directories.push(entry.path());
            } else {
                found.push(entry.path());
            }
        }
    }
    found
}

#[test]
fn a_killed_driver_is_followed_by_one_that_knows_who_holds_what() {
    for mode in MODES {
        let mut rig = Rig::new();
        let (id, one, two) = (volume(&mut rig), rig.target("one"), rig.target("two"));
        let request = publish(&id, &one).mode(mode).flag("noexec");
        rig.publish(request.clone()).ok();
        rig.restart();
        let before = rig.snapshot();
        rig.publish(request.clone()).ok();
        rig.publish(request.clone().flag("noatime")).fails(Code::AlreadyExists, "mount_flags");
        let other = if mode == MODES[0] { MODES[1] } else { MODES[0] };
        rig.publish(publish(&id, &two).mode(other)).fails(Code::FailedPrecondition, mode.as_str_name());
        rig.delete(&id).fails(Code::FailedPrecondition, &one);
        rig.is_as(&before);
        let second = rig.publish(publish(&id, &two).mode(mode));
        if EXCLUSIVE.contains(&mode) {
            second.fails(Code::FailedPrecondition, &one);
            rig.is_as(&before);
        } else {
            second.ok();
        }
    }
}

#[test]
fn a_driver_started_after_the_kill_unpublishes_what_the_dead_one_published() {
    let mut rig = Rig::new();
    let (id, target) = (volume(&mut rig), rig.target("t"));
    rig.publish(publish(&id, &target)).ok();
    rig.restart();
    rig.unpublish(&id, &target).ok();
    assert_eq!(rig.mounts_at(&target), []);
    assert!(!fs::exists(&target).unwrap());
    assert_eq!(notes(&rig), Vec::<PathBuf>::new());
    rig.delete(&id).ok();
}

#[test]
fn a_driver_that_is_stopped_leaves_what_is_mounted_to_the_next_one() {
    let mut rig = Rig::new();
    let (id, target) = (volume(&mut rig), rig.target("t"));
    rig.publish(publish(&id, &target)).ok();
    let before = rig.snapshot();
    rig.stop();
    fs::write(format!("{target}/file"), "a pod works on").unwrap();
    fs::remove_file(format!("{target}/file")).unwrap();
    rig.start();
    rig.publish(publish(&id, &target)).ok();
    rig.is_as(&before);
}

#[test]
fn a_reboot_frees_every_volume() {
    for mode in MODES {
        let mut rig = Rig::new();
        let (id, one, two) = (volume(&mut rig), rig.target("one"), rig.target("two"));
        rig.publish(publish(&id, &one).mode(mode)).ok();
        rig.reboot();
        // The pod comes back, as another one and in another mode.
        let other = if mode == MODES[2] { MODES[0] } else { MODES[2] };
        rig.publish(publish(&id, &two).mode(other)).ok();
        rig.unpublish(&id, &two).ok();
        rig.unpublish(&id, &one).ok();
        assert!(!fs::exists(&one).unwrap(), "the directory that the reboot left is tidied away");
        rig.delete(&id).ok();
    }
}

#[test]
fn notes_that_outlived_their_mounts_hold_nothing() {
    // As when the run directory is no tmpfs.
    let mut rig = Rig::new();
    let (id, one, two) = (volume(&mut rig), rig.target("one"), rig.target("two"));
    rig.publish(publish(&id, &one).mode(Mode::SingleNodeSingleWriter)).ok();
    rig.kill();
    nix::mount::umount(one.as_str()).unwrap();
    assert_eq!(notes(&rig).len(), 1);
    rig.start();
    rig.publish(publish(&id, &two).mode(Mode::SingleNodeWriter)).ok();
    rig.publish(publish(&id, &one).mode(Mode::SingleNodeWriter)).fails(Code::FailedPrecondition, &two);
    rig.unpublish(&id, &two).ok();
    rig.unpublish(&id, &one).ok();
    assert_eq!(notes(&rig), Vec::<PathBuf>::new());
}

/// A volume whose mount is there and whose mode nobody knows: it is exclusive until it is unpublished.
fn counts_as_exclusive(rig: &mut Rig, id: &str, mode: Mode) {
    let (one, two) = (rig.target("one"), rig.target("two"));
    let before = rig.snapshot();
    for wanted in MODES {
        rig.publish(publish(id, &two).mode(wanted)).fails(Code::FailedPrecondition, &one);
    }
    rig.publish(publish(id, &one).mode(mode)).fails(Code::AlreadyExists, "access_mode (unknown");
    rig.delete(id).fails(Code::FailedPrecondition, &one);
    rig.is_as(&before);
    assert_eq!(rig.mounts_at(&one).len(), 1);
    rig.unpublish(id, &one).ok();
    assert_eq!(rig.mounts_at(&one), []);
    rig.publish(publish(id, &two).mode(mode)).ok();
    rig.unpublish(id, &two).ok();
    assert_eq!(notes(rig), Vec::<PathBuf>::new());
}

#[test]
fn a_mount_whose_note_is_lost_counts_as_exclusive_and_unpublishing_it_frees_the_volume() {
    for mode in MODES {
        let mut rig = Rig::new();
        let (id, one) = (volume(&mut rig), rig.target("one"));
        rig.publish(publish(&id, &one).mode(mode)).ok();
        rig.kill();
        fs::remove_dir_all(rig.run_dir()).unwrap();
        rig.start();
        counts_as_exclusive(&mut rig, &id, mode);
    }
}

#[test]
fn a_note_that_cannot_be_believed_is_as_good_as_none() {
    type Spoil = fn(&str) -> String;
    let ways: [(&str, Spoil); 6] = [
        ("empty", |_| String::new()),
        ("cut short", |text| text[..text.len() / 2].into()),
        ("no JSON", |_| "\0\0\0\0".into()),
        ("of a newer format", |text| text.replace("\"format\": 1", "\"format\": 2")),
        ("of another target", |text| text.replace("/one", "/two")),
        ("of another life of the volume", |text| {
            text.replacen("\"incarnation\": \"", "\"incarnation\": \"0", 1)
        }),
    ];
    let mode = Mode::MultiNodeMultiWriter;
    for (how, spoil) in ways {
        let mut rig = Rig::new();
        let (id, one) = (volume(&mut rig), rig.target("one"));
        rig.publish(publish(&id, &one).mode(mode)).ok();
        let note = notes(&rig).pop().unwrap();
        let text = fs::read_to_string(&note).unwrap();
        assert_ne!(spoil(&text), text, "{how}");
        fs::write(&note, spoil(&text)).unwrap();
        counts_as_exclusive(&mut rig, &id, mode);
    }
}

#[test]
fn a_mount_that_was_attached_and_never_confirmed_is_confirmed_by_the_next_call() {
    let mut rig = Rig::new();
    let (id, one) = (volume(&mut rig), rig.target("one"));
    let request = publish(&id, &one).mode(Mode::SingleNodeSingleWriter);
    rig.publish(request.clone()).ok();
    // As a driver leaves it that is killed between the two.
    rig.kill();
    let note = notes(&rig).pop().unwrap();
    assert_eq!(note.extension().unwrap(), "confirmed");
    fs::rename(&note, note.with_extension("attaching")).unwrap();
    rig.start();
    rig.publish(request).ok();
    assert_eq!(notes(&rig), [note]);
    assert_eq!(rig.mounts_at(&one).len(), 1);
}

#[test]
fn the_newest_note_of_a_target_holds() {
    let mut rig = Rig::new();
    let (id, one, two) = (volume(&mut rig), rig.target("one"), rig.target("two"));
    // A publication that was unmounted by hand leaves its note; the next one there was not confirmed yet.
    rig.publish(publish(&id, &one).mode(Mode::MultiNodeMultiWriter)).ok();
    let note = notes(&rig).pop().unwrap();
    let old = fs::read(&note).unwrap();
    rig.unpublish(&id, &one).ok();
    rig.publish(publish(&id, &one).mode(Mode::SingleNodeSingleWriter)).ok();
    rig.kill();
    fs::rename(&note, note.with_extension("attaching")).unwrap();
    fs::write(&note, old).unwrap();
    rig.start();
    let why = rig
        .publish(publish(&id, &two).mode(Mode::MultiNodeMultiWriter))
        .fails(Code::FailedPrecondition, &one);
    assert!(why.contains("SINGLE_NODE_SINGLE_WRITER"), "{why}");
    rig.publish(publish(&id, &one).mode(Mode::SingleNodeSingleWriter)).ok();
    assert_eq!(notes(&rig).len(), 1);
}

#[test]
fn a_volume_that_came_back_under_the_same_name_is_another_one() {
    let mut rig = Rig::new();
    let (id, one) = (volume(&mut rig), rig.target("one"));
    rig.publish(publish(&id, &one)).ok();
    fs::write(format!("{one}/file"), "of the first").unwrap();
    // Its record and its data vanish beneath the mount, as when a backup is restored.
    rig.kill();
    let gone = rig.scratch().join("gone");
    fs::create_dir(&gone).unwrap();
    let data = rig.data_of("v");
    fs::remove_dir_all(rig.root().join(".berth/volumes/v")).unwrap();
    fs::rename(&data, rig.root().join("moved-away")).unwrap();
    rig.start();
    assert_eq!(volume(&mut rig), id);
    let request =
        NodeGetVolumeStatsRequest { volume_id: id.clone(), volume_path: one.clone(), ..Default::default() };
    rig.stats(request).fails(Code::NotFound, "publication");
    // The pod of the old one may not see the new one under its feet, nor pass for its holder.
    let answer = rig.publish(publish(&id, &one)).result();
    assert!(answer.is_err(), "the old life's mount is no publication of the new one");
    rig.unpublish(&id, &one).ok();
    assert_eq!(rig.mounts_at(&one), []);
    rig.publish(publish(&id, &one)).ok();
    assert!(!fs::exists(format!("{one}/file")).unwrap());
}
