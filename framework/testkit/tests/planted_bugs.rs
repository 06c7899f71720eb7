//! Can the ledger see anything at all? Known bugs are planted into a worker, one at a time, and
//! each must break the invariant it is meant to break; without it, the same run is clean.
//!
//! Every run is a whole worker (two, where a partition changes hands) in memory and virtual time.

use std::time::Duration;

use pelton::{Bug, Context, Handler, HandlerError, Output, Record, Store, Worker, WorkerBuilder};
use pelton_testkit::TestDriver;
use pelton_testkit::ledger::{
    Check, FaultKind, Invariant, MemoryLedger, TotalsCheck, TotalsVerdict, Verdict,
};

/// Counts records per key; the value says how hard the record is.
struct Count {
    totals: Store<str, u64>,
    out: Output,
}

const EASY: &str = "";
const SLOW: &str = "slow";
const FAILS_ONCE: &str = "fails once";

impl Handler for Count {
    async fn handle(
        &mut self,
        record: &Record<'_>,
        ctx: &mut Context<'_>,
    ) -> Result<(), HandlerError> {
        let value = record.value().unwrap_or_default();
        if value == SLOW.as_bytes() {
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
        let key = std::str::from_utf8(record.key().unwrap_or_default())?.to_owned();
        let total = ctx.update(self.totals, &key, |n| n.unwrap_or(0) + 1)?;
        ctx.emit(self.out, &key, &total)?;
        if value == FAILS_ONCE.as_bytes() && ctx.attempt() == 1 {
            return Err(HandlerError::retryable("the first attempt fails"));
        }
        Ok(())
    }
}

/// One worker, perhaps joined by others, all with the same bug, under one ledger.
struct Stage {
    driver: TestDriver,
    ledger: MemoryLedger,
    bug: Option<Bug>,
}

impl Stage {
    fn new(bug: Option<Bug>) -> Self {
        let ledger = MemoryLedger::new();
        let driver = TestDriver::with_settings(app(&ledger, "a", bug), 1, |settings| {
            settings.memory_budget_records = 10;
        });
        Self { driver, ledger, bug }
    }

    fn send(&mut self, records: usize, value: &str) {
        for number in 0..records {
            let key = ["alice", "bob"][number % 2];
            self.driver.send("in", key, value);
        }
    }

    fn pass(&mut self, seconds: u64) {
        self.driver.advance(Duration::from_secs(seconds));
    }

    fn kill(&mut self) {
        self.ledger.fault(FaultKind::Kill, "a");
        self.driver.kill(0);
    }

    /// Another worker joins and gets the partition.
    fn give_to_another(&mut self) {
        let other = self.driver.join(app(&self.ledger, "b", self.bug));
        self.driver.assign_to(other, "in", 0);
    }

    /// Ends the run and lets the ledger and the topics judge it.
    fn judge(mut self) -> Judged {
        self.pass(10);
        let failure = self.driver.shut_down().err().map(ToString::to_string);
        let truth = self.driver.truth();
        let check = Check::new().stuck_after(Duration::from_secs(40));
        let verdict = check.hold(&self.ledger.ledger(), &truth);
        let totals = TotalsCheck::new(truth.records_by_key()).allowing(verdict.repeats_by_key());
        let output = self.driver.emitted("out").into_iter();
        let output = totals.hold(output.map(|e| (e.key_str().to_owned(), e.json())));
        let changelog = self.driver.emitted("count-in-totals-changelog").into_iter();
        let changelog = totals.hold(changelog.map(|e| (e.key_str().to_owned(), e.json())));
        Judged { verdict, output, changelog, failure }
    }
}

fn app(ledger: &MemoryLedger, name: &str, bug: Option<Bug>) -> WorkerBuilder {
    let mut app = Worker::builder("count");
    let totals = app.store("totals");
    let out = app.output("out");
    app.input("in").handler(move |_slot| Count { totals, out });
    app.observer(ledger.worker(name)).plant(bug);
    app
}

/// What is said of a run.
struct Judged {
    verdict: Verdict,
    output: TotalsVerdict,
    changelog: TotalsVerdict,
    failure: Option<String>,
}

impl Judged {
    fn is_clean(&self) -> bool {
        self.verdict.is_clean()
            && self.output.is_clean()
            && self.changelog.is_clean()
            && self.failure.is_none()
    }

    fn breaks(&self, expected: Expected) -> bool {
        match expected {
            Expected::Ledger(invariant) => self.verdict.count(invariant) > 0,
            Expected::Totals => {
                !self.output.too_low.is_empty() && !self.changelog.too_low.is_empty()
            }
        }
    }
}

impl std::fmt::Display for Judged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { verdict, output, changelog, failure } = self;
        write!(f, "{verdict}\noutput: {output}\nchangelog: {changelog}\nended: {failure:?}")
    }
}

/// Who has to cry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Ledger(Invariant),
    /// The last values per key are too old.
    Totals,
}

type Scenario = fn(&mut Stage);

/// Bugs that show only in a process that really stands still, or has a real size: the suites that
/// freeze and weigh workers on Kafka plant them.
const ON_KAFKA: &[Bug] = &[Bug::SendWhenThawed, Bug::IgnoreBudget];

fn planted() -> impl Iterator<Item = Bug> {
    Bug::ALL.iter().copied().filter(|bug| !ON_KAFKA.contains(bug))
}

