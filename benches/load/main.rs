//! The load generator: what Berth costs, beside what the kernel costs for the same work.
//!
//! ```text
//! main       the flags, the private mount namespace, the plan
//! cycles     life cycles by 1, 8 and 32 clients
//! scale      with many volumes, and with a volume of many files
//! driver     the driver's process and a client
//! raw        the same work as bare system calls
//! layout     volumes made directly on disk
//! measure    percentiles, the table, the JSON
//! ```
//!
//! Rounds of the driver and of the raw calls take turns, so that whatever else the machine does meets both; a figure
//! is the median of its rounds. The root lies on a disk, for durability has to cost what it costs.

#![allow(unsafe_code)] // the raw system calls that nix does not have
#![allow(clippy::print_stdout)] // the table
#![allow(clippy::disallowed_methods)] // it starts a process, and makes files that need not last

mod cycles;
mod driver;
mod layout;
mod measure;
mod raw;
mod scale;

use std::path::{Path, PathBuf};

use berth::sys::fs::Dir;
use berth::sys::purge::purge;
use berth::sys::table::Table;
use clap::{Parser, ValueEnum};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::json;

use crate::driver::{Driver, Place};
use crate::layout::Layout;
use crate::measure::{Aim, Figure, median, table};
use crate::raw::Raw;

/// Whatever goes wrong ends the run.
type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// Measures `berth local`, beside the raw system calls for the same work.
#[derive(Debug, Parser)]
struct Flags {
    /// Fewer rounds, and 10,000 volumes at most: some 30 seconds instead of some minutes
    #[arg(long, env = "BENCH_SHORT")]
    short: bool,
    /// Only these parts: start, cycles, delete, volumes
    #[arg(long, env = "BENCH_ONLY", value_enum, value_delimiter = ',', value_name = "PARTS")]
    only: Vec<Part>,
    /// The program to measure
    #[arg(long, env = "BENCH_BERTH", default_value = env!("CARGO_BIN_EXE_berth"))]
    berth: PathBuf,
    /// A directory on a disk, where a scratch root is made and removed again
    #[arg(long, env = "BENCH_SCRATCH", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target"))]
    scratch: PathBuf,
    /// Where to write the figures as JSON
    #[arg(long, env = "BENCH_JSON", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target/bench.json"))]
    json: PathBuf,
    /// What cargo bench passes
    #[arg(long, hide = true)]
    bench: bool,
}

/// What can be measured on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Start,
    Cycles,
    Delete,
    Volumes,
}

fn main() -> Result<()> {
    let flags = Flags::parse();
    // Before there is any other thread: a namespace is a thread's own.
    enter_namespace()?;
    let name = format!("bench-{}", std::process::id());
    let scratch = flags.scratch.canonicalize()?;
    let above = Dir::open(&scratch)?;
    let file_system = Table::read()?.holding(&above)?.file_system;
    if file_system == "tmpfs" {
        return Err(format!("{} is a tmpfs, where durability costs nothing", scratch.display()).into());
    }
    let place = prepare(&flags.berth, &scratch.join(&name))?;
    let measured = tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let figures = plan(&place, &flags).await?;
        let text = json!({
            "berth": env!("CARGO_PKG_VERSION"),
            "short": flags.short,
            "kernel": std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim(),
            "cores": std::thread::available_parallelism()?.get(),
            "file_system": file_system,
            "load_average": std::fs::read_to_string("/proc/loadavg")?.trim(),
            "figures": figures,
        });
        println!("{}", table(&figures));
        std::fs::write(&flags.json, serde_json::to_vec_pretty(&text)?)?;
        println!("{} has the same as JSON", flags.json.display());
        Ok(())
    });
    nix::mount::umount(&place.run)?;
    // What is in it, then itself.
    let removed = purge(&above.dir(&name)?, |_, _| ())?;
    if let Some(kept) = removed.kept.first() {
        return Err(format!("the scratch directory can't be emptied: {kept}").into());
    }
    above.rmdir(&name)?;
    measured
}

/// A mount namespace of our own: what is mounted here is seen by nobody else, and ends with us. Who may not make one
/// gets a user namespace with it, in which he may.
fn enter_namespace() -> Result<()> {
    if unshare(CloneFlags::CLONE_NEWNS).is_err() {
        let (user, group) = (nix::unistd::getuid(), nix::unistd::getgid());
        unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)?;
        std::fs::write("/proc/self/setgroups", "deny")?;
        std::fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
        std::fs::write("/proc/self/gid_map", format!("0 {group} 1"))?;
    }
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    Ok(())
}

