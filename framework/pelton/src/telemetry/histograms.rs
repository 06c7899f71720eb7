//! How are times counted, millions of them in a second? In buckets that are there from the start.
//!
//! The exporter's own histograms keep each sample until they are folded: 16 bytes a record, outside of
//! every budget. These take no memory for a sample, and many equal ones are one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::{Histogram, HistogramFn, Key, Unit};
use metrics_exporter_prometheus::LabelSet;
use metrics_exporter_prometheus::formatting::{
    write_help_line, write_metric_line, write_type_line,
};

use super::names::{Kind, TABLE};

/// Bucket bounds of every histogram: 100 µs to a minute, fine where handlers usually are.
pub(super) const BOUNDS_SECONDS: [f64; 15] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0,
    15.0, 60.0,
];

/// The lowest bound.
const FINEST: Duration = Duration::from_micros(100);

/// The histograms of [`TABLE`], by name and labels.
#[derive(Debug, Default)]
pub(super) struct Histograms(Mutex<BTreeMap<Key, Arc<Buckets>>>);

impl Histograms {
    /// The histogram of that name and those labels, if it is one of ours.
    pub(super) fn register(&self, key: &Key) -> Option<Histogram> {
        let is_meant = |name| name == key.name();
        TABLE.iter().find(|metric| metric.kind == Kind::Histogram && is_meant(metric.name))?;
        let buckets = Arc::clone(self.lock().entry(key.clone()).or_default());
        Some(Histogram::from_arc(buckets))
    }

    /// All of them, as Prometheus reads them.
    pub(super) fn render(&self) -> String {
        let mut text = String::new();
        let all = self.lock();
        for metric in TABLE.iter().filter(|metric| metric.kind == Kind::Histogram) {
            let mut of_it = all.iter().filter(|(key, _)| key.name() == metric.name).peekable();
            if of_it.peek().is_some() {
                let unit = Some(metric.unit);
                write_help_line(&mut text, metric.name, unit, None, metric.help);
                write_type_line(&mut text, metric.name, unit, None, "histogram");
            }
            for (key, buckets) in of_it {
                let labels = LabelSet::from_key_and_global(key, &Default::default());
                buckets.render(&mut text, metric.name, metric.unit, &labels);
            }
        }
        text
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Arc<Buckets>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many samples there were up to each bound and above the last, and their sum.
#[derive(Debug, Default)]
struct Buckets {
    samples: [AtomicU64; BOUNDS_SECONDS.len() + 1],
    nanoseconds: AtomicU64,
}

impl HistogramFn for Buckets {
    fn record(&self, seconds: f64) {
        self.record_many(seconds, 1);
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "the sum is of so many nanoseconds, and what is no time counts as none"
    )]
    fn record_many(&self, seconds: f64, count: usize) {
        let fits = BOUNDS_SECONDS.iter().position(|bound| seconds <= *bound);
        if let Some(samples) = self.samples.get(fits.unwrap_or(BOUNDS_SECONDS.len())) {
            samples.fetch_add(count as u64, Ordering::Relaxed);
        }
        let nanoseconds = (seconds * count as f64 * 1e9).round() as u64;
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }
}

impl Buckets {
    fn render(&self, text: &mut String, name: &str, unit: Unit, labels: &LabelSet) {
        let mut count = 0;
        let bounds = BOUNDS_SECONDS.iter().map(ToString::to_string).chain(["+Inf".to_owned()]);
        for (bound, samples) in bounds.zip(&self.samples) {
            count += samples.load(Ordering::Relaxed);
            let le = Some(("le", bound));
            write_metric_line(text, name, Some("bucket"), labels, le, count, Some(unit));
        }
        let sum = Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed)).as_secs_f64();
        let nothing = None::<(&'static str, &str)>;
        write_metric_line(text, name, Some("sum"), labels, nothing, sum, Some(unit));
        write_metric_line(text, name, Some("count"), labels, nothing, count, Some(unit));
        text.push('\n');
    }
}

/// Samples of one histogram that are told together, as many as are in its lowest bucket: what is seen
/// there is the same as if each had been told.
#[derive(Debug)]
pub(crate) struct Samples {
    histogram: Histogram,
    short: u32,
    sum: Duration,
}

impl Samples {
    pub(crate) fn of(histogram: Histogram) -> Self {
        Self { histogram, short: 0, sum: Duration::ZERO }
    }

