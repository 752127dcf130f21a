//! A server that is measured: a process of its own, its addresses and its CPU clock.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::Options;

/// Ends with this.
pub struct Server {
    child: Child,
    doors: HashMap<String, SocketAddr>,
    _data: Option<tempfile::TempDir>,
}

impl Server {
    /// A node with its logs in memory.
    pub fn tertulia(options: &Options) -> Result<Self> {
        let data = tempfile::tempdir()?;
        let mut command = Command::new(&options.tertulia);
        command.args(["serve", "-q", "--engine", "memory", "--data"]).arg(data.path());
        for door in ["native", "line", "http"] {
            command.args([format!("--{door}-port"), "0".to_owned()]);
        }
        let why = || format!("{} does not start; build it first", options.tertulia.display());
        Self::start(command, &["native", "line", "http"], Some(data)).with_context(why)
    }

    /// The bare handler.
    pub fn bare() -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("bare");
        Self::start(command, &["http"], None)
    }

    fn start(
        mut command: Command,
        doors: &[&str],
        data: Option<tempfile::TempDir>,
    ) -> Result<Self> {
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().context("no output")?;
        let mut server = Self { child, doors: HashMap::new(), _data: data };
        let mut lines = BufReader::new(stdout).lines();
        while server.doors.len() < doors.len() {
            let Some(Ok(line)) = lines.next() else { bail!("it ended before it was ready") };
            if let Some((door, address)) = line.split_once(' ') {
                let address = address.trim().parse();
                server.doors.extend(address.ok().map(|address| (door.to_owned(), address)));
            }
        }
        std::thread::spawn(move || lines.for_each(drop));
        Ok(server)
    }

    /// Where a door is.
    pub fn door(&self, name: &str) -> Result<SocketAddr> {
        self.doors.get(name).copied().with_context(|| format!("no {name} door"))
    }

    /// CPU time of all its threads so far, those that have ended too; the kernel counts it in hundredths of a second.
    pub fn cpu(&self) -> Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The second field, the program's name, may hold anything; it ends with the last parenthesis.
        let (_, rest) = stat.rsplit_once(')').context("a process without a name")?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
        let (user, system) = (ticks(11).context("utime")?, ticks(12).context("stime")?);
        Ok(Duration::from_millis((user + system) * 10))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // By its id: `Child` knows whether it is still ours.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
