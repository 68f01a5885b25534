//! The driver: wakes each stream at its interval, never two polls of one stream at once, and publishes how
//! each fares.
//!
//! A site is discovered first, then one task a stream polls until told to stop. A failing stream is tried
//! again with growing pauses and holds up no other. After a failure of the store a stream is loaded anew,
//! as after a crash.

mod apart;
mod heir;
mod site;
mod stream;

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::collect::CollectError;
use crate::config::Limits;
use crate::portal::Remedy;
use crate::status::{Board, StreamCondition};
use crate::store::{Store, outbox};

pub use site::{Site, SiteError, chosen, is_configured, is_whole_tree};
pub use stream::{Stream, Unfinished};

/// What every stream needs.
#[derive(Clone)]
pub struct Surroundings {
    pub store: Store,
    pub clock: Clock,
    pub board: Board,
    /// From `outbox.limit_bytes` on collecting waits; what is left of `shutdown_grace` after the page in hand
    /// is for the sinks and the state.
    pub limits: watch::Receiver<Limits>,
    /// Told when there are new entries.
    pub appended: watch::Sender<()>,
    pub stop: CancellationToken,
}

impl Surroundings {
    /// Waits while the outbox is full. Answers false when stopped.
    pub(crate) async fn room(&self, mut paused: impl FnMut()) -> bool {
        loop {
            let full = match self.store.read(outbox::usage).await {
                Ok(usage) => usage.stored_bytes >= self.limits.borrow().outbox.limit_bytes,
                // What is wrong with the store is said by the poll itself.
                Err(_) => false,
            };
            if !full {
                return !self.stop.is_cancelled();
            }
            paused();
            if !self.sleep(Duration::from_secs(1)).await {
                return false;
            }
        }
    }

    /// Sleeps; answers false when stopped.
    pub(crate) async fn sleep(&self, length: Duration) -> bool {
        tokio::select! {
            () = self.stop.cancelled() => false,
            () = tokio::time::sleep(length) => true,
        }
    }

    /// How long a page in hand may still take after the stop.
    pub(crate) fn grace(&self) -> Duration {
        self.limits.borrow().shutdown_grace.mul_f64(0.8)
    }

    pub(crate) fn tell_deliver(&self) {
        self.appended.send_replace(());
    }
}

/// The longest pause after repeated failures that may pass, and after a refusal that may not.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
const LONGEST_REFUSED_PAUSE: Duration = Duration::from_secs(900);

/// What a failed poll means for its stream: how it is called and how long to wait.
fn verdict(error: &CollectError, every: Duration, failures: u32) -> (StreamCondition, Duration) {
    let growing = every.saturating_mul(1 << failures.min(12).saturating_sub(1));
    let passing = growing.clamp(every.min(LONGEST_PAUSE), LONGEST_PAUSE);
    let refused = growing.min(LONGEST_REFUSED_PAUSE);
    match error {
        CollectError::Stopped => (StreamCondition::Stopped, passing),
        CollectError::Store(_) => (StreamCondition::Failing, passing),
        CollectError::Undecodable(_) | CollectError::PageTooLarge(_) | CollectError::Incomplete(_) => {
            (StreamCondition::Failing, passing)
        }
        CollectError::Refused(_) | CollectError::NoReport { .. } => (StreamCondition::Failing, refused),
        CollectError::Portal(error) => match error.remedy() {
            Remedy::RenewToken => (StreamCondition::Rejected, passing),
            Remedy::MissingRole(_) => (StreamCondition::MissingRole, refused),
            Remedy::Retry { after: Some(after) } => {
                (StreamCondition::Failing, after.max(Duration::from_secs(1)))
            }
            _ => (StreamCondition::Failing, passing),
        },
    }
}
