//! What a document links to within the tree is there.

use super::tree::{self, Tree, parent};
use super::{Finding, markdown};

pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for (path, text) in tree.ending(".md") {
        for (number, line) in markdown::prose(text) {
            for target in targets(&without_code(line)) {
                if !leads_somewhere(tree, path, &target) {
                    let place = format!("{path}:{number}");
                    found.push(Finding::fails(place, format!("leads nowhere: {target}")));
                }
            }
        }
    }
    found
}

fn leads_somewhere(tree: &Tree, from: &str, target: &str) -> bool {
    let elsewhere = target.contains("://") || target.starts_with("mailto:");
    let file = target.split(['#', '?']).next().unwrap_or_default();
    if elsewhere || file.is_empty() {
        return true;
    }
    let folder = if file.starts_with('/') { "" } else { parent(from) };
    tree::join(folder, file).is_some_and(|path| tree.has(&path))
}

/// The line without its inline code, in which brackets are no links.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("` `")
}

/// Inline links and images, reference definitions, and the attributes of HTML.
fn targets(line: &str) -> Vec<String> {
    let ends = [("](", ')'), ("src=\"", '"'), ("href=\"", '"')];
    let mut found: Vec<String> = ends
        .iter()
        .flat_map(|(start, end)| {
            line.match_indices(start).map(|(at, _)| {
                let rest = &line[at + start.len()..];
                rest.split([*end, ' ']).next().unwrap_or_default().trim_matches(['<', '>'])
            })
        })
        .map(str::to_owned)
        .collect();
    if let Some((label, target)) = line.trim_start().split_once("]: ")
        && label.starts_with('[')
    {
        found.extend(target.split_whitespace().next().map(str::to_owned));
    }
    found
}

#[cfg(test)]
mod tests {
    use crate::tidy::testing;

    #[test]
    fn relative_links_lead_to_files() {
        let cases: &[(&str, &[&str])] = &[
            ("[a](here.md) ![b](../docs/here.md#part) [c](#part) [d](https://example.org/x)", &[]),
            ("[a](./) [root](/docs/here.md \"title\") `[code](gone.md)`", &[]),
            ("```\n[code](gone.md)\n```", &[]),
            ("[a](gone.md)", &["docs/doc.md:1: leads nowhere: gone.md"]),
            ("\n![b](../here.md)", &["docs/doc.md:2: leads nowhere: ../here.md"]),
            ("[up](../../here.md)", &["docs/doc.md:1: leads nowhere: ../../here.md"]),
            ("[r]: gone.md", &["docs/doc.md:1: leads nowhere: gone.md"]),
            ("<img src=\"gone.svg\">", &["docs/doc.md:1: leads nowhere: gone.svg"]),
        ];
        for (text, want) in cases {
            testing::check("links", &[("docs/doc.md", text), ("docs/here.md", "")], want);
        }
    }
}
