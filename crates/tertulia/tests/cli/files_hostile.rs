//! Peers that die, lie and try what they may not; receivers that are killed.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use tertulia_files::content::{ContentHash, Outline};
use tertulia_files::fetch::Holder;
use tertulia_files::identity::{Fingerprint, Identity};
use tertulia_files::own::{OwnPeer, SILENCE_MAX};
use tertulia_files::pieces::PieceSet;
use tertulia_files::proto::peer_client::PeerClient;
use tertulia_files::proto::pieces_reply::Part;
use tertulia_files::proto::{self, ListRequest, PiecesRequest};
use tertulia_files::tls;
use tertulia_wire::sharing::{FileHeld, FilesChanged, PeerHere};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};

use crate::files::{Sharer, content, read};
use crate::files_scripted::{Account, Bend, PIECE};
use crate::support::{Node, WITHIN, object};

/// Each piece is wrong by one bit.
fn wrong_bits(_: &Outline, part: Part) -> Part {
    match part {
        Part::Piece(piece) => {
            let mut content = piece.content.to_vec();
            content[7] ^= 1;
            Part::Piece(proto::Piece { content: content.into(), ..piece })
        }
        part => part,
    }
}

fn wrong_outline(_: &Outline, part: Part) -> Part {
    match part {
        Part::Outline(outline) => {
            let mut values = outline.values.to_vec();
            values[0] ^= 1;
            Part::Outline(proto::Outline { values: values.into(), ..outline })
        }
        part => part,
    }
}

fn another_size(_: &Outline, part: Part) -> Part {
    match part {
        Part::Outline(outline) => Part::Outline(proto::Outline { size: u64::MAX, ..outline }),
        part => part,
    }
}

fn too_much(_: &Outline, part: Part) -> Part {
    match part {
        Part::Piece(piece) => {
            Part::Piece(proto::Piece { content: vec![0; 8 << 20].into(), ..piece })
        }
        part => part,
    }
}

/// Waits until a holder more is known.
pub fn holders(sharer: &Sharer, name: &str, count: usize) -> Value {
    let until = Instant::now() + WITHIN;
    loop {
        let found = sharer.finds(name, 1).remove(0);
        if found["holders"].as_array().is_some_and(|holders| holders.len() == count) {
            return found;
        }
        assert!(Instant::now() < until, "{found}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

pub fn get(sharer: &Sharer, name: &str, to: &Path) -> Value {
    let to = to.to_str().unwrap();
    sharer.files(&["get", name, "-o", to, "--json"]).expect(0).objects().remove(0)
}

#[test]
fn a_liar_is_dropped_and_named_and_what_comes_is_right() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let node = Node::start();
    let (ana, luis) = (Sharer::start(&node, "0"), Sharer::start(&node, "0"));
    ana.log_in("ana");
    luis.log_in("luis");
    type Plain = fn(&Outline, Part) -> Part;
    let bends: [(&str, Plain); 4] = [
        ("bits", wrong_bits),
        ("outline", wrong_outline),
        ("size", another_size),
        ("much", too_much),
    ];
    for (at, (name, bend)) in bends.into_iter().enumerate() {
        let bytes = content(24 * PIECE + 12_345 + at);
        let file = format!("{name}.bin");
        let liar = runtime.block_on(Account::new(&node, &format!("liar-{name}")));
        runtime.block_on(liar.share(&file, &bytes, Box::new(bend)));
        // Who is known first is asked first.
        luis.finds(&file, 1);
        std::fs::write(ana.folder.join(&file), &bytes).unwrap();
        holders(&luis, &file, 2);
        let to = luis.user.home.path().join(&file);
        let got = get(&luis, &file, &to);
        assert_eq!(read(&to), bytes, "{name}");
        let named = got["dropped"].as_array().unwrap();
        assert_eq!(named.len(), 1, "{name}: {got}");
        assert_eq!(named[0]["user"], format!("liar-{name}"), "{got}");
    }
}

#[test]
fn without_an_honest_holder_nothing_is_written_under_the_name() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let node = Node::start();
    let luis = Sharer::start(&node, "0");
    luis.log_in("luis");
    let eva = runtime.block_on(Account::new(&node, "eva"));
    let bytes = content(PIECE / 2);
    let bend: Bend = Box::new(|_, part| match part {
        Part::Piece(piece) => {
            Part::Piece(proto::Piece { content: vec![0; piece.content.len()].into(), ..piece })
        }
        part => part,
    });
    runtime.block_on(eva.share("acta.bin", &bytes, bend));
    luis.finds("acta", 1);
    let out = luis.user.home.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let refused = luis.files(&["get", "acta.bin", "-o", out.to_str().unwrap(), "--json"]).expect(1);
    let error = &object(&refused.stderr())["error"];
    assert_eq!(error["code"], "NO_HOLDERS");
    assert!(error["message"].as_str().unwrap().contains("eva at "), "{error}");
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), 0, "nothing is left");
    // Names that lead elsewhere, and claims that cannot be.
    let held = |name: &str, size| FileHeld {
        name: name.into(),
        size,
        hash: ContentHash::of(name.as_bytes()).to_string(),
        folder: None,
    };
    let names = [
        "../../evil.sh",
        "/etc/evil",
        "C:\\evil",
        "nul",
        "..",
        ".tertulia-evil.part",
        ".bash_profile",
        "a/.profile-evil",
    ];
    let files =
        names.map(|name| held(name, 4)).into_iter().chain([held("huge", u64::MAX)]).collect();
    runtime.block_on(eva.announce(Fingerprint([9; 32]), 9, files, Vec::new()));
    luis.finds("evil", 5);
    for name in names {
        let hash = ContentHash::of(name.as_bytes()).to_string();
        let refused = luis.files(&["get", &hash, "--json"]).expect(1);
        assert_eq!(object(&refused.stderr())["error"]["code"], "BAD_NAME", "{name}");
    }
    let huge = luis.files(&["get", "huge", "--json"]).expect(1);
    assert_eq!(object(&huge.stderr())["error"]["code"], "TOO_LARGE");
}

