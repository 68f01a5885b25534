//! What can be set for a Kafka sink, and what librdkafka is told because of it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use secrecy::{ExposeSecret, SecretString};

use super::bearer::Bearer;
use super::topic::TopicTemplate;
use crate::clock::Clock;
use crate::credentials::{CredentialError, SecretSource, read_secret};

/// A Kafka sink as configured, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaConfig {
    /// Where to begin: `host:port` of one or several brokers.
    pub brokers: Vec<String>,
    pub events: TopicTemplate,
    pub devices: TopicTemplate,
    /// More than [`KafkaConfig::FEW_TOPICS`] topics are meant.
    pub many_topics: bool,
    /// Partitions and copies of topics that `check --create` makes; the broker's own defaults where none is given.
    pub partitions: Option<u32>,
    pub replication: Option<u32>,
    pub key: Key,
    pub compression: Compression,
    pub transactional: Transactional,
    pub positions_topic: String,
    /// The word by which an operator accepted one loss of the positions.
    pub accept_lost_positions: Option<String>,
    pub tls: Option<Tls>,
    pub sasl: Option<Sasl>,
    /// Further settings of librdkafka.
    pub properties: BTreeMap<String, String>,
}

impl KafkaConfig {
    /// More topics than these are a mistake in a template, unless they are meant.
    pub const FEW_TOPICS: usize = 50;
}

/// What a record is keyed by: records with one key keep their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    Uid,
    /// The vendor's id of the computer; the uid of what is of no computer.
    Device,
    Organization,
}

/// How batches are compressed on their way and at the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    Zstd,
    Lz4,
    Snappy,
    Gzip,
    None,
}

/// Whether records and positions are written in transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transactional {
    /// If the brokers can, which the first start finds out; the answer stays.
    Auto,
    Always,
    Never,
}

/// An encrypted connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificates to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Our own certificate and its key, where brokers ask for one.
    pub client: Option<(PathBuf, PathBuf)>,
    /// What the key is encrypted with.
    pub key_password: Option<SecretSource>,
    pub insecure_skip_verify: bool,
}

/// How we log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sasl {
    pub mechanism: Mechanism,
    /// Of a token it is for the log alone: who we are stands in the token. Of Kerberos it is the principal.
    pub username: String,
    pub proof: Proof,
}

/// How we prove who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The password, or the token.
    Secret(SecretSource),
    /// Tickets of Kerberos, for which `kinit` is started with this file of keys. `service` is what the brokers' principals
    /// begin with.
    Tickets { keytab: PathBuf, service: String },
}

/// The secrets of a sink, as they are when a session begins.
#[derive(Clone, Debug, Default)]
pub(super) struct Secrets {
    pub(super) password: Option<SecretString>,
    pub(super) key_password: Option<SecretString>,
}

/// A way to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    Plain,
    ScramSha256,
    ScramSha512,
    OAuthBearer,
    /// Kerberos, where the program is built with it.
    Gssapi,
}

impl Key {
    pub const ALL: [Self; 3] = [Self::Uid, Self::Device, Self::Organization];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Uid => "uid",
            Self::Device => "device",
            Self::Organization => "organization",
        }
    }
}

impl Compression {
    pub const ALL: [Self; 5] = [Self::Zstd, Self::Lz4, Self::Snappy, Self::Gzip, Self::None];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Lz4 => "lz4",
            Self::Snappy => "snappy",
            Self::Gzip => "gzip",
            Self::None => "none",
        }
    }
}

impl Mechanism {
    pub const ALL: [Self; 5] =
        [Self::Plain, Self::ScramSha256, Self::ScramSha512, Self::OAuthBearer, Self::Gssapi];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
            Self::OAuthBearer => "OAUTHBEARER",
            Self::Gssapi => "GSSAPI",
        }
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret(source) => source.fmt(f),
            Self::Tickets { keytab, .. } => write!(f, "{}", keytab.display()),
        }
    }
}

