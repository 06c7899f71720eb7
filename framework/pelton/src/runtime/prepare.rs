//! What must be known before a partition runs? Where it starts, and what its stores hold.
//!
//! Runs in the partition's task, off the poll loop, with retries; dropped when the partition is
//! revoked or lost. Upholds INV-9 (start offsets) and INV-10 (restore before the first record).

use std::time::Duration;

use pelton_engine::{Bug, Envelope, Offset, RetryPolicy, StartDecision, TopicCommits};

use crate::error::WorkerError;
use crate::ports::{Committed, PortError, TopicIdentity};
use crate::runtime::input::InputSpec;
use crate::runtime::shared::{Shared, TopicMark};
use crate::runtime::start::{SignsOfLife, Stage};
use crate::state::{RestoreRequest, StoreLayers, restore};
use crate::telemetry::PartitionMetrics;
use crate::topic_partition::TopicPartition;

/// What a partition starts with.
pub(crate) struct Prepared {
    pub(crate) position: i64,
    pub(crate) committed: Option<i64>,
    /// What its commits have to say of the topic.
    pub(crate) topic: TopicMark,
    pub(crate) stores: Vec<StoreLayers>,
}

const RETRY: RetryPolicy =
    RetryPolicy { initial: Duration::from_millis(100), max: Duration::from_secs(5) };

/// Reads the committed offset and restores the stores. Cancel safe.
///
/// # Errors
///
/// If the worker can't go on; what may pass by itself is tried again for ever, with a log line.
pub(crate) async fn prepare(
    shared: &Shared,
    spec: &InputSpec,
    partition: &TopicPartition,
    metrics: &PartitionMetrics,
    signs: &SignsOfLife,
) -> Result<Prepared, WorkerError> {
    let mut attempt = 0;
    loop {
        match try_prepare(shared, spec, partition, metrics, signs).await {
            Ok(prepared) => return Ok(prepared),
            Err(Trouble::Lasting(error)) => return Err(error),
            Err(Trouble::Passing(error)) => {
                attempt += 1;
                signs.at(Stage::Reading); // an answer, if not the one wanted
                let wait = RETRY.backoff(attempt, shared.host.seed());
                tracing::warn!(%partition, %error, attempt, wait_ms = wait.as_millis(), "the partition can't start yet");
                shared.host.sleep(wait).await;
            }
        }
    }
}

enum Trouble {
    Passing(PortError),
    Lasting(WorkerError),
}

impl From<PortError> for Trouble {
    fn from(error: PortError) -> Self {
        Self::Passing(error)
    }
}

impl From<WorkerError> for Trouble {
    fn from(error: WorkerError) -> Self {
        Self::Lasting(error)
    }
}

async fn try_prepare(
    shared: &Shared,
    spec: &InputSpec,
    partition: &TopicPartition,
    metrics: &PartitionMetrics,
    signs: &SignsOfLife,
) -> Result<Prepared, Trouble> {
    let partitions = shared.admin.partitions(partition.topic()).await?.ok_or_else(|| {
        PortError::passing(format!("the topic {} is not there", partition.topic()))
    })?;
    // The commit first, the stores after it: they may hold more than it says, never less (INV-10).
    let TopicIdentity::There { id } = shared.admin.identity(partition.topic()).await? else {
        return Err(
            PortError::passing(format!("the topic {} is not there", partition.topic())).into()
        );
    };
    let (start, settled, committed) =
        start_of(shared, partition, partitions, id.as_deref()).await?;
    let position = match start {
        StartDecision::At(offset) => offset.0,
        StartDecision::Earliest => shared.admin.offsets(partition).await?.0,
        StartDecision::Latest => shared.admin.offsets(partition).await?.1,
        StartDecision::Refused => {
            return Err(WorkerError::NoCommittedOffset { partition: partition.clone() }.into());
        }
    };
    let mut stores = Vec::with_capacity(spec.stores.len());
    for store in spec.stores.iter().filter_map(|index| shared.plan.stores.get(*index)) {
        let restored = !Bug::SkipRestore.is(shared.plan.bug);
        let Some(changelog) = store.changelog.as_ref().filter(|_| restored) else {
            stores.push(StoreLayers::default());
            continue;
        };
        let changelog =
            TopicPartition::new(std::sync::Arc::clone(changelog), partition.partition());
        check_partitions(shared, partition.topic(), partitions, changelog.topic()).await?;
        let request = RestoreRequest {
            store: &store.name,
            changelog,
            fetches: &*shared.restores,
            admin: &*shared.admin,
            host: &*shared.host,
            metrics,
            signs,
        };
        signs.at(Stage::Turn);
        // Never closed: an error can't happen, and would only mean that nobody is limited.
        let _turn = shared.restoring.acquire().await.ok();
        signs.at(Stage::Restoring);
        stores.push(
            restore(&request)
                .await
                .map_err(|error| store_trouble(error, &store.name, partition))?,
        );
    }
    let topic = TopicMark { partitions: settled, id };
    Ok(Prepared { position, committed, topic, stores })
}

