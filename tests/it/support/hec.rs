//! Splunk's HTTP Event Collector as its documentation describes it, strict, with and without indexer
//! acknowledgement. What is not indexed yet is lost when it is restarted.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use uuid::Uuid;

use super::receiver::unpacked;

/// How it is set up.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) token: String,
    /// The token uses indexer acknowledgement.
    pub(crate) ack: bool,
    /// How long indexing takes.
    pub(crate) indexing: Duration,
    /// Indices that the token may write to; none for any.
    pub(crate) indexes: Option<Vec<&'static str>>,
    /// Bytes of a request after unpacking.
    pub(crate) largest: usize,
    /// Events with this text have an invalid format.
    pub(crate) poison: Option<&'static str>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            token: "11111111-2222-4333-8444-555555555555".to_owned(),
            ack: false,
            indexing: Duration::from_millis(300),
            indexes: None,
            largest: 1_000_000,
            poison: None,
        }
    }
}

/// One event that is indexed.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Event {
    pub(crate) time: Option<Value>,
    pub(crate) host: Option<String>,
    pub(crate) source: Option<String>,
    pub(crate) sourcetype: Option<String>,
    pub(crate) index: Option<String>,
    pub(crate) event: Option<Box<RawValue>>,
    pub(crate) fields: Option<Value>,
}

#[derive(Default)]
struct Inner {
    setup: Setup,
    /// What survives a restart.
    indexed: Vec<Event>,
    /// Accepted, and when it is indexed.
    accepted: Vec<(Instant, Vec<Event>)>,
    /// By channel: when each request is indexed, by its number; none once that was told.
    channels: HashMap<Uuid, Vec<Option<Instant>>>,
    /// Codes that it answered with.
    codes: Vec<u32>,
}

/// A collector on loopback; gone when it is dropped.
pub(crate) struct Collector {
    pub(crate) url: String,
    inner: Arc<Mutex<Inner>>,
    task: JoinHandle<()>,
}

