//! Where do the numbers go? To one Prometheus recorder per process, shared by its workers.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use super::error::TelemetryError;
use super::names::{self, Kind, TABLE};

/// Bucket bounds of every histogram: 100 µs to a minute, fine where handlers usually are.
const BOUNDS_SECONDS: [f64; 15] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0,
    15.0, 60.0,
];

/// How often histograms are folded into their buckets: until then each sample takes 16 bytes, and there
/// may be millions in a second.
const UPKEEP: Duration = Duration::from_secs(1);

static INSTALLED: OnceLock<PrometheusHandle> = OnceLock::new();
static INSTALLING: Mutex<()> = Mutex::new(());

/// Installs this process's recorder, or returns the one Pelton has installed before.
///
/// # Errors
///
/// When the program has a recorder that is not Pelton's, or a thread can't be started.
pub fn install() -> Result<PrometheusHandle, TelemetryError> {
    let _one_at_a_time = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = INSTALLED.get() {
        return Ok(handle.clone());
    }
    let recorder = builder().build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|_| TelemetryError::RecorderTaken)?;
    names::describe_all();
    metrics_process::Collector::default().describe();
    let handle = INSTALLED.get_or_init(|| handle).clone();

    let upkeep = handle.clone();
    std::thread::Builder::new()
        .name("pelton-metrics".to_owned())
        .spawn(move || {
            loop {
                std::thread::sleep(UPKEEP);
                upkeep.run_upkeep();
            }
        })
        .map_err(TelemetryError::NoThread)?;
    Ok(handle)
}

/// Reads this process's own figures (`process_…`) into its recorder: descriptors, threads, memory,
/// processor time, from `/proc`. For each scrape, since nothing else keeps them up to date.
pub(crate) fn measure_process() {
    metrics_process::Collector::default().collect();
}

fn builder() -> PrometheusBuilder {
    TABLE.iter().filter(|metric| metric.kind == Kind::Histogram).fold(
        PrometheusBuilder::new(),
        |builder, metric| {
            let name = Matcher::Full(metric.name.to_owned());
            // Only an empty list of bounds is an error; without bounds it renders a summary.
            builder
                .set_buckets_for_metric(name, &BOUNDS_SECONDS)
                .unwrap_or_else(|_| PrometheusBuilder::new())
        },
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{install, measure_process};
    use crate::telemetry::{RecordOutcome, WorkerMetrics};

    #[test]
    fn workers_of_one_process_share_the_recorder_and_not_the_gauges() {
        let handle = install().unwrap();
        let again = install().unwrap();
        for (group, lag) in [("one", 1.0), ("two", 2.0)] {
            let partition = WorkerMetrics::new(group).partition("logins", 3);
            partition.records(RecordOutcome::Done).increment(5);
            partition.lag_records.set(lag);
            partition.handler_seconds.record(0.003);
        }
        let text = again.render();
        for line in [
            "pelton_lag_records{group=\"one\",topic=\"logins\",partition=\"3\"} 1",
            "pelton_lag_records{group=\"two\",topic=\"logins\",partition=\"3\"} 2",
            "pelton_records_total{group=\"two\",topic=\"logins\",partition=\"3\",outcome=\"done\"} 5",
            "# TYPE pelton_handler_seconds histogram",
            "# HELP pelton_lag_records End offset less committed offset.",
        ] {
            assert!(text.contains(line), "{line}\nis not in\n{text}");
        }
        let partition = WorkerMetrics::new("one").partition("logins", 3);
        partition.released();
        let gone = "pelton_partition_owned{group=\"one\",topic=\"logins\",partition=\"3\"} 0";
        assert!(handle.render().contains(gone));
    }

    /// The second table of docs/metrics.md, held against what a process really shows.
    #[test]
    fn a_process_shows_the_figures_that_are_documented_and_no_other() {
        let handle = install().unwrap();
        measure_process();
        let text = handle.render();
        let shown: BTreeSet<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE process_")?.split_once(' '))
            .collect();
        let rows = include_str!("../../docs/metrics.md").lines();
        let documented: BTreeSet<_> = rows
            .filter_map(|row| row.strip_prefix("| `process_")?.split_once("` | "))
            .map(|(name, rest)| (name, rest.split(' ').next().unwrap_or_default()))
            .collect();
        assert_eq!(shown, documented);
        let threads = text.lines().find_map(|line| line.strip_prefix("process_threads "));
        assert!(threads.unwrap().parse::<u32>().unwrap() >= 2, "{threads:?}");
    }
}
