//! The figures of a run.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::draw::Draw;
use crate::check::Counts;

/// What was done and seen.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Table {
    /// Seconds that the run took.
    pub seconds: u64,
    /// Rounds: one fault each, or two.
    pub rounds: u64,
    /// How often each fault was there.
    pub faults: BTreeMap<&'static str, u64>,
    /// Starts of the node after a fault had ended it.
    pub restarts: u64,
    /// Quiet moments at which everything was compared.
    pub checkpoints: u64,
    /// Messages that were answered as stored.
    pub messages_ok: u64,
    /// Messages that were answered as not stored.
    pub messages_failed: u64,
    /// Messages whose outcome nobody knows.
    pub messages_unknown: u64,
    /// Entries given to members' programs.
    pub deliveries: u64,
    /// Receipts.
    pub receipts: u64,
    /// The longest time from the end of a fault to the next message that was stored, in milliseconds.
    pub back_ms_max: u64,
    /// Broken promises.
    pub violations: u64,
    /// What does the same again.
    pub command: String,
}

impl Table {
    /// Counts what was done.
    pub fn did(&mut self, draw: Draw) {
        *self.faults.entry(draw.name()).or_default() += 1;
    }

    /// Takes over what the checker has counted.
    pub const fn counted(&mut self, counts: &Counts) {
        self.messages_ok += counts.ok;
        self.messages_failed += counts.failed;
        self.messages_unknown += counts.unknown;
        self.deliveries += counts.deliveries;
        self.receipts += counts.receipts;
    }

    /// How long it took.
    pub fn took(&mut self, time: Duration) {
        self.seconds = time.as_secs();
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut row = |name: &str, count: u64| {
            let _ = writeln!(text, "{name:<28}{count:>12}");
        };
        row("seconds", self.seconds);
        row("rounds", self.rounds);
        for (name, count) in &self.faults {
            row(&format!("  {name}"), *count);
        }
        row("restarts of the node", self.restarts);
        row("checkpoints", self.checkpoints);
        row("messages ok", self.messages_ok);
        row("messages failed", self.messages_failed);
        row("messages unknown", self.messages_unknown);
        row("deliveries", self.deliveries);
        row("receipts", self.receipts);
        row("longest way back, ms", self.back_ms_max);
        row("violations", self.violations);
        let _ = writeln!(text, "again: {}", self.command);
        text
    }
}
