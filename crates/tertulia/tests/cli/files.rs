//! Files between peers, with real processes: two users, their peers, and the node between them.

use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::Value;
use tertulia_files::content::ContentHash;

use crate::netns::{grpc_calls, rest_calls};
use crate::support::{Ended, Node, Running, User, object};

const PASSWORD: &str = "correct horse\n";

/// A user with a peer.
pub struct Sharer {
    pub user: User,
    pub peer: Running,
    /// `host:port`.
    pub address: String,
    /// What the peer shares.
    pub folder: PathBuf,
}

impl Sharer {
    /// Starts a peer at `port`, or the next one that is free.
    pub fn start(node: &Node, port: &str) -> Self {
        Self::start_by(User::new(), node, port)
    }

    pub fn start_by(user: User, node: &Node, port: &str) -> Self {
        Self::start_with(user, node, &["--port", port])
    }

    /// One that others reach by another address.
    pub fn start_behind(node: &Node, address: &str) -> Self {
        Self::start_with(User::new(), node, &["--port", "0", "--advertise", address])
    }

    fn start_with(user: User, node: &Node, more: &[&str]) -> Self {
        let folder = user.home.path().join("shared");
        let shared = folder.to_str().unwrap().to_owned();
        let args = ["peer", "--folder", &shared, "--node", &node.native, "--json"];
        let args = [&args[..], more].concat();
        // What it is asked, and what it has sent in all, is in its log.
        let mut command = user.command(&args);
        command.env("RUST_LOG", "warn,tertulia_files=debug");
        let peer = user.spawn_by(&args, command);
        let started = object(&peer.says("address"));
        let address = started["address"].as_str().unwrap().to_owned();
        Self { user, peer, address, folder }
    }

    pub fn port(&self) -> u16 {
        self.address.rsplit(':').next().unwrap().parse().unwrap()
    }

    /// Registers and logs in through the peer, by gRPC.
    pub fn log_in(&self, name: &str) {
        let args = ["register", name, "--password-stdin", "--peer", &self.address];
        self.user.run_with(&args, PASSWORD).expect(0);
        let args = ["login", name, "--password-stdin", "--peer", &self.address];
        let said = self.user.run_with(&args, PASSWORD).expect(0).stdout();
        assert!(said.starts_with(&format!("logged in as {name} until 20")), "{said}");
    }

    /// A command of this user's, by the running peer.
    pub fn files(&self, args: &[&str]) -> Ended {
        self.user.run(&[&["files"], args].concat())
    }

