//! Workers come and go and brokers restart, over and over, under load: what a worker that stays
//! holds of the system is the same each time all is quiet.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::rig::{Footprint, LoadPlan, Outcome, Protocol, Rig, RigPlan};
use crate::suites::Round;
use crate::waiting::Stopwatch;
use crate::{ClusterError, KafkaCluster};

/// After a change everything flows again within so long.
const RECOVERED: Duration = Duration::from_secs(90);

/// All is quiet when nothing was changed for so long: idle threads of tokio's pool for blocking
/// work end after 10 s.
const QUIET: Duration = Duration::from_secs(13);

/// The pause between one change and the next.
const PACE: Duration = Duration::from_secs(1);

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
    /// Nodes of the cluster.
    pub brokers: usize,
    /// How long it took, without its beginning and its end.
    pub length: Duration,
}

/// Records/s: soaks are long, and machines shared.
const RATE: u64 = 500;

/// The workers of these runs, with the default session of 15 s.
#[must_use]
pub fn plan(protocol: Protocol) -> RigPlan {
    RigPlan::with_default_session(protocol)
}

/// Runs 3 processes over 6 partitions at 500 records/s, and then for at least `length`, and at
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
    let load = rig.load(LoadPlan::at_rate(RATE))?;
    rig.wait_until_begun(RECOVERED)?;
    let stay = fleet.workers().iter().take(STAY);
    let watch = Watch::begin(stay.map(|w| (w.pid(), Watched::new(w.name()))).collect())?;
    let clock = Stopwatch::start();
    let mut cycles = 0;
    while clock.elapsed() < length || cycles <= WARM_UP {
        fleet.start(COME_AND_GO)?;
        std::thread::sleep(PACE);
        rig.wait_until_caught_up(RECOVERED)?;
        for _ in 0..COME_AND_GO {
            fleet.terminate(STAY)?;
        }
        rig.wait_until_caught_up(RECOVERED)?;
        let nodes = kafka.node_count().max(1);
        let node = i32::try_from(cycles % nodes + 1).unwrap_or(1);
        kafka.stop(node)?;
        rig.bring_back(node, RECOVERED)?;
        std::thread::sleep(QUIET);
        watch.quiet()?;
        fleet.check_alive()?;
        cycles += 1;
    }
    let length = clock.elapsed();
    load.stop()?;
    let outcome = rig.finish(fleet)?;
    Ok(Shown { outcome, watched: watch.end(), brokers: kafka.node_count(), length })
}

/// Looks at the watched each second, in a thread of its own, until it is dropped.
struct Watch {
    watched: Arc<Mutex<Vec<(u32, Watched)>>>,
    over: Arc<AtomicBool>,
}

impl Watch {
    fn begin(watched: Vec<(u32, Watched)>) -> Result<Self, ClusterError> {
        let watched = Arc::new(Mutex::new(watched));
        let over = Arc::new(AtomicBool::new(false));
        let this = Self { watched: Arc::clone(&watched), over: Arc::clone(&over) };
        let look = move || {
            while !over.load(Ordering::Relaxed) {
                // At the end of a run they may be gone.
                let _gone = each(&watched, |_, _| {}).is_err();
                std::thread::sleep(SAMPLE);
            }
        };
        let thread = std::thread::Builder::new().name("watch".to_owned()).spawn(look);
        thread.map_err(ClusterError::io("the watch's thread"))?;
        Ok(this)
    }

    /// A look that counts as quiet.
    fn quiet(&self) -> Result<(), ClusterError> {
        each(&self.watched, |watched, seen| watched.quiet.push(seen))
    }

    fn end(self) -> Vec<Watched> {
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.iter().map(|(_, watched)| watched.clone()).collect()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

fn each(
    watched: &Mutex<Vec<(u32, Watched)>>,
    mut and: impl FnMut(&mut Watched, Footprint),
) -> Result<(), ClusterError> {
    let mut watched = watched.lock().unwrap_or_else(PoisonError::into_inner);
    watched.iter_mut().try_for_each(|(pid, watched)| {
        let seen = Footprint::of(*pid)?;
        watched.most = watched.most.max(seen);
        and(watched, seen);
        Ok(())
    })
}

impl Watched {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), quiet: Vec::new(), most: Footprint::default() }
    }

    /// Is what it holds the same, after the warm-up, each time all is quiet? Exactly as many
    /// clients. Threads and files within one broker for each client: librdkafka has a thread,
    /// with a pipe (two files), for each broker that the client knows, and some do not know yet
    /// of the one that came back last. Sockets follow the leaders: at the most one to each broker
    /// and one to a coordinator for each client, and one to listen at.
    #[must_use]
    pub fn is_constant(&self, brokers: usize) -> bool {
        let quiet = self.quiet.get(WARM_UP - 1..).unwrap_or_default();
        let spread = |count: fn(&Footprint) -> usize| {
            let (least, most) = (quiet.iter().map(count).min(), quiet.iter().map(count).max());
            most.unwrap_or(0) - least.unwrap_or(0)
        };
        let clients = quiet.first().map_or(0, |first| first.clients);
        let most = clients * (brokers + 1) + 1;
        quiet.len() > 1
            && spread(|seen| seen.clients) == 0
            && spread(|seen| seen.threads) <= clients
            && spread(|seen| seen.files) <= 2 * clients
            && quiet.iter().all(|seen| seen.sockets <= most)
    }
}

impl Shown {
    /// Did what the workers hold stay the same, and was nothing lost or repeated?
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.outcome.is_exact()
            && self.watched.iter().all(|watched| watched.is_constant(self.brokers))
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

/// A round of the long form: ten minutes.
pub(crate) fn round(
    kafka: &KafkaCluster,
    protocol: Protocol,
    seed: u64,
) -> Result<Round, ClusterError> {
    let shown = run(kafka, plan(protocol).seeded(seed), Duration::from_secs(10 * 60))?;
    let mut round = Round::of(&shown.outcome, shown.is_kept()).without_times();
    let cycles = shown.watched.iter().map(|watched| watched.quiet.len()).max().unwrap_or(0);
    round = round
        .counting("cycles", u64::try_from(cycles).unwrap_or(u64::MAX))
        .counting("seconds", shown.length.as_secs());
    round.text = shown.to_string();
    Ok(round)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(quiet: &[Footprint]) -> Watched {
        Watched { quiet: quiet.to_vec(), ..Watched::new("worker-1") }
    }

    #[test]
    fn a_client_more_is_seen_and_so_are_more_threads_files_and_sockets_than_brokers_explain() {
        let seen =
            Footprint { sockets: 15, files: 46, threads: 33, clients: 5, resident_bytes: 24 << 20 };
        let larger =
            Footprint { sockets: 21, files: 56, threads: 38, resident_bytes: 30 << 20, ..seen };
        assert!(watched(&[seen, larger, seen]).is_constant(3));
        assert!(!watched(&[seen]).is_constant(3), "one look shows nothing");
        for more in [
            Footprint { threads: 39, ..seen },
            Footprint { files: 57, ..seen },
            Footprint { clients: 6, ..seen },
            Footprint { sockets: 22, ..seen },
        ] {
            assert!(!watched(&[seen, more]).is_constant(3), "{more}");
        }
    }
}
