//! What became of each assignment? The lines of a ledger, told partition by partition.
//!
//! Order is the order of the lines: a *place* is a line's index, and everything is compared by
//! place; only lengths use the clock.

use std::collections::{BTreeMap, HashMap};

use pelton::TopicPartition;
use pelton::telemetry::{CommitOutcome, RecordOutcome};
use pelton_engine::{DoneSet, Offset};

use super::line::{Entry, Fault, FaultKind};
use super::reader::Ledger;

/// The index of a line.
pub(crate) type Place = usize;

/// Later than every line.
pub(crate) const NEVER: Place = usize::MAX;

/// A run, as partitions and processes have seen it.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) partitions: BTreeMap<TopicPartition, PartitionHistory>,
    pub(crate) processes: Vec<ProcessHistory>,
    pub(crate) broker_kills: Vec<Place>,
    pub(crate) bad_network: Vec<BadNetwork>,
}

/// A time in which the network between workers and brokers failed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BadNetwork {
    pub(crate) from: Place,
    pub(crate) until: Place,
}

#[derive(Debug, Default)]
pub(crate) struct PartitionHistory {
    /// In order of assignment.
    pub(crate) spans: Vec<Span>,
    pub(crate) resets: Vec<OffsetReset>,
    /// Lines about an assignment that never was.
    pub(crate) orphans: Vec<Place>,
}

/// What was done to a process, and how it ended.
#[derive(Debug, Default)]
pub(crate) struct ProcessHistory {
    /// When it was frozen, and until when.
    pub(crate) frozen: Vec<(Place, Place)>,
    pub(crate) killed: Option<Place>,
    /// A graceful end has begun: by its own word, or because it was asked for.
    pub(crate) stopping: Option<Place>,
    pub(crate) stopped: Option<Place>,
    pub(crate) last: Place,
}

/// The group goes on at another offset than its commits say: an operator's word, or a worker's
/// whose position was not in its log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OffsetReset {
    pub(crate) at: Place,
    pub(crate) offset: i64,
    /// What it sets aside begins here and ends before `offset`.
    pub(crate) skips_from: i64,
}

impl OffsetReset {
    /// Is the record one that nobody has to handle any more?
    pub(crate) fn skips(&self, offset: i64) -> bool {
        (self.skips_from..self.offset).contains(&offset)
    }
}

/// One assignment of a partition to a process.
#[derive(Debug)]
pub(crate) struct Span {
    pub(crate) process: usize,
    pub(crate) epoch: u64,
    pub(crate) assigned: Place,
    pub(crate) started: Option<(Place, i64)>,
    pub(crate) revoked: Option<Place>,
    /// Its drain had reached its deadline.
    pub(crate) cut_off: Option<Place>,
    /// Where an output failed last.
    pub(crate) undelivered: Option<Place>,
    /// Of its attempts, those that have handled their records and wait for a flush.
    unflushed: Vec<usize>,
    pub(crate) end: Place,
    pub(crate) ending: Ending,
    /// In the order in which they began; they may overlap.
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) commits: Vec<Commit>,
}

/// How an assignment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It lasts.
    Open,
    Released,
    Lost,
    Reset,
    /// Its process was killed.
    Killed,
    /// Its process ended without releasing it.
    Exited,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt {
    pub(crate) offset: i64,
    pub(crate) attempt: u32,
    pub(crate) start: Place,
    pub(crate) end: Option<(Place, RecordOutcome)>,
    /// Where what it handled was flushed.
    flushed: Option<Place>,
}

#[derive(Clone, Debug)]
pub(crate) struct Commit {
    pub(crate) id: u64,
    pub(crate) offset: i64,
    /// What it names above its offset.
    pub(crate) done: DoneSet,
    /// It had a done-set that nobody can use: no text of one, or one for another offset.
    pub(crate) is_damaged: bool,
    pub(crate) tried: Place,
    pub(crate) known: Option<(Place, CommitOutcome)>,
}

