//! For counting instructions, not for a node: a group's log, and outboxes that write it to sockets of this process.

use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, TcpStream as Client};

use bytes::BytesMut;
use tertulia_group::entry::write;
use tertulia_group::{ConnId, Door, Header, Kind};
use tokio::net::{TcpListener, TcpStream};

use crate::config::NodeLimits;
use crate::conn::Conn;
use crate::hosted::Hosted;
use crate::outbox::{Outbox, Wrote};
use crate::stream::Stream;
use crate::testing;

struct Writer {
    conn: Conn,
    outbox: Outbox,
    ours: Stream,
    client: Client,
}

/// See the module. Panics where its sockets do not do what they are there for.
pub struct Writers {
    hosted: Hosted,
    writers: Vec<Writer>,
    last: u64,
    read: Vec<u8>,
}

impl Writers {
    /// So many members' connections that are up to date with an empty log. To be called within a runtime.
    pub async fn new(members: usize) -> Self {
        // Little, so that the log's oldest part is given up as on a node that has run for long.
        let limits = NodeLimits { window_bytes: 256 << 10, ..NodeLimits::default() };
        let hosted = testing::hosted(&testing::shared(limits));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let mut writers = Vec::new();
        for member in 1..=members as u64 {
            let (ours, client) = tokio::join!(listener.accept(), TcpStream::connect(address));
            let (ours, client) = (ours.expect("accepts").0, client.expect("connects"));
            let client = client.into_std().expect("a socket");
            client.set_nonblocking(false).expect("a socket that waits");
            ours.writable().await.expect("an open socket");
            let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
            let conn = Conn::new(ConnId(member), Door::Native, address, None);
            let mut outbox = Outbox::new();
            outbox.start(1, Vec::new());
            writers.push(Writer { conn, outbox, ours: Stream::Plain(ours), client });
        }
        Self { hosted, writers, last: 0, read: Vec::new() }
    }

    /// A batch of messages is stored; how many bytes it has in the log.
    pub fn store(&mut self, messages: u64, body: &[u8]) -> usize {
        let mut out = BytesMut::new();
        let first = self.last + 1;
        for seq in first..first + messages {
            let (len, flags, name_len, time_us) = (0, 0, 0, 0);
            let (kind, sender, counter, epoch) = (Kind::Message, 1, seq, 1);
            let header =
                Header { len, kind, flags, name_len, seq, time_us, sender, counter, epoch };
            write(&mut out, header, "sender", body);
        }
        self.last += messages;
        let bytes = out.len();
        self.hosted.window.borrow_mut().push(out.freeze(), first, self.last);
        bytes
    }

    /// Everybody writes what there is.
    pub fn write(&mut self) {
        for Writer { conn, outbox, ours, .. } in &mut self.writers {
            let wrote = outbox.write(&self.hosted, conn, ours).expect("an open socket");
            assert_eq!(wrote, Wrote::All, "a socket with room takes it all");
        }
    }

    /// The clients read so many bytes each.
    pub fn read(&mut self, bytes: usize) {
        self.read.resize(bytes, 0);
        for writer in &mut self.writers {
            writer.client.read_exact(&mut self.read).expect("an open socket");
        }
    }
}
