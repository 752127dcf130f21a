//! The codecs: a sender's frames split off what was read, acknowledgements taken apart, answers put together.

use bytes::BytesMut;
use tertulia_group::entry::write_publish;
use tertulia_group::{CompleteRun, Run, StoredRun};
use tertulia_wire::native::{Ack, split_from_client};
use tertulia_wire::{ClientFrame, NodeFrame};

use crate::{BATCHES, BODY, MEMBERS};

/// So many reads with `messages` in each, and the acknowledgements and answers that follow.
pub fn run(messages: u64) {
    let mut out = BytesMut::new();
    for batch in 0..BATCHES {
        let mut read = BytesMut::new();
        for counter in 1..=messages {
            write_publish(&mut read, "sender", counter, true, &BODY);
        }
        assert_eq!(u64::from(split(&mut read).count()), messages);
        for _ in 0..MEMBERS {
            let ack = Ack { cursor: batch + 1, open: Vec::new(), failed: Vec::new() };
            ClientFrame::Ack(ack).encode(&mut read);
        }
        assert_eq!(acks(&mut read), MEMBERS);
        let count = u32::try_from(messages).expect("few");
        answer(&mut out, batch + 1, count);
        assert!(!out.is_empty());
        out.clear();
    }
}

#[inline(never)]
fn split(read: &mut BytesMut) -> Run {
    let run = Run::split(read, 1 << 20).expect("well-formed frames");
    run.expect("at least one")
}

/// How many acknowledgements there are.
#[inline(never)]
fn acks(read: &mut BytesMut) -> u64 {
    let mut count = 0;
    while let Some(frame) = split_from_client(read).expect("well-formed frames") {
        match ClientFrame::decode(&frame) {
            Ok(ClientFrame::Ack(_)) => count += 1,
            other => unreachable!("an acknowledgement is read as {other:?}"),
        }
    }
    count
}

#[inline(never)]
fn answer(out: &mut BytesMut, first: u64, count: u32) {
    NodeFrame::encode_stored(out, &[StoredRun { counter: first, seq: first, count }]);
    let members = u32::try_from(MEMBERS).expect("few");
    let run = CompleteRun { counter: first, seq: first, count, members, reached: 0, epoch: 1 };
    NodeFrame::encode_complete(out, &[run]);
}
