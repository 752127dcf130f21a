//! Connections as TCP has them: bytes in order, some time later, and after a cut a part of what was on its way. Nobody has to
//! read them: what is written to who does not read is kept, up to a window.

use bytes::{Bytes, BytesMut};

use crate::rng::Rng;

/// What a node writes to a program before it waits for the program to read.
const WINDOW_BYTES: usize = 4096;

/// One connection between a program and a node.
#[derive(Debug)]
pub struct Link {
    pub program: usize,
    to_node: Way,
    to_program: Way,
    cut: bool,
    /// Written by the node, not read by the program.
    unread: usize,
    /// Has arrived, and the program does not read.
    backlog: BytesMut,
}

/// One direction.
#[derive(Debug, Default)]
struct Way {
    last_at: u64,
    ended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Node,
    Program,
}

impl Link {
    pub fn new(program: usize) -> Self {
        let (to_node, to_program) = (Way::default(), Way::default());
        Self { program, to_node, to_program, cut: false, unread: 0, backlog: BytesMut::new() }
    }

    fn way(&mut self, to: Side) -> &mut Way {
        match to {
            Side::Node => &mut self.to_node,
            Side::Program => &mut self.to_program,
        }
    }

    /// When bytes that are written now arrive; never before those that were written earlier.
    pub fn arrival(&mut self, to: Side, now: u64, delay_ms_max: u64, rng: &mut Rng) -> u64 {
        let delay = if rng.chance(30) { rng.within(50, 800) } else { rng.within(0, delay_ms_max) };
        let way = self.way(to);
        way.last_at = way.last_at.max(now + delay);
        way.last_at
    }

    /// What is written from now on arrives no earlier than `until`.
    pub fn stall(&mut self, to: Side, until: u64) {
        let way = self.way(to);
        way.last_at = way.last_at.max(until);
    }

    pub const fn cut(&mut self) {
        self.cut = true;
    }

    pub const fn is_cut(&self) -> bool {
        self.cut
    }

    /// How many of `len` bytes arrive: all, or after a cut a part of the first piece and nothing any more.
    pub fn arrives(&mut self, to: Side, len: usize, rng: &mut Rng) -> usize {
        let cut = self.cut;
        let way = self.way(to);
        match (cut, way.ended) {
            (false, _) => len,
            (true, true) => 0,
            (true, false) => {
                way.ended = true;
                rng.below(len as u64 + 1) as usize
            }
        }
    }

    pub const fn written(&mut self, len: usize) {
        self.unread += len;
    }

    /// The program reads; answers whether the node may have waited for that.
    pub const fn read(&mut self, len: usize) -> bool {
        let waited = !self.has_room();
        self.unread -= len;
        waited
    }

    /// The node may write more of the log.
    pub const fn has_room(&self) -> bool {
        !self.cut && self.unread < WINDOW_BYTES
    }

    /// Has arrived and waits until the program reads.
    /// Something has arrived and waits until the program reads.
    pub fn has_backlog(&self) -> bool {
        !self.backlog.is_empty()
    }

    pub fn put_off(&mut self, bytes: &[u8]) {
        self.backlog.extend_from_slice(bytes);
    }

    pub fn take_backlog(&mut self) -> Bytes {
        self.backlog.split().freeze()
    }
}
