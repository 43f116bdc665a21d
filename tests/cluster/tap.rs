//! A card of the control plane's network that is a port of the hosts' switch.

use std::fs::File;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::thread;

use nix::sched::{CloneFlags, setns};

use crate::control::bash;
use crate::switch::Switch;

mod ioctl {
    //! linux/if_tun.h.
    #![allow(unsafe_code)] // an ioctl is not known to nix
    nix::ioctl_write_ptr_bad!(tunsetiff, 0x4004_54ca, [u8; 40]);

    /// Makes the open /dev/net/tun the card `name`, which carries frames as they are.
    pub fn name(file: &std::fs::File, name: &str) -> nix::Result<()> {
        const TAP_WITHOUT_HEADER: u16 = 0x0002 | 0x1000;
        let mut request = [0; 40];
        request[..name.len()].copy_from_slice(name.as_bytes());
        request[16..18].copy_from_slice(&TAP_WITHOUT_HEADER.to_ne_bytes());
        let file = std::os::fd::AsRawFd::as_raw_fd(file);
        // SAFETY: the request is a `struct ifreq`, which the kernel reads and writes within its 40 bytes.
        unsafe { tunsetiff(file, &raw const request) }.map(drop)
    }
}

/// Joins the bridge of a network namespace to the switch, until the process ends.
#[track_caller]
pub fn join(switch: &Switch, network: &str) {
    let namespace = File::open(format!("/run/netns/{network}")).unwrap();
    let open = move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
        let file = File::options().read(true).write(true).open("/dev/net/tun").unwrap();
        ioctl::name(&file, "hosts").unwrap();
        file
    };
    // A thread has its own network namespace; this one's ends with it.
    let tap = Arc::new(thread::spawn(open).join().unwrap());
    bash(&format!("ip -n {network} link set hosts master br0 up"));
    let socket = Arc::new(UnixDatagram::from(switch.plug("control-plane").unwrap()));
    let (from, to) = (tap.clone(), socket.clone());
    thread::spawn(move || carry(|frame| nix::unistd::read(&*from, frame).ok(), |frame| drop(to.send(frame))));
    thread::spawn(move || {
        carry(
            |frame| socket.recv(frame).ok(),
            |frame| {
                let _ = nix::unistd::write(&*tap, frame);
            },
        );
    });
}

fn carry(read: impl Fn(&mut [u8]) -> Option<usize>, write: impl Fn(&[u8])) {
    let mut frame = vec![0; 1 << 17];
    while let Some(length) = read(&mut frame).filter(|length| *length > 0) {
        write(&frame[..length]);
    }
}
