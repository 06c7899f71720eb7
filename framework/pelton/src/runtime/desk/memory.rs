//! How much does the partition hold, and has it room for one record more?
//!
//! Upholds INV-4 where the poll loop can't: a record that is started may have effects, so none is
//! started without room for them.

use std::sync::atomic::Ordering;
use std::time::Duration;

use pelton_engine::{Event, HeldEffects, Time};

use super::{Desk, PROGRESS_INTERVAL};
use crate::effects::Effects;
use crate::output::kept_bytes;
use crate::state::writes_bytes;

/// The poll loop hears at once of a change that is larger.
const TOLD_BYTES: u64 = 64 * 1024;

/// Between two looks for room: it grows when others leave, and nobody says so.
pub(super) const ROOM_RETRY: Duration = Duration::from_millis(50);

impl Desk {
    /// May a record start? Always if there are no effects and none can come: somebody must go on.
    /// Each record in hand may have as large effects as any before it.
    pub(super) fn has_room(&self) -> bool {
        let effects = self.held_effects().bytes().saturating_add(self.effects_to_come());
        let held = effects.saturating_add(count(self.run_bytes));
        effects == 0 || held <= self.shared.start_below.load(Ordering::Relaxed)
    }

    /// For so many records more there would be room, were each one's effects as large as any before it.
    pub(super) fn room_for_effects(&self) -> usize {
        let held = self.held_effects().bytes().saturating_add(count(self.run_bytes));
        let held = held.saturating_add(self.effects_to_come());
        let left = self.shared.start_below.load(Ordering::Relaxed).saturating_sub(held);
        left.checked_div(self.usual_effects)
            .map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX))
    }

    /// What is in hand may have as large effects as any before it; what is deferred has its own.
    fn effects_to_come(&self) -> u64 {
        let running = self.schedule.running_records().saturating_sub(self.deferrals.len());
        count(running).saturating_mul(self.usual_effects)
    }

    /// Remembers how large one record's effects may be.
    pub(super) fn weigh(&mut self, effects: &Effects) {
        let bytes = effects_bytes(effects);
        self.largest_effects = self.largest_effects.max(bytes);
        self.usual_effects = self.usual_effects.max(bytes);
    }

    fn held_effects(&self) -> HeldEffects {
        let (mut sealed, mut unsealed) = (0, 0);
        if !self.spec.stores.is_empty() {
            for layers in self.place.stores.lock().iter() {
                sealed += layers.bytes().sealed;
                unsealed += layers.bytes().unsealed;
            }
        }
        HeldEffects {
            outputs: count(self.outbox.bytes() + self.handled_bytes) + self.deferrals.bytes(),
            stores: count(sealed + unsealed),
            unsealed: count(unsealed),
            largest: self.largest_effects,
        }
    }

    /// Tells the poll loop, if much has changed or little some time ago.
    pub(super) fn tell_effects(&mut self, now: Time) {
        let (held, told) = (self.held_effects(), self.effects_told);
        let differs = held.bytes().abs_diff(told.bytes()) >= TOLD_BYTES
            || (held.bytes() == 0 && told.bytes() > 0)
            || self.effects_wake().is_some_and(|at| now >= at);
        if differs {
            self.tell_effects_at_once(now);
        }
    }

    pub(super) fn tell_effects_at_once(&mut self, now: Time) {
        let effects = self.held_effects();
        if effects != self.effects_told {
            self.effects_told = HeldEffects { largest: 0, ..effects };
            self.effects_told_at = now;
            self.largest_effects = 0;
            self.tell(Event::Holds { partition: self.id, epoch: self.epoch, effects });
        }
    }

    /// When the poll loop is to hear of a change, if there is one.
    pub(super) fn effects_wake(&self) -> Option<Time> {
        (self.held_effects() != self.effects_told)
            .then_some(self.effects_told_at + PROGRESS_INTERVAL)
    }
}

/// What effects take: an output is kept until it is delivered, and copied by the client; a write is kept
/// until its commit, and goes out as well.
pub(crate) fn effects_bytes(effects: &Effects) -> u64 {
    let outputs: usize = effects.outputs().iter().map(kept_bytes).sum();
    let writes: usize = effects.writes().map(writes_bytes).sum();
    count(2 * outputs + 3 * writes)
}

fn count(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
