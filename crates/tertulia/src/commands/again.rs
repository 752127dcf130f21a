//! How one message is sent again safely: its key, and the command that does it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tertulia_client::Target;
use tertulia_wire::safe::make_safe;

use super::node_flag;
use crate::cli::SendArgs;
use crate::failure::Failure;
use crate::names;
use crate::units::Wait;

/// A text that is longer is not repeated in the command.
const SHOWN_CHARS_MAX: usize = 200;
/// That of `--timeout`.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// See the module.
pub struct Again {
    key: String,
    /// Under which it is sent: another name makes another message of it, and what is the default changes with the login, the
    /// user and the host.
    name: Mutex<String>,
    /// Of the command: what comes before the key, and what after the name.
    before: String,
    after: String,
}

impl Again {
    /// Of a `send` with a text; the key that was given, or one that nobody else has.
    pub fn of(args: &SendArgs, target: &Target) -> Option<Self> {
        if args.text.is_empty() {
            return None;
        }
        let random = || format!("{:032x}", rand::random::<u128>());
        let name = args.name.clone().unwrap_or_else(|| names::default_at(target));
        Some(Self {
            key: args.key.clone().unwrap_or_else(random),
            name: Mutex::new(name),
            before: format!("tertulia send{}{}", node_flag(target), wishes(args)),
            after: group_and_text(args),
        })
    }

    /// See [`tertulia_client::Once`].
    pub fn key(&self) -> &str {
        &self.key
    }

    /// It is sent under this name.
    pub fn called(&self, name: &str) {
        name.clone_into(&mut self.name());
    }

    fn name(&self) -> MutexGuard<'_, String> {
        self.name.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The message may be stored.
    pub fn may_be(&self, failure: Failure) -> Failure {
        let command = self.command();
        failure.repeated_by(&self.key, &self.name(), &command)
    }

    /// `tertulia send --key KEY --as NAME ops 'hola a todos'`, all that says which message it is.
    fn command(&self) -> String {
        let Self { key, before, after, .. } = self;
        format!("{before} --key {} --as {} {after}", quoted(key), quoted(&self.name()))
    }
}

/// What else was asked for, as far as it is not the default.
fn wishes(args: &SendArgs) -> String {
    let wait = match args.wait {
        Wait::All => String::new(),
        Wait::Stored => " --wait stored".to_owned(),
        Wait::Count(count) => format!(" --wait {count}"),
    };
    let expect = args.expect.map(|count| format!(" --expect {count}")).unwrap_or_default();
    let timeout = match args.timeout {
        DEFAULT_TIMEOUT => String::new(),
        timeout => format!(" --timeout {}ms", timeout.as_millis()),
    };
    format!("{wait}{expect}{timeout}")
}

fn group_and_text(args: &SendArgs) -> String {
    let group = args.group.as_deref().unwrap_or_default();
    let text = args.text.join(" ");
    let is_shown = text.chars().count() <= SHOWN_CHARS_MAX && make_safe(&text, usize::MAX) == text;
    let text = if is_shown { quoted(&text) } else { "THE_SAME_TEXT".to_owned() };
    // What looks like a flag stands after this.
    let dashes =
        if text.starts_with(['-', '\'']) && args.text[0].starts_with('-') { "-- " } else { "" };
    format!("{} {dashes}{text}", quoted(group))
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

    fn again(line: &[&str]) -> Again {
        let cli = Cli::try_parse_from([&["tertulia", "send"], line].concat()).unwrap();
        let Command::Send(args) = cli.command else { panic!("not send") };
        Again::of(&args, &Target::new("127.0.0.1")).unwrap()
    }

    fn told(line: &[&str]) -> String {
        again(line).command()
    }

    #[test]
    fn the_command_is_one_that_a_shell_takes() {
        let line = ["ops", "qué tal,", "d'accord?", "--key", "k1", "--as", "ci"];
        let expected = r"tertulia send --key k1 --as ci ops 'qué tal, d'\''accord?'";
        assert_eq!(told(&line), expected);
        let as_ci = ["--key", "k", "--as", "ci"];
        let line = [&["ops"], &as_ci[..], &["--", "-x"]].concat();
        assert_eq!(told(&line), "tertulia send --key k --as ci ops -- -x");
        let long = "x".repeat(201);
        for text in ["two\nlines", &long] {
            let told = told(&[&["ops", text], &as_ci[..]].concat());
            assert_eq!(told, "tertulia send --key k --as ci ops THE_SAME_TEXT");
        }
        let line =
            [&["ops", "x", "--expect", "2", "--timeout", "9s", "--wait", "stored"], &as_ci[..]];
        let expected =
            "tertulia send --wait stored --expect 2 --timeout 9000ms --key k --as ci ops x";
        assert_eq!(told(&line.concat()), expected);
        assert_ne!(told(&["ops", "x"]), told(&["ops", "x"]), "a key of its own");
    }

    #[test]
    fn the_name_is_the_one_that_it_was_sent_under() {
        let again = again(&["ops", "x", "--key", "k"]);
        let default = names::default_at(&Target::new("127.0.0.1"));
        assert!(again.command().contains(&format!(" --as {default} ops")), "{}", again.command());
        again.called("ana-2");
        assert_eq!(again.command(), "tertulia send --key k --as ana-2 ops x");
    }
}
