//! Finding files by their names.

use std::path::{Path, PathBuf};

use anyhow::Result;

/// Those whose names begin and end so, in the order of their names.
///
/// # Errors
/// What the system says.
pub fn files_of(folder: &Path, prefix: &str, suffix: &str) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(prefix) && name.ends_with(suffix) {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}
