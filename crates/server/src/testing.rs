//! What tests within the crate and [`crate::counted`] need: a node's parts without its threads, and a socket on loopback.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use tertulia_group::{Group, Limits, Name};
use tertulia_journal::{Catalog, Journal, MemoryJournal};
use tertulia_wire::Instance;
#[cfg(test)]
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::config::{Config, Engine, Keep, NodeLimits};
use crate::hosted::{GroupKey, Hosted};
use crate::shared::Shared;
#[cfg(test)]
use crate::stream::Stream;

/// Nothing in these tests takes this long unless it is broken.
#[cfg(test)]
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A node's configuration with these limits; nothing is kept.
pub(crate) fn config(limits: NodeLimits) -> Config {
    Config {
        listen: IpAddr::V4(Ipv4Addr::LOCALHOST),
        advertise: None,
        data: std::path::PathBuf::new(),
        native_port: Some(0),
        line_port: Some(0),
        http_port: None,
        guests: true,
        accounts: crate::config::AccountRules::default(),
        tls: None,
        keep: Keep { age: Duration::from_secs(3600), bytes: 1 << 30 },
        engine: Engine::Memory,
        fsync: false,
        node_id: "test".to_owned(),
        limits,
        group_limits: Limits::default(),
    }
}

/// What all parts share. To be called within a runtime.
pub(crate) fn shared(limits: NodeLimits) -> Arc<Shared> {
    let journal = Arc::new(MemoryJournal::new(1 << 30));
    let catalog: Arc<dyn Catalog> = Arc::clone(&journal) as _;
    shared_over(journal, catalog, limits)
}

/// The same over a journal and a catalog of the test's own.
pub(crate) fn shared_over(
    journal: Arc<dyn Journal>,
    catalog: Arc<dyn Catalog>,
    limits: NodeLimits,
) -> Arc<Shared> {
    let (notices, _) = mpsc::channel(1);
    let store = (Instance([0; 16]), [0; 32]);
    Arc::new(Shared::new(config(limits), (journal, catalog), store, None, notices))
}

/// A group that nobody drives.
pub(crate) fn hosted(shared: &Arc<Shared>) -> Hosted {
    let group = Group::new(tertulia_group::LogId([1; 16]), Limits::default());
    let (stored, _) = mpsc::unbounded_channel();
    let name = Name::new("ops").expect("a name");
    Hosted::new(GroupKey(1), name, group, Default::default(), Arc::clone(shared), stored)
}

/// An entry of `len` bytes, of which only the header is one.
#[cfg(test)]
pub(crate) fn entry(seq: u64, len: u32) -> bytes::Bytes {
    let mut frame = vec![0; len as usize];
    frame[..4].copy_from_slice(&len.to_le_bytes());
    frame[4] = tertulia_group::Kind::Message as u8;
    frame[8..16].copy_from_slice(&seq.to_le_bytes());
    frame.into()
}

/// Both ends of a connection that holds little: the node's, and a client's.
#[cfg(test)]
pub(crate) async fn narrow() -> (Stream, TcpStream) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    let (client, accepted) = tokio::join!(socket.connect(address), listener.accept());
    let (ours, _) = accepted.expect("accepts");
    socket2::SockRef::from(&ours).set_send_buffer_size(4096).expect("a small buffer");
    (Stream::Plain(ours), client.expect("connects"))
}
