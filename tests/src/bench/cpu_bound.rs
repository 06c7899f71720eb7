//! Do records of one partition use all cores, where handlers compute?

use std::sync::Arc;
use std::time::Duration;

use pelton::host::Machine;
use pelton::{Ordering, WorkerError};

use super::arguments::Arguments;
use super::figures::{Figure, Report, Target, Unit};
use super::handlers::{Computes, Work};
use super::subject::{Case, Round, measure};

/// What a record takes of a processor.
const WORK: Duration = Duration::from_micros(200);

pub(super) fn run(arguments: &Arguments, report: &mut Report) -> Result<(), WorkerError> {
    let host = Arc::new(Machine::new());
    let work = Work::of(WORK);
    report.section("cpu-bound", "a handler that computes for 200 µs, on 2 threads");
    for (ordering, threads) in [(Ordering::Partition, 1.0), (Ordering::key(8), 2.0)] {
        let case = Case { ordering, partitions: 1, in_flight: false };
        if arguments.wants(&case.name()) {
            let for_handlers = Arc::clone(&host);
            let make = move |counts: &_| Computes::new(counts, &for_handlers, work);
            let rounds = measure(case, arguments, &host, make)?;
            report.case(&case.name(), &figures(&rounds, threads));
        }
    }
    Ok(())
}

/// `threads` could be at work at most.
fn figures(rounds: &[Round], threads: f64) -> Vec<Figure> {
    let each = |of: &dyn Fn(&Round) -> f64| rounds.iter().map(of).collect::<Vec<_>>();
    vec![
        Figure::new("records/s", Unit::Rate, each(&Round::rate)),
        Figure::new("handler", Unit::Milliseconds, each(&|round| round.each(round.handling) / 1e6)),
        Figure::new("cores", Unit::Ratio, each(&Round::cores))
            .target(Target::AtLeast(0.95 * threads)),
        Figure::new("wanted", Unit::Ratio, each(&Round::wanted_cores)),
    ]
}
