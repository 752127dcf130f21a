//! The CPU time that other processes have used so far: the one figure that a busy machine leaves usable.
#![allow(
    unsafe_code,
    reason = "three calls of the system that no crate of ours wraps; each writes into a whole value"
)]

use std::io;
use std::time::Duration;

/// User and system time of all threads that the process has or had, to the nanosecond.
///
/// # Errors
/// What the system says, such as that there is no such process.
pub fn used(pid: u32) -> io::Result<Duration> {
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    let mut clock: libc::clockid_t = 0;
    // SAFETY: writes one clock id.
    let found = unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) };
    if found != 0 {
        return Err(io::Error::from_raw_os_error(found));
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let seconds = u64::try_from(time.tv_sec).map_err(io::Error::other)?;
    let nanoseconds = u32::try_from(time.tv_nsec).map_err(io::Error::other)?;
    Ok(Duration::new(seconds, nanoseconds))
}

/// User and system time of all processes that this one has started and waited for.
///
/// # Errors
/// What the system says.
pub fn of_ended() -> io::Result<Duration> {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: writes one rusage, for which zeros are a value, too.
    let usage = unsafe {
        if libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr()) != 0 {
            return Err(io::Error::last_os_error());
        }
        usage.assume_init()
    };
    let time = |time: libc::timeval| -> io::Result<Duration> {
        let seconds = u64::try_from(time.tv_sec).map_err(io::Error::other)?;
        let microseconds = u64::try_from(time.tv_usec).map_err(io::Error::other)?;
        Ok(Duration::from_secs(seconds) + Duration::from_micros(microseconds))
    };
    Ok(time(usage.ru_utime)? + time(usage.ru_stime)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_takes_time_and_rest_takes_none() {
        let me = std::process::id();
        let before = used(me).expect("this process");
        let mut sum = 0_u64;
        while used(me).expect("this process") < before + Duration::from_millis(5) {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(of_ended().is_ok());
        // More than any process has, and few enough for a clock's number.
        assert!(used(100_000_000).is_err());
    }
}
