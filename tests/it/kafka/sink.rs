//! The sink by itself, as `deliver` calls it: logging in, encryption, permissions, and records that are too large.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use chrono::NaiveDate;
use lockstep::clock::Clock;
use lockstep::config::{Config, Environment};
use lockstep::model::{Kind, Lane, OrganizationId, Positions};
use lockstep::sink::{Batch, Record, Refusal, Remedy, Sink, SinkError, SinkState};
use rand::RngCore;
use tempfile::TempDir;
use uuid::Uuid;

use crate::support::kafka::Kafka;

/// A sink with settings such as `brokers: […], sasl: {…}`, `DIR` being a folder of its own.
pub(super) fn sink(name: &str, settings: &str) -> (Sink, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let yaml = format!(
        "connections: [{{ site: acme, instance: g, token: {{ file: DIR/token }} }}]
sinks: [{{ name: lake, type: kafka, positions_topic: {name}_positions, topics: {{ events: {name}_events }}, {settings} }}]
"
    );
    for (file, text) in [("token", "0123"), ("password", "wrong"), ("lockstep.yaml", &yaml)] {
        let text = text.replace("DIR", &folder.path().display().to_string());
        std::fs::write(folder.path().join(file), text).unwrap();
    }
    let config = Config::load(&folder.path().join("lockstep.yaml"), &Environment::default());
    let config = config.unwrap_or_else(|error| panic!("{error}"));
    (Sink::new(&config.sinks[0], 2 << 20, &Clock::system()), folder)
}

/// Records with these payloads.
pub(super) fn batch(payloads: &[String]) -> Batch {
    let mut buffer = Vec::new();
    let record = |(number, payload): (usize, &String)| {
        let start = buffer.len();
        buffer.extend_from_slice(payload.as_bytes());
        buffer.push(b'\n');
        Record {
            bytes: start..buffer.len(),
            connection: 1,
            lane: Lane::Live,
            number: i64::try_from(number).unwrap() + 1,
            uid: Uuid::from_u128(number as u128),
            kind: Kind::Event,
            day: NaiveDate::from_ymd_opt(2026, 1, 31).unwrap(),
            site: "acme".into(),
            source: "unified_audit".into(),
            organization: OrganizationId::new("5f"),
            slug: "north".into(),
            time: 0,
            host: None,
            device: Some("d-1".into()),
        }
    };
    let records: Vec<Record> = payloads.iter().enumerate().map(record).collect();
    Batch { records: records.into(), buffer: Bytes::from(buffer), again: false }
}

/// Delivers one batch from the first start to the commit.
pub(super) async fn deliver(sink: &mut Sink, batch: &Batch) -> Result<Vec<Refusal>, SinkError> {
    assert_eq!(sink.recover(&SinkState::default(), &Positions::new()).await?, None);
    sink.prepare(batch, Clock::system().now()).await?.expect("a state to save");
    let refused = sink.write(batch).await?;
    sink.commit(&Positions::from([((1, Lane::Live), 100)])).await?;
    Ok(refused)
}

fn topics(kafka: &Kafka, name: &str, settings: &[&str]) {
    kafka.client_tool(&["create", &format!("{name}_positions"), "1"]);
    let events = format!("{name}_events");
    kafka.client_tool(&[&["create", events.as_str(), "3"], settings].concat());
}

