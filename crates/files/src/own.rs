//! A user's own peer, asked over gRPC: what the commands are made of.

use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper_util::rt::TokioIo;
use tertulia_wire::sharing::{FileLine, PeerLine, hex};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::http::Uri;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::content::ContentHash;
use crate::fetch::{Holder, endpoint};
use crate::identity::{Fingerprint, Identity};
use crate::limits::{CONNECT_WAIT, MESSAGE_BYTES_MAX, PIECE_BYTES};
use crate::names::FileName;
use crate::proto::peer_client::PeerClient;
use crate::proto::save_file_request::Part;
use crate::proto::save_folder_request::Part as FolderPart;
use crate::proto::{
    self, ListRequest, LoginRequest, LogoutRequest, PeersRequest, RegisterRequest, SaveFileHead,
    SaveFileRequest, SaveFolderHead, SaveFolderRequest, SearchRequest, SourcesRequest,
};
use crate::right::Right;
use crate::service::CODE_KEY;
use crate::tls;

/// Why the peer did not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// A word for programs, such as `NOT_LOGGED_IN`, `EXISTS`, `NO_PEER`.
    pub code: String,
    /// What to do; not yet fit to be shown.
    pub message: String,
}

impl Refused {
    fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into() }
    }
}

impl From<Status> for Refused {
    fn from(status: Status) -> Self {
        let word = status.metadata().get(CODE_KEY).and_then(|word| word.to_str().ok());
        let code = word.map_or_else(
            || match status.code() {
                Code::Unavailable => "PEER_UNREACHABLE".to_owned(),
                code => format!("{code:?}").to_uppercase(),
            },
            str::to_owned,
        );
        let message = match (&*code, status.message()) {
            ("PEER_UNREACHABLE", why) => {
                format!("the peer does not answer ({why}); is it one, and is it still running?")
            }
            (_, message) if word.is_none() && message.starts_with("h2 protocol error") => {
                format!(
                    "what answers there is no peer ({message}); a peer says its address when it starts"
                )
            }
            (_, message) => message.to_owned(),
        };
        Self { code, message }
    }
}

/// A connection to one's own peer.
#[derive(Clone, Debug)]
pub struct OwnPeer {
    client: PeerClient<Channel>,
    /// Both ends of the connection: its own, and the peer's.
    ends: (SocketAddr, SocketAddr),
}

/// Who has a content, and the right to fetch it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources {
    /// The peers that have it.
    pub holders: Vec<Holder>,
    /// For the certificate that was named.
    pub capability: String,
}

/// A file that was saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// As it is shared now.
    pub file: FileLine,
    /// It was there already.
    pub unchanged: bool,
}

/// How long a peer may be silent, unless that is said otherwise.
pub const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Parts of a file that wait to be sent.
const AHEAD: usize = 4;

impl OwnPeer {
    /// Connects to the peer at `address`: plain on this machine, over TLS as its owner (`identity`) elsewhere. While an answer is
    /// waited for, however long that takes, the peer is asked whether it is there: who is silent for `silence` is given up.
    ///
    /// # Errors
    /// `NO_PEER` where nobody is there, `INSECURE` where it is elsewhere and there is no identity.
    pub async fn connect(
        address: &str,
        identity: Option<&Identity>,
        silence: Duration,
    ) -> Result<Self, Refused> {
        let gone = |error: &dyn std::fmt::Display| {
            Refused::new(
                "NO_PEER",
                format!("no peer answers at {address} ({error}); start one: tertulia peer"),
            )
        };
        let stream = timeout(CONNECT_WAIT, TcpStream::connect(address)).await;
        let stream = stream.map_err(|error| gone(&error))?.map_err(|error| gone(&error))?;
        stream.set_nodelay(true).map_err(|error| gone(&error))?;
        let peer: SocketAddr = stream.peer_addr().map_err(|error| gone(&error))?;
        let ends = (stream.local_addr().map_err(|error| gone(&error))?, peer);
        let channel = if peer.ip().to_canonical().is_loopback() {
            over(stream, silence).await
        } else {
            let insecure = "a peer on another machine takes its owner only, by its certificate";
            let identity = identity.ok_or_else(|| Refused::new("INSECURE", insecure))?;
            let config = tls::client_config(identity, identity.fingerprint());
            let config = config.map_err(|error| gone(&error))?;
            let shaken = TlsConnector::from(config).connect(tls::server_name(), stream);
            let stream = timeout(CONNECT_WAIT, shaken).await.map_err(|error| gone(&error))?;
            over(stream.map_err(|error| gone(&error))?, silence).await
        };
        let client = PeerClient::new(channel.map_err(|error| gone(&error))?);
        Ok(Self { client: client.max_decoding_message_size(MESSAGE_BYTES_MAX * 16), ends })
    }

