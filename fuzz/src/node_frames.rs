//! Frames from a node: a client splits, reads and never falls over them, and what it has read can be written again.

use bytes::{Bytes, BytesMut};
use tertulia_wire::NodeFrame;
use tertulia_wire::native::{STR_BYTES_MAX, split_from_node};

/// Longest message that the node has announced.
const MESSAGE_BYTES_MAX: u32 = 1 << 20;

/// A connection's bytes, read as a client reads them.
pub fn run(data: &[u8]) {
    let mut buffer = BytesMut::from(data);
    while let Ok(Some(frame)) = split_from_node(&mut buffer, MESSAGE_BYTES_MAX) {
        read(frame);
    }
}

fn read(frame: Bytes) {
    let len = frame.len();
    let Ok(read) = NodeFrame::decode(frame) else { return };
    if let NodeFrame::HistoryPage { entries, .. } = &read {
        let entries_bytes = entries.len();
        let whole = NodeFrame::history_entries(entries.clone()).filter_map(Result::ok);
        assert!(whole.map(|entry| entry.bytes().len()).sum::<usize>() <= entries_bytes);
    }
    // Texts may be longer in a frame than a writer makes them, which cuts them; lists without anything make no frame.
    if len > STR_BYTES_MAX || is_empty_list(&read) {
        return;
    }
    let mut first = BytesMut::new();
    read.encode(&mut first);
    let again = NodeFrame::decode(first.clone().freeze()).expect("what was written is a frame");
    assert_eq!(read, again);
    let mut second = BytesMut::new();
    again.encode(&mut second);
    assert_eq!(first, second);
}

fn is_empty_list(frame: &NodeFrame) -> bool {
    match frame {
        NodeFrame::Stored(runs) => runs.is_empty(),
        NodeFrame::Complete(runs) => runs.is_empty(),
        NodeFrame::Confirmed(confirmed) => confirmed.is_empty(),
        _ => false,
    }
}
