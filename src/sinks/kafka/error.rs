//! What can go wrong at Kafka, said so that an operator knows what to do, and what lockstep does about it.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use super::KafkaConfig;
use crate::credentials::CredentialError;
use crate::sink::Remedy;

/// What went wrong at Kafka. [`Trouble::remedy`] says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    #[error("cannot reach Kafka at {brokers}: {why}; it is tried again, and nothing is lost meanwhile")]
    Unreachable { brokers: String, why: String },
    #[error(
        "Kafka at {brokers} did not finish {doing} in time: {why}; it is tried again, and nothing is lost meanwhile"
    )]
    Late { brokers: String, doing: &'static str, why: String },
    #[error(
        "Kafka at {brokers} refuses to let us in: {why}; check `sasl.mechanism`, `sasl.username` and the secret in {secret}, \
         which is read again each time"
    )]
    Login { brokers: String, why: String, secret: String },
    #[error(
        "no encrypted connection to Kafka at {brokers}: {why}; check that `tls.ca_file` holds the certificate authority of the \
         brokers and that their certificates name the hosts in `brokers`"
    )]
    Certificate { brokers: String, why: String },
    #[error(
        "there is no topic {topic}, and lockstep makes none by itself: `lockstep check -c FILE --online --create` does, or \
         {command}"
    )]
    NoTopic { topic: String, command: String },
    #[error(
        "the records belong to more than {} topics: a placeholder of `topics` takes more values than meant; if they are \
         meant, set `many_topics: true`",
        KafkaConfig::FEW_TOPICS
    )]
    ManyTopics,
    #[error("Kafka does not allow {doing} ({why}): {grant}")]
    NotAllowed { doing: &'static str, why: String, grant: String },
    #[error(
        "another producer took over the transactional id {id}: a second lockstep runs with a copy of this state, or this one \
         was stopped for longer than a transaction may last; let only one run. In a minute it is looked which of them \
         went on"
    )]
    Fenced { id: String },
    #[error(
        "the positions of this sink are gone from the topic {topic}, or it is another cluster: up to where records were \
         delivered is now known from the state of lockstep alone. To go on from there, at the risk of delivering the last batch \
         a second time, write `accept_lost_positions: {word}` into this sink; it counts for this loss only"
    )]
    PositionsLost { topic: String, word: String },
    #[error(
        "the positions of this sink in the topic {topic} were not written with this state: another lockstep ran with a copy \
         of it, the state comes from a backup, or Kafka lost its newest records. Let only the newest state run; if this \
         one is to go on, write `accept_lost_positions: {word}` into this sink: it counts this once, and what was \
         delivered since the two parted may come a second time, with the same uid"
    )]
    PositionsForeign { topic: String, word: String },
    #[error(
        "`transactional: true`, and Kafka at {brokers} knows no transactions ({why}): use brokers that do, or set \
         `transactional: false` for at least once"
    )]
    NoTransactions { brokers: String, why: String },
    #[error(
        "a batch holds too many records above `max.message.bytes` of the topic {topic}: raise it there, or give up more records"
    )]
    ManyTooLarge { topic: String },
    #[error("librdkafka refuses the settings of this sink: {0}")]
    Settings(String),
    #[error("{0}")]
    Secret(#[from] CredentialError),
    #[error("{doing} failed at Kafka: {why}; it is tried again")]
    Failed { doing: &'static str, why: String },
    #[error("the sink was stopped in the middle of {doing}")]
    Abandoned { doing: &'static str },
    #[error(
        "the saved state of this sink or its positions cannot be read ({0}); were they written by a newer version?"
    )]
    State(String),
    #[error("fault injected: {0}")]
    Injected(std::io::Error),
}

impl Trouble {
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Unreachable { .. }
            | Self::Late { .. }
            | Self::Failed { .. }
            | Self::Abandoned { .. }
            | Self::Injected(_) => Remedy::Retry,
            Self::Login { .. }
            | Self::Certificate { .. }
            | Self::NoTopic { .. }
            | Self::ManyTopics
            | Self::NotAllowed { .. }
            | Self::Fenced { .. }
            | Self::PositionsLost { .. }
            | Self::PositionsForeign { .. }
            | Self::NoTransactions { .. }
            | Self::ManyTooLarge { .. }
            | Self::Settings(_)
            | Self::Secret(_)
            | Self::State(_) => Remedy::Hold,
        }
    }
}

