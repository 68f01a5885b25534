//! The picture as lines that fit a terminal; pure.

use chrono::{DateTime, Utc};

use super::columns::{self, Column};
use crate::cli::screen::{Line, Tone};
use crate::cli::table::{about, bytes, columns as width_of, cut, harmless, span, time};
use crate::cli::terminal::Size;
use crate::deliver::SinkCondition;
use crate::status::{Owed, SiteStatus, Status, StreamCondition, StreamStatus};

/// Lines that one problem may take.
const OF_PROBLEM: usize = 2;

/// How urgently a row wants to be seen, the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    Bad,
    Busy,
    Well,
}

/// A stream of a site, or a site that has none yet.
pub(super) struct Row<'a> {
    pub(super) site: &'a SiteStatus,
    pub(super) stream: Option<&'a StreamStatus>,
}

/// Every stream, and every site without any; sites and streams in the order of their names.
pub(super) fn rows<'a>(status: &'a Status) -> Vec<Row<'a>> {
    let of_site = |site: &'a SiteStatus| {
        let none = site.streams.is_empty().then_some(Row { site, stream: None });
        none.into_iter().chain(site.streams.iter().map(move |stream| Row { site, stream: Some(stream) }))
    };
    status.sites.iter().flat_map(of_site).collect()
}

/// So many rows, the worst of them where there are more, and what to say of the others.
pub(super) fn worst<'a>(mut rows: Vec<Row<'a>>, most: usize) -> (Vec<Row<'a>>, Option<String>) {
    if rows.len() <= most {
        return (rows, None);
    }
    rows.sort_by_key(Row::rank);
    let others = rows.split_off(most.saturating_sub(1));
    let count = |rank| others.iter().filter(|row| row.rank() == rank).count();
    let told = match (count(Rank::Bad), count(Rank::Busy)) {
        (0, 0) => "all well".to_owned(),
        (0, busy) => format!("{busy} of them not caught up"),
        (bad, _) => format!("{bad} of them with problems"),
    };
    (rows, Some(format!("and {} more, {told}", others.len())))
}

impl Row<'_> {
    pub(super) fn rank(&self) -> Rank {
        use StreamCondition::{Broken, Failing, MissingRole, Ok, Paused, Rejected, Starting, Stopped};
        let Some(stream) = self.stream else {
            return if self.site.failing.is_some() { Rank::Bad } else { Rank::Busy };
        };
        match stream.condition {
            Broken | Failing | Rejected | MissingRole => Rank::Bad,
            _ if stream.stale => Rank::Bad,
            Starting | Paused => Rank::Busy,
            Ok | Stopped if stream.owed.is_some() => Rank::Busy,
            Ok | Stopped => Rank::Well,
        }
    }

    fn state(&self) -> &'static str {
        match self.stream {
            Some(stream) if stream.stale && stream.condition == StreamCondition::Ok => "stale",
            Some(stream) => stream.condition.as_str(),
            None if self.site.failing.is_some() => StreamCondition::Failing.as_str(),
            None => StreamCondition::Starting.as_str(),
        }
    }

    /// Source, part and narrowing, and the organization where it is asked alone.
    pub(super) fn source(&self) -> String {
        self.stream.map_or_else(|| "(organizations)".to_owned(), |stream| named(stream, &stream.query))
    }

    /// The same without part and narrowing, where nothing else tells the streams of the site apart.
    fn short_source(&self) -> String {
        let Some(stream) = self.stream else { return self.source() };
        let like = |other: &&StreamStatus| other.source == stream.source && other.scope == stream.scope;
        let alone = self.site.streams.iter().filter(like).count() == 1;
        named(stream, if alone { "" } else { &stream.query })
    }

    /// One line of plain progress behind its site and source.
    pub(super) fn told(&self) -> String {
        let Some(stream) = self.stream else { return self.state().to_owned() };
        let mut text = format!(
            "{}, proven until {}, {} rows ({}/s), {} requests, lag {}",
            self.state(),
            time(stream.proven_until),
            stream.rows,
            rate(stream.rows_per_second),
            stream.requests,
            stream.lag_seconds.map_or_else(|| "-".to_owned(), span),
        );
        if let Some(owed) = stream.owed {
            text += &format!("; {}", backfill(owed));
        }
        if let Some(error) = &stream.last_error {
            text += &format!("; {}", harmless(error));
        }
        text
    }
}

fn named(stream: &StreamStatus, query: &str) -> String {
    let mut title = format!("{} {query}", stream.source).trim_end().to_owned();
    if stream.scope != "tree" {
        title += &format!(" of {}", stream.scope);
    }
    harmless(&title)
}

/// The lines to stand at the foot of a terminal of this size.
pub(super) fn frame(status: &Status, size: Size) -> Vec<Line> {
    // The cursor has a line of its own.
    let height = size.rows.saturating_sub(1).max(1);
    let mut lines = vec![Line { text: head(status), tone: Tone::Title }];
    lines.extend(status.sinks.iter().take(3).map(|sink| Line {
        text: format!(
            "sink {}: {}, {} records delivered, {} pending",
            sink.name,
            sink.state.as_str(),
            sink.delivered_records,
            bytes(sink.pending_bytes)
        ),
        tone: if sink.state == SinkCondition::Ok { Tone::Plain } else { Tone::Bad },
    }));
    let problems = problems(status, size.columns, (height / 3).max(2));
    // The titles are one line more.
    let room = height.saturating_sub(lines.len() + problems.len() + 1).max(1);
    lines.extend(table(status, size.columns, room));
    lines.extend(problems);
    lines.truncate(height);
    for line in &mut lines {
        line.text = cut(&harmless(&line.text), size.columns);
    }
    lines
}

