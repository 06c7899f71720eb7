//! What the handlers call is broken for a while, and workers are killed and leave meanwhile: records wait
//! in retry topics, or the breaker pauses the input. Afterwards every record is done, in the order of its
//! key, and none has been given up.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use pelton::{Bug, Ordering};

use crate::rig::{Fleet, LoadPlan, Protocol, Rig, RigPlan};
use crate::suites::Round;
use crate::waiting::{patiently, wait_for};
use crate::{Cluster, ClusterError, KafkaCluster, StoredRecord};

/// What is to help over the outage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Help {
    /// Retry topics; half of all keys fail.
    RetryTopics,
    /// A breaker; all keys fail.
    Breaker,
}

impl Help {
    /// Both.
    pub const ALL: [Self; 2] = [Self::RetryTopics, Self::Breaker];
}

/// What fails in the first retry topic, amid the outage, is tried again when that is over.
const DELAYS_MS: [u64; 2] = [1_500, 15_000];

/// So many records are sent in a third of the outage: in 3 s.
const THIRD: u64 = 3_000;

const LOAD: LoadPlan = LoadPlan { even: true, ..LoadPlan::at_rate(1_000) };

/// Something that must happen happens within so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// When the load has ended everything is done within so long.
const FINISHED: Duration = Duration::from_secs(120);

/// What a run showed.
#[derive(Debug, Default)]
pub struct Shown {
    /// Records of the input.
    pub records: u64,
    /// Of these, records that were never done, as `<partition>-<offset>`.
    pub missing: Vec<String>,
    /// Records that were done first behind a later one of their key.
    pub overtaken: Vec<String>,
    /// Outputs of records that had one already.
    pub repeated: u64,
    /// Records that came to the retry topics.
    pub retried: u64,
    /// Dead letters, each with its story.
    pub letters: Vec<String>,
    /// The breaker was seen open, amid the outage.
    pub is_open: bool,
}

/// 3 processes over 6 partitions at 1,000 records/s. Amid the outage a worker is killed and another one
/// leaves; each is replaced.
///
/// # Errors
///
/// If the run can't be carried out; what it shows is in [`Shown`].
pub fn run<C: Cluster + ?Sized>(
    cluster: &C,
    help: Help,
    ordering: Ordering,
    seed: Option<u64>,
    plant: Option<Bug>,
) -> Result<Shown, ClusterError> {
    let folder = tempfile::tempdir().map_err(ClusterError::io("a folder"))?;
    let broken = folder.path().join("broken");
    let rig = Rig::new(cluster, RigPlan { seed, plant, ..plan(help, ordering, &broken) })?;
    let topics = retry_topics(&rig, help);
    topics.iter().try_for_each(|topic| cluster.create_topic(topic, rig.plan().partitions))?;
    let mut fleet = rig.fleet();
    fleet.start(3)?;
    let load = rig.load(LOAD)?;
    rig.wait_until_begun(PATIENCE)?;
    let mut shown = Shown::default();
    let third = || {
        let enough = load.sent() + THIRD;
        wait_for("a third of the outage", PATIENCE, || (load.sent() >= enough).then_some(()))
    };
    std::fs::write(&broken, "").map_err(ClusterError::io("the outage"))?;
    third()?;
    fleet.kill_any()?;
    fleet.start(1)?;
    third()?;
    fleet.terminate_any()?;
    fleet.start(1)?;
    third()?;
    shown.is_open = help == Help::Breaker && is_open(&fleet)?;
    std::fs::remove_file(&broken).map_err(ClusterError::io("the outage's end"))?;
    rig.wait_until_caught_up(PATIENCE)?;
    load.stop()?;
    rig.wait_until_handled(FINISHED)?;
    for topic in &topics {
        patiently("the retry topics are done", FINISHED, || is_done(&rig, cluster, topic))?;
    }
    fleet.terminate_all()?;
    let names = rig.names();
    shown.judge(&cluster.read_topic(&names.input)?, &cluster.read_topic(&names.output)?);
    for topic in &topics {
        shown.retried += count(&cluster.read_topic(topic)?);
    }
    shown.letters = cluster.read_topic(&names.dead_letters)?.iter().map(story).collect();
    if !shown.is_kept(help) && plant.is_none() {
        rig.keep();
    }
    Ok(shown)
}

fn plan(help: Help, ordering: Ordering, broken: &std::path::Path) -> RigPlan {
    let mut arguments = vec!["--trace".to_owned(), "--broken-while".to_owned()];
    arguments.push(broken.display().to_string());
    arguments.extend(match help {
        Help::RetryTopics => {
            let delays = DELAYS_MS.map(|delay| delay.to_string()).join(",");
            vec!["--broken-one-in=2".to_owned(), format!("--retry-after-ms={delays}")]
        }
        Help::Breaker => vec!["--breaker".to_owned()],
    });
    RigPlan {
        protocol: Protocol::CooperativeSticky,
        ordering,
        attempts: Some(3),
        stateless: true,
        arguments,
        ..RigPlan::default()
    }
}

/// As the worker calls them.
fn retry_topics<C: Cluster + ?Sized>(rig: &Rig<'_, C>, help: Help) -> Vec<String> {
    let (group, input) = (&rig.names().group, &rig.names().input);
    let topics = if help == Help::RetryTopics { DELAYS_MS.len() } else { 0 };
    (1..=topics).map(|number| format!("{group}-{input}-retry-{number}")).collect()
}

