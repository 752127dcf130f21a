//! Writing the log to one native connection: a cursor into the group's window, no queue. What is behind the window is read
//! from the journal, away from the shard.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::rc::Rc;

use arrayvec::ArrayVec;
use bytes::{Buf, Bytes, BytesMut};
use tertulia_group::entry::FLAG_AGAIN;
use tertulia_group::{Input, Seq};
use tertulia_journal::{ReadError, Record};
use tertulia_wire::NodeFrame;

use crate::conn::Conn;
use crate::hosted::{Hosted, Reading};
use crate::stream::Stream;
use crate::window::{PIECES_MAX, frame_ends};

/// Written in one call, about.
const WRITE_BYTES: usize = 256 << 10;
/// Written before somebody else on the shard has a turn.
const TURN_BYTES: usize = 1 << 20;
/// Answers up to this long are copied together.
const COPIED_BYTES: usize = 16 << 10;
/// Read from the journal at once.
const READ_BYTES: usize = 1 << 20;

/// What came of writing as much as possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrote {
    /// There is nothing more to write.
    All,
    /// The socket takes no more.
    Full,
    /// There is more, but others shall have a turn.
    More,
    /// The journal has to be read first.
    Behind,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Outbox {
    /// Frames that are not the log's: they go between the log's, at frame boundaries.
    pub control: BytesMut,
    /// Entries are written from here on; 0 for a sender from outside.
    next: Seq,
    /// The group was told that this one is behind the window.
    lagging: bool,
    /// Made when there is something in it: who is up to date and asks nothing has none.
    backlog: Option<Box<Backlog>>,
}

/// What waits for a connection that is not up to date, or has asked something.
#[derive(Debug, Default)]
struct Backlog {
    /// What is left of the frame before `next`: comes before everything else.
    rest: Bytes,
    /// `rest` is this one's own, and no part of the window's memory.
    rest_owned: bool,
    /// The place in the window after `rest`, where it is from there.
    after_rest: Option<u64>,
    /// Frames that come before what is in `control`: long ones as they are, so that the shard copies none.
    before: VecDeque<Bytes>,
    /// Whole frames from the journal.
    chunks: VecDeque<Bytes>,
    /// Numbers that the member had not finished: sent again before the rest.
    again: VecDeque<Seq>,
    /// What is in `chunks` cannot be read again from `next`.
    again_read: bool,
}

impl Backlog {
    fn is_empty(&self) -> bool {
        self.rest.is_empty()
            && self.before.is_empty()
            && self.chunks.is_empty()
            && self.again.is_empty()
    }
}

impl Outbox {
    pub fn new() -> Self {
        Self { control: BytesMut::new(), next: 0, lagging: false, backlog: None }
    }

    fn backlog(&mut self) -> &mut Backlog {
        self.backlog.get_or_insert_default()
    }

    /// What is left of the frame before `next`.
    fn rest(&self) -> &[u8] {
        self.backlog.as_ref().map_or(&[], |backlog| &backlog.rest)
    }

    /// From now on the log is written, after the numbers in `again`.
    pub fn start(&mut self, next: Seq, again: Vec<Seq>) {
        self.next = next;
        if !again.is_empty() {
            self.backlog().again = again.into();
        }
    }

    /// The connection was sent everything up to here.
    pub fn sent_through(&self) -> Seq {
        let next = self.next.max(1);
        next - 1 - u64::from(!self.rest().is_empty() && next > 1)
    }

    /// Adds a whole frame after those that there are; it shares its bytes.
    pub fn answer(&mut self, frame: Bytes) {
        if frame.len() <= COPIED_BYTES {
            return self.control.extend_from_slice(&frame);
        }
        let control = self.control.split().freeze();
        let before = &mut self.backlog().before;
        before.extend(Some(control).filter(|control| !control.is_empty()));
        before.push_back(frame);
    }

    /// Bytes of answers that wait for the socket.
    pub fn answers(&self) -> usize {
        let before = self.backlog.iter().flat_map(|backlog| &backlog.before);
        self.control.len() + before.map(Bytes::len).sum::<usize>()
    }

    /// Bytes that wait for the socket, but for those of the window.
    pub fn held(&self) -> usize {
        let chunks = self.backlog.iter().flat_map(|backlog| &backlog.chunks);
        let chunks: usize = chunks.map(Bytes::len).sum();
        let own = self.backlog.iter().filter(|backlog| backlog.rest_owned);
        self.answers() + own.map(|backlog| backlog.rest.len()).sum::<usize>() + chunks
    }

    /// Gives up what can be read again.
    pub fn forget_chunks(&mut self) {
        if let Some(backlog) = self.backlog.as_mut().filter(|backlog| !backlog.again_read) {
            backlog.chunks.clear();
        }
    }

