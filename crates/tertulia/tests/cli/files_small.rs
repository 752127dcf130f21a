//! Many small files, which cost little more than their bytes; and who has one and does not give it.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tertulia_files::content::ContentHash;
use tertulia_files::proto::{Piece, pieces_reply::Part};

use crate::files::{Sharer, read};
use crate::files_scripted::{Account, Bend};
use crate::support::{Node, WITHIN, object};

/// As many as a lot of contents for which the holders are asked at once, and some.
const FILES: usize = 3 * 16 + 5;

/// Tries until it is so; fails where that takes too long.
#[track_caller]
fn until(is_so: impl Fn() -> bool) {
    let end = std::time::Instant::now() + WITHIN;
    while !is_so() {
        assert!(std::time::Instant::now() < end, "it has not come to that");
    }
}

#[test]
fn a_folder_of_small_files_takes_one_connection_and_few_questions() {
    let node = Node::start();
    let (mut ana, mut luis) = (Sharer::start(&node, "0"), Sharer::start(&node, "0"));
    ana.log_in("ana");
    luis.log_in("luis");
    let notas = ana.user.home.path().join("Notas");
    std::fs::create_dir(&notas).unwrap();
    for number in 0..FILES {
        std::fs::write(notas.join(format!("{number}.txt")), format!("nota {number}")).unwrap();
    }
    ana.files(&["save", notas.to_str().unwrap()]).expect(0);
    luis.finds("Notas/", 1);
    let to = luis.user.home.path().join("Notas");
    let got = luis.files(&["get", "Notas", "-o", to.to_str().unwrap(), "--json"]).expect(0);
    assert_eq!(got.objects()[0]["files"], FILES);
    for number in 0..FILES {
        assert_eq!(read(&to.join(format!("{number}.txt"))), format!("nota {number}").as_bytes());
    }
    for peer in [&mut ana, &mut luis] {
        peer.peer.end_by(rustix::process::Signal::TERM, 0);
    }
    let (given, asked) = (ana.peer.all_noted(), luis.peer.all_noted());
    let count = |text: &str, part: &str| text.matches(part).count();
    let last = given.rsplit_once("method=\"SaveFolder\"").unwrap().1;
    assert_eq!(count(last, "a connection has begun"), 1, "{last}");
    // The list, and each file.
    assert_eq!(count(&given, "method=\"Pieces\""), 1 + FILES, "{given}");
    assert_eq!(count(&asked, "method=\"Sources\""), 1 + FILES.div_ceil(16), "{asked}");
}

