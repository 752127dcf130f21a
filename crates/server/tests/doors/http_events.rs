//! Event streams: what comes, resuming, restarts, gaps, and many at once.

use std::net::SocketAddr;

use hyper::StatusCode;
use serde_json::json;

use crate::http_client::{Ask, Event, Events};
use crate::support::{LineClient, NativeClient, config, start, within};

async fn said(http: SocketAddr, text: &str) -> u64 {
    let ask = Ask::post(http, "/api/groups/ops/messages?wait=stored", text.to_owned());
    ask.answer().await.json["seq"].as_u64().expect("a number")
}

/// The next event of the log.
async fn entry(events: &mut Events) -> Event {
    loop {
        let event = events.next().await.expect("an event");
        if event.kind != "receipt" {
            return event;
        }
    }
}

async fn follow(http: SocketAddr, query: &str) -> Events {
    let mut events = Ask::get(http, &format!("/api/groups/ops/events{query}")).events().await;
    let hello = events.next().await.expect("hello");
    assert_eq!((hello.kind.as_str(), &hello.data["group"]), ("hello", &json!("ops")));
    events
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_opens_with_hello_and_shows_what_is_said_and_who_comes_and_goes() {
    let data = tempfile::tempdir().expect("a folder");
    let node = start(config(data.path())).await;
    let (http, line) = (node.endpoints().http.expect("http"), node.endpoints().line.expect("line"));
    let mut ana = LineClient::join(line, "ana", "ops").await;
    said(http, "before").await;
    let mut events = follow(http, "").await;
    let mut luis = LineClient::join(line, "luis", "ops").await;
    ana.say("MSG hola").await;
    luis.say("EXIT").await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(entry(&mut events).await);
    }
    let brief: Vec<_> = seen.iter().map(|event| (event.kind.as_str(), event.brief().2)).collect();
    assert_eq!(brief, [("joined", "luis"), ("message", "hola"), ("left", "luis")]);
    assert!(seen.iter().all(|event| event.id.is_some()));
    let mut from_first = follow(http, "?after=0").await;
    assert_eq!(from_first.next().await.map(|event| event.kind), Some("joined".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_goes_on_where_it_was_also_after_a_restart() {
    let data = tempfile::tempdir().expect("a folder");
    let node = start(config(data.path())).await;
    let http = node.endpoints().http.expect("http");
    let made = Ask::json(http, "/api/groups", &json!({ "name": "ops" })).answer().await;
    assert_eq!(made.status, StatusCode::CREATED);
    let mut events = follow(http, "").await;
    said(http, "one").await;
    let one = entry(&mut events).await;
    said(http, "two").await;
    node.stop().await;

    let node = start(config(data.path())).await;
    let http = node.endpoints().http.expect("http");
    said(http, "three").await;
    let id = one.id.clone().expect("an id");
    let mut again =
        Ask::get(http, "/api/groups/ops/events").header("last-event-id", &id).events().await;
    let hello = again.next().await.expect("hello");
    assert_eq!(hello.data["next"].as_u64(), Some(one.brief().1 + 1));
    let next = [entry(&mut again).await, entry(&mut again).await];
    assert_eq!(next.each_ref().map(|event| event.brief().2), ["two", "three"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_in_another_log_is_told_as_a_reset() {
    let data = tempfile::tempdir().expect("a folder");
    let node = start(config(data.path())).await;
    let http = node.endpoints().http.expect("http");
    Ask::json(http, "/api/groups", &json!({ "name": "ops" })).answer().await;
    let seq = said(http, "one").await;
    let id = format!("{:032x}-1-{}", 7, seq + 50);
    let mut events =
        Ask::get(http, "/api/groups/ops/events").header("last-event-id", &id).events().await;
    let kinds = [events.next().await, events.next().await, events.next().await];
    let kinds = kinds.map(|event| event.expect("an event").kind);
    assert_eq!(kinds, ["hello", "reset", "message"]);
    for bad in ["", "x", "1-2-3", &format!("{:032x}-1-{}", 7, u64::MAX)] {
        let ask = Ask::get(http, "/api/groups/ops/events").header("last-event-id", bad);
        assert_eq!(ask.answer().await.status, StatusCode::BAD_REQUEST, "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_who_follows_sees_the_same_whatever_the_place() {
    let data = tempfile::tempdir().expect("a folder");
    let node = start(config(data.path())).await;
    let http = node.endpoints().http.expect("http");
    Ask::json(http, "/api/groups", &json!({ "name": "ops" })).answer().await;
    for at in 0..50 {
        said(http, &format!("m{at}")).await;
    }
    let followers = (0..40).map(|at| {
        tokio::spawn(async move {
            let mut events = follow(http, &format!("?after={at}")).await;
            let mut seen = Vec::new();
            while seen.last().is_none_or(|(_, text)| text != "m149") {
                let event = entry(&mut events).await;
                seen.push((event.brief().1, event.brief().2.to_owned()));
            }
            seen
        })
    });
    let followers: Vec<_> = followers.collect();
    for at in 50..150 {
        said(http, &format!("m{at}")).await;
    }
    let mut all = Vec::new();
    for follower in followers {
        all.push(follower.await.expect("it ends"));
    }
    for (at, seen) in all.iter().enumerate() {
        let want = all[0].iter().filter(|(seq, _)| *seq > at as u64);
        assert!(seen.iter().eq(want), "follower {at}");
    }
    assert_eq!(all[0].len(), 150);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_when_its_group_is_deleted() {
    let data = tempfile::tempdir().expect("a folder");
    let node = start(config(data.path())).await;
    let (http, native) =
        (node.endpoints().http.expect("http"), node.endpoints().native.expect("native"));
    Ask::json(http, "/api/groups", &json!({ "name": "ops" })).answer().await;
    let mut events = follow(http, "").await;
    let mut client = NativeClient::connect(native).await;
    let delete = tertulia_wire::ClientFrame::Delete { id: 1, group: "ops".to_owned() };
    client.send(&delete).await;
    assert!(matches!(client.frame().await, tertulia_wire::NodeFrame::Done { .. }));
    assert_eq!(events.next().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_behind_ends_too_when_its_group_is_deleted() {
    let data = tempfile::tempdir().expect("a folder");
    let node = start(config(data.path())).await;
    let (http, native) =
        (node.endpoints().http.expect("http"), node.endpoints().native.expect("native"));
    Ask::json(http, "/api/groups", &json!({ "name": "ops" })).answer().await;
    // More than sockets hold, so that the journal is read after the group has gone.
    let text = "x".repeat(500_000);
    for _ in 0..40 {
        said(http, &text).await;
    }
    let mut events = follow(http, "?after=0").await;
    let mut client = NativeClient::connect(native).await;
    let delete = tertulia_wire::ClientFrame::Delete { id: 1, group: "ops".to_owned() };
    client.send(&delete).await;
    assert!(matches!(client.frame().await, tertulia_wire::NodeFrame::Done { .. }));
    let mut seen = 0;
    while events.next().await.is_some() {
        seen += 1;
    }
    assert!(seen < 40, "all of it came before the group was deleted: nothing is shown");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_a_group_in_which_nothing_happens_is_told_the_next_receipt() {
    let data = tempfile::tempdir().expect("a folder");
    let node = start(config(data.path())).await;
    let (http, native) =
        (node.endpoints().http.expect("http"), node.endpoints().native.expect("native"));
    let (mut ana, _) = NativeClient::member(native, "ana", "ops").await;
    let seq = said(http, "late").await;
    assert_eq!(ana.message().await.0, seq);
    let mut events = follow(http, "").await;
    // Nothing has had the group look about it since it was followed.
    ana.ack(seq).await;
    let event = within("the receipt", events.next()).await.expect("an event");
    assert_eq!(receipt_of(&event), (seq, 1, vec![]));
}

fn receipt_of(event: &Event) -> (u64, u64, Vec<&str>) {
    assert_eq!((event.kind.as_str(), &event.id), ("receipt", &None), "{event:?}");
    let data = &event.data;
    assert_eq!((&data["group"], &data["final"]), (&json!("ops"), &json!(true)), "{data}");
    let missing = data["missing"].as_array().expect("always there").iter();
    let missing = missing.map(|one| one["name"].as_str().expect("a name"));
    let number = |name: &str| data[name].as_u64().expect("a number");
    (number("seq"), number("confirmed") + number("reached"), missing.collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_is_told_a_receipt_once_it_is_final_whoever_waits_for_it() {
    let data = tempfile::tempdir().expect("a folder");
    let node = start(config(data.path())).await;
    let (http, native) =
        (node.endpoints().http.expect("http"), node.endpoints().native.expect("native"));
    let (mut ana, _) = NativeClient::member(native, "ana", "ops").await;
    // From before anybody looked on, and nobody waits for it: its sender has its 202.
    let late = said(http, "late").await;
    let mut events = follow(http, "").await;
    let (mut luis, _) = NativeClient::member(native, "luis", "ops").await;
    let both = said(http, "both").await;
    assert_eq!(ana.message().await.0, late);
    ana.ack(late).await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(events.next().await.expect("an event"));
    }
    let kinds: Vec<_> = seen.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["joined", "message", "receipt"]);
    assert_eq!(receipt_of(&seen[2]), (late, 1, vec![]));
    // One confirms, the other leaves: nobody can still answer.
    assert_eq!(ana.message().await.0, both);
    ana.ack(both).await;
    luis.send(&tertulia_wire::ClientFrame::Leave).await;
    let left = events.next().await.expect("an event");
    assert_eq!(left.kind, "left");
    let last = events.next().await.expect("an event");
    assert_eq!(receipt_of(&last), (both, 1, vec!["luis"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_never_comes_before_its_message_however_far_behind_one_begins() {
    let data = tempfile::tempdir().expect("a folder");
    let node = start(config(data.path())).await;
    let http = node.endpoints().http.expect("http");
    Ask::json(http, "/api/groups", &json!({ "name": "ops" })).answer().await;
    let _watching = follow(http, "").await;
    for at in 0..300 {
        said(http, &format!("m{at}")).await;
    }
    let mut events = follow(http, "?after=0").await;
    let last = said(http, "last").await;
    let mut newest = 0;
    loop {
        let event = events.next().await.expect("an event");
        let seq = event.data["seq"].as_u64().expect("a number");
        match event.kind.as_str() {
            "receipt" => assert!(seq <= newest, "#{seq} is told before it is shown"),
            _ => newest = seq,
        }
        if event.kind == "receipt" && seq == last {
            break;
        }
    }
}
