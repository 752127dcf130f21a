//! A server that is measured: a process of its own, its addresses and its CPU clock.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::Args;
use crate::process::Process;

/// Ends with this.
pub struct Server {
    process: Process,
    doors: HashMap<String, SocketAddr>,
    _data: Option<tempfile::TempDir>,
}

impl Server {
    /// A node with its logs in memory.
    pub fn tertulia(args: &Args) -> Result<Self> {
        let (data, tertulia) = (tempfile::tempdir()?, &args.binary.tertulia);
        let mut command = Command::new(tertulia);
        command.args(["serve", "-q", "--engine", "memory", "--data"]).arg(data.path());
        for door in ["native", "line", "http"] {
            command.args([format!("--{door}-port"), "0".to_owned()]);
        }
        let why = || format!("{} does not start; build it first", tertulia.display());
        Self::start(command, 3, Some(data)).with_context(why)
    }

    /// The bare handler.
    pub fn bare() -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("bare");
        Self::start(command, 1, None)
    }

    /// It is ready when it has said where so many doors are, each in a line.
    fn start(mut command: Command, count: usize, data: Option<tempfile::TempDir>) -> Result<Self> {
        let mut doors = HashMap::new();
        let process = Process::heard(&mut command, |line| {
            if let Some((door, address)) = line.split_once(' ') {
                let address = address.trim().parse();
                doors.extend(address.ok().map(|address| (door.to_owned(), address)));
            }
            Ok(doors.len() == count)
        })?;
        Ok(Self { process, doors, _data: data })
    }

    /// Where a door is.
    pub fn door(&self, name: &str) -> Result<SocketAddr> {
        self.doors.get(name).copied().with_context(|| format!("no {name} door"))
    }

    /// CPU time of all its threads so far, those that have ended too.
    pub fn cpu(&self) -> Result<Duration> {
        self.process.cpu()
    }
}
