//! placeholder
use crate::error::Result;
/// Flags.
#[derive(Debug, Default)]
pub struct Split {
    /// Generic.
    pub generic: Vec<String>,
    /// NFS.
    pub nfs: Vec<String>,
}
/// Split.
pub fn split(_field: &str, flags: &[String]) -> Result<Split> {
    let mut s = Split::default();
    for f in flags.iter().flat_map(|f| f.split(',')) {
        let g = [
            "ro",
            "rw",
            "noexec",
            "exec",
            "nosuid",
            "suid",
            "nodev",
            "dev",
            "noatime",
            "atime",
            "relatime",
            "strictatime",
            "nodiratime",
            "diratime",
            "nosymfollow",
            "symfollow",
        ];
        if g.contains(&f) { s.generic.push(f.into()) } else { s.nfs.push(f.into()) }
    }
    Ok(s)
}
/// Merge.
pub fn merge(a: &[String], b: &[String]) -> Vec<String> {
    let key = |o: &String| o.split('=').next().unwrap_or_default().to_string();
    let mut out: Vec<String> = a.iter().filter(|o| !b.iter().any(|p| key(p) == key(o))).cloned().collect();
    out.extend(b.iter().cloned());
    out
}
