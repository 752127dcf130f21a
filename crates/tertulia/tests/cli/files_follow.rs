//! A peer that follows a group by itself: it fetches, confirms, goes on after being killed, and serves what it has.

use rustix::process::Signal;
use serde_json::Value;

use crate::files::{Sharer, content, read};
use crate::files_group::{GROUP, as_it_stands, missing, teller};
use crate::support::{Node, User, object};

const PASSWORD: &str = "correct horse\n";

/// A peer that is told so by these arguments.
fn following(node: &Node, user: User, args: &[&str]) -> Sharer {
    let folder = user.home.path().join("shared");
    let shared = folder.to_str().unwrap().to_owned();
    let common = ["peer", "--folder", &shared, "--port", "0", "--node", &node.native, "--json"];
    let peer = user.spawn(&[&common[..], args].concat());
    let started = object(&peer.says("address"));
    let address = started["address"].as_str().unwrap().to_owned();
    Sharer { user, peer, address, folder }
}

fn members(node: &Node) -> Vec<Value> {
    node.run(&["members", GROUP, "--json"]).expect(0).objects()
}

#[test]
fn a_peer_follows_a_group_by_itself() {
    let node = Node::start();
    let ana = teller(&node);
    let mut luis = following(&node, User::new(), &["--follow", GROUP]);
    // Nobody is logged in yet; it notices.
    luis.log_in("luis");
    luis.peer.notes(&format!("{GROUP}: followed as luis-peer"));
    let bytes = content(2 * (1 << 20) + 7);
    let path = ana.own_file("plano.bin", &bytes);
    let args = ["save", &path, "--group", GROUP, "--json", "--node", &node.native];
    let receipt = ana.files(&args).expect(0).objects().pop().unwrap();
    assert_eq!((&receipt["members"], &receipt["confirmed"]), (&1.into(), &1.into()), "{receipt}");
    luis.peer.notes("got plano.bin");
    assert!(read(&luis.folder.join("plano.bin")) == bytes);
    // What is said is confirmed, too: the peer is a member like any other.
    node.run(&["send", GROUP, "hola"]).expect(0);

    // Killed; what comes meanwhile is fetched later, by the same member.
    luis.peer.signal(Signal::KILL);
    luis.peer.end();
    let viaje = ana.user.home.path().join("Viaje");
    std::fs::create_dir_all(viaje.join("mapas")).unwrap();
    std::fs::write(viaje.join("mapas/a.txt"), "uno").unwrap();
    std::fs::write(viaje.join("b.txt"), "dos").unwrap();
    let viaje = viaje.to_str().unwrap();
    let args = ["save", viaje, "--group", GROUP, "--wait", "stored", "--json"];
    let told = ana.files(&[&args[..], &["--node", &node.native]].concat()).expect(0).objects();
    let seq = told.last().unwrap()["seq"].as_u64().unwrap();
    let names: Vec<String> =
        missing(&as_it_stands(&node, seq)).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["luis-peer"]);
    let config = luis.user.home.path().join("peer.toml");
    std::fs::write(&config, format!("follow = [\"{GROUP}\"]\n")).unwrap();
    let luis = following(&node, luis.user, &["--config", config.to_str().unwrap()]);
    luis.peer.notes(&format!("{GROUP}: going on as luis-peer"));
    luis.peer.notes(&format!("#{seq} got Viaje/"));
    assert_eq!(read(&luis.folder.join("Viaje/mapas/a.txt")), b"uno");
    let receipt = node.run(&["receipt", GROUP, &seq.to_string(), "--wait", "20s", "--json"]);
    let receipt = receipt.expect(0).objects().remove(0);
    assert_eq!((&receipt["members"], &receipt["confirmed"]), (&1.into(), &1.into()), "{receipt}");
    assert_eq!(members(&node).len(), 1);

    // It serves what it has when who told it is gone.
    drop(ana);
    let pia = Sharer::start(&node, "0");
    pia.log_in("pia");
    let out = pia.user.home.path().join("out");
    std::fs::create_dir(&out).unwrap();
    for name in ["plano.bin", "Viaje/"] {
        let until = std::time::Instant::now() + crate::support::WITHIN;
        while pia.finds(name, 1)[0]["holders"] != serde_json::json!(["luis"]) {
            assert!(std::time::Instant::now() < until, "{name}: luis does not say that he has it");
        }
        let got = pia.files(&["get", name, "-o", out.to_str().unwrap()]).expect(0).stdout();
        assert!(got.contains(" from luis ("), "{name}: {got}");
    }

    // Removed by name it is no member any more, and stays none.
    luis.user.run(&["remove", GROUP, "luis-peer", "--node", &node.native]).expect(0);
    luis.peer.notes("removed by name");
    assert_eq!(members(&node), [Value::Null; 0]);
    let bad = luis.user.run(&["peer", "--follow", "no such/name", "--json"]).expect(1);
    assert_eq!(object(&bad.stderr())["error"]["code"], "BAD_NAME");
}

#[test]
fn who_may_not_follow_is_told_and_does_when_it_may() {
    let node = Node::start();
    let ana = teller(&node);
    let create = ["groups", "create", GROUP, "--join", "private", "--node", &node.native];
    ana.user.run(&create).expect(0);
    let luis = following(&node, User::new(), &["--follow", GROUP]);
    luis.log_in("luis");
    luis.peer.notes(&format!("cannot follow {GROUP} just now: "));
    let set = ["groups", "set", GROUP, "--may-join", "luis", "--node", &node.native];
    ana.user.run(&set).expect(0);
    luis.peer.notes(&format!("{GROUP}: followed as luis-peer"));
    // Another peer of the account is another member.
    let user = User::new();
    let login = ["login", "luis", "--password-stdin", "--node", &node.native];
    user.run_with(&login, PASSWORD).expect(0);
    let other = following(&node, user, &["--follow", GROUP]);
    other.peer.notes(&format!("{GROUP}: followed as luis-peer-2"));
}
