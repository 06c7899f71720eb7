//! The embedded cluster and Kafka as places for scenarios: librdkafka's clients, as a worker makes
//! them, in this process; those that are to be killed in processes of their own.

mod strangers;
mod transaction;

use std::sync::Arc;

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use pelton::config::{AssignmentStrategy, AutoOffsetReset, GroupProtocol, Settings};
use pelton::ports::{Admin, Clients, Fetch, Member, PortError, Producer, RestoreFetches, Waker};
use pelton::{Context, Handler, HandlerError, KafkaPorts, Record, TopicPartition, Worker};
use pelton_testkit::EmbeddedCluster;
use pelton_testkit::scenarios::{
    self, Failure, Kind, Place, Played, Process, Protocol, Role, SESSION, Scenario, Stranger,
    Transaction, Verdict,
};

use crate::waiting::patiently;
use crate::{Cluster, ClusterError, KafkaCluster, NewRecord};

pub use strangers::run_if_asked;

/// So many scenarios are played at once: they wait more than they work.
const AT_ONCE: usize = 8;

/// Plays the scenarios on Kafka, in topics and groups of their own.
///
/// # Errors
///
/// If no runtime can be made, or Kafka takes no records.
pub fn play_on_kafka(kafka: &'static KafkaCluster) -> std::io::Result<Verdict> {
    warm_up(kafka)?;
    play(&Librdkafka { kind: Kind::Kafka, world: Arc::new(OnKafka(kafka)) })
}

/// A node that has just started takes seconds for its first records and its first group.
fn warm_up(kafka: &KafkaCluster) -> std::io::Result<()> {
    let begin = || -> Result<(), ClusterError> {
        let topic = KafkaCluster::unique("warm-up");
        kafka.create_topic(&topic, 1)?;
        kafka.produce(&topic, &[NewRecord::new("a", "b")])?;
        kafka.committed("warm-up", &topic).map(drop)
    };
    let begun = patiently("the first records", SESSION * 20, || begin().map_err(|e| e.to_string()));
    begun.map_err(std::io::Error::other)
}

/// Plays the scenarios on an embedded cluster.
///
/// # Errors
///
/// If no runtime can be made.
pub fn play_on_embedded(cluster: EmbeddedCluster) -> std::io::Result<Verdict> {
    play(&Librdkafka { kind: Kind::Embedded, world: Arc::new(OnEmbedded(cluster)) })
}

fn play(place: &Librdkafka) -> std::io::Result<Verdict> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let verdict = runtime.block_on(scenarios::play(place, &chosen(), AT_ONCE));
    runtime.shutdown_background();
    Ok(verdict)
}

/// All scenarios, or those whose names have `PELTON_TEST_SCENARIO` in them.
#[must_use]
pub fn chosen() -> Vec<Scenario> {
    let wanted = std::env::var("PELTON_TEST_SCENARIO").unwrap_or_default();
    let mut chosen = scenarios::all();
    chosen.retain(|scenario| scenario.name.contains(&wanted));
    chosen
}

/// A place that librdkafka's clients reach.
struct Librdkafka {
    kind: Kind,
    world: Arc<dyn World>,
}

/// What is done from outside. Calls block.
trait World: Send + Sync {
    fn bootstrap(&self) -> &str;
    fn create(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) -> Played;
    fn delete_records(&self, partition: &TopicPartition, before: i64) -> Played;
    fn replace(&self, topic: &str, partitions: i32) -> Played;
    fn has_compaction(&self) -> bool;
}

