//! An outbox whose socket takes nothing: what it keeps of the window, and what counts as its own.

use std::net::{IpAddr, Ipv4Addr};

use tertulia_group::entry::write;
use tertulia_group::{ConnId, Door, Header, Kind};

use super::*;
use crate::config::NodeLimits;
use crate::testing;

/// One entry.
fn entry(seq: Seq, body: usize) -> Bytes {
    let mut out = BytesMut::new();
    let kind = Kind::Message;
    let header = Header {
        len: 0,
        kind,
        flags: 0,
        name_len: 0,
        seq,
        time_us: 0,
        sender: 1,
        counter: seq,
        epoch: 1,
    };
    write(&mut out, header, "ana", &vec![b'x'; body]);
    out.freeze()
}

/// The bug: half a frame kept a whole segment that the window had given up, for as long as its reader was stuck. And its mend
/// copied for every stuck reader what the window still held, and counted it as nobody's.
#[tokio::test]
async fn half_a_frame_is_the_windows_as_long_as_that_has_it_and_then_ones_own() {
    let limits = NodeLimits { window_bytes: 3 << 20, ..NodeLimits::default() };
    let hosted = testing::hosted(&testing::shared(limits));
    let conn = Conn::new(ConnId(1), Door::Native, IpAddr::V4(Ipv4Addr::LOCALHOST), None);
    let (mut ours, _client) = testing::narrow().await;
    let mut outbox = Outbox::new();
    outbox.start(1, Vec::new());
    // A batch of two: the reader stops within the first.
    let mut first = BytesMut::from(&entry(1, 1 << 20)[..]);
    first.extend_from_slice(&entry(2, 1 << 20));
    let first = first.freeze();
    hosted.window.borrow_mut().push(first.clone(), 1, 2);
    assert_eq!(outbox.write(&hosted, &conn, &mut ours).expect("writes"), Wrote::Full);
    let segment = first.as_ptr_range();
    assert!(segment.contains(&outbox.rest().as_ptr()), "no copy while the window has it");
    assert_eq!(outbox.held(), 0);

    hosted.window.borrow_mut().push(entry(3, 1 << 20), 3, 3);
    hosted.window.borrow_mut().push(entry(4, 1 << 20), 4, 4);
    assert!(!hosted.window.borrow().holds(0), "the window has given it up");
    assert_eq!(outbox.write(&hosted, &conn, &mut ours).expect("writes"), Wrote::Full);
    assert!(first.is_unique(), "nothing keeps the segment");
    assert!(outbox.held() > 500_000, "what is left of the frame counts as its own");
    assert!(outbox.held() <= 1 << 20);
}
