//! Is what the handlers of an input call broken? Then nothing starts for a while, and one record at a
//! time tries whether it is well again.
//!
//! ```text
//!            a share of the last attempts failed
//!   Closed ──────────────────────────────────────► Open ◄─────────┐
//!      ▲                                            │ its wait    │ a probe failed:
//!      │  so many probes in a row succeeded         ▼ is over     │ a longer wait
//!      └──────────────────────────────────────── HalfOpen ────────┘
//! ```
//!
//! Upholds INV-20: unless the circuit is closed nothing starts but one probe at a time, and none
//! before the wait is over.

use std::collections::VecDeque;
use std::time::Duration;

use crate::ids::PartitionId;
use crate::planted::Bug;
use crate::retry::RetryPolicy;
use crate::time::Time;

/// When an input pauses because what its handlers call is broken, and how it finds out that it no
/// longer is.
///
/// Attempts that end with a retryable error or a time-out have *failed*, and those that end well have
/// not. Panics, invalid records, skipped ones and what is cut off say nothing of a downstream and do
/// not count; nor do flushes, which have waits of their own. Each record of a batch counts by itself.
///
/// ```
/// use pelton_engine::Breaker;
/// use std::time::Duration;
///
/// let breaker = Breaker::default();
/// assert_eq!((breaker.failure_rate_threshold, breaker.sliding_window, breaker.minimum_attempts), (50, 20, 10));
/// assert_eq!((breaker.wait, breaker.max_wait), (Duration::from_secs(5), Duration::from_secs(60)));
///
/// let patient = Breaker::default().wait_in_open(Duration::from_secs(30), Duration::from_secs(300));
/// assert_eq!(patient.max_wait, Duration::from_secs(300));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaker {
    /// It opens when so many percent of the attempts in the window have failed, from 1 to 100.
    /// Default 50.
    pub failure_rate_threshold: u8,
    /// The window: the last so many attempts of the input that have ended in this worker. Default 20.
    pub sliding_window: u32,
    /// It stays closed until the window has so many, or is full. Default 10.
    pub minimum_attempts: u32,
    /// For so long nothing starts after it has opened, less a random part of up to a half. Default 5 s.
    pub wait: Duration,
    /// The wait doubles with each probe that fails, up to this. Default 60 s.
    pub max_wait: Duration,
    /// It closes when so many probes in a row have succeeded. Default 1.
    pub probes: u32,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            failure_rate_threshold: 50,
            sliding_window: 20,
            minimum_attempts: 10,
            wait: Duration::from_secs(5),
            max_wait: Duration::from_secs(60),
            probes: 1,
        }
    }
}

impl Breaker {
    /// Opens when so many percent of the attempts in the window have failed, from 1 to 100.
    #[must_use]
    pub const fn failure_rate_threshold(mut self, percent: u8) -> Self {
        self.failure_rate_threshold = match percent {
            0 => 1,
            101.. => 100,
            percent => percent,
        };
        self
    }

    /// Looks at the last so many attempts; 0 counts as 1.
    #[must_use]
    pub const fn sliding_window(mut self, attempts: u32) -> Self {
        self.sliding_window = if attempts == 0 { 1 } else { attempts };
        self
    }

    /// Stays closed until the window has so many attempts, or is full. Where records are given up after
    /// fewer attempts, a few may be before it opens: in a quiet input, or one at a time after a death.
    #[must_use]
    pub const fn minimum_attempts(mut self, attempts: u32) -> Self {
        self.minimum_attempts = attempts;
        self
    }

    /// Waits that double from `wait` to `max_wait` with each probe that fails, with jitter.
    #[must_use]
    pub const fn wait_in_open(mut self, wait: Duration, max_wait: Duration) -> Self {
        (self.wait, self.max_wait) = (wait, max_wait);
        self
    }

    /// Closes when so many probes in a row have succeeded; 0 counts as 1.
    #[must_use]
    pub const fn probes(mut self, successes: u32) -> Self {
        self.probes = if successes == 0 { 1 } else { successes };
        self
    }
}

/// Who failed to probe last lets others of its input ask first: its record may be the one at fault.
const YIELD: Duration = Duration::from_millis(100);