/// The scratch directories; the run directory is a tmpfs, as /run is.
fn prepare(berth: &Path, scratch: &Path) -> Result<Place> {
    let place = Place {
        berth: berth.canonicalize()?,
        root: scratch.join("root"),
        run: scratch.join("run"),
        targets: scratch.join("targets"),
        socket: scratch.join("csi.sock"),
        log: scratch.join("log"),
    };
    for directory in [&place.root, &place.run, &place.targets] {
        std::fs::create_dir_all(directory)?;
    }
    mount(Some("bench"), &place.run, Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
    Ok(place)
}

/// Everything, in the order in which the root fills up.
async fn plan(place: &Place, flags: &Flags) -> Result<Vec<Figure>> {
    let (short, mut figures) = (flags.short, Vec::new());
    let wanted = |part: Part| flags.only.is_empty() || flags.only.contains(&part);
    if wanted(Part::Start) {
        tell("start");
        figures.push(binary(&place.berth)?);
        figures.push(ready(place, "start to ready, no volumes").await?);
    }
    let driver = Driver::start(place).await?;
    if wanted(Part::Start) {
        figures.push(Figure::of("resident, idle", "MiB", driver.resident()?).aim(Aim::AtMost(5.0)));
    }
    let layout = Layout::of(&place.root);
    let raw = Raw::open(&layout, &place.run, &place.targets)?;
    if wanted(Part::Cycles) {
        let mut cycles = 0;
        for clients in [1, 8, 32] {
            tell(&format!("life cycles, {clients} clients"));
            cycles += cycles::measure(place, &driver, &raw, clients, short, &mut figures).await?;
        }
        figures.push(Figure::of(format!("resident, after {cycles} cycles"), "MiB", driver.resident()?));
    }
    if wanted(Part::Delete) {
        tell("a volume of many files");
        figures.push(scale::delete(&layout, &driver, &raw, short).await?);
    }
    if wanted(Part::Volumes) {
        let mut first = None;
        for count in [100, 1_000, 10_000, 100_000] {
            if short && count > 10_000 {
                break;
            }
            tell(&format!("{count} volumes"));
            layout.fill(count)?;
            let (figure, p50) = scale::create(&layout, &driver, &raw, count, short).await?;
            figures.push(figure);
            let (berth, bare) = p50;
            let (berth_first, bare_first) = *first.get_or_insert(p50);
            if count > 100 {
                let what = format!("CreateVolume p50, {count} volumes against 100");
                let figure = Figure::of(what, "times", berth / berth_first).beside(bare / bare_first);
                figures.push(if count == 100_000 { figure.aim(Aim::AtMost(1.2)) } else { figure });
            }
            if count == 10_000 {
                figures.extend(scale::list(place, &raw, count, short).await?);
                figures.push(ready(place, "start to ready, 10000 volumes").await?);
            }
        }
    }
    Ok(figures)
}

/// The program's size.
fn binary(program: &Path) -> Result<Figure> {
    let unit = if is_static(program)? { "MiB" } else { "MiB, NOT static" };
    let size = std::fs::metadata(program)?.len() as f64 / f64::from(1 << 20);
    Ok(Figure::of("binary, static", unit, size).aim(Aim::AtMost(4.0)))
}

/// From the start of the process to its first answer, beside the same program's start and end.
async fn ready(place: &Place, what: &str) -> Result<Figure> {
    // Another socket: a driver may be running.
    let place = Place { socket: place.socket.with_extension("ready"), ..place.clone() };
    let (mut berth, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..11 {
        let began = std::time::Instant::now();
        let told = std::process::Command::new(&place.berth).arg("--version").output()?;
        bare.push(began.elapsed().as_secs_f64() * 1000.0);
        if !told.status.success() {
            return Err(format!("berth --version ends with {}", told.status).into());
        }
        berth.push(Driver::start(&place).await?.ready_after.as_secs_f64() * 1000.0);
    }
    Ok(Figure::of(what, "ms", median(berth)).beside(median(bare)).aim(Aim::AtMost(5.0)))
}

/// Whether an ELF program needs no interpreter, which is to say no shared library.
fn is_static(program: &Path) -> Result<bool> {
    let bytes = std::fs::read(program)?;
    let number = |at: usize, length: usize| -> Option<usize> {
        let bytes = bytes.get(at..at + length)?;
        Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    };
    // The ELF header of 64 bits: where the program headers are, how long one is, how many there are.
    let (Some(at), Some(size), Some(count)) = (number(32, 8), number(54, 2), number(56, 2)) else {
        return Err(format!("{} is no ELF program", program.display()).into());
    };
    const INTERPRETER: usize = 3;
    Ok((0..count).all(|index| number(at + index * size, 4) != Some(INTERPRETER)))
}

fn tell(what: &str) {
    println!("… {what}");
}
