//! A record that cannot be believed is one bad volume: named, left as it is, and in nobody's way.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use berth::csi::*;

use crate::rig::*;

/// What may be wrong with a record, and what the error says of it. A damage is done to `.berth/volumes/bad`, its incarnation
/// and its file.
type Damage = fn(&Path, &Path, &Path);

fn edit(file: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(file, text.replace(from, to)).unwrap();
}

const DAMAGES: &[(&str, &str, Damage)] = &[
    ("cut short", "restore it from a backup", |_, _, file| {
        let text = fs::read(file).unwrap();
        fs::write(file, &text[..text.len() / 2]).unwrap();
    }),
    ("empty", "is empty", |_, _, file| fs::write(file, "").unwrap()),
    ("nothing but zeros", "restore it from a backup", |_, _, file| fs::write(file, [0; 4096]).unwrap()),
    ("of a newer format", "use a newer one", |_, _, file| edit(file, "\"format\": 1", "\"format\": 2")),
    ("of a newer format with other fields", "use a newer one", |_, _, file| {
        fs::write(file, r#"{"format": 7, "who": "knows"}"#).unwrap();
    }),
    ("other JSON", "is no record of Berth", |_, _, file| fs::write(file, r#"{"a": 1}"#).unwrap()),
    ("a list", "is no record of Berth", |_, _, file| fs::write(file, "[]").unwrap()),
    ("with a field that nobody knows", "can't be read", |_, _, file| {
        edit(file, "\"format\": 1,", "\"format\": 1, \"colour\": \"red\",");
    }),
    ("of another name", "is of another volume", |_, _, file| edit(file, "\"bad\"", "\"worse\"")),
    ("of another incarnation", "is of another volume", |directory, incarnation, _| {
        fs::rename(incarnation, directory.join("0123456789abcdef")).unwrap();
    }),
    ("with a path that climbs", "its path", |_, _, file| {
        edit(file, "\"path\": \"bad\"", "\"path\": \"../x\"")
    }),
    ("a directory where the file should be", "holds no generation", |_, _, file| {
        fs::remove_file(file).unwrap();
        fs::create_dir(file).unwrap();
    }),
    ("a link to a file", "is not what Berth put there", |_, incarnation, file| {
        let elsewhere = incarnation.parent().unwrap().parent().unwrap().parent().unwrap().join("elsewhere");
        fs::rename(file, &elsewhere).unwrap();
        symlink(&elsewhere, file).unwrap();
    }),
    ("without a generation", "holds no generation", |_, _, file| fs::remove_file(file).unwrap()),
    ("with a file that is no generation", "holds no generation", |_, incarnation, file| {
        fs::rename(file, incarnation.join("one.json")).unwrap();
    }),
    ("two incarnations", "one incarnation is expected", |directory, _, _| {
        fs::create_dir(directory.join("0123456789abcdef")).unwrap();
    }),
    ("a stray file beside the incarnation", "one incarnation is expected", |directory, _, _| {
        fs::write(directory.join("note.txt"), "").unwrap();
    }),
    ("a file where the incarnation should be", "is not what Berth put there", |_, incarnation, _| {
        fs::remove_dir_all(incarnation).unwrap();
        fs::write(incarnation, "").unwrap();
    }),
    ("a link to an incarnation", "is not what Berth put there", |directory, incarnation, _| {
        let elsewhere = directory.parent().unwrap().parent().unwrap().join("elsewhere");
        fs::rename(incarnation, &elsewhere).unwrap();
        symlink(&elsewhere, incarnation).unwrap();
    }),
    ("a file where the name should be", "is not what Berth put there", |directory, _, _| {
        fs::remove_dir_all(directory).unwrap();
        fs::write(directory, "").unwrap();
    }),
    ("a link where the name should be", "is not what Berth put there", |directory, _, _| {
        let elsewhere = directory.parent().unwrap().parent().unwrap().join("elsewhere");
        fs::rename(directory, &elsewhere).unwrap();
        symlink(&elsewhere, directory).unwrap();
    }),
];

/// What an error has to tell beyond the words of its case: what to do.
const ADVICE: [&str; 4] = ["restore it", "move it away", "move the others away", "use a newer one"];

#[test]
fn a_bad_record_is_one_bad_volume_and_nothing_of_it_is_deleted() {
    let mut rig = Rig::new();
    let good = rig.create(create("good")).id();
    let bad = rig.create(create("bad")).id();
    fs::write(rig.data_of("bad").join("file"), "precious").unwrap();
    let target = rig.target("t");
    let whole = fs::read_dir(rig.volumes_dir().join("bad")).unwrap().next().unwrap().unwrap().path();
    let text = fs::read(whole.join("1.json")).unwrap();
    for (damage, words, make) in DAMAGES {
        eprintln!("{damage}");
        rig.kill();
        let directory = rig.volumes_dir().join("bad");
        make(&directory, &whole, &whole.join("1.json"));
        rig.start();
        let damaged = rig.snapshot();
        let path = directory.display().to_string();
        let told = |message: String| {
            assert!(message.contains(&path), "{damage}: {message}");
            assert!(ADVICE.iter().any(|advice| message.contains(advice)), "{damage}: {message}");
        };
        told(rig.create(create("bad")).fails(Code::Internal, words));
        told(rig.delete(&bad).fails(Code::Internal, words));
        told(rig.publish(publish(&bad, &target)).fails(Code::Internal, words));
        let request = ControllerGetVolumeRequest { volume_id: bad.clone() };
        told(rig.get_volume(request).fails(Code::Internal, words));
        rig.unpublish(&bad, &target).ok();
        assert_eq!(rig.list_ids(0), std::slice::from_ref(&good), "{damage}");
        assert_eq!(rig.snapshot(), damaged, "{damage}");
        // All others go on.
        assert_eq!(rig.create(create("good")).id(), good);
        rig.publish(publish(&good, &target)).ok();
        rig.unpublish(&good, &target).ok();
        let another = rig.create(create("another")).id();
        rig.delete(&another).ok();
        assert_eq!(fs::read_to_string(rig.data_of("bad").join("file")).unwrap(), "precious");
        restore(&directory, &whole, &text);
    }
    // A restored record is a volume as before, and needs no restart.
    rig.publish(publish(&bad, &target)).ok();
    assert_eq!(fs::read_to_string(format!("{target}/file")).unwrap(), "precious");
    rig.unpublish(&bad, &target).ok();
    rig.delete(&bad).ok();
    rig.disk().check_settled();
}

/// What an operator does with a backup: away with what is there, and the record in its place.
fn restore(directory: &Path, incarnation: &Path, text: &[u8]) {
    match fs::symlink_metadata(directory) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(directory).unwrap(),
        _ => fs::remove_file(directory).unwrap(),
    }
    let elsewhere = directory.parent().unwrap().parent().unwrap().join("elsewhere");
    let _ = fs::remove_dir_all(&elsewhere);
    let _ = fs::remove_file(&elsewhere);
    fs::create_dir_all(incarnation).unwrap();
    fs::write(incarnation.join("1.json"), text).unwrap();
}

#[test]
fn a_mount_of_a_volume_with_a_bad_record_can_be_unpublished() {
    let mut rig = Rig::new();
    let (id, target) = (rig.create(create("bad")).id(), rig.target("t"));
    rig.publish(publish(&id, &target)).ok();
    let incarnation = fs::read_dir(rig.volumes_dir().join("bad")).unwrap().next().unwrap().unwrap().path();
    fs::write(incarnation.join("1.json"), "").unwrap();
    rig.publish(publish(&id, &target)).fails(Code::Internal, "is empty");
    assert_eq!(rig.mounts_at(&target).len(), 1);
    rig.unpublish(&id, &target).ok();
    assert_eq!(rig.mounts_at(&target).len(), 0);
}
