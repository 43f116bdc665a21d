//! Real hosts: an NFS server and nodes, each with a kernel of its own (User-Mode Linux), a network between them that can be cut,
//! and the driver on them. docs/developer/testing.md says how to write a trial.

#![allow(
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout
)]

mod agent;
mod bench;
mod cluster;
mod driver;
mod fleet;
mod ground;
mod grpc;
mod host;
mod link;
mod load;
#[path = "../../benches/load/measure.rs"]
mod measure;
mod round_trips;
mod runner;
mod server;
mod shell;
mod switch;
mod trials;
mod volumes;
mod wire;

use std::process::ExitCode;
use std::time::Instant;

const USAGE: &str = "cargo test --test hosts -- [--list | --shell | --bench] [PART OF A NAME]...";

fn main() -> ExitCode {
    let (flags, filters): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|word| word.starts_with("--"));
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let groups = trials::GROUPS;
    let done = match flags[..] {
        ["--agent"] => agent::serve(),
        ["--list"] => {
            runner::list(groups, &filters);
            Ok(())
        }
        ["--wait"] => ground::take().and_then(|()| trials::harness::wait()),
        ["--load"] => load::run(&filters),
        ["--bench"] => ground::take().and_then(|()| bench::run()),
        ["--shell"] => ground::take().and_then(|()| shell::serve()),
        [] => match ground::take() {
            Ok(()) => return verdict(groups, &filters),
            Err(error) => Err(error),
        },
        _ => Err(std::io::Error::other(USAGE)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the trials; the last line counts them.
fn verdict(groups: &[runner::Group], filters: &[String]) -> ExitCode {
    let start = Instant::now();
    let count = runner::run(groups, filters);
    if count.passed + count.failed == 0 {
        println!("no trial has {filters:?} in its name");
    }
    println!("in {:.0} s", start.elapsed().as_secs_f32());
    println!("{} passed, {} failed", count.passed, count.failed);
    if count.failed == 0 && count.passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
