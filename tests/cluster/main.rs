//! A real Kubernetes, Berth in it as deploy/ installs it, and what its users do with it. docs/developer/testing.md says how to write
//! a trial.

#![allow(
    unreachable_pub,
    missing_docs,
    dead_code, // of the hosts' harness this one needs a part
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout
)]

#[path = "../hosts/agent.rs"]
mod agent;
#[path = "../hosts/driver.rs"]
mod driver;
#[path = "../hosts/fleet.rs"]
mod fleet;
#[path = "../hosts/ground.rs"]
mod ground;
#[path = "../hosts/grpc.rs"]
mod grpc;
#[path = "../hosts/host.rs"]
mod host;
#[path = "../hosts/link.rs"]
mod link;
#[path = "../hosts/server.rs"]
mod server;
#[path = "../hosts/switch.rs"]
mod switch;
#[path = "../hosts/wire.rs"]
mod wire;

mod cluster;
mod conformance;
mod console;
mod control;
mod images;
mod node;
mod runner;
mod shell;
mod space;
mod tap;
mod trials;

use std::fs;
use std::process::ExitCode;
use std::time::Instant;

use crate::control::bash;

const USAGE: &str =
    "cargo test --test cluster -- [--list | --shell local | --shell nfs | --e2e] [PART OF A NAME]...";

fn main() -> ExitCode {
    let (flags, words): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|word| word.starts_with("--"));
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let done = match flags[..] {
        ["--agent"] => agent::serve().map_err(|error| error.to_string()),
        ["--list"] => {
            runner::list(trials::GROUPS, &words);
            Ok(())
        }
        ["--e2e"] => prepare().and_then(|()| conformance::run(&words)),
        ["--shell"] => prepare().and_then(|()| shell::serve(&words)),
        [] => match prepare() {
            Ok(()) => return verdict(&words),
            Err(error) => Err(error),
        },
        _ => Err(USAGE.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Takes the ground and makes the images, once for all clusters.
fn prepare() -> Result<(), String> {
    runner::remember_panics();
    ground::take().map_err(|error| error.to_string())?;
    let (programs, images) = (cluster::programs(), cluster::images());
    if !programs.join("kube").exists() {
        return Err(format!("{}: no Kubernetes is there; `make programs` builds it", programs.display()));
    }
    runner::caught(|| {
        cluster::sweep();
        fs::create_dir_all(&images).unwrap();
        images::make(&programs, &images, true);
        // As the Dockerfile makes it, of the static build that is shipped.
        let berth = programs.join("berth");
        bash(&format!(
            "{}/tests/image/build {} {}",
            cluster::TOP,
            berth.display(),
            images.join("berth.tar").display()
        ));
    })
}

/// Runs the trials; the last line counts them.
fn verdict(filters: &[String]) -> ExitCode {
    let start = Instant::now();
    let count = runner::run(trials::GROUPS, filters);
    if count.passed + count.failed == 0 {
        println!("no trial has {filters:?} in its name");
    }
    println!("in {:.0} s", start.elapsed().as_secs_f32());
    println!("{} passed, {} failed", count.passed, count.failed);
    if count.failed == 0 && count.passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
