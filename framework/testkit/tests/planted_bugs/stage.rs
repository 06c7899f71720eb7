//! On what does a planted bug play? Workers that count, in memory and virtual time, under one
//! ledger; and what it and the topics say of them in the end.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pelton::config::{OnOutOfRange, Settings};
use pelton::{
    Alarm, Bug, Context, DeadLetters, Handler, HandlerError, Ordering as Order, Output, Record,
    RetryPolicy, Store, Worker, WorkerBuilder,
};
use pelton_testkit::TestDriver;
use pelton_testkit::ledger::{
    Check, FaultKind, Invariant, MemoryLedger, TotalsCheck, TotalsVerdict, Verdict,
};

pub(crate) const EASY: &str = "";
pub(crate) const SLOW: &str = "slow";
/// Longer than a drain may take.
pub(crate) const SLOWER: &str = "slower";
pub(crate) const FAILS_ONCE: &str = "fails once";
pub(crate) const PANICS_ONCE: &str = "panics once";
/// The next flush fails.
pub(crate) const SPOILS_FLUSH: &str = "spoils the flush";
/// Its key's total is deleted.
pub(crate) const FORGET: &str = "forget";

/// Never done.
pub(crate) const POISON: &str = "poison";
/// Something else completes it, after a while.
pub(crate) const DEFERRED: &str = "deferred";

/// Counts records per key; the value says how hard the record is.
struct Count {
    totals: Option<Store<str, u64>>,
    out: Output,
    ordering: Order,
    flush_fails: bool,
    /// Of all instances in this worker: one panic is enough.
    has_panicked: Arc<AtomicBool>,
    last_key: Option<String>,
}

impl Handler for Count {
    async fn handle(
        &mut self,
        record: &Record<'_>,
        ctx: &mut Context<'_>,
    ) -> Result<(), HandlerError> {
        let value = std::str::from_utf8(record.value().unwrap_or_default())?.to_owned();
        let key = std::str::from_utf8(record.key().unwrap_or_default())?.to_owned();
        match value.as_str() {
            SLOW => tokio::time::sleep(Duration::from_secs(5)).await,
            SLOWER => tokio::time::sleep(Duration::from_secs(60)).await,
            _ => {}
        }
        if value == DEFERRED {
            let completion = ctx.defer(Duration::from_secs(60))?;
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(5)).await;
                completion.done();
            });
        }
        match self.totals {
            Some(totals) if matches!(self.ordering, Order::Unordered { .. }) => {
                ctx.add(totals, &*key, 1)?;
                tokio::time::sleep(Duration::from_millis(500)).await;
                return Ok(()); // nobody knows a total
            }
            Some(totals) if value == FORGET => return ctx.delete(totals, &*key),
            Some(totals) => {
                let total = ctx.update(totals, &*key, |n| n.unwrap_or(0) + 1)?;
                ctx.emit(self.out, &key, &total)?;
            }
            None => {}
        }
        self.last_key = Some(key);
        self.flush_fails |= value == SPOILS_FLUSH;
        match value.as_str() {
            POISON => Err(HandlerError::retryable("poison")),
            FAILS_ONCE if ctx.attempt() == 1 => {
                Err(HandlerError::retryable("the first attempt fails"))
            }
            PANICS_ONCE if !self.has_panicked.swap(true, Ordering::Relaxed) => {
                resume_unwind(Box::new("the first attempt"))
            }
            _ => Ok(()),
        }
    }

    async fn flush(&mut self, _ctx: &mut Context<'_>) -> Result<(), HandlerError> {
        if std::mem::take(&mut self.flush_fails) {
            return Err(HandlerError::retryable("the flush fails"));
        }
        Ok(())
    }

    /// Says the last total once more.
    async fn tick(&mut self, ctx: &mut Context<'_>) -> Result<(), HandlerError> {
        if let (Some(key), Some(totals)) = (self.last_key.take(), self.totals) {
            let total = ctx.get(totals, &*key)?;
            ctx.emit(self.out, &key, &total)?;
        }
        Ok(())
    }
}

