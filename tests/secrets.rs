//! Whatever the interface marks as a secret stays out of every `{:?}`, and so out of every log.
//!
//! The descriptors say which fields those are. Each is filled in on the wire, read into the generated type, and
//! looked for in what `Debug` makes of it.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;

use berth::csi;
use prost::Message;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value,
};

const SECRET: &str = "pa55w0rd";
const OPEN: &str = "in-the-open";

/// Reads a message off the wire and prints it, on one line and on many.
fn print<T: Message + Default + Debug>(wire: &[u8]) -> String {
    let message = T::decode(wire).unwrap();
    format!("{message:?}\n{message:#?}")
}

type Print = fn(&[u8]) -> String;

macro_rules! generated {
    ($($message:ident $(in $module:ident)?,)*) => {
        BTreeMap::from([$((stringify!($message), print::<csi::$($module::)?$message> as Print)),*])
    };
}

/// The generated types that have a secret. The tests compare this list with the descriptors.
fn generated() -> BTreeMap<&'static str, Print> {
    generated! {
        ControllerExpandVolumeRequest,
        ControllerGetVolumeHealthRequest,
        ControllerListVolumeHealthRequest,
        ControllerModifyVolumeRequest,
        ControllerPublishVolumeRequest,
        ControllerUnpublishVolumeRequest,
        CreateSnapshotRequest,
        CreateVolumeGroupSnapshotRequest,
        CreateVolumeRequest,
        DeleteSnapshotRequest,
        DeleteVolumeGroupSnapshotRequest,
        DeleteVolumeRequest,
        GetMetadataAllocatedRequest,
        GetMetadataDeltaRequest,
        GetSnapshotRequest,
        GetVolumeGroupSnapshotRequest,
        ListSnapshotsRequest,
        MountVolume in volume_capability,
        NodeExpandVolumeRequest,
        NodeGetStorageHealthRequest,
        NodePublishVolumeRequest,
        NodeStageVolumeRequest,
        ValidateVolumeCapabilitiesRequest,
    }
}

fn pool() -> DescriptorPool {
    DescriptorPool::decode(include_bytes!(concat!(env!("OUT_DIR"), "/csi.bin")).as_slice()).unwrap()
}

fn is_marked(field: &FieldDescriptor) -> bool {
    let secret = field.parent_pool().get_extension_by_name("csi.v1.csi_secret").unwrap();
    field.options().get_extension(&secret).as_bool().unwrap()
}

/// Also what the standard says may hold credentials without marking it.
fn is_secret(field: &FieldDescriptor) -> bool {
    is_marked(field) || field.full_name() == "csi.v1.VolumeCapability.MountVolume.mount_flags"
}

/// Every message of CSI with a field of its own that is a secret.
fn with_secrets(pool: &DescriptorPool) -> Vec<MessageDescriptor> {
    pool.all_messages().filter(|message| message.fields().any(|field| is_secret(&field))).collect()
}

/// A value for a field of text: in a map, a list, or by itself; nothing for other kinds.
fn text(field: &FieldDescriptor, text: &str) -> Option<Value> {
    let value = Value::String(text.into());
    let kind = field.kind();
    match &kind {
        Kind::String if field.is_list() => Some(Value::List(vec![value])),
        Kind::String => Some(value),
        Kind::Message(entry) if field.is_map() && entry.map_entry_value_field().kind() == Kind::String => {
            Some(Value::Map(HashMap::from([(MapKey::String("key".into()), value)])))
        }
        _ => None,
    }
}

#[test]
fn a_secret_is_not_printed_and_what_stands_beside_it_is() {
    let generated = generated();
    for message in with_secrets(&pool()) {
        let mut filled = DynamicMessage::new(message.clone());
        let (mut secrets, mut open) = (0, 0);
        for field in message.fields() {
            let (value, count) = if is_secret(&field) { (SECRET, &mut secrets) } else { (OPEN, &mut open) };
            match text(&field, value) {
                Some(value) => {
                    filled.set_field(&field, value);
                    *count += 1;
                }
                None => {
                    assert!(!is_secret(&field), "a secret of a kind that this test can't fill: {field:?}")
                }
            }
        }
        let printed = generated[message.name()](&filled.encode_to_vec());
        assert!(!printed.contains(SECRET), "{printed}");
        // Twice, for it is printed twice. The message did carry the secret: its entries are counted.
        assert_eq!(printed.matches("<1 redacted>").count(), 2 * secrets, "{printed}");
        assert_eq!(printed.matches(OPEN).count(), 2 * open, "{printed}");
    }
}

#[test]
fn every_message_with_a_secret_is_among_those_that_are_tested() {
    let pool = pool();
    let found: BTreeSet<String> = with_secrets(&pool).iter().map(|m| m.name().to_string()).collect();
    let tested: BTreeSet<String> = generated().keys().map(|name| name.to_string()).collect();
    assert_eq!(found, tested);
    // The descriptors miss none that the text of the interface marks.
    let marked = include_str!("../proto/csi.proto").matches("(csi_secret) = true").count();
    let fields = with_secrets(&pool).into_iter().flat_map(|message| message.fields().collect::<Vec<_>>());
    assert_eq!(fields.filter(is_marked).count(), marked);
}
