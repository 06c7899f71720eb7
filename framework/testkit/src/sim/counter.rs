//! What is simulated when nobody says otherwise? A worker that counts: a store with a changelog,
//! an output, records that are slow, fail or panic as they say themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pelton::{
    Batch, BatchHandler, Batches, Breaker, Context, DeadLetters, Handler, HandlerError, Ordering,
    Output, Record, RetryPolicy, RetryTopics, Store, Worker, WorkerBuilder,
};

use serde::{Deserialize, Serialize};

use super::fault::{Fault, TimedFault};
use super::fleet::die;
use super::plan::Plan;
use super::subject::{Draw, Fed, RECOVERY, Subject, Written};
use crate::driver::Emitted;
use crate::ledger::TotalsCheck;

/// The topics.
const INPUT: &str = "in";
const OUTPUT: &str = "out";
const DEAD: &str = "dead";
const CHANGELOG: &str = "counter-in-totals-changelog";

/// An attempt that takes longer is cut off; above what any slow record takes.
const ATTEMPT: Duration = Duration::from_secs(6);

/// A record that is given up by time is tried for so long: two attempts that hang, and a little.
const TRIED_FOR: Duration = Duration::from_secs(15);

/// What a record asks for, as its value.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Wish {
    /// It takes so many milliseconds.
    ms: u64,
    /// So many attempts fail; where there are retry topics, all of them in so many topics.
    failures: u32,
    /// They panic instead.
    panics: bool,
    /// They hang instead, until their time is over.
    hangs: bool,
    /// It deletes the user's total.
    deletes: bool,
    /// Under `flush_every`: it counts when it is flushed, not when it is handled.
    waits: bool,
    /// It is never done.
    poison: bool,
    /// It ends its process.
    kills: bool,
    /// Something else completes it.
    deferred: bool,
}

fn record(plan: &Plan, draw: &mut Draw) -> Fed {
    let user = draw.below(plan.keys);
    let key = format!("user-{user}");
    // All of a user's, or one would overtake another.
    let waits = plan.flushes && user.is_multiple_of(2);
    let slow = draw.one_in(plan.slow_one_in);
    // Few last longer than drains may: those are cut off.
    let (shortest, longest) = if draw.one_in(8) { (1_500, 5_000) } else { (1, 1_500) };
    let ms = if slow { draw.between(shortest, longest) } else { 0 };
    let fails = draw.one_in(plan.failing_one_in);
    let failures = if fails { u32::try_from(draw.between(1, 2)).unwrap_or(1) } else { 0 };
    let panics = fails && draw.one_in(3);
    let deletes = draw.one_in(plan.deleting_one_in);
    let poison = draw.one_in(plan.poison_one_in);
    let deferred = draw.one_in(plan.deferred_one_in);
    let kills = draw.one_in(plan.killer_one_in);
    let hangs = plan.attempt_timeout && fails && !panics && draw.one_in(3);
    let wish = Wish { ms, failures, panics, hangs, deletes, waits, poison, kills, deferred };
    let value = serde_json::to_vec(&wish);
    (Some(key.into_bytes()), value.ok())
}

/// Counts since the user's last deletion.
struct Count {
    totals: Option<Store<str, u64>>,
    out: Output,
    ordering: Ordering,
    /// Effects wait for a flush.
    flushes: bool,
    /// There are retry topics.
    retries: bool,
    waiting: Vec<(String, bool)>,
    flushed: u32,
    /// Whose total the next tick tells again.
    last: Option<String>,
}

impl Count {
    fn count(&self, user: &str, deletes: bool, ctx: &mut Context<'_>) -> Result<(), HandlerError> {
        let Some(totals) = self.totals else { return Ok(()) };
        if matches!(self.ordering, Ordering::Unordered { .. }) {
            ctx.add(totals, user, 1)?;
            return ctx.emit(self.out, user, &1);
        }
        let total = if deletes {
            ctx.delete(totals, user)?;
            0
        } else {
            ctx.update(totals, user, |total| total.unwrap_or(0) + 1)?
        };
        ctx.emit(self.out, user, &total)
    }

