//! Clients that do nothing but send: lines of a file, each with the uid that stands in it.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

/// Bytes of a transaction, and of a request of `_bulk`.
const BATCH: usize = 2 << 20;
const LONG: Duration = Duration::from_secs(60);

fn each_line(payloads: &Path, mut each: impl FnMut(&str, &[u8]) -> anyhow::Result<()>) -> anyhow::Result<()> {
    for line in BufReader::with_capacity(1 << 20, File::open(payloads)?).split(b'\n') {
        let line = line?;
        let at = line.windows(7).position(|seven| seven == b"\"uid\":\"").context("a line without uid")? + 7;
        let uid = std::str::from_utf8(&line[at..at + 36])?;
        each(uid, &line)?;
    }
    Ok(())
}

/// Sends with the settings of the sink, in one transaction after the other or in none.
pub(crate) fn kafka(brokers: &str, topic: &str, transactions: bool, payloads: &Path) -> anyhow::Result<()> {
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", brokers).set("acks", "all").set("enable.idempotence", "true");
    settings.set("compression.type", "zstd").set("partitioner", "murmur2_random");
    if transactions {
        settings.set("transactional.id", topic);
    }
    let producer: BaseProducer = settings.create()?;
    if transactions {
        producer.init_transactions(LONG)?;
        producer.begin_transaction()?;
    }
    let mut bytes = 0;
    each_line(payloads, |uid, line| {
        let headers = [
            ("uid", uid),
            ("site", "bench"),
            ("source", "unified_audit"),
            ("kind", "event"),
            ("format", "raw"),
        ];
        let headers = headers.into_iter().fold(OwnedHeaders::new_with_capacity(5), |all, (key, value)| {
            all.insert(Header { key, value: Some(value) })
        });
        let mut record = BaseRecord::to(topic).key(uid).payload(line).headers(headers);
        while let Err((error, back)) = producer.send(record) {
            ensure!(
                matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)),
                "sending failed: {error}"
            );
            producer.poll(Duration::from_millis(10));
            record = back;
        }
        bytes += line.len();
        if transactions && bytes > BATCH {
            bytes = 0;
            commit(&producer)?;
            producer.begin_transaction()?;
        }
        producer.poll(Duration::ZERO);
        Ok(())
    })?;
    if transactions {
        commit(&producer)?
    } else {
        producer.flush(LONG)?
    }
    Ok(())
}

/// What librdkafka told is looked at all the while: it would wait for that longer than brokers need.
fn commit(producer: &BaseProducer) -> anyhow::Result<()> {
    while producer.flush(Duration::ZERO).is_err() {
        producer.poll(Duration::ZERO);
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(producer.commit_transaction(LONG)?)
}

/// Posts one request after the other, of the size and packed as the sinks do it.
pub(crate) async fn http(url: &str, protocol: &str, payloads: &Path) -> anyhow::Result<()> {
    let (path, largest) = match protocol {
        "bulk" => ("_bulk", BATCH),
        "hec" => ("services/collector/event", BATCH / 2),
        _ => bail!("bulk or hec?"),
    };
    let (client, url) = (reqwest::Client::new(), format!("{url}/{path}"));
    let mut bodies = Vec::new();
    // Read before it is sent, as a client would that has them in memory; packed while it is sent.
    let mut body = Vec::with_capacity(largest);
    each_line(payloads, |uid, line| {
        if body.len() + line.len() + 200 > largest {
            bodies.push(std::mem::take(&mut body));
        }
        match protocol {
            "bulk" => {
                writeln!(body, "{{\"create\":{{\"_index\":\"threatlocker-events\",\"_id\":\"{uid}\"}}}}")?;
                body.extend_from_slice(line);
                body.push(b'\n');
            }
            _ => {
                body.extend_from_slice(b"{\"time\":0.000,\"source\":\"lockstep:bench\",\"event\":");
                body.extend_from_slice(line);
                writeln!(body, ",\"fields\":{{\"uid\":\"{uid}\"}}}}")?;
            }
        }
        Ok(())
    })?;
    bodies.push(body);
    for body in bodies {
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(&body)?;
        let request = client.post(&url).header("content-encoding", "gzip").body(packed.finish()?);
        let answer = request.send().await?;
        ensure!(answer.status().is_success(), "answered {}", answer.status());
        answer.bytes().await?;
    }
    Ok(())
}
