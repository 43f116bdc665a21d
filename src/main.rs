//! The process: flags, log, signals.

use std::io::{Write as _, stderr, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use berth::backend::local::RootSpec;
use berth::backend::nfs::Spec;
use berth::backend::nodes::Host;
use berth::backend::{Kind, Specs};
use berth::driver::{Config, Driver};
use berth::error::{Error, Result};
use berth::registration::Registration;
use berth::server::{self, Service};
use berth::socket::{self, Socket};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

/// A CSI driver for directories whose access modes are true.
///
/// Berth gives every volume a directory of its own and mounts it where the orchestrator says, for those who may
/// have it and nobody else: ReadWriteOncePod is one pod, ReadOnlyMany cannot be written, whoever asks.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve directories of this node's own disks
    ///
    /// A root is a directory with a name; a StorageClass picks one with its parameter `root`. It has to be the
    /// root of a mounted file system, so that an unmounted disk is never taken for an empty one; say `,plain` for a
    /// directory within a file system. With `,records=DIR` Berth writes nothing to it and serves what exists.
    #[command(
        after_help = "Examples:\n  berth local --node-id $(hostname) --root ssd=/mnt/ssd --root hdd=/mnt/hdd\n  \
        berth local --node-id n1 --endpoint unix:///tmp/csi.sock --run-dir /tmp/run --root main=/tmp/volumes,plain"
    )]
    Local(Local),
    /// Serve directories of NFS servers, which every node reaches
    ///
    /// A root is a share with a name; a StorageClass picks one with its parameter `root`. Which nodes may have a volume
    /// stands in its record on the share: ControllerPublishVolume writes it, and a node reads it when it mounts. What
    /// follows the share are mount options, as nfs(5) spells them, of every mount of that root; mountOptions of a
    /// StorageClass override them. With `,records=SERVER:/PATH` Berth writes nothing to the share and serves what exists.
    #[command(
        after_help = "Examples:\n  berth nfs --services identity,controller --root main=nas.example.com:/export/k8s\n  \
        berth nfs --services identity,node --node-id $(hostname) --root main=nas.example.com:/export/k8s,vers=4.1\n  \
        berth nfs --node-id n1 --root six=[fd00::1]:/export --root photos=nas:/photos,records=nas:/berth-photos"
    )]
    Nfs(Nfs),
    /// Ask a driver whether it is there, as a probe of Kubernetes or by hand
    ///
    /// Says who answers, and exits with 0 when that driver is ready; with 1 and a line on standard error in any other case.
    /// A root that is missing and a server that is dead make no driver unready: its other roots serve on.
    #[command(after_help = "Examples:\n  berth probe --endpoint unix:///csi/csi.sock --timeout 3")]
    Probe(Probe),
}

#[derive(Debug, Args)]
struct Local {
    /// The node's name, as the orchestrator knows it
    #[arg(long, env = "BERTH_NODE_ID", value_name = "NAME")]
    node_id: String,
    /// A root: NAME=DIRECTORY[,plain][,records=DIRECTORY]; may be repeated (in the environment: separated by blanks)
    #[arg(long = "root", env = "BERTH_ROOTS", value_name = "ROOT", required = true, value_delimiter = ' ')]
    roots: Vec<RootSpec>,
    /// The driver's name, as StorageClasses and CSIDriver objects give it
    #[arg(long, env = "BERTH_DRIVER_NAME", value_name = "NAME", default_value = "local.berth.dev")]
    driver_name: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Nfs {
    /// The node's name, as the orchestrator knows it; needed where the node service is served
    #[arg(long, env = "BERTH_NODE_ID", value_name = "NAME", default_value = "")]
    node_id: String,
    /// A root: NAME=SERVER:/PATH[,OPTION…][,records=SERVER:/PATH]; may be repeated (in the environment: separated by blanks)
    #[arg(long = "root", env = "BERTH_ROOTS", value_name = "ROOT", required = true, value_delimiter = ' ')]
    roots: Vec<Spec>,
    /// The driver's name, as StorageClasses and CSIDriver objects give it
    #[arg(long, env = "BERTH_DRIVER_NAME", value_name = "NAME", default_value = "nfs.berth.dev")]
    driver_name: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Probe {
    /// Where CSI is served: a unix socket
    #[arg(long, env = "CSI_ENDPOINT", value_name = "URL", default_value = "unix:///run/berth/csi.sock")]
    endpoint: String,
    /// For how long to wait for the answer
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
}

/// What both drivers are told.
#[derive(Debug, Args)]
struct Common {
    /// Where to serve CSI: a unix socket, created with mode 0600
    #[arg(long, env = "CSI_ENDPOINT", value_name = "URL", default_value = "unix:///run/berth/csi.sock")]
    endpoint: String,
    /// Which services this process serves (identity is always among them)
    #[arg(
        long,
        env = "BERTH_SERVICES",
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "identity,controller,node"
    )]
    services: Vec<Service>,
    /// Where what is mounted is noted: a directory of the host that a reboot empties
    #[arg(long, env = "BERTH_RUN_DIR", value_name = "DIRECTORY", default_value = "/run/berth")]
    run_dir: PathBuf,
    /// The most volumes that the orchestrator should place on this node; 0 leaves it to the orchestrator
    #[arg(long, env = "BERTH_MAX_VOLUMES", value_name = "NUMBER", default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    max_volumes: i64,
    /// Register with this node's kubelet, which sees the CSI socket at this path
    #[arg(long, env = "BERTH_KUBELET_REGISTRATION_PATH", value_name = "PATH")]
    kubelet_registration_path: Option<String>,
    /// Where the kubelet looks for plugins
    #[arg(
        long,
        env = "BERTH_KUBELET_REGISTRY",
        value_name = "DIRECTORY",
        default_value = "/var/lib/kubelet/plugins_registry"
    )]
    kubelet_registry: PathBuf,
    /// How to write the log, which goes to standard error
    #[arg(long, env = "BERTH_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// How much to write: error, warn, info (a line for each call), debug (its request, secrets left out), trace
    #[arg(long, env = "BERTH_LOG_LEVEL", value_name = "LEVEL", default_value = "info", value_parser = log_level())]
    log_level: LevelFilter,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

