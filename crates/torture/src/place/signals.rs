//! Removes the place when this process is told to end.

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

use super::leftovers;

/// What a shell says of a program that was interrupted.
const INTERRUPTED: i32 = 130;

/// From now on SIGINT and SIGTERM remove the place of this name and end this process.
pub fn remove_and_end(name: String) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    let wait = move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        if let Err(error) = leftovers::remove(&name) {
            eprintln!("{name} is left behind: {error:#}");
        }
        std::process::exit(INTERRUPTED);
    };
    let thread = std::thread::Builder::new().name("signals".to_owned()).spawn(wait);
    thread.map(drop).context("no thread for signals")
}
