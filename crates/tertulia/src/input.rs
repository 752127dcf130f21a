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

/// What a person has typed.
#[derive(Debug, PartialEq, Eq)]
pub enum Typed {
    /// An empty line.
    Nothing,
    /// A line that begins with `/`: its first word, without it.
    Command(String),
    /// Something to say; `//` at its beginning has become `/`.
    Text(Vec<u8>),
}

/// What a command that there is not is answered.
pub const NO_SUCH_COMMAND: &str =
    "no such command; /help. To say something that begins with /, begin it with //";
/// How everything else is said, at the end of a help.
pub const SAID: &str = "anything else is said; //… says /…";

/// Reads what a person has typed.
pub fn typed(mut line: Vec<u8>) -> Typed {
    let words = line.trim_ascii();
    if words.is_empty() {
        return Typed::Nothing;
    }
    let Some(command) = words.strip_prefix(b"/") else { return Typed::Text(line) };
    if command.starts_with(b"/") {
        let first = line.iter().position(|byte| *byte == b'/').unwrap_or_default();
        line.remove(first);
        return Typed::Text(line);
    }
    let word = command.split(u8::is_ascii_whitespace).next().unwrap_or_default();
    Typed::Command(String::from_utf8_lossy(word).into_owned())
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

    #[test]
    fn a_line_that_begins_with_a_slash_is_a_command_unless_it_begins_with_two() {
        let text = |text: &str| Typed::Text(text.into());
        let command = |word: &str| Typed::Command(word.to_owned());
        for (line, is) in [
            ("", Typed::Nothing),
            ("  ", Typed::Nothing),
            ("hola /quit", text("hola /quit")),
            (" hola ", text(" hola ")),
            ("/quit", command("quit")),
            (" /who ", command("who")),
            ("/me waves", command("me")),
            ("/", command("")),
            ("//etc/hosts is it", text("/etc/hosts is it")),
            (" ///", text(" //")),
        ] {
            assert_eq!(typed(line.into()), is, "{line:?}");
        }
    }
}