    /// Whether it is the one that listens at this address of this machine.
    pub fn is_at(&self, address: SocketAddr) -> bool {
        let [own, peer, other] =
            [self.ends.0, self.ends.1, address].map(|end| end.ip().to_canonical());
        // By whatever address it was reached, who is at both ends of a connection is on one machine.
        address.port() == self.ends.1.port() && (peer == other || peer == own)
    }

    /// Makes an account at the peer's node; whether it is the administrator.
    ///
    /// # Errors
    /// [`Refused`]
    pub async fn register(
        &mut self,
        name: &str,
        password: &str,
        code: &str,
    ) -> Result<(String, bool), Refused> {
        let request = RegisterRequest {
            name: name.to_owned(),
            password: password.to_owned(),
            setup_code: code.to_owned(),
        };
        let reply = self.client.register(request).await?.into_inner();
        Ok((reply.name, reply.administrator))
    }

    /// Logs the peer in; the account's name, and until when.
    ///
    /// # Errors
    /// [`Refused`]
    pub async fn log_in(
        &mut self,
        name: &str,
        password: &str,
    ) -> Result<(String, String), Refused> {
        let request = LoginRequest { name: name.to_owned(), password: password.to_owned() };
        let reply = self.client.login(request).await?.into_inner();
        Ok((reply.name, reply.expires))
    }

    /// Logs the peer out.
    ///
    /// # Errors
    /// [`Refused`]
    pub async fn log_out(&mut self) -> Result<(), Refused> {
        self.client.logout(LogoutRequest {}).await?;
        Ok(())
    }

    /// The peers of every account.
    ///
    /// # Errors
    /// [`Refused`]
    pub async fn peers(&mut self) -> Result<Vec<PeerLine>, Refused> {
        let reply = self.client.peers(PeersRequest {}).await?.into_inner();
        let peers = reply.peers.into_iter();
        let lines = peers.map(|peer| PeerLine {
            user: peer.user,
            address: peer.address,
            online: peer.online,
        });
        Ok(lines.collect())
    }

    /// Finds files; whether there are more.
    ///
    /// # Errors
    /// [`Refused`]
    pub async fn search(
        &mut self,
        words: &str,
        limit: u32,
    ) -> Result<(Vec<FileLine>, bool), Refused> {
        let reply = self
            .client
            .search(SearchRequest { words: words.to_owned(), limit })
            .await?
            .into_inner();
        Ok((reply.files.into_iter().map(line).collect(), reply.more))
    }

    /// The peer's own files.
    ///
    /// # Errors
    /// [`Refused`]
    pub async fn list(&mut self) -> Result<Vec<FileLine>, Refused> {
        let reply = self.client.list(ListRequest {}).await?.into_inner();
        Ok(reply.files.into_iter().map(line).collect())
    }

    /// Who has a content, and the right to fetch it with this certificate.
    ///
    /// # Errors
    /// [`Refused`]
    pub async fn sources(
        &mut self,
        hash: ContentHash,
        fingerprint: Fingerprint,
    ) -> Result<Sources, Refused> {
        self.sources_within(hash, fingerprint, Duration::ZERO).await
    }

    /// The same; where nobody has it, the peer has so long to tell the node of what it has (20 s count at most).
    ///
    /// # Errors
    /// [`Refused`]
    pub async fn sources_within(
        &mut self,
        hash: ContentHash,
        fingerprint: Fingerprint,
        wait: Duration,
    ) -> Result<Sources, Refused> {
        let wait_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
        let (hash, fingerprint) =
            (Bytes::copy_from_slice(&hash.0), Bytes::copy_from_slice(&fingerprint.0));
        let asked = SourcesRequest { hash, fingerprint, wait_ms, more: Vec::new() };
        let reply = self.client.sources(asked).await?.into_inner();
        Ok(Sources { holders: holders_of(reply.holders), capability: reply.capability })
    }

