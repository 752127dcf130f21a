//! Holds every byte fast: `tests/golden.txt` against the codecs both ways, and `docs/protocol.md` against both.
//!
//! A deliberate change: run once with `GOLDEN=write`, then look at the difference and change the document with it.

use bytes::{Bytes, BytesMut};

use tertulia_wire::line::LineCode;
use tertulia_wire::native::{kind, write_publish};
use tertulia_wire::{ClientFrame, Code, NodeFrame};

use crate::samples;

const GOLDEN: &str = include_str!("../golden.txt");
const DOCUMENT: &str = include_str!("../../../../docs/protocol.md");

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Bytes {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

/// Kind, description and bytes of every line that the file should have.
fn expected() -> Vec<String> {
    let mut publish = BytesMut::new();
    write_publish(&mut publish, "ana", 1, true, "hola".as_bytes());
    let client = samples::client_frames()
        .into_iter()
        .map(|(what, frame)| (what, samples::client_bytes(&frame)));
    let node =
        samples::node_frames().into_iter().map(|(what, frame)| (what, samples::node_bytes(&frame)));
    client
        .chain([("PUBLISH", publish.freeze())])
        .chain(node)
        .map(|(what, bytes)| format!("{:#04x}\t{what}\t{}", bytes[4], hex(&bytes)))
        .collect()
}

#[test]
fn what_is_written_is_what_stands_in_the_file() {
    let expected = expected();
    if std::env::var_os("GOLDEN").is_some_and(|value| value == "write") {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden.txt");
        std::fs::write(path, expected.join("\n") + "\n").unwrap();
    }
    let found: Vec<&str> = GOLDEN.lines().collect();
    assert_eq!(found, expected, "bytes have changed");
}

#[test]
fn what_stands_in_the_file_is_read_as_it_was_meant() {
    let bytes_of = |wanted: &str| {
        let line = GOLDEN.lines().find(|line| line.split('\t').nth(1) == Some(wanted));
        unhex(line.unwrap().split('\t').nth(2).unwrap())
    };
    for (what, frame) in samples::client_frames() {
        assert_eq!(ClientFrame::decode(&bytes_of(what)), Ok(frame), "{what}");
    }
    for (what, frame) in samples::node_frames() {
        assert_eq!(NodeFrame::decode(bytes_of(what)), Ok(frame), "{what}");
    }
}

#[test]
fn every_kind_and_code_stands_in_the_document() {
    for line in GOLDEN.lines() {
        let mut fields = line.split('\t');
        let kind = fields.next().unwrap().to_uppercase().replacen("0X", "0x", 1);
        let name = fields.next().unwrap().split([' ', ',']).next().unwrap();
        assert!(DOCUMENT.contains(&format!("\n### {kind} {name}\n")), "{kind} {name}");
    }
    for code in Code::ALL {
        let row = format!("\n| {} | `{code}` |", code.to_u16());
        assert!(DOCUMENT.contains(&row), "{row}");
    }
    for code in LineCode::ALL {
        assert!(DOCUMENT.contains(&format!("`{}`", code.as_str())), "{}", code.as_str());
    }
    let documented = DOCUMENT.lines().filter(|line| line.starts_with("### 0x")).count();
    let mut kinds: Vec<_> = GOLDEN.lines().map(|line| &line[..4]).collect();
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(documented, kinds.len(), "a frame is documented that has no golden vector");
    assert_eq!(kind::ENTRY_LAST, 0xA4, "a new kind of entry needs a golden vector");
}

/// The example session's lines: `C: NAME` or `N: NAME`, then lines of hex.
#[test]
fn the_document_s_example_is_made_of_these_bytes() {
    let session = DOCUMENT.split("<!-- session -->").nth(1).unwrap();
    let mut frames: Vec<(&str, String)> = Vec::new();
    for line in session.lines() {
        if let Some(title) = line.strip_prefix("C: ").or_else(|| line.strip_prefix("N: ")) {
            frames.push((title, String::new()));
        } else if let (Some(bytes), Some((_, hex))) = (line.strip_prefix("   "), frames.last_mut())
        {
            hex.extend(bytes.chars().filter(char::is_ascii_hexdigit));
        }
    }
    assert!(frames.len() > 8, "the example is there");
    for (title, hex) in frames {
        assert!(GOLDEN.lines().any(|line| line.ends_with(&format!("\t{title}\t{hex}"))), "{title}");
    }
}
