//! What does the way to a handler cost, where the handler itself costs nothing?

use std::sync::Arc;
use std::time::Duration;

use pelton::host::Machine;
use pelton::{Ordering, RetryPolicy, WorkerError};
use pelton_engine::{Finish, Item, Next, Offset, Schedule, Time};

use super::arguments::Arguments;
use super::figures::{Figure, Report, Target, Unit};
use super::handlers::Ready;
use super::processor;
use super::random::Random;
use super::subject::{Case, KEYS, Round, measure};

/// What a record may cost, in nanoseconds of processor time.
const TARGET: Target = Target::AtMost(250.0);

const CONCURRENCY: u32 = 64;

pub(super) fn run(arguments: &Arguments, report: &mut Report) -> Result<(), WorkerError> {
    let host = Arc::new(Machine::new());
    report.section("scheduler", "a handler that is ready at once, 50,000 keys");
    let orderings =
        [Ordering::Partition, Ordering::key(CONCURRENCY), Ordering::unordered(CONCURRENCY)];
    for ordering in orderings {
        for partitions in [1, 8] {
            let case = Case { ordering, partitions, in_flight: false };
            if arguments.wants(&case.name()) {
                let rounds = measure(case, arguments, &host, Ready::new)?;
                report.case(&case.name(), &figures(&rounds));
            }
        }
    }
    for ordering in orderings {
        let name = Case { ordering, partitions: 1, in_flight: false }.name();
        let name = format!("schedule alone, {name}");
        if arguments.wants(&name) {
            let rounds =
                (0..arguments.rounds()).map(|_| alone(ordering, arguments.round())).collect();
            report.case(&name, &[Figure::new("CPU", Unit::Nanoseconds, rounds).target(TARGET)]);
        }
    }
    Ok(())
}

fn figures(rounds: &[Round]) -> Vec<Figure> {
    let each = |of: &dyn Fn(&Round) -> f64| rounds.iter().map(of).collect::<Vec<_>>();
    let ns = |name, of: &dyn Fn(&Round) -> Duration| {
        Figure::new(name, Unit::Nanoseconds, each(&|round| round.each(of(round))))
    };
    let mut figures = vec![
        Figure::new("records/s", Unit::Rate, each(&Round::rate)),
        ns("CPU", &|round| round.processor),
        ns("source", &|round| round.source),
    ];
    if rounds.iter().all(|round| round.poll_loop.is_some()) {
        figures.push(ns("poll loop", &|round| round.poll_loop.unwrap_or_default()));
    }
    figures.extend([
        ns("worker", &|round| round.processor.saturating_sub(round.source)).target(TARGET),
        Figure::new("cores", Unit::Ratio, each(&Round::cores)),
        Figure::new("wanted", Unit::Ratio, each(&Round::wanted_cores)),
    ]);
    figures
}

/// What the schedule alone takes for a record: push, next and finished, in nanoseconds. As many run
/// as may, they end in any order, and [`WAITING`] wait.
fn alone(ordering: Ordering, length: Duration) -> f64 {
    const WAITING: usize = 20_000;
    const RUN: i64 = 500;
    let mut schedule = Schedule::new(ordering, Offset(0), RetryPolicy::default(), 1);
    let (mut offset, mut random, mut running) = (0_i64, Random::default(), Vec::new());
    let mut step = |schedule: &mut Schedule| {
        if schedule.waiting_records() < WAITING {
            let unit = |random: &mut Random| hash(random.below(u64::from(KEYS)));
            let items = (offset..offset + RUN)
                .map(|offset| Item { offset: Offset(offset), unit: unit(&mut random) });
            // They only grow, so all are taken.
            offset += if schedule.push(items).is_ok() { RUN } else { 0 };
        }
        while let Next::Start { index, .. } = schedule.next(Time::ZERO) {
            running.push(index);
        }
        let ends = random.below(running.len() as u64);
        let index = running.swap_remove(usize::try_from(ends).unwrap_or_default());
        schedule.finished(index, Finish::Done, Time::ZERO);
    };
    for _ in 0..2 * WAITING {
        step(&mut schedule);
    }
    let (begun, mut records) = (processor::of_this_thread(), 0_u32);
    loop {
        for _ in 0..10_000 {
            step(&mut schedule);
        }
        records += 10_000;
        let took = processor::of_this_thread().saturating_sub(begun);
        if took >= length {
            return took.as_secs_f64() * 1e9 / f64::from(records);
        }
    }
}

/// Spreads keys over all bits, as the hash of a key does.
fn hash(key: u64) -> u64 {
    let mixed = (key ^ (key >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 29)
}
