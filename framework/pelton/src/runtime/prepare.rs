//! What must be known before a partition runs? Where it starts, and what its stores hold.
//!
//! Runs in the partition's task, off the poll loop, with retries; dropped when the partition is
//! revoked or lost. Upholds INV-9 (start offsets) and INV-10 (restore before the first record).

use std::time::Duration;

use pelton_engine::{
    Bug, DoneSet, Envelope, Holds, Mark, Offset, OffsetReset, RetryPolicy, Standing, StartDecision,
    TopicCommits, Window,
};

use crate::admin::JumpStatus;
use crate::error::WorkerError;
use crate::ports::{Committed, PortError, TopicIdentity};
use crate::runtime::input::InputSpec;
use crate::runtime::jump::jump;
use crate::runtime::shared::{LostPosition, Shared, TopicMark};
use crate::runtime::start::{SignsOfLife, Stage};
use crate::state::{RestoreRequest, StoreLayers, restore};
use crate::telemetry::PartitionMetrics;
use crate::topic_partition::TopicPartition;

/// What has to be known to prepare a partition.
#[derive(Clone, Copy)]
pub(crate) struct Preparing<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) spec: &'a InputSpec,
    pub(crate) partition: &'a TopicPartition,
    pub(crate) metrics: &'a PartitionMetrics,
    pub(crate) signs: &'a SignsOfLife,
    /// It can't go on at this position.
    pub(crate) lost_position: Option<&'a LostPosition>,
    /// Somebody wants it to go on here.
    pub(crate) seek: Option<Offset>,
}

/// What a partition starts with.
pub(crate) struct Prepared {
    pub(crate) position: i64,
    /// `None` if there is none, or if the start has to be committed although there is one.
    pub(crate) committed: Option<Standing>,
    /// What its commits have to say of the topic.
    pub(crate) topic: TopicMark,
    pub(crate) stores: Vec<StoreLayers>,
    /// Where it goes on instead of its position.
    pub(crate) jump: Option<JumpStatus>,
    /// A seek: what was committed before, or -1.
    pub(crate) sought_from: Option<i64>,
    /// Keys that are held, wherever it begins.
    pub(crate) holds: Holds,
}

const RETRY: RetryPolicy =
    RetryPolicy::exponential(Duration::from_millis(100), Duration::from_secs(5));

