//! Everything at once: workers are killed and frozen, join and leave, brokers end and come back,
//! the network fails, in random subsets and with rests between; nothing is lost, and every repeat
//! has its fault.

mod schedule;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use pelton_testkit::ledger::Cause;

use crate::rig::{Ended, Fleet, LoadPlan, Outcome, Protocol, Rig, RigPlan};
use crate::suites::Round;
use crate::suites::network::{self, launch};
use crate::suites::spell::{Spell, Trouble};
use crate::waiting::{Deadline, Stopwatch};
use crate::{ClusterError, KafkaCluster};

pub use schedule::{Act, Deed, Storm, storms};

/// When all is quiet; in storms two to six.
const WORKERS: usize = 4;

/// In a storm.
const FEWEST: usize = 2;

/// In a storm.
const MOST: usize = 6;

/// After a storm everything flows again within so long.
const RECOVERED: Duration = Duration::from_secs(120);

/// Exit codes of who is asked to end: in order; and not in order, for Kafka could not be told in
/// time (PLT-0503); or before that, for it had not reached Kafka yet.
const ENDS: [i32; 3] = [0, 5, UNREACHABLE];

/// The exit code of who does not reach Kafka when it starts (PLT-0301).
const UNREACHABLE: i32 = 8;

/// What explains a repeat here.
const CAUSES: [Cause; 6] = [
    Cause::Kill,
    Cause::Stop,
    Cause::BrokerKill,
    Cause::Network,
    Cause::CancelledDrain,
    Cause::CommitNotAccepted,
];

/// What a run showed.
#[derive(Debug)]
pub struct Shown {
    /// What all random choices were made from.
    pub seed: u64,
    /// What became of the records.
    pub outcome: Outcome,
    /// What was to be done.
    pub storms: Vec<Storm>,
    /// What was done, by name.
    pub done: BTreeMap<&'static str, u64>,
    /// Per storm, from its end until nothing was left lying.
    pub drained: Vec<Duration>,
}

/// The workers of these runs.
#[must_use]
pub fn plan(protocol: Protocol) -> RigPlan {
    RigPlan { protocol, ..RigPlan::default() }
}

/// Runs 4 processes, two behind each of two proxies, over 6 partitions at 2,000 records/s on a
/// cluster of three nodes, and lets `count` storms pass over them, all of which follow from the
/// seed. After each all is made good, and everything that lay there is handled. `tell` hears of
/// each storm before it begins.
///
/// # Errors
///
/// If the run can't be carried out, a worker ends by itself, or the backlog does not drain; the
/// message names the seed and the storm. What it shows is in [`Shown`].
pub fn run(
    kafka: &KafkaCluster,
    plan: RigPlan,
    seed: u64,
    count: usize,
    tell: &dyn Fn(&str),
) -> Result<Shown, ClusterError> {
    let rig = Rig::new(kafka, plan.seeded(seed))?;
    let mut fleet = rig.fleet();
    network::start(&mut fleet, kafka, WORKERS)?;
    let load = rig.load(LoadPlan::at_rate(2_000))?;
    rig.wait_until_begun(RECOVERED)?;
    rig.wait_until_caught_up(RECOVERED)?;
    let storms = storms(seed, count);
    let mut nemesis = Nemesis { rig: &rig, fleet, frozen: None, down: None, done: BTreeMap::new() };
    let mut drained = Vec::new();
    for (number, storm) in (1..).zip(&storms) {
        tell(&format!("storm {number}: {storm}"));
        let passed = nemesis.storm(storm).and_then(|()| {
            let watch = Stopwatch::start();
            nemesis.all_is_well()?;
            drained.push(watch.elapsed());
            Ok(())
        });
        let what = |error| ClusterError::refused(format!("seed {seed}, storm {number}"), error);
        passed.map_err(what)?;
        std::thread::sleep(storm.rest);
    }
    load.stop()?;
    let Nemesis { fleet, done, .. } = nemesis;
    let outcome = rig.finish(fleet)?;
    Ok(Shown { seed, outcome, storms, done, drained })
}

/// Who does it all.
struct Nemesis<'a> {
    rig: &'a Rig<'a, KafkaCluster>,
    fleet: Fleet,
    /// A worker.
    frozen: Option<String>,
    /// A node.
    down: Option<i32>,
    done: BTreeMap<&'static str, u64>,
}

