//! What READMEs say of commands is held against what these print: the player that does it, and that it is given every example.

#![allow(unreachable_pub, missing_docs, clippy::unwrap_used, clippy::disallowed_methods)]

#[path = "cluster/console.rs"]
mod console;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use console::{Step, matches, play, play_within, steps};

fn step(line: usize, command: &str, expected: &[&str]) -> Step {
    Step { line, command: command.into(), expected: expected.iter().map(|line| (*line).into()).collect() }
}

fn is_as_expected(expected: &str, text: &str) -> bool {
    let lines: Vec<String> = expected.lines().map(Into::into).collect();
    matches(&lines, text)
}

/// Plays a README of this text in a shell as it is here.
fn played(readme: &str) -> Result<(), String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("README.md");
    fs::write(&path, readme).unwrap();
    play(&path, Command::new("bash"))
}

#[test]
fn console_blocks_are_commands_and_what_they_print() {
    let readme = "text\n```sh\n$ not this\n```\n```console\n$ first\n$ second \\\n>   more\none\n\ntwo\n> three\n```\n$ nor this\n";
    let found = steps(readme).unwrap();
    assert_eq!(found, [step(6, "first", &[]), step(7, "second \\\n  more", &["one", "", "two", "> three"])]);
}

#[test]
fn a_line_that_no_command_prints_and_a_block_without_end_are_refused() {
    assert_eq!(
        steps("```console\n$ true\n```\n\n```console\nhello\n```\n").unwrap_err(),
        "6: no command prints this"
    );
    assert!(steps("```console\n$ true\n").is_err());
}

#[test]
fn lines_have_to_be_the_same_but_for_the_width_of_columns() {
    assert!(is_as_expected("NAME   AGE\npod  1s", "NAME AGE\npod        1s\n"));
    assert!(!is_as_expected("one", "one\ntwo\n"));
    assert!(!is_as_expected("one\ntwo", "one\n"));
    assert!(!is_as_expected("one", "ones"));
    assert!(!is_as_expected("one", ""));
}

#[test]
fn dots_stand_for_text_in_a_line_and_alone_for_lines() {
    assert!(is_as_expected("pod/... is ...ed", "pod/web-5d is created"));
    assert!(!is_as_expected("pod/... is ...ed", "pod/web-5d is gone"));
    assert!(!is_as_expected("a...b", "a\nb"));
    // What is behind the dots is not what is before them.
    assert!(!is_as_expected("ab...b", "ab"));
    assert!(is_as_expected("a\n...\nd", "a\nb\nc\nd"));
    assert!(is_as_expected("...\nd\n...", "d"));
    assert!(!is_as_expected("...\nd\n...", "a\nb"));
    assert!(!is_as_expected("...\na\n...\na", "a"));
    assert!(is_as_expected("...", ""));
}

#[test]
fn commands_run_in_one_shell_and_their_words_are_checked() {
    played("```console\n$ x=1; cd /\n```\nthen\n```console\n$ echo $x; pwd >&2; false\n1\n/\n$ cat <<END\n> $x\n>\n> b\n> END\n1\n\nb\n$ cat\n```\n")
        .unwrap();
}

#[test]
fn wrong_words_are_told_with_their_place() {
    let error =
        played("```console\n$ true\n$ echo b; exit_code() { return 3; }; exit_code\na\n```\n").unwrap_err();
    assert!(error.contains("README.md:3:"), "{error}");
    assert!(error.contains("has to print:\n    a\n  printed:\n    b\n  and ended: exit code 3"), "{error}");
}

#[test]
fn a_command_that_fails_without_a_word_expected_of_it_is_an_error() {
    assert!(played("```console\n$ false\n```\n").unwrap_err().ends_with("exit code 1"));
    assert!(played("```console\n$ exit 0\n```\n").unwrap_err().ends_with("with the shell"));
}

#[test]
fn a_command_has_a_limit() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("README.md");
    fs::write(&path, "```console\n$ echo first; sleep 1000\n```\n").unwrap();
    let error = play_within(&path, Command::new("bash"), Duration::from_millis(500)).unwrap_err();
    assert!(error.ends_with("printed:\n    first\n  and ended: not within 500ms"), "{error}");
}

#[test]
fn every_example_is_in_the_table_and_played_in_a_cluster() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| fs::read_to_string(top.join(path)).unwrap();
    let (table, played) = (read("examples/README.md"), read("tests/cluster/trials/examples.rs"));
    let mut count = 0;
    for entry in fs::read_dir(top.join("examples")).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        // The demonstration is a program: `make demo` plays it.
        if !entry.file_type().unwrap().is_dir() || name == "demo" {
            continue;
        }
        count += 1;
        let readme = read(&format!("examples/{name}/README.md"));
        assert!(!steps(&readme).unwrap().is_empty(), "examples/{name}/README.md has no commands");
        assert!(table.contains(&format!("]({name}/")), "examples/README.md has no link to {name}/");
        assert!(
            played.contains(&format!("example!(\"{name}\")")),
            "tests/cluster/trials/examples.rs has no {name}"
        );
    }
    assert_eq!(
        played.matches("example!(\"").count(),
        count,
        "tests/cluster/trials/examples.rs has more than there are"
    );
}
