//! What the state says of every stream, made ready for people and machines.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::collect::snapshot::SnapshotNotes;
use crate::collect::window::Notes;
use crate::config::{Config, Connection, SourceConfig};
use crate::coverage::{self, State};
use crate::model::{Micros, SECOND, Seconds};
use crate::schedule::is_configured;
use crate::source::{Shape, by_name};
use crate::status::Status;
use crate::store::connections::ConnectionRow;
use crate::store::streams::StoredStream;
use crate::store::{Store, StoreError, connections, streams};

/// Never walked, or not to the end.
pub(super) const PENDING: &str = "pending";
/// Younger than the last poll: the next one asks for it.
pub(super) const UPCOMING: &str = "upcoming";

/// The coverage of some streams at one moment.
#[derive(Debug, Serialize)]
pub(super) struct Picture {
    /// On our clock.
    pub(super) taken: DateTime<Utc>,
    /// Whether a service is running on the state.
    pub(super) running: bool,
    pub(super) sites: Vec<SiteCoverage>,
}

#[derive(Debug, Serialize)]
pub(super) struct SiteCoverage {
    pub(super) site: String,
    /// The portal's time, as far as the state knows how far it is from ours.
    pub(super) portal_time: DateTime<Utc>,
    pub(super) streams: Vec<StreamCoverage>,
}

#[derive(Debug, Serialize)]
pub(super) struct StreamCoverage {
    pub(super) source: String,
    /// `tree`, or the organization's id.
    pub(super) scope: String,
    /// Part of the source and what narrows the query, where there is any.
    pub(super) query: String,
    #[serde(flatten)]
    pub(super) covered: Covered,
}

/// What is known, by the shape of the source.
#[derive(Debug, Serialize)]
#[serde(tag = "shape", rename_all = "snake_case")]
pub(super) enum Covered {
    /// Asked by interval.
    Window {
        /// Where what is owed begins; absent before the first poll.
        start: Option<DateTime<Utc>>,
        /// The end of the time that is old enough to be listed completely.
        edge: DateTime<Utc>,
        /// Without a hole from the oldest to the edge.
        intervals: Vec<Stretch>,
        /// Organizations inside a tree that list nothing although their rows are usual, and since when.
        silent: BTreeMap<String, DateTime<Utc>>,
    },
    /// Asked as a whole.
    Snapshot {
        /// The last complete walk.
        walked: Option<DateTime<Utc>>,
        /// Why the last one was none.
        reason: Option<String>,
        /// Rows that are listed no more, too many at once to believe it, by organization.
        unknown: BTreeMap<String, u64>,
    },
}

/// An interval with its evidence.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Stretch {
    pub(super) from: DateTime<Utc>,
    pub(super) to: DateTime<Utc>,
    /// `pending`, `upcoming`, or a state of the coverage.
    pub(super) state: &'static str,
    /// Rows that the portal counted, where it counts and the interval was asked as a whole.
    pub(super) listed: Option<u64>,
    /// Rows that the walk saw, likewise.
    pub(super) held: Option<u64>,
    /// When the portal was last asked.
    pub(super) checked: Option<DateTime<Utc>>,
    /// Why it is not proven.
    pub(super) reason: Option<String>,
}

/// What is asked for; no site and no sources mean all.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) site: Option<&'a str>,
    pub(super) sources: &'a [String],
}

impl Asked<'_> {
    fn wants(&self, source: &str) -> bool {
        self.sources.is_empty() || self.sources.iter().any(|one| one == source)
    }
}

type Stored = (ConnectionRow, Vec<(StoredStream, Vec<coverage::Interval>)>);

impl Picture {
    /// Reads the state at one moment. `taken` is now on our clock; `running`: what a running program says,
    /// for the reasons of what is pending.
    pub(super) async fn take(
        store: &Store,
        config: &Config,
        asked: Asked<'_>,
        running: Option<&Status>,
        taken: DateTime<Utc>,
    ) -> Result<Self, StoreError> {
        let stored = store.read(read).await?;
        let wanted = |connection: &&Connection| asked.site.is_none_or(|site| site == connection.site);
        let sites = config.connections.iter().filter(wanted).map(|connection| {
            let known = stored.iter().find(|(row, _)| row.site == connection.site);
            site(connection, known, asked, running, taken)
        });
        Ok(Self { taken, running: running.is_some(), sites: sites.collect() })
    }
}

fn read(db: &rusqlite::Connection) -> Result<Vec<Stored>, StoreError> {
    let mut stored = Vec::new();
    for connection in connections::list(db)? {
        let mut held = Vec::new();
        for stream in streams::list(db, connection.id)? {
            let intervals = streams::intervals(db, stream.id)?;
            held.push((stream, intervals));
        }
        stored.push((connection, held));
    }
    Ok(stored)
}

