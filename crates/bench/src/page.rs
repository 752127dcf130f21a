//! The document that is written: a section for each part, and in it a table for each thing that was measured, between marks of their own.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

/// A table as it stands in the document.
pub struct Table {
    /// One of the part's names.
    pub name: String,
    /// The heading, what it is of, and the table.
    pub text: String,
}

/// Replaces what a part says of itself, and of its tables those that are given; the others stay. They stand in the order of `names`.
pub fn write(path: &Path, part: &str, about: &str, names: &[&str], tables: &[Table]) -> Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let text =
        replaced(&text, part, about, names, tables).with_context(|| path.display().to_string())?;
    std::fs::write(path, text).with_context(|| path.display().to_string())
}

/// Writes a chart into the folder beside the document that is called as it is; how it is shown in the document.
pub fn chart(path: &Path, name: &str, about: &str, svg: &str) -> Result<String> {
    let folder = path.with_extension("");
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let file = format!("{name}.svg");
    std::fs::write(folder.join(&file), svg).with_context(|| folder.display().to_string())?;
    let folder = folder.file_name().unwrap_or_default().to_string_lossy();
    Ok(format!("![{about}]({folder}/{file})"))
}

fn replaced(
    text: &str,
    part: &str,
    about: &str,
    names: &[&str],
    tables: &[Table],
) -> Result<String> {
    let (before, old, after) =
        between(text, part).with_context(|| format!("there is no <!-- {part} --> with its end"))?;
    let unknown = tables.iter().find(|table| !names.contains(&&*table.name));
    ensure!(unknown.is_none(), "{part} has no such table");
    let mut section = format!("{}\n", about.trim_end());
    for name in names {
        let mark = format!("{part}/{name}");
        let new = tables.iter().find(|table| table.name == *name).map(|table| &*table.text);
        let Some(table) = new.or_else(|| between(old, &mark).map(|(_, table, _)| table)) else {
            continue;
        };
        let table = table.trim();
        let _ = write!(section, "\n<!-- {mark} -->\n{table}\n<!-- /{mark} -->\n");
    }
    Ok(format!("{before}<!-- {part} -->\n{section}\n<!-- /{part} -->{after}"))
}

/// What stands before, between and after the marks of this name.
fn between<'a>(text: &'a str, name: &str) -> Option<(&'a str, &'a str, &'a str)> {
    let (before, rest) = text.split_once(&format!("<!-- {name} -->"))?;
    let (section, after) = rest.split_once(&format!("<!-- /{name} -->"))?;
    Some((before, section, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_that_were_not_measured_stay_as_they_are() {
        let page = "# Page\n\n<!-- p -->\nold about\n\n<!-- p/a -->\nold a\n<!-- /p/a -->\n\n\
                    <!-- p/c -->\nold c\n<!-- /p/c -->\n\n<!-- /p -->\n\nthe rest\n";
        let table = |name: &str| Table { name: name.to_owned(), text: format!("new {name}\n\n") };
        let written = replaced(page, "p", "about\n", &["a", "b", "c"], &[table("b"), table("c")])
            .expect("it has the part");
        let want = "# Page\n\n<!-- p -->\nabout\n\n<!-- p/a -->\nold a\n<!-- /p/a -->\n\n\
                    <!-- p/b -->\nnew b\n<!-- /p/b -->\n\n<!-- p/c -->\nnew c\n<!-- /p/c -->\n\n\
                    <!-- /p -->\n\nthe rest\n";
        assert_eq!(written, want);
        assert!(replaced(page, "q", "", &[], &[]).is_err());
        assert!(replaced(page, "p", "", &["a"], &[table("z")]).is_err());
    }
}
