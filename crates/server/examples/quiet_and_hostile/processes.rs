//! The node and the hostile clients as processes of their own, and what the system says of them.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use tertulia_server::Node;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;

use crate::measure::support;

/// Runs a node until standard input ends; says where it is.
pub async fn serve(data: &str, fsync: bool) {
    let mut config = support::config(data.as_ref());
    config.fsync = fsync;
    let (notices, mut lost) = mpsc::channel(64);
    tokio::spawn(async move { while lost.recv().await.is_some() {} });
    let node = Node::start(config, notices).await.expect("the node starts");
    let doors = node.endpoints();
    println!("{} {}", doors.native.expect("native"), doors.line.expect("line"));
    let _ = tokio::io::stdin().read_to_end(&mut Vec::new()).await;
    node.stop().await;
}

/// Says that this process was started again to come before the others.
const COMES_FIRST: &str = "QUIET_AND_HOSTILE_COMES_FIRST";

/// Whether the measuring can be run before everybody else, and is not yet.
pub fn may_come_first() -> bool {
    let tried = || Command::new("chrt").args(["--rr", "1", "true"]).output();
    std::env::var_os(COMES_FIRST).is_none() && tried().is_ok_and(|output| output.status.success())
}

/// Runs this program again, before everybody else.
pub fn come_first(args: &[String]) {
    let mut command = Command::new("chrt");
    command.args(["--rr", "1"]).arg(std::env::current_exe().expect("this program")).args(args);
    let status = command.env(COMES_FIRST, "").status().expect("chrt was there");
    assert!(status.success(), "the measuring failed");
}

/// One that has no more claim on a CPU than others.
fn ordinary() -> Command {
    let mut command = Command::new("chrt");
    command.args(["--other", "0"]);
    command
}

/// A node in a process of its own.
pub struct Served {
    child: Child,
    _stdin: Option<ChildStdin>,
    _data: tempfile::TempDir,
    pub native: SocketAddr,
    pub line: SocketAddr,
}

impl Served {
    pub async fn start(fsync: bool) -> Self {
        let data = tempfile::tempdir().expect("a folder");
        let mut command = ordinary();
        command
            .arg(std::env::current_exe().expect("this program"))
            .arg("serve")
            .arg(data.path())
            .arg(if fsync { "fsync" } else { "os" });
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("it says where it is");
        let (native, line) = line.trim().split_once(' ').expect("two addresses");
        let (native, line) =
            (native.parse().expect("an address"), line.parse().expect("an address"));
        let stdin = child.stdin.take();
        Self { child, _stdin: stdin, _data: data, native, line }
    }

    /// `VmRSS`, `VmHWM`, in bytes.
    pub fn memory(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("procfs");
        let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("a field");
        let kb = line.trim_start_matches(':').trim().trim_end_matches(" kB");
        kb.parse::<u64>().expect("a number") << 10
    }

    /// From now on the most is what it has now.
    pub fn forget_peak(&self) {
        let _ = std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5");
    }

    /// Time on CPUs so far.
    pub fn cpu_ms(&self) -> u64 {
        cpu_ms(self.child.id())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn cpu_ms(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields: Vec<u64> =
        after_name.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
    // utime and stime, in hundredths of a second.
    fields.get(11..13).map_or(0, |times| times.iter().sum::<u64>() * 10)
}

/// Hostile clients in a process of their own.
pub struct Attack {
    child: Child,
}

impl Attack {
    /// So long they go on before the measuring begins.
    pub const LEAD: Duration = Duration::from_millis(500);

    pub fn start(kind: &str, served: &Served, length: Duration) -> Self {
        let own = std::env::current_exe().expect("this program");
        let mut command = ordinary();
        command.args(["taskset", "-c", "1", "nice", "-n", "10"]).arg(own).args(["attack", kind]);
        command.arg(served.native.to_string()).arg(served.line.to_string());
        command.arg(length.as_secs_f64().to_string());
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        Self { child: child.expect("taskset and nice are there") }
    }

    /// How often they did what they do, and their time on the CPU.
    pub async fn end(mut self) -> (u64, u64) {
        let mut line = String::new();
        let stdout = self.child.stdout.take().expect("piped");
        let line = tokio::task::spawn_blocking(move || {
            let _ = BufReader::new(stdout).read_line(&mut line);
            line
        });
        let count = line.await.expect("no panic").trim().parse().unwrap_or(0);
        let cpu_ms = cpu_ms(self.child.id());
        let _ = self.child.kill();
        let _ = self.child.wait();
        (count, cpu_ms)
    }
}
