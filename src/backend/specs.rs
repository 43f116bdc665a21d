//! The roots that the administrator names, as a whole: which driver serves them, and that they can be told apart.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, channel};

use super::server::{PLACES, Server};
use super::{Kind, Root, local, nfs};
use crate::error::{Error, Result};
use crate::store::Errand;

/// All roots of a driver.
#[derive(Debug)]
pub enum Specs {
    /// Directories of this node.
    Local(Vec<local::RootSpec>),
    /// Shares of servers.
    Nfs(Vec<nfs::Spec>),
}

impl Specs {
    /// Which driver serves them.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Local(_) => Kind::Local,
            Self::Nfs(_) => Kind::Nfs,
        }
    }

    /// How many calls can hang at most, on all servers together.
    pub fn places(&self) -> usize {
        match self {
            Self::Local(_) => 0,
            Self::Nfs(specs) => specs.len() * PLACES,
        }
    }

    /// The roots in the order of their names, and what comes up to be done for each. Nothing is opened.
    ///
    /// # Errors
    /// INVALID_ARGUMENT where two have one name, or one lies in another.
    pub fn roots(self) -> Result<Vec<(Root, Receiver<Errand>)>> {
        let mut roots: Vec<_> = match self {
            Self::Local(specs) => {
                let places = specs.iter().map(|spec| (spec.name.as_str(), spec.path.display().to_string()));
                check(places.collect())?;
                let root = |spec| {
                    let (errands, receiver) = channel();
                    (Root::Local(local::Root::new(spec, errands)), receiver)
                };
                specs.into_iter().map(root).collect()
            }
            Self::Nfs(specs) => {
                let places = specs.iter().map(|spec| (spec.name.as_str(), spec.share.to_string()));
                check(places.collect())?;
                let mut servers = HashMap::new();
                let root = |spec: nfs::Spec| {
                    let (errands, receiver) = channel();
                    let name = &spec.share.server;
                    let server = servers.entry(name.clone()).or_insert_with(|| Server::new(name)).clone();
                    (Root::Nfs(nfs::Root::new(spec, server, errands)), receiver)
                };
                specs.into_iter().map(root).collect()
            }
        };
        roots.sort_by(|(a, _), (b, _)| a.name().cmp(b.name()));
        Ok(roots)
    }
}

/// Refuses two roots of one name, and a root that lies in another, as far as their places tell.
fn check(roots: Vec<(&str, String)>) -> Result<()> {
    for (index, (name, place)) in roots.iter().enumerate() {
        if roots[..index].iter().any(|(other, _)| other == name) {
            return Err(Error::invalid("--root", format!("{name} is given twice")));
        }
        let within =
            |outer: &str| place.strip_prefix(outer.trim_end_matches('/')).is_some_and(is_path_or_nothing);
        if let Some((other, outer)) = roots.iter().find(|(other, outer)| other != name && within(outer)) {
            let why = format!("{name} ({place}) lies in {other} ({outer})");
            return Err(Error::invalid("--root", why));
        }
    }
    Ok(())
}

fn is_path_or_nothing(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nfs(roots: &[&str]) -> Result<Vec<String>> {
        let specs = Specs::Nfs(roots.iter().map(|root| root.parse().unwrap()).collect());
        Ok(specs.roots()?.iter().map(|(root, _)| root.name().to_string()).collect())
    }

    #[test]
    fn roots_are_kept_in_the_order_of_their_names() {
        assert_eq!(nfs(&["b=nas:/b", "a=nas:/a"]).unwrap(), ["a", "b"]);
    }

    #[test]
    fn a_root_within_another_is_refused_and_a_name_that_begins_alike_is_not() {
        assert!(nfs(&["a=nas:/x", "b=nas:/x/y"]).is_err());
        assert!(nfs(&["b=nas:/x/y", "a=nas:/x"]).is_err());
        assert!(nfs(&["a=nas:/", "b=nas:/x"]).is_err());
        assert!(nfs(&["a=nas:/x", "b=nas:/x"]).is_err());
        assert!(nfs(&["a=nas:/x", "a=nas:/y"]).is_err());
        assert!(nfs(&["a=nas:/x", "b=nas:/xy", "c=other:/x"]).is_ok());
    }
}
