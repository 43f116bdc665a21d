//! Directories that were there before Berth: published as they are, in any mode, and never anybody's to delete.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use berth::csi::volume_capability::access_mode::Mode;
use berth::csi::*;

use crate::rig::*;

const MODES: [(Mode, bool, bool); 7] = [
    (Mode::SingleNodeWriter, false, true),
    (Mode::SingleNodeReaderOnly, false, false),
    (Mode::SingleNodeSingleWriter, false, true),
    (Mode::SingleNodeMultiWriter, true, true),
    (Mode::MultiNodeReaderOnly, true, false),
    (Mode::MultiNodeSingleWriter, true, true),
    (Mode::MultiNodeMultiWriter, true, true),
];

const ID: &str = "node-1/main/=photos/2024";
const ALIAS: &str = "node-1/main/=photos/2024#second";

/// A rig whose root holds photos already, of an owner of their own.
fn photos() -> Rig {
    let rig = Rig::new();
    let directory = rig.root().join("photos/2024");
    fs::create_dir_all(directory.join("summer")).unwrap();
    fs::write(directory.join("summer/sea"), "blue").unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o751)).unwrap();
    rig
}

fn sea(at: &str) -> String {
    fs::read_to_string(Path::new(at).join("summer/sea")).unwrap()
}

#[test]
fn existing_data_is_published_in_every_mode_and_left_as_it_is() {
    let mut rig = photos();
    let target = rig.target("t");
    let before = rig.snapshot();
    for id in [ID, ALIAS] {
        for (mode, _, writes) in MODES {
            for _ in 0..2 {
                rig.publish(publish(id, &target).mode(mode)).ok();
            }
            assert_eq!(rig.mounts_at(&target).len(), 1);
            assert_eq!(sea(&target), "blue");
            assert_eq!(fs::metadata(&target).unwrap().mode() & 0o7777, 0o751, "not re-owned");
            let mount = &rig.mounts_at(&target)[0];
            assert!(mount.has("nosuid") && mount.has("nodev") && mount.has("ro") != writes, "{mount:?}");
            assert_eq!(fs::write(format!("{target}/new"), "x").is_ok(), writes, "{mode:?}");
            let _ = fs::remove_file(rig.root().join("photos/2024/new"));
            rig.unpublish(id, &target).ok();
            rig.is_as(&before);
        }
    }
}

#[test]
fn two_volumes_of_one_directory_are_one_volume_to_the_modes() {
    let mut rig = photos();
    let (one, two) = (rig.target("one"), rig.target("two"));
    for (first, second) in [(ID, ID), (ID, ALIAS), (ALIAS, ID), (ALIAS, "node-1/main/=photos/2024#third")] {
        for (mode, many, _) in MODES {
            rig.publish(publish(first, &one).mode(mode)).ok();
            for (other, ..) in MODES.into_iter().filter(|(other, ..)| *other != mode) {
                rig.unchanged(|rig| {
                    rig.publish(publish(second, &two).mode(other)).fails(Code::FailedPrecondition, &one);
                });
            }
            let answer = rig.publish(publish(second, &two).mode(mode));
            if many {
                answer.ok();
            } else {
                answer.fails(Code::FailedPrecondition, &one);
            }
            rig.unpublish(second, &two).ok();
            rig.unpublish(first, &one).ok();
        }
    }
}

#[test]
fn modes_of_existing_data_hold_after_a_kill_and_a_reboot() {
    let mut rig = photos();
    let (one, two) = (rig.target("one"), rig.target("two"));
    let request = publish(ID, &one).mode(Mode::SingleNodeSingleWriter);
    rig.publish(request.clone()).ok();
    rig.restart();
    rig.publish(request).ok();
    let second = publish(ALIAS, &two).mode(Mode::SingleNodeSingleWriter);
    rig.publish(second.clone()).fails(Code::FailedPrecondition, &one);
    rig.reboot();
    rig.publish(second).ok();
    assert_eq!(sea(&two), "blue");
    rig.unpublish(ALIAS, &two).ok();
    rig.unpublish(ID, &one).ok();
    assert!(!fs::exists(&one).unwrap());
}

#[test]
fn existing_data_is_never_deleted_published_or_not() {
    let mut rig = photos();
    let target = rig.target("t");
    for published in [false, true] {
        if published {
            rig.publish(publish(ID, &target)).ok();
        }
        for id in [ID, ALIAS, "node-1/main/=photos"] {
            rig.unchanged(|rig| rig.delete(id).fails(Code::FailedPrecondition, "existed before Berth"));
        }
    }
    rig.unpublish(ID, &target).ok();
    assert_eq!(sea(&rig.root().join("photos/2024").display().to_string()), "blue");
    assert_eq!(rig.list_ids(0), Vec::<String>::new(), "what Berth did not make is not listed");
}

