//! The simulator's own paths: clock, faults, truth and statistics.
//!
//! | path | does |
//! |---|---|
//! | `GET`, `POST /_clock` | `{"advance_seconds":21600}`, `{"set":"2026-03-01T00:00:00Z"}`, `{"freeze":true}` |
//! | `GET`, `POST`, `DELETE /_faults[?id=N]` | `{"times":2,"effect":{"status":{"status":503}}}`, `{"share":0.1,"effect":"cut_body"}` |
//! | `GET`, `POST /_dialect` | a [`Dialect`]; members left out are the plain portal's |
//! | `POST /_world` | `{"burst":{"source":"unified_audit","organization":1,"rows":60000}}` and others |
//! | `GET /_truth/SOURCE` | a line for each row: `?ever=true`, `?rows=true`; others: `?history=true` |
//! | `GET /_stats`, `GET /_requests?since=N` | what was asked |

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio_util::io::ReaderStream;

use super::clock::date;
use super::dialect::Dialect;
use super::faults::Fault;
use super::http::Shared;
use super::stage::Stage;
use super::world::Source;
use crate::model::SECOND;

/// Rows of the truth that are written without letting others at the stage.
const CHUNK: usize = 500;

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/_clock", get(show_clock).post(move_clock))
        .route("/_faults", get(show_faults).post(add_fault).delete(clear_faults))
        .route("/_dialect", get(show_dialect).post(set_dialect))
        .route("/_world", post(act))
        .route("/_stats", get(stats))
        .route("/_requests", get(requests))
        .route("/_truth/{source}", get(truth))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClockMove {
    advance_seconds: Option<i64>,
    set: Option<DateTime<Utc>>,
    freeze: Option<bool>,
}

fn shown(stage: &mut Stage) -> Json<Value> {
    Json(json!({ "now": date(stage.tick()) }))
}

async fn show_clock(State(shared): State<Shared>) -> Json<Value> {
    shown(&mut shared.lock())
}

async fn move_clock(State(shared): State<Shared>, Json(asked): Json<ClockMove>) -> Json<Value> {
    let mut stage = shared.lock();
    if let Some(frozen) = asked.freeze {
        stage.clock.freeze(frozen);
    }
    if let Some(now) = asked.set {
        stage.clock.set(now.timestamp_micros());
    }
    if let Some(seconds) = asked.advance_seconds {
        stage.clock.advance(seconds * SECOND);
    }
    shown(&mut stage)
}

async fn add_fault(State(shared): State<Shared>, Json(fault): Json<Fault>) -> Json<Value> {
    Json(json!({ "id": shared.lock().faults.add(fault) }))
}

async fn show_faults(State(shared): State<Shared>) -> Response {
    Json(shared.lock().faults.standing()).into_response()
}

#[derive(Deserialize)]
struct Which {
    id: Option<u64>,
}

async fn clear_faults(State(shared): State<Shared>, Query(which): Query<Which>) -> StatusCode {
    shared.lock().faults.clear(which.id);
    StatusCode::NO_CONTENT
}

async fn show_dialect(State(shared): State<Shared>) -> Json<Dialect> {
    Json(shared.lock().dialect().clone())
}

async fn set_dialect(State(shared): State<Shared>, Json(dialect): Json<Dialect>) -> StatusCode {
    shared.lock().set_dialect(dialect);
    StatusCode::NO_CONTENT
}

/// Things that an operator lets happen at once.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Act {
    /// So many rows in one minute, the last one by default.
    Burst { source: Source, organization: u16, rows: u32, at: Option<DateTime<Utc>> },
    /// Equal rows without an id in the system audit.
    EqualRows { organization: u16, copies: usize, at: DateTime<Utc> },
    /// A row that is listed from now on and happened earlier or later.
    Row { source: Source, organization: u16, at: DateTime<Utc> },
    /// A row as it stands.
    Raw { source: Source, organization: u16, at: DateTime<Utc>, text: String },
}

