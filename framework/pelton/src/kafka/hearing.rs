//! What do a client's own words mean? Refusals are written down, the rest is logged.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use crate::kafka::errors::{cause, refusal};
use crate::refusal::Refusal;
use crate::refusals::Refusals;

/// The ear of a client that has nothing else to hear.
pub(crate) struct Hearing {
    /// The client's part: `fetcher`, `admin`.
    role: &'static str,
    refusals: Arc<Refusals>,
    /// There was an error; whether it was a fatal one is to be asked.
    failed: AtomicBool,
}

impl Hearing {
    pub(crate) fn new(role: &'static str, refusals: &Arc<Refusals>) -> Self {
        Self { role, refusals: Arc::clone(refusals), failed: AtomicBool::new(false) }
    }

    pub(crate) fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// The client has had an error.
    pub(crate) fn has_failed(&self) {
        self.failed.store(true, Ordering::Release);
    }

    /// Has it had one since this was asked last?
    pub(crate) fn take_failed(&self) -> bool {
        self.failed.swap(false, Ordering::AcqRel)
    }

    /// An error of a connection. What is refused is said once, by whoever reviews the refusals.
    pub(crate) fn hear(&self, error: &KafkaError, reason: &str) {
        let code = error.rdkafka_error_code();
        self.has_failed();
        if let Some(refusal) = code.and_then(|code| refusal(code, reason)) {
            let is_lasting = refusal.is_lasting();
            self.refusals.tell(refusal, cause(reason));
            if is_lasting {
                return;
            }
        }
        // Each broker's own error says it better; idle connections are closed all the time.
        let idle = reason.contains(": Disconnected (after") && reason.contains("in state UP");
        if code != Some(Code::AllBrokersDown) && !idle {
            tracing::warn!(client = self.role, %error, reason, "kafka client");
        }
    }
}

impl ClientContext for Hearing {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        if facility == "FAIL"
            && let Some(protocol) = refusal(Code::BrokerTransportFailure, message)
                .filter(|refusal| *refusal == Refusal::Protocol)
        {
            // "[thrd:…]: " and then what an error would say.
            let reason = message.split_once("]: ").map_or(message, |(_, reason)| reason);
            self.refusals.tell(protocol, cause(reason));
        }
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.hear(&error, reason);
    }
}

impl ConsumerContext for Hearing {}

/// librdkafka's log. What it says of failures comes as an error, too, and is heard there.
pub(crate) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    if facility == "FAIL" {
        tracing::debug!(facility, message, "librdkafka");
        return;
    }
    match level {
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error => tracing::error!(facility, message, "librdkafka"),
        RDKafkaLogLevel::Warning => tracing::warn!(facility, message, "librdkafka"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
            tracing::debug!(facility, message, "librdkafka");
        }
    }
}

/// Lets a client without a group, which nobody polls, say what it has to say. Returns at once.
pub(crate) fn listen(client: &BaseConsumer<Hearing>) {
    // One poll serves one event, and "served" looks like "nothing there".
    for _ in 0..100 {
        let _heard_by_its_context = client.poll(Duration::ZERO);
    }
}
