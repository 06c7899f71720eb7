//! When may the next record go?

use std::time::Duration;

/// Spreads records evenly over time: record n is due n / rate seconds after the start, however
/// late those before it were. A sender that fell behind catches up at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    per_second: Option<f64>,
}

impl Pace {
    /// `None` is as fast as possible; so is a rate that is no positive number.
    pub(crate) fn new(per_second: Option<f64>) -> Self {
        Self { per_second: per_second.filter(|rate| *rate > 0.0 && rate.is_finite()) }
    }

    /// How long after `elapsed` record `n` (from 0) is due.
    pub(crate) fn wait(&self, n: u64, elapsed: Duration) -> Duration {
        let Some(rate) = self.per_second else {
            return Duration::ZERO;
        };
        #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 records")]
        let due = n as f64 / rate;
        Duration::try_from_secs_f64(due).unwrap_or(Duration::MAX).saturating_sub(elapsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn records_are_due_evenly_and_a_late_sender_catches_up() {
        let pace = Pace::new(Some(100.0));
        assert_eq!(pace.wait(0, Duration::ZERO), Duration::ZERO);
        assert_eq!(pace.wait(1, Duration::ZERO), 10 * MS);
        assert_eq!(pace.wait(100, 900 * MS), 100 * MS);
        assert_eq!(pace.wait(100, 5_000 * MS), Duration::ZERO);
    }

    #[test]
    fn no_rate_and_a_senseless_one_never_wait() {
        for rate in [None, Some(0.0), Some(-1.0), Some(f64::NAN), Some(f64::INFINITY)] {
            assert_eq!(Pace::new(rate).wait(u64::MAX, Duration::ZERO), Duration::ZERO, "{rate:?}");
        }
        // A rate that small is a wait without end, not a panic.
        assert!(Pace::new(Some(1e-300)).wait(1, Duration::ZERO) > Duration::from_secs(1));
    }
}
