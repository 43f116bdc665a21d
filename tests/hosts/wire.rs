//! What the harness and the agent in a host say to each other over the host's serial line.
//!
//! A message is a header in JSON, with its length before it, and a body of bytes as they are: requests and answers of gRPC,
//! outputs and contents of files. The line carries frames: a length (u32, big endian) and a message. It hands the host one byte at a
//! time, and a write of more than 4 KiB at once was seen to hang there, so a message that is not small goes through the directory
//! that both share, and the frame has the file's name.

use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The longest message that goes over the line itself.
const SMALL: usize = 1024;

/// In a frame's length: what follows is a file's name.
const IN_FILE: u32 = 1 << 31;

/// Where a host finds the directory that it shares with the harness.
pub const SHARE: &str = "/share";

/// What the harness wants done.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Ask {
    /// A command of `sh`, to its end. The answer's body is what it wrote.
    Run { command: String },
    /// A process that goes on. What it writes is appended to the file `log`.
    Start { command: String, log: String },
    /// A signal for a process that was started.
    Signal { pid: u32, signal: i32 },
    /// The end of a process that was started.
    Wait { pid: u32 },
    /// One gRPC call: the method's path, and the request as the body. The answer's body is the reply.
    Call { socket: String, path: String },
    /// What is in a file.
    Read { path: String },
    /// A new file with the body as its contents.
    Write { path: String },
    /// The end of the host, without a sync: that hangs while a server is dead.
    PowerOff,
}

/// A request of the harness.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    pub id: u64,
    /// When the agent answers [`Answer::TimedOut`] instead.
    pub limit: Duration,
    pub ask: Ask,
}

/// What the agent found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Answer {
    /// The agent listens; the first message, with the id 0.
    Up,
    /// How a process ended: its exit code, or 128 and the signal's number, as `sh` has it.
    Ended { code: i32 },
    /// A process runs.
    Started { pid: u32 },
    /// It is done, or the reply is the body.
    Done,
    /// The call failed, with a gRPC code and a message.
    Status { code: i32, message: String },
    /// It took too long. A command was killed; the body is what it had written.
    TimedOut,
    /// It can't be done.
    Failed { why: String },
}

/// An answer of the agent.
#[derive(Debug, Serialize, Deserialize)]
pub struct Reply {
    pub id: u64,
    pub answer: Answer,
}

static FILES: AtomicU64 = AtomicU64::new(0);

/// Writes a message. `share` is the shared directory, as this side has it; `who` makes names of files unlike the other side's.
pub fn send<T: Serialize>(
    line: &mut impl Write,
    share: &Path,
    who: &str,
    message: &T,
    body: &[u8],
) -> io::Result<()> {
    let header = serde_json::to_vec(message)?;
    let mut message = length(header.len())?.to_be_bytes().to_vec();
    message.extend(header);
    message.extend(body);
    let frame = if message.len() <= SMALL {
        [&length(message.len())?.to_be_bytes()[..], &message].concat()
    } else {
        let file = format!(".message-{who}-{}", FILES.fetch_add(1, Ordering::Relaxed));
        std::fs::write(share.join(&file), message)?;
        [&(length(file.len())? | IN_FILE).to_be_bytes()[..], file.as_bytes()].concat()
    };
    line.write_all(&frame)
}

fn length(bytes: usize) -> io::Result<u32> {
    u32::try_from(bytes).map_err(io::Error::other)
}

/// Reads a message; `None` at the end of the line.
pub fn receive<T: DeserializeOwned>(line: &mut impl Read, share: &Path) -> io::Result<Option<(T, Vec<u8>)>> {
    let mut length = [0; 4];
    match line.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        done => done?,
    }
    let length = u32::from_be_bytes(length);
    let mut frame = vec![0; (length & !IN_FILE) as usize];
    if frame.len() > SMALL {
        return Err(io::Error::other(format!("a frame of {} bytes", frame.len())));
    }
    line.read_exact(&mut frame)?;
    if length & IN_FILE != 0 {
        let path = share.join(String::from_utf8_lossy(&frame).as_ref());
        frame = std::fs::read(&path)?;
        std::fs::remove_file(&path)?;
    }
    let cut = || io::Error::other("a message that is cut short");
    let (header, rest) = frame.split_first_chunk().ok_or_else(cut)?;
    let (header, body) = rest.split_at_checked(u32::from_be_bytes(*header) as usize).ok_or_else(cut)?;
    Ok(Some((serde_json::from_slice(header)?, body.to_vec())))
}
