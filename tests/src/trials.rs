//! How does a test binary run its whole-system tests? Several at once, for most of the time they
//! wait; those that measure times run alone. Where Kafka can't run, tests are ignored and say why.
//!
//! For test binaries with `harness = false`, instead of libtest-mimic's own `run`.

mod places;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use libtest_mimic::{Arguments, Completion, Failed};

use crate::{ClusterError, KafkaCluster, Stopwatch};
use places::{Places, Wish};

/// A test, and what it needs of the machine.
///
/// ```
/// use pelton_tests::trials::Trial;
///
/// let trial = Trial::new("a_gap_stays_short", || Ok(())).alone();
/// assert_eq!(trial.name(), "a_gap_stays_short");
/// ```
pub struct Trial {
    name: String,
    needs: Needs,
    /// It runs beside none that names the same.
    shares: Option<usize>,
    body: Box<dyn FnOnce() -> Result<Completion, Failed> + Send>,
}

/// What a test needs of the machine, in the order in which tests are begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Needs {
    /// Two places: it keeps a core busy.
    Two,
    /// One place: it waits more than it works.
    One,
    /// All of it: it measures times.
    All,
}

impl Needs {
    fn places(self) -> usize {
        match self {
            Self::One => 1,
            Self::Two => 2,
            Self::All => usize::MAX,
        }
    }
}

impl Trial {
    /// A test that needs no Kafka, and may run beside others.
    pub fn new(
        name: impl Into<String>,
        test: impl FnOnce() -> Result<(), Failed> + Send + 'static,
    ) -> Self {
        Self::ignorable(name, || test().map(|()| Completion::Completed))
    }

    /// A test that is ignored, and says why.
    pub fn ignored(name: impl Into<String>, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self::ignorable(name, || Ok(Completion::ignored_with(reason)))
    }

    fn ignorable(
        name: impl Into<String>,
        body: impl FnOnce() -> Result<Completion, Failed> + Send + 'static,
    ) -> Self {
        Self { name: name.into(), needs: Needs::One, shares: None, body: Box::new(body) }
    }

    /// The same, in the place of two: for a test that keeps a core busy, as one does that starts
    /// nodes or moves many bytes.
    #[must_use]
    pub fn heavy(mut self) -> Self {
        self.needs = Needs::Two;
        self
    }

    /// The same, while no other runs: for a test that measures times.
    #[must_use]
    pub fn alone(mut self) -> Self {
        self.needs = Needs::All;
        self
    }

    fn wish(&self) -> Wish {
        Wish { places: self.needs.places(), shares: self.shares }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl std::fmt::Debug for Trial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trial")
            .field("name", &self.name)
            .field("needs", &self.needs)
            .field("shares", &self.shares)
            .finish_non_exhaustive()
    }
}

/// A test on real Kafka. Where that can't run the test is reported as ignored, with the reason;
/// with `PELTON_TEST_KAFKA=require` it fails.
///
/// ```
/// use pelton_tests::{Cluster, KafkaCluster, trials};
///
/// let trial = trials::on_kafka("a_topic_is_created", || {
///     let kafka = KafkaCluster::shared(1)?;
///     kafka.create_topic(&KafkaCluster::unique("logins"), 3)?;
///     Ok(())
/// });
/// assert_eq!(trial.name(), "a_topic_is_created");
/// ```
#[must_use]
pub fn on_kafka(name: &str, test: impl FnOnce() -> Result<(), Failed> + Send + 'static) -> Trial {
    Trial::ignorable(name, || match KafkaCluster::available() {
        Err(ClusterError::Impossible { reason }) if !KafkaCluster::is_required() => {
            Ok(Completion::ignored_with(reason))
        }
        Err(error) => Err(Failed::from(error)),
        Ok(()) => test().map(|()| Completion::Completed),
    })
}

/// As [`on_kafka`], for a test that kills, freezes or stops nodes: ignored too where
/// `PELTON_TEST_BOOTSTRAP` names a cluster, whose nodes are not ours.
///
/// ```
/// use pelton_tests::{KafkaCluster, trials};
///
/// let trial = trials::on_our_own_nodes("a_killed_node_comes_back", || {
///     let kafka = KafkaCluster::start(1)?;
///     kafka.kill(1)?;
///     kafka.start_node(1)?;
///     kafka.wait_until_ready()?;
///     Ok(())
/// });
/// assert_eq!(trial.name(), "a_killed_node_comes_back");
/// ```
#[must_use]
pub fn on_our_own_nodes(
    name: &str,
    test: impl FnOnce() -> Result<(), Failed> + Send + 'static,
) -> Trial {
    if KafkaCluster::is_elsewhere() {
        return Trial::ignored(name, "the nodes of PELTON_TEST_BOOTSTRAP are not ours");
    }
    on_kafka(name, test)
}

/// As [`on_our_own_nodes`], on a cluster of that many nodes which tests disturb one after the other.
///
/// ```
/// use pelton_tests::trials;
///
/// let trial = trials::in_turn("a_stopped_node_comes_back", 3, |kafka| {
///     kafka.stop(1)?;
///     kafka.start_node(1)?;
///     Ok(kafka.wait_until_ready()?)
/// });
/// assert_eq!(trial.name(), "a_stopped_node_comes_back");
/// ```
#[must_use]
pub fn in_turn(
    name: &str,
    nodes: usize,
    test: impl FnOnce(&KafkaCluster) -> Result<(), Failed> + Send + 'static,
) -> Trial {
    let trial = on_our_own_nodes(name, move || test(&*KafkaCluster::in_turn(nodes)?));
    Trial { shares: Some(nodes), ..trial }
}