    async fn one(
        &mut self,
        record: &Record<'_>,
        ctx: &mut Context<'_>,
    ) -> Result<(), HandlerError> {
        let wish = record.json::<Wish>()?;
        let Wish { ms, failures, panics, hangs, deletes, waits, poison, kills, deferred } = wish;
        let user = record.key_str()?;
        if !waits {
            self.count(user, deletes, ctx)?;
        }
        if self.totals.is_none() {
            ctx.emit(self.out, user, &source(record))?;
        }
        if kills {
            die().await;
        }
        if poison {
            return Err(HandlerError::retryable("as the record says, for ever"));
        }
        if deferred {
            let completion = ctx.defer(Duration::from_secs(30))?;
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(ms.max(5))).await;
                completion.done();
            });
        } else if ms > 0 {
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
        // Under `flush_every` what ends an instance starts the partition again, and attempts count from 1.
        let may_end_it = !self.flushes || ctx.assignment_epoch() % 2 == 1;
        let tried = if self.retries { topics_before(record) + 1 } else { ctx.attempt() };
        if tried <= failures {
            assert!(!(panics && may_end_it), "as the record says");
            if hangs && may_end_it {
                std::future::pending::<()>().await;
            }
            return Err(HandlerError::retryable("as the record says"));
        }
        if waits {
            self.waiting.push((user.to_owned(), deletes));
        }
        self.last = Some(user.to_owned());
        Ok(())
    }
}

/// Where the record was written first: its partition and its offset.
fn source(record: &Record<'_>) -> (i64, i64) {
    let number = |name: &str| std::str::from_utf8(record.header(name)?).ok()?.parse().ok();
    let first = number("pelton-source-partition").zip(number("pelton-source-offset"));
    first.unwrap_or_else(|| (record.partition().into(), record.offset()))
}

/// Through how many topics it has come.
fn topics_before(record: &Record<'_>) -> u32 {
    let number = record.topic().rsplit_once("-retry-").and_then(|(_, number)| number.parse().ok());
    number.unwrap_or(0)
}

impl BatchHandler for Count {
    async fn handle_batch(&mut self, batch: &mut Batch<'_>) -> Result<(), HandlerError> {
        let mut failed = Vec::new();
        for (number, record, ctx) in batch.each() {
            if let Err(error) = self.one(&record, ctx).await {
                failed.push((number, error));
            }
        }
        for (number, error) in failed {
            batch.fail(number, error);
        }
        Ok(())
    }
}

impl Handler for Count {
    async fn handle(
        &mut self,
        record: &Record<'_>,
        ctx: &mut Context<'_>,
    ) -> Result<(), HandlerError> {
        self.one(record, ctx).await
    }

    async fn flush(&mut self, ctx: &mut Context<'_>) -> Result<(), HandlerError> {
        self.flushed += 1;
        if self.flushed % 5 == 4 {
            return Err(HandlerError::retryable("now and then a flush fails"));
        }
        for (user, deletes) in &self.waiting {
            self.count(user, *deletes, ctx)?;
        }
        self.waiting.clear();
        Ok(())
    }

    async fn tick(&mut self, ctx: &mut Context<'_>) -> Result<(), HandlerError> {
        let (Some(user), Some(totals)) = (&self.last, self.totals) else { return Ok(()) };
        if self.ordering != Ordering::Partition {
            return Ok(()); // others may be at its total
        }
        let total = ctx.get(totals, user)?.unwrap_or(0);
        ctx.emit(self.out, user, &total)
    }
}

