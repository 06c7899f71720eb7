//! The network between workers and brokers fails under load, and heals: nothing is lost, what was
//! left lying is worked off, no partition stays behind, and no worker ends.

use std::fmt;
use std::time::Duration;

use pelton_testkit::ledger::Cause;

use crate::rig::{Fleet, LoadPlan, Outcome, Protocol, Rig, RigPlan, Steps, WorkerProcess};
use crate::suites::Round;
use crate::suites::spell::{self, Spell, Trouble};
use crate::waiting::{Stopwatch, patiently};
use crate::{ClusterError, KafkaCluster};

/// Proxies before the nodes: half of the workers come through each.
pub const PROXIES: usize = 2;

/// Of each run.
const WORKERS: usize = 4;

/// After the network has healed everything flows again, and nothing is left lying, within so long.
const DRAINED: Duration = Duration::from_secs(90);

/// The load goes on for so long after that.
const CALM: Duration = Duration::from_secs(2);

/// Longer than the session of these runs (6 s).
const LONG: Duration = Duration::from_secs(8);

/// Shorter than it.
const SHORT: Duration = Duration::from_secs(2);

/// What a run showed.
#[derive(Debug)]
pub struct Shown {
    /// What became of the records.
    pub outcome: Outcome,
    /// What was done, in order.
    pub told: Vec<Told>,
}

/// A spell that was carried out.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// What was done.
    pub spell: Spell,
    /// Connections that it has reset.
    pub reset: usize,
    /// How long after it everything that lay there was handled and committed.
    pub drained: Duration,
}

/// The workers of these runs.
#[must_use]
pub fn plan(protocol: Protocol) -> RigPlan {
    RigPlan { protocol, ..RigPlan::default() }
}

/// Starts workers, by turns behind each proxy, and waits until each is in the group.
pub(crate) fn start(
    fleet: &mut Fleet,
    kafka: &KafkaCluster,
    count: usize,
) -> Result<(), ClusterError> {
    for _ in 0..count {
        launch(fleet, kafka)?;
    }
    let mut started = fleet.workers().iter().rev().take(count);
    started.try_for_each(WorkerProcess::wait_until_joined)
}

/// Starts one worker, behind the next proxy, and does not wait.
pub(crate) fn launch(fleet: &mut Fleet, kafka: &KafkaCluster) -> Result<(), ClusterError> {
    let proxies = kafka.proxies().len().max(1);
    let addresses = kafka.proxy(fleet.started() % proxies)?.addresses();
    fleet.launch(&[("BOOTSTRAP_SERVERS", &addresses)]).map(|_| ())
}

/// Runs 4 processes over 6 partitions at 2,000 records/s, two behind each proxy, and lets the
/// network be bad in all these ways, one after the other. After each it heals, and everything that
/// lay there then is handled before the next.
///
/// # Errors
///
/// If the run can't be carried out, a worker ends, or the backlog does not drain; what it shows
/// is in [`Shown`].
pub fn run(kafka: &KafkaCluster, plan: RigPlan, spells: &[Spell]) -> Result<Shown, ClusterError> {
    let rig = Rig::new(kafka, plan)?;
    let mut fleet = rig.fleet();
    start(&mut fleet, kafka, WORKERS)?;
    let load = rig.load(LoadPlan::at_rate(2_000))?;
    rig.wait_until_begun(DRAINED)?;
    rig.wait_until_caught_up(DRAINED)?;
    let mut told = Vec::new();
    for spell in spells {
        // Anywhere between two commits.
        std::thread::sleep(Duration::from_millis(200 + fleet.random() % 800));
        spell.begin(&rig)?;
        let lasted = spell.last(&rig, || fleet.random());
        let ended = spell.end(&rig)?;
        let (reset, watch) = (lasted? + ended, Stopwatch::start());
        rig.wait_until_caught_up(DRAINED)?;
        told.push(Told { spell: *spell, reset, drained: watch.elapsed() });
        fleet.check_alive()?;
        if spell.trouble == Trouble::Resets && reset == 0 {
            return Err(ClusterError::refused(
                spell.to_string(),
                "no connection was there to reset",
            ));
        }
    }
    std::thread::sleep(CALM);
    load.stop()?;
    let outcome = rig.finish(fleet)?;
    Ok(Shown { outcome, told })
}

