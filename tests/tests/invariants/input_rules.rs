//! What an operator says of an input takes the place of what its program says, and nothing else does.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pelton::config::{Fate, Flags, Settings, load_from};
use pelton::{
    Batch, BatchHandler, Batches, Context, DeadLetters, Handler, HandlerError, Ordering, Record,
    RetryPolicy, Worker, WorkerBuilder,
};
use pelton_testkit::TestDriver;

use super::SECOND;

/// Fails, hangs or is done, as the record says; and tells how many records are in hand at once.
#[derive(Clone, Default)]
struct Obeys(Arc<Mutex<(usize, usize)>>);

impl Obeys {
    fn most_at_once(&self) -> usize {
        self.0.lock().expect("no panic holds it").1
    }

    fn in_hand(&self, change: impl FnOnce(&mut usize)) {
        let mut counts = self.0.lock().expect("no panic holds it");
        change(&mut counts.0);
        counts.1 = counts.1.max(counts.0);
    }
}

impl Handler for Obeys {
    async fn handle(
        &mut self,
        record: &Record<'_>,
        _ctx: &mut Context<'_>,
    ) -> Result<(), HandlerError> {
        match record.json()? {
            "fails" => Err(HandlerError::retryable("as told")),
            "hangs" => std::future::pending().await,
            "sleeps" => {
                self.in_hand(|now| *now += 1);
                tokio::time::sleep(SECOND).await;
                self.in_hand(|now| *now -= 1);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// A program that tries for ever, without dead letters.
fn app(ordering: Ordering, obeys: &Obeys) -> WorkerBuilder {
    let mut app = Worker::builder("obeys");
    let obeys = obeys.clone();
    app.input("user.logins")
        .ordering(ordering)
        .retry(RetryPolicy::fixed(SECOND))
        .handler(move |_slot| obeys.clone());
    app
}

/// Settings as a worker reads them: of this file, these variables, these flags.
fn load(file: &str, variables: &[(&str, &str)], flags: &[&str]) -> Settings {
    let mut toml = tempfile::NamedTempFile::new().expect("a file");
    let needed = "bootstrap_servers = \"memory:9092\"\nauto_offset_reset = \"earliest\"";
    write!(toml, "{needed}\nadmin.enabled = false\n{file}").expect("written");
    let mut given = Flags::default();
    given.config = Some(toml.path().to_owned());
    given.set = flags.iter().map(|flag| (*flag).to_owned()).collect();
    let variables: BTreeMap<_, _> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    load_from::<()>("obeys", &given, &variables).expect("good settings").settings
}

fn driver(app: WorkerBuilder, settings: Settings) -> TestDriver {
    TestDriver::with_settings(app, 1, |own| *own = settings)
}

fn refused(mut app: WorkerBuilder, file: &str, variables: &[(&str, &str)]) -> String {
    app.settings(load(file, variables, &[]));
    let error = app.build().expect_err("refused").to_string();
    let (before, rest) = error.split_once(" from ").expect("an origin");
    let (origin, problem) = rest.split_once(": ").expect("a problem");
    let line = origin.rsplit_once(':').map_or(origin, |(_, line)| line);
    format!("{before} from {line}: {problem}")
}

#[test]
fn attempts_and_a_topic_for_dead_letters_come_from_the_file() {
    let file = r#"
        [inputs."user.logins"]
        retry = { kind = "fixed", initial = "10s", attempts = 2 }
        dead_letters = { topic = "dead", at_most_in_a_row = 2 }
    "#;
    let mut driver = driver(app(Ordering::Partition, &Obeys::default()), load(file, &[], &[]));
    for _ in 0..3 {
        driver.send("user.logins", "a", "\"fails\"");
    }
    driver.advance(9 * SECOND);
    assert_eq!(driver.attempts("user.logins", 0, 0), 1, "the program would have tried again");
    driver.advance(2 * SECOND);
    assert_eq!(driver.attempts("user.logins", 0, 0), 2);
    assert_eq!(driver.emitted("dead").len(), 1);
    driver.advance(60 * SECOND);
    assert_eq!(driver.emitted("dead").len(), 2, "the third waits");
    assert!(driver.attempts("user.logins", 0, 2) > 2);
    assert_eq!(driver.committed("user.logins", 0), Some(2));
}

#[test]
fn a_breaker_comes_from_the_file() {
    let file = "[inputs.\"user.logins\".breaker]\nminimum_attempts = 3\nwait = \"20s\"";
    let mut driver = driver(app(Ordering::Partition, &Obeys::default()), load(file, &[], &[]));
    driver.send("user.logins", "a", "\"fails\"");
    driver.advance(12 * SECOND);
    assert_eq!(driver.attempts("user.logins", 0, 0), 3, "at 0, 1 and 2 s");
    assert!(driver.status(0).expect("it lives").partitions()[0].breaker_open);
    driver.advance(11 * SECOND);
    assert_eq!(driver.attempts("user.logins", 0, 0), 4);
}

/// The same settings without rules: what the program says holds.
#[test]
fn what_nobody_gives_stays_the_programs() {
    let mut driver = driver(app(Ordering::Partition, &Obeys::default()), load("", &[], &[]));
    driver.send("user.logins", "a", "\"fails\"");
    driver.advance(9 * SECOND + SECOND / 2);
    assert_eq!(driver.attempts("user.logins", 0, 0), 10);
}

#[test]
fn a_flag_beats_a_variable_and_that_the_file_key_by_key() {
    let file = "[inputs.\"user.logins\"]\nretry.attempts = 7\nattempt_timeout = \"3s\"\n\
                dead_letters.topic = \"dead\"";
    let variables = [
        ("PELTON__INPUTS__USER_LOGINS__RETRY__ATTEMPTS", "5"),
        ("PELTON__INPUTS__USER_LOGINS__ATTEMPT_TIMEOUT", "1s"),
    ];
    let settings = load(file, &variables, &["inputs.\"user.logins\".retry.attempts=2"]);
    let mut driver = driver(app(Ordering::Partition, &Obeys::default()), settings);
    driver.send("user.logins", "a", "\"hangs\"");
    driver.advance(SECOND * 5 / 2);
    assert_eq!(driver.attempts("user.logins", 0, 0), 2, "cut off after 1 s, tried after 2 s");
    driver.advance(SECOND);
    assert_eq!(driver.emitted("dead").len(), 1);
    // A variable alone finds its topic, too.
    let settings = load("", &variables, &[]);
    let mut driver = self::driver(app(Ordering::Partition, &Obeys::default()), settings);
    driver.send("user.logins", "a", "\"hangs\"");
    driver.advance(20 * SECOND);
    let failure = driver.failure().expect("no dead letters: it ends").to_string();
    assert!(failure.contains("5 attempts"), "{failure}");
}

#[test]
fn so_many_records_are_in_hand_as_the_settings_say() {
    for (ordering, most) in [(Ordering::key(1), 4), (Ordering::unordered(9), 4)] {
        let obeys = Obeys::default();
        let settings = load("[inputs.\"user.logins\"]\nconcurrency = 4", &[], &[]);
        let mut driver = driver(app(ordering, &obeys), settings);
        for n in 0..20 {
            driver.send("user.logins", &format!("user-{n}"), "\"sleeps\"");
        }
        driver.advance(10 * SECOND);
        assert_eq!(obeys.most_at_once(), most, "{ordering:?}");
        assert_eq!(driver.committed("user.logins", 0), Some(20));
    }
}

#[test]
fn what_becomes_of_invalid_records_is_the_settings_word() {
    let settings = load("[inputs.\"user.logins\"]\non_invalid = \"skip\"", &[], &[]);
    let mut driver = driver(app(Ordering::Partition, &Obeys::default()), settings);
    driver.send("user.logins", "a", "no JSON");
    driver.advance(SECOND);
    assert_eq!(driver.committed("user.logins", 0), Some(1));
    assert!(driver.failure().is_none());
}

#[test]
fn a_time_to_retry_and_an_attempts_time_can_be_taken_away() {
    let mut app = Worker::builder("obeys");
    app.input("in")
        .retry(RetryPolicy::fixed(SECOND).at_most(1))
        .attempt_timeout(SECOND)
        .handler(|_slot| Obeys::default());
    let file = "[inputs.in]\nattempt_timeout = \"0s\"\nretry.attempts = 0";
    let mut driver = driver(app, load(file, &[], &[]));
    driver.send("in", "a", "\"hangs\"");
    driver.advance(10 * SECOND);
    assert_eq!(driver.attempts("in", 0, 0), 1, "it may hang for ever");
    assert!(driver.failure().is_none());
}

/// The records of each batch.
#[derive(Clone, Default)]
struct Bulk(Arc<Mutex<Vec<usize>>>);

impl BatchHandler for Bulk {
    async fn handle_batch(&mut self, batch: &mut Batch<'_>) -> Result<(), HandlerError> {
        self.0.lock().expect("no panic holds it").push(batch.records().len());
        Ok(())
    }
}

fn bulk(seen: &Bulk) -> WorkerBuilder {
    let mut app = Worker::builder("bulk");
    let seen = seen.clone();
    app.input("in").batch_handler(Batches::of(500), move |_slot| seen.clone());
    app
}

#[test]
fn a_batch_is_full_when_the_settings_say_so() {
    for (batch, expected) in [
        ("records = 2\nlinger = \"5s\"", vec![2, 2]),
        ("bytes = \"3000B\"\nlinger = \"5s\"", vec![3]),
        ("linger = \"0s\"", vec![1, 1, 1, 1, 1]),
    ] {
        let seen = Bulk::default();
        let mut driver =
            driver(bulk(&seen), load(&format!("[inputs.in.batch]\n{batch}"), &[], &[]));
        for _ in 0..5 {
            driver.send("in", "a", &"1".repeat(1_000));
        }
        driver.advance(SECOND);
        let counts = seen.0.lock().expect("no panic holds it").clone();
        assert_eq!(counts, expected, "{batch}");
    }
}

#[test]
fn a_topic_has_a_pace_of_its_own_that_changes_at_once() {
    let settings = load("[inputs.\"user.logins\"]\nmax_records_per_second = 2", &[], &[]);
    let mut driver = driver(app(Ordering::Partition, &Obeys::default()), settings);
    for _ in 0..100 {
        driver.send("user.logins", "a", "\"ok\"");
    }
    driver.advance(5 * SECOND);
    let done = driver.committed("user.logins", 0).expect("some");
    assert!((9..=12).contains(&done), "{done}");
    let rate = |rate| {
        move |settings: &mut Settings| {
            let rules = settings.inputs.entry("user.logins".to_owned()).or_default();
            rules.max_records_per_second = rate;
        }
    };
    driver.reload(rate(Some(10))).expect("a rate");
    driver.advance(4 * SECOND);
    let faster = driver.committed("user.logins", 0).expect("some") - done;
    assert!((30..=45).contains(&faster), "{faster}");
    driver.reload(rate(None)).expect("no rate");
    driver.advance(SECOND);
    assert_eq!(driver.committed("user.logins", 0), Some(100));
}

#[test]
fn other_rules_of_an_input_need_a_restart_and_misspelt_topics_change_nothing() {
    let driver = driver(app(Ordering::Partition, &Obeys::default()), load("", &[], &[]));
    let handle = driver.handle(0).expect("it runs");
    let mut settings = handle.settings();
    let rules = settings.inputs.entry("user.logins".to_owned()).or_default();
    rules.retry.attempts = Some(5);
    rules.max_records_per_second = Some(7);
    let changes = handle.reload(&settings).expect("good settings");
    let fates: Vec<_> = changes.iter().map(|change| (change.to_string(), change.fate)).collect();
    let expected = [
        ("inputs.user.logins.max_records_per_second (not set) → 7", Fate::Applied),
        ("inputs.user.logins.retry.attempts (not set) → 5", Fate::NeedsRestart),
    ];
    assert_eq!(fates, expected.map(|(change, fate)| (change.to_owned(), fate)));
    settings.inputs.entry("user_logins".to_owned()).or_default().concurrency = Some(1);
    let error = handle.reload(&settings).expect_err("no such topic").to_string();
    assert!(error.contains("did you mean \"user.logins\"?"), "{error}");
}

#[test]
fn rules_that_fit_no_input_are_refused_with_the_way_out() {
    let plain = || app(Ordering::Partition, &Obeys::default());
    let two = || {
        let mut app = plain();
        app.input("user-logins").handler(|_slot| Obeys::default());
        app
    };
    let pattern = || {
        let mut app = Worker::builder("obeys");
        app.input_matching("audit-.*").handler(|_slot| Obeys::default());
        app
    };
    let of = |rule: &str| format!("[inputs.\"user.logins\"]\n{rule}");
    let no_topic = "the input has no topic for dead letters; give `dead_letters.topic` too";
    for (app, file, answer) in [
        (
            plain(),
            "[inputs.user_logins]\nconcurrency = 2".to_owned(),
            "PLT-0104: unknown setting `inputs.user_logins` from 5: this worker has no input \
             \"user_logins\"; did you mean \"user.logins\"? its inputs are \"user.logins\"",
        ),
        (
            plain(),
            "[inputs.xyz]\nconcurrency = 2".to_owned(),
            "PLT-0104: unknown setting `inputs.xyz` from 5: this worker has no input \"xyz\"; its \
             inputs are \"user.logins\"",
        ),
        (
            pattern(),
            "[inputs.audit-eu]\nattempt_timeout = \"1s\"".to_owned(),
            "PLT-0104: unknown setting `inputs.audit-eu` from 5: this worker has no input \
             \"audit-eu\"; it is read by the input \"^(audit-.*)$\": write that; its inputs are \
             \"^(audit-.*)$\"",
        ),
        (
            pattern(),
            "[inputs.\"^(audit-.*)$\"]\nmax_records_per_second = 1".to_owned(),
            "PLT-0105: `inputs.^(audit-.*)$.max_records_per_second` from 5: only a single topic",
        ),
        (
            plain(),
            of("concurrency = 2"),
            "PLT-0105: `inputs.user.logins.concurrency` from 5: the program keeps all records of a \
             partition in order (Ordering::Partition)",
        ),
        (
            plain(),
            of("on_invalid = \"dead_letter\""),
            &format!("PLT-0105: `inputs.user.logins.on_invalid` from 5: {no_topic}, or write"),
        ),
        (
            plain(),
            of("dead_letters.at_most_of_a_thousand = 5"),
            &format!(
                "PLT-0105: `inputs.user.logins.dead_letters.at_most_of_a_thousand` from 5: {no_topic}"
            ),
        ),
        (
            plain(),
            of("batch.linger = \"1s\""),
            "PLT-0105: `inputs.user.logins.batch.linger` from 5: the program handles the records of \
             this input one by one",
        ),
        (
            plain(),
            of("dead_letters.topic = \"no topic\""),
            "PLT-0105: `inputs.user.logins.dead_letters.topic` from 5: it is no legal topic name",
        ),
    ] {
        let refused = refused(app, &file, &[]).replace(" can't be used", "");
        assert!(refused.starts_with(answer), "{refused}");
    }
    // A variable that could mean either means neither.
    let variable = [("PELTON__INPUTS__USER_LOGINS__ATTEMPT_TIMEOUT", "1s")];
    let mut app = two();
    app.settings(load("", &variable, &[]));
    let error = app.build().expect_err("two are alike").to_string();
    assert!(error.contains("its inputs are \"user.logins\", \"user-logins\""), "{error}");
    // The file says which is meant.
    let mut app = two();
    app.settings(load("[inputs.user-logins]\nretry.attempts = 2", &variable, &[]));
    let (worker, _handle) = app.build().expect("one is meant");
    drop(worker);
}

/// What the program says goes on to hold where the settings name another topic: its limits.
#[test]
fn a_topic_for_dead_letters_takes_the_place_of_the_programs_and_is_the_only_one_needed() {
    let app = || {
        let mut app = Worker::builder("obeys");
        app.input("in")
            .retry(RetryPolicy::fixed(Duration::from_millis(100)).at_most(1))
            .dead_letters(DeadLetters::to("old").at_most_in_a_row(1))
            .handler(|_slot| Obeys::default());
        app
    };
    let settings = load("[inputs.in.dead_letters]\ntopic = \"new\"", &[], &[]);
    let mut driver = driver(app(), settings.clone());
    for _ in 0..2 {
        driver.send("in", "a", "\"fails\"");
    }
    driver.advance(SECOND);
    assert_eq!(driver.emitted("new").len(), 1);
    let mut app = app();
    app.settings(settings);
    let (worker, _handle) = app.build().expect("it fits");
    assert_eq!(worker.topics(), ["in", "new"]);
}

#[test]
fn retry_topics_come_from_the_file_or_a_variable_and_need_a_limit() {
    let file =
        "[inputs.\"user.logins\"]\nretry.attempts = 2\nretry_topics.delays = [\"5s\", \"1m\"]";
    let variable = [("PELTON__INPUTS__USER_LOGINS__RETRY_TOPICS__DELAYS", "5s,1m")];
    let limited = "[inputs.\"user.logins\"]\nretry.attempts = 2";
    for settings in [load(file, &[], &[]), load(limited, &variable, &[])] {
        let mut driver = driver(app(Ordering::key(4), &Obeys::default()), settings);
        driver.send("user.logins", "a", "\"fails\"");
        driver.advance(9 * SECOND);
        assert_eq!(driver.emitted("obeys-user.logins-retry-1").len(), 1);
        assert_eq!(driver.emitted("obeys-user.logins-retry-2").len(), 1);
    }
    let mut endless = app(Ordering::key(4), &Obeys::default());
    endless.settings(load("[inputs.\"user.logins\"]\nretry_topics.delays = [\"5s\"]", &[], &[]));
    let problem = endless.build().expect_err("refused").to_string();
    assert!(problem.contains("tries its records in place for ever"), "{problem}");
    let alone = "[inputs.\"user.logins\"]\nretry_topics.hold_key = false";
    assert_eq!(
        refused(app(Ordering::key(4), &Obeys::default()), alone, &[]),
        "PLT-0105: `inputs.user.logins.retry_topics.hold_key` from 5 can't be used: the input has no \
         retry topics; give `retry_topics.delays` too, or remove it"
    );
}
