//! Sections of a document that this program writes, each between marks of its own.

use std::path::Path;

use anyhow::{Context as _, Result};

/// Replaces what stands between `<!-- NAME -->` and `<!-- /NAME -->` in the document.
pub fn write(path: &Path, name: &str, section: &str) -> Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let missing = || format!("{} has no {} … {end}", path.display(), begin.trim());
    let (before, rest) = text.split_once(&begin).with_context(missing)?;
    let (_, after) = rest.split_once(&end).with_context(missing)?;
    std::fs::write(path, format!("{before}{begin}{section}{end}{after}"))?;
    Ok(())
}
