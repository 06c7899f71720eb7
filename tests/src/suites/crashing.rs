//! Some records kill the process that handles them, among others that only fail: each ends in the
//! dead letters with the bytes it had, after a few deaths, and every other record is done, in order.

use std::fmt;
use std::time::Duration;

use pelton::Ordering;
use pelton_testkit::ledger::Cause;

use crate::rig::{
    DeadLetters, Deaths, LoadPlan, Outcome, Poison, Protocol, Rig, RigPlan, Supervisor,
};
use crate::suites::{Round, poisoned};
use crate::{Cluster, ClusterError, KafkaCluster};

/// `DeadLetters::max_deaths`, where nobody says otherwise.
pub const MAX_DEATHS: u32 = 3;

/// A worker's address space: more than it ever needs, and nothing that the machine would miss.
const ADDRESS_SPACE_KIB: u64 = 2 * 1024 * 1024;

/// Each death costs a session, a rebalance and a careful beginning.
const PER_DEATH: Duration = Duration::from_secs(30);

/// How many records, and which of them are poisoned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// In all.
    pub records: u64,
    /// So many a second.
    pub rate: u64,
    /// Of them fail always.
    pub poisoned: u64,
    /// Of those abort their process.
    pub abort: u64,
    /// Of those exhaust its memory.
    pub memory: u64,
}

impl Size {
    /// For `cargo test`.
    pub const SHORT: Self = Self { records: 4_000, rate: 1_000, poisoned: 20, abort: 1, memory: 1 };

    /// For `cargo chaos`.
    pub const LONG: Self =
        Self { records: 100_000, rate: 2_000, poisoned: 100, abort: 4, memory: 2 };

    /// Just enough that one kills.
    pub const ONE: Self = Self { records: 1_000, rate: 1_000, poisoned: 1, abort: 1, memory: 0 };

    fn load(self) -> LoadPlan {
        LoadPlan {
            even: true,
            records: self.records,
            poison_one_in: self.records / self.poisoned.max(1),
            abort_one_in: self.poisoned.checked_div(self.abort).unwrap_or(0),
            memory_one_in: self.poisoned.checked_div(self.memory).unwrap_or(0),
            ..LoadPlan::at_rate(self.rate)
        }
    }

    /// Nobody waits longer for the end of a run.
    fn patience(self) -> Duration {
        let deaths = (self.abort + self.memory) * u64::from(MAX_DEATHS) + 4;
        PER_DEATH * u32::try_from(deaths).unwrap_or(u32::MAX)
    }
}

/// What a run showed.
#[derive(Debug)]
pub struct Shown {
    /// What became of the records; none where the run was given up, for a record had killed more than
    /// it may.
    pub outcome: Option<Outcome>,
    /// What became of the poisoned ones.
    pub letters: DeadLetters,
    /// Who died.
    pub deaths: Deaths,
}

/// The workers of these runs: as of [`poisoned`], with time for those beside one whose memory runs out.
#[must_use]
pub fn plan(ordering: Ordering) -> RigPlan {
    RigPlan {
        attempt_timeout: Some(Duration::from_millis(500)),
        ..poisoned::plan(Protocol::CooperativeSticky, ordering)
    }
}

/// Runs 3 processes over 8 partitions, each with a limit to its address space; who dies is started
/// again a second later.
///
/// # Errors
///
/// If the run can't be carried out; what it shows is in [`Shown`].
pub fn run<C: Cluster + ?Sized>(
    cluster: &C,
    plan: RigPlan,
    size: Size,
) -> Result<Shown, ClusterError> {
    let rig = Rig::new(cluster, plan)?;
    let shown = run_on(&rig, size);
    if !shown.as_ref().is_ok_and(Shown::is_kept) && rig.plan().plant.is_none() {
        rig.keep();
    }
    shown
}

fn run_on<C: Cluster + ?Sized>(rig: &Rig<'_, C>, size: Size) -> Result<Shown, ClusterError> {
    let limits = format!(r#"ulimit -c 0; ulimit -v {ADDRESS_SPACE_KIB} && exec "$@""#);
    let mut fleet = rig.fleet().by_shell(&limits);
    fleet.start(3)?;
    let load = rig.load(size.load())?;
    let mut supervisor = Supervisor::of(fleet, MAX_DEATHS);
    let sent = |_: &_| match load.sent() {
        sent if sent < size.records => Err(format!("{sent} of {} are sent", size.records)),
        _ => Ok(()),
    };
    let patience = size.patience();
    let mut goes_on = supervisor.until("all of the load", patience, sent)?;
    load.stop()?;
    if goes_on {
        goes_on = supervisor.until("everything handled", patience, |_| rig.check_handled())?;
    }
    let (outcome, deaths) = if goes_on {
        let (mut fleet, deaths) = supervisor.rest()?;
        fleet.terminate_all()?;
        (Some(rig.outcome()?), deaths)
    } else {
        (None, supervisor.deaths().clone())
    };
    Ok(Shown { outcome, letters: rig.dead_letters()?, deaths })
}

impl Shown {
    /// Each poisoned record is a dead letter, each that kills has killed, and not too many; every other
    /// record was done, in order, and repeated only for a death.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        let Self { outcome, letters, deaths } = self;
        let deadly = letters.poisoned.iter().filter(|(poison, _)| poison.is_deadly());
        let mut deadly = deadly.map(|(poison, many)| (*many, deaths.records(*poison)));
        outcome.as_ref().is_some_and(|outcome| outcome.repeats_only_by(&[Cause::Kill]))
            && letters.are_right()
            && deaths.unexplained.is_empty()
            && deadly.all(|(poisoned, have_killed)| poisoned == have_killed)
            && (1..=MAX_DEATHS).contains(&deaths.most())
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Some(outcome) => write!(f, "{outcome}")?,
            None => writeln!(f, "given up: a record has killed more than {MAX_DEATHS}")?,
        }
        write!(f, "{}\n{}", self.letters, self.deaths)
    }
}

/// A round of the long form.
pub(crate) fn round(
    kafka: &KafkaCluster,
    ordering: Ordering,
    seed: u64,
) -> Result<Round, ClusterError> {
    let shown = run(kafka, plan(ordering).seeded(seed), Size::LONG)?;
    let Shown { outcome, letters, deaths } = &shown;
    let round = outcome.as_ref().map(|outcome| Round::of(outcome, shown.is_kept()).without_times());
    let deadly = [Poison::Abort, Poison::Memory].map(|poison| deaths.records(poison));
    let mut round = round
        .unwrap_or_default()
        .counting("poisoned", letters.all_poisoned())
        .counting("dead letters", letters.letters)
        .counting("records that killed", deadly.iter().sum())
        .counting("deaths", deaths.processes.into());
    round.text = shown.to_string();
    Ok(round)
}
