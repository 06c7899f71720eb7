//! What has happened? The member's words, the fetcher's records, the tasks' reports, as events.

use std::time::Duration;

use pelton_engine::{CommitItem, CommitStatus, Event, Offset, PartitionId, RunInfo, Time};

use super::{Ending, PollLoop, SentCommit};
use crate::error::WorkerError;
use crate::ports::{FetchEvent, MemberEvent, TopicIdentity};
use crate::record::Run;
use crate::runtime::shared::{TaskEvent, Then};
use crate::telemetry::{CommitOutcome, Observation};
use crate::topic_partition::TopicPartition;

/// A topic that seems to be another one is asked about again so soon.
const ASK_AGAIN: Duration = Duration::from_secs(2);

impl PollLoop {
    pub(super) fn member_event(&mut self, now: Time, event: MemberEvent) {
        match event {
            MemberEvent::Assigned(partitions) => {
                tracing::info!(partitions = %list(&partitions), "assigned");
                self.metrics.assigned.increment(1);
                self.assignments += 1;
                if !self.thawed_now {
                    self.shared.gate.consented(now);
                }
                self.pause_assigned(now, &partitions);
                let ids = self.names.ids(&partitions);
                self.tell(now, Event::Assigned { partitions: ids });
            }
            MemberEvent::Revoked(partitions) => {
                tracing::info!(partitions = %list(&partitions), "revoked");
                self.metrics.revoked.increment(1);
                let ids = self.names.ids(&partitions);
                for id in ids.iter().filter(|id| self.tasks.contains_key(id)) {
                    self.observe(*id, |partition, epoch| Observation::Revoked { partition, epoch });
                }
                self.tell(now, Event::Revoked { partitions: ids });
            }
            MemberEvent::Lost(partitions) => {
                tracing::warn!(partitions = %list(&partitions), "lost: what was not committed runs again elsewhere");
                self.metrics.lost.increment(1);
                let ids = self.names.ids(&partitions);
                self.tell(now, Event::Lost { partitions: ids });
            }
            MemberEvent::CommitAnswered { id, statuses } => {
                self.commit_answered(now, id, &statuses)
            }
            MemberEvent::Trouble(reason) => {
                tracing::warn!(reason, "the group's client reports trouble")
            }
            MemberEvent::InstanceFenced(reason) => {
                self.fail(now, WorkerError::InstanceFenced { reason })
            }
            MemberEvent::Broken(reason) => self.member_broke(now, reason),
            MemberEvent::Fatal(reason) => self.fail(now, WorkerError::Client { reason }),
        }
    }

    pub(super) fn task_event(&mut self, now: Time, event: TaskEvent) {
        match event {
            TaskEvent::Engine(event) => self.tell(now, event),
            TaskEvent::TopicsAsked => {
                let doubt = self.tasks.values().any(|task| task.other_topic.is_some());
                let wait = self.shared.plan.discovery;
                self.next_topics = now + if doubt { wait.min(ASK_AGAIN) } else { wait };
            }
            TaskEvent::TopicSeen { topic, identity } => self.topic_seen(now, &topic, identity),
            TaskEvent::Settled { partition, epoch, topic } => {
                if let Some(task) =
                    self.tasks.get_mut(&partition).filter(|task| task.epoch == epoch)
                {
                    task.topic = topic;
                }
            }
            TaskEvent::Failed(error) => self.fail(now, error),
            TaskEvent::CoordinatorAnswers(Then::Rejoin { assignments }) => {
                if self.ending == Ending::No && self.assignments == assignments {
                    self.member.rejoin();
                }
            }
            TaskEvent::CoordinatorAnswers(Then::Leave) => {
                self.leave();
            }
            TaskEvent::MemberRetired => self.member_retired(),
            TaskEvent::ProducerBroke { client, reason } => {
                self.producer_broke(now, client, reason);
            }
            TaskEvent::Jumped { partition, epoch, jump } => {
                if self.tasks.get(&partition).is_some_and(|task| task.epoch == epoch) {
                    self.jumps.insert(partition, jump);
                }
            }
        }
    }

    pub(super) fn leave(&mut self) {
        if let Ending::Draining { give_up_at } = self.ending {
            self.ending = Ending::Leaving { give_up_at };
            self.member.leave();
        }
    }

    /// An input topic that is gone is said so; in one that is another than it was, twice in a row,
    /// no partition can go on where it is.
    fn topic_seen(&mut self, now: Time, topic: &str, identity: TopicIdentity) {
        let TopicIdentity::There { id } = identity else {
            let declared = self.shared.plan.inputs.iter().any(|input| input.topic() == Some(topic));
            if declared && self.missing.insert(topic.to_owned()) {
                tracing::warn!(
                    topic,
                    "the input topic does not exist; nothing of it can be read until it is created"
                );
            }
            return;
        };
        if self.missing.remove(topic) {
            tracing::info!(topic, "the input topic exists again");
        }
        if self.shared.plan.broker_assigns {
            return; // it revokes the old one's partitions and assigns the new one's
        }
        let mut others = Vec::new();
        for (partition, task) in &mut self.tasks {
            if self.names.name(*partition).is_none_or(|name| name.topic() != topic) {
                continue;
            }
            let differs = id.is_some() && task.topic.id.is_some() && task.topic.id != id;
            let before = std::mem::replace(&mut task.other_topic, id.clone().filter(|_| differs));
            if differs && before == id {
                others.push(*partition);
            }
        }
        for partition in others {
            self.out_of_range(now, partition, "the topic is another one of the same name");
        }
    }

