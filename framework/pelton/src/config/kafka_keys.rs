//! Which settings has librdkafka, and which of them may pass?
//!
//! The table is complete for librdkafka 2.12.1. A key that is not in it is an error with the
//! nearest key that is; a value is shown only where the table says so.

use Exposure::{Denied, Hidden, Shown};

/// One setting of librdkafka.
#[derive(Debug)]
pub(super) struct KafkaKey {
    pub(super) name: &'static str,
    pub(super) exposure: Exposure,
    /// The name librdkafka itself uses, where this one is only another for it.
    pub(super) alias_of: Option<&'static str>,
}

/// What may be done with a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exposure {
    /// It passes, and its value may be printed.
    Shown,
    /// It passes, and its value is or may hold a secret.
    Hidden,
    /// It doesn't pass: the reason and the way out.
    Denied(&'static str),
}

/// The setting named `name`.
pub(super) fn find(name: &str) -> Option<&'static KafkaKey> {
    KEYS.binary_search_by_key(&name, |key| key.name).ok().map(|at| &KEYS[at])
}

/// The names of the settings that may be given.
pub(super) fn allowed() -> impl Iterator<Item = &'static str> {
    KEYS.iter().filter(|key| !matches!(key.exposure, Denied(_))).map(|key| key.name)
}

/// The settings that may not be given, each with the reason.
#[cfg(test)]
pub(super) fn denied() -> impl Iterator<Item = (&'static str, &'static str)> {
    KEYS.iter().filter_map(|key| match key.exposure {
        Denied(reason) => Some((key.name, reason)),
        Shown | Hidden => None,
    })
}

const COMMIT: &str = "Pelton commits what is done, and only that; librdkafka would commit what \
    was merely read, and lose it in a crash. Remove it; `commit_interval` says how often";
const STORE: &str = "Pelton owns the offsets it commits; stored by librdkafka they would pass \
    records that are not done. Remove it";
const EOF: &str = "Pelton learns a log's end by itself, and end-of-partition events would move \
    positions. Remove it; lag is in the metrics";
const RESET: &str = "Pelton sets start offsets itself. Write `auto_offset_reset`, outside [kafka]";
const GROUP: &str = "both clients of a worker need it in different ways. Write `group_id`, \
    outside [kafka]";
const INSTANCE: &str = "only the member may have it. Write `group_instance_id`, outside [kafka]";
const PROTOCOL: &str = "the hand-over depends on it. Write `group_protocol`, outside [kafka]";
const STRATEGY: &str = "the hand-over depends on it. Write `assignment_strategy`, outside [kafka]";
const SESSION: &str = "Pelton's guards against stale workers reckon with it. Write \
    `session_timeout_ms`, outside [kafka]";
const HEARTBEAT: &str = "it must fit the session timeout. Write `heartbeat_interval_ms`, outside \
    [kafka]";
const POLL: &str = "drains reckon with it. Write `max_poll_interval_ms`, outside [kafka]";
const ISOLATION: &str = "Pelton reads committed records only, and needs stable committed offsets. \
    Remove it";
const TRANSACTION: &str = "transactions belong to the exactly-once guarantee, which Pelton runs \
    itself. Remove it";
const IDEMPOTENCE: &str = "Pelton's outputs keep their order by it; it is always on. Remove it";
const ACKS: &str = "outputs must be on all in-sync replicas before offsets are committed; it is \
    always `all`. Remove it";
const IN_FLIGHT: &str = "more requests in flight could reorder outputs; Pelton sets it. Remove it";
const PARTITIONER: &str = "keyed outputs go where Java's producers put them (murmur2), so that \
    inputs stay co-partitioned. Remove it; `emit` takes a partition";
const MESSAGE_TIMEOUT: &str = "a stale worker must not write old values late, so Pelton derives \
    it from `session_timeout_ms`. Remove it";
const BROKERS: &str = "all clients of a worker must reach the same cluster. Write \
    `bootstrap_servers`, outside [kafka]";