impl fmt::Display for KafkaConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { brokers, events, devices, key, .. } = self;
        write!(
            f,
            "Kafka {}, events to {events}, devices to {devices}, keyed by {}",
            brokers.join(","),
            key.as_str()
        )?;
        match (&self.tls, &self.sasl) {
            (None, None) => {}
            (Some(_), None) => f.write_str(", over TLS")?,
            (tls, Some(sasl)) => {
                let over = if tls.is_some() { "over TLS" } else { "NOT encrypted" };
                write!(f, ", {over}, as {} with {}", sasl.username, sasl.mechanism.as_str())?;
            }
        }
        Ok(())
    }
}

impl KafkaConfig {
    /// What it promises, in words for an operator.
    pub fn promise(&self) -> String {
        let exactly = format!(
            "exactly once for consumers that read committed records, with positions in the topic {}",
            self.positions_topic
        );
        match self.transactional {
            Transactional::Always => exactly,
            Transactional::Auto => format!("{exactly}; at least once if the brokers know no transactions"),
            Transactional::Never => "at least once: transactional is false".to_owned(),
        }
    }

    /// Reads the secrets as they are now.
    pub(super) async fn secrets(&self) -> Result<Secrets, CredentialError> {
        let mut secrets = Secrets::default();
        if let Some(Sasl { proof: Proof::Secret(secret), .. }) = &self.sasl {
            secrets.password = Some(read_secret(secret).await?);
        }
        if let Some(source) = self.tls.as_ref().and_then(|tls| tls.key_password.as_ref()) {
            secrets.key_password = Some(read_secret(source).await?);
        }
        Ok(secrets)
    }

    /// The token that the sink logs in with, if it does so.
    pub(super) fn bearer(&self, clock: &Clock) -> Option<Bearer> {
        let sasl = self.sasl.as_ref().filter(|sasl| sasl.mechanism == Mechanism::OAuthBearer)?;
        let Proof::Secret(source) = sasl.proof.clone() else { return None };
        Some(Bearer { source, principal: sasl.username.clone(), clock: clock.clone() })
    }

    /// What every client of this sink shares.
    pub(super) fn client(&self, secrets: &Secrets) -> ClientConfig {
        let mut client = ClientConfig::new();
        // The operator's first: nothing of ours is overridden by them.
        client.extend(self.properties.clone());
        client.set_log_level(RDKafkaLogLevel::Info);
        client.set("bootstrap.servers", self.brokers.join(","));
        client.set("allow.auto.create.topics", "false");
        // Brokers that come back are found within a second or so.
        client.set("reconnect.backoff.ms", "100").set("reconnect.backoff.max.ms", "1000");
        client.set("socket.keepalive.enable", "true");
        let protocol = match (&self.tls, &self.sasl) {
            (None, None) => "plaintext",
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        };
        client.set("security.protocol", protocol);
        if let Some(tls) = &self.tls {
            if let Some(file) = &tls.ca_file {
                client.set("ssl.ca.location", file.display().to_string());
            }
            if let Some((certificate, key)) = &tls.client {
                client.set("ssl.certificate.location", certificate.display().to_string());
                client.set("ssl.key.location", key.display().to_string());
            }
            if let Some(password) = &secrets.key_password {
                client.set("ssl.key.password", password.expose_secret());
            }
            if tls.insecure_skip_verify {
                client.set("enable.ssl.certificate.verification", "false");
            }
        }
        if let Some(sasl) = &self.sasl {
            client.set("sasl.mechanism", sasl.mechanism.as_str());
            match (&sasl.proof, &secrets.password) {
                // A token is asked for, again and again.
                (Proof::Secret(_), Some(password)) if sasl.mechanism != Mechanism::OAuthBearer => {
                    client
                        .set("sasl.username", &sasl.username)
                        .set("sasl.password", password.expose_secret());
                }
                (Proof::Secret(_), _) => {}
                (Proof::Tickets { keytab, service }, _) => {
                    client.set("sasl.kerberos.principal", &sasl.username);
                    client.set("sasl.kerberos.keytab", keytab.display().to_string());
                    client.set("sasl.kerberos.service.name", service);
                }
            }
        }
        client
    }

