//! What a schedule promises, record by record and under random schedules.

use super::*;
use proptest::prelude::*;
use std::time::Duration;

fn schedule(offsets: &[i64]) -> Schedule {
    let mut schedule =
        Schedule::new(Ordering::Partition, Offset(offsets[0]), RetryPolicy::default(), 9);
    schedule.push(items(offsets)).expect("ascending offsets");
    schedule
}

fn items(offsets: &[i64]) -> Vec<Item> {
    offsets.iter().map(|o| Item { offset: Offset(*o), unit: 0 }).collect()
}

#[test]
fn inv_2_a_waiting_retry_lets_nothing_pass() {
    let mut schedule = schedule(&[1, 2]);
    assert!(matches!(schedule.next(Time::ZERO), Next::Start { index: 0, .. }));
    schedule.finished(0, Finish::Retry, Time::ZERO);
    let Next::WaitUntil(at) = schedule.next(Time::ZERO) else { panic!("the retry waits") };
    assert!(matches!(schedule.next(at), Next::Start { index: 0, attempt: 2, .. }));
}

#[test]
fn what_is_forgiven_counts_for_no_limit_of_attempts_or_time() {
    let second = Duration::from_secs(1);
    let retry = RetryPolicy::fixed(second);
    for limited in [retry.at_most(3), retry.for_at_most(2 * second)] {
        let mut schedule = Schedule::new(Ordering::Partition, Offset(1), limited, 9);
        schedule.push(items(&[1])).expect("ascending offsets");
        let mut now = Time::ZERO;
        for attempt in 1..=8 {
            now = now + second;
            assert!(matches!(schedule.next(now), Next::Start { attempt: n, .. } if n == attempt));
            if attempt == 5 {
                assert!(!schedule.may_retry(0, now), "{limited:?}");
                schedule.forgive(0);
            } else {
                assert_eq!(schedule.may_retry(0, now), ![3, 4, 8].contains(&attempt), "{attempt}");
            }
            schedule.finished(0, Finish::Retry, now);
            let failed = if attempt <= 4 { attempt } else { attempt - 5 };
            let told = schedule.seal(now).marks.first().map_or(0, |mark| mark.attempts);
            assert_eq!(told, failed, "after {attempt}, {limited:?}");
        }
    }
}

#[test]
fn a_drain_drops_what_waits_and_keeps_what_runs() {
    let mut schedule = schedule(&[1, 2, 3]);
    assert!(matches!(schedule.next(Time::ZERO), Next::Start { .. }));
    assert_eq!(schedule.stop_starting(Time::ZERO), 2);
    schedule.finished(0, Finish::Done, Time::ZERO);
    assert_eq!(schedule.committable(), Offset(2));
    assert_eq!(schedule.next(Time::ZERO), Next::Idle);
}

#[test]
fn what_waits_what_runs_and_whose_bytes_are_needed_can_be_seen() {
    let mut schedule = schedule(&[1, 2, 3]);
    assert_eq!((schedule.waiting_records(), schedule.first_needed()), (3, 0));
    assert_eq!(schedule.arrived_records(), 3);
    assert!(!schedule.is_running());
    for index in 0..3 {
        assert!(matches!(schedule.next(Time::ZERO), Next::Start { .. }));
        assert!(schedule.is_running());
        schedule.finished(index, Finish::Done, Time::ZERO);
        assert!(!schedule.is_running());
        assert_eq!(schedule.first_needed(), index + 1);
        let needed = [0, 1, 2, 3].map(|at| schedule.is_needed(at));
        assert_eq!(needed, [false, index < 1, index < 2, false]);
    }
    assert_eq!((schedule.waiting_records(), schedule.arrived_records()), (0, 3));
}

#[test]
fn a_retry_is_due_at_its_moment_and_not_before() {
    let mut schedule = schedule(&[1]);
    schedule.next(Time::ZERO);
    schedule.finished(0, Finish::Retry, Time::ZERO);
    let Next::WaitUntil(at) = schedule.next(Time::ZERO) else { panic!("the retry waits") };
    assert!(!schedule.is_due(at - Duration::from_nanos(1)));
    assert!(schedule.is_due(at));
}

#[test]
fn handled_records_are_done_only_with_the_flush() {
    let mut schedule = schedule(&[1, 2]);
    for index in 0..2 {
        assert!(matches!(schedule.next(Time::ZERO), Next::Start { .. }));
        schedule.finished(index, Finish::Handled, Time::ZERO);
    }
    assert_eq!(schedule.committable(), Offset(1));
    schedule.flushed();
    assert_eq!(schedule.committable(), Offset(3));
}

