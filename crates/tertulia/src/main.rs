//! The one binary: reads the arguments, runs the command, and turns what came of it into an exit code.

mod cli;
mod commands;
mod failure;
mod input;
mod log;
mod logins;
mod names;
mod open_files;
mod output;
mod peers;
mod relay;
mod settings;
mod signals;
mod state;
mod units;

use std::ffi::OsStr;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use tertulia_group::NameError;

use crate::cli::{Cli, Command};
use crate::failure::Failure;

/// Keeps what is of one size together. With the C library's, half of what idle members take was holes: large blocks that live for a
/// moment while somebody joins leave them between small ones that stay (ADR 5).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse_arguments(&error),
    };
    let log_format = match &cli.command {
        Command::Serve(args) => settings::log_format(args),
        _ => units::LogFormat::Text,
    };
    let json = cli.common.json || log_format == units::LogFormat::Json;
    // Dropped, and so written, before a failure is reported.
    let log = log::start(log_format, cli.common.verbose);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let failure = Failure::failed("RUNTIME", format!("cannot start: {error}"));
            return failure.report(json);
        }
    };
    let result = runtime.block_on(commands::run(cli));
    // A thread may still be reading the terminal: nobody waits for it.
    runtime.shutdown_background();
    drop(log);
    match result {
        Ok(exit) => ExitCode::from(exit.code()),
        Err(failure) => failure.report(json),
    }
}

/// Help and version go to standard output with exit code 0, wrong usage to standard error with 2.
fn refuse_arguments(error: &clap::Error) -> ExitCode {
    let json = std::env::args_os().any(|argument| argument == OsStr::new("--json"));
    if json && error.use_stderr() {
        let is_name = std::error::Error::source(error).is_some_and(|why| why.is::<NameError>());
        let failure = Failure::usage(usage_text(error));
        let failure = if is_name { failure.called("BAD_NAME") } else { failure };
        return failure.report(true);
    }
    // What cannot be printed is lost with the terminal.
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// What is wrong with the arguments and what may help, in one line.
fn usage_text(error: &clap::Error) -> String {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return "something is missing: see --help".to_owned();
    }
    let text = error.render().to_string();
    let paragraphs = text.trim_start_matches("error: ").split("\n\n");
    let told = paragraphs.take_while(|paragraph| !paragraph.starts_with("Usage:"));
    let in_one_line = |paragraph: &str| paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    told.filter(|paragraph| !paragraph.starts_with("For more information"))
        .map(in_one_line)
        .collect::<Vec<_>>()
        .join("; ")
}
