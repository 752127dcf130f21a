//! `status`: how a node is.

use tertulia_client::Target;
use tertulia_wire::json::StatusLine;
use tertulia_wire::safe::make_safe;
use tertulia_wire::text::{long_text, size_text};

use super::directory;
use crate::failure::{Exit, Outcome};
use crate::output::Output;

/// Prints it.
pub async fn run(target: &Target, out: &mut Output) -> Outcome {
    let status = directory(target).await?.status().await?;
    if out.json {
        out.object(&StatusLine::from(&status))?;
    } else {
        for (head, value) in [
            ("node", status.node),
            ("address", target.address().to_owned()),
            ("version", status.version),
            ("engine", format!("{} (stored: {})", status.engine, status.level)),
            ("up for", long_text(status.uptime_ms)),
            ("groups", status.groups.to_string()),
            ("members", status.members.to_string()),
            ("connections", status.connections.to_string()),
            ("stored", size_text(status.stored_bytes)),
        ] {
            out.text(&format!("{head:<12} {}", make_safe(&value, usize::MAX)))?;
        }
    }
    out.flush()?;
    Ok(Exit::Done)
}
