//! Guests shut out, groups' rules, and who may see what.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn without_guests_every_door_is_shut_to_who_is_not_logged_in() {
    let rig = Rig::with(|config| config.guests = false).await;
    let [ana] = rig.accounts(["ana"]).await;
    let (native, line, http) = rig.doors();
    let made = rig.post("/api/groups", Some(&ana), json!({ "name": "ops" })).await;
    assert_eq!(made.status, StatusCode::CREATED);
    for path in [
        "/api/groups",
        "/api/groups/ops",
        "/api/groups/ops/messages",
        "/api/directory/ops",
        "/metrics",
        "/api/groups/ops/events",
    ] {
        let refused = rig.get(path, None).await;
        assert_eq!(
            (refused.status, refused.code()),
            (StatusCode::UNAUTHORIZED, "NOT_LOGGED_IN"),
            "{path}"
        );
    }
    let sent = Ask::post(http, "/api/groups/ops/messages", "hola").answer().await;
    assert_eq!(sent.status, StatusCode::UNAUTHORIZED);
    let alive = rig.get("/healthz", None).await;
    assert_eq!(alive.status, StatusCode::OK);
    let mut guest = NativeClient::connect(native).await;
    for frame in [
        ClientFrame::Join(Box::new(join("eva", "ops"))),
        ClientFrame::Locate { id: 1, group: "ops".into() },
        ClientFrame::Locate { id: 1, group: "nowhere".into() },
        ClientFrame::Allocate { id: 1, name: "eva".into() },
        ClientFrame::Groups { id: 1, after: String::new(), limit: 1 },
        ClientFrame::Status { id: 1 },
    ] {
        guest.send(&frame).await;
        assert_eq!(error_code(guest.frame().await), Code::Denied, "{frame:?}");
    }
    let mut guest = LineClient::connect(line).await;
    for verb in ["JOIN eva ops", "JOIN eva", "GROUPS"] {
        guest.say(verb).await;
        assert!(guest.line().await.starts_with("ERR DENIED "), "{verb}");
    }
    let (_web, told) =
        Web::join(http, json!({ "type": "join", "group": "ops", "name": "eva" })).await;
    assert_eq!(told["code"], "DENIED", "{told}");
    // Who is logged in comes in everywhere, under the account's name.
    let mut own = rig.native(&ana).await;
    assert_eq!(
        error_code(own.try_join(join("eva", "ops")).await.expect_err("a name")),
        Code::NameReserved
    );
    assert!(own.try_join(join("ana", "ops")).await.is_ok());
    let sent =
        with_token(Ask::post(http, "/api/groups/ops/messages?wait=stored", "hola"), Some(&ana));
    assert!(sent.answer().await.status.is_success());
    let mut own = LineClient::connect(line).await;
    own.say(&format!("TOKEN {ana}")).await;
    own.say("JOIN ana-2 ops").await;
    assert_eq!(own.line().await, "OK PASS");
    assert!(own.line().await.starts_with("OK JOIN ana-2 ops "));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_only_send_gets_counts_and_receipts_of_its_own() {
    let rig = Rig::new().await;
    let [ana, ci] = rig.accounts(["ana", "ci"]).await;
    let rules = json!({ "name": "ops", "join": "private", "send": "open" });
    rig.post("/api/groups", Some(&ana), rules).await;
    let mut member = rig.native(&ana).await;
    member.try_join(join("ana", "ops")).await.expect("joins");
    let path = "/api/groups/ops/messages?wait=all&timeout=200ms";
    let send = |token: Option<&str>| with_token(Ask::post(rig.doors().2, path, "hola"), token);
    let sent = send(Some(&ci)).answer().await;
    assert_eq!(sent.json["members"], 1, "{sent:?}");
    assert_eq!(sent.json["missing"], json!([{ "name": "?", "why": "pending" }]));
    let seq = sent.json["seq"].as_u64().expect("a number");
    let receipt = format!("/api/groups/ops/receipts/{seq}");
    let own = rig.get(&receipt, Some(&ci)).await;
    assert_eq!(own.json["missing"][0]["name"], "?", "{own:?}");
    assert_eq!(rig.get(&receipt, Some(&ana)).await.json["missing"][0]["name"], "ana");
    assert_eq!(rig.get(&receipt, None).await.code(), "DENIED");
    let others = send(Some(&ana)).answer().await.json["seq"].as_u64().expect("a number");
    let others = rig.get(&format!("/api/groups/ops/receipts/{others}"), Some(&ci)).await;
    assert_eq!(others.code(), "DENIED");
    let mut sender = rig.native(&ci).await;
    let open = OpenSender {
        id: 1,
        known: false,
        follow: true,
        group: "ops".into(),
        name: "ci".into(),
        sender: SenderId([7; 16]),
    };
    sender.send(&ClientFrame::OpenSender(open)).await;
    assert!(matches!(sender.frame().await, NodeFrame::SenderReady(_)));
    sender.publish("ci", 1, b"hola").await;
    let NodeFrame::Stored(runs) = sender.frame().await else { panic!("not stored") };
    sender
        .send(&ClientFrame::Receipt { id: 2, group: "ops".into(), seq: runs[0].seq, wait_ms: 0 })
        .await;
    match sender.frame().await {
        NodeFrame::ReceiptReply { receipt, .. } => assert_eq!(&*receipt.missing[0].name, "?"),
        other => panic!("{other:?}"),
    }
    member.ack(runs[0].seq).await;
    // No CONFIRMED, which would name who has it.
    assert!(matches!(sender.frame().await, NodeFrame::Complete(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn other_rules_send_away_who_may_not_be_there() {
    let rig = Rig::new().await;
    let [ana, luis] = rig.accounts(["ana", "luis"]).await;
    rig.post("/api/groups", Some(&ana), json!({ "name": "ops" })).await;
    let (native, _, http) = rig.doors();
    let mut first = rig.native(&luis).await;
    first.try_join(join("luis", "ops")).await.expect("joins");
    let (mut guest, _) = NativeClient::member(native, "gast", "ops").await;
    let mut events = Ask::get(http, "/api/groups/ops/events").events().await;
    let mut owner = rig.native(&ana).await;
    owner.try_join(join("ana", "ops")).await.expect("joins");
    let private = json!({ "join": "private", "send": "private", "may_join": ["Luis"] });
    let put = Ask::json(http, "/api/groups/ops/rules", &private).method("PUT");
    let changed = with_token(put, Some(&ana)).answer().await;
    assert_eq!((changed.status, &changed.json["may_join"]), (StatusCode::OK, &json!(["Luis"])));
    assert_eq!(guest.close_code().await, Some(Code::Denied));
    while events.next().await.is_some() {}
    for client in [&mut first, &mut owner] {
        client.send(&ClientFrame::Ping { token: 7 }).await;
        while !matches!(client.frame().await, NodeFrame::Pong { token: 7 }) {}
    }
    // For others it is as if it were not there, word for word.
    for path in ["", "/messages", "/events", "/receipts/1", "/rules"] {
        let hidden = rig.get(&format!("/api/groups/ops{path}"), None).await;
        let unknown = rig.get(&format!("/api/groups/spo{path}"), None).await;
        let text = unknown.json.to_string().replace("spo", "ops");
        assert_eq!((hidden.status, hidden.json.to_string()), (unknown.status, text), "{path}");
        assert_eq!(hidden.code(), "UNKNOWN_GROUP");
    }
    let listed = rig.get("/api/groups", None).await;
    assert_eq!(listed.json["items"], json!([]));
    assert_eq!(rig.get("/api/groups", Some(&luis)).await.json["items"][0]["group"], "ops");
    let put = Ask::json(http, "/api/groups/ops/rules", &private).method("PUT");
    assert_eq!(with_token(put, Some(&luis)).answer().await.code(), "DENIED");
}
