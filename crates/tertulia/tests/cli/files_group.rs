//! Files that a group is told of: members fetch them from each other, and the receipt says who has them.

use std::path::PathBuf;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tertulia_client::{Sender, SenderOptions, Target};
use tertulia_files::content::ContentHash;
use tertulia_files::pieces::PieceSet;
use tertulia_wire::file::FileBody;
use tertulia_wire::text::size_text;

use crate::files::{Sharer, content, read};
use crate::files_hostile::holders;
use crate::files_scripted::{Account, PIECE};
use crate::programs::{Program, on_small_disk, skipped};
use crate::support::{Node, Running, User, object};

const PASSWORD: &str = "correct horse\n";
pub const GROUP: &str = "obras";

/// A user who is logged in.
pub fn account(node: &Node, name: &str) -> User {
    let user = User::new();
    for command in ["register", "login"] {
        let args = [command, name, "--password-stdin", "--node", &node.native];
        user.run_with(&args, PASSWORD).expect(0);
    }
    user
}

pub fn folder(user: &User, name: &str) -> PathBuf {
    user.home.path().join(name)
}

pub fn fetching(node: &Node, user: &User, name: &str) -> Running {
    let to = folder(user, name);
    let args = ["join", GROUP, "--name", name, "--fetch", to.to_str().unwrap()];
    user.spawn(&[&args[..], &["--node", &node.native]].concat())
}

/// Somebody with a peer.
pub fn teller(node: &Node) -> Sharer {
    let ana = Sharer::start(node, "0");
    ana.log_in("ana");
    ana.peer.notes("announced as ana");
    ana
}

/// A receipt as it stands.
pub fn as_it_stands(node: &Node, seq: u64) -> Value {
    node.run(&["receipt", GROUP, &seq.to_string(), "--json"]).objects().remove(0)
}

