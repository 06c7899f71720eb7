//! How does somebody other than a worker reach Kafka as a worker does? One client at a time, each
//! made from the worker's settings. For test kits; what they learn holds for workers.

use std::fmt;
use std::sync::Arc;

use crate::kafka::{ClientSettings, KafkaAdmin, KafkaClients, KafkaProducer, KafkaRestores};
use crate::ports::{Admin, Clients, PortError, Producer, RestoreFetches};

/// The ports of a worker that is not started: [`Worker::kafka_ports`](crate::Worker::kafka_ports).
///
/// ```
/// use pelton::ports::PortError;
/// use pelton::{KafkaPorts, Worker};
///
/// /// Would this worker's clients be made?
/// fn can_be_made(worker: &Worker) -> Result<(), PortError> {
///     let ports: KafkaPorts = worker.kafka_ports();
///     ports.producer()?.close(true);
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct KafkaPorts {
    settings: ClientSettings,
    subscription: Vec<String>,
}

impl KafkaPorts {
    pub(crate) fn new(settings: ClientSettings, subscription: Vec<String>) -> Self {
        Self { settings, subscription }
    }

    /// Makes members and fetchers; the first member is not a successor, later ones are.
    #[must_use]
    pub fn clients(&self) -> Arc<dyn Clients> {
        Arc::new(KafkaClients::new(self.settings.clone(), self.subscription.clone()))
    }

    /// Makes fetchers that tell the ends of logs.
    #[must_use]
    pub fn restores(&self) -> Arc<dyn RestoreFetches> {
        Arc::new(KafkaRestores { settings: self.settings.clone() })
    }

    /// A producer.
    ///
    /// # Errors
    ///
    /// If librdkafka makes none.
    pub fn producer(&self) -> Result<Arc<dyn Producer>, PortError> {
        Ok(Arc::new(KafkaProducer::new(self.settings.clone())?))
    }

    /// What asks about topics. It wants to be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// If librdkafka makes no client.
    pub fn admin(&self) -> Result<Arc<dyn Admin>, PortError> {
        Ok(Arc::new(KafkaAdmin::new(&self.settings)?))
    }
}

impl fmt::Debug for KafkaPorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KafkaPorts")
    }
}
