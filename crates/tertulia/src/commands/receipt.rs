//! `receipt`: what has become of a message by now.

use std::time::Duration;

use tertulia_client::Target;
use tertulia_wire::json::ReceiptLine;
use tertulia_wire::text::receipt_now_line;

use super::{directory, of_group};
use crate::cli::ReceiptArgs;
use crate::failure::{Exit, Outcome};
use crate::output::Output;

/// Prints it; exit code 3 when not everybody has it.
pub async fn run(args: &ReceiptArgs, target: &Target, out: &mut Output) -> Outcome {
    let wait = args.wait.unwrap_or(Duration::ZERO);
    let answer = directory(target).await?.receipt(&args.group, args.seq, wait).await;
    let answer = answer.map_err(|error| of_group(error, &args.group, target))?;
    if out.json || !out.quiet {
        out.either(&ReceiptLine::new(&args.group, &answer.receipt, answer.level, None), || {
            receipt_now_line(&args.group, &answer.receipt)
        })?;
    }
    out.flush()?;
    Ok(if answer.receipt.is_complete() { Exit::Done } else { Exit::Incomplete })
}
