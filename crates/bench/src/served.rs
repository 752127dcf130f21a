//! A server process with a folder of its own; ended, and its folder removed, when it is dropped.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::process::Process;

/// How long a server may take to come up, and a connection to be answered.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// One try to connect to who may not listen yet. The kernel would repeat what was lost among the ends of many connections after a second.
const ATTEMPT: Duration = Duration::from_millis(20);

/// See the module.
pub struct Served {
    process: Process,
    command: Command,
    folder: tempfile::TempDir,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Served {
    /// Starts what `command` makes of a folder of its own in `within` and a free port, and waits until it listens there.
    pub fn on_a_port(within: &Path, command: impl FnOnce(&Path, u16) -> Command) -> Result<Self> {
        let folder = tempfile::tempdir_in(within)?;
        let free = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = command(folder.path(), free.port());
        let log = std::fs::File::create(folder.path().join("log"))?;
        command.stdout(log.try_clone()?).stderr(log);
        let process = Process::start(&mut command)?;
        let mut served = Self { process, command, folder, address: free };
        served.until_it_listens()?;
        Ok(served)
    }

    /// Ends it as a crash would, and waits until it is gone.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Starts it again in the same folder.
    pub fn start(&mut self) -> Result<()> {
        self.process = Process::start(&mut self.command)?;
        self.until_it_listens()
    }

    fn until_it_listens(&mut self) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect_timeout(&self.address, ATTEMPT).is_err() {
            if self.process.has_ended()? || Instant::now() > until {
                let log = std::fs::read_to_string(self.folder.path().join("log"));
                bail!("{:?} does not listen: {}", self.command, log.unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Starts a server that says its address in the first line of its standard output.
    pub fn says_where(within: &Path, mut command: Command) -> Result<Self> {
        let (folder, mut address) = (tempfile::tempdir_in(within)?, None);
        let process = Process::heard(&mut command, |line| {
            address = Some(line.trim().parse()?);
            Ok(true)
        })?;
        Ok(Self { process, command, folder, address: address.context("it has said so")? })
    }

    /// Its process.
    pub const fn process(&self) -> &Process {
        &self.process
    }

    /// A connection to it, without delay of small writes, that does not wait for ever.
    pub fn connect(&self) -> Result<TcpStream> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    }
}

/// Says something and reads exactly what has to come back, which is looked at.
pub fn say_and_hear(stream: &mut TcpStream, say: &[u8], hear: &[u8]) -> Result<()> {
    stream.write_all(say)?;
    let mut heard = vec![0; hear.len()];
    stream.read_exact(&mut heard)?;
    let shown = || String::from_utf8_lossy(&heard).into_owned();
    ensure!(heard == hear, "{:?} was answered {:?}", String::from_utf8_lossy(say), shown());
    Ok(())
}

/// Reads up to the end of a line.
pub fn line(stream: &mut TcpStream) -> Result<String> {
    let (mut line, mut byte) = (Vec::new(), [0]);
    while line.last() != Some(&b'\n') {
        stream.read_exact(&mut byte)?;
        line.push(byte[0]);
    }
    Ok(String::from_utf8(line)?)
}
