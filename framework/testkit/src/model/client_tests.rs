//! Are the clients that fetch and write true to librdkafka's? Over a bad network, from seeds.

use std::collections::BTreeMap;
use std::sync::Arc;

use pelton::TopicPartition;
use pelton::ports::{FetchEvent, OutRecord, Reports, SendError};

use super::fetcher::FetchConfig;
use super::log::Log;
use super::producer::ProducerConfig;
use super::trial::{Faults, Heard, Trial, heard, ms, out, partition};
use super::wire::{Client as _, LogRecord};
use crate::murmur2::partition_for_key;

const BAD: Faults = Faults { lost_requests: 15, lost_answers: 15, slow: 40, moves: 30 };

/// Sends `count` records, one every few milliseconds; the value of each is its number.
fn send_all(trial: &mut Trial, count: u64, partitions: i32) -> BTreeMap<i32, Vec<(u64, String)>> {
    let (_, reports) = heard();
    send_with(trial, count, partitions, &reports)
}

fn send_with(
    trial: &mut Trial,
    count: u64,
    partitions: i32,
    reports: &Arc<dyn Reports>,
) -> BTreeMap<i32, Vec<(u64, String)>> {
    let mut sent: BTreeMap<i32, Vec<(u64, String)>> = BTreeMap::new();
    for ticket in 0..count {
        let to = i32::try_from(trial.random.below(u64::from(partitions.unsigned_abs())));
        let to = to.expect("small");
        let record = out(to, ticket);
        trial.producer(0, |p, wire| p.send(&record, ticket, reports, wire)).expect("queued");
        sent.entry(to).or_default().push((ticket, ticket.to_string()));
        let pause = trial.random.duration(ms(0), ms(6));
        trial.run_for(pause);
    }
    sent
}

#[test]
fn an_idempotent_producer_neither_repeats_nor_reorders_unless_a_delivery_times_out() {
    let mut timed_out = 0;
    for seed in 0..60 {
        let mut trial = Trial::new(seed, 4);
        trial.faults = BAD;
        let delivery_timeout = if seed % 3 == 0 { ms(1_500) } else { ms(60_000) };
        trial.add_producer(ProducerConfig {
            delivery_timeout,
            request_timeout: ms(3_000),
            batch_records: 7,
            ..ProducerConfig::default()
        });
        let (heard, reports) = heard();
        let sent = send_with(&mut trial, 400, 4, &reports);
        trial.run_for(ms(90_000));
        let reported = heard.all();
        assert_eq!(reported.len(), 400, "seed {seed}: every record is reported");
        let failed = reported.values().filter(|result| result.is_err()).count();
        timed_out += failed;
        assert!(failed == 0 || seed % 3 == 0, "seed {seed}: a minute is enough");
        for (number, sent) in sent {
            let stored = trial.values(number, false);
            if failed == 0 {
                let sent: Vec<_> = sent.into_iter().map(|(_, value)| value).collect();
                assert_eq!(stored, sent, "seed {seed}, partition {number}");
            } else {
                for (ticket, value) in sent.iter().filter(|(ticket, _)| reported[ticket].is_ok()) {
                    assert!(stored.contains(value), "seed {seed}: {ticket} was reported stored");
                }
            }
        }
    }
    assert!(timed_out > 0, "no delivery timed out: the test shows less than it should");
}

/// What a poll of the fetcher brings.
fn poll(trial: &mut Trial) -> Vec<FetchEvent> {
    let mut events = Vec::new();
    trial.fetcher(0, |f, wire| f.poll(1000, &mut events, wire));
    events
}

fn offsets(events: &[FetchEvent]) -> Vec<i64> {
    let of = |event: &FetchEvent| match event {
        FetchEvent::Run(run) => run.offsets().collect(),
        _ => Vec::new(),
    };
    events.iter().flat_map(of).collect()
}

/// A fetcher that has started partition 0 at `offset`, where ten records are.
fn fetching(config: FetchConfig, offset: i64) -> Trial {
    let mut trial = Trial::new(1, 3);
    trial.add_fetcher(config);
    fill(&mut trial, 10);
    trial.fetcher(0, |f, wire| f.start(&partition(0), offset, wire)).expect("started");
    trial
}

