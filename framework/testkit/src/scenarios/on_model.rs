//! The model as a place: a world of its own for each scenario, in virtual time.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::LocalBoxFuture;
use pelton::TopicPartition;
use pelton::ports::{
    Admin, Fetch, Member, MemberEvent, OutRecord, PortError, Producer, RestoreFetches,
};
use pelton::ports::{Reports, Waker};
use tokio::sync::Notify;

use super::Scenario;
use super::place::{
    Failure, Kind, Place, Played, Process, Protocol, Role, SESSION, Stranger, Transaction,
};
use super::verdict::{Verdict, play_one};
use crate::model::{
    Assignor, ClientPlan, Cluster, FetchConfig, GroupConfig, MemberConfig, Outcome,
    Process as ModelProcess, ProducerConfig, Random, SharedWorld, SimHost, SimTransactional,
    StoredOffset, TransactionOffsets, TransactionalConfig, World,
};

/// Plays scenarios on the model, one after the other.
///
/// # Panics
///
/// If no tokio runtime can be made.
#[must_use]
pub fn play_on_model(scenarios: &[Scenario]) -> Verdict {
    let mut verdict = Verdict::new(Kind::Model);
    for (number, scenario) in scenarios.iter().enumerate() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime without I/O");
        let ended = runtime.block_on(async {
            let model = Model::new(number as u64 + 1);
            let mut passing = std::pin::pin!(model.pass_time().fuse());
            let mut game = std::pin::pin!(play_one(&model, scenario).fuse());
            futures::select_biased! {
                ended = game => ended,
                never = passing => never,
            }
        });
        verdict.take(scenario, &ended);
    }
    verdict
}

struct Model {
    world: SharedWorld,
    start: tokio::time::Instant,
    /// Something was done to the world: what comes next may be something else.
    moved: Arc<Notify>,
    names: Cell<u32>,
}

impl Model {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        // As the nodes of the tests are set up.
        let group = GroupConfig {
            session_timeout: SESSION,
            heartbeat_interval: Duration::from_millis(300),
            ..GroupConfig::default()
        };
        let cluster = Cluster::new(1, group, random.fork());
        let world = SharedWorld::new(World::new(cluster, random.fork()));
        let start = tokio::time::Instant::now();
        Self { world, start, moved: Arc::default(), names: Cell::new(0) }
    }

    /// Lets the world go on as time passes.
    async fn pass_time<T>(&self) -> T {
        const STEP: Duration = Duration::from_millis(100);
        loop {
            let next = self.world.lock().next();
            let next = next.map(|at| self.start + at.since(pelton_engine::Time::ZERO));
            let latest = tokio::time::Instant::now() + STEP;
            tokio::select! {
                biased;
                () = self.moved.notified() => {}
                () = tokio::time::sleep_until(next.map_or(latest, |next| next.min(latest))) => {}
            }
            self.run();
        }
    }

    fn run(&self) {
        let now = pelton_engine::Time::ZERO + self.start.elapsed();
        let (reports, outcomes) = {
            let mut world = self.world.lock();
            world.run(now);
            (world.take_reports(), world.take_outcomes())
        };
        for (reports, ticket, result) in reports {
            reports.report(ticket, result);
        }
        for (done, outcome) in outcomes {
            done(outcome);
        }
    }

    fn start(&self, role: &Role) -> (ModelProcess, usize) {
        self.world.lock().cluster.found(&role.group);
        let number = self.world.lock().start_process();
        let host = Arc::new(SimHost::new(self.start, number as u64));
        let notify = Arc::clone(&self.moved);
        let moved: Waker = Arc::new(move || notify.notify_one());
        (ModelProcess::new(&self.world, number, plan(role), host, moved), number)
    }
}

