//! Connections as TCP has them: bytes in order, some time later, and after a cut a part of what was on its way.

use crate::rng::Rng;

/// One connection between a program and a node.
#[derive(Debug)]
pub struct Link {
    pub program: usize,
    to_node: Way,
    to_program: Way,
    cut: bool,
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
        Self { program, to_node: Way::default(), to_program: Way::default(), cut: false }
    }

    fn way(&mut self, to: Side) -> &mut Way {
        match to {
            Side::Node => &mut self.to_node,
            Side::Program => &mut self.to_program,
        }
    }

    /// When bytes that are written now arrive; never before those that were written earlier.
    pub fn arrival(&mut self, to: Side, now: u64, rng: &mut Rng) -> u64 {
        let delay = if rng.chance(30) { rng.within(50, 800) } else { rng.within(0, 15) };
        let way = self.way(to);
        way.last_at = way.last_at.max(now + delay);
        way.last_at
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
}
