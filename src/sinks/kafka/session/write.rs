//! Writes a batch: all of it but the records that no broker will ever take.

use std::collections::{BTreeMap, HashSet};

use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer};

use super::Session;
use crate::sink::{Batch, Record, Refusal};
use crate::sinks::kafka::patience::Patience;
use crate::sinks::kafka::{Key, Trouble};

/// Rounds of finding records that are too large before an operator is asked.
const MOST_ROUNDS: usize = 32;
/// What is being done most of the time, in an error.
const WRITING: &str = "writing records";

/// A message that no broker took: its number, why, and its topic.
type Failed = (usize, Code, String);

/// How far a batch has come, attempt after attempt.
#[derive(Default)]
struct Work {
    /// Records that are too large, with the reason.
    refused: BTreeMap<usize, String>,
    /// Records of which one or several are too large; each is sent by itself.
    suspects: HashSet<usize>,
    /// What is written already, where no abort takes it back.
    there: HashSet<usize>,
}

/// What one attempt to write a batch came to.
struct Attempt {
    /// Too large, or in one batch with what was.
    together: Vec<Failed>,
    /// Too large by themselves.
    alone: Vec<Failed>,
    /// The transaction takes no more, or took something back.
    is_broken: bool,
}

impl Attempt {
    fn is_complete(&self) -> bool {
        self.together.is_empty() && self.alone.is_empty() && !self.is_broken
    }
}

impl Session {
    /// Writes all records but those that no broker will ever take, inside of a transaction that stays open, where there
    /// are transactions. `there`: what is written already.
    pub(in crate::sinks::kafka) fn write(
        &self,
        batch: &Batch,
        there: HashSet<usize>,
        patience: &Patience,
    ) -> Result<Vec<Refusal>, Trouble> {
        self.producer.context().forget();
        let (mut work, mut broken) = (Work { there, ..Work::default() }, 0);
        for _ in 0..MOST_ROUNDS {
            let attempt = self.attempt(batch, &mut work, patience)?;
            if attempt.is_complete() {
                let refusals = work.refused.into_iter();
                return Ok(refusals.map(|(record, reason)| Refusal { record, reason }).collect());
            }
            if attempt.is_broken && attempt.together.is_empty() && attempt.alone.is_empty() {
                // Sequence numbers that an abort left behind break the next transaction once.
                broken += 1;
                if broken > 2 || !self.is_transactional() {
                    return Err(self.broken());
                }
            }
            if self.is_transactional() {
                self.abort(patience)?;
                self.begin()?;
            } else {
                let failed: HashSet<usize> = attempt.together.iter().map(|(number, ..)| *number).collect();
                work.there.extend((0..batch.records.len()).filter(|number| !failed.contains(number)));
            }
            let guilty = match attempt.together.as_slice() {
                // Messages that travel together fail together: what failed by itself travelled by itself.
                [_] => attempt.together.iter().chain(&attempt.alone),
                several => {
                    work.suspects.extend(several.iter().map(|(number, ..)| *number));
                    [].iter().chain(&attempt.alone)
                }
            };
            for (number, _, topic) in guilty {
                work.refused.insert(*number, too_large(batch, *number, topic));
                work.suspects.remove(number);
            }
        }
        Err(Trouble::ManyTooLarge { topic: self.opening.config.events.to_string() })
    }

    /// What broke a transaction although no message failed.
    fn broken(&self) -> Trouble {
        let why = self.producer.context().broken().unwrap_or_else(|| "the transaction broke".to_owned());
        let code = match why.contains("TOPIC_AUTHORIZATION_FAILED") {
            true => Code::TopicAuthorizationFailed,
            false => Code::Fail,
        };
        self.trouble(WRITING, None, code, why)
    }

