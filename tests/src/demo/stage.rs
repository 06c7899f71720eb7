//! What is going on, and what has gone wrong?
//!
//! The stage holds workers and sender, looks at them ten times a second, and shows what it sees. A
//! scene waits with [`Stage::until`]; whatever goes wrong meanwhile ends it with a reason.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use load_generator::SendOptions;
use pelton::admin::PartitionState;

use crate::demo::clock::Clock;
use crate::demo::error::DemoError;
use crate::demo::input::Input;
use crate::demo::screen::{Paint, Picture, Row, Screen};
use crate::demo::sending::Sending;
use crate::demo::venue::Venue;
use crate::demo::worker::{Life, WorkerProcess};

const LOOK: Duration = Duration::from_millis(100);
/// Rates are taken over this time.
const RATE_OVER: Duration = Duration::from_secs(2);

pub(super) struct Stage {
    // Sender and workers are dropped before the venue: without Kafka they would wait for it.
    sending: Option<Sending>,
    pub(super) workers: Vec<WorkerProcess>,
    pub(super) venue: Venue,
    input: Arc<Input>,
    program: PathBuf,
    logs: PathBuf,
    /// Committed by the group, by partition, as far as any worker has told.
    counted: Vec<i64>,
    screen: Screen,
    clock: Clock,
    seen: VecDeque<(Duration, usize, usize)>,
    owners: String,
    interrupted: Arc<AtomicBool>,
}

impl Stage {
    pub(super) fn new(
        input: Arc<Input>,
        venue: Venue,
        program: PathBuf,
        logs: &Path,
        screen: Screen,
        interrupted: Arc<AtomicBool>,
    ) -> Self {
        Self {
            counted: vec![0; input.partitions()],
            input,
            venue,
            program,
            logs: logs.to_owned(),
            workers: Vec::new(),
            sending: None,
            screen,
            clock: Clock::start(),
            seen: VecDeque::new(),
            owners: String::new(),
            interrupted,
        }
    }

    pub(super) fn input(&self) -> &Input {
        &self.input
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.clock.elapsed()
    }

    pub(super) fn tell(&self, text: &str) {
        self.screen.tell(self.clock.elapsed(), text);
    }

    pub(super) fn say(&self, text: &str) {
        self.screen.say(text);
    }

    pub(super) const fn paint(&self) -> Paint {
        self.screen.paint()
    }

    pub(super) fn start_worker(&mut self) -> Result<(), DemoError> {
        let name = format!("worker-{}", self.workers.len() + 1);
        let settings = self.venue.worker_settings();
        self.workers.push(WorkerProcess::start(&self.program, &name, &settings, &self.logs)?);
        Ok(())
    }

    pub(super) fn start_sending(&mut self, rate_per_second: f64) {
        let mut options = SendOptions::new(&self.venue.bootstrap_servers, &self.venue.input);
        options.rate_per_second = Some(rate_per_second);
        self.sending = Some(Sending::start(&self.input, options));
    }

    /// Logins given to the client so far.
    pub(super) fn sent(&self) -> usize {
        self.sending.as_ref().map_or(0, Sending::sent)
    }

    /// Logins confirmed by Kafka so far.
    pub(super) fn delivered(&self) -> usize {
        self.sending.as_ref().map_or(0, Sending::delivered)
    }

    /// Whether the group has counted all there is.
    pub(super) fn all_counted(&self) -> bool {
        self.counted == self.input.ends(self.input.len())
    }

    /// Whether each partition runs, and as many workers as can have one do.
    pub(super) fn is_shared(&self) -> bool {
        let alive = self.workers.iter().filter(|worker| worker.life == Life::Alive);
        let mut running = vec![0; self.input.partitions()];
        let mut owners = 0;
        for worker in alive.clone() {
            owners += usize::from(!worker.partitions.is_empty());
            for partition in &worker.partitions {
                if partition.state == PartitionState::Running
                    && let Some(count) = running.get_mut(index(partition.partition))
                {
                    *count += 1;
                }
            }
        }
        running.iter().all(|owners| *owners == 1) && owners == alive.count().min(running.len())
    }

