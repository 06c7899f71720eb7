//! What does an error of Kafka's say about us?

use pelton_engine::CommitStatus;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use crate::ports::PortError;
use crate::refusal::Refusal;

/// Which commit errors mean *lost*, and which only *later* (FACTS, measured on Kafka 4.3.1).
pub(crate) fn commit_status(code: Code) -> CommitStatus {
    match code {
        Code::NoError => CommitStatus::Accepted,
        // This member is no longer in the group.
        Code::UnknownMemberId | Code::FencedMemberEpoch | Code::FencedInstanceId => {
            CommitStatus::MemberLost
        }
        Code::UnknownTopicOrPartition => CommitStatus::TopicGone,
        // A change is under way; what it means for us comes as an event.
        Code::IllegalGeneration | Code::RebalanceInProgress | Code::StaleMemberEpoch => {
            CommitStatus::Retry
        }
        // No answer: stored or not.
        Code::RequestTimedOut
        | Code::OperationTimedOut
        | Code::BrokerTransportFailure
        | Code::NetworkException
        | Code::BrokerDestroy
        | Code::AllBrokersDown => CommitStatus::Unknown,
        // Coordinator moving, rights missing, metadata refused: certainly not stored.
        _ => CommitStatus::Retry,
    }
}

/// What an error of a connection says Kafka refuses; `None` if it refuses nothing.
pub(crate) fn refusal(code: Code, reason: &str) -> Option<Refusal> {
    // librdkafka guesses at the cause where a broker just closes the connection.
    let guess = ["incorrect security.protocol", "PLAINTEXT broker listener", "require SASL"];
    match code {
        Code::SSL => Some(Refusal::Tls),
        Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::IllegalSASLState => Some(Refusal::Login),
        // TLS 1.3: the broker says what it thinks of our certificate after the handshake.
        Code::BrokerTransportFailure if reason.contains("SSL alert number") => Some(Refusal::Tls),
        Code::BrokerTransportFailure
            if guess.iter().any(|words| reason.contains(words)) || is_closed_at_once(reason) =>
        {
            Some(Refusal::Protocol)
        }
        Code::BrokerTransportFailure | Code::Resolve => Some(Refusal::Unreachable),
        _ => None,
    }
}

/// Did the broker close the connection at the first words? "… (after 3ms in state UP)".
fn is_closed_at_once(reason: &str) -> bool {
    let Some((what, when)) = reason.rsplit_once(" (after ") else {
        return false;
    };
    let age = when.split_once("ms ").and_then(|(age, _)| age.parse().ok()).unwrap_or(u64::MAX);
    let early = ["APIVERSION_QUERY", "SSL_HANDSHAKE", "UP"];
    what.contains("Disconnected")
        && age < 2_000
        && early.iter().any(|state| when.contains(&format!("in state {state}")))
}

/// Without how long the connection had been in which state: that changes from one to the next.
pub(crate) fn cause(reason: &str) -> &str {
    reason.rsplit_once(" (after ").map_or(reason, |(cause, _)| cause)
}

/// What a client's fatal error leaves to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fatal {
    /// Another process has our group instance id: one of the two must go, and it is this one.
    Fenced,
    /// This client is of no use any more; a new one may do.
    Rebuild,
    /// A new client would be told the same.
    End,
}

/// librdkafka 2.12.1 raises: in classic groups `FENCED_INSTANCE_ID`; in KIP-848 groups also
/// `UNRELEASED_INSTANCE_ID`, `INVALID_REQUEST`, `GROUP_MAX_SIZE_REACHED`, `UNSUPPORTED_ASSIGNOR`,
/// `UNSUPPORTED_VERSION`, `GROUP_AUTHORIZATION_FAILED`; in idempotent producers whatever makes
/// them lose their place. What is not known is taken for something a new client can mend: it is
/// tried only a few times.
pub(crate) fn fatal(code: Code) -> Fatal {
    match code {
        Code::FencedInstanceId | Code::UnreleasedInstanceId => Fatal::Fenced,
        Code::InvalidRequest
        | Code::UnsupportedAssignor
        | Code::UnsupportedVersion
        | Code::UnsupportedFeature
        | Code::InvalidArgument
        | Code::InvalidConfig => Fatal::End,
        // Another member may leave, rights may be granted, a broker may come back.
        _ => Fatal::Rebuild,
    }
}

/// An error of a blocking call.
pub(crate) fn port_error(what: &str, error: &KafkaError) -> PortError {
    let lasting = matches!(
        error.rdkafka_error_code(),
        Some(Code::InvalidArgument | Code::UnsupportedFeature | Code::InvalidTopic)
    );
    let reason = format!("{what}: {error}");
    if lasting { PortError::lasting(reason) } else { PortError::passing(reason) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fatal_error_ends_the_worker_only_where_a_new_client_could_not_help() {
        for (code, expected) in [
            (Code::FencedInstanceId, Fatal::Fenced),
            (Code::UnreleasedInstanceId, Fatal::Fenced),
            (Code::UnsupportedVersion, Fatal::End),
            (Code::UnsupportedAssignor, Fatal::End),
            (Code::InvalidRequest, Fatal::End),
            (Code::GroupMaxSizeReached, Fatal::Rebuild),
            (Code::GroupAuthorizationFailed, Fatal::Rebuild),
            (Code::UnknownMemberId, Fatal::Rebuild),
            (Code::OutOfOrderSequenceNumber, Fatal::Rebuild),
            (Code::InvalidProducerEpoch, Fatal::Rebuild),
            (Code::Unknown, Fatal::Rebuild),
        ] {
            assert_eq!(fatal(code), expected, "{code:?}");
        }
    }

    #[test]
    fn only_errors_that_say_so_mean_lost() {
        assert_eq!(commit_status(Code::UnknownMemberId), CommitStatus::MemberLost);
        assert_eq!(commit_status(Code::FencedMemberEpoch), CommitStatus::MemberLost);
        for code in [Code::IllegalGeneration, Code::RebalanceInProgress, Code::StaleMemberEpoch] {
            assert_eq!(commit_status(code), CommitStatus::Retry, "{code:?}");
        }
        assert_eq!(commit_status(Code::RequestTimedOut), CommitStatus::Unknown);
        assert_eq!(commit_status(Code::GroupAuthorizationFailed), CommitStatus::Retry);
    }
}