const RETRIES: &str = "fewer retries would drop outputs; Pelton bounds them by time. Remove it";
const QUEUING: &str = "another order than first in, first out would reorder outputs. Remove it";
const GAPLESS: &str = "it makes failures fatal that Pelton repairs by resending. Remove it";
const REPORTS: &str = "offsets wait for every delivery report. Remove it";
const CLIENT: &str = "the clients of a worker derive their names from one. Write `client_id`, \
    outside [kafka]";
const DISCOVERY: &str = "Pelton promises when a new partition is found. Write \
    `partition_discovery_interval`, outside [kafka]";
const CREATE: &str = "a topic made by accident has the broker's partition count, not yours. \
    Create topics before the worker starts";
const SIGNAL: &str = "Pelton handles signals itself. Remove it";
const QUEUE: &str = "Pelton collects librdkafka's log itself. Remove it";
const LOG_LEVEL: &str = "librdkafka's log goes through Pelton's. Write `log.filter`, as in \
    \"info,librdkafka=debug\"";
const STATISTICS: &str = "nobody reads them, and unread they pile up. Remove it; Pelton's metrics \
    are at `admin.listen`";
const CODE: &str = "it is no setting of text: only code can give it. Remove it";

const fn key(name: &'static str, exposure: Exposure, alias_of: Option<&'static str>) -> KafkaKey {
    KafkaKey { name, exposure, alias_of }
}