fn site(
    connection: &Connection,
    known: Option<&Stored>,
    asked: Asked<'_>,
    running: Option<&Status>,
    taken: DateTime<Utc>,
) -> SiteCoverage {
    let ours = taken.timestamp_micros();
    let now = known.map_or(ours, |(row, _)| row.portal_time(ours));
    let streams = known.iter().flat_map(|(_, streams)| streams).filter(|(row, _)| asked.wants(&row.source));
    let streams = streams.filter_map(|(row, intervals)| {
        let config = connection.sources.get(row.source.as_str()).filter(|config| config.enabled)?;
        if !is_configured(connection, &row.source, &row.scope, &row.fingerprint) {
            return None;
        }
        let error = running.and_then(|status| last_error(status, &connection.site, row));
        Some(StreamCoverage {
            source: row.source.clone(),
            scope: row.scope.clone(),
            query: row.fingerprint.clone(),
            covered: match by_name(&row.source)?.shape() {
                Shape::Window { .. } => window(row, intervals, config, error, now),
                Shape::Snapshot { .. } => snapshot(row, error),
            },
        })
    });
    SiteCoverage { site: connection.site.clone(), portal_time: micros(now), streams: streams.collect() }
}

fn last_error(status: &Status, site: &str, row: &StoredStream) -> Option<String> {
    let site = status.sites.iter().find(|one| one.site == site)?;
    let same = |one: &&crate::status::StreamStatus| {
        (&one.source, &one.scope, &one.query) == (&row.source, &row.scope, &row.fingerprint)
    };
    site.streams.iter().find(same)?.last_error.clone()
}

fn window(
    row: &StoredStream,
    intervals: &[coverage::Interval],
    config: &SourceConfig,
    error: Option<String>,
    now: Micros,
) -> Covered {
    let notes: Notes = serde_json::from_str(&row.notes).unwrap_or_default();
    let seconds = |length: Duration| Seconds::try_from(length.as_secs()).unwrap_or(Seconds::MAX / 2);
    let edge = now.div_euclid(SECOND) - seconds(config.settle);
    let known = coverage::Coverage::from_intervals(intervals.to_vec());
    let mut stretches: Vec<Stretch> = known.intervals().map(stretch).collect();
    if let Some(start) = notes.start {
        // As long as status calls no stream stale.
        let patience = seconds((config.every * 5).max(Duration::from_secs(600)));
        for (from, to) in known.gaps(start, edge) {
            let upcoming = to == edge && to - from <= patience && error.is_none();
            let (state, reason) = match (upcoming, &error) {
                (true, _) => (UPCOMING, "the next poll asks for it".to_owned()),
                (false, Some(error)) => (PENDING, error.clone()),
                (false, None) => (PENDING, "not walked yet, or not to the end".to_owned()),
            };
            let (from, to) = (at(from), at(to));
            let reason = Some(reason);
            stretches.push(Stretch { from, to, state, listed: None, held: None, checked: None, reason });
        }
        stretches.sort_by_key(|one| one.from);
    }
    Covered::Window {
        start: notes.start.map(at),
        edge: at(edge),
        intervals: stretches,
        silent: notes.silent.iter().map(|(id, since)| (id.to_string(), micros(*since))).collect(),
    }
}

fn stretch(one: &coverage::Interval) -> Stretch {
    // What is left of a longer interval has no counts of its own.
    let held = (one.listed.is_some() || one.held > 0).then_some(one.held);
    let reason = match one.state {
        State::Baseline => Some("before the start: counted, not collected".to_owned()),
        _ => one.reason.clone(),
    };
    Stretch {
        from: at(one.from),
        to: at(one.to),
        state: one.state.as_str(),
        listed: one.listed,
        held,
        checked: Some(micros(one.checked)),
        reason,
    }
}

fn snapshot(row: &StoredStream, error: Option<String>) -> Covered {
    let notes: SnapshotNotes = serde_json::from_str(&row.notes).unwrap_or_default();
    Covered::Snapshot {
        walked: notes.complete.map(micros),
        reason: notes.unproven.clone().or(error),
        unknown: notes.unknown.iter().map(|(id, count)| (id.to_string(), *count)).collect(),
    }
}

fn at(second: Seconds) -> DateTime<Utc> {
    DateTime::from_timestamp(second, 0).unwrap_or_default()
}

fn micros(time: Micros) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(time).unwrap_or_default()
}