#[test]
fn what_a_holder_says_steers_no_terminal() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let node = Node::start();
    let luis = Sharer::start(&node, "0");
    luis.log_in("luis");
    let eva = runtime.block_on(Account::new(&node, "eva"));
    let given = runtime.block_on(eva.share("acta.bin", b"hola", Box::new(|_, part| part)));
    given.refuse("no\u{1b}[2J\u{9b}31m way\nerror: \u{202e}all is well");
    luis.finds("acta", 1);
    for more in [&[][..], &["--json"]] {
        let said = luis.files(&[&["get", "acta.bin"], more].concat()).expect(1).stderr();
        assert!(said.contains("refuses: no\u{fffd}[2J"), "{said}");
        assert!(!said.contains(['\u{1b}', '\u{9b}', '\u{202e}']), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

/// A connection as whoever has this identity.
async fn connect(holder: &Holder, identity: &Identity) -> PeerClient<Channel> {
    connect_with(holder, identity, |to| to).await
}

/// One that is tuned otherwise.
pub async fn connect_with(
    holder: &Holder,
    identity: &Identity,
    tune: impl FnOnce(Endpoint) -> Endpoint,
) -> PeerClient<Channel> {
    let stream = TcpStream::connect(&holder.address).await.unwrap();
    let config = tls::client_config(identity, holder.fingerprint).unwrap();
    let stream = TlsConnector::from(config).connect(tls::server_name(), stream).await.unwrap();
    let mut stream = Some(hyper_util::rt::TokioIo::new(stream));
    let connector = tower::service_fn(move |_: tonic::codegen::http::Uri| {
        std::future::ready(stream.take().ok_or(std::io::Error::other("used")))
    });
    PeerClient::new(
        tune(Endpoint::from_static("http://x")).connect_with_connector(connector).await.unwrap(),
    )
}

#[test]
fn a_capability_opens_what_it_names_to_whom_it_is_for() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let node = Node::start();
    let ana = Sharer::start(&node, "0");
    ana.log_in("ana");
    for name in ["one", "two"] {
        std::fs::write(ana.folder.join(name), name).unwrap();
    }
    ana.finds("", 2);
    let (one, two) = (ContentHash::of(b"one"), ContentHash::of(b"two"));
    runtime.block_on(async {
        let (own, thief) = (Identity::ephemeral().unwrap(), Identity::ephemeral().unwrap());
        let mut peer = OwnPeer::connect(&ana.address, None, SILENCE_MAX).await.unwrap();
        let sources = peer.sources(one, own.fingerprint()).await.unwrap();
        let holder = &sources.holders[0];
        let ask = async |identity: &Identity, capability: Option<&str>, hash: ContentHash| {
            let mut client = connect(holder, identity).await;
            let hash = hash.0.to_vec().into();
            let mut request = Request::new(PiecesRequest { hash, count: 1, ..Default::default() });
            if let Some(capability) = capability {
                let bearer = format!("Bearer {capability}").parse().unwrap();
                request.metadata_mut().insert("authorization", bearer);
            }
            match client.pieces(request).await {
                Ok(mut replies) => match replies.get_mut().message().await.unwrap().unwrap().part {
                    Some(Part::Piece(piece)) => Ok(piece.content.to_vec()),
                    other => panic!("{other:?}"),
                },
                Err(status) => Err(status.code()),
            }
        };
        let right = Some(&*sources.capability);
        assert_eq!(ask(&own, right, one).await, Ok(b"one".to_vec()));
        let denied = Err(Code::PermissionDenied);
        assert_eq!(ask(&own, right, two).await, denied, "another content");
        assert_eq!(ask(&thief, right, one).await, denied, "stolen");
        assert_eq!(ask(&own, None, one).await, denied, "none");
        assert_eq!(ask(&own, Some("v4.public.AAAA"), one).await, denied, "no capability");
        // Plain, from this machine: one's own client gets no content either.
        let mut plain = PeerClient::connect(format!("http://{}", ana.address)).await.unwrap();
        let hash = one.0.to_vec().into();
        let request = PiecesRequest { hash, count: 1, ..Default::default() };
        assert_eq!(plain.pieces(request).await.unwrap_err().code(), Code::PermissionDenied);
        assert!(plain.list(ListRequest {}).await.is_ok());
        // Another one than the node vouches for.
        let wrong = Holder { fingerprint: Fingerprint([7; 32]), ..holder.clone() };
        let config = tls::client_config(&own, wrong.fingerprint).unwrap();
        let stream = TcpStream::connect(&wrong.address).await.unwrap();
        assert!(TlsConnector::from(config).connect(tls::server_name(), stream).await.is_err());
    });
}

#[test]
fn who_fetches_for_longer_than_a_capability_lives_asks_for_another() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let node = Node::start();
    let luis = Sharer::start(&node, "0");
    luis.log_in("luis");
    let eva = runtime.block_on(Account::new(&node, "eva"));
    let bytes = content(9 * PIECE + 5);
    // It takes one for the outline, and the first pieces.
    let slow = runtime.block_on(eva.share_slowly("lenta.bin", &bytes, 2));
    let hash = ContentHash::of(&bytes).to_string();
    let to = luis.user.home.path().join("lenta.bin");
    let got = luis.files(&["get", &hash, "-o", to.to_str().unwrap(), "--json"]);
    assert_eq!(got.expect(0).objects().remove(0)["fetched"], bytes.len());
    assert_eq!(read(&to), bytes);
    assert_eq!(slow.capabilities(), 2);
}

