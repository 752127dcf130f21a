//! The checker finds each kind of broken promise: a good history is let through, and each of these, which differs from it in one
//! thing, breaks the rule that it is said to break.

use std::collections::BTreeMap;

use tertulia_torture::check::{Evidence, GroupLog, LogEntry, Reader, Rule, Violation, check};
use tertulia_torture::history::{Begin, Entry, Kind, Missing, Receipt, Record, Then, What};

const GROUP: &str = "ops";

fn log_entry(seq: u64, kind: Kind, from: &str, text: &str) -> LogEntry {
    let outside = kind == Kind::Message;
    let (from, text) = (from.to_owned(), text.to_owned());
    let (line, durable) = (from == "line", from == "ana");
    LogEntry { seq, epoch: 1, kind, from, outside, text, sender: seq, line, durable }
}

fn given(name: &str, seq: u64, kind: Kind, from: &str, text: &str) -> What {
    What::Entry(Entry {
        group: GROUP.to_owned(),
        name: name.to_owned(),
        seq,
        kind,
        from: from.to_owned(),
        outside: kind == Kind::Message,
        text: text.to_owned(),
        then: Then::Confirm,
    })
}

fn message(name: &str, seq: u64, text: &str) -> What {
    given(name, seq, Kind::Message, "bob", text)
}

fn sending(text: &str) -> What {
    let (group, from) = (GROUP.to_owned(), "bob".to_owned());
    What::Sending { group, from, outside: true, text: text.to_owned() }
}

fn stored(text: &str, seq: u64) -> What {
    What::Stored { text: text.to_owned(), seq }
}

fn joining(name: &str, from: Begin) -> What {
    What::Joining { group: GROUP.to_owned(), name: name.to_owned(), from }
}

fn joined(name: &str, tail: u64) -> What {
    let (group, log) = (GROUP.to_owned(), "l1".to_owned());
    What::Joined { group, name: name.to_owned(), resumed: false, tail, log, epoch: 1 }
}

fn receipt(seq: u64, members: u32, confirmed: u32, missing: &[(&str, &str)]) -> Receipt {
    let missing = missing.iter().map(|(name, why)| Missing {
        name: (*name).to_owned(),
        why: (*why).to_owned(),
        code: None,
    });
    let (group, missing) = (GROUP.to_owned(), Some(missing.collect()));
    Receipt { group, seq, members, confirmed, reached: 0, missing }
}

/// One thing after the other.
fn records(all: impl IntoIterator<Item = What>, first: u64) -> Vec<Record> {
    (first..).zip(all).map(|(at, what)| Record { at, what }).collect()
}

/// Ana and eva are there, bob sends three from outside, eva leaves.
struct Story {
    log: Vec<LogEntry>,
    bob: Vec<What>,
    ana: Vec<What>,
    eva: Vec<What>,
    receipts: Vec<Receipt>,
    afterwards: Vec<What>,
    at_rest: Vec<Receipt>,
    readers: BTreeMap<(String, String), Reader>,
    here: Vec<&'static str>,
}

fn story() -> Story {
    let left = given("ana", 7, Kind::Left, "eva", "");
    Story {
        log: vec![
            log_entry(2, Kind::Joined, "ana", ""),
            log_entry(3, Kind::Joined, "eva", ""),
            log_entry(4, Kind::Message, "bob", "one"),
            log_entry(5, Kind::Message, "bob", "two"),
            log_entry(6, Kind::Message, "bob", "three"),
            log_entry(7, Kind::Left, "eva", "exit"),
        ],
        bob: vec![
            sending("one"),
            stored("one", 4),
            sending("two"),
            sending("three"),
            stored("two", 5),
            stored("three", 6),
        ],
        ana: vec![
            joining("ana", Begin::Now),
            joined("ana", 2),
            given("ana", 3, Kind::Joined, "eva", ""),
            message("ana", 4, "one"),
            message("ana", 5, "two"),
            message("ana", 6, "three"),
            left,
        ],
        eva: vec![
            joining("eva", Begin::Now),
            joined("eva", 3),
            message("eva", 4, "one"),
            message("eva", 5, "two"),
            What::Leaving { group: GROUP.to_owned(), name: "eva".to_owned() },
        ],
        afterwards: Vec::new(),
        receipts: vec![receipt(4, 2, 2, &[]), receipt(6, 2, 1, &[("eva", "left")])],
        at_rest: vec![receipt(6, 2, 1, &[("eva", "left")])],
        readers: BTreeMap::new(),
        here: vec!["ana"],
    }
}

