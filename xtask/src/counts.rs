//! `cargo xtask counts`: instructions for each part of a message's way, under callgrind, held against the bounds in one file.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result, bail, ensure};

use crate::{cargo, machine};

/// What was counted when somebody last said that it shall be so.
const BOUNDS: &str = "crates/counts/bounds.txt";
/// A figure may grow by so many hundredths.
const MORE_MAX: u64 = 10;
/// What runs the works without counting the way there.
const TOOLS: &[(&str, &str)] = &[("valgrind", "valgrind")];
/// The parts that are counted: functions of `tertulia-counts`, each with one message in flight and with many.
const PARTS: &[&str] = &[
    "core::publish",
    "core::take",
    "core::stored",
    "core::ack",
    "core::settle",
    "wire::split",
    "wire::acks",
    "wire::answer",
    "outbox::write",
];
const HOW_MANY: [&str; 2] = ["one", "many"];
/// What the bounds' file says of itself.
const HEAD: &str = "# Instructions of each part, as `cargo xtask counts` counts them: 50 batches of one message, or of 64, to 100 members.\n\
                    # More by a tenth fails. Who means it says `cargo xtask counts --write`, and why in the commit.\n";

type Counts = BTreeMap<String, u64>;

/// Counts everything and compares; with `--write` what was counted is the bound from now on.
pub fn run(root: &Path, arguments: &[String]) -> Result<()> {
    let write = match arguments {
        [] => false,
        [one] if one == "--write" => true,
        other => bail!("there is no {}: say cargo xtask counts [--write]", other.join(" ")),
    };
    machine::require(TOOLS)?;
    cargo::build_release(root)?;
    let counted = count_all(&cargo::target(root).join("release/tertulia-counts"))?;
    let path = root.join(BOUNDS);
    if write {
        std::fs::write(&path, shown(&counted))?;
        println!("counts: written to {BOUNDS}");
        return Ok(());
    }
    let bounds = std::fs::read_to_string(&path).with_context(|| BOUNDS.to_owned())?;
    let findings = compare(&read(&bounds)?, &counted);
    for finding in &findings.less {
        println!("counts: {finding}");
    }
    for finding in &findings.more {
        println!("counts: {finding}");
    }
    ensure!(
        findings.more.is_empty(),
        "more instructions than before by over {MORE_MAX} %; where that is meant, say `cargo xtask counts --write` and commit \
         {BOUNDS} with the reason"
    );
    println!("counts: {} figures, none above its bound", counted.len());
    Ok(())
}

/// Two at a time: each run is one thread.
fn count_all(program: &Path) -> Result<Counts> {
    let works = PARTS.iter().flat_map(|part| HOW_MANY.map(|many| (*part, many)));
    let works: Mutex<Vec<_>> = Mutex::new(works.collect());
    let next = || works.lock().map(|mut works| works.pop()).ok().flatten();
    let counted = Mutex::new(Vec::new());
    let each = || {
        while let Some((part, many)) = next() {
            let one = count(program, part, many);
            if let Ok(mut counted) = counted.lock() {
                counted.push(one.map(|count| (format!("{part} {many}"), count)));
            }
        }
    };
    thread::scope(|scope| {
        scope.spawn(each);
        scope.spawn(each);
    });
    let counted = counted.into_inner().unwrap_or_default();
    counted.into_iter().collect()
}

/// Instructions within one part.
fn count(program: &Path, part: &str, many: &str) -> Result<u64> {
    let (work, _) = part.split_once("::").context("a part is a function of a module")?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(format!("--toggle-collect=tertulia_counts::{part}"))
        .arg(program)
        .arg(format!("{work}-{many}"))
        .output()
        .context("valgrind cannot be started")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{part} {many}: {}\n{said}", output.status);
    let count = collected(&said).with_context(|| format!("{part} {many}: {said}"))?;
    // A name that callgrind does not find counts nothing.
    ensure!(count > 0, "{part} is no function of tertulia-counts any more, or was inlined");
    Ok(count)
}

/// The figure in `==123== Collected : 4567`.
fn collected(said: &str) -> Option<u64> {
    let (_, count) = said.lines().find(|line| line.contains("Collected"))?.split_once(": ")?;
    count.trim().parse().ok()
}

fn shown(counts: &Counts) -> String {
    let lines = counts.iter().map(|(name, count)| format!("{name} {count}\n"));
    HEAD.to_owned() + &lines.collect::<String>()
}

fn read(bounds: &str) -> Result<Counts> {
    let lines = bounds.lines().filter(|line| !line.starts_with('#'));
    let each = |line: &str| {
        let (name, count) = line.rsplit_once(' ')?;
        Some((name.to_owned(), count.parse().ok()?))
    };
    lines.map(|line| each(line).with_context(|| format!("{BOUNDS}: {line:?}"))).collect()
}

#[derive(Debug, Default, PartialEq)]
struct Findings {
    /// What fails.
    more: Vec<String>,
    /// What is worth writing down.
    less: Vec<String>,
}

fn compare(bounds: &Counts, counted: &Counts) -> Findings {
    let mut findings = Findings::default();
    for (name, count) in counted {
        let Some(bound) = bounds.get(name) else {
            findings.more.push(format!("{name}: {count}, and no bound"));
            continue;
        };
        let percent = (*count as f64 / *bound as f64 - 1.0) * 100.0;
        let finding = format!("{name}: {count} instructions, {percent:+.1} % beside {bound}");
        if count * 100 > bound * (100 + MORE_MAX) {
            findings.more.push(finding);
        } else if count * (100 + MORE_MAX) < bound * 100 {
            findings.less.push(finding + "; `--write` keeps that");
        }
    }
    let gone = bounds.keys().filter(|name| !counted.contains_key(*name));
    findings.more.extend(gone.map(|name| format!("{name}: a bound for what is not counted")));
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(all: &[(&str, u64)]) -> Counts {
        all.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    #[test]
    fn a_tenth_more_passes_and_anything_above_it_fails() {
        let bounds = counts(&[("a one", 1000), ("b one", 1000), ("c one", 1000)]);
        let found = compare(&bounds, &counts(&[("a one", 1100), ("b one", 1101), ("c one", 900)]));
        assert_eq!(found.more, ["b one: 1101 instructions, +10.1 % beside 1000"]);
        assert_eq!(
            found.less,
            ["c one: 900 instructions, -10.0 % beside 1000; `--write` keeps that"]
        );
    }

    #[test]
    fn every_figure_has_a_bound_and_every_bound_a_figure() {
        let found = compare(&counts(&[("old", 1)]), &counts(&[("new", 1)]));
        assert_eq!(found.more, ["new: 1, and no bound", "old: a bound for what is not counted"]);
    }

    #[test]
    fn what_is_written_is_read_back_and_what_callgrind_says_is_found() {
        let all = counts(&[("core::ack many", 12), ("wire::split one", 7)]);
        assert_eq!(read(&shown(&all)).unwrap(), all);
        assert!(read("core::ack many twelve").is_err());
        let said = "==1== Events    : Ir\n==1== Collected : 5045\n==1== \n";
        assert_eq!(collected(said), Some(5045));
    }
}
