//! The harness's end of a host's serial line: requests go out, and each waits for its own answer.

use std::collections::HashMap;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::wire::{self, Answer, Ask, Reply, Request};

/// How much later than its limit an answer may come.
const MARGIN: Duration = Duration::from_secs(10);

type Answered = (Answer, Vec<u8>);
/// Who waits for which answer; `None` once the line has ended.
type Waiting = Arc<Mutex<Option<HashMap<u64, Sender<Answered>>>>>;

/// The line of one boot of a host.
pub struct Link {
    line: Mutex<UnixStream>,
    share: PathBuf,
    waiting: Waiting,
    next: AtomicU64,
}

impl Link {
    /// A line, and a receiver that hears when the agent is up.
    pub fn new(line: UnixStream, share: &Path) -> io::Result<(Self, Receiver<Answered>)> {
        let mut reads = line.try_clone()?;
        // A host that is stopped reads nothing.
        line.set_write_timeout(Some(MARGIN))?;
        let (up, is_up) = channel();
        let waiting: Waiting = Arc::new(Mutex::new(Some(HashMap::from([(0, up)]))));
        let (answers, share_of_thread) = (waiting.clone(), share.to_path_buf());
        thread::spawn(move || {
            loop {
                // The line of a host that is gone breaks as well as ends.
                let Ok(Some((Reply { id, answer }, body))) = wire::receive(&mut reads, &share_of_thread)
                else {
                    answers.lock().unwrap().take();
                    return;
                };
                let who = answers.lock().unwrap().as_mut().and_then(|waiting| waiting.remove(&id));
                who.map(|who| who.send((answer, body)));
            }
        });
        let next = AtomicU64::new(1);
        Ok((Self { line: Mutex::new(line), share: share.into(), waiting, next }, is_up))
    }

    /// Asks, and waits for the answer. An error says what the line did instead.
    pub fn ask(&self, ask: Ask, body: &[u8], limit: Duration) -> Result<Answered, String> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = channel();
        match self.waiting.lock().unwrap().as_mut() {
            Some(waiting) => waiting.insert(id, answer),
            None => return Err("the host is gone".into()),
        };
        let sent = {
            let mut line = self.line.lock().unwrap();
            wire::send(&mut *line, &self.share, "harness", &Request { id, limit, ask }, body)
        };
        if let Err(error) = sent {
            return Err(format!("the line to the host: {error}"));
        }
        answered.recv_timeout(limit + MARGIN).map_err(|error| match error {
            RecvTimeoutError::Disconnected => "the host is gone".into(),
            RecvTimeoutError::Timeout => format!("no answer in {:?}", limit + MARGIN),
        })
    }
}
