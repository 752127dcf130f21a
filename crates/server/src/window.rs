//! The newest part of a group's log in memory: contiguous bytes that are written as they are to every member that is nearly up to date.

use std::cell::OnceCell;
use std::collections::VecDeque;
use std::io::IoSlice;

use arrayvec::ArrayVec;
use bytes::Bytes;
use tertulia_group::{Header, Seq};

/// Bytes that are kept even when nobody needs them any more, for those who come back in a moment.
const KEPT_BYTES_MIN: usize = 256 << 10;

/// Segments that are written in one call, at most.
pub(crate) const PIECES_MAX: usize = 64;

/// Frames are looked for from the nearest of the marks that are so far apart.
const MARK_BYTES: usize = 4 << 10;

#[derive(Debug)]
struct Segment {
    /// Place of its first byte in the stream of all bytes since the coordinator started.
    start: u64,
    first: Seq,
    last: Seq,
    bytes: Bytes,
    /// A frame of about each [`MARK_BYTES`]: its number and where it begins. Made when somebody first looks for a frame in the
    /// middle, then used by all.
    marks: OnceCell<Vec<(Seq, usize)>>,
}

impl Segment {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    fn marks(&self) -> &[(Seq, usize)] {
        self.marks.get_or_init(|| {
            let (mut marks, mut start) = (Vec::new(), 0);
            for (seq, end) in frame_ends(&self.bytes) {
                if marks.last().is_none_or(|(_, last)| start - last >= MARK_BYTES) {
                    marks.push((seq, start));
                }
                start = end;
            }
            marks
        })
    }

    /// Where the frame `seq` begins, which is here.
    fn start_of(&self, seq: Seq) -> usize {
        let before = self.marks().partition_point(|(number, _)| *number < seq);
        self.frames_after(before).find(|(number, _)| *number + 1 == seq).map_or(0, |(_, end)| end)
    }

    /// Each frame from the mark before `mark` on: its number and its end.
    fn frames_after(&self, mark: usize) -> impl Iterator<Item = (Seq, usize)> + '_ {
        let start = self.marks().get(mark.saturating_sub(1)).map_or(0, |(_, start)| *start);
        frame_ends(&self.bytes[start..]).map(move |(seq, end)| (seq, start + end))
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Window {
    segments: VecDeque<Segment>,
    bytes: usize,
    bytes_max: usize,
    /// Where the next segment begins.
    end: u64,
    /// The number after the last one here.
    next: Seq,
}

/// The number of the frame after `bytes`, which hold whole frames, and the places where each ends.
pub(crate) fn frame_ends(bytes: &[u8]) -> impl Iterator<Item = (Seq, usize)> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let header = Header::read(bytes.get(at..)?).ok()?;
        at += header.len as usize;
        (at <= bytes.len()).then_some((header.seq, at))
    })
}

impl Window {
    /// An empty window after the number `tail`.
    pub fn new(tail: Seq, bytes_max: usize) -> Self {
        Self { segments: VecDeque::new(), bytes: 0, bytes_max, end: 0, next: tail + 1 }
    }

    /// Adds a stored piece of the log, whole frames; then gives up what is over the limit.
    pub fn push(&mut self, piece: Bytes, first: Seq, last: Seq) {
        debug_assert_eq!(first, self.next, "promise 1: the window is contiguous");
        let start = self.end;
        self.end += piece.len() as u64;
        self.next = last + 1;
        self.bytes += piece.len();
        self.segments.push_back(Segment {
            start,
            first,
            last,
            bytes: piece,
            marks: OnceCell::new(),
        });
        while self.bytes > self.bytes_max {
            self.pop_front();
        }
    }

    /// Gives up what everybody has written (`slowest` is the place that the slowest has come to), but for a little.
    pub fn release(&mut self, slowest: u64) {
        while self.bytes > KEPT_BYTES_MIN
            && self.segments.front().is_some_and(|front| front.end() <= slowest)
        {
            self.pop_front();
        }
    }

