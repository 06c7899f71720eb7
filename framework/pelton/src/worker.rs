//! How does a user put a worker together? Declare, configure, run.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use pelton_engine::{Bug, EngineLimits, Ordering, RetryPolicy};
use regex::Regex;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::admin::{AdminError, AdminServer};
use crate::config::{AutoOffsetReset, Flags, GroupProtocol, Settings};
use crate::error::{Exit, HandlerError, WorkerError};
use crate::handler::{Handler, SlotId};
use crate::kafka::{ClientSettings, Protocol};
use crate::output::{Output, OutputSpec};
use crate::ports::Ports;
use crate::runtime::{
    self, HandlerFactory, Input, InputSpec, OnInvalid, Plan, StatusBoard, SteppedWorker,
    Subscription, WorkerHandle, WorkerParts,
};
use crate::state::{Store, StoreSpec};
use crate::telemetry::{self, Observer};

/// Starts building a worker: [`Worker::builder`].
///
/// ```
/// use pelton::{Context, Handler, HandlerError, Record, Worker};
///
/// struct Print;
/// impl Handler for Print {
///     async fn handle(&mut self, record: &Record<'_>, _ctx: &mut Context<'_>) -> Result<(), HandlerError> {
///         println!("{record:?}");
///         Ok(())
///     }
/// }
///
/// let mut app = Worker::builder("printer");
/// app.input("user_logins").handler(|_slot| Print);
/// // in main: app.run().await
/// ```
#[derive(Debug)]
pub struct Worker {
    parts: WorkerParts,
    settings: Settings,
    status: Arc<StatusBoard>,
    handle: WorkerHandle,
}

impl Worker {
    /// A builder for the application called `name`; `group_id` defaults to it.
    #[must_use]
    pub fn builder(name: impl Into<String>) -> WorkerBuilder {
        WorkerBuilder {
            name: name.into(),
            settings: None,
            inputs: Vec::new(),
            outputs: Vec::new(),
            stores: Vec::new(),
            observer: None,
            bug: None,
            problems: Vec::new(),
        }
    }

    /// Runs until `stop` ends, then shuts down gracefully. Handles no signals.
    ///
    /// Dropping the returned future does not stop the worker; end `stop` instead.
    ///
    /// # Errors
    ///
    /// If the worker can't start, can't go on, or does not end within `shutdown_timeout`.
    pub async fn run_until(self, stop: impl Future<Output = ()>) -> Result<(), WorkerError> {
        let recorder = telemetry::install_recorder()
            .inspect_err(|error| tracing::warn!(%error, "metrics go elsewhere"))
            .ok();
        let admin = self.settings.admin.clone();
        let status: Arc<dyn crate::admin::Status> = Arc::clone(&self.status) as _;
        let (admin_stop, admin_stopped) = tokio::sync::oneshot::channel::<()>();
        let serving = if admin.enabled {
            let bind = |address| AdminServer::bind(address, Arc::clone(&status), recorder.clone());
            let server = match bind(admin.listen) {
                Err(AdminError::InUse { listen }) if !self.settings.is_given("admin.listen") => {
                    tracing::warn!(%listen, "the admin endpoint's default port is taken; it takes another, set admin.listen to choose");
                    bind(SocketAddr::new(listen.ip(), 0))?
                }
                bound => bound?,
            };
            tracing::info!(address = %server.local_addr(), "admin endpoint");
            Some(tokio::spawn(server.serve(async move {
                // Ends when the sender is dropped, too.
                let _stopped = admin_stopped.await;
            })))
        } else {
            None
        };
        let result = self.work(stop).await;
        let _nobody_serves = admin_stop.send(()).is_err();
        if let Some(serving) = serving {
            serving.abort();
        }
        result
    }

    /// The topics it reads, patterns left out.
    #[must_use]
    pub fn input_topics(&self) -> Vec<String> {
        let inputs = self.parts.plan.inputs.iter();
        inputs
            .filter_map(|input| match &input.subscription {
                Subscription::Topic(topic) => Some(topic.clone()),
                Subscription::Pattern(..) => None,
            })
            .collect()
    }

    /// Every topic it reads or writes: inputs, outputs, changelogs.
    #[must_use]
    pub fn topics(&self) -> Vec<String> {
        let plan = &self.parts.plan;
        let outputs = plan.outputs.iter().map(|output| output.topic.to_string());
        let changelogs = plan.stores.iter().filter_map(|store| store.changelog.as_deref());
        self.input_topics()
            .into_iter()
            .chain(outputs)
            .chain(changelogs.map(str::to_owned))
            .collect()
    }