pub fn missing(receipt: &Value) -> Vec<(String, String)> {
    let missing = receipt["missing"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    missing
        .map(|one| {
            let why = [&one["why"], &one["code"]].map(text).join(" ");
            (text(&one["name"]), why.trim().to_owned())
        })
        .collect()
}

/// Twenty members get a file from each other: the first holder gives it once, or little more.
fn twenty_members_get_a_file(bytes: usize) {
    const MEMBERS: usize = 20;
    let node = Node::start();
    let ana = teller(&node);
    let users: Vec<User> = ["luis", "eva", "tom"].map(|name| account(&node, name)).into();
    let names: Vec<String> = (0..MEMBERS).map(|number| format!("m{number}")).collect();
    let user = |number: usize| &users[number % users.len()];
    let members: Vec<Running> = names
        .iter()
        .enumerate()
        .map(|(number, name)| fetching(&node, user(number), name))
        .collect();
    for member in &members {
        member.notes(&format!("joined {GROUP} as"));
    }
    let bytes = content(bytes);
    let path = ana.own_file("plano.bin", &bytes);
    let args = ["save", &path, "--group", GROUP, "--timeout", "5m", "-v", "--node", &node.native];
    let said = ana.files(&args).expect(0).stdout();
    assert!(said.contains(": 0/20 have it\n"), "{said}");
    assert!(said.contains("\n20/20 have it: "), "{said}");
    for (number, (member, name)) in members.iter().zip(&names).enumerate() {
        let noted = member.notes("got plano.bin");
        assert!(!noted.contains("sent wrong data"), "{noted}");
        let to = folder(user(number), name);
        assert!(read(&to.join("plano.bin")) == bytes, "{name}");
        assert_eq!(std::fs::read_dir(&to).unwrap().count(), 1, "{name}: nothing is left beside it");
    }
    let (sent, size) = (ana.end(), bytes.len() as u64);
    eprintln!("{said}\nthe first holder sent {sent} bytes of {size}");
    assert!((size..=2 * size).contains(&sent), "the first holder sent {sent} bytes of {size}");
}

#[test]
fn twenty_members_get_a_file_from_each_other() {
    twenty_members_get_a_file(12 * PIECE + 9);
}

#[test]
#[ignore = "two gigabytes in all; cargo test --release -p tertulia --test cli -- --ignored large"]
fn large_twenty_members_get_a_file_from_each_other() {
    twenty_members_get_a_file(100 * PIECE);
}

#[test]
fn who_is_fetching_serves_what_it_has() {
    const MEMBERS: usize = 4;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let node = Node::start();
    let luis = account(&node, "luis");
    let names: Vec<String> = (0..MEMBERS).map(|number| format!("m{number}")).collect();
    let members: Vec<Running> = names.iter().map(|name| fetching(&node, &luis, name)).collect();
    for member in &members {
        member.notes("joined");
    }
    // It gives each piece to one member, once and for all: nobody has all of it unless they give it to each other.
    let bytes = content(17 * PIECE + 9);
    let eva = runtime.block_on(Account::new(&node, "eva"));
    let given = runtime.block_on(eva.share("plano.bin", &bytes, Box::new(|_, part| part)));
    tell(&node, "plano.bin", bytes.len() as u64, ContentHash::of(&bytes).0).unwrap();
    for (member, name) in members.iter().zip(&names) {
        let noted = member.notes("got plano.bin");
        assert!(noted.contains("from luis"), "{name}: {noted}");
        assert!(read(&folder(&luis, name).join("plano.bin")) == bytes, "{name}");
    }
    assert_eq!(given.times(), [1; 18]);
}

/// One member has no space; the others have, and the chat goes on.
fn who_has_no_space(bytes: usize, disk: &str) {
    if !rustix::process::geteuid().is_root() {
        skipped("only root may make a small disk");
        return;
    }
    let node = Node::start();
    let ana = teller(&node);
    let (luis, eva) = (account(&node, "luis"), account(&node, "eva"));
    let roomy = fetching(&node, &luis, "roomy");
    roomy.notes("joined");
    let to = folder(&eva, "small");
    std::fs::create_dir(&to).unwrap();
    let to = to.to_str().unwrap();
    let join =
        eva.command(&["join", GROUP, "--name", "narrow", "--fetch", to, "--node", &node.native]);
    let narrow = Program::spawn(on_small_disk(&join, to, disk));
    narrow.says("joined");
    let path = ana.own_file("grande.bin", &content(bytes));
    let args = ["save", &path, "--group", GROUP, "--json", "--node", &node.native];
    let receipt = ana.files(&args).expect(3).objects().pop().unwrap();
    assert_eq!((&receipt["members"], &receipt["confirmed"]), (&2.into(), &1.into()), "{receipt}");
    assert_eq!(missing(&receipt), [("narrow".to_owned(), "failed no space".to_owned())]);
    // Its own user is told how much there is, how much it takes, and what to do.
    let noted = narrow.says("failed: no space (");
    let needed = size_text(bytes as u64);
    assert!(noted.contains(&format!("({needed} needed, ")), "{noted}");
    assert!(noted.contains("B free of which ") && noted.contains("B stay so)"), "{noted}");
    let seq = receipt["seq"].as_u64().unwrap();
    let hash = &ContentHash::of(&content(bytes)).to_string()[..16];
    assert!(noted.contains(&format!("join again with --from {seq}, ")), "{noted}");
    assert!(noted.ends_with(&format!("tertulia files get {hash}")), "{noted}");
    let sent = node.run(&["send", GROUP, "¿se", "oye?", "--json"]).expect(0).objects().remove(0);
    assert_eq!(sent["confirmed"], 2, "{sent}");
    eprintln!("{receipt}\n{sent}");
    // Nothing is left of it, on the disk that only the member sees.
    let seen = format!("/proc/{}/root{to}", narrow.pid());
    assert_eq!(std::fs::read_dir(&seen).unwrap().count(), 0);
    // What fits is fetched.
    let path = ana.own_file("chico.txt", b"hola");
    let args = ["save", &path, "--group", GROUP, "--node", &node.native];
    ana.files(&args).expect(0);
    assert_eq!(read(&PathBuf::from(seen).join("chico.txt")), b"hola");
    // There is room, without the small disk: who joins again from there gets it, and the receipt stays.
    let mut narrow = narrow;
    let pid = Pid::from_raw(narrow.pid().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    assert_eq!(narrow.end(), Some(130));
    let from = seq.to_string();
    let args = ["join", GROUP, "--name", "narrow", "--fetch", to, "--from", &from];
    let again = eva.spawn(&[&args[..], &["--node", &node.native]].concat());
    again.notes("got grande.bin");
    assert!(read(&PathBuf::from(to).join("grande.bin")) == content(bytes));
    let receipt = as_it_stands(&node, seq);
    assert_eq!(missing(&receipt), [("narrow".to_owned(), "failed no space".to_owned())]);
}

#[test]
fn who_has_no_space_is_named_and_the_chat_goes_on() {
    who_has_no_space(3 * PIECE, "1m");
}

#[test]
#[ignore = "cargo test --release -p tertulia --test cli -- --ignored large"]
fn large_file_and_no_space() {
    who_has_no_space(100 * PIECE, "50m");
}

/// Tells the group of a file that somebody made up; the entry's number.
pub fn tell(node: &Node, name: &str, size: u64, hash: [u8; 32]) -> Result<u64, String> {
    tell_all(node, &[FileBody { size, hash, name: name.to_owned() }])
}

/// The same of several; the last one's number.
fn tell_all(node: &Node, files: &[FileBody]) -> Result<u64, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let target = Target::new(node.native.clone());
        let options = SenderOptions { receipts: false, files: true, ..SenderOptions::default() };
        let sender = Sender::open(&target, GROUP, "evil", options).await.unwrap();
        let told = async {
            let mut last = Err("none".to_owned());
            for file in files {
                let sent = sender.tell_file(file).await.map_err(|error| error.to_string())?;
                last = sent.stored().await.map_err(|error| error.to_string());
            }
            last
        };
        tokio::time::timeout(crate::support::WITHIN, told).await.unwrap()
    })
}