/// What a run is set up with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Setup {
    pub(crate) partitions: i32,
    pub(crate) flush_every: Option<(usize, Duration)>,
    pub(crate) tick_every: Option<Duration>,
    pub(crate) ordering: Order,
    /// Handlers have no store and no output: their slots take several records at once.
    pub(crate) stateless: bool,
    /// The input is there before anybody reads it; [`Stage::begin`] assigns it.
    pub(crate) late: bool,
    /// Nothing is repeated or sent again: outputs are held to that.
    pub(crate) undisturbed: bool,
}

/// One worker, perhaps joined by others, all with the same bug, under one ledger.
pub(crate) struct Stage {
    pub(crate) driver: TestDriver,
    pub(crate) ledger: MemoryLedger,
    pub(crate) bug: Option<Bug>,
    setup: Setup,
    /// What the totals must be, but for repeats.
    counts: BTreeMap<&'static str, u64>,
    /// Records that must become dead letters.
    poison: usize,
}

/// The worker that has the partitions first.
const FIRST: &str = "a";

/// Of these, some go to each of two partitions.
pub(crate) const KEYS: [&str; 4] = ["alice", "bob", "carol", "dave"];

impl Stage {
    pub(crate) fn new(setup: Setup, bug: Option<Bug>) -> Self {
        let ledger = MemoryLedger::new();
        let input = if setup.late { "elsewhere" } else { "in" };
        let first = app(&ledger, FIRST, input, setup, bug);
        let change = |settings: &mut Settings| {
            settings.memory_budget_records = 10;
            settings.on_out_of_range = OnOutOfRange::Earliest;
        };
        let partitions = setup.partitions.max(1);
        let mut driver = TestDriver::with_settings(first, partitions, change);
        if setup.late {
            driver.join(app(&ledger, "b", "in", setup, bug));
        }
        Self { driver, ledger, bug, setup, counts: BTreeMap::new(), poison: 0 }
    }

    /// The late reader gets its partition.
    pub(crate) fn begin(&mut self) {
        self.driver.assign_to(1, "in", 0);
    }

    pub(crate) fn send(&mut self, records: usize, value: &str) {
        for number in 0..records {
            self.send_to(KEYS[number % KEYS.len()], value);
        }
    }

    pub(crate) fn send_to(&mut self, key: &'static str, value: &str) {
        let count = self.counts.entry(key).or_default();
        match value {
            FORGET => *count = 0,
            POISON => self.poison += 1,
            _ => *count += 1,
        }
        self.driver.send("in", key, value);
    }

    /// A key's count, where it is not that of the records sent to it.
    pub(crate) fn expect(&mut self, key: &'static str, count: u64) {
        self.counts.insert(key, count);
    }

    pub(crate) fn pass(&mut self, seconds: u64) {
        self.driver.advance(Duration::from_secs(seconds));
    }

    pub(crate) fn kill(&mut self) {
        self.ledger.fault(FaultKind::Kill, FIRST);
        self.driver.kill(0);
    }

    pub(crate) fn freeze(&mut self) {
        self.ledger.fault(FaultKind::Stop, FIRST);
        self.driver.freeze(0);
    }

    pub(crate) fn thaw(&mut self) {
        self.ledger.fault(FaultKind::Continue, FIRST);
        self.driver.thaw(0);
    }

    /// Another worker joins and gets all there is.
    pub(crate) fn give_to_another(&mut self) {
        let other = app(&self.ledger, "b", "in", self.setup, self.bug);
        let other = self.driver.join(other);
        for partition in 0..self.setup.partitions.max(1) {
            self.driver.assign_to(other, "in", partition);
        }
    }

