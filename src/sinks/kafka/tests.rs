//! What the tests of this folder share.

use std::sync::Arc;

use chrono::NaiveDate;
use secrecy::SecretString;
use uuid::Uuid;

use super::*;
use crate::credentials::SecretSource;
use crate::model::{Kind, Lane, OrganizationId};
use crate::sink::Record;

/// A record of an event; `number` makes its uid.
pub(super) fn record(number: u128) -> Record {
    Record {
        bytes: 0..0,
        connection: 1,
        lane: Lane::Live,
        number: 1,
        uid: Uuid::from_u128(number),
        kind: Kind::Event,
        day: NaiveDate::from_ymd_opt(2026, 1, 31).unwrap(),
        site: "acme".into(),
        source: "unified_audit".into(),
        organization: OrganizationId::new("5f"),
        slug: Arc::from("north"),
        time: 0,
        host: None,
        device: None,
    }
}

pub(super) fn config(broker: &str, user: Option<&str>) -> KafkaConfig {
    let password = SecretSource::Env { name: "PASSWORD".to_owned(), value: SecretString::from("secret") };
    let proof = Proof::Secret(password);
    let sasl = |user: &str| Sasl { mechanism: Mechanism::Plain, username: user.to_owned(), proof };
    KafkaConfig {
        brokers: vec![broker.to_owned()],
        events: TopicTemplate::parse("threatlocker_events").unwrap(),
        devices: TopicTemplate::parse("threatlocker_devices").unwrap(),
        many_topics: false,
        partitions: None,
        replication: None,
        key: Key::Uid,
        compression: Compression::Zstd,
        transactional: Transactional::Auto,
        positions_topic: "lockstep_positions".to_owned(),
        accept_lost_positions: None,
        tls: None,
        sasl: user.map(sasl),
        properties: Default::default(),
    }
}