/// One input's breaker at work, for all of its partitions in a worker.
///
/// ```
/// use pelton_engine::{Breaker, CircuitChange, Circuit, CircuitState, PartitionId, Permit, Time};
///
/// let (a, b) = (PartitionId(0), PartitionId(1));
/// let mut circuit = Circuit::new(Breaker::default().minimum_attempts(2), 42);
/// for _ in 0..2 {
///     assert_eq!(circuit.start(a, Time::ZERO), Some(Permit::Usual));
///     circuit.ended(a, Permit::Usual, Some(false), Time::ZERO);
/// }
/// assert_eq!((circuit.state(), circuit.start(b, Time::ZERO)), (CircuitState::Open, None));
/// let later = circuit.opens_at(b).unwrap();
/// assert_eq!(circuit.start(b, later), Some(Permit::Probe));
/// assert_eq!(circuit.ended(b, Permit::Probe, Some(true), later), Some(CircuitChange::Closed));
/// ```
#[derive(Debug)]
pub struct Circuit {
    breaker: Breaker,
    seed: u64,
    state: State,
    /// The last attempts: which of them failed?
    window: VecDeque<bool>,
    failed: usize,
    /// Waits since it was closed.
    waits: u32,
    failed_last: Option<PartitionId>,
    bug: Option<Bug>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open { until: Time },
    HalfOpen { is_probing: bool, successes: u32 },
}

/// Where a breaker stands.
///
/// ```
/// use pelton_engine::{Breaker, Circuit, CircuitState};
/// assert_eq!(Circuit::new(Breaker::default(), 42).state(), CircuitState::Closed);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CircuitState {
    /// Everything may start.
    Closed,
    /// Probes may start, one at a time.
    HalfOpen,
    /// Nothing may start.
    Open,
}

/// As what an attempt may start.
///
/// ```
/// use pelton_engine::{Breaker, Circuit, PartitionId, Permit, Time};
///
/// let mut circuit = Circuit::new(Breaker::default(), 42);
/// assert_eq!(circuit.start(PartitionId(0), Time::ZERO), Some(Permit::Usual));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    /// As any other.
    Usual,
    /// As the only one: what becomes of it decides.
    Probe,
}

/// What the end of an attempt has changed.
///
/// ```
/// use pelton_engine::{Breaker, CircuitChange, Circuit, PartitionId, Permit, Time};
///
/// let mut circuit = Circuit::new(Breaker::default().sliding_window(1), 42);
/// let change = circuit.ended(PartitionId(0), Permit::Usual, Some(false), Time::ZERO);
/// assert!(matches!(change, Some(CircuitChange::Opened { .. })));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CircuitChange {
    /// Nothing starts for so long; it may have been half-open before.
    Opened {
        /// The wait.
        wait: Duration,
    },
    /// Another probe may start.
    MayProbe,
    /// Everything may start.
    Closed,
}

impl Circuit {
    /// Closed. `seed` spreads the waits of many workers; the same seed gives the same waits.
    #[must_use]
    pub fn new(breaker: Breaker, seed: u64) -> Self {
        let (state, window) = (State::Closed, VecDeque::new());
        Self { breaker, seed, state, window, failed: 0, waits: 0, failed_last: None, bug: None }
    }