    /// Puts the worker on ports of your own, to be stepped by you. Start-up checks are skipped.
    /// For test kits.
    ///
    /// # Panics
    ///
    /// If it is not called within a tokio runtime.
    #[must_use]
    pub fn on_ports(self, ports: Ports) -> SteppedWorker {
        SteppedWorker::new(self.parts, self.status, ports)
    }

    async fn work(self, stop: impl Future<Output = ()>) -> Result<(), WorkerError> {
        let limit = self.parts.plan.shutdown_timeout;
        let mut stop = std::pin::pin!(stop);
        let started = tokio::select! {
            biased;
            () = stop.as_mut() => return Ok(()), // nothing has been begun yet
            started = runtime::start(self.parts, self.status, &self.handle) => started,
        };
        let mut running = started?;
        tokio::select! {
            biased;
            ended = running.ended() => return ended,
            () = stop => {}
        }
        self.handle.shut_down();
        tokio::time::timeout(limit, running.ended()).await.unwrap_or_else(|_| {
            Err(WorkerError::ShutdownTimeout {
                limit,
                reason: "the clients did not close".to_owned(),
            })
        })
    }
}

/// Declares inputs, outputs and stores, then runs.
///
/// What is declared wrongly is reported by [`build`](Self::build), all of it at once.
#[derive(Debug)]
pub struct WorkerBuilder {
    name: String,
    settings: Option<Settings>,
    inputs: Vec<DeclaredInput>,
    outputs: Vec<OutputSpec>,
    stores: Vec<DeclaredStore>,
    observer: Option<Arc<dyn Observer>>,
    bug: Option<Bug>,
    problems: Vec<String>,
}

#[derive(Debug)]
struct DeclaredInput {
    subscription: Subscription,
    spec: InputSpec,
    slots: Option<Arc<dyn runtime::SlotFactory>>,
}

#[derive(Debug)]
struct DeclaredStore {
    name: String,
    changelog: bool,
}

