//! Names that are an account's, at every door.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_reserved_at_every_door_look_alikes_too() {
    let rig = Rig::new().await;
    let [ana, _luis] = rig.accounts(["ana", "luis"]).await;
    let (native, line, http) = rig.doors();
    rig.post("/api/groups", Some(&ana), json!({ "name": "ops" })).await;
    // Cyrillic letters.
    for name in ["ana", "ANA", "аnа"] {
        let mut client = NativeClient::connect(native).await;
        client.send(&ClientFrame::Join(Box::new(join(name, "ops")))).await;
        assert_eq!(error_code(client.frame().await), Code::NameReserved, "{name}");
        let (id, group, name) = (1, "ops".to_owned(), name.to_owned());
        let sender = SenderId([1; 16]);
        let open =
            OpenSender { id, known: false, follow: false, group, name: name.clone(), sender };
        client.send(&ClientFrame::OpenSender(open)).await;
        assert_eq!(error_code(client.frame().await), Code::NameReserved, "{name}");
        let mut client = LineClient::connect(line).await;
        client.say(&format!("JOIN {name} ops")).await;
        assert!(client.line().await.starts_with("ERR NAME_RESERVED "), "{name}");
        let as_name: String = name.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let sent = Ask::post(http, &format!("/api/groups/ops/messages?as={as_name}"), "hola");
        assert_eq!(sent.answer().await.code(), "NAME_RESERVED", "{name}");
        let (_web, told) =
            Web::join(http, json!({ "type": "join", "group": "ops", "name": name })).await;
        assert_eq!(told["code"], "NAME_RESERVED", "{told}");
    }
    let mut own = rig.native(&ana).await;
    assert!(own.try_join(join("Ana", "ops")).await.is_ok());
    let mut own = rig.native(&ana).await;
    let refused = own.try_join(join("luis", "ops")).await.expect_err("another's name");
    assert_eq!(error_code(refused), Code::NameReserved);
    let mut own = LineClient::connect(line).await;
    own.say(&format!("TOKEN {ana}")).await;
    assert_eq!(own.line().await, "OK PASS");
    own.say("JOIN ana lobby").await;
    assert!(own.line().await.starts_with("OK JOIN ana lobby "));
    let mut own = LineClient::connect(line).await;
    own.say("PASS wrong horse").await;
    assert_eq!(own.line().await, "OK PASS");
    own.say("JOIN ana third").await;
    assert!(own.line().await.starts_with("ERR DENIED "));
    own.say(&format!("PASS {PASSWORD}")).await;
    assert_eq!(own.line().await, "OK PASS");
    own.say("JOIN ana third").await;
    assert!(own.line().await.starts_with("OK JOIN ana third "));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_is_closed_when_the_name_becomes_an_accounts() {
    let rig = Rig::new().await;
    let (native, line, _) = rig.doors();
    let (mut ana, _) = NativeClient::member(native, "ana", "ops").await;
    let (mut eva, _) = NativeClient::member(native, "eva", "ops").await;
    let mut other = LineClient::join(line, "ana", "lobby").await;
    rig.register("ana").await;
    assert_eq!(ana.close_code().await, Some(Code::NameReserved));
    assert!(other.until("* the name").await.contains("account"));
    eva.send(&ClientFrame::Ping { token: 7 }).await;
    while !matches!(eva.frame().await, NodeFrame::Pong { token: 7 }) {}
}