    /// Ends the run and lets the ledger and the topics judge it.
    pub(crate) fn judge(mut self) -> Judged {
        self.pass(10);
        let failure = self.driver.shut_down().err().map(ToString::to_string);
        let truth = self.driver.truth();
        let check = Check::new().ordering(self.setup.ordering);
        let check = check.stuck_after(Duration::from_secs(70));
        let verdict =
            check.drain_timeout(Duration::from_secs(20)).hold(&self.ledger.ledger(), &truth);
        let counts = if self.setup.stateless { BTreeMap::new() } else { self.counts.clone() };
        let totals = TotalsCheck::new(counts).allowing(verdict.repeats_by_key());
        let mut sent = totals.clone();
        if self.setup.undisturbed {
            sent = sent.never_back();
            sent = if self.setup.tick_every.is_none() { sent.each_once() } else { sent };
        }
        let hold = |totals: &TotalsCheck, topic: &str| {
            let written = self.driver.emitted(topic).into_iter();
            let written =
                written.map(|e| (e.key_str().to_owned(), e.value.clone().map_or(0, |_| e.json())));
            totals.hold(written)
        };
        let changelog = hold(&totals, "count-in-totals-changelog");
        let nobody_knows = matches!(self.setup.ordering, Order::Unordered { .. });
        let output = if nobody_knows { changelog.clone() } else { hold(&sent, "out") };
        let letters = self.driver.emitted("dead").len();
        let letters_are_right = letters >= self.poison && (self.poison > 0 || letters == 0);
        Judged { verdict, output, changelog, letters_are_right, failure }
    }
}

fn app(
    ledger: &MemoryLedger,
    name: &str,
    input: &str,
    setup: Setup,
    bug: Option<Bug>,
) -> WorkerBuilder {
    let mut app = Worker::builder("count");
    let totals = (!setup.stateless).then(|| app.store("totals"));
    let out = app.output("out");
    let retry = RetryPolicy::default().at_most(3);
    // Commits come by the clock alone, as the scenarios count them.
    let letters = DeadLetters::to("dead").max_deaths(0);
    let mut input = app.input(input).ordering(setup.ordering).retry(retry).dead_letters(letters);
    if let Some((records, interval)) = setup.flush_every {
        input = input.flush_every(records, interval);
    }
    if let Some(interval) = setup.tick_every {
        input = input.tick_every(interval);
    }
    let has_panicked = Arc::<AtomicBool>::default();
    input.handler(move |_slot| {
        let has_panicked = Arc::clone(&has_panicked);
        let ordering = setup.ordering;
        Count { totals, out, ordering, flush_fails: false, has_panicked, last_key: None }
    });
    app.observer(ledger.worker(name)).plant(bug);
    app
}

/// What is said of a run.
pub(crate) struct Judged {
    pub(crate) verdict: Verdict,
    pub(crate) output: TotalsVerdict,
    pub(crate) changelog: TotalsVerdict,
    /// Each record that never is done has become a dead letter, and no other.
    pub(crate) letters_are_right: bool,
    pub(crate) failure: Option<String>,
}

impl Judged {
    pub(crate) fn is_clean(&self) -> bool {
        self.verdict.is_clean() && self.failure.is_none() && self.totals_are_right()
    }

    pub(crate) fn raises(&self, alarm: Alarm) -> bool {
        match invariant(alarm) {
            Some(invariant) => self.verdict.count(invariant) > 0,
            None => alarm == Alarm::Totals && !self.totals_are_right(),
        }
    }

    fn totals_are_right(&self) -> bool {
        self.output.is_clean() && self.changelog.is_clean() && self.letters_are_right
    }
}

/// The ledger's invariant that an alarm stands for.
pub(crate) fn invariant(alarm: Alarm) -> Option<Invariant> {
    Invariant::ALL.into_iter().find(|invariant| invariant.code() == alarm.code())
}

impl std::fmt::Display for Judged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { verdict, output, changelog, letters_are_right, failure } = self;
        write!(f, "{verdict}\noutput: {output}\nchangelog: {changelog}\n")?;
        write!(f, "dead letters are right: {letters_are_right}\nended: {failure:?}")
    }
}
