//! A point in time as it is typed.

use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};

use crate::model::{Micros, SECOND, Seconds};

/// A time, or how long ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    At(DateTime<Utc>),
    Ago(Duration),
}

impl Moment {
    /// The second it means when it is `now`.
    pub(super) fn second(self, now: Micros) -> Seconds {
        match self {
            Moment::At(at) => at.timestamp(),
            Moment::Ago(ago) => {
                let ago = Seconds::try_from(ago.as_secs()).unwrap_or(Seconds::MAX / SECOND);
                now.div_euclid(SECOND).saturating_sub(ago)
            }
        }
    }
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(at) = DateTime::parse_from_rfc3339(text) {
            return Ok(Moment::At(at.to_utc()));
        }
        if let Ok(day) = text.parse::<NaiveDate>() {
            return Ok(Moment::At(day.and_time(NaiveTime::MIN).and_utc()));
        }
        humantime::parse_duration(text)
            .map(Moment::Ago)
            .map_err(|_| "expected a time such as 2026-03-01T06:00:00Z, a date such as 2026-03-01, or how long ago such as 30d".to_owned())
    }
}
