//! What has to be done? The engine's actions, carried out.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pelton_engine::{
    Action, Bug, Closing, CommitItem, CommitStatus, Envelope, Epoch, Event, Offset, PartitionId,
    RestoreFrom, SilentAction, Time,
};
use tokio::sync::watch;

use super::{EndingTask, PollLoop, SentCommit, Task};
use crate::error::WorkerError;
use crate::ports::CommitEntry;
use crate::runtime::desk::Command;
use crate::runtime::input::Input;
use crate::runtime::lease::Lease;
use crate::runtime::lookout::Doing;
use crate::runtime::partition_task::TaskParts;
use crate::runtime::shared::{LostPosition, TaskEvent, Then, TopicMark};
use crate::telemetry::Observation;

impl PollLoop {
    pub(super) fn act_on(&mut self, now: Time, action: Action) {
        match action {
            Action::Acknowledge => {
                self.look.doing(Doing::Acknowledging);
                if let Err(error) = self.member.acknowledge() {
                    let reason = format!("a rebalance could not be acknowledged: {error}");
                    self.fail(now, WorkerError::Client { reason });
                }
            }
            Action::Restore { partition, epoch, from } => {
                self.restore(now, partition, epoch, from);
            }
            Action::StartFetch { partition, from } => self.start_fetch(now, partition, from),
            Action::StopFetch { partition } => self.stop_fetch(partition),
            Action::Deliver { partition, skip_below } => self.deliver(partition, skip_below),
            Action::Pause { partition } => {
                tracing::info!(partition = %self.show(partition), "paused: nothing of it is fetched or started");
                self.command(partition, Command::Pause);
            }
            Action::Resume { partition } => {
                tracing::info!(partition = %self.show(partition), "resumed");
                self.command(partition, Command::Resume);
            }
            Action::Seal { partition } => self.command(partition, Command::Seal),
            Action::Drain { partition, send_until } => {
                if let Some(task) = self.tasks.get_mut(&partition) {
                    task.draining_since = Some(now);
                }
                self.command(partition, Command::Drain { send_until });
            }
            Action::Cancel { partition } => {
                tracing::warn!(partition = %self.show(partition), "the drain has reached its deadline; what runs is cut off");
                self.observe(partition, |partition, epoch| Observation::CutOff {
                    partition,
                    epoch,
                });
                if let Some(task) = self.tasks.get(&partition) {
                    task.cancel.send_replace(true);
                }
                self.command(partition, Command::Cancel);
            }
            Action::Close { partition, epoch, closing } => {
                self.close(now, partition, epoch, closing)
            }
            Action::Commit { id, items } => self.send_commit(now, id, items),
            Action::Committed { partition, standing, proof } => {
                self.command(partition, Command::Committed { standing, proof });
            }
            Action::AskEnd { partition } => self.ask_log(partition),
            Action::Silent { partition, what } => self.silent(partition, what),
            Action::RenewFetcher => self.renew_fetcher(now),
            Action::Rejoin => {
                self.metrics.barked("rejoined");
                tracing::warn!("the group has forgotten this member; it joins anew");
                self.ask_coordinator(Then::Rejoin { assignments: self.assignments });
            }
            // Without a member there is nothing left to leave.
            Action::Leave if !self.has_member() => self.leave(),
            Action::Leave => self.ask_coordinator(Then::Leave),
        }
    }

    /// A partition stood still: what was done about it is said and counted.
    fn silent(&self, partition: PartitionId, what: SilentAction) {
        let name = self.show(partition);
        let stage = self.tasks.get(&partition).map_or("", |task| task.lease.stage());
        match what {
            SilentAction::FetchedAnew => {
                self.metrics.barked("restarted_fetch");
                tracing::warn!(partition = %name, "nothing came although there is lag; the fetch was started anew");
            }
            SilentAction::FetcherRenewed => {
                self.metrics.barked("renewed_fetcher");
                tracing::warn!(partition = %name, "still nothing came although there is lag; the fetching client is replaced");
            }
            SilentAction::StillRestoring => {
                self.metrics.barked("slow_start");
                tracing::warn!(partition = %name, stage, "the partition has not started yet");
            }
            SilentAction::RestoredAnew => {
                self.metrics.barked("restarted_restore");
                tracing::warn!(partition = %name, stage, "the partition has not started and gives no sign of life; it is begun anew");
            }
        }
    }

