//! The client that writes: idempotent, every report heard.

use std::mem::ManuallyDrop;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message as _, OwnedHeaders};
use rdkafka::producer::{
    BaseRecord, Producer as _, ProducerContext, PurgeConfig, ThreadedProducer,
};

use crate::kafka::credentials::Attached;
use crate::kafka::errors::port_error;
use crate::kafka::ffi::set_credentials;
use crate::kafka::hearing::{Hearing, log};
use crate::kafka::settings::ClientSettings;
use crate::kafka::tokens::give;
use crate::ports::{OutRecord, PortError, Producer, Reports, SendError};
use crate::refusal::{Operation, Refusal, Resource, Right};
use crate::refusals::Refusals;

/// Writes records over librdkafka; a thread of its own serves the delivery reports.
///
/// A client with a fatal error (an idempotent producer that lost its place) refuses everything
/// for ever; it is renewed, and the outboxes send again what it did not deliver.
pub(crate) struct KafkaProducer {
    settings: ClientSettings,
    current: Arc<Mutex<Current>>,
}

struct Current {
    /// Counts the clients.
    number: u64,
    /// `None` once closed.
    client: Option<Attended>,
}

/// A client, and its place among those that hear of new credentials; that goes first.
struct Attended {
    credentials: Attached,
    client: Client,
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
    pub(crate) fn new(settings: ClientSettings) -> Result<Self, PortError> {
        let client = make(&settings)?;
        let current = Arc::new(Mutex::new(Current { number: 1, client: Some(client) }));
        if let Some(tokens) = &settings.tokens {
            let current = Arc::downgrade(&current);
            tokens.introduce(move |token| {
                let Some(current) = current.upgrade() else {
                    return false;
                };
                let current = current.lock().unwrap_or_else(PoisonError::into_inner);
                let client = current.client.as_ref();
                client.inspect(|attended| give(attended.client.client(), token)).is_some()
            });
        }
        Ok(Self { settings, current })
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client of its own for the caller (clones share the native one), and its number.
    fn client(&self) -> Option<(u64, Client)> {
        let current = self.current();
        current.client.as_ref().map(|attended| (current.number, attended.client.clone()))
    }
}

fn make(settings: &ClientSettings) -> Result<Attended, PortError> {
    let client: Client = settings
        .producer()
        .create_with_context(ReportContext(Hearing::new("producer", &settings.refusals)))
        .map_err(|error| port_error("the producer's client", &error))?;
    if let Some(token) = settings.tokens.as_ref().and_then(|tokens| tokens.current()) {
        give(client.client(), &token);
    }
    let told = client.clone();
    let tell = move |user: &str, password: &str| set_credentials(told.client(), user, password);
    Ok(Attended { credentials: settings.credentials.attach(tell), client })
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
        let (number, client) = self
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
        let refusals = &self.settings.refusals;
        client.send(outgoing).map_err(|(error, _)| match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::QueueFull) => SendError::Full,
            Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
                hear_denial(refusals, &record.topic, &error);
                SendError::Refused(port_error("sending", &error))
            }
            Some(RDKafkaErrorCode::Fatal) => {
                let fatal = client.client().fatal_error();
                if let Some((RDKafkaErrorCode::ClusterAuthorizationFailed, reason)) = &fatal {
                    let (operation, resource) = (Operation::IdempotentWrite, Resource::Cluster);
                    refusals.tell(Refusal::Right(Right { operation, resource }), reason);
                }
                let reason = fatal.map_or_else(|| error.to_string(), |(_, reason)| reason);
                SendError::Broken { client: number, reason }
            }
            _ => SendError::Refused(port_error("sending", &error)),
        })
    }

    fn renew(&self, broken: u64) -> Result<(), PortError> {
        let mut current = self.current();
        if current.number != broken || current.client.is_none() {
            return Ok(()); // it was renewed before, or the worker ends
        }
        let old = current.client.replace(make(&self.settings)?);
        current.number += 1;
        drop(current);
        // Its end waits for its last reports; the outboxes send nothing before they have them.
        let end = std::thread::Builder::new().name("pelton-retire".to_owned());
        end.spawn(move || drop(old)).map(drop).map_err(PortError::passing)
    }

    #[cfg(feature = "planted-bugs")]
    fn break_for_test(&self) {
        if let Some((_, client)) = self.client() {
            crate::kafka::ffi::raise_fatal(client.client());
        }
    }

    fn close(&self, graceful: bool) {
        let attended = self.current().client.take();
        let client = attended.map(|Attended { credentials, client }| {
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
