//! The pages tell what the program does: each flag, parameter and error has its place, and each link leads somewhere.
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods)] // it asks the program

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use berth::parameters::Parameters;

fn page(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The lines of a page that are no code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut in_code = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        in_code ^= fence;
        !in_code && !fence
    })
}

fn headings(text: &str) -> Vec<&str> {
    prose(text).filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim()).collect()
}

/// The words after `known are` in the answer to a parameter that is wrong.
fn known(parameters: &[(&str, &str)]) -> Vec<String> {
    let parameters = parameters.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    let message = Parameters::parse(&parameters).unwrap_err().to_string();
    let (_, list) = message.split_once("known are ").unwrap();
    list.split(", ").map(str::to_string).collect()
}

/// The flags of a driver: the name of each, its environment variable, and its default if it has one.
fn flags(driver: &str) -> Vec<(String, String, Option<String>)> {
    let output =
        Command::new(env!("CARGO_BIN_EXE_berth")).args([driver, "--help"]).env_clear().output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    // One block for each flag: its name, what it does, its environment variable, its default.
    let blocks = help.split("\n      --").skip(1);
    let flag = |block: &str| {
        let value =
            |key: &str| Some(block.split_once(&format!("[{key}: "))?.1.split_once(']')?.0.to_string());
        let name = block.split([' ', '\n']).next().unwrap().to_string();
        let environment = value("env").unwrap().trim_end_matches('=').to_string();
        (name, environment, value("default").filter(|default| default != "\"\""))
    };
    blocks.map(flag).collect()
}

#[test]
fn every_flag_has_a_section_and_its_defaults_stand_in_the_table() {
    let page = page("docs/operator/flags.md");
    let drivers = [flags("local"), flags("nfs")];
    let mut known = BTreeSet::new();
    for (column, driver) in drivers.iter().enumerate() {
        assert!(driver.len() >= 9, "{driver:?}");
        for (name, environment, default) in driver {
            let heading = format!("`--{name}`, `{environment}`");
            assert!(
                headings(&page).contains(&heading.as_str()),
                "docs/operator/flags.md has no section {heading}"
            );
            let row = page.lines().find(|line| line.starts_with(&format!("| [`--{name} ")));
            let cells: Vec<&str> = row.unwrap_or_default().split(" | ").collect();
            let default = default.as_ref().map_or("none: ".to_string(), |default| format!("`{default}`"));
            let is_told = cells.get(1) == Some(&format!("`{environment}`").as_str())
                && cells.get(2 + column).is_some_and(|cell| cell.starts_with(&default));
            assert!(is_told, "--{name}: {cells:?}, not {environment} and {default}");
            known.insert(heading);
        }
    }
    for heading in headings(&page).into_iter().filter(|heading| heading.starts_with("`--")) {
        assert!(
            known.contains(heading),
            "docs/operator/flags.md has a section {heading}, and there is no such flag"
        );
    }
}

#[test]
fn every_parameter_has_a_section() {
    let page = page("docs/user/parameters.md");
    let sections: BTreeSet<&str> =
        headings(&page).into_iter().flat_map(|heading| heading.split(", ")).collect();
    let parameters = known(&[("no such parameter", "")]);
    assert!(parameters.len() >= 7, "{parameters:?}");
    for parameter in parameters {
        assert!(sections.contains(parameter.as_str()), "docs/user/parameters.md has no section {parameter}");
        assert!(page.contains(&format!("[`{parameter}`](#")), "its table has no {parameter}");
    }
}

#[test]
fn every_variable_of_a_path_is_explained() {
    let page = page("docs/user/parameters.md");
    for variable in known(&[("subDir", "${no such variable}")]) {
        assert!(
            page.contains(&format!("| `{variable}` |")),
            "docs/user/parameters.md does not explain {variable}"
        );
    }
}