#[test]
fn nobody_waits_for_ever_on_who_has_some_only() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let node = Node::start();
    let luis = Sharer::start(&node, "0");
    luis.log_in("luis");
    let eva = runtime.block_on(Account::new(&node, "eva"));
    let bytes = content(4 * PIECE + 9);
    let mut only = PieceSet::none(5);
    assert!(only.insert(1) && only.insert(4));
    runtime.block_on(eva.share_some("medias.bin", &bytes, only));
    let hash = ContentHash::of(&bytes).to_string();
    let to = luis.user.home.path().join("medias.bin");
    luis.finds("medias", 0);
    let get = ["get", &hash, "-o", to.to_str().unwrap(), "--json"];
    let error = object(&luis.files(&get).expect(1).stderr())["error"].clone();
    assert_eq!(error["code"], "NO_HOLDERS");
    let said = error["message"].as_str().unwrap();
    assert!(said.contains("1.0 MiB are here and kept"), "{said}");
    // Somebody has all of it by now: the rest comes from there.
    let ana = Sharer::start(&node, "0");
    ana.log_in("ana");
    std::fs::write(ana.folder.join("medias.bin"), &bytes).unwrap();
    luis.finds("medias", 1);
    let got = luis.files(&get).expect(0).objects().remove(0);
    assert_eq!(
        (&got["kept"], &got["fetched"]),
        (&(PIECE + 9).into(), &(3 * PIECE).into()),
        "{got}"
    );
    assert_eq!(read(&to), bytes);
}

#[test]
fn who_sends_an_outline_byte_by_byte_is_silent_and_the_next_one_is_asked() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let node = Node::start();
    let (ana, luis) = (Sharer::start(&node, "0"), Sharer::start(&node, "0"));
    ana.log_in("ana");
    luis.log_in("luis");
    let eva = runtime.block_on(Account::new(&node, "eva"));
    let bytes = content(2 * PIECE + 9);
    runtime.block_on(eva.share_dripping("gotas.bin", &bytes));
    luis.finds("gotas", 1);
    let to = luis.user.home.path().join("gotas.bin");
    let refused = luis.files(&["get", "gotas.bin", "-o", to.to_str().unwrap(), "--json"]).expect(1);
    let error = &object(&refused.stderr())["error"];
    assert_eq!(error["code"], "NO_HOLDERS", "{error}");
    assert!(error["message"].as_str().unwrap().contains("sends nothing"), "{error}");
    std::fs::write(ana.folder.join("gotas.bin"), &bytes).unwrap();
    holders(&luis, "gotas", 2);
    let got = get(&luis, "gotas.bin", &to);
    assert_eq!(got["dropped"], serde_json::json!([]), "it was not waited for: {got}");
    assert_eq!(read(&to), bytes);
}

