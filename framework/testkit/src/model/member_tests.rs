//! Does the model's member do what librdkafka was measured to do? Story by story.

use std::sync::mpsc;
use std::time::Duration;

use pelton::TopicPartition;
use pelton::ports::{CommitEntry, Committed, MemberEvent, PortError};
use pelton_engine::CommitStatus;

use super::group::{GroupAnswers, GroupConfig};
use super::group_network::{GROUP, Network, Weather};
use super::member::{MemberConfig, MemberFaults};
use super::wire::{Assignor, CallId, GroupAnswer, GroupRequest, ProducerIdentity, StoredOffset};

const ALL: [Assignor; 4] =
    [Assignor::Range, Assignor::RoundRobin, Assignor::CooperativeSticky, Assignor::Broker];

fn config(assignor: Assignor) -> MemberConfig {
    MemberConfig::new(GROUP, assignor, &["logins"])
}

fn static_config(assignor: Assignor, instance: &str) -> MemberConfig {
    MemberConfig { instance: Some(instance.into()), ..config(assignor) }
}

fn network(partitions: i32) -> Network {
    Network::new(7, &[("logins", partitions)], GroupConfig::default())
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Two members that share everything, with empty stories.
fn pair(assignor: Assignor) -> (Network, u32, u32) {
    let mut network = network(4);
    let first = network.seat(config(assignor));
    network.settle();
    let second = network.seat(config(assignor));
    network.settle();
    network.check_calm();
    network.forget_stories();
    (network, first, second)
}

fn read(
    network: &mut Network,
    seat: u32,
    partitions: &[i32],
) -> mpsc::Receiver<Result<Vec<Committed>, PortError>> {
    let (tell, heard) = mpsc::channel();
    let partitions = partitions.iter().map(|p| TopicPartition::new("logins", *p)).collect();
    let tell = Box::new(move |result| tell.send(result).unwrap_or(()));
    network.with(seat, |client, wire| client.read_committed(partitions, tell, wire));
    heard
}

#[test]
fn an_eager_member_gives_everything_back_before_it_joins_anew() {
    let mut network = network(4);
    let first = network.seat(config(Assignor::Range));
    network.settle();
    assert_eq!(network.story(first), ["assigned 0 1 2 3"]);
    network.seat(config(Assignor::Range));
    network.settle();
    assert_eq!(network.story(first), ["assigned 0 1 2 3", "revoked 0 1 2 3", "assigned 0 1"]);
}

#[test]
fn a_cooperative_member_gives_back_only_what_must_go_and_is_told_twice_of_nothing_new() {
    let mut network = network(4);
    let first = network.seat(config(Assignor::CooperativeSticky));
    network.settle();
    let second = network.seat(config(Assignor::CooperativeSticky));
    network.settle();
    let told = ["assigned 0 1 2 3", "revoked 2 3", "assigned", "assigned"];
    assert_eq!(network.story(first), told);
    assert_eq!(network.story(second), ["assigned", "assigned 2 3"]);
}

#[test]
fn a_kip_848_member_gives_back_only_what_must_go() {
    let mut network = network(4);
    let first = network.seat(config(Assignor::Broker));
    network.settle();
    let second = network.seat(config(Assignor::Broker));
    network.settle();
    assert_eq!(network.story(first), ["assigned 0 1 2 3", "revoked 2 3"]);
    assert_eq!(network.story(second), ["assigned 2 3"]);
}

/// Cooperative and KIP-848: whoever comes or goes, a partition moves only if it must.
#[test]
fn nothing_that_is_kept_is_ever_revoked() {
    for assignor in [Assignor::CooperativeSticky, Assignor::Broker] {
        let mut network = network(12);
        let mut seats = vec![network.seat(config(assignor))];
        network.settle();
        for _ in 0..3 {
            let before: Vec<_> = seats.iter().map(|seat| network.owned(*seat)).collect();
            network.forget_stories();
            let new = network.seat(config(assignor));
            network.settle();
            for (seat, before) in seats.iter().zip(before) {
                let after = network.owned(*seat);
                let gone: Vec<_> = before.into_iter().filter(|p| !after.contains(p)).collect();
                let gone: Vec<_> = gone.iter().map(ToString::to_string).collect();
                let told = network.story(*seat);
                let told: Vec<_> = told.iter().filter(|e| e.starts_with("revoked")).collect();
                assert_eq!(told, [&format!("revoked {}", gone.join(" "))], "{assignor:?}");
            }
            assert_eq!(network.owned(new).len(), 12 / (seats.len() + 1));
            seats.push(new);
        }
        let gone = seats.remove(0);
        network.forget_stories();
        network.with(gone, |client, wire| client.leave(wire));
        network.settle();
        for seat in seats {
            assert!(!network.story(seat).iter().any(|e| e.starts_with("revoked")));
            assert_eq!(network.owned(seat).len(), 4);
        }
    }
}

#[test]
fn a_killed_members_partitions_are_anothers_when_its_session_ends() {
    for assignor in ALL {
        let (mut network, first, second) = pair(assignor);
        network.kill(second);
        network.run(seconds(4), Network::check_owners);
        assert_eq!(network.owned(first).len(), 2, "{assignor:?}: its session runs");
        network.settle();
        assert_eq!(network.owned(first), [0, 1, 2, 3], "{assignor:?}");
    }
}

#[test]
fn whoever_thaws_learns_that_everything_is_lost_and_comes_back() {
    for assignor in ALL {
        let (mut network, first, second) = pair(assignor);
        network.seats.get_mut(&second).unwrap().frozen = true;
        network.run(seconds(20), Network::check_owners);
        assert_eq!(network.owned(first), [0, 1, 2, 3], "{assignor:?}");
        assert_eq!(network.owned(second).len(), 2, "it does not know");
        network.seats.get_mut(&second).unwrap().frozen = false;
        network.settle();
        let story = network.story(second);
        assert!(story.iter().any(|event| event.starts_with("lost ")), "{assignor:?}: {story:?}");
        assert_eq!(network.owned(second).len(), 2);
        network.check_calm();
    }
}

#[test]
fn a_zombies_commit_is_refused_and_says_so() {
    for assignor in ALL {
        let (mut network, _, second) = pair(assignor);
        network.seats.get_mut(&second).unwrap().frozen = true;
        network.run(seconds(20), Network::check_owners);
        network.commit(second, 1, 99);
        network.seats.get_mut(&second).unwrap().frozen = false;
        network.settle();
        let statuses = &network.seats[&second].commits[&1];
        assert!(statuses.iter().all(|(_, s)| *s == CommitStatus::MemberLost), "{assignor:?}");
        assert_eq!(network.group.all_committed().count(), 0);
    }
}

/// FACTS: past `max.poll.interval.ms` eager and KIP-848 members are removed without a lost event
/// before their acknowledgement; the drain's own commit tells.
#[test]
fn a_drain_that_takes_too_long_is_not_told_but_its_commit_is_refused() {
    for assignor in [Assignor::Range, Assignor::Broker] {
        let mut network = network(4);
        let slow = MemberConfig { rebalance_timeout: seconds(10), ..config(assignor) };
        let first = network.seat(slow.clone());
        network.settle();
        network.seats.get_mut(&first).unwrap().drain = seconds(15);
        let second = network.seat(slow);
        network.run(seconds(13), Network::check_owners);
        assert_eq!(network.owned(second).len(), 4, "{assignor:?}: it is out after 10 s");
        let story = network.story(first);
        assert!(story.last().unwrap().starts_with("revoked"), "{assignor:?}: {story:?}");
        network.commit(first, 1, 5);
        network.run(seconds(1), Network::check_owners);
        let statuses = &network.seats[&first].commits[&1];
        assert!(statuses.iter().all(|(_, s)| *s == CommitStatus::MemberLost), "{assignor:?}");
        network.seats.get_mut(&first).unwrap().drain = Duration::ZERO;
        network.settle();
        network.check_calm();
        if assignor == Assignor::Broker {
            let story = network.story(first);
            assert!(story.contains(&"lost 0 1".to_owned()), "the kept ones: {story:?}");
        }
    }
}

#[test]
fn heartbeats_go_on_while_an_acknowledgement_waits() {
    for assignor in ALL {
        let mut network = network(4);
        let first = network.seat(config(assignor));
        network.settle();
        network.seats.get_mut(&first).unwrap().drain = seconds(20);
        network.seat(config(assignor));
        network.run(seconds(15), Network::check_owners);
        assert_eq!(network.group.assignments().len(), 2, "{assignor:?}: longer than a session");
        network.seats.get_mut(&first).unwrap().drain = Duration::ZERO;
        network.settle();
        network.check_calm();
        let story = network.story(first);
        assert!(!story.iter().any(|event| event.starts_with("lost")), "{assignor:?}: {story:?}");
    }
}

#[test]
fn a_worker_that_does_not_look_for_too_long_is_out_until_it_looks() {
    for assignor in ALL {
        let (mut network, first, second) = pair(assignor);
        network.seats.get_mut(&second).unwrap().deaf = true;
        network.run(seconds(25), Network::check_owners);
        assert_eq!(network.owned(first).len(), 2, "{assignor:?}: its heartbeats go on");
        network.run(seconds(20), Network::check_owners);
        assert_eq!(network.owned(first).len(), 4, "{assignor:?}: 30 s are over");
        assert!(!network.client(second).has_joined());
        network.seats.get_mut(&second).unwrap().deaf = false;
        network.settle();
        let story = network.story(second);
        assert_eq!(story[0], "trouble", "{assignor:?}");
        assert!(story[1].starts_with("lost "), "{assignor:?}: {story:?}");
        network.check_calm();
    }
}

#[test]
fn a_static_restart_moves_nothing() {
    for assignor in ALL {
        let mut network = network(4);
        let other = network.seat(static_config(assignor, "worker-0"));
        network.settle();
        let former = network.seat(static_config(assignor, "worker-1"));
        network.settle();
        network.forget_stories();
        let had = network.owned(former);
        let generation = network.group.generation();
        network.with(former, |client, wire| client.leave(wire));
        assert!(network.client(former).has_left(), "a static one only says so");
        network.with(former, |client, wire| client.close(true, wire));
        network.run(seconds(1), Network::check_owners);
        network.kill(former);
        let successor = network.seat(static_config(assignor, "worker-1"));
        network.run(seconds(4), Network::check_owners);
        assert_eq!(network.owned(successor), had, "{assignor:?}");
        assert_eq!(network.story(other), [""; 0], "{assignor:?}");
        assert_eq!(network.group.generation(), generation, "{assignor:?}");
        network.settle();
        network.check_calm();
    }
}

#[test]
fn of_two_with_one_instance_id_classic_fences_the_old_and_kip_848_the_new() {
    for assignor in [Assignor::CooperativeSticky, Assignor::Broker] {
        let mut network = network(4);
        let old = network.seat(static_config(assignor, "worker-0"));
        network.settle();
        let new = network.seat(static_config(assignor, "worker-0"));
        network.settle();
        let (fenced, kept) = if assignor == Assignor::Broker { (new, old) } else { (old, new) };
        assert_eq!(network.story(fenced).last().unwrap(), "fenced", "{assignor:?}");
        assert_eq!(network.owned(kept).len(), 4, "{assignor:?}");
        assert!(!network.story(kept).contains(&"fenced".to_owned()));
    }
}

#[test]
fn a_client_in_the_place_of_a_broken_one_takes_its_own_shadow_for_what_it_is() {
    let mut network = network(4);
    network.seat(static_config(Assignor::Broker, "worker-0"));
    network.settle();
    let again = MemberConfig { again: true, ..static_config(Assignor::Broker, "worker-0") };
    let new = network.seat(again);
    network.settle();
    assert_eq!(network.story(new), ["broken"]);
}

#[test]
fn whoever_leaves_gives_back_first_and_the_rest_follows_at_once() {
    for assignor in ALL {
        let (mut network, first, second) = pair(assignor);
        let had = network.owned(second);
        network.with(second, |client, wire| client.leave(wire));
        assert!(!network.client(second).has_left(), "{assignor:?}");
        network.run(seconds(1), Network::check_owners);
        let revoked = format!("revoked {} {}", had[0], had[1]);
        assert_eq!(network.story(second), [revoked], "{assignor:?}");
        assert!(network.client(second).has_left(), "{assignor:?}");
        network.run(seconds(3), Network::check_owners);
        assert_eq!(network.owned(first), [0, 1, 2, 3], "{assignor:?}: no session has to end");
        network.settle();
        assert!(network.client(second).owned().is_empty(), "{assignor:?}: it stays away");
        assert_eq!(network.group.members().len(), 1);
    }
}

/// FACTS: after `unsubscribe()` no heartbeats are sent: a drain has less than a session left.
#[test]
fn a_drain_after_leaving_lives_as_long_as_the_session() {
    for assignor in ALL {
        let (mut network, first, second) = pair(assignor);
        network.seats.get_mut(&second).unwrap().drain = seconds(20);
        network.with(second, |client, wire| client.leave(wire));
        network.run(seconds(12), Network::check_owners);
        assert_eq!(network.owned(first).len(), 4, "{assignor:?}");
        network.commit(second, 1, 5);
        network.run(seconds(1), Network::check_owners);
        let statuses = &network.seats[&second].commits[&1];
        assert!(statuses.iter().all(|(_, s)| *s == CommitStatus::MemberLost), "{assignor:?}");
    }
}

#[test]
fn whoever_joins_anew_is_a_member_the_group_does_not_know() {
    for assignor in ALL {
        let (mut network, _, second) = pair(assignor);
        let before = network.client(second).identity();
        network.with(second, |client, wire| client.rejoin(wire));
        network.settle();
        network.check_calm();
        let after = network.client(second).identity();
        assert!(after.2 > before.2, "{assignor:?}");
        if assignor != Assignor::Broker {
            assert_ne!(before.0, after.0, "{assignor:?}");
        }
        assert!(network.story(second)[0].starts_with("revoked "), "{assignor:?}");
    }
}

#[test]
fn a_move_of_the_coordinator_takes_nothing_from_anybody() {
    for assignor in ALL {
        let (mut network, first, second) = pair(assignor);
        network.move_coordinator(None);
        network.commit(first, 1, 5);
        network.run(seconds(3), Network::check_owners);
        assert!(network.seats[&first].commits.is_empty(), "{assignor:?}: it waits");
        network.move_coordinator(Some(2));
        network.settle();
        let statuses = &network.seats[&first].commits[&1];
        assert!(statuses.iter().all(|(_, s)| *s == CommitStatus::Accepted), "{assignor:?}");
        for seat in [first, second] {
            let story = network.story(seat);
            assert!(story.iter().all(|event| event == "commit"), "{assignor:?}: {story:?}");
        }
        network.check_calm();
    }
}

#[test]
fn without_a_coordinator_a_classic_session_ends_for_the_client_and_a_kip_848_one_does_not() {
    for assignor in ALL {
        let (mut network, first, _) = pair(assignor);
        network.move_coordinator(None);
        network.commit(first, 1, 5);
        network.run(seconds(9), Network::check_owners);
        let lost = network.story(first).iter().any(|event| event.starts_with("lost"));
        assert_eq!(lost, assignor != Assignor::Broker, "{assignor:?}");
        let statuses = &network.seats[&first].commits[&1];
        assert!(statuses.iter().all(|(_, s)| *s == CommitStatus::Retry), "never sent");
        network.move_coordinator(Some(1));
        network.settle();
        network.check_calm();
    }
}

#[test]
fn each_topic_of_a_commit_is_answered_for_itself() {
    let mut network = Network::new(7, &[("logins", 1), ("orders", 1)], GroupConfig::default());
    let both = MemberConfig::new(GROUP, Assignor::CooperativeSticky, &["logins", "orders"]);
    let seat = network.seat(both);
    network.settle();
    let entry = |topic: &str, metadata: &str| CommitEntry {
        partition: TopicPartition::new(topic, 0),
        offset: 7,
        metadata: metadata.to_owned(),
    };
    let entries = [entry("logins", "x"), entry("orders", &"x".repeat(5000)), entry("gone", "")];
    network.with(seat, |client, wire| client.commit(3, &entries, wire)).unwrap();
    network.run(seconds(1), |_| {});
    let mut statuses = network.seats[&seat].commits[&3].clone();
    statuses.sort_by(|(one, _), (other, _)| one.cmp(other));
    let statuses: Vec<_> = statuses.into_iter().map(|(_, status)| status).collect();
    use CommitStatus::{Accepted, Retry, TopicGone};
    assert_eq!(statuses, [TopicGone, Accepted, Retry]);
}

#[test]
fn committed_offsets_come_in_the_order_they_were_asked_for() {
    let (mut network, first, _) = pair(Assignor::Range);
    network.commit(first, 1, 5);
    network.run(seconds(1), |_| {});
    let heard = read(&mut network, first, &[3, 1, 0]);
    network.run(seconds(1), |_| {});
    let committed = heard.try_recv().unwrap().unwrap();
    let offsets: Vec<_> = committed.iter().map(|c| (c.partition.partition(), c.offset)).collect();
    assert_eq!(offsets, [(3, None), (1, Some(5)), (0, Some(5))]);
}

#[test]
fn a_read_waits_for_an_open_transaction_but_not_for_ever() {
    let (mut network, first, _) = pair(Assignor::Broker);
    let producer = ProducerIdentity { id: 4, epoch: 0 };
    let (member, instance, generation) = network.client(first).identity();
    let offset = StoredOffset { offset: 8, metadata: String::new() };
    let offsets = vec![(TopicPartition::new("logins", 0), offset)];
    let commit =
        GroupRequest::TransactionalCommit { producer, member, instance, generation, offsets };
    let mut out = GroupAnswers::new();
    let topics = network.topics.clone();
    network.group.handle(network.now, CallId(9_999_999), commit, &topics, &mut out);
    assert!(matches!(&out[0].1, GroupAnswer::Committed(stored) if stored[0].1.is_ok()));

    let heard = read(&mut network, first, &[0]);
    network.run(seconds(4), |_| {});
    assert!(heard.try_recv().is_err(), "it waits");
    network.run(seconds(2), |_| {});
    assert!(heard.try_recv().unwrap().is_err_and(|error| error.retryable), "5 s are over");

    let heard = read(&mut network, first, &[0]);
    network.run(seconds(1), |_| {});
    network.group.end_transaction(producer, true);
    network.run(seconds(1), |_| {});
    assert_eq!(heard.try_recv().unwrap().unwrap()[0].offset, Some(8));
}

#[test]
fn a_broken_client_is_silent_until_its_session_ends() {
    for assignor in ALL {
        let (mut network, first, second) = pair(assignor);
        network.client(second).break_with("out of memory");
        network.run(seconds(1), Network::check_owners);
        assert!(network.with(second, |client, wire| client.commit(1, &[], wire)).is_err());
        network.settle();
        assert_eq!(network.story(second), ["broken"], "{assignor:?}");
        assert_eq!(network.owned(first).len(), 4, "{assignor:?}");
    }
}

#[test]
fn a_broken_client_that_is_closed_leaves_at_once() {
    for assignor in ALL {
        let (mut network, first, second) = pair(assignor);
        network.client(second).break_with("out of memory");
        network.with(second, |client, wire| client.close(true, wire));
        network.run(seconds(4), Network::check_owners);
        assert_eq!(network.owned(first).len(), 4, "{assignor:?}");
    }
}

#[test]
fn members_see_that_a_topic_grows_and_that_it_is_gone() {
    for assignor in ALL {
        let (mut network, first, second) = pair(assignor);
        network.change_topics(&[("logins", 6)]);
        network.settle();
        network.check_calm();
        assert_eq!((network.owned(first).len(), network.owned(second).len()), (3, 3));
        network.forget_stories();
        network.change_topics(&[]);
        network.settle();
        assert!(network.client(first).owned().is_empty(), "{assignor:?}");
        let story = network.story(first);
        let (trouble, what) = match assignor {
            Assignor::Broker => (false, "revoked"),
            Assignor::CooperativeSticky => (true, "lost"),
            Assignor::Range | Assignor::RoundRobin => (true, "revoked"),
        };
        assert_eq!(story.contains(&"trouble".to_owned()), trouble, "{assignor:?}: {story:?}");
        assert!(story.iter().any(|event| event.starts_with(what)), "{assignor:?}: {story:?}");
    }
}

/// True to Kafka: a static leader that comes back begins no round, and it is not told that it
/// leads. What grew while it was away has no owner until the next change.
#[test]
fn nobody_hears_of_growth_while_a_static_leader_is_restarted() {
    let mut network = network(2);
    let leader = network.seat(static_config(Assignor::Range, "worker-0"));
    network.settle();
    network.kill(leader);
    network.change_topics(&[("logins", 3)]);
    let successor = network.seat(static_config(Assignor::Range, "worker-0"));
    network.settle();
    assert_eq!(network.owned(successor), [0, 1]);
    network.seat(config(Assignor::Range));
    network.settle();
    network.check_calm();
}

/// True to Kafka: the member that is to give something back rejoins when it has. If it dies
/// before and comes back under its instance id, no round follows, and nobody has the partition
/// until the next change.
#[test]
fn a_static_restart_can_leave_a_partition_without_an_owner() {
    let mut network = network(4);
    let first = network.seat(static_config(Assignor::CooperativeSticky, "worker-0"));
    network.settle();
    network.seats.get_mut(&first).unwrap().drain = seconds(3);
    let second = network.seat(static_config(Assignor::CooperativeSticky, "worker-1"));
    network.run(seconds(3), Network::check_owners);
    assert!(network.story(first).contains(&"revoked 2 3".to_owned()));
    network.kill(first);
    let successor = network.seat(static_config(Assignor::CooperativeSticky, "worker-0"));
    network.settle();
    assert_eq!((network.owned(successor), network.owned(second)), (vec![0, 1], vec![]));
    network.seat(config(Assignor::CooperativeSticky));
    network.settle();
    network.check_calm();
}

#[test]
fn misbehaviour_is_switched_on_one_by_one() {
    let with = |faults: MemberFaults| {
        let mut network = Network::new(8, &[("logins", 2)], GroupConfig::default());
        let seat = network.seat(MemberConfig { faults, ..config(Assignor::Range) });
        network.run(Duration::from_millis(100), |_| {});
        let assigned = network.story(seat).len();
        network.run(seconds(10), |_| {});
        network.commit(seat, 1, 5);
        network.run(seconds(1), |_| {});
        let soon = network.seats[&seat].commits.get(&1).map(|statuses| statuses[0].1);
        network.run(seconds(9), |_| {});
        let late = network.seats[&seat].commits.get(&1).map(|statuses| statuses[0].1);
        (assigned, soon, late)
    };
    let accepted = Some(CommitStatus::Accepted);
    assert_eq!(with(MemberFaults::default()), (1, accepted, accepted));
    let stalled = MemberFaults { stalled_assignment: 1, stall: seconds(5), ..Default::default() };
    assert_eq!(with(stalled), (0, accepted, accepted));
    let late = MemberFaults { late_event: 1, event_delay: seconds(9), ..Default::default() };
    assert_eq!(with(late), (0, accepted, accepted));
    let late = MemberFaults { late_answer: 1, answer_delay: seconds(8), ..Default::default() };
    assert_eq!(with(late), (1, None, accepted));
    let lost = MemberFaults { lost_answer: 1, ..Default::default() };
    assert_eq!(with(lost), (1, None, Some(CommitStatus::Unknown)), "though it is stored");
}

/// Read in the source of 2.12.1: a full heartbeat tells only what was confirmed. So what an
/// assignment that waits has brought can be given to another one.
#[test]
fn a_heartbeat_after_trouble_can_forget_an_assignment_that_waits() {
    let run = |tells_only_confirmed: bool| {
        let mut network = network(4);
        let faults = MemberFaults {
            stalled_assignment: 1,
            stall: seconds(8),
            tells_only_confirmed,
            ..Default::default()
        };
        let first = network.seat(MemberConfig { faults, ..config(Assignor::Broker) });
        network.run(seconds(1), |_| {});
        let second = network.seat(config(Assignor::Broker));
        network.run(seconds(1), |_| {});
        network.weather.loses = 2;
        network.run(seconds(2), |_| {});
        network.weather = Weather::CALM;
        network.run(seconds(1), |_| {});
        let had = network.owned(second).len();
        network.seats.get_mut(&first).unwrap().drain = seconds(1);
        (had, network)
    };
    assert_eq!(run(false).0, 0, "the first has not given back");
    let (had, mut network) = run(true);
    assert_eq!(had, 2);
    network.run(seconds(4), |_| {});
    let shared = network.seats.values().map(|seat| seat.client.owned().len()).sum::<usize>();
    assert_eq!(shared, 6, "two partitions have two owners");
    network.settle();
    network.check_calm();
}

#[test]
fn a_closed_client_tells_nothing_and_asks_nothing() {
    let (mut network, _, second) = pair(Assignor::Range);
    let heard = read(&mut network, second, &[0]);
    network.with(second, |client, wire| client.close(false, wire));
    assert!(heard.try_recv().unwrap().is_err(), "whoever waits hears it");
    let none: Option<MemberEvent> = network.with(second, |client, wire| client.poll(wire));
    assert!(none.is_none());
    assert!(network.with(second, |client, wire| client.acknowledge(wire)).is_err());
    assert_eq!(network.group.members().len(), 2, "nobody has told the group");
}
