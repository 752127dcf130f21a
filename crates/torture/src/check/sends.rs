//! Messages on their way: what was answered, and whether the log agrees.

use std::collections::HashMap;

use super::{Evidence, Findings, Rule, found};
use crate::history::{Kind, What};

/// What became of one message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Outcome {
    /// It may be in the log or not.
    #[default]
    Unknown,
    /// Under this number.
    Stored(u64),
    Failed,
}

/// One message on its way.
#[derive(Clone, Debug)]
pub(super) struct Send<'a> {
    pub group: &'a str,
    from: &'a str,
    outside: bool,
    begun: u64,
    /// The history that it stands in, and which one of it.
    place: (usize, usize),
    outcome: Outcome,
    ended: u64,
    /// It was counted the last time.
    is_late: bool,
    /// It is in the log.
    pub is_there: bool,
}

impl Send<'_> {
    /// Nothing is known of it: it may still arrive.
    pub fn is_lost(&self) -> bool {
        self.outcome == Outcome::Unknown && !self.is_there && !self.is_late
    }
}

/// By text.
pub(super) type Sends<'a> = HashMap<&'a str, Send<'a>>;

/// Durability, honesty, and the order of what one sender sent and of what was sent after an answer.
pub(super) fn check<'a>(evidence: &'a Evidence, findings: &mut Findings) -> Sends<'a> {
    let mut sends = collect(evidence, findings);
    let in_log = in_log(evidence, &sends, findings);
    for (text, send) in &mut sends {
        send.is_there = in_log.contains_key(text);
        let violations = &mut findings.violations;
        let (group, from) = (send.group, send.from);
        let seq = in_log.get(text);
        match send.outcome {
            Outcome::Unknown => findings.counts.unknown += u64::from(!send.is_late),
            Outcome::Stored(told) => {
                findings.counts.ok += 1;
                if seq != Some(&told) {
                    let is = seq.map_or("not in the log".to_owned(), |seq| format!("#{seq}"));
                    let text = format!("{group}: {text:?} was answered as #{told} and is {is}");
                    found(violations, Rule::Durability, text);
                }
            }
            Outcome::Failed => {
                findings.counts.failed += 1;
                if let Some(seq) = seq {
                    let text = format!("{group}: {from}'s {text:?} failed and is #{seq}");
                    found(violations, Rule::Honesty, text);
                }
            }
        }
    }
    check_order_of_senders(&sends, &in_log, findings);
    check_real_time(&sends, &in_log, findings);
    sends
}

fn collect<'a>(evidence: &'a Evidence, findings: &mut Findings) -> Sends<'a> {
    let mut sends = Sends::new();
    let histories = [&evidence.late].into_iter().chain(&evidence.histories);
    for (file, history) in histories.enumerate() {
        for (line, record) in history.iter().enumerate() {
            let (text, outcome) = match &record.what {
                What::Sending { group, from, outside, text } => {
                    let send = Send {
                        group,
                        from,
                        outside: *outside,
                        begun: record.at,
                        place: (file, line),
                        outcome: Outcome::Unknown,
                        ended: u64::MAX,
                        is_late: file == 0,
                        is_there: false,
                    };
                    if sends.insert(text.as_str(), send).is_some() {
                        let text = format!("{group}: the torture itself sent {text:?} twice");
                        found(&mut findings.violations, Rule::Once, text);
                    }
                    continue;
                }
                What::Stored { text, seq } => (text, Outcome::Stored(*seq)),
                What::Failed { text, .. } => (text, Outcome::Failed),
                What::Unknown { text, .. } => (text, Outcome::Unknown),
                _ => continue,
            };
            if let Some(send) = sends.get_mut(text.as_str()) {
                (send.outcome, send.ended) = (outcome, record.at);
            }
        }
    }
    sends
}

/// The numbers of all messages; each was sent by whom the log names.
fn in_log<'a>(
    evidence: &'a Evidence,
    sends: &Sends<'_>,
    findings: &mut Findings,
) -> HashMap<&'a str, u64> {
    let mut numbers = HashMap::new();
    for (group, log) in &evidence.logs {
        for entry in log.entries.iter().filter(|entry| entry.kind == Kind::Message) {
            numbers.insert(entry.text.as_str(), entry.seq);
            let send = sends.get(entry.text.as_str());
            let agrees = send.is_some_and(|send| {
                (send.group, send.from, send.outside)
                    == (group.as_str(), entry.from.as_str(), entry.outside)
            });
            if !agrees {
                let (seq, from, text) = (entry.seq, &entry.from, &entry.text);
                let text = format!("{group}: #{seq}, {text:?} by {from}, was sent by nobody so");
                found(&mut findings.violations, Rule::Durability, text);
            }
        }
    }
    numbers
}

/// What one sender sent to one group is in the log in the order of its sending.
fn check_order_of_senders(sends: &Sends<'_>, in_log: &HashMap<&str, u64>, findings: &mut Findings) {
    let mut all: Vec<_> = sends
        .iter()
        .filter_map(|(text, send)| Some(((send.group, send.from, send.place), *in_log.get(text)?)))
        .collect();
    all.sort_unstable();
    for pair in all.windows(2) {
        let [((group, from, before), seq_before), ((group_after, from_after, after), seq)] = pair
        else {
            continue;
        };
        let same = (group, from, before.0) == (group_after, from_after, after.0);
        if same && seq_before >= seq {
            let text = format!("{group}: {from} sent #{seq_before} before #{seq}");
            found(&mut findings.violations, Rule::Order, text);
        }
    }
}

/// What was sent after another was answered has the higher number.
fn check_real_time(sends: &Sends<'_>, in_log: &HashMap<&str, u64>, findings: &mut Findings) {
    let mut moments: Vec<(u64, bool, &str, u64)> = Vec::new();
    for (text, send) in sends {
        if let Outcome::Stored(seq) = send.outcome {
            moments.push((send.ended, true, send.group, seq));
        }
        if let Some(seq) = in_log.get(text) {
            moments.push((send.begun, false, send.group, *seq));
        }
    }
    // At the same moment, who begins has not seen the answer.
    moments.sort_unstable();
    let mut answered: HashMap<&str, u64> = HashMap::new();
    for (_, is_answer, group, seq) in moments {
        let highest = answered.entry(group).or_default();
        if is_answer {
            *highest = seq.max(*highest);
        } else if seq < *highest {
            let text = format!("{group}: #{seq} was sent after #{highest} had been answered");
            found(&mut findings.violations, Rule::Order, text);
        }
    }
}
