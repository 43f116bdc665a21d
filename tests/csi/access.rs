//! The table of access modes, cell by cell, on real mounts.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use berth::csi::volume_capability::access_mode::Mode;
use berth::csi::*;

use crate::rig::*;

/// Every mode; whether a second target on the node is admitted; whether anybody may write; and as which modes, in
/// the order of this table, a volume that was created so may be published.
const TABLE: [(Mode, bool, bool, &str); 7] = [
    (Mode::SingleNodeWriter, false, true, "yes yes yes no no no no"),
    (Mode::SingleNodeReaderOnly, false, false, "no yes no no no no no"),
    (Mode::SingleNodeSingleWriter, false, true, "yes yes yes no no no no"),
    (Mode::SingleNodeMultiWriter, true, true, "yes yes yes yes no no no"),
    (Mode::MultiNodeReaderOnly, true, false, "no yes no no yes no no"),
    (Mode::MultiNodeSingleWriter, true, true, "yes yes yes yes yes yes no"),
    (Mode::MultiNodeMultiWriter, true, true, "yes yes yes yes yes yes yes"),
];

/// A volume that was created for a mode.
fn volume_of(rig: &mut Rig, mode: Mode) -> String {
    rig.create(create("v").mode(mode).parameter("nodeSharing", "true")).id()
}

/// A volume that may be published in any mode.
fn volume(rig: &mut Rig) -> String {
    volume_of(rig, Mode::MultiNodeMultiWriter)
}

#[test]
fn a_second_target_is_admitted_or_refused_as_the_table_says() {
    for (mode, many, ..) in TABLE {
        let mut rig = Rig::new();
        let id = volume_of(&mut rig, mode);
        let (one, two) = (rig.target("one"), rig.target("two"));
        rig.publish(publish(&id, &one).mode(mode)).ok();
        let before = rig.snapshot();
        let second = rig.publish(publish(&id, &two).mode(mode));
        if many {
            second.ok();
            assert_eq!(rig.mounts_at(&two).len(), 1, "{mode:?}");
        } else {
            second.fails(Code::FailedPrecondition, &one);
            rig.is_as(&before);
            rig.unpublish(&id, &one).ok();
            rig.publish(publish(&id, &two).mode(mode)).ok();
        }
    }
}

#[test]
fn a_second_target_with_another_readonly_is_admitted_where_a_second_target_is_and_has_its_own() {
    for (mode, many, writes, _) in TABLE {
        let mut rig = Rig::new();
        let id = volume_of(&mut rig, mode);
        let (one, two) = (rig.target("one"), rig.target("two"));
        rig.publish(publish(&id, &one).mode(mode)).ok();
        let second = rig.publish(publish(&id, &two).mode(mode).read_only());
        if many {
            second.ok();
            assert!(rig.mounts_at(&two)[0].has("ro"), "{mode:?}");
            assert!(fs::write(format!("{two}/file"), "x").is_err(), "{mode:?}");
        } else {
            second.fails(Code::FailedPrecondition, &one);
        }
        assert_eq!(fs::write(format!("{one}/file"), "x").is_ok(), writes, "{mode:?}");
    }
}

#[test]
fn two_modes_never_share_a_volume() {
    let mut rig = Rig::new();
    let id = volume(&mut rig);
    let (one, two) = (rig.target("one"), rig.target("two"));
    for (held, ..) in TABLE {
        rig.publish(publish(&id, &one).mode(held)).ok();
        let before = rig.snapshot();
        for (wanted, ..) in TABLE.into_iter().filter(|(wanted, ..)| *wanted != held) {
            for request in [publish(&id, &two).mode(wanted), publish(&id, &two).mode(wanted).read_only()] {
                let why = rig.publish(request).fails(Code::FailedPrecondition, &one);
                assert!(why.contains(held.as_str_name()), "{held:?}, then {wanted:?}: {why}");
            }
        }
        rig.is_as(&before);
        rig.unpublish(&id, &one).ok();
    }
}

#[test]
fn a_publication_may_be_narrower_than_the_volume_and_never_wider() {
    let mut rig = Rig::new();
    let target = rig.target("t");
    for (created, .., within) in TABLE {
        let name = created.as_str_name().to_lowercase().replace('_', "-");
        let id = rig.create(create(&name).mode(created).parameter("nodeSharing", "true")).id();
        let before = rig.snapshot();
        for ((asked, _, writes, _), allowed) in TABLE.into_iter().zip(within.split(' ')) {
            let answer = rig.publish(publish(&id, &target).mode(asked));
            if allowed == "yes" {
                answer.ok();
                assert_eq!(rig.mounts_at(&target)[0].has("rw"), writes, "{created:?}, then {asked:?}");
                rig.unpublish(&id, &target).ok();
            } else {
                let why = answer.fails(Code::FailedPrecondition, created.as_str_name());
                assert!(why.contains(asked.as_str_name()), "{why}");
            }
            rig.is_as(&before);
        }
    }
}

