//! What may be a root, and what two roots may be to each other.

use std::fs;
use std::os::unix::fs::symlink;

use berth::csi::*;

use crate::rig::*;

/// A driver that may not start: the reason it gives.
fn refused_start(rig: &mut Rig, roots: &[String]) -> String {
    rig.set_roots(roots);
    let before = rig.log().len();
    let status = rig.command(&[], "csi.sock").status().unwrap();
    assert!(!status.success());
    rig.log()[before..].to_string()
}

#[test]
fn roots_that_share_a_name_or_a_directory_are_refused_at_the_start() {
    let mut rig = Rig::without_driver();
    let (one, two) = (rig.root().display().to_string(), rig.scratch().join("two").display().to_string());
    fs::create_dir(&two).unwrap();
    for (roots, words) in [
        ([format!("a={one},plain"), format!("a={two},plain")], "given twice"),
        ([format!("a={one},plain"), format!("b={one},plain")], "lies in"),
        ([format!("a={one},plain"), format!("b={one}/,plain")], "lies in"),
        ([format!("a={one},plain"), format!("b={one}/deeper,plain")], "lies in"),
        ([format!("a={one}/deeper,plain"), format!("b={one},plain")], "lies in"),
    ] {
        let told = refused_start(&mut rig, &roots);
        assert!(told.contains(words) && told.contains("--root"), "{roots:?}: {told}");
    }
    assert_eq!(names(&rig.root()), Vec::<String>::new());
}

#[test]
fn two_names_of_one_directory_are_told_apart_by_its_identity() {
    let mut rig = Rig::without_driver();
    let link = rig.scratch().join("link");
    symlink("root", &link).unwrap();
    rig.set_roots(&[format!("a={},plain", rig.root().display()), format!("b={},plain", link.display())]);
    rig.start();
    // Each root is looked at by itself, so either may be first.
    drop(rig.create(create("v").parameter("root", "a")));
    let identity = fs::read_to_string(rig.root().join(".berth/root.json")).unwrap();
    let (has, other) = if identity.contains("\"a\"") { ("a", "b") } else { ("b", "a") };
    rig.create(create("v").parameter("root", has)).ok();
    let words = format!("the local root {has}");
    rig.create(create("w").parameter("root", other)).fails(Code::ResourceExhausted, &words);
    assert_eq!(rig.disk().records.len(), 1);
}

#[test]
fn a_root_within_a_root_is_refused_however_it_is_reached() {
    let mut rig = Rig::without_driver();
    let inner = rig.root().join("some/inner");
    rig.set_roots(&[format!("outer={},plain", rig.root().display())]);
    rig.start();
    rig.create(create("v")).ok();
    rig.kill();
    fs::create_dir_all(&inner).unwrap();
    let link = rig.scratch().join("link");
    symlink(&inner, &link).unwrap();
    for path in [&inner, &link] {
        rig.set_roots(&[format!("inner={},plain", path.display())]);
        rig.start();
        let told = rig.create(create("w")).fails(Code::ResourceExhausted, "roots can't be nested");
        assert!(told.contains(&rig.root().display().to_string()), "{told}");
        assert_eq!(names(&inner), Vec::<String>::new());
        rig.kill();
    }
}

#[test]
fn a_plain_directory_is_a_root_only_where_it_is_said() {
    let mut rig = Rig::without_driver();
    rig.set_roots(&[format!("main={}", rig.root().display())]);
    rig.start();
    rig.create(create("a")).fails(Code::ResourceExhausted, ",plain");
    assert_eq!(names(&rig.root()), Vec::<String>::new());
    rig.kill();
    rig.set_roots(&[format!("main={},plain", rig.root().display())]);
    rig.start();
    let (id, target) = (rig.create(create("a")).id(), rig.target("t"));
    rig.publish(publish(&id, &target)).ok();
    fs::write(format!("{target}/file"), "x").unwrap();
    assert!(rig.data_of("a").join("file").exists());
    rig.publish(publish(&id, &target)).ok();
    rig.delete(&id).fails(Code::FailedPrecondition, &target);
    rig.unpublish(&id, &target).ok();
    rig.delete(&id).ok();
    rig.disk().check_settled();
}

#[test]
fn a_root_whose_records_are_kept_elsewhere_stays_untouched() {
    let mut rig = Rig::without_driver();
    let (photos, records) = (rig.root().join("photos/2024"), rig.scratch().join("records"));
    fs::create_dir_all(&photos).unwrap();
    fs::write(photos.join("one.jpg"), "x").unwrap();
    fs::create_dir(&records).unwrap();
    let spec = format!("main={},plain,records={}", rig.root().display(), records.display());
    rig.set_roots(&[spec]);
    rig.start();
    let (id, target) = ("node-1/main/=photos/2024", rig.target("t"));
    rig.create(create("a")).fails(Code::InvalidArgument, "keeps its records elsewhere");
    assert_eq!(rig.capacity(GetCapacityRequest::default()).ok().available_capacity, 0);
    rig.publish(publish(id, &target)).ok();
    assert_eq!(fs::read_to_string(format!("{target}/one.jpg")).unwrap(), "x");
    rig.unpublish(id, &target).ok();
    rig.delete(id).fails(Code::FailedPrecondition, "never deleted");
    assert_eq!(names(&rig.root()), ["photos"]);
    assert!(records.join(".berth/root.json").exists());
    assert!(photos.join("one.jpg").exists());
}