struct OnKafka(&'static KafkaCluster);

struct OnEmbedded(EmbeddedCluster);

fn broke(error: impl std::fmt::Display) -> Failure {
    Failure::Broke(error.to_string())
}

fn lacks(what: &str) -> Failure {
    Failure::CantBePlayed(what.to_owned())
}

impl World for OnKafka {
    fn bootstrap(&self) -> &str {
        self.0.bootstrap_servers()
    }

    fn create(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) -> Played {
        self.0.create_topic_with(topic, partitions, -1, settings).map_err(broke)
    }

    fn delete_records(&self, partition: &TopicPartition, before: i64) -> Played {
        let (topic, number) = (partition.topic(), partition.partition());
        self.0.delete_records(topic, number, before).map_err(broke)
    }

    fn replace(&self, topic: &str, partitions: i32) -> Played {
        self.0.delete_topic(topic).map_err(broke)?;
        let create = || self.0.create_topic(topic, partitions).map_err(|error| error.to_string());
        patiently("a new topic", SESSION * 3, create).map_err(broke)
    }

    fn has_compaction(&self) -> bool {
        true
    }
}

impl World for OnEmbedded {
    fn bootstrap(&self) -> &str {
        self.0.bootstrap_servers()
    }

    fn create(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) -> Played {
        if !settings.is_empty() {
            return Err(lacks("its topics have no settings"));
        }
        self.0.create_topic(topic, partitions).map_err(broke)
    }

    fn delete_records(&self, _: &TopicPartition, _: i64) -> Played {
        Err(lacks("it has no admin calls"))
    }

    fn replace(&self, _: &str, _: i32) -> Played {
        Err(lacks("it has no admin calls"))
    }

    fn has_compaction(&self) -> bool {
        false
    }
}

impl Place for Librdkafka {
    fn kind(&self) -> Kind {
        self.kind
    }

    fn unique(&self, name: &str) -> String {
        KafkaCluster::unique(name)
    }

    fn create_topic<'a>(
        &'a self,
        topic: &'a str,
        partitions: i32,
        settings: &'a [(&'a str, &'a str)],
    ) -> LocalBoxFuture<'a, Played> {
        let (topic, settings) = (topic.to_owned(), owned(settings));
        self.blocking(move |world| {
            let settings: Vec<_> = settings.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            world.create(&topic, partitions, &settings)
        })
    }

    fn process(&self, role: &Role) -> Played<Box<dyn Process>> {
        Ok(Box::new(ports(self.world.bootstrap(), role)?))
    }

    fn stranger(&self, role: &Role) -> Played<Box<dyn Stranger>> {
        strangers::start(self.world.bootstrap(), role).map_err(broke)
    }

    fn delete_records<'a>(
        &'a self,
        partition: &'a TopicPartition,
        before: i64,
    ) -> LocalBoxFuture<'a, Played> {
        let partition = partition.clone();
        self.blocking(move |world| world.delete_records(&partition, before))
    }

    fn replace_topic<'a>(&'a self, topic: &'a str, partitions: i32) -> LocalBoxFuture<'a, Played> {
        let topic = topic.to_owned();
        self.blocking(move |world| world.replace(&topic, partitions))
    }

    /// Kafka does so by itself, soon.
    fn compact<'a>(&'a self, _: &'a TopicPartition) -> LocalBoxFuture<'a, Played> {
        let can = self.world.has_compaction();
        async move { if can { Ok(()) } else { Err(lacks("it never compacts")) } }.boxed_local()
    }

    fn transaction(&self, id: &str) -> Played<Box<dyn Transaction>> {
        transaction::open(self.world.bootstrap(), id).map_err(broke)
    }
}

impl Librdkafka {
    fn blocking<'a>(
        &self,
        act: impl FnOnce(&dyn World) -> Played + Send + 'static,
    ) -> LocalBoxFuture<'a, Played> {
        let world = Arc::clone(&self.world);
        async move {
            let acted = tokio::task::spawn_blocking(move || act(&*world)).await;
            acted.unwrap_or_else(|error| Err(broke(error)))
        }
        .boxed_local()
    }
}

fn owned(settings: &[(&str, &str)]) -> Vec<(String, String)> {
    settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

struct Idle;

impl Handler for Idle {
    async fn handle(&mut self, _: &Record<'_>, _: &mut Context<'_>) -> Result<(), HandlerError> {
        Ok(())
    }
}

/// The clients of a worker that plays this role.
fn ports(bootstrap: &str, role: &Role) -> Played<KafkaClient> {
    let mut settings = Settings::default();
    bootstrap.clone_into(&mut settings.bootstrap_servers);
    settings.group_id = Some(role.group.clone());
    settings.group_instance_id.clone_from(&role.instance);
    settings.auto_offset_reset = Some(AutoOffsetReset::Earliest);
    settings.session_timeout_ms = match role.protocol {
        // The broker's counts; ours is only what a delivery may take.
        Protocol::Consumer => 45_000,
        Protocol::Range | Protocol::Cooperative => u32::try_from(SESSION.as_millis()).unwrap_or(0),
    };
    settings.heartbeat_interval_ms = 1_000;
    settings.max_poll_interval_ms = 60_000;
    (settings.group_protocol, settings.assignment_strategy) = match role.protocol {
        Protocol::Range => (GroupProtocol::Classic, AssignmentStrategy::Range),
        Protocol::Cooperative => (GroupProtocol::Classic, AssignmentStrategy::CooperativeSticky),
        Protocol::Consumer => (GroupProtocol::Consumer, AssignmentStrategy::CooperativeSticky),
    };
    let mut app = Worker::builder(&*role.name);
    app.settings(settings);
    for topic in &role.topics {
        app.input(topic.as_str()).handler(|_slot| Idle);
    }
    let (worker, _handle) = app.build().map_err(broke)?;
    let ports = worker.kafka_ports();
    Ok(KafkaClient { clients: ports.clients(), ports })
}

struct KafkaClient {
    clients: Arc<dyn Clients>,
    ports: KafkaPorts,
}

fn no_waker() -> Waker {
    Arc::new(|| {})
}

impl Process for KafkaClient {
    fn member(&self) -> Result<Box<dyn Member>, PortError> {
        self.clients.member(no_waker())
    }

    fn fetch(&self) -> Result<Box<dyn Fetch>, PortError> {
        let restores: Arc<dyn RestoreFetches> = self.ports.restores();
        restores.open(no_waker())
    }

    fn producer(&self) -> Result<Arc<dyn Producer>, PortError> {
        self.ports.producer()
    }

    fn admin(&self) -> Result<Arc<dyn Admin>, PortError> {
        self.ports.admin()
    }
}
