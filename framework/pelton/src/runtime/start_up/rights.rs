//! May the worker do what it has to do with its topics?

use std::sync::Arc;

use crate::error::WorkerError;
use crate::ports::Admin;
use crate::refusal::{Operation, Resource, Right, missing_rights};
use crate::runtime::input::Input;
use crate::runtime::shared::Plan;

/// Which topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    Everything,
    Changelogs,
}

/// Topics, with what the worker does to each.
fn needs(plan: &Plan, of: Of) -> impl Iterator<Item = (Arc<str>, &'static [Operation])> {
    let all = of == Of::Everything;
    let inputs = plan.inputs.iter().filter_map(Input::topic).filter(move |_| all);
    let outputs = plan.outputs.iter().map(|output| Arc::clone(&output.topic));
    let outputs = outputs.filter(move |_| all);
    let changelogs = plan.stores.iter().filter_map(|store| store.changelog.clone());
    let read = inputs.map(|topic| (Arc::from(topic), &[Operation::Read][..]));
    let write = outputs.map(|topic| (topic, &[Operation::Write][..]));
    let both = changelogs.map(|topic| (topic, &[Operation::Read, Operation::Write][..]));
    read.chain(write).chain(both)
}

/// Names every right that is missing on topics that are there. Where Kafka doesn't say what is
/// allowed, the first use finds out.
pub(super) async fn check_rights(
    plan: &Plan,
    admin: &dyn Admin,
    of: Of,
) -> Result<(), WorkerError> {
    let mut missing = Vec::new();
    for (topic, operations) in needs(plan, of) {
        let rights = match admin.rights(&topic).await {
            Ok(Some(rights)) => rights,
            Ok(None) => continue,
            Err(error) => {
                tracing::debug!(%topic, %error, "its rights are not known");
                continue;
            }
        };
        let has = |operation: &Operation| match operation {
            Operation::Read => rights.read,
            Operation::Write => rights.write,
            Operation::Create | Operation::Describe | Operation::IdempotentWrite => true,
        };
        let lacks = operations.iter().filter(|operation| !has(operation));
        missing.extend(lacks.map(|operation| Right {
            operation: *operation,
            resource: Resource::Topic(Arc::clone(&topic)),
        }));
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(missing_rights(&missing, &plan.bootstrap_servers))
}
