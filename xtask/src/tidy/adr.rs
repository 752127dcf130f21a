//! Decisions are numbered without gaps and each says what it has to.

use super::{Finding, tree::Tree};

const FOLDER: &str = "docs/adr/";
const HEADINGS: &[&str] = &["Context", "Decision", "Figures", "What would change our mind"];

pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut next = 1;
    for (path, text) in tree.texts() {
        let Some(name) = path.strip_prefix(FOLDER).filter(|name| *name != "README.md") else {
            continue;
        };
        match number(name) {
            Some(number) => {
                if number != next {
                    let says = format!("has number {number} where {next} should follow");
                    found.push(Finding::fails(path, says));
                }
                next = number + 1;
                let missing = HEADINGS.iter().filter(|heading| !has_heading(text, heading));
                found.extend(
                    missing.map(|heading| {
                        Finding::fails(path, format!("has no heading \"{heading}\""))
                    }),
                );
            }
            None => found.push(Finding::fails(path, "is not named NNNN-what-it-decides.md")),
        }
    }
    found
}

fn number(name: &str) -> Option<u32> {
    let (number, rest) = name.split_once('-')?;
    let plain = number.len() == 4 && number.chars().all(|c| c.is_ascii_digit());
    (plain && rest.len() > ".md".len() && rest.ends_with(".md")).then(|| number.parse().ok())?
}

fn has_heading(text: &str, heading: &str) -> bool {
    text.lines().any(|line| line.starts_with('#') && line.trim_start_matches('#').trim() == heading)
}

#[cfg(test)]
mod tests {
    use crate::tidy::testing;

    const WHOLE: &str =
        "# A\n## Context\nx\n## Decision\nx\n## Figures\nx\n## What would change our mind\nx\n";

    #[test]
    fn numbers_have_no_gaps() {
        let files = [
            ("docs/adr/0001-a.md", WHOLE),
            ("docs/adr/0002-b.md", WHOLE),
            ("docs/adr/0004-d.md", WHOLE),
            ("docs/adr/0004-e.md", WHOLE),
            ("docs/adr/README.md", ""),
            ("docs/adr/notes.md", WHOLE),
        ];
        let want = [
            "docs/adr/0004-d.md: has number 4 where 3 should follow",
            "docs/adr/0004-e.md: has number 4 where 5 should follow",
            "docs/adr/notes.md: is not named NNNN-what-it-decides.md",
        ];
        testing::check("adr", &files, &want);
    }

    #[test]
    fn every_heading_is_there() {
        for heading in super::HEADINGS {
            let text = WHOLE.replace(&format!("## {heading}\n"), "");
            let want = format!("docs/adr/0001-a.md: has no heading \"{heading}\"");
            testing::check("adr", &[("docs/adr/0001-a.md", &text)], &[&want]);
        }
    }
}
