//! What programs and people are shown of any entry and receipt: valid JSON on one line, and text that no terminal obeys.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde_json::Value;
use tertulia_group::entry::{self, FLAG_OUTSIDE};
use tertulia_group::{Entry, Header, Kind, Missing, Receipt, Why};
use tertulia_wire::Level;
use tertulia_wire::json::{EntryLine, ReceiptLine, to_line};
use tertulia_wire::safe::is_clean;
use tertulia_wire::text::{entry_line, gap_line, receipt_line, receipt_now_line, size_text};

use crate::input::Input;

const KINDS: [Kind; 5] = [Kind::Message, Kind::Joined, Kind::Left, Kind::Epoch, Kind::File];

/// One entry and one receipt with anything in them.
pub fn run(data: &[u8]) {
    // As they come from a log or a connection.
    if let Ok(entry) = Entry::split(&mut Bytes::copy_from_slice(data)) {
        show(&entry);
    }
    let mut input = Input::new(data);
    let receipt = receipt(&mut input);
    show_receipt(&receipt, Duration::from_millis(input.number()));
    show(&made(&mut input));
}

fn made(input: &mut Input<'_>) -> Entry {
    let kind = KINDS[usize::from(input.u8()) % KINDS.len()];
    let flags = if input.u8() & 1 == 0 { 0 } else { FLAG_OUTSIDE };
    let (seq, time_us) = (input.number(), input.number());
    let header =
        Header { len: 0, kind, flags, name_len: 0, seq, time_us, sender: 1, counter: 1, epoch: 1 };
    let name = input.text();
    let name = &name[..name.floor_char_boundary(tertulia_group::limits::NAME_BYTES_MAX)];
    let mut bytes = BytesMut::new();
    entry::write(&mut bytes, header, name, input.rest());
    let mut bytes = bytes.freeze();
    let entry = Entry::split(&mut bytes).expect("what was written is an entry");
    assert!(bytes.is_empty() && entry.name() == name);
    entry
}

fn receipt(input: &mut Input<'_>) -> Receipt {
    let missing = (0..input.u8() % 8).map(|_| {
        let why = match input.u8() % 5 {
            0 => Why::Pending,
            1 => Why::Away { ms: input.number() },
            2 => Why::Lagging,
            3 => Why::Failed { code: input.text() },
            _ => Why::Left,
        };
        Missing { name: input.text(), why }
    });
    let missing = missing.collect();
    let (seq, epoch, members) = (input.number(), input.u32(), input.u32());
    Receipt { seq, epoch, members, confirmed: input.u32(), reached: input.u32(), missing }
}

fn show(entry: &Entry) {
    let line = entry_line(entry, 90);
    assert!(line.is_none_or(|line| is_clean(&line)));
    let Some(object) = EntryLine::from_entry("ops", entry) else { return };
    let value = parsed(&to_line(&object));
    assert_eq!(value["seq"], entry.header.seq);
    assert!(value["time"].is_string());
    if let (Kind::Message, Ok(text)) = (entry.header.kind, str::from_utf8(&entry.body())) {
        assert_eq!(value["text"], text);
    }
}

fn show_receipt(receipt: &Receipt, elapsed: Duration) {
    for line in [
        receipt_line("ops", receipt, elapsed),
        receipt_now_line("ops", receipt),
        gap_line(receipt.seq, u64::from(receipt.members)),
        size_text(receipt.seq),
    ] {
        assert!(is_clean(&line), "{line:?}");
    }
    let value = parsed(&to_line(&ReceiptLine::new("ops", receipt, Level::Fsync, Some(elapsed))));
    let missing = value["missing"].as_array().map(Vec::len);
    assert_eq!(missing, Some(receipt.missing.len()));
}

/// The object on the line, which is one line.
fn parsed(line: &str) -> Value {
    assert!(!line.is_empty() && line.bytes().all(|byte| byte >= b' '), "{line:?}");
    serde_json::from_str(line).expect("valid JSON")
}
