//! Does a log keep Kafka's rules? Rule by rule, and against a plain list of what was written.

use std::collections::BTreeMap;
use std::sync::Arc;

use pelton::TopicPartition;
use pelton_engine::Time;

use super::*;
use crate::model::random::Random;

const NOW: Time = Time::ZERO;

fn record(key: &str, value: Option<&str>) -> LogRecord {
    LogRecord {
        key: Some(key.as_bytes().to_vec()),
        value: value.map(|value| value.as_bytes().to_vec()),
        headers: Vec::new(),
        timestamp_ms: None,
    }
}

fn by(id: i64, epoch: i16) -> ProducerIdentity {
    ProducerIdentity { id, epoch }
}

fn batch(producer: ProducerIdentity, sequence: i32, values: &[&str]) -> ProducerBatch {
    ProducerBatch {
        partition: TopicPartition::new("t", 0),
        producer: Some((producer, sequence)),
        transactional: false,
        records: values.iter().map(|value| Arc::new(record(value, Some(value)))).collect(),
    }
}

fn in_transaction(producer: ProducerIdentity, sequence: i32, values: &[&str]) -> ProducerBatch {
    ProducerBatch { transactional: true, ..batch(producer, sequence, values) }
}

fn seen(log: &Log, read_committed: bool) -> Vec<i64> {
    log.records(read_committed).map(|(offset, _)| offset).collect()
}

fn keys(log: &Log) -> Vec<(i64, String, bool)> {
    let key = |record: &LogRecord| String::from_utf8(record.key.clone().expect("a key"));
    let records = log.records(true);
    records.map(|(at, r)| (at, key(r).expect("text"), r.value.is_some())).collect()
}

#[test]
fn a_batch_that_comes_twice_is_stored_once_and_answers_where_it_is() {
    let mut log = Log::default();
    assert_eq!(log.append(NOW, &batch(by(1, 0), 0, &["a", "b"])), Ok(0));
    assert_eq!(log.append(NOW, &batch(by(1, 0), 2, &["c"])), Ok(2));
    assert_eq!(log.append(NOW, &batch(by(1, 0), 0, &["a", "b"])), Ok(0));
    assert_eq!(log.end(), 3);
}

#[test]
fn only_the_last_five_batches_are_known_again() {
    let mut log = Log::default();
    for sequence in 0..6 {
        log.append(NOW, &batch(by(1, 0), sequence, &["a"])).expect("in order");
    }
    assert_eq!(log.append(NOW, &batch(by(1, 0), 1, &["a"])), Ok(1));
    let forgotten = log.append(NOW, &batch(by(1, 0), 0, &["a"]));
    assert_eq!(forgotten, Err(Code::OutOfOrderSequenceNumber));
}

#[test]
fn a_gap_in_the_numbers_is_refused_and_so_is_a_producer_that_begins_in_the_middle() {
    let mut log = Log::default();
    let gap = Err(Code::OutOfOrderSequenceNumber);
    assert_eq!(log.append(NOW, &batch(by(1, 0), 3, &["a"])), gap);
    assert_eq!(log.append(NOW, &batch(by(1, 0), 0, &["a"])), Ok(0));
    assert_eq!(log.append(NOW, &batch(by(1, 0), 2, &["a"])), gap);
    assert_eq!(log.append(NOW, &batch(by(2, 0), 0, &["a"])), Ok(1), "each has its own numbers");
}

#[test]
fn a_new_epoch_begins_at_0_and_fences_the_old_one() {
    let mut log = Log::default();
    log.append(NOW, &batch(by(1, 0), 0, &["a"])).expect("stored");
    let middle = log.append(NOW, &batch(by(1, 1), 1, &["a"]));
    assert_eq!(middle, Err(Code::OutOfOrderSequenceNumber));
    assert_eq!(log.append(NOW, &batch(by(1, 1), 0, &["a"])), Ok(1));
    assert_eq!(log.append(NOW, &batch(by(1, 0), 1, &["a"])), Err(Code::InvalidProducerEpoch));
}

#[test]
fn sequence_numbers_begin_again_at_0_behind_the_last_one() {
    assert_eq!(after(i32::MAX, 1), 0);
    assert_eq!(after(i32::MAX - 1, 3), 1);
    assert_eq!(after(7, 3), 10);
}

#[test]
fn a_producer_that_was_silent_for_a_day_is_forgotten() {
    let mut log = Log::default();
    log.append(NOW, &batch(by(1, 0), 0, &["a"])).expect("stored");
    let later = NOW + FORGOTTEN_AFTER;
    assert_eq!(log.append(later, &batch(by(1, 0), 7, &["a"])), Ok(1));
}

