//! How much memory does a process really have? Asked of the kernel while it runs.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::ClusterError;

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(100);

/// Watches the resident memory of a process until it is asked what it saw.
#[derive(Debug)]
pub struct MemoryWatch {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<MemoryUse>>,
    thread: Option<JoinHandle<()>>,
}

/// What was seen, in bytes.
///
/// ```
/// let own = pelton_tests::MemoryUse::of(std::process::id()).expect("Linux tells it");
/// assert!(own.peak >= own.heap && own.heap > 0);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// The most that was resident at any moment: the kernel's own peak (`VmHWM`).
    pub peak: u64,
    /// The most of it that was no file: heap and stacks (`RssAnon`), as sampled.
    pub heap: u64,
    /// `RssAnon` at each look, ten a second.
    pub samples: Vec<u64>,
}

impl MemoryUse {
    /// What the kernel says of a process now; none if it is gone or this is no Linux.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let kibibytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        let (peak, heap) = (kibibytes("VmHWM:")? * 1024, kibibytes("RssAnon:")? * 1024);
        Some(Self { peak, heap, samples: vec![heap] })
    }

    fn look(&mut self, now: &Self) {
        self.peak = self.peak.max(now.peak);
        self.heap = self.heap.max(now.heap);
        self.samples.extend(&now.samples);
    }
}

impl fmt::Display for MemoryUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted = self.samples.clone();
        sorted.sort_unstable();
        let median = sorted.get(sorted.len() / 2).copied().unwrap_or(0);
        let mib = |bytes: u64| bytes / (1024 * 1024);
        write!(
            f,
            "resident {} MiB at most; heap {} MiB in the median, {} MiB at most, of {} looks",
            mib(self.peak),
            mib(median),
            mib(self.heap),
            sorted.len()
        )
    }
}

impl MemoryWatch {
    /// Begins to watch.
    ///
    /// # Errors
    ///
    /// If a thread can't be made.
    pub fn of(pid: u32) -> Result<Self, ClusterError> {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(Mutex::new(MemoryUse::default()));
        let (stopped, noted) = (Arc::clone(&stop), Arc::clone(&seen));
        let body = move || {
            while !stopped.load(Ordering::Relaxed) {
                if let Some(now) = MemoryUse::of(pid) {
                    noted.lock().unwrap_or_else(PoisonError::into_inner).look(&now);
                }
                std::thread::sleep(INTERVAL); // the watch's own pace
            }
        };
        let thread = std::thread::Builder::new()
            .name("memory-watch".to_owned())
            .spawn(body)
            .map_err(ClusterError::io("the watch's thread"))?;
        Ok(Self { stop, seen, thread: Some(thread) })
    }

    /// What was seen up to now.
    #[must_use]
    pub fn seen(&self) -> MemoryUse {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for MemoryWatch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join().is_err();
        }
    }
}
