//! Is everything there that was declared? Checked, and changelogs created, before any record runs.

mod reach;
mod rights;

use std::sync::atomic::Ordering;
use std::time::Duration;

use pelton_engine::RetryPolicy;

use crate::error::WorkerError;
use crate::ports::{Admin, Created, Host, TopicSpec};
use crate::refusals::Refusals;
use crate::runtime::input::Subscription;
use crate::runtime::shared::Plan;
use crate::state::{changelog_settings, create_command};

pub(crate) use reach::reach;
use rights::{Of, check_rights};

const RETRY: RetryPolicy =
    RetryPolicy::exponential(Duration::from_millis(200), Duration::from_secs(2));

/// So long Kafka may take to answer, and a new topic to appear, before the worker gives up.
const PATIENCE: Duration = Duration::from_secs(12);

/// A topic that is missing is asked for again so long: a broker may hear of a new one late.
const HEARSAY: Duration = Duration::from_secs(4);

/// Checks inputs, outputs and changelogs.
///
/// # Errors
///
/// If a topic is missing or not as it must be, a right is missing, or Kafka does not answer.
pub(crate) async fn check(
    plan: &Plan,
    admin: &dyn Admin,
    host: &dyn Host,
    refusals: &Refusals,
) -> Result<(), WorkerError> {
    check_rights(plan, admin, Of::Everything).await?;
    check_topics(plan, admin, host).await.map_err(|error| {
        // What Kafka refused explains what could not be had.
        refusals.lasting(&plan.bootstrap_servers).unwrap_or(error)
    })?;
    // Those of a changelog that has just been made are known only now.
    check_rights(plan, admin, Of::Changelogs).await
}

async fn check_topics(plan: &Plan, admin: &dyn Admin, host: &dyn Host) -> Result<(), WorkerError> {
    for output in plan.outputs.iter() {
        let partitions = declared(admin, host, plan, &output.topic)
            .await?
            .ok_or_else(|| missing(plan, "output", &output.topic))?;
        output.partitions.store(partitions, Ordering::Relaxed);
    }
    for input in plan.inputs.iter() {
        let Subscription::Topic(topic) = &input.subscription else {
            continue;
        };
        let partitions = declared(admin, host, plan, topic)
            .await?
            .ok_or_else(|| missing(plan, "input", topic))?;
        for store in input.spec.stores.iter().filter_map(|index| plan.stores.get(*index)) {
            if let Some(changelog) = &store.changelog {
                let spec = TopicSpec {
                    name: changelog.to_string(),
                    partitions,
                    settings: changelog_settings(),
                };
                ensure_changelog(plan, admin, host, topic, &spec).await?;
            }
        }
    }
    Ok(())
}

/// The partitions of a topic that should be there; `None` if brokers keep saying that it is not.
async fn declared(
    admin: &dyn Admin,
    host: &dyn Host,
    plan: &Plan,
    topic: &str,
) -> Result<Option<i32>, WorkerError> {
    let deadline = host.now() + HEARSAY;
    let mut attempt = 0;
    loop {
        let partitions = partitions_of(admin, host, plan, topic).await?;
        if partitions.is_some() || host.now() >= deadline {
            return Ok(partitions);
        }
        if attempt == 0 {
            tracing::warn!(topic, "kafka does not know a declared topic yet; asking again");
        }
        attempt += 1;
        host.sleep(RETRY.backoff(attempt, host.seed())).await;
    }
}

fn missing(plan: &Plan, role: &str, topic: &str) -> WorkerError {
    let spec = TopicSpec { name: topic.to_owned(), partitions: 12, settings: Vec::new() };
    WorkerError::Topic(format!(
        "the {role} topic {topic} does not exist; create it, for example with: {}",
        create_command(&plan.bootstrap_servers, &spec)
    ))
}

/// Makes the changelog or checks the one that is there.
async fn ensure_changelog(
    plan: &Plan,
    admin: &dyn Admin,
    host: &dyn Host,
    topic: &str,
    spec: &TopicSpec,
) -> Result<(), WorkerError> {
    if partitions_of(admin, host, plan, &spec.name).await?.is_none() {
        match admin.create(spec).await {
            Ok(Created::New) => {
                tracing::info!(
                    changelog = spec.name,
                    partitions = spec.partitions,
                    "changelog created"
                );
            }
            Ok(Created::Existed) => {}
            Ok(Created::NoAdminCalls) => {
                return Err(not_made(plan, spec, "this cluster has no admin calls"));
            }
            Err(error) => return Err(not_made(plan, spec, &error.reason)),
        }
    }
    let partitions = seen(admin, host, plan, spec).await?;
    if partitions != spec.partitions {
        return Err(WorkerError::PartitionsGrew {
            topic: topic.to_owned(),
            partitions: spec.partitions,
            changelog: spec.name.clone(),
            changelog_partitions: partitions,
        });
    }
    check_settings(plan, admin, host, spec).await
}