    /// A file in a folder that is not shared.
    pub fn own_file(&self, name: &str, content: &[u8]) -> String {
        let path = self.user.home.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Ends the peer; the bytes of contents that it has sent to others.
    pub fn end(mut self) -> u64 {
        self.peer.end_by(Signal::TERM, 0);
        let noted = self.peer.all_noted();
        let sent =
            noted.split("sent_bytes=").nth(1).and_then(|rest| rest.split_whitespace().next());
        sent.unwrap_or_else(|| panic!("{noted}")).parse().unwrap()
    }

    /// Waits until a search finds so many.
    #[track_caller]
    pub fn finds(&self, words: &str, count: usize) -> Vec<Value> {
        let until = std::time::Instant::now() + crate::support::WITHIN;
        loop {
            let found = self.files(&["search", words, "--json"]).expect(0).objects();
            if found.len() == count {
                return found;
            }
            assert!(std::time::Instant::now() < until, "{words}: {found:?}, not {count}");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}

pub fn content(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

pub fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn two_users_share_files_through_their_peers() {
    let node = Node::start_with(&["--log-format", "json", "-vv"]);
    let ana = Sharer::start(&node, "0");
    // Her port is taken: his is the next one that is free.
    let luis = Sharer::start(&node, &ana.port().to_string());
    assert!(luis.port() > ana.port(), "{} {}", ana.address, luis.address);
    // Each says what is missing, and how to come by it.
    for peer in [&ana.peer, &luis.peer] {
        let noted = peer.notes("nobody is logged in at");
        assert!(noted.contains("tertulia login NAME") && noted.contains("register"), "{noted}");
    }
    let refused = ana.files(&["search", "x", "--json"]).expect(1);
    assert_eq!(object(&refused.stderr())["error"]["code"], "NOT_LOGGED_IN");
    ana.log_in("ana");
    luis.log_in("luis");

    // Ports are listed.
    luis.peer.notes("announced as luis");
    ana.peer.notes("announced as ana");
    let peers = luis.files(&["peers", "--json"]).expect(0).objects();
    let line = |user: &str, of: &Sharer| serde_json::json!({ "user": user, "address": of.address, "online": true });
    assert_eq!(peers, [line("ana", &ana), line("luis", &luis)]);

    // Saved by one, found and fetched by the other.
    let bytes = content(3 * (1 << 20) + 77);
    let path = ana.own_file("Informe Ñandú.bin", &bytes);
    let saved = ana.files(&["save", &path, "--json"]).expect(0).objects().remove(0);
    assert_eq!(saved["name"], "Informe Ñandú.bin");
    assert_eq!(read(&ana.folder.join("Informe Ñandú.bin")), bytes);
    // What is saved can be found.
    let found = luis.files(&["search", "nandu", "--json"]).expect(0).objects();
    let found = found.first().expect("found at once");
    assert_eq!((&found["hash"], &found["size"]), (&saved["hash"], &Value::from(bytes.len())));
    assert_eq!(
        (&found["holders"], &found["online"]),
        (&serde_json::json!(["ana"]), &Value::from(true))
    );
    let out = luis.user.home.path().join("got");
    std::fs::create_dir(&out).unwrap();
    let to = out.to_str().unwrap();
    let got =
        luis.files(&["get", "Informe Ñandú.bin", "-o", to, "--json"]).expect(0).objects().remove(0);
    assert_eq!(read(&out.join("Informe Ñandú.bin")), bytes);
    assert_eq!(got["from"], serde_json::json!([{ "user": "ana", "bytes": bytes.len() }]));
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), 1, "nothing is left beside it");

    // Nothing is overwritten unasked.
    let again = luis.files(&["get", saved["hash"].as_str().unwrap(), "-o", to, "--json"]).expect(1);
    assert_eq!(object(&again.stderr())["error"]["code"], "EXISTS");
    luis.files(&["get", saved["hash"].as_str().unwrap(), "-o", to, "--force"]).expect(0);
    std::fs::write(&path, "another one").unwrap();
    let other = ana.files(&["save", &path, "--json"]).expect(1);
    assert_eq!(object(&other.stderr())["error"]["code"], "EXISTS");
    let other = ana.files(&["save", &path]).expect(1).stderr();
    assert!(other.contains("Informe Ñandú.bin") && other.contains("--force"), "{other}");
    // A folder that is not there is not made into a file's name.
    let nowhere = format!("{to}/new/");
    let refused = luis.files(&["get", "Informe Ñandú.bin", "-o", &nowhere, "--json"]).expect(1);
    assert_eq!(object(&refused.stderr())["error"]["code"], "NO_FOLDER");
    assert!(!out.join("new").exists());

    // Logged out: gone from the others' searches at once, and refused.
    ana.user.run(&["logout", "--peer", &ana.address]).expect(0);
    luis.finds("nandu", 0);
    for args in [&["search", "x"][..], &["peers"], &["get", "x"]] {
        let refused = ana.files(&[args, &["--json"]].concat()).expect(1);
        assert_eq!(object(&refused.stderr())["error"]["code"], "NOT_LOGGED_IN", "{args:?}");
    }
    let gone = luis.files(&["get", saved["hash"].as_str().unwrap(), "--json"]).expect(1);
    assert_eq!(object(&gone.stderr())["error"]["code"], "NO_HOLDERS");
    // REST to the node, gRPC to one's own peer, and to the other one for the content.
    let lines = |text: String| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let asked = rest_calls(&lines(node.process.noted()));
    for call in ["POST /api/register 201", "POST /api/files 200", "POST /api/capabilities 200"] {
        assert!(asked.contains(call), "{call}: {asked:?}");
    }
    assert!(!asked.contains("GET /api/files/{hash} 200"), "a content came through the node");
    let called = |of: &Sharer| grpc_calls(&lines(of.peer.noted()));
    assert!(called(&ana).contains("Pieces from 127.0.0.1"), "{:?}", called(&ana));
    assert!(!called(&luis).contains("Pieces from 127.0.0.1"), "{:?}", called(&luis));
    assert!(called(&luis).contains("Sources from 127.0.0.1"), "{:?}", called(&luis));
}

#[test]
fn a_peer_that_dies_vanishes_and_one_that_lives_is_up_to_date() {
    let mut node = Node::start_again();
    let (mut ana, luis) = (Sharer::start(&node, "0"), Sharer::start(&node, "0"));
    ana.log_in("ana");
    luis.log_in("luis");
    // What somebody puts into the folder, and takes away, is noticed.
    std::fs::create_dir(ana.folder.join("mapas")).unwrap();
    std::fs::write(ana.folder.join("mapas/Madrid.txt"), "uno").unwrap();
    std::fs::write(ana.folder.join(".oculto-madrid"), "x").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", ana.folder.join("madrid-link")).unwrap();
    assert_eq!(luis.finds("madrid", 1)[0]["name"], "mapas/Madrid.txt");
    std::fs::write(luis.folder.join("otro nombre.txt"), "uno").unwrap();
    luis.finds("nombre", 1);
    std::fs::remove_file(ana.folder.join("mapas/Madrid.txt")).unwrap();
    luis.finds("madrid", 0);
    std::fs::write(ana.folder.join("plano.txt"), "dos").unwrap();
    luis.finds("plano", 1);
    // The node starts again: peers say everything anew.
    node.kill();
    node.restart();
    luis.finds("plano", 1);
    // Killed, it is in no list any more, and is offline in the list of peers.
    ana.peer.signal(Signal::KILL);
    ana.peer.end();
    luis.finds("plano", 0);
    let peers = luis.files(&["peers", "--json"]).expect(0).objects();
    let online: Vec<_> =
        peers.iter().map(|line| (line["user"].as_str().unwrap(), &line["online"])).collect();
    assert_eq!(online, [("ana", &Value::from(false)), ("luis", &Value::from(true))]);
    // Started again, it is still who it was.
    let ana = Sharer::start_by(ana.user, &node, "0");
    ana.peer.notes("announced as ana");
    luis.finds("plano", 1);
}

#[test]
fn who_has_several_peers_says_which() {
    let node = Node::start();
    let mut ana = Sharer::start(&node, "0");
    let other = ana.user.home.path().join("other");
    let folder = other.to_str().unwrap();
    let args = ["peer", "--folder", folder, "--port", "0", "--node", &node.native, "--json"];
    let second = ana.user.spawn(&args);
    let second_at = object(&second.says("address"))["address"].as_str().unwrap().to_owned();
    let refused = |args: &[&str]| {
        let ended = ana.user.run_with(&[args, &["--json"]].concat(), PASSWORD).expect(1);
        let error = object(&ended.stderr())["error"].clone();
        assert_eq!(error["code"], "SEVERAL_PEERS", "{args:?}: {error}");
        let message = error["message"].as_str().unwrap();
        for peer in [&ana.address, &second_at, folder, ana.folder.to_str().unwrap(), "--peer"] {
            assert!(message.contains(peer), "{args:?}: {message}");
        }
    };
    refused(&["register", "ana", "--password-stdin", "--peer"]);
    refused(&["login", "ana", "--password-stdin", "--peer"]);
    refused(&["logout", "--peer"]);
    refused(&["files", "list"]);
    // The one that is said does it.
    ana.log_in("ana");
    let listed = ana.files(&["peers", "--peer", &second_at, "--json"]).expect(0).objects();
    assert!(!listed.is_empty(), "{listed:?}");
    // A killed one is none.
    ana.peer.signal(Signal::KILL);
    ana.peer.end();
    ana.files(&["list"]).expect(0);
}

#[test]
fn a_peer_that_is_stopped_ends_its_users_commands() {
    let node = Node::start();
    let ana = Sharer::start(&node, "0");
    ana.log_in("ana");
    let path = ana.own_file("a.txt", b"uno");
    ana.files(&["save", &path]).expect(0);
    ana.peer.freeze();
    // However long its answer may take, it is asked whether it is there.
    let alive = "--peer-silence=500ms";
    for args in [&["list"][..], &["search", "a"], &["get", "a.txt"], &["save", &path]] {
        let mut asking = ana.user.spawn(&[&["files", alive, "--json"], args].concat());
        assert_eq!(asking.end().code(), Some(1), "{args:?}");
        let error = object(&asking.all_noted())["error"].clone();
        assert_eq!(error["code"], "PEER_UNREACHABLE", "{args:?}: {error}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("does not answer"), "{args:?}: {message}");
    }
    ana.peer.signal(Signal::CONT);
    ana.files(&["list"]).expect(0);
}

#[test]
fn a_folder_has_one_peer_and_commands_say_what_is_missing() {
    let node = Node::start();
    let ana = Sharer::start(&node, "0");
    let shared = ana.folder.to_str().unwrap();
    let second =
        ana.user.run(&["peer", "--folder", shared, "--node", &node.native, "--json"]).expect(1);
    assert_eq!(object(second.stderr().lines().last().unwrap())["error"]["code"], "FOLDER_IN_USE");
    let none = User::new().run(&["files", "list", "--json"]).expect(1);
    assert_eq!(object(&none.stderr())["error"]["code"], "NO_PEER");
    let nowhere = ana.user.run(&["files", "list", "--peer", "127.0.0.1:1", "--json"]).expect(1);
    assert_eq!(object(&nowhere.stderr())["error"]["code"], "NO_PEER");
    ana.log_in("ana");
    ana.peer.notes("announced as ana");
    let missing = ana.files(&["get", "no such file", "--json"]).expect(1);
    assert_eq!(object(&missing.stderr())["error"]["code"], "NO_SUCH_FILE");
    let none = ana.files(&["save", "/dev/null", "--json"]).expect(1);
    assert_eq!(object(&none.stderr())["error"]["code"], "NOT_A_FILE");
    // Two files of one name: the hash says which.
    for (at, text) in [("a", "uno"), ("b", "dos")] {
        std::fs::create_dir(ana.folder.join(at)).unwrap();
        std::fs::write(ana.folder.join(at).join("acta.txt"), text).unwrap();
    }
    ana.finds("acta", 2);
    let several = ana.files(&["get", "acta.txt", "--json"]).expect(1);
    assert_eq!(object(&several.stderr())["error"]["code"], "SEVERAL_FILES");
    let to = ana.user.home.path().join("mine.txt");
    ana.files(&["get", "b/acta.txt", "-o", to.to_str().unwrap()]).expect(0);
    assert_eq!(read(&to), b"dos");
    // So does as much of it as `search` shows, unless somebody's file is called so.
    let hash = ContentHash::of(b"uno").to_string();
    for digits in [8, 16, 63] {
        let digits = hash[..digits].to_uppercase();
        ana.files(&["get", &digits, "-o", to.to_str().unwrap(), "--force"]).expect(0);
        assert_eq!(read(&to), b"uno", "{digits}");
        let found = ana.files(&["search", &digits, "--json"]).expect(0).objects();
        assert_eq!(found[0]["name"], "a/acta.txt");
    }
    for none in [&hash[..7], "00000000"] {
        let missing = ana.files(&["get", none, "--json"]).expect(1);
        assert_eq!(object(&missing.stderr())["error"]["code"], "NO_SUCH_FILE", "{none}");
    }
    // It is fetched by what it is, not by who is called like it.
    let decoy = ana.own_file(&format!("x {}", &hash[..8]), b"tres");
    ana.files(&["save", &decoy]).expect(0);
    ana.files(&["get", &hash[..8], "-o", to.to_str().unwrap(), "--force"]).expect(0);
    assert_eq!(read(&to), b"uno");
    let named = ana.own_file(&hash[..8], b"cuatro");
    ana.files(&["save", &named]).expect(0);
    ana.files(&["get", &hash[..8], "-o", to.to_str().unwrap(), "--force"]).expect(0);
    assert_eq!(read(&to), b"cuatro");
    for name in [&decoy, &named] {
        std::fs::remove_file(ana.folder.join(Path::new(name).file_name().unwrap())).unwrap();
    }
    ana.finds(&hash[..8], 1);
    let listed = ana.files(&["list", "--json"]).expect(0).objects();
    let names: Vec<_> = listed.iter().map(|line| line["name"].clone()).collect();
    assert_eq!(names, ["a/", "a/acta.txt", "b/", "b/acta.txt"]);
}