fn store_trouble(error: PortError, store: &str, partition: &TopicPartition) -> Trouble {
    if error.retryable {
        return Trouble::Passing(error);
    }
    Trouble::Lasting(WorkerError::Store {
        store: store.to_owned(),
        partition: partition.clone(),
        reason: error.reason,
    })
}

/// With more partitions than its changelog, a topic's keys have moved away from their state.
async fn check_partitions(
    shared: &Shared,
    topic: &str,
    partitions: i32,
    changelog: &str,
) -> Result<(), Trouble> {
    let changelog_partitions = shared
        .admin
        .partitions(changelog)
        .await?
        .ok_or_else(|| PortError::passing(format!("the changelog {changelog} is not there")))?;
    if changelog_partitions == partitions {
        return Ok(());
    }
    Err(Trouble::Lasting(WorkerError::PartitionsGrew {
        topic: topic.to_owned(),
        partitions,
        changelog: changelog.to_owned(),
        changelog_partitions,
    }))
}

/// Where the partition starts, which partition count its commits record, and its commit.
async fn start_of(
    shared: &Shared,
    partition: &TopicPartition,
    partitions: i32,
    topic_id: Option<&str>,
) -> Result<(StartDecision, u32, Option<i64>), Trouble> {
    let number = u32::try_from(partition.partition()).unwrap_or(0);
    // The count may be older than the assignment: a partition we were given exists.
    let partitions = u32::try_from(partitions).unwrap_or(0).max(number + 1);
    let own = shared.committed.read(vec![partition.clone()]).await?;
    let own = own.into_iter().next();
    let envelope = own.as_ref().and_then(envelope_of);
    if let Some((offset, of)) = own
        .as_ref()
        .and_then(|own| own.offset)
        .zip(envelope.as_ref().and_then(|e| e.topic.as_deref()))
        && topic_id.is_some_and(|id| id != of)
    {
        return Err(WorkerError::TopicRecreated { partition: partition.clone(), offset }.into());
    }
    let known = envelope.map(|envelope| envelope.partitions);
    if let Some((offset, known)) = own.as_ref().and_then(|own| own.offset).zip(known)
        && known >= partitions
    {
        return Ok((StartDecision::At(Offset(offset)), known, Some(offset)));
    }
    let topic = partition.topic_name();
    let all = (0..i32::try_from(partitions).unwrap_or(0))
        .map(|number| TopicPartition::new(std::sync::Arc::clone(&topic), number))
        .collect();
    let all = shared.committed.read(all).await?;
    let commits = TopicCommits {
        partitions,
        known: all.iter().filter_map(envelope_of).map(|envelope| envelope.partitions).max(),
        committed: all.iter().map(|committed| committed.offset.map(Offset)).collect(),
    };
    let start = commits.start(number, shared.plan.offset_reset);
    let committed = match start {
        StartDecision::At(offset) => Some(offset.0),
        StartDecision::Earliest | StartDecision::Latest | StartDecision::Refused => None,
    };
    Ok((start, commits.settled(), committed))
}

/// A commit's envelope; what can't be used is named and ignored.
fn envelope_of(committed: &Committed) -> Option<Envelope> {
    committed.offset?;
    Envelope::decode(&committed.metadata).unwrap_or_else(|error| {
        tracing::warn!(partition = %committed.partition, %error, "the commit's metadata is ignored");
        None
    })
}