    /// Waits, looks and shows until `done` holds.
    pub(super) fn until(
        &mut self,
        what: &str,
        limit: Duration,
        done: impl Fn(&Self) -> bool,
    ) -> Result<(), DemoError> {
        let clock = Clock::start();
        loop {
            self.look()?;
            if done(self) {
                return Ok(());
            }
            if clock.elapsed() > limit {
                return Err(DemoError::Late { what: what.to_owned(), limit });
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Looks at everything once.
    fn look(&mut self) -> Result<(), DemoError> {
        if self.interrupted.load(Ordering::Relaxed) {
            return Err(DemoError::Interrupted);
        }
        if let Some(sending) = &mut self.sending {
            sending.check()?;
        }
        self.look_at_workers()?;
        let picture = self.picture();
        self.screen.draw(&picture);
        self.tell_owners(&picture);
        Ok(())
    }

    fn look_at_workers(&mut self) -> Result<(), DemoError> {
        let mut ended = Vec::new();
        for worker in &mut self.workers {
            worker.look();
            for partition in &worker.partitions {
                if let (Some(committed), Some(counted)) =
                    (partition.committed, self.counted.get_mut(index(partition.partition)))
                {
                    *counted = committed.max(*counted);
                }
            }
            let before = worker.life;
            let Some(status) = worker.ended().filter(|_| before != Life::Ended) else {
                continue;
            };
            if before != Life::Stopping || !status.success() {
                let (name, status) = (worker.name.clone(), status.to_string());
                return Err(DemoError::Died { name, status, log: worker.log.clone() });
            }
            ended.push(worker.name.clone());
        }
        for name in ended {
            self.tell(&format!("{name} has finished its records, committed and left"));
        }
        Ok(())
    }

    fn picture(&mut self) -> Picture {
        let (at, sent) = (self.clock.elapsed(), self.delivered());
        let counted = usize::try_from(self.counted.iter().sum::<i64>()).unwrap_or(0);
        self.seen.push_back((at, sent, counted));
        while self.seen.front().is_some_and(|(then, ..)| at - *then > RATE_OVER) {
            self.seen.pop_front();
        }
        let (then, sent_then, counted_then) =
            self.seen.front().copied().unwrap_or((at, sent, counted));
        #[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
        let per_second = |now: usize, before: usize| {
            now.saturating_sub(before) as f64 / (at - then).as_secs_f64().max(0.001)
        };
        let ends = self.input.ends(sent);
        Picture {
            at,
            total: self.input.len(),
            sent,
            counted,
            sent_per_second: per_second(sent, sent_then),
            counted_per_second: per_second(counted, counted_then),
            workers: self.workers.iter().map(|worker| self.row(worker)).collect(),
            lag: ends.iter().zip(&self.counted).map(|(end, done)| (end - done).max(0)).collect(),
        }
    }

    fn row(&self, worker: &WorkerProcess) -> Row {
        let mut owns = vec![None; self.input.partitions()];
        for partition in &worker.partitions {
            if let Some(cell) = owns.get_mut(index(partition.partition)) {
                *cell = Some(partition.state);
            }
        }
        let word = match worker.life {
            Life::Alive if !worker.partitions.is_empty() => "",
            Life::Alive if worker.ready => "idle",
            Life::Alive => "joining",
            Life::Stopping => "stopping",
            Life::Ended => "gone",
        };
        Row { name: worker.name.clone(), word, owns }
    }

    /// Says who owns what, once all is owned again and it is not as before.
    fn tell_owners(&mut self, picture: &Picture) {
        let owners: Vec<_> = picture.workers.iter().filter_map(Row::owned).collect();
        let owners = owners.join(" · ");
        if owners != self.owners && self.is_shared() {
            self.tell(&owners);
            self.owners = owners;
        }
    }

    /// Takes the picture away.
    pub(super) fn clear_screen(&mut self) {
        self.screen.clear();
    }

    /// Ends sender and workers, if they have not ended yet.
    pub(super) fn end(&mut self) {
        self.sending = None;
        self.workers.clear();
    }
}

fn index(partition: i32) -> usize {
    usize::try_from(partition).unwrap_or(usize::MAX)
}