fn fill(trial: &mut Trial, count: u64) {
    for number in 0..count {
        let value = Some(number.to_string().into_bytes());
        let record = LogRecord { key: None, value, headers: Vec::new(), timestamp_ms: Some(7) };
        trial.logs.get_mut(&partition(0)).expect("known").push(record);
    }
}

#[test]
fn a_fetch_begins_where_it_was_started_and_knows_the_end() {
    let mut trial = fetching(FetchConfig::default(), 4);
    assert_eq!(trial.fetchers[0].end_offset(&partition(0)), None);
    trial.run_for(ms(50));
    let events = poll(&mut trial);
    assert_eq!(offsets(&events), [4, 5, 6, 7, 8, 9]);
    let FetchEvent::Run(run) = &events[0] else { panic!("{events:?}") };
    let record = run.record(0).expect("there is one");
    assert_eq!((record.value(), record.timestamp_ms()), (Some(&b"4"[..]), Some(7)));
    assert_eq!(trial.fetchers[0].end_offset(&partition(0)), Some(10));
}

#[test]
fn nothing_of_a_stopped_partition_comes_out_and_what_was_under_way_is_dropped() {
    let mut trial = fetching(FetchConfig::default(), 0);
    let stop = |trial: &mut Trial| {
        trial.fetcher(0, |f, wire| f.stop(&partition(0), wire)).expect("stopped");
    };
    stop(&mut trial); // its first request is under way
    trial.run_for(ms(1_000));
    assert_eq!(poll(&mut trial).len(), 0);
    trial.fetcher(0, |f, wire| f.start(&partition(0), 2, wire)).expect("started");
    trial.run_for(ms(1_000));
    stop(&mut trial); // it waits to be polled
    assert_eq!(poll(&mut trial).len(), 0);
    stop(&mut trial);
}

#[test]
fn a_partition_that_is_started_again_begins_anew_even_while_it_runs() {
    let mut trial = fetching(FetchConfig::default(), 0);
    trial.fetcher(0, |f, wire| f.start(&partition(0), 7, wire)).expect("started");
    trial.run_for(ms(1_000));
    assert_eq!(offsets(&poll(&mut trial)), [7, 8, 9]);
}

#[test]
fn out_of_range_is_said_once_and_the_partition_is_dead_until_it_is_started_again() {
    let mut trial = fetching(FetchConfig::default(), 11);
    trial.run_for(ms(1_000));
    let events = poll(&mut trial);
    assert!(matches!(&events[..], [FetchEvent::OutOfRange { offset: 11, .. }]), "{events:?}");
    fill(&mut trial, 5);
    trial.run_for(ms(2_000));
    assert_eq!(poll(&mut trial).len(), 0);
    trial.fetcher(0, |f, wire| f.start(&partition(0), 13, wire)).expect("started");
    trial.run_for(ms(1_000));
    assert_eq!(offsets(&poll(&mut trial)), [13, 14]);
}

#[test]
fn the_end_is_told_once_and_again_after_more_records() {
    let mut trial = fetching(FetchConfig { tell_ends: true, ..FetchConfig::default() }, 0);
    let mut ends = Vec::new();
    for round in 0..40 {
        if round == 20 {
            fill(&mut trial, 1);
        }
        trial.run_for(ms(100));
        for event in poll(&mut trial) {
            if let FetchEvent::End { offset, .. } = event {
                ends.push(offset);
            }
        }
    }
    assert_eq!(ends, [10, 11]);
}

#[test]
fn so_many_records_wait_to_be_polled_at_most() {
    let config = FetchConfig { queue_records: 4, answer_records: 3, ..FetchConfig::default() };
    let mut trial = fetching(config, 0);
    trial.run_for(ms(2_000));
    assert_eq!(offsets(&poll(&mut trial)), [0, 1, 2, 3]);
    trial.run_for(ms(2_000));
    assert_eq!(offsets(&poll(&mut trial)), [4, 5, 6, 7]);
}

