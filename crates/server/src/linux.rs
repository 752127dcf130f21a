//! What only Linux tells of a TCP connection, with an answer of "unknown" elsewhere.

#[cfg(target_os = "linux")]
mod imp {
    #![allow(
        unsafe_code,
        reason = "two system calls that no crate of ours wraps; each writes into a value that it is given whole"
    )]

    use std::os::fd::{AsRawFd, BorrowedFd};

    /// Bytes that were written and that the peer's host has not acknowledged.
    pub fn unacknowledged_bytes(socket: BorrowedFd<'_>) -> Option<usize> {
        let mut bytes: libc::c_int = 0;
        // SAFETY: TIOCOUTQ (SIOCOUTQ on sockets) writes one c_int to the given place.
        let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
        (result == 0).then(|| usize::try_from(bytes).unwrap_or(0))
    }

    /// Milliseconds since the peer's host last acknowledged anything, and segments under way.
    pub fn last_acknowledged(socket: BorrowedFd<'_>) -> Option<(u32, u32)> {
        // SAFETY: all of tcp_info are integers, for which zero is a value.
        let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
        let mut len = libc::socklen_t::try_from(size_of::<libc::tcp_info>()).ok()?;
        // SAFETY: the kernel writes at most `len` bytes into `info`, which has as many.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                (&raw mut info).cast(),
                &raw mut len,
            )
        };
        (result == 0).then_some((info.tcpi_last_ack_recv, info.tcpi_unacked))
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    use std::os::fd::BorrowedFd;

    /// Unknown here.
    pub fn unacknowledged_bytes(_: BorrowedFd<'_>) -> Option<usize> {
        None
    }

    /// Unknown here.
    pub fn last_acknowledged(_: BorrowedFd<'_>) -> Option<(u32, u32)> {
        None
    }
}

/// Files and sockets that this process may open; unknown where there is no procfs, or no limit.
pub(crate) fn open_files_max() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

pub(crate) use imp::{last_acknowledged, unacknowledged_bytes};
