//! Takes records by POST, strictly: what is not exactly as `docs/delivery.md` says is refused and noted.

use std::collections::HashMap;
use std::io::Read;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use flate2::read::GzDecoder;
use hmac::{Hmac, Mac};
use serde_json::value::RawValue;
use sha2::Sha256;
use tokio::task::JoinHandle;

/// What it wants.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wants {
    /// A header with exactly this value.
    pub(crate) header: Option<(&'static str, String)>,
    /// A signature with this key.
    pub(crate) key: Option<String>,
    /// JSON arrays instead of lines.
    pub(crate) array: bool,
    /// Bytes of a request after unpacking.
    pub(crate) largest: Option<usize>,
    /// Records with this text are refused.
    pub(crate) poison: Option<&'static str>,
}

#[derive(Default)]
struct Inner {
    wants: Wants,
    lines: Vec<String>,
    /// What was wrong with requests.
    wrong: Vec<String>,
    /// Requests by their idempotency key.
    keys: HashMap<String, Vec<String>>,
}

/// A receiver on loopback; gone when it is dropped.
pub(crate) struct Receiver {
    pub(crate) url: String,
    inner: Arc<Mutex<Inner>>,
    task: JoinHandle<()>,
}

impl Receiver {
    pub(crate) async fn start(wants: Wants) -> Self {
        let inner = Arc::new(Mutex::new(Inner { wants, ..Inner::default() }));
        let app = axum::Router::new()
            .route("/records", axum::routing::post(take))
            .layer(DefaultBodyLimit::disable())
            .with_state(Arc::clone(&inner));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, inner, task }
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.inner.lock().unwrap().lines.clone()
    }

    /// What was wrong with requests.
    pub(crate) fn wrong(&self) -> Vec<String> {
        self.inner.lock().unwrap().wrong.clone()
    }

    /// From now on it wants something else.
    pub(crate) fn wants(&self, wants: Wants) {
        self.inner.lock().unwrap().wants = wants;
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn take(State(inner): State<Arc<Mutex<Inner>>>, headers: HeaderMap, body: Bytes) -> Response {
    let mut inner = inner.lock().unwrap();
    let wants = inner.wants.clone();
    match records(&wants, &headers, &body) {
        Ok(records) => {
            let key = headers.get("idempotency-key").unwrap().to_str().unwrap().to_owned();
            // One key never stands for two contents.
            let before = inner.keys.insert(key.clone(), records.clone());
            if before.is_some_and(|before| before != records) {
                inner.wrong.push(format!("key {key} came with other records before"));
            }
            inner.lines.extend(records);
            StatusCode::NO_CONTENT.into_response()
        }
        Err((status, why)) => {
            if status == 400 && !why.contains("poisoned") {
                inner.wrong.push(why.clone());
            }
            (StatusCode::from_u16(status).unwrap(), why).into_response()
        }
    }
}

fn records(wants: &Wants, headers: &HeaderMap, body: &[u8]) -> Result<Vec<String>, (u16, String)> {
    let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let wrong = |why: String| Err((400, why));
    if let Some((name, value)) = &wants.header
        && header(name).as_ref() != Some(value)
    {
        return Err((401, "who are you?".to_owned()));
    }
    if let Some(key) = &wants.key {
        let time = header("x-timestamp").unwrap_or_default();
        let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
        mac.update(format!("{time}.").as_bytes());
        mac.update(body);
        let digits: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        if header("x-signature") != Some(format!("sha256={digits}")) || time.parse::<i64>().is_err() {
            return Err((403, "the signature is not right".to_owned()));
        }
    }
    let content_type = if wants.array { "application/json" } else { "application/x-ndjson" };
    if header("content-type").as_deref() != Some(content_type) {
        return wrong(format!("content type {:?}", header("content-type")));
    }
    if header("idempotency-key").is_none_or(|key| key.len() != 32) {
        return wrong("no idempotency key".to_owned());
    }
    let text = match unpacked(headers, body) {
        Ok(text) => text,
        Err(why) => return wrong(why),
    };
    if wants.largest.is_some_and(|largest| text.len() > largest) {
        return Err((413, "too large".to_owned()));
    }
    let records: Vec<String> = if wants.array {
        match serde_json::from_str::<Vec<&RawValue>>(&text) {
            Ok(records) => records.into_iter().map(|record| record.get().to_owned()).collect(),
            Err(error) => return wrong(error.to_string()),
        }
    } else {
        if !text.ends_with('\n') {
            return wrong("the last line has no end".to_owned());
        }
        text.lines().map(str::to_owned).collect()
    };
    if records.is_empty() || records.iter().any(|record| serde_json::from_str::<&RawValue>(record).is_err()) {
        return wrong("no records, or one that is no JSON".to_owned());
    }
    match wants.poison {
        Some(poison) if text.contains(poison) => wrong("one of these is poisoned".to_owned()),
        _ => Ok(records),
    }
}

/// The body of a request as text.
pub(crate) fn unpacked(headers: &HeaderMap, body: &[u8]) -> Result<String, String> {
    let mut text = String::new();
    match headers.get("content-encoding").map(|coding| coding.to_str().unwrap()) {
        Some("gzip") => GzDecoder::new(body).read_to_string(&mut text).map_err(|error| error.to_string())?,
        None => body.to_vec().as_slice().read_to_string(&mut text).map_err(|error| error.to_string())?,
        Some(other) => return Err(format!("packed as {other}")),
    };
    Ok(text)
}
