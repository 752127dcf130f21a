//! Redis pub/sub, with nothing kept.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::{Conn, Frame, Peer, Side, line_end, number_of};
use crate::served::{Served, say_and_hear};
use crate::versions;

/// See the module.
pub struct Redis;

/// The head of a message, up to its body.
fn head(group: &str, body_len: usize) -> String {
    format!("*3\r\n$7\r\nmessage\r\n${}\r\n{group}\r\n${body_len}\r\n", group.len())
}

struct Reading {
    group: String,
}

impl Side for Reading {
    fn message_len(&self, body_len: usize) -> Option<usize> {
        Some(head(&self.group, body_len).len() + body_len + 2)
    }

    fn split(&mut self, bytes: &[u8]) -> Option<Frame> {
        // All that comes are messages of one group.
        let before = head(&self.group, 0).len() - 4;
        let size_line = bytes.get(before..)?;
        let end = line_end(size_line)?;
        let size: usize = std::str::from_utf8(&size_line[1..end - 2]).ok()?.parse().ok()?;
        let body = bytes.get(before + end..before + end + size + 2)?;
        Some(Frame { len: before + end + size + 2, number: number_of(body) })
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
        line_end(bytes).map(|len| Frame { len, number: None })
    }

    fn publish(&mut self, body: &[u8], out: &mut Vec<u8>) {
        let (group, size) = (&self.group, body.len());
        let head = format!("*3\r\n$7\r\nPUBLISH\r\n${}\r\n{group}\r\n${size}\r\n", group.len());
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(body);
        out.extend_from_slice(b"\r\n");
    }
}

impl Peer for Redis {
    fn name(&self) -> &'static str {
        "Redis pub/sub"
    }

    fn start(&self, within: &Path) -> Result<Served> {
        Served::on_a_port(within, |folder, port| {
            let mut command = Command::new("redis-server");
            command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
            command.args(["--maxclients", "50000"]);
            command.args(["--appendonly", "no", "--client-output-buffer-limit"]);
            command.arg("pubsub 0 0 0").current_dir(folder);
            command
        })
    }

    fn version(&self) -> Option<String> {
        Some(versions::of("Redis", "redis-server", "--version"))
    }

    fn member(&self, served: &Served, group: &str, _: usize) -> Result<Conn> {
        let mut stream = served.connect()?;
        let len = group.len();
        let answer = format!("*3\r\n$9\r\nsubscribe\r\n${len}\r\n{group}\r\n:1\r\n");
        say_and_hear(&mut stream, format!("SUBSCRIBE {group}\r\n").as_bytes(), answer.as_bytes())?;
        Ok(Conn { stream, side: Box::new(Reading { group: group.to_owned() }) })
    }

    fn publisher(&self, served: &Served, group: &str, _: usize) -> Result<Conn> {
        let side = Publishing { group: group.to_owned() };
        Ok(Conn { stream: served.connect()?, side: Box::new(side) })
    }
}
