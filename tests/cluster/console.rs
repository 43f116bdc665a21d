//! Plays READMEs: runs the commands of their `console` blocks in one shell, and holds what came against what is written there.
//! docs/developer/testing.md says how to write such a block.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

/// How long a command may take.
const LIMIT: Duration = Duration::from_secs(600);

/// A command of a README, and what it is said to print.
#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    /// The line where it begins, from 1.
    pub line: usize,
    /// What the shell is given; it may have several lines.
    pub command: String,
    /// The lines that it has to print. None: any will do, but it has to succeed.
    pub expected: Vec<String>,
}

/// The steps of all `console` blocks, in their order.
///
/// `$ ` begins a command, `> ` goes on with it, any other line is what it prints.
pub fn steps(readme: &str) -> Result<Vec<Step>, String> {
    let mut steps: Vec<Step> = Vec::new();
    // The fence that ends the block, and whether it is a console; and whether a command of this block went before.
    let mut block: Option<bool> = None;
    let mut began = false;
    for (number, line) in (1..).zip(readme.lines()) {
        let text = line.trim_start();
        if let Some(kind) = text.strip_prefix("```") {
            block = if block.is_some() { None } else { Some(kind.trim() == "console") };
            began = false;
            continue;
        }
        if block != Some(true) {
            continue;
        }
        if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step { line: number, command: command.into(), expected: Vec::new() });
            began = true;
            continue;
        }
        let step =
            steps.last_mut().filter(|_| began).ok_or_else(|| format!("{number}: no command prints this"))?;
        match line.strip_prefix("> ").or_else(|| (line == ">").then_some("")) {
            Some(more) if step.expected.is_empty() => {
                step.command.push('\n');
                step.command.push_str(more);
            }
            _ => step.expected.push(line.into()),
        }
    }
    match block {
        Some(_) => Err("its last block has no end".into()),
        None => Ok(steps),
    }
}

/// Whether a text is as expected. A line `...` stands for any number of lines, `...` within a line for any text in it.
pub fn matches(expected: &[String], text: &str) -> bool {
    let expected: Vec<String> = expected.iter().map(|line| single_blanks(line)).collect();
    let lines: Vec<String> = text.trim_end().lines().map(single_blanks).collect();
    // Which beginnings of `lines` all of `expected` so far can be.
    let mut ends = vec![false; lines.len() + 1];
    ends[0] = true;
    for pattern in &expected {
        let mut next = vec![false; lines.len() + 1];
        if pattern == "..." {
            let first = ends.iter().position(|end| *end).unwrap_or(next.len());
            next[first..].fill(true);
        } else {
            for (index, line) in lines.iter().enumerate() {
                next[index + 1] = ends[index] && line_matches(pattern, line);
            }
        }
        ends = next;
    }
    ends[lines.len()]
}

/// The words of a line with one blank between them, for columns are as wide as what stands in them.
fn single_blanks(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn line_matches(pattern: &str, line: &str) -> bool {
    let mut pieces = pattern.split("...");
    let Some(mut rest) = line.strip_prefix(pieces.next().unwrap_or_default()) else { return false };
    let pieces: Vec<&str> = pieces.collect();
    let Some((last, inner)) = pieces.split_last() else { return rest.is_empty() };
    for piece in inner {
        match rest.find(piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// Plays a README. `shell` starts a bash, in the directory and with the environment that a user has.
pub fn play(readme: &Path, shell: Command) -> Result<(), String> {
    play_within(readme, shell, LIMIT)
}

/// The same with another limit for each command.
pub fn play_within(readme: &Path, shell: Command, limit: Duration) -> Result<(), String> {
    let text = fs::read_to_string(readme).map_err(|error| format!("{}: {error}", readme.display()))?;
    let steps = steps(&text).map_err(|error| format!("{}:{error}", readme.display()))?;
    let mut bash = Bash::start(shell).map_err(|error| format!("start a shell: {error}"))?;
    for step in &steps {
        let (code, said) = bash.run(&step.command, limit);
        let is_right = match &code {
            Ok(code) if step.expected.is_empty() => code == "0",
            Ok(_) => matches(&step.expected, &said),
            Err(_) => false,
        };
        if !is_right {
            let ended = match code {
                Ok(code) => format!("exit code {code}"),
                Err(why) => why,
            };
            return Err(complaint(readme, step, &said, &ended));
        }
    }
    Ok(())
}

fn complaint(readme: &Path, step: &Step, said: &str, ended: &str) -> String {
    let indented = |text: &str| text.lines().fold(String::new(), |all, line| all + "\n    " + line);
    let mut words = format!("{}:{}:{}", readme.display(), step.line, indented(&step.command));
    if !step.expected.is_empty() {
        let _ = write!(words, "\n  has to print:{}", indented(&step.expected.join("\n")));
    }
    let _ = write!(words, "\n  printed:{}\n  and ended: {ended}", indented(said.trim_end()));
    words
}

/// A shell that is given one command after the other. It ends with this, and so does what it started.
struct Bash {
    child: std::process::Child,
    codes: Receiver<String>,
    directory: tempfile::TempDir,
}

impl Bash {
    fn start(mut shell: Command) -> std::io::Result<Self> {
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
        let directory = tempfile::tempdir()?;
        let mut child = shell.spawn()?;
        let (send, codes) = mpsc::channel();
        if let Some(stdout) = child.stdout.take() {
            thread::spawn(move || {
                BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| send.send(line))
            });
        }
        Ok(Self { child, codes, directory })
    }

    /// Runs a command: its exit code, or why there is none; and what it printed.
    fn run(&mut self, command: &str, limit: Duration) -> (Result<String, String>, String) {
        let (script, output) = (self.directory.path().join("command"), self.directory.path().join("output"));
        let code = fs::write(&script, command)
            .and_then(|()| {
                // In this shell itself, so that variables and directories stay; its own input is not the command's.
                let line = format!(
                    "eval \"$(<'{}')\" </dev/null >'{}' 2>&1; echo $?\n",
                    script.display(),
                    output.display()
                );
                self.child.stdin.as_mut().map_or(Ok(()), |stdin| stdin.write_all(line.as_bytes()))
            })
            .map_err(|error| format!("not at all: {error}"))
            .and_then(|()| {
                self.codes.recv_timeout(limit).map_err(|error| match error {
                    mpsc::RecvTimeoutError::Timeout => format!("not within {limit:?}"),
                    mpsc::RecvTimeoutError::Disconnected => "with the shell".into(),
                })
            });
        let said = fs::read(&output).unwrap_or_default();
        (code, String::from_utf8_lossy(&said).into_owned())
    }
}

impl Drop for Bash {
    fn drop(&mut self) {
        let group = nix::unistd::Pid::from_raw(-i32::try_from(self.child.id()).unwrap_or(i32::MAX));
        let _ = nix::sys::signal::kill(group, nix::sys::signal::Signal::SIGKILL);
        let _ = self.child.wait();
    }
}