    /// Plants a known bug (tests only; without the feature `planted-bugs` it does nothing).
    pub fn plant(&mut self, bug: Option<Bug>) {
        self.bug = bug;
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> CircuitState {
        match self.state {
            State::Closed => CircuitState::Closed,
            State::HalfOpen { .. } => CircuitState::HalfOpen,
            State::Open { .. } => CircuitState::Open,
        }
    }

    /// How many attempts of this partition may start now, as far as the breaker is concerned: any
    /// number, one, or none.
    #[must_use]
    pub fn room(&self, partition: PartitionId, now: Time) -> usize {
        match self.state {
            State::Closed => usize::MAX,
            State::HalfOpen { is_probing, .. } => {
                usize::from(!is_probing || Bug::ProbesWithoutLimit.is(self.bug))
            }
            State::Open { .. } => {
                let is_over = self.opens_at(partition).is_some_and(|at| now >= at);
                usize::from(is_over || Bug::OpenLetsThrough.is(self.bug))
            }
        }
    }

    /// When this partition may probe, if it is a matter of time.
    #[must_use]
    pub fn opens_at(&self, partition: PartitionId) -> Option<Time> {
        let State::Open { until } = self.state else { return None };
        Some(if self.failed_last == Some(partition) { until + YIELD } else { until })
    }

    /// Starts an attempt, if one may start. A probe must be [`ended`](Self::ended), whatever becomes of
    /// it.
    pub fn start(&mut self, partition: PartitionId, now: Time) -> Option<Permit> {
        if self.room(partition, now) == 0 {
            return None;
        }
        let successes = match self.state {
            State::Closed => return Some(Permit::Usual),
            State::Open { .. } => 0,
            State::HalfOpen { successes, .. } => successes,
        };
        self.state = State::HalfOpen { is_probing: true, successes };
        Some(Permit::Probe)
    }

    /// An attempt has ended: well, badly, or so that it says nothing of what it called (`None`). Of
    /// one that is no probe it counts only while the breaker is closed: it began before.
    pub fn ended(
        &mut self,
        partition: PartitionId,
        permit: Permit,
        went_well: Option<bool>,
        now: Time,
    ) -> Option<CircuitChange> {
        match (self.state, permit, went_well) {
            (State::Closed, _, Some(went_well)) => {
                self.count(!went_well);
                self.is_broken().then(|| self.open(now))
            }
            (State::HalfOpen { .. }, Permit::Probe, Some(false)) => {
                self.failed_last = Some(partition);
                Some(self.open(now))
            }
            (State::HalfOpen { successes, .. }, Permit::Probe, Some(true))
                if successes + 1 >= self.breaker.probes =>
            {
                self.close();
                Some(CircuitChange::Closed)
            }
            (State::HalfOpen { successes, .. }, Permit::Probe, went_well) => {
                let successes = successes + u32::from(went_well.is_some());
                self.state = State::HalfOpen { is_probing: false, successes };
                Some(CircuitChange::MayProbe)
            }
            _ => None,
        }
    }

    fn count(&mut self, has_failed: bool) {
        if self.window.len() >= size(self.breaker.sliding_window) {
            let oldest = self.window.pop_front().unwrap_or(false);
            self.failed -= usize::from(oldest);
        }
        self.window.push_back(has_failed);
        self.failed += usize::from(has_failed);
    }

    fn is_broken(&self) -> bool {
        let Breaker { failure_rate_threshold, sliding_window, minimum_attempts, .. } = self.breaker;
        let enough = size(minimum_attempts.min(sliding_window));
        let threshold = usize::from(failure_rate_threshold.clamp(1, 100));
        self.window.len() >= enough && self.failed * 100 >= threshold * self.window.len()
    }

    fn open(&mut self, now: Time) -> CircuitChange {
        let Breaker { wait, max_wait, .. } = self.breaker;
        self.waits = self.waits.saturating_add(1);
        let wait = RetryPolicy::exponential(wait, max_wait).backoff(self.waits, self.seed);
        self.state = State::Open { until: now + wait };
        CircuitChange::Opened { wait }
    }

    fn close(&mut self) {
        (self.state, self.waits, self.failed_last) = (State::Closed, 0, None);
        self.window.clear();
        self.failed = 0;
    }
}

/// As a length, at least 1.
fn size(attempts: u32) -> usize {
    usize::try_from(attempts).unwrap_or(usize::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);
    const A: PartitionId = PartitionId(0);
    const B: PartitionId = PartitionId(1);

    /// Open since the time zero.
    fn open(breaker: Breaker) -> Circuit {
        let mut circuit = Circuit::new(breaker.sliding_window(1), 7);
        circuit.ended(A, Permit::Usual, Some(false), Time::ZERO);
        assert_eq!(circuit.state(), CircuitState::Open);
        circuit
    }

    #[test]
    fn it_opens_at_its_share_of_the_window_and_not_before_the_minimum() {
        let ends = |breaker: Breaker, ends: &str| {
            let mut circuit = Circuit::new(breaker, 7);
            let mut opened = ends
                .chars()
                .map(|end| circuit.ended(A, Permit::Usual, Some(end == '+'), Time::ZERO).is_some());
            opened.position(|opened| opened)
        };
        let breaker = Breaker::default().sliding_window(4).minimum_attempts(2);
        for (threshold, attempts, opened) in [
            (50, "-", None),
            (50, "--", Some(1)),
            (50, "+-", Some(1)),
            (51, "+-+-+-", None),
            (75, "++++-+--", Some(7)), // the window has forgotten the first ones
            (100, "---", Some(1)),
            (100, "+---", None),
        ] {
            let breaker = breaker.failure_rate_threshold(threshold);
            assert_eq!(ends(breaker, attempts), opened, "{threshold} % of {attempts}");
        }
        let more_than_there_is_room_for = breaker.sliding_window(1).minimum_attempts(100);
        assert_eq!(ends(more_than_there_is_room_for, "-"), Some(0));
    }

    #[test]
    fn waits_double_from_probe_to_probe_and_begin_anew_when_it_has_closed() {
        let mut circuit = open(Breaker::default().wait_in_open(SECOND, SECOND * 4));
        let mut now = Time::ZERO;
        for most in [1, 2, 4, 4, 4] {
            let at = circuit.opens_at(B).expect("open");
            let (wait, most) = (at.since(now), SECOND * most);
            assert!(wait >= most / 2 && wait <= most, "{wait:?}, not {most:?}");
            now = at;
            assert_eq!(circuit.start(B, now), Some(Permit::Probe));
            circuit.ended(A, Permit::Probe, Some(false), now);
        }
        now = now + SECOND * 4;
        circuit.start(B, now);
        assert_eq!(circuit.ended(B, Permit::Probe, Some(true), now), Some(CircuitChange::Closed));
        let Some(CircuitChange::Opened { wait }) =
            circuit.ended(B, Permit::Usual, Some(false), now)
        else {
            panic!("its window is one attempt");
        };
        assert!(wait <= SECOND);
    }

    #[test]
    fn the_partition_that_failed_to_probe_asks_behind_the_others() {
        let mut circuit = open(Breaker::default());
        let now = Time::ZERO + SECOND * 60;
        circuit.start(A, now);
        circuit.ended(A, Permit::Probe, Some(false), now);
        let at = circuit.opens_at(B).expect("open");
        assert_eq!((circuit.room(A, at), circuit.room(B, at)), (0, 1));
        assert_eq!(circuit.opens_at(A), Some(at + YIELD));
        assert_eq!(circuit.start(A, at + YIELD), Some(Permit::Probe), "nobody else wanted to");
    }

    #[test]
    fn what_says_nothing_of_the_downstream_changes_nothing_and_lets_another_probe() {
        let mut circuit = open(Breaker::default().probes(2));
        let now = Time::ZERO + SECOND * 60;
        for (end, change) in [
            (None, CircuitChange::MayProbe),
            (Some(true), CircuitChange::MayProbe),
            (None, CircuitChange::MayProbe),
            (Some(true), CircuitChange::Closed),
        ] {
            assert_eq!(circuit.start(A, now), Some(Permit::Probe));
            assert_eq!(circuit.room(B, now), 0);
            assert_eq!(circuit.ended(B, Permit::Usual, Some(true), now), None, "it began before");
            assert_eq!(circuit.ended(A, Permit::Probe, end, now), Some(change));
        }
        assert_eq!(circuit.ended(A, Permit::Usual, None, now), None);
        assert_eq!(circuit.room(A, now), usize::MAX);
    }

    /// What happens next: time passes, an attempt starts, one that runs ends.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Pass(u64),
        Start(u32),
        End(usize, Option<bool>),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            2 => (0u64..3_000).prop_map(Step::Pass),
            4 => (0u32..3).prop_map(Step::Start),
            4 => (0usize..6, prop::option::weighted(0.8, prop::bool::weighted(0.4)))
                .prop_map(|(at, end)| Step::End(at, end)),
        ];
        prop::collection::vec(step, 0..300)
    }

    fn breakers() -> impl Strategy<Value = Breaker> {
        (1u8..=100, 1u32..12, 0u32..12, 1u64..4, 1u32..4).prop_map(
            |(percent, window, minimum, wait, probes)| {
                Breaker::default()
                    .failure_rate_threshold(percent)
                    .sliding_window(window)
                    .minimum_attempts(minimum)
                    .wait_in_open(SECOND * u32::try_from(wait).expect("small"), SECOND * 8)
                    .probes(probes)
            },
        )
    }

    /// The same in plain words: all ends since it closed, and when it opened.
    fn held(
        breaker: Breaker,
        steps: impl IntoIterator<Item = Step>,
        bug: Option<Bug>,
    ) -> Result<(), TestCaseError> {
        let mut circuit = Circuit::new(breaker, 7);
        circuit.plant(bug);
        let (mut now, mut running) = (Time::ZERO, Vec::new());
        let (mut ends, mut opened, mut waits, mut successes) = (Vec::new(), None::<Time>, 0_u32, 0);
        for step in steps {
            match step {
                Step::Pass(ms) => now = now + Duration::from_millis(ms),
                Step::Start(partition) => {
                    let partition = PartitionId(partition);
                    let (room, probes) = (circuit.room(partition, now), is_probing(&running));
                    let permit = circuit.start(partition, now);
                    prop_assert_eq!(permit.is_some(), room > 0);
                    if let Some(opened) = opened {
                        let full = breaker.wait * (1 << waits.saturating_sub(1).min(5));
                        let least = full.min(breaker.max_wait) / 2;
                        prop_assert!(permit != Some(Permit::Usual), "it is not closed");
                        prop_assert!(permit.is_none() || !probes, "two probes at once");
                        prop_assert!(permit.is_none() || now >= opened + least, "too early");
                        let is_over = now >= opened + least * 2 + YIELD;
                        prop_assert!(permit.is_some() || probes || !is_over, "nobody may probe");
                    } else {
                        prop_assert_eq!(permit, Some(Permit::Usual));
                    }
                    running.extend(permit.map(|permit| (partition, permit)));
                }
                Step::End(at, _) if at >= running.len() => {}
                Step::End(at, end) => {
                    let (partition, permit) = running.remove(at);
                    let change = circuit.ended(partition, permit, end, now);
                    let was_open = opened.is_some();
                    match (was_open, permit, end) {
                        (false, _, Some(well)) => {
                            ends.push(well);
                            let window = ends.iter().rev().take(breaker.sliding_window as usize);
                            let window: Vec<_> = window.collect();
                            let failed = window.iter().filter(|well| !**well).count();
                            let enough = breaker.minimum_attempts.min(breaker.sliding_window);
                            let percent = usize::from(breaker.failure_rate_threshold);
                            let opens = window.len() >= enough as usize
                                && failed * 100 >= percent * window.len();
                            prop_assert_eq!(
                                matches!(change, Some(CircuitChange::Opened { .. })),
                                opens
                            );
                            if opens {
                                (opened, waits) = (Some(now), 1);
                            }
                        }
                        (true, Permit::Probe, Some(false)) => {
                            prop_assert!(
                                matches!(change, Some(CircuitChange::Opened { .. })),
                                "open"
                            );
                            (opened, waits, successes) = (Some(now), waits + 1, 0);
                        }
                        (true, Permit::Probe, Some(true)) => {
                            successes += 1;
                            let closes = successes >= breaker.probes;
                            prop_assert_eq!(change == Some(CircuitChange::Closed), closes);
                            if closes {
                                (opened, ends, successes) = (None, Vec::new(), 0);
                            }
                        }
                        _ => {
                            prop_assert!(
                                matches!(change, None | Some(CircuitChange::MayProbe)),
                                "decides"
                            )
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn is_probing(running: &[(PartitionId, Permit)]) -> bool {
        running.iter().any(|(_, permit)| *permit == Permit::Probe)
    }

    /// The property below can tell.
    #[cfg(feature = "planted-bugs")]
    #[test]
    fn inv_20_each_planted_bug_breaks_it() {
        let breaker = Breaker::default().sliding_window(1);
        let (start, fails) = (Step::Start(0), Step::End(0, Some(false)));
        let steps = [start, fails, start, Step::Pass(5_000), start, start];
        assert!(held(breaker, steps, None).is_ok());
        for bug in [Bug::OpenLetsThrough, Bug::ProbesWithoutLimit] {
            assert!(held(breaker, steps, Some(bug)).is_err(), "{} breaks nothing", bug.name());
        }
    }

    proptest! {
        /// However attempts of several partitions start and end: nothing starts while it is open, one
        /// probe at a time after its wait, and it opens and closes as its plain description says.
        #[test]
        fn inv_20_nothing_starts_but_one_probe_unless_it_is_closed(
            breaker in breakers(), steps in steps(),
        ) {
            held(breaker, steps, None)?;
        }
    }
}