impl Story {
    /// Which promises it breaks.
    fn broken(self) -> Vec<Violation> {
        let log = GroupLog { entries: self.log, ..GroupLog::default() };
        let said = self.receipts.into_iter().map(What::Receipt);
        let evidence = Evidence {
            logs: BTreeMap::from([(GROUP.to_owned(), log)]),
            histories: vec![
                records(self.bob, 100),
                records(self.ana, 200),
                records(self.eva, 300),
                records(said, 400),
                records(self.afterwards, 500),
            ],
            readers: self.readers,
            here: self.here.iter().map(|name| (GROUP.to_owned(), (*name).to_owned())).collect(),
            at_rest: self.at_rest,
            late: Vec::new(),
        };
        check(&evidence).violations
    }
}

/// What is changed breaks this rule, and is told in these words.
#[track_caller]
fn breaks(rule: Rule, words: &str, change: impl FnOnce(&mut Story)) {
    let mut story = story();
    change(&mut story);
    let broken = story.broken();
    let is_told = |violation: &Violation| violation.rule == rule && violation.text.contains(words);
    assert!(broken.iter().any(is_told), "{broken:#?}");
}

/// What is changed is allowed.
#[track_caller]
fn is_fine(change: impl FnOnce(&mut Story)) {
    let mut story = story();
    change(&mut story);
    assert_eq!(story.broken(), []);
}

#[test]
fn a_good_history_is_let_through() {
    is_fine(|_| {});
}

#[test]
fn the_log_has_numbers_that_rise_and_room_for_epochs_only() {
    breaks(Rule::Order, "the log has #", |story| {
        story.log.remove(0);
        story.log[0].seq = 2;
        story.log.insert(0, log_entry(3, Kind::Joined, "ana", ""));
        story.eva[1] = joined("eva", 2);
        story.ana.remove(2);
        story.receipts.clear();
    });
    breaks(Rule::Order, "the log has #9 after #6", |story| {
        story.log[5].seq = 9;
        story.ana[6] = given("ana", 9, Kind::Left, "eva", "");
    });
    is_fine(|story| story.log.iter_mut().for_each(|entry| entry.epoch += 1));
    breaks(Rule::Order, "is of epoch", |story| {
        story.log.iter_mut().for_each(|entry| entry.epoch = 5);
        story.log[5].epoch = 4;
    });
}

#[test]
fn all_members_get_the_same_under_a_number() {
    breaks(Rule::Order, "as Message bob \"two\", and the log has", |story| {
        story.ana[3] = message("ana", 4, "two");
    });
    breaks(Rule::Order, "as Message eve", |story| {
        story.eva[2] = given("eva", 4, Kind::Message, "eve", "one");
    });
}

#[test]
fn nothing_is_skipped() {
    breaks(Rule::Order, "without #5", |story| drop(story.ana.remove(4)));
    breaks(Rule::Order, "without #3", |story| drop(story.ana.remove(2)));
}

#[test]
fn nothing_comes_twice_or_goes_back() {
    breaks(Rule::Order, "was given #4 after #4", |story| {
        story.ana.insert(4, message("ana", 4, "one"));
    });
}

