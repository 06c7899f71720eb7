//! Records that fail, hang, panic or can't be read: what the policy makes of each.

use std::time::Duration;

use pelton::{
    Context, DeadLetters, Handler, HandlerError, OnInvalid, Ordering, Output, Record, RetryPolicy,
    Worker, WorkerBuilder,
};
use pelton_testkit::TestDriver;

use super::SECOND;

/// Does as the record says.
struct Obeys;

impl Handler for Obeys {
    #[expect(clippy::panic, reason = "as the record says")]
    async fn handle(
        &mut self,
        record: &Record<'_>,
        ctx: &mut Context<'_>,
    ) -> Result<(), HandlerError> {
        match record.json()? {
            "fails" => Err(HandlerError::retryable("as told")),
            "fails twice" if ctx.attempt() <= 2 => Err(HandlerError::retryable("as told")),
            "panics" => panic!("as told"),
            "hangs" => std::future::pending().await,
            _ => Ok(()),
        }
    }
}

/// Each record is tried three times, a second apart, for at most two seconds each.
fn thrice(ordering: Ordering, letters: DeadLetters) -> WorkerBuilder {
    let mut app = Worker::builder("obeys");
    app.input("in")
        .ordering(ordering)
        .retry(RetryPolicy::fixed(SECOND).at_most(3))
        .attempt_timeout(2 * SECOND)
        .dead_letters(letters)
        .handler(|_slot| Obeys);
    app
}

/// The offset and the error code of each dead letter.
fn dead(driver: &TestDriver) -> Vec<(i64, String)> {
    let letters = driver.emitted("dead");
    let header = |letter: &pelton_testkit::Emitted, name: &str| {
        let found = letter.headers.iter().find(|(header, _)| header == name);
        let value = found.and_then(|(_, value)| value.clone()).unwrap_or_default();
        String::from_utf8(value).expect("text")
    };
    let told = letters.iter().map(|letter| {
        let offset = header(letter, "pelton-source-offset").parse().expect("an offset");
        (offset, header(letter, "pelton-error-code"))
    });
    told.collect()
}

#[test]
fn inv_3_what_fails_for_good_becomes_a_dead_letter_and_the_rest_is_done() {
    for ordering in [Ordering::Partition, Ordering::key(4), Ordering::unordered(4)] {
        let mut driver = TestDriver::with_partitions(thrice(ordering, "dead".into()), 1);
        for what in ["\"ok\"", "\"fails\"", "\"panics\"", "no JSON", "\"hangs\"", "\"fails twice\""]
        {
            driver.send("in", what, what);
        }
        driver.advance(60 * SECOND);
        let mut letters = dead(&driver);
        letters.sort();
        let expected = [(1, "failed"), (2, "panicked"), (3, "invalid"), (4, "timed_out")];
        let expected: Vec<_> =
            expected.iter().map(|(at, code)| (*at, (*code).to_owned())).collect();
        assert_eq!(letters, expected, "{ordering:?}");
        assert_eq!(driver.committed("in", 0), Some(6));
        assert_eq!([1, 2, 3, 4, 5].map(|at| driver.attempts("in", 0, at)), [3, 3, 1, 3, 3]);
    }
}

#[test]
fn a_waiting_record_holds_back_only_its_key() {
    let mut driver = TestDriver::with_partitions(thrice(Ordering::key(4), "dead".into()), 1);
    for (key, what) in [("a", "\"fails\""), ("a", "\"ok\""), ("b", "\"ok\"")] {
        driver.send("in", key, what);
    }
    assert_eq!([0, 1, 2].map(|at| driver.attempts("in", 0, at)), [1, 0, 1]);
    driver.advance(5 * SECOND);
    assert_eq!([0, 1, 2].map(|at| driver.attempts("in", 0, at)), [3, 1, 1]);
}

#[test]
fn inv_12_nothing_is_committed_past_a_record_whose_dead_letter_is_not_delivered() {
    let mut driver = TestDriver::with_partitions(thrice(Ordering::Partition, "dead".into()), 1);
    driver.fail_deliveries(5);
    driver.send("in", "a", "no JSON");
    driver.advance(SECOND / 2);
    assert_eq!(driver.committed("in", 0), Some(0));
    driver.advance(60 * SECOND);
    assert_eq!(driver.committed("in", 0), Some(1), "it resumes by itself");
    assert!(!dead(&driver).is_empty());
}

/// Emits what it can read.
struct Echoes(Output);

impl Handler for Echoes {
    async fn handle(
        &mut self,
        record: &Record<'_>,
        ctx: &mut Context<'_>,
    ) -> Result<(), HandlerError> {
        let what: &str = record.json()?;
        ctx.emit(self.0, "k", what)
    }
}

