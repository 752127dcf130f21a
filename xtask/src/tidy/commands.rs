//! The commands that the README shows exist.
//!
//! Only their names are compared; that they do what the README says is for the tests of the
//! product. A block with `$ ` prompts is read at the prompts only, the rest being output.

use std::collections::BTreeSet;

use super::{Finding, markdown, tree::Tree};

const DOCUMENTS: &[&str] = &["README.md", "README.es.md"];
const CRATE: &str = "crates/tertulia";
/// The languages of blocks that one is meant to type.
const TYPED: &[&str] = &["", "sh", "bash", "shell", "console", "terminal"];
/// Programs that run another one, which stands further on in the line.
const CARRIERS: &[&str] = &[
    "!", "do", "docker", "else", "env", "exec", "if", "ip", "nohup", "podman", "ssh", "sudo",
    "then", "time", "timeout", "tmux", "until", "watch", "while", "xargs",
];

pub fn check(tree: &Tree) -> Vec<Finding> {
    let documents: Vec<_> =
        DOCUMENTS.iter().filter_map(|path| Some((*path, tree.text(path)?))).collect();
    if documents.is_empty() {
        return vec![Finding::skipped(DOCUMENTS[0], "there is no README yet")];
    }
    let tasks: Names = crate::task_names().into_iter().chain(["help".into()]).collect();
    let product = product_names(tree);
    let mut found = Vec::new();
    if product.is_none() {
        found.push(Finding::skipped(CRATE, "it has no commands yet that a README could show"));
    }
    for (path, text) in documents {
        for (number, line) in typed(text) {
            for call in line.split(['|', ';', '&', '(', ')', '`']).filter_map(call) {
                let (program, known) = match call.program {
                    Program::Xtask => ("cargo xtask", Some(&tasks)),
                    Program::Product => ("tertulia", product.as_ref()),
                };
                if let Some(name) = known.and_then(|known| call.unknown(known)) {
                    let place = format!("{path}:{number}");
                    found.push(Finding::fails(place, format!("no such command: {program} {name}")));
                }
            }
        }
    }
    found
}

type Names = BTreeSet<String>;

/// The lines to type in a document's code blocks, continued ones joined, without comments.
fn typed(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for block in markdown::blocks(text) {
        if !TYPED.contains(&block.language) {
            continue;
        }
        let prompts = block.lines.iter().any(|(_, line)| line.trim_start().starts_with("$ "));
        let mut continues = false;
        for (number, line) in block.lines {
            let line = line.trim();
            let prompted = line.strip_prefix("$ ");
            let (code, more) = match prompted.unwrap_or(line).strip_suffix('\\') {
                Some(code) => (code, true),
                None => (prompted.unwrap_or(line), false),
            };
            let code = code.split(" #").next().unwrap_or_default();
            match found.last_mut() {
                Some((_, last)) if continues => *last = format!("{last} {code}"),
                _ if code.starts_with('#') || (prompts && prompted.is_none()) => continue,
                _ => found.push((number, code.to_owned())),
            }
            continues = more;
        }
    }
    found
}

#[derive(Clone, Copy)]
enum Program {
    Xtask,
    Product,
}

/// A call of one of our programs and what stands behind it.
struct Call<'a> {
    program: Program,
    words: Vec<&'a str>,
}

impl Call<'_> {
    /// The word that should be a command and is none. After options it is any later word, since
    /// only the program knows which options take a value.
    fn unknown(&self, known: &Names) -> Option<&str> {
        let named = |word: &&str| !word.starts_with(['-', '<', '[', '>', '"', '\'', '…', '.']);
        let first = *self.words.first()?;
        let options_first = first.starts_with('-');
        let judged = if options_first { &self.words[..] } else { &self.words[..1] };
        let mut names = judged.iter().copied().filter(named).peekable();
        let name = *names.peek()?;
        (!names.any(|name| known.contains(name))).then_some(name)
    }
}

/// Our program that this part of a line calls, if it does.
fn call(part: &str) -> Option<Call<'_>> {
    let is_variable = |word: &&str| word.contains('=') && !word.starts_with('-');
    let words: Vec<&str> = part
        .split_whitespace()
        .map(|word| word.trim_matches(['"', '\'', '$']))
        .skip_while(is_variable)
        .filter(|word| !word.is_empty())
        .collect();
    let is_ours = |word: &&str| *word == "tertulia" || word.ends_with("/tertulia");
    let first = words.first()?;
    let at = if is_ours(first) || *first == "cargo" {
        0
    } else if CARRIERS.contains(first) {
        words.iter().position(|word| is_ours(word) || *word == "cargo")?
    } else {
        return None;
    };
    let behind = words[at + 1..].to_vec();
    if is_ours(&words[at]) {
        return Some(Call { program: Program::Product, words: behind });
    }
    let mut behind = behind.into_iter().skip_while(|word| word.starts_with('+'));
    match behind.next()? {
        "xtask" => Some(Call { program: Program::Xtask, words: behind.collect() }),
        "run" => {
            let behind: Vec<_> = behind.collect();
            let dashes = behind.iter().position(|word| *word == "--")?;
            let (cargos, ours) = behind.split_at(dashes);
            let picks =
                cargos.iter().position(|word| matches!(*word, "-p" | "--package" | "--bin"));
            let picked = picks.and_then(|at| cargos.get(at + 1)).copied().unwrap_or("tertulia");
            let program = Program::Product;
            (picked == "tertulia").then(|| Call { program, words: ours[1..].to_vec() })
        }
        _ => None,
    }
}