#[test]
fn what_is_no_directory_of_the_root_does_not_exist() {
    let mut rig = photos();
    let (root, target) = (rig.root(), rig.target("t"));
    let made = rig.create(create("made")).id();
    let data = rig.data_of("made").file_name().unwrap().to_str().unwrap().to_string();
    fs::create_dir(rig.data_of("made").join("inner")).unwrap();
    fs::create_dir(rig.scratch().join("outside")).unwrap();
    symlink("photos", root.join("link")).unwrap();
    symlink("2024", root.join("photos/last")).unwrap();
    symlink(rig.scratch().join("outside"), root.join("out")).unwrap();
    symlink("..", root.join("photos/up")).unwrap();
    symlink("/proc/self/root", root.join("magic")).unwrap();
    let mounted = root.join("mounted");
    fs::create_dir(&mounted).unwrap();
    rig.mount_tmpfs(&mounted, "size=1m");
    fs::create_dir(mounted.join("inner")).unwrap();
    let data_inner = format!("{data}/inner");
    for path in [
        "missing",
        "photos/missing",
        "photos/2024/summer/sea",
        "photos/2024/summer/sea/x",
        "link",
        "link/2024",
        "photos/last",
        "out",
        "photos/up",
        "photos/up/photos",
        "magic",
        "magic/etc",
        "mounted",
        "mounted/inner",
        "",
        ".",
        "..",
        "../outside",
        "photos/..",
        "photos/../photos",
        "/etc",
        "//",
        "photos//2024",
        "photos/",
        "/photos",
        "./photos",
        ".berth",
        ".berth/volumes",
        ".berth/trash",
        ".BERTH",
        "photos\0",
        "photos\n2024",
        &data,
        &data_inner,
    ] {
        for alias in ["", "#alias"] {
            let id = format!("node-1/main/={path}{alias}");
            rig.unchanged(|rig| {
                rig.publish(publish(&id, &target)).fails(Code::NotFound, "");
                rig.get_volume(ControllerGetVolumeRequest { volume_id: id.clone() })
                    .fails(Code::NotFound, "");
                let volume_capabilities = vec![capability(Mode::SingleNodeWriter)];
                let volume_id = id.clone();
                rig.validate(ValidateVolumeCapabilitiesRequest {
                    volume_id,
                    volume_capabilities,
                    ..Default::default()
                })
                .fails(Code::NotFound, "");
                rig.unpublish(&id, &target).ok();
            });
        }
    }
    rig.delete(&made).ok();
}

#[test]
fn long_deep_and_odd_paths_are_found() {
    let mut rig = Rig::new();
    let target = rig.target("t");
    let long = vec!["d".repeat(200); 5].join("/");
    let deep = vec!["d"; 500].join("/");
    for path in [
        &long,
        &deep,
        "with blank",
        "grüße",
        "back\\slash",
        "a#b/c",
        ".hidden",
        "-rf",
        "=",
        "~",
        "$HOME",
        "*",
    ] {
        fs::create_dir_all(rig.root().join(path)).unwrap();
        fs::write(rig.root().join(path).join("file"), path).unwrap();
        let id = format!("node-1/main/={path}");
        let request = publish(&id, &target).mode(Mode::SingleNodeSingleWriter);
        rig.publish(request.clone()).ok();
        rig.publish(request).ok();
        assert_eq!(fs::read_to_string(format!("{target}/file")).unwrap(), path);
        assert_eq!(rig.mounts_at(&target).len(), 1, "{path}");
        rig.delete(&id).fails(Code::FailedPrecondition, "");
        rig.unpublish(&id, &target).ok();
        assert_eq!(rig.mounts_at(&target), []);
    }
}

#[test]
fn existing_data_can_be_validated_shown_and_measured_and_has_no_size_to_expand() {
    let mut rig = photos();
    let target = rig.target("t");
    for id in [ID, ALIAS] {
        let found = rig.get_volume(ControllerGetVolumeRequest { volume_id: id.into() }).ok().volume.unwrap();
        assert_eq!((found.volume_id.as_str(), found.capacity_bytes), (id, 0));
        for (mode, ..) in MODES {
            let confirmed = rig
                .validate(ValidateVolumeCapabilitiesRequest {
                    volume_id: id.into(),
                    volume_capabilities: vec![capability(mode)],
                    ..Default::default()
                })
                .ok()
                .confirmed;
            assert!(confirmed.is_some(), "{mode:?}");
        }
        let (volume_id, volume_path) = (id.to_string(), target.clone());
        let stats = NodeGetVolumeStatsRequest {
            volume_id: volume_id.clone(),
            volume_path: volume_path.clone(),
            ..Default::default()
        };
        rig.stats(stats.clone()).fails(Code::NotFound, "");
        rig.publish(publish(id, &target)).ok();
        assert_eq!(rig.stats(stats).ok().usage.len(), 2);
        let capacity_range = Some(CapacityRange { required_bytes: 2 << 20, limit_bytes: 0 });
        rig.unchanged(|rig| {
            rig.expand(NodeExpandVolumeRequest {
                volume_id,
                volume_path,
                capacity_range,
                ..Default::default()
            })
            .fails(Code::FailedPrecondition, "existed before Berth");
        });
        rig.unpublish(id, &target).ok();
    }
}