/// Runs what the command line asks for, on `at_once` places unless it says otherwise; the
/// [heavy](Trial::heavy) ones first, and last those that run [alone](Trial::alone). Ends with the
/// times of those that took longest, and with the first lines of what those said that failed: who
/// is shown only a run's last lines learns why.
#[must_use]
pub fn run(trials: Vec<Trial>, at_once: usize) -> ExitCode {
    run_as(Arguments::from_args(), trials, at_once)
}

/// What tests have told.
type Told<T> = Arc<Mutex<Vec<T>>>;

fn tell<T>(told: &Told<T>, what: T) {
    told.lock().unwrap_or_else(PoisonError::into_inner).push(what);
}

fn run_as(mut arguments: Arguments, mut trials: Vec<Trial>, at_once: usize) -> ExitCode {
    let at_once = arguments.test_threads.unwrap_or(at_once);
    trials.sort_by_key(|trial| trial.needs);
    let expected = trials.iter().enumerate().filter(|(_, trial)| is_asked_for(&arguments, trial));
    let wishes: BTreeMap<_, _> = expected.map(|(number, trial)| (number, trial.wish())).collect();
    // All of them come at once, and wait for their places.
    arguments.test_threads = Some(if at_once == 1 { 1 } else { wishes.len().max(2) });
    let places = Arc::new(Places::new(at_once, wishes));
    let (times, failures) = (Arc::default(), Arc::default());
    let trials = trials.into_iter().enumerate().map(|(number, trial)| {
        let Trial { name, body, .. } = trial;
        let (places, named) = (Arc::clone(&places), name.clone());
        let (times, failures) = (Told::clone(&times), Told::clone(&failures));
        libtest_mimic::Trial::ignorable_test(name, move || {
            let _taken = places.take(number);
            let watch = Stopwatch::start();
            let completion = body();
            if let Some(why) = completion.as_ref().err().and_then(Failed::message) {
                tell(&failures, (named.clone(), why.to_owned()));
            }
            tell(&times, (watch.elapsed(), named));
            completion
        })
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    say_times(&mut times.lock().unwrap_or_else(PoisonError::into_inner));
    say_failures(&failures.lock().unwrap_or_else(PoisonError::into_inner));
    conclusion.exit_code()
}

/// As libtest-mimic chooses.
fn is_asked_for(arguments: &Arguments, trial: &Trial) -> bool {
    let is_meant = |text: &String| {
        trial.name == *text || !arguments.exact && trial.name.contains(text.as_str())
    };
    arguments.filter.as_ref().is_none_or(is_meant) && !arguments.skip.iter().any(is_meant)
}

/// A test that takes at least so long is named at the end.
const LONG: Duration = Duration::from_secs(5);

#[expect(clippy::print_stdout, reason = "who makes the tests faster must see what is slow")]
fn say_times(times: &mut Vec<(Duration, String)>) {
    times.retain(|(time, _)| *time >= LONG);
    times.sort_by(|one, other| other.cmp(one));
    for (time, name) in times {
        println!("{:6.1} s  {name}", time.as_secs_f64());
    }
}

/// So many lines, of so many characters each, are the beginning of why a test failed.
const BEGINNING: (usize, usize) = (15, 300);

#[expect(clippy::print_stdout, reason = "who is shown the last lines must see what failed")]
fn say_failures(failures: &[(String, String)]) {
    for (name, why) in failures {
        println!("{}", beginning(name, why));
    }
}

fn beginning(name: &str, why: &str) -> String {
    let (lines, length) = BEGINNING;
    let mut text = format!("FAILED {name}:");
    for line in why.lines().take(lines) {
        text.push_str("\n    ");
        text.extend(line.chars().take(length));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn to_nobody() -> Arguments {
        Arguments { logfile: Some("/dev/null".to_owned()), ..Arguments::default() }
    }

    #[test]
    fn a_test_that_runs_alone_comes_last_and_has_no_company() {
        let (running, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let trial = |name: &str, is_alone: bool| {
            let (running, ended) = (Arc::clone(&running), Arc::clone(&ended));
            let trial = Trial::new(name, move || {
                let beside = running.fetch_add(1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(5)); // others may come
                let ended = ended.fetch_add(1, Ordering::SeqCst);
                running.fetch_sub(1, Ordering::SeqCst);
                if is_alone && (beside, ended) != (0, 9) {
                    return Err(format!("{beside} beside it, {ended} before it").into());
                }
                Ok(())
            });
            if is_alone { trial.alone() } else { trial }
        };
        let trials = (0..10).map(|number| trial(&format!("number_{number}"), number == 3));
        let code = run_as(to_nobody(), trials.collect(), 4);
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::SUCCESS));
    }

    #[test]
    fn a_test_that_fails_or_panics_fails_the_run_and_gives_its_places_back() {
        let tests: [fn() -> Result<(), Failed>; 3] =
            [|| Err("on purpose".into()), || panic!("on purpose"), || Ok(())];
        let trials = tests.map(|test| Trial::new("a_test", test).alone());
        let code = run_as(to_nobody(), trials.into(), 2);
        assert_ne!(format!("{code:?}"), format!("{:?}", ExitCode::SUCCESS));
    }

    #[test]
    fn of_a_failure_the_beginning_is_said() {
        let why = "x".repeat(1_000) + "\n1 lost\n" + &"of its log\n".repeat(100);
        let said = beginning("kills_lose_nothing", &why);
        assert!(said.starts_with("FAILED kills_lose_nothing:\n    xxx"), "{said}");
        assert!(said.contains("\n    1 lost\n"), "{said}");
        assert!(said.lines().count() == 16 && said.len() < 1_000, "{said}");
    }
}
