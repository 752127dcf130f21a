//! What is unfinished is an issue, not a marker in the source.

use super::{Finding, tree::Tree};

/// Put together from halves, since this file is checked too.
const MARKERS: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("to", "do!")];

pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for (path, text) in tree.texts() {
        for (line, number) in text.lines().zip(1..) {
            for marker in MARKERS.iter().filter(|marker| has_word(line, marker)) {
                // In Spanish the first of them is a word like any other.
                if !(path.ends_with(".es.md") && *marker == MARKERS[0]) {
                    let says = format!("unfinished: {marker}");
                    found.push(Finding::fails(format!("{path}:{number}"), says));
                }
            }
        }
    }
    found
}

fn has_word(line: &str, word: &str) -> bool {
    let is_name = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !is_name(before) && (word.ends_with('!') || !is_name(after))
    })
}

#[cfg(test)]
mod tests {
    use super::MARKERS;
    use crate::tidy::testing;

    #[test]
    fn markers_are_found_as_words() {
        for marker in MARKERS {
            let says = format!("a.rs:2: unfinished: {marker}");
            testing::check("markers", &[("a.rs", &format!("\n// {marker}: later"))], &[&says]);
            testing::check("markers", &[("a.rs", &format!("call_{marker}x"))], &[]);
        }
        let spanish = format!("LEA {} ANTES", MARKERS[0]);
        testing::check("markers", &[("README.es.md", &spanish)], &[]);
    }
}
