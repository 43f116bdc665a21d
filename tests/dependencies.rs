//! What is linked into Berth: licences and sources, as deny.toml allows them, checked without a network.
//!
//! Why not by `cargo deny` itself: docs/decisions/0007-licences-by-a-test.md.
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods)] // it asks cargo

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

/// The strings of the array `key` in deny.toml.
fn deny(key: &str) -> Vec<String> {
    let text = std::fs::read_to_string("deny.toml").unwrap();
    let (_, rest) = text.split_once(&format!("\n{key} = [")).unwrap();
    let (array, _) = rest.split_once(']').unwrap();
    array.split(',').map(|item| item.trim().trim_matches('"').to_string()).filter(|s| !s.is_empty()).collect()
}

/// The packages that any of the targets in deny.toml needs: name, and what `cargo metadata` says of each.
fn packages() -> Vec<(String, Value)> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--format-version=1", "--offline", "--locked", "--all-features"]);
    for target in deny("targets") {
        cargo.args(["--filter-platform", &target]);
    }
    let output = cargo.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 50, "cargo names {} packages only", packages.len());
    packages
        .iter()
        .map(|package| {
            let text = |key: &str| package[key].as_str().unwrap_or("?");
            (format!("{} {}", text("name"), text("version")), package.clone())
        })
        .collect()
}

/// Whether an SPDX expression can be met with the allowed licences. `WITH` makes a licence another one; the slash is how older
/// packages write OR.
fn is_met(expression: &str, allowed: &[String]) -> bool {
    let spaced =
        expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ").replace(" WITH ", "+WITH+");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let met = any(&mut rest, allowed);
    met && rest.is_empty()
}

fn any(words: &mut &[&str], allowed: &[String]) -> bool {
    let mut met = all(words, allowed);
    while let Some(("OR", rest)) = words.split_first().map(|(first, rest)| (*first, rest)) {
        *words = rest;
        met |= all(words, allowed);
    }
    met
}

fn all(words: &mut &[&str], allowed: &[String]) -> bool {
    let mut met = one(words, allowed);
    while let Some(("AND", rest)) = words.split_first().map(|(first, rest)| (*first, rest)) {
        *words = rest;
        met &= one(words, allowed);
    }
    met
}

fn one(words: &mut &[&str], allowed: &[String]) -> bool {
    let Some((first, rest)) = words.split_first() else { return false };
    *words = rest;
    if *first != "(" {
        return allowed.iter().any(|licence| licence == first);
    }
    let met = any(words, allowed);
    let closed = words.first() == Some(&")");
    *words = words.get(1..).unwrap_or_default();
    met && closed
}

#[test]
fn an_expression_is_met_by_what_is_allowed_and_by_nothing_else() {
    let allowed = ["MIT".to_string(), "Zlib".to_string()];
    for met in [
        "MIT",
        "MIT OR GPL-3.0",
        "GPL-3.0/MIT",
        "(GPL-3.0 OR MIT) AND Zlib",
        "GPL-3.0 AND BSD-2-Clause OR Zlib",
    ] {
        assert!(is_met(met, &allowed), "{met}");
    }
    for unmet in [
        "",
        "GPL-3.0",
        "MIT AND GPL-3.0",
        "MIT WITH exception",
        "(MIT",
        "MIT GPL-3.0",
        "(GPL-3.0 OR MIT) AND BSD-2-Clause",
    ] {
        assert!(!is_met(unmet, &allowed), "{unmet}");
    }
}

#[test]
fn every_dependency_has_a_licence_that_is_allowed() {
    let allowed = deny("allow");
    let refused: Vec<String> = packages()
        .iter()
        .map(|(name, package)| (name, package["license"].as_str().unwrap_or("no licence")))
        .filter(|(_, licence)| !is_met(licence, &allowed))
        .map(|(name, licence)| format!("{name}: {licence}"))
        .collect();
    assert!(refused.is_empty(), "deny.toml does not allow: {refused:#?}");
}

#[test]
fn every_licence_that_is_allowed_is_needed() {
    let allowed = deny("allow");
    let packages = packages();
    for licence in &allowed {
        let others: Vec<String> = allowed.iter().filter(|other| *other != licence).cloned().collect();
        let needed =
            packages.iter().any(|(_, package)| !is_met(package["license"].as_str().unwrap_or(""), &others));
        assert!(needed, "no dependency needs {licence}: take it out of deny.toml");
    }
}

#[test]
fn every_dependency_comes_from_one_registry() {
    let mut sources = BTreeSet::new();
    for (name, package) in packages().iter().filter(|(name, _)| !name.starts_with("berth ")) {
        let source = package["source"].as_str().unwrap_or("a directory");
        assert!(source.starts_with("registry+"), "{name} comes from {source}");
        sources.insert(source.to_string());
    }
    assert_eq!(sources.len(), 1, "{sources:?}");
}
