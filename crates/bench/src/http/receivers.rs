//! Those who receive: cheap enough that the server is what is measured. Each counts messages and ends with the last.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use bytes::{Buf as _, BytesMut};
use futures_util::{SinkExt as _, StreamExt as _};
use tertulia_group::SenderId;
use tertulia_wire::ClientFrame;
use tertulia_wire::native::{Ack, Hello, Join, Start};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

const MESSAGE: u8 = 0xA0;
const WELCOME: u8 = 0x90;

/// Told once somebody is ready.
pub type Ready = mpsc::Sender<()>;

/// A member at the native door; confirms what each read has brought.
pub async fn native(
    at: SocketAddr,
    group: String,
    nth: usize,
    most: u64,
    ready: Ready,
) -> Result<()> {
    let mut stream = TcpStream::connect(at).await?;
    let mut out = BytesMut::new();
    ClientFrame::Hello(Hello { version: 1, features: 0, agent: "bench".into() }).encode(&mut out);
    let sender = SenderId((nth as u128 + 1).to_be_bytes());
    let join = Join {
        id: 1,
        durable: false,
        follow: false,
        group,
        name: format!("member{nth}"),
        sender,
        start: Start::Now,
        secret: None,
        position: None,
    };
    ClientFrame::Join(Box::new(join)).encode(&mut out);
    stream.write_all(&out).await?;
    let (mut inbound, mut seen) = (BytesMut::with_capacity(256 << 10), 0);
    while seen < most {
        ensure!(stream.read_buf(&mut inbound).await? > 0, "a member was closed");
        let mut cursor = 0;
        while let Some(len) =
            inbound.first_chunk::<4>().map(|len| u32::from_le_bytes(*len) as usize)
        {
            if inbound.len() < len {
                break;
            }
            let kind = inbound[4];
            if kind >= MESSAGE {
                cursor = (&inbound[8..16]).get_u64_le();
                seen += u64::from(kind == MESSAGE);
            } else if kind == WELCOME {
                ready.send(()).await?;
            }
            inbound.advance(len);
        }
        if cursor > 0 {
            out.clear();
            ClientFrame::Ack(Ack { cursor, open: vec![], failed: vec![] }).encode(&mut out);
            stream.write_all(&out).await?;
        }
    }
    Ok(())
}

/// A member on a WebSocket; confirms what each frame has brought.
pub async fn web(at: SocketAddr, group: String, nth: usize, most: u64, ready: Ready) -> Result<()> {
    let (mut socket, _) = tokio_tungstenite::connect_async(format!("ws://{at}/api/ws")).await?;
    let join =
        serde_json::json!({ "type": "join", "group": group, "name": format!("member{nth}") });
    socket.send(Message::text(join.to_string())).await?;
    let mut seen = 0;
    while seen < most {
        let Message::Text(text) = socket.next().await.context("a member was closed")?? else {
            continue;
        };
        if text.starts_with("{\"type\":\"welcome\"") {
            ready.send(()).await?;
        }
        seen += text.matches("{\"type\":\"message\"").count() as u64;
        let last = text.rsplit_once("\"seq\":").map(|(_, rest)| rest);
        let seq =
            last.and_then(|rest| rest.split(',').next()).filter(|_| !text.contains("welcome"));
        if let Some(seq) = seq {
            socket.send(Message::text(format!("{{\"type\":\"confirm\",\"seq\":{seq}}}"))).await?;
        }
    }
    Ok(())
}

/// An event stream.
pub async fn events(
    at: SocketAddr,
    group: String,
    _: usize,
    most: u64,
    ready: Ready,
) -> Result<()> {
    const EVENT: &[u8] = b"event: message\n";
    let mut stream = TcpStream::connect(at).await?;
    let head = format!("GET /api/groups/{group}/events HTTP/1.1\r\nHost: {at}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let (mut bytes, mut seen, mut told) = (Vec::with_capacity(256 << 10), 0, false);
    while seen < most {
        ensure!(stream.read_buf(&mut bytes).await? > 0, "a stream was closed");
        if !told && bytes.windows(12).any(|part| part == b"event: hello") {
            told = true;
            ready.send(()).await?;
        }
        let text = String::from_utf8_lossy(&bytes);
        seen += text.matches("event: message\n").count() as u64;
        drop(text);
        // What may be the beginning of one stays; a whole one cannot.
        let rest = bytes.split_off(bytes.len().saturating_sub(EVENT.len() - 1));
        bytes.clear();
        bytes.extend_from_slice(&rest);
    }
    Ok(())
}
