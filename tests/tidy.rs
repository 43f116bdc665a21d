//! Rules about the repository itself: who may name whom, where `unsafe` and `async` live, how long a file is.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;

/// What RPCs are made of: everything beneath them that they may name.
const BELOW: &[&str] = &[
    "access",
    "backend",
    "csi",
    "driver",
    "error",
    "guard",
    "id",
    "messages",
    "mount_options",
    "parameters",
    "path",
    "publications",
    "store",
    "sys",
    "volume",
];

/// What each module may name, from top to bottom. A folder stands for its files, and a file's own row comes before its folder's.
/// Crates are listed as well where a border runs: gRPC at the edge, and async with it.
const MAY_NAME: &[(&str, &[&[&str]])] = &[
    ("main", &[&["backend", "driver", "error", "probe", "registration", "server", "socket", "tokio"]]),
    ("lib", &[]),
    (
        "server",
        &[&[
            "authority",
            "backend",
            "csi",
            "driver",
            "error",
            "guard",
            "registration",
            "socket",
            "tokio",
            "tokio_stream",
            "tonic",
        ]],
    ),
    ("registration", &[&["authority", "error", "socket", "tokio", "tokio_stream", "tonic"]]),
    ("authority", &[&["tokio", "tonic"]]),
    ("probe", &[&["csi", "socket", "tokio", "tonic"]]),
    ("socket", &[&["error", "tokio"]]),
    ("identity", &[&["csi", "server", "tonic"]]),
    ("controller/mod", &[&["backend", "csi", "server", "tonic"]]),
    ("controller", &[BELOW]),
    ("node/mod", &[&["backend", "csi", "messages", "server", "tonic"]]),
    // What the RPCs of a node share; no RPC names another's file.
    ("node/target", &[BELOW]),
    ("node/ours", &[BELOW]),
    ("node/source", &[BELOW]),
    ("node/publication", &[BELOW, &["node/target"]]),
    ("node/attempt", &[BELOW, &["node/ours", "node/source", "node/target"]]),
    ("node", &[BELOW, &["node/attempt", "node/ours", "node/publication", "node/source", "node/target"]]),
    ("messages", &[&["access", "backend", "csi", "driver", "error", "id", "mount_options", "sys", "volume"]]),
    ("driver", &[&["backend", "error", "guard", "id", "publications", "store", "sys"]]),
    (
        "backend",
        &[&["backend", "error", "guard", "id", "mount_options", "parameters", "store", "sys", "volume"]],
    ),
    ("store", &[&["error", "guard", "id", "path", "store", "sys", "volume"]]),
    ("publications", &[&["access", "error", "id", "sys"]]),
    ("guard", &[&["error"]]),
    ("sys", &[&["error", "sys"]]),
    // The rules know nothing but each other; an error knows its code.
    ("id", &[&["path"]]),
    ("path", &[&["id"]]),
    ("mount_options", &[&["error"]]),
    ("volume", &[&["access", "error", "id", "parameters"]]),
    ("parameters", &[&["access", "error", "path"]]),
    ("access", &[&["error"]]),
    ("error", &[&["tonic"]]),
    ("csi", &[&["tonic"]]),
];

/// Crates that stop at the edge.
const EDGE_CRATES: [&str; 4] = ["tokio", "tokio_stream", "tonic", "tonic_prost"];

/// Where futures may be made and awaited.
const ASYNC: [&str; 7] =
    ["main", "server", "registration", "probe", "identity", "controller/mod", "node/mod"];

/// A file of the repository.
struct File {
    /// From the top of the repository.
    path: String,
    text: String,
}

impl File {
    /// The module, for a file of `src/`: `node/publish`.
    fn module(&self) -> Option<&str> {
        self.path.strip_prefix("src/")?.strip_suffix(".rs")
    }
}

