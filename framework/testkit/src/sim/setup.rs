//! With what is a worker of a plan set up? Its settings, its clients, and what it declares.

use std::sync::Arc;
use std::time::Duration;

use pelton::Ordering;
use pelton::config::{AssignmentStrategy, AutoOffsetReset, GroupProtocol, OnOutOfRange, Settings};

use super::plan::Plan;
use super::subject::Subject;
use crate::model::{Assignor, ClientPlan, FetchConfig, MemberConfig, MemberFaults, ProducerConfig};

const SECOND: Duration = Duration::from_secs(1);

/// What librdkafka's members do now and then. An answer is not lost without a request, a connection
/// or a broker that is: those are faults, which the ledger knows.
const ODD: MemberFaults = MemberFaults {
    late_event: 4,
    event_delay: Duration::from_secs(2),
    stalled_assignment: 12,
    stall: Duration::from_secs(3),
    late_answer: 0,
    answer_delay: Duration::ZERO,
    lost_answer: 0,
    tells_only_confirmed: false,
    keeps_what_is_void: false,
};

/// What a worker declares.
#[derive(Debug, Default)]
pub(super) struct Declared {
    /// What it reads and writes.
    pub(super) topics: Vec<String>,
    pub(super) inputs: Vec<String>,
    pub(super) group: String,
    pub(super) ordering: Ordering,
}

/// Asks a worker that is never started.
///
/// # Errors
///
/// Why it can't be built.
pub(super) fn declared(subject: &Subject, plan: &Plan) -> Result<Declared, String> {
    let mut app = (subject.app)(plan);
    app.settings(settings(plan, "nobody"));
    let (worker, _handle) =
        app.build().map_err(|error| format!("the worker can't be built: {error}"))?;
    let (topics, inputs) = (worker.topics(), worker.input_topics());
    let (group, ordering) = (worker.group_id().to_owned(), worker.ordering());
    Ok(Declared { topics, inputs, group, ordering })
}

/// The settings of the worker called `name`.
pub(super) fn settings(plan: &Plan, name: &str) -> Settings {
    let mut settings = Settings::default();
    "simulated:9092".clone_into(&mut settings.bootstrap_servers);
    settings.group_protocol = plan.protocol;
    settings.assignment_strategy = plan.strategy;
    settings.group_instance_id = plan.is_static.then(|| name.to_owned());
    settings.auto_offset_reset = Some(AutoOffsetReset::Earliest);
    settings.commit_interval = plan.commit_interval;
    settings.drain_timeout = Some(plan.drain_timeout);
    settings.shutdown_timeout = plan.drain_timeout + SECOND * 10;
    settings.session_timeout_ms = millis(plan.session_timeout);
    settings.heartbeat_interval_ms = 1_000;
    settings.max_poll_interval_ms = 60_000;
    if plan.retention {
        settings.on_out_of_range = OnOutOfRange::Earliest;
    }
    settings.memory_budget_records = plan.budget_records;
    settings.admin.enabled = false;
    settings
}

/// How its clients are made: as `kafka/settings.rs` does it.
pub(super) fn clients(plan: &Plan, settings: &Settings, declared: &Declared) -> ClientPlan {
    let assignor = match (plan.protocol, plan.strategy) {
        (GroupProtocol::Classic, AssignmentStrategy::Range) => Assignor::Range,
        (GroupProtocol::Classic, AssignmentStrategy::RoundRobin) => Assignor::RoundRobin,
        (GroupProtocol::Classic, _) => Assignor::CooperativeSticky,
        _ => Assignor::Broker,
    };
    let topics: Vec<_> = declared.inputs.iter().map(String::as_str).collect();
    let member = MemberConfig {
        instance: settings.group_instance_id.as_deref().map(Arc::from),
        session_timeout: plan.session_timeout,
        heartbeat_interval: SECOND,
        rebalance_timeout: Duration::from_millis(u64::from(settings.max_poll_interval_ms)),
        faults: if plan.odd_clients { ODD } else { MemberFaults::default() },
        ..MemberConfig::new(&declared.group, assignor, &topics)
    };
    let fetch = FetchConfig {
        max_wait: Duration::from_millis(100),
        repeats: if plan.odd_clients { 30 } else { 0 },
        ..FetchConfig::default()
    };
    let restore = FetchConfig { tell_ends: true, read_committed: true, ..FetchConfig::default() };
    let message_timeout = Duration::from_millis(7_500).min(plan.session_timeout / 2);
    let producer =
        ProducerConfig { delivery_timeout: message_timeout, ..ProducerConfig::default() };
    ClientPlan { member, fetch, restore, producer }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
