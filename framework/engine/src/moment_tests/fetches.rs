//! Which runs are taken, and when does a fetch stop and start? Partitions by themselves.

use super::*;

const OTHER: PartitionId = PartitionId(1);

/// 1,000 bytes of room; a run fills it, and more come out of the client with it.
#[test]
fn what_comes_after_a_stop_is_taken_while_it_fits_and_refused_from_the_first_that_does_not() {
    let mut worker = Worker::running(limits());
    let first = worker.fetched(PARTITION, 600);
    assert!(delivered(&first) && worker.fetching.is_empty(), "another one does not fit: {first:?}");
    assert!(delivered(&worker.fetched(PARTITION, 400)), "it does");
    assert!(!delivered(&worker.fetched(PARTITION, 1)), "1,001 bytes do not");
    worker.freed(PARTITION, 1, 600);
    assert!(
        !delivered(&worker.fetched(PARTITION, 1)),
        "the next fetch begins with the first refused"
    );
    worker.freed(PARTITION, 1, 400);
    let from = Offset(5);
    assert!(worker.tick().contains(&Action::StartFetch { partition: PARTITION, from }));
    assert!(delivered(&worker.fetched(PARTITION, 1)));
}

/// The effects of its records must find a place, too.
#[test]
fn a_run_after_a_stop_is_taken_only_with_room_for_the_effects_of_a_record() {
    for (bytes, fits) in [(300, true), (301, false)] {
        let mut worker = Worker::running(limits());
        let effects = HeldEffects { largest: 100, ..HeldEffects::default() };
        worker.tell(Event::Holds { partition: PARTITION, epoch: EPOCH, effects });
        worker.fetched(PARTITION, 600);
        assert!(worker.fetching.is_empty());
        assert_eq!(delivered(&worker.fetched(PARTITION, bytes)), fits, "{bytes} bytes");
    }
}

/// It is here, and its fetch would not bring it again.
#[test]
fn a_run_of_a_running_fetch_is_taken_however_large_it_is() {
    let mut worker = Worker::running(limits());
    for _ in 0..3 {
        assert!(delivered(&worker.fetched(PARTITION, 100)));
    }
    assert!(worker.fetching.contains(&PARTITION));
    assert!(delivered(&worker.fetched(PARTITION, 1_500)), "that is more than there is room for");
    assert!(worker.fetching.is_empty());
}

#[test]
fn a_fetch_starts_again_when_half_of_the_room_is_free() {
    let mut worker = Worker::running(limits());
    for _ in 0..10 {
        assert!(worker.fetching.contains(&PARTITION));
        worker.fetched(PARTITION, 100);
    }
    for left in (5..10).rev() {
        worker.tick();
        assert!(worker.fetching.is_empty(), "{left} and one more are too many");
        worker.freed(PARTITION, 1, 100);
    }
    let from = Offset(13);
    assert!(worker.tick().contains(&Action::StartFetch { partition: PARTITION, from }));
}

/// Effects fill a room like records do.
#[test]
fn a_fetch_stops_when_effects_fill_the_room() {
    let mut worker = Worker::running(limits());
    worker.holds(999, 0);
    worker.tick();
    assert!(worker.fetching.contains(&PARTITION));
    worker.holds(1_000, 0);
    worker.tick();
    assert!(worker.fetching.is_empty());
}

/// One run is larger than the whole budget: it must pass all the same, one at a time.
#[test]
fn inv_4_a_run_larger_than_the_budget_passes_if_nothing_else_is_held() {
    let mut worker = Worker::running_many(limits(), 2);
    worker.end_is(PARTITION, 100);
    worker.end_is(OTHER, 100);
    assert!(delivered(&worker.fetched(PARTITION, 1_100)));
    worker.tick();
    assert!(worker.fetching.is_empty(), "there is no place for another");
    worker.freed(PARTITION, 1, 1_100);
    worker.tick();
    assert_eq!(worker.fetching, [OTHER].into(), "one fetches, and it waited longer");
    worker.tick();
    assert_eq!(worker.fetching, [OTHER].into(), "who is alone keeps its place");
}

