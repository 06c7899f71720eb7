//! What may be asked of a running worker, from anywhere? To end, and to take new settings over.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::{Change, ConfigError, Fate, Settings};
use crate::kafka::Credentials;
use crate::runtime::{Control, Input, Scope, Wish};
use crate::telemetry;
use crate::topic_partition::TopicPartition;

use super::plan;

/// Reaches a running worker, from anywhere.
///
/// ```
/// # fn doc(handle: pelton::WorkerHandle) {
/// handle.shut_down(); // drain, commit, leave; Worker::run returns when it is done
/// # }
/// ```
#[derive(Clone)]
pub struct WorkerHandle(Arc<Reach>);

struct Reach {
    control: Arc<Control>,
    inputs: Arc<[Input]>,
    credentials: Arc<Credentials>,
    in_force: Mutex<Settings>,
}

impl WorkerHandle {
    pub(super) fn new(
        control: Arc<Control>,
        settings: Settings,
        inputs: Arc<[Input]>,
        credentials: Arc<Credentials>,
    ) -> Self {
        let in_force = Mutex::new(settings);
        Self(Arc::new(Reach { control, inputs, credentials, in_force }))
    }

    pub(super) fn control(&self) -> &Arc<Control> {
        &self.0.control
    }

    /// Begins a graceful shutdown; calling it again changes nothing.
    pub fn shut_down(&self) {
        self.0.control.end();
    }

    /// Takes over what is reloadable in `settings` ([`Settings::is_reloadable`]), says in one log
    /// line what changed and in another what needs a restart, and returns both. It may be called
    /// at any time, before the worker runs too; it returns at once.
    ///
    /// `log.filter` is the process's, not this worker's; it changes only where
    /// [`telemetry::init_logging`] has set the log lines up.
    ///
    /// ```
    /// # use pelton::config::ConfigError;
    /// use pelton::WorkerHandle;
    ///
    /// /// Stops the work on a topic for a while.
    /// fn pause(worker: &WorkerHandle, topic: &str) -> Result<(), ConfigError> {
    ///     let mut settings = worker.settings();
    ///     settings.paused_topics.push(topic.to_owned());
    ///     worker.reload(&settings).map(drop)
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// If the settings can't hold together, or pause a topic that no input reads: then nothing
    /// changes.
    pub fn reload(&self, settings: &Settings) -> Result<Vec<Change>, ConfigError> {
        settings.check()?;
        let live = plan::live(settings, &self.0.inputs)?;
        let mut in_force = self.in_force();
        let changes = in_force.changes(settings);
        let applied = |is: fn(&str) -> bool| {
            changes.iter().any(|change| change.fate == Fate::Applied && is(&change.key))
        };
        in_force.take_over(settings);
        if applied(|key| key == "paused_topics" || key.ends_with("max_records_per_second")) {
            self.0.control.change(live);
        }
        if applied(|key| key.starts_with("kafka.sasl.")) {
            let value = |key| in_force.kafka.value(key).unwrap_or_default();
            self.0.credentials.change(value("sasl.username"), value("sasl.password"));
        }
        // Seen under the old filter or the new one, whichever shows more.
        let seen = tracing::enabled!(tracing::Level::INFO);
        if seen {
            say(&changes);
        }
        if applied(|key| key == "log.filter") {
            filter_by(&settings.log.filter);
        }
        if !seen {
            say(&changes);
        }
        Ok(changes)
    }

    /// Lets a topic or a partition rest: nothing of it is fetched or started until it is resumed;
    /// what runs finishes. It holds over rebalances, for partitions that come later too. Returns at
    /// once.
    ///
    /// ```
    /// # fn doc(handle: pelton::WorkerHandle) {
    /// use pelton::TopicPartition;
    ///
    /// handle.pause("user_logins");
    /// handle.pause(TopicPartition::new("user_logouts", 3));
    /// handle.resume("user_logins"); // goes on where it stood
    /// # }
    /// ```
    pub fn pause(&self, scope: impl Into<Scope>) {
        self.0.control.wish(Wish::Pause(scope.into()));
    }

    /// Takes a [`pause`](Self::pause) of the same topic or partition back. What the setting
    /// `paused_topics` names goes on resting.
    pub fn resume(&self, scope: impl Into<Scope>) {
        self.0.control.wish(Wish::Resume(scope.into()));
    }

    /// At most so many records of a topic or a partition start in a second in this worker, retries
    /// included; `None` lifts the limit. It holds over rebalances, beside `max_records_per_second`. A
    /// batch starts as a whole, and the next one waits until as many records might have started.
    pub fn limit_rate(&self, scope: impl Into<Scope>, per_second: Option<NonZeroU32>) {
        self.0.control.wish(Wish::Limit(scope.into(), per_second));
    }

    /// Lets a partition of this worker go on at another offset, back or forth, as if it were handed
    /// over to itself: what has started is finished, flushed and committed, then the new offset is
    /// committed and read from. Of a partition that is not this worker's nothing happens but a log
    /// line; if the drain can't be finished in its time, neither.
    ///
    /// ```
    /// # fn doc(handle: pelton::WorkerHandle) {
    /// handle.seek(pelton::TopicPartition::new("user_logins", 0), 42);
    /// # }
    /// ```
    pub fn seek(&self, partition: TopicPartition, offset: i64) {
        self.0.control.wish(Wish::Seek(partition, offset));
    }

    /// The settings in force: those it was built with, and what was taken over since.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.in_force().clone()
    }

    fn in_force(&self) -> MutexGuard<'_, Settings> {
        self.0.in_force.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for WorkerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerHandle").field("control", &self.0.control).finish_non_exhaustive()
    }
}

fn filter_by(filter: &str) {
    match telemetry::set_log_filter(filter) {
        Ok(true) => {}
        Ok(false) => {
            tracing::warn!("log.filter has no effect: this program sets its log lines up by itself")
        }
        Err(error) => tracing::error!(%error, "log.filter stays as it was"),
    }
}

fn say(changes: &[Change]) {
    let list = |fate| {
        let these = changes.iter().filter(|change| change.fate == fate);
        these.map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    let (applied, left) = (list(Fate::Applied), list(Fate::NeedsRestart));
    if changes.is_empty() {
        tracing::info!("settings read again; nothing changed");
    }
    if !applied.is_empty() {
        tracing::info!(changed = %applied, "settings read again and taken over");
    }
    if !left.is_empty() {
        tracing::warn!(changed = %left, "settings that need a restart; the worker keeps the old ones");
    }
}
