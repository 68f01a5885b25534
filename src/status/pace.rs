//! How fast a stream is, and how long what it owes will take; read off what it published.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{StreamCondition, StreamStatus};

/// Rows a second are told of so long at least, and of two polls.
const WINDOW: Duration = Duration::from_secs(10);
/// A shorter time tells no rate.
const SHORTEST: Duration = Duration::from_secs(1);
/// Moments that are remembered.
const MOMENTS: usize = 32;
/// How often what is owed must have become less before an estimate is given …
const STEPS: usize = 3;
/// … and how much of it must be done, unless it was seen for so long, or in so many steps as are remembered.
const SHARE: f64 = 0.1;
const LONG: Duration = Duration::from_secs(60);

/// Time behind the live edge that is pending: what a first start, a backfill or an outage left to walk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Owed {
    /// Pending now.
    pub seconds: f64,
    /// Pending when it was most, since nothing was.
    pub of_seconds: f64,
    /// About how long the rest takes at the pace so far; absent until enough is done to tell, and while the
    /// stream is not well.
    pub remaining_seconds: Option<f64>,
}

/// What a stream published lately.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace {
    rows: VecDeque<(Instant, u64)>,
    /// Pending seconds, each less than the one before.
    owed: VecDeque<(Instant, f64)>,
    most: f64,
}

impl Pace {
    /// Takes what was published at this moment.
    pub(super) fn note(&mut self, stream: &StreamStatus, now: Instant) {
        let window = window(stream);
        let spaced = |(last, _): &(Instant, u64)| now - *last >= window / 16;
        if self.rows.back().is_none_or(spaced) {
            self.rows.push_back((now, stream.rows));
        }
        while self.rows.len() > MOMENTS || self.rows.get(1).is_some_and(|(at, _)| now - *at >= window) {
            self.rows.pop_front();
        }
        let Some(owed) = stream.owed else {
            (self.owed, self.most) = Default::default();
            return;
        };
        match self.owed.back() {
            Some((_, last)) if owed.seconds == *last => {}
            Some((_, last)) if owed.seconds < *last => self.owed.push_back((now, owed.seconds)),
            // More than before: it begins anew.
            _ => self.owed = VecDeque::from([(now, owed.seconds)]),
        }
        self.most = self.most.max(owed.seconds);
        if self.owed.len() > MOMENTS {
            self.owed.pop_front();
        }
    }

    /// Says in the stream's status how fast it is now.
    pub(super) fn tell(&self, stream: &mut StreamStatus, now: Instant) {
        let since = now.checked_sub(window(stream)).unwrap_or(now);
        let first = self.rows.iter().rev().find(|(at, _)| *at <= since).or(self.rows.front());
        stream.rows_per_second = first.and_then(|(at, rows)| {
            let seconds = (now - *at).as_secs_f64();
            let grown = stream.rows.saturating_sub(*rows);
            #[expect(clippy::cast_precision_loss, reason = "rows of some seconds")]
            (seconds >= SHORTEST.as_secs_f64()).then(|| grown as f64 / seconds)
        });
        let well = stream.condition == StreamCondition::Ok;
        if let Some(owed) = &mut stream.owed {
            owed.of_seconds = self.most.max(owed.seconds);
            owed.remaining_seconds = self.remaining(now).filter(|_| well);
        }
    }

    fn remaining(&self, now: Instant) -> Option<f64> {
        let ((began, first), (_, last)) = (self.owed.front()?, self.owed.back()?);
        let (took, done) = (now - *began, first - last);
        let steps = self.owed.len() - 1;
        let enough = steps >= STEPS && (took >= LONG || done >= SHARE * first || steps + 1 == MOMENTS);
        // Up to now, not to the last step: what stands still takes longer and longer.
        enough.then(|| last * took.as_secs_f64() / done)
    }
}

