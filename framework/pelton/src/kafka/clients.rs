//! How are the group's client and the fetcher made, at the start and again when one has broken?

use std::sync::atomic::{AtomicBool, Ordering};

use crate::kafka::fetcher::KafkaFetch;
use crate::kafka::member::{KafkaMember, Membership};
use crate::kafka::settings::{ClientSettings, Protocol};
use crate::ports::{Clients, Fetch, Member, PortError, Waker};

/// Makes clients over librdkafka.
pub(crate) struct KafkaClients {
    settings: ClientSettings,
    subscription: Vec<String>,
    /// A member was made before.
    again: AtomicBool,
}

impl KafkaClients {
    pub(crate) fn new(settings: ClientSettings, subscription: Vec<String>) -> Self {
        Self { settings, subscription, again: AtomicBool::new(false) }
    }
}

impl Clients for KafkaClients {
    fn member(&self, waker: Waker) -> Result<Box<dyn Member>, PortError> {
        let membership = Membership {
            subscription: self.subscription.clone(),
            incremental: self.settings.protocol.is_incremental(),
            is_static: self.settings.group_instance_id.is_some(),
            broker_assigns: self.settings.protocol == Protocol::Consumer,
            again: self.again.swap(true, Ordering::AcqRel),
        };
        Ok(Box::new(KafkaMember::join(&self.settings, membership, waker)?))
    }

    fn fetch(&self, waker: Waker) -> Result<Box<dyn Fetch>, PortError> {
        Ok(Box::new(KafkaFetch::new(&self.settings.fetcher(), &self.settings, waker)?))
    }
}
