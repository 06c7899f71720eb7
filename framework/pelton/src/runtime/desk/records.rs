//! What becomes of records and their effects when an attempt, a flush or a tick ends?

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use pelton_engine::{Bug, Event, Finish, Time};

use super::{
    DONE_BEHIND, Desk, Freed, Held, PROGRESS_INTERVAL, PROGRESS_RECORDS, PROGRESS_SHARE,
    SWEEP_RECORDS, SWEEP_SHARE, State,
};
use crate::effects::Effects;
use crate::output::kept_bytes;
use crate::record::Run;

/// The last run that begins at this index or before it.
pub(super) fn in_runs(runs: &VecDeque<Held>, index: u64) -> Option<&Held> {
    runs.get(runs.partition_point(|held| held.first <= index).checked_sub(1)?)
}

impl Desk {
    /// The run that holds the record with this index, and its place in it.
    pub(crate) fn record(&self, index: u64) -> Option<(Arc<Run>, usize)> {
        let held = in_runs(&self.runs, index)?;
        Some((Arc::clone(&held.run), held.place(index)?))
    }

    /// The record is done, and nothing waits for a flush that it would have to wait for.
    pub(super) fn done_at_once(&mut self, index: u64, effects: Effects, now: Time) {
        self.contact.over(index, now);
        self.schedule.finished(index, Finish::Done, now);
        self.enter(effects);
    }

    /// The record is done: its effects and its offset enter the outbox together.
    pub(crate) fn done(&mut self, index: u64, effects: Effects, now: Time) {
        self.contact.over(index, now);
        if self.spec.flush_every.is_some() {
            let too_early = Bug::DoneBeforeFlush.is(self.shared.plan.bug);
            let finish = if too_early { Finish::Done } else { Finish::Handled };
            self.schedule.finished(index, finish, now);
            self.handle_effects(effects);
            self.handled_records += 1;
            self.handled_since.get_or_insert(now);
            self.progress.dirty = true; // the next commit asks for a flush
        } else {
            self.schedule.finished(index, Finish::Done, now);
            self.enter(effects);
        }
    }

    /// Effects that wait for the next flush: later records of the slot see them.
    pub(super) fn handle_effects(&mut self, mut effects: Effects) {
        self.weigh(&effects);
        let mut stores = self.place.stores.lock();
        for (at, writes) in effects.take_writes() {
            if let Some(layers) = stores.get_mut(at) {
                layers.apply_handled(writes);
            }
        }
        drop(stores);
        self.handled_bytes += effects.outputs().iter().map(kept_bytes).sum::<usize>();
        self.handled.push(effects);
    }

    /// Has something been handled that is done with the next flush?
    pub(crate) fn waits_for_a_flush(&self) -> bool {
        !self.handled.is_empty()
    }

    pub(crate) fn forget_handled(&mut self) {
        self.handled.clear();
        self.handled_records = 0;
        self.handled_bytes = 0;
        self.handled_since = None;
    }

    /// Effects of something done enter the outbox and the pending layer.
    pub(crate) fn enter(&mut self, mut effects: Effects) {
        self.weigh(&effects);
        let writes = effects.take_writes();
        if !writes.is_empty() {
            let mut stores = self.place.stores.lock();
            for (at, writes) in writes {
                if let Some(layers) = stores.get_mut(at) {
                    layers.apply(writes);
                }
            }
        }
        self.outbox.push(effects.take_outputs());
        self.progress.dirty = true;
        self.unsealed = true;
    }

    pub(crate) fn not_done(&mut self, index: u64, finish: Finish, now: Time) {
        self.contact.over(index, now);
        self.schedule.finished(index, finish, now);
        // Where attempts are limited, how many there were is worth a commit.
        let is_to_be_said = finish == Finish::Retry && self.schedule.says_failures();
        self.progress.dirty |= is_to_be_said;
        self.unsealed |= is_to_be_said;
    }

    /// Handled records are lost with the instance that handled them: the partition starts again
    /// behind the last one that is done. Not at once: attempts are counted anew then, and a record
    /// that always fails so would be tried without end and without a wait.
    pub(crate) fn reset_if_handled(&mut self) {
        if Bug::FlushAfterPanic.is(self.shared.plan.bug) {
            return;
        }
        let wanted = !self.handled.is_empty() && self.state == State::Running;
        self.forget_handled();
        if wanted {
            self.halt();
            self.reset_is_to_be_said = true;
            self.reset_at = Some(self.now() + self.spec.retry.backoff(1, self.epoch.0));
        }
    }

