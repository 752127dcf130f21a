//! Splits what comes from a socket into lines, with bounded memory.

use bytes::{Buf, Bytes, BytesMut};

use super::LINE_BYTES_MAX;

/// What comes out of a splitter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A line, without its end.
    Whole(Bytes),
    /// A line longer than [`LINE_BYTES_MAX`]; told once, and skipped up to its end.
    TooLong,
}

/// Takes lines (`\n` or `\r\n`) off the front of a buffer. One for each connection.
#[derive(Debug, Default)]
pub struct LineSplitter {
    /// So many bytes of the buffer hold no end of a line.
    scanned: usize,
    /// Within a line that was told to be too long.
    skipping: bool,
}

impl LineSplitter {
    /// The next line of `buffer`, from which nobody else may take; `None` when more bytes are needed. After `None` the buffer
    /// holds at most [`LINE_BYTES_MAX`] + 1 bytes.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Option<Line> {
        loop {
            let end = buffer[self.scanned..].iter().position(|byte| *byte == b'\n');
            let Some(end) = end.map(|end| self.scanned + end) else {
                self.scanned = buffer.len();
                return self.without_end(buffer);
            };
            self.scanned = 0;
            if std::mem::take(&mut self.skipping) {
                buffer.advance(end + 1);
                continue;
            }
            let mut line = buffer.split_to(end + 1);
            line.truncate(end);
            if line.last() == Some(&b'\r') {
                line.truncate(end - 1);
            }
            let whole = line.len() <= LINE_BYTES_MAX;
            return Some(if whole { Line::Whole(line.freeze()) } else { Line::TooLong });
        }
    }

    /// Whether it is within a line that is too long.
    pub const fn is_skipping(&self) -> bool {
        self.skipping
    }

    /// What to do with a buffer that holds part of a line only.
    fn without_end(&mut self, buffer: &mut BytesMut) -> Option<Line> {
        // One more for the `\r` of a line that is as long as it may be.
        let may_end = buffer.len() <= LINE_BYTES_MAX
            || (buffer.len() == LINE_BYTES_MAX + 1 && buffer.last() == Some(&b'\r'));
        if may_end && !self.skipping {
            return None;
        }
        buffer.clear();
        self.scanned = 0;
        let told = std::mem::replace(&mut self.skipping, true);
        (!told).then_some(Line::TooLong)
    }
}
