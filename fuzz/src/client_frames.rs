//! Frames from a client: a node splits, reads and never falls over them, and what it has read it can write again.

use bytes::BytesMut;
use tertulia_group::Run;
use tertulia_group::limits::CODE_BYTES_MAX;
use tertulia_wire::ClientFrame;
use tertulia_wire::native::{CLIENT_FRAME_BYTES_MAX, STR_BYTES_MAX, split_from_client};
use tertulia_wire::safe::cut;

/// Longest body of a message here: small, so that the limit is met.
const BODY_BYTES_MAX: usize = 1 << 10;

/// A connection's bytes, read as the native door reads them.
pub fn run(data: &[u8]) {
    let mut buffer = BytesMut::from(data);
    loop {
        let before = buffer.len();
        match Run::split(&mut buffer, BODY_BYTES_MAX) {
            Ok(Some(run)) => {
                assert!(run.count() > 0 && run.len() == before - buffer.len());
                continue;
            }
            Ok(None) => {}
            Err(_) => return,
        }
        match split_from_client(&mut buffer) {
            Ok(Some(frame)) => {
                assert!(
                    frame.len() <= CLIENT_FRAME_BYTES_MAX && frame.len() + buffer.len() == before
                );
                read(&frame);
            }
            Ok(None) | Err(_) => return,
        }
    }
}

fn read(frame: &[u8]) {
    // Texts may be longer in a frame than a writer makes them, which cuts them.
    let Ok(read) = ClientFrame::decode(frame) else { return };
    if frame.len() > STR_BYTES_MAX {
        return;
    }
    let mut first = BytesMut::new();
    read.encode(&mut first);
    assert!(first.len() <= CLIENT_FRAME_BYTES_MAX);
    let again = ClientFrame::decode(&first).expect("what was written is a frame");
    assert_eq!(with_short_codes(read), again);
    let mut second = BytesMut::new();
    again.encode(&mut second);
    assert_eq!(first, second);
}

/// The codes of failures as a writer cuts them.
fn with_short_codes(mut frame: ClientFrame) -> ClientFrame {
    if let ClientFrame::Ack(ack) = &mut frame {
        for failed in &mut ack.failed {
            failed.code = cut(&failed.code, CODE_BYTES_MAX).to_owned();
        }
    }
    frame
}
