//! What a client of the line door says: parsed once, at the door, into commands that cannot be malformed.

use std::fmt;

use tertulia_group::{Name, Seq};

use super::GROUP_DEFAULT;
use crate::safe::is_unsafe;

/// How many messages `HISTORY` gives when no number is said.
pub const HISTORY_DEFAULT: u32 = 20;

/// Every verb of the door.
pub const VERBS: &[&str] =
    &["JOIN", "MSG", "ACK", "WHO", "GROUPS", "HISTORY", "PASS", "TOKEN", "PING", "HELP", "EXIT"];

/// One line of a client. Texts are clean: one line, no control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// `JOIN <name> [<group> [<after>]]`
    Join {
        /// Who.
        name: Name,
        /// Which group; `lobby` when none was said.
        group: Name,
        /// What came after this number comes first.
        after: Option<Seq>,
    },
    /// `JOIN` alone: ask for the name.
    AskName,
    /// `MSG <text>`
    Msg(&'a str),
    /// `ACK <seq>`
    Ack(Seq),
    /// `WHO`
    Who,
    /// `GROUPS`
    Groups,
    /// `HISTORY [<n>]`; the door limits the number.
    History(u32),
    /// `PASS <password>`
    Pass(&'a str),
    /// `TOKEN <token>`
    Token(&'a str),
    /// `PING [<x>]`; empty where nothing was said.
    Ping(&'a str),
    /// `HELP`
    Help,
    /// `EXIT`
    Exit,
}

macro_rules! line_codes {
    ($($(#[$doc:meta])* $name:ident $text:literal)*) => {
        /// Codes of `ERR` lines.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum LineCode { $($(#[$doc])* $name,)* }

        impl LineCode {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The word on the line.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

line_codes! {
    /// Not a command, or not its form.
    BadCommand "BAD_COMMAND"
    /// Not a name.
    BadName "BAD_NAME"
    /// A member has this name, or one that looks the same.
    NameTaken "NAME_TAKEN"
    /// The name is an account's.
    NameReserved "NAME_RESERVED"
    /// JOIN comes first.
    NotJoined "NOT_JOINED"
    /// JOIN was said already.
    AlreadyJoined "ALREADY_JOINED"
    /// A line that is too long.
    TooLong "TOO_LONG"
    /// Control characters, or not UTF-8.
    BadText "BAD_TEXT"
    /// An acknowledgement beyond what was sent.
    BadAck "BAD_ACK"
    /// Not allowed.
    Denied "DENIED"
    /// Not just now.
    Busy "BUSY"
}

/// Why a line was not taken, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// For programs.
    pub code: LineCode,
    /// For people: what to do.
    pub hint: String,
}

impl Refusal {
    /// A refusal with what to do about it.
    pub fn new(code: LineCode, hint: impl Into<String>) -> Self {
        Self { code, hint: hint.into() }
    }

    /// What to answer to [`super::Line::TooLong`].
    pub fn too_long() -> Self {
        Self::new(LineCode::TooLong, "a line has at most 8 KiB, shorten it")
    }

    /// Where a command's form was not kept: shows the form.
    fn form(form: &str) -> Self {
        Self::new(LineCode::BadCommand, format!("say {form}"))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code.as_str(), self.hint)
    }
}

/// Reads a line without its end.
///
/// # Errors
/// [`Refusal`], to be written with [`super::err`]; the connection goes on.
pub fn parse(line: &[u8]) -> Result<Command<'_>, Refusal> {
    let line = std::str::from_utf8(line)
        .map_err(|_| Refusal::new(LineCode::BadText, "send UTF-8 text"))?;
    if let Some(c) = line.chars().find(|c| is_unsafe(*c)) {
        let hint = format!("leave out the control character U+{:04X}", u32::from(c));
        return Err(Refusal::new(LineCode::BadText, hint));
    }
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    match verb.to_ascii_uppercase().as_str() {
        "JOIN" => join(rest),
        "MSG" => text(rest, "MSG <text>").map(Command::Msg),
        "ACK" => number(rest).map(Command::Ack).ok_or_else(|| Refusal::form("ACK <seq>")),
        "WHO" => alone(rest, Command::Who, "WHO"),
        "GROUPS" => alone(rest, Command::Groups, "GROUPS"),
        "HISTORY" => history(rest),
        "PASS" => text(rest, "PASS <password>").map(Command::Pass),
        "TOKEN" => text(rest.trim(), "TOKEN <token>").map(Command::Token),
        "PING" => Ok(Command::Ping(rest)),
        "HELP" => alone(rest, Command::Help, "HELP"),
        "EXIT" => alone(rest, Command::Exit, "EXIT"),
        _ => Err(Refusal::new(LineCode::BadCommand, "say HELP to see what can be said")),
    }
}

fn join(rest: &str) -> Result<Command<'_>, Refusal> {
    let form = || Refusal::form("JOIN <name> [<group> [<after>]]");
    let name =
        |text| Name::new(text).map_err(|error| Refusal::new(LineCode::BadName, error.to_string()));
    let mut words = rest.split_whitespace();
    let Some(who) = words.next() else { return Ok(Command::AskName) };
    let group = words.next().unwrap_or(GROUP_DEFAULT);
    let after = words.next().map(|word| number(word).ok_or_else(form)).transpose()?;
    if words.next().is_some() {
        return Err(form());
    }
    Ok(Command::Join { name: name(who)?, group: name(group)?, after })
}

fn history(rest: &str) -> Result<Command<'_>, Refusal> {
    if rest.trim().is_empty() {
        return Ok(Command::History(HISTORY_DEFAULT));
    }
    let count = number(rest).ok_or_else(|| Refusal::form("HISTORY [<n>]"))?;
    Ok(Command::History(u32::try_from(count).unwrap_or(u32::MAX)))
}

/// Digits only, within 64 bits.
fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn text<'a>(rest: &'a str, form: &str) -> Result<&'a str, Refusal> {
    if rest.is_empty() { Err(Refusal::form(form)) } else { Ok(rest) }
}

fn alone<'a>(rest: &str, command: Command<'a>, form: &str) -> Result<Command<'a>, Refusal> {
    if rest.trim().is_empty() { Ok(command) } else { Err(Refusal::form(&format!("{form} alone"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_is_listed_and_no_other_is_taken() {
        let arms = include_str!("command.rs");
        let known = |verb: &&&str| arms.contains(&format!("        \"{verb}\" => "));
        assert_eq!(VERBS.iter().filter(known).count(), VERBS.len());
        assert_eq!(arms.matches("\n        \"").count(), VERBS.len(), "a verb is not in the list");
    }
}