    /// Sends everything that is not there yet: first what nobody suspects, then each suspect by itself.
    fn attempt(&self, batch: &Batch, work: &mut Work, patience: &Patience) -> Result<Attempt, Trouble> {
        let mut apart: Vec<(usize, String)> = Vec::new();
        let mut going = Ok(true);
        self.each_topic(batch, |number, record, topic| {
            if !matches!(going, Ok(true))
                || work.there.contains(&number)
                || work.refused.contains_key(&number)
            {
                return;
            }
            if work.suspects.contains(&number) {
                apart.push((number, topic.to_owned()));
                return;
            }
            going = self.send(batch, number, record, topic, &mut work.refused, patience);
        });
        let mut is_broken = !going?;
        let (together, purged) = self.sent(WRITING, patience)?;
        is_broken |= purged;
        let mut alone = Vec::new();
        // The largest first: they are the likeliest.
        apart.sort_by_key(|(number, _)| std::cmp::Reverse(batch.records[*number].bytes.len()));
        for (number, topic) in apart {
            // One failure is the end of a transaction; elsewhere all others are written all the same.
            if is_broken || self.is_transactional() && !(together.is_empty() && alone.is_empty()) {
                break;
            }
            let record = &batch.records[number];
            is_broken |= !self.send(batch, number, record, &topic, &mut work.refused, patience)?;
            let (failed, purged) = self.sent(WRITING, patience)?;
            is_broken |= purged;
            alone.extend(failed);
        }
        Ok(Attempt { together, alone, is_broken })
    }

    /// False when an earlier message failed, after which a transaction takes no more.
    fn send(
        &self,
        batch: &Batch,
        number: usize,
        record: &Record,
        topic: &str,
        refused: &mut BTreeMap<usize, String>,
        patience: &Patience,
    ) -> Result<bool, Trouble> {
        let bytes = batch.bytes(record);
        let payload = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let uid = record.uid.to_string();
        let key = match self.opening.config.key {
            Key::Uid => uid.as_str(),
            Key::Device => record.device.as_deref().unwrap_or(&uid),
            Key::Organization => record.organization.as_str(),
        };
        let (format, version) = self.format;
        let header = |key, value| Header { key, value: Some(value) };
        let mut headers = OwnedHeaders::new_with_capacity(6)
            .insert(header("uid", uid.as_str()))
            .insert(header("site", &*record.site))
            .insert(header("source", &*record.source))
            .insert(header("kind", record.kind.as_str()))
            .insert(header("format", format));
        if let Some(version) = version {
            headers = headers.insert(header("version", version));
        }
        let message = BaseRecord::with_opaque_to(topic, number).key(key).payload(payload).headers(headers);
        match self.enqueue(message, patience) {
            Ok(()) => Ok(true),
            Err(Code::MessageSizeTooLarge) => {
                refused.insert(number, too_large(batch, number, topic));
                Ok(true)
            }
            Err(Code::State) => Ok(false),
            Err(code) => {
                let fatal = self.producer.client().fatal_error();
                let (code, why) = fatal.unwrap_or((code, code.to_string()));
                Err(self.late_or(WRITING, topic, code, why, patience))
            }
        }
    }

    /// Waits for what was sent; answers what was too large and whether anything was taken back because of that, and
    /// fails with whatever else went wrong.
    fn sent(&self, doing: &'static str, patience: &Patience) -> Result<(Vec<Failed>, bool), Trouble> {
        self.flush(doing, None, patience)?;
        let mut failed = self.producer.context().deliveries().failed;
        if let Some((fatal, why)) = self.producer.client().fatal_error() {
            return Err(self.trouble(doing, None, fatal, why));
        }
        let all = failed.len();
        failed.retain(|(_, code, _)| !is_purged(*code));
        let purged = failed.len() < all;
        match failed.iter().find(|(_, code, _)| !is_too_large(*code)) {
            Some((_, code, topic)) => Err(self.trouble(doing, Some(topic), *code, code.to_string())),
            None => Ok((failed, purged)),
        }
    }
}

fn too_large(batch: &Batch, number: usize, topic: &str) -> String {
    format!(
        "its {} bytes are more than a message of the topic {topic} may have: raise `max.message.bytes` of the topic, and \
         `properties: {{ message.max.bytes: … }}` of this sink",
        batch.records[number].bytes.len()
    )
}

fn is_too_large(code: Code) -> bool {
    matches!(code, Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize)
}

/// Taken back because of another message's fault.
fn is_purged(code: Code) -> bool {
    matches!(code, Code::PurgeQueue | Code::PurgeInflight)
}
