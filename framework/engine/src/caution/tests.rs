//! What a commit says of what may be in hand, death by death.

use super::*;
use crate::standing::Mark;

fn dead(until: i64, hand: Hand, deaths: u32, of: &[(i64, u32)]) -> Caution {
    let mark =
        |(offset, deaths): &(i64, u32)| Mark { deaths: *deaths, ..Mark::of(Offset(*offset)) };
    let marks = of.iter().map(mark).collect();
    let suspects = Offset(if matches!(hand, Hand::Below(_)) { 0 } else { until });
    let window = Some(Window { until: Offset(until), suspects, hand, deaths });
    let before = Standing { marks, window, ..Standing::at(Offset(10)) };
    Caution::resuming(3, &before, SIZES)
}

fn below(bound: i64) -> Hand {
    Hand::Below(Offset(bound))
}

fn nothing() -> DoneSet {
    DoneSet::above(Offset(10))
}

fn say(caution: &mut Caution, next: i64, running: usize) -> Option<Window> {
    caution.seal(running);
    caution.announce(Some(Offset(next)), running, nothing);
    let said = caution.pending;
    caution.confirmed(said);
    said
}

#[test]
fn the_first_commit_says_how_far_and_later_ones_move_it_before_it_is_reached() {
    let mut caution = Caution::resuming(3, &Standing::at(Offset(10)), SIZES);
    assert!(!caution.allows(Offset(10)), "nothing is said yet");
    caution.announce(Some(Offset(10)), 0, nothing);
    assert!(!caution.allows(Offset(10)), "Kafka does not have it yet");
    caution.confirmed(Some(Window {
        until: Offset(9),
        suspects: Offset(9),
        hand: Hand::Below(Offset(9)),
        deaths: 0,
    }));
    assert!(!caution.allows(Offset(10)), "that is another one");
    caution.confirmed(caution.pending);
    assert!(caution.allows(Offset(10)) && caution.allows(Offset(11 + SIZES.ahead - 1)));
    assert!(!caution.allows(Offset(11 + SIZES.ahead)));
    (10..60).for_each(|offset| caution.started(Offset(offset)));
    let moved = say(&mut caution, 60, 5);
    assert_eq!(moved.map(|w| w.until), Some(Offset(60 + 100)), "twice the 50 that started");
    assert_eq!(say(&mut caution, 60, 5), None, "nothing has started since");
}

#[test]
fn after_a_death_each_record_of_the_window_is_named_before_it_runs_alone() {
    let mut caution = dead(12, below(12), 0, &[]);
    let one = |offset| {
        Some(Window {
            until: Offset(12),
            suspects: Offset(12),
            hand: Hand::One(Offset(offset)),
            deaths: 1,
        })
    };
    assert_eq!(say(&mut caution, 10, 0), one(10));
    assert!(caution.allows(Offset(10)) && !caution.allows(Offset(11)));
    caution.started(Offset(10));
    assert_eq!(say(&mut caution, 11, 1), None, "another one runs");
    caution.done(Offset(10));
    assert_eq!(say(&mut caution, 11, 0), one(11));
    caution.started(Offset(11));
    assert_eq!(say(&mut caution, 12, 1), None, "what is behind the window waits, too");
    caution.done(Offset(11));
    let free = say(&mut caution, 12, 0);
    assert_eq!(
        free,
        Some(Window {
            until: Offset(13 + SIZES.ahead),
            suspects: Offset(0),
            hand: below(13 + SIZES.ahead),
            deaths: 0
        })
    );
}

#[test]
fn who_was_alone_at_a_death_and_at_as_many_as_the_limit_is_not_started_again() {
    let twice = dead(12, Hand::One(Offset(11)), 1, &[(11, 1)]);
    assert!(twice.is_condemned(Offset(11)) && !twice.is_condemned(Offset(10)));
    assert!(twice.allows(Offset(11)), "it is told to be next, to be given up");
    let once = dead(12, Hand::One(Offset(11)), 1, &[]);
    assert!(!once.is_condemned(Offset(11)), "two deaths of three");
    let unnamed = dead(12, below(12), 9, &[]);
    assert!(!unnamed.is_condemned(Offset(11)), "ten deaths, and it was alone at none");
    let moved_on = dead(9, Hand::One(Offset(9)), 1, &[(9, 1)]);
    assert_eq!(moved_on.known().count(), 0, "what is done is forgotten");
}

/// The window with which another partition's record killed the worker while nothing was in hand.
#[test]
fn a_death_with_nothing_in_hand_is_put_down_to_nobody_and_care_goes_on() {
    let caution = dead(12, Hand::Nothing, 1, &[(11, 1)]);
    assert_eq!((caution.deaths, caution.deaths_of(Offset(11))), (1, 1));
    assert!(caution.is_careful(Offset(10)) && caution.is_suspect(Offset(10)));
}

