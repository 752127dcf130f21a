//! `cargo xtask torture`: real processes under real faults, for some minutes.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Builds the binary for release and runs the torture with `arguments`; it says itself how to repeat a run.
pub fn run(root: &Path, arguments: &[String]) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let packages = ["--package", "tertulia", "--package", "tertulia-torture"];
    let built = Command::new(&cargo)
        .args(["build", "--release", "--locked", "--quiet"])
        .args(packages)
        .current_dir(root)
        .status()
        .context("cargo cannot be started")?;
    ensure!(built.success(), "it does not build");
    // As it was built: `cargo run` of one of the two packages alone builds anew what they share with other features.
    let status = Command::new(root.join("target/release/tertulia-torture"))
        .args(arguments)
        .current_dir(root)
        .status()
        .context("cargo cannot be started")?;
    ensure!(status.success(), "a promise was broken, or the torture could not go on");
    Ok(())
}
