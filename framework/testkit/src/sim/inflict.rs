//! How is a fault carried out, and what does the ledger hear of it?

use std::num::NonZeroU32;
use std::time::Duration;

use pelton::{Ordering, TopicPartition, WorkerHandle};
use pelton_engine::Time;

use super::fault::Fault;
use super::fleet::Hosted;
use super::run::{Deed, Run};
use crate::ledger::{Fault as Told, FaultKind};
use crate::model::{Process, RequestKind, Trick, World};

const SECOND: Duration = Duration::from_secs(1);

impl Run<'_> {
    /// Does `fault`, unless it is to befall a worker that is down, frozen or about to end.
    pub(super) fn inflict(&mut self, now: Time, fault: &Fault) {
        if fault.worker().is_some_and(|place| !self.is_at_work(place)) {
            return;
        }
        if let Fault::FreezeInDrain { worker, lasts } = fault {
            return self.lurking.push((*worker, *lasts));
        }
        self.carried_out += 1;
        self.world.lock().note(|| format!("FAULT {fault}"));
        self.tell_ledger(now, fault);
        match fault {
            Fault::Kill { worker, back_after } => self.kill(now, *worker, *back_after),
            Fault::Terminate { worker, back_after } => self.end(now, *worker, Some(*back_after)),
            Fault::Freeze { worker, lasts } => self.freeze(now, *worker, *lasts),
            Fault::FreezeInDrain { .. } => {} // it lurks
            Fault::Visitor { stays } => self.visit(now, *stays),
            Fault::BreakClient { worker, client } => {
                self.inside(*worker, |process| process.break_client(*client));
            }
            Fault::SilenceFetcher { worker } => self.inside(*worker, Process::silence_fetcher),
            Fault::BreakOffFetches { worker } => self.inside(*worker, Process::break_off_fetches),
            Fault::KillNode { node, back_after } => {
                self.world.lock().node_down(*node);
                self.plan_for(now + *back_after, Deed::NodeUp(*node));
            }
            Fault::FreezeNode { node, lasts } => {
                self.world.lock().freeze_node(*node, now + *lasts);
            }
            Fault::Expel { worker } => self.expel(now, *worker),
            Fault::MoveCoordinator => self.world.lock().move_coordinator(&self.declared.group),
            Fault::MoveLeader { partition } => {
                self.on_input(*partition, World::move_leader);
            }
            Fault::DamageMetadata => self.damage_metadata(now),
            Fault::DeleteRecords { partition, tenths } => {
                self.on_input(*partition, |world, of| world.delete_records(of, *tenths));
            }
            Fault::Blackhole { worker, node, to_the_broker, lasts } => {
                let (way, until) = (Fault::way(*to_the_broker), now + *lasts);
                self.on_links(*worker, *node, |world, process, node| {
                    world.hold(process, node, way, until);
                });
            }
            Fault::Cut { worker } => self.on_links(*worker, None, World::cut_off),
            Fault::Slow { worker, extra, lasts } => {
                let until = now + *lasts;
                self.on_links(*worker, None, |world, process, node| {
                    world.slow(process, node, *extra, until);
                });
            }
            Fault::Pause { worker, lasts } => {
                self.ask(*worker, |handle, input| handle.pause(input));
                self.plan_for(now + *lasts, Deed::Release(*worker));
            }
            Fault::LimitRate { worker, per_second, lasts } => {
                let rate = NonZeroU32::new(*per_second);
                self.ask(*worker, |handle, input| handle.limit_rate(input, rate));
                self.plan_for(now + *lasts, Deed::Release(*worker));
            }
            Fault::TimeOutCommits { times } => {
                let mut world = self.world.lock();
                (0..*times).for_each(|_| world.play(RequestKind::OffsetCommit, Trick::TimeOut));
            }
            Fault::Lose { what, answer, times } => {
                let mut world = self.world.lock();
                (0..*times).for_each(|_| world.play(*what, Fault::trick(*answer)));
            }
        }
    }

    /// What waits for a worker to give something back strikes as soon as it does.
    pub(super) fn strike(&mut self, now: Time) {
        let lurking = std::mem::take(&mut self.lurking);
        for (worker, lasts) in lurking {
            if self.is_giving_back(worker) {
                self.inflict(now, &Fault::Freeze { worker, lasts });
            } else {
                self.lurking.push((worker, lasts));
            }
        }
    }

    fn is_giving_back(&mut self, place: usize) -> bool {
        self.is_at_work(place)
            && self.fleet[place].as_mut().is_some_and(|hosted| {
                hosted.inside(&self.world, |_, process| process.is_giving_back())
            })
    }

    fn is_at_work(&self, place: usize) -> bool {
        let hosted = self.fleet.get(place).and_then(Option::as_ref);
        hosted.is_some_and(|hosted| !hosted.frozen && !hosted.is_over() && !hosted.ending)
    }

    /// What befalls one process is told where it is done; lost messages when they are met.
    fn tell_ledger(&mut self, now: Time, fault: &Fault) {
        match fault {
            Fault::KillNode { .. }
            | Fault::FreezeNode { .. }
            | Fault::MoveCoordinator
            | Fault::MoveLeader { .. } => {
                self.ledger.trouble_at(now, Told::BrokerKill { broker: "brokers".into() });
            }
            Fault::Blackhole { .. } | Fault::Cut { .. } | Fault::Slow { .. } => {
                self.network_fails(now, fault.length().max(SECOND));
            }
            Fault::Kill { .. }
            | Fault::Terminate { .. }
            | Fault::Freeze { .. }
            | Fault::FreezeInDrain { .. }
            | Fault::Visitor { .. }
            | Fault::BreakClient { .. }
            | Fault::SilenceFetcher { .. }
            | Fault::BreakOffFetches { .. }
            | Fault::DamageMetadata
            | Fault::DeleteRecords { .. }
            | Fault::Expel { .. }
            | Fault::Lose { .. }
            | Fault::TimeOutCommits { .. }
            | Fault::Pause { .. }
            | Fault::LimitRate { .. } => {}
        }
    }

    /// The ledger is told that the network fails, and when it does no more.
    pub(super) fn network_fails(&mut self, now: Time, lasts: Duration) {
        self.ledger.trouble_at(now, Told::Network { what: "failing".into() });
        self.bad_network += 1;
        self.plan_for(now + lasts, Deed::Healed);
    }

    pub(super) fn kill(&mut self, now: Time, place: usize, back_after: Duration) {
        if let Some(hosted) = self.fleet[place].take() {
            self.ledger.fault_at(now, FaultKind::Kill, &hosted.name);
            hosted.kill(&self.world);
        }
        self.plan_for(now + back_after, Deed::Start(place));
    }

    fn freeze(&mut self, now: Time, place: usize, lasts: Duration) {
        let Some(hosted) = &mut self.fleet[place] else { return };
        self.ledger.fault_at(now, FaultKind::Stop, &hosted.name);
        hosted.frozen = true;
        self.world.lock().freeze(hosted.number());
        self.plan_for(now + lasts, Deed::Thaw(place));
    }

    /// Who is expelled and has yet to hear of it, at a heartbeat, is like one who is cut off.
    /// A done-set goes with the rest of the metadata: as if somebody had set the same offset anew.
    fn damage_metadata(&self, now: Time) {
        let mut world = self.world.lock();
        world.damage_metadata(&self.declared.group);
        if self.plan.ordering == Ordering::Partition {
            return; // there is no done-set
        }
        let committed: Vec<_> = world
            .cluster
            .group(&self.declared.group)
            .map(|group| {
                let of = |partition: &TopicPartition| {
                    Some((partition.clone(), group.committed(partition)?.offset))
                };
                world.cluster.partitions().filter_map(of).collect()
            })
            .unwrap_or_default();
        drop(world);
        for (partition, offset) in committed {
            self.ledger.trouble_at(now, Told::OffsetReset { partition, offset });
        }
    }

    fn expel(&mut self, now: Time, place: usize) {
        let Some(process) = self.fleet[place].as_ref().map(Hosted::number) else { return };
        let is_removed = self.world.lock().expel(process, &self.declared.group);
        if is_removed {
            self.network_fails(now, SECOND);
        }
    }

    fn visit(&mut self, now: Time, stays: Duration) {
        let place = self.fleet.len();
        self.start(now, place);
        self.plan_for(now + stays, Deed::End { place, back_after: None });
    }

    /// An operator asks something of a worker's input.
    pub(super) fn ask(&mut self, place: usize, wish: impl FnOnce(&WorkerHandle, &str)) {
        let hosted = self.fleet.get_mut(place).and_then(Option::as_mut);
        if let (Some(hosted), Some(input)) = (hosted, self.declared.inputs.first()) {
            hosted.ask(&self.world, |handle| wish(handle, input));
        }
    }

    /// To the process at a place, in its own time.
    fn inside(&mut self, place: usize, act: impl FnOnce(&Process)) {
        if let Some(hosted) = &mut self.fleet[place] {
            hosted.inside(&self.world, |_, process| act(process));
        }
    }

    /// To a partition of the first input.
    fn on_input(&self, partition: i32, act: impl FnOnce(&mut World, &TopicPartition)) {
        if let Some(topic) = self.declared.inputs.first() {
            act(&mut self.world.lock(), &TopicPartition::new(topic.as_str(), partition));
        }
    }

    /// To what lies between the process at a place and a node, or all nodes.
    fn on_links(&self, place: usize, node: Option<usize>, act: impl Fn(&mut World, usize, usize)) {
        let Some(process) = self.fleet[place].as_ref().map(Hosted::number) else { return };
        for node in (0..self.plan.nodes).filter(|each| node.is_none_or(|node| node == *each)) {
            act(&mut self.world.lock(), process, node);
        }
    }
}
