//! From 600 lines on one asks whether a file has one job; at 900 the answer is no.

use super::{Finding, tree::Tree};

const LINES_ASK: usize = 600;
const LINES_MAX: usize = 900;

/// What people write by hand; lock files and golden vectors may be as long as they like.
const WRITTEN: &[&str] = &[".rs", ".proto", ".js", ".css", ".html", ".sh", ".py"];

pub fn check(tree: &Tree) -> Vec<Finding> {
    tree.texts()
        .filter(|(path, _)| WRITTEN.iter().any(|end| path.ends_with(end)))
        .filter_map(|(path, text)| match text.lines().count() {
            lines if lines > LINES_MAX => {
                Some(Finding::fails(path, format!("{lines} lines, more than {LINES_MAX}")))
            }
            lines if lines > LINES_ASK => {
                Some(Finding::warns(path, format!("{lines} lines: does it have one job?")))
            }
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::tidy::testing;

    #[test]
    fn long_files_warn_and_very_long_ones_fail() {
        let cases: &[(&str, usize, &[&str])] = &[
            ("a.rs", 600, &[]),
            ("a.rs", 601, &["a.rs: 601 lines: does it have one job?"]),
            ("a.rs", 900, &["a.rs: 900 lines: does it have one job?"]),
            ("a.rs", 901, &["a.rs: 901 lines, more than 900"]),
            ("Cargo.lock", 901, &[]),
        ];
        for (path, lines, want) in cases {
            testing::check("length", &[(path, &"//! A.\n".repeat(*lines))], want);
        }
    }
}