async fn act(State(shared): State<Shared>, Json(act): Json<Act>) -> StatusCode {
    let mut stage = shared.lock();
    let now = stage.tick();
    let world = &mut stage.world;
    match act {
        Act::Burst { source, organization, rows, at } => {
            let at = at.map_or(now - 60 * SECOND, |at| at.timestamp_micros());
            world.burst(source, organization, at, rows);
        }
        Act::EqualRows { organization, copies, at } => {
            world.add_equal_rows(organization, at.timestamp_micros(), copies);
        }
        Act::Row { source, organization, at } => {
            world.add_row(source, organization, at.timestamp_micros(), now);
        }
        Act::Raw { source, organization, at, text } => {
            world.inject_raw(source, organization, at.timestamp_micros(), text);
        }
    }
    StatusCode::NO_CONTENT
}

async fn stats(State(shared): State<Shared>) -> Response {
    Json(&shared.lock().stats).into_response()
}

#[derive(Deserialize)]
struct Since {
    #[serde(default)]
    since: u64,
}

async fn requests(State(shared): State<Shared>, Query(asked): Query<Since>) -> Response {
    Json(shared.lock().stats.since(asked.since)).into_response()
}

#[derive(Deserialize)]
struct Asked {
    #[serde(default)]
    ever: bool,
    #[serde(default)]
    rows: bool,
    #[serde(default)]
    history: bool,
}

/// One JSON value a line, written while it is read, so that its length costs no memory.
async fn truth(
    State(shared): State<Shared>,
    Path(source): Path<String>,
    Query(asked): Query<Asked>,
) -> Response {
    let source = match source.as_str() {
        "unified_audit" => Source::UnifiedAudit,
        "system_audit" => Source::SystemAudit,
        "threats" => Source::Threats,
        "computers" => {
            let computers = {
                let mut stage = shared.lock();
                stage.tick();
                stage.true_computers(asked.history)
            };
            let mut lines = Vec::new();
            computers.iter().for_each(|computer| write_line(&mut lines, computer));
            return lines.into_response();
        }
        "policies" | "organizations" | "online_devices" => {
            let states = {
                let mut stage = shared.lock();
                stage.tick();
                match source.as_str() {
                    "policies" => stage.true_policies(asked.history),
                    "online_devices" => stage.true_online_devices(asked.history),
                    _ => stage.true_organizations(asked.history),
                }
            };
            let mut lines = Vec::new();
            states.iter().for_each(|state| write_line(&mut lines, state));
            return lines.into_response();
        }
        "approval_requests" => {
            let requests = {
                let mut stage = shared.lock();
                stage.tick();
                stage.true_requests(asked.history)
            };
            let mut lines = Vec::new();
            requests.iter().for_each(|request| write_line(&mut lines, request));
            return lines.into_response();
        }
        _ => {
            let known = "unified_audit, system_audit, threats, computers, policies, organizations, \
                         online_devices or approval_requests";
            return (StatusCode::NOT_FOUND, known).into_response();
        }
    };
    let (writer, reader) = tokio::io::duplex(256 << 10);
    tokio::spawn(write_truth(shared, source, asked, writer));
    Body::from_stream(ReaderStream::new(reader)).into_response()
}

async fn write_truth(shared: Shared, source: Source, asked: Asked, mut writer: DuplexStream) {
    let rows = {
        let mut stage = shared.lock();
        stage.tick();
        stage.true_rows(source, asked.ever)
    };
    for chunk in rows.chunks(CHUNK) {
        let mut lines = Vec::new();
        {
            let stage = shared.lock();
            chunk.iter().for_each(|row| write_line(&mut lines, &stage.truth(source, row, asked.rows)));
        }
        if writer.write_all(&lines).await.is_err() {
            return;
        }
    }
}

fn write_line(out: &mut Vec<u8>, value: &impl serde::Serialize) {
    serde_json::to_writer(&mut *out, value).expect("writing into memory does not fail");
    out.push(b'\n');
}
