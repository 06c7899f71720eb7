//! What changes while the worker runs? Paused topics and the pace, as the settings say now, and what
//! is wished of single topics and partitions.

use std::collections::BTreeSet;

use pelton_engine::{Event, Offset, PartitionId, Time};

use super::PollLoop;
use crate::runtime::desk::Command;
use crate::runtime::live::Live;
use crate::runtime::wish::Wish;
use crate::topic_partition::TopicPartition;

impl PollLoop {
    /// Takes over what may change while the worker runs.
    pub(crate) fn change(&mut self, now: Time, live: Live) {
        let before = std::mem::replace(&mut self.live, live);
        if before.max_records_per_second != self.live.max_records_per_second {
            self.shared.pacer.change(self.live.max_records_per_second, now);
            self.change_pace();
        }
        if before.topic_paces != self.live.topic_paces {
            self.shared.pacer.change_topics(&self.live.topic_paces, now);
            self.change_pace();
        }
        self.pause_and_resume(now);
    }

    /// Does what is wished of a topic or a partition.
    pub(crate) fn wish(&mut self, now: Time, wish: Wish) {
        match wish {
            Wish::Pause(scope) => drop(self.wished_pauses.insert(scope)),
            Wish::Resume(scope) => drop(self.wished_pauses.remove(&scope)),
            Wish::Limit(scope, per_second) => {
                tracing::info!(%scope, ?per_second, "the pace has changed");
                self.shared.pacer.limit(scope, per_second, now);
                self.change_pace();
            }
            Wish::Seek(partition, to) => self.seek(now, &partition, to),
        }
        self.pause_and_resume(now);
    }

    fn seek(&mut self, now: Time, name: &TopicPartition, to: i64) {
        let partition = self.names.id(name);
        if self.tasks.contains_key(&partition) {
            tracing::info!(partition = %name, to, "a seek: what has started is finished and committed first");
            let to = Offset(to.max(0));
            self.tell(now, Event::SeekWanted { partition, to });
        } else {
            tracing::warn!(partition = %name, to, "no seek: the partition is not this worker's");
        }
    }

    fn change_pace(&self) {
        for task in self.tasks.values() {
            // A task that has ended starts nothing more.
            let _ended = task.commands.send(Command::ChangePace).is_err();
        }
    }

    fn pause_and_resume(&mut self, now: Time) {
        let seen: Vec<_> = self.names.all().cloned().collect();
        let is: BTreeSet<_> = seen.iter().filter(|of| self.is_paused(of)).cloned().collect();
        let is: BTreeSet<_> = is.iter().map(|partition| self.names.id(partition)).collect();
        let paused: Vec<PartitionId> = is.difference(&self.paused).copied().collect();
        let resumed: Vec<PartitionId> = self.paused.difference(&is).copied().collect();
        self.paused = is;
        self.tell(now, Event::Paused { partitions: paused });
        self.tell(now, Event::Resumed { partitions: resumed });
        self.next_status = now; // what is paused is shown at once
    }

    /// Partitions that come to a paused topic are paused before they are assigned.
    pub(super) fn pause_assigned(&mut self, now: Time, assigned: &[TopicPartition]) {
        let paused: Vec<_> = assigned.iter().filter(|of| self.is_paused(of)).cloned().collect();
        if paused.is_empty() {
            return;
        }
        let list = paused.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        tracing::info!(partitions = %list, "some of what was assigned is paused");
        let partitions: Vec<_> = paused.iter().map(|of| self.names.id(of)).collect();
        self.paused.extend(partitions.iter().copied());
        self.tell(now, Event::Paused { partitions });
    }

    /// By `paused_topics`, or because somebody wishes it.
    fn is_paused(&self, partition: &TopicPartition) -> bool {
        self.live.paused_topics.contains(partition.topic())
            || self.wished_pauses.iter().any(|scope| scope.contains(partition))
    }
}
