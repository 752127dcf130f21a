//! What the node counts, in the form that Prometheus reads (OpenMetrics 1.0). Counted per batch, never per delivery.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use tertulia_wire::Code;

/// How a receipt ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    /// `complete` or `missing`.
    outcome: &'static str,
}

/// Why something was refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    /// A code of the native door, or a word of HTTP.
    reason: &'static str,
}

/// Which shard.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Shard {
    shard: u32,
}

/// How members are.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Presence {
    /// `here`, `lagging` or `away`.
    presence: &'static str,
}

/// Members of a shard's groups when they were counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Crowd {
    pub here: u64,
    pub lagging: u64,
    pub away: u64,
    /// Entries that the members of a group who are not away have not confirmed: the most of any member.
    pub lag: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    /// Messages that were answered as stored.
    pub messages: Counter,
    /// Entries that were written to members.
    pub deliveries: Counter,
    confirmations: Counter,
    receipts: Family<Outcome, Counter>,
    refusals: Family<Reason, Counter>,
    confirmed: Histogram,
    stored: Histogram,
    members: Family<Presence, Gauge>,
    lag: Gauge,
    groups: Gauge,
    connections: Gauge,
    mailboxes: Family<Shard, Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("tertulia");
        let times = || Histogram::new(exponential_buckets(0.000_1, 2.0, 20));
        let (confirmed, stored) = (times(), times());
        let metrics = Self {
            messages: Counter::default(),
            deliveries: Counter::default(),
            confirmations: Counter::default(),
            receipts: Family::default(),
            refusals: Family::default(),
            confirmed,
            stored,
            members: Family::default(),
            lag: Gauge::default(),
            groups: Gauge::default(),
            connections: Gauge::default(),
            mailboxes: Family::default(),
            registry: Registry::default(),
        };
        let r = &mut registry;
        r.register("messages", "Messages that were answered as stored", metrics.messages.clone());
        r.register("deliveries", "Entries written to members", metrics.deliveries.clone());
        let help = "Confirmations in receipts that were final when given";
        r.register("confirmations", help, metrics.confirmations.clone());
        let help = "Receipts given when final: everybody has answered, or somebody is missing";
        r.register("receipts", help, metrics.receipts.clone());
        r.register("refusals", "What was refused, by its code", metrics.refusals.clone());
        let help = "From a message's number to its complete receipt, once a run of messages";
        r.register_with_unit(
            "publish_to_confirmed",
            help,
            Unit::Seconds,
            metrics.confirmed.clone(),
        );
        let help = "From a batch's hand-over to the journal's answer";
        r.register_with_unit("journal_append", help, Unit::Seconds, metrics.stored.clone());
        r.register("members", "Members, by presence", metrics.members.clone());
        let help = "The most entries that a member who is not away has not confirmed";
        r.register("lag_entries", help, metrics.lag.clone());
        r.register("groups", "Groups of this node", metrics.groups.clone());
        r.register("connections", "Open connections", metrics.connections.clone());
        let help = "Jobs that wait for a shard";
        r.register("mailbox_jobs", help, metrics.mailboxes.clone());
        Self { registry, ..metrics }
    }
}

impl Metrics {
    /// So many messages have complete receipts, of `confirmed` confirmations each.
    pub fn complete(&self, count: u64, confirmed: u64, since: Option<Duration>) {
        self.confirmations.inc_by(count * confirmed);
        self.receipts.get_or_create(&Outcome { outcome: "complete" }).inc_by(count);
        if let Some(since) = since {
            self.confirmed.observe(since.as_secs_f64());
        }
    }

    /// A receipt that is final names somebody who is missing.
    pub fn missing(&self, confirmed: u64) {
        self.confirmations.inc_by(confirmed);
        self.receipts.get_or_create(&Outcome { outcome: "missing" }).inc();
    }

    /// Something was refused.
    pub fn refused(&self, code: Code) {
        self.refused_for(code.as_str());
    }

    /// The same for what only one door knows: a word of its own.
    pub fn refused_for(&self, reason: &'static str) {
        self.refusals.get_or_create(&Reason { reason }).inc();
    }

    /// The journal has answered for a batch.
    pub fn stored(&self, took: Duration) {
        self.stored.observe(took.as_secs_f64());
    }