    /// Who has each of these contents, at most [`CAPABILITY_HASHES_MAX`](crate::limits::CAPABILITY_HASHES_MAX), nobody where
    /// nobody has it, and the right to fetch those that somebody has; in one question.
    ///
    /// # Errors
    /// [`Refused`]; also where nobody has any of them.
    pub async fn sources_of(
        &mut self,
        hashes: &[ContentHash],
        fingerprint: Fingerprint,
    ) -> Result<(Vec<Vec<Holder>>, String), Refused> {
        let mut all = hashes.iter().map(|hash| Bytes::copy_from_slice(&hash.0));
        let hash = all.next().unwrap_or_default();
        let (fingerprint, more) = (Bytes::copy_from_slice(&fingerprint.0), all.collect());
        let asked = SourcesRequest { hash, fingerprint, wait_ms: 0, more };
        let reply = self.client.sources(asked).await?.into_inner();
        let more = reply.more.into_iter().map(|more| holders_of(more.holders));
        let holders: Vec<_> = [holders_of(reply.holders)].into_iter().chain(more).collect();
        if holders.len() != hashes.len() {
            let text = "the peer does not say who has each of the contents";
            return Err(Refused::new("PROTOCOL", text));
        }
        Ok((holders, reply.capability))
    }

    /// The right to fetch these contents with this certificate, which begins with a capability that the peer has got: as long
    /// as that takes.
    pub fn right(
        &self,
        hashes: Vec<ContentHash>,
        fingerprint: Fingerprint,
        capability: &str,
    ) -> Arc<Right> {
        let (peer, hashes) = (self.clone(), Arc::<[ContentHash]>::from(hashes));
        Right::new(capability, move || {
            let (mut peer, hashes) = (peer.clone(), Arc::clone(&hashes));
            Box::pin(async move { Some(peer.sources_of(&hashes, fingerprint).await.ok()?.1) })
        })
    }

    /// Saves `size` bytes into the peer's folder; `sent` hears how many have gone.
    ///
    /// # Errors
    /// [`Refused`]: `EXISTS` where another file has the name and is not to be replaced.
    pub async fn save(
        &mut self,
        name: &FileName,
        size: u64,
        replace: bool,
        mut content: impl AsyncRead + Unpin + Send + 'static,
        sent: Arc<dyn Fn(u64) + Send + Sync>,
    ) -> Result<Saved, Refused> {
        let (sender, receiver) = mpsc::channel(AHEAD);
        let name = name.as_str().to_owned();
        let head = SaveFileHead { name, size, replace, in_place: false };
        let sending = tokio::spawn(async move {
            let part = |part| SaveFileRequest { part: Some(part) };
            let mut all = 0;
            let mut is_taken = sender.send(part(Part::Head(head))).await.is_ok();
            while is_taken {
                let mut buffer = bytes::BytesMut::with_capacity(PIECE_BYTES);
                let mut limited = (&mut content).take(PIECE_BYTES as u64);
                while limited.read_buf(&mut buffer).await? > 0 {}
                if buffer.is_empty() {
                    break;
                }
                all += buffer.len() as u64;
                is_taken = sender.send(part(Part::Content(buffer.freeze()))).await.is_ok();
                sent(all);
            }
            Ok::<_, std::io::Error>(())
        });
        let reply = self.client.save_file(ReceiverStream::new(receiver)).await;
        if let Ok(Err(error)) = sending.await {
            return Err(Refused::new("IO", error.to_string()));
        }
        saved(reply?.into_inner())
    }
}

impl OwnPeer {
    /// Has the peer look at a file that is in its folder already, under this name: it is shared as it is now.
    ///
    /// # Errors
    /// [`Refused`]
    pub async fn look_at_file(&mut self, name: &FileName) -> Result<Saved, Refused> {
        let name = name.as_str().to_owned();
        let head = SaveFileHead { name, size: 0, replace: false, in_place: true };
        let request = SaveFileRequest { part: Some(Part::Head(head)) };
        saved(self.client.save_file(tokio_stream::once(request)).await?.into_inner())
    }

    /// The same of a folder directly in its folder: of all that is in it.
    ///
    /// # Errors
    /// [`Refused`]: `BAD_FOLDER` where it cannot be shared as a whole.
    pub async fn look_at_folder(&mut self, name: &FileName) -> Result<Saved, Refused> {
        let name = name.as_str().to_owned();
        let head = SaveFolderHead { name, files: 0, size: 0, in_place: true };
        let request = SaveFolderRequest { part: Some(FolderPart::Head(head)) };
        saved(self.client.save_folder(tokio_stream::once(request)).await?.into_inner())
    }
}

fn saved(reply: proto::SaveFileReply) -> Result<Saved, Refused> {
    let file = reply.file.map(line);
    let file = file.ok_or_else(|| Refused::new("PROTOCOL", "the peer said nothing"))?;
    Ok(Saved { file, unchanged: reply.unchanged })
}