#[test]
fn every_error_is_explained() {
    let source = page("src/error.rs");
    let (_, rest) = source.split_once("pub enum Error {\n").unwrap();
    let (variants, _) = rest.split_once("\n}\n").unwrap();
    let is_variant =
        |line: &&str| line.starts_with("    ") && line[4..].starts_with(|c: char| c.is_ascii_uppercase());
    let variants: BTreeSet<&str> = variants
        .lines()
        .filter(is_variant)
        .map(|line| line.trim().split([' ', '(', ',']).next().unwrap())
        .collect();
    assert!(variants.len() >= 12, "{variants:?}");
    let page = page("docs/operator/errors.md");
    for variant in variants {
        // Its section says its name first: `Name`.
        let explained = page.lines().any(|line| line.starts_with(&format!("`{variant}`")));
        assert!(explained, "docs/operator/errors.md does not explain {variant}");
    }
}

#[test]
fn every_warning_of_the_log_is_explained() {
    let (mut sources, mut unexplained, mut warnings) = (Vec::new(), Vec::new(), 0);
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "rs", &mut sources);
    let page = page("docs/operator/errors.md");
    for source in sources {
        let text = std::fs::read_to_string(source).unwrap();
        let calls = text.split("tracing::warn!(").skip(1).chain(text.split("tracing::error!(").skip(1));
        for message in calls.filter_map(|call| call.split('"').nth(1)) {
            warnings += 1;
            // What differs stands in braces; what comes after a semicolon is advice.
            let fixed = message.split(';').next().unwrap().split(['{', '}']).step_by(2);
            if !fixed.map(str::trim).all(|part| page.contains(part)) {
                unexplained.push(message.to_string());
            }
        }
    }
    assert!(warnings >= 12, "only {warnings} warnings are found");
    assert!(unexplained.is_empty(), "docs/operator/errors.md does not explain {unexplained:#?}");
}

#[test]
fn every_mount_option_of_nfs_is_explained() {
    let source = page("src/mount_options.rs");
    let (_, rest) = source.split_once("const KNOWN: ").unwrap();
    let (table, _) = rest.split_once("\n];").unwrap();
    let options: Vec<&str> =
        table.split("\n    (\"").skip(1).filter_map(|row| row.split('"').next()).collect();
    assert!(options.len() >= 40, "{options:?}");
    let page = page("docs/user/mount-options.md");
    for option in options {
        let explained = page.lines().any(|line| {
            line.strip_prefix("| ")
                .is_some_and(|row| row.split(" |").next().unwrap().contains(&format!("`{option}`")))
        });
        assert!(explained, "docs/user/mount-options.md does not explain {option}");
    }
}

/// How a heading is called in a link.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || ['-', '_', ' '].contains(c);
    heading.to_lowercase().chars().filter(kept).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// All files of a kind below a directory.
fn files(dir: &Path, kind: &str, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            if !["target", ".git"].contains(&entry.file_name().to_str().unwrap()) {
                files(&entry.path(), kind, found);
            }
        } else if entry.path().extension().is_some_and(|extension| extension == kind) {
            found.push(entry.path());
        }
    }
}

#[test]
fn every_link_from_page_to_page_leads_somewhere() {
    let (mut found, mut dead, mut links) = (Vec::new(), Vec::new(), 0);
    files(Path::new(env!("CARGO_MANIFEST_DIR")), "md", &mut found);
    for path in &found {
        let text = std::fs::read_to_string(path).unwrap();
        for target in
            prose(&text).flat_map(|line| line.split("](").skip(1)).filter_map(|rest| rest.split(')').next())
        {
            if target.contains("://") {
                continue;
            }
            links += 1;
            let (file, section) = target.split_once('#').unwrap_or((target, ""));
            let leads_to = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            let has_section = || {
                let text = std::fs::read_to_string(&leads_to).unwrap_or_default();
                section.is_empty() || headings(&text).into_iter().any(|heading| anchor(heading) == section)
            };
            if !leads_to.exists() || !has_section() {
                let page = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap();
                dead.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(links > 10, "only {links} links are found");
    assert!(dead.is_empty(), "{dead:#?}");
}
