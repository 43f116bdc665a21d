//! Guards: who works on what, in this process.
//!
//! A guard is an argument: whoever saves a record hands over that volume's guard, so forgetting it does not
//! compile. It is an entry in a table of this process and nothing more. Between processes there is no lock at
//! all; there a record's generation is won by `link` (see `store`).
//!
//! Waiting is short, then ABORTED: whoever holds a guard for long may be stuck on a disk, and a queue of
//! waiting threads behind it would be stuck as well.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// How long a call waits for a guard.
const PATIENCE: Duration = Duration::from_secs(3);

/// A lock whose holder panicked is still a lock: what it guards is a table of names, whole at any moment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A call of the CO, and whether it still waits for the answer.
#[derive(Debug, Clone, Default)]
pub struct Call {
    given_up: Arc<AtomicBool>,
}

impl Call {
    /// The edge's deadline passed, or the caller went away.
    pub fn give_up(&self) {
        self.given_up.store(true, Ordering::SeqCst);
    }

    /// Asked before anything is won: a call that was given up wins nothing more. (Its caller may have sent the
    /// inverse to another process meanwhile; PROTOCOL, rule 3.)
    ///
    /// # Errors
    /// ABORTED, which nobody hears.
    pub fn still_wanted(&self, what: &str) -> Result<()> {
        if self.given_up.load(Ordering::SeqCst) {
            let why = "the caller gave up, so nothing more is begun".to_string();
            return Err(Error::Pending { what: what.to_string(), why });
        }
        Ok(())
    }
}

/// All guards of a process.
#[derive(Debug, Default)]
pub struct Guards {
    held: Mutex<HashSet<String>>,
    released: Condvar,
}

/// The right to change what is behind one key; dropped, it is the next one's.
#[derive(Debug)]
pub struct Guard<'a> {
    guards: &'a Guards,
    call: Call,
    key: String,
}

impl Guards {
    /// Waits for the guard of `key`, for three seconds at most.
    ///
    /// # Errors
    /// ABORTED when another call holds it for longer.
    pub fn acquire(&self, call: &Call, key: String) -> Result<Guard<'_>> {
        let deadline = Instant::now() + PATIENCE;
        let mut held = lock(&self.held);
        while held.contains(&key) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let why = "another call is at work on it".to_string();
                return Err(Error::Pending { what: key, why });
            }
            held = self.released.wait_timeout(held, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        held.insert(key.clone());
        Ok(Guard { guards: self, call: call.clone(), key })
    }
}

impl Guard<'_> {
    /// What this guard is for.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The call that holds it.
    pub fn call(&self) -> &Call {
        &self.call
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        lock(&self.guards.held).remove(&self.key);
        self.guards.released.notify_all();
    }
}

/// The target paths of this process: one publish each at a time, and one step at a time (PROTOCOL, rule 5).
///
/// A publish holds a target's lock only over "given up?" and the attaching, an unpublish over "give up" and the
/// unmounting; neither while a server or a disk is asked for anything else.
#[derive(Debug, Default)]
pub struct Targets {
    steps: Guards,
    publishing: Mutex<HashMap<String, Arc<AtomicBool>>>,
}

/// A publish at one target, from its beginning to its end.
#[derive(Debug)]
pub struct Publishing<'a> {
    targets: &'a Targets,
    call: Call,
    target: String,
    closed: Arc<AtomicBool>,
}

impl Targets {
    /// Begins a publish at `target`.
    ///
    /// # Errors
    /// ABORTED while another one runs there.
    pub fn publish(&self, call: &Call, target: &str) -> Result<Publishing<'_>> {
        let mut publishing = lock(&self.publishing);
        if publishing.contains_key(target) {
            let why = "another NodePublishVolume is at work there".to_string();
            return Err(Error::Pending { what: target.to_string(), why });
        }
        let closed = Arc::new(AtomicBool::new(false));
        publishing.insert(target.to_string(), closed.clone());
        Ok(Publishing { targets: self, call: call.clone(), target: target.to_string(), closed })
    }

    /// Makes a publish that runs at `target` give up, then runs `step` while none can attach anything there.
    ///
    /// # Errors
    /// ABORTED when the target stays in use, or the caller gave up: it may have published anew meanwhile.
    pub fn unpublish<T>(&self, call: &Call, target: &str, step: impl FnOnce() -> Result<T>) -> Result<T> {
        let _one_step = self.steps.acquire(call, target.to_string())?;
        call.still_wanted(target)?;
        if let Some(closed) = lock(&self.publishing).get(target) {
            closed.store(true, Ordering::SeqCst);
        }
        step()
    }
}

