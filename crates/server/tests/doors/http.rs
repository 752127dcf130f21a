//! Requests to the HTTP door: groups, messages with receipts, keys, history, the directory and the allocator.

use std::net::SocketAddr;

use hyper::StatusCode;
use serde_json::json;
use tertulia_server::Node;

use crate::http_client::{Answer, Ask};
use crate::support::{LineClient, NativeClient, config, start};

async fn node() -> (Node, SocketAddr, tempfile::TempDir) {
    let data = tempfile::tempdir().expect("a folder");
    let node = start(config(data.path())).await;
    let http = node.endpoints().http.expect("the HTTP door");
    (node, http, data)
}

async fn create(http: SocketAddr, group: &str) {
    let answer = Ask::json(http, "/api/groups", &json!({ "name": group })).answer().await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
}

async fn post(http: SocketAddr, query: &str, text: &str) -> Answer {
    Ask::post(http, &format!("/api/groups/ops/messages{query}"), text.to_owned()).answer().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_is_answered_by_its_receipt() {
    let (node, http, _data) = node().await;
    create(http, "ops").await;
    let none = post(http, "", "hola").await;
    assert_eq!((none.status, &none.json["members"]), (StatusCode::OK, &json!(0)));
    let native = node.endpoints().native.expect("the native door");
    let (mut ana, _) = NativeClient::member(native, "ana", "ops").await;
    let (mut luis, _) = NativeClient::member(native, "luis", "ops").await;

    let waiting = tokio::spawn(async move { post(http, "?timeout=20s", "¿todos?").await });
    let (seq, from, text) = ana.message().await;
    assert_eq!((from.as_str(), &text[..]), ("web", "¿todos?".as_bytes()));
    ana.ack(seq).await;
    confirm_next(&mut luis).await;
    let all = waiting.await.expect("an answer");
    assert_eq!(all.status, StatusCode::OK, "{all:?}");
    assert_eq!(all.json["seq"], seq);
    assert_eq!((&all.json["confirmed"], &all.json["missing"]), (&json!(2), &json!([])));

    let late = post(http, "?timeout=0s&as=eva", "otra").await;
    assert_eq!(late.status, StatusCode::ACCEPTED, "{late:?}");
    let missing =
        json!([{ "name": "ana", "why": "pending" }, { "name": "luis", "why": "pending" }]);
    assert_eq!((&late.json["missing"], &late.json["final"]), (&missing, &json!(false)));
    let (seq, from, _) = ana.message().await;
    assert_eq!(from, "eva");
    ana.ack(seq).await;
    confirm_next(&mut luis).await;
    let path = format!("/api/groups/ops/receipts/{seq}?wait=20s");
    let later = Ask::get(http, &path).answer().await;
    assert_eq!((later.status, &later.json["confirmed"]), (StatusCode::OK, &json!(2)));
}

async fn confirm_next(member: &mut NativeClient) {
    let (seq, ..) = member.message().await;
    member.ack(seq).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_waits_for_what_it_is_told() {
    let (node, http, _data) = node().await;
    let native = node.endpoints().native.expect("the native door");
    let (mut ana, _) = NativeClient::member(native, "ana", "ops").await;
    let _luis = NativeClient::member(native, "luis", "ops").await;
    let stored = post(http, "?wait=stored&timeout=20s", "a").await;
    assert_eq!((stored.status, &stored.json["confirmed"]), (StatusCode::ACCEPTED, &json!(0)));
    let waiting = tokio::spawn(async move { post(http, "?wait=1&timeout=20s", "b").await });
    ana.message().await;
    confirm_next(&mut ana).await;
    let one = waiting.await.expect("an answer");
    assert_eq!((one.status, &one.json["confirmed"]), (StatusCode::ACCEPTED, &json!(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_posts_at_once_have_numbers_of_their_own() {
    let (_node, http, _data) = node().await;
    create(http, "ops").await;
    let posts = (0..200).map(|at| {
        tokio::spawn(async move {
            let sender = if at % 2 == 0 { "" } else { "?as=luis" };
            post(http, sender, &format!("m{at}")).await
        })
    });
    let mut numbers = Vec::new();
    for post in posts.collect::<Vec<_>>() {
        let answer = post.await.expect("an answer");
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        numbers.push(answer.json["seq"].as_u64().expect("a number"));
    }
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 200);
    let history = Ask::get(http, "/api/groups/ops/messages?limit=1000").answer().await;
    let texts: std::collections::BTreeSet<_> = history.json["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|item| item["text"].to_string())
        .collect();
    assert_eq!(texts.len(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_stores_once_also_after_a_restart_and_refuses_another_text() {
    let data = tempfile::tempdir().expect("a folder");
    let with_key = |http, text: &'static str| async move {
        Ask::post(http, "/api/groups/ops/messages", text)
            .header("idempotency-key", "k-1")
            .answer()
            .await
    };
    let node = start(config(data.path())).await;
    let http = node.endpoints().http.expect("the HTTP door");
    create(http, "ops").await;
    let (first, again) = (with_key(http, "hola").await, with_key(http, "hola").await);
    assert_eq!((first.status, &first.json["seq"]), (StatusCode::OK, &again.json["seq"]));
    node.stop().await;

    let node = start(config(data.path())).await;
    let http = node.endpoints().http.expect("the HTTP door");
    let after = with_key(http, "hola").await;
    assert_eq!(after.json["seq"], first.json["seq"], "{after:?}");
    let other = with_key(http, "adiós").await;
    assert_eq!((other.status, other.code()), (StatusCode::UNPROCESSABLE_ENTITY, "KEY_REUSED"));
    let history = Ask::get(http, "/api/groups/ops/messages").answer().await;
    let said = history.json["items"].as_array().expect("items");
    assert_eq!(said.iter().filter(|item| item["type"] == "message").count(), 1, "{history:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_at_once_is_one_message() {
    let (_node, http, _data) = node().await;
    create(http, "ops").await;
    let posts = (0..20).map(|_| {
        tokio::spawn(async move {
            Ask::post(http, "/api/groups/ops/messages", "una")
                .header("idempotency-key", "k")
                .answer()
                .await
        })
    });
    let mut numbers = std::collections::BTreeSet::new();
    for post in posts.collect::<Vec<_>>() {
        let answer = post.await.expect("an answer");
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        numbers.insert(answer.json["seq"].as_u64());
    }
    assert_eq!(numbers.len(), 1, "{numbers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_texts_with_one_key_at_the_same_moment_one_is_stored_and_the_other_refused() {
    let (_node, http, _data) = node().await;
    create(http, "ops").await;
    for n in 0..100 {
        let post = |text: &'static str| {
            let key = format!("k-{n}");
            async move {
                Ask::post(http, "/api/groups/ops/messages", text)
                    .header("idempotency-key", &key)
                    .answer()
                    .await
            }
        };
        let (one, other) = (tokio::spawn(post("una")), tokio::spawn(post("otra")));
        let mut answers = [one.await.expect("an answer"), other.await.expect("an answer")];
        answers.sort_by_key(|answer| answer.status);
        let [stored, refused] = &answers;
        let status = (stored.status, refused.status);
        assert_eq!(status, (StatusCode::OK, StatusCode::UNPROCESSABLE_ENTITY), "{answers:?}");
        assert_eq!(refused.code(), "KEY_REUSED");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn text_comes_as_it_is_as_a_form_or_as_json() {
    let (node, http, _data) = node().await;
    let line = node.endpoints().line.expect("the line door");
    let mut ana = LineClient::join(line, "ana", "ops").await;
    let path = "/api/groups/ops/messages?wait=stored";
    let form =
        Ask::post(http, path, "a=1&b").header("content-type", "application/x-www-form-urlencoded");
    form.answer().await;
    assert!(ana.until("MSG ").await.ends_with("~web a=1&b"));
    Ask::json(http, path, &json!({ "text": "día" })).answer().await;
    assert!(ana.until("MSG ").await.ends_with("~web día"));
    let bad = Ask::json(http, path, &json!({ "texto": "día" })).answer().await;
    assert_eq!((bad.status, bad.code()), (StatusCode::BAD_REQUEST, "BAD_REQUEST"));
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_members_and_the_directory_are_as_at_the_other_doors() {
    let (node, http, _data) = node().await;
    let native = node.endpoints().native.expect("the native door").to_string();
    for group in ["a", "b", "c"] {
        create(http, group).await;
    }
    let exists = Ask::json(http, "/api/groups", &json!({ "name": "B" })).answer().await;
    assert_eq!((exists.status, exists.code()), (StatusCode::CONFLICT, "GROUP_EXISTS"));
    let first = Ask::get(http, "/api/groups?limit=2").answer().await;
    assert_eq!(
        (first.json["items"].as_array().map(Vec::len), &first.json["next"]),
        (Some(2), &json!("b"))
    );
    let rest = Ask::get(http, "/api/groups?limit=2&after=b").answer().await;
    assert_eq!((&rest.json["items"][0]["group"], &rest.json["next"]), (&json!("c"), &json!(null)));

    let line = node.endpoints().line.expect("the line door");
    let _ana = LineClient::join(line, "ana", "b").await;
    let group = Ask::get(http, "/api/groups/b").answer().await;
    assert_eq!(group.json["members"][0]["name"], "ana", "{group:?}");
    assert_eq!(group.json["members"][0]["door"], "line");
    let located = Ask::get(http, "/api/directory/b").answer().await;
    assert_eq!(located.json["coordinator"], json!(native));
    let given = Ask::json(http, "/api/allocate", &json!({ "name": "eva" })).answer().await;
    assert_eq!(given.json, json!({ "group": "1", "coordinator": native }));
}

#[tokio::test(flavor = "multi_thread")]
async fn history_is_read_page_by_page() {
    let (_node, http, _data) = node().await;
    create(http, "ops").await;
    for at in 0..5 {
        post(http, "?wait=stored", &format!("m{at}")).await;
    }
    let mut seen = Vec::new();
    let mut after = json!("0");
    while let Some(next) = after.as_str() {
        let path = format!("/api/groups/ops/messages?limit=2&after={next}");
        let page = Ask::get(http, &path).answer().await;
        let items = page.json["items"].as_array().expect("items").clone();
        seen.extend(items.iter().map(|item| item["text"].as_str().unwrap_or_default().to_owned()));
        after = page.json["next"].clone();
    }
    assert_eq!(seen, ["m0", "m1", "m2", "m3", "m4"]);
    let last = Ask::get(http, "/api/groups/ops/messages?limit=1").answer().await;
    assert_eq!((&last.json["items"][0]["text"], &last.json["next"]), (&json!("m4"), &json!(null)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_a_problem_that_says_what() {
    let (_node, http, _data) = node().await;
    create(http, "ops").await;
    let cases = [
        (Ask::get(http, "/api/groups/opps"), 404, "UNKNOWN_GROUP"),
        (Ask::get(http, "/nothing"), 404, "NO_SUCH_PATH"),
        (Ask::post(http, "/healthz", ""), 405, "NO_SUCH_METHOD"),
        (Ask::get(http, "/api/groups?limit=many"), 400, "BAD_REQUEST"),
        (Ask::get(http, "/api/groups/%ff"), 400, "BAD_REQUEST"),
        (Ask::get(http, "/api/groups/ops/receipts/99"), 404, "NO_SUCH_MESSAGE"),
        (Ask::get(http, "/api/groups/ops/receipts/x"), 400, "BAD_REQUEST"),
        (Ask::post(http, "/api/groups/opps/messages", "x"), 404, "UNKNOWN_GROUP"),
        (Ask::post(http, "/api/groups/ops/messages?wait=x", "x"), 400, "BAD_REQUEST"),
        (Ask::post(http, "/api/groups/ops/messages?timeout=5", "x"), 400, "BAD_REQUEST"),
        (Ask::post(http, "/api/groups/ops/messages?as=a%20b", "x"), 400, "BAD_NAME"),
        (Ask::post(http, "/api/groups", "{}"), 415, "BAD_REQUEST"),
        (Ask::json(http, "/api/groups", &json!({ "name": "" })), 400, "BAD_NAME"),
        (Ask::get(http, "/api/ws"), 400, "NO_WEBSOCKET"),
    ];
    for (ask, status, code) in cases {
        let answer = ask.answer().await;
        assert_eq!((answer.status.as_u16(), answer.code()), (status, code), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_description_names_every_path() {
    let (_node, http, _data) = node().await;
    let api = Ask::get(http, "/api/openapi.json").answer().await;
    let paths: Vec<_> = api.json["paths"].as_object().expect("paths").keys().cloned().collect();
    let known = [
        "/api/allocate",
        "/api/capabilities",
        "/api/directory/{group}",
        "/api/files",
        "/api/files/{hash}",
        "/api/files/{hash}/holders",
        "/api/groups",
        "/api/groups/{group}",
        "/api/groups/{group}/events",
        "/api/groups/{group}/messages",
        "/api/groups/{group}/receipts/{seq}",
        "/api/groups/{group}/rules",
        "/api/login",
        "/api/logout",
        "/api/password",
        "/api/peers",
        "/api/peers/key",
        "/api/peers/me",
        "/api/register",
        "/api/whoami",
        "/api/ws",
        "/healthz",
        "/metrics",
    ];
    assert_eq!(paths, known);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_count_what_went_by() {
    let (node, http, _data) = node().await;
    let native = node.endpoints().native.expect("the native door");
    let (mut ana, _) = NativeClient::member(native, "ana", "ops").await;
    let waiting = tokio::spawn(async move { post(http, "?timeout=20s", "hola").await });
    confirm_next(&mut ana).await;
    assert_eq!(waiting.await.expect("an answer").status, StatusCode::OK);
    for (path, code) in [("/api/groups/spo/rules", "UNKNOWN_GROUP"), ("/nowhere", "NO_SUCH_PATH")] {
        assert_eq!(Ask::get(http, path).answer().await.code(), code);
    }
    let text = Ask::get(http, "/metrics").text().await;
    for line in [
        "tertulia_receipts_total{outcome=\"complete\"} 1",
        "tertulia_confirmations_total 1",
        "tertulia_publish_to_confirmed_seconds_count 1",
        "tertulia_refusals_total{reason=\"UNKNOWN_GROUP\"} 1",
        "tertulia_refusals_total{reason=\"NO_SUCH_PATH\"} 1",
        "tertulia_messages_total 1",
        "tertulia_members{presence=\"here\"} 1",
        "tertulia_groups 1",
        "tertulia_lag_entries 0",
    ] {
        assert!(text.lines().any(|there| there == line), "{line} is not in\n{text}");
    }
    // Its own join and the message.
    assert!(text.contains("tertulia_deliveries_total 1\n"), "{text}");
    assert!(!text.contains("tertulia_journal_append_seconds_count 0\n"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_no_message_and_json_ends_its_line() {
    let (_node, http, _data) = node().await;
    create(http, "ops").await;
    assert_eq!(post(http, "?wait=stored", "hola").await.status, StatusCode::OK);
    let empty = post(http, "?wait=stored", "").await;
    assert_eq!((empty.status, empty.code()), (StatusCode::BAD_REQUEST, "BAD_TEXT"));
    let path = "/api/groups/ops/messages?wait=stored";
    let empty = Ask::json(http, path, &json!({ "text": "" })).answer().await;
    assert_eq!((empty.status, empty.code()), (StatusCode::BAD_REQUEST, "BAD_TEXT"));
    for path in ["/api/groups", "/api/groups/nowhere", "/nowhere", "/api/openapi.json"] {
        let text = Ask::get(http, path).text().await;
        assert!(text.ends_with("}\n") && !text.ends_with("\n\n"), "{path}: {text:?}");
        let head = Ask::get(http, path).method("HEAD").response().await;
        let length = head.headers()["content-length"].to_str().expect("text").to_owned();
        assert_eq!(length, text.len().to_string(), "{path}");
    }
    assert!(Ask::get(http, "/metrics").text().await.ends_with("# EOF\n"));
}
