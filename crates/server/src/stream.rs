//! A connection's stream, plain or TLS: what sessions read from and write to without waiting, and what the doors use before.
//!
//! Plain goes straight to the socket. TLS has rustls between: what it has encrypted and the socket does not take waits in a
//! buffer of bounded size, and nothing more is taken in until that is gone.

use std::future::poll_fn;
use std::io::{self, BufRead, IoSlice, Read, Write};
use std::net::TcpStream as StdStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use rustls::{IoState, ServerConnection};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};
use tokio::net::TcpStream;

/// Read from the socket at once.
const READ_BYTES: usize = 32 << 10;
/// What rustls keeps for a connection that says nothing, about: two sets of keys and room for a read.
const TLS_IDLE_BYTES: usize = 8 << 10;

/// See the module.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream>),
}

/// A connection after its handshake.
#[derive(Debug)]
pub(crate) struct TlsStream {
    socket: TcpStream,
    tls: Tls,
}

#[derive(Debug)]
struct Tls {
    session: ServerConnection,
    /// The session has plaintext that nobody has taken yet: the socket may stay silent, and there is something to read.
    unread: bool,
    /// The peer has said its last.
    ended: bool,
    /// So has this side.
    closed: bool,
    /// Bytes that were taken in and may still wait for the socket.
    behind: usize,
}

/// A stream that has let go of its runtime's reactor, on its way to another one.
pub(crate) struct Detached {
    socket: StdStream,
    tls: Option<Box<Tls>>,
}

impl Stream {
    /// What comes of a handshake: `state` is what the last bytes that were read have left. At most `waiting_max` bytes (and the
    /// overhead of a few records) wait in encrypted form for the socket.
    pub fn tls(
        socket: TcpStream,
        mut session: ServerConnection,
        state: &IoState,
        waiting_max: usize,
    ) -> Self {
        session.set_buffer_limit(Some(waiting_max));
        let unread = state.plaintext_bytes_to_read() > 0;
        let tls = Tls { session, unread, ended: state.peer_has_closed(), closed: false, behind: 0 };
        Self::Tls(Box::new(TlsStream { socket, tls }))
    }

    /// Lets go of the reactor.
    pub fn detach(self) -> io::Result<Detached> {
        Ok(match self {
            Self::Plain(socket) => Detached { socket: socket.into_std()?, tls: None },
            Self::Tls(stream) => {
                let TlsStream { socket, tls } = *stream;
                Detached { socket: socket.into_std()?, tls: Some(Box::new(tls)) }
            }
        })
    }

    /// The TCP socket, for what concerns the host and not the program.
    pub fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &stream.socket,
        }
    }

    /// Bytes of memory that wait here, beside the sessions' own buffers.
    pub fn held(&self) -> usize {
        match self {
            Self::Plain(_) => 0,
            Self::Tls(stream) => stream.tls.behind + TLS_IDLE_BYTES,
        }
    }

    /// Waits until one of these is possible. What waits in encrypted form is written meanwhile.
    pub async fn ready(&mut self, interest: Interest) -> io::Result<Ready> {
        poll_fn(|cx| self.poll_ready(interest, cx)).await
    }

    /// The same, for who holds this only while it looks. A connection has one task: it leaves its waker, and is on no list that it
    /// would have to be taken off again.
    pub fn poll_ready(
        &mut self,
        interest: Interest,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Ready>> {
        match self {
            Self::Plain(socket) => poll_ready(socket, interest, cx),
            Self::Tls(stream) => stream.poll_ready(interest, cx),
        }
    }

    /// Reads what there is into `buffer`; 0 is the end. Never waits (`WouldBlock`).
    pub fn try_read_buf(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => read_plain(socket, buffer),
            Self::Tls(stream) => stream.try_read(buffer),
        }
    }

    /// Writes what the socket takes now. Never waits (`WouldBlock`).
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.try_write(bytes),
            Self::Tls(stream) => stream.try_write(|tls| tls.session.writer().write(bytes)),
        }
    }

    /// The same for several pieces at once.
    pub fn try_write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.try_write_vectored(pieces),
            Self::Tls(stream) => {
                stream.try_write(|tls| tls.session.writer().write_vectored(pieces))
            }
        }
    }
}

