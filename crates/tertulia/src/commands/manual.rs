//! `completions`, `man`: what shells and `man` want to know of the commands.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::{Cli, EXIT_CODES};
use crate::failure::{Exit, Failure, Outcome};
use crate::output::Output;

/// Prints the completion script of a shell.
pub fn completions(shell: Shell, out: &mut Output) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "tertulia", &mut script);
    out.raw(&script)?;
    out.flush()?;
    Ok(Exit::Done)
}

/// Prints the manual page: the program, then each command as a section of its own.
pub fn pages(out: &mut Output) -> Outcome {
    let mut command = Cli::command();
    command.build();
    let mut page = Vec::new();
    write(&command, &mut page).map_err(|error| failed(&error))?;
    out.raw(&page)?;
    out.flush()?;
    Ok(Exit::Done)
}

fn write(command: &clap::Command, page: &mut Vec<u8>) -> std::io::Result<()> {
    use std::io::Write as _;
    let man = clap_mangen::Man::new(command.clone());
    man.render_title(page)?;
    man.render_name_section(page)?;
    man.render_synopsis_section(page)?;
    man.render_description_section(page)?;
    man.render_options_section(page)?;
    // The commands are sections of this page: there are no others to see.
    for sub in command.get_subcommands() {
        section(sub, page)?;
    }
    let codes = EXIT_CODES.trim_start_matches("Exit codes: ");
    writeln!(page, ".SH \"EXIT STATUS\"\n{codes}")?;
    man.render_version_section(page)
}

fn failed(error: &std::io::Error) -> Failure {
    Failure::io("cannot write the manual page", error)
}

/// One command and the commands below it.
fn section(command: &clap::Command, page: &mut Vec<u8>) -> std::io::Result<()> {
    use std::io::Write as _;
    if command.get_name() == "help" {
        return Ok(());
    }
    let title = command.get_bin_name().unwrap_or(command.get_name()).to_uppercase();
    writeln!(page, ".SH \"{title}\"")?;
    let man = clap_mangen::Man::new(command.clone());
    man.render_description_section(page)?;
    man.render_synopsis_section(page)?;
    if command.get_arguments().next().is_some() {
        man.render_options_section(page)?;
    }
    for sub in command.get_subcommands() {
        section(sub, page)?;
    }
    Ok(())
}