fn app(plan: &Plan) -> WorkerBuilder {
    let mut app = Worker::builder("counter");
    let totals = (!plan.stateless).then(|| app.store("totals"));
    let out = app.output(OUTPUT);
    let retry = if plan.fixed_waits {
        RetryPolicy::fixed(Duration::from_millis(200))
    } else {
        RetryPolicy::exponential(Duration::from_millis(50), Duration::from_secs(1))
    };
    let retry = if plan.limited_by_time {
        retry.for_at_most(TRIED_FOR)
    } else {
        retry.at_most(if plan.retry_topics { 2 } else { 4 })
    };
    let letters = DeadLetters::to(DEAD).without_limit();
    let letters = letters.max_deaths(if plan.cautious { 3 } else { 0 });
    let mut input = app.input(INPUT).retry(retry).ordering(plan.ordering).dead_letters(letters);
    if plan.attempt_timeout {
        input = input.attempt_timeout(ATTEMPT);
    }
    if plan.retry_topics {
        input = input.retry_topics(RetryTopics::after([300, 1_500].map(Duration::from_millis)));
    }
    if plan.breaker {
        let breaker = Breaker::default().failure_rate_threshold(25).minimum_attempts(8);
        let (wait, max_wait) = (Duration::from_millis(200), Duration::from_secs(2));
        input = input.breaker(breaker.wait_in_open(wait, max_wait));
    }
    if plan.flushes {
        input = input.flush_every(20, Duration::from_millis(400));
    }
    if plan.ticks {
        input = input.tick_every(Duration::from_millis(700));
    }
    let (ordering, flushes, retries) = (plan.ordering, plan.flushes, plan.retry_topics);
    let count = move |_slot| Count {
        totals,
        out,
        ordering,
        flushes,
        retries,
        waiting: Vec::new(),
        flushed: 0,
        last: None,
    };
    if plan.batches {
        input.batch_handler(Batches::of(20).linger(Duration::from_millis(30)), count);
    } else {
        input.handler(count);
    }
    app
}

/// The last total of each user is right, in the output and in the changelog.
fn totals(written: &Written<'_>) -> Result<(), String> {
    let plan = written.plan;
    if plan.has(|fault| matches!(fault, Fault::DeleteRecords { .. })) {
        return Ok(()); // what was counted is not there any more
    }
    let writes_on = plan.has(is_expulsion) && !written.verdict.zombie_windows.is_empty();
    if writes_on || has_unheard_expulsion(plan) {
        return Ok(()); // who was removed may write until it hears of it (docs/guarantees.md)
    }
    if !written.records(DEAD).iter().all(is_poison) {
        return Ok(()); // as many as may be: see [`letters`]
    }
    let mut truth = BTreeMap::new();
    for record in written.records(INPUT) {
        let wish: Option<Wish> =
            record.value.as_deref().and_then(|value| serde_json::from_slice(value).ok());
        let total = truth.entry(record.key.unwrap_or_default()).or_insert(0);
        match wish {
            Some(Wish { poison: true, .. } | Wish { kills: true, .. }) => {}
            Some(Wish { deletes: true, .. }) if !plan.stateless => *total = 0,
            _ => *total += 1,
        }
    }
    if plan.stateless {
        return outputs(written);
    }
    let check = TotalsCheck::new(truth).allowing(written.verdict.repeats_by_key());
    let nothing_twice = written.verdict.repeats.is_empty()
        && plan.deleting_one_in == 0
        && !plan.has(Fault::may_fail_a_delivery);
    let unordered = matches!(plan.ordering, Ordering::Unordered { .. });
    for topic in [OUTPUT, CHANGELOG] {
        if topic == OUTPUT && unordered {
            continue; // nobody knows a total
        }
        let mut check = check.clone();
        if topic == OUTPUT && nothing_twice {
            check = check.never_back();
            if !plan.ticks {
                check = check.each_once();
            }
        }
        let last = written.records_in_time(topic).into_iter().map(|record| {
            let total =
                record.value.as_deref().and_then(|value| serde_json::from_slice(value).ok());
            (record.key.unwrap_or_default(), total.unwrap_or(0))
        });
        let held = check.hold(last);
        if !held.is_clean() {
            let story = held.first_key().map_or_else(String::new, |key| written.story(INPUT, key));
            return Err(format!("totals: {topic}: {held}{story}"));
        }
    }
    Ok(())
}

