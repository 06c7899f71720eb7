//! Did the run keep its promises? The ledger is held against the logs, and the subject's own checks
//! look at what was written.

use std::time::Duration;

use pelton::TopicPartition;
use pelton_engine::Time;

use super::report::{Figures, Outcome};
use super::run::{Deed, PATIENCE, Run};
use super::subject::{Logged, Logs, Written};
use crate::driver::Emitted;
use crate::ledger::{Check, Truth};
use crate::model::{LogRecord, World, records_of};

const SECOND: Duration = Duration::from_secs(1);

/// A partition that has records and starts none for so long is stuck; above every fault's length.
const STUCK: Duration = Duration::from_secs(120);

impl Run<'_> {
    /// All workers end, and the ledger is held against the logs.
    pub(super) fn judge(mut self, at_rest: bool) -> Outcome {
        let now = self.world.lock().now();
        if at_rest {
            for place in 0..self.fleet.len() {
                self.plan_for(now, Deed::End { place, back_after: None });
            }
            let end = now + SECOND * 60;
            while self.fleet.iter().any(Option::is_some) && self.world.lock().now() < end {
                self.advance(end);
            }
            for hosted in self.fleet.iter().flatten() {
                self.problems.push(format!("{} does not end", hosted.name));
            }
        } else if self.problems.is_empty() {
            self.problems.push(format!(
                "not everything is done {} s after the last fault",
                PATIENCE.as_secs()
            ));
        }
        let world = self.world.lock();
        let truth = truth(&world, &self.declared.group, &self.declared.inputs);
        let ledger = self.ledger.ledger();
        // The drain of a shutdown ends first: at eight tenths of `shutdown_timeout`.
        let deadline = (self.plan.drain_timeout + SECOND * 10) * 8 / 10;
        let ordering = self.declared.ordering;
        let check = Check::new().ordering(ordering).stuck_after(STUCK).drain_timeout(deadline);
        let verdict = check.hold(&ledger, &truth);
        let written =
            Written { logs: &*world, plan: &self.plan, verdict: &verdict, ledger: &ledger };
        let judges = self.subject.judges.iter().filter(|_| at_rest);
        let wrong: Vec<_> = judges.filter_map(|judge| judge(&written).err()).collect();
        let figures = Figures {
            records: self.plan.records,
            workers: self.plan.workers,
            faults: self.carried_out,
            virtual_time: world.now().since(Time::ZERO),
        };
        let trace = world.trace.clone();
        self.problems.extend(wrong);
        Outcome {
            plan: self.plan.clone(),
            verdict,
            problems: std::mem::take(&mut self.problems),
            figures,
            ledger,
            trace,
        }
    }
}

impl Logs for World {
    fn records(&self, topic: &str) -> Vec<Logged> {
        let of = |(partition, records): (TopicPartition, Vec<(i64, LogRecord)>)| {
            let number = partition.partition();
            records.into_iter().map(move |(_, record)| {
                let LogRecord { key, value, headers, timestamp_ms } = record;
                let record = Emitted { partition: number, key, value, headers };
                Logged { partition: partition.clone(), timestamp_ms, record }
            })
        };
        records_of(self, topic).into_iter().flat_map(of).collect()
    }
}

fn truth(world: &World, group: &str, inputs: &[String]) -> Truth {
    let mut truth = Truth::new();
    for (partition, records) in inputs.iter().flat_map(|topic| records_of(world, topic)) {
        for (offset, record) in &records {
            truth.record(&partition, *offset, record.key.as_deref(), record.timestamp_ms);
        }
        let committed = world.cluster.group(group).and_then(|group| group.committed(&partition));
        let end = world.cluster.log(&partition).map_or(0, |log| log.end());
        truth.at_rest(&partition, committed.map(|stored| stored.offset), end);
    }
    truth
}
