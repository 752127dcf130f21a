//! What is stored: stamped in place, one number after another, with nothing in it that members must not see.

use bytes::{Bytes, BytesMut};
use tertulia_group::entry::{
    EntryError, FLAG_AGAIN, FLAG_OUTSIDE, FLAG_RECEIPT, HEADER_BYTES, Kind, entries, write_file,
};
use tertulia_group::{ConnId, Input, Limits, Output, Run};

use crate::rig::{Rig, id, run, secret};

#[test]
fn a_published_frame_becomes_the_entry_in_place() {
    let mut rig = Rig::with(&["ana"]);
    rig.open(9, 9);
    let mut frame = BytesMut::new();
    tertulia_group::entry::write_publish(&mut frame, "out", 1, true, b"hello");
    // A hostile sender fills in what is the coordinator's.
    frame[5] = FLAG_RECEIPT | FLAG_AGAIN | 0xF0;
    frame[7] = 9;
    frame[8..32].fill(0xEE);
    frame[40..48].fill(0xEE);
    let hostile = Run::split(&mut frame, 100).expect("a frame").expect("one");
    rig.later(5);
    rig.ask(Input::Publish(ConnId(9), hostile));
    let entry = rig.entry(3);
    let header = entry.header;
    assert_eq!((header.kind, header.flags, header.epoch), (Kind::Message, FLAG_OUTSIDE, 1));
    assert_eq!((header.sender, header.counter, header.time_us), (3, 1, rig.now.wall_us));
    assert_eq!((entry.bytes()[7], &entry.bytes()[44..48]), (0, &[0; 4][..]));
    assert_eq!((entry.name(), &entry.body()[..]), ("out", &b"hello"[..]));
    assert_eq!(header.publisher(), None);
    rig.publish(1, "ana", 1);
    let header = rig.entry(4).header;
    assert_eq!((header.flags, header.sender), (0, 2), "a member's messages carry its stay");
}

/// The body of a file with this name.
fn told(name: &str) -> Vec<u8> {
    let len = u16::try_from(name.len()).expect("a short name").to_le_bytes();
    [&[7; 40], &len[..], name.as_bytes()].concat()
}

fn file_run(counter: u64, body: &[u8]) -> Result<Run, EntryError> {
    let mut frame = BytesMut::new();
    write_file(&mut frame, "out", counter, true, body);
    Ok(Run::split(&mut frame, 1000)?.expect("one"))
}

#[test]
fn a_file_is_told_once_whatever_crashes_and_however_often_it_is_said() {
    let mut rig = Rig::with(&["ana"]);
    rig.open(9, 9);
    rig.ask(Input::Publish(ConnId(9), file_run(1, &told("a.txt")).expect("well-formed")));
    rig.crash();
    rig.flush();
    rig.open(10, 9);
    // Whoever does not know whether it is stored says it again, or asks without a body.
    rig.ask(Input::Publish(ConnId(10), file_run(1, &told("a.txt")).expect("well-formed")));
    rig.ask(Input::Publish(ConnId(10), Run::message("out", 1, true, b"")));
    let log = rig.log();
    let files: Vec<_> = log.iter().filter(|entry| entry.header.kind == Kind::File).collect();
    assert_eq!(files.len(), 1);
    assert_eq!((files[0].header.flags, &files[0].body()[..]), (FLAG_OUTSIDE, &told("a.txt")[..]));
    assert!(log.iter().all(|entry| entry.header.kind != Kind::Message));
}

#[test]
fn what_tells_no_file_is_no_frame() {
    let long = "x".repeat(256);
    for name in ["", "a\nb", "\u{1b}[2J", "\u{85}", &long] {
        assert_eq!(file_run(1, &told(name)).err(), Some(EntryError::Body), "{name:?}");
    }
    let whole = told("a.txt");
    for cut in 0..whole.len() {
        assert_eq!(file_run(1, &whole[..cut]).err(), Some(EntryError::Body), "{cut}");
    }
    assert!(file_run(1, &[&whole[..], b"more"].concat()).is_ok(), "what comes later is skipped");
}

