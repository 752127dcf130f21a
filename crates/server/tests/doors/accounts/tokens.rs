//! Logging in and out, and what a token opens and closes.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn register_log_in_log_out_and_be_refused() {
    let rig = Rig::new().await;
    let made = rig.post("/api/register", None, login_body("Ana")).await;
    assert_eq!((made.status, &made.json["administrator"]), (StatusCode::CREATED, &json!(true)));
    let again = rig.post("/api/register", None, login_body("ana")).await;
    assert_eq!((again.status, again.code()), (StatusCode::CONFLICT, "NAME_TAKEN"));
    let token = rig.log_in("ANA").await;
    let me = rig.get("/api/whoami", Some(&token)).await;
    assert_eq!((&me.json["name"], &me.json["administrator"]), (&json!("Ana"), &json!(true)));
    assert_eq!(rig.get("/api/whoami", None).await.json["name"], Value::Null);
    let sent = rig.post("/api/groups", Some(&token), json!({ "name": "ops" })).await;
    assert_eq!(sent.status, StatusCode::CREATED);
    let out = rig.post("/api/logout", Some(&token), json!({})).await;
    assert_eq!(out.status, StatusCode::NO_CONTENT);
    for (path, bad) in
        [("/api/whoami", token.as_str()), ("/api/groups", "tt_x"), ("/api/groups", "")]
    {
        let refused = rig.get(path, Some(bad)).await;
        assert_eq!((refused.status, refused.code()), (StatusCode::UNAUTHORIZED, "NOT_LOGGED_IN"));
    }
    let basic = Ask::get(rig.doors().2, "/api/groups").header("authorization", "Basic YTpi");
    assert_eq!(basic.answer().await.status, StatusCode::UNAUTHORIZED);
    let out = rig.post("/api/logout", None, json!({})).await;
    assert_eq!(out.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_name_and_a_wrong_password_are_answered_alike() {
    let rig = Rig::new().await;
    rig.register("ana").await;
    let wrong = json!({ "name": "ana", "password": "wrong horse" });
    let answers = [
        rig.post("/api/login", None, wrong).await,
        rig.post("/api/login", None, login_body("eva")).await,
        rig.post("/api/login", None, login_body("no name at all")).await,
    ];
    for answer in &answers {
        assert_eq!((answer.status, answer.code()), (StatusCode::UNAUTHORIZED, "NOT_LOGGED_IN"));
        assert_eq!(answer.json, answers[0].json);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_and_tokens_stay_over_a_restart() {
    let rig = Rig::new().await;
    let [ana, luis] = rig.accounts(["ana", "luis"]).await;
    rig.post("/api/logout", Some(&luis), json!({})).await;
    let private = json!({ "name": "ops", "join": "private", "send": "private" });
    assert_eq!(rig.post("/api/groups", Some(&ana), private).await.status, StatusCode::CREATED);
    let Rig { node, data } = rig;
    node.stop().await;
    let rig = Rig { node: start(Rig::config(&data, |_| {})).await, data };
    assert_eq!(rig.get("/api/whoami", Some(&ana)).await.json["administrator"], json!(true));
    assert_eq!(rig.get("/api/whoami", Some(&luis)).await.status, StatusCode::UNAUTHORIZED);
    let luis = rig.log_in("luis").await;
    assert_eq!(rig.get("/api/groups/ops", Some(&luis)).await.status, StatusCode::NOT_FOUND);
    let rules = rig.get("/api/groups/ops/rules", Some(&ana)).await;
    assert_eq!((&rules.json["join"], &rules.json["owner"]), (&json!("private"), &json!("ana")));
}

#[tokio::test(flavor = "multi_thread")]
async fn logging_out_closes_what_the_token_opened() {
    let rig = Rig::new().await;
    let [ana] = rig.accounts(["ana"]).await;
    let other = rig.log_in("ana").await;
    let (_, line, http) = rig.doors();
    let mut member = rig.native(&ana).await;
    member.try_join(join("ana", "ops")).await.expect("joins");
    let mut idle = rig.native(&ana).await;
    let mut by_line = LineClient::connect(line).await;
    by_line.say(&format!("TOKEN {ana}")).await;
    by_line.say("JOIN ana-2 ops").await;
    by_line.until("OK JOIN").await;
    let events = Ask::get(http, "/api/groups/ops/events");
    let mut events = with_token(events, Some(&ana)).events().await;
    let web = json!({ "type": "join", "group": "ops", "name": "ana-3" });
    let (mut web, welcome) = Web::join_as(http, Some(&ana), web).await;
    assert_eq!(welcome["type"], "welcome", "{welcome}");
    let mut stays = rig.native(&other).await;
    stays.try_join(join("ana-4", "ops")).await.expect("joins");

    rig.post("/api/logout", Some(&ana), json!({})).await;
    assert_eq!(member.close_code().await, Some(Code::NotLoggedIn));
    assert_eq!(idle.close_code().await, Some(Code::NotLoggedIn));
    by_line.until("* the token has ended").await;
    while events.next().await.is_some() {}
    assert_eq!(web.until("closed").await["code"], "NOT_LOGGED_IN");
    stays.send(&ClientFrame::Ping { token: 7 }).await;
    while !matches!(stays.frame().await, NodeFrame::Pong { token: 7 }) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_whose_time_has_come_opens_nothing_and_closes_what_it_opened() {
    let life = Duration::from_millis(1500);
    let rig = Rig::with(|config| config.limits.accounts.token_life = life).await;
    let [ana] = rig.accounts(["ana"]).await;
    let mut member = rig.native(&ana).await;
    member.try_join(join("ana", "ops")).await.expect("joins");
    assert_eq!(member.close_code().await, Some(Code::NotLoggedIn));
    assert_eq!(rig.get("/api/whoami", Some(&ana)).await.status, StatusCode::UNAUTHORIZED);
    let mut late = NativeClient::connect(rig.doors().0).await;
    late.send(&auth(&ana)).await;
    assert_eq!(error_code(late.frame().await), Code::NotLoggedIn);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_another_node_and_of_nobody_opens_nothing_at_any_door() {
    let (rig, other) = (Rig::new().await, Rig::new().await);
    rig.register("ana").await;
    let [ana] = other.accounts(["ana"]).await;
    let (native, line, http) = rig.doors();
    for token in [ana.as_str(), "tt_", "x", &format!("tt_{}", "A".repeat(43))] {
        assert_eq!(rig.get("/api/groups", Some(token)).await.code(), "NOT_LOGGED_IN");
        let events = with_token(Ask::get(http, "/api/groups/ops/events"), Some(token));
        assert_eq!(events.answer().await.code(), "NOT_LOGGED_IN");
        let ws = with_token(Ask::get(http, "/api/ws"), Some(token));
        assert_eq!(ws.answer().await.code(), "NOT_LOGGED_IN");
        let mut client = NativeClient::connect(native).await;
        client.send(&auth(token)).await;
        assert_eq!(error_code(client.frame().await), Code::NotLoggedIn);
        let mut nc = LineClient::connect(line).await;
        nc.say(&format!("TOKEN {token}")).await;
        assert!(nc.line().await.starts_with("ERR DENIED "), "{token}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cookie_is_for_the_page_only() {
    let rig = Rig::new().await;
    rig.register("ana").await;
    let http = rig.doors().2;
    let body = json!({ "name": "ana", "password": PASSWORD, "cookie": true });
    let (answer, headers) = Ask::json(http, "/api/login", &body).with_headers().await;
    assert_eq!(answer.json.get("token"), None, "{answer:?}");
    let line = headers["set-cookie"].to_str().expect("text").to_owned();
    assert!(line.contains("; HttpOnly; SameSite=Strict") && !line.contains("Secure"), "{line}");
    let cookie = line.split(';').next().expect("a pair").to_owned();
    let origin = format!("http://{http}");
    let me = Ask::get(http, "/api/whoami").header("cookie", &cookie).answer().await;
    assert_eq!(me.json["name"], "ana");
    rig.post("/api/groups", None, json!({ "name": "ops" })).await;
    let path = "/api/groups/ops/messages?wait=stored";
    let post = |kind: &str| {
        Ask::post(http, path, "hola").header("cookie", &cookie).header("content-type", kind)
    };
    let bare = post("text/plain").answer().await;
    assert_eq!((bare.status, bare.code()), (StatusCode::FORBIDDEN, "FOREIGN_ORIGIN"));
    // What another site's page can make a browser send: a form, with the cookie and that site's name.
    let foreign = post("application/x-www-form-urlencoded").header("origin", "http://evil.example");
    assert_eq!(foreign.answer().await.code(), "FOREIGN_ORIGIN");
    let form = post("application/x-www-form-urlencoded").header("origin", &origin).answer().await;
    assert_eq!(form.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let sent = post("text/plain").header("origin", &origin).answer().await;
    assert!(sent.status.is_success(), "{sent:?}");
    let out = Ask::post(http, "/api/logout", "").header("cookie", &cookie);
    let out = out.header("origin", &origin).answer().await;
    assert_eq!(out.status, StatusCode::NO_CONTENT);
    let ended = Ask::get(http, "/api/groups").header("cookie", &cookie);
    let (ended, headers) = ended.with_headers().await;
    assert_eq!(ended.status, StatusCode::UNAUTHORIZED);
    assert!(headers["set-cookie"].to_str().is_ok_and(|line| line.contains("Max-Age=0")));
}