#[test]
fn a_volume_of_two_modes_is_published_as_either() {
    let mut rig = Rig::new();
    let mut request = create("v").mode(Mode::SingleNodeReaderOnly);
    request.volume_capabilities.push(capability(Mode::SingleNodeSingleWriter));
    let (id, target) = (rig.create(request).id(), rig.target("t"));
    for mode in [Mode::SingleNodeReaderOnly, Mode::SingleNodeSingleWriter, Mode::SingleNodeWriter] {
        rig.publish(publish(&id, &target).mode(mode)).ok();
        rig.unpublish(&id, &target).ok();
    }
    let wider = publish(&id, &target).mode(Mode::SingleNodeMultiWriter);
    rig.publish(wider).fails(Code::FailedPrecondition, "SINGLE_NODE_READER_ONLY, SINGLE_NODE_SINGLE_WRITER");
}

#[test]
fn modes_of_several_nodes_are_refused_unless_the_pods_of_one_node_are_meant() {
    let mut rig = Rig::new();
    let before = rig.snapshot();
    for mode in [Mode::MultiNodeReaderOnly, Mode::MultiNodeSingleWriter, Mode::MultiNodeMultiWriter] {
        let mut beside_another = create("v");
        beside_another.volume_capabilities.push(capability(mode));
        for request in
            [create("v").mode(mode), create("v").mode(mode).parameter("nodeSharing", "false"), beside_another]
        {
            let why = rig.create(request).fails(Code::InvalidArgument, "nodeSharing: \"true\"");
            assert!(why.contains(mode.as_str_name()), "{why}");
            rig.is_as(&before);
        }
    }
}

/// What root tries at a mount to change anything in it; a file `old` is there. Gives what succeeded.
fn changes_that_succeed(target: &str) -> Vec<&'static str> {
    let at = |name: &str| Path::new(target).join(name);
    let append = || fs::OpenOptions::new().append(true).open(at("old"));
    let shut = fs::Permissions::from_mode(0o400);
    let tries: [(&str, std::io::Result<()>); 8] = [
        ("create", fs::write(at("new"), "x")),
        ("overwrite", fs::write(at("old"), "x")),
        ("append", append().map(drop)),
        ("mkdir", fs::create_dir(at("directory"))),
        ("symlink", symlink("old", at("link"))),
        ("chmod", fs::set_permissions(at("old"), shut)),
        ("rename", fs::rename(at("old"), at("other"))),
        ("unlink", fs::remove_file(at("other")).or_else(|_| fs::remove_file(at("old")))),
    ];
    tries.into_iter().filter(|(_, done)| done.is_ok()).map(|(name, _)| name).collect()
}

/// Publishes with a request, tries all changes, and unpublishes; whether every one of them, or none, was done.
#[track_caller]
fn can_change(rig: &mut Rig, id: &str, request: NodePublishVolumeRequest) -> bool {
    let target = request.target_path.clone();
    let file = rig.data_of("v").join("old");
    fs::write(&file, "as it was").unwrap();
    rig.publish(request).ok();
    let done = changes_that_succeed(&target);
    let read_only = rig.mounts_at(&target)[0].has("ro");
    assert_eq!(done.is_empty(), read_only, "{done:?}");
    assert!(done.is_empty() || done.len() == 8, "{done:?}");
    if read_only {
        assert_eq!(fs::read_to_string(file).unwrap(), "as it was");
    }
    rig.unpublish(id, &target).ok();
    for name in ["new", "link"] {
        let _ = fs::remove_file(rig.data_of("v").join(name));
    }
    let _ = fs::remove_dir(rig.data_of("v").join("directory"));
    !read_only
}

#[test]
fn a_mode_without_writers_is_a_read_only_mount_whatever_readonly_says() {
    for (mode, _, writes, _) in TABLE {
        let mut rig = Rig::new();
        let id = volume_of(&mut rig, mode);
        let target = rig.target("t");
        // Kubernetes sends ReadOnlyMany with readonly = false.
        assert_eq!(can_change(&mut rig, &id, publish(&id, &target).mode(mode)), writes, "{mode:?}");
        assert!(!can_change(&mut rig, &id, publish(&id, &target).mode(mode).read_only()), "{mode:?}");
    }
}

