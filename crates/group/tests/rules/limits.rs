//! At a limit there is a named refusal, and nobody else feels it.

use tertulia_group::{ConnId, Input, Limits, Output, Refusal, Run};

use crate::rig::{Rig, join, run};

fn refused(said: &[Output]) -> Vec<(u64, u64, Refusal)> {
    said.iter()
        .filter_map(|output| match output {
            Output::MessageRefused(conn, counter, refusal) => Some((conn.0, *counter, *refusal)),
            _ => None,
        })
        .collect()
}

#[test]
fn the_window_is_what_is_not_stored_and_never_stops_acknowledgements() {
    let one = Run::message("ana", 1, true, b"x").len();
    let limits = Limits { unstored_bytes_max: 2 * one, ..Limits::default() };
    let mut rig = Rig::new(limits);
    ["ana", "bo"].iter().zip(1..).for_each(|(text, n)| drop(rig.join(n, text)));
    rig.give(Input::Publish(ConnId(1), run("ana", &[1, 2, 3, 4], true, b"x")));
    assert_eq!(refused(&rig.said()), [(1, 3, Refusal::Busy), (1, 4, Refusal::AfterRefused)]);
    // Another one's window is its own.
    rig.give(Input::Publish(ConnId(2), run("bo", &[1], true, b"y")));
    assert_eq!(refused(&rig.said()), []);
    rig.begin();
    rig.ack(1, 3);
    assert_eq!(rig.group.members().map(|member| member.acked).max(), Some(3));
    rig.flush();
    // Nobody has confirmed anything, and the window is free again.
    rig.give(Input::Publish(ConnId(1), run("ana", &[3, 4], true, b"x")));
    rig.flush();
    assert_eq!(refused(&rig.said()), []);
    assert_eq!(rig.group.tail(), 8);
}

#[test]
fn the_groups_window_is_everybodys() {
    let one = Run::message("out", 1, true, b"x").len();
    let limits = Limits { group_unstored_bytes_max: 3 * one, ..Limits::default() };
    let mut rig = Rig::new(limits);
    rig.open(1, 1);
    rig.open(2, 2);
    rig.said();
    rig.give(Input::Publish(ConnId(1), run("out", &[1, 2], true, b"x")));
    rig.give(Input::Publish(ConnId(2), run("out", &[1, 2], true, b"x")));
    assert_eq!(refused(&rig.said()), [(2, 2, Refusal::Busy)]);
    // A connection that is closed gives back what it had taken, once that is stored.
    rig.give(Input::Closed(ConnId(1)));
    rig.begin();
    rig.not_stored();
    rig.give(Input::Publish(ConnId(2), run("out", &[1, 2, 3, 4], true, b"x")));
    rig.flush();
    assert_eq!(refused(&rig.said()).last(), Some(&(2, 4, Refusal::Busy)));
    assert_eq!(rig.group.tail(), 4);
}

#[test]
fn a_group_is_full_with_joins_on_their_way_counted() {
    let mut rig = Rig::new(Limits { members_max: 2, ..Limits::default() });
    rig.join(1, "ana");
    rig.give(Input::Join(ConnId(2), Box::new(join("bo", 2))));
    rig.give(Input::Join(ConnId(3), Box::new(join("cy", 3))));
    assert_eq!(rig.said(), [Output::Refused(ConnId(3), Refusal::GroupFull)]);
    rig.flush();
    rig.ask(Input::Leave(ConnId(1)));
    rig.join(3, "cy");
    assert_eq!(rig.group.member_count(), 2);
}

#[test]
fn a_message_that_is_too_long_is_refused_by_its_body_alone() {
    let mut rig = Rig::new(Limits { message_bytes_max: 10, ..Limits::default() });
    rig.open(1, 1);
    rig.said();
    rig.give(Input::Publish(ConnId(1), Run::message("out", 1, true, &[0; 11])));
    assert_eq!(refused(&rig.said()), [(1, 1, Refusal::TooLong)]);
    rig.give(Input::Publish(ConnId(1), Run::message("out", 1, true, &[0; 10])));
    rig.flush();
    assert_eq!(rig.group.tail(), 2);
}
