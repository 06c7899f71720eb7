//! A worker inside this process reads two topics by name and any number by a pattern, each with a
//! handler of its own; a topic made under way is found and read from its beginning.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pelton::config::{AutoOffsetReset, Settings};
use pelton::{Context, Handler, HandlerError, Record, Worker};

use crate::waiting::patiently;
use crate::{Cluster, ClusterError, KafkaCluster, NewRecord};

/// How soon a new topic is found, at the latest.
const DISCOVERY: Duration = Duration::from_secs(2);

/// Which handler saw which record of which topic.
type Seen = Arc<Mutex<BTreeSet<(&'static str, String, String)>>>;

struct Witness {
    name: &'static str,
    seen: Seen,
}

impl Handler for Witness {
    async fn handle(
        &mut self,
        record: &Record<'_>,
        _ctx: &mut Context<'_>,
    ) -> Result<(), HandlerError> {
        let value = String::from_utf8_lossy(record.value().unwrap_or_default()).into_owned();
        let entry = (self.name, record.topic().to_owned(), value);
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(entry);
        Ok(())
    }
}

/// Runs it; every record must reach the handler of its own input, and the worker must end in
/// order.
///
/// # Errors
///
/// If a record does not arrive, or the cluster or the worker fails.
pub fn run(kafka: &KafkaCluster) -> Result<(), ClusterError> {
    let name = KafkaCluster::unique("patterns");
    let topic = |part: &str| format!("{name}-{part}");
    for part in ["one", "two", "log-a"] {
        kafka.create_topic(&topic(part), 2)?;
        kafka.produce(&topic(part), &[NewRecord::new("k", part)])?;
    }
    let seen = Seen::default();
    let (worker, handle) = build(kafka, &name, &seen)?;
    let runtime = tokio::runtime::Runtime::new().map_err(ClusterError::io("a runtime"))?;
    let working = runtime.spawn(worker.run_until(std::future::pending()));
    let has = |handler: &'static str, part: &str| {
        let entry = (handler, topic(part), part.to_owned());
        let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.contains(&entry) { Ok(()) } else { Err(format!("seen so far: {seen:?}")) }
    };
    let expected = [("first", "one"), ("second", "two"), ("pattern", "log-a")];
    for (handler, part) in expected {
        patiently(part, Duration::from_secs(30), || has(handler, part))?;
    }
    kafka.create_topic(&topic("log-late"), 1)?;
    kafka.produce(&topic("log-late"), &[NewRecord::new("k", "log-late")])?;
    patiently("a late topic", DISCOVERY + Duration::from_secs(15), || has("pattern", "log-late"))?;
    handle.shut_down();
    let ended = runtime.block_on(working).map_err(|e| ClusterError::refused("the worker", e))?;
    ended.map_err(|error| ClusterError::refused("the worker's end", error))
}

fn build(
    kafka: &KafkaCluster,
    name: &str,
    seen: &Seen,
) -> Result<(Worker, pelton::WorkerHandle), ClusterError> {
    let mut settings = Settings::default();
    kafka.bootstrap_servers().clone_into(&mut settings.bootstrap_servers);
    settings.group_id = Some(name.to_owned());
    settings.auto_offset_reset = Some(AutoOffsetReset::Earliest);
    settings.partition_discovery_interval = DISCOVERY;
    settings.admin.enabled = false;
    let mut app = Worker::builder("patterns");
    let witness = |name| {
        let seen = Arc::clone(seen);
        move |_slot| Witness { name, seen: Arc::clone(&seen) }
    };
    app.input(format!("{name}-one")).handler(witness("first"));
    app.input(format!("{name}-two")).handler(witness("second"));
    app.input_matching(&format!("{name}-log-.*|{name}-audit")).handler(witness("pattern"));
    app.settings(settings);
    app.build().map_err(|error| ClusterError::refused("the worker", error))
}
