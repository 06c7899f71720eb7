//! How long did it take? Hand-overs, drains and the silence of kept partitions, from a ledger.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use pelton::TopicPartition;

use super::history::{Ending, History, NEVER, Place, Span};
use super::line::Entry;
use super::reader::Ledger;

/// After a rebalance event is acknowledged, its effects on kept partitions are looked for so
/// long.
const AFTERMATH: Duration = Duration::from_millis(1_200);

/// A window without any event is so long.
const CALM: Duration = Duration::from_millis(600);

/// A partition is kept by an event if it was busy so long before it, and still is after it.
const BUSY_BEFORE: Duration = Duration::from_millis(100);

/// Lines about one event stand so close together.
const ONE_EVENT: Duration = Duration::from_millis(20);

/// A run's durations.
///
/// ```
/// use pelton_testkit::ledger::{Ledger, Timeline};
/// use std::time::Duration;
///
/// let ledger = Ledger::from_text(
///     "1000000  a assigned logins-0 1
///      1000000  a started logins-0 1 0
///      2000000  a start logins-0 1 0 1
///      3000000  a revoked logins-0 1
///      8000000  a end logins-0 1 0 1 done
///      9000000  a released logins-0 1
///      12000000 b assigned logins-0 1
///      15000000 b started logins-0 1 1
///      18000000 b start logins-0 1 1 1",
/// )?;
/// let timeline = Timeline::of(&ledger);
/// assert_eq!(timeline.drains()[0].length, Duration::from_millis(6));
/// assert_eq!(timeline.hand_overs()[0].pause, Duration::from_millis(10)); // end → start
/// # Ok::<(), pelton_testkit::ledger::LedgerError>(())
/// ```
#[derive(Debug)]
pub struct Timeline<'a> {
    ledger: &'a Ledger,
    history: History,
}

/// A partition's way from revoked to released.
///
/// ```
/// # use pelton_testkit::ledger::{Drain, Quantiles};
/// fn summary(drains: &[Drain]) -> Option<Quantiles> {
///     Quantiles::of(drains.iter().map(|drain| drain.length))
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drain {
    /// Which partition.
    pub partition: TopicPartition,
    /// Who drained it.
    pub worker: String,
    /// From `revoked` (or the beginning of a shutdown) to `released`, just before the
    /// acknowledgement.
    pub length: Duration,
    /// Because the worker ended, not because of a revocation.
    pub shutdown: bool,
}

/// A partition's way from one owner to the next.
///
/// ```
/// # use pelton_testkit::ledger::{HandOver, Quantiles};
/// fn summary(hand_overs: &[HandOver]) -> Option<Quantiles> {
///     Quantiles::of(hand_overs.iter().map(|hand_over| hand_over.pause))
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandOver {
    /// Which partition.
    pub partition: TopicPartition,
    /// Who had it.
    pub from: String,
    /// Who got it.
    pub to: String,
    /// Did the old owner release it? Otherwise it was lost, killed or died.
    pub graceful: bool,
    /// From the last attempt's end by the old owner to the first start by the new one. Only
    /// meaningful while records keep coming.
    pub pause: Duration,
}

/// How long kept partitions stood still.
///
/// ```
/// # use pelton_testkit::ledger::{KeptGaps, Quantiles};
/// fn report(gaps: &KeptGaps) {
///     println!("events: {:?}", Quantiles::of(gaps.events.iter().copied()));
///     println!("calm:   {:?}", Quantiles::of(gaps.calm.iter().copied()));
/// }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeptGaps {
    /// Per rebalance event of a process and partition it kept: the longest time from the end of
    /// an attempt to the next start, from the event to 1.2 s after its acknowledgement.
    pub events: Vec<Duration>,
    /// The same in windows of 0.6 s without any event in any process: what the machine does by
    /// itself.
    pub calm: Vec<Duration>,
}

/// The usual quantiles of some durations. Displays in milliseconds.
///
/// ```
/// use pelton_testkit::ledger::Quantiles;
/// use std::time::Duration;
///
/// let quantiles = Quantiles::of((1..=100).map(Duration::from_millis)).unwrap();
/// assert_eq!(quantiles.to_string(), "n=100 p50=51.0 p90=91.0 p99=100.0 max=100.0 ms");
/// assert_eq!(Quantiles::of([]), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "their names say it")]
pub struct Quantiles {
    pub count: usize,
    pub p50: Duration,
    pub p90: Duration,
    pub p99: Duration,
    pub max: Duration,
}

impl Quantiles {
    /// Of these durations; `None` if there are none.
    #[must_use]
    pub fn of(durations: impl IntoIterator<Item = Duration>) -> Option<Self> {
        let mut sorted: Vec<_> = durations.into_iter().collect();
        sorted.sort_unstable();
        let max = *sorted.last()?;
        let count = sorted.len();
        let at = |percent: usize| sorted.get(count * percent / 100).copied().unwrap_or(max);
        Some(Self { count, p50: at(50), p90: at(90), p99: at(99), max })
    }
}

