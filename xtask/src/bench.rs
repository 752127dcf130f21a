//! `cargo xtask bench`: builds what is measured and what measures as users build it, and writes docs/benchmarks.md.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::cargo::Line;

const BUILD: Line = Line::new("cargo build --release --locked -p tertulia -p tertulia-bench");

/// Measures what the arguments name.
pub fn run(root: &Path, arguments: &[String]) -> Result<()> {
    BUILD.run(root)?;
    let status = Command::new(root.join("target/release/tertulia-bench"))
        .args(arguments)
        .args(["--write", "docs/benchmarks.md"])
        .current_dir(root)
        .status()
        .context("cannot run the measuring program")?;
    ensure!(status.success(), "nothing was written");
    Ok(())
}
