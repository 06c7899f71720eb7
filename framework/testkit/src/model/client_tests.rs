//! Are the clients that fetch and write true to librdkafka's? Over a bad network, from seeds.

use std::collections::BTreeMap;

use pelton::TopicPartition;
use pelton::ports::FetchEvent;

use super::fetcher::FetchConfig;
use super::producer::ProducerConfig;
use super::trial::{Faults, Trial, heard, ms, out, partition};

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
    reports: &std::sync::Arc<dyn pelton::ports::Reports>,
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

#[test]
fn a_fetch_is_contiguous_from_its_start_and_complete() {
    let mut repeated = 0;
    for seed in 0..40 {
        let mut trial = Trial::new(seed, 3);
        trial.faults = BAD;
        trial.add_producer(ProducerConfig {
            request_timeout: ms(3_000),
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
