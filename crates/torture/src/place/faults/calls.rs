//! Faults at single system calls, by strace: a node killed at an exact one, and syncs that fail.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rand::{Rng, RngCore};
use rustix::process::{Pid, Signal, kill_process};

use crate::place::Place;
use crate::place::fault::Undo;
use crate::place::tools::program;

/// Where a node can be killed, and until which call of one thread.
const CRASH_POINTS: &[(&str, u32)] = &[
    // Before and after the store has what is then answered.
    ("pwritev,pwritev2,pwrite64", 300),
    ("fdatasync,fsync", 300),
    // Between storing and telling, and in the middle of telling many.
    ("writev,sendto,sendmsg,write", 1000),
    // Between a join or a message and its storing.
    ("readv,recvfrom,recvmsg,read", 1000),
    // New segments, markers, removals.
    ("openat,rename,renameat,renameat2,unlink,unlinkat,fallocate,ftruncate", 3),
];
/// How long a crash point may be waited for.
const POINT_COMES: Duration = Duration::from_secs(3);

/// An strace that is attached to the node. The node goes on, without it, when it is dropped.
#[derive(Debug)]
pub struct Tracer {
    strace: Child,
    /// Open for as long as the strace may write to it.
    _said: BufReader<ChildStderr>,
}

impl Tracer {
    /// Returns once it is attached to all threads, so that the next call counts.
    fn attach(node: Pid, calls: &str, inject: &str) -> Result<Self> {
        let mut command: Command = program("strace");
        // `none` would let it see nothing; what it sees it does not write.
        command.args(["-f", "-o", "/dev/null", "-e", &format!("trace={calls}")]);
        command.args(["-e", "signal=none", "-e", &format!("inject={calls}:{inject}")]);
        command.args(["-p", &node.to_string()]).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut strace = command.spawn().context("strace cannot be started")?;
        let said = strace.stderr.take().context("strace without output")?;
        let mut tracer = Self { strace, _said: BufReader::new(said) };
        // `strace: Process 7 attached with 9 threads`
        let mut line = String::new();
        tracer._said.read_line(&mut line)?;
        if !line.contains(" attached") {
            bail!("strace: {}", line.trim());
        }
        Ok(tracer)
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // On SIGTERM it detaches; SIGKILL would do as well, but could leave a thread stopped.
        let pid = Pid::from_raw(self.strace.id().cast_signed());
        if let (Some(pid), Ok(None)) = (pid, self.strace.try_wait()) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.strace.wait();
    }
}

pub fn kill_at_call(place: &mut Place, rng: &mut dyn RngCore) -> Result<(String, Undo)> {
    let (calls, most) = CRASH_POINTS[rng.random_range(0..CRASH_POINTS.len())];
    // Small numbers are as likely as large ones.
    let most = any_magnitude(rng, most);
    let number = rng.random_range(1..=most);
    let inject = format!("signal=KILL:when={number}");
    let tracer = Tracer::attach(place.node.process()?, calls, &inject)?;
    let ended = place.node.wait(POINT_COMES)?;
    let (name, _) = calls.split_once(',').unwrap_or((calls, ""));
    let mut told = format!("at a thread's call {number} of {name} or the like");
    if ended.is_none() {
        told = format!("killed without having come to call {number} of {name} or the like");
    }
    drop(tracer);
    place.ended = match ended {
        Some(ended) => Some(ended),
        None => place.node.kill()?,
    };
    Ok((told, Undo::Nothing))
}

pub fn failing_sync(place: &mut Place, rng: &mut dyn RngCore) -> Result<(String, Undo)> {
    const CALLS: &str = "fsync,fdatasync";
    let first = rng.random_range(1..=50);
    let (when, told) = if rng.random() {
        (format!("{first}+"), format!("from sync {first} on"))
    } else {
        let last = first + rng.random_range(0..=3);
        (format!("{first}..{last}"), format!("syncs {first} to {last}"))
    };
    let inject = format!("error=EIO:when={when}");
    let tracer = Tracer::attach(place.node.process()?, CALLS, &inject)?;
    Ok((told, Undo::Release(tracer)))
}

/// 10, 100 and so on up to `most`, all as likely.
fn any_magnitude(rng: &mut dyn RngCore, most: u32) -> u32 {
    10_u32.pow(rng.random_range(0..=most.ilog10())).saturating_mul(10).min(most)
}
