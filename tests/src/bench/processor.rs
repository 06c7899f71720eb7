//! How much processor time was used, and by whom?

use std::path::Path;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Of all threads of this process so far.
pub(super) fn of_this_process() -> Duration {
    used(ClockId::CLOCK_PROCESS_CPUTIME_ID)
}

/// Of the calling thread so far.
pub(super) fn of_this_thread() -> Duration {
    used(ClockId::CLOCK_THREAD_CPUTIME_ID)
}

fn used(clock: ClockId) -> Duration {
    clock_gettime(clock).map(Duration::from).unwrap_or_default()
}

/// Of another thread of this process so far, by its id, where the system counts it.
pub(super) fn of_thread(id: i32) -> Option<Duration> {
    schedstat(format!("/proc/self/task/{id}/schedstat")).map(|(used, _)| used)
}

/// What all threads of this process have used or waited for while others had the processor, so far,
/// where the system counts it: what they would have used alone.
pub(super) fn wanted() -> Option<Duration> {
    let threads = std::fs::read_dir("/proc/self/task").ok()?.flatten();
    let stats = threads.filter_map(|thread| schedstat(thread.path().join("schedstat")));
    Some(stats.map(|(used, waited)| used + waited).sum())
        .filter(|wanted| !Duration::is_zero(wanted))
}

/// Time on a processor, and time ready for one.
fn schedstat(path: impl AsRef<Path>) -> Option<(Duration, Duration)> {
    let line = std::fs::read_to_string(path).ok()?;
    let mut times = line.split(' ').map(|time| time.parse().map(Duration::from_nanos));
    Some((times.next()?.ok()?, times.next()?.ok()?))
}
