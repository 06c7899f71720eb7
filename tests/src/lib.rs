//! What the whole-system tests, the demo and hand use run on: clusters.
//!
//! - [`Cluster`]: what tests need from any cluster, the embedded one or Apache Kafka: topics,
//!   records in and out, committed offsets, log ends.
//! - [`KafkaCluster`]: real Apache Kafka in nodes of our own, which tests may kill, stop, freeze
//!   and start again; or a cluster named by `PELTON_TEST_BOOTSTRAP`.
//! - [`SecureKafka`]: a node that wants TLS, a login and rights.
//! - [`hand`]: a cluster that outlives the command that started it, behind `cargo kafka`.
//! - [`Proxy`]: the network between workers and brokers, as bad as a test wants it.
//! - [`Rig`]: a whole run: topics, a load, worker processes, and a verdict; [`suites`] are the
//!   runs that prove the promises, in short and long forms.
//! - [`demo`]: what `cargo demo` shows.
//! - [`mod@bench`]: what `cargo bench-worker` measures.
//! - [`scenarios`]: what the model, the embedded cluster and Kafka must answer alike.
//! - [`trials`]: tests that need Kafka and are reported as ignored, with the reason, without it.

pub mod bench;
mod cluster;
pub mod demo;
pub mod hand;
mod kafka;
mod proxy;
mod rig;
pub mod scenarios;
pub mod suites;
pub mod trials;
mod waiting;
pub mod worker;

pub use cluster::{Cluster, ClusterError, Committed, Isolation, NewRecord, StoredRecord};
pub use kafka::{
    Distribution, GroupLog, InTurn, KafkaCluster, Login, Operation, Resource, Right, SecureKafka,
    TOOLS, tool_class,
};
pub use proxy::{Proxy, Way, Weather};
pub use rig::{
    Answer, Blobs, Carried, DeadLetters, Deaths, Ended, Fleet, Footprint, Heavy, InFlight,
    Latencies, Load, LoadPlan, MemoryUse, MemoryWatch, Moment, Names, Outcome, Pace, Poison,
    Protocol, Rig, RigPlan, Steps, Supervisor, WorkerProcess, orders,
};
pub use trials::Trial;
pub use waiting::{Deadline, Stopwatch, wait_for};
