//! Progress as JSON, an object a line. Its names are those of `status --json`.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use super::frame::rows;
use crate::deliver::SinkCondition;
use crate::status::{Owed, Status, StreamCondition};

/// The longest silence while nothing changes but the time.
const LONGEST: Duration = Duration::from_secs(60);

/// What was told already.
#[derive(Default)]
pub(super) struct Told(Option<(Instant, Value)>);

impl Told {
    /// What is to be told now, if anything.
    pub(super) fn of(&mut self, status: &Status, now: Instant) -> Option<Value> {
        let object = object("progress", Some(status), None);
        let mark = without_time(object.clone());
        let told = |(at, told): &(Instant, Value)| *told == mark && now - *at < LONGEST;
        if self.0.as_ref().is_some_and(told) {
            return None;
        }
        self.0 = Some((now, mark));
        Some(object)
    }
}

/// The object at the end. `undone` is what a complete pass left so.
pub(super) fn summary(status: Option<&Status>, undone: Option<&[String]>) -> Option<Value> {
    Some(object("summary", status, undone))
}

#[derive(Serialize)]
struct Object<'a> {
    r#type: &'static str,
    /// Whether a complete pass left nothing undone; absent for work that never is.
    #[serde(skip_serializing_if = "Option::is_none")]
    complete: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    undone: Option<&'a [String]>,
    #[serde(flatten)]
    picture: Option<Picture<'a>>,
}

#[derive(Serialize)]
struct Picture<'a> {
    taken: DateTime<Utc>,
    fresh: bool,
    problems: &'a [String],
    streams: Vec<Stream<'a>>,
    sinks: Vec<Sink<'a>>,
    dead_letters: u64,
}

#[derive(Serialize)]
struct Stream<'a> {
    site: &'a str,
    source: &'a str,
    scope: &'a str,
    query: &'a str,
    condition: StreamCondition,
    stale: bool,
    proven_until: Option<DateTime<Utc>>,
    rows: u64,
    rows_per_second: Option<f64>,
    requests: u64,
    lag_seconds: Option<f64>,
    owed: Option<Owed>,
    last_error: Option<&'a str>,
}

#[derive(Serialize)]
struct Sink<'a> {
    name: &'a str,
    state: SinkCondition,
    delivered_records: u64,
    pending_bytes: u64,
    last_error: Option<&'a str>,
}

fn object(r#type: &'static str, status: Option<&Status>, undone: Option<&[String]>) -> Value {
    let object =
        Object { r#type, complete: undone.map(<[_]>::is_empty), undone, picture: status.map(picture) };
    serde_json::to_value(object).expect("names are texts")
}

fn picture(status: &Status) -> Picture<'_> {
    let streams = rows(status).into_iter().filter_map(|row| {
        let stream = row.stream?;
        Some(Stream {
            site: &row.site.site,
            source: &stream.source,
            scope: &stream.scope,
            query: &stream.query,
            condition: stream.condition,
            stale: stream.stale,
            proven_until: stream.proven_until,
            rows: stream.rows,
            rows_per_second: stream.rows_per_second,
            requests: stream.requests,
            lag_seconds: stream.lag_seconds,
            owed: stream.owed,
            last_error: stream.last_error.as_deref(),
        })
    });
    let sinks = status.sinks.iter().map(|sink| Sink {
        name: &sink.name,
        state: sink.state,
        delivered_records: sink.delivered_records,
        pending_bytes: sink.pending_bytes,
        last_error: sink.last_error.as_deref(),
    });
    Picture {
        taken: status.taken,
        fresh: status.fresh,
        problems: &status.problems,
        streams: streams.collect(),
        sinks: sinks.collect(),
        dead_letters: status.dead_letters.count,
    }
}

/// Leaves out what changes by itself as time passes.
fn without_time(mut object: Value) -> Value {
    object["taken"].take();
    for stream in object["streams"].as_array_mut().into_iter().flatten() {
        for name in ["lag_seconds", "rows_per_second"] {
            stream[name].take();
        }
        if let Some(owed) = stream["owed"].as_object_mut() {
            owed.remove("remaining_seconds");
        }
    }
    object
}
