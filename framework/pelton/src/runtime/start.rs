//! How far has a partition's start come? Each step is a sign of life for the watchdog.
//!
//! A step that waits for something Kafka can't hurry, user code or a turn, is waited for as long
//! as it takes; without a sign of life in any other the partition is begun anew.

use std::sync::Arc;

use pelton_engine::{Epoch, Event, PartitionId};

use crate::runtime::lease::Lease;
use crate::runtime::shared::{EventSender, TaskEvent};

/// What a partition that has not started is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Stage {
    /// A handler of the assignment before has not returned.
    Predecessor,
    /// Its committed offset and its topic are asked for.
    Reading,
    /// Others restore; it waits for its turn.
    Turn,
    /// Its stores are rebuilt.
    Restoring,
    /// The handler is made, and its `assigned` hook called.
    Hook,
}

impl Stage {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Predecessor, "waiting for a handler of its last assignment"),
        (Self::Reading, "reading its committed offset"),
        (Self::Turn, "waiting for its turn to restore"),
        (Self::Restoring, "restoring its stores"),
        (Self::Hook, "making its handler"),
    ];

    pub(crate) fn name(number: u8) -> &'static str {
        let found = Self::ALL.iter().find(|(stage, _)| *stage as u8 == number);
        found.map_or("unknown", |(_, name)| name)
    }

    fn waits(self) -> bool {
        match self {
            Self::Predecessor | Self::Turn | Self::Hook => true,
            Self::Reading | Self::Restoring => false,
        }
    }
}

/// Tells how far one partition's start has come.
pub(crate) struct SignsOfLife {
    pub(crate) partition: PartitionId,
    pub(crate) epoch: Epoch,
    pub(crate) lease: Arc<Lease>,
    pub(crate) events: EventSender,
}

impl SignsOfLife {
    /// The start has come to this stage, or further within it.
    pub(crate) fn at(&self, stage: Stage) {
        self.lease.enter(stage);
        let (partition, epoch, waits) = (self.partition, self.epoch, stage.waits());
        self.events.send(TaskEvent::Engine(Event::Preparing { partition, epoch, waits }));
    }
}
