//! `make e2e`: all of Kubernetes' suite of external storage, and what became of each spec in docs/conformance.md.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::cluster::{Kind, TOP};
use crate::runner;
use crate::trials::e2e::{self, Spec};

/// Where the part of the page begins that is written here; what stands above is written by people.
const MARK: &str = "<!-- Written by `make e2e`. -->\n";

/// What can't be run: these log in to nodes by ssh, or have the whole cluster to themselves for hours.
const SKIP: &str = r"\[Disruptive\]|\[Serial\]";

/// Runs all of it for the drivers named, and rewrites the page. An error names what failed.
pub fn run(drivers: &[String]) -> Result<(), String> {
    let page = Path::new(TOP).join("docs/conformance.md");
    let text = fs::read_to_string(&page).map_err(|error| format!("{}: {error}", page.display()))?;
    let (head, old) =
        text.split_once(MARK).ok_or(format!("{}: no line `{}`", page.display(), MARK.trim()))?;
    let mut parts: BTreeMap<String, String> = BTreeMap::new();
    for part in old.split("\n## ").skip(1) {
        let name = part.split_whitespace().nth(1).unwrap_or_default().trim_end_matches(':');
        parts.insert(name.into(), format!("\n## {}\n", part.trim_end()));
    }
    let mut failed = Vec::new();
    for (name, kind) in [("local", Kind::Local), ("nfs", Kind::Nfs)] {
        if !drivers.is_empty() && drivers.iter().all(|driver| driver != name) {
            continue;
        }
        println!("all of the suite for berth {name}; this takes a while...");
        let specs = runner::caught(|| e2e::run(&e2e::start(kind), "External.Storage", SKIP, "3h"))?;
        failed.extend(
            specs.iter().filter(|spec| spec.has_failed()).map(|spec| format!("{name}: {}", spec.name)),
        );
        parts.insert(name.into(), told(name, &specs));
    }
    let parts: String = parts.into_values().collect();
    fs::write(&page, format!("{head}{MARK}{parts}"))
        .map_err(|error| format!("{}: {error}", page.display()))?;
    if failed.is_empty() { Ok(()) } else { Err(failed.join("\n")) }
}

/// A driver's part of the page.
fn told(driver: &str, specs: &[Spec]) -> String {
    let with = |state: &str| specs.iter().filter(|spec| spec.state == state).count();
    let (passed, skipped) = (with("passed"), with("skipped"));
    let seconds: f64 = specs.iter().map(|spec| spec.took).sum();
    let mut text = format!(
        "\n## berth {driver}: {passed} passed, {skipped} skipped, {} failed\n\n{:.0} minutes of specs, several at once.\n",
        specs.len() - passed - skipped,
        seconds / 60.0
    );
    let mut groups: BTreeMap<String, Vec<&Spec>> = BTreeMap::new();
    for spec in specs {
        let group = match spec.state.as_str() {
            "passed" => "Passed".into(),
            "skipped" => format!("Skipped: {}", reason(&spec.why)),
            _ => "Failed".into(),
        };
        groups.entry(group).or_default().push(spec);
    }
    for (group, mut specs) in groups {
        specs.sort_by(|a, b| a.name.cmp(&b.name));
        let _ = writeln!(text, "\n### {group}\n");
        for spec in specs {
            let _ = writeln!(text, "- {}", spec.name.replace('<', "&lt;"));
        }
    }
    text
}

/// The suite's own words on why it skipped a spec, in one line.
fn reason(why: &str) -> String {
    let line = why.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    line.trim().trim_end_matches(" - skipping").to_string()
}
