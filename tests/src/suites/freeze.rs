//! Workers are frozen for longer than their session, and thaw: they know nothing yet of their
//! loss, and must not harm what their successors have done.

use std::ops::Range;
use std::time::Duration;

use pelton_testkit::ledger::Cause;

use crate::rig::{LoadPlan, Outcome, Protocol, Rig, RigPlan, Steps};
use crate::suites::Round;
use crate::waiting::patiently;
use crate::{Cluster, ClusterError, Deadline, KafkaCluster};

/// A frozen worker's partitions are taken over, and a thawed one is back, within so long.
const SETTLED: Duration = Duration::from_secs(60);

/// From just past the session of these runs (6 s) to more than two of them.
pub const LONG: Range<Duration> = Duration::from_millis(6_500)..Duration::from_millis(14_000);

/// From two of them to four.
pub const LONGER: Range<Duration> = Duration::from_secs(12)..Duration::from_secs(24);

/// Every user logs in many times while a worker is frozen: whatever it adds to is too old.
const FEW_USERS: LoadPlan = LoadPlan::at_rate(2_000);

/// Most users log in only a few times a minute: a total that is too old stays for long.
const MANY_USERS: LoadPlan = LoadPlan { users: 20_000, ..LoadPlan::at_rate(2_000) };

/// The workers of these runs: records that last long enough to be frozen with.
#[must_use]
pub fn plan(protocol: Protocol) -> RigPlan {
    let slow = Duration::from_millis(250);
    RigPlan { protocol, slow_one_in: 300, slow, ..RigPlan::default() }
}

/// Runs 3 processes over 6 partitions at 2,000 records/s and freezes a random one `freezes`
/// times, every other time in the middle of a record. Others take over; it thaws after a time
/// out of `lengths`, hears of its loss, and gets partitions again.
///
/// Two of four times the input runs dry while the worker is frozen, and its successors finish
/// it: then everything has its last value before the worker thaws, nothing covers up what it
/// may do to them, and the run is judged there and then. It ends with the first judgement that
/// is not [clean](Outcome::is_clean).
///
/// # Errors
///
/// If the run can't be carried out, or a thawed worker does not come back; what it shows is in
/// the [`Outcome`].
pub fn run<C: Cluster + ?Sized>(
    cluster: &C,
    plan: RigPlan,
    freezes: u32,
    lengths: Range<Duration>,
) -> Result<Outcome, ClusterError> {
    let rig = Rig::new(cluster, plan)?;
    let mut fleet = rig.fleet();
    fleet.start(3)?;
    for freeze in 0..freezes {
        let (mid_record, runs_dry) = (freeze % 2 == 0, freeze % 4 < 2);
        let load = rig.load(if runs_dry { FEW_USERS } else { MANY_USERS })?;
        rig.wait_until_begun(SETTLED)?;
        rig.wait_until_caught_up(SETTLED)?;
        let at = if mid_record { fleet.freeze_any_mid_record()? } else { fleet.freeze_any()? };
        let thaw = Deadline::after(between(&lengths, fleet.random()));
        let (steps, name) = (fleet.workers()[at].steps(), fleet.workers()[at].name().to_owned());
        let frozen_at = steps.end()?;
        if runs_dry {
            std::thread::sleep(thaw.left() / 2);
            load.stop()?;
            rig.wait_until_handled(SETTLED)?;
            std::thread::sleep(thaw.left());
            fleet.thaw(at)?;
            is_back(&steps, &name, frozen_at)?;
            let outcome = rig.outcome()?;
            if !outcome.is_clean() {
                return Ok(outcome);
            }
        } else {
            std::thread::sleep(thaw.left());
            fleet.thaw(at)?;
            is_back(&steps, &name, frozen_at)?;
            rig.wait_until_caught_up(SETTLED)?;
            load.stop()?;
        }
        fleet.check_alive()?;
    }
    rig.finish(fleet)
}

fn between(lengths: &Range<Duration>, random: u64) -> Duration {
    let span = lengths.end.saturating_sub(lengths.start);
    let share = u32::try_from(random % 1_000).unwrap_or(0);
    lengths.start + span * share / 1_000
}

/// Waits until a thawed worker has heard of its loss, and then of an assignment.
fn is_back(steps: &Steps, name: &str, frozen_at: u64) -> Result<(), ClusterError> {
    for kind in ["lost", "assigned"] {
        patiently(&format!("{name}, thawed: {kind}"), SETTLED, || {
            let found = steps.have(kind, frozen_at).map_err(|error| error.to_string())?;
            found.then_some(()).ok_or_else(|| "not yet".to_owned())
        })?;
    }
    Ok(())
}

/// Did a run keep its promise?
#[must_use]
pub fn is_kept(outcome: &Outcome) -> bool {
    outcome.repeats_only_by(&[Cause::Stop])
}

/// A round of the long form: five freezes, three of them mid-record.
pub(crate) fn round(
    kafka: &KafkaCluster,
    protocol: Protocol,
    lengths: Range<Duration>,
    seed: u64,
) -> Result<Round, ClusterError> {
    let freezes = 5;
    let outcome = run(kafka, plan(protocol).seeded(seed), freezes, lengths)?;
    Ok(Round::of(&outcome, is_kept(&outcome))
        .without_times()
        .measuring(
            "zombie window",
            outcome.ledger.zombie_windows.iter().map(|window| window.length),
        )
        .counting("freezes", freezes.into())
        .counting("freezes mid-record", freezes.div_ceil(2).into()))
}
