//! NATS JetStream: a stream on the disk, a durable consumer a member that acknowledges (cumulatively: the cheapest way that it has).

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use super::nats::{connect, split_message, start, version};
use super::{Conn, Frame, KEPT_MIB, Peer, Side};
use crate::served::{Served, line};

/// See the module. `always`: a sync before each answer; otherwise every two minutes, which is what it does by itself.
pub struct JetStream {
    pub program: PathBuf,
    pub always: bool,
}

#[derive(Default)]
struct Reading {
    /// Where the acknowledgement of the last message goes.
    reply: Vec<u8>,
}

impl Side for Reading {
    fn message_len(&self, _: usize) -> Option<usize> {
        None
    }

    fn split(&mut self, bytes: &[u8]) -> Option<Frame> {
        let (frame, reply) = split_message(bytes)?;
        if let Some(reply) = reply {
            self.reply.clear();
            self.reply.extend_from_slice(&bytes[reply]);
        }
        Some(frame)
    }

    fn ack(&mut self, _: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(b"PUB ");
        out.extend_from_slice(&self.reply);
        out.extend_from_slice(b" 4\r\n+ACK\r\n");
    }
}

struct Publishing {
    group: String,
}

impl Side for Publishing {
    fn message_len(&self, _: usize) -> Option<usize> {
        None
    }

    fn split(&mut self, bytes: &[u8]) -> Option<Frame> {
        // The answer says that it is stored, and is told apart by its subject.
        let (frame, _) = split_message(bytes)?;
        Some(Frame { number: None, ..frame })
    }

    fn publish(&mut self, body: &[u8], out: &mut Vec<u8>) {
        let head = format!("PUB g.{} stored {}\r\n", self.group, body.len());
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(body);
        out.extend_from_slice(b"\r\n");
    }
}

/// Asks the server's interface for something; an answer that speaks of an error is one.
fn ask(served: &Served, subject: &str, what: &serde_json::Value) -> Result<()> {
    use std::io::Write as _;
    let mut stream = connect(served)?;
    let what = what.to_string();
    let asked = format!("SUB answer 1\r\nPUB {subject} answer {}\r\n{what}\r\n", what.len());
    stream.write_all(asked.as_bytes())?;
    line(&mut stream)?;
    let answer = line(&mut stream)?;
    ensure!(!answer.contains("\"error\""), "{subject}: {answer}");
    Ok(())
}

impl Peer for JetStream {
    fn name(&self) -> &'static str {
        if self.always { "JetStream always" } else { "JetStream lazy" }
    }

    fn start(&self, within: &Path) -> Result<Served> {
        start(&self.program, within, |folder| {
            let sync = if self.always { "always" } else { "2m" };
            let store = folder.join("js");
            // It counts what all groups may ever keep against what it may store; nothing of that is filled.
            let most = "max_file_store: 1TB";
            format!("jetstream {{\nstore_dir: {store:?}\nsync_interval: {sync:?}\n{most}\n}}")
        })
    }

    fn version(&self) -> Option<String> {
        Some(version(&self.program))
    }

    fn member(&self, served: &Served, group: &str, index: usize) -> Result<Conn> {
        let stream = connect(served)?;
        let (name, deliver) = (format!("{group}-{index}"), format!("d.{group}.{index}"));
        let mut stream = stream;
        crate::served::say_and_hear(
            &mut stream,
            format!("SUB {deliver} 1\r\nPING\r\n").as_bytes(),
            b"PONG\r\n",
        )?;
        let config = serde_json::json!({
            "stream_name": group,
            "config": {
                "durable_name": name,
                "deliver_subject": deliver,
                "filter_subject": format!("g.{group}"),
                "ack_policy": "all",
                "deliver_policy": "new",
                "max_ack_pending": -1,
                // An hour: where there are many members it is long until the first one reads.
                "ack_wait": 3_600_000_000_000_u64,
            },
        });
        ask(served, &format!("$JS.API.CONSUMER.DURABLE.CREATE.{group}.{name}"), &config)?;
        Ok(Conn { stream, side: Box::new(Reading::default()) })
    }

    fn publisher(&self, served: &Served, group: &str, _: usize) -> Result<Conn> {
        use std::io::Write as _;
        let mut stream = connect(served)?;
        stream.write_all(b"SUB stored 1\r\n")?;
        Ok(Conn { stream, side: Box::new(Publishing { group: group.to_owned() }) })
    }

    fn prepare(&self, served: &Served, groups: &[String]) -> Result<()> {
        for group in groups {
            let stream = serde_json::json!({
                "name": group,
                "subjects": [format!("g.{group}")],
                "storage": "file",
                "retention": "limits",
                "max_bytes": KEPT_MIB << 20,
                "discard": "old",
                // By itself it takes no more than 1,000.
                "max_consumers": 100_000,
            });
            ask(served, &format!("$JS.API.STREAM.CREATE.{group}"), &stream)?;
        }
        Ok(())
    }
}