impl WorkerBuilder {
    /// Reads one topic. The returned builder takes the input's rules; it must end with a
    /// handler.
    pub fn input(&mut self, topic: impl Into<String>) -> InputBuilder<'_> {
        let topic = topic.into();
        self.check_name("input topic", &topic);
        self.declare_input(Subscription::Topic(topic))
    }

    /// Reads every topic whose whole name matches a regular expression, new ones too, found
    /// within `partition_discovery_interval`. Such an input has no stores.
    pub fn input_matching(&mut self, pattern: &str) -> InputBuilder<'_> {
        let inner = pattern.trim_start_matches('^').trim_end_matches('$');
        let anchored = format!("^(?:{inner})$");
        let compiled = Regex::new(&anchored).unwrap_or_else(|error| {
            self.problems
                .push(format!("the pattern {pattern:?} is no regular expression: {error}"));
            never_matching()
        });
        // Kafka's clients take a subscription that begins with ^ for a pattern (POSIX).
        let name = format!("^({inner})$");
        self.declare_input(Subscription::Pattern(name, compiled))
    }

    fn declare_input(&mut self, subscription: Subscription) -> InputBuilder<'_> {
        let spec = InputSpec::default();
        self.inputs.push(DeclaredInput { subscription, spec, slots: None });
        let index = self.inputs.len() - 1;
        InputBuilder { app: self, index }
    }

    /// Writes to a topic; it must exist.
    pub fn output(&mut self, topic: impl Into<String>) -> Output {
        let topic = topic.into();
        self.check_name("output topic", &topic);
        self.outputs.push(OutputSpec { topic: topic.into(), partitions: Arc::default() });
        Output { index: self.outputs.len() - 1 }
    }

    /// Declares a store. With exactly one input it belongs to that one; otherwise an input
    /// binds it with `uses`. Its changelog is `<group>-<topic>-<store>-changelog`.
    pub fn store<K: ?Sized, V: Serialize + DeserializeOwned>(
        &mut self,
        name: impl Into<String>,
    ) -> Store<K, V> {
        let name = name.into();
        self.check_name("store name", &name);
        if self.stores.iter().any(|store| store.name == name) {
            self.problems.push(format!("the store {name} is declared twice"));
        }
        self.stores.push(DeclaredStore { name, changelog: true });
        Store::new(self.stores.len() - 1)
    }

    /// A store without a changelog: faster, and its content is gone when its partition moves or
    /// the process ends. For caches that can be filled again.
    pub fn store_without_changelog<K: ?Sized, V: Serialize + DeserializeOwned>(
        &mut self,
        name: impl Into<String>,
    ) -> Store<K, V> {
        let store = self.store(name);
        if let Some(declared) = self.stores.last_mut() {
            declared.changelog = false;
        }
        store
    }

    /// Settings made or read elsewhere. Without it [`run`](Self::run) reads flags, environment
    /// and file by itself.
    pub fn settings(&mut self, settings: Settings) -> &mut Self {
        self.settings = Some(settings);
        self
    }

    /// Tells `observer` every step of the worker (for tests and audits).
    pub fn observer(&mut self, observer: Arc<dyn Observer>) -> &mut Self {
        self.observer = Some(observer);
        self
    }

    /// Plants a known bug: for tests of the ledger.
    #[doc(hidden)]
    pub fn plant(&mut self, bug: Option<Bug>) -> &mut Self {
        self.bug = bug;
        self
    }

    fn check_name(&mut self, what: &str, name: &str) {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if name.is_empty()
            || name.len() > 249
            || !name.chars().all(legal)
            || name == "."
            || name == ".."
        {
            self.problems.push(format!(
                "the {what} {name:?} is no legal topic name (letters, digits, '.', '_' and '-', at most 249)"
            ));
        }
    }

    /// Runs the worker as the process's only purpose, from `main`: reads the settings if none
    /// were given, starts logging, ends gracefully on SIGTERM or SIGINT and at once on a second
    /// one.
    ///
    /// It ends the process itself, with the exit code of [`Exit`], and never returns: a handler
    /// that blocks its thread, or a client that hangs, can't keep the process alive. A shutdown
    /// that overruns `shutdown_timeout` by a second is ended by force, with exit code 5. A
    /// program that goes on after its worker uses [`Worker::run_until`].
    pub async fn run(mut self) -> Exit {
        let settings = match self.settings.take() {
            Some(settings) => Ok(settings),
            None => crate::config::load::<Nothing>(&self.name, &Flags::from_command_line())
                .map(|loaded| loaded.settings),
        };
        let result = match settings {
            Ok(settings) => {
                self.settings = Some(settings.clone());
                match telemetry::init_logging(&settings.log) {
                    Ok(()) => self.run_with_signals().await,
                    Err(error) => Err(error.into()),
                }
            }
            Err(error) => Err(error.into()),
        };
        let exit = Exit::from(result);
        exit.explain();
        // A normal return would wait for whatever user code or a client still holds a thread,
        // and run C destructors under the clients' live threads.
        let _unwritten = std::io::Write::flush(&mut std::io::stdout()).is_err();
        signal_hook::low_level::exit(i32::from(exit.code()));
    }

    async fn run_with_signals(self) -> Result<(), WorkerError> {
        let (worker, handle) = self.build()?;
        let limit = worker.parts.plan.shutdown_timeout;
        let stop = crate::signals::listen(handle, limit)
            .map_err(|error| WorkerError::System(format!("signals: {error}")))?;
        worker.run_until(stop).await
    }

    /// Checks what was declared against the settings.
    ///
    /// # Errors
    ///
    /// Everything that can't work, in one error.
    pub fn build(mut self) -> Result<(Worker, WorkerHandle), WorkerError> {
        let Some(settings) = self.settings.take() else {
            return Err(WorkerError::Declaration("no settings were given".to_owned()));
        };
        settings.check()?;
        let group = settings.group_id.clone().unwrap_or_else(|| self.name.clone());
        self.bind_stores();
        let stores = self.store_specs(&group);
        let inputs = self.take_inputs();
        if !self.problems.is_empty() {
            return Err(WorkerError::Declaration(self.problems.join("; ")));
        }
        let plan = Plan {
            bootstrap_servers: settings.bootstrap_servers.clone(),
            inputs: inputs.into(),
            outputs: self.outputs.into(),
            stores: stores.into(),
            offset_reset: offset_reset(&settings),
            max_poll_records: usize::try_from(settings.max_poll_records).unwrap_or(500),
            shutdown_timeout: settings.shutdown_timeout,
            bug: self.bug,
        };
        let handle = WorkerHandle::new();
        let clients = client_settings(&settings, &group, &self.name);
        let status = Arc::new(StatusBoard::new(clients.client_id.clone(), group));
        let parts = WorkerParts {
            plan,
            limits: limits(&settings, self.bug),
            thaw_limit: (settings.session_timeout() / 2).min(Duration::from_secs(3)),
            clients,
            observer: self.observer,
        };
        Ok((Worker { parts, settings, status, handle: handle.clone() }, handle))
    }

    /// With exactly one input, stores that nobody bound belong to it.
    fn bind_stores(&mut self) {
        let all = 0..self.stores.len();
        if let [only] = &mut self.inputs[..] {
            for store in all.clone() {
                if !only.spec.stores.contains(&store) {
                    only.spec.stores.push(store);
                }
            }
        }
        for store in all {
            let name = &self.stores[store].name;
            let users: Vec<_> =
                self.inputs.iter().filter(|i| i.spec.stores.contains(&store)).collect();
            if users.len() != 1 {
                self.problems.push(format!(
                    "the store {name} is bound to {} inputs; bind it to exactly one with .uses(store)",
                    users.len()
                ));
            }
            if users.iter().any(|input| matches!(input.subscription, Subscription::Pattern(..))) {
                self.problems.push(format!(
                    "the store {name} is bound to a pattern; patterns have no stores"
                ));
            }
        }
    }

    fn store_specs(&mut self, group: &str) -> Vec<StoreSpec> {
        let mut specs = Vec::new();
        for (index, store) in self.stores.iter().enumerate() {
            let topic = self
                .inputs
                .iter()
                .find(|input| input.spec.stores.contains(&index))
                .map_or("", |input| input.subscription.name());
            let changelog = format!("{group}-{topic}-{}-changelog", store.name);
            if store.changelog && changelog.len() > 249 {
                self.problems
                    .push(format!("the changelog name {changelog} is longer than 249 characters"));
            }
            specs.push(StoreSpec {
                name: store.name.clone(),
                changelog: store.changelog.then(|| changelog.into()),
            });
        }
        specs
    }

    fn take_inputs(&mut self) -> Vec<Input> {
        if self.inputs.is_empty() {
            self.problems
                .push("no input is declared; add one with app.input(topic).handler(…)".to_owned());
        }
        let mut inputs: Vec<Input> = Vec::new();
        for DeclaredInput { subscription, spec, slots } in self.inputs.drain(..) {
            let name = subscription.name().to_owned();
            if inputs.iter().any(|input| input.subscription.name() == name) {
                self.problems.push(format!("the input {name} is declared twice"));
            }
            match slots {
                Some(slots) => inputs.push(Input { subscription, spec, slots }),
                None => self
                    .problems
                    .push(format!("the input {name} has no handler; end it with .handler(…)")),
            }
        }
        inputs
    }
}