#[test]
fn a_record_that_goes_backwards_is_refused() {
    let mut schedule = schedule(&[1, 2]);
    let refused = schedule.push(items(&[2]));
    assert_eq!(refused, Err(Backwards { offset: Offset(2), expected: Offset(3) }));
}

fn orderings() -> impl Strategy<Value = Ordering> {
    let concurrency = || (1u32..9).prop_map(|n| NonZeroU32::new(n).expect("at least 1"));
    prop_oneof![
        Just(Ordering::Partition),
        concurrency().prop_map(|concurrency| Ordering::Key { concurrency }),
        concurrency().prop_map(|concurrency| Ordering::Unordered { concurrency }),
    ]
}

/// One of the records that run: its index, its offset and its unit.
type Started = (u64, i64, u64);

/// Otherwise a hand-over before its turn would let a record be tried as often again; and a long
/// one that hand-overs cut off would be given up for it.
#[test]
fn failed_attempts_are_told_before_the_next_one_begins_and_cut_off_ones_never() {
    let mut before = Standing::at(Offset(0));
    before.marks.push(Mark { attempts: 1, ..Mark::of(Offset(1)) });
    let policy = RetryPolicy::default().at_most(3);
    let mut schedule = Schedule::resuming(Ordering::Partition, before, policy, 9);
    let marks = |schedule: &mut Schedule| {
        let standing = schedule.seal(Time::ZERO);
        standing.marks.iter().map(|mark| (mark.offset.0, mark.attempts)).collect::<Vec<_>>()
    };
    assert_eq!(marks(&mut schedule), [(1, 1)], "it has not come yet");
    schedule.push(items(&[0, 1])).expect("ascending offsets");
    assert_eq!(marks(&mut schedule), [(1, 1)], "it waits behind another");
    schedule.next(Time::ZERO);
    schedule.finished(0, Finish::Cancelled, Time::ZERO);
    assert_eq!(marks(&mut schedule), [(1, 1)], "what was cut off has not failed");
    schedule.next(Time::ZERO);
    schedule.finished(0, Finish::Done, Time::ZERO);
    assert!(matches!(schedule.next(Time::ZERO), Next::Start { index: 1, attempt: 2, .. }));
    assert_eq!(marks(&mut schedule), [(1, 1)], "its second attempt is under way");
    schedule.finished(1, Finish::Retry, Time::ZERO);
    assert_eq!(marks(&mut schedule), [(1, 2)]);
}

/// Up to so many in the same hands.
fn batch(schedule: &mut Schedule, now: Time, most: usize) -> Vec<Turn> {
    let mut batch = Vec::new();
    schedule.next_batch(now, |turn| {
        batch.push(turn);
        batch.len() < most
    });
    batch
}

fn indices(batch: &[Turn]) -> Vec<u64> {
    batch.iter().map(|turn| turn.index).collect()
}

#[test]
fn inv_2_in_a_batch_what_follows_a_failure_of_its_unit_is_handled_again_behind_it() {
    let mut schedule = Schedule::new(Ordering::key(2), Offset(0), RetryPolicy::default(), 9);
    let units = [7, 7, 8, 7];
    let items = (0..).zip(units).map(|(at, unit)| Item { offset: Offset(at), unit });
    schedule.push(items).expect("ascending offsets");
    let first = batch(&mut schedule, Time::ZERO, 10);
    assert_eq!(indices(&first), [0, 1, 3, 2], "of each unit the first ones");
    assert_eq!((schedule.in_hand(), schedule.running_records()), (1, 4));
    schedule.finished(0, Finish::Done, Time::ZERO);
    schedule.finished(1, Finish::Retry, Time::ZERO);
    assert!(schedule.is_overtaken(3) && !schedule.is_overtaken(2));
    schedule.finished(3, Finish::Cancelled, Time::ZERO);
    schedule.finished(2, Finish::Done, Time::ZERO);
    schedule.batch_ended(4);
    assert_eq!(schedule.committable(), Offset(1));
    let Some(due) = schedule.next_retry() else { panic!("1 waits") };
    let again = batch(&mut schedule, due, 10);
    assert_eq!(again, [Turn { index: 1, offset: Offset(1), attempt: 2 }], "alone");
    schedule.finished(1, Finish::Done, due);
    schedule.batch_ended(1);
    let last = batch(&mut schedule, due, 10);
    assert_eq!(last, [Turn { index: 3, offset: Offset(3), attempt: 1 }]);
}

