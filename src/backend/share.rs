//! A directory of a server, as the administrator writes it: `SERVER:/PATH`.

use std::fmt;
use std::str::FromStr;

/// Where a share is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// A name, an IPv4 address, or an IPv6 address in brackets.
    pub server: String,
    /// Absolute, without a slash at its end.
    pub path: String,
}

impl Share {
    /// The path on the server of what lies at `path` beneath the share.
    pub fn beneath(&self, path: &str) -> String {
        format!("{}/{path}", self.path.trim_end_matches('/'))
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = "SERVER:/PATH, with an IPv6 address in brackets";
        // The first colon outside brackets.
        let from = if text.starts_with('[') { text.find(']').unwrap_or(0) } else { 0 };
        let colon = text[from..].find(':').map(|at| from + at);
        let (server, path) = match colon {
            Some(at) => (&text[..at], &text[at + 1..]),
            None => return Err(format!("{text:?} is no share: it is {form}")),
        };
        let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let is_v6 = server.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).is_some_and(|inner| {
            inner.split('%').next().is_some_and(|a| a.parse::<std::net::Ipv6Addr>().is_ok())
        });
        if server.is_empty() || server.len() > 255 || !(is_v6 || server.chars().all(name)) {
            return Err(format!("{server:?} is no server: a share is {form}"));
        }
        let is_plain = |part: &str| !part.is_empty() && part != "." && part != "..";
        let trimmed = path.strip_prefix('/').map(|rest| rest.trim_end_matches('/'));
        match trimmed {
            Some("") => Ok(Self { server: server.to_string(), path: "/".into() }),
            Some(rest) if rest.split('/').all(is_plain) && !rest.chars().any(char::is_control) => {
                Ok(Self { server: server.to_string(), path: format!("/{rest}") })
            }
            _ => Err(format!("{path:?} is no absolute path on {server}, without the components . and ..")),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.server, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_server_and_an_absolute_path() {
        for (text, server, path) in [
            ("nas:/export", "nas", "/export"),
            ("10.0.0.1:/", "10.0.0.1", "/"),
            ("nas.example.com:/export/k8s/", "nas.example.com", "/export/k8s"),
            ("[fd00::1]:/a:b", "[fd00::1]", "/a:b"),
            ("[fe80::1%eth0]:/a b", "[fe80::1%eth0]", "/a b"),
        ] {
            let share: Share = text.parse().unwrap();
            assert_eq!((share.server.as_str(), share.path.as_str()), (server, path), "{text}");
        }
        for bad in [
            "",
            "nas",
            "nas:export",
            ":/a",
            "fd00::1:/a",
            "[nas]:/a",
            "nas:/a/../b",
            "nas:/a//b",
            "n s:/a",
            "nas:/a\n",
        ] {
            assert!(bad.parse::<Share>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_lies_beneath_the_top_of_a_server_has_one_slash() {
        assert_eq!("nas:/".parse::<Share>().unwrap().beneath("a/b"), "/a/b");
        assert_eq!("nas:/x".parse::<Share>().unwrap().beneath("a/b"), "/x/a/b");
    }
}
