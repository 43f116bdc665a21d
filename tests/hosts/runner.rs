//! Runs trials: each group boots its hosts once, a line is printed for each trial, and what its hosts said when one fails.

use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::Mutex;
use std::time::Instant;
use std::{cell::RefCell, thread};

use crate::fleet::Fleet;
use crate::host::Spec;

/// Groups that run at the same time: mostly they wait.
const AT_ONCE: usize = 3;

/// What the threads are called that run groups.
const GROUP_THREAD: &str = "group";

/// Trials that share a set of hosts, in their order.
pub struct Group {
    /// What it is about.
    pub name: &'static str,
    /// The hosts that are booted for it.
    pub hosts: &'static [Spec],
    /// Made by [`trials!`].
    pub trials: &'static [Trial],
}

/// One trial.
pub struct Trial {
    /// A sentence.
    pub name: &'static str,
    /// Panics if it is not so.
    pub run: fn(&Fleet),
}

/// Trials, by their functions, whose names are sentences.
#[macro_export]
macro_rules! trials {
    ($($trial:ident),* $(,)?) => { &[$($crate::runner::Trial { name: stringify!($trial), run: $trial }),*] };
}

impl Trial {
    fn is_selected(&self, group: &Group, filters: &[String]) -> bool {
        let name = format!("{} {}", group.name, self.name);
        filters.is_empty()
            || filters.iter().any(|filter| {
                name.contains(&filter.replace(' ', "_")) || name.replace('_', " ").contains(filter)
            })
    }
}

/// How many trials passed and failed.
#[derive(Default)]
pub struct Count {
    pub passed: usize,
    pub failed: usize,
}

thread_local! {
    /// What the last panic of this thread said, and where.
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Where a panic was, and what it said.
pub fn words_of(panic: &PanicHookInfo<'_>) -> String {
    let payload = panic.payload();
    let words = payload.downcast_ref::<&str>().copied();
    let words = words.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    format!("{place}: {}", words.unwrap_or("a panic without words"))
}

/// Prints the names of the selected trials.
pub fn list(groups: &[Group], filters: &[String]) {
    for group in groups {
        for trial in group.trials.iter().filter(|trial| trial.is_selected(group, filters)) {
            println!("{}: {}", group.name, trial.name);
        }
    }
}

/// Runs the selected trials.
pub fn run(groups: &[Group], filters: &[String]) -> Count {
    std::panic::set_hook(Box::new(|panic| {
        let what = words_of(panic);
        // Of a thread that a trial started nobody but the trial knows; what it said must not get lost.
        if thread::current().name() == Some(GROUP_THREAD) {
            PANIC.set(what);
        } else {
            println!("       in a thread of a trial: {what}");
        }
    }));
    let selected = |group: &&Group| group.trials.iter().any(|trial| trial.is_selected(group, filters));
    let queue = Mutex::new(groups.iter().filter(selected));
    let count = Mutex::new(Count::default());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            let work = || {
                loop {
                    let Some(group) = queue.lock().unwrap().next() else { return };
                    run_group(group, filters, &count);
                }
            };
            thread::Builder::new().name(GROUP_THREAD.into()).spawn_scoped(scope, work).unwrap();
        }
    });
    count.into_inner().unwrap()
}

/// What came of it, or what went wrong.
fn caught<T>(what: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(what)).map_err(|_| {
        let words = PANIC.take();
        if words.is_empty() { "a thread of it panicked, as told above".into() } else { words }
    })
}

fn run_group(group: &Group, filters: &[String], count: &Mutex<Count>) {
    let fleet = caught(|| Fleet::new(group.hosts));
    for trial in group.trials.iter().filter(|trial| trial.is_selected(group, filters)) {
        let start = Instant::now();
        let result = fleet.as_ref().map_err(String::clone).and_then(|fleet| {
            // What the trial before left cut, stopped or dead does not matter to this one.
            caught(|| fleet.revive())?;
            caught(|| (trial.run)(fleet))
        });
        let seconds = start.elapsed().as_secs_f32();
        let line = |verdict| format!("{verdict:6} {}: {} ({seconds:.1} s)", group.name, trial.name);
        let Err(why) = result else {
            println!("{}", line("ok"));
            count.lock().unwrap().passed += 1;
            continue;
        };
        count.lock().unwrap().failed += 1;
        println!("{}\n{why}\n{}", line("FAILED"), fleet.as_ref().map(Fleet::logs).unwrap_or_default());
        // Nor does whatever it left on its hosts.
        for host in fleet.iter().flat_map(Fleet::hosts) {
            host.crash();
            host.blank_disks().unwrap();
        }
    }
}
