//! No file speaks of a place that only its author's machine has.

use super::{Finding, tree::Tree};

/// First folders of paths that differ from machine to machine.
const PRIVATE: &[&str] = &["home", "root", "Users", "work"];
/// Gone after a restart, and the same on every machine: for tests only.
const TEMPORARY: &str = "tmp";

pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for (path, text) in tree.texts() {
        let mut in_tests = path.split('/').any(|name| name == "tests" || name == "tests.rs");
        for (line, number) in text.lines().zip(1..) {
            in_tests |= line.trim() == "#[cfg(test)]";
            let temporary = (!in_tests).then_some(&TEMPORARY);
            for folder in PRIVATE.iter().chain(temporary).filter(|name| names(line, name)) {
                let says = format!("an absolute path of somebody's machine: /{folder}/");
                found.push(Finding::fails(format!("{path}:{number}"), says));
            }
        }
    }
    found
}

/// Whether the line has an absolute path in this folder: `docs/home/` and addresses are none.
fn names(line: &str, folder: &str) -> bool {
    let pattern = format!("/{folder}/");
    line.match_indices(&pattern).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|c| c.is_whitespace() || "\"'`(<[=:,".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use crate::tidy::testing;

    #[test]
    fn absolute_paths_are_found() {
        for (folder, found) in [("home", true), ("work", true), ("root", true), ("usr", false)] {
            let text = format!("\n    path = \"/{folder}/me/x\"");
            let says = format!("a.toml:2: an absolute path of somebody's machine: /{folder}/");
            let want = if found { vec![says.as_str()] } else { Vec::new() };
            testing::check("paths", &[("a.toml", &text)], &want);
        }
        let elsewhere = format!("https://example.org/{}/ docs/{0}/ ~/{0}/", "work");
        testing::check("paths", &[("a.md", &elsewhere)], &[]);
    }

    #[test]
    fn temporary_folders_are_for_tests() {
        let line = format!("let x = \"/{}/x\";\n", "tmp");
        let says = "src/a.rs:1: an absolute path of somebody's machine: /tmp";
        testing::check("paths", &[("src/a.rs", &line)], &[&format!("{says}/")]);
        let in_tests = format!("mod tests {{\n#[cfg(test)]\n{line}");
        testing::check("paths", &[("src/a.rs", &in_tests), ("tests/a.rs", &line)], &[]);
    }
}
