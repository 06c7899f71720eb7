//! How do tests wait? For a condition, with a deadline; never for a time.

use std::time::{Duration, Instant};

use crate::ClusterError;

/// A moment in real time after which waiting is over. The only reader of the clock here.
///
/// ```
/// use pelton_tests::Deadline;
/// use std::time::Duration;
///
/// assert!(Deadline::after(Duration::ZERO).has_passed());
/// assert!(Deadline::after(Duration::from_secs(60)).left() > Duration::from_secs(50));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    at: Instant,
}

impl Deadline {
    /// The deadline that is `within` away from now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one clock of the whole-system tests")]
    pub fn after(within: Duration) -> Self {
        Self { at: Instant::now() + within }
    }

    /// How long it is until then; zero when it has passed.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one clock of the whole-system tests")]
    pub fn left(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    /// Is waiting over?
    #[must_use]
    pub fn has_passed(&self) -> bool {
        self.left().is_zero()
    }
}

/// How long something takes.
///
/// ```
/// let watch = pelton_tests::Stopwatch::start();
/// assert!(watch.elapsed() < std::time::Duration::from_secs(60));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch {
    begun: Instant,
}

impl Stopwatch {
    /// Begins now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one clock of the whole-system tests")]
    pub fn start() -> Self {
        Self { begun: Instant::now() }
    }

    /// How long ago that was.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }
}

/// Asks `ready` until it has something, twenty times a second.
///
/// ```
/// use std::time::Duration;
///
/// let mut asked = 0;
/// let third = pelton_tests::wait_for("the third time", Duration::from_secs(5), || {
///     asked += 1;
///     (asked == 3).then_some(asked)
/// })?;
/// assert_eq!(third, 3);
/// # Ok::<(), pelton_tests::ClusterError>(())
/// ```
///
/// # Errors
///
/// [`ClusterError::Late`] when it has nothing `within` that time.
pub fn wait_for<T>(
    what: &str,
    within: Duration,
    mut ready: impl FnMut() -> Option<T>,
) -> Result<T, ClusterError> {
    let mut ask = || ready().ok_or_else(String::new);
    patiently(what, within, &mut ask)
}

/// Tries until it works; the last reason is in the error.
pub(crate) fn patiently<T>(
    what: &str,
    within: Duration,
    mut attempt: impl FnMut() -> Result<T, String>,
) -> Result<T, ClusterError> {
    let deadline = Deadline::after(within);
    loop {
        match attempt() {
            Ok(done) => return Ok(done),
            Err(last) if deadline.has_passed() => {
                return Err(ClusterError::Late { what: what.to_owned(), within, last });
            }
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}
