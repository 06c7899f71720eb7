//! What must be asked of Kafka, off the loop? The answers come back as events.

use std::collections::BTreeSet;
use std::sync::Arc;

use pelton_engine::{Event, LogRange, Offset, PartitionId};

use super::{PULSE, PollLoop};
use crate::runtime::input::Input;
use crate::runtime::shared::{TaskEvent, Then};
use crate::topic_partition::TopicPartition;

impl PollLoop {
    /// The group is left only if its coordinator answers: librdkafka 2.12.1 can crash in
    /// LeaveGroup where it is away.
    pub(super) fn ask_coordinator(&self, then: Then) {
        let seen = self.names.any().cloned();
        let declared = self.shared.plan.inputs.iter().find_map(Input::topic);
        let topic = || declared.map(|topic| TopicPartition::new(topic, 0));
        let Some(probe) = seen.or_else(topic) else {
            // A pattern that has matched nothing yet: there is nothing to ask about.
            return self.events.send(TaskEvent::CoordinatorAnswers(then));
        };
        let (shared, events) = (Arc::clone(&self.shared), self.events.clone());
        let deadline = shared.host.now() + shared.plan.shutdown_timeout;
        self.runtime.spawn(async move {
            while let Err(error) = shared.committed.read(vec![probe.clone()]).await {
                tracing::warn!(%error, "the group's coordinator does not answer yet; the group can't be left without it");
                shared.host.sleep(PULSE).await;
                if then == Then::Leave && shared.host.now() >= deadline {
                    return;
                }
            }
            events.send(TaskEvent::CoordinatorAnswers(then));
        });
    }

    /// Asks what a silent partition's log holds, off the loop.
    pub(super) fn ask_log(&self, partition: PartitionId) {
        let epoch = self.tasks.get(&partition).map(|task| task.epoch);
        let Some((name, epoch)) = self.names.name(partition).cloned().zip(epoch) else {
            return;
        };
        let (shared, events) = (Arc::clone(&self.shared), self.events.clone());
        self.runtime.spawn(async move {
            match shared.admin.offsets(&name).await {
                Ok((low, end)) => {
                    let log = LogRange { low: Offset(low), end: Offset(end) };
                    events.send(TaskEvent::Engine(Event::LogSeen { partition, epoch, log }));
                }
                Err(error) => {
                    tracing::warn!(partition = %name, %error, "nothing comes, and what the log holds is not known");
                }
            }
        });
    }

    /// Asks which topics the inputs' names stand for now, off the loop.
    pub(super) fn ask_topics(&self) {
        let declared = self.shared.plan.inputs.iter().filter_map(Input::topic);
        let owned = self.tasks.keys().filter_map(|id| self.names.name(*id));
        let topics: BTreeSet<String> =
            declared.chain(owned.map(TopicPartition::topic)).map(str::to_owned).collect();
        let (shared, events) = (Arc::clone(&self.shared), self.events.clone());
        self.runtime.spawn(async move {
            for topic in topics {
                match shared.admin.identity(&topic).await {
                    Ok(identity) => events.send(TaskEvent::TopicSeen { topic, identity }),
                    Err(error) => tracing::debug!(topic, %error, "its identity is not known"),
                }
            }
            events.send(TaskEvent::TopicsAsked);
        });
    }
}
