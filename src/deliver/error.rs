//! Why a round of delivery failed, and what to do about it.

use std::time::Duration;

use super::inventory;
use crate::redact::RedactError;
use crate::sink::{Remedy, SinkError};
use crate::store::StoreError;

/// Why a round failed.
#[derive(Debug, thiserror::Error)]
pub enum DeliverError {
    #[error(transparent)]
    Sink(#[from] SinkError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Redact(#[from] RedactError),
    #[error(
        "`select.organizations` names {name}, and no organization is known by that id, name or short name: correct it; \
         until then nothing is passed over"
    )]
    UnknownOrganization { name: String },
    #[error(
        "{refused} of the last 1,000 records were refused, the last because: {reason}; none of this \
         batch was given up. The fault is hardly in the records: look at the reason, and at what changed"
    )]
    Refused { refused: usize, reason: String },
    #[error(
        "the far side knows less than it confirmed: the {lane} lane up to entry {number}. Its positions were lost, or it is \
         another one. Bring back what it had; or deliver to it under another name of the sink, from the oldest entry that \
         is kept"
    )]
    PositionsLost { lane: &'static str, number: i64 },
    #[error(transparent)]
    Inventory(#[from] inventory::InventoryError),
    #[error("the dead letters fill their {limit} bytes: look at them and prune them, or raise the limit")]
    DeadLettersFull { limit: u64 },
}

impl DeliverError {
    /// What to do about it.
    pub fn remedy(&self) -> Remedy {
        match self {
            DeliverError::Sink(error) => error.remedy(),
            DeliverError::Redact(_)
            | DeliverError::UnknownOrganization { .. }
            | DeliverError::Inventory(_) => Remedy::Retry,
            DeliverError::Store(error) if error.is_transient() => Remedy::Retry,
            DeliverError::Store(_)
            | DeliverError::Refused { .. }
            | DeliverError::PositionsLost { .. }
            | DeliverError::DeadLettersFull { .. } => Remedy::Hold,
        }
    }

    /// How long the far side asks to be left alone.
    pub(super) fn wait(&self) -> Option<Duration> {
        match self {
            DeliverError::Sink(error) => error.wait(),
            _ => None,
        }
    }
}
