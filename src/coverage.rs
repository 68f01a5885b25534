//! Which intervals of time are proven to be held completely: pure, no I/O, no clock.
//!
//! A [`Coverage`] is a set of intervals with a state and the evidence for it; what lies between them is
//! pending. A [`Walk`](walk::Walk) reads one interval page by page and says when it is proven.
//! [`Observed`] is what the portal has shown of its own ways. `collect::window` brings them together.

pub mod observed;
pub mod walk;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::{Micros, Seconds};

pub use observed::{Axis, Observed};

const DAY: Seconds = 86_400;

/// How the reason of an interval ends in which one id stands for several rows, so that some are taken for others.
pub const SHARED_ID: &str =
    "rows of one page bear the id of another row with another time and are taken for it";

/// What is known of an interval. Pending is the absence of an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Held = listed, when last checked.
    Proven,
    /// Nothing was listed where rows are usual, and nothing witnesses that nothing happened.
    EmptyUnconfirmed,
    /// Walks find nothing new, yet the portal counts more, or a row could not be decoded.
    StableUnproven,
    /// The portal cannot list it.
    Unreachable,
    /// Its retention ended before we came.
    Expired,
    /// Before the start: counted, not collected.
    Baseline,
}

impl State {
    /// The state's name in the store and in status; never changes once released.
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Proven => "proven",
            State::EmptyUnconfirmed => "empty_unconfirmed",
            State::StableUnproven => "stable_unproven",
            State::Unreachable => "unreachable",
            State::Expired => "expired",
            State::Baseline => "baseline",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        use State::{Baseline, EmptyUnconfirmed, Expired, Proven, StableUnproven, Unreachable};
        [Proven, EmptyUnconfirmed, StableUnproven, Unreachable, Expired, Baseline]
            .into_iter()
            .find(|state| state.as_str() == name)
    }
}

/// An interval `[from, to)` with what is known of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Interval {
    pub from: Seconds,
    pub to: Seconds,
    pub state: State,
    /// Rows that the portal counted when last asked; absent when it gives no totals.
    pub listed: Option<u64>,
    /// Distinct rows that the closing walk saw; 0 for what is left of a longer interval.
    pub held: u64,
    /// When it was last checked, on the portal's time.
    pub checked: Micros,
    /// Why it is not proven.
    pub reason: Option<String>,
}

impl Interval {
    /// Whether two neighbours tell the same story and may be told as one.
    fn joins(&self, next: &Interval) -> bool {
        self.to == next.from
            && self.state == next.state
            && self.reason == next.reason
            && self.from.div_euclid(DAY) == (next.to - 1).div_euclid(DAY)
            && matches!(self.state, State::Proven | State::EmptyUnconfirmed)
    }

    fn joined(self, next: Interval) -> Interval {
        Interval {
            to: next.to,
            listed: self.listed.zip(next.listed).map(|(a, b)| a + b),
            held: self.held + next.held,
            checked: self.checked.min(next.checked),
            ..self
        }
    }

    /// The part of the interval inside `[from, to)`. Counts were made for the whole: a part has none.
    fn clipped(&self, from: Seconds, to: Seconds) -> Option<Interval> {
        let (from, to) = (self.from.max(from), self.to.min(to));
        (from < to).then(|| {
            if (from, to) == (self.from, self.to) {
                self.clone()
            } else {
                Interval { from, to, listed: None, held: 0, ..self.clone() }
            }
        })
    }
}

/// Intervals that do not overlap, by their start. What lies between is pending.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    intervals: BTreeMap<Seconds, Interval>,
    /// The smallest range that holds every change since [`Coverage::take_changed`].
    changed: Option<(Seconds, Seconds)>,
}

impl Coverage {
    /// The coverage as loaded; later intervals win where two overlap.
    pub fn from_intervals(intervals: impl IntoIterator<Item = Interval>) -> Self {
        let mut coverage = Self::default();
        for interval in intervals {
            coverage.set(interval);
        }
        coverage.changed = None;
        coverage
    }

