//! One life of a producer: from opening it to the first error. All of this blocks, so none of it runs on the runtime's
//! own threads.

mod write;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};

use super::context::{Context, POSITIONS};
use super::error::{About, code, meaning};
use super::patience::Patience;
use super::positions::{PARTITION, Reader, may_pass};
use super::settings::Secrets;
use super::state::Told;
use super::{KafkaConfig, Trouble};
use crate::clock::Clock;
use crate::durable::fault;
use crate::format::Format;
use crate::model::Kind;
use crate::sink::{Batch, Record};

/// Between two tries of what librdkafka cannot take at this moment.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// Between two looks whether every message was answered for.
const FLUSHING: Duration = Duration::from_millis(1);
/// How long the first answer of a broker may take.
const FIRST_ANSWER: Duration = Duration::from_secs(15);

/// What a session is opened with.
#[derive(Clone, Debug)]
pub(super) struct Opening {
    pub(super) sink: String,
    pub(super) config: KafkaConfig,
    pub(super) format: Format,
    pub(super) secrets: Secrets,
    pub(super) clock: Clock,
    pub(super) batch_bytes: u64,
    /// None for a producer without transactions.
    pub(super) transactional_id: Option<String>,
}

/// A producer and what it has learned.
pub(super) struct Session {
    opening: Opening,
    brokers: String,
    producer: ThreadedProducer<Context>,
    /// Topics that were seen to exist.
    topics: Mutex<HashSet<String>>,
    /// Of the format, for every record.
    format: (&'static str, Option<&'static str>),
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({})", self.brokers)
    }
}

impl Session {
    /// Connects and looks for what is needed whatever comes; the producer is not ready for transactions yet.
    pub(super) fn open(opening: Opening, patience: &Patience) -> Result<Arc<Self>, Trouble> {
        let needed = match &opening.transactional_id {
            Some(_) => Some(opening.config.positions_topic.clone()),
            None => opening.config.events.fixed().map(str::to_owned),
        };
        Self::connect(opening, needed.as_deref(), patience)
    }

    /// Connects, and looks for one topic.
    pub(super) fn connect(
        opening: Opening,
        needed: Option<&str>,
        patience: &Patience,
    ) -> Result<Arc<Self>, Trouble> {
        let Opening { config, secrets, batch_bytes, transactional_id, clock, .. } = &opening;
        let settings = config.producer(secrets, *batch_bytes, transactional_id.as_deref());
        let producer = settings.create_with_context(Context::new(&opening.sink, config.bearer(clock)));
        let producer = producer.map_err(|error| Trouble::Settings(error.to_string()))?;
        let (name, version) = match opening.format.as_str().split_once(' ') {
            Some((name, version)) => (name, Some(version)),
            None => (opening.format.as_str(), None),
        };
        let brokers = config.brokers.join(",");
        let session = Self { brokers, producer, topics: Mutex::default(), format: (name, version), opening };
        session.topic_exists(needed, &patience.within(FIRST_ANSWER))?;
        Ok(Arc::new(session))
    }

    /// What an error means for what was being done.
    fn trouble(&self, doing: &'static str, topic: Option<&str>, code: Code, why: String) -> Trouble {
        let Opening { config, transactional_id, .. } = &self.opening;
        let noted = self.producer.context().noted();
        let secret = config.sasl.as_ref().map(|sasl| sasl.proof.to_string()).unwrap_or_default();
        let brokers = self.brokers.clone();
        let id = transactional_id.as_deref().unwrap_or_default();
        let trouble = meaning(&About { config, id, doing, topic }, code, why);
        // What is late or out of reach is so for a reason that connections told earlier.
        match (trouble, noted) {
            (Trouble::Late { .. } | Trouble::Unreachable { .. }, Some((noted, why))) => match noted {
                Code::Authentication | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism => {
                    Trouble::Login { brokers, why, secret }
                }
                Code::SSL if is_about_a_certificate(&why) => Trouble::Certificate { brokers, why },
                _ => Trouble::Unreachable { brokers, why },
            },
            (trouble, _) => trouble,
        }
    }

    fn failed(&self, doing: &'static str, topic: Option<&str>, error: &KafkaError) -> Trouble {
        self.trouble(doing, topic, code(error), error.to_string())
    }

    fn late(&self, doing: &'static str, patience: &Patience) -> Trouble {
        match patience.is_given_up() {
            true => Trouble::Abandoned { doing },
            false => self.trouble(doing, None, Code::OperationTimedOut, "there was no answer".to_owned()),
        }
    }