/// Has a worker its breaker open, or does it probe?
fn is_open(fleet: &Fleet) -> Result<bool, ClusterError> {
    let open = |metrics: &str| {
        let mut states = metrics.lines().filter(|line| line.starts_with("pelton_breaker_state{"));
        states.any(|line| !line.ends_with(" 0"))
    };
    let seen = wait_for("an open breaker", PATIENCE, || {
        let mut answers = fleet.workers().iter().filter_map(|worker| worker.ask("/metrics").ok());
        answers.any(|answer| open(&answer.body)).then_some(())
    });
    Ok(seen.is_ok())
}

fn is_done<C: Cluster + ?Sized>(rig: &Rig<'_, C>, cluster: &C, topic: &str) -> Result<(), String> {
    let ends = cluster.ends(topic).map_err(|error| error.to_string())?;
    let committed = cluster.committed(&rig.names().group, topic);
    let committed = committed.map_err(|error| error.to_string())?;
    let behind = committed.iter().zip(ends).find(|(at, end)| at.offset.unwrap_or(0) < *end);
    behind.map_or(Ok(()), |(at, end)| Err(format!("{topic}: {at:?} of {end}")))
}

/// What a dead letter says of itself.
fn story(letter: &StoredRecord) -> String {
    let own = letter.headers.iter().filter(|(name, _)| name.starts_with("pelton-"));
    let told = own.map(|(name, value)| {
        let value = String::from_utf8_lossy(value.as_deref().unwrap_or_default()).into_owned();
        format!("{}={value}", name.trim_start_matches("pelton-"))
    });
    told.collect::<Vec<_>>().join(" ")
}

fn count(records: &[StoredRecord]) -> u64 {
    u64::try_from(records.len()).unwrap_or(u64::MAX)
}

impl Shown {
    /// Holds the output, where each record's key has its place, against the input.
    fn judge(&mut self, input: &[StoredRecord], output: &[StoredRecord]) {
        let mut seen = BTreeSet::new();
        let mut last = BTreeMap::<&[u8], i64>::new();
        for record in output {
            let place = record.value.as_deref().and_then(|value| std::str::from_utf8(value).ok());
            let place = place.unwrap_or("nowhere");
            if !seen.insert(place) {
                self.repeated += 1;
                continue;
            }
            let offset = place.rsplit('-').next().and_then(|offset| offset.parse().ok());
            let (offset, key) = (offset.unwrap_or(-1), record.key.as_deref().unwrap_or_default());
            let before = last.entry(key).or_insert(offset);
            if offset < *before {
                let key = String::from_utf8_lossy(key);
                self.overtaken.push(format!("{place} of {key}, by offset {before}"));
            }
            *before = offset.max(*before);
        }
        let places = input.iter().map(|record| format!("{}-{}", record.partition, record.offset));
        self.missing = places.filter(|place| !seen.contains(place.as_str())).collect();
        self.records = count(input);
    }

    /// Every record is done, in the order of its key, none was given up, and what was to help has.
    #[must_use]
    pub fn is_kept(&self, help: Help) -> bool {
        let helped = match help {
            Help::RetryTopics => self.retried > 0,
            Help::Breaker => self.is_open,
        };
        let is_right =
            self.missing.is_empty() && self.overtaken.is_empty() && self.letters.is_empty();
        is_right && helped && self.records > 0
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { records, missing, overtaken, repeated, retried, letters, is_open } = self;
        write!(f, "{records} records over an outage: {} missing, ", missing.len())?;
        write!(f, "{} out of order, {repeated} repeated; ", overtaken.len())?;
        write!(f, "{retried} came to retry topics, {} dead letters, ", letters.len())?;
        write!(f, "breaker open: {is_open}")?;
        let missing = missing.iter().map(|place| format!("{place} is missing"));
        let all = missing.chain(overtaken.iter().cloned()).chain(letters.iter().cloned());
        all.take(10).try_for_each(|what| write!(f, "\n  {what}"))
    }
}

/// A round of the long form.
pub(crate) fn round(
    kafka: &KafkaCluster,
    help: Help,
    ordering: Ordering,
    seed: u64,
) -> Result<Round, ClusterError> {
    let shown = run(kafka, help, ordering, Some(seed), None)?;
    let wrong = shown.missing.len() + shown.overtaken.len();
    let round = Round { passed: shown.is_kept(help), ..Round::default() };
    let mut round = round
        .counting("records", shown.records)
        .counting("violations", u64::try_from(wrong).unwrap_or(u64::MAX))
        .counting("repeats", shown.repeated)
        .counting("retried", shown.retried)
        .counting("dead letters", u64::try_from(shown.letters.len()).unwrap_or(u64::MAX));
    round.text = shown.to_string();
    Ok(round)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(key: &str, value: &str, offset: i64) -> StoredRecord {
        StoredRecord {
            partition: 0,
            offset,
            key: Some(key.into()),
            value: Some(value.into()),
            headers: Vec::new(),
            timestamp: None,
        }
    }

    #[test]
    fn what_is_missing_repeated_or_out_of_order_is_found() {
        let input: Vec<_> = (0..4).map(|offset| stored("a", "", offset)).collect();
        let places = ["0-0", "0-2", "0-0", "0-1"];
        let output: Vec<_> = (0..).zip(places).map(|(at, place)| stored("a", place, at)).collect();
        let mut shown = Shown { retried: 1, ..Shown::default() };
        shown.judge(&input, &output);
        assert_eq!((shown.missing, shown.repeated), (vec!["0-3".to_owned()], 1));
        assert_eq!(shown.overtaken, ["0-1 of a, by offset 2"]);
    }
}
