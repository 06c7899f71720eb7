//! What does the loop show of the worker? The status board and the gauges.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pelton_engine::{Event, Offset, PartitionId, PartitionView, Time};

use super::PollLoop;
use crate::admin::{MemoryStatus, PartitionStatus};
use crate::error::WorkerError;
use crate::refusals::Change;
use crate::runtime::status::partition_status;
use crate::telemetry::{Observation, PartitionMetrics};
use crate::topic_partition::TopicPartition;

/// A task that has not ended so long after it was told to is in code that never yields: hooks
/// that wait are cut off earlier.
const BLOCKED_AFTER: Duration = Duration::from_secs(15);

impl PollLoop {
    pub(super) fn show_status(&mut self, now: Time) {
        let ends: Vec<_> = self
            .engine
            .partitions()
            // Nothing is fetched of a paused one: what the client knows of its end is old.
            .filter(|view| !view.paused)
            .filter_map(|view| {
                let name = self.names.name(view.partition)?;
                self.fetch.end_offset(name).map(|end| (view.partition, end))
            })
            .collect();
        for (partition, end) in ends {
            self.tell(now, Event::End { partition, end: Offset(end) });
        }
        let wall = self.shared.host.wall_clock_ms();
        let lines = self.engine.partitions().filter_map(|view| {
            let name = self.names.name(view.partition)?;
            let task = self.tasks.get(&view.partition);
            let oldest = task.map_or(-1, |task| task.lease.oldest.load(Ordering::Relaxed));
            let behind = u64::try_from(wall - oldest).ok().filter(|_| oldest >= 0);
            let mut line = partition_status(name, &view, behind.map(Duration::from_millis))?;
            line.breaker_open = self.breaker_is_open(name);
            line.last_jump = self.jumps.get(&view.partition).cloned();
            let blocking = task.map_or(0, |task| task.lease.blocking_ms());
            line.blocking_seconds =
                (blocking > 0).then(|| Duration::from_millis(blocking).as_secs_f64());
            if let Some(task) = task {
                measure(&task.metrics, &view, &line);
            }
            Some(line)
        });
        self.status.show(lines.collect(), self.missing.iter().cloned().collect());
        // After its partitions are shown, or it would be ready before they are restored.
        if self.member.has_joined() {
            self.status.joined();
        }
        self.review_refusals(now);
        self.measure_memory();
        self.find_blocked(now);
    }

    /// Does its input's breaker hold the partition back?
    fn breaker_is_open(&self, partition: &TopicPartition) -> bool {
        let inputs = self.shared.plan.inputs.iter().zip(&self.shared.breakers);
        let mut its = inputs.filter(|(input, _)| input.subscription.matches(partition.topic()));
        its.next().and_then(|(_, breaker)| breaker.as_ref()).is_some_and(|own| !own.is_closed())
    }

    /// Says what Kafka refuses. A worker that has not joined yet ends with what will stay; one at
    /// work waits for it to be mended, and says so.
    #[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
    fn review_refusals(&mut self, now: Time) {
        let refusals = Arc::clone(&self.shared.refusals);
        if !self.status.has_started()
            && let Some(error) = refusals.lasting(&self.shared.plan.bootstrap_servers)
            && self.failure.is_none()
        {
            return self.fail(now, error);
        }
        for change in refusals.review(now) {
            match change {
                Change::Begun { refusal, reason } if refusal.is_lasting() => {
                    let way_out = refusal.way_out(&self.shared.plan.bootstrap_servers, &reason);
                    tracing::error!(%refusal, reason, way_out, "kafka refuses what the worker needs; it goes on trying");
                }
                Change::Still { refusal, reason, after } if refusal.is_lasting() => {
                    let for_s = after.as_secs();
                    tracing::error!(%refusal, reason, for_s, "kafka still refuses what the worker needs");
                }
                Change::Over { refusal } if refusal.is_lasting() => {
                    tracing::info!(%refusal, "kafka no longer refuses it");
                }
                // Brokers come and go; their clients' own words are in the log.
                Change::Begun { .. } | Change::Still { .. } | Change::Over { .. } => {}
            }
        }
        let shown = refusals.shown();
        self.metrics.refusals.set(shown.len() as f64);
        self.status.refused(shown);
    }

    #[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
    fn measure_memory(&self) {
        let used = self.memory_used();
        let parts = &self.metrics.memory_used_bytes;
        for (gauge, bytes) in [
            (&parts.fetch_ahead, used.fetch_ahead_bytes),
            (&parts.restores, used.restores_bytes),
            (&parts.records, used.records_bytes),
            (&parts.outputs, used.outputs_bytes),
            (&parts.stores, used.stores_bytes),
            (&self.metrics.memory_budget_bytes, used.budget_bytes),
        ] {
            gauge.set(bytes as f64);
        }
        self.status.show_memory(used);
    }

    fn memory_used(&self) -> MemoryStatus {
        let plan = &self.shared.plan;
        let mut used = MemoryStatus {
            budget_bytes: plan.memory.budget(),
            fetch_ahead_bytes: plan.memory.fetch_ahead,
            restores_bytes: if plan.has_changelogs() { plan.memory.restores } else { 0 },
            ..MemoryStatus::default()
        };
        for view in self.engine.partitions() {
            used.records_bytes += view.buffered_bytes;
            used.outputs_bytes += view.effects.outputs;
            used.stores_bytes += view.effects.stores;
        }
        used
    }

    /// Forgets the tasks that have ended and names those that can't be ended.
    fn find_blocked(&mut self, now: Time) {
        if self.failure.is_none()
            && let Some(dead) = self.tasks.iter().find(|(_, task)| task.body.is_finished())
        {
            let problem =
                format!("the task of {} died; this is a bug in Pelton", self.show(*dead.0));
            self.fail(now, WorkerError::System(problem));
        }
        self.ending_tasks.retain(|_, ending| !ending.body.is_finished());
        for (partition, ending) in &mut self.ending_tasks {
            if !ending.blocked && now.since(ending.since) >= BLOCKED_AFTER {
                ending.blocked = true;
                ending.metrics.blocked_handlers.increment(1);
                let partition = self.names.name(*partition).map(ToString::to_string);
                tracing::error!(
                    partition,
                    "a handler does not yield although it was cancelled; its effects are discarded, and this process can't run the partition again before it returns"
                );
            }
        }
    }

    pub(super) fn observe(
        &self,
        id: PartitionId,
        observation: impl for<'a> FnOnce(&'a TopicPartition, u64) -> Observation<'a>,
    ) {
        if let Some((partition, epoch)) = self.names.name(id).zip(self.engine.epoch(id)) {
            self.shared.observe(&observation(partition, epoch.0));
        }
    }

    pub(super) fn show(&self, id: PartitionId) -> String {
        self.names.name(id).map_or_else(|| "unknown".to_owned(), ToString::to_string)
    }
}

/// Sets a partition's gauges.
#[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
fn measure(metrics: &PartitionMetrics, view: &PartitionView, line: &PartitionStatus) {
    for (gauge, value) in [
        (&metrics.position, line.position),
        (&metrics.committed_offset, line.committed),
        (&metrics.end_offset, line.end_offset),
        (&metrics.lag_records, line.lag),
    ] {
        if let Some(value) = value {
            gauge.set(value as f64);
        }
    }
    metrics.lag_seconds.set(line.time_lag_seconds.unwrap_or(0.0));
    metrics.paused.set(if view.paused { 1.0 } else { 0.0 });
    metrics.buffered_records.set(view.buffered_records as f64);
    metrics.buffered_bytes.set(view.buffered_bytes as f64);
}
