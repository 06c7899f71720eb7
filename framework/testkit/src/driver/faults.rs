//! What else can a test do to a worker's cluster? Kafka's and its clients' own misbehaviour.

use pelton::TopicPartition;
use pelton::ports::MemberEvent;

use super::TestDriver;

impl TestDriver {
    /// A worker stands still, as after SIGSTOP, until it is [thawed](Self::thaw): time passes for
    /// the others alone, and what the group tells it waits.
    pub fn freeze(&mut self, worker: usize) {
        self.frozen.entry(worker).or_default();
    }

    /// A frozen worker goes on. Its handlers wake before its poll loop looks at the clock.
    pub fn thaw(&mut self, worker: usize) {
        let Some(still) = self.frozen.remove(&worker) else { return };
        if let Some(hosted) = self.workers.get(worker).and_then(Option::as_ref) {
            hosted.runtime.block_on(async {
                tokio::time::advance(still).await;
                for _ in 0..8 {
                    tokio::task::yield_now().await;
                }
            });
        }
        self.settle();
    }

    /// The group asks the owner of a topic's first partition for all of it at once, as an eager
    /// assignor does.
    pub fn revoke_all(&mut self, topic: &str) {
        let owner = self.cluster.owner(&TopicPartition::new(topic, 0)).unwrap_or(0);
        let mut all = self.cluster.partitions(topic);
        all.retain(|partition| self.cluster.owner(partition) == Some(owner));
        self.cluster.tell(owner, MemberEvent::Revoked(all));
        self.settle();
    }

    /// From now on commits are stored and not answered; or, with `false`, all those answers come.
    pub fn hold_commit_answers(&mut self, hold: bool) {
        self.cluster.hold_commit_answers(hold);
        self.settle();
    }

    /// The fetch of a partition breaks off with an error that may pass.
    pub fn break_off_fetch(&mut self, topic: &str, partition: i32) {
        self.cluster.break_off_fetch(&TopicPartition::new(topic, partition));
        self.settle();
    }

    /// The last `count` records that a running fetch has brought come once more, as from
    /// librdkafka around a rebalance.
    pub fn deliver_again(&mut self, topic: &str, partition: i32, count: i64) {
        self.cluster.deliver_again(&TopicPartition::new(topic, partition), count);
        self.settle();
    }

    /// Another program writes the group's committed offset, with metadata of its own. Where the
    /// offset changes, the ledger has to hear of it
    /// ([`MemoryLedger::offset_reset`](crate::ledger::MemoryLedger::offset_reset)).
    pub fn set_committed(&mut self, topic: &str, partition: i32, offset: i64, metadata: &str) {
        let partition = TopicPartition::new(topic, partition);
        self.cluster.set_committed(&partition, offset, metadata);
    }
}
