//! The played portal as an HTTP service.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, DefaultBodyLimit, State};
use axum::http::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, DATE};
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri};

use super::control;
use super::faults::Effect;
use super::line::Cutter;
use super::reply::{Reply, http_date};
use super::requests::Endpoint;
use super::stage::{Request, Stage};

/// Status line and headers of an answer are never longer than this, and never shorter than a quarter of it.
const HEAD: usize = 400;

/// The stage, shared by the service and its owner.
#[derive(Clone)]
pub struct Shared(Arc<Mutex<Stage>>);

impl Shared {
    pub fn new(stage: Stage) -> Self {
        Self(Arc::new(Mutex::new(stage)))
    }

    /// The stage to oneself; never kept over a wait.
    pub fn lock(&self) -> MutexGuard<'_, Stage> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The portal's paths and the simulator's own, which begin with an underscore.
pub fn router(shared: Shared) -> Router {
    control::routes().fallback(portal).layer(DefaultBodyLimit::max(64 << 20)).with_state(shared)
}

/// Ends the count of a request, also when its client goes away.
struct Running(Shared);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.lock().stats.end();
    }
}

async fn portal(
    State(shared): State<Shared>,
    ConnectInfo(line): ConnectInfo<Cutter>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let number = shared.lock().stats.begin();
    let _running = Running(shared.clone());
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let mut endpoint = Endpoint::of(method.as_str(), uri.path());
    let mut authorization = header(AUTHORIZATION.as_str()).map(str::to_owned);
    {
        let stage = shared.lock();
        if let Some(door) = &stage.key_door
            && let Some(behind) = Endpoint::behind(door, method.as_str(), uri.path())
        {
            endpoint = Some(behind);
            // The key opens this door and no other.
            authorization =
                header(door.header).filter(|key| *key == door.key).map(|_| stage.tokens[0].clone());
        }
    }
    let request = Request {
        number,
        endpoint,
        authorization: authorization.as_deref(),
        organization: header("managedorganizationid"),
        new_search: header("usenewsearch") == Some("true"),
        query: uri.query().unwrap_or_default(),
        body: &body,
    };
    let effects = {
        let mut stage = shared.lock();
        note_violations(&mut stage, &request, &method, &uri, &headers);
        stage.strike(&request)
    };
    for effect in &effects {
        if let Effect::Latency { milliseconds } = effect {
            tokio::time::sleep(Duration::from_millis(*milliseconds)).await;
        }
    }
    let (mut reply, now, gzip) = {
        let mut stage = shared.lock();
        let reply = stage.answer(&request, &effects);
        (reply, stage.world.now(), stage.dialect().gzip)
    };
    if gzip && header(ACCEPT_ENCODING.as_str()).is_some_and(|accepted| accepted.contains("gzip")) {
        reply.compress();
    }
    if reply.reset {
        line.cut_after(0);
    } else if reply.cut {
        let short = reply.body.len() < 2 * HEAD;
        line.cut_after(if short { HEAD / 4 } else { HEAD + reply.body.len() / 2 });
    }
    response(reply, &http_date(now))
}

/// Notes what a collector must never do: paths outside the read list, and bodies that are no JSON.
fn note_violations(
    stage: &mut Stage,
    request: &Request<'_>,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
) {
    if request.endpoint.is_none() {
        stage.stats.violation(format!("{method} {} is no read path that is played", uri.path()));
    }
    let json = headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if method == Method::POST && !json {
        stage.stats.violation(format!("{} without content-type application/json", uri.path()));
    }
}

fn response(reply: Reply, now: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(reply.body));
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(reply.content_type));
    if let Ok(now) = HeaderValue::from_str(now) {
        headers.insert(DATE, now);
    }
    for (name, value) in reply.headers {
        if let (Ok(name), Ok(value)) = (name.parse::<axum::http::HeaderName>(), HeaderValue::from_str(&value))
        {
            headers.insert(name, value);
        }
    }
    response
}
