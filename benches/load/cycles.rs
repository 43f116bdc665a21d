//! Life cycles: create, publish, stats, unpublish, delete, by several clients at once.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

use crate::Result;
use crate::driver::{Client, Driver, Place};
use crate::layout::{Layout, name};
use crate::measure::{Aim, Figure, median, percentile};
use crate::raw::Raw;

/// The five RPCs of a life.
const RPCS: [&str; 5] =
    ["CreateVolume", "NodePublishVolume", "NodeGetVolumeStats", "NodeUnpublishVolume", "DeleteVolume"];

/// What a round gave: how many cycles in a second, and how long each call took.
struct Round {
    per_second: f64,
    /// Processor time of the process that did the work, in milliseconds for each cycle.
    processor: f64,
    calls: [Vec<Duration>; 5],
}

impl Round {
    fn of(took: Duration, processor: Duration, cycles: Vec<[Duration; 5]>) -> Self {
        let count = cycles.len() as f64;
        Self {
            per_second: count / took.as_secs_f64(),
            processor: processor.as_secs_f64() * 1000.0 / count,
            calls: std::array::from_fn(|rpc| cycles.iter().map(|cycle| cycle[rpc]).collect()),
        }
    }
}

/// Rounds of `clients` clients and of as many threads of raw calls, in turns. Says how many cycles the driver did.
pub(crate) async fn measure(
    place: &Place,
    driver: &Driver,
    raw: &Raw,
    clients: usize,
    short: bool,
    figures: &mut Vec<Figure>,
) -> Result<usize> {
    let (rounds, each) = match (clients, short) {
        (1, false) => (9, 300),
        (8, false) => (9, 75),
        (_, false) => (9, 30),
        (1, true) => (3, 100),
        (8, true) => (3, 30),
        (_, true) => (3, 10),
    };
    let layout = Layout::of(&place.root);
    let mut connected = Vec::new();
    for _ in 0..clients {
        connected.push(driver.connect().await?);
    }
    let (mut berth, mut bare) = (Vec::new(), Vec::new());
    // The first pair of rounds warms up.
    for round in 0..=rounds {
        let by_hand = raw_round(raw, clients, each)?;
        let before = driver.processor_time()?;
        let (took, cycles) = berth_round(place, &mut connected, each).await?;
        layout.wait_for_purge()?;
        let by_driver = Round::of(took, driver.processor_time()?.saturating_sub(before), cycles);
        if round > 0 {
            bare.push(by_hand);
            berth.push(by_driver);
        }
    }
    let over = |rounds: &[Round], value: &dyn Fn(&Round) -> f64| median(rounds.iter().map(value).collect());
    let s = if clients == 1 { "" } else { "s" };
    let rate = |rounds: &[Round]| over(rounds, &|round| round.per_second);
    let least = match clients {
        1 => 830.0,
        8 => 1960.0,
        _ => 2790.0,
    };
    figures.push(
        Figure::of(format!("life cycles, {clients} client{s}"), "1/s", rate(&berth))
            .beside(rate(&bare))
            .aim(Aim::AtLeast(least)),
    );
    if clients == 1 {
        let time = |rounds: &[Round]| over(rounds, &|round| 1000.0 / round.per_second);
        figures.push(
            Figure::of("life cycle, 1 client", "ms", time(&berth)).beside(time(&bare)).aim(Aim::Times(2.0)),
        );
    }
    let processor = |rounds: &[Round]| over(rounds, &|round| round.processor);
    figures.push(
        Figure::of(format!("processor time of a life cycle, {clients} client{s}"), "ms", processor(&berth))
            .beside(processor(&bare)),
    );
    for (rpc, called) in RPCS.into_iter().enumerate() {
        for percent in [50, 99] {
            let value = |rounds: &[Round]| over(rounds, &|round| percentile(&round.calls[rpc], percent));
            let what = format!("{called} p{percent}, {clients} client{s}");
            figures.push(Figure::of(what, "ms", value(&berth)).beside(value(&bare)));
        }
    }
    Ok((rounds + 1) * clients * each)
}

fn raw_round(raw: &Raw, threads: usize, each: usize) -> Result<Round> {
    let ready = Barrier::new(threads + 1);
    std::thread::scope(|scope| {
        let work = || -> Result<Vec<[Duration; 5]>> {
            ready.wait();
            (0..each).map(|_| Ok(raw.cycle()?.0)).collect()
        };
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let used = processor_time()?;
        ready.wait();
        let (began, mut cycles) = (Instant::now(), Vec::new());
        for thread in running {
            cycles.extend(thread.join().map_err(|_| "a thread of raw calls panicked")??);
        }
        Ok(Round::of(began.elapsed(), processor_time()?.saturating_sub(used), cycles))
    })
}

/// What this process has used so far, in user and system mode.
fn processor_time() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let seconds = |time: TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    Ok(Duration::from_secs_f64(seconds(usage.user_time()) + seconds(usage.system_time())))
}

async fn berth_round(
    place: &Place,
    clients: &mut Vec<Client>,
    each: usize,
) -> Result<(Duration, Vec<[Duration; 5]>)> {
    let began = Instant::now();
    let running: Vec<_> = clients
        .drain(..)
        .map(|mut client| {
            let targets = place.targets.clone();
            tokio::spawn(async move {
                let mut cycles = Vec::new();
                for _ in 0..each {
                    let name = name()?;
                    let target = targets.join(&name);
                    cycles.push([
                        client.create(&name).await?,
                        client.publish(&name, &target).await?,
                        client.stats(&name, &target).await?,
                        client.unpublish(&name, &target).await?,
                        client.delete(&name).await?,
                    ]);
                }
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>((client, cycles))
            })
        })
        .collect();
    let mut all = Vec::new();
    for client in running {
        let (client, cycles) = client.await??;
        clients.push(client);
        all.extend(cycles);
    }
    Ok((began.elapsed(), all))
}
