//! The one place that prints: results on standard output, as text or as JSON lines, everything else on standard error.

use std::ffi::OsString;
use std::io::{BufWriter, IsTerminal, Stdout, Write};

use serde::Serialize;
use tertulia_wire::json::{NoticeLine, to_line};
use unicode_width::UnicodeWidthStr as _;

use crate::cli::Common;
use crate::failure::Failure;

/// Held back until this many bytes or a flush.
const BUFFER_BYTES: usize = 64 << 10;

/// To the line's beginning, and away with what stands there.
const CLEAR_LINE: &str = "\r\u{1b}[K";

/// Standard output and the flags that say what goes there.
pub struct Output {
    stdout: BufWriter<Stdout>,
    /// One object a line, nothing else.
    pub json: bool,
    /// No more than what was asked for.
    pub quiet: bool,
    /// Every step.
    pub verbose: bool,
    /// Before each line; see [`Output::beside_typing`].
    lead: &'static str,
}

impl Output {
    /// As the flags say.
    pub fn new(common: &Common) -> Self {
        Self {
            stdout: BufWriter::with_capacity(BUFFER_BYTES, std::io::stdout()),
            json: common.json,
            quiet: common.quiet,
            verbose: common.verbose > 0,
            lead: "",
        }
    }

    /// The same for another thread.
    pub fn another(&self) -> Self {
        let stdout = BufWriter::with_capacity(BUFFER_BYTES, std::io::stdout());
        let Self { json, quiet, verbose, lead, .. } = *self;
        Self { stdout, json, quiet, verbose, lead }
    }

    /// Somebody types on the terminal that the lines go to: each clears what stands there first, so that they are not glued
    /// together. Does nothing where no terminal is.
    pub fn beside_typing(&mut self) {
        let are_terminals = std::io::stdin().is_terminal()
            && std::io::stdout().is_terminal()
            && std::io::stderr().is_terminal();
        if are_terminals && !self.json {
            self.lead = CLEAR_LINE;
        }
    }

    /// What stands before a line; empty where nobody types.
    pub const fn lead(&self) -> &'static str {
        self.lead
    }

    /// One line of text, which is already safe to show.
    pub fn text(&mut self, line: &str) -> Result<(), Failure> {
        self.put(line)
    }

    /// One object.
    pub fn object(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        self.put(&to_line(value))
    }

    /// One object, or for people its text.
    pub fn either(
        &mut self,
        value: &impl Serialize,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        if self.json { self.object(value) } else { self.put(&text()) }
    }

    /// What was done, where nothing else is the result; `-q` leaves the text out.
    pub fn done(&mut self, value: &impl Serialize, text: &str) -> Result<(), Failure> {
        if self.json {
            return self.object(value);
        }
        if self.quiet { Ok(()) } else { self.text(text) }
    }

    fn put(&mut self, line: &str) -> Result<(), Failure> {
        let led = self.stdout.write_all(self.lead.as_bytes());
        let written = led.and_then(|()| self.stdout.write_all(line.as_bytes()));
        written.and_then(|()| self.stdout.write_all(b"\n")).map_err(|error| Failure::output(&error))
    }

    /// Bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.stdout.write_all(bytes).map_err(|error| Failure::output(&error))
    }

    /// Hands everything to the operating system.
    pub fn flush(&mut self) -> Result<(), Failure> {
        self.stdout.flush().map_err(|error| Failure::output(&error))
    }

    /// A step that `-v` shows: with the results for people, apart from them for programs.
    pub fn step(&mut self, line: &str) -> Result<(), Failure> {
        if !self.verbose {
            return Ok(());
        }
        if self.json {
            error_line(line);
            return Ok(());
        }
        self.text(line)?;
        self.flush()
    }

    /// What becomes of a membership, on standard error: for people its text, for programs an object; `-q` leaves it out.
    pub fn notice(&self, notice: &Notice<'_>) {
        if !self.json {
            return self.note(notice.message);
        }
        if !self.quiet {
            let Notice { code, group, name, message, time_us } = *notice;
            error_line(&to_line(&NoticeLine::new(code, group, name, message, time_us)));
        }
    }

    /// What people want to know beside the results; `-q` leaves it out.
    pub fn note(&self, line: &str) {
        if !self.quiet {
            error_line(&format!("{}{line}", self.lead));
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // Whoever cares has flushed; a closed pipe is no reason to panic.
        let _ = self.stdout.flush();
    }
}

