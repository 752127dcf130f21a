//! `cargo xtask tidy`: the project's habits, as far as a program can see whether they are kept.
//!
//! Each check is a function from a [`Tree`] to findings, in a file of its own with its test.

mod adr;
mod commands;
mod dead;
mod fingerprint;
mod headers;
mod length;
mod links;
mod markdown;
mod markers;
mod paths;
mod tree;

use std::path::Path;

use anyhow::{Result, bail};

use tree::Tree;

type Check = fn(&Tree) -> Vec<Finding>;

const CHECKS: &[(&str, Check)] = &[
    ("headers", headers::check),
    ("length", length::check),
    ("dead", dead::check),
    ("links", links::check),
    ("commands", commands::check),
    ("paths", paths::check),
    ("markers", markers::check),
    ("adr", adr::check),
    ("fingerprint", fingerprint::check),
];

/// Checks the tree at `root`; with `write`, first records that docs/protocol.md was looked at.
pub fn run(root: &Path, write: bool) -> Result<()> {
    if write {
        fingerprint::write(root)?;
    }
    let tree = Tree::load(root)?;
    let findings = check_all(&tree);
    for (check, finding) in &findings {
        println!("{}", finding.shown(check));
    }
    let fatal = findings.iter().filter(|(_, finding)| finding.weight == Weight::Fails).count();
    if fatal > 0 {
        bail!("tidy: {fatal} to put right");
    }
    println!("tidy: {} files, {} checks", tree.len(), CHECKS.len());
    Ok(())
}

fn check_all(tree: &Tree) -> Vec<(&'static str, Finding)> {
    CHECKS
        .iter()
        .flat_map(|(name, check)| check(tree).into_iter().map(move |finding| (*name, finding)))
        .collect()
}

/// What a finding does to the run.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Weight {
    /// The tree is not tidy.
    Fails,
    /// Worth a look.
    Warns,
    /// Part of the check had nothing to work on.
    Skipped,
}

/// Something that a check has to say about a place in the tree.
#[derive(Debug)]
struct Finding {
    weight: Weight,
    place: String,
    says: String,
}

impl Finding {
    fn fails(place: impl Into<String>, says: impl Into<String>) -> Self {
        Self { weight: Weight::Fails, place: place.into(), says: says.into() }
    }

    fn warns(place: impl Into<String>, says: impl Into<String>) -> Self {
        Self { weight: Weight::Warns, ..Self::fails(place, says) }
    }

    fn skipped(place: impl Into<String>, says: impl Into<String>) -> Self {
        Self { weight: Weight::Skipped, ..Self::fails(place, says) }
    }

    fn shown(&self, check: &str) -> String {
        let Self { weight, place, says } = self;
        match weight {
            Weight::Fails => format!("{place}: {says} [{check}]"),
            Weight::Warns => format!("{place}: warning: {says} [{check}]"),
            Weight::Skipped => format!("{place}: not checked: {says} [{check}]"),
        }
    }
}

/// For the checks' tests: made-up trees through all checks, so that a check that is taken out of
/// the list is missed by its test.
#[cfg(test)]
mod testing {
    use super::*;

    /// What `check` says of a tree of these files, warnings too, as `place: says`.
    pub fn check(check: &str, files: &[(&str, &str)], want: &[&str]) {
        let tree = Tree::of(files);
        let found: Vec<_> = check_all(&tree)
            .into_iter()
            .filter(|(name, finding)| *name == check && finding.weight != Weight::Skipped)
            .map(|(_, finding)| format!("{}: {}", finding.place, finding.says))
            .collect();
        assert_eq!(found, want, "{files:?}");
    }
}