#[test]
fn read_committed_shows_nothing_open_and_nothing_aborted() {
    let mut log = Log::default();
    log.append(NOW, &in_transaction(by(1, 0), 0, &["a"])).expect("stored");
    log.append(NOW, &in_transaction(by(2, 0), 0, &["b"])).expect("stored");
    log.append(NOW, &batch(by(3, 0), 0, &["c"])).expect("stored");
    assert_eq!((log.last_stable(), seen(&log, true)), (0, vec![]));
    assert_eq!(seen(&log, false), [0, 1, 2]);

    log.end_transaction(by(1, 0), false); // its marker is at 3
    assert_eq!((log.last_stable(), log.end()), (1, 4));
    assert_eq!(seen(&log, true), Vec::<i64>::new());

    log.end_transaction(by(2, 0), true);
    assert_eq!((log.last_stable(), log.end()), (5, 5));
    assert_eq!(seen(&log, true), [1, 2]);
    assert_eq!(seen(&log, false), [0, 1, 2], "who reads uncommitted sees what was aborted");
}

#[test]
fn a_fetch_goes_past_holes_and_not_past_the_last_stable_offset() {
    let mut log = Log::default();
    log.append(NOW, &in_transaction(by(1, 0), 0, &["a", "b"])).expect("stored");
    log.end_transaction(by(1, 0), true);
    log.append(NOW, &in_transaction(by(1, 0), 2, &["c"])).expect("stored");
    let fetched = log.fetch(0, 1, true).expect("in the log");
    assert_eq!((fetched.records.len(), fetched.next), (1, 1));
    let fetched = log.fetch(1, 10, true).expect("in the log");
    assert_eq!((fetched.records.len(), fetched.next, fetched.end), (1, 3, 3));
    let waits = log.fetch(3, 10, true).expect("in the log");
    assert_eq!((waits.records.len(), waits.next), (0, 3));
    assert_eq!(log.fetch(3, 10, false).expect("in the log").records.len(), 1);
    log.end_transaction(by(1, 0), false);
    let marker_and_aborted = log.fetch(3, 10, true).expect("in the log");
    assert_eq!((marker_and_aborted.records.len(), marker_and_aborted.next), (0, 5));
    assert_eq!(log.fetch(6, 1, true).map(|f| f.next), Err(Code::OffsetOutOfRange));
    assert_eq!(log.fetch(-1, 1, true).map(|f| f.next), Err(Code::OffsetOutOfRange));
}

#[test]
fn a_marker_of_a_fencing_epoch_keeps_the_zombie_out_and_a_late_one_changes_nothing() {
    let mut log = Log::default();
    log.append(NOW, &in_transaction(by(1, 0), 0, &["a"])).expect("stored");
    log.end_transaction(by(1, 1), false);
    let zombie = log.append(NOW, &in_transaction(by(1, 0), 1, &["b"]));
    assert_eq!(zombie, Err(Code::InvalidProducerEpoch));
    log.append(NOW, &in_transaction(by(1, 1), 0, &["c"])).expect("the next epoch");
    log.end_transaction(by(1, 0), true);
    assert_eq!(log.last_stable(), 2, "a late marker of the old epoch ends nothing");
}

#[test]
fn compaction_keeps_the_last_value_of_each_key_and_a_tombstone_for_a_while() {
    let mut log = Log::default();
    for (key, value) in [("a", Some("1")), ("b", Some("1")), ("a", Some("2")), ("b", None)] {
        log.push(record(key, value));
    }
    log.compact();
    assert_eq!(keys(&log), [(2, "a".to_owned(), true), (3, "b".to_owned(), false)]);
    assert_eq!((log.start(), log.end()), (0, 4), "offsets stay");
    log.push(record("c", None));
    log.drop_tombstones();
    let left = [(2, "a".to_owned(), true), (4, "c".to_owned(), false)];
    assert_eq!(keys(&log), left, "a tombstone no compaction has seen yet stays");
    assert_eq!(log.fetch(3, 10, true).map(|f| f.next), Ok(5));
}

#[test]
fn compaction_leaves_open_transactions_alone_and_drops_what_was_aborted() {
    let mut log = Log::default();
    log.push(record("a", Some("1")));
    log.append(NOW, &in_transaction(by(1, 0), 0, &["a"])).expect("stored");
    log.end_transaction(by(1, 0), false);
    log.append(NOW, &in_transaction(by(1, 0), 1, &["a"])).expect("stored");
    log.compact();
    assert_eq!(seen(&log, false), [0, 3], "neither an aborted nor an open value replaces one");
    log.end_transaction(by(1, 0), true);
    log.compact();
    assert_eq!(seen(&log, false), [3]);
}

#[test]
fn retention_moves_the_start_and_truncation_the_end() {
    let mut log = Log::default();
    for sequence in 0..5 {
        log.append(NOW, &batch(by(1, 0), sequence, &["a"])).expect("stored");
    }
    log.delete_below(2);
    assert_eq!((log.start(), seen(&log, true)), (2, vec![2, 3, 4]));
    assert_eq!(log.fetch(1, 1, true).map(|f| f.next), Err(Code::OffsetOutOfRange));
    log.truncate(4);
    assert_eq!((log.end(), seen(&log, true)), (4, vec![2, 3]));
    assert_eq!(log.append(NOW, &batch(by(1, 0), 4, &["a"])), Ok(4), "what was lost comes again");
    log.truncate(0);
    assert_eq!((log.start(), log.end()), (2, 2), "a log can't end below its start");
    assert_eq!(log.append(NOW, &batch(by(1, 0), 2, &["a"])), Ok(2));
}

