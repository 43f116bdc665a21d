//! Mount options of NFS: which a root or a StorageClass may give, and which of them hold together.
//!
//! Pure rules. What an option means is said by nfs(5); which of them the kernel knows, by fs/nfs/fs_context.c. The
//! kernel would refuse an unknown one too, at the first pod; here it is refused where somebody reads the answer. What
//! follows a name may be a credential, so a message shows no value but one that is to be a number or a word of a list.

use crate::error::{Error, Result};

/// Who gives the options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Giver {
    /// The administrator, for a root.
    Root,
    /// A StorageClass or a PersistentVolume. It can't lead the driver to another service of the server.
    Volume,
}

/// Options that were checked, in the order in which they were given: none that a later one overrides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Split {
    /// Flags of any mount (`ro`, `noexec`), which are attributes of this mount and never of the file system.
    pub generic: Vec<String>,
    /// Options of NFS, `key` or `key=value`. `nfsvers`, `v4.1` and `tcp` are spelt `vers=…` and `proto=tcp`.
    pub nfs: Vec<String>,
}

/// What an option takes.
#[derive(Debug, Clone, Copy)]
enum Takes {
    /// Nothing.
    Nothing,
    /// A number from and up to these.
    Number(u32, u32),
    /// One of these.
    Word(&'static [&'static str]),
    /// One or more of these, with colons between them.
    Words(&'static [&'static str]),
}
use Takes::{Nothing, Number, Word, Words};

/// A week: longer than any cache should trust what it has.
const WEEK_SECONDS: u32 = 7 * 24 * 3600;
/// An hour, in the tenths of a second that `timeo` counts.
const HOUR_TENTHS: u32 = 36_000;

const KNOWN: [(&str, Takes); 49] = [
    // `4` is the newest that the server speaks.
    ("vers", Word(&["3", "4", "4.0", "4.1", "4.2"])),
    ("proto", Word(&["tcp", "tcp6", "rdma", "rdma6"])),
    ("port", Number(1, 65535)),
    ("mountport", Number(1, 65535)),
    ("mountvers", Number(3, 3)),
    ("mountproto", Word(&["tcp", "tcp6", "udp", "udp6"])),
    ("rsize", Number(1024, 1 << 20)),
    ("wsize", Number(1024, 1 << 20)),
    ("timeo", Number(1, HOUR_TENTHS)),
    ("retrans", Number(0, 100)),
    ("hard", Nothing),
    ("soft", Nothing),
    ("softerr", Nothing),
    ("softreval", Nothing),
    ("nosoftreval", Nothing),
    ("ac", Nothing),
    ("noac", Nothing),
    ("actimeo", Number(0, WEEK_SECONDS)),
    ("acregmin", Number(0, WEEK_SECONDS)),
    ("acregmax", Number(0, WEEK_SECONDS)),
    ("acdirmin", Number(0, WEEK_SECONDS)),
    ("acdirmax", Number(0, WEEK_SECONDS)),
    ("lookupcache", Word(&["all", "none", "pos", "positive"])),
    ("cto", Nothing),
    ("nocto", Nothing),
    ("nconnect", Number(1, 16)),
    ("max_connect", Number(1, 16)),
    ("trunkdiscovery", Nothing),
    ("notrunkdiscovery", Nothing),
    ("sec", Words(&["none", "sys", "krb5", "krb5i", "krb5p"])),
    ("xprtsec", Word(&["none", "tls", "mtls"])),
    ("lock", Nothing),
    ("nolock", Nothing),
    ("local_lock", Word(&["all", "flock", "posix", "none"])),
    ("rdirplus", Nothing),
    ("nordirplus", Nothing),
    ("acl", Nothing),
    ("noacl", Nothing),
    ("resvport", Nothing),
    ("noresvport", Nothing),
    ("sharecache", Nothing),
    ("nosharecache", Nothing),
    ("fsc", Nothing),
    ("nofsc", Nothing),
    ("migration", Nothing),
    ("nomigration", Nothing),
    ("write", Word(&["lazy", "eager", "wait"])),
    ("sync", Nothing),
    ("async", Nothing),
];

/// Flags of any mount; [`crate::sys::mount::Attributes::add`] knows what they do.
const GENERIC: [&str; 16] = [
    "ro",
    "rw",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "exec",
    "noexec",
    "atime",
    "noatime",
    "relatime",
    "strictatime",
    "diratime",
    "nodiratime",
    "symfollow",
    "nosymfollow",
];

/// Options that somebody may well write, and why they are not taken.
const REFUSED: [(&[&str], &str); 8] = [
    (
        &["addr", "clientaddr", "source", "mountaddr", "mounthost"],
        "the driver sets it: the server is the root's",
    ),
    (
        &["bg", "fg", "retry"],
        "it is for mount(8), which has no part in this: the call is repeated until it succeeds",
    ),
    (&["sloppy"], "options that are not known are never ignored"),
    (&["minorversion"], "write the whole version: vers=4.2"),
    (&["udp"], "data can be damaged under way without notice (nfs(5)): use proto=tcp"),
    (&["intr", "nointr"], "it has done nothing since Linux 2.6.25: leave it out"),
    (
        &["context", "fscontext", "defcontext", "rootcontext", "seclabel"],
        "labels of SELinux are not supported yet",
    ),
    (
        &[
            "defaults", "auto", "noauto", "user", "nouser", "users", "owner", "group", "nofail", "_netdev",
            "remount", "bind",
        ],
        "it is for fstab(5) and mount(8): leave it out",
    ),
];