    /// How the shards are: jobs that wait, and members.
    pub fn set_shards(&self, shards: &[(usize, Crowd)]) {
        let sum = |of: fn(&Crowd) -> u64| shards.iter().map(|(_, crowd)| of(crowd)).sum::<u64>();
        let here =
            [("here", sum(|c| c.here)), ("lagging", sum(|c| c.lagging)), ("away", sum(|c| c.away))];
        for (presence, count) in here {
            self.members.get_or_create(&Presence { presence }).set(count as i64);
        }
        let lag = shards.iter().map(|(_, crowd)| crowd.lag).max().unwrap_or(0);
        self.lag.set(i64::try_from(lag).unwrap_or(i64::MAX));
        for (shard, (jobs, _)) in (0..).zip(shards) {
            self.mailboxes.get_or_create(&Shard { shard }).set(*jobs as i64);
        }
    }

    /// How many groups and connections there are.
    pub fn set_node(&self, groups: usize, connections: usize) {
        self.groups.set(groups as i64);
        self.connections.set(connections as i64);
    }

    /// Everything, as text.
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut out, &self.registry);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_what_was_counted_by_its_name_and_labels() {
        let metrics = Metrics::default();
        metrics.messages.inc_by(3);
        metrics.complete(2, 5, Some(Duration::from_millis(3)));
        metrics.missing(4);
        metrics.refused(Code::Busy);
        let crowd = Crowd { here: 7, lagging: 1, away: 2, lag: 9 };
        metrics.set_shards(&[(4, crowd), (0, Crowd::default())]);
        metrics.set_node(2, 12);
        let text = metrics.text();
        for line in [
            "tertulia_messages_total 3",
            "tertulia_confirmations_total 14",
            "tertulia_receipts_total{outcome=\"complete\"} 2",
            "tertulia_receipts_total{outcome=\"missing\"} 1",
            "tertulia_refusals_total{reason=\"BUSY\"} 1",
            "tertulia_publish_to_confirmed_seconds_count 1",
            "tertulia_members{presence=\"away\"} 2",
            "tertulia_lag_entries 9",
            "tertulia_mailbox_jobs{shard=\"0\"} 4",
            "tertulia_connections 12",
        ] {
            assert!(text.lines().any(|there| there == line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    /// What promtool looks at: each family is described and of one type, counters end in `_total`, units are base units,
    /// buckets rise and end with all.
    #[test]
    fn the_text_keeps_to_the_conventions() {
        let metrics = Metrics::default();
        metrics.complete(2, 5, Some(Duration::from_millis(3)));
        metrics.missing(4);
        metrics.refused(Code::Busy);
        metrics.set_shards(&[(4, Crowd::default())]);
        let text = metrics.text();
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let of = |kind: &str| {
            let lines = text.lines().filter_map(|line| line.strip_prefix(kind));
            lines.map(words).collect::<Vec<_>>()
        };
        let (types, helps) = (of("# TYPE "), of("# HELP "));
        for family in &types {
            let (name, kind) = (&family[0], family[1].as_str());
            assert!(name.starts_with("tertulia_") && !name.contains("_ms"), "{name}");
            let help = helps.iter().find(|help| help[0] == *name).expect(name);
            assert!(
                help.len() > 2 && help.last().is_some_and(|word| word.ends_with('.')),
                "{name}"
            );
            let samples: Vec<_> =
                text.lines().filter(|line| line.starts_with(name.as_str())).collect();
            assert!(!samples.is_empty(), "{name} has no sample");
            match kind {
                "counter" => {
                    let total = format!("{name}_total");
                    assert!(samples.iter().all(|line| line.starts_with(&total)), "{name}");
                }
                "histogram" => {
                    assert!(name.ends_with("_seconds"), "{name}");
                    let counts = samples.iter().filter(|line| line.contains("_bucket{"));
                    let counts: Vec<u64> = counts
                        .map(|line| {
                            line.rsplit(' ').next().and_then(|n| n.parse().ok()).expect("a number")
                        })
                        .collect();
                    assert!(
                        counts.is_sorted()
                            && samples.iter().any(|line| line.contains("le=\"+Inf\""))
                    );
                }
                _ => assert!(!name.ends_with("_total"), "{name}"),
            }
        }
        assert_eq!(types.len(), helps.len());
    }
}
