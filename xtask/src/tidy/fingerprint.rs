//! The protocol's document was looked at after the last change of what is on the wire.
//!
//! Its last line holds a fingerprint of the golden vectors. Whoever changes those reads the
//! document again, corrects it, and then has `cargo xtask tidy --write` put the new one in.

use std::path::Path;

use anyhow::{Context, Result, bail};

use super::{Finding, tree::Tree};

const GOLDEN: &str = "crates/wire/tests/golden.txt";
const DOCUMENT: &str = "docs/protocol.md";

pub fn check(tree: &Tree) -> Vec<Finding> {
    let Some(golden) = tree.text(GOLDEN) else {
        return vec![Finding::skipped(GOLDEN, "there are no golden vectors yet")];
    };
    let want = line(golden);
    match tree.text(DOCUMENT) {
        None => vec![Finding::fails(DOCUMENT, "missing, though the wire has golden vectors")],
        Some(text) if text.trim_end().lines().next_back() == Some(&want) => Vec::new(),
        Some(_) => {
            let says = format!(
                "does not end with `{want}`: the wire changed; correct this document, then run \
                 `cargo xtask tidy --write`"
            );
            vec![Finding::fails(DOCUMENT, says)]
        }
    }
}

/// Puts the fingerprint of the golden vectors as they are now into the document.
pub fn write(root: &Path) -> Result<()> {
    let read = |path: &str| {
        std::fs::read_to_string(root.join(path)).with_context(|| format!("cannot read {path}"))
    };
    if !root.join(GOLDEN).exists() {
        bail!("{GOLDEN}: there are no golden vectors yet");
    }
    let stamped = stamped(&read(DOCUMENT)?, &read(GOLDEN)?);
    std::fs::write(root.join(DOCUMENT), stamped).with_context(|| format!("cannot write {DOCUMENT}"))
}

fn stamped(document: &str, golden: &str) -> String {
    let mut kept = document.trim_end();
    if let Some((before, last)) = kept.rsplit_once('\n')
        && last.starts_with("<!-- wire: ")
    {
        kept = before.trim_end();
    }
    format!("{kept}\n\n{}\n", line(golden))
}

fn line(golden: &str) -> String {
    format!("<!-- wire: {:016x} -->", fnv1a(golden.as_bytes()))
}

/// FNV-1a with 64 bits: against forgetting, not against malice.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::testing;

    #[test]
    fn a_change_of_the_wire_asks_for_the_document() {
        let golden = "publish 0102\n";
        let document = stamped("# Protocol\n", golden);
        let files = |golden| [(GOLDEN, golden), (DOCUMENT, document.as_str())];
        testing::check("fingerprint", &files(golden), &[]);

        let changed = "publish 0103\n";
        let want = format!(
            "docs/protocol.md: does not end with `{}`: the wire changed; correct this document, \
             then run `cargo xtask tidy --write`",
            line(changed)
        );
        testing::check("fingerprint", &files(changed), &[&want]);
        let missing = "docs/protocol.md: missing, though the wire has golden vectors";
        testing::check("fingerprint", &files(golden)[..1], &[missing]);
        testing::check("fingerprint", &files(golden)[1..], &[]);
    }

    #[test]
    fn writing_replaces_the_old_fingerprint() {
        let once = stamped("# Protocol\n\nText.\n", "a");
        assert_eq!(once, "# Protocol\n\nText.\n\n<!-- wire: af63dc4c8601ec8c -->\n");
        assert_eq!(stamped(&once, "a"), once);
        assert_eq!(stamped(&stamped(&once, "b"), "a"), once);
    }
}