#[test]
fn a_large_window_is_narrowed_first() {
    let mut caution = dead(100_010, below(100_010), 0, &[]);
    assert_eq!(caution.bound(), None);
    let narrow = say(&mut caution, 5_000, 0).expect("a window");
    let until = Offset(10 + SIZES.narrow);
    assert_eq!(
        narrow,
        Window { until: Offset(100_010), suspects: Offset(0), hand: below(until.0), deaths: 1 }
    );
    assert!(caution.allows(Offset(10)) && !caution.allows(until));
    assert_eq!(caution.bound(), Some(until), "who comes next is looked for below it");
    assert_eq!(say(&mut caution, 5_000, 1), None, "all of it runs or waits");
    let mut done = nothing();
    done.push(Offset(12), Offset(13));
    caution.announce(Some(Offset(5_000)), 1, || done);
    assert_eq!(caution.pending.map(|w| w.hand), Some(below(until.0 + 2)));
    let again = dead(100_010, narrow.hand, narrow.deaths, &[]);
    assert!(again.is_suspect(Offset(until.0 - 1)), "and then one at a time");
    assert!(!again.is_suspect(until) && again.deaths == 2, "what is behind it is narrowed");
    assert!(dead(100_010, Hand::One(Offset(12)), 2, &[]).is_condemned(Offset(12)));
}

#[test]
fn where_all_of_a_narrow_window_waits_for_retries_the_rest_runs_as_usual() {
    let mut caution = dead(100_010, below(100_010), 0, &[]);
    say(&mut caution, 10, 0);
    let free = say(&mut caution, 5_000, 0).expect("another window");
    assert_eq!((free.until, free.deaths), (Offset(5_001 + SIZES.ahead), 0));
}

#[test]
fn a_record_that_has_failed_and_not_killed_holds_up_nobody() {
    let mut caution = dead(12, below(12), 0, &[]);
    say(&mut caution, 10, 0);
    caution.started(Offset(10));
    caution.ended(Offset(10));
    assert!(caution.allows(Offset(10)), "its window is still the one");
    assert_eq!(say(&mut caution, 11, 0).map(|w| w.hand), Some(Hand::One(Offset(11))));
    caution.done(Offset(11));
    assert!(say(&mut caution, 10, 0).is_some_and(|window| matches!(window.hand, Hand::Below(_))));
    assert!(caution.allows(Offset(10)), "as all others");
}

#[test]
fn nothing_in_hand_is_said_once_it_is_so_and_at_a_graceful_end_nothing_at_all() {
    let mut caution = dead(12, below(12), 0, &[]);
    say(&mut caution, 10, 0);
    caution.started(Offset(10));
    assert_eq!(caution.wish(None, 1, nothing), None);
    caution.done(Offset(10));
    assert!(caution.wish(None, 0, nothing).is_some_and(|window| window.hand == Hand::Nothing));
    caution.end();
    assert!(caution.is_open());
    caution.seal(0);
    assert!(!caution.is_open());
    let rest = Window { until: Offset(12), suspects: Offset(12), hand: Hand::Nothing, deaths: 1 };
    assert_eq!(caution.said(Offset(11), 0), Some(rest), "one record was not reached");
    assert_eq!(caution.said(Offset(12), 0), None);
}

/// A partition waited for its turn to run records alone when the interval's commit came, which
/// said of no window at all. Then another partition's record killed the worker: all that was known
/// of the deaths before was gone, and a record killed a fourth time.
#[test]
fn a_commit_before_the_first_window_says_what_there_is_to_be_careful_with() {
    let mut caution = dead(12, below(12), 1, &[(11, 1)]);
    caution.seal(0);
    let care = Window { until: Offset(12), suspects: Offset(12), hand: Hand::Nothing, deaths: 2 };
    assert_eq!(caution.said(Offset(10), 0), Some(care));
    assert!(!caution.allows(Offset(10)), "that it is in hand is still to be said");
    assert_eq!(caution.said(Offset(12), 0), None, "all of it is done");
}

#[test]
fn what_is_no_window_is_refused() {
    let texts = [
        "",
        "1",
        "1.2.3",
        "1.2.3.4.5",
        "-1.0.*1.0",
        "1.-1.*1.0",
        "1.0.x.0",
        "1.0.-1.0",
        "1.0.*1.-1",
        "1.0.*1.",
        "a.0.*1.0",
        "1.0.**1.0",
        "1.0.*.0",
    ];
    for text in texts {
        assert_eq!(Window::decode(text), None, "{text}");
    }
    for hand in [below(7), Hand::Nothing, Hand::One(Offset(0))] {
        let window =
            Window { until: Offset(i64::MAX), suspects: Offset(i64::MAX), hand, deaths: u32::MAX };
        assert_eq!(Window::decode(&window.encode()), Some(window));
    }
}