impl fmt::Display for Quantiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |duration: Duration| duration.as_secs_f64() * 1_000.0;
        let (p50, p90, p99) = (ms(self.p50), ms(self.p90), ms(self.p99));
        let (count, max) = (self.count, ms(self.max));
        write!(f, "n={count} p50={p50:.1} p90={p90:.1} p99={p99:.1} max={max:.1} ms")
    }
}

impl<'a> Timeline<'a> {
    /// Of this run.
    #[must_use]
    pub fn of(ledger: &'a Ledger) -> Self {
        Self { ledger, history: History::of(ledger) }
    }

    /// Every drain that ended in a release.
    #[must_use]
    pub fn drains(&self) -> Vec<Drain> {
        let drain = |(partition, span): (&TopicPartition, &Span)| {
            let stopping = self.history.processes[span.process].stopping;
            let begun = span.revoked.or(stopping).filter(|begun| *begun < span.end)?;
            (span.ending == Ending::Released).then(|| Drain {
                partition: partition.clone(),
                worker: self.ledger.name(span.process),
                length: self.between(begun, span.end),
                shutdown: span.revoked.is_none(),
            })
        };
        self.spans().filter_map(drain).collect()
    }

    /// Every change of owner after which the new one started a record. Restarts in place (a
    /// reset, a partition that comes back) are no hand-overs.
    #[must_use]
    pub fn hand_overs(&self) -> Vec<HandOver> {
        let mut hand_overs = Vec::new();
        for (partition, history) in &self.history.partitions {
            let mut old: Option<&Span> = None;
            for span in history.spans.iter().filter(|span| !span.attempts.is_empty()) {
                if let Some(old) = old.filter(|old| old.process != span.process) {
                    let first = span.attempts.first().map_or(span.end, |attempt| attempt.start);
                    let ends = old.attempts.iter().filter_map(|attempt| attempt.end);
                    let last = ends.map(|(place, _)| place).filter(|place| *place < first).max();
                    let last = last.unwrap_or(old.assigned);
                    hand_overs.push(HandOver {
                        partition: partition.clone(),
                        from: self.ledger.name(old.process),
                        to: self.ledger.name(span.process),
                        graceful: old.ending == Ending::Released,
                        pause: self.between(last, first),
                    });
                }
                old = Some(span);
            }
        }
        hand_overs
    }

    /// How long partitions stood still that a rebalance did not concern. The load must keep
    /// every partition busy.
    #[must_use]
    pub fn kept_gaps(&self) -> KeptGaps {
        let events = self.events();
        let mut restless: Vec<u64> =
            events.iter().flat_map(|event| [event.from, event.until]).collect();
        restless.extend(self.ledger.lines().iter().filter_map(|line| match line.entry {
            Entry::Stopping | Entry::Stopped | Entry::Fault(_) => Some(line.at),
            _ => None,
        }));
        restless.sort_unstable();
        let mut gaps = KeptGaps::default();
        for (_, span) in self.spans() {
            let busy = self.busy(span);
            let (Some((first, _)), Some((_, last))) = (busy.first(), busy.last()) else {
                continue;
            };
            for event in events.iter().filter(|event| event.process == span.process) {
                let until = event.until + nanos(AFTERMATH);
                if first + nanos(BUSY_BEFORE) < event.from && *last > until {
                    gaps.events.push(longest_gap(&busy, event.from, until));
                }
            }
            gaps.calm.extend(
                calm_windows(&restless, *first, *last)
                    .map(|(from, until)| longest_gap(&busy, from, until)),
            );
        }
        gaps
    }

    /// Rebalance events: when they were heard and when they were acknowledged.
    fn events(&self) -> Vec<RebalanceEvent> {
        let mut changes: BTreeMap<(usize, bool), Vec<(u64, u64)>> = BTreeMap::new();
        for (_, span) in self.spans() {
            let assigned = self.moment(span.assigned);
            changes.entry((span.process, true)).or_default().push((assigned, assigned));
            if let Some(revoked) = span.revoked {
                let change = (self.moment(revoked), self.moment(span.end));
                changes.entry((span.process, false)).or_default().push(change);
            }
        }
        let mut events = Vec::new();
        for ((process, _), mut changes) in changes {
            changes.sort_unstable();
            let mut heard: Option<RebalanceEvent> = None;
            for (from, until) in changes {
                match &mut heard {
                    Some(event) if from - event.from <= nanos(ONE_EVENT) => {
                        event.until = event.until.max(until);
                    }
                    _ => events.extend(heard.replace(RebalanceEvent { process, from, until })),
                }
            }
            events.extend(heard);
        }
        events
    }

