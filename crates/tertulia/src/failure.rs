//! How a command ends: the promised exit codes, and failures with their code and what to do.

use std::process::ExitCode;
use std::time::Duration;

use tertulia_wire::json::{ErrorLine, to_line};
use tertulia_wire::safe::make_safe;
use tertulia_wire::text::elapsed_text;

/// How a command ended. The order is from good to bad: of several, the worst counts, and a message that was not stored is
/// worse than one that not everybody has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// Done.
    Done,
    /// Stored, but not confirmed by everyone, or by so many, in time.
    Incomplete,
    /// Failed, and has said why.
    Failed,
    /// Nobody knows whether it is stored.
    Unknown,
    /// Ended by Ctrl-C.
    Interrupted,
}

impl Exit {
    /// The promised number.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Incomplete => 3,
            Self::Unknown => 4,
            Self::Interrupted => 130,
        }
    }
}

/// What a command comes to.
pub type Outcome = Result<Exit, Failure>;

/// Why a command could not do what it was told.
#[derive(Debug)]
pub struct Failure {
    exit: u8,
    code: String,
    message: String,
    /// The line of the input that it is about.
    line: Option<u64>,
    message_is: Message,
    may_pass: bool,
}

/// Where the message is that a failure is about, as far as it is known.
#[derive(Debug)]
enum Message {
    /// Nowhere, or there is none.
    Nowhere,
    /// Stored all the same: in this group, as this number.
    Stored(String, u64),
    /// Stored or not; under this key and name it is sent again safely.
    Anywhere(String, String),
}

const USAGE: u8 = 2;
/// The code of what the operating system would not do.
const IO: &str = "IO";
/// The code of a failure that nobody needs to be told of: who read the output has gone.
const CLOSED: &str = "OUTPUT_CLOSED";

