//! A server's addresses. The kernel takes addresses only, and a name may move, so it is looked up for each mount.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::mpsc;
use std::time::Duration;

use super::Source;
use crate::error::{Error, Result};

/// Every address of the server that `proto` can use. A name server that does not answer costs `patience` at most.
pub(super) fn of(source: &Source<'_>, proto: Option<&str>, patience: Duration) -> Result<Vec<SocketAddr>> {
    let server = source.server;
    let refused = |why: String| Error::Refused { what: format!("mount {source}"), why };
    let found = if let Some(inner) = server.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        look_up(inner, patience)
    } else if let Ok(address) = server.parse::<IpAddr>() {
        Ok(vec![SocketAddr::new(address, 0)])
    } else {
        look_up(server, patience)
    };
    let mut found = found.map_err(|why| refused(format!("the name {server} can't be looked up: {why}")))?;
    let mut seen = Vec::new();
    found.retain(|address| {
        let is_new = !seen.contains(address);
        seen.push(*address);
        is_new
    });
    // nfs(5): the netid chooses the family as well.
    match proto {
        Some("tcp" | "rdma") => found.retain(SocketAddr::is_ipv4),
        Some("tcp6" | "rdma6") => found.retain(SocketAddr::is_ipv6),
        _ => {}
    }
    if found.is_empty() {
        let proto = proto.map(|proto| format!(" that proto={proto} can use")).unwrap_or_default();
        return Err(refused(format!("{server} has no address{proto}")));
    }
    Ok(found)
}

/// The C library can't be told how long to try, so a thread asks it and is left behind when it takes too long.
fn look_up(name: &str, patience: Duration) -> Result<Vec<SocketAddr>, String> {
    let (answer, wait) = mpsc::sync_channel(1);
    let host = name.to_string();
    let ask = move || {
        let found = (host.as_str(), 0).to_socket_addrs().map(Vec::from_iter);
        // Nobody waits any more when this fails.
        let _ = answer.send(found.map_err(|error| error.to_string()));
    };
    std::thread::Builder::new().name("look-up".into()).spawn(ask).map_err(|error| error.to_string())?;
    wait.recv_timeout(patience).unwrap_or_else(|_| Err(format!("no answer within {patience:?}")))
}

/// An address as the kernel reads it.
pub(super) fn text(address: &SocketAddr) -> String {
    match address {
        SocketAddr::V6(v6) if v6.scope_id() != 0 => format!("{}%{}", v6.ip(), v6.scope_id()),
        _ => address.ip().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv6Addr;
    use std::net::SocketAddrV6;

    const LONG: Duration = Duration::from_secs(20);

    fn found(server: &str, proto: Option<&str>) -> Result<Vec<String>, String> {
        let found = of(&Source { server, path: "/x" }, proto, LONG);
        found.map(|found| found.iter().map(text).collect()).map_err(|error| error.to_string())
    }

    #[test]
    fn an_address_needs_no_look_up() {
        assert_eq!(found("10.0.0.1", None).unwrap(), ["10.0.0.1"]);
        assert_eq!(found("[fd00::1]", None).unwrap(), ["fd00::1"]);
    }

    #[test]
    fn a_name_is_looked_up_and_no_address_comes_twice() {
        let addresses = found("localhost", None).unwrap();
        assert!(addresses.iter().any(|address| ["127.0.0.1", "::1"].contains(&address.as_str())));
        let different: std::collections::BTreeSet<_> = addresses.iter().collect();
        assert_eq!(different.len(), addresses.len());
    }

    #[test]
    fn the_transport_chooses_the_family() {
        assert_eq!(found("10.0.0.1", Some("tcp")).unwrap(), ["10.0.0.1"]);
        assert_eq!(found("[fd00::1]", Some("tcp6")).unwrap(), ["fd00::1"]);
        let none = found("[fd00::1]", Some("rdma")).unwrap_err();
        assert!(none.ends_with("[fd00::1] has no address that proto=rdma can use"), "{none}");
    }

    #[test]
    fn a_name_that_is_none_is_an_error_that_names_it() {
        let why = found("no..name", None).unwrap_err();
        assert!(why.starts_with("mount no..name:/x: the name no..name can't be looked up: "), "{why}");
    }

    #[test]
    fn an_address_of_one_link_says_which() {
        let address = SocketAddrV6::new(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1), 0, 0, 3);
        assert_eq!(text(&address.into()), "fe80::1%3");
    }
}
