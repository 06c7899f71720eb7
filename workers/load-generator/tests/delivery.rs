//! Do logins arrive: all, once, in order, numbered; and is it said where they don't?
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use load_generator::{
    Generated, JsonLines, OrderDigest, Progress, SendError, SendOptions, Tally, send_all,
};
use pelton_testkit::EmbeddedCluster;

#[path = "support/reader.rs"]
mod reader;

const GO_ON: fn(Progress) -> ControlFlow<()> = |_| ControlFlow::Continue(());

fn cluster() -> (EmbeddedCluster, SendOptions) {
    let cluster = EmbeddedCluster::start(1).unwrap();
    cluster.create_topic("user_logins", 4).unwrap();
    let options = SendOptions::new(cluster.bootstrap_servers(), "user_logins");
    (cluster, options)
}

#[test]
fn every_login_arrives_once_keyed_numbered_and_in_its_users_order() {
    let (cluster, options) = cluster();
    let logins: Vec<_> = Generated::new(2, 30).take(3_000).collect();
    let mut seen = Progress::default();
    let sent = send_all(logins.iter().cloned().map(Ok), &options, |progress| {
        seen = progress;
        ControlFlow::Continue(())
    });
    assert_eq!(sent.unwrap().logins, 3_000);
    assert_eq!(seen, Progress { sent: 3_000, delivered: 3_000 });

    let mut orders = BTreeMap::<String, OrderDigest>::new();
    for record in reader::read(cluster.bootstrap_servers(), "user_logins", 3_000) {
        let seq: usize = record.headers["seq"].parse().unwrap();
        assert_eq!(record.value, logins[seq].to_json());
        assert_eq!(record.key, logins[seq].user);
        orders.entry(record.key).or_default().add(seq as u64);
    }
    let mut tally = Tally::default();
    (0..).zip(&logins).for_each(|(seq, login)| tally.add(seq, login));
    let true_orders = tally.users().iter().map(|(name, user)| (name.clone(), user.order)).collect();
    assert_eq!(orders, true_orders);
}

#[test]
fn a_run_may_go_on_where_another_ended_and_malformed_records_have_no_number() {
    let (cluster, mut options) = cluster();
    options.first_seq = 10;
    options.malformed_every = Some(2);
    let sent = send_all(Generated::new(2, 1).take(5).map(Ok), &options, GO_ON).unwrap();
    assert_eq!((sent.logins, sent.malformed), (5, 2));
    let records = reader::read(cluster.bootstrap_servers(), "user_logins", 7);
    let mut numbers: Vec<_> = records
        .iter()
        .map(|record| record.headers.get("seq").map_or("none", String::as_str))
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, ["10", "11", "12", "13", "14", "none", "none"]);
}

#[test]
fn a_rate_is_kept() {
    let (_cluster, mut options) = cluster();
    options.rate_per_second = Some(100.0);
    let sent = send_all(Generated::new(2, 9).take(51).map(Ok), &options, GO_ON).unwrap();
    assert!(sent.elapsed >= Duration::from_millis(500), "{:?}", sent.elapsed);
    assert!(sent.elapsed < Duration::from_secs(5), "{:?}", sent.elapsed);
}

#[test]
fn a_run_that_is_ended_early_delivers_what_it_sent() {
    let (_cluster, mut options) = cluster();
    options.rate_per_second = Some(1_000.0);
    let stop = |progress: Progress| match progress.sent {
        0..20 => ControlFlow::Continue(()),
        _ => ControlFlow::Break(()),
    };
    let sent = send_all(Generated::new(2, 9).map(Ok), &options, stop).unwrap();
    assert!(sent.interrupted);
    assert_eq!(sent.logins, 20);
}

#[test]
fn records_that_are_not_delivered_are_an_error_that_counts_them() {
    let (cluster, mut options) = cluster();
    options.kafka.push(("message.timeout.ms".to_owned(), "1000".to_owned()));
    options.rate_per_second = Some(500.0);
    let mut down = false;
    let error = send_all(Generated::new(2, 9).map(Ok), &options, |progress| {
        if progress.delivered > 20 && !down {
            cluster.broker_down(1).unwrap();
            down = true;
        }
        ControlFlow::Continue(())
    });
    let error = error.unwrap_err();
    assert!(matches!(error, SendError::Undelivered { undelivered: 1.., .. }), "{error}");
    assert!(error.to_string().contains("MessageTimedOut"), "{error}");
}

#[test]
fn a_missing_topic_and_an_absent_kafka_are_errors_with_a_way_out() {
    let (_cluster, mut options) = cluster();
    options.topic = "other".to_owned();
    let error = send_all(Generated::new(2, 9).take(1).map(Ok), &options, GO_ON).unwrap_err();
    assert!(matches!(error, SendError::NoTopic { .. }), "{error}");
    options.bootstrap_servers = "127.0.0.1:1".to_owned();
    let error = send_all(Generated::new(2, 9).take(1).map(Ok), &options, GO_ON).unwrap_err();
    assert!(error.to_string().contains("no answer from 127.0.0.1:1"), "{error}");
}

#[test]
fn a_source_that_fails_is_an_error_and_what_came_before_is_delivered() {
    let (cluster, options) = cluster();
    let input = format!("{}\nnonsense\n", Generated::new(1, 1).next().unwrap().to_json());
    let error = send_all(JsonLines::new(input.as_bytes()), &options, GO_ON).unwrap_err();
    assert!(error.to_string().starts_with("line 2 is no login"), "{error}");
    assert!(matches!(error, SendError::Source { delivered: 1, .. }), "{error}");
    assert_eq!(reader::read(cluster.bootstrap_servers(), "user_logins", 1).len(), 1);
}
