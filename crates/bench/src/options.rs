//! What the command lines of several parts have in common; each part takes what it knows.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::figures::machine;

/// What is measured.
#[derive(Args, Clone, Debug)]
pub struct Binary {
    /// The binary that is measured.
    #[arg(long, default_value_os_t = built("release/tertulia"))]
    pub tertulia: PathBuf,
}

/// What it is measured beside.
#[derive(Args, Clone, Debug)]
pub struct Nats {
    /// The `nats-server` that it is measured beside.
    #[arg(long, default_value_os_t = built("bench/nats-server"))]
    pub nats: PathBuf,
}

/// Where what is kept is.
#[derive(Args, Clone, Debug)]
pub struct Disk {
    /// On whose disk everything is kept: folders in it are made, and removed at the end.
    #[arg(long, default_value_os_t = built(""))]
    pub folder: PathBuf,
}

/// How much is done.
#[derive(Args, Clone, Copy, Debug)]
pub struct Extent {
    /// Less of everything: no more than a hint, so nothing is written to the page.
    #[arg(long)]
    pub quick: bool,
    /// Rounds that are counted.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: Option<u32>,
}

impl Extent {
    /// Those that were asked for, or so many.
    pub fn rounds(self, quick: u32, full: u32) -> usize {
        self.rounds.unwrap_or(if self.quick { quick } else { full }) as usize
    }
}

/// Why nothing is written.
pub const QUICK: &str = "a quick run is no more than a hint";

/// Where what was measured is written.
#[derive(Args, Clone, Debug)]
pub struct Page {
    /// The document whose tables are replaced: those that were measured, in full. Charts go into the folder beside it that is called
    /// as it is.
    #[arg(long)]
    pub write: Option<PathBuf>,
    /// What the binary was built from, as the page says it.
    #[arg(long, hide = true)]
    built_from: Option<String>,
}

impl Page {
    /// Where to write, unless something speaks against it, which is said.
    pub fn path(&self, against: Option<&str>) -> Option<&Path> {
        let path = self.write.as_deref()?;
        let Some(why) = against else { return Some(path) };
        eprintln!("{} stays as it is: {why}", path.display());
        None
    }

    /// The line above a table: by which command, of what, on what, and what else there is to say.
    pub fn origin(&self, more: &str) -> String {
        let of = self.built_from.as_ref().map_or(String::new(), |from| format!(" at {from}"));
        let version = env!("CARGO_PKG_VERSION");
        format!("`{}`; Tertulia {version}{of}; {}; {more}.", command(std::env::args()), machine())
    }
}

/// Something of what was built: this program lies in `release`, below the folder that cargo builds into.
fn built(what: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    let folder = own.parent().and_then(Path::parent).unwrap_or(Path::new("target"));
    folder.join(what)
}

/// Options that say where things are on this machine, which is nobody else's business.
const WHERE: [&str; 6] =
    ["--write", "--built-from", "--tertulia", "--nats", "--folder", "--memory"];

/// What was asked for, as one asks for it.
fn command(mut words: impl Iterator<Item = String>) -> String {
    let mut out = "cargo xtask bench".to_owned();
    // Its own name.
    words.next();
    // To measure all is what is done when nothing is named.
    out.extend(words.next().filter(|part| part != "all").map(|part| format!(" {part}")));
    while let Some(word) = words.next() {
        if WHERE.contains(&word.as_str()) {
            words.next();
        } else if !WHERE.iter().any(|name| word.starts_with(&format!("{name}="))) {
            out += &format!(" {word}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_says_what_was_asked_for_and_not_where_things_are() {
        let said = |words: &str| command(words.split_whitespace().map(str::to_owned));
        let cases = [
            ("bench all --write docs/benchmarks.md", "cargo xtask bench"),
            (
                "bench growth --only all --write=x --rounds 3",
                "cargo xtask bench growth --only all --rounds 3",
            ),
            ("bench delivery --nats /x/y --works m10", "cargo xtask bench delivery --works m10"),
        ];
        for (words, want) in cases {
            assert_eq!(said(words), want);
        }
    }
}
