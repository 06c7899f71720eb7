//! How does the hot path count? Through handles made once, since a look-up by labels is slow.
//!
//! Make the handles after [`install_recorder`](super::install_recorder): they belong to the
//! recorder that is there when they are made. All carry the group, so several workers of one
//! process don't overwrite each other's gauges.

use std::sync::Arc;

use ::metrics::{Counter, Gauge, Histogram, Label, counter, gauge, histogram};

use super::names;
use super::observer::{CommitOutcome, RecordOutcome};
use crate::ports::ClientKind;

/// What a worker counts as a whole. Cloning copies pointers.
///
/// ```
/// use pelton::telemetry::{CommitOutcome, RecordOutcome, WorkerMetrics};
///
/// let worker = WorkerMetrics::new("login-counter");
/// worker.commit(CommitOutcome::Accepted).increment(1);
/// let logins = worker.partition("user_logins", 0);
/// logins.records(RecordOutcome::Done).increment(1);
/// logins.lag_records.set(12.0);
/// logins.released();
/// ```
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each handle is described beside its name in names.rs")]
pub struct WorkerMetrics {
    group: Arc<str>,
    pub assigned: Counter,
    pub revoked: Counter,
    pub lost: Counter,
    pub commit_seconds: Histogram,
    pub refusals: Gauge,
    pub memory_budget_bytes: Gauge,
    pub memory_used_bytes: MemoryGauges,
    blocking_handlers: Gauge,
    accepted: Counter,
    refused: Counter,
    unknown: Counter,
}

/// The parts of [`WorkerMetrics::memory_used_bytes`].
///
/// ```
/// use pelton::telemetry::{MemoryGauges, WorkerMetrics};
///
/// let parts: MemoryGauges = WorkerMetrics::new("login-counter").memory_used_bytes;
/// parts.records.set(1_000_000.0);
/// ```
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each part is described beside the metric's name in names.rs")]
pub struct MemoryGauges {
    pub fetch_ahead: Gauge,
    pub restores: Gauge,
    pub records: Gauge,
    pub outputs: Gauge,
    pub stores: Gauge,
}

impl WorkerMetrics {
    /// The handles of the worker in `group`.
    #[must_use]
    pub fn new(group: &str) -> Self {
        let group: Arc<str> = group.into();
        let labels = || vec![label("group", &group)];
        let with = |key, value: &str| vec![label("group", &group), label(key, value)];
        for what in names::WATCHDOGS {
            counter!(names::WATCHDOG_TOTAL, with("what", what)).increment(0);
        }
        for client in ClientKind::ALL {
            counter!(names::CLIENT_REBUILDS_TOTAL, with("client", client.as_str())).increment(0);
        }
        Self {
            assigned: counter!(names::REBALANCES_TOTAL, with("event", "assigned")),
            revoked: counter!(names::REBALANCES_TOTAL, with("event", "revoked")),
            lost: counter!(names::REBALANCES_TOTAL, with("event", "lost")),
            commit_seconds: histogram!(names::COMMIT_SECONDS, labels()),
            refusals: gauge!(names::REFUSALS, labels()),
            memory_budget_bytes: gauge!(names::MEMORY_BUDGET_BYTES, labels()),
            memory_used_bytes: MemoryGauges {
                fetch_ahead: gauge!(names::MEMORY_USED_BYTES, with("part", "fetch_ahead")),
                restores: gauge!(names::MEMORY_USED_BYTES, with("part", "restores")),
                records: gauge!(names::MEMORY_USED_BYTES, with("part", "records")),
                outputs: gauge!(names::MEMORY_USED_BYTES, with("part", "outputs")),
                stores: gauge!(names::MEMORY_USED_BYTES, with("part", "stores")),
            },
            blocking_handlers: gauge!(names::BLOCKING_HANDLERS, labels()),
            accepted: counter!(names::COMMITS_TOTAL, with("outcome", "accepted")),
            refused: counter!(names::COMMITS_TOTAL, with("outcome", "refused")),
            unknown: counter!(names::COMMITS_TOTAL, with("outcome", "unknown")),
            group,
        }
    }

