//! `cargo xtask torture`: real processes under real faults, for some minutes.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::cargo;

/// Builds the binary for release and runs the torture with `arguments`; it says itself how to repeat a run.
pub fn run(root: &Path, arguments: &[String]) -> Result<()> {
    cargo::build_release(root)?;
    let status = Command::new(cargo::target(root).join("release/tertulia-torture"))
        .args(arguments)
        .current_dir(root)
        .status()
        .context("it cannot be started")?;
    ensure!(status.success(), "a promise was broken, or the torture could not go on");
    Ok(())
}