/// Sorted by name.
#[rustfmt::skip]
const KEYS: &[KafkaKey] = &[
    key("acks", Denied(ACKS), None),
    key("allow.auto.create.topics", Denied(CREATE), None),
    key("api.version.fallback.ms", Shown, None),
    key("api.version.request", Shown, None),
    key("api.version.request.timeout.ms", Shown, None),
    key("auto.commit.enable", Denied(COMMIT), None),
    key("auto.commit.interval.ms", Denied(COMMIT), None),
    key("auto.offset.reset", Denied(RESET), None),
    key("background_event_cb", Denied(CODE), None),
    key("batch.num.messages", Shown, None),
    key("batch.size", Shown, None),
    key("bootstrap.servers", Denied(BROKERS), None),
    key("broker.address.family", Shown, None),
    key("broker.address.ttl", Shown, None),
    key("broker.version.fallback", Shown, None),
    key("builtin.features", Denied(CODE), None),
    key("check.crcs", Shown, None),
    key("client.dns.lookup", Shown, None),
    key("client.id", Denied(CLIENT), None),
    key("client.rack", Shown, None),
    key("closesocket_cb", Denied(CODE), None),
    key("compression.codec", Shown, None),
    key("compression.level", Shown, None),
    key("compression.type", Shown, Some("compression.codec")),
    key("connect_cb", Denied(CODE), None),
    key("connections.max.idle.ms", Shown, None),
    key("consume.callback.max.messages", Shown, None),
    key("consume_cb", Denied(CODE), None),
    key("coordinator.query.interval.ms", Shown, None),
    key("debug", Shown, None),
    key("default_topic_conf", Denied(CODE), None),
    key("delivery.report.only.error", Denied(REPORTS), None),
    key("delivery.timeout.ms", Denied(MESSAGE_TIMEOUT), None),
    key("dr_cb", Denied(CODE), None),
    key("dr_msg_cb", Denied(CODE), None),
    key("enable.auto.commit", Denied(COMMIT), None),
    key("enable.auto.offset.store", Denied(STORE), None),
    key("enable.gapless.guarantee", Denied(GAPLESS), None),
    key("enable.idempotence", Denied(IDEMPOTENCE), None),
    key("enable.metrics.push", Shown, None),
    key("enable.partition.eof", Denied(EOF), None),
    key("enable.random.seed", Shown, None),
    key("enable.sasl.oauthbearer.unsecure.jwt", Shown, None),
    key("enable.ssl.certificate.verification", Shown, None),
    key("enabled_events", Denied(CODE), None),
    key("error_cb", Denied(CODE), None),
    key("fetch.error.backoff.ms", Shown, None),
    key("fetch.max.bytes", Shown, None),
    key("fetch.message.max.bytes", Shown, None),
    key("fetch.min.bytes", Shown, None),
    key("fetch.queue.backoff.ms", Shown, None),
    key("fetch.wait.max.ms", Shown, None),
    key("group.id", Denied(GROUP), None),
    key("group.instance.id", Denied(INSTANCE), None),
    key("group.protocol", Denied(PROTOCOL), None),
    key("group.protocol.type", Denied(PROTOCOL), None),
    key("group.remote.assignor", Shown, None),
    key("heartbeat.interval.ms", Denied(HEARTBEAT), None),
    key("https.ca.location", Shown, None),
    key("https.ca.pem", Hidden, None),
    key("interceptors", Denied(CODE), None),
    key("internal.termination.signal", Denied(SIGNAL), None),
    key("isolation.level", Denied(ISOLATION), None),
    key("linger.ms", Shown, Some("queue.buffering.max.ms")),
    key("log.connection.close", Shown, None),
    key("log.queue", Denied(QUEUE), None),
    key("log.thread.name", Shown, None),
    key("log_cb", Denied(CODE), None),
    key("log_level", Denied(LOG_LEVEL), None),
    key("max.in.flight", Denied(IN_FLIGHT), None),
    key("max.in.flight.requests.per.connection", Denied(IN_FLIGHT), None),
    key("max.partition.fetch.bytes", Shown, Some("fetch.message.max.bytes")),
    key("max.poll.interval.ms", Denied(POLL), None),
    key("message.copy.max.bytes", Shown, None),
    key("message.max.bytes", Shown, None),
    key("message.send.max.retries", Denied(RETRIES), None),
    key("message.timeout.ms", Denied(MESSAGE_TIMEOUT), None),
    key("metadata.broker.list", Denied(BROKERS), None),
    key("metadata.max.age.ms", Shown, None),
    key("metadata.recovery.rebootstrap.trigger.ms", Shown, None),
    key("metadata.recovery.strategy", Shown, None),
    key("msg_order_cmp", Denied(CODE), None),
    key("oauthbearer_token_refresh_cb", Denied(CODE), None),
    key("offset.store.method", Denied(STORE), None),
    key("offset.store.path", Denied(STORE), None),
    key("offset.store.sync.interval.ms", Denied(STORE), None),
    key("offset_commit_cb", Denied(CODE), None),
    key("opaque", Denied(CODE), None),
    key("open_cb", Denied(CODE), None),
    key("partition.assignment.strategy", Denied(STRATEGY), None),
    key("partitioner", Denied(PARTITIONER), None),
    key("partitioner_cb", Denied(CODE), None),
    key("plugin.library.paths", Shown, None),
    key("produce.offset.report", Shown, None),
    key("queue.buffering.backpressure.threshold", Shown, None),
    key("queue.buffering.max.kbytes", Shown, None),
    key("queue.buffering.max.messages", Shown, None),
    key("queue.buffering.max.ms", Shown, None),
    key("queued.max.messages.kbytes", Shown, None),
    key("queued.min.messages", Shown, None),
    key("queuing.strategy", Denied(QUEUING), None),
    key("rebalance_cb", Denied(CODE), None),
    key("receive.message.max.bytes", Shown, None),
    key("reconnect.backoff.jitter.ms", Shown, None),
    key("reconnect.backoff.max.ms", Shown, None),
    key("reconnect.backoff.ms", Shown, None),
    key("request.required.acks", Denied(ACKS), None),
    key("request.timeout.ms", Shown, None),
    key("resolve_cb", Denied(CODE), None),
    key("retries", Denied(RETRIES), None),
    key("retry.backoff.max.ms", Shown, None),
    key("retry.backoff.ms", Shown, None),
    key("sasl.kerberos.keytab", Shown, None),
    key("sasl.kerberos.kinit.cmd", Hidden, None),
    key("sasl.kerberos.min.time.before.relogin", Shown, None),
    key("sasl.kerberos.principal", Shown, None),
    key("sasl.kerberos.service.name", Shown, None),
    key("sasl.mechanism", Shown, Some("sasl.mechanisms")),
    key("sasl.mechanisms", Shown, None),
    key("sasl.oauthbearer.assertion.algorithm", Shown, None),
    key("sasl.oauthbearer.assertion.claim.aud", Shown, None),
    key("sasl.oauthbearer.assertion.claim.exp.seconds", Shown, None),
    key("sasl.oauthbearer.assertion.claim.iss", Shown, None),
    key("sasl.oauthbearer.assertion.claim.jti.include", Shown, None),
    key("sasl.oauthbearer.assertion.claim.nbf.seconds", Shown, None),
    key("sasl.oauthbearer.assertion.claim.sub", Shown, None),
    key("sasl.oauthbearer.assertion.file", Shown, None),
    key("sasl.oauthbearer.assertion.jwt.template.file", Shown, None),
    key("sasl.oauthbearer.assertion.private.key.file", Shown, None),
    key("sasl.oauthbearer.assertion.private.key.passphrase", Hidden, None),
    key("sasl.oauthbearer.assertion.private.key.pem", Hidden, None),
    key("sasl.oauthbearer.client.credentials.client.id", Shown, Some("sasl.oauthbearer.client.id")),
    key("sasl.oauthbearer.client.credentials.client.secret", Hidden, Some("sasl.oauthbearer.client.secret")),
    key("sasl.oauthbearer.client.id", Shown, None),
    key("sasl.oauthbearer.client.secret", Hidden, None),
    key("sasl.oauthbearer.config", Hidden, None),
    key("sasl.oauthbearer.extensions", Hidden, None),
    key("sasl.oauthbearer.grant.type", Shown, None),
    key("sasl.oauthbearer.metadata.authentication.type", Shown, None),
    key("sasl.oauthbearer.method", Shown, None),
    key("sasl.oauthbearer.scope", Shown, None),
    key("sasl.oauthbearer.token.endpoint.url", Hidden, None),
    key("sasl.password", Hidden, None),
    key("sasl.username", Hidden, None),
    key("security.protocol", Shown, None),
    key("session.timeout.ms", Denied(SESSION), None),
    key("socket.blocking.max.ms", Shown, None),
    key("socket.connection.setup.timeout.ms", Shown, None),
    key("socket.keepalive.enable", Shown, None),
    key("socket.max.fails", Shown, None),
    key("socket.nagle.disable", Shown, None),
    key("socket.receive.buffer.bytes", Shown, None),
    key("socket.send.buffer.bytes", Shown, None),
    key("socket.timeout.ms", Shown, None),
    key("socket_cb", Denied(CODE), None),
    key("ssl.ca.certificate.stores", Shown, None),
    key("ssl.ca.location", Shown, None),
    key("ssl.ca.pem", Hidden, None),
    key("ssl.certificate.location", Shown, None),
    key("ssl.certificate.pem", Hidden, None),
    key("ssl.certificate.verify_cb", Denied(CODE), None),
    key("ssl.cipher.suites", Shown, None),
    key("ssl.crl.location", Shown, None),
    key("ssl.curves.list", Shown, None),
    key("ssl.endpoint.identification.algorithm", Shown, None),
    key("ssl.engine.id", Shown, None),
    key("ssl.engine.location", Shown, None),
    key("ssl.key.location", Shown, None),
    key("ssl.key.password", Hidden, None),
    key("ssl.key.pem", Hidden, None),
    key("ssl.keystore.location", Shown, None),
    key("ssl.keystore.password", Hidden, None),
    key("ssl.providers", Shown, None),
    key("ssl.sigalgs.list", Shown, None),
    key("ssl_ca", Denied(CODE), None),
    key("ssl_certificate", Denied(CODE), None),
    key("ssl_engine_callback_data", Denied(CODE), None),
    key("ssl_key", Denied(CODE), None),
    key("statistics.interval.ms", Denied(STATISTICS), None),
    key("stats_cb", Denied(CODE), None),
    key("sticky.partitioning.linger.ms", Shown, None),
    key("throttle_cb", Denied(CODE), None),
    key("topic.blacklist", Shown, None),
    key("topic.metadata.propagation.max.ms", Shown, None),
    key("topic.metadata.refresh.fast.cnt", Shown, None),
    key("topic.metadata.refresh.fast.interval.ms", Shown, None),
    key("topic.metadata.refresh.interval.ms", Denied(DISCOVERY), None),
    key("topic.metadata.refresh.sparse", Shown, None),
    key("transaction.timeout.ms", Denied(TRANSACTION), None),
    key("transactional.id", Denied(TRANSACTION), None),
];

