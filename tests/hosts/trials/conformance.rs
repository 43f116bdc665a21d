//! The official csi-sanity against `berth nfs` and a real server, judged as for `berth local`: what is skipped is listed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{NODE_A, SERVER};
use crate::cluster::{Share, clear};
use crate::fleet::Fleet;
use crate::host::Spec;
use crate::runner::Group;
use crate::trials;

const NODE: Spec = Spec { memory: 256, ..NODE_A };

pub const GROUP: Group = Group {
    name: "conformance",
    hosts: &[SERVER, NODE],
    trials: trials![csi_sanity_finds_nothing_wrong_and_skips_only_what_is_listed],
};

/// Builds csi-sanity and its judge, which are Go, where they are kept between runs.
fn tools(sources: &Path) -> PathBuf {
    let kept = std::env::var("BERTH_CACHE").map(PathBuf::from);
    let kept = kept.unwrap_or_else(|_| Path::new(&std::env::var("HOME").unwrap()).join(".cache/berth"));
    std::fs::create_dir_all(&kept).unwrap();
    let built = Command::new("go")
        .env("GOFLAGS", "-trimpath -mod=readonly -buildvcs=false")
        .arg("build")
        .arg("-C")
        .arg(sources)
        .arg("-o")
        .arg(format!("{}/", kept.display()))
        .args(["./judge", "github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity"])
        .output()
        .expect("go builds csi-sanity; is it in the PATH?");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    kept
}

fn csi_sanity_finds_nothing_wrong_and_skips_only_what_is_listed(fleet: &Fleet) {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance");
    let (tools, node) = (tools(&sources), fleet.host("node-a"));
    std::fs::copy(tools.join("csi-sanity"), node.logs().join("csi-sanity")).unwrap();
    clear(node);
    let share = Share::export(fleet, "sanity", "");
    let _driver = share.serve(node, "");
    let directory = format!("/share/{}", node.name());
    node.run(&format!("echo 'root: main' > {directory}/parameters.yaml"));
    let suite = format!(
        "cd {directory} && ./csi-sanity -csi.endpoint unix:///run/berth/csi.sock -csi.mountdir /tmp/mount \
         -csi.stagingdir /tmp/staging -csi.testvolumeparameters parameters.yaml -csi.testnodevolumeattachlimit \
         -csi.testvolumesize {} -csi.testvolumeexpandsize {} -ginkgo.seed 1 -ginkgo.no-color -ginkgo.timeout 5m \
         -ginkgo.grace-period 5s -ginkgo.json-report report.json > suite.log 2>&1; cp berth.log driver.log",
        16 << 20,
        32 << 20
    );
    let ran = node.attempt(&suite, Duration::from_secs(330)).expect("csi-sanity ends");
    assert_eq!(ran.code, 0, "{}", ran.text);
    let judged =
        Command::new(tools.join("judge")).arg(sources.join("nfs.skips")).arg(node.logs()).output().unwrap();
    let said = String::from_utf8_lossy(&judged.stdout);
    println!("       csi-sanity: {}", said.lines().last().unwrap_or_default());
    assert!(judged.status.success(), "{said}");
}
