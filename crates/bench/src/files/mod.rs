//! Files from peers beside nginx with TLS and curl: one to one, three to one, and many small ones.

mod ours;
mod report;
mod theirs;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use self::ours::Peers;
use self::report::{Row, Table};
use self::theirs::Nginx;
use crate::cpu;

/// How it is measured.
#[derive(clap::Args)]
pub struct Options {
    /// The binary that is measured.
    #[arg(long, default_value = "target/release/tertulia")]
    pub tertulia: PathBuf,
    /// Fewer rounds, less content.
    #[arg(long)]
    pub quick: bool,
    /// Bytes of the large file, in MiB.
    #[arg(long)]
    pub mib: Option<usize>,
    /// Rounds that are counted.
    #[arg(long)]
    pub rounds: Option<usize>,
    /// Where files are read and written: the temporary folder, and this one (a file system in memory).
    #[arg(long, default_value = "/dev/shm")]
    pub memory: PathBuf,
    /// The document whose section is replaced.
    #[arg(long)]
    pub write: Option<PathBuf>,
}

impl Options {
    fn mib(&self) -> usize {
        self.mib.unwrap_or(if self.quick { 128 } else { 512 })
    }

    fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.quick { 2 } else { 5 })
    }

    fn small_files(&self) -> usize {
        if self.quick { 1_000 } else { 10_000 }
    }
}

/// What one run has taken.
pub struct Run {
    pub took: Duration,
    pub sender: Duration,
    pub receiver: Duration,
}

/// Measures, prints the tables, and writes the document's section.
pub fn run(options: &Options) -> Result<()> {
    let disk = std::env::temp_dir();
    let mut tables = Vec::new();
    for (folder, place) in [(&*options.memory, "in memory"), (&*disk, "on the disk")] {
        tables.push(large(options, folder, place)?);
    }
    tables.extend(small(options, &options.memory)?);
    let section = report::section(options, &tables);
    print!("{section}");
    match &options.write {
        Some(path) => crate::page::write(path, "files", &section),
        None => Ok(()),
    }
}

/// Bytes that nothing compresses, and that differ from place to place.
fn content(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut content = Vec::with_capacity(bytes + 8);
    while content.len() < bytes {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        content.extend(state.to_le_bytes());
    }
    content.truncate(bytes);
    content
}

/// Runs a command to its end, which has to be a good one: what it took, and what the processes that serve it took.
fn timed(mut command: Command, servers: &[u32]) -> Result<Run> {
    let served = || servers.iter().map(|pid| cpu::used(*pid)).sum::<std::io::Result<Duration>>();
    let (before, own_before, begun) = (served()?, cpu::of_ended()?, Instant::now());
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let took = begun.elapsed();
    let (sender, receiver) = (served()? - before, cpu::of_ended()? - own_before);
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {said}");
    Ok(Run { took, sender, receiver })
}

/// One large file: with nginx and curl, with and without what is needed to be as sure of it, from a peer, from three.
fn large(options: &Options, folder: &Path, place: &str) -> Result<Table> {
    let (home, name, bytes) = (tempfile::tempdir_in(folder)?, "large.bin", options.mib() << 20);
    let content = content(bytes, 7);
    let served = home.path().join("served");
    std::fs::create_dir(&served)?;
    std::fs::write(served.join(name), &content)?;
    let nginx = Nginx::start(home.path(), &served)?;
    let share = |folder: &Path| std::fs::write(folder.join(name), &content);
    let mut one = Peers::start(&options.tertulia, &home.path().join("one"), 1, share)?;
    let mut three = Peers::start(&options.tertulia, &home.path().join("three"), 3, share)?;
    let (one_hash, three_hash) = (one.find(name)?, three.find(name)?);
    let to = home.path().join("got");
    let mut rows = vec![
        Row::new("nginx and curl"),
        Row::new("nginx and curl, then `sha256sum` and `sync`"),
        Row::new("a peer, `files get`"),
        Row::new("three peers, `files get`"),
    ];
    for round in 0..=options.rounds() {
        for (at, row) in rows.iter_mut().enumerate() {
            let run = match at {
                0 => nginx.fetch(name, &to)?,
                1 => nginx.fetch_surely(name, &to)?,
                2 => one.fetch(&one_hash, &to)?,
                _ => three.fetch(&three_hash, &to)?,
            };
            ensure!(std::fs::read(&to)? == content, "{} has sent something else", row.name);
            std::fs::remove_file(&to)?;
            if round > 0 {
                row.runs.push(run);
            }
        }
    }
    let title = format!("One file of {} MiB, {place}", options.mib());
    Ok(Table { title, bytes, files: 1, rows })
}

/// Many small files, as a folder.
fn small(options: &Options, folder: &Path) -> Result<Option<Table>> {
    const BYTES: usize = 4 << 10;
    let (home, count) = (tempfile::tempdir_in(folder)?, options.small_files());
    let fill = |folder: &Path| -> std::io::Result<()> {
        std::fs::create_dir(folder.join("many"))?;
        (0..count).try_for_each(|number| {
            let name = format!("many/{number:05}.bin");
            std::fs::write(folder.join(name), content(BYTES, number as u64))
        })
    };
    let served = home.path().join("served");
    std::fs::create_dir(&served)?;
    fill(&served)?;
    let nginx = Nginx::start(home.path(), &served)?;
    let mut peers = Peers::start(&options.tertulia, &home.path().join("peers"), 1, fill)?;
    let Some(hash) = peers.find_folder("many")? else { return Ok(None) };
    let to = home.path().join("got");
    let names: Vec<String> = (0..count).map(|number| format!("many/{number:05}.bin")).collect();
    let mut rows = vec![
        Row::new("nginx and curl, one connection"),
        Row::new("nginx and curl `--parallel`"),
        Row::new("a peer, `files get` of the folder"),
    ];
    for round in 0..=options.rounds() {
        for (at, row) in rows.iter_mut().enumerate() {
            let run = match at {
                0 => nginx.fetch_many(&names, &to, false)?,
                1 => nginx.fetch_many(&names, &to, true)?,
                _ => peers.fetch(&hash, &to)?,
            };
            let found = std::fs::read_dir(&to)?.count();
            ensure!(found == count, "{} has left {found} files of {count}", row.name);
            std::fs::remove_dir_all(&to)?;
            if round > 0 {
                row.runs.push(run);
            }
        }
    }
    let title = format!("{count} files of {} KiB, in memory", BYTES >> 10);
    Ok(Some(Table { title, bytes: count * BYTES, files: count, rows }))
}
