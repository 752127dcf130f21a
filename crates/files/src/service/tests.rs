//! A running peer, asked by accounts whose capabilities a test has signed itself.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use hyper_util::rt::TokioIo;
use jiff::{SignedDuration, Timestamp};
use pasetors::keys::{AsymmetricKeyPair, Generate as _};
use pasetors::token::UntrustedToken;
use pasetors::version4::{PublicToken, V4};
use tertulia_wire::sharing::{CAPABILITY_PURPOSE, Capability, NodeKey, hex};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};

use super::{CODE_KEY, KeptToken, PeerOptions, RunningPeer, Tokens, Told, Turn};
use crate::capability::Verifier;
use crate::content::{ContentHash, Ending, outline_of};
use crate::fetch::{Durable, Part as FetchedPart, Target};
use crate::folder::part_name;
use crate::identity::{Fingerprint, Identity};
use crate::limits::{ANSWERS_PER_ACCOUNT, BODY_WAIT, GIFT_MAX, PIECE_BYTES};
use crate::names::FileName;
use crate::pieces::PieceSet;
use crate::proto::peer_client::PeerClient;
use crate::proto::pieces_reply::Part;
use crate::proto::{HaveRequest, PiecesReply, PiecesRequest};
use crate::tls;
use crate::unfinished::Begun;

/// Nothing here takes as long as this; a loaded machine may be slow.
const WITHIN: Duration = Duration::from_secs(25);

/// Nobody is logged in.
struct Nobody;

impl Tokens for Nobody {
    fn find(&self) -> Result<Option<KeptToken>, String> {
        Ok(None)
    }
    fn keep(&self, _: &str, _: &str, _: &str, _: &str) -> Result<(), String> {
        Ok(())
    }
    fn forget(&self) -> Result<(), String> {
        Ok(())
    }
}

/// A peer with one file, and the key of a node that there is not.
struct Rig {
    peer: RunningPeer,
    fingerprint: Fingerprint,
    hash: ContentHash,
    pieces: u64,
    node: AsymmetricKeyPair<V4>,
    _home: tempfile::TempDir,
}

impl Rig {
    async fn new(content: &[u8]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("shared");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("plano.bin"), content).unwrap();
        let identity = Arc::new(Identity::ephemeral().unwrap());
        let fingerprint = identity.fingerprint();
        let options = PeerOptions {
            folder,
            cache: home.path().join("cache"),
            given: None,
            identity,
            listen: [127, 0, 0, 1].into(),
            port: 0,
            advertise: None,
            // Nobody is there.
            node: tertulia_client::Target::new("127.0.0.1:1".to_owned()),
            tokens: Box::new(Nobody),
        };
        let peer = RunningPeer::start(options, |_| {}).await.unwrap();
        let node = AsymmetricKeyPair::generate().unwrap();
        let key = NodeKey { key: hex(node.public.as_bytes()), instance: "ab".to_owned() };
        *peer.state.verifier.write().unwrap() = Verifier::new(&key);
        let hash = ContentHash::of(content);
        let mut changes = peer.state.library.changes();
        while peer.state.library.content(hash).is_none() {
            tokio::time::timeout(WITHIN, changes.changed()).await.unwrap().unwrap();
        }
        let pieces = crate::content::pieces_of(content.len() as u64);
        Self { peer, fingerprint, hash, pieces, node, _home: home }
    }

    /// The right of an account, until so long after now.
    fn right(&self, account: &str, identity: &Identity, after: SignedDuration) -> String {
        let capability = Capability {
            iss: "ab".to_owned(),
            sub: account.to_owned(),
            exp: (Timestamp::now() + after).to_string(),
            fpr: identity.fingerprint().to_string(),
            hashes: vec![self.hash.to_string()],
        };
        let claims = serde_json::to_vec(&capability).unwrap();
        let purpose = Some(CAPABILITY_PURPOSE);
        let signed = PublicToken::sign(&self.node.secret, &claims, None, purpose).unwrap();
        assert!(UntrustedToken::<pasetors::Public, V4>::try_from(&*signed).is_ok());
        format!("Bearer {signed}")
    }

    async fn connect(
        &self,
        identity: &Identity,
        tune: impl FnOnce(Endpoint) -> Endpoint,
    ) -> PeerClient<Channel> {
        let stream = TcpStream::connect(self.peer.address()).await.unwrap();
        let config = tls::client_config(identity, self.fingerprint).unwrap();
        let stream = TlsConnector::from(config).connect(tls::server_name(), stream).await.unwrap();
        let mut stream = Some(TokioIo::new(stream));
        let connector = tower::service_fn(move |_: Uri| {
            std::future::ready(stream.take().ok_or(std::io::Error::other("used")))
        });
        let endpoint = tune(Endpoint::from_static("http://x"));
        PeerClient::new(endpoint.connect_with_connector(connector).await.unwrap())
            .max_decoding_message_size(2 * PIECE_BYTES)
    }

    /// Somebody who asks.
    async fn asker(&self, account: &str, tune: impl FnOnce(Endpoint) -> Endpoint) -> Asker {
        let identity = Identity::ephemeral().unwrap();
        let bearer = self.right(account, &identity, SignedDuration::from_secs(600));
        Asker { client: self.connect(&identity, tune).await, bearer, hash: self.hash }
    }
}