/// What only the administrator says, since it leads to another service of the server.
const ROOTS_OWN: [&str; 4] = ["port", "mountport", "mountvers", "mountproto"];

/// Checks a list of flags, each of which may hold several with commas between them, and tells apart what they are of.
/// `field` is the one of the request, or the flag of the command line, that errors name.
///
/// # Errors
/// INVALID_ARGUMENT for one that is not known, is not for this giver, or has a value that makes no sense.
pub fn split<S: AsRef<str>>(field: &str, flags: &[S], giver: Giver) -> Result<Split> {
    let mut split = Split::default();
    for flag in flags.iter().flat_map(|flags| flags.as_ref().split(',')) {
        if GENERIC.contains(&flag) {
            split.generic.push(flag.into());
        } else {
            let option = checked(flag, giver).map_err(|why| Error::invalid(field, why))?;
            add(&mut split.nfs, &option);
        }
    }
    Ok(split)
}

/// Options of NFS, and then `later` ones, which have the last word.
pub fn merge(options: &[String], later: &[String]) -> Vec<String> {
    let mut merged = options.to_vec();
    later.iter().for_each(|option| add(&mut merged, option));
    merged
}

fn add(options: &mut Vec<String>, option: &str) {
    let name = name_of(option);
    options.retain(|other| {
        let other = name_of(other);
        let is_part = name == "actimeo" && ["acregmin", "acregmax", "acdirmin", "acdirmax"].contains(&other);
        subject(other) != subject(name) && !is_part
    });
    options.push(option.into());
}

fn name_of(option: &str) -> &str {
    option.split_once('=').map_or(option, |(name, _)| name)
}

/// What an option is about: of those with one subject, the last holds.
fn subject(name: &str) -> &str {
    match name {
        "soft" | "softerr" => "hard",
        "async" => "sync",
        _ => match name.strip_prefix("no") {
            Some(positive) if KNOWN.iter().any(|(known, _)| *known == positive) => positive,
            _ => name,
        },
    }
}

/// The option as the kernel is given it, or why it is not.
fn checked(option: &str, giver: Giver) -> Result<String, String> {
    let (name, value) = match option {
        "tcp" | "rdma" => ("proto", Some(option)),
        _ => match option.split_once('=') {
            Some(("nfsvers", value)) => ("vers", Some(value)),
            Some((name, value)) => (name, Some(value)),
            None => {
                match option.strip_prefix('v').filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit())) {
                    Some(version) => ("vers", Some(version)),
                    None => (option, None),
                }
            }
        },
    };
    if let Some((_, why)) = REFUSED.iter().find(|(names, _)| names.contains(&name)) {
        return Err(format!("{name} can't be given: {why}"));
    }
    let Some((_, takes)) = KNOWN.iter().find(|(known, _)| *known == name) else {
        return Err(format!("{} is no mount option of NFS{}", shown(name), nearest(name)));
    };
    if giver == Giver::Volume && ROOTS_OWN.contains(&name) {
        return Err(format!("{name} can be given for a root only, by the administrator"));
    }
    match (takes, value) {
        (Nothing, None) => Ok(name.into()),
        (Nothing, Some(_)) => Err(format!("{name} takes no value")),
        (Number(least, most), value) => {
            let number = value
                .filter(|text| text.bytes().all(|b| b.is_ascii_digit()))
                .and_then(|text| text.parse().ok());
            match number {
                Some(number) if (*least..=*most).contains(&number) => Ok(format!("{name}={number}")),
                _ => Err(format!("{name} takes a number from {least} to {most}")),
            }
        }
        (Word(words), Some(value)) if words.contains(&value) => Ok(format!("{name}={value}")),
        (Words(words), Some(value)) if value.split(':').all(|word| words.contains(&word)) => {
            Ok(format!("{name}={value}"))
        }
        (Word(words), _) => Err(format!("{name} takes one of {}", words.join(", "))),
        (Words(words), _) => Err(format!("{name} takes one of {}, or several with colons", words.join(", "))),
    }
}

/// A name that is not known. Who knows what it is: only what looks like an option is repeated.
fn shown(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    match name {
        "" => "an empty word".into(),
        _ if name.len() <= 32 && name.chars().all(is_plain) => format!("{name:?}"),
        _ => "something that does not look like one".into(),
    }
}

fn nearest(name: &str) -> String {
    let known = KNOWN.iter().map(|(known, _)| *known).chain(GENERIC);
    let distance = |known: &str| strsim::osa_distance(&name.to_lowercase(), known);
    match known.min_by_key(|known| distance(known)) {
        Some(known) if distance(known) <= 2 => format!(": is {known} meant?"),
        _ => String::new(),
    }
}
