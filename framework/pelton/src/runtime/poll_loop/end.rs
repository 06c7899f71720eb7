//! How does the loop end: by its own failure, or in good order?

use std::sync::atomic::Ordering;

use pelton_engine::{Event, Time};

use super::{Ending, PollLoop};
use crate::error::WorkerError;
use crate::telemetry::Observation;

impl PollLoop {
    /// Begins a graceful shutdown; a second call changes nothing.
    pub(crate) fn shut_down(&mut self, now: Time) {
        if self.ending != Ending::No {
            return;
        }
        tracing::info!("shutting down: partitions drain");
        self.shared.observe(&Observation::Stopping);
        self.status.draining();
        // Three quarters for what runs, the rest to commit and to leave.
        let limit = self.shared.plan.shutdown_timeout;
        let cancel_at = now + limit * 6 / 10;
        let release_at = now + limit * 8 / 10;
        self.ending = Ending::Draining { give_up_at: now + limit * 9 / 10 };
        self.tell(now, Event::Shutdown { cancel_at, release_at });
    }

    /// Ends the clients. Returns why the worker ended, if not by request.
    pub(crate) fn finish(self) -> Result<(), WorkerError> {
        let graceful = self.member.has_left();
        for (id, task) in &self.tasks {
            let owned = self.engine.epoch(*id) == Some(task.epoch);
            if let Some(partition) = self.names.name(*id).filter(|_| owned) {
                self.shared.observe(&Observation::Lost { partition, epoch: task.epoch.0 });
            }
            task.lease.alive.store(false, Ordering::Release);
            task.cancel.send_replace(true);
            // Dropping the task's commands ends it, as a loss.
        }
        self.fetch.close();
        self.member.close(graceful);
        self.shared.producer.close(graceful);
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        if !graceful {
            return Err(WorkerError::ShutdownTimeout {
                limit: self.shared.plan.shutdown_timeout,
                reason: "the group could not be left; its coordinator does not answer".to_owned(),
            });
        }
        self.shared.observe(&Observation::Stopped);
        tracing::info!("the group was left in good order");
        Ok(())
    }

    pub(super) fn fail(&mut self, now: Time, error: WorkerError) {
        // Or Kafka does not let us in: there never was anything.
        let fenced = matches!(
            error,
            WorkerError::InstanceFenced { .. }
                | WorkerError::Client { .. }
                | WorkerError::Login { .. }
                | WorkerError::Tls { .. }
                | WorkerError::Rights { .. }
        );
        self.fail_in_order(now, error);
        if fenced {
            // The client is of no use any more: there is nothing to commit with.
            self.ending = Ending::Over;
        }
    }

    /// The worker can't go on, but what it has done can be committed.
    pub(super) fn fail_in_order(&mut self, now: Time, error: WorkerError) {
        tracing::error!(%error, "the worker can't go on");
        self.status.failed(&error);
        self.failure.get_or_insert(error);
        self.shut_down(now);
    }

    pub(super) fn end_if_due(&mut self, now: Time) {
        match self.ending {
            // The handlers' last hooks are waited for, too.
            Ending::Leaving { .. }
                if self.member.has_left()
                    && self.ending_tasks.values().all(|task| task.body.is_finished()) =>
            {
                self.ending = Ending::Over;
            }
            Ending::Draining { give_up_at } | Ending::Leaving { give_up_at }
                if now >= give_up_at =>
            {
                tracing::error!("the shutdown takes too long; what was not committed runs again");
                self.ending = Ending::Over;
            }
            Ending::No | Ending::Draining { .. } | Ending::Leaving { .. } | Ending::Over => {}
        }
    }
}