    /// One more.
    pub(crate) fn add(&mut self, sample: Duration) {
        if sample <= FINEST {
            (self.short, self.sum) = (self.short.saturating_add(1), self.sum + sample);
        } else {
            self.histogram.record(sample);
        }
    }

    /// All so far are seen.
    pub(crate) fn tell(&mut self) {
        let (short, sum) = (std::mem::take(&mut self.short), std::mem::take(&mut self.sum));
        if short > 0 {
            // None is above the bound, and what floats make of their mean must not be either.
            let mean = (sum.as_secs_f64() / f64::from(short)).min(FINEST.as_secs_f64());
            self.histogram.record_many(mean, usize::try_from(short).unwrap_or(usize::MAX));
        }
    }
}

impl Drop for Samples {
    fn drop(&mut self) {
        self.tell();
    }
}

#[cfg(test)]
mod tests {
    use metrics::{Level, Metadata, Recorder};
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;
    use crate::telemetry::names;

    const METADATA: Metadata<'_> = Metadata::new("pelton", Level::INFO, None);

    fn key(name: &'static str, partition: &'static str) -> Key {
        Key::from_parts(name, &[("topic", "log\"ins"), ("partition", partition)][..])
    }

    /// What the exporter says of the same samples.
    fn exported(key: &Key, samples: &[f64]) -> String {
        let builder = PrometheusBuilder::new().set_buckets(&BOUNDS_SECONDS).unwrap();
        let recorder = builder.build_recorder();
        let theirs = recorder.register_histogram(key, &METADATA);
        samples.iter().for_each(|seconds| theirs.record(*seconds));
        recorder.handle().render()
    }

    #[test]
    fn they_read_as_the_exporters_do() {
        let samples = [0.000_05, 0.000_1, 0.000_2, 0.003, 0.003, 0.5, 15.0, 61.0];
        let key = key(names::HANDLER_SECONDS, "3");
        let histograms = Histograms::default();
        let ours = histograms.register(&key).unwrap();
        samples.iter().for_each(|seconds| ours.record(*seconds));
        let text = histograms.render();
        let (help, text) = text.split_once('\n').unwrap();
        assert!(help.starts_with("# HELP pelton_handler_seconds "), "{help}");
        assert_eq!(text, exported(&key, &samples));
    }

    #[test]
    fn one_registered_again_goes_on_and_others_are_not_ours() {
        let histograms = Histograms::default();
        let key = key(names::COMMIT_SECONDS, "0");
        for _ in 0..2 {
            histograms.register(&key).unwrap().record(0.25);
        }
        let text = histograms.render();
        assert!(text.contains("partition=\"0\"} 2\n") && text.contains(" 0.5\n"), "{text}");
        assert_eq!(text.matches("# TYPE").count(), 1, "one that nobody has made is not shown");
        assert!(histograms.register(&Key::from_name("their_own_seconds")).is_none());
    }

    #[test]
    fn the_finest_is_the_lowest_bound() {
        assert!((FINEST.as_secs_f64() - BOUNDS_SECONDS[0]).abs() < f64::EPSILON * 1e-4);
    }

    #[test]
    fn samples_told_together_read_as_if_each_had_been_told() {
        let (one_by_one, together) = (Histograms::default(), Histograms::default());
        let key = key(names::HANDLER_SECONDS, "3");
        let each = one_by_one.register(&key).unwrap();
        let mut samples = Samples::of(together.register(&key).unwrap());
        for round in 0..3_u64 {
            for sample in [100, 7, 1_000, 99_999, 100_000, 100_001, 2_000_000, 0] {
                let sample = Duration::from_nanos(sample + round % 2);
                each.record(sample);
                samples.add(sample);
            }
            samples.tell();
            samples.tell();
        }
        for short in 1..40 {
            (0..short).for_each(|_| each.record(FINEST));
            (0..short).for_each(|_| samples.add(FINEST));
            samples.tell();
        }
        assert_eq!(together.render(), one_by_one.render());
    }

    #[test]
    fn what_is_no_time_counts_and_adds_nothing() {
        let histograms = Histograms::default();
        let key = key(names::HANDLER_SECONDS, "0");
        let ours = histograms.register(&key).unwrap();
        [f64::NAN, -1.0].iter().for_each(|seconds| ours.record(*seconds));
        let text = histograms.render();
        assert!(text.contains("_count{") && text.contains("} 2\n"), "{text}");
        assert!(text.contains("_sum{topic=\"log\\\"ins\",partition=\"0\"} 0\n"), "{text}");
    }
}