#[derive(Clone)]
struct Asker {
    client: PeerClient<Channel>,
    bearer: String,
    hash: ContentHash,
}

impl Asker {
    async fn ask(&self, asked: PiecesRequest) -> Result<Streaming<PiecesReply>, Status> {
        let hash = Bytes::copy_from_slice(&self.hash.0);
        let mut request = Request::new(PiecesRequest { hash, ..asked });
        request.metadata_mut().insert("authorization", self.bearer.parse().unwrap());
        Ok(self.client.clone().pieces(request).await?.into_inner())
    }

    /// Those of these pieces that it is given, at most 16; what comes is read.
    async fn is_given(&self, wanted: &PieceSet) -> Result<Vec<u64>, Status> {
        let bits = Bytes::copy_from_slice(wanted.bits());
        let count = GIFT_MAX as u32;
        let mut answer =
            self.ask(PiecesRequest { wanted: bits, count, ..Default::default() }).await?;
        let mut numbers = Vec::new();
        while let Some(reply) = answer.message().await? {
            if let Some(Part::Piece(piece)) = reply.part {
                numbers.push(piece.number);
            }
        }
        Ok(numbers)
    }
}

fn word(status: &Status) -> &str {
    status.metadata().get(CODE_KEY).and_then(|word| word.to_str().ok()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capability_that_has_expired_opens_nothing() {
    let rig = Rig::new(b"hola").await;
    let identity = Identity::ephemeral().unwrap();
    let client = rig.connect(&identity, |to| to).await;
    for (seconds, may) in [(600, true), (1, true), (-30, true), (-61, false), (-86_400, false)] {
        let bearer = rig.right("eva", &identity, SignedDuration::from_secs(seconds));
        let asker = Asker { client: client.clone(), bearer: bearer.clone(), hash: rig.hash };
        let one = PiecesRequest { count: 1, ..Default::default() };
        let mut have = Request::new(HaveRequest { hash: rig.hash.0.to_vec().into(), known: 0 });
        have.metadata_mut().insert("authorization", bearer.parse().unwrap());
        let have = client.clone().have(have).await.map(|_| ());
        for answer in [asker.ask(one).await.map(|_| ()), have] {
            match answer {
                Ok(()) => assert!(may, "{seconds}"),
                Err(status) => {
                    assert!(!may, "{seconds}: {status:?}");
                    assert_eq!(status.code(), Code::PermissionDenied);
                    assert_eq!(word(&status), "NO_CAPABILITY");
                    assert!(status.message().contains("expired"), "{status:?}");
                }
            }
        }
    }
}

/// A request that never comes as a whole.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_stops_half_way_is_refused() {
    use http_body_util::StreamBody;
    use tonic::body::Body;
    use tonic::codegen::http;

    let rig = Rig::new(b"hola").await;
    let identity = Identity::ephemeral().unwrap();
    let bearer = rig.right("eva", &identity, SignedDuration::from_secs(600));
    for method in ["Have", "Pieces"] {
        let begun = hyper::body::Frame::data(Bytes::from_static(&[0, 0, 0, 0, 40, 10, 32]));
        let half = tokio_stream::once(Ok::<_, std::convert::Infallible>(begun));
        let half = tokio_stream::StreamExt::chain(half, tokio_stream::pending());
        let body = Body::new(StreamBody::new(half));
        let request = http::Request::post(format!("http://x/tertulia.peer.v1.Peer/{method}"))
            .header("authorization", &bearer)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(body)
            .unwrap();
        let mut sender = h2_sender(&rig, &identity).await;
        let answer = tokio::time::timeout(2 * BODY_WAIT, sender.send_request(request)).await;
        let answer = answer.unwrap_or_else(|_| panic!("{method} is waited for")).unwrap();
        let status = Status::from_header_map(answer.headers()).unwrap();
        assert_eq!(
            (status.code(), word(&status)),
            (Code::DeadlineExceeded, "TOO_SLOW"),
            "{method}"
        );
    }
}

/// A connection below gRPC.
async fn h2_sender(
    rig: &Rig,
    identity: &Identity,
) -> hyper::client::conn::http2::SendRequest<tonic::body::Body> {
    let stream = TcpStream::connect(rig.peer.address()).await.unwrap();
    let config = tls::client_config(identity, rig.fingerprint).unwrap();
    let stream = TlsConnector::from(config).connect(tls::server_name(), stream).await.unwrap();
    let executor = hyper_util::rt::TokioExecutor::new();
    let made = hyper::client::conn::http2::handshake(executor, TokioIo::new(stream)).await;
    let (sender, connection) = made.unwrap();
    tokio::spawn(connection);
    sender
}

/// What little is left of an answer goes into the connection as a whole, and the answer is over; it still lies in memory.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_which_nothing_is_taken_keeps_its_permit_though_it_is_written_to_its_end() {
    let rig = Rig::new(&[7; 200 << 10]).await;
    // Room for the beginning of the piece, and for a few bytes of its content.
    let tune = |to: Endpoint| to.initial_stream_window_size(20);
    let askers = [rig.asker("eva", tune).await, rig.asker("eva", tune).await];
    let one = || PiecesRequest { count: 1, ..Default::default() };
    let asked = (0..2 * ANSWERS_PER_ACCOUNT).map(|number| askers[number % 2].ask(one()));
    let answers = tokio::time::timeout(WITHIN, join_all(asked)).await.unwrap();
    let (mut held, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!(held.len(), ANSWERS_PER_ACCOUNT);
    for answer in refused {
        let status = answer.err().unwrap();
        assert_eq!((status.code(), word(&status)), (Code::ResourceExhausted, "BUSY"));
    }
    // What is taken makes room.
    let mut taken = held.pop().unwrap().unwrap();
    while taken.message().await.unwrap().is_some() {}
    assert!(askers[0].ask(one()).await.is_ok());
}

/// Others ask what there is, and are given it, while a fetch is given up: it leaves nothing all the same.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_fetch_has_left_goes_though_others_ask_for_it_or_are_given_it() {
    let mut rig = Rig::new(b"hola").await;
    let content = [7; 99];
    let outline = Arc::new(outline_of(&content[..]).unwrap());
    rig.hash = outline.hash();
    let state = Arc::clone(&rig.peer.state);
    let begin = || {
        let (folder, name) = (state.library.dir().unwrap(), FileName::new("b").unwrap());
        let target = Target { replace: false, durable: Durable::Now, keep_free: 0, folder, name };
        let part = Arc::new(FetchedPart::open(&target, outline.hash()).unwrap());
        let proof = (Arc::clone(&outline), Ending::of(0, &content));
        let begun = Arc::new(Begun::new(target.name, proof, part, PieceSet::none(1)));
        (state.unfinished.begin(Arc::clone(&begun)).unwrap(), begun)
    };
    let left = state.library.path().join(part_name(outline.hash()));
    let clear_part = async || rig.peer.fetcher().clear_part(outline.hash()).await.unwrap();
    let asker = rig.asker("eva", |to| to).await;
    let mut have = Request::new(HaveRequest { hash: rig.hash.0.to_vec().into(), known: 0 });
    have.metadata_mut().insert("authorization", asker.bearer.parse().unwrap());

    let (listed, begun) = begin();
    let mut client = asker.client.clone();
    let asking = tokio::spawn(async move { client.have(have).await });
    let until = Instant::now() + WITHIN;
    while !begun.is_waited_for() {
        assert!(Instant::now() < until);
        tokio::task::yield_now().await;
    }
    drop((listed, begun));
    assert!(left.exists());
    clear_part().await;
    assert!(!left.exists(), "who only asks keeps nothing");
    assert_eq!(word(&asking.await.unwrap().unwrap_err()), "NOT_HERE");

    let (listed, answering) = begin();
    drop(listed);
    clear_part().await;
    assert!(left.exists(), "it is being given to somebody");
    drop(answering);
    while left.exists() {
        assert!(Instant::now() < until);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The same may be told twice: who waits for the other one has it when that one has, though nobody else has it any more.
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_into_the_folder_while_nobody_has_it_is_there() {
    let rig = Rig::new(b"hola").await;
    let library = Arc::clone(&rig.peer.state.library);
    let told = Told { name: "b.txt".to_owned(), size: 5, hash: ContentHash::of(b"adios") };
    let turn = Turn::new(&Arc::new(tokio::sync::Semaphore::new(1)));
    let (fetcher, waiting) = (rig.peer.fetcher(), Arc::clone(&turn));
    let fetching = tokio::spawn(async move { fetcher.fetch(&told, &waiting).await });
    let until = Instant::now() + WITHIN;
    while turn.nobody_since().is_none() {
        assert!(Instant::now() < until);
        tokio::task::yield_now().await;
    }
    let placing = move || {
        let mut staged = library.stage(5)?;
        staged.write(b"adios")?;
        library.place(staged, &FileName::new("a.txt").unwrap(), false)
    };
    crate::blocking::blocking(placing).await.unwrap();
    let fetched = tokio::time::timeout(WITHIN, fetching).await.expect("it is there");
    assert_eq!(fetched.unwrap().unwrap().name.as_str(), "a.txt");
}

/// Asks for everything again and again, and takes nothing of it.
async fn take_nothing(greedy: Asker, pieces: u64) {
    let mut all = PieceSet::none(pieces);
    (0..pieces).for_each(|number| assert!(all.insert(number)));
    let wanted = Bytes::copy_from_slice(all.bits());
    loop {
        let mut held = Vec::new();
        for _ in 0..pieces.div_ceil(GIFT_MAX as u64) {
            let (wanted, count) = (wanted.clone(), GIFT_MAX as u32);
            let asked = PiecesRequest { wanted, count, ..Default::default() };
            held.push(greedy.ask(asked).await);
        }
        // As long as it may, as it was: half a minute.
        tokio::time::sleep(Duration::from_secs(29)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_nothing_of_what_it_is_given_keeps_nobody_from_it() {
    let content: Vec<u8> = (0..40 * PIECE_BYTES + 9).map(|at| (at >> 7) as u8).collect();
    let rig = Rig::new(&content).await;
    let eva = rig.asker("eva", |to| to.initial_stream_window_size(0)).await;
    let greedy = tokio::spawn(take_nothing(eva, rig.pieces));
    let until = Instant::now() + WITHIN;
    // She was given what she may be given.
    while rig.peer.state.sparing.is_idle() {
        tokio::task::yield_now().await;
    }
    let ana = rig.asker("ana", |to| to).await;
    let mut missing: BTreeSet<u64> = (0..rig.pieces).collect();
    while !missing.is_empty() {
        let mut wanted = PieceSet::none(rig.pieces);
        missing.iter().for_each(|number| assert!(wanted.insert(*number)));
        for number in ana.is_given(&wanted).await.unwrap() {
            missing.remove(&number);
        }
        assert!(Instant::now() < until, "{missing:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    greedy.abort();
}