#[test]
fn a_fresh_root_that_two_drivers_find_at_once_gets_one_identity() {
    let mut rig = Rig::without_driver();
    for round in 0..8 {
        let root = rig.scratch().join(format!("root-{round}"));
        fs::create_dir(&root).unwrap();
        rig.mount_tmpfs(&root, "size=16m");
        rig.set_roots(&[format!("main={}", root.display())]);
        // Each opens it behind its start.
        let mut other = rig.command(&[], "another.sock").spawn().unwrap();
        rig.start();
        let mut another = Client::of(&rig.scratch().join("another.sock"));
        while another.probe(ProbeRequest {}).result().is_err() {
            another = Client::of(&rig.scratch().join("another.sock"));
        }
        let ids = [rig.create(create("a")).id(), another.create(create("b")).id()];
        assert_eq!(rig.list_ids(0), ids);
        assert_eq!(another.list_ids(0), ids);
        other.kill().unwrap();
        other.wait().unwrap();
        rig.kill();
        let disk = Disk::read(&root);
        disk.check_settled();
        assert_eq!(disk.new, Vec::<String>::new());
    }
}

#[test]
fn a_broken_root_does_not_hold_up_another_one() {
    let mut rig = Rig::without_driver();
    let broken = rig.scratch().join("broken");
    rig.set_roots(&[format!("main={},plain", rig.root().display()), format!("broken={}", broken.display())]);
    rig.start();
    let with = |name: &str, root: &str| create(name).parameter("root", root);
    rig.create(with("x", "broken")).fails(Code::ResourceExhausted, "broken");
    let (id, target) = (rig.create(with("a", "main")).id(), rig.target("t"));
    rig.publish(publish(&id, &target)).ok();
    rig.unpublish(&id, &target).ok();
    let request = |root: &str| GetCapacityRequest {
        parameters: [("root".to_string(), root.to_string())].into(),
        ..Default::default()
    };
    assert!(rig.capacity(request("main")).ok().available_capacity > 0);
    assert_eq!(rig.capacity(request("broken")).ok().available_capacity, 0);
    // A list without the volumes of the other root would say that they are gone.
    rig.list(ListVolumesRequest::default()).fails(Code::FailedPrecondition, "root broken");
    rig.delete(&id).ok();
    rig.wait_for_purge();
}

#[test]
fn a_root_whose_own_directory_is_a_link_or_a_file_is_refused() {
    let mut rig = Rig::without_driver();
    rig.set_roots(&[format!("main={},plain", rig.root().display())]);
    let (own, elsewhere) = (rig.root().join(".berth"), rig.scratch().join("elsewhere"));
    fs::create_dir(&elsewhere).unwrap();
    symlink(&elsewhere, &own).unwrap();
    rig.start();
    rig.create(create("a")).fails(Code::ResourceExhausted, ".berth");
    assert_eq!(names(&elsewhere), Vec::<String>::new());
    fs::remove_file(&own).unwrap();
    fs::write(&own, "mine").unwrap();
    rig.create(create("a")).fails(Code::ResourceExhausted, ".berth");
    assert_eq!(fs::read_to_string(&own).unwrap(), "mine");
    fs::remove_file(&own).unwrap();
    rig.create(create("a")).ok();
}

#[test]
fn a_root_with_an_identity_that_cannot_be_read_is_refused_until_it_can() {
    let mut rig = Rig::new();
    let id = rig.create(create("a")).id();
    let file = rig.root().join(".berth/root.json");
    let whole = fs::read_to_string(&file).unwrap();
    for (text, words) in [
        ("", "restore it from a backup"),
        ("{", "restore it from a backup"),
        (&whole.replace("\"format\": 1", "\"format\": 2"), "use a newer one"),
        (&whole.replace("\"local\"", "\"nfs\""), "mount the right disk"),
        (&whole.replace("\"main\"", "\"other\""), "mount the right disk"),
    ] {
        rig.kill();
        fs::write(&file, text).unwrap();
        rig.start();
        rig.delete(&id).fails(Code::FailedPrecondition, words);
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
        assert_eq!(rig.disk().data.len(), 1);
    }
    fs::write(&file, whole).unwrap();
    rig.delete(&id).ok();
}
