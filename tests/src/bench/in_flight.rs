//! Are as many records in flight as may be, where handlers wait most of the time?

use std::sync::Arc;
use std::time::Duration;

use pelton::host::Machine;
use pelton::{Ordering, WorkerError};

use super::arguments::Arguments;
use super::figures::{Figure, Report, Target, Unit};
use super::handlers::{Counts, Waits};
use super::processor::of_this_process;
use super::subject::{Case, Round, WARM_UP, measure, runtime};
use crate::Stopwatch;

/// What a handler waits for.
const WAIT: Duration = Duration::from_millis(5);

pub(super) fn run(arguments: &Arguments, report: &mut Report) -> Result<(), WorkerError> {
    let host = Arc::new(Machine::new());
    report.section("in-flight", "a handler that waits 5 ms, 50,000 keys");
    for limit in [1_000, 10_000] {
        for ordering in [Ordering::key(limit), Ordering::unordered(limit)] {
            for partitions in [1, 8] {
                let case = Case { ordering, partitions, in_flight: true };
                if arguments.wants(&case.name()) {
                    let for_handlers = Arc::clone(&host);
                    let make = move |counts: &_| Waits::new(counts, &for_handlers, WAIT);
                    let rounds = measure(case, arguments, &host, make)?;
                    report.case(&case.name(), &figures(&rounds, limit));
                }
            }
        }
        let name = format!("tokio alone, {limit} tasks");
        if arguments.wants(&name) {
            let rounds = tasks_alone(limit, arguments, &host)?;
            report.case(&name, &floor(&rounds));
        }
    }
    Ok(())
}

/// What the machine and tokio could do at best: as many tasks that do nothing but wait.
fn tasks_alone(
    tasks: u32,
    arguments: &Arguments,
    host: &Arc<Machine>,
) -> Result<Vec<Round>, WorkerError> {
    let runtime = runtime()?;
    let counts = Counts::default();
    for _ in 0..tasks {
        let waits = Waits::new(&counts, host, WAIT);
        runtime.spawn(async move {
            loop {
                waits.wait().await;
            }
        });
    }
    std::thread::sleep(WARM_UP);
    let rounds = (0..arguments.rounds()).map(|_| {
        let (watch, used, before) = (Stopwatch::start(), of_this_process(), counts.handled());
        std::thread::sleep(arguments.round());
        let after = counts.handled();
        Round {
            records: after.0 - before.0,
            passed: watch.elapsed(),
            processor: of_this_process().saturating_sub(used),
            handling: after.1.saturating_sub(before.1),
            ..Round::default()
        }
    });
    Ok(rounds.collect())
}

fn floor(rounds: &[Round]) -> Vec<Figure> {
    let each = |of: &dyn Fn(&Round) -> f64| rounds.iter().map(of).collect::<Vec<_>>();
    vec![
        Figure::new("waits/s", Unit::Rate, each(&Round::rate)),
        Figure::new("handler", Unit::Milliseconds, each(&|round| round.each(round.handling) / 1e6)),
        Figure::new("CPU", Unit::Nanoseconds, each(&|round| round.each(round.processor))),
        Figure::new("cores", Unit::Ratio, each(&Round::cores)),
    ]
}

fn figures(rounds: &[Round], limit: u32) -> Vec<Figure> {
    let each = |of: &dyn Fn(&Round) -> f64| rounds.iter().map(of).collect::<Vec<_>>();
    let handler = |round: &Round| round.each(round.handling) / 1e6;
    let efficiency = |round: &Round| round.rate() * handler(round) / 1e3 / f64::from(limit);
    let mut rate = Figure::new("records/s", Unit::Rate, each(&Round::rate));
    let mut efficiency = Figure::new("efficiency", Unit::Ratio, each(&efficiency));
    if limit >= 10_000 {
        rate = rate.target(Target::AtLeast(500_000.0));
    } else {
        efficiency = efficiency.target(Target::AtLeast(0.95));
    }
    vec![
        rate,
        Figure::new("handler", Unit::Milliseconds, each(&handler)),
        Figure::new("in flight", Unit::Count, each(&|round| round.mean_in_flight)),
        Figure::new("peak", Unit::Count, each(&|round| round.peak_in_flight as f64)),
        Figure::new("slots", Unit::Count, each(&|round| round.slots as f64)),
        efficiency,
        Figure::new("CPU", Unit::Nanoseconds, each(&|round| round.each(round.processor))),
        Figure::new("cores", Unit::Ratio, each(&Round::cores)),
        Figure::new("wanted", Unit::Ratio, each(&Round::wanted_cores)),
    ]
}