#[test]
fn a_drain_keeps_the_order_of_a_batch_that_runs() {
    let mut schedule = schedule(&[0, 1, 2, 3]);
    assert_eq!(indices(&batch(&mut schedule, Time::ZERO, 3)), [0, 1, 2]);
    assert_eq!(schedule.stop_starting(Time::ZERO), 1);
    for index in 0..3 {
        assert!(!schedule.is_overtaken(index));
        schedule.finished(index, Finish::Done, Time::ZERO);
    }
    assert_eq!(schedule.committable(), Offset(3));
}

fn started(schedule: &mut Schedule, now: Time) -> u64 {
    match schedule.next(now) {
        Next::Start { index, .. } => index,
        other => panic!("{other:?}"),
    }
}

/// An attempt that fails while its partition drains was not counted, if one had failed before.
#[test]
fn an_attempt_that_fails_in_a_drain_counts() {
    let retry = RetryPolicy::fixed(Duration::from_secs(1)).at_most(10);
    let mut schedule = Schedule::new(Ordering::Partition, Offset(0), retry, 1);
    schedule.push([Item { offset: Offset(0), unit: 0 }]).expect("in order");
    let index = started(&mut schedule, Time::ZERO);
    schedule.finished(index, Finish::Retry, Time::ZERO);
    let now = Time::ZERO + Duration::from_secs(1);
    let index = started(&mut schedule, now);
    schedule.stop_starting(now); // the drain begins, the second attempt is under way
    schedule.finished(index, Finish::Retry, now + Duration::from_secs(1));
    let standing = schedule.seal(now + Duration::from_secs(1));
    assert_eq!(standing.marks.iter().map(|m| m.attempts).collect::<Vec<_>>(), [2]);
}

/// What is said of a record that was done in a drain is said by all owners after it, for ever.
#[test]
fn nothing_is_said_of_what_is_done() {
    let retry = RetryPolicy::fixed(Duration::from_secs(1)).at_most(10);
    let mut stored = Standing::at(Offset(0));
    for life in 0..40 {
        let mut schedule = Schedule::resuming(Ordering::Partition, stored.clone(), retry, 1);
        let offset = Offset(life);
        schedule.push([Item { offset, unit: 0 }]).expect("in order");
        let index = started(&mut schedule, Time::ZERO);
        schedule.finished(index, Finish::Retry, Time::ZERO);
        let now = Time::ZERO + Duration::from_secs(1);
        let index = started(&mut schedule, now);
        schedule.stop_starting(now);
        schedule.finished(index, Finish::Done, now);
        stored = schedule.seal(now);
        assert_eq!(stored.offset(), Offset(life + 1));
    }
    assert!(stored.marks.is_empty(), "{} marks: {:?}", stored.marks.len(), stored.marks);
}

/// Records in the same hands, handled one after the other: the one in user code, and those behind it.
#[derive(Default)]
struct Hands {
    begun: Option<Turn>,
    rest: std::collections::VecDeque<Turn>,
    ended: Vec<(Turn, Finish)>,
    records: usize,
}

impl Hands {
    /// The schedule hears of what has ended; what has not begun goes back.
    fn tell(&mut self, schedule: &mut Schedule, now: Time) {
        schedule.batch_ended(std::mem::replace(&mut self.records, 1));
        for (turn, finish) in self.ended.drain(..) {
            schedule.finished(turn.index, finish, now);
        }
        for turn in self.rest.drain(..).rev() {
            schedule.finished(turn.index, Finish::Cancelled, now);
        }
    }
}