    fn pop_front(&mut self) {
        if let Some(front) = self.segments.pop_front() {
            self.bytes -= front.bytes.len();
        }
    }

    /// Whether enough is held for [`Window::release`] to be worth a look at everybody's place.
    pub fn is_over_minimum(&self) -> bool {
        self.bytes > 2 * KEPT_BYTES_MIN
    }

    /// The place after the last byte.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Bytes that are held.
    #[cfg(test)]
    pub fn held(&self) -> usize {
        self.bytes
    }

    /// The place where the frame `seq` begins; `None` when it is not (any more) here. The next number to come is here.
    pub fn locate(&self, seq: Seq) -> Option<u64> {
        if seq == self.next {
            return Some(self.end);
        }
        let after = self.segments.partition_point(|segment| segment.last < seq);
        let segment = self.segments.get(after).filter(|segment| segment.first <= seq)?;
        Some(segment.start + segment.start_of(seq) as u64)
    }

    /// Whether bytes from `at` on are still here.
    pub fn holds(&self, at: u64) -> bool {
        self.segments.front().map_or(self.end, |front| front.start) <= at
    }

    /// Borrows whole frames from the frame boundary `at` on, about `bytes_max` of them (at least a segment's rest), and
    /// answers how many bytes that is and the last number in it.
    pub fn slices<'a>(
        &'a self,
        at: u64,
        bytes_max: usize,
        out: &mut ArrayVec<IoSlice<'a>, PIECES_MAX>,
    ) -> (usize, Seq) {
        // Nearly everybody is at the last one.
        let before = self.segments.len().saturating_sub(1);
        let mut index = match self.segments.get(before) {
            Some(newest) if newest.start <= at => before,
            _ => self.segments.partition_point(|segment| segment.end() <= at),
        };
        let (mut taken, mut last) = (0, 0);
        let mut from = at;
        while let Some(segment) = self.segments.get(index) {
            let skip = usize::try_from(from - segment.start).expect("a place within a segment");
            let slice = &segment.bytes[skip..];
            if taken > 0 && taken + slice.len() > bytes_max || out.is_full() {
                break;
            }
            out.push(IoSlice::new(slice));
            taken += slice.len();
            last = segment.last;
            from = segment.end();
            index += 1;
        }
        (taken, last)
    }

    /// Where a write of `written` bytes from the boundary `at` ended: the number of the frame in which it stopped (or the one
    /// before it, when it stopped at a boundary), the place of that frame's end, and what is left of it. That shares the
    /// segment's bytes: to be copied once the window holds them no longer.
    pub fn stopped(&self, at: u64, written: usize) -> Option<(Seq, u64, Bytes)> {
        let stop = at + written as u64;
        let index = self.segments.partition_point(|segment| segment.end() < stop);
        let segment = self.segments.get(index)?;
        let inside = usize::try_from(stop - segment.start).ok()?;
        let mark = segment.marks().partition_point(|(_, start)| *start < inside);
        let (seq, end) = segment.frames_after(mark).find(|(_, end)| *end >= inside)?;
        Some((seq, segment.start + end as u64, segment.bytes.slice(inside..end)))
    }

    /// The header of the frame `seq`, where it is here.
    pub fn header(&self, seq: Seq) -> Option<Header> {
        let at = self.locate(seq).filter(|at| *at < self.end)?;
        let (piece, _) = self.piece(at)?;
        Header::read(&piece).ok()
    }

    /// The headers of the newest `most` entries above `above`, the newest first.
    pub fn newest(&self, above: Seq, most: usize) -> Vec<Header> {
        let mut headers = Vec::new();
        for segment in self.segments.iter().rev().take_while(|segment| segment.last > above) {
            if headers.len() >= most {
                break;
            }
            let mut at = 0;
            for (seq, end) in frame_ends(&segment.bytes) {
                let begin = std::mem::replace(&mut at, end);
                if seq > above {
                    headers.extend(Header::read(&segment.bytes[begin..]));
                }
            }
        }
        headers.sort_unstable_by_key(|header| std::cmp::Reverse(header.seq));
        headers.truncate(most);
        headers
    }

    /// A piece of whole frames from the boundary `at` on, sharing the segment's bytes, and the last number in it.
    pub fn piece(&self, at: u64) -> Option<(Bytes, Seq)> {
        let index = self.segments.partition_point(|segment| segment.end() <= at);
        let segment = self.segments.get(index)?;
        let skip = usize::try_from(at - segment.start).ok()?;
        Some((segment.bytes.slice(skip..), segment.last))
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use tertulia_group::Kind;
    use tertulia_group::entry::write;

    use super::*;

    fn piece(numbers: std::ops::RangeInclusive<Seq>, body: usize) -> Bytes {
        let mut out = BytesMut::new();
        for seq in numbers {
            let header = Header {
                len: 0,
                kind: Kind::Message,
                flags: 0,
                name_len: 0,
                seq,
                time_us: 0,
                sender: 1,
                counter: seq,
                epoch: 1,
            };
            write(&mut out, header, "ana", &vec![b'x'; body]);
        }
        out.freeze()
    }

    #[test]
    fn numbers_are_found_and_a_stopped_write_ends_within_its_frame() {
        let mut window = Window::new(0, 1 << 20);
        let (a, b) = (piece(1..=3, 10), piece(4..=4, 20));
        let len = a.len() as u64 / 3;
        window.push(a, 1, 3);
        window.push(b, 4, 4);
        assert_eq!(window.locate(1), Some(0));
        assert_eq!(window.locate(3), Some(2 * len));
        assert_eq!(window.locate(5), Some(window.end()));
        assert_eq!(window.locate(6), None);
        let (seq, end, rest) = window.stopped(len, 5).unwrap();
        assert_eq!((seq, end, rest.len() as u64), (2, 2 * len, len - 5));
        let (seq, end, rest) = window.stopped(0, 2 * len as usize).unwrap();
        assert_eq!((seq, end, rest.len()), (2, 2 * len, 0));
        let mut slices = ArrayVec::new();
        assert_eq!(
            window.slices(len, 1 << 20, &mut slices),
            (2 * len as usize + len as usize + 10, 4)
        );
    }

    #[test]
    fn every_frame_of_a_long_segment_is_found() {
        let mut window = Window::new(0, 1 << 20);
        window.push(piece(1..=5, 10), 1, 5);
        window.push(piece(6..=1000, 200), 6, 1000);
        let mut start = 0;
        for seq in 1..=1000 {
            let end = start + if seq <= 5 { 61 } else { 251 };
            assert_eq!(window.locate(seq), Some(start), "#{seq}");
            for stop in [start + 1, end - 1, end] {
                let (number, place, rest) = window.stopped(0, stop as usize).expect("it is here");
                assert_eq!((number, place, rest.len() as u64), (seq, end, end - stop), "#{seq}");
            }
            start = end;
        }
        assert_eq!(window.end(), start);
    }

    #[test]
    fn what_is_over_the_limit_goes_and_is_known_to_be_gone() {
        let mut window = Window::new(0, 1000);
        for seq in 1..=20 {
            window.push(piece(seq..=seq, 100), seq, seq);
        }
        assert!(window.held() <= 1000);
        assert_eq!(window.locate(1), None);
        assert!(!window.holds(0));
        assert_eq!(window.header(20).map(|header| header.counter), Some(20));
        assert_eq!(window.header(21), None);
        let newest = |above, most| {
            window.newest(above, most).iter().map(|header| header.seq).collect::<Vec<_>>()
        };
        assert_eq!(newest(0, 2), [20, 19]);
        assert_eq!(newest(19, 9), [20]);
        assert!(newest(20, 9).is_empty());
    }
}