fn poll_ready(
    socket: &TcpStream,
    interest: Interest,
    cx: &mut Context<'_>,
) -> Poll<io::Result<Ready>> {
    let mut is = Ready::EMPTY;
    if interest.is_readable() && socket.poll_read_ready(cx)?.is_ready() {
        is |= Ready::READABLE;
    }
    if interest.is_writable() && socket.poll_write_ready(cx)?.is_ready() {
        is |= Ready::WRITABLE;
    }
    if is.is_empty() { Poll::Pending } else { Poll::Ready(Ok(is)) }
}

/// Reads once. What does not fill the room was all that there was, so the socket is not asked again before it says that there is
/// more: one call of the system less for each acknowledgement.
///
/// Only for the thread whose reactor the socket belongs to: nothing else may hear of new bytes between the read and the giving up
/// of the readiness that led to it. Bytes and ends that come after the read are told anew (the reactor is edge-triggered), and an
/// end that was told before is never given up.
fn read_plain(socket: &TcpStream, buffer: &mut BytesMut) -> io::Result<usize> {
    let room = buffer.capacity() - buffer.len();
    let count = socket.try_read_buf(buffer)?;
    if count > 0 && count < room {
        let nothing_more = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
        let _ = socket.try_io(Interest::READABLE, nothing_more);
    }
    Ok(count)
}

impl Detached {
    /// Takes hold of the reactor of the runtime that this is called in.
    pub fn attach(self) -> io::Result<Stream> {
        let socket = TcpStream::from_std(self.socket)?;
        Ok(match self.tls {
            None => Stream::Plain(socket),
            Some(tls) => Stream::Tls(Box::new(TlsStream { socket, tls: *tls })),
        })
    }
}

impl TlsStream {
    fn poll_ready(&mut self, interest: Interest, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        loop {
            if interest.is_readable() && self.tls.unread {
                return Poll::Ready(Ok(Ready::READABLE));
            }
            if !self.tls.session.wants_write() {
                return poll_ready(&self.socket, interest, cx);
            }
            let ready = ready!(poll_ready(&self.socket, interest | Interest::WRITABLE, cx))?;
            let is_flushed = self.flushes()?;
            if interest.is_readable() && ready.is_readable() || interest.is_writable() && is_flushed
            {
                return Poll::Ready(Ok(ready));
            }
        }
    }

    fn try_read(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        loop {
            match self.tls.drain(buffer)? {
                0 if self.tls.ended => return Ok(0),
                0 => {}
                count => return Ok(count),
            }
            let mut bytes = [0; READ_BYTES];
            let count = self.socket.try_read(&mut bytes)?;
            let taken = self.tls.take_in(&bytes[..count], buffer);
            // What it answers (also why it cannot go on) goes out with whatever is written next, or here.
            self.flushes()?;
            match taken? {
                0 => {}
                count => return Ok(count),
            }
        }
    }

    /// Has `put` hand over what the buffer has room for, once nothing waits there any more.
    fn try_write(&mut self, put: impl FnOnce(&mut Tls) -> io::Result<usize>) -> io::Result<usize> {
        if !self.flushes()? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = put(&mut self.tls)?;
        self.tls.behind += count;
        self.flushes()?;
        Ok(count)
    }

