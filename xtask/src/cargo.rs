//! Commands that a step runs: shown as a person would type them, read line by line where needed.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// A command of a step. `line` has no quoting: its words are what stands between its spaces.
#[derive(Clone, Copy)]
pub struct Line {
    /// Variables set for this command only.
    pub env: &'static [(&'static str, &'static str)],
    /// The program and its arguments.
    pub line: &'static str,
}

impl Line {
    /// A command without variables of its own.
    pub const fn new(line: &'static str) -> Self {
        Self { env: &[], line }
    }

    /// The command as one pastes it into a shell.
    pub fn shown(&self) -> String {
        let env: String =
            self.env.iter().map(|(name, value)| format!("{name}='{value}' ")).collect();
        env + self.line
    }

    /// Runs it with our own output; an exit code other than 0 is an error.
    pub fn run(&self, root: &Path) -> Result<()> {
        let status = self.command(root).status().with_context(|| self.cannot_start())?;
        if !status.success() {
            bail!("{status}");
        }
        Ok(())
    }

    /// Runs it, passes on each line of its output as it comes, and hands it to `each`.
    pub fn run_reading(&self, root: &Path, mut each: impl FnMut(&str)) -> Result<()> {
        let mut child = self
            .command(root)
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| self.cannot_start())?;
        if let Some(output) = child.stdout.take() {
            let mut output = BufReader::new(output);
            let mut line = Vec::new();
            while output.read_until(b'\n', &mut line)? > 0 {
                let text = String::from_utf8_lossy(&line);
                print!("{text}");
                each(text.trim_end());
                line.clear();
            }
        }
        let status = child.wait()?;
        if !status.success() {
            bail!("{status}");
        }
        Ok(())
    }

    /// Whether it can be run and answers with success; its output is dropped.
    pub fn answers(&self, root: &Path) -> bool {
        let quiet = self.command(root).stdout(Stdio::null()).stderr(Stdio::null()).status();
        quiet.is_ok_and(|status| status.success())
    }

    fn command(&self, root: &Path) -> Command {
        let mut words = self.line.split_whitespace();
        let mut command = Command::new(words.next().unwrap_or_default());
        as_from_a_shell(&mut command);
        command.args(words).envs(self.env.iter().copied()).current_dir(root).stdin(Stdio::null());
        command
    }

    fn cannot_start(&self) -> String {
        format!("cannot start `{}`", self.line)
    }
}

/// Takes away what cargo tells this program about itself: build scripts look at it, and what a shell's cargo has built would be
/// built anew by ours, and the other way round.
pub fn as_from_a_shell(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
}

/// Where cargo builds into: `target` in the root, unless `CARGO_TARGET_DIR` says another folder.
pub fn target(root: &Path) -> PathBuf {
    target_in(root, std::env::var_os("CARGO_TARGET_DIR"))
}

fn target_in(root: &Path, asked: Option<OsString>) -> PathBuf {
    let asked = asked.filter(|asked| !asked.is_empty());
    root.join(asked.unwrap_or_else(|| "target".into()))
}

/// What steps run as users build it, in one command: each package alone would build anew what they share, with other features.
pub fn build_release(root: &Path) -> Result<()> {
    const BUILD: Line = Line::new(
        "cargo build --release --locked --quiet -p tertulia -p tertulia-counts -p tertulia-torture",
    );
    BUILD.run(root).context("it does not build")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_one_pastes_it() {
        let line = Line { env: &[("RUSTDOCFLAGS", "-D warnings")], line: "cargo doc --no-deps" };
        assert_eq!(line.shown(), "RUSTDOCFLAGS='-D warnings' cargo doc --no-deps");
    }

    #[test]
    fn what_is_built_is_where_cargo_puts_it() {
        let (root, asked) = (Path::new("/tree"), |asked: &str| Some(OsString::from(asked)));
        let cases = [
            (None, "/tree/target"),
            (asked(""), "/tree/target"),
            (asked("built"), "/tree/built"),
            (asked("/elsewhere"), "/elsewhere"),
        ];
        for (asked, want) in cases {
            assert_eq!(target_in(root, asked), Path::new(want));
        }
    }

    #[test]
    fn output_is_read_line_by_line_and_failure_is_an_error() {
        let here = Path::new(".");
        let mut lines = Vec::new();
        Line::new("echo one two").run_reading(here, |line| lines.push(line.to_owned())).unwrap();
        assert_eq!(lines, ["one two"]);
        assert!(Line::new("false").run_reading(here, |_| ()).is_err());
        assert!(Line::new("false").run(here).is_err());
        assert!(!Line::new("no-such-program-here").answers(here));
    }
}
