//! `cargo xtask fuzz`: the fuzz targets, each for some seconds, on the stable toolchain.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// What builds the targets. Pinned: another version may want another toolchain.
const VERSION: &str = "0.13.1";
/// How long each target runs where nobody says.
const SECONDS: u64 = 10;
/// Runs that are shorter only show that the targets run: they are built without optimisation, in half the time.
const LONG_SECONDS: u64 = 60;
/// An input that takes longer is a finding.
const INPUT_SECONDS_MAX: u64 = 20;
/// Where cargo-fuzz looks for the targets, from the root.
const FOLDER: &str = "fuzz";

/// Runs the fuzz targets: `--seconds N`, then names of targets; all of them where none is named.
pub fn run(root: &Path, arguments: &[String]) -> Result<()> {
    let wanted = Wanted::read(arguments)?;
    let program = CargoFuzz::find_or_install(root)?;
    let fuzz = CargoFuzz { program, is_short: wanted.seconds < LONG_SECONDS };
    let all = fuzz.targets(root)?;
    let targets = wanted.of(&all)?;
    let began = Instant::now();
    // One build for all: those that are not wanted cost only their linking.
    fuzz.cargo(root, &["build"])?;
    println!("fuzz: built in {:.1} s", began.elapsed().as_secs_f64());
    for target in targets {
        fuzz.run(root, target, wanted.seconds)?;
    }
    Ok(())
}

/// What the arguments say.
#[derive(Debug, PartialEq)]
struct Wanted {
    seconds: u64,
    targets: Vec<String>,
}

impl Wanted {
    fn read(arguments: &[String]) -> Result<Self> {
        let mut wanted = Self { seconds: SECONDS, targets: Vec::new() };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match argument.split_once('=').unwrap_or((argument, "")) {
                ("--seconds", "") => {
                    let value = arguments.next().context("--seconds: how many?")?;
                    wanted.seconds = seconds(value)?;
                }
                ("--seconds", value) => wanted.seconds = seconds(value)?,
                (name, _) if name.starts_with('-') => {
                    bail!("there is no {name}: say cargo xtask fuzz [--seconds N] [TARGET…]")
                }
                (name, _) => wanted.targets.push(name.to_owned()),
            }
        }
        Ok(wanted)
    }

    fn of<'a>(&'a self, all: &'a [String]) -> Result<&'a [String]> {
        if self.targets.is_empty() {
            return Ok(all);
        }
        for target in &self.targets {
            ensure!(
                all.contains(target),
                "there is no fuzz target {target}; there are {}",
                all.join(", ")
            );
        }
        Ok(&self.targets)
    }
}

fn seconds(text: &str) -> Result<u64> {
    text.parse().with_context(|| format!("--seconds {text}: write a number"))
}

/// cargo-fuzz of our version, wherever it is.
struct CargoFuzz {
    program: PathBuf,
    is_short: bool,
}

impl CargoFuzz {
    fn find_or_install(root: &Path) -> Result<PathBuf> {
        let own = root.join("target").join("tools");
        for program in [PathBuf::from("cargo-fuzz"), own.join("bin").join("cargo-fuzz")] {
            let asked = Command::new(&program).args(["fuzz", "--version"]).output();
            let is_ours = |output: &[u8]| String::from_utf8_lossy(output).trim().ends_with(VERSION);
            if asked.is_ok_and(|output| output.status.success() && is_ours(&output.stdout)) {
                return Ok(program);
            }
        }
        let shown = own.display();
        println!("fuzz: installing cargo-fuzz {VERSION} into {shown}, about half a minute");
        let status = cargo()
            .args(["install", "cargo-fuzz", "--locked", "--quiet", "--version", VERSION])
            .arg("--root")
            .arg(&own)
            .current_dir(root)
            .status()
            .context("cargo cannot be started")?;
        ensure!(status.success(), "cargo-fuzz could not be installed: {status}");
        Ok(own.join("bin").join("cargo-fuzz"))
    }