    pub(crate) const fn group(&self) -> &Arc<str> {
        &self.group
    }

    /// The counter of commits that ended so.
    pub const fn commit(&self, outcome: CommitOutcome) -> &Counter {
        match outcome {
            CommitOutcome::Accepted => &self.accepted,
            CommitOutcome::Refused | CommitOutcome::MemberLost => &self.refused,
            CommitOutcome::Unknown => &self.unknown,
        }
    }

    /// A watchdog has found something standing still; one of [`names::WATCHDOGS`].
    pub(crate) fn barked(&self, what: &'static str) {
        let labels = vec![label("group", &self.group), label("what", what)];
        counter!(names::WATCHDOG_TOTAL, labels).increment(1);
    }

    /// A client has taken the place of a broken one.
    pub(crate) fn rebuilt(&self, client: ClientKind) {
        let labels = vec![label("group", &self.group), label("client", client.as_str())];
        counter!(names::CLIENT_REBUILDS_TOTAL, labels).increment(1);
    }

    /// So many handlers hold a thread just now.
    #[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
    pub(crate) fn blocking(&self, handlers: usize) {
        self.blocking_handlers.set(handlers as f64);
    }

    /// The handles of one input partition, which this worker owns from now on.
    #[must_use]
    pub fn partition(&self, topic: &str, partition: i32) -> PartitionMetrics {
        PartitionMetrics::new(&self.group, topic, partition)
    }

    /// The state of one input's breaker.
    pub(crate) fn breaker(&self, input: &str) -> Gauge {
        gauge!(names::BREAKER_STATE, vec![label("group", &self.group), label("input", input)])
    }

    /// The handles of one output topic.
    #[must_use]
    pub fn output(&self, topic: &str) -> OutputMetrics {
        let labels = || vec![label("group", &self.group), label("topic", topic)];
        OutputMetrics {
            delivered: counter!(names::OUTPUTS_TOTAL, labels()),
            failures: counter!(names::OUTPUT_FAILURES_TOTAL, labels()),
        }
    }
}

/// What is counted of one input partition; see [`WorkerMetrics::partition`].
///
/// ```
/// use pelton::telemetry::WorkerMetrics;
///
/// let logins = WorkerMetrics::new("login-counter").partition("user_logins", 0);
/// logins.handler_seconds.record(0.002);
/// ```
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each handle is described beside its name in names.rs")]
pub struct PartitionMetrics {
    pub owned: Gauge,
    pub position: Gauge,
    pub committed_offset: Gauge,
    pub end_offset: Gauge,
    pub lag_records: Gauge,
    pub lag_seconds: Gauge,
    pub handler_seconds: Histogram,
    pub retries: Counter,
    pub redelivered_records: Counter,
    pub out_of_range: Counter,
    pub skipped_records: Counter,
    /// Failures that did not become dead letters because too many did.
    pub dead_letters_withheld: Counter,
    pub blocked_handlers: Counter,
    pub fetch_stops: Counter,
    pub buffered_records: Gauge,
    pub buffered_bytes: Gauge,
    pub paused: Gauge,
    pub output_blocked: Gauge,
    pub held_keys: Gauge,
    pub restore_records: Counter,
    pub restore_seconds: Histogram,
    pub drain_seconds: Histogram,
    done: Counter,
    skipped: Counter,
    dead_letters: Counter,
    retry_topic: Counter,
    retry: Counter,
    timed_out: Counter,
    panicked: Counter,
    cancelled: Counter,
    fatal: Counter,
}

