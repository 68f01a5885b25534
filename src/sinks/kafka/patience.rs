//! How long something at Kafka may take, and whether anybody still waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// No call into librdkafka lasts longer, so that nobody waits long for one that nobody wants any more.
const SLICE: Duration = Duration::from_secs(1);

/// A bound in time, and a way to be given up earlier.
#[derive(Clone, Debug)]
pub(super) struct Patience {
    until: Instant,
    given_up: Arc<AtomicBool>,
}

impl Patience {
    /// So much time; whoever holds the other half may give up earlier.
    pub(super) fn new(longest: Duration) -> (Self, GiveUp) {
        let given_up = Arc::new(AtomicBool::new(false));
        (Self { until: Instant::now() + longest, given_up: given_up.clone() }, GiveUp(given_up))
    }

    /// The same with a closer bound.
    pub(super) fn within(&self, longest: Duration) -> Self {
        Self { until: self.until.min(Instant::now() + longest), ..self.clone() }
    }

    /// The time that the next call may take, if any is left.
    pub(super) fn slice(&self) -> Option<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        (!left.is_zero() && !self.is_given_up()).then(|| left.min(SLICE))
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Relaxed)
    }
}

/// Gives up when it is dropped, as by a future that nobody waits for any more.
#[derive(Debug)]
pub(super) struct GiveUp(Arc<AtomicBool>);

impl Drop for GiveUp {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
