//! Peers that die, lie and try what they may not; receivers that are killed.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use tertulia_client::Target;
use tertulia_files::content::{ContentHash, Ending, Outline, outline_of};
use tertulia_files::fetch::Holder;
use tertulia_files::identity::{Fingerprint, Identity};
use tertulia_files::node::Node as NodeApi;
use tertulia_files::own::OwnPeer;
use tertulia_files::proto::peer_client::PeerClient;
use tertulia_files::proto::peer_server::{Peer, PeerServer};
use tertulia_files::proto::pieces_reply::Part;
use tertulia_files::proto::{
    self, FilesReply, HaveReply, HaveRequest, ListRequest, LoginReply, LoginRequest, LogoutReply,
    LogoutRequest, PeersReply, PeersRequest, PiecesReply, PiecesRequest, RegisterReply,
    RegisterRequest, SaveFileReply, SaveFileRequest, SearchRequest, SourcesReply, SourcesRequest,
};
use tertulia_files::tls;
use tertulia_wire::sharing::{FileHeld, FilesChanged, PeerHere};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_stream::StreamExt as _;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request, Response, Status, Streaming};

use crate::files::{Sharer, content, read};
use crate::support::{Node, User, WITHIN, object};

const PIECE: usize = 1 << 20;
const PASSWORD: &str = "correct horse";

/// What a hostile peer does to what it sends.
type Bend = fn(&Outline, Part) -> Part;

/// A peer that has the content and bends it.
struct Liar {
    content: Vec<u8>,
    outline: Outline,
    bend: Bend,
}

type Replies =
    std::pin::Pin<Box<dyn tokio_stream::Stream<Item = Result<PiecesReply, Status>> + Send>>;

fn nothing<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("nothing"))
}

#[tonic::async_trait]
impl Peer for Liar {
    type PiecesStream = Replies;

    async fn pieces(&self, request: Request<PiecesRequest>) -> Result<Response<Replies>, Status> {
        let request = request.into_inner();
        let mut parts = Vec::new();
        if request.outline {
            let values = self.outline.values().as_flattened().to_vec().into();
            let last = self.outline.pieces() - 1;
            let Ending { chunk, left } = Ending::of(last, &self.content[last as usize * PIECE..]);
            let (ending, left) = (chunk.into(), left.as_flattened().to_vec().into());
            let size = self.outline.size();
            parts.push(Part::Outline(proto::Outline { size, values, ending, left }));
        }
        for number in request.first..request.first + u64::from(request.count) {
            let begin = number as usize * PIECE;
            let content =
                self.content[begin..self.content.len().min(begin + PIECE)].to_vec().into();
            parts.push(Part::Piece(proto::Piece { number, content }));
        }
        let bend = self.bend;
        let bent: Vec<_> = parts.into_iter().map(|part| bend(&self.outline, part)).collect();
        let replies = bent.into_iter().map(|part| Ok(PiecesReply { part: Some(part) }));
        Ok(Response::new(Box::pin(tokio_stream::iter(replies))))
    }

    async fn have(&self, _: Request<HaveRequest>) -> Result<Response<HaveReply>, Status> {
        let size = self.outline.size();
        Ok(Response::new(HaveReply { size, all: true, ..HaveReply::default() }))
    }

    async fn register(
        &self,
        _: Request<RegisterRequest>,
    ) -> Result<Response<RegisterReply>, Status> {
        nothing()
    }
    async fn login(&self, _: Request<LoginRequest>) -> Result<Response<LoginReply>, Status> {
        nothing()
    }
    async fn logout(&self, _: Request<LogoutRequest>) -> Result<Response<LogoutReply>, Status> {
        nothing()
    }
    async fn save_file(
        &self,
        _: Request<Streaming<SaveFileRequest>>,
    ) -> Result<Response<SaveFileReply>, Status> {
        nothing()
    }
    async fn peers(&self, _: Request<PeersRequest>) -> Result<Response<PeersReply>, Status> {
        nothing()
    }
    async fn search(&self, _: Request<SearchRequest>) -> Result<Response<FilesReply>, Status> {
        nothing()
    }
    async fn list(&self, _: Request<ListRequest>) -> Result<Response<FilesReply>, Status> {
        nothing()
    }
    async fn sources(&self, _: Request<SourcesRequest>) -> Result<Response<SourcesReply>, Status> {
        nothing()
    }
}