#[test]
fn a_later_life_goes_on_where_the_earlier_one_was_done() {
    let saved = |cursor, open: &[u64]| Begin::Saved { cursor, open: open.to_vec() };
    is_fine(|story| {
        story.ana.insert(5, joining("ana", saved(4, &[])));
        story.ana.insert(6, message("ana", 5, "two"));
    });
    // Given a second time to one that had saved it as done.
    breaks(Rule::Order, "was given #5 after #5", |story| {
        story.ana.insert(5, joining("ana", saved(5, &[])));
        story.ana.insert(6, message("ana", 5, "two"));
    });
    // It had not been given what it saved as done.
    breaks(Rule::Order, "and was not given #5", |story| {
        story.ana.remove(4);
        story.ana.insert(4, joining("ana", saved(5, &[])));
    });
    // Not done in the earlier life, and skipped in the later one.
    let kept = |story: &mut Story, then| {
        if let What::Entry(entry) = &mut story.ana[4] {
            entry.then = then;
        }
    };
    breaks(Rule::Order, "without #5", |story| {
        kept(story, Then::Keep);
        story.ana.insert(5, joining("ana", saved(4, &[])));
        story.receipts.clear();
    });
    // Open in the earlier life, and never given again.
    breaks(Rule::Liveness, "was not given #5", |story| {
        kept(story, Then::Open);
        story.ana.insert(5, joining("ana", saved(5, &[5])));
        story.receipts.clear();
    });
    is_fine(|story| {
        kept(story, Then::Open);
        story.ana.insert(5, joining("ana", saved(5, &[5])));
        story.ana.insert(6, message("ana", 5, "two"));
    });
    // It was killed before it had saved how far it was: the node knows, and sends the open ones first.
    is_fine(|story| {
        for at in [3, 5] {
            if let What::Entry(entry) = &mut story.ana[at] {
                entry.then = Then::Open;
            }
        }
        story.ana.insert(6, joining("ana", saved(3, &[])));
        story.ana.insert(7, message("ana", 4, "one"));
        story.ana.insert(8, message("ana", 6, "three"));
        story.receipts.clear();
    });
}

#[test]
fn a_loss_that_is_told_is_a_loss() {
    let (group, name) = (GROUP.to_owned(), "ana".to_owned());
    let gap = What::Gap { group: group.clone(), name: name.clone(), first: 5, last: 5 };
    breaks(Rule::Durability, "are gone", |story| story.ana[4] = gap);
    let reset = What::Reset { group, name, next: 6 };
    breaks(Rule::Durability, "begins anew", |story| story.ana[4] = reset);
}

#[test]
fn the_log_stays_the_same_one() {
    let reader = Reader { have: 0, since: 0, log: Some("l0".to_owned()) };
    breaks(Rule::Durability, "another log", |story| {
        story.readers.insert((GROUP.to_owned(), "ana".to_owned()), reader);
    });
}

#[test]
fn no_text_has_two_numbers() {
    breaks(Rule::Once, "is #5 and #8", |story| {
        story.log.push(log_entry(8, Kind::Message, "bob", "two"));
        story.bob[4] = stored("two", 8);
        story.ana.push(message("ana", 8, "two"));
    });
}

#[test]
fn what_was_answered_as_stored_is_there() {
    breaks(Rule::Durability, "is not in the log", |story| {
        story.bob.extend([sending("four"), stored("four", 8)]);
    });
    breaks(Rule::Durability, "and is not in the log", |story| {
        story.log[4].text = "four".to_owned();
        story.bob.push(sending("four"));
        story.ana[5] = message("ana", 6, "four");
    });
    // Given to a member, and not there.
    breaks(Rule::Durability, "which is not in the log", |story| {
        story.ana.push(message("ana", 8, "four"));
    });
}

#[test]
fn nobody_is_credited_with_what_others_sent() {
    breaks(Rule::Durability, "was sent by nobody so", |story| {
        story.log.push(log_entry(8, Kind::Message, "eve", "four"));
        story.bob.push(sending("four"));
        story.ana.push(given("ana", 8, Kind::Message, "eve", "four"));
    });
}

