//! What may be asked of the benchmark?

use std::time::Duration;

use clap::{Parser, ValueEnum};

/// Measures a whole worker without a broker: what a record costs, what is kept in flight.
///
/// Each case is a worker of its own, on records without end; it warms up, then it is measured round by
/// round. A row shows a figure's least, median and greatest value over the rounds, its target, and
/// whether the median reaches it. Other programs on the machine make figures worse: look at the least
/// and the greatest, and at `cores` against `wanted`.
#[derive(Debug, Parser)]
#[command(
    name = "bench",
    after_help = "Examples:\n  \
    cargo bench-worker                          all sections, a second for each case\n  \
    cargo bench-worker scheduler                one of them\n  \
    cargo bench-worker in-flight --seconds 10   longer: ten seconds for each case\n  \
    cargo bench-worker --case 'key(64)'         only the cases whose names have this\n\n\
    Words:\n  \
    records/s    records handled in a second of real time\n  \
    CPU          processor time of the whole process, for each record\n  \
    source       what of it the benchmark takes to make records\n  \
    poll loop    what of it the poll loop's thread takes, the source included\n  \
    worker       what is left for the worker: CPU less source\n  \
    cores        processor time by real time\n  \
    wanted       the same, and the time that threads were ready and other programs had the\n  \
    \x20            processor: far above cores, and the figures are those of a busy machine\n  \
    handler      how long a record was in the handler, measured inside\n  \
    slots        handler instances made so far, over all partitions\n  \
    efficiency   records/s by what so many in flight could at best do: in flight / handler"
)]
pub(super) struct Arguments {
    /// Which sections; all if none is named.
    #[arg(value_enum)]
    sections: Vec<Section>,
    /// So long each case is measured, over all its rounds.
    #[arg(long, default_value_t = 1.0, value_parser = positive)]
    seconds: f64,
    /// So many rounds.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Only cases whose names contain this.
    #[arg(long)]
    case: Option<String>,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Section {
    /// A handler that is ready at once: what does the way to it cost?
    Scheduler,
    /// A handler that waits 5 ms: are as many in flight as may be?
    InFlight,
    /// A handler that computes for 200 µs: are all cores at work?
    CpuBound,
}

impl Arguments {
    pub(super) fn sections(&self) -> Vec<Section> {
        if self.sections.is_empty() {
            Section::value_variants().to_vec()
        } else {
            self.sections.clone()
        }
    }

    pub(super) fn wants(&self, case: &str) -> bool {
        self.case.as_ref().is_none_or(|part| case.contains(part.as_str()))
    }

    pub(super) fn rounds(&self) -> u32 {
        self.rounds
    }

    /// How long one round takes.
    pub(super) fn round(&self) -> Duration {
        Duration::from_secs_f64(self.seconds) / self.rounds
    }
}

fn positive(text: &str) -> Result<f64, String> {
    let seconds = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.01..=86_400.0).contains(&seconds) { Ok(seconds) } else { Err("0.01 to 86400".to_owned()) }
}