/// An account without a peer of ours.
struct Account {
    api: Arc<NodeApi>,
    token: String,
}

impl Account {
    async fn new(node: &Node, name: &str) -> Self {
        let api = Arc::new(NodeApi::new(&Target::new(node.native.clone())));
        api.register(name, PASSWORD, "", None).await.unwrap();
        let token = api.log_in(name, PASSWORD).await.unwrap().token;
        Self { api, token }
    }

    /// Says that a peer with this certificate has these files, until the runtime ends.
    async fn announce(&self, fingerprint: Fingerprint, port: u16, add: Vec<FileHeld>) {
        let fingerprint = fingerprint.to_string();
        let here =
            PeerHere { host: None, port, fingerprint: fingerprint.clone(), unfinished: Vec::new() };
        self.api.here(&self.token, &here).await.unwrap();
        let changed = FilesChanged { fingerprint, revision: 0, add, remove: Vec::new() };
        self.api.announce(&self.token, &changed).await.unwrap();
        let (api, token) = (Arc::clone(&self.api), self.token.clone());
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(2)).await;
                let _ = api.here(&token, &here).await;
            }
        });
    }

    /// A hostile peer of this account, which ends with the runtime.
    async fn lie(&self, name: &str, content: &[u8], bend: Bend) {
        let identity = Identity::ephemeral().unwrap();
        let outline = outline_of(content).unwrap();
        let listener = TcpListener::bind((IpAddr::from([127, 0, 0, 1]), 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let held =
            FileHeld { name: name.into(), size: outline.size(), hash: outline.hash().to_string() };
        let acceptor = TlsAcceptor::from(tls::server_config(&identity).unwrap());
        let incoming =
            tokio_stream::wrappers::TcpListenerStream::new(listener).then(move |stream| {
                let acceptor = acceptor.clone();
                async move { acceptor.accept(stream?).await }
            });
        let liar = Liar { content: content.to_vec(), outline, bend };
        tokio::spawn(Server::builder().serve_with_incoming(PeerServer::new(liar), incoming));
        self.announce(identity.fingerprint(), port, vec![held]).await;
    }
}

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
fn holders(sharer: &Sharer, name: &str, count: usize) -> Value {
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

fn get(sharer: &Sharer, name: &str, to: &Path) -> Value {
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
    for (at, (name, bend)) in [
        ("bits", wrong_bits as Bend),
        ("outline", wrong_outline),
        ("size", another_size),
        ("much", too_much),
    ]
    .into_iter()
    .enumerate()
    {
        let bytes = content(24 * PIECE + 12_345 + at);
        let file = format!("{name}.bin");
        let liar = runtime.block_on(Account::new(&node, &format!("liar-{name}")));
        runtime.block_on(liar.lie(&file, &bytes, bend));
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
    runtime.block_on(eva.lie("acta.bin", &bytes, |_, part| match part {
        Part::Piece(piece) => {
            Part::Piece(proto::Piece { content: vec![0; piece.content.len()].into(), ..piece })
        }
        part => part,
    }));
    luis.finds("acta", 1);
    let out = luis.user.home.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let refused = luis.files(&["get", "acta.bin", "-o", out.to_str().unwrap(), "--json"]).expect(1);
    let error = &object(&refused.stderr())["error"];
    assert_eq!(error["code"], "NO_HOLDERS");
    assert!(error["message"].as_str().unwrap().contains("eva at "), "{error}");
    assert!(!out.join("acta.bin").exists());
    // Names that lead elsewhere, and claims that cannot be.
    let held = |name: &str, size| FileHeld {
        name: name.into(),
        size,
        hash: ContentHash::of(name.as_bytes()).to_string(),
    };
    let names = ["../../evil.sh", "/etc/evil", "C:\\evil", "nul", "..", ".tertulia-evil.part"];
    let files =
        names.map(|name| held(name, 4)).into_iter().chain([held("huge", u64::MAX)]).collect();
    runtime.block_on(eva.announce(Fingerprint([9; 32]), 9, files));
    luis.finds("evil", 4);
    for name in names {
        let hash = ContentHash::of(name.as_bytes()).to_string();
        let refused = luis.files(&["get", &hash, "--json"]).expect(1);
        assert_eq!(object(&refused.stderr())["error"]["code"], "BAD_NAME", "{name}");
    }
    let huge = luis.files(&["get", "huge", "--json"]).expect(1);
    assert_eq!(object(&huge.stderr())["error"]["code"], "TOO_LARGE");
}

/// A connection as whoever has this identity.
async fn connect(holder: &Holder, identity: &Identity) -> PeerClient<Channel> {
    let stream = TcpStream::connect(&holder.address).await.unwrap();
    let config = tls::client_config(identity, holder.fingerprint).unwrap();
    let stream = TlsConnector::from(config).connect(tls::server_name(), stream).await.unwrap();
    let mut stream = Some(hyper_util::rt::TokioIo::new(stream));
    let connector = tower::service_fn(move |_: tonic::codegen::http::Uri| {
        std::future::ready(stream.take().ok_or(std::io::Error::other("used")))
    });
    PeerClient::new(
        Endpoint::from_static("http://x").connect_with_connector(connector).await.unwrap(),
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
        let mut peer = OwnPeer::connect(&ana.address, None).await.unwrap();
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

/// Bytes of a file that are on the disk.
fn blocks(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let files = std::fs::read_dir(folder).unwrap().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|file| file.blocks() * 512).sum()
}

#[test]
fn a_receiver_that_is_killed_fetches_only_what_is_missing() {
    let node = Node::start();
    let (ana, luis) = (Sharer::start(&node, "0"), Sharer::start(&node, "0"));
    ana.log_in("ana");
    luis.log_in("luis");
    let bytes = content(200 * PIECE + 5);
    std::fs::write(ana.folder.join("large.bin"), &bytes).unwrap();
    luis.finds("large", 1);
    let out = luis.user.home.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let to = out.to_str().unwrap();
    let mut killed = luis.user.spawn(&["files", "get", "large.bin", "-o", to, "--json"]);
    let until = Instant::now() + WITHIN;
    while blocks(&out) < 8 * PIECE as u64 {
        assert!(Instant::now() < until, "nothing comes");
        std::thread::sleep(Duration::from_millis(1));
    }
    killed.signal(Signal::KILL);
    killed.end();
    assert!(!out.join("large.bin").exists(), "it was faster than the test: make the file larger");
    let got = get(&luis, "large.bin", &out);
    let (kept, fetched) = (got["kept"].as_u64().unwrap(), got["fetched"].as_u64().unwrap());
    assert!(kept >= PIECE as u64 && kept + fetched == bytes.len() as u64, "{kept} {fetched}");
    assert_eq!(read(&out.join("large.bin")), bytes);
}

#[test]
fn a_holder_that_dies_leaves_the_rest_to_the_others() {
    let node = Node::start();
    let bytes = content(200 * PIECE + 5);
    let mut sharers: Vec<Sharer> = ["ana", "eva", "pia"]
        .into_iter()
        .map(|name| {
            let user = User::new();
            let folder = user.home.path().join("shared");
            std::fs::create_dir(&folder).unwrap();
            std::fs::write(folder.join("large.bin"), &bytes).unwrap();
            let sharer = Sharer::start_by(user, &node, "0");
            sharer.log_in(name);
            sharer
        })
        .collect();
    let luis = Sharer::start(&node, "0");
    luis.log_in("luis");
    holders(&luis, "large", 3);
    let out = luis.user.home.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let to = out.to_str().unwrap();
    let mut getting = luis.user.spawn(&["files", "get", "large.bin", "-o", to, "--json"]);
    let until = Instant::now() + WITHIN;
    while blocks(&out) < 8 * PIECE as u64 {
        assert!(Instant::now() < until, "nothing comes");
        std::thread::sleep(Duration::from_millis(1));
    }
    sharers[1].peer.signal(Signal::KILL);
    let got = object(&getting.says("large.bin"));
    assert_eq!(getting.end().code(), Some(0));
    assert_eq!(read(&out.join("large.bin")), bytes);
    assert_eq!(got["from"].as_array().map(Vec::len), Some(3), "everybody gave some: {got}");
    let dropped = got["dropped"].as_array().unwrap();
    assert_eq!(dropped.len(), 1, "{got}");
    assert_eq!(dropped[0]["user"], "eva");
    sharers[1].peer.end();
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
                name: format!("{}{batch}-{n}", "x".repeat(200)),
                size: n,
                hash: ContentHash::of(&(batch * 1_000 + n).to_le_bytes()).to_string(),
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
    let grown = node.memory("VmHWM").saturating_sub(before);
    assert!(grown < 200 << 20, "{} MiB more", grown >> 20);
}
