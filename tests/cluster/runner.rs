//! Runs trials: each group brings its cluster up once; some of its trials run at the same time, since mostly they wait.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use crate::cluster::Cluster;

/// Groups that run at the same time.
const GROUPS_AT_ONCE: usize = 2;

/// Trials that share a cluster.
pub struct Group {
    /// What it is about.
    pub name: &'static str,
    /// Brings the cluster up.
    pub start: fn() -> Cluster,
    /// Trials that don't touch what others have, and how many of them run at the same time.
    pub together: (usize, &'static [&'static [Trial]]),
    /// Trials that do, in their order, after those.
    pub alone: &'static [Trial],
}

/// One trial.
pub struct Trial {
    /// A sentence.
    pub name: &'static str,
    /// Panics if it is not so.
    pub run: fn(&Cluster),
}

/// Trials, by their functions, whose names are sentences.
#[macro_export]
macro_rules! trials {
    ($($trial:ident),* $(,)?) => { &[$($crate::runner::Trial { name: stringify!($trial), run: $trial }),*] };
}

impl Group {
    /// Its trials whose names have one of the words in them, of each kind.
    fn selected(&self, filters: &[String]) -> [Vec<&'static Trial>; 2] {
        let is_selected = |trial: &&Trial| {
            let name = format!("{} {}", self.name, trial.name).replace('_', " ");
            filters.is_empty() || filters.iter().any(|filter| name.contains(&filter.replace('_', " ")))
        };
        let together = self.together.1.iter().copied().flatten().filter(is_selected).collect();
        [together, self.alone.iter().filter(is_selected).collect()]
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
fn words_of(panic: &PanicHookInfo<'_>) -> String {
    let payload = panic.payload();
    let words = payload.downcast_ref::<&str>().copied();
    let words = words.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    format!("{place}: {}", words.unwrap_or("a panic without words"))
}

/// Prints the names of the selected trials.
pub fn list(groups: &[Group], filters: &[String]) {
    for group in groups {
        for trial in group.selected(filters).into_iter().flatten() {
            println!("{}: {}", group.name, trial.name);
        }
    }
}

/// Runs the selected trials.
pub fn run(groups: &[Group], filters: &[String]) -> Count {
    let wanted =
        groups.iter().filter(|group| group.selected(filters).iter().any(|trials| !trials.is_empty()));
    let queue = Mutex::new(wanted);
    let count = Mutex::new(Count::default());
    thread::scope(|scope| {
        for _ in 0..GROUPS_AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some(group) = queue.lock().unwrap().next() else { return };
                    run_group(group, filters, &count);
                }
            });
        }
    });
    count.into_inner().unwrap()
}

/// From now on a panic says nothing by itself: who catches it tells of it.
pub fn remember_panics() {
    std::panic::set_hook(Box::new(|panic| PANIC.set(words_of(panic))));
}

/// What came of it, or what went wrong.
pub fn caught<T>(what: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(what)).map_err(|_| PANIC.take())
}

fn run_group(group: &Group, filters: &[String], count: &Mutex<Count>) {
    let start = Instant::now();
    let cluster = caught(group.start);
    println!("       {}: the cluster is up after {:.0} s", group.name, start.elapsed().as_secs_f32());
    let [together, alone] = group.selected(filters);
    let together = Mutex::new(VecDeque::from(together));
    thread::scope(|scope| {
        for _ in 0..group.together.0 {
            scope.spawn(|| {
                loop {
                    let next = together.lock().unwrap().pop_front();
                    let Some(trial) = next else { return };
                    run_trial(group, trial, &cluster, false, count);
                }
            });
        }
    });
    for trial in alone {
        run_trial(group, trial, &cluster, true, count);
    }
}

fn run_trial(
    group: &Group,
    trial: &Trial,
    cluster: &Result<Cluster, String>,
    alone: bool,
    count: &Mutex<Count>,
) {
    let start = Instant::now();
    let result = cluster.as_ref().map_err(String::clone).and_then(|cluster| {
        if alone {
            caught(|| cluster.revive())?;
        }
        caught(|| (trial.run)(cluster))
    });
    let line = |verdict| {
        format!("{verdict:6} {}: {} ({:.1} s)", group.name, trial.name, start.elapsed().as_secs_f32())
    };
    let mut count = count.lock().unwrap();
    match result {
        Ok(()) => {
            println!("{}", line("ok"));
            count.passed += 1;
        }
        Err(why) => {
            count.failed += 1;
            let logs = caught(|| cluster.as_ref().map(Cluster::logs).unwrap_or_default());
            println!("{}\n{why}\n{}", line("FAILED"), logs.unwrap_or_else(|why| why));
        }
    }
}
