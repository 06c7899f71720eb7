//! Does the ledger agree with the topics? Seven invariants, partition by partition.
//!
//! Pure: a ledger, the truth and the rules in, a [`Verdict`] out. Each invariant has a file of
//! its own under `check/`.

use std::collections::BTreeMap;
use std::time::Duration;

use pelton::telemetry::RecordOutcome;
use pelton::{Ordering, TopicPartition};

use super::history::{Attempt, Ending, History, NEVER, PartitionHistory, Place, Span};
use super::line::Entry;
use super::reader::Ledger;
use super::truth::{PartitionTruth, Truth};
use super::verdict::{Invariant, Verdict, Violation};

mod commits;
mod coverage;
mod loss;
mod order;
mod owner;
mod repeats;
mod stored;
mod stuck;

/// What a process has waiting when it thaws it hears within so long.
const AT_THE_THAW: Duration = Duration::from_secs(1);

/// So many violations of each invariant are told in full.
const TOLD: u64 = 5;

/// A violation shows so many lines at most.
const SHOWN_LINES: usize = 5;

/// The rules by which a run is judged: at-least-once, and unless [`ordering`](Self::ordering) says
/// otherwise, records in partition order.
///
/// ```
/// use pelton::TopicPartition;
/// use pelton_testkit::ledger::{Check, Ledger, Truth};
/// use std::time::Duration;
///
/// let ledger = Ledger::from_text(
///     "10 a assigned logins-0 1
///      20 a started logins-0 1 0
///      30 a start logins-0 1 0 1
///      40 a end logins-0 1 0 1 done
///      50 a try logins-0 1 1 1
///      60 a known logins-0 1 1 1 accepted
///      70 a released logins-0 1",
/// )?;
/// let logins = TopicPartition::new("logins", 0);
/// let mut truth = Truth::new();
/// truth.record(&logins, 0, Some(b"alice"), None);
/// truth.at_rest(&logins, Some(1), 1);
///
/// let verdict = Check::new().stuck_after(Duration::from_secs(30)).hold(&ledger, &truth);
/// assert!(verdict.is_clean(), "{verdict}");
/// assert_eq!((verdict.records, verdict.done, verdict.lost), (1, 1, 0));
/// # Ok::<(), pelton_testkit::ledger::LedgerError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Check {
    stuck_after: Duration,
    ordering: Ordering,
    marker_lag: i64,
    drain_timeout: Option<Duration>,
}

impl Default for Check {
    fn default() -> Self {
        Self::new()
    }
}

impl Check {
    /// The default rules.
    #[must_use]
    pub fn new() -> Self {
        Self {
            stuck_after: Duration::from_secs(60),
            ordering: Ordering::Partition,
            marker_lag: 0,
            drain_timeout: None,
        }
    }

    /// A3: what the inputs keep in order, and how many records of a partition they handle at once.
    /// Default: [`Ordering::Partition`].
    ///
    /// Under [`Ordering::Key`] the truth's keys count; records without one are one unit.
    ///
    /// ```
    /// use pelton::{Ordering, TopicPartition};
    /// use pelton_testkit::ledger::{Check, Invariant, Ledger, Truth};
    /// use std::num::NonZeroU32;
    ///
    /// let ledger = Ledger::from_text(
    ///     "10 a assigned logins-0 1
    ///      20 a started logins-0 1 0
    ///      30 a start logins-0 1 0 1
    ///      40 a start logins-0 1 1 1
    ///      50 a end logins-0 1 1 1 done
    ///      60 a try logins-0 1 0 1 0-1rBB       # record 1 is done, record 0 is not
    ///      70 a known logins-0 1 0 1 accepted
    ///      80 a end logins-0 1 0 1 done",
    /// )?;
    /// let logins = TopicPartition::new("logins", 0);
    /// let mut truth = Truth::new();
    /// truth.record(&logins, 0, Some(b"alice"), None);
    /// truth.record(&logins, 1, Some(b"bob"), None);
    ///
    /// let by_key = Ordering::Key { concurrency: NonZeroU32::MIN.saturating_add(1) };
    /// assert!(Check::new().ordering(by_key).hold(&ledger, &truth).is_clean());
    /// assert!(Check::new().hold(&ledger, &truth).count(Invariant::Order) > 0);
    /// # Ok::<(), pelton_testkit::ledger::LedgerError>(())
    /// ```
    #[must_use]
    pub fn ordering(mut self, ordering: Ordering) -> Self {
        self.ordering = ordering;
        self
    }

    /// A7: an assigned partition with records to handle may start none for so long. Default
    /// 60 s; it must be above the longest wait of a retry.
    #[must_use]
    pub fn stuck_after(mut self, limit: Duration) -> Self {
        self.stuck_after = limit;
        self
    }