#[test]
fn what_is_made_up_is_refused_or_waits_and_holds_nothing_up() {
    let node = Node::start();
    let luis = account(&node, "luis");
    let member = fetching(&node, &luis, "luis");
    member.notes("joined");
    for (name, why) in [
        ("../out.txt", "bad name"),
        ("/etc/passwd", "bad name"),
        ("..", "bad name"),
        ("nul", "bad name"),
        (".bash_profile", "bad name"),
        (".ssh/", "bad name"),
        ("a\u{202e}txt.exe", "bad name"),
    ] {
        let seq = tell(&node, name, 4, [7; 32]).unwrap();
        let noted = member.notes(&format!("#{seq} failed: "));
        assert!(noted.contains(&format!("#{seq} failed: {why}")), "{name:?}: {noted}");
        assert!(!noted.contains('\u{202e}'), "{noted}");
    }
    let seq = tell(&node, "todo.bin", u64::MAX, [7; 32]).unwrap();
    member.notes(&format!("#{seq} failed: too large"));
    // What is no name at all does not become an entry.
    for name in ["", "a\nb", "\u{1b}[2J", &"x".repeat(300)] {
        tell(&node, name, 4, [7; 32]).unwrap_err();
    }
    // Nobody has this one: it stays open, and what is said later is confirmed.
    let seq = tell(&node, "nada.bin", 4, ContentHash::of(b"hola").0).unwrap();
    let sent = node.run(&["send", GROUP, "seguimos", "--json"]).expect(0).objects().remove(0);
    assert_eq!(sent["confirmed"], 1, "{sent}");
    let receipt = as_it_stands(&node, seq);
    assert_eq!(missing(&receipt), [("luis".to_owned(), "pending".to_owned())], "{receipt}");
    // Somebody has it at last.
    let ana = teller(&node);
    std::fs::write(ana.folder.join("nada.bin"), "hola").unwrap();
    member.notes("got nada.bin");
    assert_eq!(read(&folder(&luis, "luis").join("nada.bin")), b"hola");
}

