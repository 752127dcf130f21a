//! Every source file opens with one `//!` sentence that says what it is for.

use super::{Finding, tree::Tree};

pub fn check(tree: &Tree) -> Vec<Finding> {
    tree.ending(".rs")
        .filter_map(|(path, text)| Some(Finding::fails(format!("{path}:1"), problem(text)?)))
        .collect()
}

fn problem(text: &str) -> Option<&'static str> {
    let opening: Vec<&str> = text
        .lines()
        .map_while(|line| line.strip_prefix("//!"))
        .map(str::trim)
        .take_while(|line| !line.is_empty())
        .collect();
    match opening.last() {
        None => Some("does not open with a `//!` sentence that says what the file is for"),
        Some(last) if !last.ends_with(['.', ':', '!', '?', ')']) => {
            Some("the opening `//!` is not a whole sentence: it has no full stop")
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::tidy::testing;

    #[test]
    fn a_file_says_what_it_is_for() {
        let none = "src/a.rs:1: does not open with a `//!` sentence that says what the file is for";
        let cut = "src/a.rs:1: the opening `//!` is not a whole sentence: it has no full stop";
        let cases: &[(&str, &[&str])] = &[
            ("//! What it is for.\n", &[]),
            ("//! What it is for,\n//! in two lines.\n//!\n//! And more\n", &[]),
            ("use std::io;\n//! Too late.\n", &[none]),
            ("", &[none]),
            ("//!\n//! Late.\n", &[none]),
            ("//! Ends nowhere\n\nuse std::io;\n", &[cut]),
        ];
        for (text, want) in cases {
            testing::check("headers", &[("src/a.rs", text)], want);
        }
    }
}
