//! Reads the positions of a sink back from their topic.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::Message;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::bearer::Bearer;
use super::context::Context;
use super::patience::Patience;
use super::state::Told;
use crate::sinks::kafka::error::Trouble;

/// The partition that all positions stand in: one sink has one record.
pub(super) const PARTITION: i32 = 0;
/// Between two looks whether an open transaction has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Where to read, and for whom.
pub(super) struct Reader<'a> {
    pub(super) sink: &'a str,
    /// What to log in with, where that is a token.
    pub(super) bearer: Option<Bearer>,
    pub(super) topic: &'a str,
    /// Of who reads committed records only, and of who sees all.
    pub(super) committed: ClientConfig,
    pub(super) uncommitted: ClientConfig,
    pub(super) patience: &'a Patience,
    /// Says what an error means.
    pub(super) means: &'a dyn Fn(&'static str, Code, String) -> Trouble,
}

impl Reader<'_> {
    /// The last committed record with this key. Reading begins at `from`, where that is known, and otherwise with the
    /// oldest record. `all`: waits for open transactions, so that what was written before now is seen.
    pub(super) fn last(&self, key: &str, from: Option<i64>, all: bool) -> Result<Option<Told>, Trouble> {
        let consumer: BaseConsumer<Context> = self.client(&self.committed)?;
        let (oldest, end) = self.bounds(&consumer)?;
        if all {
            let everybody: BaseConsumer<Context> = self.client(&self.uncommitted)?;
            let (_, whole) = self.bounds(&everybody)?;
            let mut end = end;
            while end < whole {
                // Of a transaction that is open nobody knows yet whether it counts.
                self.pause("waiting for an open transaction in the topic of the positions")?;
                end = self.bounds(&consumer)?.1;
            }
        }
        let (_, newest) = self.bounds(&consumer)?;
        if let Some(from) = from.filter(|from| (oldest..newest).contains(from))
            && let Some(told) = self.read(&consumer, key, Offset::Offset(from))?
        {
            return Ok(Some(told));
        }
        self.read(&consumer, key, Offset::Beginning)
    }

    fn client(&self, config: &ClientConfig) -> Result<BaseConsumer<Context>, Trouble> {
        let made = config.create_with_context(Context::new(self.sink, self.bearer.clone()));
        made.map_err(|error| Trouble::Settings(error.to_string()))
    }

    /// The first record and the end of what this reader may see.
    fn bounds(&self, consumer: &BaseConsumer<Context>) -> Result<(i64, i64), Trouble> {
        let doing = "looking at the topic of the positions";
        loop {
            let slice = self.patience.slice().ok_or_else(|| self.late(doing))?;
            // A consumer asks for a token where it is polled, and nowhere else.
            drop(consumer.poll(Duration::ZERO));
            match consumer.fetch_watermarks(self.topic, PARTITION, slice) {
                Ok(bounds) => return Ok(bounds),
                Err(error) if may_pass(&error) => self.pause(doing)?,
                Err(error) => return Err(self.error(doing, &error)),
            }
        }
    }

    fn read(
        &self,
        consumer: &BaseConsumer<Context>,
        key: &str,
        from: Offset,
    ) -> Result<Option<Told>, Trouble> {
        let doing = "reading the positions";
        let mut assignment = TopicPartitionList::new();
        let assigned = assignment
            .add_partition_offset(self.topic, PARTITION, from)
            .and_then(|()| consumer.assign(&assignment));
        assigned.map_err(|error| self.error(doing, &error))?;
        let mut last = None;
        loop {
            let slice = self.patience.slice().ok_or_else(|| self.late(doing))?;
            match consumer.poll(slice) {
                Some(Ok(message)) if message.key() == Some(key.as_bytes()) => {
                    last = message.payload().map(Told::read).transpose()?;
                }
                Some(Ok(_)) => {}
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(last),
                Some(Err(error)) => match super::error::code(&error) {
                    Code::TopicAuthorizationFailed | Code::UnknownTopicOrPartition | Code::UnknownTopic => {
                        return Err(self.error(doing, &error));
                    }
                    // No group is joined, so whatever is wrong with groups is no matter; the rest is tried again.
                    _ => {}
                },
                None => {}
            }
        }
    }

    fn pause(&self, doing: &'static str) -> Result<(), Trouble> {
        self.patience.slice().ok_or_else(|| self.late(doing))?;
        std::thread::sleep(LOOK_AGAIN);
        Ok(())
    }

    fn late(&self, doing: &'static str) -> Trouble {
        match self.patience.is_given_up() {
            true => Trouble::Abandoned { doing },
            false => (self.means)(doing, Code::OperationTimedOut, "there was no answer".to_owned()),
        }
    }

    fn error(&self, doing: &'static str, error: &KafkaError) -> Trouble {
        (self.means)(doing, super::error::code(error), error.to_string())
    }
}

/// Brokers come and go; what they say meanwhile is no answer.
pub(super) fn may_pass(error: &KafkaError) -> bool {
    matches!(
        super::error::code(error),
        Code::OperationTimedOut
            | Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
            | Code::NetworkException
            | Code::RequestTimedOut
            | Code::BrokerNotAvailable
            | Code::OffsetNotAvailable
            | Code::FencedLeaderEpoch
            | Code::UnknownLeaderEpoch
    )
}
