//! A peer that does what a test says: lies, gives some only, or each piece once.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tertulia_client::Target;
use tertulia_files::content::{Ending, Outline, outline_of};
use tertulia_files::identity::{Fingerprint, Identity};
use tertulia_files::node::Node as NodeApi;
use tertulia_files::pieces::PieceSet;
use tertulia_files::proto::peer_server::{Peer, PeerServer};
use tertulia_files::proto::pieces_reply::Part;
use tertulia_files::proto::{
    self, FilesReply, HaveReply, HaveRequest, ListRequest, LoginReply, LoginRequest, LogoutReply,
    LogoutRequest, PeersReply, PeersRequest, PiecesReply, PiecesRequest, RegisterReply,
    RegisterRequest, SaveFileReply, SaveFileRequest, SaveFolderRequest, SearchRequest,
    SourcesReply, SourcesRequest,
};
use tertulia_files::service::CODE_KEY;
use tertulia_files::tls;
use tertulia_wire::sharing::{FileHeld, FilesChanged, FolderHeld, PeerHere};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_stream::StreamExt as _;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use crate::support::Node;

pub const PIECE: usize = 1 << 20;
const PASSWORD: &str = "correct horse";

/// What a hostile peer does to what it sends.
pub type Bend = Box<dyn Fn(&Outline, Part) -> Part + Send + Sync>;

/// A peer that has a content, or says so, and does with it what a test says.
struct Scripted {
    content: Vec<u8>,
    outline: Outline,
    bend: Bend,
    /// It gives these only, and says that it is fetching the others.
    only: Option<PieceSet>,
    /// Pieces that are wanted are given so often.
    given: Mutex<Vec<usize>>,
    /// It takes the first capability this often; then it says that its time is over. With 0 it never answers.
    takes: usize,
    /// It sends the values of its outline one byte at a time, each so long after the one before.
    drips: Option<Duration>,
    /// The capabilities that it was shown, and how often.
    shown: Mutex<Vec<(String, usize)>>,
    /// With what it refuses everything.
    refusal: Mutex<Option<String>>,
}

impl Scripted {
    /// Those that are wanted and were not given before, to anybody.
    fn once(&self, asked: &PiecesRequest) -> Vec<u64> {
        let wanted = PieceSet::read(self.outline.pieces(), &asked.wanted).unwrap();
        let mut given = self.given.lock().unwrap();
        let fresh = wanted.iter().filter(|number| given[*number as usize] == 0);
        let numbers: Vec<u64> = fresh.take(asked.count as usize).collect();
        numbers.iter().for_each(|number| given[*number as usize] += 1);
        numbers
    }

    fn take<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let bearer = request.metadata().get("authorization").unwrap().to_str().unwrap();
        let mut shown = self.shown.lock().unwrap();
        let at = shown.iter().position(|(known, _)| known == bearer).unwrap_or_else(|| {
            shown.push((bearer.to_owned(), 0));
            shown.len() - 1
        });
        shown[at].1 += 1;
        if at == 0 && self.takes > 0 && shown[at].1 > self.takes {
            let mut status = Status::permission_denied("the capability has expired");
            status.metadata_mut().insert(CODE_KEY, "NO_CAPABILITY".parse().unwrap());
            return Err(status);
        }
        Ok(())
    }
}

/// An outline in as many parts as it has bytes.
fn drops(part: Part) -> Vec<Part> {
    let Part::Outline(outline) = part else { return vec![part] };
    let of = |at: usize| {
        let values = outline.values.slice(at..=at);
        Part::Outline(proto::Outline { values, ..outline.clone() })
    };
    (0..outline.values.len()).map(of).collect()
}

/// So that the test can look at it.
struct Shared(Arc<Scripted>);

type Replies =
    std::pin::Pin<Box<dyn tokio_stream::Stream<Item = Result<PiecesReply, Status>> + Send>>;

fn nothing<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("nothing"))
}

#[tonic::async_trait]
impl Peer for Shared {
    type PiecesStream = Replies;

    async fn pieces(&self, request: Request<PiecesRequest>) -> Result<Response<Replies>, Status> {
        self.0.take(&request)?;
        if self.0.takes == 0 {
            std::future::pending::<()>().await;
        }
        if let Some(refusal) = &*self.0.refusal.lock().unwrap() {
            return Err(Status::failed_precondition(refusal));
        }
        let (request, peer) = (request.into_inner(), Arc::clone(&self.0));
        let mut parts = Vec::new();
        if request.outline {
            let values = peer.outline.values().as_flattened().to_vec().into();
            let last = peer.outline.pieces() - 1;
            let Ending { chunk, left } = Ending::of(last, &peer.content[last as usize * PIECE..]);
            let (ending, left) = (chunk.into(), left.as_flattened().to_vec().into());
            let size = peer.outline.size();
            parts.push(Part::Outline(proto::Outline { size, values, ending, left }));
        }
        let numbers = if request.wanted.is_empty() {
            (request.first..request.first + u64::from(request.count)).collect()
        } else {
            let numbers = peer.once(&request);
            parts.push(Part::Given(proto::Given { numbers: numbers.clone() }));
            numbers
        };
        if numbers
            .iter()
            .any(|number| peer.only.as_ref().is_some_and(|only| !only.contains(*number)))
        {
            return Err(Status::not_found("not here yet"));
        }
        let read = Arc::clone(&peer);
        let pieces = numbers.into_iter().map(move |number| {
            let begin = number as usize * PIECE;
            let end = read.content.len().min(begin + PIECE);
            let content = read.content[begin..end].to_vec().into();
            Part::Piece(proto::Piece { number, content })
        });
        let drips = peer.drips;
        let parts = parts
            .into_iter()
            .flat_map(|part| if drips.is_some() { drops(part) } else { vec![part] });
        let parts: Vec<Part> = parts.collect();
        let replies = parts
            .into_iter()
            .chain(pieces)
            .map(move |part| Ok(PiecesReply { part: Some((peer.bend)(&peer.outline, part)) }));
        let replies = tokio_stream::iter(replies).then(move |reply| async move {
            tokio::time::sleep(drips.unwrap_or_default()).await;
            reply
        });
        Ok(Response::new(Box::pin(replies)))
    }

