//! What must happen for a bug to show? One short run for each.

use std::time::Duration;

use pelton::{Bug, Ordering};
use pelton_engine::CommitStatus;

use super::stage::{
    DEFERRED, EASY, FAILS_ONCE, FORGET, KEYS, PANICS_ONCE, POISON, SLOW, SLOWER, SPOILS_FLUSH,
    Setup, Stage,
};

type Play = fn(&mut Stage);

const ALONE: Setup = Setup {
    partitions: 1,
    flush_every: None,
    tick_every: None,
    ordering: Ordering::Partition,
    stateless: false,
    late: false,
    undisturbed: false,
};
const KEYED: Setup = Setup { ordering: Ordering::key(4), ..ALONE };
const UNORDERED: Setup = Setup { ordering: Ordering::unordered(4), ..ALONE };
const SHARED: Setup = Setup { ordering: Ordering::key(1), partitions: 2, ..ALONE };
const STATELESS: Setup = Setup { ordering: Ordering::key(2), stateless: true, ..ALONE };
const UNDISTURBED: Setup = Setup { undisturbed: true, ..ALONE };
const TWO_PARTITIONS: Setup = Setup { partitions: 2, ..ALONE };
const LATE: Setup = Setup { late: true, ..ALONE };
const FLUSHING: Setup = Setup { flush_every: Some((100, Duration::from_secs(3600))), ..ALONE };
const TICKING: Setup =
    Setup { tick_every: Some(Duration::from_millis(300)), undisturbed: true, ..FLUSHING };