#[test]
fn unknown_is_unknown_and_failed_is_failed() {
    let four = || log_entry(8, Kind::Message, "bob", "four");
    let failed = What::Failed { text: "four".to_owned(), why: "no".to_owned() };
    let given = || message("ana", 8, "four");
    is_fine(|story| story.bob.push(sending("four")));
    is_fine(|story| {
        story.bob.push(sending("four"));
        story.log.push(four());
        story.ana.push(given());
    });
    is_fine(|story| story.bob.extend([sending("four"), failed.clone()]));
    breaks(Rule::Honesty, "failed and is #8", |story| {
        story.bob.extend([sending("four"), failed.clone()]);
        story.log.push(four());
        story.ana.push(given());
    });
}

#[test]
fn a_senders_messages_keep_their_order() {
    // Sent while the other was under way.
    breaks(Rule::Order, "sent #6 before #5", |story| {
        story.bob.swap(2, 3);
    });
}

#[test]
fn what_is_sent_after_an_answer_has_a_higher_number() {
    breaks(Rule::Order, "had been answered", |story| {
        let other = |what: What| match what {
            What::Sending { group, outside, text, .. } => {
                What::Sending { group, from: "eve".to_owned(), outside, text }
            }
            what => what,
        };
        story.log[2] = log_entry(4, Kind::Message, "eve", "one");
        story.ana[3] = given("ana", 4, Kind::Message, "eve", "one");
        story.eva[2] = given("eva", 4, Kind::Message, "eve", "one");
        let one: Vec<What> = story.bob.drain(..2).map(other).collect();
        story.bob.extend(one);
    });
}

#[test]
fn a_receipt_counts_only_who_has_confirmed_before_it() {
    breaks(Rule::Receipts, "eva had not confirmed", |story| {
        story.receipts.push(receipt(6, 2, 2, &[]));
    });
    // She confirms it after the receipt.
    let kept = |story: &mut Story| {
        if let What::Entry(entry) = &mut story.ana[3] {
            entry.then = Then::Keep;
        }
    };
    let (group, name) = (GROUP.to_owned(), "ana".to_owned());
    let confirming = || What::Confirming { group: group.clone(), name: name.clone(), seq: 4 };
    breaks(Rule::Receipts, "ana had not confirmed", |story| {
        kept(story);
        story.afterwards.push(confirming());
    });
    is_fine(|story| {
        kept(story);
        story.ana.push(confirming());
    });
}

#[test]
fn a_receipt_asks_who_was_a_member_then() {
    breaks(Rule::Receipts, "2 were asked", |story| story.receipts.push(receipt(4, 3, 3, &[])));
    breaks(Rule::Receipts, "2 were asked", |story| story.receipts.push(receipt(4, 1, 1, &[])));
    let late = [("luis", "away")];
    breaks(Rule::Receipts, "was not asked", |story| story.receipts.push(receipt(4, 2, 1, &late)));
    breaks(Rule::Receipts, "it is no message", |story| story.receipts.push(receipt(2, 0, 0, &[])));
}

#[test]
fn a_receipt_names_with_reason() {
    breaks(Rule::Receipts, "ana has not left", |story| {
        story.receipts.push(receipt(4, 2, 1, &[("ana", "left")]));
    });
    breaks(Rule::Receipts, "ana has said None", |story| {
        story.receipts.push(receipt(5, 2, 1, &[("ana", "failed")]));
    });
    let twice = [("ana", "away"), ("ana", "away")];
    breaks(Rule::Receipts, "missing twice", |story| story.receipts.push(receipt(5, 2, 1, &twice)));
    breaks(Rule::Receipts, "do not add up", |story| {
        story.receipts.push(receipt(5, 2, 2, &[("ana", "away")]));
    });
}

