//! Where the demo plays: a namespace, a directory, a driver's process. Each takes itself down.

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::mount::MsFlags;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getgid, getuid};
use sys_mount::UnmountFlags;
use tonic::transport::{Channel, Endpoint};

use super::{Outcome, say};

/// How long the driver may take until it listens.
const START: Duration = Duration::from_secs(10);

/// Enters a mount namespace that nobody else sees, and says as whom. Only a process of one thread can.
pub(super) fn enter_namespace() -> Outcome<String> {
    let (uid, gid) = (getuid(), getgid());
    let mut who = "as root".to_string();
    if !uid.is_root() || unshare(CloneFlags::CLONE_NEWNS).is_err() {
        unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).map_err(|errno| forbidden(&errno))?;
        for (file, text) in [
            ("setgroups", "deny".to_string()),
            ("uid_map", format!("0 {uid} 1")),
            ("gid_map", format!("0 {gid} 1")),
        ] {
            let opened = File::options().write(true).open(format!("/proc/self/{file}"));
            opened.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| forbidden(&error))?;
        }
        who = format!("as user {uid} (root in a user namespace of its own)");
    }
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
        .map_err(|errno| forbidden(&errno))?;
    Ok(who)
}

fn forbidden(error: &dyn Error) -> Box<dyn Error> {
    format!(
        "this user may not enter namespaces ({error}): run it as root, or allow user namespaces:\n  \
         sysctl -w user.max_user_namespaces=10000\n  \
         sysctl -w kernel.unprivileged_userns_clone=1              # Debian's kernels\n  \
         sysctl -w kernel.apparmor_restrict_unprivileged_userns=0  # Ubuntu's kernels\n  \
         in a container: start it with --privileged"
    )
    .into()
}

/// A tmpfs on a directory of the host, so that nothing but the empty directory could ever be left.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new() -> Outcome<Self> {
        let scratch = Self(tempfile::Builder::new().prefix("berth-demo.").tempdir()?.keep());
        scratch.mount_tmpfs("")?;
        ["root", "pods"].iter().try_for_each(|name| fs::create_dir(scratch.path(name)))?;
        // A file system of its own, as a root is on a node.
        scratch.mount_tmpfs("root")?;
        Ok(scratch)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn mount_tmpfs(&self, name: &str) -> Outcome {
        let tmpfs = sys_mount::Mount::builder().fstype("tmpfs").data("size=64m,mode=0755");
        tmpfs.mount("demo", self.path(name)).map_err(|error| format!("mount a tmpfs: {error}"))?;
        Ok(())
    }

    /// Takes everything down. The mounts go at once, whoever still uses them: they are the demo's own.
    pub(super) fn remove(&self) -> io::Result<()> {
        sys_mount::unmount(&self.0, UnmountFlags::DETACH)?;
        fs::remove_dir(&self.0)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Done already, unless something failed half-way.
        let _ = sys_mount::unmount(&self.0, UnmountFlags::DETACH);
        let _ = fs::remove_dir(&self.0);
    }
}

/// The driver's process; dropped, it is killed.
pub(super) struct Driver(Child);

impl Driver {
    /// Starts the driver that was built beside this example.
    #[allow(clippy::disallowed_methods, reason = "a real process is what is shown")]
    pub(super) fn start(scratch: &Scratch) -> Outcome<Self> {
        let example = std::env::current_exe()?;
        let berth = example.ancestors().nth(2).unwrap_or(&example).join("berth");
        if !berth.is_file() {
            return Err(format!("{} is missing: run `cargo build` first", berth.display()).into());
        }
        let log = File::options().create(true).append(true).open(scratch.path("driver.log"))?;
        let root = format!("main={}", scratch.path("root").display());
        say("run", &format!("berth local --node-id demo --root {root} …"));
        let child = std::process::Command::new(&berth)
            .env_clear()
            .args(["local", "--node-id", "demo", "--root", &root, "--endpoint", &endpoint(scratch)])
            .arg("--run-dir")
            .arg(scratch.path("run"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| format!("start {}: {error}", berth.display()))?;
        Ok(Self(child))
    }

    /// Waits until the driver listens.
    pub(super) async fn connect(&mut self, scratch: &Scratch) -> Outcome<Channel> {
        let (began, endpoint) = (Instant::now(), Endpoint::from_shared(endpoint(scratch))?);
        loop {
            let error = match endpoint.connect().await {
                Ok(channel) => return Ok(channel),
                Err(error) => error,
            };
            if let Some(status) = self.0.try_wait()? {
                return Err(format!("the driver ended before it listened: {status}").into());
            }
            if began.elapsed() > START {
                return Err(format!("the driver does not listen after {START:?}: {error}").into());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// kill -9, and waits until it is gone.
    pub(super) fn kill(&mut self) -> io::Result<()> {
        self.0.kill()?;
        self.0.wait().map(|_| ())
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

fn endpoint(scratch: &Scratch) -> String {
    format!("unix://{}", scratch.path("csi.sock").display())
}
