//! The pace of one credential: so many requests a second, slower while the portal is slow.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

/// Spaces requests evenly: two starts are never closer than one over the rate. Hence any second, wherever it
/// begins, holds at most `ceil(rate)` starts; nothing is saved up for a burst. Waiters go in order of arrival.
#[derive(Debug)]
pub(crate) struct Pace {
    /// The least time between two starts; zero is unlimited.
    spacing: Mutex<Duration>,
    last: tokio::sync::Mutex<Option<Instant>>,
    latency: Mutex<Latency>,
}

impl Pace {
    pub(crate) fn new(per_second: Option<f64>) -> Self {
        Self {
            spacing: Mutex::new(spacing(per_second)),
            last: Default::default(),
            latency: Default::default(),
        }
    }

    /// Another rate, from the next turn on.
    pub(crate) fn set(&self, per_second: Option<f64>) {
        *self.spacing.lock().expect("no holder of the spacing panics") = spacing(per_second);
    }

    /// The least time between two starts while the portal is not slow.
    #[cfg(test)]
    pub(crate) fn spacing(&self) -> Duration {
        *self.spacing.lock().expect("no holder of the spacing panics")
    }

    /// Waits for the turn of one request, which then starts at once; returns when that was.
    pub(crate) async fn turn(&self) -> Instant {
        let mut last = self.last.lock().await;
        let slowdown = self.latency.lock().expect("no holder of the latency panics").slowdown();
        let spacing = self.spacing.lock().expect("no holder of the spacing panics").mul_f64(slowdown);
        // Slept under the lock, and counted from the waking, so that a late timer never brings two starts closer.
        if let Some(last) = *last {
            tokio::time::sleep_until(last + spacing).await;
        }
        let now = Instant::now();
        *last = Some(now);
        now
    }

    /// Takes the time to the headers of an answer.
    pub(crate) fn observe(&self, latency: Duration) {
        self.latency.lock().expect("no holder of the latency panics").observe(latency);
    }

    /// The usual latency now, in seconds.
    pub(crate) fn latency(&self) -> Option<f64> {
        self.latency.lock().expect("no holder of the latency panics").0.map(|(current, _)| current)
    }
}

fn spacing(per_second: Option<f64>) -> Duration {
    let day = Duration::from_secs(86_400);
    per_second.map_or(Duration::ZERO, |rate| {
        Duration::try_from_secs_f64(1.0 / rate).map_or(day, |gap| gap.min(day))
    })
}

/// The current and the usual latency in seconds, as moving averages.
#[derive(Debug, Default)]
struct Latency(Option<(f64, f64)>);

impl Latency {
    /// Below this nobody is in distress, and noise would count as doubling.
    const FLOOR: f64 = 0.1;

    fn observe(&mut self, latency: Duration) {
        let seen = latency.as_secs_f64();
        self.0 = Some(match self.0 {
            None => (seen, seen),
            Some((current, usual)) => {
                // The usual latency falls quickly and rises slowly, so a slow hour does not become the norm at once.
                let weight = if seen < usual { 0.2 } else { 0.002 };
                (current + 0.3 * (seen - current), usual + weight * (seen - usual))
            }
        });
    }

    /// By how much to stretch the spacing: 1 up to twice the usual latency, 4 at most.
    fn slowdown(&self) -> f64 {
        self.0.map_or(1.0, |(current, usual)| (current / (2.0 * usual.max(Self::FLOOR))).clamp(1.0, 4.0))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    fn starts(rate: f64, late: &[u64]) -> Vec<Instant> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let pace = Arc::new(Pace::new(Some(rate)));
            let waiting: Vec<_> = late
                .iter()
                .map(|&late| {
                    let pace = Arc::clone(&pace);
                    tokio::spawn(async move {
                        tokio::time::sleep(Duration::from_millis(late)).await;
                        pace.turn().await
                    })
                })
                .collect();
            let mut starts = Vec::new();
            for waiting in waiting {
                starts.push(waiting.await.unwrap());
            }
            starts.sort();
            starts
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        #[test]
        fn no_window_holds_more_than_the_rate(rate in 50.0f64..400.0, late in proptest::collection::vec(0u64..60, 1..30)) {
            let starts = starts(rate, &late);
            for window in [20u64, 50, 100] {
                let window = Duration::from_millis(window);
                let allowed = (window.as_secs_f64() * rate).ceil();
                for first in &starts {
                    let inside = starts.iter().filter(|start| *start >= first && **start < *first + window).count();
                    prop_assert!(inside as f64 <= allowed, "{inside} of {allowed} in {window:?} at {rate}/s");
                }
            }
        }

        #[test]
        fn the_slowdown_is_between_one_and_four(samples in proptest::collection::vec(0u64..100_000, 0..50)) {
            let mut latency = Latency::default();
            for sample in samples {
                latency.observe(Duration::from_millis(sample));
                prop_assert!((1.0..=4.0).contains(&latency.slowdown()));
            }
        }
    }

    #[test]
    fn doubled_latency_slows_down_and_recovery_speeds_up() {
        let mut latency = Latency::default();
        let observe = |latency: &mut Latency, millis, times| {
            (0..times).for_each(|_| latency.observe(Duration::from_millis(millis)));
        };
        observe(&mut latency, 300, 50);
        assert_eq!(latency.slowdown(), 1.0);
        observe(&mut latency, 500, 20);
        assert_eq!(latency.slowdown(), 1.0, "not doubled yet");
        observe(&mut latency, 1500, 20);
        assert!(latency.slowdown() > 1.5);
        observe(&mut latency, 300, 20);
        assert_eq!(latency.slowdown(), 1.0);
    }

    #[tokio::test]
    async fn another_rate_holds_from_the_next_turn_on() {
        let pace = Pace::new(None);
        pace.turn().await;
        pace.set(Some(20.0));
        let before = Instant::now();
        pace.turn().await;
        pace.turn().await;
        assert!(before.elapsed() >= Duration::from_millis(95), "{:?}", before.elapsed());
    }
}
