//! Receipts: who was asked is who was a member, and whoever counts has begun to confirm before the receipt was there.

use std::collections::{BTreeMap, BTreeSet};

use super::log::Stay;
use super::readers::Marks;
use super::{Evidence, Findings, LogEntry, Rule, found};
use crate::history::{Kind, Receipt, What};

/// Checks each receipt of a message that is not of the past.
pub(super) fn check(evidence: &Evidence, marks: &Marks<'_>, findings: &mut Findings) {
    let stays: BTreeMap<&str, Vec<Stay>> =
        evidence.logs.iter().map(|(group, log)| (group.as_str(), log.stays())).collect();
    for record in evidence.histories.iter().flatten() {
        let What::Receipt(receipt) = &record.what else { continue };
        findings.counts.receipts += 1;
        let Some(log) = evidence.logs.get(&receipt.group) else { continue };
        let entry = log.get(receipt.seq).filter(|entry| entry.kind == Kind::Message);
        let verdict = match (entry, stays.get(receipt.group.as_str())) {
            (Some(entry), Some(stays)) => judge(receipt, entry, stays, marks, record.at),
            _ if receipt.seq <= log.base() => Ok(()),
            _ => Err("it is no message".to_owned()),
        };
        if let Err(why) = verdict {
            let Receipt { group, seq, members, confirmed, reached, missing } = receipt;
            let counts = format!("{confirmed} + {reached} of {members}, missing {missing:?}");
            let text = format!("{group}: the receipt of #{seq} ({counts}): {why}");
            found(&mut findings.violations, Rule::Receipts, text);
        }
    }
    check_at_rest(evidence, marks, findings);
}

/// At rest, nobody is missing who has confirmed and has not left, unless a later life of it has failed the same message.
fn check_at_rest(evidence: &Evidence, marks: &Marks<'_>, findings: &mut Findings) {
    for Receipt { group, seq, missing, .. } in &evidence.at_rest {
        for one in missing.iter().flatten() {
            let who = (group.as_str(), one.name.as_str());
            let is_here = evidence.here.contains(&(group.clone(), one.name.clone()));
            let has_failed = one.why == "failed" && marks.last_failure(who, *seq).is_some();
            if is_here && !has_failed && marks.has_confirmed(who, *seq, u64::MAX) {
                let text =
                    format!("{group}: {} has confirmed #{seq}, and is {}", one.name, one.why);
                found(&mut findings.violations, Rule::Receipts, text);
            }
        }
    }
}

/// Everybody who was a member at this number, but not the stay that published it.
fn asked<'a>(entry: &LogEntry, stays: &'a [Stay]) -> BTreeMap<&'a str, &'a Stay> {
    let was_there =
        |stay: &&Stay| stay.joined < entry.seq && stay.left.is_none_or(|left| left > entry.seq);
    let published = |stay: &&Stay| !entry.outside && stay.joined == entry.sender;
    let asked = stays.iter().filter(was_there).filter(|stay| !published(stay));
    asked.map(|stay| (stay.name.as_str(), stay)).collect()
}

fn judge(
    receipt: &Receipt,
    entry: &LogEntry,
    stays: &[Stay],
    marks: &Marks<'_>,
    at: u64,
) -> Result<(), String> {
    let asked = asked(entry, stays);
    if receipt.members as usize != asked.len() {
        return Err(format!("{} were asked: {:?}", asked.len(), asked.keys()));
    }
    let counted = receipt.confirmed + receipt.reached;
    let has_confirmed =
        |name: &str| marks.has_confirmed((receipt.group.as_str(), name), receipt.seq, at);
    let Some(missing) = &receipt.missing else {
        // Only numbers are known: not more than have confirmed, or could have been reached.
        let could = asked.values().filter(|stay| stay.line || has_confirmed(&stay.name)).count();
        let few = format!("at most {could} can have it");
        return if counted as usize > could { Err(few) } else { Ok(()) };
    };
    let mut absent = BTreeSet::new();
    for one in missing {
        let name = one.name.as_str();
        let Some(stay) = asked.get(name) else { return Err(format!("{name} was not asked")) };
        if !absent.insert(name) {
            return Err(format!("{name} is missing twice"));
        }
        if one.why == "left" && stay.left.is_none() {
            return Err(format!("{name} has not left"));
        }
        let failure = marks.failure((receipt.group.as_str(), name), receipt.seq);
        if one.why == "failed" && (failure.is_none() || failure != one.code.as_deref()) {
            return Err(format!("{name} has said {failure:?}"));
        }
    }
    if counted as usize + absent.len() != asked.len() {
        return Err("the numbers do not add up".to_owned());
    }
    let unconfirmed = asked
        .values()
        .filter(|stay| !absent.contains(stay.name.as_str()) && !has_confirmed(&stay.name));
    let mut reached = 0;
    for stay in unconfirmed {
        if !stay.line {
            return Err(format!("{} had not confirmed it", stay.name));
        }
        reached += 1;
    }
    if reached > receipt.reached {
        return Err(format!("{reached} of those that count had not confirmed it"));
    }
    Ok(())
}
