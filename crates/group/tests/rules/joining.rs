//! Joining, coming back and going: names, secrets, grace, views.

use tertulia_group::entry::Kind;
use tertulia_group::{ConnId, Door, From, Input, Join, LeaveReason, Output, Refusal, Ticket};

use crate::rig::{Rig, back, join, name, run, welcome};

fn refusal(said: &[Output]) -> Option<Refusal> {
    said.iter().find_map(|output| match output {
        Output::Refused(_, refusal) => Some(*refusal),
        _ => None,
    })
}

fn asks(rig: &mut Rig, conn: u64, join: Join) -> Option<Refusal> {
    refusal(&rig.ask(Input::Join(ConnId(conn), Box::new(join))))
}

#[test]
fn a_name_in_use_is_taken_however_it_is_written_and_wherever_its_owner_is() {
    let mut rig = Rig::with(&["ana"]);
    for text in ["ana", "ANA", "аna"] {
        assert_eq!(asks(&mut rig, 9, join(text, 9)), Some(Refusal::NameTaken), "{text}");
    }
    rig.give(Input::Closed(ConnId(1)));
    assert_eq!(asks(&mut rig, 9, join("ana", 9)), Some(Refusal::NameTaken), "away");
    assert_eq!(asks(&mut rig, 9, back("ana", 8, From::Now)), Some(Refusal::NameTaken), "a guess");
    rig.tick_after(30_000);
    rig.flush();
    assert_eq!(asks(&mut rig, 9, join("ana", 9)), None, "it has left");
}

#[test]
fn a_join_on_its_way_has_its_name_and_the_answer_waits_for_it() {
    let mut rig = Rig::with(&[]);
    rig.give(Input::Join(ConnId(1), Box::new(join("ana", 1))));
    assert!(rig.begin());
    rig.give(Input::Join(ConnId(2), Box::new(join("Ana", 2))));
    assert_eq!(rig.said(), [], "what it would learn is not stored yet");
    rig.stored();
    let said = rig.said();
    assert!(welcome(&said).is_some());
    assert_eq!(refusal(&said), Some(Refusal::NameTaken));
    // A join that could not be stored gives its name back.
    rig.give(Input::Join(ConnId(3), Box::new(join("bo", 3))));
    rig.begin();
    rig.not_stored();
    assert_eq!(refusal(&rig.said()), Some(Refusal::NoSpace));
    assert_eq!(asks(&mut rig, 3, join("bo", 3)), None);
}

#[test]
fn publishing_before_the_welcome_is_refused_and_the_join_goes_on() {
    let mut rig = Rig::with(&[]);
    rig.give(Input::Join(ConnId(1), Box::new(join("ana", 1))));
    rig.send(1, "ana", 1);
    rig.flush();
    let said = rig.said();
    assert!(said.contains(&Output::MessageRefused(ConnId(1), 1, Refusal::NotJoined)));
    assert!(welcome(&said).is_some(), "{said:?}");
    let said = rig.ask(Input::Publish(ConnId(1), run("ana", &[2], true, b"x")));
    assert_eq!(said, [Output::MessageRefused(ConnId(1), 2, Refusal::AfterRefused)]);
    assert_eq!(rig.publish(1, "ana", 1), 3);
}

#[test]
fn the_secret_takes_over_and_the_older_connection_is_closed() {
    let mut rig = Rig::with(&["ana"]);
    let said = rig.ask(Input::Join(ConnId(2), Box::new(back("ana", 1, From::Now))));
    assert!(said.contains(&Output::Close(ConnId(1), Refusal::Replaced)));
    let again = welcome(&said).expect("a welcome");
    assert_eq!((again.resumed, again.key.0), (true, 2));
    // The older one's end is not the member's.
    rig.ask(Input::Closed(ConnId(1)));
    rig.tick_after(60_000);
    rig.flush();
    assert_eq!(rig.group.member_count(), 1);
    assert_eq!(rig.group.stay(ConnId(1)), None);
}

#[test]
fn grace_is_the_doors_and_begins_anew_with_a_coordinator() {
    let cases = [
        (Door::Native, false, Some(30_000)),
        (Door::Web, false, Some(30_000)),
        (Door::Line, false, Some(0)),
        (Door::Line, true, Some(0)),
        (Door::Native, true, None),
    ];
    for (door, durable, grace) in cases {
        let mut rig = Rig::with(&[]);
        rig.join_as(1, Join { door, durable, ..join("ana", 1) });
        rig.ask(Input::Closed(ConnId(1)));
        rig.tick_after(20_000);
        rig.flush();
        let there = |rig: &Rig| rig.group.member(&name("ana")).is_some();
        assert_eq!(there(&rig), grace != Some(0), "{door:?} {durable}");
        rig.crash();
        rig.flush();
        rig.tick_after(29_999);
        rig.flush();
        assert_eq!(there(&rig), grace != Some(0), "{door:?} {durable}: the grace began anew");
        rig.tick_after(1);
        rig.flush();
        assert_eq!(there(&rig), grace.is_none(), "{door:?} {durable}");
        rig.tick_after(1_000_000_000);
        rig.flush();
        assert_eq!(there(&rig), grace.is_none(), "{door:?} {durable}");
    }
}

#[test]
fn a_durable_member_goes_when_it_is_removed_or_away_past_what_is_kept() {
    let durable = |n| Join { durable: true, ..join("ana", n) };
    let mut rig = Rig::with(&[]);
    rig.join_as(1, durable(1));
    rig.ask(Input::Closed(ConnId(1)));
    let said = rig.ask(Input::Remove(Ticket(7), name("ANA")));
    assert!(said.contains(&Output::Removed(Ticket(7), true)));
    assert!(said.contains(&Output::Left(name("ana"), LeaveReason::Removed)));
    assert!(
        rig.ask(Input::Remove(Ticket(8), name("ana"))).contains(&Output::Removed(Ticket(8), false))
    );

    rig.join_as(2, durable(2));
    rig.open(9, 9);
    (1..=3).for_each(|counter| assert_eq!(rig.publish(9, "out", counter), counter + 4));
    rig.ask(Input::Closed(ConnId(2)));
    let said = rig.ask(Input::Trimmed(5));
    assert!(!said.iter().any(|output| matches!(output, Output::Left(..))), "it has missed nothing");
    let said = rig.ask(Input::Trimmed(6));
    assert!(said.contains(&Output::Left(name("ana"), LeaveReason::Expired)));
}

#[test]
fn everybody_sees_the_same_views_because_they_are_entries() {
    let mut rig = Rig::with(&["ana", "bo"]);
    rig.ask(Input::Leave(ConnId(1)));
    rig.join(3, "ana");
    let views: Vec<(Kind, String)> =
        rig.log().iter().map(|entry| (entry.header.kind, entry.name().to_owned())).collect();
    let joined = |text: &str| (Kind::Joined, text.to_owned());
    let want = [
        (Kind::Epoch, String::new()),
        joined("ana"),
        joined("bo"),
        (Kind::Left, "ana".to_owned()),
        joined("ana"),
    ];
    assert_eq!(views, want);
}
