//! One file a format; [`crate::format`] chooses between them.

pub mod ecs;
pub mod ocsf;
pub mod out;
pub mod raw;

use chrono::{DateTime, Datelike, SecondsFormat, Utc};

use crate::model::Micros;

/// A time in UTC with microseconds; none outside of the years that RFC 3339 can say.
pub(crate) fn rfc3339(at: Micros) -> Option<String> {
    let at: DateTime<Utc> = DateTime::from_timestamp_micros(at)?;
    (0..=9999).contains(&at.year()).then(|| at.to_rfc3339_opts(SecondsFormat::Micros, true))
}