/// For each bug: the run that shows it; `None` where only the engine's own tests can tell, or those that are named.
#[expect(clippy::panic, reason = "a bug without a scenario is not tested")]
pub(crate) fn of(bug: Bug) -> Option<(Setup, Play)> {
    let (setup, play): (Setup, Play) = match bug {
        Bug::AnyEpoch
        | Bug::PauseForgotten
        | Bug::IgnoreBudget
        | Bug::AcknowledgeUnderCommit
        | Bug::PlacesWithoutLimit
        | Bug::OpenLetsThrough
        | Bug::ProbesWithoutLimit
        | Bug::SeekWithoutDrain
        | Bug::StartUnannounced
        | Bug::DeathsWithoutEnd
        | Bug::HoldsForgotten // tests/invariants/retry_topics.rs
        | Bug::ResetUnderCommit => return None,
        Bug::SendWhenThawed => (ALONE, frozen_in_mid_air),
        Bug::CommitPastInFlight | Bug::CommitOffByOne => (ALONE, commits_while_a_record_is_slow),
        Bug::DropFailedRecord | Bug::RetryOutOfOrder => (ALONE, a_record_fails_once),
        Bug::PanicCountsAsDone => (ALONE, a_record_panics_once),
        Bug::FailedWritesStay | Bug::FailedOutputsStay => (UNDISTURBED, a_record_fails_once),
        Bug::SkipRecords | Bug::CommitBackwards => (ALONE, many_records),
        Bug::SentTwice => (UNDISTURBED, many_records),
        Bug::CommitHighestSeen
        | Bug::ReleaseBeforeDrain
        | Bug::NoCommitOnRevoke
        | Bug::StartBehindCommit
        | Bug::ReleaseBeforeCommit
        | Bug::SkipRestore
        | Bug::RestoreEndsEarly => (ALONE, a_hand_over_under_load),
        Bug::RetryDoneByDrain => (ALONE, a_hand_over_while_a_retry_waits),
        Bug::DuplicatesPass => (ALONE, records_come_twice),
        Bug::StaleHidesFresh | Bug::CachedCommit => (ALONE, lost_and_given_back),
        Bug::AcknowledgeFirst => (TWO_PARTITIONS, all_is_revoked_at_once),
        Bug::RestoreOfAnother => (TWO_PARTITIONS, a_hand_over_of_two),
        Bug::IgnoreLost | Bug::CommitLost => (ALONE, a_loss_under_load),
        Bug::IgnoreMemberLost => (ALONE, the_group_does_not_know_it),
        Bug::TwoSlots => (ALONE, lost_in_mid_air_and_given_back),
        Bug::CommitsOvertake => (ALONE, commits_are_answered_late),
        Bug::NoAnswerIsAccepted => (ALONE, a_commit_without_an_answer),
        Bug::NoCommitOnShutdown => (ALONE, an_end_under_load),
        Bug::JoinTimeOut => (ALONE, a_drain_that_takes_too_long),
        Bug::StartAtLatest => (LATE, records_before_the_first_reader),
        Bug::DamageDropsCommit => (ALONE, somebody_else_commits),
        Bug::JumpToLatest => (ALONE, retention_is_faster),
        Bug::NeverResume | Bug::BudgetCountsTwice | Bug::ResumeOneTooFar => (ALONE, backpressure),
        Bug::LostWakeUp => (ALONE, a_fetch_breaks_off),
        Bug::WatchdogAsleep => (ALONE, the_fetcher_falls_silent),
        Bug::CommitBeforeDelivery => (ALONE, outputs_are_undelivered_at_a_kill),
        Bug::ChangelogBehindCommit => (ALONE, the_changelog_is_undelivered_at_a_kill),
        Bug::OlderValueLast => (ALONE, a_hand_over_while_a_commit_waits),
        Bug::ResendOnlyFailed => (ALONE, one_delivery_fails),
        Bug::RestoreWithoutTombstones => (ALONE, a_key_is_forgotten),
        Bug::DoneBeforeFlush => (FLUSHING, handled_and_not_flushed_at_a_kill),
        Bug::NoFlushOnRevoke => (FLUSHING, a_hand_over_before_the_flush),
        Bug::FailedFlushCounts => (FLUSHING, a_flush_fails),
        Bug::FlushAfterPanic => (FLUSHING, a_panic_before_the_flush),
        Bug::TickOvertakes => (TICKING, a_tick_before_the_flush),
        Bug::KeyOrderForgotten | Bug::NextOfItsKeyForgotten => (KEYED, several_of_a_key),
        Bug::HandGoesOn | Bug::HandForgotten => (STATELESS, several_in_hand),
        Bug::DoneSetNamesRunning => (KEYED, commits_while_a_record_is_slow),
        Bug::DoneSetDropped | Bug::ProofForgetsDoneSet => (KEYED, handed_over_out_of_order),
        Bug::DoneSetBeforeDelivery => (KEYED, outputs_above_are_undelivered_at_a_kill),
        Bug::MergeTooEarly => (UNORDERED, several_at_once),
        Bug::DeferredDoneAtReturn => (KEYED, a_record_is_deferred),
        Bug::DeadLetterForgotten => (ALONE, a_record_is_given_up),
        Bug::PlacesLeak => (SHARED, two_partitions_share),
        other => panic!("{} has no scenario yet: add one", other.name()),
    };
    Some((setup, play))
}

/// A slow record, and others of its key behind it.
fn several_of_a_key(stage: &mut Stage) {
    stage.send_to(KEYS[0], SLOW);
    stage.send_to(KEYS[0], EASY);
    stage.send_to(KEYS[1], EASY);
    stage.send_to(KEYS[0], EASY);
    stage.pass(100);
}

/// Slots have got used to records that take no time; then one fails, one waits, and others of their
/// keys and of other keys are behind them in the same hands.
fn several_in_hand(stage: &mut Stage) {
    stage.send(40, EASY);
    stage.pass(1);
    for hard in [FAILS_ONCE, SLOW] {
        stage.driver.handle(0).expect("it lives").pause("in");
        stage.pass(1);
        stage.send(3, EASY);
        stage.send_to(KEYS[0], hard);
        stage.send_to(KEYS[0], EASY);
        stage.send(6, EASY);
        stage.driver.handle(0).expect("it lives").resume("in");
        stage.pass(10);
    }
}

fn several_at_once(stage: &mut Stage) {
    for _ in 0..4 {
        stage.send_to(KEYS[0], EASY);
    }
    stage.pass(10);
}

