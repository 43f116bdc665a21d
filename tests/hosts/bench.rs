//! The benchmark of `berth nfs`: what a life cycle costs beside the bare system calls for it, on a server and a node with kernels
//! of their own. Their one slow processor makes ratios and round trips the figures to read, not milliseconds.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use crate::cluster::{Share, clear};
use crate::fleet::Fleet;
use crate::load::{CALLS, Measured, Round};
use crate::measure::{Aim, Figure, median, percentile, table};
use crate::trials::{NODE_A, SERVER};

/// Rounds of the driver and of the bare calls, in turns.
const ROUNDS: usize = 7;

/// Life cycles a second that a driver with mount(8), a copy of the record in Kubernetes and a mount for each creation reaches in
/// such a host: the aim is twenty times that.
const OTHERS: f64 = 2.4;

/// Boots the hosts, measures, prints the table and writes it as JSON.
pub fn run() -> io::Result<()> {
    let fleet = Fleet::new(&[SERVER, NODE_A]);
    fleet.revive();
    let host = fleet.host("node-a");
    clear(host);
    let share = Share::export(&fleet, "bench", "");
    let driver = share.serve_quietly(host, ",vers=4.2,nolock");
    let resident = || {
        let text = host.run(&format!("grep VmRSS /proc/{}/status", driver.pid()));
        text.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1024.0
    };
    let idle = resident();
    let root = share.root("");
    let source = root.trim_start_matches("main=");
    let command = format!("/share/hosts --load {source} node-a {ROUNDS} /share/node-a/measured.json");
    match host.attempt(&command, Duration::from_secs(500)) {
        Ok(output) if output.code == 0 => {}
        failed => return Err(io::Error::other(format!("{failed:?}\n{}", fleet.logs()))),
    }
    let measured: Measured = serde_json::from_slice(&fs::read(host.logs().join("measured.json"))?)?;
    let mut figures = figures(&measured);
    figures.push(Figure::of("resident, idle", "MiB", idle).aim(Aim::AtMost(5.0)));
    figures.push(Figure::of("resident, afterwards", "MiB", resident()));
    println!("{}", table(&figures));
    let json = PathBuf::from(std::env::var_os("BENCH_JSON").unwrap_or("target/bench-nfs.json".into()));
    let text = json!({
        "berth": env!("CARGO_PKG_VERSION"),
        "kernel": host.run("uname -r"),
        "load_average": fs::read_to_string("/proc/loadavg")?.trim(),
        "figures": figures,
    });
    fs::write(&json, serde_json::to_vec_pretty(&text)?)?;
    println!("{} has the same as JSON", json.display());
    Ok(())
}

fn per_second(round: &Round) -> f64 {
    round.cycles as f64 / round.all.as_secs_f64()
}

fn trips(round: &Round) -> f64 {
    round.round_trips as f64 / round.cycles as f64
}

fn figures(measured: &Measured) -> Vec<Figure> {
    let Measured { berth, raw, question, change, without_sec, in_a_child } = measured;
    let of = |rounds: &[Round], figure: fn(&Round) -> f64| median(rounds.iter().map(figure).collect());
    let p50 = |rounds: &[Round], call: usize| {
        let all: Vec<Duration> = rounds.iter().flat_map(|round| round.calls[call].iter().copied()).collect();
        percentile(&all, 50)
    };
    let cycles = of(berth, per_second);
    let mut figures = vec![
        Figure::of("life cycles, 1 client", "1/s", cycles)
            .beside(of(raw, per_second))
            .aim(Aim::AtLeast(20.0 * OTHERS)),
        Figure::of("round trips of a life cycle", "", of(berth, trips)).beside(of(raw, trips)),
    ];
    for (call, name) in CALLS.iter().enumerate() {
        let figure = Figure::of(format!("{name} p50"), "ms", p50(berth, call)).beside(p50(raw, call));
        let is_publish = *name == "NodePublishVolume";
        figures.push(if is_publish { figure.aim(Aim::Times(5.0)) } else { figure });
    }
    let (question, change) = (percentile(question, 50), percentile(change, 50));
    figures.push(Figure::of("a round trip that asks (statfs) p50", "ms", question));
    figures.push(Figure::of("a round trip that changes a name (mkdir) p50", "ms", change));
    figures.push(Figure::of("mount(2) without sec= p50", "ms", percentile(without_sec, 50)));
    let mounted = percentile(in_a_child, 50);
    figures.push(Figure::of("the driver's mount alone p50", "ms", mounted).beside(p50(raw, 2)));
    // Nothing but the round trips, one after the other, if each only asked.
    let bound = 1000.0 / (of(berth, trips) * question);
    figures.push(Figure::of("life cycles that these round trips alone would leave", "1/s", bound));
    figures
}
