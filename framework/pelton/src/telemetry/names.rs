//! What is measured? Every metric's name, kind, unit, labels and meaning, in one table.
//!
//! Names are public API. `docs/metrics.md` describes each of them; a test keeps the two alike.

use metrics::Unit;

/// What a metric does over time.
///
/// ```
/// use pelton::telemetry::names::{Kind, TABLE};
///
/// let totals = TABLE.iter().filter(|metric| metric.name.ends_with("_total"));
/// assert!(totals.into_iter().all(|metric| metric.kind == Kind::Counter));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only ever grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts how often values of each size occurred.
    Histogram,
}

/// One metric.
///
/// ```
/// use pelton::telemetry::names::{LAG_RECORDS, TABLE};
///
/// let lag = TABLE.iter().find(|metric| metric.name == LAG_RECORDS).unwrap();
/// assert_eq!(lag.labels, ["group", "topic", "partition"]);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// The name, as Prometheus shows it.
    pub name: &'static str,
    /// What it does over time.
    pub kind: Kind,
    /// The unit of its values.
    pub unit: Unit,
    /// The labels it carries.
    pub labels: &'static [&'static str],
    /// What it means, in a sentence.
    pub help: &'static str,
}

/// Declares the names and their table together, so none can lack the other.
macro_rules! metrics {
    ($($constant:ident = $name:literal, $kind:ident, $unit:ident, [$($label:literal),*], $help:literal;)*) => {
        $(#[doc = $help] pub const $constant: &str = $name;)*

        /// Every metric of a worker, grouped as a record meets them.
        pub const TABLE: &[Metric] = &[$(Metric {
            name: $constant,
            kind: Kind::$kind,
            unit: Unit::$unit,
            labels: &["group", $($label),*],
            help: $help,
        }),*];
    };
}

metrics! {
    PARTITION_OWNED = "pelton_partition_owned", Gauge, Count, ["topic", "partition"],
        "1 while this worker owns the partition, 0 after; the partition's other gauges mean something only at 1.";
    POSITION = "pelton_position", Gauge, Count, ["topic", "partition"],
        "Offset of the next record to read.";
    COMMITTED_OFFSET = "pelton_committed_offset", Gauge, Count, ["topic", "partition"],
        "Offset the group has stored: every record before it is done.";
    END_OFFSET = "pelton_end_offset", Gauge, Count, ["topic", "partition"],
        "End of the partition's log as last seen.";
    LAG_RECORDS = "pelton_lag_records", Gauge, Count, ["topic", "partition"],
        "End offset less committed offset.";
    LAG_SECONDS = "pelton_lag_seconds", Gauge, Seconds, ["topic", "partition"],
        "Age of the oldest unfinished record, 0 where there is none.";
    RECORDS_TOTAL = "pelton_records_total", Counter, Count, ["topic", "partition", "outcome"],
        "Attempts at records by how they ended: done, skipped, dead_letter, retry_topic, retry, timed_out, panicked, cancelled, fatal.";
    HANDLER_SECONDS = "pelton_handler_seconds", Histogram, Seconds, ["topic", "partition"],
        "Time an attempt spent in the handler.";
    LAYER_SECONDS = "pelton_layer_seconds", Histogram, Seconds, ["topic", "layer", "outcome"],
        "Time an attempt, or a batch, spent within a Timing layer, by how it ended: done, skipped, retry, invalid, fatal, panicked, cancelled.";
    RETRIES_TOTAL = "pelton_retries_total", Counter, Count, ["topic", "partition"],
        "Attempts after a record's first.";
    DEAD_LETTERS_WITHHELD_TOTAL = "pelton_dead_letters_withheld_total", Counter, Count, ["topic", "partition"],
        "Failures that did not become dead letters because too many records of the partition do; the record waits.";
    REDELIVERED_RECORDS_TOTAL = "pelton_redelivered_records_total", Counter, Count, ["topic", "partition"],
        "Records the client delivered again and the position guard dropped.";
    OUT_OF_RANGE_TOTAL = "pelton_out_of_range_total", Counter, Count, ["topic", "partition"],
        "Times the partition's position was not in its log, or belonged to another topic of its name.";
    SKIPPED_RECORDS_TOTAL = "pelton_skipped_records_total", Counter, Count, ["topic", "partition"],
        "Offsets never read: jumped over, as on_out_of_range says, because they were deleted or lie before the end.";
    BLOCKED_HANDLERS_TOTAL = "pelton_blocked_handlers_total", Counter, Count, ["topic", "partition"],
        "Handlers that did not yield when cancelled; their effects were discarded.";
    FETCH_STOPS_TOTAL = "pelton_fetch_stops_total", Counter, Count, ["topic", "partition"],
        "Times the partition's fetch was stopped: budget used up, revoked, lost, reset, or started anew.";
    BUFFERED_RECORDS = "pelton_buffered_records", Gauge, Count, ["topic", "partition"],
        "Records read and not yet done.";
    BUFFERED_BYTES = "pelton_buffered_bytes", Gauge, Bytes, ["topic", "partition"],
        "Bytes of the records read and not yet done.";
    PAUSED = "pelton_paused", Gauge, Count, ["topic", "partition"],
        "1 while the setting paused_topics holds the partition back.";
    BREAKER_STATE = "pelton_breaker_state", Gauge, Count, ["input"],
        "0 while the input's breaker is closed, 1 while a record probes, 2 while it is open; not there where the input has none.";
    OUTPUT_BLOCKED = "pelton_output_blocked", Gauge, Count, ["topic", "partition"],
        "1 while a delivery that fails for good holds back the partition's commits.";
    HELD_KEYS = "pelton_held_keys", Gauge, Count, ["topic", "partition"],
        "Keys of which records lie in the retry topic: what follows of them goes there, too.";
    RESTORE_RECORDS_TOTAL = "pelton_restore_records_total", Counter, Count, ["topic", "partition"],
        "Changelog records read to rebuild stores.";
    RESTORE_SECONDS = "pelton_restore_seconds", Histogram, Seconds, ["topic", "partition"],
        "Time to rebuild a partition's stores.";
    DRAIN_SECONDS = "pelton_drain_seconds", Histogram, Seconds, ["topic", "partition"],
        "Time from a revocation to the partition's release.";
    OUTPUTS_TOTAL = "pelton_outputs_total", Counter, Count, ["topic"],
        "Output records delivered, by output topic.";
    OUTPUT_FAILURES_TOTAL = "pelton_output_failures_total", Counter, Count, ["topic"],
        "Deliveries that failed and were sent again, by output topic.";
    COMMITS_TOTAL = "pelton_commits_total", Counter, Count, ["outcome"],
        "Commits by what is known of them: accepted, refused, unknown.";
    COMMIT_SECONDS = "pelton_commit_seconds", Histogram, Seconds, [],
        "Time from sending a commit to its answer.";
    REBALANCES_TOTAL = "pelton_rebalances_total", Counter, Count, ["event"],
        "Rebalance events: assigned, revoked, lost.";
    CLIENT_REBUILDS_TOTAL = "pelton_client_rebuilds_total", Counter, Count, ["client"],
        "Kafka clients that took the place of a broken one: member, fetcher, producer.";
    WATCHDOG_TOTAL = "pelton_watchdog_total", Counter, Count, ["what"],
        "Times something stood still, by what was done or found: slow_start, restarted_restore, restarted_fetch, renewed_fetcher, rejoined, stuck_poll_loop, blocking_handler.";
    BLOCKING_HANDLERS = "pelton_blocking_handlers", Gauge, Count, [],
        "Handlers that hold a thread without yielding, for a second or more, just now.";
    REFUSALS = "pelton_refusals", Gauge, Count, [],
        "Things the worker needs and Kafka refuses at the moment: TLS, the login, rights; the log and `/readyz` name them.";
    MEMORY_BUDGET_BYTES = "pelton_memory_budget_bytes", Gauge, Bytes, [],
        "Bytes that fetched records and their effects may take: the setting memory_budget.";
    MEMORY_USED_BYTES = "pelton_memory_used_bytes", Gauge, Bytes, ["part"],
        "Bytes of the budget in use: set aside for fetch_ahead and restores; records read and not yet done; outputs not delivered, with the client's copies; writes to stores whose commit is not known.";
}

/// The values of [`WATCHDOG_TOTAL`]'s label `what`.
pub const WATCHDOGS: [&str; 7] = [
    "slow_start",
    "restarted_restore",
    "restarted_fetch",
    "renewed_fetcher",
    "rejoined",
    "stuck_poll_loop",
    "blocking_handler",
];

/// Gives each metric's unit and meaning to the recorder of this process.
pub fn describe_all() {
    for metric in TABLE {
        match metric.kind {
            Kind::Counter => metrics::describe_counter!(metric.name, metric.unit, metric.help),
            Kind::Gauge => metrics::describe_gauge!(metric.name, metric.unit, metric.help),
            Kind::Histogram => metrics::describe_histogram!(metric.name, metric.unit, metric.help),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Kind, TABLE, Unit};

    /// The names between the first backticks of the table rows in docs/metrics.md.
    fn documented() -> BTreeSet<&'static str> {
        let rows = include_str!("../../docs/metrics.md").lines();
        rows.filter_map(|row| row.strip_prefix("| `pelton_")?.split('`').next()).collect()
    }

    #[test]
    fn every_metric_is_documented_and_no_other() {
        let named: BTreeSet<_> =
            TABLE.iter().filter_map(|metric| metric.name.strip_prefix("pelton_")).collect();
        assert_eq!(named, documented());
        assert_eq!(named.len(), TABLE.len(), "a name stands twice, or lacks its prefix");
    }

    #[test]
    fn every_metric_is_documented_with_its_labels_and_meaning() {
        let docs = include_str!("../../docs/metrics.md");
        for metric in TABLE {
            let kind = format!("{:?}", metric.kind).to_lowercase();
            let labels = metric.labels.join(", ");
            let row = format!("| `{}` | {kind} | {labels} | {} |", metric.name, metric.help);
            assert!(docs.lines().any(|line| line == row), "docs/metrics.md lacks the row\n{row}");
        }
    }

    #[test]
    fn a_name_tells_kind_and_unit() {
        for metric in TABLE {
            let name = metric.name;
            assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "{name}");
            assert_eq!(name.ends_with("_seconds"), metric.unit == Unit::Seconds, "{name}");
            assert_eq!(name.ends_with("_bytes"), metric.unit == Unit::Bytes, "{name}");
        }
    }
}