/// What becomes of what was sent into a dead way?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// It arrives when the network has healed, however late: TCP sends it again.
    Arrives,
    /// It is gone with its connections, which are reset before the network heals.
    IsGone,
}

/// As [`run`], one spell, for the workers behind the first proxy, and longer than their session:
/// the input runs dry in it, and the others finish it. So everything has its last value before the
/// network heals, and nothing covers up what those who were cut off may do to it afterwards.
///
/// # Errors
///
/// As [`run`].
pub fn run_dry(
    kafka: &KafkaCluster,
    plan: RigPlan,
    trouble: Trouble,
    held: Held,
) -> Result<Shown, ClusterError> {
    let rig = Rig::new(kafka, plan)?;
    let mut fleet = rig.fleet();
    start(&mut fleet, kafka, WORKERS)?;
    let load = rig.load(LoadPlan::at_rate(2_000))?;
    rig.wait_until_begun(DRAINED)?;
    rig.wait_until_caught_up(DRAINED)?;
    std::thread::sleep(Duration::from_millis(200 + fleet.random() % 800));
    let spell = Spell::of(trouble, LONG).behind(0);
    spell.begin(&rig)?;
    std::thread::sleep(LONG / 4);
    load.stop()?;
    rig.wait_until_handled(DRAINED)?;
    std::thread::sleep(CALM);
    let reset = if held == Held::IsGone { spell.reset_all(kafka)? } else { 0 };
    spell::heal(&rig)?;
    let watch = Stopwatch::start();
    let back = steps_of_those_behind(&fleet, 0)?;
    for (worker, steps, healed) in back {
        patiently(&format!("{worker}, healed: its loss"), DRAINED, || {
            let lost = steps.have("lost", 0).map_err(|error| error.to_string())?;
            let assigned = steps.have("assigned", healed).map_err(|error| error.to_string())?;
            (lost && assigned).then_some(()).ok_or_else(|| "not yet".to_owned())
        })?;
    }
    let drained = watch.elapsed();
    std::thread::sleep(CALM);
    fleet.check_alive()?;
    let outcome = rig.finish(fleet)?;
    Ok(Shown { outcome, told: vec![Told { spell, reset, drained }] })
}

/// What the workers behind a proxy do, and how much of it they have written down so far.
fn steps_of_those_behind(
    fleet: &Fleet,
    proxy: usize,
) -> Result<Vec<(String, Steps, u64)>, ClusterError> {
    let behind = fleet.workers().iter().skip(proxy).step_by(PROXIES);
    let steps = |worker: &WorkerProcess| {
        let steps = worker.steps();
        let end = steps.end()?;
        Ok((worker.name().to_owned(), steps, end))
    };
    behind.map(steps).collect()
}

impl Shown {
    /// Was nothing lost, and was every repeat caused by the network?
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.outcome.repeats_only_by(&[Cause::Network])
    }

    /// The same, whatever the last values are.
    fn is_kept_but_for_last_values(&self) -> bool {
        let ledger = &self.outcome.ledger;
        ledger.is_clean()
            && ledger.repeats.iter().all(|repeat| repeat.cause == Some(Cause::Network))
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Told { spell, reset, drained } in &self.told {
            write!(f, "{spell}")?;
            if *reset > 0 {
                write!(f, ", {reset} connections reset")?;
            }
            writeln!(f, ": drained {drained:.1?} after it")?;
        }
        write!(f, "{}", self.outcome)
    }
}

/// The short form of dead ways, in each direction: some are cut off past their session, and others
/// take over; then all are, but not for so long.
#[must_use]
pub fn dead_ways() -> Vec<Spell> {
    vec![
        Spell::of(Trouble::DeafBroker, LONG).behind(0),
        Spell::of(Trouble::MuteBroker, LONG).behind(1),
        Spell::of(Trouble::DeafBroker, SHORT),
    ]
}

