//! How is a handler tested without Kafka? In memory, in virtual time, by the real runtime.
//!
//! The driver runs the whole worker: poll loop, engine, schedule, slot, outbox, stores. Only the
//! ports are a cluster in memory, and time stands still until the test lets it pass. The same
//! calls give the same run. Further workers may join the same cluster.

mod attempts;
#[cfg(test)]
mod broken_clients;
#[cfg(test)]
mod consent;
mod faults;
#[cfg(test)]
mod watchdogs;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pelton::admin::{Health, Status};
use pelton::config::{AutoOffsetReset, ConfigError, Settings};
use pelton::ports::{ClientKind, MemberEvent, Ports};
use pelton::telemetry::Observer;
use pelton::{SteppedWorker, TopicPartition, WorkerBuilder, WorkerError, WorkerHandle};
use pelton_engine::CommitStatus;
use serde::de::DeserializeOwned;

use self::attempts::Attempts;
use crate::ledger::Truth;
use crate::memory::{
    MemoryClients, MemoryCluster, MemoryFetch, MemoryMember, Positions, Stored, VirtualHost,
    WALL_CLOCK_BEGIN_MS,
};

/// A record that a worker has emitted.
///
/// ```
/// use pelton_testkit::Emitted;
///
/// let emitted = Emitted { partition: 0, key: Some(b"alice".to_vec()), value: Some(b"3".to_vec()), headers: vec![] };
/// assert_eq!(emitted.key_str(), "alice");
/// assert_eq!(emitted.json::<u64>(), 3);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emitted {
    /// Its partition.
    pub partition: i32,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Its headers.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Emitted {
    /// Its key as text; empty if it has none.
    ///
    /// # Panics
    ///
    /// If the key is not UTF-8.
    #[must_use]
    #[expect(clippy::panic, reason = "a test's assertion")]
    pub fn key_str(&self) -> &str {
        let key = self.key.as_deref().unwrap_or_default();
        std::str::from_utf8(key).unwrap_or_else(|_| panic!("the key {key:?} is not UTF-8"))
    }

    /// Its value, read as JSON.
    ///
    /// # Panics
    ///
    /// If it has no value or the value does not fit `T`.
    #[must_use]
    #[expect(clippy::panic, reason = "a test's assertion")]
    pub fn json<T: DeserializeOwned>(&self) -> T {
        let value = self.value.as_deref().unwrap_or_default();
        serde_json::from_slice(value).unwrap_or_else(|error| {
            panic!("the emitted value {:?}: {error}", String::from_utf8_lossy(value))
        })
    }
}

/// Runs a worker in memory.
///
/// ```
/// use pelton::{Context, Handler, HandlerError, Output, Record, Worker};
/// use pelton_testkit::TestDriver;
///
/// struct Shout(Output);
/// impl Handler for Shout {
///     async fn handle(&mut self, record: &Record<'_>, ctx: &mut Context<'_>) -> Result<(), HandlerError> {
///         let text: &str = record.json()?;
///         ctx.emit(self.0, "all", &text.to_uppercase())
///     }
/// }
///
/// let mut app = Worker::builder("shouter");
/// let out = app.output("shouts");
/// app.input("words").handler(move |_slot| Shout(out));
///
/// let mut driver = TestDriver::new(app);
/// driver.send("words", "k", "\"hello\"");
/// assert_eq!(driver.emitted("shouts")[0].json::<String>(), "HELLO");
/// ```
#[derive(Debug)]
pub struct TestDriver {
    /// By number; `None` once killed.
    workers: Vec<Option<Hosted>>,
    cluster: MemoryCluster,
    settings: Settings,
    partitions: i32,
    inputs: Vec<String>,
    /// Virtual time since the start.
    passed: Duration,
    attempts: Arc<Attempts>,
    /// Workers that stand still, and for how long they have.
    frozen: BTreeMap<usize, Duration>,
}

/// A worker and the runtime its tasks live in: they die together.
#[derive(Debug)]
struct Hosted {
    runtime: tokio::runtime::Runtime,
    worker: SteppedWorker,
    handle: WorkerHandle,
}

