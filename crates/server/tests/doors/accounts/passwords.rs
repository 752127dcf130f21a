//! Changing passwords: one's own, and somebody else's.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn another_password_ends_all_that_the_old_one_had_opened_but_what_changed_it() {
    let rig = Rig::new().await;
    rig.register("root").await;
    rig.register("ana").await;
    let (mine, others) = (rig.log_in("ana").await, rig.log_in("ana").await);
    let (_, line, http) = rig.doors();
    Ask::json(http, "/api/groups", &json!({ "name": "ops" })).answer().await;
    let mut own = with_token(Ask::get(http, "/api/groups/ops/events"), Some(&mine)).events().await;
    let (mut web, _) = Web::join_as(
        http,
        Some(&others),
        json!({ "type": "join", "group": "ops", "name": "ana-web" }),
    )
    .await;
    // One that has shown the password itself has no token.
    let mut nc = LineClient::connect(line).await;
    nc.say(&format!("PASS {PASSWORD}")).await;
    nc.say("JOIN ana ops").await;
    assert!(nc.until("OK JOIN").await.starts_with("OK JOIN ana ops"));

    let new = "battery staple";
    let asked = |old: &str| json!({ "password": old, "new": new });
    assert_eq!(change(&rig, None, asked(PASSWORD)).await, (401, "NOT_LOGGED_IN".into()));
    assert_eq!(change(&rig, Some(&mine), asked("wrong horse")).await, (403, "DENIED".into()));
    let short = json!({ "password": PASSWORD, "new": "short" });
    assert_eq!(change(&rig, Some(&mine), short).await, (400, "BAD_PASSWORD".into()));
    assert_eq!(rig.get("/api/whoami", Some(&others)).await.status, StatusCode::OK);

    assert_eq!(change(&rig, Some(&mine), asked(PASSWORD)).await, (204, String::new()));
    assert_eq!(web.until("closed").await["code"], "NOT_LOGGED_IN");
    while !nc.line().await.is_empty() {}
    assert_eq!(rig.get("/api/whoami", Some(&others)).await.code(), "NOT_LOGGED_IN");
    assert_eq!(rig.get("/api/whoami", Some(&mine)).await.json["name"], "ana");
    let said = Ask::post(http, "/api/groups/ops/messages?wait=stored", "still here");
    said.answer().await;
    while own.next().await.expect("it goes on").data["text"] != "still here" {}

    let old = rig.post("/api/login", None, login_body("ana")).await;
    assert_eq!(old.code(), "NOT_LOGGED_IN");
    let fresh = json!({ "name": "ana", "password": new });
    assert_eq!(rig.post("/api/login", None, fresh).await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_gives_somebody_a_new_password_and_nobody_else_does() {
    let rig = Rig::new().await;
    for name in ["root", "ana", "eva"] {
        rig.register(name).await;
    }
    let (root, ana, eva) =
        (rig.log_in("root").await, rig.log_in("ana").await, rig.log_in("eva").await);
    let reset = |name: &str| json!({ "name": name, "new": "battery staple" });
    assert_eq!(change(&rig, Some(&eva), reset("ana")).await, (403, "DENIED".into()));
    // Whether there is such an account is not said to others.
    assert_eq!(change(&rig, Some(&eva), reset("nobody")).await, (403, "DENIED".into()));
    assert_eq!(change(&rig, Some(&root), reset("nobody")).await, (400, "BAD_NAME".into()));
    // Its own needs the old one, whoever it is.
    assert_eq!(change(&rig, Some(&root), reset("root")).await, (403, "DENIED".into()));
    assert_eq!(change(&rig, Some(&root), reset("Ana")).await, (204, String::new()));
    assert_eq!(rig.get("/api/whoami", Some(&ana)).await.code(), "NOT_LOGGED_IN");
    assert_eq!(rig.get("/api/whoami", Some(&eva)).await.status, StatusCode::OK);
    let fresh = json!({ "name": "ana", "password": "battery staple" });
    assert_eq!(rig.post("/api/login", None, fresh.clone()).await.status, StatusCode::OK);

    // It is there after a restart.
    let Rig { node, data } = rig;
    node.stop().await;
    let rig = Rig { node: start(Rig::config(&data, |_| {})).await, data };
    assert_eq!(rig.post("/api/login", None, fresh).await.status, StatusCode::OK);
    assert_eq!(rig.get("/api/whoami", Some(&ana)).await.code(), "NOT_LOGGED_IN");
    assert_eq!(rig.get("/api/whoami", Some(&root)).await.json["administrator"], true);
}
