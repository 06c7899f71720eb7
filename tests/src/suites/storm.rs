//! Workers come and go all the time while every record takes long: nobody is evicted, nothing is
//! lost or repeated, and soon after the last change the group is as fast as before.

use std::time::Duration;

use pelton_testkit::ledger::Entry;

use crate::rig::{LoadPlan, Moment, Outcome, Pace, Protocol, Rig, RigPlan};
use crate::suites::Round;
use crate::waiting::Deadline;
use crate::{ClusterError, GroupLog, KafkaCluster};

/// What every record takes.
pub const EACH: Duration = Duration::from_millis(200);

/// Of the input. Each handles 5 records/s: 120 in all.
const PARTITIONS: i32 = 24;

/// Records/s: 60 % of what the group can do. The fullest partition gets 70 % of what it can do.
const RATE: u32 = 72;

/// So many workers run at the least and at the most; one that was asked to end counts no more.
const FLEET: std::ops::RangeInclusive<usize> = 3..=8;

/// The time of one join or leave: 50 in 60 s.
const CHANGE: Duration = Duration::from_millis(1_200);

/// From then on after the last change the group is as fast as before.
const SETTLED: Duration = Duration::from_secs(10);

/// Over so long rates are measured.
const WINDOW: Duration = Duration::from_secs(5);

/// Everything is handled after the load's end within so long.
const HANDLED: Duration = Duration::from_secs(60);

/// What a run showed.
#[derive(Debug)]
pub struct Shown {
    /// What became of the records.
    pub outcome: Outcome,
    /// What the coordinator did with the group.
    pub group: GroupLog,
    /// Partitions that a worker lost.
    pub lost: usize,
    /// Workers that came, and went, in the storm.
    pub joins: u32,
    /// See `joins`.
    pub leaves: u32,
    /// Records done a second: before the storm, in it, and from 10 s after its last change on.
    pub rates: [f64; 3],
    /// From the last change to the end of the first 2 s with 95 % of the load's rate.
    pub back: Option<Duration>,
    /// The longest time in the storm in which a partition had no record done.
    pub silence: Duration,
}

/// The workers of these runs, with the default session of 15 s.
#[must_use]
pub fn plan(protocol: Protocol) -> RigPlan {
    let plan = RigPlan { protocol, each: EACH, slow_one_in: 0, ..RigPlan::default() };
    RigPlan { partitions: PARTITIONS, ..plan }.with("SESSION_TIMEOUT_MS", "15000")
}

/// Runs 5 processes over 24 partitions at 72 records/s of 200 ms each; then, `changes` times at
/// one every 1.2 s, a worker is started or a random one asked to end, whether or not the group
/// has dealt with the changes before, and between 3 and 8 run.
///
/// # Errors
///
/// If the run can't be carried out, or a worker does not end in order; what it shows is in
/// [`Shown`].
pub fn run(kafka: &KafkaCluster, plan: RigPlan, changes: u32) -> Result<Shown, ClusterError> {
    let rig = Rig::new(kafka, plan)?;
    let mut fleet = rig.fleet();
    fleet.start(5)?;
    let load = rig.load(LoadPlan::evenly(RATE.into()))?;
    rig.wait_until_begun(HANDLED)?;
    rig.wait_until_caught_up(HANDLED)?;
    let calm = Moment::now();
    std::thread::sleep(WINDOW);

    let begun = Moment::now();
    let (mut joins, mut leaves) = (0, 0);
    for _ in 0..changes {
        let due = Deadline::after(CHANGE);
        let may_grow = fleet.len() < *FLEET.end();
        if fleet.len() <= *FLEET.start() || (may_grow && fleet.random().is_multiple_of(2)) {
            fleet.launch(&[])?;
            joins += 1;
        } else {
            fleet.dismiss_any()?;
            leaves += 1;
        }
        fleet.check_alive()?;
        std::thread::sleep(due.left());
    }
    let ended = Moment::now();
    std::thread::sleep(SETTLED + WINDOW);
    fleet.wait_for_the_dismissed()?;
    fleet.check_alive()?;
    load.stop()?;
    rig.wait_until_handled(HANDLED)?;
    let group = kafka.group_log(&rig.names().group)?;
    let outcome = rig.finish(fleet)?;

    let ledger = rig.ledger()?;
    let is_loss = |entry: &Entry| matches!(entry, Entry::Lost { .. });
    let pace = Pace::of(&ledger);
    let rates = [
        pace.per_second(calm, WINDOW),
        pace.per_second(begun, ended.since(begun)),
        pace.per_second(ended + SETTLED, WINDOW),
    ];
    Ok(Shown {
        outcome,
        group,
        lost: ledger.lines().iter().filter(|line| is_loss(&line.entry)).count(),
        joins,
        leaves,
        rates,
        back: pace.reaches(f64::from(RATE) * 0.95, ended, Duration::from_secs(2)),
        silence: pace.longest_silence(begun, ended),
    })
}

impl Shown {
    /// Was nobody evicted, nothing lost or repeated, and the group as fast as before within 10 s?
    #[must_use]
    pub fn is_kept(&self) -> bool {
        let nobody_evicted = self.group.evictions() == 0 && self.lost == 0;
        let [_, _, after] = self.rates;
        let is_back = after >= f64::from(RATE) * 0.95 && self.back.is_some_and(|b| b <= SETTLED);
        nobody_evicted && self.outcome.is_exact() && is_back
    }
}

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { outcome, group, lost, joins, leaves, rates, back, silence } = self;
        let [before, during, after] = rates;
        writeln!(
            f,
            "{joins} joins, {leaves} leaves, {} rebalances, {} evictions, {lost} partitions lost; \
             {before:.1} records/s before, {during:.1} during, {after:.1} from 10 s after on; 95 % \
             of {RATE} records/s {back:.1?} after the last change; longest silence of a partition \
             {silence:.1?}",
            group.rebalances(),
            group.evictions(),
        )?;
        if group.evictions() > 0 {
            write!(f, "{group}")?;
        }
        write!(f, "{outcome}")
    }
}

/// A round of the long form: 50 changes in 60 s.
pub(crate) fn round(
    kafka: &KafkaCluster,
    protocol: Protocol,
    seed: u64,
) -> Result<Round, ClusterError> {
    let shown = run(kafka, plan(protocol).seeded(seed), 50)?;
    let mut round = Round::of(&shown.outcome, shown.is_kept())
        .without_times()
        .measuring("last change to 95 % of the rate", shown.back)
        .measuring("longest silence of a partition", [shown.silence])
        .counting("joins", shown.joins.into())
        .counting("leaves", shown.leaves.into())
        .counting("rebalances", shown.group.rebalances())
        .counting("evictions", shown.group.evictions())
        .counting("partitions lost", u64::try_from(shown.lost).unwrap_or(u64::MAX));
    round.text = shown.to_string();
    Ok(round)
}