    /// A producer that loses, doubles and reorders nothing while it lives. `batch_bytes`: what it holds at most,
    /// unless one record is larger.
    pub(super) fn producer(
        &self,
        secrets: &Secrets,
        batch_bytes: u64,
        transactional_id: Option<&str>,
    ) -> ClientConfig {
        let mut producer = self.client(secrets);
        producer.set("acks", "all").set("enable.idempotence", "true");
        producer.set("compression.type", self.compression.as_str());
        // As the clients in Java do it, so that topics written by both can be joined.
        producer.set("partitioner", "murmur2_random");
        producer.set("message.timeout.ms", MESSAGE_TIMEOUT_MS.to_string());
        let largest = self.properties.get("message.max.bytes").and_then(|bytes| bytes.parse().ok());
        let held = (2 * batch_bytes).max(2 * largest.unwrap_or(LARGEST_RECORD));
        producer.set("queue.buffering.max.kbytes", (held / 1024 + 1).to_string());
        if let Some(id) = transactional_id {
            producer.set("transactional.id", id);
            producer.set("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS.to_string());
        }
        producer
    }

    /// A reader of the positions. It joins no group; librdkafka wants the name of one all the same.
    pub(super) fn consumer(&self, secrets: &Secrets, committed: bool) -> ClientConfig {
        let mut consumer = self.client(secrets);
        consumer.set("group.id", "lockstep").set("enable.auto.commit", "false");
        consumer.set("enable.partition.eof", "true").set("auto.offset.reset", "earliest");
        let level = if committed { "read_committed" } else { "read_uncommitted" };
        consumer.set("isolation.level", level);
        consumer
    }
}

/// A transaction that a broker hears no more of ends so long after its last sign of life.
const TRANSACTION_TIMEOUT_MS: u32 = 60_000;
/// A record that no broker takes in this time is given back, and tried again with its batch.
const MESSAGE_TIMEOUT_MS: u32 = 45_000;
/// librdkafka's own default of `message.max.bytes`.
const LARGEST_RECORD: u64 = 1_000_000;

/// What may not stand in `properties`, and why.
const REFUSED: [(&[&str], &str); 6] = [
    (
        &[
            "acks",
            "request.required.acks",
            "enable.idempotence",
            "enable.gapless.guarantee",
            "transactional.id",
            "transaction.timeout.ms",
            "retries",
            "message.send.max.retries",
            "max.in.flight",
            "max.in.flight.requests.per.connection",
            "message.timeout.ms",
            "delivery.timeout.ms",
            "delivery.report.only.error",
            "isolation.level",
            "partitioner",
            "allow.auto.create.topics",
        ],
        "lockstep sets it so that no record is lost, doubled or reordered; remove it",
    ),
    (
        &[
            "queue.buffering.max.messages",
            "queue.buffering.max.kbytes",
            "group.id",
            "group.instance.id",
            "enable.partition.eof",
            "enable.auto.commit",
            "auto.commit.enable",
            "auto.offset.reset",
            "reconnect.backoff.ms",
            "reconnect.backoff.max.ms",
            "socket.keepalive.enable",
        ],
        "lockstep sets it by itself; remove it",
    ),
    (&["bootstrap.servers", "metadata.broker.list"], "write it as `brokers`"),
    (&["compression.type", "compression.codec"], "write it as `compression`"),
    (&["security.protocol", "enable.ssl.certificate.verification"], "write it under `tls` and `sasl`"),
    (&["plugin.library.paths", "builtin.features"], "no code is loaded from elsewhere; remove it"),
];
/// What has settings of its own, where secrets do not stand in the configuration.
const REFUSED_GROUPS: [(&str, &str); 2] =
    [("sasl.", "write it under `sasl`"), ("ssl.", "write it under `tls`")];
/// Settings of those groups that have none.
const ALLOWED: [&str; 6] = [
    "ssl.cipher.suites",
    "ssl.curves.list",
    "ssl.sigalgs.list",
    "ssl.endpoint.identification.algorithm",
    "ssl.providers",
    "ssl.crl.location",
];

/// Whether librdkafka may be told so.
///
/// # Errors
/// Why not, and what to write instead.
pub fn check_property(name: &str, value: &str) -> Result<(), String> {
    let known = REFUSED.iter().find(|(names, _)| names.contains(&name)).map(|(_, why)| *why);
    let of_group = || REFUSED_GROUPS.iter().find(|(group, _)| name.starts_with(group)).map(|(_, why)| *why);
    let of_group = || of_group().filter(|_| !ALLOWED.contains(&name));
    if let Some(why) = known.or_else(of_group) {
        return Err(why.to_owned());
    }
    let mut alone = ClientConfig::new();
    alone.set(name, value);
    match alone.create_native_config() {
        Ok(_) => Ok(()),
        Err(rdkafka::error::KafkaError::ClientConfig(_, text, ..)) => Err(format!("librdkafka says: {text}")),
        Err(error) => Err(format!("librdkafka says: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sink_is_summed_up_with_its_promise_and_without_its_password() {
        let mut config = crate::sinks::kafka::tests::config("k1:9092", Some("alice"));
        assert_eq!(
            config.to_string(),
            "Kafka k1:9092, events to threatlocker_events, devices to threatlocker_devices, keyed by uid, NOT encrypted, as \
             alice with PLAIN"
        );
        assert!(config.promise().starts_with("exactly once for consumers that read committed records"));
        config.transactional = Transactional::Never;
        assert!(config.promise().starts_with("at least once"));
        assert!(!format!("{config} {config:?}").contains("secret\""));
    }

    #[test]
    fn nothing_of_the_operators_overrides_what_a_promise_hangs_on() {
        let mut config = crate::sinks::kafka::tests::config("k1:9092", None);
        for name in ["acks", "enable.idempotence", "transactional.id", "allow.auto.create.topics"] {
            config.properties.insert(name.to_owned(), "0".to_owned());
        }
        let producer = config.producer(&Secrets::default(), 2 << 20, Some("lockstep-lake"));
        assert_eq!((producer.get("acks"), producer.get("enable.idempotence")), (Some("all"), Some("true")));
        assert_eq!(producer.get("transactional.id"), Some("lockstep-lake"));
        assert_eq!(producer.get("allow.auto.create.topics"), Some("false"));
        assert_eq!(producer.get("queue.buffering.max.kbytes"), Some("4097"));
    }

    #[test]
    fn what_would_break_a_promise_is_refused_by_name_and_what_librdkafka_does_not_know_too() {
        for (name, says) in [
            ("acks", "lost"),
            ("enable.idempotence", "lost"),
            ("max.in.flight", "lost"),
            ("retries", "lost"),
            ("transactional.id", "lost"),
            ("bootstrap.servers", "`brokers`"),
            ("sasl.password", "`sasl`"),
            ("ssl.key.password", "`tls`"),
            ("linger.mz", "librdkafka"),
        ] {
            let refused = check_property(name, "1").unwrap_err();
            assert!(refused.contains(says), "{name}: {refused}");
        }
        assert!(check_property("linger.ms", "often").unwrap_err().contains("librdkafka"));
        for (name, value) in [("linger.ms", "50"), ("client.rack", "a"), ("ssl.cipher.suites", "x")] {
            assert_eq!(check_property(name, value), Ok(()), "{name}");
        }
    }
}