#[test]
fn those_who_are_silent_hide_nobody_however_many_they_are() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let node = Node::start();
    let (ana, luis) = (Sharer::start(&node, "0"), Sharer::start(&node, "0"));
    ana.log_in("ana");
    luis.log_in("luis");
    let (small, large) = (b"hola".to_vec(), content(2 * PIECE + 9));
    let files = [("chica.txt", small), ("grande.bin", large)];
    let mut silent = Vec::new();
    // As many as are asked at once, of both; an account has only so many peers.
    for number in 0..32 {
        if number % 8 == 0 {
            let name = format!("eva{}", number / 8);
            silent.push(runtime.block_on(Account::new(&node, &name)));
        }
        let (name, bytes) = &files[number % 2];
        let account = silent.last().unwrap();
        runtime.block_on(account.share_silently(name, bytes));
    }
    for (name, bytes) in &files {
        std::fs::write(ana.folder.join(name), bytes).unwrap();
        // Whoever came last is asked last.
        holders(&luis, name, 5);
    }
    let to = |name: &str| luis.user.home.path().join(name);
    let got = files.each_ref().map(|(name, _)| {
        luis.user.spawn(&["files", "get", name, "-o", to(name).to_str().unwrap()])
    });
    for (mut got, (name, bytes)) in got.into_iter().zip(&files) {
        assert!(got.end().success(), "{name}: {}", got.all_noted());
        assert_eq!(read(&to(name)), *bytes, "{name}");
    }
}

#[test]
fn memory_is_bounded_whatever_is_announced() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let node = Node::start();
    let eva = runtime.block_on(Account::new(&node, "eva"));
    let before = node.memory("VmRSS");
    runtime.block_on(async {
        let print = Fingerprint([1; 32]).to_string();
        let here =
            PeerHere { host: None, port: 1, fingerprint: print.clone(), unfinished: Vec::new() };
        eva.api.here(&eva.token, &here).await.unwrap();
        let mut revision = 0;
        let mut refused = None;
        for batch in 0..150_u64 {
            let file = |n: u64| FileHeld {
                name: format!("{}{batch}-{n}", "x".repeat(150)),
                size: n,
                hash: ContentHash::of(&(batch * 1_000 + n).to_le_bytes()).to_string(),
                folder: None,
            };
            let add = (0..1_000).map(file).collect();
            let changed =
                FilesChanged { fingerprint: print.clone(), revision, add, remove: Vec::new() };
            match eva.api.announce(&eva.token, &changed).await {
                Ok(known) => revision = known.revision,
                Err(error) => {
                    refused = Some((batch, error.code));
                    break;
                }
            }
        }
        assert_eq!(refused, Some((100, "LIMIT".to_owned())));
    });
    // Names that are eleven times as long in the form in which they are looked for, from as many peers as she may have.
    let (said, refused) = runtime.block_on(async {
        let (mut said, mut refused) = (0, 0);
        for peer in 1..=8_u8 {
            for batch in 0..15 {
                let mut revision = 0;
                // All of them are there, however long it takes.
                for print in 1..=peer {
                    let fingerprint = Fingerprint([print; 32]).to_string();
                    let unfinished = Vec::new();
                    let here = PeerHere { host: None, port: 1, fingerprint, unfinished };
                    revision = eva.api.here(&eva.token, &here).await.unwrap().revision;
                }
                let file = |n: u64| {
                    let name = format!("{peer} {batch:02} {n:04}{}", "\u{fdfa}".repeat(334));
                    let hash = ContentHash::of(name.as_bytes()).to_string();
                    FileHeld { name, size: n, hash, folder: None }
                };
                let (fingerprint, add) =
                    (Fingerprint([peer; 32]).to_string(), (0..200).map(file).collect());
                let changed = FilesChanged { fingerprint, revision, add, remove: Vec::new() };
                if let Err(error) = eva.api.announce(&eva.token, &changed).await {
                    assert_eq!(error.code, "LIMIT", "{error}");
                    assert!(error.message.contains("32 MiB"), "{error}");
                    refused += 1;
                    break;
                }
                said += 1;
            }
        }
        (said, refused)
    });
    // Two hundred such names take a MiB.
    assert!(refused >= 5 && said >= 30, "{said} {refused}");
    let grown = node.memory("VmHWM").saturating_sub(before);
    assert!(grown < 200 << 20, "{} MiB more", grown >> 20);
    // Others have room.
    let luis = Sharer::start(&node, "0");
    luis.log_in("luis");
    for number in 0..10 {
        std::fs::write(luis.folder.join(format!("acta {number}.txt")), "hola").unwrap();
    }
    luis.finds("acta", 10);
}