proptest! {
    /// INV-1, INV-2 and INV-3 under every ordering: whatever fails, is cut off or takes long,
    /// every record is done once, those of a unit in order and one at a time, never more at once
    /// than may; no commit passes one that is open, and nobody waits without a reason.
    #[test]
    fn inv_1_2_and_3_hold_under_every_ordering(
        ordering in orderings(),
        units in proptest::collection::vec(0u64..5, 1..40),
        fates in proptest::collection::vec((0u8..6, any::<proptest::sample::Index>()), 0..300),
    ) {
        let item = |(offset, unit): (i64, &u64)| Item { offset: Offset(offset * 3), unit: *unit };
        let items: Vec<Item> = (0..).zip(&units).map(item).collect();
        let mut schedule = Schedule::new(ordering, Offset(0), RetryPolicy::default(), 9);
        schedule.push(items.iter().copied()).expect("ascending offsets");
        let (mut now, mut fates) = (Time::ZERO, fates.into_iter());
        let (mut running, mut done): (Vec<Started>, Vec<(i64, u64)>) = Default::default();
        let mut retried = std::collections::BTreeSet::new();
        while done.len() < items.len() {
            match schedule.next(now) {
                Next::Start { index, offset, .. } => {
                    let item = items.iter().find(|item| item.offset == offset).expect("it came");
                    running.push((index, offset.0, item.unit));
                    retried.remove(&offset);
                }
                next => {
                    prop_assert!(!schedule.is_due(now));
                    let is_open = |item: &&Item| done.iter().all(|done| done.0 != item.offset.0);
                    let is_first = |item: &&Item| match ordering {
                        Ordering::Partition => items.iter().find(is_open) == Some(item),
                        Ordering::Key { .. } => {
                            items.iter().filter(is_open).find(|i| i.unit == item.unit) == Some(item)
                        }
                        Ordering::Unordered { .. } => true,
                    };
                    let runs = |item: &&Item| running.iter().any(|r| r.1 == item.offset.0);
                    let may = |item: &&Item| !runs(item) && !retried.contains(&item.offset);
                    let could = items.iter().filter(is_open).filter(is_first).find(may);
                    prop_assert!(could.is_none() || running.len() == ordering.concurrency(), "{could:?} could start");
                    if running.is_empty() {
                        let Next::WaitUntil(at) = next else { panic!("nothing runs or waits") };
                        prop_assert!(at > now);
                        now = at;
                        continue;
                    }
                    let (fate, at) = fates.next().map_or((5, 0), |(fate, pick)| (fate, pick.index(running.len())));
                    let (index, offset, unit) = running.swap_remove(at);
                    let finish = match fate { 0 => Finish::Retry, 1 => Finish::Cancelled, _ => Finish::Done };
                    schedule.finished(index, finish, now);
                    if finish == Finish::Retry { retried.insert(Offset(offset)); }
                    if finish == Finish::Done { done.push((offset, unit)); }
                }
            }
            prop_assert!(running.len() <= ordering.concurrency());
            let unit_of = |started: &Started| match ordering {
                Ordering::Partition => 0,
                Ordering::Key { .. } => started.2,
                Ordering::Unordered { .. } => started.0,
            };
            let mut busy: Vec<u64> = running.iter().map(unit_of).collect();
            busy.sort_unstable();
            prop_assert!(busy.is_sorted_by(|one, next| one < next), "two of a unit run");
            let open = items.iter().map(|item| item.offset.0).find(|o| done.iter().all(|d| d.0 != *o));
            let last = items.last().map_or(0, |item| item.offset.0 + 1);
            let committable = schedule.committable().0;
            prop_assert!(committable <= open.unwrap_or(last));
            for item in &items {
                let is_done = done.iter().any(|(offset, _)| *offset == item.offset.0);
                let is_told = item.offset.0 < committable || schedule.done_set().contains(item.offset);
                prop_assert_eq!(is_done, is_told);
            }
        }
        for unit in 0..5 {
            let of_unit: Vec<i64> = done.iter().filter(|d| d.1 == unit).map(|d| d.0).collect();
            let is_free = matches!(ordering, Ordering::Unordered { .. });
            prop_assert!(is_free || of_unit.is_sorted());
        }
        prop_assert!(ordering != Ordering::Partition || done.is_sorted());
        prop_assert_eq!(schedule.first_needed(), items.len() as u64);
    }

    /// INV-2 and INV-3: whatever fails and however long it waits, every record is done
    /// exactly once, in offset order, one at a time.
    #[test]
    fn inv_2_and_3_every_record_is_done_once_and_in_order(
        gaps in proptest::collection::vec(1i64..3, 1..40),
        fates in proptest::collection::vec(0u8..4, 0..200),
    ) {
        let offsets: Vec<i64> = gaps.iter().scan(0, |at, gap| { *at += gap; Some(*at) }).collect();
        let mut schedule = schedule(&offsets);
        let (mut now, mut done) = (Time::ZERO, Vec::new());
        let mut fates = fates.into_iter();
        while done.len() < offsets.len() {
            let due = schedule.is_due(now);
            let next = schedule.next(now);
            prop_assert_eq!(due, matches!(next, Next::Start { .. }));
            match next {
                Next::Start { index, offset, .. } => {
                    prop_assert_eq!(schedule.next(now), Next::Idle);
                    let retry = fates.next() == Some(0);
                    schedule.finished(index, if retry { Finish::Retry } else { Finish::Done }, now);
                    if !retry { done.push(offset.0); }
                }
                Next::WaitUntil(at) => { prop_assert!(at > now); now = at; }
                Next::Idle => prop_assert!(false, "idle with {} of {} done", done.len(), offsets.len()),
            }
            let last = done.last().map_or(offsets[0], |o| o + 1);
            prop_assert_eq!(schedule.committable().0, last);
            now = now + Duration::from_millis(1);
        }
        prop_assert_eq!(done, offsets);
    }

    /// INV-1 and INV-2 where slots have several records in hand, and give back what they have not
    /// begun at any moment: each record is done once, those of a unit in order and one at a time; of
    /// how many may run at once a slot counts as one, and nothing that was given back is forgotten.
    #[test]
    fn inv_1_and_2_hold_where_slots_have_several_records_in_hand(
        ordering in orderings(),
        units in proptest::collection::vec(0u64..5, 1..60),
        steps in proptest::collection::vec(
            (0u8..8, 1usize..9, any::<proptest::sample::Index>()), 0..300),
    ) {
        let unit_of = |turn: Turn| match ordering {
            Ordering::Partition => 0,
            Ordering::Key { .. } => units[usize::try_from(turn.index).expect("an index")],
            Ordering::Unordered { .. } => turn.index,
        };
        let mut schedule = Schedule::new(ordering, Offset(0), RetryPolicy::default(), 9);
        let item = |(offset, unit): (i64, &u64)| Item { offset: Offset(offset), unit: *unit };
        schedule.push((0..).zip(&units).map(item)).expect("ascending offsets");
        let (mut now, mut hands, mut done) = (Time::ZERO, Vec::<Hands>::new(), Vec::<Turn>::new());
        let mut steps = steps.into_iter();
        while done.len() < units.len() || !hands.is_empty() {
            let (step, most, pick) = steps.next().map_or((2, 1, None), |(s, most, p)| (s, most, Some(p)));
            if step < 2 || hands.is_empty() {
                let mut hand = Hands::default();
                hand.records = schedule.next_batch(now, |turn| {
                    hand.rest.push_back(turn);
                    hand.rest.len() < most
                });
                if hand.records > 0 {
                    hands.push(hand);
                } else if hands.is_empty() {
                    now = schedule.next_retry().expect("nothing is in hand, and nothing waits");
                }
                prop_assert!(hands.len() <= ordering.concurrency());
                prop_assert_eq!(schedule.in_hand(), hands.len());
                continue;
            }
            let at = pick.map_or(0, |pick| pick.index(hands.len()));
            let hand = &mut hands[at];
            match (step, hand.begun.take()) {
                (_, None) => match hand.rest.pop_front() {
                    Some(turn) => {
                        prop_assert!(done.iter().all(|done| done.index != turn.index));
                        hand.begun = Some(turn);
                        let begun: Vec<u64> =
                            hands.iter().filter_map(|hand| hand.begun).map(unit_of).collect();
                        prop_assert!(begun.iter().filter(|unit| **unit == unit_of(turn)).count() == 1);
                        let open = (0..turn.index).map(|index| Turn { index, ..turn });
                        let mut before = open.filter(|before| unit_of(*before) == unit_of(turn));
                        prop_assert!(before.all(|before| done.iter().any(|d| d.index == before.index)));
                    }
                    None => {
                        hand.tell(&mut schedule, now);
                        hands.swap_remove(at);
                    }
                },
                // It waits, or takes long: the others go back.
                (3, begun) => {
                    hand.begun = begun;
                    hand.tell(&mut schedule, now);
                }
                (4, Some(turn)) => {
                    hand.ended.push((turn, Finish::Retry));
                    hand.tell(&mut schedule, now);
                    hands.swap_remove(at);
                }
                (_, Some(turn)) => {
                    hand.ended.push((turn, Finish::Done));
                    done.push(turn);
                }
            }
            let told = |turn: &Turn| hands.iter().all(|h| h.ended.iter().all(|(e, _)| e.index != turn.index));
            let open = (0..).find(|at| !done.iter().filter(|t| told(t)).any(|t| t.offset == Offset(*at)));
            prop_assert_eq!(schedule.committable(), Offset(open.expect("one is open")));
        }
        prop_assert_eq!(schedule.in_hand(), 0);
    }
}
