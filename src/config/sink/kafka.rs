//! What can be set for a Kafka sink.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use ::config::ValueKind;

use super::super::connection::secret;
use super::super::layers::Environment;
use super::super::reader::{Section, found};
use crate::format::Format;
use crate::sink::SinkKind;
use crate::sinks::kafka::{
    Compression, KafkaConfig, Key, Mechanism, Proof, Sasl, Tls, TopicTemplate, Transactional, check_property,
};

pub(super) fn kafka(
    section: &Section<'_>,
    environment: &Environment,
    format: Option<Format>,
) -> Option<SinkKind> {
    let brokers = brokers(section);
    let topics = section.section("topics")?;
    let (events, devices) = (topic(&topics, "events"), topic(&topics, "devices"));
    let (partitions, replication) = (made_with(&topics, "partitions"), made_with(&topics, "replication"));
    topics.close();
    let many_topics = section.required("many_topics");
    let key = word(section, "key", Key::ALL, Key::as_str);
    let key = match (key, format) {
        (Some(Key::Device), Some(Format::Raw)) => section.refuse(
            "key",
            "`device` needs a format that reads rows: write `format: ocsf` or `ecs`, or `key: organization`",
        ),
        (key, _) => key,
    };
    let compression = word(section, "compression", Compression::ALL, Compression::as_str);
    let transactional = transactional(section);
    let positions_topic = topic(section, "positions_topic").and_then(|template| match template.fixed() {
        Some(name) => Some(name.to_owned()),
        None => section.refuse("positions_topic", "is one topic; write a name without placeholders"),
    });
    let accept_lost_positions = section.optional::<String>("accept_lost_positions");
    let sasl = sasl(section, environment);
    let tls = tls(section, matches!(sasl, Some(Some(_)) | None), environment);
    let properties = properties(section);
    let (brokers, tls, sasl) = (brokers?, tls?, sasl?);
    if let (None, Some(Sasl { mechanism, .. })) = (&tls, &sasl)
        && matches!(mechanism, Mechanism::Plain | Mechanism::OAuthBearer)
        && !brokers.iter().all(|broker| is_loopback(broker))
    {
        let text = format!(
            "`{}` without TLS sends the secret as it is; remove `tls: {{ enabled: false }}`, or use SCRAM",
            mechanism.as_str()
        );
        return section.refuse("sasl.mechanism", text);
    }
    if let (Some(positions), Some(events), Some(devices)) = (&positions_topic, &events, &devices)
        && [events, devices].iter().any(|records| records.fixed() == Some(positions.as_str()))
    {
        return section.refuse(
            "positions_topic",
            "is a topic of records, too; positions need a compacted one of their own: leave it out",
        );
    }
    Some(SinkKind::Kafka(Box::new(KafkaConfig {
        brokers,
        events: events?,
        devices: devices?,
        many_topics: many_topics?,
        partitions: partitions?,
        replication: replication?,
        key: key?,
        compression: compression?,
        transactional: transactional?,
        positions_topic: positions_topic?,
        accept_lost_positions,
        tls,
        sasl,
        properties: properties?,
    })))
}

fn brokers(section: &Section<'_>) -> Option<Vec<String>> {
    let brokers: Vec<String> =
        section.named("brokers", "`brokers: [\"k1.example:9092\", \"k2.example:9092\"]`")?;
    let is_address = |broker: &String| {
        let (host, port) = broker.rsplit_once(':').unwrap_or((broker, "9092"));
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:[]".contains(c);
        !host.is_empty() && host.chars().all(plain) && port.parse::<u16>().is_ok_and(|port| port > 0)
    };
    match brokers.iter().find(|broker| !is_address(broker)) {
        Some(wrong) => section.refuse("brokers", format!("expected HOST:PORT, found {wrong:?}")),
        None if brokers.is_empty() => section.refuse("brokers", "is empty; write at least one HOST:PORT"),
        None => Some(brokers),
    }
}