    /// First a commit says which record has failed, so that it is known to the partition that begins, and
    /// that nothing is in hand.
    pub(super) fn reset_if_due(&mut self, now: Time) {
        if self.reset_at.is_some()
            && (std::mem::take(&mut self.reset_is_to_be_said) || self.schedule.is_open())
        {
            self.seal();
            self.pump(now);
        }
        if self.sealed.is_empty() && self.reset_at.take_if(|at| now >= *at).is_some() {
            self.tell(Event::ResetWanted { partition: self.id, epoch: self.epoch });
        }
    }

    pub(crate) fn flushed(&mut self, effects: Effects) {
        self.schedule.flushed();
        for layers in self.place.stores.lock().iter_mut() {
            layers.flushed();
        }
        for mut handled in std::mem::take(&mut self.handled) {
            self.outbox.push(handled.take_outputs());
        }
        self.forget_handled();
        self.flush_failures = 0;
        self.enter(effects);
        // The commit that waited for this flush need not wait for the next interval's word.
        if std::mem::take(&mut self.flush_wanted) {
            self.seal();
        }
    }

    /// A tick's effects stand in the outbox like a record's, without an offset; behind those of
    /// the records handled before it, which wait for a flush.
    pub(crate) fn ticked(&mut self, effects: Effects, now: Time) {
        if effects.is_empty() {
            return;
        }
        if self.handled.is_empty() || Bug::TickOvertakes.is(self.shared.plan.bug) {
            self.enter(effects);
        } else {
            self.handle_effects(effects);
        }
        self.tell_progress(now);
    }

    pub(crate) fn flush_failed(&mut self, now: Time) {
        self.flush_failures = self.flush_failures.saturating_add(1);
        self.flush_not_before = now + self.spec.retry.backoff(self.flush_failures, self.epoch.0);
    }

    /// Frees the runs whose records are all done, and tells the poll loop now and then.
    ///
    /// Records that are done behind one that is not hold up nobody for long: of them only their places
    /// are kept, so that the done-set can tell.
    pub(super) fn forget_done(&mut self, now: Time) {
        let needed = self.schedule.first_needed();
        let arrived = self.schedule.arrived_records();
        let waiting = u64::try_from(self.schedule.waiting_records()).unwrap_or(u64::MAX);
        let behind = (arrived - needed).saturating_sub(waiting);
        let freed = arrived.saturating_sub(waiting + behind / DONE_BEHIND);
        self.progress.records += freed.saturating_sub(self.freed_records);
        self.freed_records = self.freed_records.max(freed);
        while let Some(bytes) = self.runs.front().and_then(|held| held.bytes_below(needed)) {
            self.runs.pop_front();
            self.free(bytes);
        }
        self.sweep(behind, arrived - needed);
        self.tell_oldest(needed);
        if self.progress.records >= PROGRESS_RECORDS.max(waiting / PROGRESS_SHARE)
            || self.runs.is_empty()
            || now.since(self.progress_told) >= PROGRESS_INTERVAL
        {
            self.tell_progress(now);
        }
    }

    /// Frees the runs whose records are all done, though one before them is not. Now and then: what a
    /// look costs is shared by the records that were done since the last one.
    fn sweep(&mut self, behind: u64, held: u64) {
        self.swept_behind = self.swept_behind.min(behind);
        if behind - self.swept_behind < SWEEP_RECORDS.max(held / SWEEP_SHARE) {
            return;
        }
        self.swept_behind = behind;
        let (schedule, mut freed) = (&self.schedule, 0);
        self.runs.retain(|held| {
            let is_needed = held.indices().any(|index| schedule.is_needed(index));
            freed += if is_needed { 0 } else { held.run.bytes() };
            is_needed
        });
        self.free(freed);
    }

    fn free(&mut self, bytes: usize) {
        self.run_bytes = self.run_bytes.saturating_sub(bytes);
        self.progress.bytes += u64::try_from(bytes).unwrap_or(u64::MAX);
    }

    /// Since when does the oldest record wait that is not done?
    fn tell_oldest(&mut self, first: u64) {
        if self.oldest_told == Some(first) && !self.runs.is_empty() {
            return;
        }
        let record = self.record(first);
        self.oldest_told = record.is_some().then_some(first);
        let timestamp = record.and_then(|(run, at)| run.record(at)?.timestamp_ms());
        self.lease.oldest.store(timestamp.unwrap_or(-1), Ordering::Relaxed);
    }

    pub(crate) fn tell_progress(&mut self, now: Time) {
        // First what was gained, then what was freed: a record's effects are never uncounted.
        self.tell_effects_at_once(now);
        self.progress_told = now;
        let Freed { records, bytes, dirty } = std::mem::take(&mut self.progress);
        self.tell(Event::Progressed {
            partition: self.id,
            epoch: self.epoch,
            records,
            bytes,
            dirty,
        });
    }
}