    async fn have(&self, _: Request<HaveRequest>) -> Result<Response<HaveReply>, Status> {
        let size = self.0.outline.size();
        let Some(only) = &self.0.only else {
            return Ok(Response::new(HaveReply {
                size,
                all: true,
                sparing: true,
                ..Default::default()
            }));
        };
        let pieces = only.bits().to_vec().into();
        Ok(Response::new(HaveReply { size, pieces, ..Default::default() }))
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
    async fn save_folder(
        &self,
        _: Request<Streaming<SaveFolderRequest>>,
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
pub struct Account {
    pub api: Arc<NodeApi>,
    pub token: String,
}

impl Account {
    pub async fn new(node: &Node, name: &str) -> Self {
        let api = Arc::new(NodeApi::new(&Target::new(node.native.clone())));
        api.register(name, PASSWORD, "", None).await.unwrap();
        let token = api.log_in(name, PASSWORD).await.unwrap().token;
        Self { api, token }
    }

    /// Says that a peer with this certificate has these files, and is fetching those, until the runtime ends.
    pub async fn announce(
        &self,
        fingerprint: Fingerprint,
        port: u16,
        add: Vec<FileHeld>,
        unfinished: Vec<FileHeld>,
    ) {
        let fingerprint = fingerprint.to_string();
        let here = PeerHere { host: None, port, fingerprint: fingerprint.clone(), unfinished };
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

    /// A peer of this account that has a content, and bends what it sends; it ends with the runtime.
    pub async fn share(&self, name: &str, content: &[u8], bend: Bend) -> Given {
        self.serve(name, content, bend, None, (usize::MAX, None)).await
    }

    /// One that sends a byte of its outline a second.
    pub async fn share_dripping(&self, name: &str, content: &[u8]) -> Given {
        let drips = Some(Duration::from_secs(1));
        self.serve(name, content, Box::new(|_, part| part), None, (usize::MAX, drips)).await
    }

    /// One that takes every question and answers none.
    pub async fn share_silently(&self, name: &str, content: &[u8]) -> Given {
        self.serve(name, content, Box::new(|_, part| part), None, (0, None)).await
    }

    /// One that takes the first capability a few times only, as if it were slow and the capability's time over then.
    pub async fn share_slowly(&self, name: &str, content: &[u8], takes: usize) -> Given {
        self.serve(name, content, Box::new(|_, part| part), None, (takes, None)).await
    }

    /// One that says that it is fetching a content, and has these pieces of it.
    pub async fn share_some(&self, name: &str, content: &[u8], only: PieceSet) -> Given {
        let always = (usize::MAX, None);
        self.serve(name, content, Box::new(|_, part| part), Some(only), always).await
    }

    async fn serve(
        &self,
        name: &str,
        content: &[u8],
        bend: Bend,
        only: Option<PieceSet>,
        (takes, drips): (usize, Option<Duration>),
    ) -> Given {
        let identity = Identity::ephemeral().unwrap();
        let outline = outline_of(content).unwrap();
        let listener = TcpListener::bind((IpAddr::from([127, 0, 0, 1]), 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let held = FileHeld {
            name: name.into(),
            size: outline.size(),
            hash: outline.hash().to_string(),
            folder: name.ends_with('/').then_some(FolderHeld { files: 1, bytes: 1 }),
        };
        let acceptor = TlsAcceptor::from(tls::server_config(&identity).unwrap());
        let incoming =
            tokio_stream::wrappers::TcpListenerStream::new(listener).then(move |stream| {
                let acceptor = acceptor.clone();
                async move { acceptor.accept(stream?).await }
            });
        let given = Mutex::new(vec![0; outline.pieces() as usize]);
        let (whole, some) =
            if only.is_some() { (vec![], vec![held]) } else { (vec![held], vec![]) };
        let (content, shown) = (content.to_vec(), Mutex::default());
        let refusal = Mutex::default();
        let peer = Scripted { content, outline, bend, only, given, takes, drips, shown, refusal };
        let peer = Arc::new(peer);
        let service = PeerServer::new(Shared(Arc::clone(&peer)));
        tokio::spawn(Server::builder().serve_with_incoming(service, incoming));
        self.announce(identity.fingerprint(), port, whole, some).await;
        Given(peer)
    }
}

/// What a scripted peer has given.
pub struct Given(Arc<Scripted>);

impl Given {
    /// How often each piece was given to somebody who let it choose.
    pub fn times(&self) -> Vec<usize> {
        self.0.given.lock().unwrap().clone()
    }

    /// From now on it refuses everything, with these words.
    pub fn refuse(&self, words: &str) {
        *self.0.refusal.lock().unwrap() = Some(words.to_owned());
    }

    /// How many capabilities it was shown.
    pub fn capabilities(&self) -> usize {
        self.0.shown.lock().unwrap().len()
    }
}
