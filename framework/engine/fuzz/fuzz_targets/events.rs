//! What if anything is told to the engine, possible or not? It never panics, and what it asks for
//! keeps the promises that are its own: they depend on no event being true.
//!
//! `cargo +nightly fuzz run events`; upholds INV-1, INV-5, INV-6, INV-7.

#![no_main]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use arbitrary::{Arbitrary, Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use pelton_engine::{
    Action, CommitStatus, Engine, EngineLimits, Epoch, Event, HeldEffects, LogRange, Offset,
    PartitionId, PartitionState, RunInfo, Time,
};

const PARTITIONS: u32 = 4;

/// What the engine has asked for, as far as a promise hangs on it.
struct Witness {
    engine: Engine,
    now: Time,
    /// The last epoch that was begun.
    epochs: BTreeMap<PartitionId, Epoch>,
    /// What the current epoch may commit: where it began, and what it was told is sealed.
    committable: BTreeMap<PartitionId, BTreeSet<Offset>>,
    accepted: BTreeMap<PartitionId, Offset>,
    fetching: BTreeSet<PartitionId>,
    in_flight: Option<(u64, Vec<(PartitionId, Epoch, Offset)>)>,
    unacknowledged: usize,
    left: bool,
}

impl Witness {
    fn new(budget_bytes: u64) -> Self {
        Self {
            engine: Engine::new(EngineLimits {
                budget_records: 100,
                budget_bytes,
                ..EngineLimits::default()
            }),
            now: Time::ZERO,
            epochs: BTreeMap::new(),
            committable: BTreeMap::new(),
            accepted: BTreeMap::new(),
            fetching: BTreeSet::new(),
            in_flight: None,
            unacknowledged: 0,
            left: false,
        }
    }

    fn tell(&mut self, event: Event) {
        let fetched = match &event {
            Event::Fetched { partition, .. } => Some(*partition),
            _ => None,
        };
        self.notice(&event);
        let mut actions = Vec::new();
        self.engine.handle(self.now, event, &mut actions);
        self.check(actions, fetched);
    }

    fn tick(&mut self) {
        let mut actions = Vec::new();
        let wake = self.engine.tick(self.now, &mut actions);
        assert!(wake.is_none_or(|at| at >= self.now), "a wake in the past");
        self.check(actions, None);
    }

    /// What an event allows, and what it ends.
    fn notice(&mut self, event: &Event) {
        match event {
            Event::Assigned { .. } | Event::Revoked { .. } | Event::Lost { .. } => {
                self.unacknowledged += 1;
            }
            Event::Restored { partition, epoch, position, committed } => {
                let restoring = self.state(*partition) == Some(PartitionState::Restoring);
                if restoring && self.epochs.get(partition) == Some(epoch) {
                    let start = [Some(*position), *committed].into_iter().flatten().collect();
                    self.committable.insert(*partition, start);
                    match committed {
                        Some(committed) => self.accepted.insert(*partition, *committed),
                        None => self.accepted.remove(partition),
                    };
                }
            }
            Event::Sealed { partition, epoch, offset }
                if self.epochs.get(partition) == Some(epoch) =>
            {
                self.committable.entry(*partition).or_default().insert(*offset);
            }
            Event::CommitAnswered { id, statuses } => {
                let Some((_, items)) = self.in_flight.take_if(|(sent, _)| sent == id) else {
                    return;
                };
                for (partition, epoch, offset) in items {
                    let status = statuses.iter().find(|(of, _)| *of == partition);
                    if status.is_some_and(|(_, status)| *status == CommitStatus::Accepted)
                        && self.epochs.get(&partition) == Some(&epoch)
                    {
                        self.accepted.insert(partition, offset);
                    }
                }
            }
            Event::MemberGone => (self.in_flight, self.unacknowledged) = (None, 0),
            Event::FetcherReplaced => self.fetching.clear(),
            _ => {}
        }
    }

    fn state(&self, partition: PartitionId) -> Option<PartitionState> {
        let mut views = self.engine.partitions();
        views.find(|view| view.partition == partition).map(|view| view.state)
    }

    fn check(&mut self, actions: Vec<Action>, fetched: Option<PartitionId>) {
        let mut delivered = false;
        for action in actions {
            match action {
                Action::Acknowledge => {
                    assert!(self.unacknowledged > 0, "nothing waits for an acknowledgement");
                    self.unacknowledged -= 1;
                }
                Action::Restore { partition, epoch, .. } => {
                    let before = self.epochs.insert(partition, epoch);
                    assert!(before.is_none_or(|before| before < epoch), "INV-7: an epoch again");
                    assert!(!self.fetching.contains(&partition), "INV-5: it is fetched already");
                    self.committable.remove(&partition);
                }
                Action::StartFetch { partition, .. } => {
                    assert!(self.fetching.insert(partition), "a double start jumps");
                }
                Action::StopFetch { partition } => {
                    assert!(self.fetching.remove(&partition), "a stop of what does not run");
                }
                Action::Deliver { partition, .. } => {
                    assert!(!delivered && fetched == Some(partition), "no such run is at hand");
                    delivered = true;
                }
                Action::Close { partition, .. } | Action::Drain { partition, .. } => {
                    assert!(!self.fetching.contains(&partition), "INV-5: it is still fetched");
                }
                Action::Commit { id, items } => {
                    assert!(self.in_flight.is_none(), "INV-6: two commits in flight");
                    let mut sent = Vec::new();
                    for item in items {
                        let partition = item.partition;
                        assert_eq!(self.epochs.get(&partition), Some(&item.epoch), "INV-7");
                        let may = self.committable.get(&partition);
                        let may = may.is_some_and(|offsets| offsets.contains(&item.offset));
                        assert!(may, "INV-1: nobody said that this is done");
                        let accepted = self.accepted.get(&partition);
                        let on = accepted.is_none_or(|accepted| item.offset >= *accepted);
                        assert!(on, "INV-6: a commit goes backwards");
                        sent.push((partition, item.epoch, item.offset));
                    }
                    self.in_flight = Some((id, sent));
                }
                Action::Leave => {
                    assert!(!std::mem::replace(&mut self.left, true), "it leaves twice");
                }
                _ => {}
            }
        }
        for view in self.engine.partitions() {
            let running = view.state == PartitionState::Running;
            let fetching = self.fetching.contains(&view.partition);
            assert!(!fetching || running, "INV-5: {view:?} is fetched");
            assert!(!fetching || !view.paused, "{view:?} is paused and fetched");
        }
    }