/// What is done above a slow record goes with its partition, and is not done again.
fn handed_over_out_of_order(stage: &mut Stage) {
    stage.send_to(KEYS[0], SLOWER);
    stage.send_to(KEYS[1], EASY);
    stage.send_to(KEYS[2], EASY);
    stage.pass(3);
    stage.freeze();
    stage.pass(6);
    stage.thaw(); // it proves that the partition is its own
    stage.pass(3);
    stage.driver.revoke("in", 0);
    stage.pass(30);
    stage.give_to_another();
    stage.pass(70);
}

/// Outputs of records above a slow one are on their way when the worker is killed.
fn outputs_above_are_undelivered_at_a_kill(stage: &mut Stage) {
    stage.send_to(KEYS[0], SLOWER);
    stage.pass(3);
    stage.driver.fail_deliveries(1_000);
    stage.send_to(KEYS[1], EASY);
    stage.pass(1);
    stage.send_to(KEYS[2], EASY);
    stage.pass(3);
    stage.kill();
    stage.driver.fail_deliveries(0);
    stage.give_to_another();
    stage.pass(70);
}

fn a_record_is_deferred(stage: &mut Stage) {
    stage.send_to(KEYS[0], DEFERRED);
    stage.pass(3);
    stage.send_to(KEYS[1], EASY);
    stage.pass(10);
}

fn a_record_is_given_up(stage: &mut Stage) {
    stage.send(2, EASY);
    stage.send_to(KEYS[0], POISON);
    stage.send(2, EASY);
    stage.pass(60);
}

/// One place for two partitions: who has nothing more to do leaves it to the other.
fn two_partitions_share(stage: &mut Stage) {
    for _ in 0..3 {
        stage.send(4, EASY);
        stage.pass(2);
    }
    stage.pass(100);
}

/// A record that is in flight while others before it are committed.
fn commits_while_a_record_is_slow(stage: &mut Stage) {
    stage.send(3, EASY);
    stage.pass(1);
    stage.send(2, EASY);
    stage.send(1, SLOW);
    stage.send(1, EASY);
    stage.pass(3);
    stage.kill();
    stage.give_to_another();
}

fn a_record_fails_once(stage: &mut Stage) {
    stage.send(3, EASY);
    stage.send(1, FAILS_ONCE);
    stage.send(3, EASY);
}

fn a_record_panics_once(stage: &mut Stage) {
    stage.send(3, EASY);
    stage.send(1, PANICS_ONCE);
    stage.send(3, EASY);
}

fn many_records(stage: &mut Stage) {
    for _ in 0..12 {
        stage.send(5, EASY);
        stage.pass(1);
    }
}

/// A revocation while a record is slow: the next owner must wait for it.
fn a_hand_over_under_load(stage: &mut Stage) {
    stage.send(30, EASY);
    stage.pass(2);
    stage.send(3, EASY);
    stage.send(1, SLOW);
    stage.send(2, EASY);
    stage.driver.revoke("in", 0);
    if stage.bug == Some(Bug::ReleaseBeforeDrain) {
        assert!(stage.driver.owned().is_empty(), "it is released at once");
    } else {
        stage.pass(6);
    }
    stage.give_to_another();
    stage.send(3, EASY);
}

fn a_hand_over_while_a_retry_waits(stage: &mut Stage) {
    stage.send(3, EASY);
    stage.pass(2);
    stage.send(2, EASY);
    stage.send(1, FAILS_ONCE);
    stage.driver.revoke("in", 0);
    stage.give_to_another();
}

/// The fetch has run a while: what comes twice lies behind where it began.
fn records_come_twice(stage: &mut Stage) {
    stage.send(4, EASY);
    stage.driver.deliver_again("in", 0, 2);
    stage.send(2, EASY);
}

/// The same worker gets a partition back that it lost in the middle of a record.
fn lost_and_given_back(stage: &mut Stage) {
    stage.send(3, EASY);
    stage.pass(2);
    stage.send(1, SLOW);
    stage.send(2, EASY);
    stage.driver.lose("in", 0);
    stage.driver.assign("in", 0);
    stage.pass(8);
    stage.driver.revoke("in", 0);
    stage.driver.assign("in", 0);
}

