//! What a stream has proven and what not, as status tells it.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Owed, StreamStatus};
use crate::collect::snapshot::SnapshotNotes;
use crate::coverage::{Coverage, State};
use crate::model::{Micros, OrganizationId, SECOND, Seconds};

/// Unproven intervals shown for one stream.
const MOST_UNPROVEN: usize = 200;
/// Never walked, or not to the end.
const PENDING: &str = "pending";
/// Rows of a snapshot that are listed no more, too many at once to believe it.
const UNKNOWN: &str = "unknown";

/// An interval that is not proven, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unproven {
    pub organization: String,
    pub from: DateTime<Utc>,
    pub to: DateTime<Utc>,
    /// `pending`, a state of the coverage, or `unknown` for rows of a snapshot.
    pub state: String,
    pub reason: String,
    /// Rows that the portal counts, and rows held.
    pub listed: Option<u64>,
    pub held: Option<u64>,
}

/// All intervals of one state together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UnprovenSum {
    pub intervals: u64,
    /// Their length; where organizations are silent at the same time, each counts.
    pub seconds: f64,
}

impl StreamStatus {
    /// How people are told which stream it is.
    pub fn title(&self) -> String {
        [self.source.as_str(), &self.query, "of", &self.scope]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// Brings lag and staleness up to the moment, so that a stream that hangs is seen to lag.
    pub(super) fn age(&mut self, now: Micros, running: Duration) {
        let lag = self.live_until.map(|live| {
            Duration::from_micros((now - live.timestamp_micros()).max(0).unsigned_abs()).as_secs_f64()
        });
        self.lag_seconds = lag;
        self.stale =
            !self.one_by_one && lag.unwrap_or(running.as_secs_f64()) > (5.0 * self.every_seconds).max(600.0);
    }

    /// Takes over what a window stream has proven.
    pub fn of_coverage(&mut self, coverage: &Coverage, start: Seconds, edge: Seconds) {
        self.proven_until = utc(coverage.proven_until(start));
        let live = coverage.intervals().rev().find(|one| one.state == State::Proven && one.to <= edge + 60);
        self.live_until = utc(live.map_or(start, |one| one.to));
        let (mut unproven, mut owed) = (Vec::new(), 0);
        for (from, to) in coverage.gaps(start, edge) {
            // What reaches to the edge comes with the next poll.
            if to < edge {
                owed += to - from;
            }
            let reason = self.last_error.clone();
            let reason = reason.unwrap_or_else(|| "not walked yet, or not to the end".to_owned());
            unproven.push(self.unproven((seconds(from), seconds(to)), PENDING, reason));
        }
        for one in coverage.within(start, Seconds::MAX) {
            if matches!(one.state, State::Proven | State::Baseline) {
                continue;
            }
            let range = (seconds(one.from), seconds(one.to));
            let mut told = self.unproven(range, one.state.as_str(), one.reason.clone().unwrap_or_default());
            (told.listed, told.held) = (one.listed, Some(one.held));
            unproven.push(told);
        }
        #[expect(clippy::cast_precision_loss, reason = "seconds within a calendar's reach")]
        let pending = owed as f64;
        let whole = Owed { seconds: pending, of_seconds: pending, remaining_seconds: None };
        self.owed = (owed > 0).then_some(whole);
        self.silent_organizations = 0;
        self.set_unproven(unproven);
    }

    /// The state cannot be read: nothing is known of the time behind what was shown last.
    pub fn of_nothing(&mut self, edge: Seconds) {
        let mut unproven = std::mem::take(&mut self.unproven);
        let known = unproven.iter().filter(|one| one.state != PENDING).map(|one| one.to);
        let known = known.chain(self.live_until).max().filter(|known| *known < seconds(edge));
        if let Some(known) = known {
            unproven.retain(|one| one.state != PENDING || one.from < known);
            let reason = self.last_error.clone().unwrap_or_default();
            unproven.push(self.unproven((known, seconds(edge)), PENDING, reason));
        }
        self.set_unproven(unproven);
    }

    /// Adds the organizations that are silent inside a tree.
    pub fn add_silent(&mut self, silent: &BTreeMap<OrganizationId, Micros>, edge: Seconds) {
        let silent: Vec<Unproven> = silent
            .iter()
            .map(|(organization, since)| Unproven {
                organization: organization.to_string(),
                listed: Some(0),
                held: Some(0),
                ..self.unproven(
                    (micros(*since), seconds(edge)),
                    State::EmptyUnconfirmed.as_str(),
                    "lists nothing where its rows are usual, and nothing witnesses that nothing happened"
                        .to_owned(),
                )
            })
            .collect();
        self.silent_organizations = silent.len() as u64;
        for one in &silent {
            add(&mut self.unproven_sums, one);
        }
        // Whole organizations stand before intervals that may be left out for length.
        self.unproven.splice(0..0, silent);
        self.unproven_more += self.unproven.len().saturating_sub(MOST_UNPROVEN);
        self.unproven.truncate(MOST_UNPROVEN);
    }

    /// Takes over what a snapshot stream knows; `now` is the portal's time.
    pub fn of_snapshot(&mut self, notes: &SnapshotNotes, now: Micros) {
        let now = micros(now);
        self.proven_until = notes.complete.map(micros);
        self.live_until = self.proven_until;
        self.rows = notes.rows;
        self.skipped_statuses = notes.parts.skipped.iter().copied().collect();
        let mut unproven = Vec::new();
        if notes.complete.is_none() || notes.unproven.is_some() {
            let reason = notes.unproven.clone().or_else(|| self.last_error.clone());
            let reason = reason.unwrap_or_else(|| "not walked to the end yet".to_owned());
            unproven.push(self.unproven((self.proven_until.unwrap_or(now), now), PENDING, reason));
        }
        for hole in &notes.spans.holes {
            let reason =
                format!("the report shows nothing of this time, in which it was not run: {}", hole.why);
            let between = (micros(hole.from), micros(hole.to));
            unproven.push(self.unproven(between, State::Unreachable.as_str(), reason));
        }
        let since = notes.unknown_since.map_or(now, micros);
        for (organization, count) in &notes.unknown {
            let reason = format!(
                "{count} rows are listed no more, too many at once to believe it; check the role of the API user, \
                 or confirm with `lockstep confirm-removed`"
            );
            unproven.push(Unproven {
                organization: organization.clone(),
                held: Some(*count),
                ..self.unproven((since, now), UNKNOWN, reason)
            });
        }
        self.set_unproven(unproven);
    }

    /// The operator has confirmed that unknown rows are removed.
    pub(super) fn forget_unknown(&mut self) {
        self.unproven.retain(|one| one.state != UNKNOWN);
        self.unproven_sums.remove(UNKNOWN);
    }

    fn unproven(&self, (from, to): (DateTime<Utc>, DateTime<Utc>), state: &str, reason: String) -> Unproven {
        let (organization, state) = (self.organization.clone(), state.to_owned());
        // However the clocks were moved, nothing ends before it begins.
        let to = to.max(from);
        Unproven { organization, from, to, state, reason, listed: None, held: None }
    }

    fn set_unproven(&mut self, mut unproven: Vec<Unproven>) {
        self.unproven_sums.clear();
        for one in &unproven {
            add(&mut self.unproven_sums, one);
        }
        unproven.sort_by_key(|one| std::cmp::Reverse(one.to));
        self.unproven_more = unproven.len().saturating_sub(MOST_UNPROVEN);
        unproven.truncate(MOST_UNPROVEN);
        self.unproven = unproven;
    }
}

fn add(sums: &mut BTreeMap<String, UnprovenSum>, one: &Unproven) {
    let sum = sums.entry(one.state.clone()).or_default();
    sum.intervals += 1;
    sum.seconds += (one.to - one.from).as_seconds_f64().max(0.0);
}

fn utc(second: Seconds) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_micros(second.saturating_mul(SECOND))
}

/// As [`utc`], for bounds of intervals, which are always within a calendar's reach.
fn seconds(second: Seconds) -> DateTime<Utc> {
    utc(second).unwrap_or_default()
}

fn micros(time: Micros) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(time).unwrap_or_default()
}
