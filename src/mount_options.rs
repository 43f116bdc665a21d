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

const KNOWN: [(&str, Takes); 48] = [
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
const REFUSED: [(&[&str], &str); 9] = [
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
    (&["nosoftreval"], "the kernel does not know it, and it is so without it"),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn nfs(flags: &str) -> Vec<String> {
        split("mount_flags", &[flags], Giver::Root).unwrap().nfs
    }

    fn refusal(flags: &str, giver: Giver) -> String {
        let error = split("mount_flags", &[flags], giver).unwrap_err();
        assert_eq!(error.code(), tonic::Code::InvalidArgument);
        error.to_string()
    }

    #[test]
    fn flags_of_any_mount_are_told_apart_from_those_of_nfs() {
        let found = split("f", &["ro,vers=4.2", "noexec", "hard,ro"], Giver::Volume).unwrap();
        assert_eq!(found.generic, ["ro", "noexec", "ro"]);
        assert_eq!(found.nfs, ["vers=4.2", "hard"]);
        assert_eq!(split::<&str>("f", &[], Giver::Volume).unwrap(), Split::default());
    }

    #[test]
    fn every_option_that_is_known_is_taken_with_each_end_of_its_range_and_not_beyond() {
        for (name, takes) in KNOWN {
            match takes {
                Nothing => {
                    assert_eq!(nfs(name), [name]);
                    refusal(&format!("{name}=1"), Giver::Root);
                }
                Number(least, most) => {
                    for number in [least, most] {
                        let option = format!("{name}={number}");
                        assert_eq!(nfs(&option), [option]);
                    }
                    let below = i64::from(least) - 1;
                    for value in
                        [&below.to_string(), &(most + 1).to_string(), "", "+5", "5 ", "0x5", "99999999999"]
                    {
                        refusal(&format!("{name}={value}"), Giver::Root);
                    }
                    refusal(name, Giver::Root);
                }
                Word(words) | Words(words) => {
                    for word in words {
                        let option = format!("{name}={word}");
                        assert_eq!(nfs(&option), [option]);
                    }
                    for value in ["=", "=other", "=TCP", ""] {
                        refusal(&format!("{name}{value}"), Giver::Root);
                    }
                }
            }
        }
    }

    #[test]
    fn other_spellings_become_one() {
        assert_eq!(nfs("nfsvers=4.1"), ["vers=4.1"]);
        assert_eq!(nfs("v4.1"), ["vers=4.1"]);
        assert_eq!(nfs("v3"), ["vers=3"]);
        assert_eq!(nfs("rdma"), ["proto=rdma"]);
        assert_eq!(nfs("timeo=0600"), ["timeo=600"]);
        assert_eq!(nfs("sec=krb5p:sys"), ["sec=krb5p:sys"]);
    }

    #[test]
    fn the_last_word_on_a_subject_holds() {
        assert_eq!(nfs("hard,softerr,soft"), ["soft"]);
        assert_eq!(nfs("nolock,lock"), ["lock"]);
        assert_eq!(nfs("vers=3,nfsvers=4.2"), ["vers=4.2"]);
        assert_eq!(nfs("sync,timeo=1,async,timeo=2"), ["async", "timeo=2"]);
        // What one word says of four is said anew, before it and not after it.
        assert_eq!(nfs("acregmin=1,actimeo=5,acdirmax=9"), ["actimeo=5", "acdirmax=9"]);
        // Two names that begin alike are two subjects.
        assert_eq!(nfs("ac,acl,noac"), ["acl", "noac"]);
        assert_eq!(nfs("softreval,soft"), ["softreval", "soft"]);
    }

    #[test]
    fn a_volumes_options_come_after_its_roots() {
        let (root, volume) = (nfs("vers=4.1,hard,nconnect=4"), nfs("soft,timeo=50"));
        assert_eq!(merge(&root, &volume), ["vers=4.1", "nconnect=4", "soft", "timeo=50"]);
        assert_eq!(merge(&root, &[]), root);
        assert_eq!(merge(&[], &volume), volume);
    }

    #[test]
    fn a_volume_leads_nowhere_else() {
        for option in ["port=1", "mountport=1", "mountvers=3", "mountproto=udp"] {
            assert_eq!(nfs(option), [option]);
            assert!(refusal(option, Giver::Volume).contains("for a root only"));
        }
        for option in
            ["addr=10.0.0.1", "mountaddr=10.0.0.1", "clientaddr=10.0.0.1", "source=nas:/", "mounthost=nas"]
        {
            for giver in [Giver::Root, Giver::Volume] {
                assert!(refusal(option, giver).contains("the driver sets it"), "{option}");
            }
        }
    }

    #[test]
    fn a_refusal_says_why_and_what_may_be_meant() {
        let says = |flags: &str, what: &str| {
            let message = refusal(flags, Giver::Root);
            assert!(message.contains(what), "{flags}: {message}");
        };
        says("nolocks", "\"nolocks\" is no mount option of NFS: is nolock meant?");
        says("Hard", "is hard meant?");
        says("noexce", "is noexec meant?");
        says("hard,,soft", "an empty word");
        says("minorversion=1", "vers=4.2");
        says("vers=2", "vers takes one of 3, 4, 4.0, 4.1, 4.2");
        says("timeo=0", "timeo takes a number from 1 to 36000");
        says("bg", "repeated until it succeeds");
        says("_netdev", "fstab(5)");
        says("sec=sys:root", "several with colons");
    }

    #[test]
    fn a_message_never_shows_what_may_be_a_credential() {
        for flags in [
            "password=hunter2",
            "timeo=hunter2",
            "sec=hunter2",
            "hard=hunter2",
            "user:hunter2",
            "hunter2@nas:/x y",
        ] {
            assert!(!refusal(flags, Giver::Root).contains("hunter2"), "{flags}");
        }
    }
}