/// The levels that there are; "off" would hide why a process can't start.
fn log_level() -> impl TypedValueParser<Value = LevelFilter> {
    PossibleValuesParser::new(["error", "warn", "info", "debug", "trace"])
        .try_map(|level| level.parse::<LevelFilter>())
}

fn main() -> ExitCode {
    let (specs, driver_name, node_id, common) = match Cli::parse().command {
        Command::Local(Local { roots, driver_name, node_id, common }) => {
            (Specs::Local(roots), driver_name, node_id, common)
        }
        Command::Nfs(Nfs { roots, driver_name, node_id, common }) => {
            (Specs::Nfs(roots), driver_name, node_id, common)
        }
        Command::Probe(Probe { endpoint, timeout }) => return probe(&endpoint, timeout),
    };
    log_to_stderr(common.log_format, common.log_level);
    match run(specs, driver_name, node_id, common) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "berth can't go on");
            ExitCode::FAILURE
        }
    }
}

fn probe(endpoint: &str, seconds: u64) -> ExitCode {
    // The code is the answer, whether somebody reads the words or not.
    match berth::probe::ask(endpoint, Duration::from_secs(seconds)) {
        Ok(who) => {
            let _ = writeln!(stdout(), "{who}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            let _ = writeln!(stderr(), "berth probe: {why}");
            ExitCode::FAILURE
        }
    }
}

fn log_to_stderr(format: LogFormat, level: LevelFilter) {
    // The transport below would log every frame, and what passes in it.
    let ours = tracing_subscriber::registry().with(Targets::new().with_target("berth", level));
    let lines =
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false).with_target(false);
    match format {
        LogFormat::Text => ours.with(lines).init(),
        LogFormat::Json => ours.with(lines.json().flatten_event(true)).init(),
    }
}

fn run(specs: Specs, driver_name: String, node_id: String, common: Common) -> Result<()> {
    check_driver_name(&driver_name)?;
    let serves = |service| common.services.contains(&service);
    if node_id.is_empty() && (specs.kind() == Kind::Local || serves(Service::Node)) {
        return Err(Error::invalid(
            "--node-id",
            "is empty: give the node's name, as the orchestrator knows it",
        ));
    }
    let registration = match &common.kubelet_registration_path {
        Some(path) => Some(registration(path, &driver_name, &common)?),
        None => None,
    };
    let config = Config {
        driver_name,
        host: Host::this(node_id)?,
        max_volumes: common.max_volumes,
        controller: serves(Service::Controller),
        node: serves(Service::Node),
    };
    // Two workers carry the transport; what blocks has threads of its own, and not without end. Those that wait for a
    // server come on top, so that they are missed by nobody.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(64 + specs.places())
        .enable_all()
        .build()
        .map_err(|error| Error::io("start the runtime", error))?;
    let served = runtime.block_on(async {
        let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
        let (Ok(mut terminate), Ok(mut interrupt)) = signals else {
            return Err(Error::io("listen for signals", std::io::Error::last_os_error()));
        };
        let stop = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!("stopping");
        };
        let socket = Socket::bind("--endpoint", &socket::path(&common.endpoint)?)?;
        let driver = Driver::new(config, specs, &common.run_dir)?;
        tracing::info!(endpoint = common.endpoint, version = env!("CARGO_PKG_VERSION"), "serving");
        server::serve(driver, &common.services, socket, registration, stop).await
    });
    // A thread that is stuck on a disk must not hold up the end.
    runtime.shutdown_timeout(Duration::from_millis(500));
    served
}

/// What the kubelet is told, which calls the node service and no other.
fn registration(path: &str, driver_name: &str, common: &Common) -> Result<Registration> {
    let invalid = |why: String| Err(Error::invalid("--kubelet-registration-path", why));
    if !common.services.contains(&Service::Node) {
        return invalid("is for a process that serves the node service: see --services".into());
    }
    if !path.starts_with('/') {
        return invalid(format!("{path:?} is no absolute path: say where the kubelet finds the CSI socket"));
    }
    Ok(Registration::new(&common.kubelet_registry, driver_name, path))
}

/// CSI, GetPluginInfo: 63 characters at most, a domain name.
fn check_driver_name(name: &str) -> Result<()> {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    let outer = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let good = name.len() <= 63
        && outer(name.chars().next())
        && outer(name.chars().last())
        && name.chars().all(inner);
    if good {
        Ok(())
    } else {
        Err(Error::invalid("--driver-name", format!("{name:?} is no domain name of 63 characters at most")))
    }
}