#[cfg(test)]
mod tests {
    use rdkafka::ClientConfig;

    use super::{Denied, Hidden, KEYS, Shown, find};

    #[test]
    fn the_table_is_sorted_and_its_aliases_lead_somewhere() {
        assert!(KEYS.is_sorted_by(|a, b| a.name < b.name));
        for key in KEYS {
            assert!(key.alias_of.is_none_or(|name| find(name).is_some()), "{key:?}");
        }
    }

    /// Whatever this librdkafka can be told is allowed, homed elsewhere or denied, on purpose.
    #[test]
    fn every_property_of_librdkafka_is_decided_on() {
        let properties = crate::kafka::properties();
        assert!(properties.len() > 150, "only {} are found", properties.len());
        for property in &properties {
            let name = &property.name;
            let Some(key) = find(name) else {
                panic!("nobody has decided on {name}");
            };
            let Some(alias_of) = property.alias_of.as_deref() else { continue };
            let same = find(alias_of).map(|other| other.exposure) == Some(key.exposure);
            let known = matches!(key.exposure, Denied(_)) || key.alias_of == Some(alias_of);
            assert!(same && known, "{name} is only another name for {alias_of}");
        }
        for key in KEYS {
            let known = properties.iter().any(|property| property.name == key.name);
            assert!(known, "librdkafka has no {}", key.name);
        }
    }

