//! What only Linux tells or does, with a portable fallback: TCP's state, memory that goes back, short turns on the CPU.

#[cfg(target_os = "linux")]
mod imp {
    #![allow(
        unsafe_code,
        reason = "calls that no crate of ours wraps; those that write are given a whole value to write into"
    )]

    use std::os::fd::{AsRawFd, BorrowedFd};

    /// Memory blocks from this size on go back to the system when they are freed.
    #[cfg(target_env = "gnu")]
    const RETURNED_BYTES: libc::c_int = 256 << 10;

    /// What waits for slow connections is large blocks: freed, they are not to stay the process's.
    #[cfg(target_env = "gnu")]
    pub fn return_memory() {
        // SAFETY: takes two numbers and changes how the allocator works from now on.
        unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, RETURNED_BYTES) };
    }

    /// Other allocators have their own ways.
    #[cfg(not(target_env = "gnu"))]
    pub fn return_memory() {}

    /// Nanoseconds of a short turn: the least that Linux takes.
    const TURN_NS: u64 = 100_000;

    /// Makes the calling thread's turns on its CPU short. Its share of the CPU stays what it is, but when it has something to do
    /// it need not wait until a thread that calculates has come to the end of a long turn (EEVDF, from Linux 6.12 on; older ones
    /// do not mind). Needs no right.
    pub fn take_short_turns() {
        let size = u32::try_from(size_of::<libc::sched_attr>()).unwrap_or(0);
        // SAFETY: all of sched_attr are integers, for which zero is a value.
        let mut turns: libc::sched_attr = unsafe { std::mem::zeroed() };
        // SAFETY: thread 0 is the calling one; the kernel writes at most `size` bytes, which there are.
        let got = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut turns, size, 0) };
        if got == 0 && turns.sched_policy == libc::SCHED_OTHER as u32 {
            turns.size = size;
            turns.sched_runtime = TURN_NS;
            // SAFETY: reads `size` bytes of a whole value.
            unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const turns, 0) };
        }
    }

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

    /// The allocator's affair.
    pub fn return_memory() {}

    /// The system's affair.
    pub fn take_short_turns() {}

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

pub(crate) use imp::{last_acknowledged, return_memory, take_short_turns, unacknowledged_bytes};
