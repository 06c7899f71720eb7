//! Records that wait in retry topics: when they come back, what waits behind them, what does not.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use pelton::config::{AutoOffsetReset, Settings};
use pelton::{
    Bug, Context, Handler, HandlerError, Ordering, Record, RetryPolicy, RetryTopics, Worker,
    WorkerBuilder, WorkerError,
};
use pelton_testkit::TestDriver;

use super::SECOND;

/// Fails at the records of these keys; notes what it has done, as key and value, and where from.
#[derive(Clone, Default)]
struct Shop {
    broken: Arc<Mutex<BTreeSet<String>>>,
    done: Arc<Mutex<Vec<(String, bool)>>>,
}

impl Shop {
    fn breaks(&self, key: &str) {
        self.broken.lock().expect("no panic").insert(key.to_owned());
    }

    fn mends(&self, key: &str) {
        self.broken.lock().expect("no panic").remove(key);
    }

    /// What was done of a key, in order.
    fn done(&self, key: &str) -> Vec<String> {
        let done = self.done.lock().expect("no panic");
        let of_key = done.iter().filter(|(what, _)| what.starts_with(key));
        of_key.map(|(what, _)| what[key.len()..].to_owned()).collect()
    }

    /// How many were done where they were written.
    fn done_at_once(&self) -> usize {
        self.done.lock().expect("no panic").iter().filter(|(_, at_once)| *at_once).count()
    }
}

impl Handler for Shop {
    async fn handle(
        &mut self,
        record: &Record<'_>,
        _: &mut Context<'_>,
    ) -> Result<(), HandlerError> {
        let key = record.key_str()?;
        if self.broken.lock().expect("no panic").contains(key) {
            return Err(HandlerError::retryable("the shop is shut"));
        }
        let value = String::from_utf8_lossy(record.value().unwrap_or_default());
        let told = (format!("{key}{value}"), record.topic() == "in");
        self.done.lock().expect("no panic").push(told);
        Ok(())
    }
}

fn app(shop: &Shop, ordering: Ordering, topics: RetryTopics) -> WorkerBuilder {
    let shop = shop.clone();
    let mut app = Worker::builder("shop");
    app.input("in")
        .ordering(ordering)
        .retry(RetryPolicy::fixed(SECOND).at_most(2))
        .retry_topics(topics)
        .dead_letters("dead")
        .handler(move |_slot| shop.clone());
    app
}

fn after(delays: &[u32]) -> RetryTopics {
    RetryTopics::after(delays.iter().map(|delay| *delay * SECOND))
}

fn send(driver: &mut TestDriver, key: &str, values: std::ops::Range<u32>) {
    for value in values {
        driver.send("in", key, &value.to_string());
    }
}

#[test]
fn inv_19_what_follows_a_record_in_a_retry_topic_waits_behind_it_and_others_do_not() {
    for ordering in [Ordering::key(8), Ordering::Partition] {
        let shop = Shop::default();
        let mut driver = TestDriver::with_partitions(app(&shop, ordering, after(&[10])), 1);
        shop.breaks("a");
        send(&mut driver, "a", 0..3);
        send(&mut driver, "b", 0..3);
        driver.advance(4 * SECOND);
        assert_eq!(driver.committed("in", 0), Some(6), "none of them holds back a commit");
        let at_once = if ordering == Ordering::Partition { 0 } else { 3 };
        assert_eq!(shop.done("b").len(), at_once);
        shop.mends("a");
        send(&mut driver, "a", 3..5);
        driver.advance(2 * SECOND);
        assert_eq!(shop.done("a"), Vec::<String>::new(), "its time has not come");
        driver.advance(20 * SECOND);
        send(&mut driver, "a", 5..7);
        driver.advance(5 * SECOND);
        assert_eq!(shop.done("a"), ["0", "1", "2", "3", "4", "5", "6"]);
        assert_eq!(shop.done("b"), ["0", "1", "2"]);
        let let_go = if ordering == Ordering::Partition { 2 } else { 5 };
        assert_eq!(shop.done_at_once(), let_go, "once all of it is done it goes the short way");
        assert_eq!(driver.emitted("dead").len(), 0);
    }
}