impl Failure {
    fn new(exit: u8, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            exit,
            code: code.into(),
            message: message.into(),
            line: None,
            message_is: Message::Nowhere,
            may_pass: false,
        }
    }

    /// It failed: exit code 1.
    pub fn failed(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Exit::Failed.code(), code, message)
    }

    /// It was called wrongly: exit code 2.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(USAGE, "USAGE", message)
    }

    /// Nobody knows whether it is done: exit code 4.
    pub fn unknown(message: impl Into<String>) -> Self {
        Self::new(Exit::Unknown.code(), "OUTCOME_UNKNOWN", message)
    }

    /// It is stored, and fewer were asked than should have been: exit code 3.
    pub fn too_few(asked: u32, expected: u32) -> Self {
        let was = if asked == 1 { "member was" } else { "members were" };
        let are = if expected == 1 { "was" } else { "were" };
        let message = format!("only {asked} {was} asked, {expected} {are} expected");
        Self::new(Exit::Incomplete.code(), "TOO_FEW_MEMBERS", message)
    }

    /// It is stored, and nobody can say by whom it is confirmed: exit code 3.
    pub fn incomplete(group: &str, seq: u64, why: &str) -> Self {
        let message = format!("stored as #{seq}, but who has confirmed it is not known: {why}");
        let message_is = Message::Stored(group.to_owned(), seq);
        Self { message_is, ..Self::new(Exit::Incomplete.code(), "NO_RECEIPT", message) }
    }

    /// Ctrl-C came when it was stored, and not all that was waited for had come: exit code 130.
    pub fn interrupted(group: &str, seq: u64) -> Self {
        let message = format!(
            "interrupted: stored as #{seq}, not confirmed by everybody yet; ask later: tertulia receipt {group} {seq}"
        );
        let message_is = Message::Stored(group.to_owned(), seq);
        Self { message_is, ..Self::new(Exit::Interrupted.code(), "INTERRUPTED", message) }
    }

    /// Ctrl-C came before the answer: exit code 130.
    pub fn interrupted_before() -> Self {
        let message = "interrupted: the message may be stored";
        Self::new(Exit::Interrupted.code(), "INTERRUPTED", message)
    }

    /// The time was up before anything could be sent.
    pub fn not_sent_in(self, timeout: Duration) -> Self {
        self.and(&format!("nothing was sent in the {} of --timeout", elapsed_text(timeout)))
    }

    /// Something of the operating system failed; `doing` says at what.
    pub fn io(doing: &str, error: &std::io::Error) -> Self {
        Self::failed(IO, format!("{doing}: {error}"))
    }

    /// Standard output cannot be written.
    pub fn output(error: &std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::failed(CLOSED, "");
        }
        Self::io("cannot write to standard output", error)
    }

    /// And what to do besides.
    pub fn and(mut self, advice: &str) -> Self {
        self.message.push_str("; ");
        self.message.push_str(advice);
        self
    }

    /// With a hint that is beside the point for some.
    pub fn hinting(mut self, hint: &str) -> Self {
        self.message.push_str(&format!(" ({hint})"));
        self
    }

    /// By a more exact word.
    pub fn called(mut self, code: &str) -> Self {
        code.clone_into(&mut self.code);
        self
    }

    /// The same may go well a little later, without anybody doing anything about it.
    pub const fn passing(mut self, may_pass: bool) -> Self {
        self.may_pass = may_pass;
        self
    }

    /// Whether it is worth trying again.
    pub const fn may_pass(&self) -> bool {
        self.may_pass
    }

    /// It is about this line of the input.
    pub const fn at_line(mut self, line: Option<u64>) -> Self {
        self.line = line;
        self
    }

    /// It is about this file or folder, which the message does not name.
    pub fn about(self, path: &str) -> Self {
        Self { message: format!("{path}: {}", self.message), ..self }
    }

    /// The message may be stored; `command` sends it again under its key and name, so that it is stored once.
    pub fn repeated_by(self, key: &str, name: &str, command: &str) -> Self {
        let failure = self.and(&format!("this sends it again, and not twice: {command}"));
        Self { message_is: Message::Anywhere(key.to_owned(), name.to_owned()), ..failure }
    }

    /// It is stored, and the receipt is lost on its way to standard output.
    pub fn unprinted(self, group: &str, seq: u64) -> Self {
        let why = if self.message.is_empty() { "nobody reads it" } else { &self.message };
        let message =
            format!("stored as {group} #{seq}, but the receipt could not be printed: {why}");
        Self { message, message_is: Message::Stored(group.to_owned(), seq), ..self }
    }

    /// Whether standard output could not be written.
    pub fn is_output(&self) -> bool {
        self.is_closed_output() || self.code == IO
    }

    /// Whether whoever read standard output has gone.
    pub fn is_closed_output(&self) -> bool {
        self.code == CLOSED
    }

    /// Its word, such as `UNKNOWN_GROUP`.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// What to do, safe to show.
    pub fn message(&self) -> String {
        make_safe(&self.message, usize::MAX).into_owned()
    }

    /// The promised exit code as one of the ways to end.
    pub const fn exit(&self) -> Exit {
        match self.exit {
            3 => Exit::Incomplete,
            4 => Exit::Unknown,
            130 => Exit::Interrupted,
            _ => Exit::Failed,
        }
    }

    /// Says it on standard error: as `{"error":{"code","message"}}`, or for people.
    pub fn show(&self, json: bool) {
        if self.message.is_empty() {
            return;
        }
        let line = if json {
            let line = ErrorLine::new(&self.code, self.message()).at_line(self.line);
            to_line(&match &self.message_is {
                Message::Nowhere => line,
                Message::Stored(group, seq) => line.stored(group, *seq),
                Message::Anywhere(key, name) => line.keyed(key, name),
            })
        } else {
            let line = self.line.map_or_else(String::new, |line| format!("line {line}: "));
            format!("tertulia: {line}{}", self.message())
        };
        crate::output::error_line(&line);
    }

    /// Says it, and gives the process's exit code.
    pub fn report(&self, json: bool) -> ExitCode {
        self.show(json);
        ExitCode::from(self.exit)
    }
}
