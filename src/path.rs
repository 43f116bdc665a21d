//! Which paths may lie beneath a root. Pure; the kernel confines every path when it is opened.

use crate::id::{Incarnation, OWN_DIRECTORY};

/// The longest component of a path and the longest path beneath a root, in bytes: Linux's own (NAME_MAX), and well
/// below PATH_MAX, whatever the root's own path is.
const MAX_EXISTING: (usize, usize) = (255, 2048);
/// The same for a new volume: they leave room for what Berth adds, also when it is retained or archived.
const MAX_NEW: (usize, usize) = (220, 1024);

/// Whether `path` may lie beneath a root. The kernel confines every path when it is opened; this is about names
/// that would be misunderstood: Berth's own, an incarnation's, and those that are no names.
pub fn check_path(path: &str) -> Result<(), String> {
    check(path, MAX_EXISTING)
}

/// Whether a new volume may lie at `path`: as [`check_path`], and there is room for what Berth adds to its names.
pub fn check_new_path(path: &str) -> Result<(), String> {
    check(path, MAX_NEW)
}

fn check(path: &str, (max_component, max_path): (usize, usize)) -> Result<(), String> {
    if path.is_empty() {
        return Err("is empty".into());
    }
    if path.len() > max_path {
        return Err(format!("is longer than {max_path} bytes"));
    }
    if path.starts_with('/') {
        return Err(format!("{path:?} is absolute; it has to be relative to the root"));
    }
    for (depth, part) in path.split('/').enumerate() {
        if part.len() > max_component {
            return Err(format!("{path:?} has a component of more than {max_component} bytes"));
        }
        let why = if part.is_empty() {
            "has an empty component"
        } else if part == "." || part == ".." {
            "has the component . or .."
        } else if part.chars().any(char::is_control) {
            "has a control character"
        } else if depth == 0 && part.eq_ignore_ascii_case(OWN_DIRECTORY) {
            "lies in .berth, which is Berth's own"
        } else if Incarnation::ends(part) {
            "has a component that looks like a volume's data (a dot and 16 hexadecimal digits at its end)"
        } else {
            continue;
        };
        return Err(format!("{path:?} {why}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_climbs_hides_or_poses_as_data_is_refused_with_its_reason() {
        for (path, word) in [
            ("", "empty"),
            ("/a", "absolute"),
            (".", "."),
            ("a/../b", ".."),
            ("a//b", "empty component"),
            ("a/", "empty"),
            (".berth/x", ".berth"),
            (".BERTH", ".berth"),
            ("a.0123456789abcdef/b", "looks like"),
            ("a\n", "control"),
        ] {
            let why = check_path(path).unwrap_err();
            assert!(why.contains(word), "{path:?}: {why}");
        }
        for path in ["a", "a/b", ".hidden", "a.b.c", "a.0123456789ABCDEF", "my data", "a/.berth", "-x"] {
            assert_eq!(check_path(path), Ok(()), "{path}");
        }
    }

    #[test]
    fn existing_data_may_have_a_longer_path_than_a_new_volume_which_gets_longer_when_it_is_kept() {
        let longest = format!("{}{}", "d/".repeat(402), "n".repeat(220));
        assert_eq!(check_new_path(&longest), Ok(()));
        assert!(check_new_path(&format!("d/{longest}")).is_err());
        assert!(check_new_path(&"n".repeat(221)).is_err());
        for kept in
            [format!("{longest}.retained-0123456789abcdef"), format!("archived/{longest}-0123456789abcdef")]
        {
            assert_eq!(check_path(&kept), Ok(()));
        }
        assert!(check_path(&"n".repeat(256)).is_err());
        assert!(check_path(&format!("{}n", "d/".repeat(1024))).is_err());
    }
}
