//! The one place where the node reads clocks.

use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tertulia_group::Now;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Both clocks, as the core wants them.
pub(crate) fn now() -> Now {
    Now { mono_ms: mono_ms(), wall_us: wall_us() }
}

/// Milliseconds since the process first asked; never goes back.
pub(crate) fn mono_ms() -> u64 {
    u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Microseconds since the Unix epoch; 0 on a machine whose clock is before it.
pub(crate) fn wall_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Time that the calling thread has spent on CPUs.
#[cfg(unix)]
pub(crate) fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// Where that is not told, time that has passed.
#[cfg(not(unix))]
pub(crate) fn thread_cpu() -> Duration {
    START.elapsed()
}