#[test]
fn inv_19_the_next_owner_knows_which_keys_wait() {
    let shop = Shop::default();
    let make = || app(&shop, Ordering::key(8), after(&[10]));
    let mut driver = TestDriver::with_partitions(make(), 1);
    shop.breaks("a");
    send(&mut driver, "a", 0..2);
    driver.advance(4 * SECOND);
    for dies in [true, false] {
        let old = if dies { 0 } else { 1 };
        let new = driver.join(make());
        if dies {
            driver.kill(old);
        }
        for topic in ["in", "shop-in-retry-1"] {
            driver.assign_to(new, topic, 0);
        }
        shop.mends("a");
        send(&mut driver, "a", if dies { 2..4 } else { 4..6 });
        driver.advance(SECOND);
        assert_eq!(shop.done("a"), Vec::<String>::new());
        if dies {
            driver.revoke("in", 0);
            driver.revoke("shop-in-retry-1", 0);
            driver.advance(SECOND);
        }
    }
    driver.advance(20 * SECOND);
    assert_eq!(shop.done("a"), ["0", "1", "2", "3", "4", "5"]);
}

#[test]
fn from_one_retry_topic_it_goes_to_the_next_and_then_to_the_dead_letters_in_order() {
    let shop = Shop::default();
    let app = app(&shop, Ordering::key(8), after(&[5, 60]));
    let mut driver = TestDriver::with_partitions(app, 1);
    shop.breaks("a");
    send(&mut driver, "a", 7..8);
    driver.advance(12 * SECOND);
    assert_eq!(driver.emitted("shop-in-retry-2").len(), 1);
    send(&mut driver, "a", 8..9);
    driver.advance(20 * SECOND);
    assert_eq!(driver.emitted("shop-in-retry-2").len(), 2, "it follows without being tried");
    driver.advance(60 * SECOND);
    let letters = driver.emitted("dead");
    assert_eq!(letters.len(), 2);
    let header = |name: &str| {
        let found = letters[0].headers.iter().find(|(header, _)| header == name);
        let value = found.and_then(|(_, value)| value.clone()).unwrap_or_default();
        String::from_utf8(value).expect("text")
    };
    assert_eq!(letters[0].value.as_deref(), Some(&b"7"[..]));
    assert_eq!(header("pelton-source-topic"), "in");
    assert_eq!(header("pelton-source-offset"), "0");
    assert_eq!(header("pelton-attempts"), "6", "two in each of three topics");
    assert_eq!(header("pelton-error"), "the shop is shut");
    assert_eq!(letters[0].headers.len(), 8, "{:?}", letters[0].headers);
}

#[test]
fn keys_are_not_held_where_nobody_wants_it() {
    let shop = Shop::default();
    let topics = after(&[10]).hold_key(false);
    let mut driver = TestDriver::with_partitions(app(&shop, Ordering::key(8), topics), 1);
    shop.breaks("a");
    send(&mut driver, "a", 0..1);
    driver.advance(4 * SECOND);
    shop.mends("a");
    send(&mut driver, "a", 1..2);
    driver.advance(20 * SECOND);
    assert_eq!(shop.done("a"), ["1", "0"]);
}

#[test]
fn inv_19_a_worker_that_forgets_which_keys_wait_is_found_out() {
    let shop = Shop::default();
    let mut app = app(&shop, Ordering::key(8), after(&[10]));
    app.plant(Some(Bug::HoldsForgotten));
    let mut driver = TestDriver::with_partitions(app, 1);
    shop.breaks("a");
    send(&mut driver, "a", 0..1);
    driver.advance(4 * SECOND);
    shop.mends("a");
    send(&mut driver, "a", 1..2);
    driver.advance(20 * SECOND);
    assert_eq!(shop.done("a"), ["1", "0"]);
}

#[test]
fn what_does_not_go_with_retry_topics_is_said() {
    let problem = |change: fn(&mut WorkerBuilder)| {
        let mut app = Worker::builder("shop");
        change(&mut app);
        let mut settings = Settings::default();
        settings.bootstrap_servers = "nobody:9092".to_owned();
        settings.auto_offset_reset = Some(AutoOffsetReset::Earliest);
        app.settings(settings);
        match app.build() {
            Err(WorkerError::Declaration(problem)) => problem,
            Err(other) => other.to_string(),
            Ok(_) => "nothing".to_owned(),
        }
    };
    let for_ever = problem(|app| {
        app.input("in").retry_topics(after(&[1])).handler(|_slot| Shop::default());
    });
    assert!(for_ever.contains("tries its records in place for ever"), "{for_ever}");
    let stores = problem(|app| {
        app.store::<str, u64>("totals");
        let input = app.input("in").retry(RetryPolicy::default().at_most(2));
        input.retry_topics(after(&[1])).handler(|_slot| Shop::default());
    });
    assert!(stores.contains("has retry topics and a store"), "{stores}");
    let pattern = problem(|app| {
        let input = app.input_matching("in-.*").retry(RetryPolicy::default().at_most(2));
        input.retry_topics(after(&[1])).handler(|_slot| Shop::default());
    });
    assert!(pattern.contains("patterns have no retry topics"), "{pattern}");
}