#[test]
fn the_flag_rw_opens_neither_a_mode_without_writers_nor_readonly() {
    let mut rig = Rig::new();
    let (id, target) = (volume(&mut rig), rig.target("t"));
    for (mode, _, writes, _) in TABLE {
        let request = || publish(&id, &target).mode(mode);
        assert_eq!(can_change(&mut rig, &id, request().flag("rw")), writes, "{mode:?}");
        for closed in
            [request().read_only().flag("rw"), request().flag("ro"), request().flag("rw").flag("ro")]
        {
            assert!(!can_change(&mut rig, &id, closed), "{mode:?}");
        }
        // As with mount(8), the last word wins where anybody may write at all.
        assert_eq!(can_change(&mut rig, &id, request().flag("ro,rw")), writes, "{mode:?}");
    }
}

#[test]
fn the_same_request_at_the_same_target_is_done_already() {
    let mut rig = Rig::new();
    let (id, target) = (volume(&mut rig), rig.target("t"));
    for (mode, ..) in TABLE {
        for request in [publish(&id, &target), publish(&id, &target).read_only()] {
            let request = request.mode(mode).flag("noexec").context("example.com/a", "1");
            rig.publish(request.clone()).ok();
            let before = rig.snapshot();
            for _ in 0..3 {
                rig.publish(request.clone()).ok();
            }
            rig.is_as(&before);
            assert_eq!(rig.mounts_at(&target).len(), 1, "{mode:?}");
            rig.unpublish(&id, &target).ok();
        }
    }
}

#[test]
fn the_same_target_in_another_mode_exists_already() {
    let mut rig = Rig::new();
    let (id, target) = (volume(&mut rig), rig.target("t"));
    for (held, ..) in TABLE {
        rig.publish(publish(&id, &target).mode(held)).ok();
        let before = rig.snapshot();
        for (wanted, ..) in TABLE.into_iter().filter(|(wanted, ..)| *wanted != held) {
            let differs = format!("access_mode ({}, now {})", held.as_str_name(), wanted.as_str_name());
            rig.publish(publish(&id, &target).mode(wanted)).fails(Code::AlreadyExists, &differs);
        }
        rig.is_as(&before);
        rig.unpublish(&id, &target).ok();
    }
}

#[test]
fn the_same_target_with_another_argument_exists_already_and_the_answer_names_it() {
    let mut rig = Rig::new();
    let (id, target) = (volume(&mut rig), rig.target("t"));
    let base = || publish(&id, &target).flag("noexec").context("example.com/a", "1");
    let changed = |change: fn(&mut NodePublishVolumeRequest)| {
        let mut request = base();
        change(&mut request);
        request
    };
    rig.publish(base()).ok();
    let before = rig.snapshot();
    for (request, differs) in [
        (base().read_only(), "readonly (false, now true)"),
        (base().flag("noatime"), "mount_flags (noexec, now noexec,noatime)"),
        (publish(&id, &target).context("example.com/a", "1"), "mount_flags (noexec, now none)"),
        (base().context("example.com/a", "2"), "volume_context.example.com/a (1, now 2)"),
        (changed(|request| request.volume_context.clear()), "volume_context.example.com/a (1, now none)"),
        (
            changed(|request| drop(request.publish_context.insert("b".into(), "3".into()))),
            "publish_context.b (none, now 3)",
        ),
    ] {
        rig.publish(request).fails(Code::AlreadyExists, differs);
        rig.is_as(&before);
    }
    rig.publish(base()).ok();
}

#[test]
fn what_kubelet_and_the_sidecars_add_is_not_compared() {
    let mut rig = Rig::new();
    let (id, target) = (volume(&mut rig), rig.target("t"));
    let of_pod = |pod: &str| {
        let mut request = publish(&id, &target);
        for key in ["pod.name", "pod.uid", "ephemeral", "serviceAccount.tokens"] {
            request.volume_context.insert(format!("csi.storage.k8s.io/{key}"), pod.into());
            request.publish_context.insert(format!("csi.storage.k8s.io/{key}"), pod.into());
        }
        request.secrets.insert("token".into(), pod.into());
        request
    };
    rig.publish(of_pod("a")).ok();
    let before = rig.snapshot();
    rig.publish(of_pod("b")).ok();
    rig.publish(publish(&id, &target)).ok();
    rig.is_as(&before);
}