/// The one with the slow record drains longer than the other.
fn all_is_revoked_at_once(stage: &mut Stage) {
    stage.send(8, EASY);
    stage.pass(2);
    stage.send_to("alice", SLOW);
    stage.driver.revoke_all("in");
    stage.pass(1);
    if stage.bug.is_none() {
        stage.pass(6);
    }
    stage.give_to_another();
}

fn a_hand_over_of_two(stage: &mut Stage) {
    stage.send(20, EASY);
    stage.pass(2);
    stage.driver.revoke_all("in");
    stage.give_to_another();
    stage.send(8, EASY);
}

fn a_loss_under_load(stage: &mut Stage) {
    stage.send(3, EASY);
    stage.pass(2);
    stage.send(3, EASY);
    stage.send(1, SLOW);
    stage.send(2, EASY);
    stage.driver.lose("in", 0);
    stage.give_to_another();
    stage.send(3, EASY);
}

/// The member hears of it by the answer to a commit, and by nothing else.
fn the_group_does_not_know_it(stage: &mut Stage) {
    stage.send(3, EASY);
    stage.pass(2);
    stage.driver.answer_commits([CommitStatus::MemberLost]);
    stage.send(2, EASY);
    stage.pass(2);
    stage.give_to_another();
    stage.send(3, EASY);
    stage.pass(2);
}

/// The same worker gets it back while the old handler is at its last await.
fn lost_in_mid_air_and_given_back(stage: &mut Stage) {
    stage.send(3, EASY);
    stage.pass(2);
    stage.send(1, SLOW);
    stage.pass(1);
    stage.driver.lose("in", 0);
    stage.driver.assign("in", 0);
}

fn commits_are_answered_late(stage: &mut Stage) {
    stage.send(3, EASY);
    stage.pass(2);
    stage.driver.hold_commit_answers(true);
    for _ in 0..4 {
        stage.send(2, EASY);
        stage.pass(2);
    }
    stage.driver.hold_commit_answers(false);
}

fn a_commit_without_an_answer(stage: &mut Stage) {
    stage.send(3, EASY);
    stage.pass(2);
    stage.driver.answer_commits([CommitStatus::Unknown]);
    stage.send(2, EASY);
    stage.pass(2);
    stage.driver.revoke("in", 0);
    stage.give_to_another();
}

/// What was done last waits for its commit when the worker ends.
fn an_end_under_load(stage: &mut Stage) {
    stage.pass(1);
    stage.send(3, EASY);
    stage.pass(2);
    stage.send(3, EASY);
    assert!(stage.driver.shut_down().is_ok());
}

/// What was done just before has to be committed although a handler is cut off.
fn a_drain_that_takes_too_long(stage: &mut Stage) {
    stage.send(3, EASY);
    stage.pass(2);
    stage.send(3, EASY);
    stage.send(1, SLOWER);
    stage.driver.revoke("in", 0);
    stage.pass(12);
    stage.give_to_another();
    stage.pass(70);
}

fn records_before_the_first_reader(stage: &mut Stage) {
    stage.send(5, EASY);
    stage.begin();
    stage.send(5, EASY);
}

/// Another program has written the same offset, with words of its own.
fn somebody_else_commits(stage: &mut Stage) {
    stage.send(5, EASY);
    stage.pass(2);
    stage.driver.revoke("in", 0);
    let committed = stage.driver.committed("in", 0).unwrap_or(0);
    stage.driver.set_committed("in", 0, committed, "pelton1 00000000 p=1");
    stage.give_to_another();
    stage.send(5, EASY);
}

/// Records are deleted before they were read: it goes on at the first that is left.
fn retention_is_faster(stage: &mut Stage) {
    stage.send(5, EASY);
    stage.pass(2);
    stage.driver.revoke("in", 0);
    let (committed, low) = (5, 9);
    assert_eq!(stage.driver.committed("in", 0), Some(committed));
    for _ in 0..10 {
        stage.driver.send("in", "eve", EASY);
    }
    stage.expect("eve", 6);
    stage.driver.delete_records("in", 0, low);
    stage.give_to_another();
    stage.pass(2);
}

/// More records than the buffer takes, twice, and then quiet.
fn backpressure(stage: &mut Stage) {
    for _ in 0..2 {
        stage.send(1, SLOW);
        stage.send(40, EASY);
        stage.pass(10);
    }
    stage.pass(80);
}

