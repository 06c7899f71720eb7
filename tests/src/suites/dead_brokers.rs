//! Workers are asked to end while every broker is dead: they can neither deliver, nor commit, nor
//! leave their group, and end in time all the same, in order.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use pelton_testkit::ledger::Cause;

use crate::rig::{Ended, LoadPlan, Outcome, Protocol, Rig, RigPlan};
use crate::suites::Round;
use crate::{ClusterError, KafkaCluster};

/// `shutdown_timeout` of the short runs.
pub const SHORT: Duration = Duration::from_secs(5);

/// The default `shutdown_timeout`.
pub const DEFAULT: Duration = Duration::from_secs(25);

/// A worker ends within its `shutdown_timeout` and so long.
const GRACE: Duration = Duration::from_secs(2);

/// When workers are asked to end, from the brokers' death on: with outputs just sent, waiting,
/// timed out (after 3 s, half a session), and found undeliverable more than once.
const MOMENTS: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(400),
    Duration::from_millis(1_500),
    Duration::from_millis(4_000),
    Duration::from_millis(5_000),
];

/// The exit code of a worker that could not end in good order in time (PLT-0503).
const TOO_LATE: i32 = 5;

/// The brokers are back, and everything is handled, within so long.
const RECOVERED: Duration = Duration::from_secs(90);

/// How brokers die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// SIGKILL: connections break, nobody listens.
    Killed,
    /// SIGSTOP: connections stand, nobody answers.
    Frozen,
}

/// What a run showed.
#[derive(Debug)]
pub struct Shown {
    /// How each worker ended.
    pub ended: Vec<Ended>,
    /// What became of the records, once the brokers were back and new workers had finished.
    pub outcome: Outcome,
    limit: Duration,
}

/// Runs as many processes as there are moments, over 6 partitions, gives them more than they can
/// handle at once, lets every broker die, and asks the workers to end at their moments. Then the
/// brokers come back on their data, and new workers finish what is left.
///
/// # Errors
///
/// If the run can't be carried out; what it shows is in [`Shown`].
pub fn run(
    kafka: &KafkaCluster,
    protocol: Protocol,
    shutdown_timeout: Duration,
    death: Death,
) -> Result<Shown, ClusterError> {
    // About 1,000 records/s in all.
    let slow = Duration::from_millis(120);
    let timeout = ("SHUTDOWN_TIMEOUT".to_owned(), format!("{}s", shutdown_timeout.as_secs()));
    let settings = vec![timeout];
    let plan = RigPlan { protocol, slow_one_in: 10, slow, settings, ..RigPlan::default() };
    let rig = Rig::new(kafka, plan)?;
    let mut fleet = rig.fleet();
    fleet.start(MOMENTS.len())?;
    let load = rig.load(LoadPlan::at_rate(4_000))?;
    rig.wait_until_begun(RECOVERED)?;
    std::thread::sleep(Duration::from_secs(2));
    load.stop()?;
    fleet.check_alive()?;

    let nodes = 1..=i32::try_from(kafka.node_count()).unwrap_or(1);
    for node in nodes.clone() {
        rig.kill_broker(node, || match death {
            Death::Killed => kafka.kill(node),
            Death::Frozen => kafka.suspend(node),
        })?;
    }
    let ended = fleet.terminate_at(&MOMENTS, shutdown_timeout * 2 + GRACE);
    for node in nodes {
        match death {
            Death::Killed => kafka.start_node(node)?,
            Death::Frozen => kafka.resume(node)?,
        }
    }
    let ended = ended?;
    kafka.wait_until_ready()?;
    let mut fleet = fleet.unhindered();
    fleet.start(3)?;
    let outcome = rig.finish(fleet)?;
    Ok(Shown { ended, outcome, limit: shutdown_timeout + GRACE })
}

impl Shown {
    /// Did every worker end in time, by itself, saying why, and was nothing lost?
    #[must_use]
    pub fn is_kept(&self) -> bool {
        let causes = [Cause::BrokerKill, Cause::CancelledDrain, Cause::CommitNotAccepted];
        self.ended.iter().all(|ended| self.is_in_order(ended))
            && self.outcome.repeats_only_by(&causes)
    }

    fn is_in_order(&self, ended: &Ended) -> bool {
        ended.after <= self.limit && ended.status.code() == Some(TOO_LATE)
    }
}

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for ended in &self.ended {
            writeln!(f, "{} ended after {:.2?}: {}", ended.name, ended.after, ended.status)?;
        }
        write!(f, "{}", self.outcome)?;
        for ended in self.ended.iter().filter(|ended| !self.is_in_order(ended)) {
            write!(f, "\nthe log of {}:\n{}", ended.name, ended.log)?;
        }
        Ok(())
    }
}

/// A round of the long form: five workers with dead brokers, five with frozen ones.
pub(crate) fn round(
    kafka: &KafkaCluster,
    protocol: Protocol,
    shutdown_timeout: Duration,
) -> Result<Round, ClusterError> {
    let killed = run(kafka, protocol, shutdown_timeout, Death::Killed)?;
    let frozen = run(kafka, protocol, shutdown_timeout, Death::Frozen)?;
    let ended = || killed.ended.iter().chain(&frozen.ended);
    let signals = ended().filter(|ended| ended.status.signal().is_some()).count();
    let mut round = Round::of(&killed.outcome, killed.is_kept() && frozen.is_kept())
        .plus(&Round::of(&frozen.outcome, true))
        .without_times()
        .measuring("SIGTERM to end", ended().map(|ended| ended.after))
        .counting("SIGTERMs", u64::try_from(ended().count()).unwrap_or(u64::MAX))
        .counting("deaths by a signal", u64::try_from(signals).unwrap_or(u64::MAX));
    round.text = format!("killed:\n{killed}\nfrozen:\n{frozen}");
    Ok(round)
}