fn is_loopback(broker: &str) -> bool {
    let host = broker.rsplit_once(':').map_or(broker, |(host, _)| host).trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn topic(section: &Section<'_>, key: &'static str) -> Option<TopicTemplate> {
    let text: String = section.required(key)?;
    match TopicTemplate::parse(&text) {
        Ok(template) => Some(template),
        Err(mistake) => section.refuse(key, mistake.to_string()),
    }
}

/// A number for topics that are made; the brokers' own default where none is given.
fn made_with(section: &Section<'_>, key: &'static str) -> Option<Option<u32>> {
    match section.value(key).is_some() {
        true => section.number::<u32>(key, 1, 10_000).map(Some),
        false => {
            section.takes(key, || "number from 1 to 10000".to_owned());
            Some(None)
        }
    }
}

/// One of the words of an enumeration.
fn word<T: Copy, const N: usize>(
    section: &Section<'_>,
    key: &'static str,
    all: [T; N],
    as_str: impl Fn(T) -> &'static str,
) -> Option<T> {
    let word = section.word(key, &all.map(&as_str), &[])?;
    all.into_iter().find(|one| as_str(*one) == word)
}

fn transactional(section: &Section<'_>) -> Option<Transactional> {
    if section.is_word("transactional", "auto") {
        return Some(Transactional::Auto);
    }
    match section.required("transactional")? {
        true => Some(Transactional::Always),
        false => Some(Transactional::Never),
    }
}

fn sasl(section: &Section<'_>, environment: &Environment) -> Option<Option<Sasl>> {
    let inner = section.section("sasl")?;
    let keys = ["mechanism", "username", "password", "token", "keytab", "service"];
    inner.takes("mechanism", || super::one_of(&Mechanism::ALL.map(Mechanism::as_str)));
    inner.takes("username", || "text".to_owned());
    inner.takes("password", || "`{ file: PATH }` or `{ env: VARIABLE }`".to_owned());
    inner.takes("token", || "`{ file: PATH }` or `{ env: VARIABLE }`".to_owned());
    inner.takes("keytab", || "path of a file".to_owned());
    inner.takes("service", || "text, `kafka` if not given".to_owned());
    // Each is asked for, so that the others are unknown.
    let given = keys.map(|key| inner.value(key).is_some());
    if !given.contains(&true) {
        inner.close();
        return Some(None);
    }
    let words = Mechanism::ALL.map(Mechanism::as_str);
    let mechanism = inner.word("mechanism", &words, &[]);
    let mechanism = mechanism.and_then(|word| Mechanism::ALL.into_iter().find(|one| one.as_str() == word));
    if mechanism == Some(Mechanism::Gssapi) && !cfg!(feature = "kerberos") {
        inner.mistake("mechanism", "this lockstep is built without Kerberos; build it with `cargo build --release --features kerberos` (docs/delivery.md tells what that needs)");
        inner.close();
        return None;
    }
    let ours: &[&'static str] = match mechanism {
        Some(Mechanism::Gssapi) => &["keytab", "service"],
        Some(Mechanism::OAuthBearer) => &["token"],
        _ => &["password"],
    };
    if let Some(mechanism) = mechanism {
        for others in ["password", "token", "keytab", "service"] {
            if !ours.contains(&others) && inner.value(others).is_some() {
                let text =
                    format!("does nothing with `mechanism: {}`; write `{}`", mechanism.as_str(), ours[0]);
                inner.mistake(others, text);
            }
        }
    }
    let (username, proof) = match mechanism {
        // Who we are stands in the token.
        Some(Mechanism::OAuthBearer) => (
            Some(inner.optional("username").unwrap_or_else(|| "lockstep".to_owned())),
            secret(&inner, "token", environment).map(Proof::Secret),
        ),
        Some(Mechanism::Gssapi) => (principal(&inner), tickets(&inner)),
        _ => (
            inner.named("username", "the name that the brokers know, such as `username: lockstep`"),
            secret(&inner, "password", environment).map(Proof::Secret),
        ),
    };
    inner.close();
    Some(Some(Sasl { mechanism: mechanism?, username: username?, proof: proof? }))
}

/// Who asks for tickets. What librdkafka starts for it is a line of a shell, so it is no more than a name.
fn principal(inner: &Section<'_>) -> Option<String> {
    let principal: String =
        inner.named("username", "the principal in Kerberos, such as `username: lockstep@EXAMPLE.COM`")?;
    match is_plain(&principal, "@/._-") {
        true => Some(principal),
        false => inner.refuse(
            "username",
            format!("expected a principal such as lockstep@EXAMPLE.COM, found {principal:?}"),
        ),
    }
}

fn tickets(inner: &Section<'_>) -> Option<Proof> {
    let keytab: PathBuf = inner.named(
        "keytab",
        "a file with the keys of the principal, such as `keytab: /run/secrets/lockstep.keytab`",
    )?;
    let service = inner.optional("service").unwrap_or_else(|| "kafka".to_owned());
    if !is_plain(&keytab.display().to_string(), "/._- ") {
        return inner.refuse(
            "keytab",
            "may have letters, digits, spaces and `/._-` only: it is named in a line of a shell",
        );
    }
    if let Err(why) = std::fs::read(&keytab) {
        return inner.refuse("keytab", format!("cannot read {}: {why}", keytab.display()));
    }
    match is_plain(&service, "._-") {
        true => Some(Proof::Tickets { keytab, service }),
        false => inner.refuse("service", format!("expected a name such as `kafka`, found {service:?}")),
    }
}

/// Whether a text has nothing that a shell reads as more than itself.
fn is_plain(text: &str, others: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('-')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c))
}

