//! On which Kafka does it happen: one inside this process, or one that is there?

use std::time::Duration;

use load_generator::{SendOptions, create_topic};
use login_counter::{LoginCounterSettings, app};
use pelton::config::{AutoOffsetReset, Settings};
use pelton_testkit::EmbeddedCluster;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use crate::demo::error::DemoError;

const ANSWER: Duration = Duration::from_secs(10);

/// A Kafka with the demo's topics on it.
#[derive(Debug)]
pub(super) struct Venue {
    /// `None` for a Kafka that was there before.
    embedded: Option<EmbeddedCluster>,
    pub(super) bootstrap_servers: String,
    pub(super) group: String,
    pub(super) input: String,
    pub(super) output: String,
    changelogs: Vec<String>,
    pub(super) partitions: i32,
}

impl Venue {
    /// A cluster of its own, or the given one; topics made.
    pub(super) fn open(kafka: Option<&str>, partitions: i32) -> Result<Self, DemoError> {
        match kafka {
            None => Self::embedded(partitions),
            Some(bootstrap_servers) => Self::real(bootstrap_servers, partitions),
        }
    }

    fn embedded(partitions: i32) -> Result<Self, DemoError> {
        let cluster = EmbeddedCluster::start(1)?;
        cluster.group_heartbeat(Duration::from_millis(200));
        cluster.group_session_timeout(EMBEDDED_SESSION);
        let bootstrap_servers = cluster.bootstrap_servers().to_owned();
        let venue = Self::named("", bootstrap_servers, partitions)?;
        for topic in venue.topics() {
            cluster.create_topic(topic, partitions)?;
        }
        Ok(Self { embedded: Some(cluster), ..venue })
    }

    fn real(bootstrap_servers: &str, partitions: i32) -> Result<Self, DemoError> {
        let suffix = format!("-demo-{:08x}", unique());
        let venue = Self::named(&suffix, bootstrap_servers.to_owned(), partitions)?;
        // The workers make their changelog themselves.
        for topic in [&venue.input, &venue.output] {
            create_topic(&SendOptions::new(bootstrap_servers, topic), partitions)?;
        }
        Ok(venue)
    }

    fn named(suffix: &str, bootstrap_servers: String, partitions: i32) -> Result<Self, DemoError> {
        let group = format!("login-counter{suffix}");
        let (input, output) = (format!("user_logins{suffix}"), format!("login_totals{suffix}"));
        let mut counter = LoginCounterSettings::default();
        counter.input_topic.clone_from(&input);
        counter.output_topic.clone_from(&output);
        let mut settings = Settings::default();
        settings.bootstrap_servers.clone_from(&bootstrap_servers);
        settings.group_id = Some(group.clone());
        settings.auto_offset_reset = Some(AutoOffsetReset::Earliest);
        let mut worker = app(&counter);
        worker.settings(settings);
        let mut changelogs = worker.build()?.0.topics();
        changelogs.retain(|topic| *topic != input && *topic != output);
        let embedded = None;
        Ok(Self { embedded, bootstrap_servers, group, input, output, changelogs, partitions })
    }

    fn topics(&self) -> impl Iterator<Item = &String> {
        [&self.input, &self.output].into_iter().chain(&self.changelogs)
    }

    pub(super) fn is_embedded(&self) -> bool {
        self.embedded.is_some()
    }

    /// After how long Kafka takes a silent worker for dead; a real one's default.
    pub(super) fn session_timeout(&self) -> Duration {
        if self.is_embedded() { EMBEDDED_SESSION } else { Duration::from_secs(45) }
    }

    /// How long a change of the group may take: some heartbeats, on a busy machine.
    pub(super) fn patience(&self) -> Duration {
        Duration::from_secs(if self.is_embedded() { 20 } else { 60 })
    }

    /// A worker's settings, as environment variables.
    pub(super) fn worker_settings(&self) -> Vec<(String, String)> {
        let session_ms = self.session_timeout().as_millis().to_string();
        let settings = [
            ("BOOTSTRAP_SERVERS", self.bootstrap_servers.as_str()),
            ("GROUP_ID", &self.group),
            ("GROUP_PROTOCOL", "consumer"),
            ("AUTO_OFFSET_RESET", "earliest"),
            // Short, so that the screen shows what is done, and a kill repeats little.
            ("COMMIT_INTERVAL", "200ms"),
            ("SESSION_TIMEOUT_MS", &session_ms),
            // The embedded cluster does not wake a waiting fetch.
            ("KAFKA__FETCH_WAIT_MAX_MS", "10"),
            ("LOGIN_COUNTER__INPUT_TOPIC", &self.input),
            ("LOGIN_COUNTER__OUTPUT_TOPIC", &self.output),
        ];
        settings.map(|(name, value)| (format!("PELTON__{name}"), value.to_owned())).into()
    }

    /// What the group has committed of the input, by partition; 0 where nothing is.
    pub(super) fn committed(&self) -> Result<Vec<i64>, DemoError> {
        let mut all = TopicPartitionList::new();
        for partition in 0..self.partitions {
            all.add_partition(&self.input, partition);
        }
        let committed = self
            .reader()?
            .committed_offsets(all, ANSWER)
            .map_err(kafka("reading the group's offsets"))?;
        let offset = |partition| match committed.find_partition(&self.input, partition)?.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        };
        Ok((0..self.partitions).map(|partition| offset(partition).unwrap_or(0)).collect())
    }

    /// A consumer that joins no group.
    pub(super) fn reader(&self) -> Result<BaseConsumer, DemoError> {
        self.client()
            .set("group.id", &self.group)
            .set("enable.auto.commit", "false")
            .set("fetch.wait.max.ms", "10")
            .set("allow.auto.create.topics", "false")
            .create()
            .map_err(kafka("making a consumer"))
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap_servers).set("log_level", "3");
        config
    }

    /// Removes the demo's topics and group from a Kafka that was there before. What can't be
    /// removed is named in the answer.
    pub(super) fn clear_away(&self) -> Result<(), DemoError> {
        if self.is_embedded() {
            return Ok(());
        }
        let admin: AdminClient<DefaultClientContext> =
            self.client().create().map_err(kafka("making an admin client"))?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().build().map_err(DemoError::Logs)?;
        let topics: Vec<_> = self.topics().map(String::as_str).collect();
        let wait = AdminOptions::new().request_timeout(Some(ANSWER));
        runtime.block_on(async {
            admin
                .delete_groups(&[&self.group], &wait)
                .await
                .map_err(kafka("removing the group"))?;
            admin.delete_topics(&topics, &wait).await.map_err(kafka("removing the topics"))?;
            Ok(())
        })
    }
}

/// Long enough for a busy machine, short enough to watch.
const EMBEDDED_SESSION: Duration = Duration::from_secs(6);

pub(super) fn kafka(what: impl Into<String>) -> impl FnOnce(KafkaError) -> DemoError {
    let what = what.into();
    move |source| DemoError::Kafka { what, source }
}

/// A number that other runs don't have: hashers are seeded at random.
fn unique() -> u32 {
    use std::hash::{BuildHasher, Hasher};
    let number = std::collections::hash_map::RandomState::new().build_hasher().finish();
    u32::try_from(number >> 32).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worker_itself_says_which_topics_there_must_be() {
        let venue = Venue::embedded(2).unwrap();
        let topics: Vec<_> = venue.topics().collect();
        let changelog = "login-counter-user_logins-totals-changelog";
        assert_eq!(topics, ["user_logins", "login_totals", changelog]);
        assert_eq!(venue.committed().unwrap(), [0, 0]);
    }
}
