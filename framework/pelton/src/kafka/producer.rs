//! The client that writes: idempotent, every report heard.

use std::mem::ManuallyDrop;
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message as _, OwnedHeaders};
use rdkafka::producer::{
    BaseRecord, Producer as _, ProducerContext, PurgeConfig, ThreadedProducer,
};
use rdkafka::{ClientConfig, ClientContext};

use crate::kafka::errors::port_error;
use crate::kafka::hearing::{Hearing, log};
use crate::kafka::settings::ClientSettings;
use crate::kafka::tokens::{Tokens, give};
use crate::ports::{OutRecord, PortError, Producer, Reports, SendError};
use crate::refusal::{Operation, Refusal, Resource, Right};
use crate::refusals::Refusals;

/// Writes records over librdkafka; a thread of its own serves the delivery reports.
///
/// A client with a fatal error (an idempotent producer that lost its place) refuses everything
/// for ever; it is replaced, and the outboxes send again what it did not deliver.
pub(crate) struct KafkaProducer {
    config: ClientConfig,
    refusals: Arc<Refusals>,
    tokens: Option<Arc<Tokens>>,
    /// `None` once closed.
    client: Arc<Mutex<Option<Client>>>,
}

type Client = ThreadedProducer<ReportContext>;

pub(crate) struct ReportContext(Hearing);

/// Whom to tell about a record.
pub(crate) struct Ticket {
    number: u64,
    reports: Arc<dyn Reports>,
}

impl ClientContext for ReportContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.hear(&error, reason);
    }
}

impl ProducerContext for ReportContext {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Box<Ticket>) {
        let refusals = self.0.refusals();
        let result = match result {
            Ok(message) => {
                if !refusals.are_none() {
                    refusals.over(&Refusal::topic(Operation::Write, message.topic()));
                }
                Ok(())
            }
            Err((error, message)) => {
                hear_denial(refusals, message.topic(), error);
                Err(port_error("delivering", error))
            }
        };
        ticket.reports.report(ticket.number, result);
    }
}

impl KafkaProducer {
    pub(crate) fn new(settings: &ClientSettings) -> Result<Self, PortError> {
        let (config, refusals) = (settings.producer(), Arc::clone(&settings.refusals));
        let client = Arc::new(Mutex::new(Some(make(&config, &refusals)?)));
        let tokens = settings.tokens.clone();
        if let Some(tokens) = &tokens {
            let client = Arc::downgrade(&client);
            tokens.introduce(move |token| {
                let Some(client) = client.upgrade() else {
                    return false;
                };
                let client = client.lock().unwrap_or_else(PoisonError::into_inner);
                client.as_ref().inspect(|client| give(client.client(), token)).is_some()
            });
        }
        Ok(Self { config, refusals, tokens, client })
    }

    /// Puts a new client in the place of one that can't go on. The old one's undelivered records
    /// are reported as failed.
    fn replace(&self, broken: &Client) {
        let mut current = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        let is_current = current
            .as_ref()
            .is_some_and(|client| client.client().native_ptr() == broken.client().native_ptr());
        if !is_current {
            return; // another partition's task was faster, or the worker ends
        }
        if let Some((RDKafkaErrorCode::ClusterAuthorizationFailed, reason)) =
            broken.client().fatal_error()
        {
            let (operation, resource) = (Operation::IdempotentWrite, Resource::Cluster);
            self.refusals.tell(Refusal::Right(Right { operation, resource }), &reason);
        }
        match make(&self.config, &self.refusals) {
            Ok(client) => {
                tracing::warn!("the producer had a fatal error and was replaced");
                if let Some(token) = self.tokens.as_ref().and_then(|tokens| tokens.current()) {
                    give(client.client(), &token);
                }
                *current = Some(client);
            }
            Err(error) => tracing::error!(%error, "the producer has a fatal error"),
        }
    }

    /// A client of its own for the caller: clones share the native one.
    fn client(&self) -> Option<Client> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn make(config: &ClientConfig, refusals: &Arc<Refusals>) -> Result<Client, PortError> {
    config
        .create_with_context(ReportContext(Hearing::new("producer", refusals)))
        .map_err(|error| port_error("the producer's client", &error))
}

/// Writes down that a topic may not be written to, if that is what the error says.
fn hear_denial(refusals: &Refusals, topic: &str, error: &KafkaError) {
    if error.rdkafka_error_code() == Some(RDKafkaErrorCode::TopicAuthorizationFailed) {
        let denied = RDKafkaErrorCode::TopicAuthorizationFailed;
        refusals.tell(Refusal::topic(Operation::Write, topic), &denied.to_string());
    }
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
            Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
                hear_denial(&self.refusals, &record.topic, &error);
                SendError::Refused(port_error("sending", &error))
            }
            Some(RDKafkaErrorCode::Fatal) => {
                self.replace(&client);
                SendError::Refused(port_error("sending", &error))
            }
            _ => SendError::Refused(port_error("sending", &error)),
        })
    }

    fn close(&self, graceful: bool) {
        let client = self.client.lock().unwrap_or_else(PoisonError::into_inner).take();
        if !graceful {
            if let Some(client) = &client {
                // Left alone, but not with work: what arrives late would overwrite newer values.
                client.purge(PurgeConfig::default().queue().inflight());
            }
            let _left_alone = ManuallyDrop::new(client);
        }
    }
}