    pub fn intervals(&self) -> impl DoubleEndedIterator<Item = &Interval> {
        self.intervals.values()
    }

    /// The intervals that touch `[from, to)`, in order.
    pub fn within(&self, from: Seconds, to: Seconds) -> impl DoubleEndedIterator<Item = &Interval> {
        let first = self
            .intervals
            .range(..=from)
            .next_back()
            .filter(|(_, interval)| interval.to > from && from < to)
            .map_or(from, |(start, _)| *start);
        self.intervals.range(first..to.max(first)).map(|(_, interval)| interval)
    }

    /// The parts of `[from, to)` that no interval covers, in order.
    pub fn gaps(&self, from: Seconds, to: Seconds) -> Vec<(Seconds, Seconds)> {
        let mut gaps = Vec::new();
        let mut next = from;
        for interval in self.within(from, to) {
            if interval.from > next {
                gaps.push((next, interval.from));
            }
            next = next.max(interval.to);
        }
        if next < to {
            gaps.push((next, to));
        }
        gaps
    }

    /// Says what is known of an interval; what was known of that time before is replaced.
    pub fn set(&mut self, interval: Interval) {
        self.forget(interval.from, interval.to);
        let mut interval = interval;
        if let Some((_, before)) = self.intervals.range(..interval.from).next_back()
            && before.joins(&interval)
        {
            let before = before.from;
            interval = self.intervals.remove(&before).expect("just seen").joined(interval);
        }
        if let Some(after) = self.intervals.get(&interval.to)
            && interval.joins(after)
        {
            let after = self.intervals.remove(&interval.to).expect("just seen");
            interval = interval.joined(after);
        }
        self.touch(interval.from, interval.to);
        self.intervals.insert(interval.from, interval);
    }

    /// Makes `[from, to)` pending again.
    pub fn forget(&mut self, from: Seconds, to: Seconds) {
        let touched: Vec<Seconds> = self.within(from, to).map(|interval| interval.from).collect();
        for start in touched {
            let old = self.intervals.remove(&start).expect("listed a line above");
            self.touch(old.from, old.to);
            for rest in [old.clipped(Seconds::MIN, from), old.clipped(to, Seconds::MAX)].into_iter().flatten()
            {
                self.intervals.insert(rest.from, rest);
            }
        }
    }

    /// Notes that `[from, to)` was checked again and found as it was.
    pub fn confirm(&mut self, from: Seconds, to: Seconds, now: Micros) {
        let inside: Vec<Seconds> = self
            .within(from, to)
            .filter(|interval| interval.from >= from && interval.to <= to)
            .map(|interval| interval.from)
            .collect();
        for start in inside {
            let interval = self.intervals.get_mut(&start).expect("listed a line above");
            interval.checked = interval.checked.max(now);
            let (from, to) = (interval.from, interval.to);
            self.touch(from, to);
        }
    }

    /// Drops everything before `from`.
    pub fn expire_before(&mut self, from: Seconds) {
        self.forget(Seconds::MIN, from);
    }

    /// The end of the unbroken proven time from `start` on; what is not owed does not break it.
    pub fn proven_until(&self, start: Seconds) -> Seconds {
        let mut until = start;
        for interval in self.within(start, Seconds::MAX) {
            if interval.from > until || !matches!(interval.state, State::Proven | State::Baseline) {
                break;
            }
            until = interval.to;
        }
        until
    }

    /// The end of the newest interval.
    pub fn end(&self) -> Option<Seconds> {
        self.intervals.values().next_back().map(|interval| interval.to)
    }

    /// The range that was changed since this was last asked, and what stands in it now.
    pub fn take_changed(&mut self) -> Option<((Seconds, Seconds), Vec<Interval>)> {
        let (from, to) = self.changed.take()?;
        Some(((from, to), self.within(from, to).cloned().collect()))
    }

    fn touch(&mut self, from: Seconds, to: Seconds) {
        self.changed = Some(match self.changed {
            Some((first, last)) => (first.min(from), last.max(to)),
            None => (from, to),
        });
    }
}

#[cfg(test)]
mod tests;
