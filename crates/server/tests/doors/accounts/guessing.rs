//! Who guesses passwords holds up nobody else, and locks nobody out.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_wrong_passwords_hold_up_nobody_else() {
    let rig = Rig::with(|config| config.limits.accounts.hash_cost = HashCost::default()).await;
    rig.register("ana").await;
    rig.register("luis").await;
    let http = rig.doors().2;
    let flood: Vec<_> = (0..1000)
        .map(|n| {
            let name = ["ana", "eva", "max"][n % 3];
            let body = json!({ "name": name, "password": format!("wrong horse {n}") });
            tokio::spawn(async move { Ask::json(http, "/api/login", &body).answer().await.status })
        })
        .collect();
    // Somebody who is told to wait tries again, as people do.
    let mut tries = 0;
    loop {
        tries += 1;
        let answer = rig.post("/api/login", None, login_body("luis")).await;
        match answer.status {
            StatusCode::OK => break,
            StatusCode::TOO_MANY_REQUESTS if tries < 100 => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            _ => panic!("{answer:?}"),
        }
    }
    let (mut wrong, mut wait) = (0, 0);
    for one in flood {
        match one.await.expect("an answer") {
            StatusCode::UNAUTHORIZED => wrong += 1,
            StatusCode::TOO_MANY_REQUESTS => wait += 1,
            other => panic!("{other}"),
        }
    }
    assert!(wrong <= 30 && wait >= 970, "{wrong} {wait}");
}

/// A log-in from another of this machine's addresses.
async fn log_in_from(host: u8, http: SocketAddr, body: &Value) -> StatusCode {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from(([127, 0, 0, host], 0))).expect("an address");
    let stream = socket.connect(http).await.expect("connects");
    Ask::json(http, "/api/login", body).over(stream).await.status
}

#[tokio::test(flavor = "multi_thread")]
async fn who_guesses_locks_nobody_out_elsewhere_nor_whom_a_token_has_let_in() {
    let rig = Rig::with(|config| config.limits.accounts.hash_cost = HashCost::default()).await;
    let [ana] = rig.accounts(["ana"]).await;
    rig.register("luis").await;
    let http = rig.doors().2;
    // One address tries as hard as it can: one name, then all that it can think of.
    let flood: Vec<_> = (0..1000)
        .map(|n| {
            let name = if n % 2 == 0 { "ana".to_owned() } else { format!("name{n}") };
            let body = json!({ "name": name, "password": format!("wrong horse {n}") });
            tokio::spawn(async move { log_in_from(66, http, &body).await })
        })
        .collect();
    while log_in_from(66, http, &login_body("ana")).await != StatusCode::TOO_MANY_REQUESTS {}
    // At the first try, where she has logged in before; with her token; and somebody else.
    assert_eq!(log_in_from(1, http, &login_body("ana")).await, StatusCode::OK);
    assert_eq!(log_in_from(1, http, &login_body("luis")).await, StatusCode::OK);
    assert_eq!(rig.get("/api/whoami", Some(&ana)).await.json["name"], "ana");
    for one in flood {
        let status = one.await.expect("an answer");
        let refused = [StatusCode::UNAUTHORIZED, StatusCode::TOO_MANY_REQUESTS];
        assert!(refused.contains(&status), "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_an_old_password_is_slowed_down_like_logging_in() {
    let rig = Rig::new().await;
    rig.register("ana").await;
    let token = rig.log_in("ana").await;
    let wrong = json!({ "password": "wrong horse", "new": "battery staple" });
    let mut codes = Vec::new();
    for _ in 0..8 {
        codes.push(change(&rig, Some(&token), wrong.clone()).await.1);
    }
    assert!(codes.contains(&"LIMIT".to_owned()), "{codes:?}");
    assert_eq!(rig.get("/api/whoami", Some(&token)).await.status, StatusCode::OK);
}
