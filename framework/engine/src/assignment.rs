//! In which state is a partition, and which changes are allowed?
//!
//! ```text
//!             restored              revoked, shutdown        drained, committed
//! Assigned ─► Restoring ─────► Running ─────────► Draining ─────────────────► Released
//!                 ▲               │
//!                 └──── reset ────┘        Lost: from any of them
//! ```
//!
//! Upholds INV-5: whatever is not `Running` or `Draining` has nothing started, and whatever is
//! `Lost` commits nothing.

use std::time::Duration;

use crate::action::RestoreFrom;
use crate::budget::Volume;
use crate::commit::Progress;
use crate::event::HeldEffects;
use crate::ids::{Epoch, Offset};
use crate::time::Time;

/// A partition's state as others may see it.
///
/// ```
/// use pelton_engine::{Engine, PartitionState};
///
/// /// Has every partition that is ours been restored?
/// fn is_ready(engine: &Engine) -> bool {
///     engine.partitions().all(|view| view.state != PartitionState::Restoring)
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionState {
    /// Its start offset is being read and its stores are restored.
    Restoring,
    /// Its records are fetched and handled.
    Running,
    /// Started work finishes, effects become durable, offsets are committed.
    Draining,
    /// Given up in good order; it waits for the group's word.
    Released,
    /// Taken away; nothing of it counts any more.
    Lost,
}

/// What the engine knows of one assigned partition.
#[derive(Debug)]
pub(crate) struct Assignment {
    pub(crate) epoch: Epoch,
    pub(crate) phase: Phase,
}

#[derive(Debug)]
pub(crate) enum Phase {
    Restoring(Preparing),
    Running(Active),
    Draining { active: Active, drain: Drain },
    Released,
    Lost { since: Time },
}

/// A partition that has not started yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Preparing {
    /// When its assignment began, or it was last said that it has not started.
    pub(crate) said: Time,
    /// The last sign of life.
    pub(crate) moved: Time,
    /// Without a sign of life for so long it is begun anew; doubled each time.
    pub(crate) patience: Duration,
    /// It is in the hands of user code, which is waited for.
    pub(crate) waits: bool,
    /// Where it goes on.
    pub(crate) from: RestoreFrom,
}

impl Preparing {
    pub(crate) fn since(now: Time, patience: Duration) -> Self {
        Self { said: now, moved: now, patience, waits: false, from: RestoreFrom::Committed }
    }
}

/// A partition whose records are handled.
#[derive(Debug)]
pub(crate) struct Active {
    /// The next offset that may arrive.
    pub(crate) expected: Offset,
    /// By an operator: nothing of it is fetched or started.
    pub(crate) paused: bool,
    /// `None` while the fetch is stopped.
    pub(crate) fetch: Option<Fetching>,
    pub(crate) buffered: Volume,
    /// What its task holds of effects.
    pub(crate) effects: HeldEffects,
    /// Runs that come although the fetch is stopped are dropped.
    pub(crate) refusing: bool,
    /// When its fetch was stopped last, as the engine counts stops.
    pub(crate) stopped: u64,
    pub(crate) progress: Progress,
    /// When something last arrived, or fetching began.
    pub(crate) heard: Time,
    /// When the log's end was last asked for because nothing arrived.
    pub(crate) asked: Time,
    /// The end of the log for which a silent fetch was started anew last.
    pub(crate) fetched_anew_for: Option<Offset>,
    /// What was done about its silence since something last arrived.
    pub(crate) helped: Helped,
    /// The log's end, where known.
    pub(crate) end: Option<Offset>,
    /// The log did not hold `expected` when it was asked for last.
    pub(crate) outside: bool,
    /// Nothing more can be read at `expected`: what was read is finished, then it is left.
    pub(crate) out_of_range: bool,
}

/// What was done about a silent partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Helped {
    Not,
    /// Its fetch was started anew.
    FetchedAnew,
    /// The client that fetches was replaced.
    FetcherRenewed,
}

/// A running fetch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fetching {
    /// Where it began.
    pub(crate) from: Offset,
    /// It has broken off; it is started anew at this moment.
    pub(crate) again_at: Option<Time>,
}

impl Fetching {
    pub(crate) fn from(from: Offset) -> Self {
        Self { from, again_at: None }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Drain {
    /// When running attempts are cancelled.
    pub(crate) cancel_at: Time,
    /// When the partition is released whatever has been committed.
    pub(crate) release_at: Time,
    pub(crate) cancelled: bool,
    /// The partition's task has nothing running and nothing undelivered any more.
    pub(crate) drained: bool,
    /// It is not given up then, but goes on here.
    pub(crate) seek: Option<Offset>,
}

impl Assignment {
    pub(crate) fn state(&self) -> PartitionState {
        match self.phase {
            Phase::Restoring(_) => PartitionState::Restoring,
            Phase::Running(_) => PartitionState::Running,
            Phase::Draining { .. } => PartitionState::Draining,
            Phase::Released => PartitionState::Released,
            Phase::Lost { .. } => PartitionState::Lost,
        }
    }

    /// Running or draining: it has started work, and may commit.
    pub(crate) fn active(&self) -> Option<&Active> {
        match &self.phase {
            Phase::Running(active) | Phase::Draining { active, .. } => Some(active),
            Phase::Restoring(_) | Phase::Released | Phase::Lost { .. } => None,
        }
    }

    pub(crate) fn active_mut(&mut self) -> Option<&mut Active> {
        match &mut self.phase {
            Phase::Running(active) | Phase::Draining { active, .. } => Some(active),
            Phase::Restoring(_) | Phase::Released | Phase::Lost { .. } => None,
        }
    }

    /// `Running → Draining`. Returns whether the fetch was running.
    pub(crate) fn become_draining(&mut self, drain: Drain) -> bool {
        let phase = std::mem::replace(&mut self.phase, Phase::Released);
        let Phase::Running(mut active) = phase else {
            self.phase = phase;
            return false;
        };
        let fetching = active.fetch.take().is_some();
        self.phase = Phase::Draining { active, drain };
        fetching
    }
}