#[test]
fn a_broken_fetcher_says_so_once_and_a_silent_one_never() {
    let mut trial = fetching(FetchConfig::default(), 0);
    trial.run_for(ms(100));
    trial.fetcher(0, |f, _| f.break_with("a test"));
    let events = poll(&mut trial);
    assert!(matches!(&events[..], [FetchEvent::Broken(reason)] if reason == "a test"));
    trial.run_for(ms(2_000));
    assert_eq!(poll(&mut trial).len(), 0);

    let mut trial = fetching(FetchConfig::default(), 0);
    trial.fetcher(0, |f, _| f.silence());
    trial.fetcher(0, |f, wire| f.start(&partition(0), 0, wire)).expect("it does not say why");
    trial.run_for(ms(2_000));
    assert_eq!(poll(&mut trial).len(), 0);

    trial.fetcher(0, |f, wire| f.close(wire));
    assert!(trial.fetcher(0, |f, wire| f.start(&partition(0), 0, wire)).is_err());
}

#[test]
fn a_topic_that_is_gone_is_trouble_or_silence() {
    for is_silent_about_unknown in [false, true] {
        let config = FetchConfig { is_silent_about_unknown, ..FetchConfig::default() };
        let mut trial = fetching(config, 0);
        trial.leaders.remove(&partition(0)); // clients have not heard of it yet
        trial.run_for(ms(50));
        let events = poll(&mut trial);
        let is_told = matches!(&events[..], [FetchEvent::Trouble { .. }]);
        assert_eq!(is_told, !is_silent_about_unknown, "{events:?}");
    }
}

#[test]
fn a_fetch_goes_on_at_the_new_leader() {
    let mut trial = fetching(FetchConfig::default(), 0);
    trial.move_leader(&partition(0));
    trial.run_for(ms(4_000));
    assert_eq!(offsets(&poll(&mut trial)).len(), 10);
}

fn producing(config: ProducerConfig) -> (Trial, Arc<Heard>, Arc<dyn Reports>) {
    let mut trial = Trial::new(1, 4);
    trial.add_producer(config);
    let (heard, reports) = heard();
    (trial, heard, reports)
}

fn send(
    trial: &mut Trial,
    record: &OutRecord,
    ticket: u64,
    reports: &Arc<dyn Reports>,
) -> Result<(), SendError> {
    trial.producer(0, |p, wire| p.send(record, ticket, reports, wire))
}

#[test]
fn a_key_chooses_its_partition_as_in_java_and_no_key_chance() {
    let (mut trial, heard, reports) = producing(ProducerConfig::default());
    let keyed = |key: &[u8]| OutRecord { partition: None, key: Some(key.to_vec()), ..out(0, 1) };
    send(&mut trial, &keyed(b"admin"), 0, &reports).expect("queued");
    for ticket in 1..=40 {
        let none = OutRecord { partition: None, ..out(0, ticket) };
        send(&mut trial, &none, ticket, &reports).expect("queued");
    }
    trial.run_for(ms(200));
    assert!(heard.all().len() == 41 && heard.all().values().all(Result::is_ok));
    let of_admin = partition_for_key(b"admin", 4);
    let holds = |number| trial.logs[&partition(number)].records(true).any(|(_, r)| r.key.is_some());
    assert!((0..4).all(|number| holds(number) == (number == of_admin)));
    assert!((0..4).all(|number| trial.logs[&partition(number)].end() > 0));
    let mut records = trial.logs[&partition(of_admin)].records(true);
    let stamped = records.all(|(_, record)| record.timestamp_ms.is_some());
    assert!(stamped, "the client's clock, where the record has no time");
}

#[test]
fn a_full_queue_refuses_until_something_is_delivered() {
    let (mut trial, _, reports) =
        producing(ProducerConfig { queue_records: 2, ..ProducerConfig::default() });
    send(&mut trial, &out(0, 1), 1, &reports).expect("queued");
    send(&mut trial, &out(0, 2), 2, &reports).expect("queued");
    assert!(matches!(send(&mut trial, &out(0, 3), 3, &reports), Err(SendError::Full)));
    trial.run_for(ms(200));
    send(&mut trial, &out(0, 3), 3, &reports).expect("queued");
}

