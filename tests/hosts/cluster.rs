//! A share and the drivers of two nodes that serve it: what most trials of `berth nfs` stand on.

use std::sync::Arc;

use berth::csi::{ListVolumesRequest, ListVolumesResponse};

use crate::driver::Driver;
use crate::fleet::Fleet;
use crate::host::{Host, wait_for};
use crate::server;

/// A directory that a server exports to all nodes, under the root's name `main`.
pub struct Share {
    server: Arc<Host>,
    /// On the server.
    pub path: String,
}

impl Share {
    /// A new, empty directory of the server's disk, exported with these options on top of the usual.
    #[track_caller]
    pub fn export(fleet: &Fleet, name: &str, options: &str) -> Self {
        let (server, path) = (fleet.host("srv").clone(), format!("/srv/nfs/{name}"));
        server::export(&server, &path, "10.99.0.0/24", options);
        Self { server, path }
    }

    /// What `--root` says of it, with mount options behind it.
    pub fn root(&self, options: &str) -> String {
        format!("main={}:{}{options}", self.server.address(), self.path)
    }

    /// Starts a driver of both services, and waits until it has registered the node.
    #[track_caller]
    pub fn serve(&self, host: &Arc<Host>, options: &str) -> Driver {
        let driver = host.berth("nfs", &["--root", &self.root(options)]);
        self.wait_for_node(host.name());
        driver
    }

    /// The same with the log that a user has.
    #[track_caller]
    pub fn serve_quietly(&self, host: &Arc<Host>, options: &str) -> Driver {
        let driver = host.berth_logging("info", host.name(), "nfs", &["--root", &self.root(options)]);
        self.wait_for_node(host.name());
        driver
    }

    /// Waits until a node is registered.
    #[track_caller]
    pub fn wait_for_node(&self, node: &str) {
        let file = format!("test -s '{}/.berth/nodes/{node}.json'", self.path);
        wait_for(&format!("{node} to be registered"), || self.server.can(&file));
    }

    /// What `find` has to say of the share on the server, Berth's own directory left out.
    #[track_caller]
    pub fn data(&self) -> String {
        self.server.run(&format!("cd '{}' && find . -path ./.berth -prune -o -print | sort", self.path))
    }

    /// All records, as they stand on the server.
    #[track_caller]
    pub fn records(&self) -> String {
        self.server.run(&format!(
            "cd '{}/.berth/volumes' && find . -name '*.json' -exec cat {{}} + 2>/dev/null; true",
            self.path
        ))
    }
}

/// A share and a driver on each of two nodes.
pub struct Cluster<'a> {
    pub share: Share,
    pub a: &'a Arc<Host>,
    pub b: &'a Arc<Host>,
    pub drivers: [Driver; 2],
}

impl<'a> Cluster<'a> {
    /// Both nodes serve a new share; drivers of an earlier trial end first.
    #[track_caller]
    pub fn new(fleet: &'a Fleet, name: &str) -> Self {
        Self::with(fleet, name, "", "")
    }

    /// The same with options of the export and of the root.
    #[track_caller]
    pub fn with(fleet: &'a Fleet, name: &str, export: &str, root: &str) -> Self {
        let (a, b) = (fleet.host("node-a"), fleet.host("node-b"));
        let share = Share::export(fleet, name, export);
        for node in [a, b] {
            clear(node);
        }
        let drivers = [share.serve(a, root), share.serve(b, root)];
        Self { share, a, b, drivers }
    }
}

/// Ends what an earlier trial left on a node: drivers, and mounts below /pods.
#[track_caller]
pub fn clear(node: &Host) {
    node.run(
        "pkill -KILL -x berth; while pidof berth >/dev/null; do sleep 0.05; done; \
         grep -o ' /pods/[^ ]* ' /proc/self/mountinfo | tac | xargs -r umount -l; rm -rf /run/berth /pods; mkdir -p /pods",
    );
}

impl Host {
    /// ListVolumes, to its end: each volume's id, and the nodes that may have it.
    #[track_caller]
    pub fn list(&self) -> Vec<(String, Vec<String>)> {
        let (mut listed, mut starting_token) = (Vec::new(), String::new());
        loop {
            let request = ListVolumesRequest { starting_token, ..Default::default() };
            let page: ListVolumesResponse = self.call("Controller", "ListVolumes", request).unwrap();
            listed.extend(page.entries.into_iter().map(|entry| {
                let nodes = entry.status.map(|status| status.published_node_ids).unwrap_or_default();
                (entry.volume.unwrap().volume_id, nodes)
            }));
            // Where a server is slow, a page ends before the list does.
            starting_token = page.next_token;
            if starting_token.is_empty() {
                return listed;
            }
        }
    }
}