/// A payload that packing makes half as large, and no smaller.
fn noise(bytes: usize) -> String {
    let mut raw = vec![0; bytes / 2];
    rand::rng().fill_bytes(&mut raw);
    raw.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_held(error: &SinkError, says: &str) {
    let text = error.to_string();
    assert!(error.remedy() == Remedy::Hold && text.contains(says), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_are_too_large_for_the_topic_are_refused_and_all_others_arrive() {
    let Some(kafka) = Kafka::shared() else { return };
    for (name, more) in [("large", ""), ("large_plain", ", transactional: false")] {
        topics(kafka, name, &["max.message.bytes=100000"]);
        let (mut sink, _folder) = sink(name, &format!("brokers: [\"{}\"]{more}", kafka.plain()));
        // In batches that are together larger than the topic takes.
        let mut payloads: Vec<String> = (0..60).map(|_| noise(20_000)).collect();
        payloads[7] = noise(300_000);
        payloads[31] = noise(1_200_000);
        payloads[40] = noise(250_000);
        let refused = deliver(&mut sink, &batch(&payloads)).await.unwrap();
        let numbers: Vec<usize> = refused.iter().map(|refusal| refusal.record).collect();
        assert_eq!(numbers, [7, 31, 40], "{name}");
        assert!(refused[0].reason.contains("max.message.bytes") && refused[0].reason.len() < 400);
        let mut found: Vec<String> =
            kafka.read(&[&format!("{name}_events")]).into_iter().map(|message| message.value).collect();
        found.sort();
        payloads.retain(|payload| payload.len() < 100_000);
        payloads.sort();
        assert!(found == payloads, "{name}: {} records of {}", found.len(), payloads.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_makes_the_sink_wait_and_costs_no_record() {
    let Some(kafka) = Kafka::shared() else { return };
    topics(kafka, "thrifty", &[]);
    // The broker counts over eleven seconds: what comes first is within the quota.
    kafka.order("quota thrifty 100000");
    let settings = format!("brokers: [\"{}\"], properties: {{ client.id: thrifty }}", kafka.plain());
    let (mut sink, _folder) = sink("thrifty", &settings);
    let mut payloads: Vec<String> = (0..10).map(|_| noise(50_000)).collect();
    assert_eq!(deliver(&mut sink, &batch(&payloads)).await.unwrap(), []);
    let began = tokio::time::Instant::now();
    for number in 1..7 {
        let more: Vec<String> = (0..10).map(|_| noise(50_000)).collect();
        let batch = batch(&more);
        sink.prepare(&batch, Clock::system().now()).await.unwrap();
        assert_eq!(sink.write(&batch).await.unwrap(), []);
        sink.commit(&Positions::from([((1, Lane::Live), 100 + number)])).await.unwrap();
        payloads.extend(more);
    }
    assert!(began.elapsed() > Duration::from_secs(3), "{:?}", began.elapsed());
    let mut found: Vec<String> =
        kafka.read(&["thrifty_events"]).into_iter().map(|message| message.value).collect();
    found.sort();
    payloads.sort();
    assert!(found == payloads, "{} records of {}", found.len(), payloads.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_takes_no_longer_than_the_brokers_take_for_it() {
    let Some(kafka) = Kafka::shared() else { return };
    topics(kafka, "prompt", &[]);
    let (mut sink, _folder) =
        sink("prompt", &format!("brokers: [\"{}\"], transactional: false", kafka.plain()));
    let batch = batch(&["{}".to_owned()]);
    deliver(&mut sink, &batch).await.unwrap();
    let mut fastest = Duration::MAX;
    for _ in 0..10 {
        let began = tokio::time::Instant::now();
        sink.write(&batch).await.unwrap();
        fastest = fastest.min(began.elapsed());
    }
    // Whoever waits for librdkafka by the clock waits for a tenth of a second.
    assert!(fastest < Duration::from_millis(90), "{fastest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_holds_the_sink_which_goes_on_once_the_file_has_the_right_one() {
    let Some(kafka) = Kafka::shared() else { return };
    for (name, mechanism) in [("plain_login", "PLAIN"), ("scram_login", "SCRAM-SHA-512")] {
        topics(kafka, name, &[]);
        let settings = format!(
            "brokers: [\"{}\"], tls: {{ ca_file: {} }}, sasl: {{ mechanism: {mechanism}, username: admin, password: {{ file: \
             DIR/password }} }}",
            kafka.sasl(),
            kafka.ca()
        );
        let (mut sink, folder) = sink(name, &settings);
        let batch = batch(&["{}".to_owned()]);
        let error = deliver(&mut sink, &batch).await.unwrap_err();
        is_held(&error, "refuses to let us in");
        let right = kafka.password("admin");
        assert!(!error.to_string().contains("wrong"), "{error}");
        std::fs::write(folder.path().join("password"), right).unwrap();
        assert_eq!(deliver(&mut sink, &batch).await.unwrap(), []);
        assert_eq!(kafka.read(&[&format!("{name}_events")]).len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_write_is_told_what_to_allow() {
    let Some(kafka) = Kafka::shared() else { return };
    topics(kafka, "guests", &[]);
    for (more, says) in [("", "--allow-principal User:guest"), (", transactional: false", "kafka-acls.sh")] {
        let settings = format!(
            "brokers: [\"{}\"], tls: {{ ca_file: {} }}, sasl: {{ mechanism: SCRAM-SHA-256, username: guest, password: {{ file: \
             DIR/password }} }}{more}",
            kafka.sasl(),
            kafka.ca()
        );
        let (mut sink, folder) = sink("guests", &settings);
        std::fs::write(folder.path().join("password"), kafka.password("guest")).unwrap();
        let error = deliver(&mut sink, &batch(&["{}".to_owned()])).await.unwrap_err();
        is_held(&error, says);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_are_believed_by_the_right_authority_only() {
    let Some(kafka) = Kafka::shared() else { return };
    topics(kafka, "certified", &[]);
    let batch = batch(&["{}".to_owned()]);
    let tls =
        |ca: &str, more: &str| format!("brokers: [\"{}\"], tls: {{ ca_file: {ca}{more} }}", kafka.tls());
    let (mut believed, _folder) = sink("certified", &tls(&kafka.ca(), ""));
    deliver(&mut believed, &batch).await.unwrap();
    let (certificate, key) = kafka.client();
    assert!(Path::new(&certificate).exists());
    let client = format!(", cert_file: {certificate}, key_file: {key}");
    let (mut known, _folder) = sink("certified", &tls(&kafka.ca(), &client));
    deliver(&mut known, &batch).await.unwrap();
    assert_eq!(kafka.read(&["certified_events"]).len(), 2);
    let (mut doubtful, _folder) = sink("certified", &tls(&kafka.other_ca(), ""));
    is_held(&deliver(&mut doubtful, &batch).await.unwrap_err(), "`tls.ca_file`");
}

#[test]
fn work_that_nobody_waits_for_any_more_holds_up_no_end_of_the_program() {
    let (mut sink, _folder) = sink("nowhere", "brokers: [\"127.0.0.1:9\"]");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let (state, ours) = (SinkState::default(), Positions::new());
        let recover = sink.recover(&state, &ours);
        assert!(tokio::time::timeout(Duration::from_millis(300), recover).await.is_err());
    });
    let began = tokio::time::Instant::now();
    // It waits for threads that still work.
    drop(runtime);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_transactions_a_batch_that_is_held_for_what_is_refused_of_it_is_not_written_again() {
    let Some(kafka) = Kafka::shared() else { return };
    topics(kafka, "held", &["max.message.bytes=100000"]);
    let settings = format!("brokers: [\"{}\"], transactional: false, compression: none", kafka.plain());
    let (mut sink, _folder) = sink("held", &settings);
    let mut payloads: Vec<String> = (0..30).map(|number| format!("{{\"number\":{number}}}")).collect();
    payloads[3] = "x".repeat(150_000);
    let batch = batch(&payloads);
    let mut saved = SinkState::default();
    for _ in 0..3 {
        // Held before it is confirmed, and looked at again.
        sink.recover(&saved, &Positions::new()).await.unwrap();
        if let Some(state) = sink.prepare(&batch, Clock::system().now()).await.unwrap() {
            saved = state;
        }
        let refused = sink.write(&batch).await.unwrap();
        assert_eq!(refused.iter().map(|refusal| refusal.record).collect::<Vec<_>>(), [3]);
    }
    assert_eq!(kafka.read(&["held_events"]).len(), 29);
    // A batch that counts is forgotten: the same records are written when they are asked for again.
    sink.commit(&Positions::from([((1, Lane::Live), 100)])).await.unwrap();
    sink.prepare(&batch, Clock::system().now()).await.unwrap();
    sink.write(&batch).await.unwrap();
    assert_eq!(kafka.read(&["held_events"]).len(), 58);
}

/// A token that nobody signed, which a broker for tests believes.
fn unsigned(lasts: i64) -> String {
    let now = Clock::system().now().timestamp();
    let part = |json: String| BASE64_URL_SAFE_NO_PAD.encode(json);
    let claims = format!("{{\"sub\":\"admin\",\"iat\":{},\"exp\":{}}}", now - 60, now + lasts);
    format!("{}.{}.", part("{\"alg\":\"none\"}".to_owned()), part(claims))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_lets_the_sink_in_and_one_that_has_expired_holds_it_until_the_file_has_another() {
    let Some(kafka) = Kafka::shared() else { return };
    topics(kafka, "bearer", &[]);
    let settings = format!(
        "brokers: [\"{}\"], tls: {{ ca_file: {} }}, sasl: {{ mechanism: OAUTHBEARER, token: {{ file: DIR/password }} }}",
        kafka.sasl(),
        kafka.ca()
    );
    let (mut sink, folder) = sink("bearer", &settings);
    std::fs::write(folder.path().join("password"), unsigned(-5)).unwrap();
    let payload = ["{\"a\":1}".to_owned()];
    is_held(&deliver(&mut sink, &batch(&payload)).await.unwrap_err(), "has expired");
    std::fs::write(folder.path().join("password"), unsigned(300)).unwrap();
    assert_eq!(deliver(&mut sink, &batch(&payload)).await.unwrap(), []);
    assert_eq!(kafka.read(&["bearer_events"]).len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_encrypted_is_opened_with_its_password() {
    let Some(kafka) = Kafka::shared() else { return };
    topics(kafka, "locked", &[]);
    let (certificate, key) = kafka.client();
    let place = tempfile::tempdir().unwrap();
    let locked = place.path().join("locked.key");
    let mut openssl = std::process::Command::new("openssl");
    openssl.args(["pkcs8", "-topk8", "-in", &key, "-passout", "pass:open-sesame", "-out"]).arg(&locked);
    assert!(openssl.output().unwrap().status.success());
    let settings = format!(
        "brokers: [\"{}\"], tls: {{ ca_file: {}, cert_file: {certificate}, key_file: {}, key_password: {{ file: DIR/password }} }}",
        kafka.tls(),
        kafka.ca(),
        locked.display()
    );
    let (mut sink, folder) = sink("locked", &settings);
    let payload = ["{\"a\":1}".to_owned()];
    let error = deliver(&mut sink, &batch(&payload)).await.unwrap_err().to_string();
    assert!(!error.contains("wrong"), "{error}");
    std::fs::write(folder.path().join("password"), "open-sesame").unwrap();
    assert_eq!(deliver(&mut sink, &batch(&payload)).await.unwrap(), []);
}
