//! The demo as a step: the product, started as the README says, has to show both of its answers.

use std::path::Path;

use anyhow::{Result, bail};

use crate::cargo::Line;

/// The command, as the README has it.
pub const COMMAND: Line = Line::new("cargo run --release --locked -- demo --once");

/// What a run has to show: a receipt by all five, and one that a member is missing from.
const SHOWN: &[&str] = &["5/5", "4/5"];

/// Why there is nothing to demonstrate yet, if that is so.
pub fn reason_to_skip(root: &Path) -> Option<&'static str> {
    let manifest = std::fs::read_to_string(root.join("crates/tertulia/Cargo.toml"));
    let named = manifest.is_ok_and(|text| text.lines().any(|line| line == "name = \"tertulia\""));
    (!named).then_some("the workspace has no package tertulia yet")
}

/// Runs the demo and checks what it printed.
pub fn run(root: &Path) -> Result<()> {
    let mut seen = Seen::default();
    COMMAND.run_reading(root, |line| seen.read(line))?;
    match seen.missing().as_slice() {
        [] => Ok(()),
        missing => bail!("it ended well but never printed {}", missing.join(" and ")),
    }
}

#[derive(Default)]
struct Seen(Vec<&'static str>);

impl Seen {
    fn read(&mut self, line: &str) {
        self.0.extend(SHOWN.iter().filter(|shown| has_count(line, shown)));
    }

    fn missing(&self) -> Vec<&'static str> {
        SHOWN.iter().copied().filter(|shown| !self.0.contains(shown)).collect()
    }
}

/// Whether `line` has `count` as a count of its own: `15/5` and `5/50` are others.
fn has_count(line: &str, count: &str) -> bool {
    line.match_indices(count).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + count.len()..].chars().next();
        ![before, after].into_iter().flatten().any(|c| c.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lines: &[&str], missing: &[&str]) {
        let mut seen = Seen::default();
        lines.iter().for_each(|line| seen.read(line));
        assert_eq!(seen.missing(), missing, "{lines:?}");
    }

    #[test]
    fn both_answers_have_to_be_shown() {
        check(&["#1 confirmed by 5/5", "#2 confirmed by 4/5 (eva is away)"], &[]);
        check(&["#1 confirmed by 5/5"], &["4/5"]);
        check(&["confirmed 15/5, 5/50"], &["5/5", "4/5"]);
    }
}
