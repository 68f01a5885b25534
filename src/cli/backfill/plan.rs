//! What a backfill takes: pure, from what the state knows.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::cli::moment::Moment;
use crate::cli::table::time;
use crate::collect::window::{Notes, lasting};
use crate::config::{Connection, SourceConfig};
use crate::coverage::{Coverage, Interval, State};
use crate::model::{Micros, SECOND, Seconds};
use crate::schedule::is_configured;
use crate::source::{Shape, by_name};
use crate::store::connections::ConnectionRow;
use crate::store::streams::StoredStream;
use crate::store::{StoreError, connections, streams};

const DAY: Seconds = 86_400;

/// What is asked for, on the portal's time; without an end, up to where coverage begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    from: Seconds,
    to: Option<Seconds>,
}

impl Span {
    pub(super) fn resolve(from: Moment, to: Option<Moment>, now: Micros) -> Result<Self, String> {
        let (from, to) = (from.second(now), to.map(|to| to.second(now)));
        if from >= now.div_euclid(SECOND) {
            return Err(format!("--from {} lies in the portal's future", time(Some(at(from)))));
        }
        match to {
            Some(to) if to <= from => Err(format!(
                "--to {} does not lie behind --from {}",
                time(Some(at(to))),
                time(Some(at(from)))
            )),
            to => Ok(Self { from, to }),
        }
    }
}

/// A site's streams with what each would be asked for.
#[derive(Debug, Serialize)]
pub(super) struct Plan {
    pub(super) site: String,
    pub(super) portal_time: DateTime<Utc>,
    pub(super) streams: Vec<StreamPlan>,
    pub(super) requests: u64,
    /// At the site's rate; absent where that is unlimited.
    pub(super) minutes: Option<f64>,
}

#[derive(Debug, Serialize)]
pub(super) struct StreamPlan {
    #[serde(skip)]
    pub(super) id: i64,
    #[serde(skip)]
    pub(super) begin: Seconds,
    #[serde(skip)]
    pub(super) end: Seconds,
    pub(super) source: String,
    /// `tree`, or the organization's id.
    pub(super) scope: String,
    pub(super) query: String,
    pub(super) from: DateTime<Utc>,
    pub(super) to: DateTime<Utc>,
    /// Seconds of it that are not owed yet.
    pub(super) seconds: Seconds,
    /// Rows in them; absent where nothing tells.
    pub(super) rows: Option<u64>,
    /// By the rows a day that were collected so far, at least in part; else the portal counted them.
    pub(super) estimated: bool,
    pub(super) requests: Option<u64>,
    pub(super) minutes: Option<f64>,
    /// What differs from what was asked for.
    pub(super) note: Option<String>,
}

/// A stream as stored with its intervals.
pub(super) type Stored = (StoredStream, Vec<Interval>);

/// The streams of a site, if it is known to the state.
pub(super) fn read(
    db: &rusqlite::Connection,
    site: &str,
) -> Result<Option<(ConnectionRow, Vec<Stored>)>, StoreError> {
    let Some(row) = connections::list(db)?.into_iter().find(|row| row.site == site) else { return Ok(None) };
    let mut stored = Vec::new();
    for stream in streams::list(db, row.id)? {
        let intervals = streams::intervals(db, stream.id)?;
        stored.push((stream, intervals));
    }
    Ok(Some((row, stored)))
}

impl Plan {
    /// `now`: the portal's time. No sources mean all.
    pub(super) fn new(
        connection: &Connection,
        stored: &[Stored],
        sources: &[String],
        span: Span,
        now: Micros,
    ) -> Self {
        let wanted = |(row, _): &&Stored| sources.is_empty() || sources.contains(&row.source);
        let streams = stored.iter().filter(wanted).filter_map(|(row, intervals)| {
            let config = connection.sources.get(row.source.as_str()).filter(|config| config.enabled)?;
            let by_time = matches!(by_name(&row.source)?.shape(), Shape::Window { .. });
            let configured = is_configured(connection, &row.source, &row.scope, &row.fingerprint);
            let start =
                serde_json::from_str::<Notes>(&row.notes).ok()?.start.filter(|_| by_time && configured)?;
            let coverage = Coverage::from_intervals(intervals.clone());
            Some(stream(row, &coverage, start, config, connection.rate.per_second, span, now))
        });
        let streams: Vec<StreamPlan> = streams.collect();
        let requests = streams.iter().filter_map(|stream| stream.requests).sum();
        let minutes = connection.rate.per_second.map(|rate| minutes(requests, rate));
        Self {
            site: connection.site.clone(),
            portal_time: at(now.div_euclid(SECOND)),
            streams,
            requests,
            minutes,
        }
    }

