//! `cargo xtask sim`: many seeds of the simulator, built for release.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::cargo;

/// Runs the simulator with `arguments`; it says itself which seed broke a promise, and how to see it again.
pub fn run(root: &Path, arguments: &[String]) -> Result<()> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // Rules that are broken on purpose are not in an ordinary build.
    let planted = arguments.iter().any(|argument| argument.starts_with("--planted"));
    let mut command = Command::new(program);
    cargo::as_from_a_shell(&mut command);
    let status = command
        .args(["run", "--release", "--locked", "--quiet", "--package", "tertulia-sim"])
        .args(planted.then_some("--features=planted"))
        .arg("--")
        .args(arguments)
        .current_dir(root)
        .status()
        .context("cargo cannot be started")?;
    ensure!(status.success(), "a promise was broken");
    Ok(())
}
