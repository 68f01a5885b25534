//! What can go wrong at a sink over HTTP, and whether it may pass by itself.

use std::time::Duration;

use crate::credentials::CredentialError;

/// A batch was not delivered, or only a part of it. Nothing of it was given up.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("{0}")]
    Secret(#[from] CredentialError),
    #[error("{0}")]
    Settings(String),
    #[error("{to} cannot be reached: {why}")]
    Unreachable { to: String, why: String },
    #[error("{to} gave no whole answer within {} s", after.as_secs())]
    TimedOut { to: String, after: Duration },
    #[error("{to} cannot take records now ({answer}){}", wait.map(|wait| format!(" and asks to be left alone for {} s", wait.as_secs())).unwrap_or_default())]
    Busy { to: String, answer: String, wait: Option<Duration> },
    #[error(
        "{to} refuses the credential ({answer}): write one that it takes to {from}; it is looked at every second, and \
         nothing is given up meanwhile"
    )]
    Denied { to: String, from: String, answer: String },
    #[error(
        "{to} does not take records there or in this way ({answer}): look at `url` and what stands before it"
    )]
    Refused { to: String, answer: String },
    #[error("{to} cannot take records before somebody mends it: {why}")]
    Broken { to: String, why: String },
    #[error(
        "{to} refused each of the first {refused} records alone, the last because: {reason}; the fault is hardly in \
         the records, and none was given up"
    )]
    RefusesAll { to: String, refused: usize, reason: String },
    #[error("{to} answered what this protocol does not know: {why}; is it what `type` says?")]
    Strange { to: String, why: String },
    #[error(
        "{to} numbers its acknowledgements anew: it was restarted, or several answer under this address without keeping \
         to one of them for each client; what it has not acknowledged is sent again"
    )]
    NumberedAnew { to: String },
    #[error("{to} took records and did not say within {} s that they are indexed; they are sent again", after.as_secs())]
    NotAcknowledged { to: String, after: Duration },
}

impl HttpError {
    /// Whether an operator has to act.
    pub fn holds(&self) -> bool {
        match self {
            HttpError::Settings(_)
            | HttpError::Denied { .. }
            | HttpError::Refused { .. }
            | HttpError::Broken { .. }
            | HttpError::RefusesAll { .. } => true,
            HttpError::Secret(_)
            | HttpError::Unreachable { .. }
            | HttpError::TimedOut { .. }
            | HttpError::Busy { .. }
            | HttpError::Strange { .. }
            | HttpError::NumberedAnew { .. }
            | HttpError::NotAcknowledged { .. } => false,
        }
    }

    /// How long the far side asks to be left alone.
    pub fn wait(&self) -> Option<Duration> {
        match self {
            HttpError::Busy { wait, .. } => *wait,
            _ => None,
        }
    }
}
