//! Whose process is at the other end of a connection from this machine: the system knows.

use std::net::SocketAddr;

/// Whether a connection from this machine, of which these are the near and the far end, was made by a process of this process's user or
/// of root. Where the system does not say whose it is (no Linux, no table of sockets in `/proc`), every process of the machine counts as
/// the user's.
///
/// The far end has to be open still: a socket that its process has let go of is nobody's. Where the tables cannot be read as they are,
/// nobody counts as the user.
pub async fn is_own(ends: (SocketAddr, SocketAddr)) -> bool {
    tokio::task::spawn_blocking(move || look(ends)).await.unwrap_or(false)
}

#[cfg(target_os = "linux")]
fn look((near, far): (SocketAddr, SocketAddr)) -> bool {
    use procfs::ProcError;
    use procfs::net::{TcpState, tcp, tcp6};

    let plain = |address: SocketAddr| (address.ip().to_canonical(), address.port());
    let (near, far) = (plain(near), plain(far));
    let tables = [tcp(), tcp6()];
    let says_nothing = tables.iter().all(|table| match table {
        Ok(rows) => rows.is_empty(),
        Err(error) => matches!(error, ProcError::NotFound(_) | ProcError::PermissionDenied(_)),
    });
    if says_nothing {
        tracing::warn!(
            "the system does not say whose a connection is: whoever is on this machine may use this peer"
        );
        return true;
    }
    let mine = rustix::process::geteuid().as_raw();
    tables.into_iter().flatten().flatten().any(|row| {
        (plain(row.local_address), plain(row.remote_address)) == (far, near)
            && row.state == TcpState::Established
            && (row.uid == mine || row.uid == 0)
    })
}

#[cfg(not(target_os = "linux"))]
fn look(_: (SocketAddr, SocketAddr)) -> bool {
    true
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::net::{Shutdown, TcpListener, TcpStream};

    use rustix::process::{Uid, geteuid};
    use rustix::thread::set_thread_res_uid;

    use super::*;

    /// Connects as this user of the machine: both sockets, and both ends as the listening side sees them.
    fn connect(listener: &TcpListener, user: Uid) -> ([TcpStream; 2], (SocketAddr, SocketAddr)) {
        let address = listener.local_addr().unwrap();
        let connected = std::thread::spawn(move || {
            // Of this thread alone: the system call, not the C library's, which does it for all threads.
            set_thread_res_uid(user, user, user).unwrap();
            TcpStream::connect(address).unwrap()
        });
        let connected = connected.join().unwrap();
        let (accepted, far) = listener.accept().unwrap();
        let ends = (accepted.local_addr().unwrap(), far);
        ([connected, accepted], ends)
    }

    #[tokio::test]
    async fn a_connection_is_its_users() {
        let listeners = ["127.0.0.1:0", "[::1]:0"].map(|address| TcpListener::bind(address).ok());
        for listener in listeners.iter().flatten() {
            let (own, ends) = connect(listener, geteuid());
            assert!(is_own(ends).await, "{ends:?}");
            own[0].shutdown(Shutdown::Write).unwrap();
            assert!(!is_own(ends).await, "it is not open any more");
            if geteuid().is_root() {
                let (_others, ends) = connect(listener, Uid::from_raw(65_534));
                // Root's own peer is nobody else's.
                assert!(!is_own(ends).await, "{ends:?}");
            }
            let unknown = (ends.0, SocketAddr::new(ends.1.ip(), 1));
            assert!(!is_own(unknown).await, "there is no such connection");
        }
    }
}