#[test]
fn an_outside_sender_keeps_the_number_of_its_first_message() {
    let mut rig = Rig::with(&["ana"]);
    rig.publish(1, "ana", 1);
    // The same sender id from outside: not the stay's number.
    rig.open(9, 1);
    for counter in 2..=3 {
        rig.publish(9, "out", counter);
    }
    rig.crash();
    rig.flush();
    rig.open(10, 1);
    rig.publish(10, "out", 4);
    let senders: Vec<u64> = rig
        .log()
        .iter()
        .filter(|entry| entry.header.kind == Kind::Message)
        .map(|entry| entry.header.sender)
        .collect();
    assert_eq!(senders, [2, 4, 4, 4]);
}

#[test]
fn long_and_short_runs_are_stored_in_their_order() {
    let limits = Limits { copy_bytes_max: 200, batch_bytes_max: 3000, ..Limits::default() };
    let mut rig = Rig::new(limits);
    rig.open(1, 1);
    let mut counter = 1;
    for (count, body) in [(1, 10), (3, 300), (2, 10), (1, 900), (9, 200), (1, 1)] {
        let counters: Vec<u64> = (counter..counter + count).collect();
        counter += count;
        rig.give(Input::Publish(ConnId(1), run("out", &counters, true, &vec![7; body])));
    }
    rig.flush();
    assert!(rig.records.len() > 2, "a full batch is closed");
    let counters: Vec<u64> = rig.log().iter().skip(1).map(|entry| entry.header.counter).collect();
    assert_eq!(counters, (1..counter).collect::<Vec<_>>());
    let numbers: Vec<u64> = rig.log().iter().map(|entry| entry.header.seq).collect();
    assert_eq!(numbers, (1..=counter).collect::<Vec<_>>());
}

#[test]
fn secrets_and_sender_ids_are_only_in_the_notes() {
    let mut rig = Rig::with(&["ana", "bo"]);
    rig.open(9, 9);
    rig.publish(1, "ana", 1);
    rig.publish(9, "out", 1);
    let found = |bytes: &Bytes, wanted: &[u8]| bytes.windows(wanted.len()).any(|w| w == wanted);
    let secrets: Vec<Vec<u8>> =
        vec![id(1).0.to_vec(), id(9).0.to_vec(), secret(1).0.to_vec(), secret(2).0.to_vec()];
    for wanted in &secrets {
        assert!(rig.records.iter().all(|record| !found(&record.entries, wanted)));
        assert!(rig.records.iter().any(|record| found(&record.notes, wanted)));
    }
}

#[test]
fn a_frame_that_is_not_taken_ends_a_piece_and_leaves_no_gap() {
    let mut rig = Rig::with(&["ana"]);
    rig.open(9, 9);
    rig.publish(9, "out", 1);
    let said = rig.ask(Input::Publish(ConnId(9), run("out", &[1, 2, 2, 3, 1, 4], false, b"x")));
    let stored: Vec<(u64, u64, u32)> = said
        .iter()
        .filter_map(|output| match output {
            Output::Stored(_, run) | Output::Again(_, run) => {
                Some((run.counter, run.seq, run.count))
            }
            _ => None,
        })
        .collect();
    assert_eq!(stored, [(1, 3, 1), (2, 4, 1), (2, 4, 1), (3, 5, 1), (1, 3, 1), (4, 6, 1)]);
    let batch = &rig.records.last().expect("a record").entries;
    assert_eq!(entries(batch.clone()).count(), 3);
    assert!(batch.len() > 3 * HEADER_BYTES);
}

#[test]
fn a_body_that_is_only_just_too_long_reaches_the_group_and_a_much_longer_one_does_not() {
    let split = |body: usize| {
        let mut frame = BytesMut::new();
        tertulia_group::entry::write_publish(&mut frame, "out", 1, true, &vec![b'x'; body]);
        Run::split(&mut frame, 100).map(|run| run.map(|run| run.count()))
    };
    assert_eq!(split(100), Ok(Some(1)));
    assert_eq!(split(101), Ok(Some(1)), "refused by the group, as TooLong");
    assert!(split(100 + 129).is_err(), "no name could make it so long");
}
