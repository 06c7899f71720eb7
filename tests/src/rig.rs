//! A whole run: a cluster, topics, a load, worker processes, and in the end a verdict.
//!
//! [`Rig`] sets up one run under names of its own. Tests start and hurt [`Fleet`] members, let a
//! [`Load`] flow meanwhile, and ask for the [`Outcome`]: everything the ledger, the outputs and
//! the changelog say of the run.

mod carried;
mod dead_letters;
mod deaths;
mod endpoint;
mod fleet;
mod footprint;
mod heavy;
mod latencies;
mod load;
mod memory;
mod order;
mod outcome;
mod pace;
mod poison;
mod protocol;
mod steps;
mod supervisor;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pelton::{Bug, Ordering as InOrder};
use pelton_testkit::ledger::{Check, FaultLog, Ledger};
use tempfile::TempDir;

pub use carried::Carried;
pub use dead_letters::DeadLetters;
pub use deaths::Deaths;
pub use endpoint::Answer;
pub use fleet::{Ended, Fleet, WorkerProcess};
pub use footprint::Footprint;
pub use heavy::Heavy;
pub use latencies::Latencies;
pub(crate) use load::HOT;
pub use load::{Blobs, Load, LoadPlan};
pub use memory::{MemoryUse, MemoryWatch};
pub use order::orders;
use outcome::Effects;
pub use outcome::Outcome;
pub use pace::{Moment, Pace};
pub use poison::Poison;
pub(crate) use poison::{LAST_WORDS, TAKES_MS};
pub use protocol::Protocol;
pub use steps::{InFlight, Steps};
pub use supervisor::Supervisor;

use crate::kafka::reaper::Reaper;
use crate::{Cluster, ClusterError, KafkaCluster};

/// How the workers of a run behave, and what their topics are like.
///
/// ```
/// use pelton_tests::{Protocol, RigPlan};
/// use std::time::Duration;
///
/// let plan = RigPlan { protocol: Protocol::Kip848, drain: Duration::from_secs(2), ..RigPlan::default() };
/// assert_eq!(plan.partitions, 6);
/// ```
#[derive(Clone, Debug)]
pub struct RigPlan {
    /// How the group agrees.
    pub protocol: Protocol,
    /// Of the input. Default 6.
    pub partitions: i32,
    /// What is kept in order. Default all records of a partition.
    pub ordering: InOrder,
    /// A record that has failed so often becomes a dead letter. Default none does.
    pub attempts: Option<u32>,
    /// An attempt that takes longer has failed. Default none.
    pub attempt_timeout: Option<Duration>,
    /// Every record takes so long. Default no time.
    pub each: Duration,
    /// One record in so many is slow. Default 300.
    pub slow_one_in: u64,
    /// A slow record takes up to so long. Default 60 ms.
    pub slow: Duration,
    /// A drain takes up to so long. Default none.
    pub drain: Duration,
    /// One record in so many fails at its first attempt. Default none.
    pub fail_one_in: u64,
    /// `commit_interval`. Default 500 ms.
    pub commit_interval: Duration,
    /// A known bug in every worker: the run must show it. Default none.
    pub plant: Option<Bug>,
    /// Workers without a store, which emit each record's place instead of counting. Default no.
    pub stateless: bool,
    /// Workers that handle large records and have large effects instead of counting.
    pub heavy: Option<Heavy>,
    /// A partition that has records and starts none for so long is stuck. Default 40 s: longer
    /// than a session, a broker's failure and a rebalance after it together.
    pub stuck_after: Duration,
    /// The load's records come in bundles, so often. Default 10 ms.
    pub bundle: Duration,
    /// Random choices (whom to kill, when) are made from it; from the process's number without it.
    pub seed: Option<u64>,
    /// More settings, as environment variables without their prefix.
    pub settings: Vec<(String, String)>,
    /// A settings file that every worker reads; what is logged is left to it.
    pub file: Option<PathBuf>,
    /// More arguments of the observed worker.
    pub arguments: Vec<String>,
}

impl RigPlan {
    /// With the default session of 15 s: longer than leaders and coordinators take to be elected
    /// and found (a coordinator about 8 s here, 11 s with Kafka's defaults), so that workers stay
    /// members.
    ///
    /// ```
    /// use pelton_tests::{Protocol, RigPlan};
    /// assert!(RigPlan::with_default_session(Protocol::Range).settings.iter().any(|s| s.1 == "15000"));
    /// ```
    #[must_use]
    pub fn with_default_session(protocol: Protocol) -> Self {
        Self { protocol, ..Self::default() }.with("SESSION_TIMEOUT_MS", "15000")
    }