    fn targets(&self, root: &Path) -> Result<Vec<String>> {
        let output = Command::new(&self.program)
            .args(["fuzz", "list"])
            .current_dir(root.join(FOLDER))
            .output()
            .context("cargo-fuzz cannot be started")?;
        ensure!(output.status.success(), "cargo fuzz list: {}", output.status);
        let names = String::from_utf8_lossy(&output.stdout);
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// Stable Rust has no sanitizers: the targets find what panics, which here includes overflows and broken assertions.
    fn command(&self, root: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        let (what, rest) = arguments.split_first().unwrap_or((&"help", &[]));
        command.args(["fuzz", what, "--sanitizer", "none"]);
        if self.is_short {
            command.arg("--dev");
        }
        command.args(rest).current_dir(root.join(FOLDER));
        command
    }

    fn cargo(&self, root: &Path, arguments: &[&str]) -> Result<()> {
        let status =
            self.command(root, arguments).status().context("cargo-fuzz cannot be started")?;
        ensure!(status.success(), "the fuzz targets do not build: {status}");
        Ok(())
    }

    fn run(&self, root: &Path, target: &str, seconds: u64) -> Result<()> {
        let folder = root.join(FOLDER);
        // Where libFuzzer puts what is new; the seeds are only read.
        fs::create_dir_all(folder.join("corpus").join(target))?;
        let artifacts = folder.join("artifacts").join(target);
        fs::create_dir_all(&artifacts)?;
        let began = std::time::SystemTime::now();
        let (corpus, seeds) = (format!("corpus/{target}"), format!("seeds/{target}"));
        let total = format!("-max_total_time={seconds}");
        let input = format!("-timeout={INPUT_SECONDS_MAX}");
        let output = self
            .command(root, &["run", target, &corpus, &seeds, "--", &total, &input, "-verbosity=0"])
            .arg("-print_final_stats=1")
            .output()
            .context("cargo-fuzz cannot be started")?;
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.success() {
            let executed = stat(&said, "number_of_executed_units").unwrap_or_default();
            println!("fuzz: {target}: {executed} inputs in {seconds} s, nothing found");
            return Ok(());
        }
        print!("{said}");
        let margin = Duration::from_secs(2);
        match newest(&artifacts, began - margin) {
            Some(path) => bail!(
                "fuzz: {target} fell over {}\n   to repeat it: cd {FOLDER} && cargo fuzz run -s none {target} {}",
                path.display(),
                path.display()
            ),
            None => bail!("fuzz: {target} ended with {} and left no input", output.status),
        }
    }
}

fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// A figure of libFuzzer's final statistics.
fn stat<'a>(said: &'a str, name: &str) -> Option<&'a str> {
    let line = said.lines().find(|line| line.contains(&format!("stat::{name}:")))?;
    line.rsplit(' ').next()
}

/// The newest file of `folder` that is not older than `since`.
fn newest(folder: &Path, since: std::time::SystemTime) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?.filter_map(Result::ok);
    let written = |path: &PathBuf| path.metadata().and_then(|data| data.modified()).ok();
    let files = entries.map(|entry| entry.path()).filter(|path| written(path) >= Some(since));
    files.max_by_key(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(words: &[&str]) -> Result<Wanted> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        Wanted::read(&words)
    }

    #[test]
    fn seconds_and_targets_stand_in_any_order() {
        let two = Wanted { seconds: 5, targets: vec!["line".into(), "store".into()] };
        assert_eq!(wanted(&["--seconds", "5", "line", "store"]).unwrap(), two);
        assert_eq!(wanted(&["line", "--seconds=5", "store"]).unwrap(), two);
        assert_eq!(wanted(&[]).unwrap(), Wanted { seconds: SECONDS, targets: Vec::new() });
        for wrong in [&["--second", "5"][..], &["--seconds"], &["--seconds", "soon"]] {
            assert!(wanted(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_target_that_is_not_there_is_named() {
        let all = ["line".to_owned(), "store".to_owned()];
        let error = wanted(&["lines"]).unwrap().of(&all).unwrap_err().to_string();
        assert_eq!(error, "there is no fuzz target lines; there are line, store");
        assert_eq!(wanted(&[]).unwrap().of(&all).unwrap(), all);
    }

    #[test]
    fn a_figure_is_read_from_what_libfuzzer_says() {
        let said =
            "Done\nstat::number_of_executed_units: 1859139\nstat::slowest_unit_time_sec:    0\n";
        assert_eq!(stat(said, "number_of_executed_units"), Some("1859139"));
        assert_eq!(stat(said, "new_units_added"), None);
    }
}