impl PartitionMetrics {
    fn new(group: &str, topic: &str, partition: i32) -> Self {
        let labels = || {
            let partition = label("partition", &partition.to_string());
            vec![label("group", group), label("topic", topic), partition]
        };
        let records = |outcome| {
            let mut labels = labels();
            labels.push(Label::from_static_parts("outcome", outcome));
            counter!(names::RECORDS_TOTAL, labels)
        };
        let owned = gauge!(names::PARTITION_OWNED, labels());
        owned.set(1.0);
        Self {
            owned,
            position: gauge!(names::POSITION, labels()),
            committed_offset: gauge!(names::COMMITTED_OFFSET, labels()),
            end_offset: gauge!(names::END_OFFSET, labels()),
            lag_records: gauge!(names::LAG_RECORDS, labels()),
            lag_seconds: gauge!(names::LAG_SECONDS, labels()),
            handler_seconds: histogram!(names::HANDLER_SECONDS, labels()),
            retries: counter!(names::RETRIES_TOTAL, labels()),
            redelivered_records: counter!(names::REDELIVERED_RECORDS_TOTAL, labels()),
            out_of_range: counter!(names::OUT_OF_RANGE_TOTAL, labels()),
            skipped_records: counter!(names::SKIPPED_RECORDS_TOTAL, labels()),
            dead_letters_withheld: counter!(names::DEAD_LETTERS_WITHHELD_TOTAL, labels()),
            blocked_handlers: counter!(names::BLOCKED_HANDLERS_TOTAL, labels()),
            fetch_stops: counter!(names::FETCH_STOPS_TOTAL, labels()),
            buffered_records: gauge!(names::BUFFERED_RECORDS, labels()),
            buffered_bytes: gauge!(names::BUFFERED_BYTES, labels()),
            paused: gauge!(names::PAUSED, labels()),
            output_blocked: gauge!(names::OUTPUT_BLOCKED, labels()),
            held_keys: gauge!(names::HELD_KEYS, labels()),
            restore_records: counter!(names::RESTORE_RECORDS_TOTAL, labels()),
            restore_seconds: histogram!(names::RESTORE_SECONDS, labels()),
            drain_seconds: histogram!(names::DRAIN_SECONDS, labels()),
            done: records("done"),
            skipped: records("skipped"),
            dead_letters: records("dead_letter"),
            retry_topic: records("retry_topic"),
            retry: records("retry"),
            timed_out: records("timed_out"),
            panicked: records("panicked"),
            cancelled: records("cancelled"),
            fatal: records("fatal"),
        }
    }

    /// The counter of attempts that ended so.
    pub const fn records(&self, outcome: RecordOutcome) -> &Counter {
        match outcome {
            RecordOutcome::Done | RecordOutcome::Handled => &self.done,
            RecordOutcome::Skipped => &self.skipped,
            RecordOutcome::DeadLetter => &self.dead_letters,
            RecordOutcome::RetryTopic => &self.retry_topic,
            RecordOutcome::Retry => &self.retry,
            RecordOutcome::TimedOut => &self.timed_out,
            RecordOutcome::Panicked => &self.panicked,
            RecordOutcome::Cancelled => &self.cancelled,
            RecordOutcome::Fatal => &self.fatal,
        }
    }

    /// The worker no longer owns the partition: sums over workers must not count it here.
    ///
    /// Call it before the partition's next assignment makes its handles.
    pub fn released(&self) {
        for gauge in [
            &self.owned,
            &self.lag_records,
            &self.lag_seconds,
            &self.buffered_records,
            &self.buffered_bytes,
            &self.paused,
            &self.output_blocked,
        ] {
            gauge.set(0.0);
        }
    }
}

/// What is counted of one output topic; see [`WorkerMetrics::output`].
///
/// ```
/// use pelton::telemetry::WorkerMetrics;
///
/// let totals = WorkerMetrics::new("login-counter").output("login_totals");
/// totals.delivered.increment(3);
/// ```
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each handle is described beside its name in names.rs")]
pub struct OutputMetrics {
    pub delivered: Counter,
    pub failures: Counter,
}

fn label(key: &'static str, value: &str) -> Label {
    Label::new(key, value.to_owned())
}