impl Publishing<'_> {
    /// Runs one step of the publish, unless an unpublish came or the caller went.
    pub fn step<T>(&self, step: impl FnOnce() -> Result<T>) -> Result<T> {
        let _one_step = self.targets.steps.acquire(&self.call, self.target.clone())?;
        self.call.still_wanted(&self.target)?;
        if self.closed.load(Ordering::SeqCst) {
            let why = "it was unpublished while it was being published".to_string();
            return Err(Error::Pending { what: self.target.clone(), why });
        }
        step()
    }

    /// Runs a step that takes back what this publish did, whoever still waits for it.
    pub fn undo<T>(&self, step: impl FnOnce() -> Result<T>) -> Result<T> {
        let _one_step = self.targets.steps.acquire(&self.call, self.target.clone())?;
        step()
    }
}

impl Drop for Publishing<'_> {
    fn drop(&mut self) {
        lock(&self.targets.publishing).remove(&self.target);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn a_guard_is_held_by_one_call_at_a_time() {
        let guards = Guards::default();
        let inside = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let _guard = guards.acquire(&Call::default(), "a".into()).unwrap();
                    assert!(!inside.swap(true, Ordering::SeqCst));
                    thread::yield_now();
                    inside.store(false, Ordering::SeqCst);
                });
            }
        });
    }

    #[test]
    fn guards_of_different_keys_do_not_wait_for_each_other() {
        let guards = Guards::default();
        let _a = guards.acquire(&Call::default(), "a".into()).unwrap();
        let _b = guards.acquire(&Call::default(), "b".into()).unwrap();
    }

    #[test]
    fn waiting_for_a_guard_ends_in_aborted() {
        let guards = Guards::default();
        let _held = guards.acquire(&Call::default(), "a".into()).unwrap();
        let error = guards.acquire(&Call::default(), "a".into()).unwrap_err();
        assert_eq!(error.code(), tonic::Code::Aborted);
    }

    #[test]
    fn a_guard_is_given_back_when_its_holder_panics() {
        let guards = Guards::default();
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _guard = guards.acquire(&Call::default(), "a".into()).unwrap();
            panic!("in the middle of an RPC");
        }));
        assert!(caught.is_err());
        guards.acquire(&Call::default(), "a".into()).unwrap();
    }

    #[test]
    fn a_second_publish_at_a_target_is_aborted_at_once() {
        let targets = Targets::default();
        let first = targets.publish(&Call::default(), "/t").unwrap();
        assert!(targets.publish(&Call::default(), "/t").is_err());
        drop(first);
        assert!(targets.publish(&Call::default(), "/t").is_ok());
    }

    #[test]
    fn a_publish_attaches_nothing_after_an_unpublish_was_answered() {
        let targets = Targets::default();
        let publishing = targets.publish(&Call::default(), "/t").unwrap();
        targets.unpublish(&Call::default(), "/t", || Ok(())).unwrap();
        let error = publishing.step(|| -> Result<()> { panic!("attached") }).unwrap_err();
        assert_eq!(error.code(), tonic::Code::Aborted);
    }

    #[test]
    fn an_unpublish_that_was_given_up_unmounts_nothing() {
        let (targets, call) = (Targets::default(), Call::default());
        call.give_up();
        let publishing = targets.publish(&Call::default(), "/t").unwrap();
        assert!(targets.unpublish(&call, "/t", || -> Result<()> { panic!("unmounted") }).is_err());
        publishing.step(|| Ok(())).unwrap();
    }

    #[test]
    fn a_publish_that_was_given_up_attaches_nothing() {
        let (targets, call) = (Targets::default(), Call::default());
        let publishing = targets.publish(&call, "/t").unwrap();
        call.give_up();
        assert!(publishing.step(|| -> Result<()> { panic!("attached") }).is_err());
    }
}
