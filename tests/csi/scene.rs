//! A volume in the middle of something, and the call that comes next: its right answer is read from the disk and from the
//! mount table, never asked of the driver.

use std::fs;
use std::path::Path;

use berth::csi::*;

use crate::rig::*;

pub use Next::*;

/// A volume in the middle of something.
pub struct Scene {
    pub request: CreateVolumeRequest,
    pub id: String,
    pub target: String,
}

/// What follows a crash. Calls that change nothing are one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Next {
    Create,
    Delete,
    Publish,
    Unpublish,
    Expand,
    Look,
}

/// What an expansion asks for.
const EXPANDED: i64 = 2 << 20;

/// Every call.
pub const EACH: &[Next] = &[Create, Delete, Publish, Unpublish, Expand, Look];

impl Scene {
    /// A volume that is, was or will be created by this request, and one target for it.
    pub fn of(rig: &Rig, request: CreateVolumeRequest) -> Self {
        let name = &request.name;
        Self { id: format!("node-1/main/{name}"), target: rig.target(name), request }
    }

    pub fn name(&self) -> &str {
        &self.request.name
    }

    pub fn expansion(&self) -> NodeExpandVolumeRequest {
        NodeExpandVolumeRequest {
            volume_id: self.id.clone(),
            volume_path: self.target.clone(),
            capacity_range: Some(CapacityRange { required_bytes: EXPANDED, limit_bytes: 0 }),
            ..Default::default()
        }
    }

    fn is_mounted(&self, rig: &Rig) -> bool {
        !rig.mounts_at(&self.target).is_empty()
    }

    /// Makes the next call, whose answer has to be what disk and mount table say.
    pub fn next(&self, rig: &mut Rig, next: Next) {
        let (live, mounted) = (rig.disk().is_live(self.name()), self.is_mounted(rig));
        match next {
            Create => {
                assert_eq!(rig.create(self.request.clone()).id(), self.id);
                let disk = rig.disk();
                let record = disk.record(self.name()).expect("a volume that was created has a record");
                assert_eq!(record.state, "live");
                assert!(disk.data.contains(&record.data), "{record:?}: {disk:?}");
            }
            Delete if mounted => {
                rig.delete(&self.id).fails(Code::FailedPrecondition, &self.target);
            }
            Delete => {
                rig.delete(&self.id).ok();
                assert!(!rig.disk().records.contains_key(self.name()), "{:?}", rig.disk());
            }
            Publish if live && rig.disk().has_tree(self.name()) => {
                rig.publish(publish(&self.id, &self.target)).ok();
                let mounts = rig.mounts_at(&self.target);
                assert_eq!(mounts.len(), 1);
                let data = &rig.disk().record(self.name()).unwrap().data.clone();
                assert_eq!(mounts[0].root, format!("/{data}"));
            }
            Publish => {
                rig.publish(publish(&self.id, &self.target)).fails(Code::NotFound, &self.id);
                assert!(!self.is_mounted(rig));
            }
            Unpublish => {
                rig.unpublish(&self.id, &self.target).ok();
                assert!(!self.is_mounted(rig));
                assert!(!fs::exists(&self.target).unwrap());
            }
            Expand if live && mounted => {
                assert_eq!(rig.expand(self.expansion()).ok().capacity_bytes, EXPANDED);
                assert_eq!(rig.disk().record(self.name()).unwrap().capacity_bytes, EXPANDED);
            }
            Expand => {
                rig.expand(self.expansion()).fails(Code::NotFound, &self.id);
            }
            Look => self.look(rig, live, mounted),
        }
    }

    fn look(&self, rig: &mut Rig, live: bool, mounted: bool) {
        let before = rig.snapshot();
        let listed = rig.list_ids(0).iter().filter(|id| **id == self.id).count();
        assert_eq!(listed, usize::from(live));
        let request = ControllerGetVolumeRequest { volume_id: self.id.clone() };
        judge(rig.get_volume(request), live, &self.id);
        let request = ValidateVolumeCapabilitiesRequest {
            volume_id: self.id.clone(),
            volume_capabilities: self.request.volume_capabilities.clone(),
            ..Default::default()
        };
        judge(rig.validate(request), live, &self.id);
        let request = NodeGetVolumeStatsRequest {
            volume_id: self.id.clone(),
            volume_path: self.target.clone(),
            ..Default::default()
        };
        judge(rig.stats(request), live && mounted, &self.id);
        assert_eq!(rig.snapshot(), before);
    }

    /// A whole life under the same name, whatever came before.
    pub fn live_and_die(&self, rig: &mut Rig) {
        for next in [Unpublish, Delete, Create, Publish] {
            self.next(rig, next);
        }
        fs::write(Path::new(&self.target).join("file"), "x").unwrap();
        for next in [Look, Unpublish, Delete] {
            self.next(rig, next);
        }
        rig.disk().check_settled();
    }
}

#[track_caller]
fn judge<T: std::fmt::Debug>(answer: Answer<T>, is_there: bool, id: &str) {
    if is_there {
        answer.ok();
    } else {
        answer.fails(Code::NotFound, id);
    }
}