    /// The streams that would owe more than they do.
    pub(super) fn wanted(&self) -> impl Iterator<Item = &StreamPlan> {
        self.streams.iter().filter(|stream| stream.seconds > 0)
    }
}

fn stream(
    row: &StoredStream,
    coverage: &Coverage,
    start: Seconds,
    config: &SourceConfig,
    rate: Option<f64>,
    span: Span,
    now: Micros,
) -> StreamPlan {
    let whole = |length: Duration| Seconds::try_from(length.as_secs()).unwrap_or(Seconds::MAX / 2);
    let (now, mut note) = (now.div_euclid(SECOND), None);
    let edge = now - whole(config.settle);
    let mut begin = span.from;
    let first = lasting(now, whole(config.retention));
    if begin < first {
        begin = first;
        note = Some(format!(
            "the portal keeps {}, so older time cannot be had; begins a little behind that, since the oldest is walked last",
            crate::config::human(config.retention)
        ));
    }
    let end = span.to.unwrap_or(edge).min(edge).max(begin);
    let owing = unowed(coverage, start, begin, end);
    let seconds = owing.iter().map(|(from, to)| to - from).sum();
    if seconds == 0 && note.is_none() {
        note = Some(format!("owed already, since {}", time(Some(at(start)))));
    }
    let (rows, estimated) = rows(coverage, &owing);
    let pieces =
        owing.iter().map(|(from, to)| (to - from).unsigned_abs().div_ceil(DAY.unsigned_abs())).sum::<u64>();
    // Each piece costs a request beside its pages.
    let requests = rows.map(|rows| rows.div_ceil(config.page_size.into()) + pieces);
    StreamPlan {
        id: row.id,
        begin,
        end,
        source: row.source.clone(),
        scope: row.scope.clone(),
        query: row.fingerprint.clone(),
        from: at(begin),
        // What people read: the time that is collected anew ends where what is owed begins.
        to: at(owing.last().map_or(end, |(_, to)| *to)),
        seconds,
        rows,
        estimated,
        requests,
        minutes: requests.zip(rate).map(|(requests, rate)| minutes(requests, rate)),
        note,
    }
}

/// The parts of `[from, to)` that are not owed: before the start, and what an earlier backfill left out.
fn unowed(coverage: &Coverage, start: Seconds, from: Seconds, to: Seconds) -> Vec<(Seconds, Seconds)> {
    let mut parts = Vec::new();
    if from < start.min(to) {
        parts.push((from, start.min(to)));
    }
    let left_out = coverage.within(start.max(from), to).filter(|one| one.state == State::Baseline);
    parts.extend(left_out.map(|one| (one.from.max(start).max(from), one.to.min(to))));
    parts
}

/// Rows of some time: as the portal counted them, pro rata where a count is of a longer time, and by what is
/// usual where it did not. Answers also whether any of it is by what is usual.
fn rows(coverage: &Coverage, parts: &[(Seconds, Seconds)]) -> (Option<u64>, bool) {
    let share = |rows: u64, part: Seconds, whole: Seconds| {
        u64::try_from(
            u128::from(rows) * u128::from(part.unsigned_abs()) / u128::from(whole.unsigned_abs().max(1)),
        )
        .unwrap_or(u64::MAX)
    };
    let (mut counted, mut unknown) = (0_u64, 0);
    for &(from, to) in parts {
        let mut known = 0;
        for one in coverage.within(from, to) {
            let part = one.to.min(to) - one.from.max(from);
            if let Some(listed) = one.listed {
                counted = counted.saturating_add(share(listed, part, one.to - one.from));
                known += part;
            }
        }
        unknown += to - from - known;
    }
    if unknown == 0 {
        return (Some(counted), false);
    }
    let proven = coverage
        .intervals()
        .filter(|one| one.state == State::Proven && (one.held > 0 || one.listed.is_some()));
    let (held, length) =
        proven.fold((0_u64, 0), |(held, length), one| (held + one.held, length + one.to - one.from));
    match length {
        0 => (None, true),
        length => (Some(counted.saturating_add(share(held, unknown, length))), true),
    }
}

fn minutes(requests: u64, rate: f64) -> f64 {
    f64::from(u32::try_from(requests).unwrap_or(u32::MAX)) / rate / 60.0
}

fn at(second: Seconds) -> DateTime<Utc> {
    DateTime::from_timestamp(second, 0).unwrap_or_default()
}
