//! Work that waits for the disk, away from the threads that serve sockets.

use std::io;

/// Does it on a thread that may wait. May be given up: what has begun goes on to its end.
///
/// # Errors
/// Its own; also where it panics.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
