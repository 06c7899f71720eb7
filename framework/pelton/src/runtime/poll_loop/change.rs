//! What changes while the worker runs? Paused topics and the pace, as the settings say now.

use std::collections::BTreeSet;

use pelton_engine::{Event, PartitionId, Time};

use super::PollLoop;
use crate::runtime::desk::Command;
use crate::runtime::live::Live;
use crate::topic_partition::TopicPartition;

impl PollLoop {
    /// Takes over what may change while the worker runs.
    pub(crate) fn change(&mut self, now: Time, live: Live) {
        let before = std::mem::replace(&mut self.live, live);
        if before.max_records_per_second != self.live.max_records_per_second {
            self.shared.pacer.change(self.live.max_records_per_second, now);
            for task in self.tasks.values() {
                // A task that has ended starts nothing more.
                let _ended = task.commands.send(Command::ChangePace).is_err();
            }
        }
        let seen: Vec<_> = self.names.all().cloned().collect();
        let (was, is) = (&before.paused_topics, &self.live.paused_topics);
        let (pause, resume) = (is - was, was - is);
        let (paused, resumed) = (self.of_topics(&seen, &pause), self.of_topics(&seen, &resume));
        self.tell(now, Event::Paused { partitions: paused });
        self.tell(now, Event::Resumed { partitions: resumed });
        self.next_status = now; // what is paused is shown at once
    }

    /// Partitions that come to a paused topic are paused before they are assigned.
    pub(super) fn pause_assigned(&mut self, now: Time, assigned: &[TopicPartition]) {
        let topics = self.live.paused_topics.clone();
        let partitions = self.of_topics(assigned, &topics);
        if !partitions.is_empty() {
            tracing::info!(topics = %list(&topics), "some of what was assigned is paused by paused_topics");
            self.tell(now, Event::Paused { partitions });
        }
    }

    fn of_topics(
        &mut self,
        partitions: &[TopicPartition],
        topics: &BTreeSet<String>,
    ) -> Vec<PartitionId> {
        let these = partitions.iter().filter(|partition| topics.contains(partition.topic()));
        these.map(|partition| self.names.id(partition)).collect()
    }
}

fn list(topics: &BTreeSet<String>) -> String {
    topics.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
}