/// A record that is in flight while others before it are committed.
fn commits_while_a_record_is_slow(stage: &mut Stage) {
    stage.send(3, EASY);
    stage.pass(1);
    stage.send(2, EASY);
    stage.send(1, SLOW);
    stage.send(1, EASY);
    stage.pass(3);
    stage.kill();
    stage.give_to_another();
}

fn a_record_fails_once(stage: &mut Stage) {
    stage.send(3, EASY);
    stage.send(1, FAILS_ONCE);
    stage.send(3, EASY);
}

fn many_records(stage: &mut Stage) {
    for _ in 0..12 {
        stage.send(5, EASY);
        stage.pass(1);
    }
}

/// A revocation while a record is slow: the next owner must wait for it.
fn a_hand_over_under_load(stage: &mut Stage) {
    stage.send(30, EASY);
    stage.pass(2);
    stage.send(3, EASY);
    stage.send(1, SLOW);
    stage.send(2, EASY);
    stage.driver.revoke("in", 0);
    if stage.bug == Some(Bug::ReleaseBeforeDrain) {
        assert!(stage.driver.owned().is_empty(), "it is released at once");
    } else {
        stage.pass(6);
    }
    stage.give_to_another();
    stage.send(3, EASY);
}

fn a_loss_under_load(stage: &mut Stage) {
    stage.send(3, EASY);
    stage.pass(2);
    stage.send(3, EASY);
    stage.send(1, SLOW);
    stage.send(2, EASY);
    stage.driver.lose("in", 0);
    stage.give_to_another();
    stage.send(3, EASY);
}

/// More records than the buffer takes, and then quiet.
fn backpressure(stage: &mut Stage) {
    stage.send(1, SLOW);
    stage.send(40, EASY);
    stage.pass(120);
}

/// Nothing is delivered until the worker is killed.
fn outputs_are_undelivered_at_a_kill(stage: &mut Stage) {
    stage.send(4, EASY);
    stage.pass(2);
    stage.driver.fail_deliveries(usize::MAX);
    stage.send(4, EASY);
    stage.pass(2);
    stage.kill();
    stage.driver.fail_deliveries(0);
    stage.give_to_another();
}

/// For each bug: what must happen for it to show, and who must cry.
#[expect(clippy::panic, reason = "a bug without a scenario is not tested")]
fn scenario_of(bug: Bug) -> (Scenario, Expected) {
    use Invariant as I;
    match bug {
        Bug::CommitPastInFlight | Bug::CommitOffByOne => {
            (commits_while_a_record_is_slow, Expected::Ledger(I::CoveredCommit))
        }
        Bug::DropFailedRecord => (a_record_fails_once, Expected::Ledger(I::NoLoss)),
        Bug::SkipRecords => (many_records, Expected::Ledger(I::NoLoss)),
        Bug::RetryOutOfOrder => (a_record_fails_once, Expected::Ledger(I::Order)),
        Bug::ReleaseBeforeDrain => (a_hand_over_under_load, Expected::Ledger(I::SingleOwner)),
        Bug::IgnoreLost => (a_loss_under_load, Expected::Ledger(I::SingleOwner)),
        Bug::CommitBackwards => (many_records, Expected::Ledger(I::CommitsAdvance)),
        Bug::CommitLost => (a_loss_under_load, Expected::Ledger(I::CommitsAdvance)),
        Bug::NoCommitOnRevoke | Bug::StartBehindCommit => {
            (a_hand_over_under_load, Expected::Ledger(I::ExplainedRepeats))
        }
        Bug::NeverResume => (backpressure, Expected::Ledger(I::NoStuckPartition)),
        Bug::CommitBeforeDelivery => (outputs_are_undelivered_at_a_kill, Expected::Totals),
        Bug::SkipRestore => (a_hand_over_under_load, Expected::Totals),
        other => panic!("{} has no scenario yet: add one", other.name()),
    }
}

fn run(scenario: Scenario, bug: Option<Bug>) -> Judged {
    let mut stage = Stage::new(bug);
    scenario(&mut stage);
    stage.judge()
}

#[test]
fn every_planted_bug_is_caught_by_the_invariant_it_breaks() {
    let mut missed = Vec::new();
    for bug in planted() {
        let (scenario, expected) = scenario_of(bug);
        let judged = run(scenario, Some(bug));
        if judged.breaks(expected) {
            let broken: Vec<_> = judged.verdict.broken().map(Invariant::code).collect();
            println!("{}: {expected:?} cries (broken: {broken:?})", bug.name());
        } else {
            missed.push(format!("{}: {expected:?} is silent\n{judged}", bug.name()));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n\n"));
}

#[test]
fn the_same_runs_without_a_bug_are_clean() {
    for bug in planted() {
        let (scenario, _) = scenario_of(bug);
        let judged = run(scenario, None);
        assert!(judged.is_clean(), "as for {}: {judged}", bug.name());
    }
}

#[test]
fn every_invariant_has_a_bug_that_breaks_it() {
    for invariant in Invariant::ALL {
        let expected = Expected::Ledger(invariant);
        let bug = planted().find(|bug| scenario_of(*bug).1 == expected);
        assert!(bug.is_some(), "no bug is planted for {invariant}");
    }
}
