//! Does a group keep its promises whatever befalls it? Members come, go, freeze and die in bad
//! weather; then it gets calm.

use std::time::Duration;

use super::group::GroupConfig;
use super::group_network::{GROUP, Network, Weather};
use super::member::{MemberConfig, MemberFaults};
use super::random::Random;
use super::wire::Assignor;

const ASSIGNORS: [Assignor; 4] =
    [Assignor::Range, Assignor::RoundRobin, Assignor::CooperativeSticky, Assignor::Broker];

fn faults(random: &mut Random) -> MemberFaults {
    MemberFaults {
        late_event: random.below(5),
        event_delay: Duration::from_millis(random.below(500)),
        stalled_assignment: random.below(10),
        stall: Duration::from_secs(random.below(9)),
        late_answer: random.below(4),
        answer_delay: Duration::from_millis(random.below(900)),
        lost_answer: random.below(8),
        tells_only_confirmed: false,
        keeps_what_is_void: false,
    }
}

fn config(assignor: Assignor, instance: Option<u64>, random: &mut Random) -> MemberConfig {
    let mut config = MemberConfig::new(GROUP, assignor, &["logins", "orders"]);
    config.instance = instance.map(|number| format!("worker-{number}").into());
    config.rebalance_timeout = Duration::from_secs(10);
    config.faults = faults(random);
    config
}

/// A process whose place another one has, or had a moment ago, ends; its supervisor starts it.
fn start_again(
    network: &mut Network,
    stations: &mut [(u32, Option<u64>)],
    assignor: Assignor,
    random: &mut Random,
) {
    for (seat, instance) in stations {
        if network.story(*seat).iter().any(|event| event == "fenced") {
            network.kill(*seat);
            *seat = network.seat(config(assignor, *instance, random));
        }
    }
}

/// One seed: what happens is drawn, the same for the same seed.
fn run(seed: u64) {
    let mut random = Random::new(seed);
    let assignor = ASSIGNORS[usize::try_from(seed).unwrap() % 4];
    let is_static = random.one_in(3);
    let group = GroupConfig {
        initial_rebalance_delay: Duration::from_millis(if random.one_in(2) { 300 } else { 0 }),
        former_epochs_may_commit: random.one_in(2),
        ..GroupConfig::default()
    };
    let mut counts = [1 + random.below(6), random.below(5)].map(|n| i32::try_from(n).unwrap());
    let topics = |counts: [i32; 2]| {
        [("logins", counts[0]), ("orders", counts[1])].into_iter().filter(|(_, n)| *n > 0)
    };
    let mut network = Network::new(seed, &topics(counts).collect::<Vec<_>>(), group);
    let mut stations: Vec<(u32, Option<u64>)> = Vec::new();
    for number in 0..2 + random.below(4) {
        let instance = is_static.then_some(number);
        stations.push((network.seat(config(assignor, instance, &mut random)), instance));
    }
    network.weather = Weather {
        delay: (Duration::ZERO, Duration::from_millis(1 + random.below(400))),
        loses: 10 + random.below(200),
    };
    for commit in 0..25 {
        match random.below(12) {
            0 | 1 => {
                let at = usize::try_from(random.below(stations.len() as u64)).unwrap();
                let (seat, instance) = stations[at];
                network.kill(seat);
                stations[at].0 = network.seat(config(assignor, instance, &mut random));
            }
            2 => network.move_coordinator(Some(usize::try_from(random.below(3)).unwrap())),
            3 => {
                network.move_coordinator(None);
                let away = Duration::from_millis(random.below(8_000));
                network.run(away, Network::check_owners);
                network.move_coordinator(Some(1));
            }
            4 if stations.len() < 7 => {
                let instance = is_static.then_some(100 + commit);
                stations.push((network.seat(config(assignor, instance, &mut random)), instance));
            }
            5 if stations.len() > 1 => {
                let (seat, _) = stations.swap_remove(0);
                network.with(seat, |client, wire| client.leave(wire));
                network.run(Duration::from_secs(1), Network::check_owners);
                network.with(seat, |client, wire| client.close(true, wire));
                network.kill(seat);
            }
            6 => {
                let (seat, _) = *random.pick(&stations).unwrap();
                network.seats.get_mut(&seat).unwrap().frozen = true;
                let frozen = Duration::from_millis(random.below(15_000));
                network.run(frozen, Network::check_owners);
                network.seats.get_mut(&seat).unwrap().frozen = false;
            }
            7 => {
                let (seat, _) = *random.pick(&stations).unwrap();
                network.with(seat, |client, wire| client.rejoin(wire));
            }
            8 => {
                counts[0] += 1;
                network.change_topics(&topics(counts).collect::<Vec<_>>());
            }
            9 => {
                let (seat, _) = *random.pick(&stations).unwrap();
                let drain = Duration::from_millis(random.below(14_000));
                network.seats.get_mut(&seat).unwrap().drain = drain;
            }
            _ => {
                for (seat, _) in &stations {
                    network.commit(*seat, commit, i64::try_from(commit).unwrap());
                }
            }
        }
        let pause = Duration::from_millis(random.below(3_000));
        network.run(pause, Network::check_owners);
        start_again(&mut network, &mut stations, assignor, &mut random);
    }
    network.weather = Weather::CALM;
    network.seats.values_mut().for_each(|seat| seat.drain = Duration::from_millis(5));
    for _ in 0..18 {
        network.run(Duration::from_secs(5), Network::check_owners);
        start_again(&mut network, &mut stations, assignor, &mut random);
    }
    if is_static && assignor != Assignor::Broker {
        // A static member that comes back causes no round, so whatever the group should have
        // done for the one before it is left undone until the next change: true to Kafka
        // (`a_static_restart_can_leave_a_partition_without_an_owner`).
        network.seat(config(assignor, None, &mut Random::new(seed)));
        network.run(Duration::from_secs(60), Network::check_owners);
    }
    network.check_calm();
}

#[test]
fn a_group_in_bad_weather_never_has_two_owners_and_is_whole_when_it_is_calm() {
    let seeds = std::env::var("GROUP_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(40);
    let first = std::env::var("GROUP_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    for seed in first..first + seeds {
        let outcome = std::panic::catch_unwind(|| run(seed));
        assert!(outcome.is_ok(), "seed {seed} fails");
    }
}
