//! From an entry of the outbox to the bytes that a sink writes.
//!
//! A format is a pure function of the entry and what its chunk says of it: two sinks, or a replay, give the
//! same bytes. It knows neither sinks nor the store.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::formats::raw;
use crate::model::{Entry, Lane, Micros};

/// The shape of what a sink receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// The vendor's row in an envelope, one JSON line an entry.
    Raw,
}

/// What every entry of a chunk shares.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    pub site: &'a str,
    pub source: &'a str,
    pub lane: Lane,
    /// When the rows were collected, on the portal's time.
    pub collected: Micros,
}

/// Why an entry has no encoding; it becomes a dead letter of the sink.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    #[error("the {what} is no JSON: {reason}")]
    NotJson { what: &'static str, reason: String },
    #[error("the time of collection ({0} microseconds since 1970) cannot be written as a date")]
    Collected(Micros),
}

impl Format {
    /// The format's key in the configuration and in the state; never changes once released.
    pub fn as_str(self) -> &'static str {
        match self {
            Format::Raw => "raw",
        }
    }

    /// Appends the entry to `out`, ended by a line feed. On an error `out` is as it was.
    pub fn encode(self, origin: Origin<'_>, entry: &Entry<'_>, out: &mut Vec<u8>) -> Result<(), FormatError> {
        let before = out.len();
        let result = match self {
            Format::Raw => raw::encode(origin, entry, out),
        };
        if result.is_err() {
            out.truncate(before);
        }
        result
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "raw" => Ok(Format::Raw),
            other => Err(format!("unknown format \"{other}\"; known: raw")),
        }
    }
}
