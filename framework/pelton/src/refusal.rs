//! What may Kafka refuse a worker, what does that mean, and what mends it?
//!
//! Pure. Reasons are librdkafka's own words: they name brokers and causes, never secrets.

use std::fmt;
use std::sync::Arc;

use crate::error::WorkerError;

/// Something that Kafka refuses. The order is that of a connection's life: what comes first
/// explains what comes after it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Refusal {
    /// No TLS: a certificate that can't be trusted, or one that is missing.
    Tls,
    /// The connection is up and nobody understands anybody: another `security.protocol`.
    Protocol,
    /// The login: an unknown user, a wrong password, a token, a mechanism.
    Login,
    /// A right is missing.
    Right(Right),
    /// Nobody answers at the address.
    Unreachable,
}

/// What somebody must be allowed to do, on what.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Right {
    pub(crate) operation: Operation,
    pub(crate) resource: Resource,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operation {
    Read,
    Write,
    Create,
    Describe,
    /// Brokers before 3.0 ask for it on the cluster, of every producer that keeps its order.
    IdempotentWrite,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Resource {
    Topic(Arc<str>),
    Group(Arc<str>),
    Cluster,
}

impl Refusal {
    /// The right to do `operation` with a topic is missing.
    pub(crate) fn topic(operation: Operation, topic: &str) -> Self {
        Self::Right(Right { operation, resource: Resource::Topic(topic.into()) })
    }

    /// The right to be a member of a group is missing.
    pub(crate) fn group(group: &str) -> Self {
        Self::Right(Right { operation: Operation::Read, resource: Resource::Group(group.into()) })
    }

    /// Does it stay until somebody changes something? Brokers that come and go look like the
    /// others now and then.
    pub(crate) fn is_lasting(&self) -> bool {
        matches!(self, Self::Tls | Self::Login | Self::Right(_))
    }

    /// What mends it.
    pub(crate) fn way_out(&self, bootstrap_servers: &str, reason: &str) -> String {
        match self {
            Self::Tls | Self::Protocol => tls_way_out(self, reason).to_owned(),
            Self::Login => "check sasl.mechanism, sasl.username and sasl.password (or the token) \
                            under [kafka], and that Kafka knows the user"
                .to_owned(),
            Self::Right(right) => right.command(bootstrap_servers),
            Self::Unreachable => {
                "is bootstrap_servers right, and is Kafka running there?".to_owned()
            }
        }
    }

    /// How a worker ends that can't start because of it.
    pub(crate) fn error(&self, bootstrap_servers: &str, reason: &str) -> WorkerError {
        let (bootstrap_servers, reason) = (bootstrap_servers.to_owned(), reason.to_owned());
        let way_out = self.way_out(&bootstrap_servers, &reason);
        match self {
            Self::Tls | Self::Protocol => WorkerError::Tls { bootstrap_servers, reason, way_out },
            Self::Login => WorkerError::Login { bootstrap_servers, reason, way_out },
            Self::Right(right) => missing_rights(std::slice::from_ref(right), &bootstrap_servers),
            Self::Unreachable => WorkerError::Kafka(format!(
                "no answer from {bootstrap_servers}: {reason}; {way_out}"
            )),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tls => f.write_str("no TLS with a broker"),
            Self::Protocol => f.write_str("a broker's listener speaks another security.protocol"),
            Self::Login => f.write_str("a broker does not accept the login"),
            Self::Right(right) => write!(f, "{right} is not allowed"),
            Self::Unreachable => f.write_str("no broker answers"),
        }
    }
}

impl Right {
    /// The command that grants it.
    pub(crate) fn command(&self, bootstrap_servers: &str) -> String {
        let on = match &self.resource {
            Resource::Topic(topic) => format!("--topic {topic}"),
            Resource::Group(group) => format!("--group {group}"),
            Resource::Cluster => "--cluster".to_owned(),
        };
        format!(
            "kafka-acls.sh --bootstrap-server {bootstrap_servers} --add --allow-principal User:NAME \
             --operation {:?} {on}",
            self.operation
        )
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} on ", self.operation)?;
        match &self.resource {
            Resource::Topic(topic) => write!(f, "topic {topic}"),
            Resource::Group(group) => write!(f, "group {group}"),
            Resource::Cluster => f.write_str("the cluster"),
        }
    }
}

/// How a worker ends that lacks rights: all of them in one message, with a command for each.
pub(crate) fn missing_rights(rights: &[Right], bootstrap_servers: &str) -> WorkerError {
    let names: Vec<_> = rights.iter().map(ToString::to_string).collect();
    let commands: Vec<_> = rights.iter().map(|right| right.command(bootstrap_servers)).collect();
    WorkerError::Rights { missing: names.join(", "), commands: commands.join(" && ") }
}

fn tls_way_out(refusal: &Refusal, reason: &str) -> &'static str {
    let says = |words: &[&str]| words.iter().any(|word| reason.contains(word));
    if *refusal == Refusal::Protocol || says(&["wrong version number", "unknown protocol"]) {
        "set security.protocol under [kafka] to what that listener speaks (PLAINTEXT, SSL, \
         SASL_PLAINTEXT or SASL_SSL), or bootstrap_servers to the port of another listener"
    } else if says(&["expired", "not yet valid"]) {
        "the broker's certificate has to be renewed; is this machine's clock right?"
    } else if says(&["ostname mismatch", "IP address mismatch"]) {
        "name the broker in bootstrap_servers and advertised.listeners as its certificate does"
    } else if says(&["alert", "client SSL authentication"]) {
        "the broker wants a client certificate that it trusts: set ssl.certificate.location and \
         ssl.key.location under [kafka]"
    } else if says(&["verify failed"]) {
        "is ssl.ca.location under [kafka] the certificate of the authority that signed the \
         broker's, and has the broker's expired?"
    } else {
        "set ssl.ca.location under [kafka] to the certificate of the authority that signed the \
         broker's"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_right_names_the_command_that_grants_it() {
        let rights = [
            Right { operation: Operation::Read, resource: Resource::Topic("logins".into()) },
            Right { operation: Operation::Read, resource: Resource::Group("counters".into()) },
        ];
        let error = missing_rights(&rights, "b:9092").to_string();
        assert!(error.starts_with("PLT-0312: "), "{error}");
        assert!(error.contains("Read on topic logins, Read on group counters"), "{error}");
        let command = "kafka-acls.sh --bootstrap-server b:9092 --add --allow-principal User:NAME \
                       --operation Read --group counters";
        assert!(error.contains(command), "{error}");
    }

    #[test]
    fn each_cause_of_a_broken_handshake_has_a_way_out_of_its_own() {
        let way_out = |refusal: &Refusal, reason: &str| refusal.error("b:9092", reason).to_string();
        let all = [
            way_out(&Refusal::Tls, "certificate has expired"),
            way_out(&Refusal::Tls, "hostname mismatch"),
            way_out(&Refusal::Tls, "certificate verify failed"), // as librdkafka says it
            way_out(&Refusal::Tls, "unable to get local issuer certificate"),
            way_out(&Refusal::Tls, "ssl/tls alert certificate required"),
            way_out(&Refusal::Protocol, "Disconnected"),
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(one.starts_with("PLT-0313: "), "{one}");
            let ending = |text: &str| text.rsplit("; ").next().map(str::to_owned);
            assert!(all[..at].iter().all(|other| ending(other) != ending(one)), "{one}");
        }
    }
}