/// How its clients are made: as `kafka/settings.rs` does it.
fn plan(role: &Role) -> ClientPlan {
    let assignor = match role.protocol {
        Protocol::Range => Assignor::Range,
        Protocol::Cooperative => Assignor::CooperativeSticky,
        Protocol::Consumer => Assignor::Broker,
    };
    let topics: Vec<_> = role.topics.iter().map(String::as_str).collect();
    let member = MemberConfig {
        instance: role.instance.as_deref().map(Arc::from),
        session_timeout: SESSION,
        heartbeat_interval: Duration::from_secs(1),
        rebalance_timeout: Duration::from_secs(60),
        ..MemberConfig::new(&role.group, assignor, &topics)
    };
    let fetch = FetchConfig {
        max_wait: Duration::from_millis(100),
        tell_ends: true,
        ..FetchConfig::default()
    };
    let producer = ProducerConfig::default();
    ClientPlan { member, restore: fetch.clone(), fetch, producer }
}

fn lacks<'a>(what: &str) -> LocalBoxFuture<'a, Played> {
    let lacking = Failure::CantBePlayed(what.to_owned());
    async { Err(lacking) }.boxed_local()
}

impl Place for Model {
    fn kind(&self) -> Kind {
        Kind::Model
    }

    fn unique(&self, name: &str) -> String {
        self.names.set(self.names.get() + 1);
        format!("{name}-{}", self.names.get())
    }

    fn create_topic<'a>(
        &'a self,
        topic: &'a str,
        partitions: i32,
        settings: &'a [(&'a str, &'a str)],
    ) -> LocalBoxFuture<'a, Played> {
        // Its logs are compacted when they are told to be.
        let compacted = settings.contains(&("cleanup.policy", "compact"));
        if !settings.is_empty() && !compacted {
            return lacks("its topics have no settings");
        }
        self.world.lock().cluster.create_topic(topic, partitions);
        async { Ok(()) }.boxed_local()
    }

    fn process(&self, role: &Role) -> Played<Box<dyn Process>> {
        Ok(Box::new(OnModel(self.start(role).0)))
    }

    fn stranger(&self, role: &Role) -> Played<Box<dyn Stranger>> {
        let (process, number) = self.start(role);
        let member = process.new_member(false);
        Ok(Box::new(Victim { member, world: self.world.clone(), number }))
    }

    fn delete_records<'a>(
        &'a self,
        partition: &'a TopicPartition,
        before: i64,
    ) -> LocalBoxFuture<'a, Played> {
        if let Some(log) = self.world.lock().cluster.log_mut(partition) {
            log.delete_below(before);
        }
        async { Ok(()) }.boxed_local()
    }

    fn replace_topic<'a>(&'a self, _: &'a str, _: i32) -> LocalBoxFuture<'a, Played> {
        lacks("its topics stay")
    }

    fn compact<'a>(&'a self, partition: &'a TopicPartition) -> LocalBoxFuture<'a, Played> {
        if let Some(log) = self.world.lock().cluster.log_mut(partition) {
            log.compact();
        }
        async { Ok(()) }.boxed_local()
    }

    fn transaction(&self, id: &str) -> Played<Box<dyn Transaction>> {
        self.world.lock().cluster.found(id);
        let role = Role {
            name: "writer".to_owned(),
            group: id.to_owned(),
            topics: Vec::new(),
            protocol: Protocol::Consumer,
            instance: None,
        };
        let config = TransactionalConfig {
            transactional_id: id.into(),
            transaction_timeout: Duration::from_secs(60),
            call_timeout: Duration::from_secs(20),
            producer: ProducerConfig::default(),
        };
        Ok(Box::new(self.start(&role).0.new_transactional(config)))
    }
}

struct OnModel(ModelProcess);

impl Process for OnModel {
    fn member(&self) -> Result<Box<dyn Member>, PortError> {
        Ok(self.0.new_member(false))
    }

    fn fetch(&self) -> Result<Box<dyn Fetch>, PortError> {
        self.0.open(Arc::new(|| {}))
    }

    fn producer(&self) -> Result<Arc<dyn Producer>, PortError> {
        Ok(self.0.new_producer())
    }

    fn admin(&self) -> Result<Arc<dyn Admin>, PortError> {
        Ok(Arc::new(self.0.clone()))
    }
}

