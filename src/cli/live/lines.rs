//! Progress as plain lines, the words of the end, and what the log of a service says of a backfill.

use std::collections::BTreeMap;

use super::frame::{Row, backfill, rows, worst};
use crate::cli::table::{columns, harmless, time};
use crate::status::{Owed, Status};

/// Streams of which one look or one summary tells.
const MOST: usize = 30;

/// Which streams are told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    All,
    Changed,
}

/// What was told already.
#[derive(Default)]
pub(super) struct Told {
    /// Rows, requests and state of each stream, by its title.
    streams: BTreeMap<String, (u64, u64, String)>,
    problems: Vec<String>,
}

impl Told {
    /// A line for each stream, or only for each that was asked for or changed since, and for each problem that
    /// is new or gone.
    pub(super) fn of(&mut self, status: &Status, which: Which) -> Vec<String> {
        let mark = |row: &Row<'_>| {
            let stream = row.stream.map(|stream| (stream.rows, stream.requests)).unwrap_or_default();
            (title(row), (stream.0, stream.1, format!("{:?}", row.stream.map(|stream| stream.condition))))
        };
        let all = rows(status);
        let now: BTreeMap<_, _> = all.iter().map(mark).collect();
        let changed = |row: &Row<'_>| {
            let (title, mark) = mark(row);
            which == Which::All || self.streams.get(&title) != Some(&mark)
        };
        let (shown, others) = worst(all.into_iter().filter(changed).collect(), MOST);
        let widest = shown.iter().map(|row| columns(&title(row))).max().unwrap_or(0);
        let tell = |row: &Row<'_>| {
            let title = title(row);
            format!("{title}{}  {}", " ".repeat(widest - columns(&title)), row.told())
        };
        let mut lines: Vec<String> = shown.iter().map(tell).collect();
        lines.extend(others);
        let new = status.problems.iter().filter(|problem| !self.problems.contains(problem));
        lines.extend(new.take(MOST).map(|problem| format!("problem: {}", harmless(problem))));
        if status.problems.is_empty() && !self.problems.is_empty() {
            lines.push("no problem is left".to_owned());
        }
        self.streams = now;
        self.problems.clone_from(&status.problems);
        lines
    }
}

fn title(row: &Row<'_>) -> String {
    format!("{} {}", harmless(&row.site.site), row.source())
}

/// Says in the log how far each backfill is.
pub(super) fn log(status: &Status) {
    for Row { site, stream } in rows(status) {
        let owing = stream.and_then(|stream| Some((stream, stream.owed?)));
        if let Some((stream, owed)) = owing {
            let (site, source, scope) = (&site.site, &stream.source, &stream.scope);
            let Owed { seconds, remaining_seconds, .. } = owed;
            tracing::info!(site, source, scope, seconds, remaining_seconds, "backfill: {}", backfill(owed));
        }
    }
}

/// What was collected and delivered in all.
pub(super) fn summary(status: &Status) -> Vec<String> {
    let (shown, others) = worst(rows(status), MOST);
    let tell = |row: &Row<'_>| {
        let stream = row.stream?;
        let apart = stream.unproven_sums.iter().filter(|(state, _)| *state != "pending");
        let apart: u64 = apart.map(|(_, sum)| sum.intervals).sum();
        let mut line = format!(
            "{}: {} rows, proven until {}, {apart} stretches not proven, {} requests",
            title(row),
            stream.rows,
            time(stream.proven_until),
            stream.requests
        );
        if let Some(owed) = stream.owed {
            line += &format!("; {}", backfill(owed));
        }
        Some(line)
    };
    let mut lines: Vec<String> = shown.iter().filter_map(tell).collect();
    lines.extend(others);
    lines.extend(
        status.sinks.iter().map(|sink| {
            format!("sink {}: {} records delivered", harmless(&sink.name), sink.delivered_records)
        }),
    );
    lines
}
