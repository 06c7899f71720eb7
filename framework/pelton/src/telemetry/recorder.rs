//! Where do the numbers go? To one Prometheus recorder per process, shared by its workers.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use super::error::TelemetryError;
use super::histograms::Histograms;
use super::names;

/// How often the histograms of user code are folded into their buckets.
const UPKEEP: Duration = Duration::from_secs(5);

static INSTALLED: OnceLock<MetricsHandle> = OnceLock::new();
static INSTALLING: Mutex<()> = Mutex::new(());

/// What a process has counted.
///
/// ```
/// use pelton::telemetry::{MetricsHandle, WorkerMetrics, install_recorder};
///
/// let metrics: MetricsHandle = install_recorder()?;
/// WorkerMetrics::new("login-counter").assigned.increment(1);
/// assert!(metrics.render().contains("pelton_rebalances_total"));
/// # Ok::<(), pelton::telemetry::TelemetryError>(())
/// ```
#[derive(Clone)]
pub struct MetricsHandle {
    exporter: PrometheusHandle,
    histograms: Arc<Histograms>,
}

impl MetricsHandle {
    /// All of it, in the text format that Prometheus reads.
    #[must_use]
    pub fn render(&self) -> String {
        self.exporter.render() + &self.histograms.render()
    }
}

impl std::fmt::Debug for MetricsHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MetricsHandle").finish_non_exhaustive()
    }
}

/// The exporter's recorder, but for our histograms.
struct Recording {
    exporter: PrometheusRecorder,
    histograms: Arc<Histograms>,
}

impl Recorder for Recording {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, meaning: SharedString) {
        self.exporter.describe_counter(key, unit, meaning);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, meaning: SharedString) {
        self.exporter.describe_gauge(key, unit, meaning);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, meaning: SharedString) {
        self.exporter.describe_histogram(key, unit, meaning);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        self.exporter.register_counter(key, metadata)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.exporter.register_gauge(key, metadata)
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        let ours = self.histograms.register(key);
        ours.unwrap_or_else(|| self.exporter.register_histogram(key, metadata))
    }
}

/// Installs this process's recorder, or returns the one Pelton has installed before.
///
/// # Errors
///
/// When the program has a recorder that is not Pelton's, or a thread can't be started.
pub fn install() -> Result<MetricsHandle, TelemetryError> {
    let _one_at_a_time = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = INSTALLED.get() {
        return Ok(handle.clone());
    }
    let exporter = PrometheusBuilder::new().build_recorder();
    let histograms = Arc::new(Histograms::default());
    let handle = MetricsHandle { exporter: exporter.handle(), histograms: Arc::clone(&histograms) };
    metrics::set_global_recorder(Recording { exporter, histograms })
        .map_err(|_| TelemetryError::RecorderTaken)?;
    names::describe_all();
    metrics_process::Collector::default().describe();
    let handle = INSTALLED.get_or_init(|| handle).clone();

    let upkeep = handle.clone();
    std::thread::Builder::new()
        .name("pelton-metrics".to_owned())
        .spawn(move || {
            loop {
                std::thread::sleep(UPKEEP);
                upkeep.exporter.run_upkeep();
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