/// Copies what comes until it ends; breaks both connections off after so many bytes.
fn copy(mut from: TcpStream, mut to: TcpStream, bytes_max: usize) {
    let (mut buffer, mut bytes) = ([0; 4_096], 0);
    while let Ok(len) = from.read(&mut buffer)
        && len > 0
        && to.write_all(&buffer[..len]).is_ok()
    {
        bytes += len;
        if bytes >= bytes_max {
            let _ = from.shutdown(Shutdown::Both);
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

/// Stands before what listens at another address, and breaks the first connection off after so many bytes from there. Counts
/// the connections; ends with the test.
fn break_off(listener: TcpListener, behind: String, bytes: usize) -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    std::thread::spawn(move || {
        for near in listener.incoming() {
            let (near, far) = (near.unwrap(), TcpStream::connect(&behind).unwrap());
            let is_first = counted.fetch_add(1, Ordering::SeqCst) == 0;
            let (asks, answers) = (near.try_clone().unwrap(), far.try_clone().unwrap());
            let bytes = if is_first { bytes } else { usize::MAX };
            std::thread::spawn(move || copy(asks, far, usize::MAX));
            std::thread::spawn(move || copy(answers, near, bytes));
        }
    });
    count
}

#[test]
fn a_connection_that_breaks_in_the_middle_of_a_folder_is_made_again_once() {
    let node = Node::start();
    let ana = Sharer::start_behind(&node, "127.0.0.2");
    let before = TcpListener::bind(("127.0.0.2", ana.port())).unwrap();
    let luis = Sharer::start(&node, "0");
    ana.log_in("ana");
    luis.log_in("luis");
    let text = |number: usize| format!("nota {number}\n").repeat(500);
    let notas = ana.user.home.path().join("Notas");
    std::fs::create_dir(&notas).unwrap();
    for number in 0..FILES {
        std::fs::write(notas.join(format!("{number}.txt")), text(number)).unwrap();
    }
    ana.files(&["save", notas.to_str().unwrap()]).expect(0);
    luis.finds("Notas/", 1);
    // After the list and some of the files, while others are on their way.
    let half = text(10).len() * FILES / 2;
    let connections = break_off(before, ana.address, half);
    let to = luis.user.home.path().join("Notas");
    let got = luis.files(&["get", "Notas", "-o", to.to_str().unwrap(), "--json"]).expect(0);
    let got = got.objects().remove(0);
    assert_eq!((&got["files"], &got["dropped"]), (&FILES.into(), &serde_json::json!([])), "{got}");
    for number in 0..FILES {
        assert_eq!(read(&to.join(format!("{number}.txt"))), text(number).as_bytes());
    }
    assert_eq!(connections.load(Ordering::SeqCst), 2, "the one that broke, and another one");
}

#[test]
fn a_content_of_one_piece_that_is_another_one_is_refused_and_who_sent_it_named() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let node = Node::start();
    let luis = Sharer::start(&node, "0");
    luis.log_in("luis");
    let eva = runtime.block_on(Account::new(&node, "eva"));
    let longer: fn(&[u8]) -> Vec<u8> = |content| [content, b"!"].concat();
    let bent: fn(&[u8]) -> Vec<u8> = |content| content.iter().map(|byte| byte ^ 1).collect();
    let none: fn(&[u8]) -> Vec<u8> = |_| Vec::new();
    for (name, bend) in [("larga", longer), ("torcida", bent), ("nada", none)] {
        let bytes = name.as_bytes();
        let liar: Bend = Box::new(move |_, part| match part {
            Part::Piece(Piece { number, content }) => {
                Part::Piece(Piece { number, content: bend(&content).into() })
            }
            part => part,
        });
        runtime.block_on(eva.share(name, bytes, liar));
        let (hash, to) = (ContentHash::of(bytes).to_string(), luis.user.home.path().join(name));
        let get = ["get", &hash, "-o", to.to_str().unwrap(), "--json"];
        let error = object(&luis.files(&get).expect(1).stderr())["error"].clone();
        assert_eq!(error["code"], "NO_HOLDERS");
        let said = error["message"].as_str().unwrap();
        assert!(said.contains("eva at 127.0.0.1") && said.contains("wrong data"), "{said}");
        assert!(!to.exists(), "{name}");
        // Who has it gives it, whoever lies.
        let ana = Sharer::start(&node, "0");
        ana.log_in(&format!("ana-{name}"));
        std::fs::write(ana.folder.join(name), bytes).unwrap();
        ana.finds(name, 1);
        until(|| luis.files(&get).code() == Some(0));
        assert_eq!(read(&to), bytes);
    }
}

#[test]
fn nobody_waits_for_who_is_silent_where_others_have_it() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let node = Node::start();
    let (ana, luis) = (Sharer::start(&node, "0"), Sharer::start(&node, "0"));
    ana.log_in("ana");
    luis.log_in("luis");
    let mut silent = Vec::new();
    for name in ["eva", "leo", "mar"] {
        let account = runtime.block_on(Account::new(&node, name));
        silent.push(runtime.block_on(account.share_silently("acta.txt", b"acta")));
    }
    std::fs::write(ana.folder.join("acta.txt"), "acta").unwrap();
    let found = |holders: usize| {
        let found = luis.finds("acta", 1);
        found[0]["holders"].as_array().unwrap().len() == holders
    };
    until(|| found(4));
    let to = luis.user.home.path().join("acta.txt");
    let hash = ContentHash::of(b"acta").to_string();
    let get = ["get", &hash, "-o", to.to_str().unwrap(), "--json"];
    let got = luis.files(&get).expect(0).objects().remove(0);
    // Who is given up is so after 15 seconds: this one was not waited for.
    assert_eq!(got["dropped"], serde_json::json!([]), "{got}");
    assert_eq!(read(&to), b"acta");
    let asked: usize = silent.iter().map(|one| one.capabilities()).sum();
    assert_eq!(asked, 3, "they are asked in the order in which they came");
}