fn window(stream: &StreamStatus) -> Duration {
    let polls = Duration::try_from_secs_f64(2.0 * stream.every_seconds).unwrap_or_default();
    WINDOW.max(polls)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn owing(rows: u64, seconds: Option<f64>) -> StreamStatus {
        let owed = seconds.map(|seconds| Owed { seconds, ..Owed::default() });
        StreamStatus { rows, owed, condition: StreamCondition::Ok, ..StreamStatus::default() }
    }

    /// What is told at the end of a story of seconds, rows and pending seconds.
    fn told(story: &[(u64, u64, Option<f64>)], at: u64) -> StreamStatus {
        let (begin, mut pace, mut last) = (Instant::now(), Pace::default(), StreamStatus::default());
        for (second, rows, owed) in story {
            last = owing(*rows, *owed);
            pace.note(&last, begin + Duration::from_secs(*second));
        }
        pace.tell(&mut last, begin + Duration::from_secs(at));
        last
    }

    #[test]
    fn rows_a_second_are_those_of_the_last_ten_seconds() {
        let story: Vec<_> = (0..=60).map(|second| (second, 100 * second.min(30), None)).collect();
        assert_eq!(told(&story[..1], 0).rows_per_second, None, "one moment tells no rate");
        assert_eq!(told(&story[..31], 30).rows_per_second, Some(100.0));
        assert_eq!(told(&story[..36], 35).rows_per_second, Some(50.0));
        assert_eq!(told(&story, 60).rows_per_second, Some(0.0));
        assert_eq!(told(&story[..31], 1_000_030).rows_per_second.map(f64::round), Some(0.0));
    }

    #[test]
    fn no_estimate_is_given_before_enough_is_done_to_tell() {
        let owed = |story: &[(u64, f64)], at| {
            let story: Vec<_> = story.iter().map(|(second, owed)| (*second, 0, Some(*owed))).collect();
            told(&story, at).owed.unwrap()
        };
        let day = [(0, 86_400.0), (2, 80_000.0), (4, 74_000.0), (6, 68_000.0)];
        assert_eq!(owed(&day[..3], 5).remaining_seconds, None, "two steps");
        let enough = owed(&day, 6);
        let expected = 68_000.0 / (18_400.0 / 6.0);
        assert!((enough.remaining_seconds.unwrap() - expected).abs() < 1e-9, "{enough:?}");
        assert_eq!((enough.seconds, enough.of_seconds), (68_000.0, 86_400.0));
        let slow = [(0, 86_400.0), (2, 86_300.0), (4, 86_200.0), (6, 86_100.0)];
        assert_eq!(owed(&slow, 59).remaining_seconds, None, "a thousandth of it");
        assert!(owed(&slow, 60).remaining_seconds.is_some(), "seen for a minute");
        // Nothing moves any more: it takes longer, and does not end at once.
        assert!(owed(&day, 600).remaining_seconds > Some(20.0 * expected));
        // More is owed than before.
        let grown = [&day[..], &[(8, 200_000.0), (10, 100_000.0)]].concat();
        assert_eq!(
            owed(&grown, 10),
            Owed { seconds: 100_000.0, of_seconds: 200_000.0, remaining_seconds: None }
        );
    }

    #[test]
    fn a_stream_that_is_not_well_promises_no_end() {
        let (begin, mut pace) = (Instant::now(), Pace::default());
        for step in 0..9 {
            pace.note(
                &owing(0, Some(1000.0 - 100.0 * f64::from(step))),
                begin + Duration::from_secs(1) * step,
            );
        }
        for (condition, promised) in [(StreamCondition::Ok, true), (StreamCondition::Paused, false)] {
            let mut stream = StreamStatus { condition, ..owing(0, Some(200.0)) };
            pace.tell(&mut stream, begin + Duration::from_secs(9));
            assert_eq!(stream.owed.unwrap().remaining_seconds.is_some(), promised);
        }
    }

    proptest! {
        #[test]
        fn a_steady_pace_is_estimated_rightly_and_memory_is_bounded(
            step in 1_u64..30, speed in 1.0_f64..5_000.0, steps in 20_u32..400,
        ) {
            let whole = speed * f64::from(steps) * step as f64;
            let (begin, mut pace) = (Instant::now(), Pace::default());
            for done in 0..steps {
                let at = u64::from(done) * step;
                let stream = owing(7 * at, Some(whole - speed * at as f64));
                let now = begin + Duration::from_secs(at);
                pace.note(&stream, now);
                let mut told = stream.clone();
                pace.tell(&mut told, now);
                if let Some(remaining) = told.owed.unwrap().remaining_seconds {
                    let true_rest = (u64::from(steps - done) * step) as f64;
                    prop_assert!((remaining - true_rest).abs() < 1e-3 * true_rest, "{remaining} {true_rest}");
                }
                prop_assert!(pace.rows.len() <= MOMENTS && pace.owed.len() <= MOMENTS);
                prop_assert!(at == 0 || told.rows_per_second.is_some_and(|rate| (rate - 7.0).abs() < 1e-6));
                prop_assert!(done < steps / 5 || told.owed.unwrap().remaining_seconds.is_some());
            }
        }
    }
}