/// What librdkafka's code means for who was `doing` something with `topic`.
pub(super) fn meaning(about: &About<'_>, code: Code, why: String) -> Trouble {
    let About { config, id, doing, topic } = *about;
    let brokers = &config.brokers.join(",");
    let user = config.sasl.as_ref().map(|sasl| &sasl.username);
    let principal = user.map_or("User:YOU".to_owned(), |user| format!("User:{user}"));
    let allow = |operations: &str, what: &str| {
        format!(
            "kafka-acls.sh --bootstrap-server {brokers} --add --allow-principal {principal} {operations} {what}"
        )
    };
    match code {
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => {
            let topic = topic.unwrap_or("of the records").to_owned();
            Trouble::NoTopic { command: create_command(config, &topic), topic }
        }
        Code::TopicAuthorizationFailed => {
            let operations = "--operation Write --operation Read --operation Describe";
            let grant = allow(operations, &format!("--topic {}", topic.unwrap_or("NAME")));
            Trouble::NotAllowed { doing, why, grant }
        }
        Code::TransactionalIdAuthorizationFailed => {
            let what = format!("--transactional-id {} --resource-pattern-type prefixed", super::ID_PREFIX);
            let grant = allow("--operation Write --operation Describe", &what);
            Trouble::NotAllowed { doing, why, grant: format!("{grant}; or set `transactional: false`") }
        }
        Code::ClusterAuthorizationFailed => {
            let grant = allow("--operation IdempotentWrite", "--cluster");
            Trouble::NotAllowed { doing, why, grant }
        }
        Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch | Code::InvalidProducerIdMapping => {
            Trouble::Fenced { id: id.to_owned() }
        }
        Code::UnsupportedFeature | Code::UnsupportedVersion | Code::UnsupportedForMessageFormat => {
            Trouble::NoTransactions { brokers: brokers.clone(), why }
        }
        Code::MessageTimedOut
        | Code::OperationTimedOut
        | Code::RequestTimedOut
        | Code::TimedOutQueue
        | Code::ThrottlingQuotaExceeded => Trouble::Late { brokers: brokers.clone(), doing, why },
        Code::AllBrokersDown | Code::BrokerTransportFailure | Code::Resolve | Code::NetworkException => {
            Trouble::Unreachable { brokers: brokers.clone(), why }
        }
        _ => Trouble::Failed { doing, why },
    }
}

/// What was being done, and to what.
#[derive(Clone, Copy)]
pub(super) struct About<'a> {
    pub(super) config: &'a KafkaConfig,
    pub(super) id: &'a str,
    pub(super) doing: &'static str,
    pub(super) topic: Option<&'a str>,
}

/// What an operator types to create a topic.
pub(super) fn create_command(config: &KafkaConfig, topic: &str) -> String {
    let brokers = config.brokers.join(",");
    let mut command = format!("kafka-topics.sh --bootstrap-server {brokers} --create --topic {topic}");
    let positions = topic == config.positions_topic;
    let partitions = if positions { Some(1) } else { config.partitions };
    for (option, number) in [("--partitions", partitions), ("--replication-factor", config.replication)] {
        if let Some(number) = number {
            command.push_str(&format!(" {option} {number}"));
        }
    }
    if positions {
        command.push_str(" --config cleanup.policy=compact");
    }
    command
}

/// The code of an error, where it has one.
pub(super) fn code(error: &KafkaError) -> Code {
    error.rdkafka_error_code().unwrap_or(Code::Fail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_tried_again_and_what_an_operator_has_to_mend_is_held_with_what_to_do() {
        let config = crate::sinks::kafka::tests::config("k1:9092", Some("alice"));
        let about = About { config: &config, id: "lockstep-x", doing: "writing", topic: Some("t") };
        let said = |code| {
            let trouble = meaning(&about, code, "why".to_owned());
            (trouble.remedy(), trouble.to_string())
        };
        for (code, remedy, says) in [
            (Code::UnknownTopicOrPartition, Remedy::Hold, "--create --topic t"),
            (Code::TopicAuthorizationFailed, Remedy::Hold, "--allow-principal User:alice"),
            (Code::TransactionalIdAuthorizationFailed, Remedy::Hold, "--transactional-id lockstep-"),
            (Code::ClusterAuthorizationFailed, Remedy::Hold, "IdempotentWrite"),
            (Code::Fenced, Remedy::Hold, "a second lockstep"),
            (Code::MessageTimedOut, Remedy::Retry, "nothing is lost"),
            (Code::AllBrokersDown, Remedy::Retry, "nothing is lost"),
            (Code::ThrottlingQuotaExceeded, Remedy::Retry, "nothing is lost"),
            (Code::LeaderNotAvailable, Remedy::Retry, "tried again"),
            (Code::NotEnoughReplicas, Remedy::Retry, "tried again"),
        ] {
            let (found, text) = said(code);
            assert_eq!(found, remedy, "{code:?}: {text}");
            assert!(text.contains(says), "{code:?}: {text}");
        }
    }
}
