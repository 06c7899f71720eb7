//! Questions about topics, asked on blocking threads.

use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset as KafkaOffset, TopicPartitionList};

use crate::kafka::credentials::Attached;
use crate::kafka::errors::port_error;
use crate::kafka::ffi::{set_credentials, topic_id, topic_rights};
use crate::kafka::hearing::{Hearing, listen};
use crate::kafka::settings::ClientSettings;
use crate::kafka::tls_check::Trust;
use crate::kafka::tokens::{give, introduce};
use crate::ports::{Admin, Created, PortError, TopicIdentity, TopicRights, TopicSpec};
use crate::refusal::{Operation, Refusal};
use crate::refusals::Refusals;
use crate::topic_partition::TopicPartition;

/// A question that finds no broker is given up after so long; the caller asks again.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A first answer of the cluster is waited for so long; what is in the way is heard after it.
const REACH: Duration = Duration::from_secs(1);

/// Topics over librdkafka: a client without a group for questions, an admin client for changes.
pub(crate) struct KafkaAdmin {
    /// First, so that they go before the clients.
    _credentials: [Attached; 2],
    asking: Arc<BaseConsumer<Hearing>>,
    changing: Arc<AdminClient<Hearing>>,
    refusals: Arc<Refusals>,
    trust: Trust,
}

impl KafkaAdmin {
    pub(crate) fn new(settings: &ClientSettings) -> Result<Self, PortError> {
        let error = |error: KafkaError| port_error("the admin client", &error);
        let refusals = Arc::clone(&settings.refusals);
        let hearing = || Hearing::new("admin", &refusals);
        let asking: BaseConsumer<_> =
            settings.asking().create_with_context(hearing()).map_err(error)?;
        let changing: AdminClient<_> =
            settings.changing().create_with_context(hearing()).map_err(error)?;
        let trust = Trust::of(&settings.pass_through);
        let (asking, changing) = (Arc::new(asking), Arc::new(changing));
        if let Some(tokens) = &settings.tokens {
            introduce(tokens, &asking);
            let client: Weak<AdminClient<Hearing>> = Arc::downgrade(&changing);
            tokens.introduce(move |token| {
                let client = client.upgrade();
                client.inspect(|client| give(client.inner(), token)).is_some()
            });
        }
        let (told, also) = (Arc::clone(&asking), Arc::clone(&changing));
        let credentials = [
            settings.credentials.attach(move |u, p| set_credentials(told.client(), u, p)),
            settings.credentials.attach(move |u, p| set_credentials(also.inner(), u, p)),
        ];
        Ok(Self { _credentials: credentials, asking, changing, refusals, trust })
    }

    /// librdkafka's embedded cluster answers no admin call, and its client waits for one in vain;
    /// it is known by the name it gives itself (`rdkafka_mock.c`).
    async fn is_embedded(&self) -> bool {
        self.cluster_id().await.is_some_and(|id| id.starts_with("mockCluster"))
    }

    /// Finds a better reason where a broker's certificate is not accepted.
    async fn explain_tls(&self) {
        let Some(reason) = self.refusals.reason(&Refusal::Tls) else {
            return;
        };
        if !reason.contains("certificate verify failed") {
            return; // explained already, or something else
        }
        let trust = self.trust.clone();
        let asked = tokio::task::spawn_blocking(move || trust.verdict(&reason));
        if let Ok(Some(verdict)) = asked.await {
            self.refusals.tell(Refusal::Tls, &verdict);
        }
    }

    async fn ask<T: Send + 'static>(
        &self,
        what: &'static str,
        question: impl FnOnce(&BaseConsumer<Hearing>) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T, PortError> {
        let client = Arc::clone(&self.asking);
        let ask = move || {
            let answer = question(&client);
            listen(&client);
            answer
        };
        let answer = tokio::task::spawn_blocking(ask).await;
        answer.map_err(PortError::passing)?.map_err(|error| port_error(what, &error))
    }
}

#[async_trait]
impl Admin for KafkaAdmin {
    async fn partitions(&self, topic: &str) -> Result<Option<i32>, PortError> {
        let name = topic.to_owned();
        let asked = self.ask("asking for a topic", move |client| {
            let metadata = client.fetch_metadata(Some(&name), TIMEOUT)?;
            let Some(found) = metadata.topics().iter().find(|found| found.name() == name) else {
                return Ok(Ok(None));
            };
            match found.error().map(RDKafkaErrorCode::from) {
                None => {
                    let count = i32::try_from(found.partitions().len()).ok();
                    Ok(Ok(count.filter(|count| *count > 0)))
                }
                Some(
                    RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic,
                ) => Ok(Ok(None)),
                Some(code @ RDKafkaErrorCode::TopicAuthorizationFailed) => Ok(Err(code)),
                Some(code) => Err(KafkaError::MetadataFetch(code)),
            }
        });
        asked.await?.map_err(|denied| {
            let describe = Refusal::topic(Operation::Describe, topic);
            self.refusals.tell(describe, &denied.to_string());
            PortError::lasting(format!("asking for the topic {topic}: {denied}"))
        })
    }

