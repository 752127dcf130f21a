//! Event streams: what comes, resuming, restarts, gaps, and many at once.

use std::net::SocketAddr;

use hyper::StatusCode;
use serde_json::json;

use crate::http_client::{Ask, Events};
use crate::support::{LineClient, config, start};

async fn said(http: SocketAddr, text: &str) -> u64 {
    let ask = Ask::post(http, "/api/groups/ops/messages?wait=stored", text.to_owned());
    ask.answer().await.json["seq"].as_u64().expect("a number")
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
        seen.push(events.next().await.expect("an event"));
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
    let one = events.next().await.expect("an event");
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
    let next = [again.next().await.expect("two"), again.next().await.expect("three")];
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
                let event = events.next().await.expect("an event");
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
    let mut client = crate::support::NativeClient::connect(native).await;
    let delete = tertulia_wire::ClientFrame::Delete { id: 1, group: "ops".to_owned() };
    client.send(&delete).await;
    assert!(matches!(client.frame().await, tertulia_wire::NodeFrame::Done { .. }));
    assert_eq!(events.next().await, None);
}
