//! The node's process: how it is started, what it says, and how it ended.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::hosts::Host;
use super::log::Log;
use super::{Options, tools};

/// Ports of the node, which are the same in all its runs.
pub const NATIVE_PORT: u16 = 5001;
pub const LINE_PORT: u16 = 5000;
/// How long a start may take, with the mending of what a fault has left behind.
const STARTS: Duration = Duration::from_secs(60);
/// How long a node may take to end when it is asked to, or killed.
pub const ENDS: Duration = Duration::from_secs(20);
/// How long the last words may take to be read.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Last lines that are shown.
const LINES_SHOWN: usize = 30;

/// How a run of the node ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its exit code, where it ended by itself.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The last lines that it said.
    pub said: Vec<String>,
}

/// The node, running or not.
pub struct Node {
    host: Host,
    store: PathBuf,
    clock: PathBuf,
    pub log: Arc<Log>,
    run: Option<Run>,
    /// How many runs there were.
    runs: u64,
}

struct Run {
    child: Child,
    /// How many lines were there before it.
    log_before: u64,
}

impl Node {
    /// A node that does not run yet.
    pub fn new(host: Host, disk: &Path, scratch: &Path) -> Result<Self> {
        let clock = scratch.join("clock");
        let (log, store) = (Arc::default(), disk.join("store"));
        let node = Self { host, store, clock, log, run: None, runs: 0 };
        node.set_clock(0)?;
        Ok(node)
    }

    /// Starts it and waits until its doors are open.
    pub fn start(&mut self, options: &Options) -> Result<()> {
        ensure!(self.run.is_none(), "the node runs already");
        self.runs += 1;
        let endpoints = self.store.join("endpoints.json");
        // That of a node that was killed.
        let _ = std::fs::remove_file(&endpoints);
        let mut command = self.command(options)?;
        self.log.add(format!("--- run {} begins", self.runs));
        let log_before = self.log.count();
        let mut child = self.host.spawn(&mut command)?;
        self.log.read(child.stdout.take().context("a node without output")?);
        self.log.read(child.stderr.take().context("a node without output")?);
        self.run = Some(Run { child, log_before });
        // It says so once all doors are open and the file is written.
        let is_ready = self.log.wait_for("native ", log_before, STARTS) && endpoints.exists();
        if is_ready {
            return Ok(());
        }
        match self.ended()? {
            Some(ended) => bail!("the node did not start: {ended:?}"),
            None => bail!("the node is not ready after {STARTS:?}:\n{}", self.last_lines()),
        }
    }

    fn command(&self, options: &Options) -> Result<Command> {
        let mut command = Command::new(&options.binary);
        command.args(["serve", "--listen", "0.0.0.0", "--no-http", "--data"]).arg(&self.store);
        command.args(["--native-port", &NATIVE_PORT.to_string()]);
        command.args(["--line-port", &LINE_PORT.to_string()]);
        command.args(["--sync", &options.sync, "--keep", &options.keep]);
        command.args(["--node-id", "torture"]).env("RUST_BACKTRACE", "1");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if options.clock {
            let library = tools::faketime().context("libfaketime is not there any more")?;
            command.env("LD_PRELOAD", library);
            command.env("FAKETIME_TIMESTAMP_FILE", &self.clock);
            command.env("FAKETIME_NO_CACHE", "1");
            command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        Ok(command)
    }

    /// How many seconds the node's clock is ahead, from now on.
    pub fn set_clock(&self, ahead_s: i64) -> Result<()> {
        let new = self.clock.with_extension("new");
        std::fs::write(&new, format!("{ahead_s:+}\n"))?;
        Ok(std::fs::rename(&new, &self.clock)?)
    }

    /// Its process, unless it is known to have ended.
    pub fn pid(&self) -> Option<u32> {
        self.run.as_ref().map(|run| run.child.id())
    }

    /// Its process, for signals.
    pub fn process(&self) -> Result<Pid> {
        let pid = self.pid().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        pid.context("the node does not run")
    }

    /// How it ended, if it has and it has not been said yet; from then on it does not run.
    pub fn ended(&mut self) -> Result<Option<Ended>> {
        let Some(run) = &mut self.run else { return Ok(None) };
        Ok(run.child.try_wait()?.map(|status| self.note_end(status)))
    }

    /// Waits for its end.
    pub fn wait(&mut self, within: Duration) -> Result<Option<Ended>> {
        let until = Instant::now() + within;
        loop {
            if let Some(ended) = self.ended()? {
                return Ok(Some(ended));
            }
            if self.run.is_none() || Instant::now() >= until {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn note_end(&mut self, status: ExitStatus) -> Ended {
        self.log.wait_for_end(LAST_WORDS);
        let run = self.run.take();
        if let Some(run) = &run {
            tools::forget_clock(run.child.id());
        }
        let mut said = self.log.since(run.map_or(0, |run| run.log_before));
        said.drain(..said.len().saturating_sub(LINES_SHOWN));
        self.log.add(format!("--- run {} ended: {status}", self.runs));
        Ended { code: status.code(), signal: status.signal(), said }
    }

    /// SIGKILL, if it runs; it is gone afterwards.
    pub fn kill(&mut self) -> Result<Option<Ended>> {
        if let Some(run) = &mut self.run {
            run.child.kill()?;
        }
        let is_there = self.run.is_some();
        let ended = self.wait(ENDS)?;
        ensure!(ended.is_some() || !is_there, "the node is not even killed after {ENDS:?}");
        Ok(ended)
    }

    /// SIGTERM; `None` if it has not ended in time, and then still runs.
    pub fn terminate(&mut self) -> Result<Option<Ended>> {
        kill_process(self.process()?, Signal::TERM)?;
        self.wait(ENDS)
    }

    /// What it said last, for people.
    pub fn last_lines(&self) -> String {
        self.log.last(LINES_SHOWN).join("\n")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("{error:#}");
        }
        if std::thread::panicking() {
            eprintln!("--- the node said last:\n{}", self.last_lines());
        }
    }
}