/// The product's commands: the variants of its `Subcommand` enum, or else the files in commands/.
fn product_names(tree: &Tree) -> Option<Names> {
    let files = ["cli.rs", "main.rs", "lib.rs", "cli/mod.rs", "commands/mod.rs", "commands.rs"];
    let mut names: Names = files
        .iter()
        .filter_map(|file| tree.text(&format!("{CRATE}/src/{file}")))
        .flat_map(variants)
        .collect();
    if names.is_empty() {
        let folder = format!("{CRATE}/src/commands/");
        let files = tree.paths().filter_map(|path| path.strip_prefix(&folder)?.strip_suffix(".rs"));
        let modules = files.map(|file| file.strip_suffix("/mod").unwrap_or(file));
        names.extend(modules.filter(|name| !name.contains('/')).map(|name| name.replace('_', "-")));
    }
    if names.is_empty() {
        return None;
    }
    names.insert("help".to_owned());
    Some(names)
}

/// The names that clap gives to the variants of each `Subcommand` enum, as rustfmt leaves them.
fn variants(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut inside = false;
    let mut renamed = None;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("#[derive(") && line.contains("Subcommand") {
            inside = lines.any(|line| line.contains("enum ") && line.ends_with('{'));
        } else if line == "}" {
            inside = false;
        } else if let Some(code) = line.strip_prefix("    ").filter(|_| inside) {
            if code.starts_with("#[") {
                for key in ["name = \"", "alias = \""] {
                    let given = code.split_once(key).and_then(|(_, rest)| rest.split('"').next());
                    let given = given.map(str::to_owned);
                    if key.starts_with("name") {
                        renamed = given.or(renamed);
                    } else {
                        names.extend(given);
                    }
                }
            } else if code.starts_with(|c: char| c.is_ascii_uppercase()) {
                let end = code.find(|c: char| !c.is_alphanumeric()).unwrap_or(code.len());
                names.push(renamed.take().unwrap_or_else(|| kebab(&code[..end])));
            }
        }
    }
    names
}

fn kebab(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push('-');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::testing;

    const CLI: &str = "#[derive(Debug, Subcommand)]\npub enum Command {\n    /// Joins.\n    \
                       Join(join::Args),\n    SendFile { path: PathBuf },\n    \
                       #[command(name = \"serve\")]\n    Node,\n}\n";

    fn check(block: &str, want: &[&str]) {
        let readme = format!("# Tertulia\n{block}\n");
        let cli = ("crates/tertulia/src/cli.rs", CLI);
        testing::check("commands", &[cli, ("README.md", &readme)], want);
    }

    #[test]
    fn commands_shown_exist() {
        check(
            "```sh\ncargo xtask test\ncargo xtask gone\n```",
            &["README.md:4: no such command: cargo xtask gone"],
        );
        check(
            "```sh\ntertulia join # a member\n./target/release/tertulia leave\n```",
            &["README.md:4: no such command: tertulia leave"],
        );
        let known = [
            "tertulia --data d join g | tertulia send-file -",
            "cargo run --release -- serve & cargo run -p other -- what",
            "sudo ip netns exec a tertulia join",
            "cp target/release/tertulia bin/",
            "cd tertulia && cargo build",
            "tertulia --version; tertulia help; tertulia <COMMAND>",
            "# tertulia comments",
            "A=1 tertulia join \\\n  gone",
        ];
        check(&format!("```sh\n{}\n```", known.join("\n")), &[]);
        for line in [
            "A=1 tertulia gone",
            "yes | tertulia gone",
            "ip netns exec a tertulia gone",
            "cargo run -- gone",
            "echo $(tertulia gone)",
            "tertulia --data gone",
            "tertulia \\\n gone",
        ] {
            let want = "README.md:3: no such command: tertulia gone";
            check(&format!("```sh\n{line}\n```"), &[want]);
        }
    }

    #[test]
    fn output_and_other_languages_are_not_typed() {
        check("```console\n$ tertulia join\ntertulia is up\n```", &[]);
        check("```console\n$ tertulia gone\n```", &["README.md:3: no such command: tertulia gone"]);
        check("```text\ntertulia is up\n```\ntertulia is prose", &[]);
    }

    #[test]
    fn without_an_enum_the_files_are_the_commands() {
        let files = [
            ("README.es.md", "```\ntertulia join\ntertulia who-is\ntertulia gone\n```"),
            ("crates/tertulia/src/commands/join.rs", ""),
            ("crates/tertulia/src/commands/who_is/mod.rs", ""),
        ];
        let want = "README.es.md:4: no such command: tertulia gone";
        testing::check("commands", &files, &[want]);
        // Without the crate there is nothing to compare with.
        testing::check("commands", &files[..1], &[]);
    }

    #[test]
    fn variants_have_the_names_that_clap_gives_them() {
        assert_eq!(variants(CLI), ["join", "send-file", "serve"]);
    }
}
