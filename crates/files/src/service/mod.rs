//! A running peer: its gRPC service, the folder that it follows, and the node that it announces itself to.

mod announce;
mod between;
mod body;
mod guard;
mod listen;
mod own;
mod own_folder;
mod permits;
mod sparing;
mod state;
#[cfg(test)]
mod tests;
mod told;
mod told_folder;
mod turns;
mod whose;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tertulia_client::Target;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status, Streaming};

pub use self::state::{KeptToken, Standing, Tokens};
pub use self::told::{Fetcher, Told, ToldFailed, ToldFetched};
pub use self::turns::Turn;

use self::body::WithPieces;
use self::guard::{Guard, SharedVerifier};
use self::state::State;
use crate::capability::Granted;
use crate::identity::Identity;
use crate::library::{Library, Looked};
use crate::limits::{MESSAGE_BYTES_MAX, PIECE_BYTES, STREAMS_MAX};
use crate::node::{Node, NodeError};
use crate::proto::peer_server::{Peer, PeerServer};
use crate::proto::{
    FilesReply, HaveReply, HaveRequest, ListRequest, LoginReply, LoginRequest, LogoutReply,
    LogoutRequest, PeersReply, PeersRequest, PiecesReply, PiecesRequest, RegisterReply,
    RegisterRequest, SaveFileReply, SaveFileRequest, SaveFolderRequest, SearchRequest,
    SourcesReply, SourcesRequest,
};
use crate::tls;

/// The port, unless told otherwise.
pub const PEER_PORT: u16 = 50051;
/// In the metadata of a refusal: what it is called at the node's doors.
pub const CODE_KEY: &str = "tertulia-code";
/// How much of a stream, and of all streams of a connection, may be on its way.
pub(crate) const STREAM_WINDOW: u32 = 4 << 20;
pub(crate) const CONNECTION_WINDOW: u32 = 8 << 20;
/// The same of what a peer is sent by who asks it: requests, and files that its owner saves. Less, since any connection may have so
/// much lie here.
const RECEIVE_STREAM_WINDOW: u32 = 1 << 20;
const RECEIVE_CONNECTION_WINDOW: u32 = 2 << 20;
/// A connection that is silent is asked after so long whether anybody is there.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// What saying goodbye to the node may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// What a peer is told when it starts.
pub struct PeerOptions {
    /// The folder that is shared; made where it is not there.
    pub folder: PathBuf,
    /// Where hashes are kept.
    pub cache: PathBuf,
    /// Where it is kept what of the folder is shared, where that is only what the peer itself puts there; `None`: all of it is.
    pub given: Option<PathBuf>,
    /// Its certificate.
    pub identity: Arc<Identity>,
    /// The address to listen on.
    pub listen: IpAddr,
    /// The port; taken, the next one that is free. 0: any.
    pub port: u16,
    /// The host that others reach it by, where it is not the one that the node sees.
    pub advertise: Option<String>,
    /// The node.
    pub node: Target,
    /// Who is logged in.
    pub tokens: Box<dyn Tokens>,
}

/// A running peer; it ends when this is dropped.
pub struct RunningPeer {
    address: SocketAddr,
    state: Arc<State>,
    standing: watch::Receiver<Standing>,
    tasks: JoinSet<()>,
}

impl std::fmt::Debug for RunningPeer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunningPeer").field("address", &self.address).finish_non_exhaustive()
    }
}

impl RunningPeer {
    /// Starts a peer; it serves when this returns. `told` hears of each look through the folder.
    ///
    /// # Errors
    /// Where the folder cannot be opened or no port is free.
    pub async fn start(
        options: PeerOptions,
        told: impl Fn(&io::Result<Looked>) + Send + 'static,
    ) -> io::Result<Self> {
        let PeerOptions { folder, cache, given, identity, listen, port, advertise, node, tokens } =
            options;
        let opening = tokio::task::spawn_blocking(move || match given {
            Some(given) => Library::open_given(&folder, &cache, &given),
            None => Library::open(&folder, &cache),
        });
        let library = Arc::new(opening.await.map_err(io::Error::other)??);
        let listener = tokio::net::TcpListener::from_std(listen::listen(listen, port)?)?;
        let address = listener.local_addr()?;
        let tls = tls::server_config(&identity).map_err(io::Error::other)?;
        let (verifier, own) = (SharedVerifier::default(), identity.fingerprint());
        let state = Arc::new(State {
            library: Arc::clone(&library),
            node: Node::new(&node),
            tokens,
            identity,
            advertise,
            port: address.port(),
            verifier: Arc::clone(&verifier),
            sparing: Arc::default(),
            unfinished: Arc::default(),
            permits: permits::Permits::default(),
            buffers: Arc::default(),
            sent_bytes: Arc::default(),
            logged_in: tokio::sync::Notify::new(),
            told: watch::Sender::new(0),
            hurry: tokio::sync::Notify::new(),
            standing: std::sync::RwLock::default(),
        });
        let (taken, incoming) = mpsc::channel(16);
        let service = PeerServer::new(PeerService { state: Arc::clone(&state) })
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let service = WithPieces { inner: service, state: Arc::clone(&state) };
        let server = Server::builder()
            .max_concurrent_streams(STREAMS_MAX)
            .max_frame_size(PIECE_BYTES as u32)
            .initial_stream_window_size(RECEIVE_STREAM_WINDOW)
            .initial_connection_window_size(RECEIVE_CONNECTION_WINDOW)
            .http2_keepalive_interval(Some(KEEPALIVE))
            .layer(Guard { own, verifier });
        let mut tasks = JoinSet::new();
        tasks.spawn(listen::accept(listener, tls, taken));
        tasks.spawn(async move {
            if let Err(error) =
                server.serve_with_incoming(service, ReceiverStream::new(incoming)).await
            {
                tracing::error!("the peer's service has ended: {error}");
            }
        });
        tasks.spawn(library.follow(told));
        let watching = Arc::clone(&state);
        tasks.spawn(async move { watching.permits.watch().await });
        let (tell, standing) = watch::channel(Standing::default());
        let announcing = Arc::clone(&state);
        tasks.spawn(async move { announce::announce(&announcing, tell).await });
        Ok(Self { address, state, standing, tasks })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// How the node sees it; tells of every change.
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    /// For fetching into its folder; what was fetched is shared from then on.
    pub fn fetcher(&self) -> Fetcher {
        Fetcher::new(Arc::clone(&self.state))
    }

    /// A clean end: it is in no list any more.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
        let sent_bytes = self.state.sent_bytes.load(std::sync::atomic::Ordering::Relaxed);
        tracing::info!(sent_bytes, "the peer ends; what it has sent to others");
        if let (true, Ok(Some(token))) = (self.state.is_online(), self.state.token().await) {
            let goodbye = self.state.node.gone(&token, self.state.identity.fingerprint());
            if !matches!(tokio::time::timeout(GOODBYE, goodbye).await, Ok(Ok(()))) {
                tracing::debug!("the node was not told; it will notice");
            }
        }
    }
}