    /// Each record of `user` takes so long; where `thread`, it holds its thread meanwhile.
    ///
    /// ```
    /// use pelton_tests::RigPlan;
    /// use std::time::Duration;
    /// let plan = RigPlan::default().holding("alice", Duration::from_secs(10), false);
    /// assert_eq!(plan.arguments, ["--hold-user", "alice", "--hold-ms", "10000"]);
    /// ```
    #[must_use]
    pub fn holding(mut self, user: &str, time: Duration, thread: bool) -> Self {
        let time = time.as_millis().to_string();
        self.arguments.extend(["--hold-user", user, "--hold-ms", &time].map(str::to_owned));
        self.arguments.extend(thread.then(|| "--hold-thread".to_owned()));
        self
    }

    /// With random choices made from `seed`.
    ///
    /// ```
    /// assert_eq!(pelton_tests::RigPlan::default().seeded(7).seed, Some(7));
    /// ```
    #[must_use]
    pub fn seeded(self, seed: u64) -> Self {
        Self { seed: Some(seed), ..self }
    }

    /// For a run beside others: as many records, in a tenth of the bundles. A broker's processor time
    /// goes by its requests, here as nearly everywhere.
    ///
    /// (Outputs that linger would save more of it, but a commit that waits for them does not get as
    /// far as the record under way: a worker that commits past it was not found out.)
    ///
    /// ```
    /// use pelton_tests::RigPlan;
    /// assert!(RigPlan::default().gentle().bundle > RigPlan::default().bundle);
    /// ```
    #[must_use]
    pub fn gentle(self) -> Self {
        Self { bundle: self.bundle * 10, ..self }
    }

    /// With one setting more, an environment variable without its prefix; it beats the rig's own.
    ///
    /// ```
    /// use pelton_tests::RigPlan;
    /// let plan = RigPlan::default().with("AUTO_OFFSET_RESET", "latest");
    /// assert_eq!(plan.settings.len(), 1);
    /// ```
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }
}

impl Default for RigPlan {
    fn default() -> Self {
        Self {
            protocol: Protocol::CooperativeSticky,
            partitions: 6,
            ordering: InOrder::Partition,
            attempts: None,
            attempt_timeout: None,
            each: Duration::ZERO,
            slow_one_in: 300,
            slow: Duration::from_millis(60),
            drain: Duration::ZERO,
            fail_one_in: 0,
            commit_interval: Duration::from_millis(500),
            plant: None,
            stateless: false,
            heavy: None,
            stuck_after: outcome::STUCK,
            bundle: load::BUNDLE,
            seed: None,
            settings: Vec::new(),
            file: None,
            arguments: Vec::new(),
        }
    }
}

/// One run on a cluster.
///
/// ```no_run
/// use pelton_tests::{KafkaCluster, LoadPlan, Rig, RigPlan};
///
/// let kafka = KafkaCluster::start(1)?;
/// let rig = Rig::new(&kafka, RigPlan::default())?;
/// let mut fleet = rig.fleet();
/// fleet.start(3)?;
/// let load = rig.load(LoadPlan::at_rate(2_000))?;
/// fleet.terminate_any()?;
/// load.stop()?;
/// let outcome = rig.finish(fleet)?;
/// assert!(outcome.is_clean(), "{outcome}");
/// # Ok::<(), pelton_tests::ClusterError>(())
/// ```
#[derive(Debug)]
pub struct Rig<'a, C: Cluster + ?Sized> {
    cluster: &'a C,
    plan: RigPlan,
    folder: Arc<RunFolder>,
    names: Names,
    faults: Arc<FaultLog>,
}

/// What the topics and the group of a run are called.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// The input topic.
    pub input: String,
    /// The output topic.
    pub output: String,
    /// The topic for dead letters, where there are any.
    pub dead_letters: String,
    /// The group.
    pub group: String,
}

impl Names {
    fn unique() -> Self {
        Self {
            input: KafkaCluster::unique("logins"),
            output: KafkaCluster::unique("totals"),
            dead_letters: KafkaCluster::unique("dead"),
            group: KafkaCluster::unique("counters"),
        }
    }

    /// The store's changelog topic.
    #[must_use]
    pub fn changelog(&self) -> String {
        format!("{}-{}-totals-changelog", self.group, self.input)
    }
}

