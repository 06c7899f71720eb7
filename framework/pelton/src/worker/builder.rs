//! What is declared, and does it fit together? Inputs, outputs and stores become a worker.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use clap::Parser;
use pelton_engine::Bug;
use regex::Regex;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::handle::WorkerHandle;
use super::input::InputBuilder;
use super::{Worker, plan, rules};
use crate::config::{ConfigError, Flags, GroupProtocol, MemoryShares, Settings};
use crate::error::{Exit, WorkerError};
use crate::kafka::Tokens;
use crate::oauth::{OauthToken, TokenSource};
use crate::output::{Output, OutputSpec, RetryRoute, RetryTopics};
use crate::runtime::{
    Control, FaultHandle, Input, InputSpec, Plan, SlotFactory, StatusBoard, Subscription,
    WorkerParts,
};
use crate::state::{Store, StoreSpec};
use crate::telemetry::{self, Both, Observer};
use crate::topic_partition::is_topic_name;

/// Declares inputs, outputs and stores, then runs.
///
/// What is declared wrongly is reported by [`build`](Self::build), all of it at once.
///
/// ```
/// use pelton::Worker;
/// use pelton::config::{AutoOffsetReset, Settings};
///
/// let mut settings = Settings::default();
/// settings.bootstrap_servers = "localhost:9092".to_owned();
/// settings.auto_offset_reset = Some(AutoOffsetReset::Earliest);
///
/// let mut app = Worker::builder("login-counter");
/// app.settings(settings);
/// app.input("user_logins"); // and no handler
/// app.output("login totals"); // no legal name
/// let error = app.build().unwrap_err().to_string();
/// assert!(error.contains("user_logins has no handler") && error.contains("login totals"));
/// ```
#[derive(Debug)]
pub struct WorkerBuilder {
    name: String,
    settings: Option<Settings>,
    inputs: Vec<DeclaredInput>,
    outputs: Vec<OutputSpec>,
    stores: Vec<DeclaredStore>,
    observer: Option<Arc<dyn Observer>>,
    tokens: Option<TokenSource>,
    bug: Option<Bug>,
    problems: Vec<String>,
    control: Arc<Control>,
}

#[derive(Debug)]
struct DeclaredInput {
    subscription: Subscription,
    spec: InputSpec,
    slots: Option<Arc<dyn SlotFactory>>,
    retries: Option<RetryTopics>,
}

#[derive(Debug)]
struct DeclaredStore {
    name: String,
    changelog: bool,
}