impl Nemesis<'_> {
    fn storm(&mut self, storm: &Storm) -> Result<(), ClusterError> {
        let clock = Stopwatch::start();
        let mut network = None;
        for deed in &storm.deeds {
            std::thread::sleep(deed.at.saturating_sub(clock.elapsed()));
            let done = self.act(deed.act, &mut network);
            done.map_err(|error| ClusterError::refused(deed.to_string(), error))?;
        }
        Ok(())
    }

    fn act(&mut self, act: Act, network: &mut Option<Spell>) -> Result<(), ClusterError> {
        let kafka = self.rig.cluster();
        self.replace_the_ended(FEWEST)?;
        match act {
            Act::Kill { lot, replace } => {
                if self.fleet.len() <= FEWEST || replace {
                    // At once, as by a supervisor.
                    launch(&mut self.fleet, kafka)?;
                }
                let at = self.any(lot);
                self.fleet.kill(at)?;
                self.count("kills");
            }
            Act::Freeze { lot } => {
                let at = self.any(lot);
                let name = self.fleet.workers().get(at).map(|worker| worker.name().to_owned());
                self.fleet.freeze(at)?;
                self.frozen = name;
                self.count("freezes");
            }
            Act::Thaw => self.thaw()?,
            Act::Join if self.fleet.len() < MOST => {
                launch(&mut self.fleet, kafka)?;
                self.count("joins");
            }
            Act::Join => {}
            Act::Leave { lot } => {
                if self.fleet.len() <= FEWEST {
                    launch(&mut self.fleet, kafka)?;
                    self.count("joins");
                }
                let at = self.any(lot);
                self.fleet.dismiss(at)?;
                self.count("leaves");
            }
            Act::BrokerDown { node, gently: true } => {
                kafka.stop(node)?;
                self.down = Some(node);
                self.count("brokers asked to end");
            }
            Act::BrokerDown { node, gently: false } => {
                self.rig.kill_broker(node, || kafka.kill(node))?;
                self.down = Some(node);
                self.count("brokers killed");
            }
            Act::BrokerUp { node } => {
                kafka.start_node(node)?;
                self.down = None;
            }
            Act::Network(spell) if spell.meets(kafka)? == 0 => self.count("spells that met nobody"),
            Act::Network(spell) => {
                spell.begin(self.rig)?;
                *network = Some(spell);
                self.count(match spell.trouble {
                    Trouble::DeafBroker => "deaf brokers",
                    Trouble::MuteBroker => "mute brokers",
                    Trouble::Resets => "times of resets",
                    Trouble::Late => "late networks",
                    Trouble::Narrow => "narrow networks",
                });
            }
            Act::Reset { lot } => {
                if let Some(spell) = network {
                    spell.reset_some(kafka, lot)?;
                }
            }
            Act::Heal => {
                if let Some(spell) = network.take() {
                    spell.end(self.rig)?;
                }
            }
        }
        Ok(())
    }

    /// One of those that are not frozen: who is frozen does not end when it is asked to, and a
    /// kill would leave its thaw without effect.
    fn any(&self, lot: u64) -> usize {
        let frozen = self.frozen.as_deref();
        let awake: Vec<usize> = (0..)
            .zip(self.fleet.workers())
            .filter(|(_, worker)| Some(worker.name()) != frozen)
            .map(|(at, _)| at)
            .collect();
        let count = u64::try_from(awake.len().max(1)).unwrap_or(1);
        usize::try_from(lot % count).ok().and_then(|at| awake.get(at).copied()).unwrap_or(0)
    }

    fn thaw(&mut self) -> Result<(), ClusterError> {
        let Some(name) = self.frozen.take() else {
            return Ok(());
        };
        let at = self.fleet.workers().iter().position(|worker| worker.name() == name);
        at.map_or(Ok(()), |at| self.fleet.thaw(at))
    }

    /// Makes everything good, and waits until it is.
    fn all_is_well(&mut self) -> Result<(), ClusterError> {
        let (rig, kafka) = (self.rig, self.rig.cluster());
        self.thaw()?;
        if let Some(node) = self.down.take() {
            kafka.start_node(node)?;
        }
        for ended in self.fleet.ends_of_the_dismissed()? {
            self.judge(&ended, &ENDS)?;
        }
        kafka.wait_until_ready()?;
        let within = Deadline::after(RECOVERED);
        loop {
            self.replace_the_ended(WORKERS)?;
            if self.fleet.workers().iter().all(|worker| worker.has_joined()) {
                break;
            }
            if within.has_passed() {
                return Err(ClusterError::refused("the group after a storm", self.fleet.logs()));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        while self.fleet.len() > WORKERS {
            self.fleet.terminate_cleanly(WORKERS)?;
        }
        rig.topics().iter().try_for_each(|topic| kafka.wait_until_in_sync(topic))?;
        rig.wait_until_caught_up(RECOVERED)?;
        self.fleet.check_alive()
    }

    /// Who did not reach Kafka in a storm has ended, and is started again, as by a supervisor, where
    /// there are too few.
    fn replace_the_ended(&mut self, fewest: usize) -> Result<(), ClusterError> {
        for ended in self.fleet.take_ended()? {
            self.judge(&ended, &[UNREACHABLE])?;
            self.count("starts without Kafka");
        }
        while self.fleet.len() < fewest {
            launch(&mut self.fleet, self.rig.cluster())?;
        }
        Ok(())
    }

    fn judge(&self, ended: &Ended, codes: &[i32]) -> Result<(), ClusterError> {
        if ended.status.code().is_some_and(|code| codes.contains(&code)) {
            return Ok(());
        }
        let what = format!("{} ended with {}", ended.name, ended.status);
        Err(ClusterError::refused(what, ended.reasons().join("; ")))
    }

    fn count(&mut self, what: &'static str) {
        *self.done.entry(what).or_insert(0) += 1;
    }
}

impl Shown {
    /// Was nothing lost, and has every repeat one of the faults of these runs?
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.outcome.repeats_only_by(&CAUSES)
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}", self.seed)?;
        for ((number, storm), drained) in (1..).zip(&self.storms).zip(&self.drained) {
            writeln!(f, "storm {number}: {storm}; well again after {drained:.1?}")?;
        }
        write!(f, "{}", self.outcome)
    }
}

/// A round of the long form: five storms.
pub(crate) fn round(
    kafka: &KafkaCluster,
    protocol: Protocol,
    seed: u64,
) -> Result<Round, ClusterError> {
    let shown = run(kafka, plan(protocol), seed, 5, &say)?;
    let mut round = Round::of(&shown.outcome, shown.is_kept())
        .without_times()
        .measuring("storm to all is well", shown.drained.iter().copied())
        .counting("storms", u64::try_from(shown.storms.len()).unwrap_or(u64::MAX));
    for (what, count) in &shown.done {
        round = round.counting(what, *count);
    }
    round.text = shown.to_string();
    Ok(round)
}

#[expect(clippy::print_stdout, reason = "`cargo chaos` says what it is about to do")]
fn say(text: &str) {
    println!("{text}");
}