/// Every file of the repository that is text, build products left out.
fn files() -> Vec<File> {
    fn walk(dir: &Path, found: &mut Vec<File>) {
        for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
            let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
            if entry.file_type().unwrap().is_dir() {
                if !["target", ".git"].contains(&name.as_str()) {
                    walk(&path, found);
                }
            } else if let Ok(text) = std::fs::read_to_string(&path) {
                let path = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap();
                found.push(File { path: path.to_str().unwrap().into(), text });
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new(env!("CARGO_MANIFEST_DIR")), &mut found);
    assert!(found.len() > 40, "only {} files are found", found.len());
    found
}

/// The tokens of the code that ships: identifiers and single signs, without comments, texts and unit tests.
fn tokens(file: &File) -> Vec<String> {
    let shipped = file.text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let (mut tokens, mut chars) = (Vec::<String>::new(), shipped.chars().peekable());
    while let Some(c) = chars.next() {
        match c {
            '/' if chars.peek() == Some(&'/') => while chars.next_if(|c| *c != '\n').is_some() {},
            '"' => {
                while let Some(c) = chars.next().filter(|c| *c != '"') {
                    if c == '\\' {
                        chars.next();
                    }
                }
            }
            // A character, not a lifetime.
            '\'' => {
                let mut ahead = chars.clone();
                let escaped = ahead.next() == Some('\\');
                if escaped || ahead.next() == Some('\'') {
                    if escaped {
                        chars.next();
                    }
                    chars.next();
                    while chars.next().is_some_and(|c| c != '\'') {}
                }
            }
            c if c.is_alphanumeric() || c == '_' => {
                let mut word = String::from(c);
                while let Some(c) = chars.next_if(|c| c.is_alphanumeric() || *c == '_') {
                    word.push(c);
                }
                tokens.push(word);
            }
            c if c.is_whitespace() => {}
            c => tokens.push(c.into()),
        }
    }
    tokens
}

/// Every path that begins at `tokens[*at]`: one, or with braces several.
fn paths(tokens: &[String], at: &mut usize, before: &[String], found: &mut Vec<Vec<String>>) {
    let token = |at: usize| tokens.get(at).map_or("", String::as_str);
    let mut path = before.to_vec();
    loop {
        if token(*at) == "{" {
            *at += 1;
            while !["}", ""].contains(&token(*at)) {
                paths(tokens, at, &path, found);
                if token(*at) == "," {
                    *at += 1;
                }
            }
            *at += 1;
            return;
        }
        path.push(token(*at).to_string());
        *at += 1;
        if token(*at) == "as" {
            *at += 2;
        }
        if !(token(*at) == ":" && token(*at + 1) == ":") {
            found.push(path);
            return;
        }
        *at += 2;
    }
}

/// What of this crate, and which crates of the edge, a module names.
fn named(file: &File, modules: &BTreeSet<&str>) -> BTreeSet<String> {
    let module = file.module().unwrap();
    let tokens = tokens(file);
    let (mut found, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        let starts = ["crate", "super", "self", "berth"].contains(&tokens[at].as_str())
            || EDGE_CRATES.contains(&tokens[at].as_str());
        let goes_on =
            tokens.get(at + 1).is_some_and(|t| t == ":") && tokens.get(at + 2).is_some_and(|t| t == ":");
        if starts && goes_on && (at == 0 || tokens[at - 1] != ":") {
            paths(&tokens, &mut at, &[], &mut found);
        } else {
            at += 1;
        }
    }
    let folder: Vec<&str> = module.split('/').collect();
    let folder = &folder[..folder.len() - 1];
    let is_mod = module.ends_with("/mod");
    found
        .iter()
        .filter_map(|path| {
            let (first, rest) = path.split_first()?;
            let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
            let full: Vec<&str> = match first.as_str() {
                "crate" | "berth" => rest,
                // `self` of a file that is no `mod.rs` is the file itself.
                "self" if is_mod => [folder, &rest].concat(),
                "self" => return None,
                "super" if is_mod => [&folder[..folder.len() - 1], &rest].concat(),
                "super" => [folder, &rest].concat(),
                other => return Some(other.to_string()),
            };
            // The longest beginning that is a module; the rest is an item of it.
            (1..=full.len()).rev().map(|length| full[..length].join("/")).find_map(|name| {
                let own_folder = format!("{name}/mod");
                [name, own_folder].into_iter().find(|name| modules.contains(name.as_str()))
            })
        })
        .filter(|name| name != module)
        .collect()
}

#[test]
fn imports_go_downwards_only() {
    let files = files();
    let modules: BTreeSet<&str> = files.iter().filter_map(File::module).collect();
    let folder_of = |module: &str| module.split_once('/').map(|(folder, _)| folder.to_string());
    let mut wrong = Vec::new();
    for file in files.iter().filter(|file| file.module().is_some()) {
        let module = file.module().unwrap();
        let row = |name: &str| MAY_NAME.iter().find(|(who, _)| *who == name).map(|(_, may)| may.concat());
        let Some(may) = row(module).or_else(|| row(&folder_of(module)?)) else {
            wrong.push(format!("{} has no row in the table of tests/tidy.rs", file.path));
            continue;
        };
        for name in named(file, &modules) {
            let by_folder = folder_of(&name).is_some_and(|folder| may.contains(&folder.as_str()));
            if !by_folder && !may.contains(&name.as_str()) {
                wrong.push(format!("{} names {name}", file.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_table_of_imports_has_no_row_without_a_module() {
    let files = files();
    let modules: BTreeSet<&str> = files.iter().filter_map(File::module).collect();
    for (who, _) in MAY_NAME {
        let is_folder = modules.contains(format!("{who}/mod").as_str());
        assert!(is_folder || modules.contains(who), "{who} is no module any more");
    }
}

#[test]
fn the_reader_of_imports_finds_what_is_written() {
    let text = "//! crate::comment\nuse crate::{backend::{self, local::Root as R}, csi};\nuse super::target;\n\
                fn f<'a>(x: &'a str, c: char) -> bool { c == '\"' || x == \"crate::text\" || crate::store::is(x) }\n\
                type T = tonic::Status; use tokio::time as t;\n#[cfg(test)]\nmod tests { use crate::server; }";
    let file = File { path: "src/node/publish.rs".into(), text: text.into() };
    let modules =
        ["backend/local", "backend/mod", "comment", "csi", "node/target", "server", "store", "text"].into();
    let found: Vec<String> = named(&file, &modules).into_iter().collect();
    assert_eq!(found, ["backend/local", "backend/mod", "csi", "node/target", "store", "tokio", "tonic"]);
}

#[test]
fn the_kernel_is_spoken_to_without_a_net_in_one_folder_only() {
    for file in files().iter().filter(|file| file.module().is_some_and(|module| !module.starts_with("sys/")))
    {
        assert!(!tokens(file).iter().any(|token| token == "unsafe"), "unsafe in {}", file.path);
    }
}

#[test]
fn async_stays_at_the_edge() {
    for file in files().iter().filter(|file| file.module().is_some_and(|module| !ASYNC.contains(&module))) {
        let found =
            tokens(file).into_iter().find(|token| ["async", "await", "Future"].contains(&token.as_str()));
        assert_eq!(found, None, "{}", file.path);
    }
}

#[test]
fn every_file_of_rust_says_first_what_it_is_about() {
    for file in files().iter().filter(|file| file.path.ends_with(".rs")) {
        assert!(file.text.starts_with("//! "), "{} does not begin with //!", file.path);
    }
}

#[test]
fn no_file_of_code_is_longer_than_400_lines() {
    let long: Vec<String> = files()
        .iter()
        .filter(|file| file.path.ends_with(".rs") || file.path.ends_with(".go"))
        .map(|file| (file.text.lines().count(), &file.path))
        .filter(|(lines, _)| *lines > 400)
        .map(|(lines, path)| format!("{path}: {lines}"))
        .collect();
    assert!(long.is_empty(), "each of these is two ideas: {long:#?}");
}

#[test]
fn no_file_names_a_place_on_a_developers_machine() {
    let places = [concat!(env!("CARGO_MANIFEST_DIR"), "/"), "/home/", "/Users/", "/work/", "/workspace/"];
    for file in files().iter().filter(|file| file.path != file!()) {
        for place in places {
            assert!(!file.text.contains(place), "{} names {place}", file.path);
        }
    }
}