impl WorkerBuilder {
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            settings: None,
            inputs: Vec::new(),
            outputs: Vec::new(),
            stores: Vec::new(),
            observer: None,
            tokens: None,
            bug: None,
            problems: Vec::new(),
            control: Arc::default(),
        }
    }

    /// The rules of a declared input.
    pub(super) fn spec(&mut self, input: usize) -> &mut InputSpec {
        &mut self.inputs[input].spec
    }

    pub(super) fn set_retries(&mut self, input: usize, retries: RetryTopics) {
        self.inputs[input].retries = Some(retries);
    }

    pub(super) fn set_slots(&mut self, input: usize, slots: Arc<dyn SlotFactory>) {
        self.inputs[input].slots = Some(slots);
    }

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
        self.inputs.push(DeclaredInput { subscription, spec, slots: None, retries: None });
        let index = self.inputs.len() - 1;
        InputBuilder::new(self, index)
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

    /// Tells `observer` every step of the worker (for tests and audits). Called more than once,
    /// it tells each of them.
    pub fn observer(&mut self, observer: Arc<dyn Observer>) -> &mut Self {
        self.observer = Some(match self.observer.take() {
            Some(first) => Arc::new(Both(first, observer)),
            None => observer,
        });
        self
    }

    /// Logs in with tokens of the application's (`sasl.mechanism = "OAUTHBEARER"` under
    /// `[kafka]`). `provider` is asked before the worker starts, and again whenever four fifths of
    /// a token's life are over; where it fails it is asked again, and the log and `/readyz` say so.
    /// It runs on tokio and may take its time. `oauth_token_file` needs no code.
    ///
    /// ```
    /// use std::time::{Duration, SystemTime};
    /// use pelton::{OauthToken, Worker};
    ///
    /// # async fn ask_identity_provider() -> std::io::Result<(String, u64)> { Ok((String::new(), 1)) }
    /// let mut app = Worker::builder("login-counter");
    /// app.oauth_tokens(|| async {
    ///     let (token, seconds) = ask_identity_provider().await?;
    ///     let expires_at = SystemTime::now() + Duration::from_secs(seconds);
    ///     Ok::<_, std::io::Error>(OauthToken::new(token, "login-counter", expires_at))
    /// });
    /// ```
    pub fn oauth_tokens<F, E>(
        &mut self,
        provider: impl Fn() -> F + Send + Sync + 'static,
    ) -> &mut Self
    where
        F: Future<Output = Result<OauthToken, E>> + Send + 'static,
        E: fmt::Display,
    {
        self.tokens = Some(TokenSource::of(provider));
        self
    }

    /// Does things to the worker while it runs: for tests.
    #[doc(hidden)]
    #[must_use]
    pub fn fault_handle(&self) -> FaultHandle {
        FaultHandle::new(Arc::clone(&self.control))
    }

    /// Plants a known bug: for tests of the ledger.
    #[doc(hidden)]
    pub fn plant(&mut self, bug: Option<Bug>) -> &mut Self {
        self.bug = bug;
        self
    }

    fn check_name(&mut self, what: &str, name: &str) {
        if !is_topic_name(name) {
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
        handle.control().own_process();
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
        self.settle_rules(&settings)?;
        let group = settings.group_id.clone().unwrap_or_else(|| self.name.clone());
        self.bind_stores();
        let stores = self.store_specs(&group);
        self.add_retry_topics(&group);
        let inputs = self.take_inputs();
        let tokens = self.token_source(&settings);
        if !self.problems.is_empty() {
            return Err(WorkerError::Declaration(self.problems.join("; ")));
        }
        let worker = settings.client_id.clone().unwrap_or_else(|| self.name.clone());
        let plan = Plan {
            worker,
            bootstrap_servers: settings.bootstrap_servers.clone(),
            inputs: inputs.into(),
            outputs: self.outputs.into(),
            stores: stores.into(),
            offset_reset: plan::offset_reset(&settings),
            out_of_range: plan::out_of_range(&settings),
            max_poll_records: usize::try_from(settings.max_poll_records).unwrap_or(500),
            shutdown_timeout: settings.shutdown_timeout,
            discovery: settings.partition_discovery_interval,
            broker_assigns: settings.group_protocol == GroupProtocol::Consumer,
            memory: MemoryShares::of(&settings),
            bug: self.bug,
        };
        let mut clients = plan::client_settings(&settings, &group, &self.name);
        clients.tokens = tokens.map(Tokens::new);
        let status = Arc::new(StatusBoard::new(clients.client_id.clone(), group));
        let handle = WorkerHandle::new(
            self.control,
            settings.clone(),
            Arc::clone(&plan.inputs),
            Arc::clone(&clients.credentials),
        );
        let parts = WorkerParts {
            limits: plan::limits(&settings, &plan),
            live: plan::live(&settings, &plan.inputs)?,
            gate: plan::gate_limits(&settings),
            max_poll_interval: settings.max_poll_interval(),
            clients,
            plan,
            observer: self.observer,
        };
        Ok((Worker { parts, settings, status, handle: handle.clone() }, handle))
    }

    /// What the settings say of inputs takes the place of what was declared. Topics for dead letters
    /// are known then: outputs that no handler writes to.
    fn settle_rules(&mut self, settings: &Settings) -> Result<(), ConfigError> {
        for (name, given) in &settings.inputs {
            let inputs: Vec<_> = self.inputs.iter().map(|input| &input.subscription).collect();
            let input = rules::input_called(name, settings, &inputs)?;
            rules::lay_over(given, &mut self.inputs[input].spec).map_err(|(key, problem)| {
                settings.invalid(&format!("inputs.{name}.{key}"), problem.to_owned())
            })?;
            let declared = &mut self.inputs[input];
            declared.retries = given.retry_topics.over(declared.retries.take());
            if declared.retries.is_none() && given.retry_topics.hold_key.is_some() {
                let problem =
                    "the input has no retry topics; give `retry_topics.delays` too, or remove it";
                let key = format!("inputs.{name}.retry_topics.hold_key");
                return Err(settings.invalid(&key, problem.to_owned()));
            }
        }
        let routes = self.inputs.iter().filter_map(|input| input.spec.dead_letters.as_ref());
        for topic in routes.map(|route| Arc::clone(&route.topic)).collect::<Vec<_>>() {
            if !self.outputs.iter().any(|output| output.topic == topic) {
                self.output(&*topic);
            }
        }
        Ok(())
    }

    /// Where tokens come from, if the worker logs in with them.
    fn token_source(&mut self, settings: &Settings) -> Option<TokenSource> {
        let value = |names: [&str; 2]| {
            let mut all = settings.kafka.iter();
            all.find(|(name, _)| names.contains(name)).map(|(_, value)| value)
        };
        let wanted = value(["sasl.mechanism", "sasl.mechanisms"]) == Some("OAUTHBEARER");
        let by_itself = value(["sasl.oauthbearer.method"; 2]) == Some("oidc")
            || value(["enable.sasl.oauthbearer.unsecure.jwt"; 2]) == Some("true");
        let file = settings.oauth_token_file.clone().map(TokenSource::file);
        let mut wrong = |what: &str| self.problems.push(what.to_owned());
        match (self.tokens.take(), file) {
            (Some(_), Some(_)) => {
                wrong("tokens come from oauth_tokens(…) and from oauth_token_file; keep one");
                None
            }
            (None, None) => {
                if wanted && !by_itself {
                    wrong(
                        "sasl.mechanism is OAUTHBEARER and nothing gives tokens; set \
                         oauth_token_file, or call oauth_tokens(…)",
                    );
                }
                None
            }
            (own, file) => {
                if !wanted {
                    wrong(
                        "there are tokens to log in with and sasl.mechanism is not OAUTHBEARER; \
                         set it under [kafka]",
                    );
                }
                own.or(file)
            }
        }
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

    /// Retry topics are outputs of their input, and inputs themselves: with its handler and rules, but
    /// each leads to the next one.
    fn add_retry_topics(&mut self, group: &str) {
        for number in 0..self.inputs.len() {
            let Some(RetryTopics { delays, holds }) = self.inputs[number].retries.take() else {
                continue;
            };
            let Subscription::Topic(topic) = &self.inputs[number].subscription else {
                let name = self.inputs[number].subscription.name();
                self.problems
                    .push(format!("the input {name} is a pattern; patterns have no retry topics"));
                continue;
            };
            let name = |number: usize| Arc::from(format!("{group}-{topic}-retry-{}", number + 1));
            let names: Vec<Arc<str>> = (0..delays.len()).map(name).collect();
            if let Some(name) = names.iter().find(|name| name.len() > 249) {
                self.problems.push(format!("the retry topic {name} is longer than 249 characters"));
            }
            let route = |at: usize| {
                let (topic, delay) = (Arc::clone(names.get(at)?), *delays.get(at)?);
                let beyond = names.get(at + 1..).unwrap_or_default().to_vec();
                Some(RetryRoute { topic, delay, holds, beyond })
            };
            self.inputs[number].spec.retry_route = route(0);
            for (at, topic) in names.iter().enumerate() {
                self.output(&**topic);
                let mut spec = self.inputs[number].spec.clone();
                (spec.retry_route, spec.is_retry_topic) = (route(at + 1), true);
                let (subscription, slots) =
                    (Subscription::Topic(topic.to_string()), self.inputs[number].slots.clone());
                self.inputs.push(DeclaredInput { subscription, spec, slots, retries: None });
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
        for DeclaredInput { subscription, spec, slots, .. } in self.inputs.drain(..) {
            let name = subscription.name().to_owned();
            self.problems
                .extend(spec.problem().map(|problem| format!("the input {name} {problem}")));
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
