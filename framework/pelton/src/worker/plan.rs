//! What do the settings mean for the engine and for each client?

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use pelton_engine::{EngineLimits, OutOfRangePolicy};

use super::rules;
use crate::config::{
    AutoOffsetReset, ConfigError, GroupProtocol, MemoryShares, OnOutOfRange, Settings, nearest,
};
use crate::kafka::{ClientSettings, Protocol};
use crate::output::GateLimits;
use crate::runtime::{Input, Live, Plan, Subscription};

pub(super) fn offset_reset(settings: &Settings) -> pelton_engine::OffsetReset {
    match settings.auto_offset_reset {
        Some(AutoOffsetReset::Earliest) => pelton_engine::OffsetReset::Earliest,
        Some(AutoOffsetReset::Latest) => pelton_engine::OffsetReset::Latest,
        Some(AutoOffsetReset::AtTime(ms)) => pelton_engine::OffsetReset::AtTime(ms),
        Some(AutoOffsetReset::Error) | None => pelton_engine::OffsetReset::Error,
    }
}

pub(super) fn out_of_range(settings: &Settings) -> OutOfRangePolicy {
    match settings.on_out_of_range {
        OnOutOfRange::Fail => OutOfRangePolicy::Fail,
        OnOutOfRange::Earliest => OutOfRangePolicy::Earliest,
        OnOutOfRange::Latest => OutOfRangePolicy::Latest,
    }
}

pub(super) fn limits(settings: &Settings, plan: &Plan) -> EngineLimits {
    let drain = settings.effective_drain_timeout();
    EngineLimits {
        budget_records: settings.memory_budget_records,
        budget_bytes: MemoryShares::of(settings).records(plan.has_changelogs()),
        effects: !(plan.outputs.is_empty() && plan.stores.is_empty()),
        commit_interval: settings.commit_interval,
        drain_timeout: drain,
        release_timeout: release_timeout(settings),
        delivery_timeout: message_timeout(settings),
        rejoin_after: settings.session_timeout() * 4,
        bug: plan.bug,
        ..EngineLimits::default()
    }
}

/// What may change while the worker runs. A paused topic must be one that the worker reads: a
/// misspelt name would pause nothing, in silence.
pub(super) fn live(settings: &Settings, inputs: &[Input]) -> Result<Live, ConfigError> {
    for topic in &settings.paused_topics {
        if !inputs.iter().any(|input| input.subscription.matches(topic)) {
            let names: Vec<&str> = inputs.iter().map(|input| input.subscription.name()).collect();
            let near = nearest(topic, names.iter().copied());
            let hint = near.map_or_else(String::new, |near| format!("did you mean \"{near}\"? "));
            let problem = format!(
                "this worker reads no topic \"{topic}\"; {hint}its inputs are {}",
                names.join(", ")
            );
            return Err(settings.invalid("paused_topics", problem));
        }
    }
    let subscriptions: Vec<_> = inputs.iter().map(|input| &input.subscription).collect();
    let mut topic_paces = BTreeMap::new();
    for (name, rules) in &settings.inputs {
        let input = rules::input_called(name, settings, &subscriptions)?;
        let Some(pace) = rules.max_records_per_second.and_then(NonZeroU32::new) else { continue };
        let Subscription::Topic(topic) = subscriptions[input] else {
            let problem = "only a single topic has a pace of its own, not a pattern; remove it, or \
                           set that of the worker, `max_records_per_second`";
            let key = format!("inputs.{name}.max_records_per_second");
            return Err(settings.invalid(&key, problem.to_owned()));
        };
        topic_paces.insert(topic.clone(), pace);
    }
    Ok(Live {
        paused_topics: settings.paused_topics.iter().cloned().collect(),
        max_records_per_second: settings.pace(),
        topic_paces,
    })
}

/// Past half of max.poll.interval the broker may give kept partitions away without a word.
fn release_timeout(settings: &Settings) -> Duration {
    let drain = settings.effective_drain_timeout();
    let half = settings.max_poll_interval() / 2;
    (drain + Duration::from_secs(10))
        .min(half.saturating_sub(Duration::from_millis(500)).max(drain))
}

/// A frozen process must find its old outputs dead when it wakes, so they don't outlive half of
/// its session; nor the time between a drain's deadline and its release, so that none arrives
/// behind the next owner's. At least a second, or a busy broker would be taken for a dead one.
fn message_timeout(settings: &Settings) -> Duration {
    let after_drain = release_timeout(settings) - settings.effective_drain_timeout();
    (settings.session_timeout() / 2)
        .min(Duration::from_millis(7_500))
        .min(after_drain)
        .max(Duration::from_secs(1))
}

pub(super) fn client_settings(settings: &Settings, group: &str, name: &str) -> ClientSettings {
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
        memory: MemoryShares::of(settings),
        credentials: Arc::default(),
        pass_through: settings.kafka.clone(),
        refusals: Arc::default(),
        tokens: None,
    }
}

/// Consent and `message.timeout.ms` are a third and half a session: what is sent does not outlive it,
/// and the last heartbeat may have been a sixth before the commit.
pub(super) fn gate_limits(settings: &Settings) -> GateLimits {
    let session = settings.session_timeout();
    let broker_owns_the_session = settings.group_protocol == GroupProtocol::Consumer;
    GateLimits {
        silence: (session / 2).min(Duration::from_secs(3)),
        consent: broker_owns_the_session.then_some(session / 3),
    }
}
