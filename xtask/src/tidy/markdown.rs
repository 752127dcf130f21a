//! Tells the prose of a Markdown document from its code blocks.

/// A fenced block.
pub struct Block<'a> {
    /// The word after the fence, such as `sh`; empty without one.
    pub language: &'a str,
    /// Its lines, each with its number in the document.
    pub lines: Vec<(usize, &'a str)>,
}

/// The lines outside of all fenced blocks, with their numbers.
pub fn prose(text: &str) -> Vec<(usize, &str)> {
    split(text).0
}

/// The fenced blocks, in order.
pub fn blocks(text: &str) -> Vec<Block<'_>> {
    split(text).1
}

fn split(text: &str) -> (Vec<(usize, &str)>, Vec<Block<'_>>) {
    let mut prose = Vec::new();
    let mut blocks: Vec<Block> = Vec::new();
    let mut open: Option<&str> = None;
    for (line, number) in text.lines().zip(1..) {
        let code = line.trim_start();
        let fence = ["```", "~~~"].into_iter().find(|fence| code.starts_with(fence));
        match (open, fence) {
            (None, Some(fence)) => {
                open = Some(fence);
                let info = code.trim_start_matches(['`', '~']).trim();
                let language = info.split([' ', ',']).next().unwrap_or_default();
                blocks.push(Block { language, lines: Vec::new() });
            }
            (None, None) => prose.push((number, line)),
            (Some(opened), Some(fence)) if opened == fence => open = None,
            (Some(_), _) => {
                if let Some(block) = blocks.last_mut() {
                    block.lines.push((number, line));
                }
            }
        }
    }
    (prose, blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fences_part_prose_from_code() {
        let text = "one\n```sh\ntwo\n~~~\n```\nthree\n~~~\nfour\n";
        assert_eq!(prose(text), [(1, "one"), (6, "three")]);
        let blocks: Vec<_> = blocks(text).into_iter().map(|b| (b.language, b.lines)).collect();
        assert_eq!(blocks, [("sh", vec![(3, "two"), (4, "~~~")]), ("", vec![(8, "four")])]);
    }
}