/// A run's folder: ledger and logs. It is kept when the run ends in a panic, does not come to
/// rest, or is not clean although no bug was planted; and always where `PELTON_TEST_KEEP` is set.
#[derive(Debug)]
struct RunFolder {
    folder: Option<TempDir>,
    is_wanted: AtomicBool,
    /// Kills the run's workers and removes the folder if this process does not come to it.
    reaper: Arc<Reaper>,
}

impl RunFolder {
    fn path(&self) -> &Path {
        self.folder.as_ref().map_or_else(|| Path::new("."), TempDir::path)
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        let is_wanted = std::thread::panicking()
            || self.is_wanted.load(Ordering::Relaxed)
            || std::env::var_os("PELTON_TEST_KEEP").is_some();
        if is_wanted && let Some(folder) = self.folder.take() {
            // It may have ended, and can do no harm then.
            let _ended = self.reaper.release().is_err();
            eprintln_kept(&folder.keep());
        }
    }
}

#[expect(clippy::print_stderr, reason = "a failed test says where its logs are")]
fn eprintln_kept(path: &Path) {
    eprintln!("the run's ledger and logs are kept in {}", path.display());
}

impl Rig<'_, KafkaCluster> {
    /// Starts a node that has ended, until every replica of the run's topics is in sync again and
    /// the group has caught up.
    ///
    /// # Errors
    ///
    /// If one of these does not happen in time.
    pub fn bring_back(&self, node: i32, within: Duration) -> Result<(), ClusterError> {
        self.cluster.start_node(node)?;
        self.cluster.wait_until_ready()?;
        self.topics().iter().try_for_each(|topic| self.cluster.wait_until_in_sync(topic))?;
        self.wait_until_caught_up(within)
    }
}

impl<'a, C: Cluster + ?Sized> Rig<'a, C> {
    /// Makes the topics of a run, under names that no other run uses.
    ///
    /// # Errors
    ///
    /// If the cluster does not do as it is asked, or a folder can't be made.
    pub fn new(cluster: &'a C, plan: RigPlan) -> Result<Self, ClusterError> {
        let names = Names::unique();
        cluster.create_topic(&names.input, plan.partitions)?;
        Self::on_input(cluster, plan, names)
    }

