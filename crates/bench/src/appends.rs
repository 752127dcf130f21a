//! Durable speed: commits of the embedded store, one at a time, beside bare files that are written on and synced: one with reserved
//! room, one full of zeros.

use std::fmt::Write as _;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use tertulia_journal::{Batch, Embedded, Journal as _, LogId, Options};

use crate::figures::{short, spread, thousands};
use crate::options::{Disk, Extent, Page, QUICK};
use crate::page;
use crate::place::Place;

/// What the command line says.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub disk: Disk,
    #[command(flatten)]
    pub extent: Extent,
    /// Seconds of each round.
    #[arg(long)]
    pub seconds: Option<f64>,
    #[command(flatten)]
    pub page: Page,
}

/// What stands above the table.
const ABOUT: &str = "## Durable speed\n\n\
    Commits one after the other, each waited for, in interleaved rounds on the same disk; medians (least to most), ratios round by round. \
    Beside the embedded store, which has its own thread, checksums and headers: a bare file with reserved room (`fallocate`), and one that \
    was filled with zeros before, both written on and synced (`fdatasync`) each time. The store reserves its segments, and fills them with \
    zeros in advance for commits below 32 KiB.\n";
/// Bytes of a commit.
const SIZES: [usize; 2] = [200, 64 << 10];
/// The file of zeros; where it is full, writing begins anew at its beginning.
const FILE_BYTES: u64 = 64 << 20;
/// The reserved file, which is a new one for each round; nothing is written twice into it.
const RESERVED_BYTES: u64 = 4 << 30;
/// Not counted, before each round: what the other one has left in the disk's cache.
const WARM_UP: usize = 5;

/// Measures, prints the table, and writes the page.
pub fn run(args: &Args) -> Result<()> {
    let (quick, place) = (args.extent.quick, Place::on_disk(&args.disk.folder)?);
    let rounds = args.extent.rounds(3, 9);
    let round = Duration::from_secs_f64(args.seconds.unwrap_or(if quick { 0.3 } else { 1.0 }));
    let (kind, seconds) = (&place.kind, short(round.as_secs_f64()));
    let origin = args
        .page
        .origin(&format!("on {kind}; rounds: {rounds} of {seconds} s; **1 commit in flight**"));
    let mut out = format!("{origin}\n\n");
    out += "| a commit | | a second | to the reserved file's | to the file of zeros' | p50, p99 µs | p99 to the reserved file's | p99 to the file of zeros' |\n";
    out += "|---|---|---|---|---|---|---|---|\n";
    for size in SIZES {
        let folder = tempfile::tempdir_in(&args.disk.folder)?;
        out += &rows(size, &measure(folder.path(), size, rounds, round)?);
    }
    println!("{out}");
    let Some(path) = args.page.path(quick.then_some(QUICK)) else { return Ok(()) };
    let (name, names) = ("commits", ["commits"]);
    page::write(path, "appends", ABOUT, &names, &[page::Table { name: name.into(), text: out }])
}

/// How long each commit took, sorted.
type Times = Vec<Duration>;

/// Of one round: the reserved file's, the file of zeros' and the store's.
type Round = [Times; 3];
/// Their names, in that order.
const NAMES: [&str; 3] = ["a bare file, reserved", "a bare file, zeros written", "the store"];

fn measure(folder: &Path, size: usize, rounds: usize, round: Duration) -> Result<Vec<Round>> {
    let mut zeros = Bare::zeros(folder, size)?;
    let mut store = Store::new(folder, size)?;
    let mut all = Vec::new();
    for nth in 0..rounds {
        eprintln!("{size} bytes: round {} of {rounds}", nth + 1);
        let mut reserved = Bare::reserved(folder, size)?;
        all.push([
            times(round, || reserved.commit())?,
            times(round, || zeros.commit())?,
            times(round, || store.commit())?,
        ]);
    }
    Ok(all)
}