    /// Whether connections failed in a way that no patience mends.
    fn is_refused(&self) -> bool {
        self.producer.context().noted().is_some_and(|(code, why)| match code {
            Code::Authentication | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism => true,
            Code::SSL => is_about_a_certificate(&why),
            _ => false,
        })
    }

    /// Asks the brokers, for a topic if one is given; nothing creates it.
    pub(super) fn topic_exists(&self, topic: Option<&str>, patience: &Patience) -> Result<(), Trouble> {
        let doing = "looking at topics";
        loop {
            let slice = patience.slice().ok_or_else(|| self.late(doing, patience))?;
            match self.producer.client().fetch_metadata(topic, slice) {
                Ok(metadata) => {
                    let Some(name) = topic else { return Ok(()) };
                    let found = metadata.topics().iter().find(|found| found.name() == name);
                    match found.map(|found| found.error().map(Code::from)) {
                        Some(None) => {
                            lock(&self.topics).insert(name.to_owned());
                            return Ok(());
                        }
                        Some(Some(Code::LeaderNotAvailable)) => {}
                        Some(Some(code)) => {
                            return Err(self.trouble(doing, topic, code, code.to_string()));
                        }
                        None => return Err(self.trouble(doing, topic, Code::UnknownTopic, String::new())),
                    }
                }
                Err(error) if may_pass(&error) && !self.is_refused() => {}
                Err(error) => return Err(self.failed(doing, topic, &error)),
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Sees to it that every topic of the batch exists, and that there are not more than meant.
    pub(super) fn know_topics(&self, batch: &Batch, patience: &Patience) -> Result<(), Trouble> {
        let mut wanted: HashSet<String> = HashSet::new();
        self.each_topic(batch, |_, _, topic| {
            if !wanted.contains(topic) {
                wanted.insert(topic.to_owned());
            }
        });
        let known = lock(&self.topics).clone();
        let all = known.union(&wanted).filter(|topic| **topic != self.opening.config.positions_topic).count();
        if all > KafkaConfig::FEW_TOPICS && !self.opening.config.many_topics {
            return Err(Trouble::ManyTopics);
        }
        wanted.difference(&known).try_for_each(|topic| self.topic_exists(Some(topic), patience))
    }

    /// Goes over the records with the topic of each.
    fn each_topic<'b>(&self, batch: &'b Batch, mut each: impl FnMut(usize, &'b Record, &str)) {
        let KafkaConfig { events, devices, .. } = &self.opening.config;
        let mut last: Option<(&Record, String)> = None;
        for (number, record) in batch.records.iter().enumerate() {
            let template = if record.kind == Kind::Device { devices } else { events };
            if !last.as_ref().is_some_and(|(other, _)| same_place(other, record)) {
                last = Some((record, template.render(record)));
            }
            let (_, topic) = last.as_ref().expect("just made");
            each(number, record, topic);
        }
    }

    /// The last positions that this sink committed.
    pub(super) fn positions(
        &self,
        from: Option<i64>,
        all: bool,
        patience: &Patience,
    ) -> Result<Option<Told>, Trouble> {
        self.last(self.opening.transactional_id.as_deref().unwrap_or_default(), from, all, patience)
    }

    /// The last committed record of a key in the topic of the positions.
    fn last(
        &self,
        key: &str,
        from: Option<i64>,
        all: bool,
        patience: &Patience,
    ) -> Result<Option<Told>, Trouble> {
        let Opening { sink, config, secrets, clock, .. } = &self.opening;
        let topic = config.positions_topic.as_str();
        let means = |doing, code, why| self.trouble(doing, Some(topic), code, why);
        let committed = config.consumer(secrets, true);
        let uncommitted = config.consumer(secrets, false);
        Reader { bearer: config.bearer(clock), sink, topic, committed, uncommitted, patience, means: &means }
            .last(key, from, all)
    }

    /// Makes this producer the only one with its id, and ends what an earlier one left open.
    pub(super) fn take_over(&self, patience: &Patience) -> Result<(), Trouble> {
        self.until_done("taking over the transactional id", patience, |slice| {
            self.producer.init_transactions(slice)
        })
    }

    /// Writes, aborts and looks: a broker that shows what was aborted does not keep transactions.
    pub(super) fn probe(&self, patience: &Patience) -> Result<(), Trouble> {
        let probe = format!("{}-probe", self.opening.transactional_id.as_deref().unwrap_or_default());
        self.begin()?;
        let told = Told::new("probe".to_owned(), &BTreeMap::new());
        self.send_positions(&probe, &told, patience)?;
        self.abort(patience)?;
        match self.last(&probe, None, true, patience)? {
            None => Ok(()),
            Some(_) => Err(Trouble::NoTransactions {
                brokers: self.brokers.clone(),
                why: "they show what was aborted".to_owned(),
            }),
        }
    }

    pub(super) fn begin(&self) -> Result<(), Trouble> {
        let doing = "beginning a transaction";
        self.producer.begin_transaction().map_err(|error| self.failed(doing, None, &error))
    }

    pub(super) fn abort(&self, patience: &Patience) -> Result<(), Trouble> {
        self.until_done("aborting a transaction", patience, |slice| self.producer.abort_transaction(slice))
    }

    /// Repeats what librdkafka says may be repeated.
    fn until_done(
        &self,
        doing: &'static str,
        patience: &Patience,
        mut attempt: impl FnMut(Duration) -> Result<(), KafkaError>,
    ) -> Result<(), Trouble> {
        loop {
            let slice = patience.slice().ok_or_else(|| self.late(doing, patience))?;
            match attempt(slice) {
                Ok(()) => return Ok(()),
                Err(KafkaError::Flush(Code::OperationTimedOut)) => {}
                Err(KafkaError::Transaction(error)) if error.is_retriable() && !self.is_refused() => {}
                Err(error) => return Err(self.failed(doing, None, &error)),
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    fn is_transactional(&self) -> bool {
        self.opening.transactional_id.is_some()
    }

    fn late_or(
        &self,
        doing: &'static str,
        topic: &str,
        code: Code,
        why: String,
        patience: &Patience,
    ) -> Trouble {
        match code {
            Code::QueueFull => self.late(doing, patience),
            _ => self.trouble(doing, Some(topic), code, why),
        }
    }

    /// Hands a message to librdkafka, which takes it once there is room.
    fn enqueue<'m>(
        &self,
        mut message: BaseRecord<'m, str, [u8], usize>,
        patience: &Patience,
    ) -> Result<(), Code> {
        loop {
            match self.producer.send(message) {
                Ok(()) => return Ok(()),
                Err((error, back)) => match code(&error) {
                    Code::QueueFull if patience.slice().is_some() => message = back,
                    code => return Err(code),
                },
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Waits until something became of every message.
    fn flush(&self, doing: &'static str, topic: Option<&str>, patience: &Patience) -> Result<(), Trouble> {
        loop {
            patience.slice().ok_or_else(|| self.late(doing, patience))?;
            // Given time, both calls stay in librdkafka for all of it, whatever comes: a tenth of a second for each
            // batch, or a spinning processor.
            match self.producer.flush(Duration::ZERO) {
                Ok(()) => return Ok(()),
                Err(KafkaError::Flush(Code::OperationTimedOut)) if !self.is_refused() => {}
                Err(error) => return Err(self.failed(doing, topic, &error)),
            }
            self.producer.poll(Duration::ZERO);
            std::thread::sleep(FLUSHING);
        }
    }

    fn send_positions(&self, key: &str, told: &Told, patience: &Patience) -> Result<Option<i64>, Trouble> {
        let doing = "writing the positions";
        let topic = self.opening.config.positions_topic.as_str();
        let payload = told.bytes();
        let message = BaseRecord::with_opaque_to(topic, POSITIONS)
            .key(key)
            .payload(payload.as_slice())
            .partition(PARTITION);
        self.enqueue(message, patience)
            .map_err(|code| self.late_or(doing, topic, code, code.to_string(), patience))?;
        self.flush(doing, Some(topic), patience)?;
        let deliveries = self.producer.context().deliveries();
        match deliveries.failed.first() {
            Some((_, code, topic)) => {
                let fatal = self.producer.client().fatal_error();
                let (code, why) = fatal.unwrap_or((*code, code.to_string()));
                Err(self.trouble(doing, Some(topic), code, why))
            }
            None => Ok(deliveries.positions_at),
        }
    }

    /// Ends the open transaction with these positions in it; answers where they stand.
    pub(super) fn commit(&self, told: &Told, patience: &Patience) -> Result<Option<i64>, Trouble> {
        let id = self.opening.transactional_id.clone().unwrap_or_default();
        let at = self.send_positions(&id, told, patience)?;
        fault("kafka.commit.before").map_err(Trouble::Injected)?;
        self.until_done("committing a transaction", patience, |slice| {
            self.producer.commit_transaction(slice)
        })?;
        fault("kafka.commit.after").map_err(Trouble::Injected)?;
        Ok(at)
    }
}

/// Whether two records belong to one topic, whatever the template.
fn same_place(one: &Record, other: &Record) -> bool {
    one.kind == other.kind
        && one.organization == other.organization
        && one.source == other.source
        && one.site == other.site
        && one.slug == other.slug
}

fn is_about_a_certificate(why: &str) -> bool {
    why.to_lowercase().contains("certificate")
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
