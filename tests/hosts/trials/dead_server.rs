//! A server that does not answer: it delays nobody else, every call on it ends, and all goes on when it is back.

use std::time::{Duration, Instant};

use berth::access::Mode;
use tonic::{Code, Status};

use super::{NODE_A, SERVER, nothing};
use crate::cluster::{Share, clear};
use crate::driver::Driver;
use crate::fleet::Fleet;
use crate::host::{Host, Spec, wait_for};
use crate::runner::Group;
use crate::volumes::Fails as _;
use crate::{server, trials};

const RWX: Mode = Mode::MultiNodeMultiWriter;

/// A second server, which lives.
const OTHER: Spec = Spec { name: "other", number: 4, memory: 128, disks: &[600], at_boot: server::start };
const NODE: Spec = Spec { at_boot: nothing, ..NODE_A };

pub const GROUP: Group = Group {
    name: "dead server",
    hosts: &[SERVER, NODE, OTHER],
    trials: trials![
        every_call_on_a_dead_server_ends_in_time_as_aborted_and_goes_through_when_it_is_back,
        calls_for_another_server_are_as_fast_as_ever,
        fifty_volumes_are_unpublished_while_their_server_is_dead,
        a_target_with_open_and_dirty_files_is_unpublished_while_its_server_is_dead,
        a_busy_target_of_a_server_that_answers_stays_mounted,
        a_driver_that_starts_beside_a_dead_server_serves_its_other_roots_and_names_the_dead_one,
        what_hangs_is_bounded_and_ends_when_the_server_is_back,
        what_was_written_and_synced_is_there_after_the_server_crashed_and_came_back,
    ],
};

/// A share of each server, and a driver on the node that has both as roots.
fn two_servers(fleet: &Fleet, name: &str) -> (Share, Driver) {
    let (node, other) = (fleet.host("node-a"), fleet.host("other"));
    clear(node);
    let share = Share::export(fleet, name, "");
    let path = format!("/srv/nfs/{name}");
    server::export(other, &path, "10.99.0.0/24", "");
    let second = format!("other={}:{path}", other.address());
    let driver = node.berth("nfs", &["--root", &share.root(""), "--root", &second]);
    share.wait_for_node("node-a");
    wait_for("the node at the other server", || {
        other.can(&format!("test -s {path}/.berth/nodes/node-a.json"))
    });
    (share, driver)
}

fn published(node: &Host, root: &str, name: &str) -> (String, String) {
    let (id, target) = (node.create(name, RWX, &[("root", root)]).unwrap(), format!("/pods/{name}"));
    node.controller_publish(&id, node.name(), RWX).unwrap();
    node.publish(&id, &target, RWX).unwrap();
    (id, target)
}

fn is_mounted(node: &Host, target: &str) -> bool {
    node.can(&format!("grep -q ' {target} ' /proc/self/mountinfo"))
}

/// How long a call took, and what it answered.
fn timed<T>(call: impl FnOnce() -> T) -> (Duration, T) {
    let begin = Instant::now();
    let answer = call();
    (begin.elapsed(), answer)
}

