//! A node that fails at the very moment that a test wants: it greets, locates and opens senders, and then falls silent or goes.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use tertulia_client::{Instance, Level, LogId};
use tertulia_wire::native::{Greeting, SenderReady, StoredRun, split_from_client};
use tertulia_wire::{ClientFrame, NodeFrame};

/// What becomes of the first question or message that is about more than finding the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is taken, and nothing is ever said again.
    Silence,
    /// It is taken, and the node is gone.
    End,
    /// A message is told to be stored, and nothing more is said.
    StoredThenSilence,
    /// A message is told to be stored, and the node is gone.
    StoredThenEnd,
}

/// See the module.
pub struct Fake {
    pub address: String,
    ended: Arc<AtomicBool>,
}

impl Fake {
    pub fn start(fate: Fate) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        listener.set_nonblocking(true).unwrap();
        let ended = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ended);
        std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                if let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(false).unwrap();
                    let end = Arc::clone(&end);
                    std::thread::spawn(move || serve(stream, fate, &end));
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        Self { address, ended }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// Serves one connection; whatever cannot be read or written is its end.
fn serve(mut stream: TcpStream, fate: Fate, ended: &AtomicBool) {
    let mut inbound = BytesMut::new();
    while let Some(said) = hear(&mut stream, &mut inbound) {
        let answers = match said {
            Said::Frame(frame) => answers(frame),
            Said::Publish { counter } => stored(fate, counter),
        };
        let goes = matches!(fate, Fate::End | Fate::StoredThenEnd);
        match answers {
            Some(frame) => {
                let mut out = BytesMut::new();
                frame.encode(&mut out);
                if stream.write_all(&out).is_err() {
                    return;
                }
                if goes && matches!(frame, NodeFrame::Stored(_)) {
                    ended.store(true, Ordering::Relaxed);
                    return;
                }
            }
            None if goes => {
                ended.store(true, Ordering::Relaxed);
                return;
            }
            // The connection stays, and nothing comes.
            None => {
                while stream.read(&mut [0; 4096]).is_ok_and(|n| n > 0) {}
                return;
            }
        }
    }
}

enum Said {
    Frame(ClientFrame),
    Publish { counter: u64 },
}

fn hear(stream: &mut TcpStream, inbound: &mut BytesMut) -> Option<Said> {
    loop {
        if let Some(frame) = split_from_client(inbound).ok()? {
            return Some(Said::Frame(ClientFrame::decode(&frame).ok()?));
        }
        if let Some(len) = inbound.first_chunk::<4>().map(|len| u32::from_le_bytes(*len) as usize)
            && inbound.len() >= len.max(48)
        {
            let frame = inbound.split_to(len);
            let counter = u64::from_le_bytes(frame[32..40].try_into().ok()?);
            return Some(Said::Publish { counter });
        }
        let mut more = [0; 4096];
        let n = stream.read(&mut more).ok().filter(|n| *n > 0)?;
        inbound.extend_from_slice(&more[..n]);
    }
}

fn answers(frame: ClientFrame) -> Option<NodeFrame> {
    Some(match frame {
        ClientFrame::Hello(_) => NodeFrame::Greeting(Greeting {
            version: 1,
            features: 0,
            node: "fake".to_owned(),
            http: String::new(),
            message_bytes_max: 1 << 20,
            instance: Instance([5; 16]),
        }),
        ClientFrame::Locate { id, group } => {
            NodeFrame::Located { id, group, coordinator: String::new(), epoch: 1 }
        }
        ClientFrame::OpenSender(open) => NodeFrame::SenderReady(Box::new(SenderReady {
            id: open.id,
            group: open.group,
            name: open.name,
            log: LogId([7; 16]),
            epoch: 1,
            tail: 0,
            members: 1,
            last_counter: 0,
            window_bytes: 4 << 20,
            level: Level::Fsync,
        })),
        _ => return None,
    })
}

fn stored(fate: Fate, counter: u64) -> Option<NodeFrame> {
    let stored = matches!(fate, Fate::StoredThenSilence | Fate::StoredThenEnd);
    stored.then(|| NodeFrame::Stored(vec![StoredRun { counter, seq: 7, count: 1 }]))
}