#[test]
fn reached_are_line_clients_only() {
    breaks(Rule::Receipts, "eva had not confirmed", |story| {
        story.receipts.push(Receipt { reached: 1, ..receipt(6, 2, 1, &[]) });
    });
    let with_line = |story: &mut Story, confirmed, reached| {
        story.log.push(log_entry(8, Kind::Joined, "line", ""));
        story.log.push(log_entry(9, Kind::Message, "bob", "four"));
        story.bob.push(sending("four"));
        story.ana.push(given("ana", 8, Kind::Joined, "line", ""));
        story.ana.push(message("ana", 9, "four"));
        story.receipts.push(Receipt { reached, ..receipt(9, 2, confirmed, &[]) });
    };
    is_fine(|story| with_line(story, 1, 1));
    breaks(Rule::Receipts, "1 of those that count", |story| with_line(story, 2, 0));
    let by_number = |count| Receipt { missing: None, ..receipt(6, 2, count, &[]) };
    is_fine(|story| story.receipts.push(by_number(1)));
    breaks(Rule::Receipts, "at most 1 can", |story| story.receipts.push(by_number(2)));
}

#[test]
fn at_rest_nobody_is_missing_who_has_confirmed() {
    breaks(Rule::Receipts, "has confirmed #5", |story| {
        story.at_rest.push(receipt(5, 2, 1, &[("ana", "away")]));
    });
}

/// A life was killed while it confirmed; the next one was given the message again and failed it. Or the other way round.
#[test]
fn at_rest_the_last_answer_counts() {
    let failing = || What::Failing {
        group: GROUP.to_owned(),
        name: "ana".to_owned(),
        seq: 5,
        code: "exit 5".to_owned(),
    };
    let failed = || Receipt {
        missing: Some(vec![Missing {
            name: "ana".to_owned(),
            why: "failed".to_owned(),
            code: Some("exit 5".to_owned()),
        }]),
        ..receipt(5, 2, 1, &[])
    };
    let again = |story: &mut Story, then| {
        let What::Entry(entry) = message("ana", 5, "two") else { unreachable!() };
        let life = [
            joining("ana", Begin::Saved { cursor: 4, open: Vec::new() }),
            What::Entry(Entry { then, ..entry }),
        ];
        story.ana.splice(5..5, life);
    };
    is_fine(|story| {
        again(story, Then::Open);
        story.ana.insert(7, failing());
        story.at_rest.push(failed());
    });
    breaks(Rule::Receipts, "has confirmed #5, and is failed", |story| {
        again(story, Then::Confirm);
        story.ana.insert(5, failing());
        story.at_rest.push(failed());
    });
    breaks(Rule::Receipts, "has confirmed #5, and is away", |story| {
        again(story, Then::Open);
        story.ana.insert(7, failing());
        story.at_rest.push(receipt(5, 2, 1, &[("ana", "away")]));
    });
}

#[test]
fn who_leaves_has_a_reason() {
    breaks(Rule::Views, "eva, left at #7", |story| drop(story.eva.pop()));
    is_fine(|story| {
        story.log[5].text = "lost".to_owned();
        story.eva.pop();
    });
    breaks(Rule::Views, "a durable member", |story| {
        story.log.push(log_entry(8, Kind::Left, "ana", "lost"));
        story.here.clear();
    });
}

#[test]
fn members_come_and_go_in_turns() {
    breaks(Rule::Views, "is a member already", |story| {
        story.log.push(log_entry(8, Kind::Joined, "ana", ""));
    });
    breaks(Rule::Views, "is no member", |story| {
        story.log.push(log_entry(8, Kind::Left, "eva", "exit"));
        story.ana.push(given("ana", 8, Kind::Left, "eva", ""));
    });
}

#[test]
fn who_joined_is_in_the_log() {
    breaks(Rule::Views, "the log does not say so", |story| {
        story.eva.extend([joining("luis", Begin::Now), joined("luis", 9)]);
    });
}

#[test]
fn who_is_there_has_everything() {
    breaks(Rule::Liveness, "was not given #7", |story| drop(story.ana.pop()));
    is_fine(|story| {
        story.ana.pop();
        story.here.clear();
    });
}
