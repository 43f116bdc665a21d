//! The NFS server that other trials stand on: what a kernel's client sees of it, without a driver.

use std::thread;
use std::time::Duration;

use super::{NODE_A, NODE_B, SERVER};
use crate::fleet::Fleet;
use crate::host::Host;
use crate::runner::Group;
use crate::{server, trials};

pub const GROUP: Group = Group {
    name: "server",
    hosts: &[SERVER, NODE_A, NODE_B],
    trials: trials![
        each_version_of_nfs_is_served,
        a_client_without_an_export_is_refused,
        an_export_that_is_taken_back_ends_the_writes_of_its_client_and_of_nobody_else,
        a_server_that_crashed_has_what_was_synced_and_its_clients_go_on,
        a_writer_waits_for_a_server_that_is_cut_off_and_loses_nothing,
    ],
};

/// Mounts a directory of the server at /mnt of a host.
fn mount(host: &Host, directory: &str, options: &str) {
    host.run(&mount_command(directory, options));
}

fn mount_command(directory: &str, options: &str) -> String {
    // Without statd there are no locks of version 3.
    format!("mount -t nfs -o nolock,{options} 10.99.0.1:{directory} /mnt")
}

fn each_version_of_nfs_is_served(fleet: &Fleet) {
    let a = fleet.host("node-a");
    server::export(fleet.host("srv"), "/srv/nfs/versions", "10.99.0.0/24", "");
    for version in ["4.2", "4.1", "4.0", "3"] {
        mount(a, "/srv/nfs/versions", &format!("vers={version}"));
        let mounted = a.run("grep ' /mnt ' /proc/mounts");
        assert!(mounted.contains(&format!("vers={version},")), "{version}: {mounted}");
        a.run(&format!("echo written >/mnt/{version} && sync /mnt/{version} && umount /mnt"));
        assert_eq!(fleet.host("srv").run(&format!("cat /srv/nfs/versions/{version}")), "written");
    }
}

fn a_client_without_an_export_is_refused(fleet: &Fleet) {
    server::export(fleet.host("srv"), "/srv/nfs/only-a", "10.99.0.2", "");
    mount(fleet.host("node-a"), "/srv/nfs/only-a", "vers=4.2");
    assert!(!fleet.host("node-b").can(&mount_command("/srv/nfs/only-a", "vers=4.2")));
    assert!(!fleet.host("node-b").can("grep ' /mnt ' /proc/mounts"));
    fleet.host("node-a").run("umount /mnt");
}

fn an_export_that_is_taken_back_ends_the_writes_of_its_client_and_of_nobody_else(fleet: &Fleet) {
    let (srv, a, b) = (fleet.host("srv"), fleet.host("node-a"), fleet.host("node-b"));
    for address in [a.address(), b.address()] {
        server::export(srv, "/srv/nfs/taken", &address, "");
    }
    for host in [a, b] {
        mount(host, "/srv/nfs/taken", "vers=4.2");
        host.run("echo before >/mnt/$(hostname) && sync /mnt/$(hostname)");
    }
    server::unexport(srv, "/srv/nfs/taken", &a.address());
    assert!(!a.can("echo after >/mnt/node-a && sync /mnt/node-a"));
    b.run("echo after >/mnt/node-b && sync /mnt/node-b");
    assert_eq!(srv.run("cat /srv/nfs/taken/*"), "before\nafter");
    b.run("umount /mnt");
    // The last unmount of a server that refuses takes ten seconds; this takes none.
    a.crash();
}

fn a_server_that_crashed_has_what_was_synced_and_its_clients_go_on(fleet: &Fleet) {
    let (srv, a) = (fleet.host("srv"), fleet.host("node-a"));
    server::export(srv, "/srv/nfs/crash", &a.address(), "");
    mount(a, "/srv/nfs/crash", "vers=4.2");
    a.run("echo synced >/mnt/file && sync /mnt/file");
    srv.crash();
    thread::scope(|scope| {
        let reads = scope.spawn(|| a.run("echo more >/mnt/more && sync /mnt/more && cat /mnt/file"));
        thread::sleep(Duration::from_millis(300));
        assert!(!reads.is_finished(), "a client went on without a server");
        // With the exports of its last boot: nobody exports anything again.
        srv.boot();
        server::end_grace(srv);
        assert_eq!(reads.join().unwrap(), "synced");
    });
    assert_eq!(srv.run("cat /srv/nfs/crash/file /srv/nfs/crash/more"), "synced\nmore");
    a.run("umount /mnt");
}

fn a_writer_waits_for_a_server_that_is_cut_off_and_loses_nothing(fleet: &Fleet) {
    let (srv, a) = (fleet.host("srv"), fleet.host("node-a"));
    server::export(srv, "/srv/nfs/cut", &a.address(), "");
    mount(a, "/srv/nfs/cut", "vers=4.2");
    srv.cut();
    thread::scope(|scope| {
        let writes = scope.spawn(|| a.run("echo through >/mnt/file && sync /mnt/file"));
        thread::sleep(Duration::from_secs(2));
        assert!(!writes.is_finished(), "a write passed a cut link");
        srv.heal();
        writes.join().unwrap();
    });
    assert_eq!(srv.run("cat /srv/nfs/cut/file"), "through");
    server::stop(srv);
    thread::scope(|scope| {
        let writes = scope.spawn(|| a.run("echo again >/mnt/file && sync /mnt/file"));
        thread::sleep(Duration::from_millis(500));
        assert!(!writes.is_finished(), "a server that was stopped took a write");
        server::resume(srv);
        writes.join().unwrap();
    });
    assert_eq!(srv.run("cat /srv/nfs/cut/file"), "again");
    a.run("umount /mnt");
}