    /// A2: the input is written in transactions, so its log ends with a marker that nobody
    /// reads: the committed offset may stay `offsets` below the end. Default 0; 1 for a
    /// producer whose transactions commit.
    #[must_use]
    pub fn marker_lag(mut self, offsets: u32) -> Self {
        self.marker_lag = i64::from(offsets);
        self
    }

    /// A4, A6: how long a drain may take before its partition is released whatever has been
    /// committed (the worker's release deadline; the shorter one of a revocation's and a
    /// shutdown's).
    ///
    /// A drain that took so long may have left a handler behind that never yields. Its effects are
    /// discarded, so what it still does counts as a zombie's. One that took less has committed
    /// what was done: neither an attempt that was cut off nor a commit without an answer explains
    /// a repeat then. Default: not known; no drain leaves a handler behind, and both explain.
    #[must_use]
    pub fn drain_timeout(mut self, limit: Duration) -> Self {
        self.drain_timeout = Some(limit);
        self
    }

    /// Holds a run's ledger against the topics.
    ///
    /// The ledger must be of one group; a partition that only the truth or only the ledger
    /// knows is judged like any other.
    #[must_use = "a verdict that nobody reads proves nothing"]
    pub fn hold(&self, ledger: &Ledger, truth: &Truth) -> Verdict {
        let history = History::of(ledger);
        let mut verdict = Verdict::default();
        count_processes(ledger, &mut verdict);
        let (no_history, no_truth) = (PartitionHistory::default(), PartitionTruth::default());
        let mut names: Vec<_> = history.partitions.keys().chain(truth.partitions.keys()).collect();
        names.sort();
        names.dedup();
        for name in names {
            let partition = history.partitions.get(name).unwrap_or(&no_history);
            let case = Case {
                rules: self,
                ledger,
                history: &history,
                name,
                partition,
                truth: truth.partitions.get(name).unwrap_or(&no_truth).sorted(),
                executions: Executions::of(partition),
            };
            case.count(&mut verdict);
            coverage::check(&case, &mut verdict);
            loss::check(&case, &mut verdict);
            order::check(&case, &mut verdict);
            owner::check(&case, &mut verdict);
            commits::check(&case, &mut verdict);
            repeats::check(&case, &mut verdict);
            stuck::check(&case, &mut verdict);
        }
        verdict.violations.sort_by_key(|violation| violation.invariant);
        verdict
    }
}

fn count_processes(ledger: &Ledger, verdict: &mut Verdict) {
    let mut workers = vec![false; ledger.processes().len()];
    for line in ledger.lines() {
        workers[line.process] |= !matches!(line.entry, Entry::Fault(_));
    }
    verdict.processes = count(workers.into_iter().filter(|worker| *worker));
}

/// One partition before its judges.
pub(crate) struct Case<'a> {
    pub(crate) rules: &'a Check,
    pub(crate) ledger: &'a Ledger,
    pub(crate) history: &'a History,
    pub(crate) name: &'a TopicPartition,
    pub(crate) partition: &'a PartitionHistory,
    pub(crate) truth: PartitionTruth,
    pub(crate) executions: Executions,
}

