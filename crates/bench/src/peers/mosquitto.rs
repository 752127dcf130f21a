//! Mosquitto with QoS 1 (MQTT 3.1.1): members acknowledge each message to the broker; the publisher learns that the broker has it.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::{Conn, Frame, Peer, Side, number_of};
use crate::served::{Served, say_and_hear};
use crate::versions;

/// See the module.
pub struct Mosquitto;

const PROGRAM: &str = "/usr/sbin/mosquitto";
/// Packet identifiers go from 1 to this, and round again.
const ID_MAX: u64 = 65_535;

fn id_of(count: u64) -> [u8; 2] {
    u16::try_from((count - 1) % ID_MAX + 1).unwrap_or(1).to_be_bytes()
}

/// A packet: its first byte, the length of the rest in groups of seven bits, the rest.
fn packet(first: u8, rest: &[&[u8]], out: &mut Vec<u8>) {
    out.push(first);
    let mut left = rest.iter().map(|part| part.len()).sum::<usize>();
    loop {
        let more = left >= 128;
        out.push((left % 128) as u8 | u8::from(more) << 7);
        left /= 128;
        if !more {
            break;
        }
    }
    rest.iter().for_each(|part| out.extend_from_slice(part));
}

fn text(text: &str) -> Vec<u8> {
    let mut out = u16::try_from(text.len()).unwrap_or(0).to_be_bytes().to_vec();
    out.extend_from_slice(text.as_bytes());
    out
}

/// The rest of the packet at the beginning of `bytes`, and where it begins.
fn rest_of(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let (mut len, mut at) = (0, 1);
    loop {
        let byte = usize::from(*bytes.get(at)?);
        len += (byte & 127) << (7 * (at - 1));
        at += 1;
        if byte < 128 {
            return Some((bytes.get(at..at + len)?, at));
        }
    }
}

struct Reading {
    group: String,
    acked: u64,
}

impl Side for Reading {
    fn message_len(&self, body_len: usize) -> Option<usize> {
        let mut out = Vec::new();
        packet(0x32, &[&text(&self.group), &[0, 1], &vec![0; body_len]], &mut out);
        Some(out.len())
    }

    fn split(&mut self, bytes: &[u8]) -> Option<Frame> {
        let (rest, at) = rest_of(bytes)?;
        let body = rest.get(2 + self.group.len() + 2..);
        let number = body.filter(|_| bytes[0] >> 4 == 3).and_then(number_of);
        Some(Frame { len: at + rest.len(), number })
    }

    fn ack(&mut self, taken: u64, out: &mut Vec<u8>) {
        while self.acked < taken {
            self.acked += 1;
            packet(0x40, &[&id_of(self.acked)], out);
        }
    }
}

struct Publishing {
    group: String,
    count: u64,
}

impl Side for Publishing {
    fn message_len(&self, _: usize) -> Option<usize> {
        None
    }

    fn split(&mut self, bytes: &[u8]) -> Option<Frame> {
        rest_of(bytes).map(|(rest, at)| Frame { len: at + rest.len(), number: None })
    }

    fn publish(&mut self, body: &[u8], out: &mut Vec<u8>) {
        self.count += 1;
        packet(0x32, &[&text(&self.group), &id_of(self.count), body], out);
    }
}

fn connect(served: &Served, name: &str) -> Result<std::net::TcpStream> {
    let mut stream = served.connect()?;
    let mut out = Vec::new();
    // Level 4, a clean session, no keep-alive.
    packet(0x10, &[&text("MQTT"), &[4, 2, 0, 0], &text(name)], &mut out);
    say_and_hear(&mut stream, &out, &[0x20, 2, 0, 0])?;
    Ok(stream)
}

impl Peer for Mosquitto {
    fn name(&self) -> &'static str {
        "Mosquitto QoS 1"
    }

    fn start(&self, within: &Path) -> Result<Served> {
        let mut written = Ok(());
        let served = Served::on_a_port(within, |folder, port| {
            let file = folder.join("mosquitto.conf");
            let config = format!(
                "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n\
                 max_inflight_messages 0\nmax_queued_messages 0\nset_tcp_nodelay true\nuser root\n"
            );
            written = std::fs::write(&file, config);
            let mut command = Command::new(PROGRAM);
            command.arg("-c").arg(file);
            command
        });
        written.context("the configuration file")?;
        served
    }

    fn version(&self) -> Option<String> {
        Some(versions::of("Mosquitto", PROGRAM, "-h"))
    }

    fn member(&self, served: &Served, group: &str, index: usize) -> Result<Conn> {
        let mut stream = connect(served, &format!("member-{group}-{index}"))?;
        let mut out = Vec::new();
        packet(0x82, &[&[0, 1], &text(group), &[1]], &mut out);
        say_and_hear(&mut stream, &out, &[0x90, 3, 0, 1, 1])?;
        let side = Reading { group: group.to_owned(), acked: 0 };
        Ok(Conn { stream, side: Box::new(side) })
    }

    fn publisher(&self, served: &Served, group: &str, index: usize) -> Result<Conn> {
        let stream = connect(served, &format!("publisher-{group}-{index}"))?;
        let side = Publishing { group: group.to_owned(), count: 0 };
        Ok(Conn { stream, side: Box::new(side) })
    }
}