impl History {
    pub(crate) fn of(ledger: &Ledger) -> Self {
        let mut history = Self::default();
        history.processes.resize_with(ledger.processes().len(), ProcessHistory::default);
        let mut open: HashMap<(usize, TopicPartition, u64), usize> = HashMap::new();
        for (place, line) in ledger.lines().iter().enumerate() {
            history.processes[line.process].last = place;
            match (&line.entry, line.entry.assignment()) {
                (_, Some((partition, epoch))) => {
                    let span = (line.process, partition.clone(), epoch);
                    history.step(&mut open, place, &line.entry, span);
                }
                (Entry::Stopping, _) => {
                    history.processes[line.process].stopping.get_or_insert(place);
                }
                (Entry::Stopped, _) => history.processes[line.process].stopped = Some(place),
                (Entry::Fault(Fault::BrokerKill { .. }), _) => history.broker_kills.push(place),
                (Entry::Fault(Fault::Network { .. }), _) => {
                    history.bad_network.push(BadNetwork { from: place, until: NEVER });
                }
                (Entry::Fault(Fault::NetworkHealed), _) => {
                    for bad in &mut history.bad_network {
                        bad.until = bad.until.min(place);
                    }
                }
                (Entry::Fault(Fault::OffsetReset { partition, offset }), _) => {
                    let partition = history.partitions.entry(partition.clone()).or_default();
                    // An operator who sets the offset beyond a record wants it left out.
                    let (offset, skips_from) = (*offset, i64::MIN);
                    partition.resets.push(OffsetReset { at: place, offset, skips_from });
                }
                (_, None) => {}
            }
        }
        for (place, process, kind) in ledger.process_faults() {
            history.processes[process].fault(place, kind);
        }
        history.end_spans();
        history
    }

    fn step(
        &mut self,
        open: &mut HashMap<(usize, TopicPartition, u64), usize>,
        place: Place,
        entry: &Entry,
        (process, name, epoch): (usize, TopicPartition, u64),
    ) {
        let partition = self.partitions.entry(name.clone()).or_default();
        if matches!(entry, Entry::Assigned { .. }) {
            open.insert((process, name, epoch), partition.spans.len());
            partition.spans.push(Span::new(process, epoch, place));
            return;
        }
        if let Entry::Jumped { from, to, .. } = entry {
            let (offset, skips_from) = (*to, *from);
            partition.resets.push(OffsetReset { at: place, offset, skips_from });
            return;
        }
        let span = open.get(&(process, name, epoch)).and_then(|at| partition.spans.get_mut(*at));
        match span {
            Some(span) => span.take(place, entry),
            None => partition.orphans.push(place),
        }
    }

    /// A process takes its assignments with it.
    fn end_spans(&mut self) {
        for span in self.partitions.values_mut().flat_map(|partition| &mut partition.spans) {
            let process = &self.processes[span.process];
            if span.ending != Ending::Open {
                continue;
            }
            if let Some(killed) = process.killed {
                // The signal comes a little after its line.
                span.end = killed.max(process.last);
                span.ending = Ending::Killed;
            } else if process.stopping.is_some() {
                span.end = process.last;
                span.ending = Ending::Exited;
            }
        }
    }
}

impl History {
    /// Did the network fail in the assignment's time before `place`, and has the assignment not
    /// been heard to own its partition since: by an accepted commit that was tried after that?
    pub(crate) fn was_cut_off_in(&self, span: &Span, place: Place) -> bool {
        self.bad_network.iter().any(|bad| {
            bad.from < place && bad.until > span.assigned && !span.was_confirmed(bad.until, place)
        })
    }

    /// Was anything assigned to the process between these places?
    pub(crate) fn is_assigned_to(&self, process: usize, from: Place, to: Place) -> bool {
        let mut spans = self.partitions.values().flat_map(|partition| &partition.spans);
        spans.any(|span| span.process == process && (from..to).contains(&span.assigned))
    }
}

impl PartitionHistory {
    /// The assignment that was reset, and began again as `span`.
    pub(crate) fn reset_to(&self, span: &Span) -> Option<&Span> {
        let mut own = self.spans.iter().filter(|before| before.process == span.process);
        let before = own.rfind(|before| before.assigned < span.assigned);
        before.filter(|before| before.ending == Ending::Reset)
    }

    /// The highest offset that Kafka had certainly stored at `place`.
    pub(crate) fn committed_at(&self, place: Place) -> Option<i64> {
        let accepted = self.last_accepted_at(place).map(|commit| commit.offset);
        let reset = self.resets.iter().rfind(|reset| reset.at < place);
        accepted.max(reset.map(|reset| reset.offset))
    }

    /// The commit that Kafka had certainly stored at `place`: of those at the highest offset the
    /// last one.
    pub(crate) fn last_accepted_at(&self, place: Place) -> Option<&Commit> {
        let accepted = self.tried_before(place).filter(|commit| commit.is_accepted_before(place));
        accepted.max_by_key(|commit| (commit.offset, commit.tried))
    }