#[test]
fn existing_data_that_is_swapped_for_a_link_during_the_publish_leads_nowhere() {
    let mut rig = photos();
    let (root, target, outside) = (rig.root(), rig.target("t"), rig.scratch().join("outside"));
    fs::create_dir_all(outside.join("2024/summer")).unwrap();
    fs::write(outside.join("2024/summer/sea"), "not yours").unwrap();
    symlink(&outside, root.join("link")).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let mut published = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (photos, link) = (root.join("photos"), root.join("link"));
            let exchange = nix::fcntl::RenameFlags::RENAME_EXCHANGE;
            while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                nix::fcntl::renameat2(nix::fcntl::AT_FDCWD, &photos, nix::fcntl::AT_FDCWD, &link, exchange)
                    .unwrap();
            }
        });
        for _ in 0..200 {
            match rig.publish(publish(ID, &target)).result() {
                Ok(_) => {
                    published += 1;
                    assert_eq!(sea(&target), "blue");
                }
                Err(status) => assert_ne!(status.code(), Code::Unknown, "{status:?}"),
            }
            rig.unpublish(ID, &target).ok();
            assert_eq!(rig.mounts_at(&target), []);
        }
        stop.store(true, std::sync::atomic::Ordering::SeqCst);
    });
    assert!(published > 0);
    assert_eq!(fs::read_to_string(outside.join("2024/summer/sea")).unwrap(), "not yours");
}

#[test]
fn a_directory_that_was_renamed_while_it_was_published_is_unpublished() {
    let mut rig = photos();
    let target = rig.target("t");
    rig.publish(publish(ID, &target)).ok();
    fs::rename(rig.root().join("photos/2024"), rig.root().join("photos/old")).unwrap();
    rig.publish(publish(ID, &target)).fails(Code::NotFound, "photos/2024");
    rig.unpublish(ID, &target).ok();
    assert_eq!(rig.mounts_at(&target), []);
    assert_eq!(sea(&rig.root().join("photos/old").display().to_string()), "blue");
}

#[test]
fn a_root_with_its_records_elsewhere_is_not_written_to() {
    let mut rig = Rig::without_driver();
    let (root, records, target) = (rig.root(), rig.scratch().join("records"), rig.target("t"));
    rig.mount_tmpfs(&root, "size=64m,mode=0755");
    fs::create_dir_all(root.join("photos/2024/summer")).unwrap();
    fs::write(root.join("photos/2024/summer/sea"), "blue").unwrap();
    fs::create_dir(&records).unwrap();
    let listed = || {
        let entry = fs::metadata(&root).unwrap();
        let names: Vec<_> = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        (names, entry.mode(), entry.mtime(), entry.mtime_nsec())
    };
    let before = listed();
    rig.set_roots(&[format!("main={},records={}", root.display(), records.display())]);
    rig.start();
    rig.create(create("a")).fails(Code::InvalidArgument, "serves existing directories only");
    rig.publish(publish(ID, &target)).ok();
    assert_eq!(sea(&target), "blue");
    rig.restart();
    rig.publish(publish(ID, &target)).ok();
    rig.delete(ID).fails(Code::FailedPrecondition, "existed before Berth");
    rig.unpublish(ID, &target).ok();
    assert_eq!(listed(), before);
    assert!(records.join(".berth/root.json").exists());
}

#[test]
fn a_root_that_cannot_be_written_to_serves_what_it_has() {
    let mut rig = Rig::without_driver();
    let (root, records, target) = (rig.root(), rig.scratch().join("records"), rig.target("t"));
    rig.mount_tmpfs(&root, "size=64m,mode=0755");
    fs::create_dir_all(root.join("photos/2024/summer")).unwrap();
    fs::write(root.join("photos/2024/summer/sea"), "blue").unwrap();
    fs::create_dir(&records).unwrap();
    let flags = nix::mount::MsFlags::MS_REMOUNT | nix::mount::MsFlags::MS_RDONLY;
    nix::mount::mount(None::<&str>, &root, None::<&str>, flags, None::<&str>).unwrap();
    rig.set_roots(&[format!("main={},records={}", root.display(), records.display())]);
    rig.start();
    rig.publish(publish(ID, &target).mode(Mode::MultiNodeReaderOnly)).ok();
    assert_eq!(sea(&target), "blue");
    rig.unpublish(ID, &target).ok();
}
