//! Peers and a node between them, each a process of its own, as users start them.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{Run, timed};
use crate::process::Process;

const PASSWORD: &str = "correct horse";
/// Who fetches.
const RECEIVER: &str = "receiver";
/// How long it may take until a file is found.
const FOUND_WAIT: Duration = Duration::from_secs(60);

/// See the module.
pub struct Peers {
    tertulia: PathBuf,
    home: PathBuf,
    /// The holders' peers, and after them the node.
    senders: Vec<Process>,
    /// The peer of who fetches.
    own: Option<Process>,
}

/// Starts it, and waits for a line of output.
fn started(mut command: Command, part: &str) -> Result<(Process, String)> {
    let mut found = String::new();
    let process = Process::heard(command.stderr(Stdio::null()), |line| {
        found = line.to_owned();
        Ok(line.contains(part))
    })?;
    Ok((process, found))
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
        let mut peers = Self { tertulia, home, senders: Vec::new(), own: None };
        let mut node = peers.command("node");
        let data = peers.home.join("data");
        node.args(["serve", "-q", "--engine", "memory", "--no-line", "--native-port", "0"]);
        node.args(["--http-port", "0", "--data"]).arg(data);
        let (node, line) = started(node, "native")?;
        let address = line.split_whitespace().nth(1).context("no address")?;
        for number in 0..senders {
            let peer = peers.peer(&format!("user{number}"), address, &share)?;
            peers.senders.push(peer);
        }
        peers.senders.push(node);
        peers.own = Some(peers.peer(RECEIVER, address, |_| Ok(()))?);
        Ok(peers)
    }

    /// An account, and its peer with a folder that `share` fills.
    fn peer(
        &self,
        user: &str,
        node: &str,
        share: impl Fn(&Path) -> std::io::Result<()>,
    ) -> Result<Process> {
        for action in ["register", "login"] {
            self.tell(user, &[action, user, "--password-stdin", "--node", node])?;
        }
        let folder = self.home.join(user).join("shared");
        std::fs::create_dir_all(&folder)?;
        share(&folder)?;
        let mut peer = self.command(user);
        peer.args(["peer", "--json", "--port", "0", "--node", node, "--folder"]).arg(folder);
        Ok(started(peer, "address")?.0)
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
        let output = self.command(RECEIVER).args(["files", "search", words, "--json"]).output()?;
        let lines = String::from_utf8_lossy(&output.stdout).into_owned();
        lines.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    /// The hash of a file, or of a folder whose name ends in a slash, once all who share it are found.
    pub fn find(&self, name: &str) -> Result<String> {
        let (begun, holders) = (Instant::now(), self.senders.len() - 1);
        loop {
            for found in self.search(name.trim_end_matches('/'))? {
                if found["name"] == name
                    && found["holders"].as_array().map_or(0, Vec::len) == holders
                {
                    return Ok(found["hash"].as_str().context("no hash")?.to_owned());
                }
            }
            ensure!(begun.elapsed() < FOUND_WAIT, "nobody finds {name}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Fetches by hash, as a user does.
    pub fn fetch(&self, hash: &str, to: &Path) -> Result<Run> {
        let mut command = self.command(RECEIVER);
        command.args(["files", "get", hash, "--json", "-o"]).arg(to);
        timed(command, &self.senders, self.own.as_slice())
    }
}