/// Outputs behind a dead letter that could not be delivered were sent again with it every 200 ms.
#[test]
fn what_is_done_behind_a_dead_letter_that_waits_is_sent_again_only_behind_it() {
    let mut app = Worker::builder("echoes");
    let out = app.output("out");
    app.input("in").dead_letters("dead").handler(move |_slot| Echoes(out));
    let mut driver = TestDriver::with_partitions(app, 1);
    driver.fail_deliveries_to(Some("dead"));
    for what in ["no JSON", "\"behind it\"", "\"behind it\""] {
        driver.send("in", "a", what);
    }
    driver.advance(60 * SECOND);
    assert_eq!(driver.committed("in", 0), Some(0));
    assert_eq!(driver.emitted("out").len(), 0);
    driver.fail_deliveries_to(None);
    driver.advance(10 * SECOND);
    assert_eq!(driver.emitted("out").len(), 2);
    assert_eq!((driver.committed("in", 0), dead(&driver).len()), (Some(3), 1));
}

#[test]
fn a_bad_deployment_does_not_drain_a_topic_into_dead_letters() {
    let letters = DeadLetters::to("dead").at_most_in_a_row(3);
    let mut driver = TestDriver::with_partitions(thrice(Ordering::Partition, letters), 1);
    for _ in 0..10 {
        driver.send("in", "a", "\"fails\"");
    }
    driver.advance(120 * SECOND);
    assert_eq!(dead(&driver).len(), 3, "the fourth waits");
    assert_eq!(driver.committed("in", 0), Some(3));
    assert!(driver.attempts("in", 0, 3) > 20, "and is tried on");
}

#[test]
fn without_dead_letters_a_record_that_is_given_up_stops_the_worker_by_name() {
    let mut app = Worker::builder("obeys");
    app.input("in").retry(RetryPolicy::fixed(SECOND).at_most(2)).handler(|_slot| Obeys);
    let mut driver = TestDriver::new(app);
    driver.send("in", "a", "\"fails\"");
    driver.advance(5 * SECOND);
    let failure = driver.failure().expect("it ends");
    assert_eq!((failure.code(), failure.exit_code()), ("PLT-0404".to_owned(), 4));
    assert!(failure.to_string().contains("2 attempts"), "{failure}");
    assert_eq!(driver.committed("in", 0), Some(0));
}

#[test]
fn attempts_are_counted_over_a_hand_over() {
    let mut app = Worker::builder("obeys");
    app.input("in")
        .retry(RetryPolicy::fixed(10 * SECOND).at_most(4))
        .dead_letters("dead")
        .handler(|_slot| Obeys);
    let mut driver = TestDriver::with_partitions(app, 1);
    driver.send("in", "a", "\"fails\"");
    driver.advance(15 * SECOND);
    assert_eq!(driver.attempts("in", 0, 0), 2);
    driver.revoke("in", 0);
    driver.assign("in", 0);
    driver.advance(60 * SECOND);
    assert_eq!(dead(&driver).len(), 1);
    assert_eq!(driver.attempts("in", 0, 0), 4, "two of them were the last owner's");
}

#[test]
fn a_time_limit_counts_from_the_first_attempt() {
    let mut app = Worker::builder("obeys");
    app.input("in")
        .retry(RetryPolicy::fixed(SECOND).for_at_most(Duration::from_millis(4_500)))
        .dead_letters("dead")
        .on_invalid(OnInvalid::Skip)
        .handler(|_slot| Obeys);
    let mut driver = TestDriver::with_partitions(app, 1);
    driver.send("in", "a", "\"fails\"");
    driver.send("in", "a", "no JSON");
    driver.advance(20 * SECOND);
    assert_eq!(driver.attempts("in", 0, 0), 6, "at 0 s, 1 s, … 5 s");
    assert_eq!(dead(&driver), [(0, "failed".to_owned())], "what is invalid is skipped");
}

#[test]
fn inv_14_a_panics_message_names_its_place() {
    let mut driver = TestDriver::with_partitions(thrice(Ordering::Partition, "dead".into()), 1);
    driver.send("in", "a", "\"panics\"");
    driver.advance(10 * SECOND);
    let letters = driver.emitted("dead");
    let error = letters[0].headers.iter().find(|(name, _)| name == "pelton-error");
    let text = error.and_then(|(_, value)| value.clone()).expect("an error");
    let text = String::from_utf8(text).expect("text");
    assert!(text.starts_with("as told, at ") && text.contains("failures.rs:"), "{text}");
}
