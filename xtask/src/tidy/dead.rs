//! A source file that nothing declares is not compiled, so nobody notices when it rots.
//!
//! Reads `mod` lines as rustfmt leaves them, instead of parsing Rust: one declaration a line,
//! and the indentation says how deep it is.

use std::collections::BTreeSet;

use super::Finding;
use super::tree::{self, Tree, parent};

pub fn check(tree: &Tree) -> Vec<Finding> {
    let reached = reached(tree);
    tree.ending(".rs")
        .filter(|(path, _)| !reached.contains(*path))
        .map(|(path, _)| {
            Finding::fails(path, "dead: no `mod` leads here from a lib.rs, a main.rs or a test")
        })
        .collect()
}

fn reached(tree: &Tree) -> BTreeSet<String> {
    let roots = roots(tree);
    let mut reached = BTreeSet::new();
    let mut next: Vec<String> = roots.iter().cloned().collect();
    while let Some(path) = next.pop() {
        if let Some(text) = tree.text(&path)
            && reached.insert(path.clone())
        {
            next.extend(led_to(&path, text, roots.contains(&path)));
        }
    }
    reached
}

/// The files from which Cargo starts a compilation.
fn roots(tree: &Tree) -> BTreeSet<String> {
    let mut roots = BTreeSet::new();
    for (manifest, text) in tree.ending("Cargo.toml").filter(|(_, t)| t.contains("[package]")) {
        let package = parent(manifest);
        let own_tests = !text.contains("autotests = false");
        for path in tree.paths().filter(|path| path.ends_with(".rs")) {
            let inside = if package.is_empty() { Some(path) } else { strip(path, package) };
            if inside.is_some_and(|inside| is_root(inside, own_tests)) {
                roots.insert(path.to_owned());
            }
        }
        let named = text.lines().filter_map(|line| line.strip_prefix("path = \""));
        let named = named.filter_map(|rest| rest.strip_suffix("\""));
        roots.extend(named.filter(|p| p.ends_with(".rs")).filter_map(|p| tree::join(package, p)));
    }
    roots
}

fn strip<'a>(path: &'a str, folder: &str) -> Option<&'a str> {
    path.strip_prefix(folder)?.strip_prefix('/')
}

fn is_root(inside: &str, own_tests: bool) -> bool {
    let names: Vec<&str> = inside.split('/').collect();
    match names.as_slice() {
        ["build.rs"] | ["src", "lib.rs" | "main.rs"] => true,
        ["tests", _] | ["tests", _, "main.rs"] => own_tests,
        ["src", "bin", rest @ ..] | ["examples" | "benches", rest @ ..] => {
            rest.len() == 1 || matches!(rest, [_, "main.rs"])
        }
        _ => false,
    }
}

/// All files that a source file may lead to, whether they exist or not.
fn led_to(path: &str, text: &str, is_root: bool) -> Vec<String> {
    let folder = parent(path);
    let own = match path.rsplit('/').next() {
        Some("mod.rs") => folder.to_owned(),
        _ if is_root => folder.to_owned(),
        _ => path.trim_end_matches(".rs").to_owned(),
    };
    let mut found = Vec::new();
    let mut inline: Vec<(usize, &str)> = Vec::new();
    let mut given = None;
    for line in text.lines() {
        let code = line.trim_start();
        let depth = line.len() - code.len();
        if code == "}" && inline.last().is_some_and(|(opened, _)| *opened == depth) {
            inline.pop();
        }
        found.extend(between(code, "include!(\"", "\"").and_then(|p| tree::join(folder, p)));
        if let Some(path) = between(code, "#[path = \"", "\"]") {
            given = tree::join(folder, path);
        } else if let Some(name) = module(code, ";") {
            let names: Vec<&str> = inline.iter().map(|(_, name)| *name).chain([name]).collect();
            let at = tree::join(&own, &names.join("/")).unwrap_or_default();
            match given.take() {
                Some(path) => found.push(path),
                None => found.extend([format!("{at}.rs"), format!("{at}/mod.rs")]),
            }
        } else if let Some(name) = module(code, " {") {
            inline.push((depth, name));
        }
    }
    found
}

/// The name in `mod name` followed by `end`, whatever its visibility.
fn module<'a>(code: &'a str, end: &str) -> Option<&'a str> {
    let code = code.strip_suffix(end)?;
    let (visibility, name) = code.split_once("mod ")?;
    let seen =
        visibility.is_empty() || (visibility.starts_with("pub") && visibility.ends_with(' '));
    let named = name.chars().all(|c| c.is_alphanumeric() || c == '_');
    (seen && named).then_some(name)
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let rest = text.split_once(start)?.1;
    Some(rest.split_once(end)?.0)
}

#[cfg(test)]
mod tests {
    use crate::tidy::testing;

    fn check(files: &[(&str, &str)], dead: &[&str]) {
        let want: Vec<_> = dead
            .iter()
            .map(|path| {
                format!("{path}: dead: no `mod` leads here from a lib.rs, a main.rs or a test")
            })
            .collect();
        let want: Vec<_> = want.iter().map(String::as_str).collect();
        testing::check("dead", files, &want);
    }

    #[test]
    fn a_file_without_a_mod_is_dead() {
        check(
            &[
                ("Cargo.toml", "[workspace]\n"),
                ("c/Cargo.toml", "[package]\n"),
                ("c/src/lib.rs", "mod a;\npub(crate) mod b;\n// mod dead;\n"),
                ("c/src/a.rs", "pub mod deep;\n"),
                ("c/src/a/deep.rs", ""),
                ("c/src/b/mod.rs", "#[cfg(test)]\nmod tests;\n"),
                ("c/src/b/tests.rs", ""),
                ("c/src/dead.rs", "mod deader;\n"),
                ("c/src/dead/deader.rs", ""),
                ("c/src/deep.rs", ""),
            ],
            &["c/src/dead.rs", "c/src/dead/deader.rs", "c/src/deep.rs"],
        );
    }

    #[test]
    fn tests_examples_and_binaries_are_where_cargo_starts() {
        check(
            &[
                ("c/Cargo.toml", "[package]\n"),
                ("c/build.rs", ""),
                ("c/src/main.rs", ""),
                ("c/src/bin/tool/main.rs", ""),
                ("c/src/bin/tool/dead.rs", ""),
                ("c/examples/e.rs", ""),
                ("c/tests/all/main.rs", "mod one;\n"),
                ("c/tests/all/one.rs", ""),
                ("c/tests/all/two.rs", ""),
            ],
            &["c/src/bin/tool/dead.rs", "c/tests/all/two.rs"],
        );
    }

    #[test]
    fn a_manifest_can_name_its_own_roots() {
        let manifest = "[package]\nautotests = false\n[[test]]\npath = \"tests/it.rs\"\n";
        let files = [("c/Cargo.toml", manifest), ("c/tests/it.rs", ""), ("c/tests/old.rs", "")];
        check(&files, &["c/tests/old.rs"]);
    }

    #[test]
    fn given_paths_inline_modules_and_includes_are_followed() {
        let lib = "#[path = \"odd/name.rs\"]\nmod named;\nmod outer {\n    mod inner;\n}\nmod after;\n\
                   include!(\"table.rs\");\n";
        check(
            &[
                ("c/Cargo.toml", "[package]\n"),
                ("c/src/after.rs", ""),
                ("c/src/lib.rs", lib),
                ("c/src/named.rs", ""),
                ("c/src/odd/name.rs", ""),
                ("c/src/outer/inner.rs", ""),
                ("c/src/table.rs", ""),
            ],
            &["c/src/named.rs"],
        );
    }
}
