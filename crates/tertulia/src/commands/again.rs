//! How one message is sent again safely: its key, and the command that does it.

use tertulia_client::Target;
use tertulia_wire::safe::make_safe;

use super::node_flag;
use crate::cli::SendArgs;
use crate::failure::Failure;

/// A text that is longer is not repeated in the command.
const SHOWN_CHARS_MAX: usize = 200;

/// See the module.
pub struct Again {
    key: String,
    command: String,
}

impl Again {
    /// Of a `send` with a text; the key that was given, or one that nobody else has.
    pub fn of(args: &SendArgs, target: &Target) -> Option<Self> {
        if args.text.is_empty() {
            return None;
        }
        let random = || format!("{:032x}", rand::random::<u128>());
        let key = args.key.clone().unwrap_or_else(random);
        let command = command(args, &key, target);
        Some(Self { key, command })
    }

    /// See [`tertulia_client::Once`].
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The message may be stored.
    pub fn may_be(&self, failure: Failure) -> Failure {
        failure.repeated_by(&self.key, &self.command)
    }
}

/// `tertulia send ops --key KEY 'hola a todos'`, with what else says which message it is.
fn command(args: &SendArgs, key: &str, target: &Target) -> String {
    let group = args.group.as_deref().unwrap_or_default();
    let name = args.name.as_ref().map(|name| format!(" --as {}", quoted(name)));
    let text = args.text.join(" ");
    let is_shown = text.chars().count() <= SHOWN_CHARS_MAX && make_safe(&text, usize::MAX) == text;
    let text = if is_shown { quoted(&text) } else { "THE_SAME_TEXT".to_owned() };
    // What looks like a flag stands after this.
    let dashes =
        if text.starts_with(['-', '\'']) && args.text[0].starts_with('-') { "-- " } else { "" };
    format!(
        "tertulia send{} --key {}{} {} {dashes}{text}",
        node_flag(target),
        quoted(key),
        name.unwrap_or_default(),
        quoted(group),
    )
}

/// As a shell reads it back.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | ':' | '/' | ',');
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn told(line: &[&str]) -> String {
        let cli = Cli::try_parse_from([&["tertulia", "send"], line].concat()).unwrap();
        let Command::Send(args) = cli.command else { panic!("not send") };
        Again::of(&args, &Target::new("127.0.0.1")).unwrap().command
    }

    #[test]
    fn the_command_is_one_that_a_shell_takes() {
        let line = ["ops", "qué tal,", "d'accord?", "--key", "k1", "--as", "ci"];
        let expected = r"tertulia send --key k1 --as ci ops 'qué tal, d'\''accord?'";
        assert_eq!(told(&line), expected);
        assert_eq!(told(&["ops", "--key", "k", "--", "-x"]), "tertulia send --key k ops -- -x");
        let long = "x".repeat(201);
        for text in ["two\nlines", &long] {
            let told = told(&["ops", text, "--key", "k"]);
            assert_eq!(told, "tertulia send --key k ops THE_SAME_TEXT");
        }
        assert_ne!(told(&["ops", "x"]), told(&["ops", "x"]), "a key of its own");
    }
}
