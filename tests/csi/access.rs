//! The table of access modes, cell by cell, on real mounts.

use std::fs;

use berth::csi::volume_capability::access_mode::Mode;

use crate::rig::*;

/// Every mode, whether a second target on the node is admitted, and whether anybody may write.
const TABLE: [(Mode, bool, bool); 7] = [
    (Mode::SingleNodeWriter, false, true),
    (Mode::SingleNodeReaderOnly, false, false),
    (Mode::SingleNodeSingleWriter, false, true),
    (Mode::SingleNodeMultiWriter, true, true),
    (Mode::MultiNodeReaderOnly, true, false),
    (Mode::MultiNodeSingleWriter, true, true),
    (Mode::MultiNodeMultiWriter, true, true),
];

fn volume_of(rig: &mut Rig, mode: Mode) -> String {
    rig.create(create("v").mode(mode).parameter("nodeSharing", "true")).id()
}

#[test]
fn a_second_target_is_admitted_or_refused_as_the_table_says() {
    for (mode, many, _) in TABLE {
        let mut rig = Rig::new();
        let id = volume_of(&mut rig, mode);
        let (one, two) = (rig.target("one"), rig.target("two"));
        rig.publish(publish(&id, &one).mode(mode)).ok();
        let second = rig.publish(publish(&id, &two).mode(mode));
        if many {
            second.ok();
            assert_eq!(rig.mounts_at(&two).len(), 1, "{mode:?}");
        } else {
            second.fails(Code::FailedPrecondition, &one);
            assert!(!fs::exists(&two).unwrap(), "{mode:?}: a refused publish leaves nothing");
            rig.unpublish(&id, &one).ok();
            rig.publish(publish(&id, &two).mode(mode)).ok();
        }
    }
}

#[test]
fn a_mode_without_writers_is_a_read_only_mount_whatever_readonly_says() {
    for (mode, _, writes) in TABLE {
        let mut rig = Rig::new();
        let id = volume_of(&mut rig, mode);
        let target = rig.target("t");
        // Kubernetes sends ReadOnlyMany with readonly = false.
        rig.publish(publish(&id, &target).mode(mode)).ok();
        let written = fs::write(format!("{target}/file"), "x");
        assert_eq!(written.is_ok(), writes, "{mode:?}: {written:?}");
        let options = &rig.mounts_at(&target)[0].options;
        assert_eq!(options.contains(&"ro".to_string()), !writes, "{mode:?}: {options:?}");
    }
}
