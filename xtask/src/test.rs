//! `cargo xtask test`: the steps in their order, each with its time, up to the first that fails.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, anyhow};

use crate::cargo::Line;
use crate::totals::Totals;
use crate::{api, counts, demo, fuzz, machine, sim, tidy, torture};

const FMT: Line = Line::new("cargo fmt --all --check");
const CLIPPY: Line = Line::new("cargo clippy --workspace --all-targets --locked -- -D warnings");
const TESTS: Line = Line::new("cargo test --workspace --locked --no-fail-fast");
const DOCS: Line = Line {
    env: &[("RUSTDOCFLAGS", "-D warnings")],
    line: "cargo doc --workspace --no-deps --locked",
};
/// Without the advisories: they need the network, and an old commit would turn red overnight.
const DENY: Line = Line::new("cargo deny check bans licenses sources");
const DENY_THERE: Line = Line::new("cargo deny --version");

/// Runs all steps. Its last line on standard output is `N passed, N failed`.
pub fn run(root: &Path) -> Result<()> {
    let started = Instant::now();
    let mut totals = Totals::default();
    let outcome = steps(root, &mut totals);
    match &outcome {
        Ok(()) => println!("== all steps passed in {:.1} s", started.elapsed().as_secs_f64()),
        Err(error) => println!("== {error:#}"),
    }
    // Without a single result a line of zeros would look like a run in which nothing failed.
    if totals.any() {
        println!("{totals}");
    }
    outcome.map_err(|_| anyhow!("cargo xtask test: failed"))
}

/// A thousand worlds of five simulated minutes each.
const SIM: [&str; 2] = ["--seeds", "1000"];
/// Each fault a few times; the long run is made by hand.
const TORTURE: [&str; 1] = ["--short"];
/// Enough to see what has changed; long runs are made by hand.
const API: [&str; 2] = ["--examples", "50"];
/// Long enough to see that the targets run; the long runs are made by hand.
const FUZZ: [&str; 2] = ["--seconds", "5"];

/// Cheap steps first. Up to `deny` all build with the dev profile, so they share one set of artifacts.
fn steps(root: &Path, totals: &mut Totals) -> Result<()> {
    step("machine", machine::REPEAT, || machine::prepare(machine::is_ci()))?;
    step("fmt", &FMT.shown(), || FMT.run(root))?;
    step("tidy", "cargo xtask tidy", || tidy::run(root, false))?;
    step("clippy", &CLIPPY.shown(), || CLIPPY.run(root))?;
    step("tests", &TESTS.shown(), || tests(root, totals))?;
    step("docs", &DOCS.shown(), || DOCS.run(root))?;
    if DENY_THERE.answers(root) {
        step("deny", &DENY.shown(), || DENY.run(root))?;
    } else {
        skip("deny", "cargo-deny is not installed; licences and sources were not checked");
    }
    match demo::reason_to_skip(root) {
        None => step("demo", &demo::COMMAND.shown(), || demo::run(root))?,
        Some(reason) => skip("demo", reason),
    }
    own("api", &API, |arguments| api::run(root, arguments))?;
    own("sim", &SIM, |arguments| sim::run(root, arguments))?;
    match machine::is_there("valgrind") {
        true => own("counts", &[], |arguments| counts::run(root, arguments))?,
        false => skip("counts", "valgrind is not installed; instructions were not counted"),
    }
    own("torture", &TORTURE, |arguments| torture::run(root, arguments))?;
    own("fuzz", &FUZZ, |arguments| fuzz::run(root, arguments))
}

/// A step that is a task of its own, with these arguments.
fn own(task: &str, arguments: &[&str], work: impl FnOnce(&[String]) -> Result<()>) -> Result<()> {
    let owned: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    step(task, format!("cargo xtask {task} {}", arguments.join(" ")).trim_end(), || work(&owned))
}

/// Announces a step, runs it and says how long it took; an error says how to repeat the step.
fn step(name: &str, repeat: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    println!("== {name}: {repeat}");
    let started = Instant::now();
    let outcome = work();
    let took = started.elapsed().as_secs_f64();
    match outcome {
        Ok(()) => {
            println!("== {name}: ok, {took:.1} s");
            Ok(())
        }
        Err(error) => {
            Err(anyhow!("{name}: FAILED after {took:.1} s: {error:#}\n   to repeat it: {repeat}"))
        }
    }
}

fn skip(name: &str, reason: &str) {
    println!("== {name}: skipped: {reason}");
}

fn tests(root: &Path, totals: &mut Totals) -> Result<()> {
    let outcome = TESTS.run_reading(root, |line| totals.read(line));
    if totals.ignored() > 0 {
        println!("{} tests are marked as ignored and did not run", totals.ignored());
    }
    for name in totals.failed_names() {
        println!("failed: {name}");
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_says_how_to_repeat_it() {
        let error = step("fmt", "cargo fmt", || Err(anyhow!("exit status: 1"))).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("fmt: FAILED after "), "{text}");
        assert!(text.ends_with(": exit status: 1\n   to repeat it: cargo fmt"), "{text}");
        assert!(step("fmt", "cargo fmt", || Ok(())).is_ok());
    }
}