/// One input's rules; ends with [`handler`](Self::handler) or
/// [`try_handler`](Self::try_handler).
///
/// ```
/// # use pelton::{Context, Handler, HandlerError, OnInvalid, Record, RetryPolicy, Worker};
/// # struct Print;
/// # impl Handler for Print {
/// #     async fn handle(&mut self, _: &Record<'_>, _: &mut Context<'_>) -> Result<(), HandlerError> { Ok(()) }
/// # }
/// use std::time::Duration;
///
/// let mut app = Worker::builder("printer");
/// app.input("user_logins")
///     .on_invalid(OnInvalid::Skip)
///     .retry(RetryPolicy { initial: Duration::from_millis(200), max: Duration::from_secs(10) })
///     .tick_every(Duration::from_secs(60))
///     .handler(|_slot| Print);
/// ```
#[derive(Debug)]
#[must_use = "an input needs a handler"]
pub struct InputBuilder<'a> {
    app: &'a mut WorkerBuilder,
    index: usize,
}

impl InputBuilder<'_> {
    fn spec(&mut self) -> &mut InputSpec {
        &mut self.app.inputs[self.index].spec
    }

    /// What is kept in order. Default: all records of a partition.
    pub fn ordering(mut self, ordering: Ordering) -> Self {
        self.spec().ordering = ordering;
        self
    }

    /// What to do with invalid records. Default: stop the worker and name the record.
    pub fn on_invalid(mut self, on_invalid: OnInvalid) -> Self {
        self.spec().on_invalid = on_invalid;
        self
    }

    /// How long failed records wait. Default 1 s → 30 s, for ever.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.spec().retry = policy;
        self
    }

    /// Records are done only when the handler's `flush` succeeds; it is called after so many
    /// records or so long after the first of them, and before commits.
    pub fn flush_every(mut self, records: usize, interval: Duration) -> Self {
        self.spec().flush_every = Some((records.max(1), interval));
        self
    }

    /// Calls the handler's `tick` so often for each partition, between two records.
    pub fn tick_every(mut self, interval: Duration) -> Self {
        self.spec().tick_every = Some(interval.max(Duration::from_millis(1)));
        self
    }

    /// Binds a store to this input.
    pub fn uses<K: ?Sized, V>(mut self, store: Store<K, V>) -> Self {
        self.spec().stores.push(store.index);
        self
    }

    /// Makes one handler per slot.
    pub fn handler<H: Handler>(self, make: impl Fn(SlotId) -> H + Send + Sync + 'static) {
        let factory = HandlerFactory::new(move |slot| Box::pin(std::future::ready(Ok(make(slot)))));
        self.app.inputs[self.index].slots = Some(Arc::new(factory));
    }

    /// Makes one handler per slot by code that waits or fails; a retryable failure is tried
    /// again with growing waits.
    pub fn try_handler<H, F>(self, make: impl Fn(SlotId) -> F + Send + Sync + 'static)
    where
        H: Handler,
        F: Future<Output = Result<H, HandlerError>> + Send + 'static,
    {
        let factory = HandlerFactory::new(move |slot| Box::pin(make(slot)));
        self.app.inputs[self.index].slots = Some(Arc::new(factory));
    }
}