    /// Anything that can be said, more often of what is there than of what is not.
    fn event(&self, from: &mut Unstructured<'_>) -> Result<Event> {
        let partition = PartitionId(from.int_in_range(0..=PARTITIONS - 1)?);
        let current = self.engine.epoch(partition).unwrap_or(Epoch(0));
        let epoch = if from.ratio(7, 8)? { current } else { Epoch(from.arbitrary()?) };
        let position = self.engine.partitions().find(|view| view.partition == partition);
        let position = position.and_then(|view| view.position).unwrap_or(Offset(0));
        let (offset, other) = (near(position, from)?, near(position, from)?);
        Ok(match from.int_in_range(0..=20u8)? {
            0 => Event::Assigned { partitions: some(from)? },
            1 => Event::Revoked { partitions: some(from)? },
            2 => Event::Lost { partitions: some(from)? },
            3 => {
                let committed = bool::arbitrary(from)?.then_some(other);
                Event::Restored { partition, epoch, position: offset, committed }
            }
            4 => Event::Preparing { partition, epoch, waits: from.arbitrary()? },
            5 => {
                let (records, bytes) = (amount(from)?, amount(from)?);
                let run = RunInfo { first: offset, last: other, records, bytes };
                Event::Fetched { partition, run }
            }
            6 => {
                let (records, bytes, dirty) = (amount(from)?, amount(from)?, from.arbitrary()?);
                Event::Progressed { partition, epoch, records, bytes, dirty }
            }
            7 => {
                let (outputs, stores) = (amount(from)?, amount(from)?);
                let (unsealed, largest) = (amount(from)?, amount(from)?);
                let effects = HeldEffects { outputs, stores, unsealed, largest };
                Event::Holds { partition, epoch, effects }
            }
            8 => Event::Sealed { partition, epoch, offset },
            9 => Event::Drained { partition, epoch },
            10 => Event::ProofWanted { partition, epoch },
            11 => Event::ResetWanted { partition, epoch },
            12 => Event::FetchFailed { partition },
            13 => Event::OutOfRange { partition },
            14 => Event::LogSeen { partition, epoch, log: LogRange { low: offset, end: other } },
            15 => Event::FetcherReplaced,
            16 => Event::MemberGone,
            17 => Event::End { partition, end: offset },
            18 => self.answer(from)?,
            19 => match from.arbitrary()? {
                true => Event::Paused { partitions: some(from)? },
                false => Event::Resumed { partitions: some(from)? },
            },
            _ => {
                let (cancel_at, release_at) = (Time(from.arbitrary()?), Time(from.arbitrary()?));
                Event::Shutdown { cancel_at, release_at }
            }
        })
    }

    fn answer(&self, from: &mut Unstructured<'_>) -> Result<Event> {
        let sent = self.in_flight.as_ref().map(|(id, _)| *id);
        let id = if from.ratio(7, 8)? { sent.unwrap_or(0) } else { from.arbitrary()? };
        let status = *from.choose(&[
            CommitStatus::Accepted,
            CommitStatus::Retry,
            CommitStatus::Unknown,
            CommitStatus::MemberLost,
            CommitStatus::TopicGone,
        ])?;
        let statuses = some(from)?.into_iter().map(|partition| (partition, status)).collect();
        Ok(Event::CommitAnswered { id, statuses })
    }
}

fn some(from: &mut Unstructured<'_>) -> Result<Vec<PartitionId>> {
    let bits: u8 = from.arbitrary()?;
    Ok((0..PARTITIONS).filter(|at| bits >> at & 1 == 1).map(PartitionId).collect())
}

fn near(offset: Offset, from: &mut Unstructured<'_>) -> Result<Offset> {
    let far = from.ratio(1, 16)?;
    let by = if far { from.arbitrary()? } else { i64::from(i8::arbitrary(from)?) };
    Ok(Offset(offset.0.saturating_add(by)))
}

/// Anything, mostly what may be.
fn amount(from: &mut Unstructured<'_>) -> Result<u64> {
    if from.ratio(1, 16)? { from.arbitrary() } else { Ok(u16::arbitrary(from)?.into()) }
}

fuzz_target!(|bytes: &[u8]| {
    let mut from = Unstructured::new(bytes);
    let all = from.ratio(1, 8).unwrap_or(false);
    let mut witness = Witness::new(if all { u64::MAX } else { 10_000 });
    while !from.is_empty() {
        let Ok(event) = witness.event(&mut from) else { break };
        witness.tell(event);
        if let Ok(pass) = from.arbitrary::<u16>() {
            witness.now = witness.now + Duration::from_millis(pass.into());
        }
        witness.tick();
    }
});