    /// Nothing can be read where a partition is: said once, and left when everything that was
    /// read before is done and committed.
    fn out_of_range(&mut self, now: Time, partition: PartitionId, why: &str) {
        let Some(task) = self.tasks.get_mut(&partition) else {
            return;
        };
        if !std::mem::replace(&mut task.out_of_range, true) {
            tracing::warn!(partition = %self.show(partition), why, "the partition can't go on at its position; what was read before it is finished first");
        }
        self.tell(now, Event::OutOfRange { partition });
    }

    /// Hands over what has been fetched. Returns whether there may be more.
    pub(super) fn take_records(&mut self, now: Time) -> bool {
        let mut fetched = std::mem::take(&mut self.fetched);
        self.fetch.poll(self.shared.plan.max_poll_records, &mut fetched);
        let more = !fetched.is_empty();
        for event in fetched.drain(..) {
            match event {
                FetchEvent::Run(run) => self.take_run(now, run),
                FetchEvent::OutOfRange { partition, .. } => {
                    let partition = self.names.id(&partition);
                    self.out_of_range(now, partition, "the log does not hold it");
                }
                FetchEvent::Trouble { partition, reason } => {
                    // What Kafka refuses until somebody mends it is said once, when it begins.
                    if !self.shared.refusals.stand() {
                        tracing::warn!(%partition, reason, "the fetch of a partition broke off; it will be started anew");
                    }
                    let partition = self.names.id(&partition);
                    self.tell(now, Event::FetchFailed { partition });
                }
                FetchEvent::Broken(reason) => self.fetcher_broke(now, reason),
                FetchEvent::End { .. } => {}
            }
        }
        self.fetched = fetched;
        more
    }

    pub(super) fn take_run(&mut self, now: Time, run: Run) {
        let (Some(first), Some(last)) = (run.offsets().next(), run.offsets().next_back()) else {
            return;
        };
        let partition = self.names.id(run.partition());
        let info = RunInfo {
            first: Offset(first),
            last: Offset(last),
            records: u64::try_from(run.len()).unwrap_or(u64::MAX),
            bytes: u64::try_from(run.bytes()).unwrap_or(u64::MAX),
        };
        self.at_hand = Some(run);
        self.tell(now, Event::Fetched { partition, run: info });
        self.at_hand = None;
    }

    pub(super) fn commit_answered(
        &mut self,
        now: Time,
        id: u64,
        statuses: &[(TopicPartition, CommitStatus)],
    ) {
        let statuses: Vec<_> =
            statuses.iter().map(|(name, status)| (self.names.id(name), *status)).collect();
        if let Some(sent) = self.commit.take_if(|sent| sent.id == id) {
            self.metrics.commit_seconds.record(now.since(sent.at));
            if statuses.iter().any(|(_, status)| *status == CommitStatus::Accepted) {
                self.shared.gate.consented(sent.at);
            }
            self.observe_answers(&sent, &statuses);
            if self.has_moved(&sent, &statuses) {
                self.repairs.worked();
            }
        }
        self.tell(now, Event::CommitAnswered { id, statuses });
    }

    /// Has a commit brought a partition further? The first of an assignment may only confirm
    /// where it starts.
    fn has_moved(&self, sent: &SentCommit, statuses: &[(PartitionId, CommitStatus)]) -> bool {
        let accepted = |id| statuses.contains(&(id, CommitStatus::Accepted));
        self.engine.partitions().any(|view| {
            let item = sent.items.iter().find(|item| item.partition == view.partition);
            let further = |item: &CommitItem| view.committed.is_some_and(|at| item.offset() > at);
            item.is_some_and(|item| further(item) && accepted(item.partition))
        })
    }

    pub(super) fn observe_answers(
        &self,
        sent: &SentCommit,
        statuses: &[(PartitionId, CommitStatus)],
    ) {
        for item in &sent.items {
            let status = statuses.iter().find(|(id, _)| *id == item.partition);
            let outcome = match status.map(|(_, status)| *status) {
                Some(CommitStatus::Accepted) => CommitOutcome::Accepted,
                Some(CommitStatus::Unknown) | None => CommitOutcome::Unknown,
                Some(CommitStatus::Retry | CommitStatus::TopicGone) => CommitOutcome::Refused,
                Some(CommitStatus::MemberLost) => CommitOutcome::MemberLost,
            };
            self.metrics.commit(outcome).increment(1);
            if let Some(partition) = self.names.name(item.partition) {
                let (id, epoch, offset) = (sent.id, item.epoch.0, item.offset().0);
                self.shared.observe(&Observation::CommitKnown {
                    id,
                    partition,
                    epoch,
                    offset,
                    outcome,
                });
            }
        }
    }

    /// The process was frozen: nothing is sent before the group has confirmed that we are in it.
    pub(super) fn thawed(&mut self, now: Time) {
        tracing::warn!(
            "the process stood still for longer than half its session; outputs wait for proof of ownership"
        );
        let all: Vec<_> = self.tasks.iter().map(|(id, task)| (*id, task.epoch)).collect();
        for (partition, epoch) in all {
            self.tell(now, Event::ProofWanted { partition, epoch });
        }
    }
}

fn list(partitions: &[TopicPartition]) -> String {
    let names: Vec<_> = partitions.iter().map(ToString::to_string).collect();
    names.join(" ")
}