fn times(length: Duration, mut commit: impl FnMut() -> Result<()>) -> Result<Times> {
    for _ in 0..WARM_UP {
        commit()?;
    }
    let (mut times, began) = (Vec::new(), Instant::now());
    while began.elapsed() < length {
        let at = Instant::now();
        commit()?;
        times.push(at.elapsed());
    }
    times.sort_unstable();
    Ok(times)
}

/// A file with room for what is written.
struct Bare {
    file: File,
    room: u64,
    at: u64,
    bytes: Vec<u8>,
}

impl Bare {
    /// One that was filled with zeros before.
    fn zeros(folder: &Path, size: usize) -> Result<Self> {
        let file = File::create_new(folder.join("zeros"))?;
        let zeros = vec![0; 1 << 20];
        for at in (0..FILE_BYTES).step_by(zeros.len()) {
            file.write_all_at(&zeros, at)?;
        }
        file.sync_all()?;
        Ok(Self { file, room: FILE_BYTES, at: 0, bytes: vec![b'x'; size] })
    }

    /// One whose room is reserved and was never written; it has no name, and is gone when it is closed.
    fn reserved(folder: &Path, size: usize) -> Result<Self> {
        let file = tempfile::tempfile_in(folder)?;
        let flags = rustix::fs::FallocateFlags::empty();
        rustix::fs::fallocate(&file, flags, 0, RESERVED_BYTES).context("reserving room")?;
        file.sync_all()?;
        Ok(Self { file, room: RESERVED_BYTES, at: 0, bytes: vec![b'x'; size] })
    }

    fn commit(&mut self) -> Result<()> {
        if self.at + self.bytes.len() as u64 > self.room {
            self.at = 0;
        }
        self.file.write_all_at(&self.bytes, self.at)?;
        self.at += self.bytes.len() as u64;
        Ok(self.file.sync_data()?)
    }
}

struct Store {
    store: Embedded,
    log: LogId,
    next: u64,
    bytes: Bytes,
}

impl Store {
    fn new(folder: &Path, size: usize) -> Result<Self> {
        let store = Embedded::open(folder, Options::default())?;
        Ok(Self { store, log: LogId([1; 16]), next: 1, bytes: vec![b'x'; size].into() })
    }

    fn commit(&mut self) -> Result<()> {
        let batch = Batch {
            log: self.log,
            epoch: 1,
            first: self.next,
            count: 1,
            time_us: 0,
            notes: Bytes::new(),
            entries: vec![self.bytes.clone()],
        };
        self.next += 1;
        let (answer, answered) = mpsc::channel();
        // Whoever asked is there until it is answered.
        self.store.append(batch, Box::new(move |result| drop(answer.send(result))));
        Ok(answered.recv().context("the store has gone")??)
    }
}

/// Microseconds at this hundredth of the sorted times.
fn at(times: &Times, per_cent: usize) -> f64 {
    let index = (times.len() * per_cent).div_ceil(100).saturating_sub(1);
    times.get(index).map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
}

fn rate(times: &Times) -> f64 {
    times.len() as f64 / times.iter().sum::<Duration>().as_secs_f64()
}

fn rows(size: usize, rounds: &[Round]) -> String {
    let figure =
        |nth: usize, of: &dyn Fn(&Times) -> f64| spread(rounds.iter().map(|all| of(&all[nth])));
    let ratio = |nth: usize, to: usize, of: &dyn Fn(&Times) -> f64| {
        spread(rounds.iter().map(|all| of(&all[nth]) / of(&all[to]))).to_string()
    };
    let (p50, p99) = (|times: &Times| at(times, 50), |times: &Times| at(times, 99));
    let mut out = String::new();
    for (nth, name) in NAMES.iter().enumerate() {
        let _ = writeln!(
            out,
            "| {} B | {name} | {} | {} | {} | {}, {} | {} | {} |",
            thousands(size as f64),
            thousands(figure(nth, &rate).median),
            ratio(nth, 0, &rate),
            ratio(nth, 1, &rate),
            short(figure(nth, &p50).median),
            short(figure(nth, &p99).median),
            ratio(nth, 0, &p99),
            ratio(nth, 1, &p99),
        );
    }
    out
}