/// An application without a section of its own.
#[derive(Debug, Default, Serialize, serde::Deserialize)]
struct Nothing {}

/// A worker's command line.
#[derive(Debug, Parser)]
#[command(about = "A Pelton worker")]
struct CommandLine {
    #[command(flatten)]
    flags: Flags,
}

impl Flags {
    /// Reads the process's own flags; prints help or a usage error and exits where due.
    #[must_use]
    pub fn from_command_line() -> Self {
        CommandLine::parse().flags
    }
}

fn never_matching() -> Regex {
    #[expect(clippy::unwrap_used, reason = "a constant pattern")]
    Regex::new("$^").unwrap()
}

fn offset_reset(settings: &Settings) -> pelton_engine::OffsetReset {
    match settings.auto_offset_reset {
        Some(AutoOffsetReset::Earliest) => pelton_engine::OffsetReset::Earliest,
        Some(AutoOffsetReset::Latest) => pelton_engine::OffsetReset::Latest,
        Some(AutoOffsetReset::Error) | None => pelton_engine::OffsetReset::Error,
    }
}

fn limits(settings: &Settings, bug: Option<Bug>) -> EngineLimits {
    let drain = settings.effective_drain_timeout();
    let half = settings.max_poll_interval() / 2;
    EngineLimits {
        budget_records: settings.memory_budget_records,
        budget_bytes: settings.memory_budget.as_u64(),
        commit_interval: settings.commit_interval,
        drain_timeout: drain,
        // Past half of max.poll.interval the broker may give kept partitions away without a word.
        release_timeout: (drain + Duration::from_secs(10))
            .min(half.saturating_sub(Duration::from_millis(500)).max(drain)),
        delivery_timeout: message_timeout(settings),
        rejoin_after: settings.session_timeout() * 4,
        bug,
        ..EngineLimits::default()
    }
}

/// A frozen process must find its old outputs dead when it wakes, so they don't outlive half of
/// its session.
fn message_timeout(settings: &Settings) -> Duration {
    (settings.session_timeout() / 2).min(Duration::from_millis(7_500))
}

fn client_settings(settings: &Settings, group: &str, name: &str) -> ClientSettings {
    ClientSettings {
        bootstrap_servers: settings.bootstrap_servers.clone(),
        client_id: settings.client_id.clone().unwrap_or_else(|| name.to_owned()),
        group_id: group.to_owned(),
        group_instance_id: settings.group_instance_id.clone(),
        protocol: match settings.group_protocol {
            GroupProtocol::Classic => Protocol::Classic {
                strategy: settings.assignment_strategy.as_str(),
                session_ms: u64::from(settings.session_timeout_ms),
                heartbeat_ms: u64::from(settings.heartbeat_interval_ms),
            },
            GroupProtocol::Consumer => Protocol::Consumer,
        },
        max_poll_interval_ms: u64::from(settings.max_poll_interval_ms),
        discovery: settings.partition_discovery_interval,
        message_timeout: message_timeout(settings),
        pass_through: settings.kafka.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
    }
}
