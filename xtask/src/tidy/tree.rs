//! The files of the project as a value, so that a check can be tried on a tree that is made up.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

/// All files that are committed or about to be, by path from the root with `/` between names.
pub struct Tree {
    /// The text is missing where the file is not UTF-8.
    files: BTreeMap<String, Option<String>>,
    folders: BTreeSet<String>,
}

impl Tree {
    /// Reads what Git knows and does not ignore; without Git, all but build output.
    pub fn load(root: &Path) -> Result<Self> {
        let paths = match from_git(root) {
            Some(paths) => paths,
            None => from_folders(root)?,
        };
        let mut files = BTreeMap::new();
        for path in paths {
            let full = root.join(&path);
            // A deleted file stays in Git's list until the deletion is staged.
            if full.symlink_metadata().is_ok_and(|data| data.is_file()) {
                let bytes = std::fs::read(&full).with_context(|| format!("cannot read {path}"))?;
                files.insert(path, String::from_utf8(bytes).ok());
            }
        }
        Ok(Self::new(files))
    }

    /// A tree that is made up.
    #[cfg(test)]
    pub fn of(files: &[(&str, &str)]) -> Self {
        let owned = files.iter().map(|(path, text)| ((*path).into(), Some((*text).into())));
        Self::new(owned.collect())
    }

    /// How many files there are.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// The paths of all files.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// All files that are text, with their paths.
    pub fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().filter_map(|(path, text)| Some((path.as_str(), text.as_deref()?)))
    }

    /// The text files whose name ends with this, such as `.rs`.
    pub fn ending(&self, end: &str) -> impl Iterator<Item = (&str, &str)> {
        self.texts().filter(move |(path, _)| path.ends_with(end))
    }

    /// One file's text.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path)?.as_deref()
    }

    /// Whether this is a file, or a folder with files in it.
    pub fn has(&self, path: &str) -> bool {
        self.files.contains_key(path) || self.folders.contains(path)
    }

    fn new(files: BTreeMap<String, Option<String>>) -> Self {
        // The root's own path is empty.
        let mut folders = BTreeSet::from([String::new()]);
        for path in files.keys() {
            folders.extend(path.match_indices('/').map(|(at, _)| path[..at].to_owned()));
        }
        Self { files, folders }
    }
}

/// The folder of a file; empty for the root.
pub fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// What `relative` means when it is said in `folder`; nothing if that is outside the tree.
pub fn join(folder: &str, relative: &str) -> Option<String> {
    let mut names: Vec<&str> = folder.split('/').filter(|name| !name.is_empty()).collect();
    for name in relative.split('/') {
        match name {
            "" | "." => {}
            ".." => {
                names.pop()?;
            }
            name => names.push(name),
        }
    }
    Some(names.join("/"))
}

fn from_git(root: &Path) -> Option<Vec<String>> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let list = String::from_utf8(output.stdout).ok()?;
    let paths: Vec<_> = list.split_terminator('\0').map(str::to_owned).collect();
    // An unpacked release inside of another project's checkout is nothing that Git knows.
    paths.iter().any(|path| path == "Cargo.toml").then_some(paths)
}

fn from_folders(root: &Path) -> Result<Vec<String>> {
    let mut paths = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root.join(&folder))? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            if !entry.file_type()?.is_dir() {
                paths.push(path);
            } else if !matches!(path.as_str(), "target" | ".git") {
                folders.push(path);
            }
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_paths_are_resolved_within_the_tree() {
        let cases = [
            ("docs", "../README.md", Some("README.md")),
            ("docs/adr", "./0001-x.md", Some("docs/adr/0001-x.md")),
            ("", "docs/", Some("docs")),
            ("docs", "../../elsewhere", None),
        ];
        for (folder, relative, want) in cases {
            assert_eq!(join(folder, relative).as_deref(), want, "{relative} in {folder}");
        }
    }

    #[test]
    fn folders_are_there_when_they_hold_files() {
        let tree = Tree::of(&[("docs/adr/0001-x.md", "")]);
        assert!(tree.has("docs/adr") && tree.has("docs") && tree.has(""));
        assert!(!tree.has("docs/ad"));
    }

    #[test]
    fn without_git_the_folders_are_walked() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let paths = from_folders(here).unwrap();
        assert!(paths.contains(&"src/tidy/tree.rs".to_owned()), "{paths:?}");
    }
}
