//! A server, and how many calls may wait for it: one that does not answer must not take the threads of the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Error, Result};

/// Calls that may be at work on one server at once. The edge has so many threads for each server, and some more.
pub(super) const PLACES: usize = 16;

/// A server, whatever roots lie on it.
#[derive(Debug)]
pub(super) struct Server {
    name: String,
    taken: AtomicUsize,
}

/// A call's place among those that are at work on a server.
#[derive(Debug)]
pub(super) struct Place(Arc<Server>);

impl Server {
    /// A server that nobody is at work on.
    pub(super) fn new(name: &str) -> Arc<Self> {
        Arc::new(Self { name: name.to_string(), taken: AtomicUsize::new(0) })
    }

    /// Takes a place; it is free again when what is returned is dropped.
    ///
    /// # Errors
    /// ABORTED, at once, when all are taken: it is slow or does not answer.
    pub(super) fn enter(self: &Arc<Self>) -> Result<Place> {
        let free = |taken: usize| (taken < PLACES).then_some(taken + 1);
        match self.taken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, free) {
            Ok(_) => Ok(Place(self.clone())),
            Err(_) => Err(Error::Silent {
                what: format!("server {}", self.name),
                why: format!(
                    "{PLACES} calls are at work on it and wait for it; the same call may be repeated"
                ),
            }),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_takes_so_many_calls_and_refuses_the_next_at_once() {
        let server = Server::new("nas");
        let mut places: Vec<_> = (0..PLACES).map(|_| server.enter().unwrap()).collect();
        assert_eq!(server.enter().unwrap_err().code(), tonic::Code::Aborted);
        places.pop();
        server.enter().unwrap();
        server.enter().unwrap();
    }
}
