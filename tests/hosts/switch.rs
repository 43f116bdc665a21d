//! An Ethernet that lives in this process: each host's card is one end of a pair of sockets, and one datagram is one frame.
//! Nothing of it can be seen from outside, and a link is cut by dropping frames.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::sync::{Arc, Mutex};
use std::thread;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{RcvBuf, SndBuf};

/// How much may wait in a card. The system may grant less; then more is dropped, as an Ethernet drops.
const BUFFER: usize = 4 << 20;
type Mac = [u8; 6];

#[derive(Default)]
struct Ports {
    /// By name; the number tells the port of this boot from the one before.
    plugged: HashMap<String, (u64, Arc<UnixDatagram>)>,
    learned: HashMap<Mac, String>,
    cut: HashSet<String>,
    next: u64,
}

/// Hands frames from host to host.
#[derive(Default, Clone)]
pub struct Switch {
    ports: Arc<Mutex<Ports>>,
}

impl Switch {
    /// A port for a host, in place of the one that it had; the other end is for the host's card.
    pub fn plug(&self, name: &str) -> io::Result<OwnedFd> {
        let (ours, theirs) = UnixDatagram::pair()?;
        for socket in [&ours, &theirs] {
            setsockopt(socket, SndBuf, &BUFFER)?;
            setsockopt(socket, RcvBuf, &BUFFER)?;
        }
        let ours = Arc::new(ours);
        let number = {
            let mut ports = self.ports.lock().unwrap();
            ports.next += 1;
            let number = ports.next;
            if let Some((_, old)) = ports.plugged.insert(name.into(), (number, ours.clone())) {
                let _ = old.shutdown(std::net::Shutdown::Both);
            }
            number
        };
        let (switch, name) = (self.clone(), name.to_string());
        thread::spawn(move || switch.forward(&name, number, &ours));
        Ok(theirs.into())
    }

    /// Takes a host's card out.
    pub fn unplug(&self, name: &str) {
        if let Some((_, socket)) = self.ports.lock().unwrap().plugged.remove(name) {
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
    }

    /// From now on no frame comes from this host or to it.
    pub fn cut(&self, name: &str) {
        self.ports.lock().unwrap().cut.insert(name.into());
    }

    /// Frames of this host pass again.
    pub fn heal(&self, name: &str) {
        self.ports.lock().unwrap().cut.remove(name);
    }

    /// All links are whole.
    pub fn heal_all(&self) {
        self.ports.lock().unwrap().cut.clear();
    }

    fn forward(&self, name: &str, number: u64, from: &UnixDatagram) {
        let mut frame = vec![0; 1 << 17];
        while let Ok(length) = from.recv(&mut frame) {
            if !self.is_plugged(name, number) {
                return;
            }
            let Some((to, rest)) = frame[..length].split_first_chunk() else { continue };
            let Some((source, _)) = rest.split_first_chunk() else { continue };
            for port in self.destinations(name, *to, *source) {
                // Full is dropped: a host that is stopped must not stop the others.
                let _ = nix::sys::socket::send(
                    std::os::fd::AsRawFd::as_raw_fd(&*port),
                    &frame[..length],
                    nix::sys::socket::MsgFlags::MSG_DONTWAIT,
                );
            }
        }
    }

    fn is_plugged(&self, name: &str, number: u64) -> bool {
        self.ports.lock().unwrap().plugged.get(name).is_some_and(|(now, _)| *now == number)
    }

    /// The port that has the address, or all others while nobody knows which.
    fn destinations(&self, name: &str, to: Mac, source: Mac) -> Vec<Arc<UnixDatagram>> {
        let mut ports = self.ports.lock().unwrap();
        if ports.cut.contains(name) {
            return Vec::new();
        }
        ports.learned.insert(source, name.into());
        let known = ports.learned.get(&to);
        let open = |(other, (_, socket)): (&String, &(u64, Arc<UnixDatagram>))| {
            let wanted = other != name && known.is_none_or(|known| known == other);
            (wanted && !ports.cut.contains(other)).then(|| socket.clone())
        };
        ports.plugged.iter().filter_map(open).collect()
    }
}
