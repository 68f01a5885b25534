//! A real Kafka of one node, and what stands in its topics.

use std::cell::Cell;
use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use serde_json::Value;
use tokio::time::Instant;

const LONG: Duration = Duration::from_secs(30);
/// Between two looks at a topic while it is written.
const LOOK: Duration = Duration::from_millis(100);

/// Ends with this process.
pub(crate) struct Kafka {
    pub(crate) brokers: String,
    _script: Child,
}

impl Kafka {
    pub(crate) fn start(folder: &Path) -> anyhow::Result<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/services/kafka");
        let mut command = Command::new(script);
        command.arg("run").arg(folder.join("kafka")).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut script = command.spawn().context("starting Kafka")?;
        let mut line = String::new();
        BufReader::new(script.stdout.take().context("no output")?).read_line(&mut line)?;
        let cluster: Value = serde_json::from_str(&line).context("Kafka does not start")?;
        let port = &cluster["nodes"]["1"]["plaintext"];
        Ok(Self { brokers: format!("127.0.0.1:{port}"), _script: script })
    }

    fn consumer(&self) -> anyhow::Result<BaseConsumer> {
        let mut settings = ClientConfig::new();
        settings.set("bootstrap.servers", &self.brokers).set("group.id", "bench");
        settings.set("isolation.level", "read_committed").set("enable.partition.eof", "true");
        Ok(settings.create()?)
    }

    fn partitions(consumer: &BaseConsumer, topic: &str) -> anyhow::Result<Vec<i32>> {
        let metadata = consumer.fetch_metadata(Some(topic), LONG)?;
        let topic = metadata.topics().first().context("no such topic")?;
        Ok(topic.partitions().iter().map(|partition| partition.id()).collect())
    }

    /// Counts what readers of committed records may see by now, ends of transactions among it.
    pub(crate) fn counts(&self, topic: &str) -> anyhow::Result<Box<dyn Fn() -> u64>> {
        let (consumer, topic) = (self.consumer()?, topic.to_owned());
        let partitions = Self::partitions(&consumer, &topic)?;
        let last = Cell::new((Instant::now(), 0));
        Ok(Box::new(move || {
            if last.get().0.elapsed() > LOOK {
                let ends = partitions.iter().map(|partition| {
                    consumer.fetch_watermarks(&topic, *partition, LONG).map_or(0, |(_, end)| end)
                });
                last.set((Instant::now(), u64::try_from(ends.sum::<i64>()).unwrap_or(0)));
            }
            last.get().1
        }))
    }

    /// Reads the topic: every key must be there once.
    pub(crate) fn holds(&self, topic: &str, records: u64) -> anyhow::Result<()> {
        let consumer = self.consumer()?;
        let mut all = TopicPartitionList::new();
        let mut left: HashSet<i32> = Self::partitions(&consumer, topic)?.into_iter().collect();
        for partition in &left {
            all.add_partition_offset(topic, *partition, Offset::Beginning)?;
        }
        consumer.assign(&all)?;
        let mut keys = HashSet::new();
        while !left.is_empty() {
            let silent = || format!("Kafka falls silent after {} keys, {left:?} unread", keys.len());
            match consumer.poll(LONG).with_context(silent)? {
                Ok(message) => {
                    let key = message.key().context("a record without a key")?;
                    ensure!(keys.insert(key.to_vec()), "a key came twice");
                }
                Err(rdkafka::error::KafkaError::PartitionEOF(partition)) => drop(left.remove(&partition)),
                Err(error) => return Err(error.into()),
            }
        }
        ensure!(keys.len() as u64 == records, "{} of {records} keys are there", keys.len());
        Ok(())
    }

    /// Makes room.
    pub(crate) fn delete(&self, topics: &[&str]) -> anyhow::Result<()> {
        let mut settings = ClientConfig::new();
        let admin: AdminClient<DefaultClientContext> =
            settings.set("bootstrap.servers", &self.brokers).create()?;
        let deleted = admin.delete_topics(topics, &AdminOptions::new());
        drop(tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(deleted))?);
        Ok(())
    }
}