fn every_call_on_a_dead_server_ends_in_time_as_aborted_and_goes_through_when_it_is_back(fleet: &Fleet) {
    let node = fleet.host("node-a");
    let (_share, _driver) = two_servers(fleet, "ends");
    let (id, target) = published(node, "main", "held");
    let (free, _) = (node.create("free", RWX, &[("root", "main")]).unwrap(), ());
    fleet.host("srv").freeze();
    type Call<'a> = &'a dyn Fn() -> Result<(), Status>;
    let calls: [(&str, Call<'_>); 6] = [
        ("create", &|| node.create("new", RWX, &[("root", "main")]).map(drop)),
        ("publish", &|| node.publish(&id, "/pods/second", RWX)),
        ("controller publish", &|| node.controller_publish(&free, "node-a", RWX)),
        ("controller unpublish", &|| node.controller_unpublish(&free, "node-a")),
        ("stats", &|| node.stats(&id, &target).map(drop)),
        ("delete", &|| node.delete(&free)),
    ];
    for (what, call) in calls {
        let (took, answer) = timed(call);
        let status = answer.expect_err(what);
        assert_eq!(status.code(), Code::Aborted, "{what}: {}", status.message());
        assert!(took < Duration::from_secs(15), "{what} took {took:?}");
    }
    fleet.host("srv").thaw();
    for (what, call) in calls {
        wait_for(what, || call().is_ok());
    }
    node.run(&format!("echo goes on > {target}/f"));
}

fn calls_for_another_server_are_as_fast_as_ever(fleet: &Fleet) {
    let node = fleet.host("node-a");
    let (_share, _driver) = two_servers(fleet, "others");
    let (dead, _) = published(node, "main", "dead");
    let life = |name: &str| {
        let (id, target) = published(node, "other", name);
        node.run(&format!("echo x > {target}/f"));
        node.unpublish(&id, &target).unwrap();
        node.controller_unpublish(&id, "node-a").unwrap();
        node.delete(&id).unwrap();
    };
    life("warm");
    let (before, _) = timed(|| life("before"));
    fleet.host("srv").freeze();
    std::thread::scope(|scope| {
        // As many as may wait for a server, and more, are on their way.
        for number in 0..24 {
            let (node, dead) = (node.clone(), dead.clone());
            scope.spawn(move || node.publish(&dead, &format!("/pods/dead-{number}"), RWX));
        }
        std::thread::sleep(Duration::from_millis(500));
        let (during, _) = timed(|| life("during"));
        // Six calls that waited for the dead server would take more than twenty seconds; a busy machine takes some.
        assert!(
            during < before * 5 + Duration::from_secs(6),
            "{during:?} beside a dead server, {before:?} before"
        );
    });
    fleet.host("srv").thaw();
}

fn fifty_volumes_are_unpublished_while_their_server_is_dead(fleet: &Fleet) {
    let node = fleet.host("node-a");
    let (_share, mut driver) = two_servers(fleet, "fifty");
    let volumes: Vec<_> = (0..50).map(|number| published(node, "main", &format!("v{number}"))).collect();
    fleet.host("srv").freeze();
    let unpublish = |volumes: &[(String, String)]| -> Vec<Duration> {
        let one = |(id, target): &(String, String)| {
            let (took, answer) = timed(|| node.unpublish(id, target));
            answer.unwrap_or_else(|status| panic!("{target}: {status}"));
            assert!(!is_mounted(node, target) && !node.can(&format!("test -e {target}")), "{target}");
            took
        };
        volumes.iter().map(one).collect()
    };
    let mut took = unpublish(&volumes[..25]);
    // A new driver has no mount of its own, and the last unmount of a server waits for it in the kernel.
    driver.restart();
    took.extend(unpublish(&volumes[25..]));
    took.sort();
    println!("       unpublished beside a dead server: median {:?}, longest {:?}", took[25], took[49]);
    assert!(took[25] < Duration::from_secs(1) && took[49] < Duration::from_secs(9), "{took:?}");
    fleet.host("srv").thaw();
    for (id, _) in &volumes {
        wait_for("the record to let go", || node.controller_unpublish(id, "node-a").is_ok());
        node.delete(id).unwrap();
    }
}

fn a_target_with_open_and_dirty_files_is_unpublished_while_its_server_is_dead(fleet: &Fleet) {
    let node = fleet.host("node-a");
    let (share, _driver) = two_servers(fleet, "dirty");
    let (id, target) = published(node, "main", "v");
    let writer =
        node.start(&format!("sh -c 'exec >{target}/open; while sleep 0.05; do echo line; done'"), "writer");
    wait_for("the writer", || node.can(&format!("test -s {target}/open")));
    fleet.host("srv").freeze();
    std::thread::sleep(Duration::from_millis(300));
    let (took, answer) = timed(|| node.unpublish(&id, &target));
    answer.unwrap();
    assert!(took < Duration::from_secs(9), "{took:?}");
    assert!(!is_mounted(node, &target));
    fleet.host("srv").thaw();
    writer.signal(nix::sys::signal::Signal::SIGKILL);
    writer.ended_within(Duration::from_secs(30)).expect("the writer ends when the server is back");
    wait_for("the record to let go", || node.controller_unpublish(&id, "node-a").is_ok());
    wait_for("the kernel to let go", || node.delete(&id).is_ok());
    assert_eq!(share.data(), ".");
}

fn a_busy_target_of_a_server_that_answers_stays_mounted(fleet: &Fleet) {
    let node = fleet.host("node-a");
    let (share, driver) = two_servers(fleet, "busy");
    let (id, target) = published(node, "main", "v");
    let user = node.start(&format!("sh -c 'cd {target} && exec sleep 1000'"), "user");
    wait_for("the user", || node.can(&format!("readlink /proc/[0-9]*/cwd | grep -q ^{target}")));
    let stays = || {
        node.unpublish(&id, &target).fails(Code::Aborted, "a process still uses it");
        assert!(is_mounted(node, &target));
    };
    stays();
    // Whatever else is wrong with the root.
    let identity = format!("{}/.berth/root.json", share.path);
    fleet.host("srv").run(&format!("mv {identity} {identity}.away"));
    driver.kill();
    let _again = node.berth("nfs", &["--root", &share.root("").replace("main=", "renamed=")]);
    stays();
    fleet.host("srv").run(&format!("mv {identity}.away {identity}"));
    clear_driver(node);
    let _again = node.berth("nfs", &["--root", &share.root("")]);
    stays();
    user.signal(nix::sys::signal::Signal::SIGKILL);
    wait_for("the unpublish", || node.unpublish(&id, &target).is_ok());
}

/// Ends the driver that runs, and nothing else.
fn clear_driver(node: &Host) {
    node.run("pkill -KILL -x berth; while pidof berth >/dev/null; do sleep 0.05; done");
}

fn a_driver_that_starts_beside_a_dead_server_serves_its_other_roots_and_names_the_dead_one(fleet: &Fleet) {
    let node = fleet.host("node-a");
    let (_share, mut driver) = two_servers(fleet, "starts");
    let (id, target) = published(node, "main", "v");
    fleet.host("srv").freeze();
    driver.kill();
    let (took, _) = timed(|| driver.start_again());
    assert!(took < Duration::from_secs(10), "it was ready after {took:?}");
    // Killed in the middle of its look at the dead server, again and again: nothing of it keeps the next one out.
    for round in 0..5 {
        std::thread::sleep(Duration::from_millis(300 * round));
        let (took, _) = timed(|| {
            driver.restart();
            Ok::<(), Status>(())
        });
        assert!(took < Duration::from_secs(10), "it was ready after {took:?}");
    }
    let (other, other_target) = published(node, "other", "o");
    node.publish(&id, "/pods/second", RWX).fails(Code::Aborted, "");
    wait_for("the log to name the dead root", || {
        let log = String::from_utf8(node.read("/share/node-a/berth.log")).unwrap();
        log.contains("the root can't be used root=\"main\"") && log.contains("does not answer")
    });
    fleet.host("srv").thaw();
    wait_for("the publish", || node.publish(&id, "/pods/second", RWX).is_ok());
    for (id, target) in [(&id, "/pods/second"), (&id, target.as_str()), (&other, &other_target)] {
        node.unpublish(id, target).unwrap();
    }
}

fn what_hangs_is_bounded_and_ends_when_the_server_is_back(fleet: &Fleet) {
    let node = fleet.host("node-a");
    let (_share, driver) = two_servers(fleet, "bounded");
    let (id, _) = published(node, "main", "v");
    let (pid, others) = (driver.pid(), |what: &str| node.run(what).parse::<usize>().unwrap());
    let threads = || others(&format!("ls /proc/{pid}/task | wc -l"));
    let descriptors = || others(&format!("ls /proc/{pid}/fd | wc -l"));
    let children = || others(&format!("pgrep -P {pid} | wc -l"));
    wait_for("the driver to be at rest", || threads() < 20);
    let open_before = descriptors();
    fleet.host("srv").freeze();
    for _ in 0..3 {
        std::thread::scope(|scope| {
            for number in 0..22 {
                let (node, id) = (node.clone(), id.clone());
                scope.spawn(move || node.publish(&id, &format!("/pods/{number}"), RWX));
            }
        });
        assert!(threads() < 16 + 64 + 12, "{} threads", threads());
        assert!(children() <= 16, "{} children", children());
    }
    fleet.host("srv").thaw();
    // Idle threads of the runtime end after ten seconds.
    wait_for("all that hung to end", || threads() < 20 && children() == 0);
    wait_for("descriptors to be closed", || descriptors() <= open_before + 2);
    wait_for("calls to go through", || node.publish(&id, "/pods/again", RWX).is_ok());
}

fn what_was_written_and_synced_is_there_after_the_server_crashed_and_came_back(fleet: &Fleet) {
    let node = fleet.host("node-a");
    let (share, _driver) = two_servers(fleet, "crash");
    let (id, target) = published(node, "main", "v");
    let loops = format!(
        "sh -c 'n=0; while true; do n=$((n+1)); echo $n > {target}/$((n % 20)); sync {target}/$((n % 20)); \
         echo $n > /tmp/synced.new; mv /tmp/synced.new /tmp/synced; done'"
    );
    let writer = node.start(&loops, "load");
    let synced = || node.run("cat /tmp/synced 2>/dev/null || echo 0").parse::<u64>().unwrap();
    wait_for("the load", || synced() > 20);
    for round in 0..2 {
        fleet.host("srv").crash();
        std::thread::sleep(Duration::from_millis(500));
        fleet.host("srv").reboot();
        let before = synced();
        wait_for("the writer to go on", || synced() > before + 5);
        assert!(node.create(&format!("after-{round}"), RWX, &[("root", "main")]).is_ok());
    }
    writer.signal(nix::sys::signal::Signal::SIGKILL);
    writer.ended_within(Duration::from_secs(30)).unwrap();
    let last = synced();
    // The server's own disk says so, and nobody's cache.
    fleet.host("srv").reboot();
    for n in last - 18..=last {
        let file = format!("cat {}/v.*/{}", share.path, n % 20);
        let found: u64 = fleet.host("srv").run(&file).parse().unwrap();
        assert!(found >= n, "{n} was synced, the server has {found}");
    }
    wait_for("the unpublish", || node.unpublish(&id, &target).is_ok());
}
