//! Kubernetes' own suite for external storage, against Berth as Helm installs it. `tests/cluster/e2e` says what each driver is.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cluster::{Cluster, Kind, SHARE, TOP};
use crate::runner::Group;
use crate::trials;

pub const LOCAL: Group = Group {
    name: "e2e of local",
    start: || start(Kind::Local),
    together: (1, &[]),
    alone: trials![the_suite_of_external_storage_passes],
};

pub const NFS: Group = Group {
    name: "e2e of nfs",
    start: || start(Kind::Nfs),
    together: (1, &[]),
    alone: trials![the_suite_of_external_storage_passes],
};

/// What is looked for by default: the file systems of dynamic and given volumes.
const FOCUS: &str = r"External.Storage.*\((default fs|filesystem volmode|delayed binding)\)";

/// What takes more than a few minutes, wants ssh to the nodes, or asks for what Berth says that it has not.
const SKIP: &str = r"\[Slow\]|\[Disruptive\]|\[Serial\]|Snapshot|Inline-volume|SELinux|VolumeAttributesClass|data source|allowExpansion.*offline";

/// How many specs the default selection runs at least: a suite that selects nothing shows nothing.
const AT_LEAST: [usize; 2] = [24, 30];

/// How many specs run at the same time: mostly they wait.
const PROCESSES: [usize; 2] = [8, 5];

#[track_caller]
pub fn start(kind: Kind) -> Cluster {
    let cluster = Cluster::bare(kind, &["pods", "berth"]);
    cluster.or_say_all(|cluster| {
        let root = format!("nfs.roots[0].share={SHARE}");
        let values: &[&str] = match kind {
            Kind::Local => &["--set", "local.enabled=true"],
            Kind::Nfs => &["--set", "nfs.enabled=true", "--set", "nfs.roots[0].name=main", "--set", &root],
        };
        let chart = format!("{TOP}/deploy/helm/berth");
        let words = ["helm", "install", "berth", &chart, "--namespace", "berth", "--create-namespace"];
        let mut helm = cluster.within(&words);
        let done = helm.args(values).envs(cluster.environment("default")).output().unwrap();
        assert!(done.status.success(), "helm install: {}", String::from_utf8_lossy(&done.stderr));
        cluster.wait_for_berth();
    });
    cluster
}

/// One spec of the suite.
pub struct Spec {
    /// Its sentence, without what is the same for all.
    pub name: String,
    /// `passed`, `skipped`, `failed` …
    pub state: String,
    /// Why it was skipped, or how it failed.
    pub why: String,
    /// Seconds.
    pub took: f64,
}

impl Spec {
    /// Whether it neither passed nor skipped itself.
    pub fn has_failed(&self) -> bool {
        !["passed", "skipped"].contains(&self.state.as_str())
    }
}

/// Runs what is selected of the suite; every spec that was not left out by the selection.
#[track_caller]
pub fn run(cluster: &Cluster, focus: &str, skip: &str, limit: &str) -> Vec<Spec> {
    let directory = tempfile::tempdir().unwrap();
    let (report, log) = (directory.path().join("report.json"), directory.path().join("log"));
    let program = |name: &str| cluster.control.programs.join(name).display().to_string();
    let words = [
        &program("ginkgo"),
        &format!("--procs={}", PROCESSES[cluster.kind as usize]),
        &format!("--timeout={limit}"),
        "--no-color",
        &format!("--focus={focus}"),
        &format!("--skip={skip}"),
        &format!("--output-dir={}", directory.path().display()),
        "--json-report=report.json",
        &program("e2e.test"),
        "--",
        &format!("-kubeconfig={}", cluster.control.config("admin.kubeconfig")),
        &format!("-kubectl-path={}", program("kubectl")),
        "-provider=local",
        &format!("-storage.testdriver={TOP}/tests/cluster/e2e/{}.yaml", cluster.driver()),
        "-minStartupPods=0",
        "-allowed-not-ready-nodes=0",
    ];
    let output = fs::File::create(&log).unwrap();
    let mut suite = cluster.within(&words);
    suite.current_dir(&directory).stdin(Stdio::null());
    suite.stdout(output.try_clone().unwrap()).stderr(output).status().unwrap();
    let Ok(text) = fs::read_to_string(&report) else {
        panic!("the suite wrote no report: {}", fs::read_to_string(&log).unwrap());
    };
    let suites: Value = serde_json::from_str(&text).unwrap();
    let reports =
        suites.as_array().into_iter().flatten().flat_map(|suite| suite["SpecReports"].as_array()).flatten();
    let specs = reports.filter(|report| report["LeafNodeType"] == "It").map(spec);
    // What the selection left out has been skipped without a word.
    let specs: Vec<Spec> = specs.filter(|spec| spec.state != "skipped" || !spec.why.is_empty()).collect();
    if !specs.iter().any(|spec| spec.state == "passed") {
        let said = fs::read_to_string(&log).unwrap();
        let lines: Vec<&str> = said.lines().collect();
        panic!("no spec ran:\n{}", lines[..lines.len().min(60)].join("\n"));
    }
    specs
}

fn spec(report: &Value) -> Spec {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let above = report["ContainerHierarchyTexts"].as_array().into_iter().flatten().map(text);
    let words: Vec<String> = above.skip(1).chain([text(&report["LeafNodeText"])]).collect();
    Spec {
        name: words.join(" ").replace("[Testpattern: ", "[").trim().to_string(),
        state: text(&report["State"]),
        why: text(&report["Failure"]["Message"]),
        took: report["RunTime"].as_f64().unwrap_or_default() / 1e9,
    }
}

fn the_suite_of_external_storage_passes(cluster: &Cluster) {
    let begin = Instant::now();
    let specs = run(cluster, FOCUS, SKIP, "20m");
    let of = |state: &str| specs.iter().filter(move |spec| spec.state == state).count();
    let (passed, skipped) = (of("passed"), of("skipped"));
    println!(
        "       e2e of {}: {passed} passed, {skipped} skipped themselves, in {:?}",
        cluster.driver(),
        Duration::from_secs(begin.elapsed().as_secs())
    );
    let failed: Vec<String> = specs
        .iter()
        .filter(|spec| spec.has_failed())
        .map(|spec| format!("{}: {}: {}", spec.state, spec.name, spec.why))
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(passed >= AT_LEAST[cluster.kind as usize], "only {passed} specs ran");
}