struct Victim {
    member: Box<dyn Member>,
    world: SharedWorld,
    number: usize,
}

impl Stranger for Victim {
    fn tend(&mut self) {
        while let Some(event) = self.member.poll() {
            use MemberEvent::{Assigned, Lost, Revoked};
            if matches!(event, Assigned(_) | Revoked(_) | Lost(_)) {
                let _fails_later = self.member.acknowledge().is_err();
            }
        }
    }

    fn kill(self: Box<Self>) {
        self.world.lock().end_process(self.number);
    }
}

fn word(outcome: Option<&Outcome>) -> String {
    let word = match outcome {
        Some(Outcome::Done) => "done",
        Some(Outcome::Abortable(_)) => "abortable",
        Some(Outcome::Fatal(_)) => "fatal",
        Some(Outcome::Unknown(_)) | None => "unknown",
    };
    word.to_owned()
}

/// What a call that could not be made has become.
fn refused(error: &PortError) -> String {
    if error.retryable { "unknown" } else { "fatal" }.to_owned()
}

struct Told(std::sync::Mutex<Option<oneshot::Sender<Result<(), PortError>>>>);

impl Reports for Told {
    fn report(&self, _: u64, result: Result<(), PortError>) {
        let mut told = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(tell) = told.take() {
            let _nobody_waits = tell.send(result).is_err();
        }
    }
}

impl SimTransactional {
    fn call(
        &self,
        begin: impl FnOnce(
            &mut crate::model::TransactionalClient,
            crate::model::Callback,
            &mut crate::model::Wire<'_>,
        ) -> Result<(), PortError>,
    ) -> LocalBoxFuture<'static, String> {
        let (tell, told) = oneshot::channel();
        let done = Box::new(move |outcome| drop::<Result<(), _>>(tell.send(outcome)));
        let begun = self.with(|client, wire| begin(client, done, wire));
        async move {
            match begun {
                Some(Ok(())) => word(told.await.ok().as_ref()),
                Some(Err(error)) => refused(&error),
                None => "unknown".to_owned(),
            }
        }
        .boxed_local()
    }
}

impl Transaction for SimTransactional {
    fn init(&self) -> LocalBoxFuture<'_, String> {
        self.call(|client, done, wire| client.init(done, wire))
    }

    fn begin(&self) -> LocalBoxFuture<'_, String> {
        let begun = self.with(|client, _| client.begin());
        let said = begun.map_or_else(
            || "unknown".to_owned(),
            |begun| match begun {
                Ok(()) => "done".to_owned(),
                Err(error) => refused(&error),
            },
        );
        async move { said }.boxed_local()
    }

    fn send(&self, record: OutRecord) -> LocalBoxFuture<'_, String> {
        let (tell, told) = oneshot::channel();
        let reports: Arc<dyn Reports> = Arc::new(Told(std::sync::Mutex::new(Some(tell))));
        let sent = self.with(|client, wire| client.send(&record, 0, &reports, wire));
        async move {
            match sent {
                Some(Ok(())) => match told.await {
                    Ok(Ok(())) => "stored".to_owned(),
                    _ => "failed".to_owned(),
                },
                _ => "failed".to_owned(),
            }
        }
        .boxed_local()
    }

    fn send_offset(
        &self,
        group: String,
        partition: TopicPartition,
        offset: i64,
    ) -> LocalBoxFuture<'_, String> {
        let offsets = TransactionOffsets {
            group: group.as_str().into(),
            member: None,
            instance: None,
            generation: -1,
            offsets: vec![(partition, StoredOffset { offset, metadata: String::new() })],
        };
        self.call(|client, done, wire| client.send_offsets(offsets, done, wire))
    }

    fn commit(&self) -> LocalBoxFuture<'_, String> {
        self.call(|client, done, wire| client.commit(done, wire))
    }

    fn abort(&self) -> LocalBoxFuture<'_, String> {
        self.call(|client, done, wire| client.abort(done, wire))
    }
}
