//! What librdkafka tells by itself: log lines, errors of connections, and what became of each message.

use std::collections::HashMap;
use std::error::Error;
use std::sync::Mutex;
use std::time::Duration;

use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::Message;
use rdkafka::producer::{DeliveryResult, NoCustomPartitioner, ProducerContext};
use tokio::time::Instant;

use super::bearer::Bearer;

/// A line of one sort is logged at most so often.
const SAME_LINE: Duration = Duration::from_secs(60);
/// Failed messages that are remembered of one attempt; the others failed for the same reasons.
const MOST_FAILED: usize = 100_000;

/// Listens to one client.
pub(super) struct Context {
    /// The sink's, for the log.
    sink: String,
    bearer: Option<Bearer>,
    logged: Mutex<HashMap<String, (Instant, u32)>>,
    noted: Mutex<Option<(Code, String)>>,
    deliveries: Mutex<Deliveries>,
    /// Why the last transaction broke, as only a line of the log says.
    broken: Mutex<Option<String>>,
}

/// What became of the messages since the last [`Context::deliveries`].
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    /// The messages that no broker took, by the number they were sent with.
    pub(super) failed: Vec<(usize, Code, String)>,
    /// Where the last message stands that was sent as [`POSITIONS`].
    pub(super) positions_at: Option<i64>,
}

/// The number of the message that holds the positions.
pub(super) const POSITIONS: usize = usize::MAX;

impl Context {
    /// `bearer`: what to log in with, where that is a token.
    pub(super) fn new(sink: &str, bearer: Option<Bearer>) -> Self {
        let (logged, noted, deliveries, broken) = Default::default();
        Self { sink: sink.to_owned(), bearer, logged, noted, deliveries, broken }
    }

    /// What was wrong with connections last, the most telling thing first.
    pub(super) fn noted(&self) -> Option<(Code, String)> {
        lock(&self.noted).clone()
    }

    /// Why a transaction broke, if one did.
    pub(super) fn broken(&self) -> Option<String> {
        lock(&self.broken).take()
    }

    /// Forgets what was wrong before.
    pub(super) fn forget(&self) {
        *lock(&self.noted) = None;
        *lock(&self.broken) = None;
    }

    pub(super) fn deliveries(&self) -> Deliveries {
        std::mem::take(&mut lock(&self.deliveries))
    }

    /// How often a line of this sort was held back, or none where it is to be held back as well.
    fn due(&self, sort: &str) -> Option<u32> {
        let (mut logged, now) = (lock(&self.logged), Instant::now());
        match logged.get_mut(sort) {
            Some((last, held_back)) if now.duration_since(*last) < SAME_LINE => {
                *held_back += 1;
                None
            }
            Some((last, held_back)) => {
                *last = now;
                Some(std::mem::take(held_back))
            }
            None => {
                logged.insert(sort.to_owned(), (now, 0));
                Some(0)
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// How much an error of a connection tells: a refused password more than that no broker is left.
fn weight(code: Code) -> u8 {
    match code {
        Code::Authentication | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism => 4,
        Code::SSL => 3,
        Code::Resolve | Code::BrokerTransportFailure | Code::OperationTimedOut => 2,
        Code::AllBrokersDown => 1,
        _ => 0,
    }
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        match &self.bearer {
            Some(bearer) => Ok(bearer.token()?),
            None => Err("no token is configured".into()),
        }
    }

    /// The worker tells an operator what is wrong; these lines help whoever looks closer.
    fn log(&self, level: RDKafkaLogLevel, sort: &str, text: &str) {
        // Settings for a producer are no news to a consumer.
        if sort == "CONFWARN" {
            return;
        }
        if sort == "TXNERR" {
            *lock(&self.broken) = Some(text.to_owned());
        }
        let Some(held_back) = self.due(sort) else { return };
        let sink = &self.sink;
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning => {
                tracing::info!(sink, sort, held_back, "librdkafka: {text}");
            }
            _ => tracing::debug!(sink, sort, held_back, "librdkafka: {text}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // The end of a partition is no error.
        if let KafkaError::PartitionEOF(_) = error {
            return;
        }
        let code = super::error::code(&error);
        let mut noted = lock(&self.noted);
        if noted.as_ref().is_none_or(|(known, _)| weight(*known) <= weight(code)) {
            *noted = Some((code, reason.to_owned()));
        }
    }
}

impl ConsumerContext for Context {}

impl ProducerContext<NoCustomPartitioner> for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        let mut deliveries = lock(&self.deliveries);
        match result {
            Ok(message) if number == POSITIONS => deliveries.positions_at = Some(message.offset()),
            Ok(_) => {}
            Err((error, message)) if deliveries.failed.len() < MOST_FAILED => {
                deliveries.failed.push((number, super::error::code(error), message.topic().to_owned()));
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_one_sort_are_logged_once_a_minute_and_counted() {
        let context = Context::new("lake", None);
        assert_eq!(context.due("FAIL"), Some(0));
        assert_eq!((context.due("FAIL"), context.due("SSL")), (None, Some(0)));
        let long_ago = Instant::now() - SAME_LINE;
        context.logged.lock().unwrap().get_mut("FAIL").unwrap().0 = long_ago;
        assert_eq!(context.due("FAIL"), Some(1));
        assert_eq!(context.due("FAIL"), None);
    }

    #[test]
    fn a_refused_password_is_remembered_above_what_follows_from_it() {
        let context = Context::new("lake", None);
        context.error(KafkaError::Global(Code::BrokerTransportFailure), "refused");
        context.error(KafkaError::Global(Code::Authentication), "wrong password");
        context.error(KafkaError::Global(Code::AllBrokersDown), "1/1 brokers are down");
        assert_eq!(context.noted(), Some((Code::Authentication, "wrong password".to_owned())));
    }
}
