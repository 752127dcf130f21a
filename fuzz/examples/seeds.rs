//! Writes the seeds that follow from the code: `cargo run --example seeds` in this folder.
//!
//! Golden vectors become frames; the rest is written here. Files of other names (bugs that were found) stay as they are.

use std::fs;
use std::path::Path;

use tertulia_client::Saved;
use tertulia_group::{LogId, SenderId};
use tertulia_wire::Secret;

const GOLDEN: &str = include_str!("../../crates/wire/tests/golden.txt");

fn main() -> std::io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    let write = |target: &str, name: &str, bytes: &[u8]| {
        let folder = root.join(target);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(name), bytes)
    };
    let (mut client, mut node) = (Vec::new(), Vec::new());
    for line in GOLDEN.lines() {
        let mut fields = line.split('\t').map(str::to_owned);
        let (Some(_), Some(what), Some(hex)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let bytes = unhex(&hex);
        let is_client = bytes[4] < 0x80;
        let target = if is_client { "client_frames" } else { "node_frames" };
        (if is_client { &mut client } else { &mut node }).extend_from_slice(&bytes);
        write(target, &file_name(&what), &bytes)?;
        if bytes[4] >= 0xa0 {
            write("forms", &file_name(&what), &bytes)?;
        }
    }
    write("client_frames", "all", &client)?;
    write("node_frames", "all", &node)?;
    for (name, text) in LINES {
        write("line", name, text.as_bytes())?;
    }
    for (name, text) in SETTINGS {
        write("settings", name, text.as_bytes())?;
    }
    write("saved", "saved", &saved().to_bytes())?;
    for mode in 0..4u8 {
        let counting: Vec<u8> = (0..160u32).map(|at| (at * 37 % 251) as u8).collect();
        write("recover", &format!("mode-{mode}"), &[&[mode], &counting[..]].concat())?;
    }
    for (name, bytes) in STORES {
        write("store", name, bytes)?;
    }
    for (name, bytes) in folder_lists() {
        write("folder_lists", name, &bytes)?;
    }
    Ok(())
}

const LINES: [(&str, &str); 3] = [
    (
        "session",
        "\u{7}JOIN ana ops 3\nMSG hola\r\nACK 4\nWHO\nGROUPS\nHISTORY 5\nPING x\nHELP\nEXIT\n",
    ),
    ("names", "\u{1}JOIN\nana\nPASS secret word\nTOKEN t\nTOKEN\nmsg \u{202e}x\nJOIN a b c d\n"),
    ("write", "a\u{5}\u{3}ana\u{2}\u{2}bo\u{1}c\u{1b}[2J text of a message\u{85}\n"),
];

const SETTINGS: [(&str, &str); 3] = [
    (
        "all.toml",
        "listen = \"0.0.0.0\"\nadvertise = \"example.org\"\nnative-port = 0\nline_port = 5000\nhttp_port = 1\n\
         no_line = true\nno_http = \"yes\"\nno_guests = false\nkeep = \"7d,1GiB\"\nengine = \"memory\"\n\
         sync = \"os\"\nnode_id = \"n1\"\nmax_connections = 10\nmax_connections_per_address = 5\nmax_message = \"64KiB\"\n",
    ),
    ("address.toml", "address = \"[::1]:7001\"\ndata = \"here\"\n"),
    ("wrong.toml", "lissen = \"::\"\nkeep = [1]\nengine = \"nats://h:4222\"\n"),
];

/// A changed byte of each image; a cut, zeros, a missing file; records with right checksums.
const STORES: [(&str, &[u8]); 6] = [
    ("byte", &[0, 0, 0, 1, 44, 1, 0, 8]),
    ("two-bytes", &[0, 3, 0, 1, 0, 4, 0, 8, 0, 2, 200, 3, 0, 16]),
    ("zeros", &[0, 1, 4, 0, 0, 8, 0, 64]),
    ("cut", &[0, 2, 6, 1, 0, 2, 0]),
    ("missing", &[0, 3, 7, 1, 0, 0, 0]),
    (
        "records",
        &[
            128, 0, 4, 2, 1, 1, 1, 1, 1, 1, 0, 2, 9, 9, 3, 8, 8, 8, 3, 1, 1, 1, 1, 2, 2, 0, 0, 1,
            5, 4, 1, 1, 1, 1, 3, 3, 0, 8, 2, 0, 0, 0, 0, 0, 0, 0, 0, 6, 1, 1, 1, 1, 4, 4, 0, 9, 1,
            0, 0, 0, 0, 0, 0, 0, 107, 1, 5,
        ],
    ),
];

/// The first byte says what the rest is: a list, lines of one, or files.
fn folder_lists() -> [(&'static str, Vec<u8>); 4] {
    let hash = "07".repeat(32);
    let list =
        format!("tertulia folder 1\n0 {hash} a/b.txt\n18 {hash} a/\u{f1}and\u{fa}\n7 {hash} b\n");
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap_or(0)], text.as_bytes()].concat();
    let paths = [
        "a/b.txt",
        "a/\u{f1}and\u{fa}",
        "b",
        "..",
        "n\u{303}",
        "stra\u{1e9e}e",
        "CON.txt",
        ".ssh/x",
    ];
    let lines = paths.iter().flat_map(|path| [vec![1, 9], text(path)].concat());
    let files = paths.iter().flat_map(|path| [vec![9], text(path)].concat());
    let wrong = [vec![0], text("+1"), text("a")].concat();
    [
        ("list", [&[0], list.as_bytes()].concat()),
        ("lines", [1].into_iter().chain(lines).collect()),
        ("files", [2].into_iter().chain(files).collect()),
        ("wrong", [vec![1], wrong].concat()),
    ]
}

fn saved() -> Saved {
    Saved {
        group: "ops".to_owned(),
        name: "ana".to_owned(),
        secret: Secret([1; 32]),
        sender: SenderId([2; 16]),
        log: LogId([3; 16]),
        epoch: 4,
        cursor: 5,
        open: vec![3, 4],
        failed: vec![(2, "exit 7".to_owned())],
    }
}

/// The part of a vector's description that may be a file's name.
fn file_name(what: &str) -> String {
    let name: String =
        what.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    name.to_lowercase()
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("the vectors are hex");
    (0..text.len()).step_by(2).map(digit).collect()
}
