//! `onDelete` says what becomes of the data: it is deleted, it stays, or it is put away.

use std::fs;
use std::os::unix::fs::symlink;

use berth::csi::ControllerGetVolumeRequest;

use crate::rig::*;

/// Creates `name`, writes `content` into it through a publication, deletes it; its id.
fn live_and_die(rig: &mut Rig, name: &str, sub_dir: Option<&str>, on_delete: &str, content: &str) -> String {
    let mut request = create(name).parameter("onDelete", on_delete);
    if let Some(sub_dir) = sub_dir {
        request = request.parameter("subDir", sub_dir);
    }
    let (id, target) = (rig.create(request).id(), rig.target("t"));
    rig.publish(publish(&id, &target)).ok();
    assert_eq!(fs::read_dir(&target).unwrap().count(), 0, "a new volume is empty");
    fs::write(format!("{target}/file"), content).unwrap();
    rig.unpublish(&id, &target).ok();
    rig.delete(&id).ok();
    rig.get_volume(ControllerGetVolumeRequest { volume_id: id.clone() }).fails(Code::NotFound, name);
    assert_eq!(rig.list_ids(0), Vec::<String>::new());
    id
}

/// What is in a directory beneath the root, in order, from the root.
fn below(rig: &Rig, directory: &str) -> Vec<String> {
    let entries = fs::read_dir(rig.root().join(directory)).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| format!("{directory}/{}", entry.unwrap().file_name().display()))
        .map(|path| path.trim_start_matches('/').to_string())
        .filter(|path| path != ".berth")
        .collect();
    names.sort();
    names
}

fn content(rig: &Rig, directory: &str) -> String {
    fs::read_to_string(rig.root().join(directory).join("file")).unwrap()
}

#[test]
fn deleted_data_leaves_its_place_at_once_and_is_purged() {
    for on_delete in [None, Some("delete")] {
        let mut rig = Rig::new();
        let mut request = create("a");
        request.parameters.extend(on_delete.map(|value| ("onDelete".to_string(), value.to_string())));
        let id = rig.create(request).id();
        fs::create_dir_all(rig.data_of("a").join("deep/er")).unwrap();
        fs::write(rig.data_of("a").join("deep/er/file"), "x").unwrap();
        rig.delete(&id).ok();
        assert_eq!(below(&rig, ""), Vec::<String>::new());
        rig.wait_for_purge();
    }
}

#[test]
fn retained_data_stays_beside_its_place_each_time_the_name_is_used() {
    let mut rig = Rig::new();
    for round in 1..=2 {
        live_and_die(&mut rig, "a", None, "retain", &round.to_string());
        assert_eq!(below(&rig, "").len(), round);
    }
    let kept = below(&rig, "");
    assert!(kept.iter().all(|path| path.starts_with("a.retained-")), "{kept:?}");
    let mut contents: Vec<_> = kept.iter().map(|path| content(&rig, path)).collect();
    contents.sort();
    assert_eq!(contents, ["1", "2"]);
    rig.wait_for_purge();
    assert_eq!(below(&rig, ""), kept);
}

#[test]
fn archived_data_is_put_away_under_its_path_each_time_the_name_is_used() {
    let mut rig = Rig::new();
    for round in 1..=2 {
        live_and_die(&mut rig, "a", Some("shop/data"), "archive", &round.to_string());
        assert_eq!(below(&rig, "archived/shop").len(), round);
    }
    assert_eq!(below(&rig, ""), ["archived", "shop"]);
    assert_eq!(below(&rig, "shop"), Vec::<String>::new());
    let kept = below(&rig, "archived/shop");
    assert!(kept.iter().all(|path| path.starts_with("archived/shop/data-")), "{kept:?}");
    let mut contents: Vec<_> = kept.iter().map(|path| content(&rig, path)).collect();
    contents.sort();
    assert_eq!(contents, ["1", "2"]);
    rig.wait_for_purge();
    assert_eq!(below(&rig, "archived/shop"), kept);
}

#[test]
fn kept_data_can_be_adopted_however_long_its_path_is() {
    let longest = "d/".repeat(402) + &"n".repeat(220);
    for sub_dir in [None, Some("shop/data"), Some(&longest)] {
        for on_delete in ["retain", "archive"] {
            let mut rig = Rig::new();
            let made = live_and_die(&mut rig, "a", sub_dir, on_delete, "old data");
            let above = match sub_dir.and_then(|path| path.rsplit_once('/')) {
                Some((above, _)) => above.to_string(),
                None => String::new(),
            };
            let above = match (on_delete, above.as_str()) {
                ("archive", "") => "archived".to_string(),
                ("archive", above) => format!("archived/{above}"),
                _ => above,
            };
            let kept = below(&rig, &above).remove(0);
            let (adopted, target) = (format!("node-1/main/={kept}"), rig.target("t"));
            rig.publish(publish(&adopted, &target)).ok();
            assert_eq!(fs::read_to_string(format!("{target}/file")).unwrap(), "old data");
            fs::write(format!("{target}/file"), "new data").unwrap();
            rig.unpublish(&adopted, &target).ok();
            rig.delete(&adopted).fails(Code::FailedPrecondition, "delete volume");
            rig.delete(&made).ok();
            assert_eq!(content(&rig, &kept), "new data");
        }
    }
}

#[test]
fn a_deletion_that_cannot_archive_loses_nothing_and_goes_on_when_it_can() {
    let mut rig = Rig::new();
    let (root, outside) = (rig.root(), rig.scratch().join("outside"));
    fs::create_dir(&outside).unwrap();
    for obstacle in ["file", "link"] {
        let id = rig.create(create("a").parameter("onDelete", "archive").parameter("subDir", "shop/a")).id();
        let data = below(&rig, "shop").remove(0);
        fs::write(root.join(&data).join("file"), obstacle).unwrap();
        match obstacle {
            "file" => fs::write(root.join("archived"), "in the way").unwrap(),
            _ => symlink(&outside, root.join("archived")).unwrap(),
        }
        for _ in 0..2 {
            rig.delete(&id).fails(Code::FailedPrecondition, "\"archived\" exists and is no directory");
            assert_eq!(content(&rig, &data), obstacle);
        }
        fs::remove_file(root.join("archived")).unwrap();
        rig.delete(&id).ok();
        assert_eq!(content(&rig, &below(&rig, "archived/shop").remove(0)), obstacle);
        assert_eq!(below(&rig, "shop"), Vec::<String>::new());
        fs::rename(root.join("archived"), root.join(format!("archived after {obstacle}"))).unwrap();
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn a_volume_that_is_published_keeps_its_data_whatever_on_delete_says() {
    for on_delete in ["delete", "retain", "archive"] {
        let mut rig = Rig::new();
        let (id, target) = (rig.create(create("a").parameter("onDelete", on_delete)).id(), rig.target("t"));
        rig.publish(publish(&id, &target)).ok();
        fs::write(format!("{target}/file"), "x").unwrap();
        rig.unchanged(|rig| rig.delete(&id).fails(Code::FailedPrecondition, &target));
        assert_eq!(fs::read_to_string(format!("{target}/file")).unwrap(), "x");
    }
}
