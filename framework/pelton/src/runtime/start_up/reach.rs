//! Does Kafka answer, and if not, what is in the way?

use std::time::Duration;

use crate::error::WorkerError;
use crate::ports::{Admin, Host};
use crate::refusal::Refusal;
use crate::refusals::Refusals;
use crate::runtime::shared::Plan;

/// So long a first answer may take: whoever waits for the worker learns within 10 s what is wrong.
const REACH: Duration = Duration::from_secs(7);

/// Between two questions.
const AGAIN: Duration = Duration::from_millis(200);

/// Waits until Kafka answers. Returns the cluster's id, where it has one.
///
/// # Errors
///
/// What Kafka refuses for good (TLS, the login) at once; what is in the way otherwise after
/// [`REACH`].
pub(crate) async fn reach(
    plan: &Plan,
    admin: &dyn Admin,
    host: &dyn Host,
    refusals: &Refusals,
) -> Result<Option<String>, WorkerError> {
    let bootstrap_servers = &plan.bootstrap_servers;
    let deadline = host.now() + REACH;
    loop {
        if let Some(id) = admin.cluster_id().await {
            refusals.clear(); // of some brokers, or before they were ready
            return Ok(Some(id));
        }
        if let Some(error) = refusals.lasting(bootstrap_servers) {
            return Err(error);
        }
        if host.now() >= deadline {
            let nothing = || Refusal::Unreachable.error(bootstrap_servers, "no answer in time");
            return Err(refusals.any(bootstrap_servers).unwrap_or_else(nothing));
        }
        host.sleep(AGAIN).await;
    }
}
