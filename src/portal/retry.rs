//! When to ask again: our own back-off and the portal's `Retry-After`.

use std::time::{Duration, SystemTime};

use chrono::DateTime;
use reqwest::header::{HeaderMap, HeaderValue};

use crate::model::{Micros, SECOND};

/// The longest wait a portal can impose with one answer.
pub(crate) const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// The wait before try `attempt + 1` (counted from 0): doubling from `first`, never above `longest`, spread
/// over its upper half by `fraction` in `[0, 1)` so that many streams do not come back at once.
pub(crate) fn backoff(first: Duration, longest: Duration, attempt: u32, fraction: f64) -> Duration {
    let doubled = first.saturating_mul(2u32.saturating_pow(attempt.saturating_add(1)));
    let ceiling = doubled.min(longest);
    (ceiling / 2).mul_f64(1.0 + fraction).clamp(first.min(longest), longest)
}

/// What `Retry-After` asks for, in seconds or as a date (RFC 9110 section 10.2.3), capped at an hour. A date is
/// measured from `now`, by the clock of whoever answered. An unreadable header asks for nothing.
pub(crate) fn retry_after(headers: &HeaderMap, now: Micros) -> Option<Duration> {
    let text = headers.get(reqwest::header::RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        let until = http_date(text)?;
        Duration::from_micros(u64::try_from(until.saturating_sub(now)).unwrap_or(0))
    };
    Some(wait.min(LONGEST_RETRY_AFTER))
}

/// The `Date` header in microseconds.
pub(crate) fn date(headers: &HeaderMap) -> Option<Micros> {
    headers.get(reqwest::header::DATE).map(HeaderValue::to_str)?.ok().and_then(http_date)
}

/// A date in any of the three forms of RFC 9110 section 5.6.7, and with a numeric zone as mail has it.
fn http_date(text: &str) -> Option<Micros> {
    let seconds = match httpdate::parse_http_date(text) {
        Ok(date) => i64::try_from(date.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs()).ok()?,
        Err(_) => DateTime::parse_from_rfc2822(text).ok()?.timestamp(),
    };
    Some(seconds.saturating_mul(SECOND))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn asked(text: &str, now: Micros) -> Option<Duration> {
        retry_after(&HeaderMap::from_iter([(reqwest::header::RETRY_AFTER, text.parse().unwrap())]), now)
    }

    const NOON: &str = "Sun, 01 Mar 2026 12:00:00 GMT";

    #[test]
    fn a_retry_after_is_seconds_or_a_date() {
        let noon = http_date(NOON).unwrap();
        assert_eq!(asked("30", 0), Some(Duration::from_secs(30)));
        let forms =
            [NOON, "Sunday, 01-Mar-26 12:00:00 GMT", "Sun Mar  1 12:00:00 2026", "1 Mar 2026 13:00:00 +0100"];
        for form in forms {
            assert_eq!(asked(form, noon - 90 * SECOND), Some(Duration::from_secs(90)), "{form}");
        }
        for nonsense in ["", "soon", "-5", "1.5", "Sun, 01 Mar"] {
            assert_eq!(asked(nonsense, 0), None, "{nonsense:?}");
        }
    }

    #[test]
    fn a_retry_after_date_in_the_past_means_now() {
        assert_eq!(asked(NOON, http_date(NOON).unwrap() + SECOND), Some(Duration::ZERO));
    }

    #[test]
    fn a_retry_after_is_at_most_an_hour() {
        for long in ["3601", "99999999999999999999999999", "Sun, 01 Mar 2099 12:00:00 GMT"] {
            assert!(asked(long, 0).is_none_or(|wait| wait == LONGEST_RETRY_AFTER), "{long}");
        }
        assert_eq!(asked("99999999999999999999999999", 0), Some(LONGEST_RETRY_AFTER));
    }

    #[test]
    fn many_that_back_off_together_come_back_over_half_of_the_wait() {
        for attempt in [0, 3, 9] {
            let longest = Duration::from_secs(60);
            let wait = |part| backoff(Duration::from_secs(1), longest, attempt, f64::from(part) / 8.0);
            let waits: Vec<Duration> = (0..8).map(wait).collect();
            let ceiling = Duration::from_secs(2 << attempt).min(longest);
            let even = ceiling / 2 / 8;
            for two in waits.windows(2) {
                let apart = two[1] - two[0];
                assert!(apart.abs_diff(even) < Duration::from_millis(1), "{attempt}: {waits:?}");
            }
            assert_eq!(waits[0], ceiling / 2);
        }
    }

    proptest! {
        #[test]
        fn no_retry_after_panics_or_exceeds_the_cap(text in "[ -~]{0,40}", now in any::<i64>()) {
            prop_assert!(asked(&text, now).is_none_or(|wait| wait <= LONGEST_RETRY_AFTER));
        }

        #[test]
        fn a_back_off_stays_within_its_bounds_and_never_shrinks(attempt in 0u32..5000, fraction in 0.0f64..1.0, first in 1u64..5000, longest in 1u64..100_000) {
            let (first, longest) = (Duration::from_millis(first), Duration::from_millis(longest.max(first)));
            let wait = backoff(first, longest, attempt, fraction);
            prop_assert!(wait >= first && wait <= longest);
            prop_assert!(backoff(first, longest, attempt + 1, fraction) >= wait);
        }
    }
}
