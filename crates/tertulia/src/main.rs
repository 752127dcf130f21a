//! The one binary: reads the arguments, runs the command, and turns what came of it into an exit code.

mod cli;
mod commands;
mod failure;
mod input;
mod logins;
mod names;
mod output;
mod settings;
mod signals;
mod state;
mod units;

use std::ffi::OsStr;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use tracing_subscriber::EnvFilter;

use crate::cli::Cli;
use crate::failure::Failure;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse_arguments(&error),
    };
    start_log(cli.common.verbose);
    let json = cli.common.json;
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
    match result {
        Ok(exit) => ExitCode::from(exit.code()),
        Err(failure) => failure.report(json),
    }
}

/// Help and version go to standard output with exit code 0, wrong usage to standard error with 2.
fn refuse_arguments(error: &clap::Error) -> ExitCode {
    let json = std::env::args_os().any(|argument| argument == OsStr::new("--json"));
    if json && error.use_stderr() {
        return Failure::usage(usage_text(error)).report(true);
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

/// What the libraries have to say goes to standard error: warnings, more with `-v` or `RUST_LOG`.
fn start_log(verbose: u8) {
    let default = match verbose {
        0 | 1 => "warn",
        2 => "tertulia=debug,tertulia_client=debug,tertulia_server=debug,info",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(output::colours(&std::io::stderr()))
        .with_writer(std::io::stderr)
        .init();
}