/// A file of a folder that is to be saved.
#[derive(Debug)]
pub struct FolderFile {
    /// Its path below the folder.
    pub path: FileName,
    /// Its bytes.
    pub size: u64,
}

impl OwnPeer {
    /// Saves a folder into the peer's folder; `open` opens each of `files` (it may block), and `sent` hears how many bytes have
    /// gone.
    ///
    /// # Errors
    /// [`Refused`]: `EXISTS` where something else has the name, `BAD_FOLDER` where the files are none.
    pub async fn save_folder(
        &mut self,
        name: &FileName,
        files: Vec<FolderFile>,
        open: impl Fn(&FileName) -> std::io::Result<std::fs::File> + Send + Sync + 'static,
        sent: Arc<dyn Fn(u64) + Send + Sync>,
    ) -> Result<Saved, Refused> {
        let (sender, receiver) = mpsc::channel(AHEAD);
        let (count, size) = (files.len() as u64, files.iter().map(|file| file.size).sum());
        let name = name.as_str().to_owned();
        let head = SaveFolderHead { name, files: count, size, in_place: false };
        let sending =
            tokio::task::spawn_blocking(move || send(head, &files, &open, &sender, &sent));
        let reply = self.client.save_folder(ReceiverStream::new(receiver)).await;
        if let Ok(Err((path, error))) = sending.await {
            return Err(Refused::new("IO", format!("cannot read {path}: {error}")));
        }
        saved(reply?.into_inner())
    }
}

/// Sends file by file, as long as they are taken.
fn send(
    head: SaveFolderHead,
    files: &[FolderFile],
    open: &impl Fn(&FileName) -> std::io::Result<std::fs::File>,
    sender: &mpsc::Sender<SaveFolderRequest>,
    sent: &Arc<dyn Fn(u64) + Send + Sync>,
) -> Result<(), (String, std::io::Error)> {
    let put = |part| sender.blocking_send(SaveFolderRequest { part: Some(part) }).is_ok();
    let mut all = 0;
    if !put(FolderPart::Head(head)) {
        return Ok(());
    }
    for FolderFile { path, size } in files {
        let failed = |error| (path.as_str().to_owned(), error);
        let (name, size) = (path.as_str().to_owned(), *size);
        let head = SaveFileHead { name, size, replace: false, in_place: false };
        if !put(FolderPart::File(head)) {
            return Ok(());
        }
        // What has grown meanwhile is sent as it was; what has shrunk is refused by the peer.
        let mut content = open(path).map_err(failed)?.take(size);
        loop {
            let mut buffer = Vec::new();
            let mut part = (&mut content).take(PIECE_BYTES as u64);
            part.read_to_end(&mut buffer).map_err(failed)?;
            if buffer.is_empty() {
                break;
            }
            all += buffer.len() as u64;
            if !put(FolderPart::Content(buffer.into())) {
                return Ok(());
            }
            sent(all);
        }
    }
    Ok(())
}

fn holders_of(holders: Vec<proto::Holder>) -> Vec<Holder> {
    let holders = holders.into_iter().filter_map(|holder| {
        let fingerprint = Fingerprint(<[u8; 32]>::try_from(&*holder.fingerprint).ok()?);
        let (user, address, name, size) = (holder.user, holder.address, holder.name, holder.size);
        let unfinished = holder.unfinished;
        Some(Holder { user, address, fingerprint, name, size, unfinished })
    });
    holders.collect()
}

fn line(file: proto::File) -> FileLine {
    let proto::File { name, size, hash, holders, online, files } = file;
    let files = Some(files).filter(|files| *files > 0);
    FileLine { name, size, hash: hex(&hash), holders, online, files }
}

/// A channel over one connection that is there already, which ends when the peer is silent for so long.
async fn over<T>(stream: T, silence: Duration) -> Result<Channel, tonic::transport::Error>
where
    T: AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let mut stream = Some(TokioIo::new(stream));
    let connector = tower::service_fn(move |_: Uri| {
        let gone = || std::io::Error::from(std::io::ErrorKind::NotConnected);
        std::future::ready(stream.take().ok_or_else(gone))
    });
    // A peer that is stopped, or hangs, takes everything and answers nothing: not even this.
    let half = silence / 2;
    let endpoint = endpoint().http2_keep_alive_interval(half).keep_alive_timeout(half);
    endpoint.connect_with_connector(connector).await
}
