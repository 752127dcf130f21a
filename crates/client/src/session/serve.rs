//! Serving one connection: frames in, frames out, acknowledgements, signs of life.

use std::ops::ControlFlow;
use std::time::Duration;

use bytes::Bytes;
use tertulia_wire::ClientFrame;
use tertulia_wire::NodeFrame;
use tokio::time::{Instant, sleep_until};

use super::{Ended, Inlets, Publish, Session, Wish, closed};
use crate::attach::put_off;
use crate::conn::Conn;
use crate::directory::wait_ms;
use crate::outgoing::AfterRefusal;
use crate::role::Role;
use crate::{Error, ReceiptNow};

/// Acknowledgements while the program is at work: at most one in this time.
const ACK_EVERY: Duration = Duration::from_millis(10);
/// How long LEAVE may take.
const LEAVE_MAX: Duration = Duration::from_secs(5);

/// What is known of one connection while it is served.
#[derive(Debug)]
struct Served {
    /// Something came.
    heard_at: Instant,
    pinged: bool,
    acked_at: Option<Instant>,
    /// LEAVE was said, and the node is given until then.
    leave_until: Option<Instant>,
    /// To be made anew once everything that came is taken.
    again: bool,
    /// The program is not reading, so silence says nothing.
    paused: bool,
}

enum Happened {
    Read(std::io::Result<usize>),
    Wrote(std::io::Result<()>),
    Publish(Option<Publish>),
    Wish(Option<Wish>),
    Progress,
    Time,
}

impl Session {
    pub(super) async fn serve(&mut self, conn: &mut Conn, inlets: &mut Inlets) -> Ended {
        let mut served = Served {
            heard_at: Instant::now(),
            pinged: false,
            acked_at: None,
            leave_until: None,
            again: false,
            paused: false,
        };
        let mut publishes_ended = false;
        loop {
            if let ControlFlow::Break(ended) = self.take_frames(conn, &mut served) {
                return ended;
            }
            if served.again {
                return Ended::Again;
            }
            let now = Instant::now();
            self.outgoing.write(&mut conn.out, now);
            let ack_at = self.acknowledge(conn, &mut served, now);
            if publishes_ended && let Some(ended) = self.finish(conn, &mut served, now) {
                return ended;
            }
            let deadline = self.deadline(&served, ack_at);
            let may_read = !served.paused;
            let may_write = !conn.out.is_empty() || conn.write.is_behind();
            let may_take = !publishes_ended && self.outgoing.has_room();
            let happened = tokio::select! {
                read = conn.read.more(), if may_read => Happened::Read(read),
                wrote = conn.write.write_some(&mut conn.out), if may_write => Happened::Wrote(wrote),
                publish = inlets.publishes.recv(), if may_take => Happened::Publish(publish),
                wish = inlets.wishes.recv() => Happened::Wish(wish),
                () = self.role.progress() => Happened::Progress,
                () = sleep_until(deadline) => Happened::Time,
            };
            match happened {
                Happened::Read(Ok(0)) if served.leave_until.is_some() => return Ended::Done,
                Happened::Read(Ok(0)) => return Ended::Lost("the node closed it".to_owned()),
                Happened::Read(Ok(_)) => (served.heard_at, served.pinged) = (Instant::now(), false),
                // The reading side knows more: what the node said before it closed.
                Happened::Wrote(Err(error)) if served.paused => {
                    return Ended::Lost(error.to_string());
                }
                Happened::Wrote(Err(_)) => conn.out.clear(),
                Happened::Read(Err(error)) => return Ended::Lost(error.to_string()),
                Happened::Wrote(Ok(())) | Happened::Progress => {}
                Happened::Publish(Some(publish)) => self.take_in(publish, conn, inlets),
                Happened::Publish(None) => publishes_ended = true,
                Happened::Wish(Some(wish)) => self.wish(wish, conn, inlets),
                Happened::Wish(None) => return Ended::Over(Error::Closed),
                Happened::Time => {
                    if let Some(ended) = self.time(conn, &mut served) {
                        return ended;
                    }
                }
            }
        }
    }

    /// Everything that was read, unless the program falls behind.
    fn take_frames(&mut self, conn: &mut Conn, served: &mut Served) -> ControlFlow<Ended> {
        loop {
            let was_paused = served.paused;
            served.paused = !self.role.has_room(self.outgoing.awaits_answers());
            if served.paused {
                return ControlFlow::Continue(());
            }
            if was_paused {
                (served.heard_at, served.pinged) = (Instant::now(), false);
            }
            match conn.read.frame() {
                Ok(Some((frame, bytes))) => self.frame(frame, &bytes, served)?,
                Ok(None) => return ControlFlow::Continue(()),
                Err(error) => return ControlFlow::Break(Ended::Lost(error.to_string())),
            }
        }
    }

