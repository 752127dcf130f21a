//! `history`: what was said in a group.

use tertulia_client::{HistoryMode, Target};

use super::{directory, now_us, of_group, print};
use crate::cli::HistoryArgs;
use crate::failure::{Exit, Outcome};
use crate::output::Output;

/// Prints the last entries, or the first ones after a number.
pub async fn run(args: &HistoryArgs, target: &Target, out: &mut Output) -> Outcome {
    let mode = args.after.map_or(HistoryMode::Last, HistoryMode::After);
    let history = directory(target).await?.history(&args.group, mode, args.limit).await;
    let history = history.map_err(|error| of_group(error, &args.group, target))?;
    if let Some(after) = args.after
        && after.saturating_add(1) < history.first_kept
    {
        print::gap(&args.group, after + 1, history.first_kept - 1, out)?;
    }
    let mut days = print::Days::new(print::day(now_us()));
    for entry in &history.entries {
        days.before(entry, out)?;
        print::entry(&args.group, entry, out)?;
    }
    out.flush()?;
    Ok(Exit::Done)
}