/// Without a store each record that can be done has an output that names it; and where keys are kept in
/// order, those of a key come in its order, whichever retry topics they went through.
fn outputs(written: &Written<'_>) -> Result<(), String> {
    let mut ends = BTreeMap::<i32, i64>::new();
    let mut expected = BTreeSet::new();
    for record in written.records(INPUT) {
        let offset = ends.entry(record.partition).or_default();
        if !is_poison(&record) {
            expected.insert((i64::from(record.partition), *offset));
        }
        *offset += 1;
    }
    let is_ordered = !matches!(written.plan.ordering, Ordering::Unordered { .. })
        && !written.plan.has(|fault| matches!(fault, Fault::DamageMetadata));
    let place =
        |output: &Emitted| serde_json::from_slice::<(i64, i64)>(output.value.as_deref()?).ok();
    // What was sent again counts where it came last: a client may have lost the first of several.
    let mut last = BTreeMap::new();
    for (number, output) in written.records_in_time(OUTPUT).into_iter().enumerate() {
        last.extend(place(&output).map(|at| (at, (output.key.unwrap_or_default(), number))));
    }
    let mut numbers = BTreeMap::new();
    for (at, (key, number)) in last.iter().filter(|_| is_ordered) {
        let before = numbers.insert(key, (number, at));
        if let Some((_, earlier)) = before.filter(|(before, _)| *before > number) {
            let key = String::from_utf8_lossy(key);
            return Err(format!("totals: {earlier:?} of {key} was done behind {at:?}"));
        }
    }
    let found: BTreeSet<_> = written.records(OUTPUT).iter().filter_map(place).collect();
    match expected.difference(&found).next() {
        Some(at) => Err(format!("totals: {at:?} has no output")),
        None => Ok(()),
    }
}

/// Is it never done?
fn is_poison(record: &Emitted) -> bool {
    wish(record).is_some_and(|wish| wish.poison || wish.kills)
}

/// Dead letters of records that could have been done. One that fails at first may be one by rights,
/// where it is given up by time: workers are frozen, or wait, for longer than that.
fn sound_letters(written: &Written<'_>) -> Vec<Emitted> {
    let by_rights = |letter: &Emitted| written.plan.limited_by_time && fails_at_first(letter);
    let letters = written.records(DEAD).into_iter();
    letters.filter(|letter| !is_poison(letter) && !by_rights(letter)).collect()
}

fn fails_at_first(record: &Emitted) -> bool {
    wish(record).is_some_and(|wish| wish.failures > 0)
}

fn wish(record: &Emitted) -> Option<Wish> {
    serde_json::from_slice(record.value.as_deref()?).ok()
}

/// Each record that never is done has become a dead letter, byte for byte, and no other.
fn letters(written: &Written<'_>) -> Result<(), String> {
    if written.plan.has(|fault| matches!(fault, Fault::DeleteRecords { .. })) {
        return Ok(()); // what has become one is not there any more
    }
    let (mut expected, mut found) = (BTreeMap::new(), BTreeMap::new());
    for record in written.records(INPUT).into_iter().filter(is_poison) {
        *expected.entry((record.key, record.value)).or_insert(0_u64) += 1;
    }
    for letter in written.records(DEAD) {
        *found.entry((letter.key, letter.value)).or_insert(0_u64) += 1;
    }
    // An end that comes from outside may be put down to the record that is alone in hand just then.
    let from_outside = if written.plan.killer_one_in > 0 { written.plan.faults.len() } else { 0 };
    if let Some(sound) = sound_letters(written).get(from_outside) {
        let text = |of: &Option<Vec<u8>>| {
            String::from_utf8_lossy(of.as_deref().unwrap_or(b"-")).into_owned()
        };
        let (key, value) = (text(&sound.key), text(&sound.value));
        return Err(format!("totals: {key} {value} is a dead letter, and was no poison"));
    }
    let few = expected.iter().find(|(of, count)| found.get(*of).unwrap_or(&0) < *count);
    few.map_or(Ok(()), |(record, _)| Err(format!("totals: {record:?} has no dead letter")))
}

fn is_expulsion(fault: &Fault) -> bool {
    matches!(fault, Fault::Expel { .. })
}

/// Is somebody removed from the group who may hear of it late?
fn has_unheard_expulsion(plan: &Plan) -> bool {
    let expelled = |timed: &&TimedFault| is_expulsion(&timed.fault);
    let held_up = |expelled: &TimedFault| {
        let mut holding = plan.faults.iter().filter(|timed| timed.fault.may_hold_a_write());
        holding.any(|held| {
            held.at < expelled.at + plan.session_timeout
                && expelled.at < held.at + held.fault.length() + RECOVERY
        })
    };
    plan.faults.iter().filter(expelled).any(held_up)
}

/// The counter and what it is fed.
pub(super) fn subject() -> Subject {
    Subject {
        app: std::sync::Arc::new(app),
        inputs: vec![(INPUT.to_owned(), std::sync::Arc::new(record))],
        judges: vec![std::sync::Arc::new(totals), std::sync::Arc::new(letters)],
    }
}