    /// All commits that were tried before `place`, and after the last time that the offset was set
    /// by somebody else.
    pub(crate) fn tried_before(&self, place: Place) -> impl Iterator<Item = &Commit> {
        let reset = self.resets.iter().rfind(|reset| reset.at < place);
        let since = reset.map_or(0, |reset| reset.at);
        let commits = self.spans.iter().flat_map(|span| &span.commits);
        commits.filter(move |commit| (since..place).contains(&commit.tried))
    }
}

impl PartitionHistory {
    /// All commits that may be what a reader finds who asks after `from` and has its answer before
    /// `place`. One that is under way when the offset is set by somebody else may be stored after it.
    pub(crate) fn may_be_read(&self, from: Place, place: Place) -> impl Iterator<Item = &Commit> {
        let reset = self.resets.iter().rfind(|reset| reset.at < from);
        let since = reset.map_or(0, |reset| reset.at);
        let commits = self.spans.iter().flat_map(|span| &span.commits);
        commits.filter(move |commit| {
            let answered = commit.known.map_or(NEVER, |(at, _)| at);
            commit.tried < place && answered >= since
        })
    }
}

impl ProcessHistory {
    fn fault(&mut self, place: Place, kind: FaultKind) {
        match kind {
            FaultKind::Kill => drop(self.killed.get_or_insert(place)),
            // Its own word comes a little later; without one it counts all the same.
            FaultKind::Terminate => drop(self.stopping.get_or_insert(place)),
            FaultKind::Stop => self.frozen.push((place, NEVER)),
            FaultKind::Continue => {
                if let Some((_, until)) = self.frozen.last_mut() {
                    *until = (*until).min(place);
                }
            }
        }
    }

    /// Was it frozen at some time between these places?
    pub(crate) fn was_frozen(&self, from: Place, to: Place) -> bool {
        self.frozen.iter().any(|(stop, until)| *stop < to && *until > from)
    }

    /// Had the assignment been frozen before `place`, and not been heard to own its partition
    /// since: by an accepted commit that was tried after the thaw?
    pub(crate) fn was_frozen_in(&self, span: &Span, place: Place) -> bool {
        self.frozen.iter().any(|(stop, until)| {
            *stop < place && *until > span.assigned && !span.was_confirmed(*until, place)
        })
    }
}

impl Span {
    fn new(process: usize, epoch: u64, assigned: Place) -> Self {
        Self {
            process,
            epoch,
            assigned,
            started: None,
            revoked: None,
            cut_off: None,
            undelivered: None,
            unflushed: Vec::new(),
            end: NEVER,
            ending: Ending::Open,
            attempts: Vec::new(),
            commits: Vec::new(),
        }
    }

    fn take(&mut self, place: Place, entry: &Entry) {
        match *entry {
            Entry::Started { position, .. } => self.started = Some((place, position)),
            // A worker that leaves hears of a revocation after it has released everything.
            Entry::Revoked { .. } if self.ending == Ending::Open => {
                self.revoked.get_or_insert(place);
            }
            Entry::Released { .. } => self.ends(place, Ending::Released),
            Entry::Lost { .. } => self.ends(place, Ending::Lost),
            Entry::Reset { .. } => self.ends(place, Ending::Reset),
            Entry::Start { offset, attempt, .. } => {
                self.attempts.push(Attempt {
                    offset,
                    attempt,
                    start: place,
                    end: None,
                    flushed: None,
                });
            }
            Entry::End { offset, attempt, outcome, .. } => {
                let begun = self.attempts.iter().rposition(|begun| {
                    begun.offset == offset && begun.attempt == attempt && begun.end.is_none()
                });
                if let Some(begun) = begun {
                    self.attempts[begun].end = Some((place, outcome));
                    if outcome == RecordOutcome::Handled {
                        self.unflushed.push(begun);
                    }
                }
                // The instance is gone, and with it what it had handled and not flushed.
                if outcome.ends_its_instance() {
                    self.unflushed.clear();
                }
            }
            Entry::Flushed { .. } => {
                for handled in self.unflushed.drain(..) {
                    self.attempts[handled].flushed = Some(place);
                }
            }
            Entry::CutOff { .. } => drop(self.cut_off.get_or_insert(place)),
            Entry::Undelivered { .. } => self.undelivered = Some(place),
            Entry::CommitTried { offset, id, ref done, .. } => {
                self.commits.push(Commit::tried(place, id, offset, done));
            }
            Entry::CommitKnown { id, outcome, .. } => {
                let tried = self.commits.iter_mut().rev().find(|tried| tried.id == id);
                if let Some(tried) = tried {
                    tried.known = Some((place, outcome));
                }
            }
            Entry::Assigned { .. }
            | Entry::Jumped { .. }
            | Entry::Revoked { .. }
            | Entry::Stopping
            | Entry::Stopped
            | Entry::Fault(_) => {}
        }
    }