fn a_fetch_breaks_off(stage: &mut Stage) {
    stage.send(3, EASY);
    stage.driver.break_off_fetch("in", 0);
    stage.send(3, EASY);
    stage.pass(90);
}

fn the_fetcher_falls_silent(stage: &mut Stage) {
    stage.send(3, EASY);
    stage.driver.silence_fetcher(0);
    stage.send(3, EASY);
    stage.pass(90);
}

/// Nothing is delivered until the worker is killed.
fn outputs_are_undelivered_at_a_kill(stage: &mut Stage) {
    stage.send(4, EASY);
    stage.pass(2);
    stage.driver.fail_deliveries(usize::MAX);
    stage.send(4, EASY);
    stage.pass(2);
    stage.kill();
    stage.driver.fail_deliveries(0);
    stage.give_to_another();
}

/// The outputs are delivered at once, the changelog's records with the commit.
fn the_changelog_is_undelivered_at_a_kill(stage: &mut Stage) {
    stage.send(4, EASY);
    stage.pass(2);
    stage.send(4, EASY);
    stage.driver.fail_deliveries(usize::MAX);
    stage.pass(2);
    stage.kill();
    stage.driver.fail_deliveries(0);
    stage.give_to_another();
}

/// A drain seals while the seal before it waits for its commit.
fn a_hand_over_while_a_commit_waits(stage: &mut Stage) {
    stage.send(4, EASY);
    stage.pass(2);
    stage.driver.answer_commits([CommitStatus::Retry; 5]);
    stage.send(4, EASY);
    stage.pass(1);
    stage.send(4, EASY);
    stage.driver.revoke("in", 0);
    stage.pass(5);
    stage.give_to_another();
}

/// The first output fails, so that others queue up behind it, of its key; then the second one does, and
/// the third, sent with it, arrives.
fn one_delivery_fails(stage: &mut Stage) {
    stage.driver.fail_deliveries_at(&[0, 2]);
    for _ in 0..3 {
        stage.send_to("alice", EASY);
    }
    stage.pass(20);
}

/// Its tombstone is the last that the changelog holds of it.
fn a_key_is_forgotten(stage: &mut Stage) {
    stage.send(8, EASY);
    stage.pass(2);
    stage.send_to("alice", FORGET);
    stage.pass(2);
    stage.driver.revoke("in", 0);
    stage.give_to_another();
    stage.send_to("alice", EASY);
}

/// A commit comes along while handled records wait for their flush.
fn handled_and_not_flushed_at_a_kill(stage: &mut Stage) {
    stage.send(3, EASY);
    stage.pass(2);
    stage.send(2, EASY);
    stage.send(1, SLOW);
    stage.pass(2);
    stage.kill();
    stage.give_to_another();
}

fn a_hand_over_before_the_flush(stage: &mut Stage) {
    stage.send(3, EASY);
    stage.pass(2);
    stage.send(3, EASY);
    stage.driver.revoke("in", 0);
    stage.give_to_another();
}

fn a_flush_fails(stage: &mut Stage) {
    stage.send(3, EASY);
    stage.send(1, SPOILS_FLUSH);
    stage.pass(5);
}

fn a_panic_before_the_flush(stage: &mut Stage) {
    stage.send(3, EASY);
    stage.send(1, PANICS_ONCE);
    stage.send(1, EASY);
    stage.pass(5);
}

/// The tick is due while handled records wait for their flush.
fn a_tick_before_the_flush(stage: &mut Stage) {
    for _ in 0..3 {
        stage.send_to("alice", EASY);
    }
    stage.pass(3);
}

/// The group gives the partition away while its owner stands still; thawed, it has an old output.
fn frozen_in_mid_air(stage: &mut Stage) {
    stage.send_to("alice", EASY);
    stage.pass(2);
    stage.send_to("alice", SLOW);
    stage.freeze();
    stage.pass(60);
    stage.driver.lose("in", 0);
    stage.give_to_another();
    stage.pass(8);
    stage.send_to("alice", EASY);
    stage.pass(2);
    stage.thaw();
    stage.pass(5);
}