fn not_made(plan: &Plan, spec: &TopicSpec, reason: &str) -> WorkerError {
    WorkerError::Topic(format!(
        "the changelog {} does not exist and could not be created ({reason}); create it with: {}",
        spec.name,
        create_command(&plan.bootstrap_servers, spec)
    ))
}

/// A topic just made takes a moment to be seen.
async fn seen(
    admin: &dyn Admin,
    host: &dyn Host,
    plan: &Plan,
    spec: &TopicSpec,
) -> Result<i32, WorkerError> {
    let deadline = host.now() + PATIENCE;
    let mut attempt = 0;
    while host.now() < deadline {
        if let Some(partitions) = partitions_of(admin, host, plan, &spec.name).await? {
            return Ok(partitions);
        }
        attempt += 1;
        host.sleep(RETRY.backoff(attempt, host.seed())).await;
    }
    Err(not_made(plan, spec, "it was created but does not appear"))
}

/// The changelog must be compacted. What can't be read is unchecked, and said so once; only a
/// policy that was read can be wrong.
async fn check_settings(
    plan: &Plan,
    admin: &dyn Admin,
    host: &dyn Host,
    spec: &TopicSpec,
) -> Result<(), WorkerError> {
    let policy = match cleanup_policy(admin, host, &spec.name).await {
        Ok(policy) => policy,
        Err(reason) => {
            tracing::warn!(changelog = spec.name, reason, "the changelog's settings are unchecked");
            return Ok(());
        }
    };
    if policy == "compact" {
        return Ok(());
    }
    Err(WorkerError::Topic(format!(
        "the changelog {} has cleanup.policy={policy}: anything but \"compact\" loses state; mend it with: \
         kafka-configs.sh --bootstrap-server {} --alter --entity-type topics --entity-name {} \
         --add-config cleanup.policy=compact",
        spec.name, plan.bootstrap_servers, spec.name
    )))
}

/// A topic's policy, or why it is not known. A broker that has yet to hear of a new topic answers
/// without it, so it is asked again for a while.
async fn cleanup_policy(admin: &dyn Admin, host: &dyn Host, topic: &str) -> Result<String, String> {
    let deadline = host.now() + PATIENCE / 2;
    let mut attempt = 0;
    loop {
        let reason = match admin.settings(topic).await {
            Ok(None) => return Err("this cluster has no admin calls".to_owned()),
            Ok(Some(found)) => match found.into_iter().find(|(name, _)| name == "cleanup.policy") {
                Some((_, policy)) => return Ok(policy),
                None => "the answer has no cleanup.policy".to_owned(),
            },
            Err(error) if !error.retryable => return Err(error.reason),
            Err(error) => error.reason,
        };
        attempt += 1;
        if host.now() >= deadline {
            return Err(reason);
        }
        host.sleep(RETRY.backoff(attempt, host.seed())).await;
    }
}

/// A topic's partitions, with some patience for a broker that is not there yet.
async fn partitions_of(
    admin: &dyn Admin,
    host: &dyn Host,
    plan: &Plan,
    topic: &str,
) -> Result<Option<i32>, WorkerError> {
    let deadline = host.now() + PATIENCE;
    let mut attempt = 0;
    loop {
        let error = match admin.partitions(topic).await {
            Ok(partitions) => return Ok(partitions),
            Err(error) => error,
        };
        if host.now() >= deadline || !error.retryable {
            return Err(WorkerError::Kafka(format!(
                "no answer from {}: {error}; is bootstrap_servers right, and is Kafka running there?",
                plan.bootstrap_servers
            )));
        }
        tracing::warn!(bootstrap_servers = plan.bootstrap_servers, %error, "kafka does not answer yet");
        attempt += 1;
        host.sleep(RETRY.backoff(attempt, host.seed())).await;
    }
}
