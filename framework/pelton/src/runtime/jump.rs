//! Where does a partition go on whose position is not in its log? As `on_out_of_range` says.
//!
//! Kafka is asked what the log holds; the policy decides; and it is never silent: a line in the
//! log, two counters, the status.

use pelton_engine::{LogRange, Offset, OutOfRange, RangeCause};

use crate::admin::JumpStatus;
use crate::error::WorkerError;
use crate::ports::PortError;
use crate::runtime::prepare::{Preparing, Trouble};
use crate::topic_partition::TopicPartition;

/// Decides where to go on. `recreated`: the position belongs to another topic of that name.
///
/// # Errors
///
/// If Kafka does not say what the log holds; or, for good, if people are to decide.
pub(super) async fn jump(
    preparing: &Preparing<'_>,
    position: i64,
    recreated: bool,
) -> Result<JumpStatus, Trouble> {
    let Preparing { shared, partition, metrics, .. } = preparing;
    let (low, end) = shared.admin.offsets(partition).await?;
    if end < low {
        let unknown = format!("the log of {partition} is said to hold {low} to {end}");
        return Err(PortError::passing(unknown).into());
    }
    let log = LogRange { low: Offset(low), end: Offset(end) };
    let found = OutOfRange::find(Offset(position), log, recreated);
    metrics.out_of_range.increment(1);
    let Some(jump) = found.go_on(shared.plan.out_of_range) else {
        return Err(refusal((*partition).clone(), &found).into());
    };
    metrics.skipped_records.increment(jump.skipped);
    let jump = JumpStatus {
        cause: found.cause.to_string(),
        position,
        log_start: low,
        log_end: end,
        gap_records: found.gap(),
        went_on_at: jump.to.0,
        skipped_records: jump.skipped,
    };
    tracing::warn!(
        %partition,
        cause = jump.cause,
        position,
        log_start = low,
        log_end = end,
        gap_records = jump.gap_records,
        went_on_at = jump.went_on_at,
        skipped_records = jump.skipped_records,
        "the partition's position was out of range; it goes on elsewhere, as on_out_of_range says"
    );
    Ok(jump)
}

/// The error that asks people.
fn refusal(partition: TopicPartition, found: &OutOfRange) -> WorkerError {
    let offset = found.position.0;
    if found.cause == RangeCause::Recreated {
        return WorkerError::TopicRecreated { partition, offset };
    }
    let (low, high) = (found.log.low.0, found.log.end.0);
    WorkerError::OutOfRange { partition, offset, low, high, reason: reason(found) }
}

fn reason(found: &OutOfRange) -> String {
    let (gap, cause) = (found.gap(), found.cause);
    match cause {
        RangeCause::Deleted => format!("{gap} {cause}"),
        RangeCause::Truncated => format!("it ends {gap} offsets before that: {cause}"),
        RangeCause::Rewritten | RangeCause::Recreated => cause.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_says_how_large_the_gap_is_and_the_ways_out() {
        for (position, says) in [
            (100, "the log holds 120 to 150; 20 records were deleted before they were read; set"),
            (170, "the log holds 120 to 150; it ends 20 offsets before that: the log was trunc"),
            (130, "the log holds 120 to 150; the log was truncated, or the topic recreated, and"),
        ] {
            let log = LogRange { low: Offset(120), end: Offset(150) };
            let found = OutOfRange::find(Offset(position), log, false);
            let error = refusal(TopicPartition::new("logins", 0), &found).to_string();
            assert!(error.contains(says), "{error}");
            assert!(error.contains("on_out_of_range") && error.contains("--reset-offsets"));
        }
    }
}