#[test]
fn a_broken_producer_refuses_until_it_is_renewed_and_what_it_had_has_failed() {
    let (mut trial, heard, reports) = producing(ProducerConfig::default());
    trial.faults = Faults { lost_answers: 1, ..Faults::default() };
    send(&mut trial, &out(0, 1), 1, &reports).expect("queued");
    trial.run_for(ms(100));
    trial.producer(0, |p, _| p.break_with("a test"));
    let refused = send(&mut trial, &out(0, 2), 2, &reports);
    assert!(matches!(refused, Err(SendError::Broken { client: 1, .. })), "{refused:?}");
    trial.faults = Faults::default();
    trial.producer(0, |p, wire| p.renew(9, wire)).expect("another one: nothing is done");
    assert!(send(&mut trial, &out(0, 2), 2, &reports).is_err());
    trial.producer(0, |p, wire| p.renew(1, wire)).expect("renewed");
    assert!(heard.all()[&1].is_err());
    send(&mut trial, &out(0, 2), 2, &reports).expect("queued");
    trial.producer(0, |p, wire| p.renew(1, wire)).expect("it was renewed before");
    trial.run_for(ms(200));
    assert_eq!(heard.all()[&2], Ok(()));
    trial.producer(0, |p, wire| p.close(true, wire));
    assert!(matches!(send(&mut trial, &out(0, 3), 3, &reports), Err(SendError::Refused(_))));
}

#[test]
fn a_delivery_that_times_out_has_failed_though_it_may_be_stored_and_the_next_ones_go_on() {
    let config = ProducerConfig { delivery_timeout: ms(1_000), ..ProducerConfig::default() };
    let (mut trial, heard, reports) = producing(config);
    trial.run_for(ms(100));
    trial.faults = Faults { lost_answers: 1, ..Faults::default() };
    send(&mut trial, &out(0, 1), 1, &reports).expect("queued");
    trial.run_for(ms(1_200));
    assert!(heard.all()[&1].is_err());
    assert_eq!(trial.values(0, true), ["1"], "stored once, however often it was tried");
    trial.faults = Faults::default();
    send(&mut trial, &out(0, 2), 2, &reports).expect("queued");
    trial.run_for(ms(1_000));
    assert_eq!(heard.all()[&2], Ok(()));
    assert_eq!(trial.values(0, true), ["1", "2"], "under another identity, its numbers from 0");
}

#[test]
fn a_record_that_never_arrived_leaves_no_gap_for_the_next_ones() {
    let config = ProducerConfig { delivery_timeout: ms(1_000), ..ProducerConfig::default() };
    let (mut trial, heard, reports) = producing(config);
    trial.run_for(ms(100));
    trial.faults = Faults { lost_requests: 1, ..Faults::default() };
    send(&mut trial, &out(0, 1), 1, &reports).expect("queued");
    trial.run_for(ms(1_200));
    assert!(heard.all()[&1].is_err());
    trial.faults = Faults::default();
    send(&mut trial, &out(0, 2), 2, &reports).expect("queued");
    trial.run_for(ms(1_000));
    assert_eq!((heard.all()[&2].clone(), trial.values(0, true)), (Ok(()), vec!["2".to_owned()]));
}

#[test]
fn nothing_goes_to_a_new_leader_before_the_old_one_has_answered() {
    let (mut trial, _, reports) = producing(ProducerConfig::default());
    trial.run_for(ms(100));
    send(&mut trial, &out(0, 1), 1, &reports).expect("queued");
    trial.run_for(ms(5)); // under way: it arrives a millisecond later at the earliest
    trial.leaders.insert(partition(0), Some(1));
    trial.believed.leaders.insert(partition(0), Some(1));
    let before = trial.requests;
    send(&mut trial, &out(0, 2), 2, &reports).expect("queued");
    trial.producer(0, |p, wire| {
        wire.now = wire.now + ms(5); // it has lingered
        p.turn(wire);
    });
    assert_eq!(trial.requests, before);
    trial.run_for(ms(500));
    assert_eq!(trial.values(0, true), ["1", "2"]);
}

#[test]
fn a_process_that_was_frozen_finds_its_old_records_dead() {
    let (mut trial, heard, reports) = producing(ProducerConfig::default());
    trial.run_for(ms(100));
    send(&mut trial, &out(0, 1), 1, &reports).expect("queued");
    trial.now = trial.now + ms(20_000); // nothing had its turn
    trial.run_for(ms(1_000));
    assert!(heard.all()[&1].is_err());
    assert_eq!(trial.values(0, true), Vec::<String>::new());
}

