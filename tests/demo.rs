//! The demo is a promise to newcomers: it plays to its end, and leaves nothing, whatever happens to it.

#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods)]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The demo as cargo built it for these tests.
fn built() -> PathBuf {
    let demo = Path::new(env!("CARGO_BIN_EXE_berth")).with_file_name("examples").join("demo");
    assert!(demo.is_file(), "{} is missing: `cargo build --example demo` makes it", demo.display());
    demo
}

/// The demo beside a driver that is no driver: a program of the host.
fn with_driver(place: &Path, driver: &Path) -> PathBuf {
    let demo = place.join("examples/demo");
    fs::create_dir(place.join("examples")).unwrap();
    fs::hard_link(built(), &demo).unwrap();
    symlink(driver, place.join("berth")).unwrap();
    demo
}

fn place() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// Starts a demo whose scratch directory lies in `place`/tmp.
fn start(demo: &Path, place: &Path) -> Child {
    fs::create_dir(place.join("tmp")).unwrap();
    Command::new(demo)
        .env("TMPDIR", place.join("tmp"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Fails when anything is left: a directory, a mount, a process.
fn assert_nothing_is_left(place: &Path) {
    let entries: Vec<_> = fs::read_dir(place.join("tmp")).unwrap().collect();
    assert!(entries.is_empty(), "{entries:?}");
    let tmp = place.join("tmp").display().to_string();
    assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains(&tmp));
    for process in fs::read_dir("/proc").unwrap() {
        let command = fs::read(process.unwrap().path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        assert!(!command.contains(&tmp), "still runs: {command}");
    }
}

#[test]
fn the_demo_plays_the_main_job_to_its_end_and_leaves_nothing() {
    let place = place();
    let output = start(&built(), place.path()).wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    let mut rest = text.as_str();
    for line in [
        "/pods/a  tmpfs[/shared.",
        "/pods/b  tmpfs[/shared.",
        "pod     reads \"ahoy\" from pods/b/greeting",
        "pods/c holds it as SINGLE_NODE_SINGLE_WRITER, which allows no second one",
        "INVALID_ARGUMENT: volume_capabilities.access_mode: MULTI_NODE_READER_ONLY",
        "]  ro,",
        "kernel  Read-only file system",
        "kill -9",
        "demo/main/alone, demo/main/charts, demo/main/shared",
        "FAILED_PRECONDITION: volume shared is in use: it is published at",
        "answer  no volumes",
        "All as told",
    ] {
        let at =
            rest.find(line).unwrap_or_else(|| panic!("{line:?} is missing, or out of order, in\n{text}"));
        rest = &rest[at + line.len()..];
    }
    assert!(!text.contains('\u{1b}'), "colours where no terminal is");
    assert_nothing_is_left(place.path());
}

#[test]
fn a_demo_whose_driver_fails_exits_with_1_and_leaves_nothing() {
    let place = place();
    let demo = with_driver(place.path(), Path::new("/bin/false"));
    let output = start(&demo, place.path()).wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("NOT as told: the driver ended before it listened: exit status: 1"), "{text}");
    assert_nothing_is_left(place.path());
}

#[test]
fn a_demo_without_a_driver_says_how_to_build_it() {
    let place = place();
    let demo = with_driver(place.path(), Path::new("/nowhere"));
    let output = start(&demo, place.path()).wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("berth is missing: run `cargo build` first"), "{text}");
    assert_nothing_is_left(place.path());
}

#[test]
fn a_demo_that_is_interrupted_takes_everything_down() {
    let place = place();
    let silent = place.path().join("silent");
    // Written by another process: an open descriptor of this one could be inherited, and make the file busy.
    let script = "printf '#!/bin/sh\\nwhile :; do sleep 1; done\\n' >\"$0\" && chmod +x \"$0\"";
    assert!(Command::new("sh").args(["-c", script]).arg(&silent).status().unwrap().success());
    assert_eq!(fs::metadata(&silent).unwrap().permissions().mode() & 0o100, 0o100);

    let mut demo = start(&with_driver(place.path(), &silent), place.path());
    let mut output = BufReader::new(demo.stdout.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("  run") {
        line.clear();
        assert_ne!(output.read_line(&mut line).unwrap(), 0, "it ended");
    }
    kill(Pid::from_raw(demo.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    assert_eq!(demo.wait().unwrap().code(), Some(1), "{text}");
    assert!(text.contains("NOT as told: interrupted"), "{text}");
    assert_nothing_is_left(place.path());
}
