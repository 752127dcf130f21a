//! What a new connection is, told by its first byte; where it is TLS, the handshake. All of it away from the shards.

use std::io;
use std::sync::Arc;

use rustls::{IoState, ServerConfig, ServerConnection};
use tertulia_group::Door;
use tertulia_wire::native::is_tls;
use tokio::net::TcpStream;
use tokio::time::timeout_at;

use super::Tls;
use crate::directory::Directory;
use crate::doors::{Arrival, farewell};
use crate::stream::{Socket, Stream};

/// What a handshake may hold: what counts against the budget is half of it, see [`crate::budget`].
const HANDSHAKE_BYTES: usize = 32 << 10;

/// The arrival as its door reads it: TLS is taken off, where it is TLS. `None`: the connection has ended.
pub(crate) async fn settle(
    arrival: Arrival,
    door: Door,
    directory: &Arc<Directory>,
) -> Option<Arrival> {
    let Some(tls) = &directory.shared.tls else { return Some(arrival) };
    let (Stream::Plain(socket), Some((config, waiting_max))) = (&arrival.stream, tls.of_door(door))
    else {
        return Some(arrival);
    };
    let until = arrival.since + directory.shared.config.limits.hello;
    let mut first = [0];
    match timeout_at(until, socket.peek(&mut first)).await {
        Ok(Ok(1)) if is_tls(first[0]) => {}
        Ok(Err(_)) => return None,
        // Whoever says nothing is told so by the native door; the HTTP door has nothing to say before it is asked.
        Err(_) if door == Door::Web => return None,
        _ => return Some(arrival),
    }
    let Arrival { stream: Stream::Plain(socket), counted, .. } = arrival else { return None };
    let mut held = tls.under_way.holder();
    held.set(HANDSHAKE_BYTES, true);
    let done = tokio::select! {
        done = timeout_at(until, shake_hands(&socket, config, tls)) => done,
        () = held.called() => {
            tracing::debug!("a TLS handshake gave way to newer ones");
            counted.ends_badly();
            return None;
        }
    };
    match done {
        Ok(Ok((session, state))) => {
            let stream = Stream::tls(socket, session, &state, waiting_max);
            Some(Arrival { stream, counted, secure: true, ..arrival })
        }
        Ok(Err(error)) => {
            tracing::debug!(%error, "a TLS handshake failed");
            counted.ends_badly();
            // The alert that says why is to arrive.
            farewell(Stream::Plain(socket)).await;
            None
        }
        Err(_) => {
            tracing::debug!("a TLS handshake took too long");
            counted.ends_badly();
            None
        }
    }
}

/// The handshake, however long it takes.
pub(super) async fn shake_hands(
    socket: &TcpStream,
    config: Arc<ServerConfig>,
    tls: &Tls,
) -> io::Result<(ServerConnection, IoState)> {
    let mut session = ServerConnection::new(config).map_err(io::Error::other)?;
    loop {
        socket.readable().await?;
        match session.read_tls(&mut Socket(socket)) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        }
        let computed = {
            let _turn = tls.computing.acquire().await.map_err(io::Error::other)?;
            session.process_new_packets()
        };
        // Also where it failed: what waits then says why.
        flush(socket, &mut session).await?;
        let state = computed.map_err(io::Error::other)?;
        if !session.is_handshaking() {
            return Ok((session, state));
        }
    }
}

async fn flush(socket: &TcpStream, session: &mut ServerConnection) -> io::Result<()> {
    while session.wants_write() {
        socket.writable().await?;
        match session.write_tls(&mut Socket(socket)) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