fn head(status: &Status) -> String {
    let streams: usize = status.sites.iter().map(|site| site.streams.len()).sum();
    let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
    let mut text = format!("lockstep {}", status.version);
    if let Some(started) = status.started {
        text += &format!(", running for {}", span((status.taken - started).as_seconds_f64()));
    }
    text + &format!(", {} of {}", count(streams, "stream"), count(status.sites.len(), "site"))
}

fn table(status: &Status, width: usize, room: usize) -> Vec<Line> {
    let (rows, others) = worst(rows(status), room);
    let streams = || rows.iter().map(|row| row.stream);
    let each = |tell: &dyn Fn(&StreamStatus) -> String| -> Vec<String> {
        streams().map(|stream| stream.map(tell).unwrap_or_default()).collect()
    };
    let number = |number: u64| number.to_string();
    let lag = |stream: &StreamStatus| stream.lag_seconds.map_or_else(|| "-".to_owned(), span);
    let until = each(&|stream| time(stream.proven_until));
    let short_until = each(&|stream| stream.proven_until.map_or("-".into(), |at| clock(at, status.taken)));
    let requests = each(&|stream| number(stream.requests));
    let mut table = vec![
        Column::words("SITE", rows.iter().map(|row| harmless(&row.site.site))).at_least(6),
        Column::words("SOURCE", rows.iter().map(Row::source))
            .shorter("SOURCE", rows.iter().map(Row::short_source))
            .at_least(10),
        Column::words("STATE", rows.iter().map(|row| row.state().to_owned())),
        Column::words("PROVEN UNTIL", until.into_iter()).shorter("PROVEN", short_until.into_iter()).worth(5),
        Column::numbers("ROWS", each(&|stream| number(stream.rows)).into_iter()).worth(2),
        Column::numbers("ROWS/S", each(&|stream| rate(stream.rows_per_second)).into_iter()).worth(3),
        Column::numbers("REQUESTS", requests.clone().into_iter())
            .shorter("REQ", requests.into_iter())
            .worth(1),
        Column::numbers("LAG", each(&lag).into_iter()),
    ];
    if streams().flatten().any(|stream| stream.owed.is_some()) {
        let long = each(&|stream| stream.owed.map_or_else(String::new, backfill));
        let short = each(&|stream| stream.owed.map_or_else(String::new, short_backfill));
        let column = Column::words("BACKFILL", long.into_iter());
        table.push(column.shorter("BACKFILL", short.into_iter()).worth(4));
    }
    let tone = |row: &Row<'_>| match row.rank() {
        Rank::Bad => Tone::Bad,
        Rank::Busy => Tone::Busy,
        Rank::Well => Tone::Plain,
    };
    let tones = std::iter::once(Tone::Title).chain(rows.iter().map(tone));
    let lines = columns::lines(table, width).into_iter().zip(tones);
    let mut lines: Vec<Line> = lines.map(|(text, tone)| Line { text, tone }).collect();
    lines.extend(others.map(|text| Line { text, tone: Tone::Plain }));
    lines
}

/// What is wrong and what to do, in so many lines.
fn problems(status: &Status, width: usize, room: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    for (place, problem) in status.problems.iter().enumerate() {
        let left = status.problems.len() - place;
        let told = fold(&harmless(problem), width, OF_PROBLEM);
        let keep = usize::from(left > 1);
        if lines.len() + told.len() + keep > room && !lines.is_empty() {
            lines.push(format!("! and {left} more; `lockstep status` tells all"));
            break;
        }
        lines.extend(told);
    }
    lines.truncate(room);
    lines.into_iter().map(|text| Line { text, tone: Tone::Bad }).collect()
}

/// A problem in at most so many lines of this width, broken between words.
fn fold(text: &str, width: usize, most: usize) -> Vec<String> {
    let mut lines = vec!["!".to_owned()];
    for word in text.split_whitespace() {
        let (count, last) = (lines.len(), lines.last_mut().expect("it begins with one"));
        if count < most && width_of(last) + 1 + width_of(word) > width && last.len() > 1 {
            lines.push(format!("  {word}"));
        } else {
            *last += " ";
            *last += word;
        }
    }
    lines.iter().map(|line| cut(line, width)).collect()
}

/// The time of today, the day and minute of any other.
fn clock(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let today = at.date_naive() == now.date_naive();
    at.format(if today { "%H:%M:%SZ" } else { "%m-%d %H:%M" }).to_string()
}

pub(in crate::cli) fn rate(rows_per_second: Option<f64>) -> String {
    match rows_per_second {
        None => "-".to_owned(),
        Some(rate) if rate > 0.0 && rate < 9.95 => format!("{rate:.1}"),
        Some(rate) => format!("{rate:.0}"),
    }
}

/// How much of what is owed is left, and about how long that takes, where there is enough to tell.
pub(in crate::cli) fn backfill(owed: Owed) -> String {
    let mut text = format!("{} of {} left", span(owed.seconds), span(owed.of_seconds));
    if let Some(remaining) = owed.remaining_seconds {
        text += &format!(", {}", about(remaining));
    }
    text
}

fn short_backfill(owed: Owed) -> String {
    match owed.remaining_seconds {
        Some(remaining) => about(remaining).replace("about ", "~"),
        None => format!("{} left", span(owed.seconds)),
    }
}
