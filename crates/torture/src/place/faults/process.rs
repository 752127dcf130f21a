//! Faults of the node's process: killed, stopped, a wrong clock, few files.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rand::{Rng, RngCore};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};

use crate::place::Place;
use crate::place::fault::Undo;

/// How far a clock jumps at most.
const JUMP_S_MAX: i64 = 3 * 24 * 3600;
/// How many files more a node may open at most.
const FILES_MORE_MAX: u64 = 8;

pub fn kill(place: &mut Place) -> Result<(String, Undo)> {
    let ended = place.node.kill()?;
    place.ended = ended;
    Ok(("killed".to_owned(), Undo::Nothing))
}

pub fn stop(place: &mut Place) -> Result<(String, Undo)> {
    kill_process(place.node.process()?, Signal::STOP)?;
    Ok(("stopped".to_owned(), Undo::Continue))
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