impl Collector {
    pub(crate) async fn start(setup: Setup) -> Self {
        let inner = Arc::new(Mutex::new(Inner { setup, ..Inner::default() }));
        let app = Router::new()
            .route("/services/collector/event", post(events))
            .route("/services/collector/ack", post(acks))
            .route("/services/collector/health", get(|| async { reply(200, 17, "HEC is healthy") }))
            .layer(DefaultBodyLimit::disable())
            .with_state(Arc::clone(&inner));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, inner, task }
    }

    /// Loses what is not indexed, and begins to number anew.
    pub(crate) fn restart(&self) {
        let mut inner = self.inner.lock().unwrap();
        inner.index();
        inner.accepted.clear();
        inner.channels.clear();
    }

    /// Everything that is indexed by now.
    pub(crate) fn indexed(&self) -> Vec<Event> {
        let mut inner = self.inner.lock().unwrap();
        inner.index();
        inner.indexed.clone()
    }

    pub(crate) fn codes(&self) -> Vec<u32> {
        self.inner.lock().unwrap().codes.clone()
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Setup)) {
        change(&mut self.inner.lock().unwrap().setup);
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Inner {
    fn index(&mut self) {
        let now = Instant::now();
        let (ready, later) = std::mem::take(&mut self.accepted).into_iter().partition(|(at, _)| *at <= now);
        self.accepted = later;
        let ready: Vec<(Instant, Vec<Event>)> = ready;
        self.indexed.extend(ready.into_iter().flat_map(|(_, events)| events));
    }
}

type Answer = Result<Response, (u16, u32, &'static str, Option<usize>)>;

fn reply(status: u16, code: u32, text: &str) -> Response {
    let body = json!({ "text": text, "code": code }).to_string();
    (StatusCode::from_u16(status).unwrap(), body).into_response()
}

fn answered(inner: &mut Inner, answer: Answer) -> Response {
    match answer {
        Ok(response) => response,
        Err((status, code, text, number)) => {
            inner.codes.push(code);
            let mut body = json!({ "text": text, "code": code });
            if let Some(number) = number {
                body["invalid-event-number"] = number.into();
            }
            (StatusCode::from_u16(status).unwrap(), body.to_string()).into_response()
        }
    }
}

type Channel = Query<HashMap<String, String>>;

async fn events(
    State(inner): State<Arc<Mutex<Inner>>>,
    Query(query): Channel,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut inner = inner.lock().unwrap();
    let answer = take(&mut inner, &query, &headers, &body);
    answered(&mut inner, answer)
}

fn take(inner: &mut Inner, query: &HashMap<String, String>, headers: &HeaderMap, body: &[u8]) -> Answer {
    let setup = inner.setup.clone();
    known(&setup, headers)?;
    let channel = channel(&setup, query, headers)?;
    let text = unpacked(headers, body).map_err(|_| (400, 6, "Invalid data format", Some(0)))?;
    if text.len() > setup.largest {
        return Ok((StatusCode::PAYLOAD_TOO_LARGE, "too large").into_response());
    }
    let mut events: Vec<Event> = Vec::new();
    for (number, event) in serde_json::Deserializer::from_str(&text).into_iter::<Event>().enumerate() {
        let Ok(event) = event else { return Err((400, 6, "Invalid data format", Some(number))) };
        checked(&setup, &event).map_err(|(code, text)| (400, code, text, Some(number)))?;
        events.push(event);
    }
    if events.is_empty() {
        return Err((400, 5, "No data", None));
    }
    let at = Instant::now() + setup.indexing;
    inner.accepted.push((at, events));
    let mut body = json!({ "text": "Success", "code": 0 });
    if let Some(channel) = channel.filter(|_| setup.ack) {
        let numbers = inner.channels.entry(channel).or_default();
        numbers.push(Some(at));
        body["ackId"] = (numbers.len() - 1).into();
    }
    Ok(body.to_string().into_response())
}

fn known(setup: &Setup, headers: &HeaderMap) -> Result<(), (u16, u32, &'static str, Option<usize>)> {
    let Some(given) = headers.get("authorization") else { return Err((401, 2, "Token is required", None)) };
    match given.to_str().unwrap().strip_prefix("Splunk ") {
        None => Err((401, 3, "Invalid authorization", None)),
        Some(token) if token != setup.token => Err((403, 4, "Invalid token", None)),
        Some(_) => Ok(()),
    }
}

fn channel(
    setup: &Setup,
    query: &HashMap<String, String>,
    headers: &HeaderMap,
) -> Result<Option<Uuid>, (u16, u32, &'static str, Option<usize>)> {
    let header = headers.get("x-splunk-request-channel").map(|value| value.to_str().unwrap());
    match header.or(query.get("channel").map(String::as_str)) {
        None if setup.ack => Err((400, 10, "Data channel is missing", None)),
        None => Ok(None),
        Some(text) => Uuid::try_parse(text).map(Some).map_err(|_| (400, 11, "Invalid data channel", None)),
    }
}

/// Code and text of what is wrong with an event.
fn checked(setup: &Setup, event: &Event) -> Result<(), (u32, &'static str)> {
    let format = (6, "Invalid data format");
    let time = match &event.time {
        None | Some(Value::Number(_)) => true,
        Some(Value::String(text)) => text.parse::<f64>().is_ok(),
        Some(_) => false,
    };
    let Some(body) = &event.event else { return Err((12, "Event field is required")) };
    if body.get() == "\"\"" {
        return Err((13, "Event field cannot be blank"));
    }
    if !time || setup.poison.is_some_and(|poison| body.get().contains(poison)) {
        return Err(format);
    }
    if let (Some(allowed), Some(index)) = (&setup.indexes, &event.index)
        && !allowed.contains(&index.as_str())
    {
        return Err((7, "Incorrect index"));
    }
    let flat =
        |fields: &Value| fields.as_object().is_some_and(|fields| fields.values().all(Value::is_string));
    match &event.fields {
        Some(fields) if !flat(fields) => Err((15, "Error in handling indexed fields")),
        _ => Ok(()),
    }
}

async fn acks(
    State(inner): State<Arc<Mutex<Inner>>>,
    Query(query): Channel,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut inner = inner.lock().unwrap();
    let answer = tell(&mut inner, &query, &headers, &body);
    answered(&mut inner, answer)
}

/// Which requests are indexed; what was told once is forgotten.
fn tell(inner: &mut Inner, query: &HashMap<String, String>, headers: &HeaderMap, body: &[u8]) -> Answer {
    #[derive(Deserialize)]
    struct Asked {
        acks: Vec<usize>,
    }
    let setup = inner.setup.clone();
    known(&setup, headers)?;
    if !setup.ack {
        return Err((400, 14, "ACK is disabled", None));
    }
    let channel = channel(&setup, query, headers)?.ok_or((400, 10, "Data channel is missing", None))?;
    let text = unpacked(headers, body).map_err(|_| (400, 6, "Invalid data format", None))?;
    let Asked { acks } = serde_json::from_str(&text).map_err(|_| (400, 6, "Invalid data format", None))?;
    let numbers = inner.channels.entry(channel).or_default();
    let mut told = serde_json::Map::new();
    for number in acks {
        let indexed = numbers.get(number).is_some_and(|at| at.is_some_and(|at| at <= Instant::now()));
        if indexed {
            numbers[number] = None;
        }
        told.insert(number.to_string(), indexed.into());
    }
    Ok(json!({ "acks": told }).to_string().into_response())
}