impl TestDriver {
    /// Starts the worker with one partition per topic.
    ///
    /// # Panics
    ///
    /// If the worker is declared in a way that can't work.
    #[must_use]
    pub fn new(app: WorkerBuilder) -> Self {
        Self::with_partitions(app, 1)
    }

    /// Starts the worker with `partitions` partitions per topic; keys choose them as in Java.
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new).
    #[must_use]
    pub fn with_partitions(app: WorkerBuilder, partitions: i32) -> Self {
        Self::with_settings(app, partitions, |_| {})
    }

    /// Starts the worker with settings of your own: `change` gets the driver's
    /// (`auto_offset_reset` earliest, no admin endpoint, defaults otherwise).
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new).
    #[must_use]
    pub fn with_settings(
        app: WorkerBuilder,
        partitions: i32,
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        let mut settings = Settings::default();
        "memory:9092".clone_into(&mut settings.bootstrap_servers);
        settings.auto_offset_reset = Some(AutoOffsetReset::Earliest);
        settings.admin.enabled = false;
        change(&mut settings);
        let mut driver = Self {
            workers: Vec::new(),
            cluster: MemoryCluster::default(),
            settings,
            partitions,
            inputs: Vec::new(),
            passed: Duration::ZERO,
            attempts: Arc::default(),
            frozen: BTreeMap::new(),
        };
        let first = driver.join(app);
        let inputs = driver.inputs.iter().flat_map(|topic| driver.cluster.partitions(topic));
        driver.cluster.tell(first, MemberEvent::Assigned(inputs.collect()));
        driver.settle();
        driver
    }

    /// One more worker joins the group, with the same settings and without partitions until
    /// [`assign_to`](Self::assign_to) gives it some. Returns its number; the first worker has 0.
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new).
    #[expect(clippy::panic, reason = "a test's assertion")]
    pub fn join(&mut self, mut app: WorkerBuilder) -> usize {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap_or_else(|error| panic!("no runtime: {error}"));
        app.settings(self.settings.clone());
        app.observer(Arc::clone(&self.attempts) as Arc<dyn Observer>);
        let (worker, handle) =
            app.build().unwrap_or_else(|error| panic!("the worker can't be built: {error}"));
        let cluster = &self.cluster;
        for topic in worker.topics() {
            cluster.create_topic(&topic, self.partitions);
        }
        for input in worker.input_topics() {
            if !self.inputs.contains(&input) {
                self.inputs.push(input);
            }
        }
        let number = cluster.join();
        let guard = runtime.enter();
        let start = tokio::time::Instant::now();
        drop(guard);
        runtime.block_on(tokio::time::advance(self.passed));
        let guard = runtime.enter();
        let worker = worker.on_ports(Ports {
            member: Box::new(MemoryMember { cluster: cluster.clone(), number }),
            fetch: Box::new(MemoryFetch {
                cluster: cluster.clone(),
                positions: Positions::Member(number),
            }),
            clients: Arc::new(MemoryClients { cluster: cluster.clone(), number }),
            producer: Arc::new(cluster.clone()),
            admin: Arc::new(cluster.clone()),
            restores: Arc::new(cluster.clone()),
            host: Arc::new(VirtualHost { start, seed: number as u64 + 1 }),
            waker: Arc::new(|| {}),
        });
        drop(guard);
        self.workers.push(Some(Hosted { runtime, worker, handle }));
        self.settle();
        number
    }

    /// Appends a record to an input and lets the worker handle it. Returns its partition and
    /// offset.
    pub fn send(&mut self, topic: &str, key: &str, value: &str) -> (i32, i64) {
        self.send_bytes(topic, Some(key.as_bytes()), Some(value.as_bytes()))
    }

    /// Like [`send`](Self::send), with key and value that may be absent.
    pub fn send_bytes(
        &mut self,
        topic: &str,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> (i32, i64) {
        let record = Stored {
            key: key.map(<[u8]>::to_vec),
            value: value.map(<[u8]>::to_vec),
            headers: Vec::new(),
            timestamp_ms: Some(WALL_CLOCK_BEGIN_MS + millis(self.passed)),
        };
        let at = self.cluster.append(topic, None, record);
        self.settle();
        at
    }

    /// Records of a partition below `below` are gone, as if retention had taken them; the worker
    /// goes on as `on_out_of_range` says.
    pub fn delete_records(&mut self, topic: &str, partition: i32, below: i64) {
        self.cluster.delete_records(&TopicPartition::new(topic, partition), below);
        self.settle();
    }

    /// A partition's log ends at `end` from now on, as after an unclean election.
    pub fn truncate(&mut self, topic: &str, partition: i32, end: i64) {
        self.cluster.truncate(&TopicPartition::new(topic, partition), end);
        self.settle();
    }

    /// What was written to a topic so far, partition by partition, in order.
    #[must_use]
    pub fn emitted(&self, topic: &str) -> Vec<Emitted> {
        let emitted = |(partition, record): (i32, Stored)| Emitted {
            partition,
            key: record.key,
            value: record.value,
            headers: record.headers,
        };
        self.cluster.records(topic).into_iter().map(emitted).collect()
    }

    /// The committed content of a store, from its changelog: lets one commit interval pass.
    ///
    /// # Panics
    ///
    /// If there is no such store (or it has no changelog), or its content does not fit `V`.
    #[expect(clippy::panic, reason = "a test's assertion")]
    pub fn store<V: DeserializeOwned>(&mut self, store: &str) -> BTreeMap<String, V> {
        self.advance(self.settings.commit_interval);
        let suffix = format!("-{store}-changelog");
        let topic = self.cluster.topics().into_iter().find(|topic| topic.ends_with(&suffix));
        let topic = topic.unwrap_or_else(|| panic!("no store {store} with a changelog"));
        let mut content = BTreeMap::new();
        for record in self.emitted(&topic) {
            let key = record.key_str().to_owned();
            if record.value.is_some() {
                content.insert(key, record.json());
            } else {
                content.remove(&key);
            }
        }
        content
    }

    /// The committed offset of a partition.
    #[must_use]
    pub fn committed(&self, topic: &str, partition: i32) -> Option<i64> {
        self.cluster.committed(&TopicPartition::new(topic, partition))
    }

    /// How many attempts at a record have begun, whoever made them; 0 if none has.
    ///
    /// ```
    /// use pelton::{Context, Handler, HandlerError, Record, Worker};
    /// use pelton_testkit::TestDriver;
    ///
    /// struct Moody;
    /// impl Handler for Moody {
    ///     async fn handle(&mut self, _: &Record<'_>, ctx: &mut Context<'_>) -> Result<(), HandlerError> {
    ///         if ctx.attempt() < 3 { Err(HandlerError::retryable("not today")) } else { Ok(()) }
    ///     }
    /// }
    /// let mut app = Worker::builder("moody");
    /// app.input("orders").handler(|_slot| Moody);
    ///
    /// let mut driver = TestDriver::new(app);
    /// let (partition, offset) = driver.send("orders", "ann", "5");
    /// assert_eq!(driver.attempts("orders", partition, offset), 1); // and it waits
    /// driver.advance(std::time::Duration::from_secs(60));
    /// assert_eq!(driver.attempts("orders", partition, offset), 3);
    /// ```
    #[must_use]
    pub fn attempts(&self, topic: &str, partition: i32, offset: i64) -> u32 {
        self.attempts.of(TopicPartition::new(topic, partition), offset)
    }

    /// What the inputs hold and the group has committed, for the ledger's check; it counts as
    /// the state at rest.
    #[must_use]
    pub fn truth(&self) -> Truth {
        let mut truth = Truth::new();
        for partition in self.inputs.iter().flat_map(|topic| self.cluster.partitions(topic)) {
            let log = self.cluster.log(&partition);
            let low = self.cluster.low(&partition);
            for (offset, record) in (0..).zip(&log).filter(|(offset, _)| *offset >= low) {
                truth.record(&partition, offset, record.key.as_deref(), record.timestamp_ms);
            }
            let end = i64::try_from(log.len()).unwrap_or(i64::MAX);
            truth.at_rest(&partition, self.cluster.committed(&partition), end);
        }
        truth
    }

    /// Lets time pass: retries, ticks, flushes and commits come due.
    pub fn advance(&mut self, duration: Duration) {
        const STEP: Duration = Duration::from_millis(50);
        let mut left = duration;
        while !left.is_zero() {
            let step = left.min(STEP);
            for (number, hosted) in self.workers.iter().enumerate() {
                match (hosted, self.frozen.get_mut(&number)) {
                    (_, Some(still)) => *still += step,
                    (Some(hosted), None) => hosted.runtime.block_on(tokio::time::advance(step)),
                    (None, None) => {}
                }
            }
            self.passed += step;
            left -= step;
            self.settle();
        }
    }

    /// The group asks a partition's owner for it. What must be done first is done; a handler
    /// that waits needs [`advance`](Self::advance).
    pub fn revoke(&mut self, topic: &str, partition: i32) {
        self.tell_owner(topic, partition, MemberEvent::Revoked);
    }

    /// The group takes a partition away from its owner without a word.
    pub fn lose(&mut self, topic: &str, partition: i32) {
        self.tell_owner(topic, partition, MemberEvent::Lost);
    }

    /// The group gives a partition (back) to the first worker.
    pub fn assign(&mut self, topic: &str, partition: i32) {
        self.assign_to(0, topic, partition);
    }

    /// The group gives a partition to a worker that has [joined](Self::join).
    pub fn assign_to(&mut self, worker: usize, topic: &str, partition: i32) {
        let partition = TopicPartition::new(topic, partition);
        self.cluster.tell(worker, MemberEvent::Assigned(vec![partition]));
        self.settle();
    }

    /// A worker dies on the spot: nothing of it runs any more, and nothing is said. What it had
    /// belongs to nobody until it is assigned.
    pub fn kill(&mut self, worker: usize) {
        if let Some(hosted) = self.workers.get_mut(worker).and_then(Option::take) {
            // Its tasks end first: none of them sees the poll loop go.
            drop(hosted.runtime);
            drop(hosted.worker);
        }
        self.cluster.forget(worker);
    }

    fn tell_owner(
        &mut self,
        topic: &str,
        partition: i32,
        event: impl FnOnce(Vec<TopicPartition>) -> MemberEvent,
    ) {
        let partition = TopicPartition::new(topic, partition);
        let owner = self.cluster.owner(&partition).unwrap_or(0);
        self.cluster.tell(owner, event(vec![partition]));
        self.settle();
    }

    /// What the workers own.
    #[must_use]
    pub fn owned(&self) -> Vec<TopicPartition> {
        self.cluster.owned()
    }

    /// The next `count` deliveries fail.
    pub fn fail_deliveries(&mut self, count: usize) {
        self.cluster.fail_deliveries(count);
    }

    /// Of the next deliveries these fail, counted from 0.
    pub fn fail_deliveries_at(&mut self, numbers: &[usize]) {
        self.cluster.fail_deliveries_at(numbers);
    }

    /// Every delivery to this topic fails, until it is called again; with `None`, none does.
    pub fn fail_deliveries_to(&mut self, topic: Option<&str>) {
        self.cluster.fail_deliveries_to(topic);
    }

    /// One of a worker's Kafka clients has a fatal error: it can't go on, and another takes its
    /// place after a while. The member that takes the place of a broken one is given what that
    /// one had, unless it was [assigned](Self::assign_to) to another worker meanwhile. All workers
    /// of a driver share one producer.
    pub fn break_client(&mut self, worker: usize, client: ClientKind) {
        self.cluster.break_client(worker, client);
        self.settle();
    }

    /// A worker's fetcher brings nothing any more and does not say why, until it is replaced.
    pub fn silence_fetcher(&mut self, worker: usize) {
        self.cluster.silence_fetcher(worker);
    }

    /// The next `count` questions for committed offsets are never answered.
    pub fn leave_committed_unanswered(&mut self, count: usize) {
        self.cluster.leave_unanswered(count);
    }

    /// How many members have taken the place of a broken one of this worker.
    #[must_use]
    pub fn rebuilt_members(&self, worker: usize) -> usize {
        self.cluster.rebuilt_members(worker)
    }

    /// The next commits are answered like this instead of being accepted.
    pub fn answer_commits(&mut self, answers: impl IntoIterator<Item = CommitStatus>) {
        self.cluster.answer_commits(answers);
    }

    /// Changes settings while the workers run, as SIGHUP does for a process: what is reloadable
    /// is taken over by each, and by those that join later.
    ///
    /// # Errors
    ///
    /// If a worker refuses them.
    pub fn reload(&mut self, change: impl FnOnce(&mut Settings)) -> Result<(), ConfigError> {
        let mut settings = self.settings.clone();
        change(&mut settings);
        for hosted in self.workers.iter().flatten() {
            hosted.handle.reload(&settings)?;
        }
        self.settings = settings;
        self.settle();
        Ok(())
    }

    /// What may be asked of a running worker; [`settle`](Self::settle) lets it take effect. `None`
    /// once it was killed.
    #[must_use]
    pub fn handle(&self, worker: usize) -> Option<&WorkerHandle> {
        let hosted = self.workers.get(worker).and_then(Option::as_ref);
        hosted.map(|hosted| &hosted.handle)
    }

    /// What a worker shows of itself; `None` once it was killed.
    #[must_use]
    pub fn status(&self, worker: usize) -> Option<&dyn Status> {
        let hosted = self.workers.get(worker).and_then(Option::as_ref);
        hosted.map(|hosted| hosted.worker.status())
    }

    /// Ends the workers gracefully, one after the other, and returns how they ended.
    ///
    /// # Errors
    ///
    /// Why a worker ended, if not by this.
    ///
    /// # Panics
    ///
    /// If one does not end within a minute of virtual time.
    pub fn shut_down(&mut self) -> Result<(), &WorkerError> {
        for number in 0..self.workers.len() {
            for _ in 0..600 {
                let Some(hosted) = self.workers.get_mut(number).and_then(Option::as_mut) else {
                    break;
                };
                let in_virtual_time = hosted.runtime.enter();
                hosted.worker.shut_down();
                drop(in_virtual_time);
                self.settle();
                if self.ended(number) {
                    break;
                }
                self.advance(Duration::from_millis(100));
            }
            assert!(self.ended(number), "worker {number} did not end");
        }
        self.failure().map_or(Ok(()), Err)
    }

    fn ended(&self, worker: usize) -> bool {
        let hosted = self.workers.get(worker).and_then(Option::as_ref);
        hosted.is_none_or(|hosted| hosted.worker.ended().is_some())
    }

    /// Has a worker ended by itself, and why?
    #[must_use]
    pub fn failure(&self) -> Option<&WorkerError> {
        let mut workers = self.workers.iter().flatten();
        workers.find_map(|hosted| hosted.worker.ended().and_then(|ended| ended.as_ref().err()))
    }

    /// What a worker says of itself: the answers of `/livez`, `/readyz` and `/startupz`.
    ///
    /// # Panics
    ///
    /// If there is no such worker.
    #[must_use]
    #[expect(clippy::panic, reason = "a test's assertion")]
    pub fn health(&self, worker: usize) -> Health {
        match self.workers.get(worker) {
            Some(Some(hosted)) => hosted.worker.status().health(),
            _ => panic!("there is no worker {worker}"),
        }
    }

    /// Lets everything happen that can happen without time passing.
    pub fn settle(&mut self) {
        /// So many rounds without any activity mean that nothing will come.
        const QUIET_ROUNDS: u32 = 3;
        let mut quiet = 0;
        let mut seen = self.cluster.activity();
        while quiet < QUIET_ROUNDS {
            let workers = self.workers.iter_mut().enumerate();
            let running = workers.filter(|(number, _)| !self.frozen.contains_key(number));
            for hosted in running.filter_map(|(_, hosted)| hosted.as_mut()) {
                let worker = &mut hosted.worker;
                hosted.runtime.block_on(async {
                    let _ended = worker.step().is_none();
                    for _ in 0..8 {
                        tokio::task::yield_now().await;
                    }
                });
            }
            let now = self.cluster.activity();
            quiet = if now == seen { quiet + 1 } else { 0 };
            seen = now;
        }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
