//! Three hosts for a developer to type at.

use std::io::{self, BufRead as _, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::fleet::Fleet;
use crate::trials::{NODE_A, NODE_B, SERVER};
use crate::{runner, server};

/// How long a command may take here.
const LIMIT: Duration = Duration::from_secs(120);

const BANNER: &str = "\
Three hosts with kernels of their own: srv (10.99.0.1, an NFS server that exports /srv/nfs/main),
node-a (10.99.0.2) and node-b (10.99.0.3). Nothing that you do there reaches this machine.

  COMMAND          runs on the host of the prompt, for two minutes at most; `cd` is remembered
  node-b: COMMAND  runs on that host
  on node-a        that host is the prompt's from now on
  cut HOST, heal HOST          takes its network away, gives it back
  freeze HOST, thaw HOST       stops it, lets it go on
  crash HOST, boot HOST        takes its power away, gives it back; disks stay
  logs             the end of all consoles and logs
  help, exit

Try:  on node-a
      berth nfs --node-id node-a --root main=10.99.0.1:/srv/nfs/main >/tmp/log 2>&1 &
      cat /tmp/log
";

/// Boots the hosts and does what is typed, until the end of the input.
pub fn serve() -> io::Result<()> {
    std::panic::set_hook(Box::new(|panic| println!("{}", runner::words_of(panic))));
    println!("booting...");
    let fleet = Fleet::new(&[SERVER, NODE_A, NODE_B]);
    fleet.revive();
    server::export(fleet.host("srv"), "/srv/nfs/main", "10.99.0.0/24", "");
    println!("{BANNER}");
    let (mut on, mut place) = (String::from("srv"), String::from("/root"));
    let mut lines = io::stdin().lock().lines();
    loop {
        print!("{on}$ ");
        io::stdout().flush()?;
        let Some(line) = lines.next() else { return Ok(()) };
        let line = line?;
        let line = line.trim();
        let is_host = |name: &str| fleet.hosts().iter().any(|host| host.name() == name);
        match line.split_once(' ').map(|(word, rest)| (word, rest.trim())) {
            _ if line == "exit" => return Ok(()),
            _ if line == "help" => println!("{BANNER}"),
            _ if line == "logs" => println!("{}", fleet.logs()),
            _ if line.is_empty() => {}
            Some(("on", host)) if is_host(host) => (on, place) = (host.into(), "/root".into()),
            Some((what @ ("cut" | "heal" | "freeze" | "thaw" | "crash" | "boot"), host)) if is_host(host) => {
                let host = fleet.host(host);
                // A panic here has been printed, and is the answer.
                let _ = catch_unwind(AssertUnwindSafe(|| match what {
                    "cut" => host.cut(),
                    "heal" => host.heal(),
                    "freeze" => host.freeze(),
                    "thaw" => host.thaw(),
                    "crash" => host.crash(),
                    _ => host.reboot(),
                }));
            }
            Some((host, command)) if host.strip_suffix(':').is_some_and(is_host) => {
                run(&fleet, host.trim_end_matches(':'), command);
            }
            Some(("cd", to)) => {
                if let Some(now) = output(&fleet, &on, &format!("cd '{place}' && cd {to} && pwd")) {
                    place = now.trim().into();
                }
            }
            _ => run(&fleet, &on, &format!("cd '{place}'\n{line}")),
        }
    }
}

fn run(fleet: &Fleet, host: &str, command: &str) {
    if let Some(text) = output(fleet, host, command) {
        print!("{text}");
    }
}

/// What a command wrote, unless it failed, which is printed.
fn output(fleet: &Fleet, host: &str, command: &str) -> Option<String> {
    let attempt = || fleet.host(host).attempt(command, LIMIT);
    match catch_unwind(AssertUnwindSafe(attempt)).ok()? {
        Ok(output) if output.code == 0 => Some(output.text),
        Ok(output) => {
            println!("{}(exit code {})", output.text, output.code);
            None
        }
        Err(text) => {
            println!("{text}(killed after {LIMIT:?})");
            None
        }
    }
}
