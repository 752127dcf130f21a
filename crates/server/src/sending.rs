//! The writing side of a native connection, on its shard: its session writes there, and so does the driver, so that who is up to
//! date is sent what is new without its session being woken.

use std::io;

use tertulia_wire::NodeFrame;

use crate::conn::Conn;
use crate::hosted::Hosted;
use crate::outbox::{Outbox, Wrote};
use crate::stream::Stream;

/// See the module. Nobody holds a borrow of it while it waits.
#[derive(Debug)]
pub(crate) struct Sending {
    pub stream: Stream,
    pub outbox: Outbox,
    /// The session waits until the socket takes more.
    pub waits: bool,
    /// Bytes of the last heartbeat.
    beat_bytes: u64,
}

impl Sending {
    pub fn new(stream: Stream) -> Self {
        Self { stream, outbox: Outbox::new(), waits: false, beat_bytes: 0 }
    }

    /// Bytes that wait here, but for those of the window.
    pub fn held(&self) -> usize {
        self.outbox.held() + self.stream.held()
    }

    /// Writes what there is and the socket takes, at most a turn's worth.
    pub fn write(&mut self, hosted: &Hosted, conn: &Conn) -> io::Result<Wrote> {
        self.outbox.write(hosted, conn, &mut self.stream)
    }

    /// The same for the driver; whether the session need not be woken for what has come of it.
    fn deliver(&mut self, hosted: &Hosted, conn: &Conn) -> bool {
        let held = self.held();
        match self.write(hosted, conn) {
            // What TLS has taken and the socket has not is the session's to wait for.
            Ok(Wrote::All) => self.held() <= held,
            // What it holds is the session's to tell the budget.
            Ok(Wrote::Full) => self.waits && self.held() == held,
            // An error is told again to the session, which ends by it.
            Ok(Wrote::More | Wrote::Behind) | Err(_) => false,
        }
    }

    /// Adds `heartbeat` where nothing was written since the one before; whether it has.
    fn beat(&mut self, conn: &Conn, heartbeat: &NodeFrame) -> bool {
        // The one before does not count as something else: a quiet connection gets one each second.
        let wrote = conn.wrote.replace(0);
        let is_due = wrote <= std::mem::take(&mut self.beat_bytes) && self.outbox.at_boundary();
        if is_due {
            heartbeat.encode(&mut self.outbox.control);
            self.beat_bytes = self.outbox.control.len() as u64;
        }
        is_due
    }
}

/// Sends `conn` what is new, where its session has nothing to say before it; otherwise wakes the session.
pub(crate) fn deliver(hosted: &Hosted, conn: &Conn) {
    let is_written = conn.is_quiet()
        && conn.sending.borrow_mut().as_mut().is_some_and(|sending| sending.deliver(hosted, conn));
    if !is_written {
        conn.wake();
    }
}

/// A second has passed: sends `conn` a heartbeat where nothing else was written, while a session is at work.
pub(crate) fn beat(hosted: &Hosted, conn: &Conn, heartbeat: &NodeFrame) {
    // What the group has said goes first: nobody hears a heartbeat before its WELCOME. The session is awake for it, and writes.
    if !conn.is_quiet() {
        return;
    }
    let mut sending = conn.sending.borrow_mut();
    let is_due = sending.as_mut().is_some_and(|sending| sending.beat(conn, heartbeat));
    drop(sending);
    if is_due {
        deliver(hosted, conn);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use tertulia_group::{ConnId, Door, Output, Refusal};
    use tokio::io::AsyncReadExt as _;

    use super::*;
    use crate::config::NodeLimits;
    use crate::testing::{self, entry};

    /// Whether the session has been woken since the last time.
    async fn is_woken(conn: &Conn) -> bool {
        tokio::time::timeout(std::time::Duration::ZERO, conn.woken()).await.is_ok()
    }

    #[tokio::test]
    async fn who_is_up_to_date_is_written_to_and_only_who_has_more_to_do_is_woken() {
        let hosted = testing::hosted(&testing::shared(NodeLimits::default()));
        let conn = Conn::new(ConnId(1), Door::Native, IpAddr::V4(Ipv4Addr::LOCALHOST), None);
        deliver(&hosted, &conn);
        assert!(is_woken(&conn).await, "no session is at work yet");

        let (ours, mut client) = testing::narrow().await;
        let mut sending = Sending::new(ours);
        sending.outbox.start(1, Vec::new());
        conn.sending.replace(Some(sending));
        hosted.window.borrow_mut().push(entry(1, 100), 1, 1);
        deliver(&hosted, &conn);
        assert!(!is_woken(&conn).await);
        let mut got = [0; 100];
        let read = tokio::time::timeout(testing::PATIENCE, client.read_exact(&mut got)).await;
        read.expect("it comes").expect("it is read");
        assert_eq!(got, *entry(1, 100));

        // What the group has said goes first, and is the session's to write.
        conn.push(Output::Refused(ConnId(1), Refusal::BadAck));
        assert!(is_woken(&conn).await);
        beat(&hosted, &conn, &NodeFrame::Heartbeat { epoch: 1, tail: 1 });
        assert!(conn.writing().outbox.control.is_empty(), "a heartbeat has overtaken an answer");
        hosted.window.borrow_mut().push(entry(2, 100), 2, 2);
        deliver(&hosted, &conn);
        assert!(is_woken(&conn).await);
        assert_eq!(conn.writing().outbox.sent_through(), 1, "it was not overtaken");
        conn.take_inbox();

        // A socket that takes no more is its session's, which is woken once and then waits for the socket.
        hosted.window.borrow_mut().push(entry(3, 1 << 20), 3, 3);
        deliver(&hosted, &conn);
        assert!(is_woken(&conn).await);
        conn.writing().waits = true;
        hosted.window.borrow_mut().push(entry(4, 100), 4, 4);
        deliver(&hosted, &conn);
        assert!(!is_woken(&conn).await);
    }

    #[tokio::test]
    async fn a_heartbeat_wakes_no_session_and_is_left_out_after_anything_else() {
        let hosted = testing::hosted(&testing::shared(NodeLimits::default()));
        let conn = Conn::new(ConnId(1), Door::Native, IpAddr::V4(Ipv4Addr::LOCALHOST), None);
        let heartbeat = NodeFrame::Heartbeat { epoch: 1, tail: 0 };
        beat(&hosted, &conn, &heartbeat);
        assert!(!is_woken(&conn).await, "no session is at work yet");

        let (ours, mut client) = testing::narrow().await;
        let mut sending = Sending::new(ours);
        sending.outbox.start(1, Vec::new());
        conn.sending.replace(Some(sending));
        let mut expected = bytes::BytesMut::new();
        heartbeat.encode(&mut expected);
        expected.extend_from_slice(&entry(1, 100));
        heartbeat.encode(&mut expected);
        // Quiet; then an entry stands for the second one; then quiet again.
        beat(&hosted, &conn, &heartbeat);
        hosted.window.borrow_mut().push(entry(1, 100), 1, 1);
        deliver(&hosted, &conn);
        beat(&hosted, &conn, &heartbeat);
        beat(&hosted, &conn, &heartbeat);
        assert!(!is_woken(&conn).await);
        let mut got = vec![0; expected.len()];
        let read = tokio::time::timeout(testing::PATIENCE, client.read_exact(&mut got)).await;
        read.expect("it comes").expect("it is read");
        assert_eq!(got, expected);
    }
}