    /// Nothing is half written.
    pub fn at_boundary(&self) -> bool {
        let before = self.backlog.as_ref().is_some_and(|backlog| !backlog.before.is_empty());
        self.rest().is_empty() && !before && self.control.is_empty()
    }

    /// From now on no more of the log is written than what is half written.
    pub fn finish(&mut self) {
        self.next = 0;
        if let Some(backlog) = &mut self.backlog {
            backlog.again.clear();
            backlog.chunks.clear();
        }
    }

    /// Writes what there is and the socket takes, at most a turn's worth.
    pub fn write(
        &mut self,
        hosted: &Hosted,
        conn: &Conn,
        stream: &mut Stream,
    ) -> io::Result<Wrote> {
        let mut left = TURN_BYTES;
        loop {
            let wrote = if !self.rest().is_empty() {
                stream.try_write(self.rest()).inspect(|n| self.rest_written(*n, conn))
            } else if let Some(frame) = self.backlog.as_ref().and_then(|all| all.before.front()) {
                stream.try_write(frame).inspect(|n| self.answer_written(*n))
            } else if !self.control.is_empty() {
                stream.try_write(&self.control).inspect(|n| self.control_written(*n))
            } else if let Some(chunk) = self.backlog.as_ref().and_then(|all| all.chunks.front()) {
                let n = stream.try_write(&chunk[..chunk.len().min(WRITE_BYTES)]);
                n.inspect(|n| self.chunk_written(*n))
            } else {
                match self.step(hosted, conn) {
                    Step::Write(place) => match self.write_window(hosted, conn, stream, place) {
                        // Nearly always: there is nothing else to look for.
                        Ok((n, true)) => {
                            conn.wrote.set(conn.wrote.get() + n as u64);
                            return Ok(Wrote::All);
                        }
                        wrote => wrote.map(|(n, _)| n),
                    },
                    Step::Done(wrote) => return Ok(wrote),
                }
            };
            match wrote {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    conn.wrote.set(conn.wrote.get() + n as u64);
                    left = left.saturating_sub(n);
                    if left == 0 {
                        return Ok(Wrote::More);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.look_behind(hosted, conn);
                    return Ok(Wrote::Full);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Finds out where the next bytes come from.
    fn step(&mut self, hosted: &Hosted, conn: &Conn) -> Step {
        let next = self.next;
        if next == 0 {
            return Step::Done(Wrote::All);
        }
        match &self.backlog {
            Some(backlog) if !backlog.again.is_empty() => return Step::Done(Wrote::Behind),
            // Done with: it is made again when there is something.
            Some(backlog) if backlog.is_empty() => self.backlog = None,
            _ => {}
        }
        let window = hosted.window.borrow();
        let place = conn.place().filter(|place| window.holds(*place));
        let place = place.or_else(|| window.locate(next));
        conn.set_place(place);
        let behind = place.is_none() && next <= hosted.group.borrow().tail();
        self.tell_lagging(behind, hosted, conn);
        match place {
            Some(place) if place == window.end() => Step::Done(Wrote::All),
            Some(place) => Step::Write(place),
            None if behind => Step::Done(Wrote::Behind),
            None => Step::Done(Wrote::All),
        }
    }

    /// The socket takes no more: the window may have gone on without this one, and waits for it no longer.
    fn look_behind(&mut self, hosted: &Hosted, conn: &Conn) {
        let rest = self.backlog.as_mut().filter(|backlog| !backlog.rest.is_empty());
        let place = rest.as_ref().map_or(conn.place(), |backlog| backlog.after_rest);
        if place.is_none_or(|place| hosted.window.borrow().holds(place)) {
            return;
        }
        conn.set_place(None);
        if let Some(backlog) = rest {
            backlog.after_rest = None;
            if !backlog.rest_owned {
                // Half a frame must not keep a whole segment that the window has given up.
                backlog.rest = Bytes::copy_from_slice(&backlog.rest);
                backlog.rest_owned = true;
            }
        }
        self.tell_lagging(true, hosted, conn);
    }

    fn tell_lagging(&mut self, lagging: bool, hosted: &Hosted, conn: &Conn) {
        if lagging != self.lagging {
            self.lagging = lagging;
            hosted.input(Input::Lagging(conn.id, lagging));
        }
    }

    /// How many bytes the socket has taken, and whether that is all that there is.
    fn write_window(
        &mut self,
        hosted: &Hosted,
        conn: &Conn,
        stream: &mut Stream,
        place: u64,
    ) -> io::Result<(usize, bool)> {
        let window = hosted.window.borrow();
        let mut slices: ArrayVec<IoSlice<'_>, PIECES_MAX> = ArrayVec::new();
        let (bytes, last) = window.slices(place, WRITE_BYTES, &mut slices);
        let n = match &slices[..] {
            [piece] => stream.try_write(piece)?,
            pieces => stream.try_write_vectored(pieces)?,
        };
        let before = self.next;
        if n == bytes {
            self.next = last + 1;
            conn.set_place(Some(place + n as u64));
        } else if let Some((seq, end, rest)) = window.stopped(place, n).filter(|_| n > 0) {
            self.next = seq + 1;
            self.keep_rest(rest, false, Some(end));
        }
        let written = self.next - before;
        hosted.shared.metrics.deliveries.inc_by(written);
        Ok((n, n == bytes && place + n as u64 == window.end()))
    }

    /// What is left of a frame; that frame ends at the place `after` in the window, where it is from there.
    fn keep_rest(&mut self, rest: Bytes, owned: bool, after: Option<u64>) {
        let backlog = self.backlog();
        (backlog.rest, backlog.rest_owned, backlog.after_rest) = (rest, owned, after);
    }

    /// The place goes on only then: until its end is written, the window keeps the frame where it can.
    fn rest_written(&mut self, n: usize, conn: &Conn) {
        let backlog = self.backlog();
        backlog.rest.advance(n);
        if backlog.rest.is_empty() {
            conn.set_place(backlog.after_rest.take());
        }
    }

    fn answer_written(&mut self, n: usize) {
        let before = &mut self.backlog().before;
        let Some(frame) = before.front_mut() else { return };
        frame.advance(n);
        if frame.is_empty() {
            before.pop_front();
        }
    }

    fn control_written(&mut self, n: usize) {
        self.control.advance(n);
        if self.control.is_empty() {
            // What was once a long answer is not kept as room for the next.
            self.control = BytesMut::new();
        }
    }

    fn chunk_written(&mut self, n: usize) {
        let chunks = &mut self.backlog().chunks;
        let Some(chunk) = chunks.front_mut() else { return };
        let Some((seq, end)) = frame_ends(chunk).find(|(_, end)| *end >= n) else { return };
        let rest = Bytes::copy_from_slice(&chunk[n..end]);
        chunk.advance(end);
        if chunk.is_empty() {
            chunks.pop_front();
        }
        self.keep_rest(rest, true, None);
        // One that is sent again lies before `next`.
        if self.next > 0 {
            self.next = self.next.max(seq + 1);
        }
    }

    /// Begins to read from the journal what is to be written next.
    pub fn read(&mut self, hosted: &Rc<Hosted>) -> Reading {
        let again = self.backlog.as_ref().and_then(|backlog| backlog.again.front().copied());
        let bytes_max = if again.is_none() { READ_BYTES } else { 1 };
        hosted.read_behind(again.unwrap_or(self.next.max(1)), bytes_max)
    }

    /// Takes what was read. A gap is told; an error means that the connection cannot go on.
    pub fn take_read(&mut self, read: Result<Vec<Record>, ReadError>) -> Result<(), ReadError> {
        let backlog = self.backlog();
        let again = backlog.again.pop_front();
        backlog.again_read = again.is_some();
        let from = again.unwrap_or(self.next.max(1));
        let records = match read {
            Ok(records) => records,
            Err(ReadError::Trimmed { .. }) if again.is_some() => return Ok(()),
            Err(ReadError::Trimmed { first }) => {
                NodeFrame::Gap { first: from, last: first - 1 }.encode(&mut self.control);
                self.next = first;
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let chunks = &mut self.backlog().chunks;
        for record in records.into_iter().filter(|record| record.count > 0) {
            match again {
                Some(seq) => chunks.extend(frame_again(&record, seq)),
                None => chunks.extend(from_number(&record, from)),
            }
        }
        Ok(())
    }
}

enum Step {
    Write(u64),
    Done(Wrote),
}

/// The frame `seq` of a record, marked as sent again.
fn frame_again(record: &Record, seq: Seq) -> Option<Bytes> {
    let mut start = 0;
    for (number, end) in frame_ends(&record.entries) {
        if number == seq {
            let mut frame = BytesMut::from(&record.entries[start..end]);
            frame[5] |= FLAG_AGAIN;
            return Some(frame.freeze());
        }
        start = end;
    }
    None
}

/// The frames of a record from the number `from` on.
fn from_number(record: &Record, from: Seq) -> Option<Bytes> {
    let skip = frame_ends(&record.entries)
        .take_while(|(seq, _)| *seq < from)
        .last()
        .map_or(0, |(_, end)| end);
    Some(record.entries.slice(skip..)).filter(|bytes| !bytes.is_empty())
}

#[cfg(test)]
mod tests;