    /// librdkafka is asked for each key that may pass: it must know it.
    #[test]
    fn librdkafka_knows_every_key_that_passes() {
        let stranger = ClientConfig::new().set("no.such.key", "1").create_native_config();
        let stranger = stranger.map(drop).unwrap_err().to_string();
        assert!(stranger.contains("No such configuration property"), "{stranger}");
        for key in KEYS.iter().filter(|key| !matches!(key.exposure, Denied(_))) {
            let given = ClientConfig::new().set(key.name, "\u{1}").create_native_config();
            if let Err(error) = given {
                let error = error.to_string();
                assert!(!error.contains("No such configuration property"), "{error}");
            }
        }
    }

    #[test]
    fn whatever_sounds_like_a_secret_is_hidden() {
        let words = ["password", "secret", "pem", "passphrase", "token", "config", "cmd"];
        for key in KEYS.iter().filter(|key| key.exposure == Shown) {
            let parts: Vec<_> = key.name.split('.').collect();
            assert!(!words.iter().any(|word| parts.contains(word)), "{key:?}");
        }
        assert_eq!(find("sasl.password").map(|key| key.exposure), Some(Hidden));
    }

    #[test]
    fn a_name_and_its_alias_are_denied_alike() {
        for pair in [
            ["acks", "request.required.acks"],
            ["retries", "message.send.max.retries"],
            ["max.in.flight", "max.in.flight.requests.per.connection"],
            ["delivery.timeout.ms", "message.timeout.ms"],
            ["bootstrap.servers", "metadata.broker.list"],
            ["enable.auto.commit", "auto.commit.enable"],
        ] {
            let [a, b] = pair.map(|name| find(name).map(|key| key.exposure));
            assert!(matches!(a, Some(Denied(_))) && a == b, "{pair:?}");
        }
    }
}