#[test]
fn what_lies_where_a_member_fetches_to_is_its_own() {
    let node = Node::start();
    let luis = account(&node, "luis");
    let to = folder(&luis, "luis");
    std::fs::create_dir_all(to.join("cartas")).unwrap();
    std::fs::write(to.join("mio.txt"), "mine").unwrap();
    std::fs::write(to.join("cartas/mia.txt"), "mine, too").unwrap();
    std::fs::write(to.join("acta.txt"), "acta").unwrap();
    let mut member = fetching(&node, &luis, "luis");
    member.notes("joined");
    let ana = teller(&node);
    for (name, text) in [("plano.txt", "plano"), ("acta.txt", "acta")] {
        let path = ana.own_file(name, text.as_bytes());
        ana.files(&["save", &path, "--group", GROUP, "--node", &node.native]).expect(0);
        // What was fetched is shared, and so is what was there and is what was told.
        let found = holders(&ana, name, 2);
        assert_eq!(found["holders"], serde_json::json!(["ana", "luis"]));
    }
    for command in [&["search", "mi", "--json"][..], &["search", "cartas", "--json"]] {
        assert_eq!(ana.files(command).expect(0).objects(), [Value::Null; 0], "{command:?}");
    }
    let hash = ContentHash::of(b"mine").to_string();
    let refused = ana.files(&["get", &hash, "--json"]).expect(1);
    assert_eq!(object(&refused.stderr())["error"]["code"], "NO_HOLDERS");
    // In another life, too.
    member.end_by(Signal::TERM, 0);
    holders(&ana, "plano.txt", 1);
    let member = fetching(&node, &luis, "luis");
    member.notes("joined");
    holders(&ana, "plano.txt", 2);
    assert_eq!(ana.files(&["search", "mi", "--json"]).expect(0).objects(), [Value::Null; 0]);
}

#[test]
fn many_files_that_nobody_has_hold_up_neither_others_nor_the_chat() {
    let node = Node::start();
    let luis = account(&node, "luis");
    let member = fetching(&node, &luis, "luis");
    member.notes("joined");
    // More than are looked for at once, and more than a member may be at work on.
    let made_up = |number: usize| {
        let hash = ContentHash::of(&number.to_le_bytes()).0;
        // Folders wait in the same way.
        let slash = if number.is_multiple_of(2) { "/" } else { "" };
        FileBody { size: 4, hash, name: format!("nada {number}{slash}") }
    };
    let last = tell_all(&node, &(0..70).map(made_up).collect::<Vec<_>>()).unwrap();
    let ana = teller(&node);
    let path = ana.own_file("acta.txt", b"hola");
    let args = ["save", &path, "--group", GROUP, "--json", "--timeout", "30s"];
    let receipt = ana.files(&[&args[..], &["--node", &node.native]].concat());
    let receipt = receipt.expect(0).objects().pop().unwrap();
    assert_eq!(receipt["confirmed"], 1, "{receipt}");
    let sent = node.run(&["send", GROUP, "seguimos", "--json"]).expect(0).objects().remove(0);
    assert_eq!(sent["confirmed"], 1, "{sent}");
    // As many as had to make room, those that were told first; the others are still looked for.
    let failed = |number: u64| missing(&as_it_stands(&node, number))[0].1 == "failed no holders";
    let given_up: Vec<u64> = (last - 69..=last).filter(|number| failed(*number)).collect();
    assert!(!given_up.is_empty() && given_up.len() < 40, "{given_up:?}");
}

#[test]
fn a_member_that_is_killed_while_it_fetches_goes_on_from_what_it_has() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let node = Node::start();
    let luis = account(&node, "luis");
    let mut member = fetching(&node, &luis, "luis");
    member.notes("joined");
    let to = folder(&luis, "luis");
    // Who has it gives two pieces of five, and the member waits for the others.
    let bytes = content(4 * PIECE + 9);
    let mut only = PieceSet::none(5);
    assert!(only.insert(0) && only.insert(3));
    let eva = runtime.block_on(Account::new(&node, "eva"));
    runtime.block_on(eva.share_some("plano.bin", &bytes, only));
    let hash = ContentHash::of(&bytes);
    let seq = tell(&node, "plano.bin", bytes.len() as u64, hash.0).unwrap();
    let part = to.join(format!(".tertulia-{}.part", &hash.to_string()[..32]));
    let has = |number: usize| {
        let piece = number * PIECE..(number + 1) * PIECE;
        std::fs::read(&part).is_ok_and(|found| found.get(piece.clone()) == bytes.get(piece))
    };
    let until = std::time::Instant::now() + crate::support::WITHIN;
    while !(has(0) && has(3)) {
        assert!(std::time::Instant::now() < until, "nothing has come");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    member.signal(Signal::KILL);
    member.end();
    assert!(part.exists() && !to.join("plano.bin").exists());
    let member = fetching(&node, &luis, "luis");
    member.notes("back in");
    let ana = teller(&node);
    std::fs::write(ana.folder.join("plano.bin"), &bytes).unwrap();
    let noted = member.notes(&format!("#{seq} got plano.bin"));
    assert!(noted.contains("2.0 MiB were here"), "{noted}");
    assert!(read(&to.join("plano.bin")) == bytes);
    assert_eq!(std::fs::read_dir(&to).unwrap().count(), 1, "nothing is left beside it");
    let receipt = node.run(&["receipt", GROUP, &seq.to_string(), "--wait", "20s", "--json"]);
    assert_eq!(receipt.expect(0).objects()[0]["confirmed"], 1);
}

