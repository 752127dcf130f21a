//! `check`: looks through a node's data folder while no node runs on it, and says what is whole, what is damaged and what to do.

mod found;

use std::io::IsTerminal as _;
use std::path::Path;
use std::time::{Duration, Instant};

use tertulia_journal::OpenStoreError;
use tertulia_journal::embedded::check_with;
use tertulia_wire::text::size_text;

use self::found::Found;
use crate::cli::CheckArgs;
use crate::failure::{Exit, Failure, Outcome};
use crate::output::Output;
use crate::state;

/// Progress is shown after so long, and as often.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);

/// Looks through the store and prints what is found; exit code 1 where something is damaged.
pub async fn run(args: &CheckArgs, out: &mut Output) -> Outcome {
    let data = match &args.data {
        Some(data) => data.clone(),
        None => state::data_folder()?,
    };
    let shows = !out.json && !out.quiet && std::io::stderr().is_terminal();
    let (folder, began) = (data.clone(), Instant::now());
    let looked = tokio::task::spawn_blocking(move || look(&folder, shows)).await;
    let found = looked.map_err(|error| Failure::failed("INTERNAL", error.to_string()))??;
    if out.json {
        found.objects(&data, out)?;
    } else {
        found.text(&data, began.elapsed(), out)?;
    }
    out.flush()?;
    Ok(if found.is_whole() { Exit::Done } else { Exit::Failed })
}

fn look(data: &Path, shows: bool) -> Result<Found, Failure> {
    let mut shown = Instant::now();
    let mut is_shown = false;
    let checked = check_with(data, &mut |done, all| {
        if shows && shown.elapsed() >= PROGRESS_EVERY {
            (shown, is_shown) = (Instant::now(), true);
            progress(&format!("{} of {} looked through", size_text(done), size_text(all)));
        }
    });
    if is_shown {
        progress("");
    }
    checked.map(|checked| Found::of(&checked)).map_err(|error| refused(data, error))
}

/// Replaces the line on the terminal.
fn progress(text: &str) {
    eprint!("\r\u{1b}[K{text}");
}

fn refused(data: &Path, error: OpenStoreError) -> Failure {
    let shown = data.display();
    match error {
        OpenStoreError::Locked => Failure::failed(
            "DATA_IN_USE",
            format!("a node is running on {shown}: stop it first, or check a copy of the folder"),
        ),
        OpenStoreError::Io { error, .. } if error.kind() == std::io::ErrorKind::NotFound => {
            let text =
                format!("there is no store in {shown}: name a node's folder with --data DIR");
            Failure::failed("NO_STORE", text)
        }
        error => Failure::failed("STORE", format!("{shown}: {error}")),
    }
}