    fn frame(
        &mut self,
        frame: NodeFrame,
        bytes: &Bytes,
        served: &mut Served,
    ) -> ControlFlow<Ended> {
        match frame {
            NodeFrame::Stored(runs) => runs.into_iter().for_each(|run| self.outgoing.stored(run)),
            NodeFrame::Complete(runs) => {
                runs.into_iter().for_each(|run| self.outgoing.complete(run));
            }
            NodeFrame::Receipt { counter, receipt } => self.outgoing.receipt(counter, receipt),
            NodeFrame::Refused { counter, code, message } => {
                let now = Instant::now();
                let after = self.outgoing.refused(counter, code, message, now, put_off());
                served.again |= after == AfterRefusal::Reconnect;
            }
            NodeFrame::ReceiptReply { id, level, receipt } => {
                if let Some(reply) = self.asked.remove(&id) {
                    let _ = reply.send(Ok(ReceiptNow { receipt, level }));
                }
            }
            NodeFrame::Error { id, code, message } => match self.asked.remove(&id) {
                Some(reply) => {
                    let _ = reply.send(Err(Error::Refused { code, message }));
                }
                None => tracing::debug!(%code, message, "the node refuses something"),
            },
            NodeFrame::Close { code, message } => {
                let left = served.leave_until.is_some();
                return ControlFlow::Break(if left { Ended::Done } else { closed(code, message) });
            }
            frame => self.role.frame(frame, bytes),
        }
        ControlFlow::Continue(())
    }

    /// Takes in a message, and more of them while there is room.
    fn take_in(&mut self, first: Publish, conn: &mut Conn, inlets: &mut Inlets) {
        let max = conn.greeting.message_bytes_max as usize;
        let now = Instant::now();
        let mut next = Some(first);
        while let Some(Publish { body, is_file, promise }) = next {
            if body.len() > max {
                promise.fail(&Error::TooLong { bytes: body.len(), max });
            } else {
                self.outgoing.push(body, is_file, promise);
                self.outgoing.write(&mut conn.out, now);
            }
            next = if self.outgoing.has_room() { inlets.publishes.try_recv().ok() } else { None };
        }
    }

    fn wish(&mut self, wish: Wish, conn: &mut Conn, inlets: &mut Inlets) {
        match wish {
            Wish::Receipt { seq, wait, reply } => {
                let (id, group) = (conn.id(), self.group.clone());
                conn.put(&ClientFrame::Receipt { id, group, seq, wait_ms: wait_ms(wait) });
                self.asked.retain(|_, reply| !reply.is_closed());
                self.asked.insert(id, reply);
            }
            Wish::End { reply } => {
                inlets.publishes.close();
                self.ending = Some(reply);
            }
        }
    }

    /// Says how far the program is, when that is due; otherwise when to look again.
    fn acknowledge(
        &mut self,
        conn: &mut Conn,
        served: &mut Served,
        now: Instant,
    ) -> Option<Instant> {
        let Role::Member(member) = &self.role else { return None };
        if served.leave_until.is_some() {
            return None;
        }
        let not_before = served.acked_at.map_or(now, |at| at + ACK_EVERY);
        let (ack, look_again) = member.shared.lock().acknowledgement(now, now >= not_before);
        if let Some(ack) = ack {
            conn.put(&ClientFrame::Ack(ack));
            served.acked_at = Some(now);
        }
        look_again.then_some(not_before.max(now + Duration::from_millis(1)))
    }

    /// The wished end, once everything is stored: the sender's at once, the member's with LEAVE.
    fn finish(&mut self, conn: &mut Conn, served: &mut Served, now: Instant) -> Option<Ended> {
        if self.ending.is_none() || !self.outgoing.is_settled() || served.leave_until.is_some() {
            return None;
        }
        let Role::Member(member) = &self.role else { return Some(Ended::Done) };
        while let (Some(ack), _) = member.shared.lock().acknowledgement(now, true) {
            conn.put(&ClientFrame::Ack(ack));
        }
        conn.put(&ClientFrame::Leave);
        served.leave_until = Some(now + LEAVE_MAX);
        None
    }

    fn deadline(&self, served: &Served, ack_at: Option<Instant>) -> Instant {
        let silence = self.target.silence_max();
        let silent = match (served.paused, served.pinged) {
            // Writing still fails when the node is gone.
            (true, _) => served.heard_at + Duration::from_secs(3600),
            (false, false) => served.heard_at + silence / 3,
            (false, true) => served.heard_at + silence,
        };
        let others = [ack_at, self.outgoing.deadline(), served.leave_until];
        others.into_iter().flatten().fold(silent, Instant::min)
    }

    /// Looks at the clock: silence is asked about, then not borne any longer.
    fn time(&self, conn: &mut Conn, served: &mut Served) -> Option<Ended> {
        let now = Instant::now();
        let silence = self.target.silence_max();
        if served.leave_until.is_some_and(|until| now >= until) {
            return Some(Ended::Over(conn.lost("no answer to LEAVE")));
        }
        if served.paused {
            return None;
        }
        if now >= served.heard_at + silence {
            return Some(Ended::Lost(format!("nothing came for {} s", silence.as_secs_f32())));
        }
        if now >= served.heard_at + silence / 3 && !served.pinged {
            served.pinged = true;
            conn.put(&ClientFrame::Ping { token: 1 });
        }
        None
    }
}
