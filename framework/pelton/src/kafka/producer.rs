//! The client that writes: idempotent, every report heard.

use std::mem::ManuallyDrop;
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{
    BaseRecord, Producer as _, ProducerContext, PurgeConfig, ThreadedProducer,
};

use crate::kafka::credentials::Attached;
use crate::kafka::errors::port_error;
use crate::kafka::ffi::set_credentials;
use crate::kafka::settings::ClientSettings;
use crate::ports::{OutRecord, PortError, Producer, Reports, SendError};

/// Writes records over librdkafka; a thread of its own serves the delivery reports.
///
/// A client with a fatal error (an idempotent producer that lost its place) refuses everything
/// for ever; it is replaced, and the outboxes send again what it did not deliver.
pub(crate) struct KafkaProducer {
    settings: ClientSettings,
    /// `None` once closed.
    client: Mutex<Option<Current>>,
}

/// The client in use, and its place among those that hear of new credentials; that goes first.
struct Current {
    credentials: Attached,
    client: Client,
}

type Client = ThreadedProducer<ReportContext>;

pub(crate) struct ReportContext;

/// Whom to tell about a record.
pub(crate) struct Ticket {
    number: u64,
    reports: Arc<dyn Reports>,
}

impl ClientContext for ReportContext {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(client = "producer", %error, reason, "kafka client");
    }
}

impl ProducerContext for ReportContext {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Box<Ticket>) {
        let result = match result {
            Ok(_) => Ok(()),
            Err((error, _)) => Err(port_error("delivering", error)),
        };
        ticket.reports.report(ticket.number, result);
    }
}

impl KafkaProducer {
    pub(crate) fn new(settings: ClientSettings) -> Result<Self, PortError> {
        let client = make(&settings)?;
        Ok(Self { settings, client: Mutex::new(Some(client)) })
    }

    /// Puts a new client in the place of one that can't go on. The old one's undelivered records
    /// are reported as failed.
    fn replace(&self, broken: &Client) {
        let mut current = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        let is_current = current
            .as_ref()
            .is_some_and(|now| now.client.client().native_ptr() == broken.client().native_ptr());
        if !is_current {
            return; // another partition's task was faster, or the worker ends
        }
        match make(&self.settings) {
            Ok(client) => {
                tracing::warn!("the producer had a fatal error and was replaced");
                *current = Some(client);
            }
            Err(error) => tracing::error!(%error, "the producer has a fatal error"),
        }
    }

    /// A client of its own for the caller: clones share the native one.
    fn client(&self) -> Option<Client> {
        let current = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().map(|current| current.client.clone())
    }
}

fn make(settings: &ClientSettings) -> Result<Current, PortError> {
    let client: Client = settings
        .producer()
        .create_with_context(ReportContext)
        .map_err(|error| port_error("the producer's client", &error))?;
    let told = client.clone();
    let tell = move |user: &str, password: &str| set_credentials(told.client(), user, password);
    Ok(Current { credentials: settings.credentials.attach(tell), client })
}

impl Producer for KafkaProducer {
    fn send(
        &self,
        record: &OutRecord,
        ticket: u64,
        reports: &Arc<dyn Reports>,
    ) -> Result<(), SendError> {
        let client = self
            .client()
            .ok_or_else(|| SendError::Refused(PortError::lasting("the producer is closed")))?;
        let ticket = Box::new(Ticket { number: ticket, reports: Arc::clone(reports) });
        let mut outgoing = BaseRecord::<[u8], [u8], _>::with_opaque_to(&record.topic, ticket);
        outgoing.key = record.key.as_deref();
        outgoing.payload = record.value.as_deref();
        outgoing.partition = record.partition;
        outgoing.timestamp = record.timestamp_ms;
        if !record.headers.is_empty() {
            let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
            for (key, value) in &record.headers {
                headers = headers.insert(Header { key, value: value.as_ref() });
            }
            outgoing.headers = Some(headers);
        }
        client.send(outgoing).map_err(|(error, _)| match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::QueueFull) => SendError::Full,
            Some(RDKafkaErrorCode::Fatal) => {
                self.replace(&client);
                SendError::Refused(port_error("sending", &error))
            }
            _ => SendError::Refused(port_error("sending", &error)),
        })
    }

    fn close(&self, graceful: bool) {
        let current = self.client.lock().unwrap_or_else(PoisonError::into_inner).take();
        let client = current.map(|Current { credentials, client }| {
            drop(credentials);
            client
        });
        if !graceful {
            if let Some(client) = &client {
                // Left alone, but not with work: what arrives late would overwrite newer values.
                client.purge(PurgeConfig::default().queue().inflight());
            }
            let _left_alone = ManuallyDrop::new(client);
        }
    }
}