/// Reads the committed offset and restores the stores. Cancel safe.
///
/// # Errors
///
/// If the worker can't go on; what may pass by itself is tried again for ever, with a log line.
pub(crate) async fn prepare(preparing: &Preparing<'_>) -> Result<Prepared, WorkerError> {
    let Preparing { shared, partition, signs, .. } = preparing;
    let mut attempt = 0;
    loop {
        match try_prepare(preparing).await {
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

/// Why a partition can't be prepared: for now, or for good.
pub(super) enum Trouble {
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

async fn try_prepare(preparing: &Preparing<'_>) -> Result<Prepared, Trouble> {
    let Preparing { shared, spec, partition, metrics, signs, lost_position, seek } = *preparing;
    let partitions = shared.admin.partitions(partition.topic()).await?.ok_or_else(|| {
        PortError::passing(format!("the topic {} is not there", partition.topic()))
    })?;
    if let Some(route) = &spec.retry_route {
        check_retry_topic(shared, partition.topic(), partitions, &route.topic).await?;
    }
    // The commit first, the stores after it: they may hold more than it says, never less (INV-10).
    let TopicIdentity::There { id } = shared.admin.identity(partition.topic()).await? else {
        return Err(
            PortError::passing(format!("the topic {} is not there", partition.topic())).into()
        );
    };
    let Start { at, settled, committed, done, marks, window, holds, recreated } =
        start_of(preparing, partitions, id.as_deref()).await?;
    let bug = shared.plan.bug;
    let at = seek.map_or(at, StartDecision::At);
    let jump = match at {
        _ if seek.is_some() => None,
        StartDecision::At(offset) if recreated || lost_position.is_some() => {
            Some(jump(preparing, offset.0, recreated).await?)
        }
        _ => None,
    };
    let position = match at {
        _ if jump.is_some() && Bug::JumpToLatest.is(bug) => {
            shared.admin.offsets(partition).await?.1
        }
        _ if let Some(jump) = &jump => jump.went_on_at,
        StartDecision::At(offset) => offset.0,
        StartDecision::Earliest if Bug::StartAtLatest.is(bug) => {
            shared.admin.offsets(partition).await?.1
        }
        StartDecision::Earliest => shared.admin.offsets(partition).await?.0,
        StartDecision::Latest => shared.admin.offsets(partition).await?.1,
        StartDecision::AtTime(ms) => shared.admin.offset_at(partition, ms).await?,
        StartDecision::Refused => {
            return Err(WorkerError::NoCommittedOffset { partition: partition.clone() }.into());
        }
    };
    let mut stores = Vec::with_capacity(spec.stores.len());
    for store in spec.stores.iter().filter_map(|index| shared.plan.stores.get(*index)) {
        let restored = !Bug::SkipRestore.is(bug);
        let Some(changelog) = store.changelog.as_ref().filter(|_| restored) else {
            stores.push(StoreLayers::default());
            continue;
        };
        let number = if Bug::RestoreOfAnother.is(bug) { 0 } else { partition.partition() };
        let changelog = TopicPartition::new(std::sync::Arc::clone(changelog), number);
        check_partitions(shared, partition.topic(), partitions, changelog.topic()).await?;
        let request = RestoreRequest {
            store: &store.name,
            changelog,
            fetches: &*shared.restores,
            admin: &*shared.admin,
            host: &*shared.host,
            metrics,
            signs,
            bug,
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
    // Committed at once, so that nobody has to decide again.
    let sought_from = seek.map(|_| committed.unwrap_or(-1));
    let held = holds.clone();
    let committed = match committed.filter(|_| jump.is_none() && seek.is_none()) {
        Some(offset) => {
            let done = usable(done, Offset(offset), preparing).await?;
            Some(Standing { done, marks, window, holds })
        }
        None => None,
    };
    let jump = jump.filter(|_| !Bug::JumpToLatest.is(bug));
    Ok(Prepared { position, committed, topic, stores, jump, sought_from, holds: held })
}

/// What is done above the committed offset, where the commit's metadata says it of this offset and
/// this log: anybody may write a commit, and take its metadata from another.
async fn usable(
    done: Option<DoneSet>,
    committed: Offset,
    preparing: &Preparing<'_>,
) -> Result<DoneSet, Trouble> {
    let Some(done) = done.filter(|done| !done.is_empty()) else {
        return Ok(DoneSet::above(committed));
    };
    let Preparing { shared, partition, .. } = preparing;
    let end = shared.admin.offsets(partition).await?.1;
    if done.fits(committed, Offset(end)) {
        return Ok(done);
    }
    tracing::warn!(%partition, %committed, end, of = %done.base(), "the commit's done-set is not of this offset or this log and is dropped: what it names is handled again");
    Ok(DoneSet::above(committed))
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

/// Records go to the partition of the same number.
async fn check_retry_topic(
    shared: &Shared,
    topic: &str,
    partitions: i32,
    retry_topic: &str,
) -> Result<(), Trouble> {
    let there =
        shared.admin.partitions(retry_topic).await?.ok_or_else(|| {
            PortError::passing(format!("the retry topic {retry_topic} is not there"))
        })?;
    if there >= partitions {
        return Ok(());
    }
    Err(Trouble::Lasting(WorkerError::Declaration(format!(
        "the retry topic {retry_topic} has {there} partitions and {topic} has {partitions}; give it as many"
    ))))
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

/// Where a partition starts, and what its commits have to say.
struct Start {
    at: StartDecision,
    /// The partition count that its commits record.
    settled: u32,
    committed: Option<i64>,
    /// What its commit says to be done above it.
    done: Option<DoneSet>,
    /// What its commit says of records that are not.
    marks: Vec<Mark>,
    /// What its owner may have had in hand.
    window: Option<Window>,
    /// Its keys with records in a retry topic.
    holds: Holds,
    /// Its commit, or the position it had, belongs to another topic of that name.
    recreated: bool,
}

async fn start_of(
    preparing: &Preparing<'_>,
    partitions: i32,
    topic_id: Option<&str>,
) -> Result<Start, Trouble> {
    let Preparing { shared, partition, .. } = preparing;
    let number = u32::try_from(partition.partition()).unwrap_or(0);
    // The count may be older than the assignment: a partition we were given exists.
    let partitions = u32::try_from(partitions).unwrap_or(0).max(number + 1);
    let Own { offset: own, mark, done, marks, window, holds } = own_position(preparing).await?;
    let other_id = |of: &str| topic_id.is_some_and(|id| id != of);
    let recreated =
        own.is_some() && mark.as_ref().and_then(|m| m.id.as_deref()).is_some_and(other_id);
    if let Some((offset, mark)) = own.zip(mark.as_ref())
        && mark.partitions >= partitions
    {
        let at = StartDecision::At(Offset(offset));
        let settled = mark.partitions;
        return Ok(Start { at, settled, committed: own, done, marks, window, holds, recreated });
    }
    let topic = partition.topic_name();
    let all = (0..i32::try_from(partitions).unwrap_or(0))
        .map(|number| TopicPartition::new(std::sync::Arc::clone(&topic), number))
        .collect();
    let all = shared.committed.read(all).await?;
    let offset_of = |committed: &Committed| {
        let is_own = committed.partition == **partition;
        if is_own { own } else { committed.offset }.map(Offset)
    };
    let commits = TopicCommits {
        partitions,
        known: all.iter().filter_map(envelope_of).map(|envelope| envelope.partitions).max(),
        committed: all.iter().map(offset_of).collect(),
    };
    // What lies in a retry topic has been read already: none of it is old.
    let is_retry_topic = preparing.spec.is_retry_topic;
    let reset = if is_retry_topic { OffsetReset::Earliest } else { shared.plan.offset_reset };
    let at = commits.start(number, reset);
    let committed = match at {
        StartDecision::At(offset) => Some(offset.0),
        StartDecision::Earliest
        | StartDecision::Latest
        | StartDecision::AtTime(_)
        | StartDecision::Refused => None,
    };
    Ok(Start { at, settled: commits.settled(), committed, done, marks, window, holds, recreated })
}

/// What a partition has of its own.
struct Own {
    offset: Option<i64>,
    mark: Option<TopicMark>,
    done: Option<DoneSet>,
    marks: Vec<Mark>,
    window: Option<Window>,
    holds: Holds,
}

/// The position it can't go on at; otherwise its commit, and what that says.
async fn own_position(preparing: &Preparing<'_>) -> Result<Own, Trouble> {
    let Preparing { shared, partition, .. } = preparing;
    if let Some(LostPosition { position, topic }) = preparing.lost_position {
        let (offset, mark) = (Some(position.0), Some(topic.clone()));
        // What went to a retry topic is there still.
        let own = shared.committed.read(vec![(*partition).clone()]).await?.into_iter().next();
        let holds = own.as_ref().and_then(envelope_of).map(|envelope| envelope.holds);
        let holds = holds.unwrap_or_default();
        return Ok(Own { offset, mark, done: None, marks: Vec::new(), window: None, holds });
    }
    let own = if Bug::CachedCommit.is(shared.plan.bug) {
        shared.committed.read_once(partition).await?
    } else {
        shared.committed.read(vec![(*partition).clone()]).await?.into_iter().next()
    };
    let own = own.filter(|own| {
        let dropped = Bug::DamageDropsCommit.is(shared.plan.bug) && !own.metadata.is_empty();
        !dropped || envelope_of(own).is_some()
    });
    let offset = own.as_ref().and_then(|own| own.offset);
    Ok(match own.as_ref().and_then(envelope_of) {
        Some(envelope) => {
            let Envelope { partitions, topic: id, done_set: done, marks, holds, .. } = envelope;
            // Its writer has died, unless it is this process.
            let is_own = envelope.incarnation.is_some_and(|(name, _)| name == shared.incarnation);
            let window = envelope.window.and_then(|w| if is_own { w.survived() } else { Some(w) });
            Own { offset, mark: Some(TopicMark { partitions, id }), done, marks, window, holds }
        }
        None => Own {
            offset,
            mark: None,
            done: None,
            marks: Vec::new(),
            window: None,
            holds: Holds::default(),
        },
    })
}

/// A commit's envelope; what can't be used is named and ignored.
fn envelope_of(committed: &Committed) -> Option<Envelope> {
    committed.offset?;
    Envelope::decode(&committed.metadata).unwrap_or_else(|error| {
        tracing::warn!(partition = %committed.partition, %error, "the commit's metadata is ignored");
        None
    })
}
