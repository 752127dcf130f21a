//! Faults of the node's process: killed, stopped, a wrong clock, few files.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand::{Rng, RngCore};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};

use crate::place::Place;
use crate::place::fault::Undo;

/// How far a clock jumps at most.
const JUMP_S_MAX: i64 = 3 * 24 * 3600;
/// So soon a process has stopped that was told to.
const STOPS_WITHIN: Duration = Duration::from_secs(10);
/// How many files more a node may open at most.
const FILES_MORE_MAX: u64 = 8;

pub fn kill(place: &mut Place) -> Result<(String, Undo)> {
    let ended = place.node.kill()?;
    place.ended = ended;
    Ok(("killed".to_owned(), Undo::Nothing))
}

pub fn stop(place: &mut Place) -> Result<(String, Undo)> {
    let pid = place.node.process()?;
    kill_process(pid, Signal::STOP)?;
    // The thread that takes the signal stops the others when it next runs, which on a busy machine is later.
    let until = Instant::now() + STOPS_WITHIN;
    while !is_stopped(pid)? {
        ensure!(Instant::now() < until, "the process does not stop");
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(("stopped".to_owned(), Undo::Continue))
}

/// Every thread stands still.
fn is_stopped(pid: Pid) -> Result<bool> {
    let tasks = Path::new("/proc").join(pid.to_string()).join("task");
    for task in std::fs::read_dir(&tasks).with_context(|| tasks.display().to_string())? {
        // A thread may have ended since.
        let Ok(stat) = std::fs::read_to_string(task?.path().join("stat")) else { continue };
        // After the name, which may have anything in it: the state.
        if !stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')) {
            return Ok(false);
        }
    }
    Ok(true)
}

pub fn go_on(place: &mut Place) -> Result<()> {
    // It may have been killed meanwhile.
    if let Ok(pid) = place.node.process() {
        kill_process(pid, Signal::CONT)?;
    }
    Ok(())
}

pub fn clock_jump(place: &mut Place, rng: &mut dyn RngCore) -> Result<(String, Undo)> {
    ensure!(place.options.clock, "this place's clock cannot be set");
    // Seconds, minutes, hours and days are all as likely.
    let most = [60, 3600, 24 * 3600, JUMP_S_MAX][rng.random_range(0..4)];
    let ahead = rng.random_range(1..=most) * if rng.random() { 1 } else { -1 };
    place.node.set_clock(ahead)?;
    Ok((format!("the clock jumps by {ahead:+} s"), Undo::RightClock))
}

pub fn few_files(place: &mut Place, rng: &mut dyn RngCore) -> Result<(String, Undo)> {
    let pid = place.node.process()?;
    let files = Path::new("/proc").join(pid.to_string()).join("fd");
    let mut used = BTreeSet::new();
    for file in std::fs::read_dir(&files).with_context(|| files.display().to_string())? {
        used.extend(file?.file_name().to_string_lossy().parse::<u64>());
    }
    let more = rng.random_range(0..=FILES_MORE_MAX);
    // The limit is one of numbers, and free ones may be anywhere below the highest in use.
    let unused = (0..).filter(|number| !used.contains(number)).nth(more as usize);
    let unused = unused.context("all numbers of files are used")?;
    let hard = getrlimit(Resource::Nofile).maximum;
    let few = Rlimit { current: Some(unused), maximum: hard };
    let before = prlimit(Some(pid), Resource::Nofile, few)?;
    Ok((format!("{more} files more than the {} it has", used.len()), Undo::Files(before)))
}

pub fn many_files(place: &mut Place, before: Rlimit) -> Result<()> {
    if let Ok(pid) = place.node.process() {
        // A node that has ended and was not asked for yet has no limits any more.
        let _ = prlimit(Some(pid), Resource::Nofile, before);
    }
    Ok(())
}