/// A refusal, with the word that it has at the node's doors.
fn refused(code: Code, word: &str, message: &str) -> Status {
    // A message of gRPC is one line of text for people.
    let mut status = Status::new(code, tertulia_wire::safe::make_safe(message, 1_000));
    if let Ok(word) = MetadataValue::try_from(word) {
        status.metadata_mut().insert(CODE_KEY, word);
    }
    status
}

/// The one mapping of the node's refusals to those of gRPC.
fn not_done(error: &NodeError) -> Status {
    let code = match &*error.code {
        "NOT_LOGGED_IN" => Code::Unauthenticated,
        "NAME_TAKEN" | "GROUP_EXISTS" => Code::AlreadyExists,
        "DENIED" | "NAME_RESERVED" | "INSECURE" => Code::PermissionDenied,
        "LIMIT" => Code::ResourceExhausted,
        "NO_SUCH_MESSAGE" => Code::NotFound,
        "BAD_NAME" | "BAD_PASSWORD" | "BAD_REQUEST" => Code::InvalidArgument,
        "NO_HTTP_DOOR" => Code::FailedPrecondition,
        _ if error.is_passing() => Code::Unavailable,
        _ => Code::Unknown,
    };
    refused(code, &error.code, &error.message)
}

/// The service: decodes, asks, encodes.
struct PeerService {
    state: Arc<State>,
}

#[tonic::async_trait]
impl Peer for PeerService {
    type PiecesStream = tokio_stream::Empty<Result<PiecesReply, Status>>;

    async fn register(
        &self,
        request: Request<RegisterRequest>,
    ) -> Result<Response<RegisterReply>, Status> {
        own::register(&self.state, request.into_inner()).await.map(Response::new)
    }

    async fn login(&self, request: Request<LoginRequest>) -> Result<Response<LoginReply>, Status> {
        own::login(&self.state, request.into_inner()).await.map(Response::new)
    }

    async fn logout(&self, _: Request<LogoutRequest>) -> Result<Response<LogoutReply>, Status> {
        own::logout(&self.state).await.map(|()| Response::new(LogoutReply {}))
    }

    async fn save_file(
        &self,
        request: Request<Streaming<SaveFileRequest>>,
    ) -> Result<Response<SaveFileReply>, Status> {
        own::save(&self.state, request.into_inner()).await.map(Response::new)
    }

    async fn save_folder(
        &self,
        request: Request<Streaming<SaveFolderRequest>>,
    ) -> Result<Response<SaveFileReply>, Status> {
        own_folder::save(&self.state, request.into_inner()).await.map(Response::new)
    }

    async fn peers(&self, _: Request<PeersRequest>) -> Result<Response<PeersReply>, Status> {
        own::peers(&self.state).await.map(Response::new)
    }

    async fn search(
        &self,
        request: Request<SearchRequest>,
    ) -> Result<Response<FilesReply>, Status> {
        own::search(&self.state, request.into_inner()).await.map(Response::new)
    }

    async fn list(&self, _: Request<ListRequest>) -> Result<Response<FilesReply>, Status> {
        Ok(Response::new(own::list(&self.state)))
    }

    async fn sources(
        &self,
        request: Request<SourcesRequest>,
    ) -> Result<Response<SourcesReply>, Status> {
        own::sources(&self.state, request.into_inner()).await.map(Response::new)
    }

    async fn pieces(
        &self,
        _: Request<PiecesRequest>,
    ) -> Result<Response<Self::PiecesStream>, Status> {
        unreachable!("`WithPieces` answers it before it comes here")
    }

    async fn have(&self, request: Request<HaveRequest>) -> Result<Response<HaveReply>, Status> {
        let granted = request.extensions().get::<Granted>().cloned();
        let reply = between::have(&self.state, granted.as_ref(), &request.into_inner()).await?;
        Ok(Response::new(reply))
    }
}