    /// When it had attempts running, as (start, end), in order: those that overlap are one.
    fn busy(&self, span: &Span) -> Vec<(u64, u64)> {
        let attempts =
            span.attempts.iter().filter_map(|attempt| Some((attempt.start, attempt.end?)));
        let mut busy: Vec<(u64, u64)> = Vec::new();
        for (start, (end, _)) in attempts {
            let (start, end) = (self.moment(start), self.moment(end));
            match busy.last_mut().filter(|(_, until)| start < *until) {
                Some((_, until)) => *until = end.max(*until),
                None => busy.push((start, end)),
            }
        }
        busy
    }

    fn spans(&self) -> impl Iterator<Item = (&TopicPartition, &Span)> + '_ {
        let partitions = self.history.partitions.iter();
        partitions.flat_map(|(name, partition)| partition.spans.iter().map(move |s| (name, s)))
    }

    fn moment(&self, place: Place) -> u64 {
        let lines = self.ledger.lines();
        let line = if place == NEVER { lines.last() } else { lines.get(place) };
        line.map_or(0, |line| line.at)
    }

    fn between(&self, from: Place, to: Place) -> Duration {
        Duration::from_nanos(self.moment(to).saturating_sub(self.moment(from)))
    }
}

#[derive(Clone, Copy, Debug)]
struct RebalanceEvent {
    process: usize,
    from: u64,
    until: u64,
}

/// The longest time from an end to the next start that touches the window.
fn longest_gap(busy: &[(u64, u64)], from: u64, until: u64) -> Duration {
    let begin = busy.partition_point(|(start, _)| *start < from).saturating_sub(1);
    let gaps = busy[begin..].windows(2).take_while(|pair| pair[0].1 < until);
    let touching = gaps.filter(|pair| pair[1].0 > from);
    let longest = touching.map(|pair| pair[1].0.saturating_sub(pair[0].1)).max();
    Duration::from_nanos(longest.unwrap_or(0))
}

/// Windows between `first` + 1 s and `last` with no event in them nor shortly before.
fn calm_windows(restless: &[u64], first: u64, last: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
    let (calm, step, quiet) = (nanos(CALM), nanos(CALM) / 12, nanos(AFTERMATH));
    let mut from = first + 1_000_000_000;
    std::iter::from_fn(move || {
        while from + calm < last {
            let next = restless.partition_point(|at| *at < from.saturating_sub(quiet));
            if restless.get(next).is_none_or(|at| *at > from + calm) {
                let window = (from, from + calm);
                from += calm;
                return Some(window);
            }
            from += step;
        }
        None
    })
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    /// Two partitions, a record every 10 ms for 4 s; at 2 s one is revoked (100 ms drain) and
    /// the other stands still for 40 ms.
    fn run() -> String {
        let mut text = String::new();
        let mut line = |at_ms: u64, entry: String| {
            writeln!(text, "{} a {entry}", at_ms * 1_000_000).expect("memory");
        };
        for partition in 0..2 {
            line(0, format!("assigned t-{partition} 1"));
            line(0, format!("started t-{partition} 1 0"));
        }
        line(2_000, "revoked t-1 1".into());
        line(2_100, "released t-1 1".into());
        for record in 0..400u64 {
            let at = 10 * record + if record > 201 { 30 } else { 0 };
            for partition in (0..2).filter(|p| *p == 0 || record <= 200) {
                line(at, format!("start t-{partition} 1 {record} 1"));
                line(at + 1, format!("end t-{partition} 1 {record} 1 done"));
            }
        }
        text
    }

    #[test]
    fn an_attempt_that_runs_beside_others_leaves_no_gap() {
        let slow = "1500000000 a start t-0 1 1000 1\n2500000000 a end t-0 1 1000 1 done\n";
        let ledger = Ledger::from_text(&format!("{}{slow}", run())).expect("a history");
        let gaps = Timeline::of(&ledger).kept_gaps();
        assert_eq!(gaps.events, [Duration::from_millis(9)], "what comes after it");
    }

    #[test]
    fn a_kept_partition_s_gap_is_found_and_the_revoked_one_is_not_kept() {
        let ledger = Ledger::from_text(&run()).expect("a history");
        let timeline = Timeline::of(&ledger);
        let gaps = timeline.kept_gaps();
        assert_eq!(gaps.events, [Duration::from_millis(39)], "one event, one kept partition");
        assert!(!gaps.calm.is_empty());
        assert!(gaps.calm.iter().all(|gap| *gap == Duration::from_millis(9)), "{gaps:?}");
        assert_eq!(timeline.drains()[0].length, Duration::from_millis(100));
        assert!(timeline.hand_overs().is_empty());
    }
}