/// One line on standard error, in one write, so that lines of several threads do not mix.
pub fn error_line(line: &str) {
    // There is nowhere to say that this cannot be said.
    let _ = std::io::stderr().lock().write_all(format!("{line}\n").as_bytes());
}

/// Whether colours may be used on this stream: it is a terminal that knows them, and NO_COLOR is not set.
pub fn colours(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && wants_colours(|name| std::env::var_os(name))
}

fn wants_colours(variable: impl Fn(&str) -> Option<OsString>) -> bool {
    let refused = variable("NO_COLOR").is_some_and(|value| !value.is_empty());
    let is_dumb = variable("TERM").is_some_and(|value| value == "dumb");
    !refused && !is_dumb
}

/// See [`Output::notice`].
#[derive(Clone, Copy, Debug)]
pub struct Notice<'a> {
    /// Its word.
    pub code: &'a str,
    /// The group of the membership.
    pub group: &'a str,
    /// The member's name.
    pub name: &'a str,
    /// For people, safe to show.
    pub message: &'a str,
    /// When it was noticed, in microseconds since the Unix epoch.
    pub time_us: u64,
}

/// How a text is shown on a terminal.
#[derive(Clone, Copy)]
pub enum Colour {
    /// It went well.
    Green,
    /// It is not all there.
    Yellow,
    /// Beside the point.
    Dim,
}

/// The text in its colour, where colours may be used.
pub fn paint(text: &str, colour: Colour, colours: bool) -> String {
    if !colours {
        return text.to_owned();
    }
    let code = match colour {
        Colour::Green => "32",
        Colour::Yellow => "33",
        Colour::Dim => "2",
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}

/// Lines of an aligned table: as wide as each column needs, numbers to the right.
pub fn table(heads: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let mut widths: Vec<usize> = heads.iter().map(|head| head.width()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.width());
        }
    }
    let is_number = |cell: &str| !cell.is_empty() && cell.bytes().all(|byte| byte.is_ascii_digit());
    let right: Vec<bool> = (0..heads.len())
        .map(|i| !rows.is_empty() && i > 0 && rows.iter().all(|row| is_number(&row[i])))
        .collect();
    let line = |cells: Vec<&str>| {
        let mut line = String::new();
        for (i, cell) in cells.into_iter().enumerate() {
            let fill = " ".repeat(widths[i].saturating_sub(cell.width()));
            let (before, after) = if right[i] { (fill.as_str(), "") } else { ("", fill.as_str()) };
            line.push_str(before);
            line.push_str(cell);
            line.push_str(after);
            line.push_str("  ");
        }
        line.trim_end().to_owned()
    };
    let head = line(heads.to_vec());
    let body = rows.iter().map(|row| line(row.iter().map(String::as_str).collect()));
    std::iter::once(head).chain(body).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_that_knows_no_colours_and_who_wants_none_get_none() {
        let wants = |name: &'static str, value: &'static str| {
            wants_colours(move |asked| (asked == name).then(|| value.into()))
        };
        assert!(wants("TERM", "xterm") && wants("NO_COLOR", ""));
        assert!(!wants("TERM", "dumb") && !wants("NO_COLOR", "1"));
    }

    #[test]
    fn a_table_is_as_wide_as_it_needs_to_be() {
        let rows = vec![vec!["ops".into(), "5".into()], vec!["名前".into(), "12".into()]];
        let lines = table(&["GROUP", "MEMBERS"], &rows);
        assert_eq!(lines, ["GROUP  MEMBERS", "ops          5", "名前        12"]);
    }
}