    /// Writes what waits in encrypted form; whether all of it is gone.
    fn flushes(&mut self) -> io::Result<bool> {
        match self.tls.write_out(&mut Socket(&self.socket)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.flushes()? {
            ready!(self.socket.poll_write_ready(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.tls.unread || self.tls.ended {
                match self.tls.session.reader().read(buffer.initialize_unfilled()) {
                    Ok(count) => {
                        buffer.advance(count);
                        return Poll::Ready(Ok(()));
                    }
                    Err(error) if is_end(&error) => return Poll::Ready(Ok(())),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        self.tls.unread = false;
                        if self.tls.ended {
                            return Poll::Ready(Ok(()));
                        }
                    }
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            // Nobody may write again before the peer has read what waits.
            if let Poll::Ready(Err(error)) = self.poll_flush(cx) {
                return Poll::Ready(Err(error));
            }
            ready!(self.socket.poll_read_ready(cx))?;
            match self.tls.read_in(&mut Socket(&self.socket)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => {
                    if read.is_err() {
                        self.flushes()?;
                    }
                    read?;
                }
            }
        }
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        put: impl FnOnce(&mut Tls) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_flush(cx))?;
        Poll::Ready(self.try_write(put))
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.tls.closed, true) {
            self.tls.session.send_close_notify();
        }
        ready!(self.poll_flush(cx))?;
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

impl Tls {
    /// Moves the plaintext that there is to `buffer`.
    fn drain(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        if !self.unread {
            return Ok(0);
        }
        let mut reader = self.session.reader();
        let mut count = 0;
        loop {
            let piece = match reader.fill_buf() {
                Ok([]) => break self.ended = true,
                Ok(piece) => piece,
                Err(error) if is_end(&error) => break self.ended = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            let len = piece.len();
            buffer.extend_from_slice(piece);
            reader.consume(len);
            count += len;
        }
        self.unread = false;
        Ok(count)
    }

    /// Takes in bytes of the socket, all of them; none is its end.
    fn take_in(&mut self, mut bytes: &[u8], buffer: &mut BytesMut) -> io::Result<usize> {
        let mut count = 0;
        loop {
            self.read_in(&mut bytes)?;
            count += self.drain(buffer)?;
            // What comes after the peer's last word is nobody's.
            if bytes.is_empty() || self.ended {
                return Ok(count);
            }
        }
    }

    /// Has the session read from `from`, and look at what came.
    fn read_in(&mut self, from: &mut dyn Read) -> io::Result<()> {
        // How a connection ends that was cut is how any ends: every frame and body says how long it is.
        self.ended |= self.session.read_tls(from)? == 0;
        let state = self.session.process_new_packets().map_err(not_tls)?;
        self.unread |= state.plaintext_bytes_to_read() > 0;
        self.ended |= state.peer_has_closed();
        Ok(())
    }

    fn write_out(&mut self, to: &mut dyn Write) -> io::Result<()> {
        while self.session.wants_write() {
            match self.session.write_tls(to)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => self.behind = self.behind.saturating_sub(count),
            }
        }
        self.behind = 0;
        Ok(())
    }
}

fn is_end(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::UnexpectedEof
}

fn not_tls(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// A socket as `std` reads and writes, without waiting.
pub(crate) struct Socket<'a>(pub &'a TcpStream);

impl Read for Socket<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(bytes)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(pieces)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket().as_fd()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buffer),
            Self::Tls(stream) => stream.poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Tls(stream) => stream.poll_write(cx, |tls| tls.session.writer().write(bytes)),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, pieces),
            Self::Tls(stream) => {
                stream.poll_write(cx, |tls| tls.session.writer().write_vectored(pieces))
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls(stream) => stream.poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(stream) => stream.poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    /// Reads until there is nothing more; what came, and whether that was all.
    async fn told(stream: &mut Stream, room: usize) -> (Vec<u8>, bool) {
        let ready = stream.ready(Interest::READABLE);
        let ready = tokio::time::timeout(crate::testing::PATIENCE, ready).await;
        assert!(ready.expect("it is told").expect("it works").is_readable());
        let mut got = Vec::new();
        loop {
            let mut buffer = BytesMut::with_capacity(room);
            match stream.try_read_buf(&mut buffer) {
                Ok(0) => return (got, true),
                Ok(_) => got.extend_from_slice(&buffer),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return (got, false),
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// A read that does not fill its room is the last one before the socket is heard of again: nothing may be missed by that.
    #[tokio::test]
    async fn what_comes_after_a_short_read_is_told_and_so_is_the_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let mut theirs = TcpStream::connect(address).await.expect("connects");
        let mut ours = Stream::Plain(listener.accept().await.expect("accepts").0);
        for (bytes, room) in [(10, 512), (1, 512), (512, 512), (513, 512), (4000, 512), (7, 8)] {
            theirs.write_all(&vec![b'x'; bytes]).await.expect("writes");
            let mut got = 0;
            while got < bytes {
                let (more, ended) = told(&mut ours, room).await;
                assert!(!ended);
                got += more.len();
            }
            assert_eq!(got, bytes);
        }
        // The last bytes and the end may come together or one after the other; the other half stays open.
        theirs.write_all(b"the last").await.expect("writes");
        theirs.shutdown().await.expect("its half is closed");
        let (mut got, mut ended) = told(&mut ours, 512).await;
        while !ended {
            let (more, is_end) = told(&mut ours, 512).await;
            got.extend_from_slice(&more);
            ended = is_end;
        }
        assert_eq!(got, b"the last");
        assert_eq!(ours.try_write(b"still here").expect("writes"), 10);
    }
}