#[test]
fn a_topic_that_nobody_knows_is_waited_for_and_fails_in_the_end() {
    let config = ProducerConfig { topic_propagation: ms(2_000), ..ProducerConfig::default() };
    let (mut trial, heard, reports) = producing(config);
    let elsewhere = |value| OutRecord { topic: "u".into(), ..out(0, value) };
    send(&mut trial, &elsewhere(1), 1, &reports).expect("queued");
    trial.run_for(ms(2_500));
    assert!(heard.all()[&1].is_err());
    send(&mut trial, &elsewhere(2), 2, &reports).expect("queued");
    let of_it = TopicPartition::new("u", 0);
    trial.logs.insert(of_it.clone(), Log::default());
    trial.leaders.insert(of_it.clone(), Some(0));
    trial.believed.leaders.insert(of_it.clone(), Some(0));
    send(&mut trial, &elsewhere(3), 3, &reports).expect("queued");
    trial.run_for(ms(500));
    assert_eq!((heard.all()[&2].clone(), heard.all()[&3].clone()), (Ok(()), Ok(())));
    let first = trial.logs[&of_it].records(true).next().map(|(_, record)| record.value.clone());
    assert_eq!(first, Some(Some(b"2".to_vec())), "in the order they were sent");
    let beyond = OutRecord { partition: Some(4), ..out(0, 4) };
    assert!(matches!(send(&mut trial, &beyond, 4, &reports), Err(SendError::Refused(_))));
}

#[test]
fn a_log_that_lost_what_it_had_acknowledged_breaks_the_producer() {
    let (mut trial, heard, reports) = producing(ProducerConfig::default());
    for ticket in 0..3 {
        send(&mut trial, &out(0, ticket), ticket, &reports).expect("queued");
        trial.run_for(ms(100));
    }
    assert!(heard.all().values().all(Result::is_ok));
    trial.logs.get_mut(&partition(0)).expect("known").truncate(1);
    send(&mut trial, &out(0, 3), 3, &reports).expect("queued");
    trial.run_for(ms(100));
    let refused = send(&mut trial, &out(0, 4), 4, &reports);
    assert!(matches!(refused, Err(SendError::Broken { .. })), "{refused:?}");
}

#[test]
fn a_fetch_is_contiguous_from_its_start_and_complete() {
    let mut repeated = 0;
    for seed in 0..40 {
        let mut trial = Trial::new(seed, 3);
        trial.faults = BAD;
        trial.add_producer(ProducerConfig {
            request_timeout: ms(3_000),
            delivery_timeout: ms(60_000),
            ..ProducerConfig::default()
        });
        let fetcher = trial.add_fetcher(FetchConfig {
            queue_records: 20,
            answer_records: 8,
            request_timeout: ms(2_000),
            repeats: if seed % 2 == 0 { 5 } else { 0 },
            stalls: 30,
            ..FetchConfig::default()
        });
        for p in 0..3 {
            trial.fetcher(fetcher, |f, wire| f.start(&partition(p), 0, wire)).expect("started");
        }
        let mut seen: BTreeMap<TopicPartition, Vec<i64>> = BTreeMap::new();
        let mut poll = |trial: &mut Trial| {
            let mut events = Vec::new();
            let max = usize::try_from(trial.random.between(1, 12)).expect("small");
            trial.fetcher(fetcher, |f, wire| f.poll(max, &mut events, wire));
            let count = |event: &FetchEvent| match event {
                FetchEvent::Run(run) => run.len(),
                _ => 0,
            };
            assert!(events.iter().map(count).sum::<usize>() <= max);
            for event in events {
                let FetchEvent::Run(run) = event else { panic!("{event:?}") };
                let seen = seen.entry(run.partition().clone()).or_default();
                let next = seen.last().map_or(0, |last| last + 1);
                let offsets: Vec<_> = run.offsets().collect();
                assert!(offsets.is_sorted() && offsets[0] >= 0);
                repeated += offsets.iter().filter(|offset| **offset < next).count();
                seen.extend(offsets.into_iter().filter(|offset| *offset >= next));
            }
        };
        for _ in 0..30 {
            send_all(&mut trial, 10, 3);
            poll(&mut trial);
        }
        for _ in 0..4_000 {
            trial.run_for(ms(20));
            poll(&mut trial);
        }
        for (partition, log) in &trial.logs {
            let there: Vec<_> = log.records(true).map(|(offset, _)| offset).collect();
            assert!(!there.is_empty());
            assert_eq!(seen.get(partition), Some(&there), "seed {seed}, {partition}");
        }
    }
    assert!(repeated > 0, "nothing came twice");
}
