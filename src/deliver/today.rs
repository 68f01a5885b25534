//! What a sink was given on a UTC day, and whether that is more than its operator wants.

use chrono::NaiveDate;

use super::{Today, Worker};
use crate::store::sink_days::Given;

impl Worker {
    /// Tells what the sink was given today, and once a day that it is more than the operator wants.
    pub(super) fn tell_today(&self, day: NaiveDate, Given { records, bytes }: Given) {
        let today = Today { day, records, bytes, max_per_day: self.max_per_day };
        let now = self.clock.now();
        self.status.send_modify(|status| {
            let told = status.today.and_then(|before| before.passed(now));
            if let (Some(max), None) = (today.passed(now), told) {
                tracing::warn!(
                    bytes,
                    max,
                    "the sink was given more than max_per_day today; delivering goes on"
                );
            }
            status.today = Some(today);
        });
    }
}

/// Days since 1970.
pub(super) fn day_number(day: NaiveDate) -> i64 {
    (day - NaiveDate::default()).num_days()
}