    /// A second run on the input of another: a group of its own.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn beside(&self, plan: RigPlan) -> Result<Self, ClusterError> {
        let names = Names { input: self.names.input.clone(), ..Names::unique() };
        Self::on_input(self.cluster, plan, names)
    }

    fn on_input(cluster: &'a C, plan: RigPlan, names: Names) -> Result<Self, ClusterError> {
        cluster.create_topic(&names.output, 3)?;
        if plan.attempts.is_some() {
            cluster.create_topic(&names.dead_letters, 3)?;
        }
        if !cluster.has_admin_calls() && !plan.stateless {
            cluster.create_topic(&names.changelog(), plan.partitions)?;
        }
        let io = || ClusterError::io("the run's folder");
        let folder = tempfile::Builder::new().prefix("pelton-run-").tempdir().map_err(io())?;
        let faults = FaultLog::create(folder.path().join("ledger")).map_err(io())?;
        let reaper = Arc::new(Reaper::start(folder.path())?);
        let is_wanted = AtomicBool::new(false);
        let folder = Arc::new(RunFolder { folder: Some(folder), is_wanted, reaper });
        Ok(Self { cluster, plan, folder, names, faults: Arc::new(faults) })
    }

    /// The names of its topics and its group.
    #[must_use]
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// Its cluster.
    #[must_use]
    pub fn cluster(&self) -> &'a C {
        self.cluster
    }

    /// How its workers behave.
    #[must_use]
    pub fn plan(&self) -> &RigPlan {
        &self.plan
    }

    /// Where its ledger is.
    #[must_use]
    pub fn ledger_folder(&self) -> PathBuf {
        self.folder.path().join("ledger")
    }

    /// Where what is done to it is written down.
    #[must_use]
    pub fn faults(&self) -> &FaultLog {
        &self.faults
    }

    /// Its workers; none yet.
    #[must_use]
    pub fn fleet(&self) -> Fleet {
        Fleet::new(
            self.environment(),
            self.arguments(),
            self.folder.path(),
            &self.folder.reaper,
            &self.faults,
            &self.plan,
        )
    }

    /// Does to a broker what `how` does, and writes it down before.
    ///
    /// # Errors
    ///
    /// If it can't be written down, or done.
    pub fn kill_broker(
        &self,
        node: i32,
        how: impl FnOnce() -> Result<(), ClusterError>,
    ) -> Result<(), ClusterError> {
        let told = self.faults.broker_kill(&node.to_string());
        told.map_err(ClusterError::io("the fault log"))?;
        how()
    }

    /// The names of all topics it uses, and of Kafka's own topic with the group's offsets.
    #[must_use]
    pub fn topics(&self) -> Vec<String> {
        let Names { input, output, dead_letters, .. } = &self.names;
        let changelog = (!self.plan.stateless).then(|| self.names.changelog());
        let dead_letters = self.plan.attempts.map(|_| dead_letters.clone());
        let offsets = "__consumer_offsets".to_owned();
        let always = [input.clone(), output.clone(), offsets];
        always.into_iter().chain(changelog).chain(dead_letters).collect()
    }

    /// Begins to fill the input.
    ///
    /// # Errors
    ///
    /// If a producer can't be made.
    pub fn load(&self, plan: LoadPlan) -> Result<Load, ClusterError> {
        let (bootstrap, topic) = (self.cluster.bootstrap_servers(), &self.names.input);
        Load::start(bootstrap, topic, plan, self.plan.bundle)
    }

    /// Waits until everything is handled and committed, ends the workers gracefully, and judges.
    ///
    /// # Errors
    ///
    /// If the group does not come to rest, a worker does not end in order, or the topics can't
    /// be read.
    pub fn finish(&self, mut fleet: Fleet) -> Result<Outcome, ClusterError> {
        self.wait_until_handled(Duration::from_secs(120))?;
        fleet.terminate_all()?;
        self.outcome()
    }

    /// Judges a run whose workers have ended.
    ///
    /// # Errors
    ///
    /// If the topics or the ledger can't be read.
    pub fn outcome(&self) -> Result<Outcome, ClusterError> {
        self.outcome_since(&[])
    }

    /// As [`outcome`](Self::outcome), for a group that began at these offsets of the partitions:
    /// what lies before them is not its business. A partition that is not named counts from 0.
    ///
    /// # Errors
    ///
    /// If the topics or the ledger can't be read.
    pub fn outcome_since(&self, begins: &[i64]) -> Result<Outcome, ClusterError> {
        let places = self.plan.stateless || self.plan.heavy.is_some();
        let effects = if places { Effects::Places } else { Effects::Totals };
        let ledger = self.ledger_folder();
        let outcome = {
            let rules = Check::new().stuck_after(self.plan.stuck_after);
            let rules = rules.ordering(self.plan.ordering);
            Outcome::of(self.cluster, &self.names, &ledger, effects, begins, rules)?
        };
        if !outcome.is_clean() && self.plan.plant.is_none() {
            self.keep();
        }
        Ok(outcome)
    }

    /// Holds the dead letters of a run against its input.
    ///
    /// # Errors
    ///
    /// If the topics can't be read.
    pub fn dead_letters(&self) -> Result<DeadLetters, ClusterError> {
        let input = self.cluster.read_topic(&self.names.input)?;
        let letters = self.cluster.read_topic(&self.names.dead_letters)?;
        let held = DeadLetters::held(&self.names.input, &input, &letters);
        if !held.are_right() && self.plan.plant.is_none() {
            self.keep();
        }
        Ok(held)
    }

    /// What the workers have written down so far.
    ///
    /// # Errors
    ///
    /// If it can't be read.
    pub fn ledger(&self) -> Result<Ledger, ClusterError> {
        Ledger::read(self.ledger_folder())
            .map_err(|error| ClusterError::refused("the ledger", error))
    }

    /// Waits until the group has committed the end of every partition.
    ///
    /// # Errors
    ///
    /// [`ClusterError::Late`], with what is missing.
    pub fn wait_until_handled(&self, within: Duration) -> Result<(), ClusterError> {
        self.wait("everything handled", within, || self.check_handled())
    }

    /// Insists that the group has committed the end of every partition, now.
    ///
    /// # Errors
    ///
    /// What is missing.
    pub fn check_handled(&self) -> Result<(), String> {
        let ends = self.cluster.ends(&self.names.input).map_err(|error| error.to_string())?;
        self.behind(&ends)
    }

    /// Its folder is kept when it ends.
    pub fn keep(&self) {
        self.folder.is_wanted.store(true, Ordering::Relaxed);
    }

    /// Waits until the group has committed what the input holds now, while a load goes on: then
    /// every partition has an owner that works.
    ///
    /// # Errors
    ///
    /// [`ClusterError::Late`], with what is missing.
    pub fn wait_until_caught_up(&self, within: Duration) -> Result<(), ClusterError> {
        let ends = self.cluster.ends(&self.names.input)?;
        self.wait("the group caught up", within, || self.behind(&ends))
    }

    /// Waits until the group has committed something of every partition.
    ///
    /// # Errors
    ///
    /// [`ClusterError::Late`], with what is missing.
    pub fn wait_until_begun(&self, within: Duration) -> Result<(), ClusterError> {
        let first = vec![1; usize::try_from(self.plan.partitions).unwrap_or(0)];
        self.wait("every partition begun", within, || self.behind(&first))
    }

    fn wait(
        &self,
        what: &str,
        within: Duration,
        ready: impl FnMut() -> Result<(), String>,
    ) -> Result<(), ClusterError> {
        let waited = crate::waiting::patiently(what, within, ready);
        waited.inspect_err(|_| self.keep())
    }

    /// An error that says which partitions are committed below these offsets.
    fn behind(&self, ends: &[i64]) -> Result<(), String> {
        let committed = self.cluster.committed(&self.names.group, &self.names.input);
        let committed = committed.map_err(|error| error.to_string())?;
        let behind: Vec<String> = committed
            .iter()
            .zip(ends)
            .filter(|(at, end)| at.offset.unwrap_or(-1) < **end)
            .map(|(at, end)| format!("partition {} is at {:?} of {end}", at.partition, at.offset))
            .collect();
        if behind.is_empty() { Ok(()) } else { Err(behind.join(", ")) }
    }

    fn environment(&self) -> Vec<(String, String)> {
        let own = [
            ("BOOTSTRAP_SERVERS", self.cluster.bootstrap_servers().to_owned()),
            ("GROUP_ID", self.names.group.clone()),
            ("AUTO_OFFSET_RESET", "earliest".to_owned()),
            ("ADMIN__LISTEN", "127.0.0.1:0".to_owned()),
            ("COMMIT_INTERVAL", format!("{}ms", self.plan.commit_interval.as_millis())),
            ("LOG__FILTER", "info,pelton=debug".to_owned()),
            ("SESSION_TIMEOUT_MS", "6000".to_owned()),
            ("LOGIN_COUNTER__INPUT_TOPIC", self.names.input.clone()),
            ("LOGIN_COUNTER__OUTPUT_TOPIC", self.names.output.clone()),
        ];
        let own =
            own.into_iter().filter(|(name, _)| self.plan.file.is_none() || *name != "LOG__FILTER");
        let own = own.map(|(name, value)| (name.to_owned(), value));
        own.chain(self.plan.protocol.settings())
            .chain(self.plan.settings.iter().cloned())
            .map(|(name, value)| (format!("PELTON__{name}"), value))
            .collect()
    }

    fn arguments(&self) -> Vec<String> {
        let plan = &self.plan;
        let file = plan.file.as_ref().map(|file| ("--config", file.display().to_string()));
        let stateless = self.plan.stateless.then(|| "--stateless".to_owned());
        let heavy = plan.heavy.map(|heavy| format!("--heavy={heavy}"));
        let attempts = plan.attempts.map(|attempts| ("--attempts", attempts.to_string()));
        let letters = plan.attempts.map(|_| ("--dead-letters", self.names.dead_letters.clone()));
        let limit = plan.attempt_timeout.map(|limit| limit.as_millis().to_string());
        let keys = match plan.ordering {
            InOrder::Key { concurrency } => Some(("--keys", concurrency.to_string())),
            _ => None,
        };
        [
            ("--each-ms", plan.each.as_millis().to_string()),
            ("--slow-one-in", plan.slow_one_in.to_string()),
            ("--slow-ms", plan.slow.as_millis().to_string()),
            ("--drain-ms", plan.drain.as_millis().to_string()),
            ("--fail-one-in", plan.fail_one_in.to_string()),
        ]
        .into_iter()
        .chain(file)
        .chain(attempts)
        .chain(letters)
        .chain(limit.map(|limit| ("--attempt-timeout-ms", limit)))
        .chain(keys)
        .chain(plan.plant.map(|bug| ("--plant", bug.name().to_owned())))
        .flat_map(|(flag, value)| [flag.to_owned(), value])
        .chain(stateless)
        .chain(plan.arguments.iter().cloned())
        .chain(heavy)
        .collect()
    }
}