    pub(super) fn restore(
        &mut self,
        now: Time,
        partition: PartitionId,
        epoch: Epoch,
        from: RestoreFrom,
    ) {
        let Some(name) = self.names.name(partition).cloned() else {
            return;
        };
        let inputs = Arc::clone(&self.shared.plan.inputs);
        let reads = |input: &Input| input.subscription.matches(name.topic());
        let Some(number) = inputs.iter().position(reads) else {
            let problem = format!("the group has given {name}, which no declared input matches");
            return self.fail(now, WorkerError::Declaration(problem));
        };
        let input = &inputs[number];
        self.look.doing(Doing::StartingATask);
        self.next_status = now; // who owns what is shown at once
        self.shared.observe(&Observation::Assigned { partition: &name, epoch: epoch.0 });
        let (commands, receiver) = tokio::sync::mpsc::unbounded_channel();
        let lease = Arc::new(Lease::new(self.waiting_calls.clone()));
        let metrics = self.metrics.partition(name.topic(), name.partition());
        let (cancel, cancelled) = watch::channel(false);
        let predecessor = self.ending_tasks.remove(&partition);
        let topic = predecessor.as_ref().map(|ending| ending.topic.clone()).unwrap_or_default();
        let (lost_position, seek) = match from {
            RestoreFrom::Committed => (None, None),
            RestoreFrom::OutOfRange(position) => (Some(LostPosition { position, topic }), None),
            RestoreFrom::Seek(to) => (None, Some(to)),
        };
        // Should it be begun anew before it knows more, this is what it knows.
        let topic = lost_position.as_ref().map(|lost| lost.topic.clone()).unwrap_or_default();
        let parts = TaskParts {
            id: partition,
            epoch,
            partition: name,
            spec: input.spec.clone(),
            shared: Arc::clone(&self.shared),
            commands: receiver,
            own_commands: commands.downgrade(),
            events: self.events.clone(),
            lease: Arc::clone(&lease),
            look: Arc::clone(&self.look),
            in_flight: Arc::clone(&self.shared.in_flight[number]),
            breaker: self.shared.breakers[number].clone(),
            metrics: metrics.clone(),
            cancelled,
            // An assignment that is heard after a standstill may have been made before it.
            thaws: self.shared.gate.thaws().wrapping_sub(u64::from(self.thawed_now)),
            last_begun: predecessor.as_ref().map(|ending| ending.last_begun),
            predecessor: predecessor.map(|ending| ending.body),
            lost_position,
            seek,
        };
        let body = self.runtime.spawn(input.slots.task(parts));
        self.tasks.insert(
            partition,
            Task {
                epoch,
                commands,
                lease,
                cancel,
                body,
                topic,
                other_topic: None,
                out_of_range: false,
                draining_since: None,
                metrics,
            },
        );
    }

    pub(super) fn start_fetch(&mut self, now: Time, partition: PartitionId, from: Offset) {
        let Some(name) = self.names.name(partition).cloned() else {
            return;
        };
        self.look.doing(Doing::StartingAFetch);
        if let Err(error) = self.fetch.start(&name, from.0) {
            self.fetcher_broke(now, format!("fetching {name}: {error}"));
        }
    }

    pub(super) fn stop_fetch(&mut self, partition: PartitionId) {
        let Some(name) = self.names.name(partition) else {
            return;
        };
        self.look.doing(Doing::StoppingAFetch);
        if let Err(error) = self.fetch.stop(name) {
            tracing::warn!(partition = %name, %error, "the fetch could not be stopped");
        }
        if let Some(task) = self.tasks.get(&partition) {
            task.metrics.fetch_stops.increment(1);
        }
    }

    pub(super) fn deliver(&mut self, partition: PartitionId, skip_below: Offset) {
        let Some(mut run) = self.at_hand.take() else {
            return;
        };
        let (all, bytes) = (run.len(), run.bytes());
        let pass = Bug::DuplicatesPass.is(self.shared.plan.bug);
        if !pass && run.skip_below(skip_below.0) > 0 {
            let freed = if run.is_empty() { bytes } else { 0 };
            self.skipped(partition, all - run.len(), freed);
        }
        if !run.is_empty() {
            self.command(partition, Command::Run(run));
        }
    }

