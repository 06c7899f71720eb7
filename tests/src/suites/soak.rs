//! Workers come and go and brokers restart, over and over, under load: what a worker that stays
//! holds of the system is the same each time all is quiet.

use std::time::Duration;

use crate::rig::{Footprint, LoadPlan, Outcome, Protocol, Rig, RigPlan};
use crate::suites::{Round, roll};
use crate::waiting::{Deadline, Stopwatch};
use crate::{ClusterError, KafkaCluster};

/// After a change everything flows again within so long.
const RECOVERED: Duration = Duration::from_secs(90);

/// All is quiet when nothing was changed for so long: idle threads of tokio's pool for blocking
/// work end after 10 s.
const QUIET: Duration = Duration::from_secs(13);

/// A sample is taken so often.
const SAMPLE: Duration = Duration::from_secs(1);

/// Workers that stay, and more that come and go.
const STAY: usize = 3;
const COME_AND_GO: usize = 2;

/// The cycles in which caches fill and connections to every broker are made.
const WARM_UP: usize = 1;

/// A worker that stays.
#[derive(Clone, Debug)]
pub struct Watched {
    /// Its name.
    pub name: String,
    /// At the end of each cycle, when all was quiet.
    pub quiet: Vec<Footprint>,
    /// The most of everything in any sample.
    pub most: Footprint,
}

/// What a run showed.
#[derive(Debug)]
pub struct Shown {
    /// What became of the records.
    pub outcome: Outcome,
    /// The workers that stayed.
    pub watched: Vec<Watched>,
    /// How long it took, without its beginning and its end.
    pub length: Duration,
}

/// Runs 3 processes over 6 partitions at 2,000 records/s, and then for at least `length`, and at
/// least twice: two more join, all partitions flow, the two leave, a broker is restarted, all is
/// quiet. Each change of owners restores stores, each through a client of its own.
///
/// # Errors
///
/// If the run can't be carried out, or a worker that stays ends; what it shows is in [`Shown`].
pub fn run(kafka: &KafkaCluster, plan: RigPlan, length: Duration) -> Result<Shown, ClusterError> {
    let rig = Rig::new(kafka, plan)?;
    let mut fleet = rig.fleet();
    fleet.start(STAY)?;
    let load = rig.load(LoadPlan::at_rate(2_000))?;
    rig.wait_until_begun(RECOVERED)?;
    let stay = fleet.workers().iter().take(STAY);
    let mut watch = Watch { watched: stay.map(|w| (w.pid(), Watched::new(w.name()))).collect() };
    let clock = Stopwatch::start();
    let mut cycles = 0;
    while clock.elapsed() < length || cycles <= WARM_UP {
        fleet.start(COME_AND_GO)?;
        watch.during(Duration::from_secs(1))?;
        rig.wait_until_caught_up(RECOVERED)?;
        watch.during(Duration::from_secs(1))?;
        for _ in 0..COME_AND_GO {
            fleet.terminate(STAY)?;
        }
        rig.wait_until_caught_up(RECOVERED)?;
        watch.during(Duration::from_secs(1))?;
        let nodes = kafka.node_count().max(1);
        let node = i32::try_from(cycles % nodes + 1).unwrap_or(1);
        roll::restart(kafka, &rig, node)?;
        rig.wait_until_caught_up(RECOVERED)?;
        watch.during(QUIET)?;
        watch.quiet()?;
        fleet.check_alive()?;
        cycles += 1;
    }
    let length = clock.elapsed();
    load.stop()?;
    let outcome = rig.finish(fleet)?;
    let watched = watch.watched.into_iter().map(|(_, watched)| watched).collect();
    Ok(Shown { outcome, watched, length })
}

/// The watched, by their process ids.
struct Watch {
    watched: Vec<(u32, Watched)>,
}

impl Watch {
    /// Samples for so long.
    fn during(&mut self, length: Duration) -> Result<(), ClusterError> {
        let until = Deadline::after(length);
        while !until.has_passed() {
            self.sample(|_, _| {})?;
            std::thread::sleep(SAMPLE.min(until.left()));
        }
        Ok(())
    }

    /// A sample that counts as quiet.
    fn quiet(&mut self) -> Result<(), ClusterError> {
        self.sample(|watched, seen| watched.quiet.push(seen))
    }

    fn sample(&mut self, mut and: impl FnMut(&mut Watched, Footprint)) -> Result<(), ClusterError> {
        for (pid, watched) in &mut self.watched {
            let seen = Footprint::of(*pid)?;
            watched.most = watched.most.max(seen);
            and(watched, seen);
        }
        Ok(())
    }
}

impl Watched {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), quiet: Vec::new(), most: Footprint::default() }
    }

    /// Has it, after the warm-up, as many threads, clients and files each time all is quiet?
    #[must_use]
    pub fn is_constant(&self) -> bool {
        let quiet = self.quiet.get(WARM_UP - 1..).unwrap_or_default();
        quiet.len() > 1 && quiet.windows(2).all(|pair| pair[0].is_like(&pair[1]))
    }
}

impl Shown {
    /// Did what the workers hold stay the same, and was nothing lost or repeated?
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.outcome.is_exact() && self.watched.iter().all(Watched::is_constant)
    }
}

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for watched in &self.watched {
            writeln!(f, "{}, quiet after each cycle:", watched.name)?;
            watched.quiet.iter().try_for_each(|quiet| writeln!(f, "    {quiet}"))?;
            writeln!(f, "    at most: {}", watched.most)?;
        }
        write!(f, "{:.0?}\n{}", self.length, self.outcome)
    }
}

/// A round of the long form: half an hour.
pub(crate) fn round(kafka: &KafkaCluster, protocol: Protocol) -> Result<Round, ClusterError> {
    let plan = RigPlan { protocol, ..RigPlan::default() };
    let shown = run(kafka, plan, Duration::from_secs(30 * 60))?;
    let mut round = Round::of(&shown.outcome, shown.is_kept()).without_times();
    let cycles = shown.watched.iter().map(|watched| watched.quiet.len()).max().unwrap_or(0);
    round = round
        .counting("cycles", u64::try_from(cycles).unwrap_or(u64::MAX))
        .counting("seconds", shown.length.as_secs());
    round.text = shown.to_string();
    Ok(round)
}