/// Nothing else is held, so its own room is no reason to wait.
#[test]
fn inv_4_a_room_larger_than_the_budget_is_filled_again_when_half_of_it_is_free() {
    let mut worker = Worker::running(limits());
    worker.fetched(PARTITION, 1_100);
    assert!(worker.fetching.is_empty());
    worker.freed(PARTITION, 0, 1_000);
    worker.tick();
    assert!(worker.fetching.contains(&PARTITION));
}

/// Both rooms together are the budget, to the byte.
#[test]
fn what_the_budget_has_place_for_is_not_stopped() {
    let mut worker = Worker::running_many(limits(), 2);
    for partition in [PARTITION, OTHER] {
        worker.end_is(partition, 100);
        worker.fetched(partition, 200);
    }
    worker.tick();
    assert_eq!(worker.fetching.len(), 2);
    worker.fetched(PARTITION, 200);
    assert_eq!(worker.fetching, [OTHER].into());
    worker.freed(PARTITION, 2, 400);
    worker.tick();
    assert_eq!(worker.fetching.len(), 2, "its place was free");
}

/// At the end of its log a partition fetches without a place.
#[test]
fn what_comes_at_the_end_of_a_log_is_taken_if_there_is_a_place_for_it() {
    for (run, taken) in [(100, true), (800, false)] {
        let mut worker = Worker::running_many(limits(), 2);
        worker.end_is(PARTITION, 100);
        worker.end_is(OTHER, 3);
        worker.fetched(PARTITION, run);
        worker.tick();
        assert!(worker.fetching.contains(&OTHER), "to watch needs no place");
        let actions = worker.fetched(OTHER, 100);
        assert_eq!(delivered(&actions), taken, "beside a run of {run} bytes");
        assert_eq!(worker.fetching.contains(&OTHER), taken);
        worker.tick();
        assert_eq!(worker.fetching.contains(&OTHER), taken, "what is known to be there needs one");
        worker.freed(PARTITION, 1, run);
        worker.tick();
        assert!(worker.fetching.contains(&OTHER));
    }
}

#[test]
fn what_comes_at_the_end_of_a_log_is_taken_if_nothing_is_held_however_large_it_is() {
    let mut worker = Worker::running_many(limits(), 2);
    worker.end_is(PARTITION, 3);
    worker.end_is(OTHER, 3);
    assert!(delivered(&worker.fetched(OTHER, 1_000)));
}

#[test]
fn who_only_watches_needs_not_wait_for_a_place() {
    let mut worker = Worker::running_many(limits(), 2);
    worker.fetched(OTHER, 800);
    worker.tell(Event::Paused { partitions: vec![OTHER] });
    worker.freed(OTHER, 1, 800); // all that there was
    worker.end_is(PARTITION, 100);
    worker.fetched(PARTITION, 800);
    let resumed = worker.tell(Event::Resumed { partitions: vec![OTHER] });
    assert_eq!(resumed, [Action::Resume { partition: OTHER }]);
    worker.tick();
    assert_eq!(worker.fetching, [OTHER].into());
    assert_eq!(worker.tell(Event::Resumed { partitions: vec![OTHER] }), [], "it is not paused");
}

#[test]
fn a_fetch_that_broke_off_starts_again_after_its_wait_where_it_stood() {
    let mut worker = Worker::running(limits());
    worker.fetched(PARTITION, 1);
    worker.tell(Event::FetchFailed { partition: PARTITION });
    worker.now = Time::ZERO + NANO;
    worker.tell(Event::FetchFailed { partition: PARTITION }); // once more: it waits no longer
    let due = Time::ZERO + limits().fetch_retry;
    assert_eq!(worker.tick_at(due - NANO), []);
    assert_eq!(worker.wake, Some(due));
    let (partition, from) = (PARTITION, Offset(4));
    let anew = [Action::StopFetch { partition }, Action::StartFetch { partition, from }];
    assert_eq!(worker.tick_at(due), anew);
    assert_eq!(worker.tick_at(due + limits().fetch_retry), [], "it is mended");
    worker.tell(Event::FetchFailed { partition });
    worker.fetched(partition, 1);
    assert_eq!(
        worker.tick_at(due + limits().fetch_retry * 3),
        [],
        "what comes shows that it lives"
    );
}