    fn ends(&mut self, place: Place, ending: Ending) {
        if self.ending == Ending::Open {
            self.end = place;
            self.ending = ending;
        }
    }

    /// The first offset it reads, once that is known.
    pub(crate) fn position(&self) -> Option<i64> {
        self.started.map(|(_, position)| position)
    }

    /// Was a commit tried after `from` and accepted before `to`?
    pub(crate) fn was_confirmed(&self, from: Place, to: Place) -> bool {
        self.commits.iter().any(|commit| commit.tried > from && commit.is_accepted_before(to))
    }

    /// Did an output fail after the last accepted commit was sent? Then what was done since may
    /// have had to stay uncommitted.
    pub(crate) fn has_undelivered(&self) -> bool {
        let mut moved: Option<&Commit> = None;
        for commit in self.commits.iter().filter(|commit| commit.is_accepted_before(self.end)) {
            // One that stays where the last one was only proves who owns the partition.
            if moved.is_none_or(|moved| commit.done.is_ahead_of(&moved.done)) {
                moved = Some(commit);
            }
        }
        self.undelivered.is_some_and(|place| moved.is_none_or(|moved| place > moved.tried))
    }

    /// Was its drain cut short: an attempt cancelled, or still running at the release?
    pub(crate) fn was_cut_short(&self) -> bool {
        self.attempts.iter().any(|attempt| match attempt.end {
            Some((_, RecordOutcome::Cancelled)) => true,
            Some((end, _)) => end > self.end,
            None => true,
        })
    }
}

impl Attempt {
    /// Where its record was done (or skipped, which is done without effects): what was handled
    /// under `flush_every` is done where it was flushed.
    pub(crate) fn done(&self) -> Option<Place> {
        match self.end {
            Some((
                place,
                RecordOutcome::Done
                | RecordOutcome::Skipped
                | RecordOutcome::DeadLetter
                | RecordOutcome::RetryTopic,
            )) => Some(place),
            Some((_, RecordOutcome::Handled)) => self.flushed,
            _ => None,
        }
    }

    /// Where its partition was free to go on behind its record: done, or handled.
    pub(crate) fn through(&self) -> Option<Place> {
        match self.end {
            Some((place, outcome)) if lets_pass(outcome) => Some(place),
            _ => None,
        }
    }
}

/// May the next record start after an attempt that ended so?
pub(crate) fn lets_pass(outcome: RecordOutcome) -> bool {
    use RecordOutcome::{DeadLetter, Done, Handled, RetryTopic, Skipped};
    matches!(outcome, Done | Handled | Skipped | DeadLetter | RetryTopic)
}

impl Commit {
    fn tried(place: Place, id: u64, offset: i64, done: &str) -> Self {
        let read = DoneSet::decode(done).ok().filter(|read| read.base() == Offset(offset));
        Self {
            id,
            offset,
            is_damaged: read.is_none() && !done.is_empty(),
            done: read.unwrap_or_else(|| DoneSet::above(Offset(offset))),
            tried: place,
            known: None,
        }
    }

    /// Does it say that the record is done?
    pub(crate) fn covers(&self, offset: i64) -> bool {
        offset < self.offset || self.names(offset)
    }

    /// Does its done-set say so?
    pub(crate) fn names(&self, offset: i64) -> bool {
        self.done.contains(Offset(offset))
    }

    /// The last offset that its done-set names; without one, the last below its own.
    pub(crate) fn highest(&self) -> i64 {
        let highest = self.done.highest();
        highest.map_or_else(|| self.offset.saturating_sub(1), |highest| highest.0)
    }

    pub(crate) fn is_accepted_before(&self, place: Place) -> bool {
        matches!(self.known, Some((known, CommitOutcome::Accepted)) if known < place)
    }

    /// Kafka has stored it, or may have.
    pub(crate) fn may_be_stored(&self) -> bool {
        !matches!(self.known, Some((_, CommitOutcome::Refused | CommitOutcome::MemberLost)))
    }
}