/// The short form of everything else that may be wrong, for all.
#[must_use]
pub fn bad_ways() -> Vec<Spell> {
    let short = [(Trouble::Resets, 4), (Trouble::Late, 5), (Trouble::Narrow, 3)];
    short.map(|(trouble, seconds)| Spell::of(trouble, Duration::from_secs(seconds))).into()
}

/// What a round of the long form of a suite does: for some workers, for all; on the way to all
/// brokers, to one of them.
fn long(troubles: &[Trouble], lengths: &[Duration], lot: u64) -> Vec<Spell> {
    let broker = i32::try_from(lot % 3).unwrap_or(0) + 1;
    let proxy = usize::try_from(lot / 3 % 2).unwrap_or(0);
    let mut spells = Vec::new();
    for trouble in troubles {
        for length in lengths {
            let all = Spell::of(*trouble, *length);
            spells.extend([all.behind(proxy), all, all.at(broker)]);
        }
    }
    spells
}

/// A round of the long form of an input that runs dry while some are cut off, in each direction.
///
/// Where what they had sent arrives in the end, last values may be too low (`docs/guarantees.md`,
/// "One owner"): they are counted, and not held against it.
pub(crate) fn round_dry(
    kafka: &KafkaCluster,
    protocol: Protocol,
    held: Held,
    seed: u64,
) -> Result<Round, ClusterError> {
    let run = |trouble| run_dry(kafka, plan(protocol).seeded(seed), trouble, held);
    let (deaf, mute) = (run(Trouble::DeafBroker)?, run(Trouble::MuteBroker)?);
    let passed = [&deaf, &mute].into_iter().all(|shown| match held {
        Held::IsGone => shown.is_kept(),
        Held::Arrives => shown.is_kept_but_for_last_values(),
    });
    let mut round =
        Round::of(&deaf.outcome, passed).plus(&Round::of(&mute.outcome, true)).without_times();
    round.text = format!("{deaf}\n{mute}");
    Ok(round.counting("spells", 2))
}

/// A round of the long form of a suite.
pub(crate) fn round(
    kafka: &KafkaCluster,
    protocol: Protocol,
    troubles: &[Trouble],
    seed: u64,
) -> Result<Round, ClusterError> {
    let millis = |from: u64, span: u64| Duration::from_millis(from + seed / 6 % span);
    let dead = troubles.contains(&Trouble::DeafBroker) || troubles.contains(&Trouble::MuteBroker);
    // Dead ways: shorter than the session, and from just past it to more than two of them.
    let lengths = if dead {
        vec![millis(2_000, 2_000), millis(7_000, 7_000)]
    } else {
        vec![millis(20_000, 1)]
    };
    let spells = long(troubles, &lengths, seed);
    let shown = run(kafka, plan(protocol).seeded(seed), &spells)?;
    let reset = shown.told.iter().map(|told| told.reset).sum::<usize>();
    let mut round = Round::of(&shown.outcome, shown.is_kept())
        .without_times()
        .measuring("healed to drained", shown.told.iter().map(|told| told.drained))
        .measuring(
            "zombie window",
            shown.outcome.ledger.zombie_windows.iter().map(|window| window.length),
        )
        .counting("spells", u64::try_from(shown.told.len()).unwrap_or(u64::MAX));
    if reset > 0 {
        round = round.counting("connections reset", u64::try_from(reset).unwrap_or(u64::MAX));
    }
    round.text = shown.to_string();
    Ok(round)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_round_hits_some_workers_all_of_them_and_one_broker() {
        let spells = long(&[Trouble::DeafBroker], &[SHORT, LONG], 4);
        let told: Vec<_> = spells.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "deaf-broker for 2.0 s behind proxy 1",
                "deaf-broker for 2.0 s",
                "deaf-broker for 2.0 s at broker 2",
                "deaf-broker for 8.0 s behind proxy 1",
                "deaf-broker for 8.0 s",
                "deaf-broker for 8.0 s at broker 2",
            ]
        );
    }
}
