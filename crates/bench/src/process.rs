//! A process that ends with its owner, and what it has used so far.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::cpu;

/// See the module.
pub struct Process(Child);

impl Process {
    /// Starts it as it stands, without anything to read.
    pub fn start(command: &mut Command) -> Result<Self> {
        let child = command.stdin(Stdio::null()).spawn();
        Ok(Self(child.with_context(|| format!("{command:?} cannot be started"))?))
    }

    /// Starts it, and hands `hear` the lines of its output until one is what was waited for; what comes after that is read and dropped.
    pub fn heard(
        command: &mut Command,
        mut hear: impl FnMut(&str) -> Result<bool>,
    ) -> Result<Self> {
        let mut process = Self::start(command.stdout(Stdio::piped()))?;
        let stdout = process.0.stdout.take().context("its output is piped")?;
        let mut lines = BufReader::new(stdout).lines();
        loop {
            let Some(Ok(line)) = lines.next() else {
                bail!("{command:?} ended before it was ready")
            };
            if hear(&line)? {
                break;
            }
        }
        std::thread::spawn(move || lines.for_each(drop));
        Ok(process)
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Whether it has gone by itself.
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.0.try_wait()?.is_some())
    }

    /// Ends it as a crash would, and waits until it is gone.
    pub fn kill(&mut self) -> Result<()> {
        // By its id: `Child` knows whether it is still ours.
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }

    /// CPU time that it has used so far.
    pub fn cpu(&self) -> Result<Duration> {
        Ok(cpu::used(self.pid())?)
    }

    /// Resident memory in bytes.
    pub fn memory(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kb = line.context("VmRSS")?.trim().trim_end_matches(" kB");
        Ok(kb.parse::<u64>()? << 10)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have gone by itself: that is what is wanted.
        let _ = self.kill();
    }
}
