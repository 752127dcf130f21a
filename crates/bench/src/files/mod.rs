//! Files from peers beside nginx with TLS and curl: one to one, three to one, and many small ones.

mod ours;
mod report;
mod theirs;

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use self::ours::Peers;
use self::report::{Row, Table};
use self::theirs::Nginx;
use crate::cpu;
use crate::figures::thousands;
use crate::options::{Binary, Disk, Extent, Page, QUICK};
use crate::page;
use crate::place::Place;
use crate::process::Process;

/// What the command line says.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub binary: Binary,
    #[command(flatten)]
    pub disk: Disk,
    #[command(flatten)]
    pub extent: Extent,
    /// Where files lie that are to be in memory.
    #[arg(long, default_value = MEMORY)]
    pub memory: PathBuf,
    /// Only many small files, as a folder.
    #[arg(long)]
    pub small: bool,
    /// Only one large file.
    #[arg(long, conflicts_with = "small")]
    pub large: bool,
    #[command(flatten)]
    pub page: Page,
}

/// Where files usually can lie in memory.
pub const MEMORY: &str = "/dev/shm";
/// Bytes of the large file, and of each small one.
const LARGE_BYTES: usize = 512 << 20;
const LARGE_BYTES_QUICK: usize = 64 << 20;
const SMALL_BYTES: usize = 4 << 10;
/// So many small files.
const SMALL: usize = 10_000;
const SMALL_QUICK: usize = 1_000;
/// The tables, as the page knows them.
const TABLES: [&str; 4] = ["large-memory", "large-disk", "small-memory", "small-disk"];

/// What one fetch has taken.
pub struct Run {
    pub took: Duration,
    /// CPU time of those who have the file, and of who tells where it is.
    pub sender: Duration,
    /// CPU time of those who fetch it.
    pub receiver: Duration,
}

/// Measures, prints the tables, and writes them to the page as they come.
pub fn run(args: &Args) -> Result<()> {
    let memory = Place::of(&args.memory)?;
    ensure!(memory.is_memory, "{} is on a disk: name another one with --memory", memory.kind);
    let disk = Place::on_disk(&args.disk.folder)?;
    for name in TABLES {
        let (is_large, place) =
            (name.starts_with("large"), if name.ends_with("memory") { &memory } else { &disk });
        if if is_large { args.small } else { args.large } {
            continue;
        }
        eprintln!("{}, {}", if is_large { "one file" } else { "many files" }, place.about());
        let table = if is_large { large(args, place) } else { small(args, place) }?;
        let table = table.on_the_page(name, &args.page);
        println!("{}", table.text);
        // What was measured is there, whatever becomes of the rest.
        if let Some(path) = args.page.path(args.extent.quick.then_some(QUICK)) {
            page::write(path, "files", report::ABOUT, &TABLES, &[table])?;
        }
    }
    Ok(())
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

/// Runs a command that fetches something to its end, which has to be a good one: what it took, together with the processes that are
/// there all the time on either side.
fn timed(mut command: Command, senders: &[Process], receivers: &[Process]) -> Result<Run> {
    let sent = || senders.iter().map(Process::cpu).sum::<Result<Duration>>();
    let received = || receivers.iter().map(Process::cpu).sum::<Result<Duration>>();
    let (sent_before, received_before) = (sent()?, received()? + cpu::of_ended()?);
    let begun = Instant::now();
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let took = begun.elapsed();
    let (sender, receiver) =
        (sent()? - sent_before, received()? + cpu::of_ended()? - received_before);
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {said}");
    Ok(Run { took, sender, receiver })
}

/// One large file: with nginx and curl, with and without what is needed to be as sure of it, from a peer, from three.
fn large(args: &Args, place: &Place) -> Result<Table> {
    let bytes = if args.extent.quick { LARGE_BYTES_QUICK } else { LARGE_BYTES };
    let (home, name) = (tempfile::tempdir_in(&place.folder)?, "large.bin");
    let content = content(bytes, 7);
    let served = home.path().join("served");
    std::fs::create_dir(&served)?;
    std::fs::write(served.join(name), &content)?;
    let nginx = Nginx::start(home.path(), &served)?;
    let share = |folder: &std::path::Path| std::fs::write(folder.join(name), &content);
    let tertulia = &args.binary.tertulia;
    let one = Peers::start(tertulia, &home.path().join("one"), 1, share)?;
    let three = Peers::start(tertulia, &home.path().join("three"), 3, share)?;
    let (one_hash, three_hash) = (one.find(name)?, three.find(name)?);
    let to = home.path().join("got");
    let mut rows = [
        Row::new("nginx and curl"),
        Row::new("nginx and curl, then `sha256sum` and `sync`"),
        Row::new("a peer, `files get`"),
        Row::new("three peers, `files get`"),
    ];
    for round in 0..=args.extent.rounds(2, 5) {
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
    let title = format!("One file of {} MiB, {}", bytes >> 20, place.about());
    Ok(Table { title, bytes, files: 1, rows: rows.into() })
}

/// Many small files, as a folder.
fn small(args: &Args, place: &Place) -> Result<Table> {
    let count = if args.extent.quick { SMALL_QUICK } else { SMALL };
    let home = tempfile::tempdir_in(&place.folder)?;
    let base = |number: usize| format!("{number:05}.bin");
    let fill = |folder: &std::path::Path| -> std::io::Result<()> {
        std::fs::create_dir(folder.join("many"))?;
        (0..count).try_for_each(|number| {
            let path = folder.join("many").join(base(number));
            std::fs::write(path, content(SMALL_BYTES, number as u64))
        })
    };
    let served = home.path().join("served");
    std::fs::create_dir(&served)?;
    fill(&served)?;
    let nginx = Nginx::start(home.path(), &served)?;
    let peers = Peers::start(&args.binary.tertulia, &home.path().join("peers"), 1, fill)?;
    let (hash, to) = (peers.find("many/")?, home.path().join("got"));
    let names: Vec<String> = (0..count).map(|number| format!("many/{}", base(number))).collect();
    let mut rows = [
        Row::new("nginx and curl, one connection"),
        Row::new("nginx and curl `--parallel`"),
        Row::new("nginx and curl `--parallel`, then `sha256sum` and `sync`"),
        Row::new("a peer, `files get` of the folder"),
    ];
    for round in 0..=args.extent.rounds(2, 5) {
        for (at, row) in rows.iter_mut().enumerate() {
            let run = match at {
                0 => nginx.fetch_many(&names, &to, false)?,
                1 => nginx.fetch_many(&names, &to, true)?,
                2 => nginx.fetch_many_surely(&names, &to)?,
                _ => peers.fetch(&hash, &to)?,
            };
            let found = std::fs::read_dir(&to)?.count();
            ensure!(found == count, "{} has left {found} files of {count}", row.name);
            for number in 0..count {
                let is_right =
                    std::fs::read(to.join(base(number)))? == content(SMALL_BYTES, number as u64);
                ensure!(is_right, "{} has sent something else for {}", row.name, base(number));
            }
            std::fs::remove_dir_all(&to)?;
            if round > 0 {
                row.runs.push(run);
            }
        }
    }
    let (files, each) = (thousands(count as f64), SMALL_BYTES >> 10);
    let title = format!("{files} files of {each} KiB, {}", place.about());
    Ok(Table { title, bytes: count * SMALL_BYTES, files: count, rows: rows.into() })
}
