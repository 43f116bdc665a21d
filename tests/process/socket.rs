//! The socket: whose it is, who may see it, what lay there before.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::driver::{Driver, Scratch, refused};

const BOTH: [&str; 2] = ["csi.sock", "csi.sock.lock"];

fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

#[test]
fn the_socket_is_private_from_its_first_moment() {
    let scratch = Scratch::new();
    // Held up right after it is bound, with a umask that takes nothing away: the mode is the one it was born with.
    let slowed = scratch.local_slowed("bind:delay_exit=2s");
    let mut command = Command::new("sh");
    command.args(["-c", "umask 0; exec \"$@\"", "sh"]).arg(slowed.get_program()).args(slowed.get_args());
    let driver = scratch.spawn(&mut command);
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_socket(&scratch.socket()) {
        assert!(Instant::now() < deadline, "nothing was bound:\n{}", scratch.log());
        std::thread::sleep(Duration::from_millis(1));
    }
    let born = fs::symlink_metadata(scratch.socket()).unwrap().mode() & 0o7777;
    assert_eq!(born, 0o600, "{born:o}");
    scratch.wait_for_log("serving");
    assert!(scratch.answers());
    for name in BOTH {
        let mode = fs::metadata(scratch.path(name)).unwrap().mode() & 0o7777;
        assert_eq!(mode, 0o600, "{name}: {mode:o}");
    }
    drop(driver);
}

#[test]
fn a_socket_that_nobody_listens_at_is_taken_over() {
    let scratch = Scratch::new();
    drop(UnixListener::bind(scratch.socket()).unwrap());
    assert!(is_socket(&scratch.socket()));
    let _driver = scratch.start(&mut scratch.local());
}

#[test]
fn after_kill_9_a_new_process_starts() {
    let scratch = Scratch::new();
    for _ in 0..3 {
        let mut driver = scratch.start(&mut scratch.local());
        driver.signal(Signal::SIGKILL);
        driver.end();
        assert_eq!(scratch.left(), BOTH);
    }
    scratch.start(&mut scratch.local()).stop();
    assert_eq!(scratch.left(), [""; 0]);
}

#[test]
fn a_second_driver_is_refused_and_the_first_serves_on() {
    let scratch = Scratch::new();
    let mut first = scratch.start(&mut scratch.local());
    let (code, err) = refused(&mut scratch.local());
    assert_eq!(code, Some(1));
    assert!(err.contains("another process serves") && err.contains("csi.sock"), "{err}");
    assert!(scratch.answers() && first.runs());
    first.stop();
}

#[test]
fn a_driver_that_is_stopped_in_its_tracks_still_has_its_socket() {
    let scratch = Scratch::new();
    let driver = scratch.start(&mut scratch.local());
    driver.signal(Signal::SIGSTOP);
    let (code, err) = refused(&mut scratch.local());
    assert!(code == Some(1) && err.contains("another process serves"), "{err}");
    driver.signal(Signal::SIGCONT);
    assert!(scratch.answers());
}

#[test]
fn a_socket_that_another_program_listens_at_is_refused_and_kept() {
    let scratch = Scratch::new();
    let listener = UnixListener::bind(scratch.socket()).unwrap();
    let (code, err) = refused(&mut scratch.local());
    assert!(code == Some(1) && err.contains("another process serves"), "{err}");
    assert_eq!(scratch.left(), ["csi.sock"]);
    drop(listener);

    let scratch = Scratch::new();
    let datagrams = UnixDatagram::bind(scratch.socket()).unwrap();
    let (code, err) = refused(&mut scratch.local());
    assert!(code == Some(1) && err.contains("csi.sock"), "{err}");
    assert_eq!(scratch.left(), ["csi.sock"]);
    let sender = UnixDatagram::unbound().unwrap();
    sender.send_to(b"still here", scratch.socket()).unwrap();
    assert_eq!(datagrams.recv(&mut [0; 32]).unwrap(), 10);
}

#[test]
fn what_is_no_socket_is_refused_and_kept() {
    let scratch = Scratch::new();
    fs::write(scratch.socket(), "precious").unwrap();
    let (code, err) = refused(&mut scratch.local());
    assert!(code == Some(1) && err.contains("is no socket"), "{err}");
    assert_eq!(fs::read_to_string(scratch.socket()).unwrap(), "precious");
    assert_eq!(scratch.left(), ["csi.sock"]);

    let scratch = Scratch::new();
    fs::create_dir(scratch.socket()).unwrap();
    let (code, err) = refused(&mut scratch.local());
    assert!(code == Some(1) && err.contains("is no socket"), "{err}");
    assert!(scratch.socket().is_dir());

    // A link, whether it leads anywhere or not.
    for leads_to in ["nowhere", "elsewhere"] {
        let scratch = Scratch::new();
        fs::write(scratch.path("elsewhere"), "precious").unwrap();
        symlink(scratch.path(leads_to), scratch.socket()).unwrap();
        let (code, err) = refused(&mut scratch.local());
        assert!(code == Some(1) && err.contains("is no socket"), "{err}");
        assert_eq!(fs::read_link(scratch.socket()).unwrap(), scratch.path(leads_to));
        assert_eq!(fs::read_to_string(scratch.path("elsewhere")).unwrap(), "precious");
        assert_eq!(scratch.left(), ["csi.sock", "elsewhere"]);
    }
}

#[test]
fn of_processes_that_start_at_one_instant_exactly_one_serves() {
    for (stale, slowed) in [(false, false), (true, false), (false, true), (true, true)] {
        let scratch = Scratch::new();
        if stale {
            drop(UnixListener::bind(scratch.socket()).unwrap());
        }
        // Held up when it is bound and does not listen yet, a socket looks like one that nobody has.
        let command = || if slowed { scratch.local_slowed("bind:delay_exit=300ms") } else { scratch.local() };
        let mut drivers: Vec<Driver> = (0..6).map(|_| scratch.spawn(&mut command())).collect();
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut running = drivers.len();
        while running > 1 {
            assert!(Instant::now() < deadline, "{running} run at once:\n{}", scratch.log());
            running = drivers.iter_mut().map(|driver| usize::from(driver.runs())).sum();
        }
        scratch.wait_for_log("serving");
        assert!(scratch.answers());
        let log = scratch.log();
        assert_eq!(log.matches("another process serves").count(), 5, "{log}");
        assert_eq!(log.matches(" serving ").count(), 1, "{log}");
        let mut one = drivers.into_iter().find_map(|mut driver| driver.runs().then_some(driver)).unwrap();
        one.stop();
        assert_eq!(scratch.left(), [""; 0]);
    }
}

#[test]
fn in_the_end_what_is_not_ours_any_more_stays() {
    let scratch = Scratch::new();
    let mut first = scratch.start(&mut scratch.local());
    // Somebody clears the path by hand and starts another driver.
    BOTH.iter().for_each(|name| fs::remove_file(scratch.path(name)).unwrap());
    let mut second = scratch.start(&mut scratch.local());
    first.stop();
    assert_eq!(scratch.left(), BOTH);
    assert!(scratch.answers());
    second.stop();
    assert_eq!(scratch.left(), [""; 0]);
}

#[test]
fn a_socket_that_was_taken_away_by_hand_does_not_hold_up_the_end() {
    let scratch = Scratch::new();
    let mut driver = scratch.start(&mut scratch.local());
    fs::remove_file(scratch.socket()).unwrap();
    driver.stop();
    assert_eq!(scratch.left(), [""; 0]);
}