#[test]
fn a_member_that_is_killed_goes_on_and_overwrites_nothing() {
    let node = Node::start();
    let luis = account(&node, "luis");
    let mut member = fetching(&node, &luis, "luis");
    member.notes("joined");
    let to = folder(&luis, "luis");
    let bytes = content(5 << 20);
    let hash = ContentHash::of(&bytes);
    let seq = tell(&node, "acta.bin", bytes.len() as u64, hash.0).unwrap();
    let receipt = as_it_stands(&node, seq);
    assert_eq!(missing(&receipt).len(), 1, "{receipt}");
    member.signal(Signal::KILL);
    member.end();
    // As a fetch leaves it that was cut: three of five pieces are right.
    let mut part = bytes.clone();
    part[3 << 20..].fill(0);
    let name = format!(".tertulia-{}.part", &hash.to_string()[..32]);
    std::fs::write(to.join(name), part).unwrap();
    std::fs::write(to.join("acta.bin"), "mine").unwrap();
    let member = fetching(&node, &luis, "luis");
    member.notes("back in");
    let ana = teller(&node);
    std::fs::write(ana.folder.join("acta.bin"), &bytes).unwrap();
    let noted = member.notes("got acta (2).bin");
    assert!(noted.contains("2.0 MiB from ana, 3.0 MiB were here"), "{noted}");
    assert_eq!(read(&to.join("acta.bin")), b"mine");
    assert!(read(&to.join("acta (2).bin")) == bytes);
    let receipt = as_it_stands(&node, seq);
    assert_eq!(receipt["members"], 1, "{receipt}");
}

/// The bug: it was a member already, durable or away for half a minute, and kept its own user out who then logged in.
#[test]
fn who_may_not_fetch_becomes_no_member() {
    let node = Node::start();
    let zoe = User::new();
    let to = zoe.home.path().join("to");
    let args = ["join", GROUP, "--name", "zoe", "--durable", "--fetch", to.to_str().unwrap()];
    let refused = zoe.command(&[&args[..], &["--node", &node.native]].concat()).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(1) && said.contains("log in first"), "{said}");
    let groups = node.run(&["groups"]).expect(0).stdout();
    assert!(!groups.contains(GROUP), "{groups}");
}

#[test]
fn a_get_that_is_broken_off_says_that_it_goes_on_from_there() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let node = Node::start();
    let luis = Sharer::start(&node, "0");
    luis.log_in("luis");
    let bytes = content(4 * PIECE + 9);
    let mut only = PieceSet::none(5);
    assert!(only.insert(0));
    let eva = runtime.block_on(Account::new(&node, "eva"));
    runtime.block_on(eva.share_some("plano.bin", &bytes, only));
    let to = luis.user.home.path().join("to");
    std::fs::create_dir(&to).unwrap();
    let hash = ContentHash::of(&bytes).to_string();
    let part = to.join(format!(".tertulia-{}.part", &hash[..32]));
    // Neither is a success: the file is not there.
    for signal in [Signal::INT, Signal::TERM] {
        let mut getting = luis.user.spawn(&["files", "get", &hash, "-o", to.to_str().unwrap()]);
        let until = std::time::Instant::now() + crate::support::WITHIN;
        while !part.exists() {
            assert!(std::time::Instant::now() < until, "it does not begin");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        getting.signal(signal);
        getting.notes("the same command goes on from there");
        assert_eq!(getting.end().code(), Some(130));
        assert!(part.exists());
        std::fs::remove_file(&part).unwrap();
    }
}