    /// Records that came twice: the engine has counted them as buffered.
    pub(super) fn skipped(&self, partition: PartitionId, records: usize, bytes: usize) {
        tracing::warn!(partition = %self.show(partition), records, "records came twice from the client and were dropped");
        let Some(task) = self.tasks.get(&partition) else {
            return;
        };
        let records = u64::try_from(records).unwrap_or(u64::MAX);
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        task.metrics.redelivered_records.increment(records);
        let epoch = task.epoch;
        let dirty = false;
        // By the way of all events: the actions around this one come first.
        self.events.send(TaskEvent::Engine(Event::Progressed {
            partition,
            epoch,
            records,
            bytes,
            dirty,
        }));
    }

    pub(super) fn command(&self, partition: PartitionId, command: Command) {
        if let Some(task) = self.tasks.get(&partition) {
            // A task that has ended by itself is found out by its drain's deadline.
            let _ended = task.commands.send(command).is_err();
        }
    }

    pub(super) fn close(
        &mut self,
        now: Time,
        partition: PartitionId,
        epoch: Epoch,
        closing: Closing,
    ) {
        self.next_status = now; // who owns what is shown at once
        let Some(task) = self.tasks.remove(&partition) else {
            return;
        };
        if Bug::IgnoreLost.is(self.shared.plan.bug) && closing == Closing::Lost {
            self.tasks.insert(partition, task);
            return;
        }
        task.metrics.released();
        if let Some(since) = task.draining_since.filter(|_| closing == Closing::Released) {
            task.metrics.drain_seconds.record(now.since(since));
        }
        task.lease.alive.store(false, Ordering::Release);
        task.cancel.send_replace(true);
        let _ended = task.commands.send(Command::Close(closing)).is_err();
        if closing != Closing::Reset {
            self.jumps.remove(&partition);
        }
        let Task { body, topic, metrics, lease, .. } = task;
        let last_begun = Offset(lease.last_begun());
        let ending = EndingTask { body, since: now, topic, metrics, blocked: false, last_begun };
        self.ending_tasks.insert(partition, ending);
        if let Some(name) = self.names.name(partition) {
            let (partition, epoch) = (name, epoch.0);
            self.shared.observe(&match closing {
                Closing::Released => Observation::Released { partition, epoch },
                Closing::Lost => Observation::Lost { partition, epoch },
                Closing::Reset => Observation::Reset { partition, epoch },
            });
        }
    }

    pub(super) fn send_commit(&mut self, now: Time, id: u64, items: Vec<CommitItem>) {
        let mut entries = Vec::with_capacity(items.len());
        for item in &items {
            let Some(partition) = self.names.name(item.partition) else {
                continue;
            };
            let topic = self.tasks.get(&item.partition).map(|task| task.topic.clone());
            let TopicMark { partitions, id: topic } = topic.unwrap_or_default();
            let envelope = Envelope {
                cluster: self.cluster.clone(),
                topic,
                partitions,
                incarnation: Some((self.shared.incarnation.clone(), id)),
                marks: item.standing.marks.clone(),
                window: item.standing.window,
                holds: item.standing.holds.clone(),
                done_set: Some(&item.standing.done).filter(|done| !done.is_empty()).cloned(),
            };
            let (epoch, offset) = (item.epoch.0, item.offset().0);
            let metadata = envelope.encode();
            let done = Envelope::done_set_of(&metadata);
            self.shared.observe(&Observation::CommitTried { id, partition, epoch, offset, done });
            entries.push(CommitEntry { partition: partition.clone(), offset, metadata });
        }
        self.look.doing(Doing::Committing);
        if let Err(error) = self.member.commit(id, &entries) {
            tracing::warn!(%error, "the commit could not be sent; it will be tried again");
            let refused = |item: &CommitItem| (item.partition, CommitStatus::Retry);
            let statuses: Vec<_> = items.iter().map(refused).collect();
            self.observe_answers(&SentCommit { id, items, at: now }, &statuses);
            // Answered later, as every commit is: an answer within its own sending would
            // send it again at once.
            self.events.send(TaskEvent::Engine(Event::CommitAnswered { id, statuses }));
            return;
        }
        self.commit = Some(SentCommit { id, items, at: now });
    }
}