impl Case<'_> {
    fn count(&self, verdict: &mut Verdict) {
        verdict.assignments += count(self.partition.spans.iter());
        verdict.records += count(self.truth.records.iter());
        for attempt in self.partition.spans.iter().flat_map(|span| &span.attempts) {
            verdict.attempts += 1;
            let is_tried_again = attempt.end.is_some_and(|(_, outcome)| outcome.is_tried_again());
            verdict.retries += u64::from(is_tried_again);
        }
        let done = self.executions.0.iter().filter(|(_, all)| all.iter().any(|e| e.done.is_some()));
        for (_, all) in done {
            verdict.done += 1;
            verdict.skipped += u64::from(all.iter().any(|execution| execution.skipped));
        }
    }

    /// When the line at `place` was written; for [`NEVER`], when the ledger ends.
    pub(crate) fn moment(&self, place: Place) -> u64 {
        let lines = self.ledger.lines();
        let line = if place == NEVER { lines.last() } else { lines.get(place) };
        line.map_or(0, |line| line.at)
    }

    pub(crate) fn between(&self, from: Place, to: Place) -> Duration {
        Duration::from_nanos(self.moment(to).saturating_sub(self.moment(from)))
    }

    /// Until when an attempt ran: where it did not end, until its process did.
    pub(crate) fn until(&self, process: usize, attempt: &Attempt) -> Place {
        let process = &self.history.processes[process];
        attempt.end.map_or_else(
            || match (process.killed, process.stopping) {
                (None, None) => NEVER,
                _ => process.last,
            },
            |(place, _)| place,
        )
    }

    /// May the assignment have been released without a commit of all it had done? So it is at its
    /// drain's deadline; where that is not known, always.
    pub(crate) fn may_be_uncommitted(&self, span: &Span) -> bool {
        self.rules.drain_timeout.is_none()
            || span.ending != Ending::Released
            || self.may_leave_behind(span)
    }

    /// Was the assignment old news, and not confirmed before `place`? It was decided before its
    /// process was frozen and heard when it thawed; or a zombie reset its partition in place.
    pub(crate) fn is_old_news(&self, span: &Span, place: Place) -> bool {
        let frozen = &self.history.processes[span.process].frozen;
        let at_the_thaw = |until: Place| {
            until < span.assigned && self.between(until, span.assigned) < AT_THE_THAW
        };
        let is_old = frozen.iter().any(|(_, until)| at_the_thaw(*until))
            || self.partition.reset_to(span).is_some_and(|before| {
                self.is_unaware(before, span.assigned) || self.is_old_news(before, span.assigned)
            });
        is_old && !span.was_confirmed(span.assigned, place)
    }

    /// Was the assignment's process frozen or cut off before `place`, and not heard to own the
    /// partition since? Then it may not know better.
    pub(crate) fn is_unaware(&self, span: &Span, place: Place) -> bool {
        self.history.processes[span.process].was_frozen_in(span, place)
            || self.history.was_cut_off_in(span, place)
    }

    /// May the assignment's drain have left a handler behind, at its deadline?
    pub(crate) fn may_leave_behind(&self, span: &Span) -> bool {
        let stopping = self.history.processes[span.process].stopping;
        let Some(begun) = [span.revoked, stopping].into_iter().flatten().min() else {
            return false;
        };
        let limit = self.rules.drain_timeout;
        span.ending == Ending::Released
            && limit.is_some_and(|limit| self.between(begun, span.end) >= limit)
    }

    /// Writes a violation down, with the lines at `places` to show it.
    pub(crate) fn cry(
        &self,
        verdict: &mut Verdict,
        invariant: Invariant,
        offset: Option<i64>,
        what: String,
        places: impl IntoIterator<Item = Place>,
    ) {
        let counted = verdict.counts.entry(invariant).or_insert(0);
        *counted += 1;
        if *counted > TOLD {
            return;
        }
        let mut places: Vec<_> = places.into_iter().filter(|place| *place != NEVER).collect();
        places.sort_unstable();
        places.dedup();
        places.truncate(SHOWN_LINES);
        let lines = places.into_iter().map(|place| self.ledger.show(place)).collect();
        let partition = self.name.clone();
        verdict.violations.push(Violation { invariant, partition, offset, what, lines });
    }
}

/// What each assignment did with each record, by offset.
#[derive(Debug, Default)]
pub(crate) struct Executions(pub(crate) BTreeMap<i64, Vec<Execution>>);

/// All attempts of one assignment at one record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Execution {
    /// Its place among the partition's spans.
    pub(crate) span: usize,
    pub(crate) start: Place,
    /// Where it was first done.
    pub(crate) done: Option<Place>,
    /// Where it was first handled: done, or waiting for a flush.
    pub(crate) through: Option<Place>,
    pub(crate) skipped: bool,
    /// It was begun again by the same assignment after it was done or handled.
    pub(crate) again: Option<Place>,
}

impl Executions {
    fn of(partition: &PartitionHistory) -> Self {
        let mut executions = Self::default();
        for (span, attempts) in (0..).zip(partition.spans.iter().map(|span| &span.attempts)) {
            for attempt in attempts {
                let all = executions.0.entry(attempt.offset).or_default();
                let skipped = matches!(attempt.end, Some((_, RecordOutcome::Skipped)));
                match all.last_mut().filter(|last| last.span == span) {
                    Some(last) => {
                        if last.through.is_some() {
                            last.again.get_or_insert(attempt.start);
                        }
                        last.done = last.done.or_else(|| attempt.done());
                        last.through = last.through.or_else(|| attempt.through());
                        last.skipped |= skipped;
                    }
                    None => all.push(Execution {
                        span,
                        start: attempt.start,
                        done: attempt.done(),
                        through: attempt.through(),
                        skipped,
                        again: None,
                    }),
                }
            }
        }
        executions
    }

    /// Where the record was done for the first time, by anyone.
    pub(crate) fn first_done(&self, offset: i64) -> Option<Place> {
        self.0.get(&offset)?.iter().filter_map(|execution| execution.done).min()
    }

    /// What assignment number `span` did with the record.
    pub(crate) fn of_span(&self, offset: i64, span: usize) -> Option<&Execution> {
        self.0.get(&offset)?.iter().find(|execution| execution.span == span)
    }
}

pub(crate) fn count<T>(items: impl Iterator<Item = T>) -> u64 {
    u64::try_from(items.count()).unwrap_or(u64::MAX)
}
