//! Peers and a node between them, each a process of its own, as users start them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::{Run, timed};

const PASSWORD: &str = "correct horse";
/// How long it may take until a file is found.
const FOUND_WAIT: Duration = Duration::from_secs(60);

/// A process that ends with this.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // By its id: `Child` knows whether it is still ours.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    /// Starts it, and waits for a line of output.
    fn start(mut command: Command, part: &str) -> Result<(Self, String)> {
        let spawned = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = spawned.with_context(|| format!("{command:?}"))?;
        let stdout = child.stdout.take().context("no output")?;
        let process = Self(child);
        let mut lines = BufReader::new(stdout).lines();
        let line = loop {
            match lines.next() {
                Some(Ok(line)) if line.contains(part) => break line,
                Some(Ok(_)) => {}
                _ => bail!("{command:?} ended before it was ready"),
            }
        };
        std::thread::spawn(move || lines.for_each(drop));
        Ok((process, line))
    }
}

/// See the module. The last peer is the receiver's own.
pub struct Peers {
    tertulia: PathBuf,
    home: PathBuf,
    /// The node, then the senders, then the receiver's own peer.
    processes: Vec<Process>,
    senders: Vec<u32>,
}

impl Peers {
    /// So many senders, whose folders `share` fills, and somebody who has nothing yet.
    pub fn start(
        tertulia: &Path,
        home: &Path,
        senders: usize,
        share: impl Fn(&Path) -> std::io::Result<()>,
    ) -> Result<Self> {
        std::fs::create_dir(home)?;
        let (tertulia, home) = (tertulia.canonicalize()?, home.to_owned());
        let mut peers = Self { tertulia, home, processes: Vec::new(), senders: Vec::new() };
        let mut node = peers.command("node");
        let data = peers.home.join("data");
        node.args(["serve", "-q", "--engine", "memory", "--no-line", "--native-port", "0"]);
        node.args(["--http-port", "0", "--data"]).arg(data);
        let (node, line) = Process::start(node, "native")?;
        let address = line.split_whitespace().nth(1).context("no address")?.to_owned();
        peers.processes.push(node);
        for number in 0..=senders {
            let user = format!("user{number}");
            for action in ["register", "login"] {
                peers.tell(&user, &[action, &user, "--password-stdin", "--node", &address])?;
            }
            let folder = peers.home.join(&user).join("shared");
            std::fs::create_dir_all(&folder)?;
            if number < senders {
                share(&folder)?;
            }
            let mut peer = peers.command(&user);
            peer.args(["peer", "--json", "--port", "0", "--node", &address, "--folder"]);
            peer.arg(folder);
            let (peer, _) = Process::start(peer, "address")?;
            if number < senders {
                peers.senders.push(peer.0.id());
            }
            peers.processes.push(peer);
        }
        Ok(peers)
    }

    fn receiver(&self) -> String {
        format!("user{}", self.senders.len())
    }

    fn command(&self, user: &str) -> Command {
        let home = self.home.join(user);
        let mut command = Command::new(&self.tertulia);
        for (key, _) in std::env::vars_os() {
            let key = key.to_string_lossy().into_owned();
            if key.starts_with("XDG_") || key.starts_with("TERTULIA_") {
                command.env_remove(key);
            }
        }
        command.env("HOME", home).stdin(Stdio::null());
        command
    }

    fn tell(&self, user: &str, args: &[&str]) -> Result<()> {
        let mut child = self
            .command(user)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        child.stdin.take().context("no input")?.write_all(format!("{PASSWORD}\n").as_bytes())?;
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// What a search finds.
    fn search(&self, words: &str) -> Result<Vec<Value>> {
        let receiver = self.receiver();
        let output = self.command(&receiver).args(["files", "search", words, "--json"]).output()?;
        let lines = String::from_utf8_lossy(&output.stdout).into_owned();
        lines.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    /// The hash of a file, once all who share it are found.
    pub fn find(&self, name: &str) -> Result<String> {
        let begun = Instant::now();
        loop {
            for found in self.search(name)? {
                let holders = found["holders"].as_array().map_or(0, Vec::len);
                if found["name"] == name && holders == self.senders.len() {
                    return Ok(found["hash"].as_str().context("no hash")?.to_owned());
                }
            }
            ensure!(begun.elapsed() < FOUND_WAIT, "nobody finds {name}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The hash of a folder with all its files; `None` where this program knows of no folders.
    pub fn find_folder(&self, name: &str) -> Result<Option<String>> {
        let begun = Instant::now();
        while begun.elapsed() < FOUND_WAIT {
            let folder = format!("{name}/");
            if let Some(found) = self.search(name)?.iter().find(|found| found["name"] == *folder) {
                return Ok(Some(found["hash"].as_str().context("no hash")?.to_owned()));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(None)
    }

    /// Fetches by hash, as a user does.
    pub fn fetch(&mut self, hash: &str, to: &Path) -> Result<Run> {
        let receiver = self.receiver();
        let mut command = self.command(&receiver);
        command.args(["files", "get", hash, "--json", "-o"]).arg(to);
        timed(command, &self.senders)
    }
}
