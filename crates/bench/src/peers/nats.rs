//! NATS core: publish and subscribe, with nothing kept.

use std::io::Write as _;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::{Conn, Frame, Peer, Side, line_end, number_of};
use crate::served::{Served, line, say_and_hear};
use crate::versions;

/// See the module.
pub struct Nats {
    pub program: PathBuf,
}

/// `MSG subject sid [reply] size`, the body, and an end of line; other lines are no messages. The reply's place in the frame.
pub fn split_message(bytes: &[u8]) -> Option<(Frame, Option<std::ops::Range<usize>>)> {
    let head = line_end(bytes)?;
    let words = bytes[..head - 2].split(|byte| *byte == b' ');
    let words: Vec<&[u8]> = words.collect();
    if words.first() != Some(&b"MSG".as_slice()) {
        return Some((Frame { len: head, number: None }, None));
    }
    let size: usize = std::str::from_utf8(words.last()?).ok()?.parse().ok()?;
    let body = bytes.get(head..head + size + 2)?;
    let reply = (words.len() == 5).then(|| {
        let start = words[..3].iter().map(|word| word.len() + 1).sum::<usize>();
        start..start + words[3].len()
    });
    Some((Frame { len: head + size + 2, number: number_of(body) }, reply))
}

/// Connects, and hears that the server has understood it.
pub fn connect(served: &Served) -> Result<TcpStream> {
    let mut stream = served.connect()?;
    let info = line(&mut stream)?;
    ensure!(info.starts_with("INFO "), "it says {info}");
    let options = r#"{"verbose":false,"pedantic":false,"lang":"bench","version":"1","protocol":0}"#;
    stream.write_all(format!("CONNECT {options}\r\n").as_bytes())?;
    say_and_hear(&mut stream, b"PING\r\n", b"PONG\r\n")?;
    Ok(stream)
}

/// What it says its version is.
pub fn version(program: &Path) -> String {
    versions::of("nats-server", program, "--version")
}

/// Starts a server with these lines in its configuration.
pub fn start(program: &Path, within: &Path, more: impl FnOnce(&Path) -> String) -> Result<Served> {
    let mut written = Ok(());
    let served = Served::on_a_port(within, |folder, port| {
        let file = folder.join("nats.conf");
        let more = more(folder);
        let config =
            format!("listen: 127.0.0.1:{port}\nping_interval: \"1h\"\nmax_payload: 2MB\n{more}\n");
        written = std::fs::write(&file, config);
        let mut command = Command::new(program);
        command.arg("--config").arg(file);
        command
    });
    written.context("the configuration file")?;
    served
}

struct Reading {
    group_len: usize,
}

impl Side for Reading {
    fn message_len(&self, body_len: usize) -> Option<usize> {
        let size = body_len.to_string().len();
        Some("MSG ".len() + self.group_len + " 1 ".len() + size + 2 + body_len + 2)
    }

    fn split(&mut self, bytes: &[u8]) -> Option<Frame> {
        split_message(bytes).map(|(frame, _)| frame)
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
        split_message(bytes).map(|(frame, _)| frame)
    }

    fn publish(&mut self, body: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(format!("PUB {} {}\r\n", self.group, body.len()).as_bytes());
        out.extend_from_slice(body);
        out.extend_from_slice(b"\r\n");
    }
}

impl Peer for Nats {
    fn name(&self) -> &'static str {
        "NATS core"
    }

    fn start(&self, within: &Path) -> Result<Served> {
        start(&self.program, within, |_| String::new())
    }

    fn version(&self) -> Option<String> {
        Some(version(&self.program))
    }

    fn member(&self, served: &Served, group: &str, _: usize) -> Result<Conn> {
        let mut stream = connect(served)?;
        say_and_hear(&mut stream, format!("SUB {group} 1\r\nPING\r\n").as_bytes(), b"PONG\r\n")?;
        Ok(Conn { stream, side: Box::new(Reading { group_len: group.len() }) })
    }

    fn publisher(&self, served: &Served, group: &str, _: usize) -> Result<Conn> {
        let side = Publishing { group: group.to_owned() };
        Ok(Conn { stream: connect(served)?, side: Box::new(side) })
    }
}