/// `wanted`: encrypted unless it says otherwise.
fn tls(section: &Section<'_>, wanted: bool, environment: &Environment) -> Option<Option<Tls>> {
    let inner = section.section("tls")?;
    let ca_file: Option<PathBuf> = inner.optional("ca_file");
    let certificate: Option<PathBuf> = inner.optional("cert_file");
    let key: Option<PathBuf> = inner.optional("key_file");
    let insecure_skip_verify: bool = inner.required("insecure_skip_verify")?;
    let enabled: Option<bool> = inner.optional("enabled");
    inner.takes("key_password", || "`{ file: PATH }` or `{ env: VARIABLE }`".to_owned());
    let key_password = match inner.value("key_password") {
        Some(_) => Some(secret(&inner, "key_password", environment)?),
        None => None,
    };
    inner.close();
    if key_password.is_some() && key.is_none() {
        return inner.refuse("key_password", "does nothing without `key_file`, the key that it opens");
    }
    let mut right = true;
    for (name, file) in [("ca_file", &ca_file), ("cert_file", &certificate), ("key_file", &key)] {
        if let Some(Err(why)) = file.as_ref().map(std::fs::read) {
            inner
                .mistake(name, format!("cannot read {}: {why}", file.as_ref().expect("just read").display()));
            right = false;
        }
    }
    let client = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some(_), None) => return inner.refuse("key_file", "is missing; `cert_file` needs its key"),
        (None, Some(_)) => return inner.refuse("cert_file", "is missing; `key_file` needs its certificate"),
    };
    let named = ca_file.is_some() || client.is_some() || insecure_skip_verify;
    if enabled == Some(false) && named {
        return inner.refuse("enabled", "is false, and other keys of `tls` are set; remove one or the other");
    }
    right.then_some(())?;
    Some(enabled.unwrap_or(wanted || named).then_some(Tls {
        ca_file,
        client,
        key_password,
        insecure_skip_verify,
    }))
}

fn properties(section: &Section<'_>) -> Option<BTreeMap<String, String>> {
    section.takes("properties", || "a section of librdkafka's own settings".to_owned());
    let inner = match section.value("properties").map(|value| &value.kind) {
        None => return Some(BTreeMap::new()),
        Some(ValueKind::Table(_)) => section.section("properties")?,
        Some(other) => {
            return section.refuse(
                "properties",
                format!("expected a section with keys of its own, found {}", found(other)),
            );
        }
    };
    let (mut properties, mut right) = (BTreeMap::new(), true);
    for (name, value) in inner.values() {
        let value = value.clone().into_string().unwrap_or_default();
        match check_property(name, &value) {
            Ok(()) => drop(properties.insert(name.clone(), value)),
            Err(why) => {
                inner.mistake(name, why);
                right = false;
            }
        }
    }
    right.then_some(properties)
}