#[test]
fn a_producer_whose_records_are_all_lost_may_go_on_in_the_middle() {
    let mut log = Log::default();
    log.append(NOW, &batch(by(1, 0), 0, &["a"])).expect("stored");
    log.truncate(0);
    assert_eq!(log.append(NOW, &batch(by(1, 0), 9, &["a"])), Ok(0));
}

#[test]
fn a_truncated_transaction_is_not_open_any_more() {
    let mut log = Log::default();
    log.push(record("a", None));
    log.append(NOW, &in_transaction(by(1, 0), 0, &["b"])).expect("stored");
    log.truncate(1);
    assert_eq!(log.last_stable(), 1);
}

/// What was written where, and what became of its transaction.
#[derive(Debug)]
struct Written {
    offset: i64,
    value: String,
    producer: i64,
    /// `None` while it is open.
    is_committed: Option<bool>,
}

#[test]
fn readers_see_what_a_plain_list_says_they_should() {
    let (mut aborted, mut open_at_end) = (0, 0);
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let (mut log, mut list) = (Log::default(), Vec::<Written>::new());
        let mut sequences: BTreeMap<i64, i32> = BTreeMap::new();
        for step in 0..120 {
            let id = i64::try_from(random.below(3)).expect("small");
            if random.one_in(4) {
                let commit = random.one_in(2);
                log.end_transaction(by(id, 0), commit);
                for written in list.iter_mut().filter(|w| w.producer == id) {
                    written.is_committed.get_or_insert(commit);
                }
                continue;
            }
            let plain = id == 2;
            let count = random.between(1, 4);
            let values: Vec<String> = (0..count).map(|n| format!("{step}-{n}")).collect();
            let texts: Vec<&str> = values.iter().map(String::as_str).collect();
            let sequence = sequences.entry(id).or_default();
            let new =
                ProducerBatch { transactional: !plain, ..batch(by(id, 0), *sequence, &texts) };
            let first = log.append(NOW, &new).expect("in order");
            if random.one_in(3) {
                assert_eq!(log.append(NOW, &new), Ok(first), "seed {seed}");
            }
            *sequence += i32::try_from(count).expect("small");
            for (at, value) in (first..).zip(values) {
                let is_committed = plain.then_some(true);
                list.push(Written { offset: at, value, producer: id, is_committed });
            }
        }
        let open = list.iter().find(|written| written.is_committed.is_none());
        let stable = open.map_or_else(|| log.end(), |written| written.offset);
        assert_eq!(log.last_stable(), stable, "seed {seed}");
        for read_committed in [true, false] {
            let visible = list
                .iter()
                .filter(|w| !read_committed || (w.offset < stable && w.is_committed == Some(true)));
            let expected: Vec<_> = visible.map(|w| (w.offset, w.value.clone())).collect();
            let mut read = Vec::new();
            let mut from = 0;
            loop {
                let max = usize::try_from(random.between(1, 9)).expect("small");
                let fetched = log.fetch(from, max, read_committed).expect("in the log");
                assert!(fetched.records.len() <= max);
                let text = |r: &LogRecord| String::from_utf8(r.value.clone().expect("a value"));
                let new = fetched.records.iter().map(|(at, r)| (*at, text(r).expect("text")));
                read.extend(new);
                if fetched.next == from {
                    break;
                }
                from = fetched.next;
            }
            assert_eq!(read, expected, "seed {seed}, read_committed {read_committed}");
        }
        aborted += list.iter().filter(|w| w.is_committed == Some(false)).count();
        open_at_end += usize::from(stable < log.end());
    }
    assert!(aborted > 1000 && open_at_end > 50, "{aborted}, {open_at_end}");
}

#[test]
fn whoever_reads_a_compacted_log_ends_up_with_the_last_value_of_each_key() {
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let (mut log, mut truth) = (Log::default(), BTreeMap::new());
        for step in 0..150 {
            let key = format!("k{}", random.below(12));
            let value = (!random.one_in(5)).then(|| step.to_string());
            log.push(record(&key, value.as_deref()));
            truth.insert(key, value);
            if random.one_in(20) {
                log.compact();
            }
            if random.one_in(40) {
                log.drop_tombstones();
            }
        }
        log.compact();
        let mut read = BTreeMap::new();
        for (_, record) in log.records(true) {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
            let key = text(record.key.as_deref().expect("a key"));
            let before = read.insert(key, record.value.as_deref().map(text));
            assert!(before.is_none(), "seed {seed}: an older value was left");
        }
        truth.retain(|key, value| value.is_some() || read.contains_key(key));
        assert_eq!(read, truth, "seed {seed}");
    }
}
