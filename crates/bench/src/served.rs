//! A server process with a folder of its own; ended, and its folder removed, when it is dropped.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

/// How long a server may take to come up, and a connection to be answered.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// See the module.
pub struct Served {
    child: Child,
    command: Command,
    folder: tempfile::TempDir,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Served {
    /// Starts what `command` makes of a folder and a free port, and waits until it listens there.
    pub fn on_a_port(command: impl FnOnce(&std::path::Path, u16) -> Command) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let free = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = command(folder.path(), free.port());
        let log = std::fs::File::create(folder.path().join("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("{command:?} cannot be started"))?;
        let mut served = Self { child, command, folder, address: free };
        served.until_it_listens()?;
        Ok(served)
    }

    /// Ends it as a crash would, and waits until it is gone.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts it again in the same folder.
    pub fn start(&mut self) -> Result<()> {
        self.child = self.command.spawn()?;
        self.until_it_listens()
    }

    fn until_it_listens(&mut self) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(self.address).is_err() {
            let ended = self.child.try_wait()?;
            if ended.is_some() || Instant::now() > until {
                let log = std::fs::read_to_string(self.folder.path().join("log"));
                bail!("{:?} does not listen: {}", self.command, log.unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Starts a server that says its address in the first line of its standard output.
    pub fn says_where(mut command: Command) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let mut line = String::new();
        let stdout = child.stdout.take().context("piped")?;
        BufReader::new(stdout).read_line(&mut line)?;
        Ok(Self { child, command, folder, address: line.trim().parse()? })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory in bytes.
    pub fn memory(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kb = line.context("VmRSS")?.trim().trim_end_matches(" kB");
        Ok(kb.parse::<u64>()? << 10)
    }

    /// A connection to it, without delay of small writes, that does not wait for ever.
    pub fn connect(&self) -> Result<TcpStream> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
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
