//! Standard input as a stream of lines, read by a thread of its own: nobody waits for it at the end.

use std::io::{BufRead, IsTerminal, Read, Write};

use tokio::sync::mpsc;

/// A longer line is cut off here, and is then too long for any node.
const LINE_BYTES_MAX: u64 = 16 << 20;
/// Lines that are read ahead.
const LINES_AHEAD: usize = 256;

/// Whether a person is typing.
pub fn is_terminal() -> bool {
    std::io::stdin().is_terminal()
}

/// The lines of standard input, without their ends.
pub struct Lines {
    from_thread: mpsc::Receiver<Vec<u8>>,
}

impl Lines {
    /// Begins to read.
    pub fn read() -> Self {
        let (to_reader, from_thread) = mpsc::channel(LINES_AHEAD);
        std::thread::spawn(move || {
            let mut stdin = std::io::stdin().lock();
            while let Some(line) = next_line(&mut stdin) {
                if to_reader.blocking_send(line).is_err() {
                    break;
                }
            }
        });
        Self { from_thread }
    }

    /// The next line; `None` at the end. May be dropped before it is done.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        self.from_thread.recv().await
    }

    /// Asks a person; `None` at the end.
    pub async fn ask(&mut self, question: &str) -> Option<String> {
        prompt(question);
        let line = self.next().await?;
        Some(String::from_utf8_lossy(&line).trim().to_owned())
    }
}

/// Shows what is expected now, on standard error.
pub fn prompt(text: &str) {
    let mut stderr = std::io::stderr().lock();
    // A terminal that has gone is noticed when reading from it.
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

fn next_line(from: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    let read = from.take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
    if !matches!(read, Ok(1..)) {
        return None;
    }
    if line.ends_with(b"\n") {
        line.pop();
        if line.ends_with(b"\r") {
            line.pop();
        }
    } else if line.len() as u64 == LINE_BYTES_MAX {
        skip_line(from);
    }
    Some(line)
}

/// Passes over the rest of a line without holding it.
fn skip_line(from: &mut impl BufRead) {
    loop {
        let Ok(part) = from.fill_buf() else { return };
        let end = part.iter().position(|byte| *byte == b'\n');
        let used = end.map_or(part.len(), |end| end + 1);
        if used == 0 {
            return;
        }
        from.consume(used);
        if end.is_some() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_in_any_of_the_usual_ways() {
        let mut text: &[u8] = b"a\r\n\nb\xff\nlast";
        let mut lines = Vec::new();
        while let Some(line) = next_line(&mut text) {
            lines.push(line);
        }
        assert_eq!(lines, [&b"a"[..], b"", b"b\xff", b"last"]);
    }

    #[test]
    fn a_line_that_is_too_long_is_one_line() {
        let mut text = vec![b'x'; LINE_BYTES_MAX as usize + 10];
        text.extend_from_slice(b"\nnext\n");
        let mut text = text.as_slice();
        assert_eq!(next_line(&mut text).map(|line| line.len() as u64), Some(LINE_BYTES_MAX));
        assert_eq!(next_line(&mut text), Some(b"next".to_vec()));
    }
}