    async fn identity(&self, topic: &str) -> Result<TopicIdentity, PortError> {
        if self.is_embedded().await {
            let there = self.partitions(topic).await?.is_some();
            let known = TopicIdentity::There { id: None };
            return Ok(if there { known } else { TopicIdentity::Missing });
        }
        let (client, topic) = (Arc::clone(&self.asking), topic.to_owned());
        let ask = move || topic_id(client.client(), &topic, TIMEOUT);
        let found = tokio::task::spawn_blocking(ask).await.map_err(PortError::passing)??;
        Ok(found.map_or(TopicIdentity::Missing, |id| TopicIdentity::There { id }))
    }

    async fn rights(&self, topic: &str) -> Result<Option<TopicRights>, PortError> {
        if self.is_embedded().await {
            return Ok(None);
        }
        let (client, topic) = (Arc::clone(&self.asking), topic.to_owned());
        let ask = move || topic_rights(client.client(), &topic, TIMEOUT);
        tokio::task::spawn_blocking(ask).await.map_err(PortError::passing)?
    }

    async fn offsets(&self, partition: &TopicPartition) -> Result<(i64, i64), PortError> {
        let partition = partition.clone();
        self.ask("asking for a partition's offsets", move |client| {
            client.fetch_watermarks(partition.topic(), partition.partition(), TIMEOUT)
        })
        .await
    }

    async fn offset_at(&self, partition: &TopicPartition, time_ms: i64) -> Result<i64, PortError> {
        if self.is_embedded().await {
            return Err(PortError::lasting(
                "the embedded cluster can't look up times; start at `earliest` there",
            ));
        }
        let partition = partition.clone();
        self.ask("asking for the offset at a time", move |client| {
            let (topic, number) = (partition.topic(), partition.partition());
            // The end first: what arrives between the two questions lies behind it and is read.
            let (_, end) = client.fetch_watermarks(topic, number, TIMEOUT)?;
            let mut asked = TopicPartitionList::with_capacity(1);
            asked.add_partition_offset(topic, number, KafkaOffset::Offset(time_ms))?;
            let answer = client.offsets_for_times(asked, TIMEOUT)?;
            let Some(answer) = answer.find_partition(topic, number) else {
                return Err(KafkaError::OffsetFetch(RDKafkaErrorCode::UnknownPartition));
            };
            answer.error()?;
            Ok(match answer.offset() {
                KafkaOffset::Offset(offset) => offset.min(end),
                _ => end,
            })
        })
        .await
    }

    async fn create(&self, topic: &TopicSpec) -> Result<Created, PortError> {
        if self.is_embedded().await {
            return Ok(Created::NoAdminCalls);
        }
        let mut new = NewTopic::new(&topic.name, topic.partitions, TopicReplication::Fixed(-1));
        for (name, value) in &topic.settings {
            new = new.set(name, value);
        }
        let options =
            AdminOptions::new().request_timeout(Some(TIMEOUT)).operation_timeout(Some(TIMEOUT));
        let results = match self.changing.create_topics([&new], &options).await {
            Ok(results) => results,
            Err(error) if is_unsupported(&error) => return Ok(Created::NoAdminCalls),
            Err(error) => return Err(port_error("creating a topic", &error)),
        };
        match results.into_iter().next() {
            Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(Created::Existed),
            Some(Err((_, RDKafkaErrorCode::UnsupportedFeature))) => Ok(Created::NoAdminCalls),
            Some(Err((name, code))) => {
                if code == RDKafkaErrorCode::TopicAuthorizationFailed {
                    let create = Refusal::topic(Operation::Create, &name);
                    self.refusals.tell(create, &code.to_string());
                }
                Err(PortError::lasting(format!("creating {name}: {code}")))
            }
            Some(Ok(_)) | None => Ok(Created::New),
        }
    }

    async fn settings(&self, topic: &str) -> Result<Option<Vec<(String, String)>>, PortError> {
        if self.is_embedded().await {
            return Ok(None);
        }
        if self.rights(topic).await.is_ok_and(|rights| rights.is_some_and(|r| !r.describe_configs))
        {
            // Kafka would answer with no settings.
            let why = "DescribeConfigs is not allowed";
            return Err(PortError::lasting(format!("the settings of {topic}: {why}")));
        }
        let options = AdminOptions::new().request_timeout(Some(TIMEOUT));
        let asked = [ResourceSpecifier::Topic(topic)];
        let results = match self.changing.describe_configs(&asked, &options).await {
            Ok(results) => results,
            Err(error) if is_unsupported(&error) => return Ok(None),
            Err(error) => return Err(port_error("asking for a topic's settings", &error)),
        };
        match results.into_iter().next() {
            Some(Ok(resource)) => Ok(Some(
                resource.entries.into_iter().filter_map(|e| e.value.map(|v| (e.name, v))).collect(),
            )),
            Some(Err(RDKafkaErrorCode::UnsupportedFeature)) | None => Ok(None),
            Some(Err(
                code @ (RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::ClusterAuthorizationFailed),
            )) => Err(PortError::lasting(format!("the settings of {topic}: {code}"))),
            Some(Err(code)) => Err(PortError::passing(format!("the settings of {topic}: {code}"))),
        }
    }

    async fn cluster_id(&self) -> Option<String> {
        let asked = self
            .ask("asking for the cluster id", |client| Ok(client.client().fetch_cluster_id(REACH)));
        let id = asked.await.ok().flatten();
        if id.is_none() {
            self.explain_tls().await;
        }
        id
    }
}

fn is_unsupported(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::UnsupportedFeature)
}
