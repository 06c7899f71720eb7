//! There is not enough for all at once: whose turn is it? A run takes 800 bytes, a room 900, and
//! the budget is 1,000 bytes, unless a test says otherwise.

use super::*;
use crate::Event::Fetched;

const ALL: [PartitionId; 3] = [PartitionId(0), PartitionId(1), PartitionId(2)];

/// Three partitions with much to fetch. The second has its first run, and the size of it is known.
fn crowded(budget_bytes: u64) -> Worker {
    let commit_interval = Duration::from_secs(100);
    let limits = EngineLimits { budget_bytes, commit_interval, ..limits() };
    let mut worker = Worker::running_many(limits, 3);
    for partition in ALL {
        worker.end_is(partition, 1_000);
    }
    assert_eq!(worker.fetching.len(), 3, "nobody knows better");
    worker.fetched(ALL[1], 800);
    worker.tick();
    worker
}

fn only(worker: &Worker) -> PartitionId {
    assert_eq!(worker.fetching.len(), 1, "one has a place: {:?}", worker.fetching);
    *worker.fetching.first().expect("one")
}

#[test]
fn only_as_many_fetch_as_there_is_place_for() {
    assert_eq!(crowded(1_000).fetching.len(), 0, "the one that holds a run takes all");
    assert_eq!(crowded(1_800).fetching, [ALL[0]].into(), "who was stopped last stops first");
    assert_eq!(crowded(2_700).fetching.len(), 2);
}

#[test]
fn those_that_wait_for_a_place_get_it_in_the_order_in_which_they_were_stopped() {
    let mut worker = crowded(1_000);
    worker.freed(ALL[1], 1, 800);
    for expected in [0, 2, 1, 0, 2, 1] {
        worker.tick();
        let turn = only(&worker);
        assert_eq!(turn, ALL[expected]);
        worker.fetched(turn, 800);
        assert!(worker.fetching.is_empty());
        worker.tick();
        assert!(worker.fetching.is_empty(), "the place is taken until the run is done");
        worker.freed(turn, 1, 800);
    }
}

/// Half a second without a record, and the turn passes on; the moment is a reason to wake.
#[test]
fn who_hears_nothing_for_half_a_second_gives_its_place_to_those_who_wait() {
    let mut worker = crowded(1_000);
    let turn = Duration::from_millis(500);
    worker.freed(ALL[1], 1, 800);
    worker.tick();
    for expected in [0, 2, 1, 0, 2, 1, 0] {
        assert_eq!(only(&worker), ALL[expected]);
        let begun = worker.now;
        worker.tick_at(begun + turn - NANO);
        assert_eq!(only(&worker), ALL[expected], "its turn is not over");
        assert_eq!(worker.wake, Some(begun + turn));
        worker.tick_at(begun + turn);
    }
}

/// Its wake is another's turn, so nobody wakes for it if nobody waits.
#[test]
fn a_silent_fetch_is_left_alone_while_nobody_waits() {
    let mut worker = Worker::running(limits());
    worker.end_is(PARTITION, 100);
    worker.tick_at(Time::ZERO + limits().commit_interval);
    let next = worker.now + limits().commit_interval;
    assert_eq!((worker.wake, worker.fetching.len()), (Some(next), 1));
}

/// The turn of who holds records does not end by itself, and a moment that has passed is none to
/// wake for: the poll loop once ran without a rest while a slow record kept others waiting.
#[test]
fn who_holds_records_keeps_its_place_however_long_it_hears_nothing() {
    let mut worker = crowded(1_000);
    worker.freed(ALL[1], 1, 800);
    worker.tick();
    worker.fetched(ALL[0], 50);
    worker.tick_at(seconds(5));
    assert_eq!(only(&worker), ALL[0]);
    assert_eq!(worker.wake, Some(seconds(100)), "no turn ends: the commit is next");
}

/// To stop it would make no place: it has none.
#[test]
fn who_only_watches_is_not_stopped_for_those_who_wait() {
    let mut worker = crowded(1_000);
    worker.end_is(ALL[0], 3);
    worker.tick();
    assert_eq!(only(&worker), ALL[0], "it watches");
    worker.tick_at(seconds(5));
    assert_eq!(only(&worker), ALL[0]);
}

/// The first in the queue needs a whole place, the second none: its room is its own already.
#[test]
fn nobody_overtakes_the_one_that_waits_longest() {
    let mut worker = crowded(1_000);
    worker.freed(ALL[1], 0, 790);
    worker.tick();
    assert_eq!(worker.fetching.len(), 0, "the first waits until all of it is done");
    worker.freed(ALL[1], 1, 10);
    worker.tick();
    assert_eq!(only(&worker), ALL[0]);
}

/// Effects have stopped the first after a run has stopped the second.
#[test]
fn a_stop_for_effects_counts_like_one_for_records() {
    let mut worker = Worker::running_many(limits(), 2);
    let [first, second] = [ALL[0], ALL[1]];
    worker.end_is(first, 100);
    worker.end_is(second, 100);
    worker.fetched(second, 600);
    worker.holds(900, 0);
    worker.tick();
    assert!(worker.fetching.is_empty());
    worker.holds(0, 0);
    worker.freed(second, 1, 600);
    worker.tick();
    assert_eq!(only(&worker), second);
}

/// What is to be stopped for others is stopped once, and what it fetched ahead is refused.
#[test]
fn what_comes_after_the_turn_has_passed_on_is_not_swallowed() {
    let mut worker = crowded(1_000);
    worker.freed(ALL[1], 1, 800);
    worker.tick();
    assert_eq!(only(&worker), ALL[0]);
    worker.tick_at(Time::ZERO + Duration::from_millis(500));
    assert_eq!(only(&worker), ALL[2]);
    let run = |first| RunInfo { first: Offset(first), last: Offset(first), records: 1, bytes: 901 };
    let late = worker.tell(Fetched { partition: ALL[0], run: run(3) });
    assert!(delivered(&late), "it fits the room that it makes for itself");
    let later = worker.tell(Fetched { partition: ALL[0], run: run(4) });
    assert!(!delivered(&later));
    let view = worker.engine.partitions().next().expect("a partition");
    assert_eq!(view.position, Some(Offset(4)), "the next fetch begins there");
}
