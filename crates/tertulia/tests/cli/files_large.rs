//! Large files: from several holders at once of which one dies and one lies now and then; a receiver that is killed. Each in a
//! small form always, and in a large one (`cargo test --release -p tertulia --test cli -- --ignored large`) by hand.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use tertulia_files::proto::Piece;
use tertulia_files::proto::pieces_reply::Part;

use crate::files::{Sharer, content, read};
use crate::files_hostile::{get, holders};
use crate::files_scripted::{Account, Bend, PIECE};
use crate::support::{Node, Running, User, WITHIN, object};

/// Bytes of a file that are on the disk.
fn blocks(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let files = std::fs::read_dir(folder).unwrap().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|file| file.blocks() * 512).sum()
}

/// Begins to fetch a file into `out`, and waits until so much of it is on the disk.
fn getting(sharer: &Sharer, name: &str, out: &Path, pieces: usize) -> Running {
    std::fs::create_dir(out).unwrap();
    let getting = sharer.user.spawn(&["files", "get", name, "-o", out.to_str().unwrap(), "--json"]);
    let until = Instant::now() + WITHIN;
    while blocks(out) < (pieces * PIECE) as u64 {
        assert!(Instant::now() < until, "nothing comes");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(!out.join(name).exists(), "it was faster than the test: make the file larger");
    getting
}

/// A peer that has a file before it is announced.
fn sharing(node: &Node, account: &str, name: &str, bytes: &[u8]) -> Sharer {
    let user = User::new();
    let folder = user.home.path().join("shared");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join(name), bytes).unwrap();
    let sharer = Sharer::start_by(user, node, "0");
    sharer.log_in(account);
    sharer
}

fn only<'a>(got: &'a Value, list: &str) -> Vec<&'a str> {
    let mut users: Vec<_> =
        got[list].as_array().unwrap().iter().map(|one| one["user"].as_str().unwrap()).collect();
    users.sort_unstable();
    users
}

/// What sends one wrong piece in each hundred, that with this number among them; and how many it has sent.
fn lies_once_in_a_hundred(lie_at: usize) -> (Bend, Arc<AtomicUsize>) {
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let bend: Bend = Box::new(move |_, part| match part {
        Part::Piece(piece) if counted.fetch_add(1, Ordering::Relaxed) % 100 == lie_at => {
            let mut content = piece.content.to_vec();
            content[7] ^= 1;
            Part::Piece(Piece { content: content.into(), ..piece })
        }
        part => part,
    });
    (bend, sent)
}

/// From three peers at once: one is killed half way, one lies in a piece of each hundred, one is honest.
fn from_three_of_whom_one_dies_and_one_lies(pieces: usize, lie_at: usize) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let node = Node::start();
    let bytes = content(pieces * PIECE + 5);
    let name = "large.bin";
    let (_ana, mut eva) =
        (sharing(&node, "ana", name, &bytes), sharing(&node, "eva", name, &bytes));
    let liar = runtime.block_on(Account::new(&node, "liar"));
    let (bend, _) = lies_once_in_a_hundred(lie_at);
    runtime.block_on(liar.share(name, &bytes, bend));
    let luis = Sharer::start(&node, "0");
    luis.log_in("luis");
    holders(&luis, "large", 3);
    let out = luis.user.home.path().join("out");
    let started = Instant::now();
    let mut getting = getting(&luis, name, &out, pieces / 10);
    // By its size on the disk: pieces come from anywhere in it.
    while blocks(&out) < (pieces / 2 * PIECE) as u64 {
        std::thread::sleep(Duration::from_millis(1));
    }
    eva.peer.signal(Signal::KILL);
    let got = object(&getting.says(name));
    assert_eq!(getting.end().code(), Some(0));
    eprintln!("{} MiB in {:?}: {got}", pieces, started.elapsed());
    assert!(read(&out.join(name)) == bytes);
    assert_eq!(only(&got, "from"), ["ana", "eva", "liar"], "everybody gave some: {got}");
    assert_eq!(only(&got, "dropped"), ["eva", "liar"], "{got}");
    let dropped = got["dropped"].as_array().unwrap();
    let why = dropped.iter().find(|one| one["user"] == "liar").unwrap()["why"].as_str().unwrap();
    assert!(why.contains("wrong data"), "{got}");
    eva.peer.end();
}

#[test]
fn a_liar_in_one_piece_of_a_hundred_is_named_and_what_it_gave_before_is_kept() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let node = Node::start();
    let bytes = content(100 * PIECE);
    let luis = Sharer::start(&node, "0");
    luis.log_in("luis");
    let liar = runtime.block_on(Account::new(&node, "liar"));
    let (bend, sent) = lies_once_in_a_hundred(99);
    runtime.block_on(liar.share("large.bin", &bytes, bend));
    luis.finds("large", 1);
    // By itself it is asked for everything: all but one are right.
    let out = luis.user.home.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let get = ["get", "large.bin", "-o", out.to_str().unwrap(), "--json"];
    let error = object(&luis.files(&get).expect(1).stderr())["error"].clone();
    let said = error["message"].as_str().unwrap();
    assert!(said.contains("liar at ") && said.contains("wrong data"), "{error}");
    assert_eq!(sent.load(Ordering::Relaxed), 100);
    let _ana = sharing(&node, "ana", "large.bin", &bytes);
    holders(&luis, "large", 2);
    let got = luis.files(&get).expect(0).objects().remove(0);
    assert!(read(&out.join("large.bin")) == bytes);
    let kept = got["kept"].as_u64().unwrap() / PIECE as u64;
    assert!((80..100).contains(&kept), "{got}");
}

#[test]
fn a_holder_that_dies_leaves_the_rest_to_the_others_and_a_liar_is_named() {
    // It does not give a hundred of so few.
    from_three_of_whom_one_dies_and_one_lies(160, 9);
}

#[test]
#[ignore = "a gigabyte; see the module"]
fn large_from_three_of_whom_one_dies_and_one_lies() {
    from_three_of_whom_one_dies_and_one_lies(1_024, 99);
}

/// Killed with about so much of it there, the receiver fetches the rest only.
fn a_receiver_is_killed(pieces: usize, at: usize) {
    let node = Node::start();
    let bytes = content(pieces * PIECE + 5);
    let (_ana, luis) = (sharing(&node, "ana", "large.bin", &bytes), Sharer::start(&node, "0"));
    luis.log_in("luis");
    luis.finds("large", 1);
    let out = luis.user.home.path().join("out");
    let mut killed = getting(&luis, "large.bin", &out, at);
    killed.signal(Signal::KILL);
    killed.end();
    assert!(!out.join("large.bin").exists(), "it was faster than the test: make the file larger");
    let got = get(&luis, "large.bin", &out);
    eprintln!("{pieces} MiB, killed: {got}");
    let (kept, fetched) = (got["kept"].as_u64().unwrap(), got["fetched"].as_u64().unwrap());
    assert!(kept >= PIECE as u64 && kept + fetched == bytes.len() as u64, "{kept} {fetched}");
    assert!(kept as usize >= at / 2 * PIECE, "{kept}");
    assert!(read(&out.join("large.bin")) == bytes);
}

#[test]
fn a_receiver_that_is_killed_fetches_only_what_is_missing() {
    a_receiver_is_killed(200, 8);
}

#[test]
#[ignore = "a gigabyte; see the module"]
fn large_receiver_that_is_killed_half_way() {
    a_receiver_is_killed(1_024, 512);
}
