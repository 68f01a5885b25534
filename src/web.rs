//! Health and metrics over HTTP, for orchestrators and monitors. Holds no row data.
//!
//! | path | answers |
//! |---|---|
//! | `/livez` | 200 while the program does its work: for the orchestrator, which starts it anew otherwise |
//! | `/readyz` | 200 when the configuration is valid and the state answers, else 503 with the reason |
//! | `/fresh` | 200, or 503 with what is wrong: for monitors, never for the orchestrator |
//! | `/metrics` | everything in Prometheus' text format |
//!
//! Whatever the clients do, the state is asked about once a second at most.

mod lines;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::Listener;
use axum::{Json, Router};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::metrics::{self, Metrics};
use crate::status::{Board, Status};
use lines::Lines;

/// How old an answer may be.
const AGE: Duration = Duration::from_secs(1);
/// How long the requests in hand may still take when the program stops.
const GRACE: Duration = Duration::from_secs(1);

/// Why nothing is listened on.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on {address} for health and metrics: {source}; change `server.ops`, or set it to `off`"
)]
pub struct ListenError {
    pub address: SocketAddr,
    pub source: io::Error,
}

/// Opens the listener, and says where it is: port 0 takes any free one.
///
/// # Errors
/// Fails when the address is taken or not this machine's.
pub async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ListenError> {
    let failed = |source| ListenError { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    tracing::info!(address = %bound, "health and metrics: /livez /readyz /fresh /metrics");
    Ok((listener, bound))
}

/// Answers until stopped.
///
/// # Errors
/// What the listener says when it cannot go on.
pub async fn serve(listener: TcpListener, board: Board, stop: CancellationToken) -> io::Result<()> {
    let ops = Ops { board, ready: Arc::default(), status: Arc::default() };
    let router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/fresh", get(fresh))
        .route("/metrics", get(prometheus))
        .with_state(ops);
    serve_router(listener, router, stop).await
}

/// Serves on connections that cannot be hogged; ends soon after it is stopped, whatever the clients do.
pub(crate) async fn serve_router<L>(listener: L, router: Router, stop: CancellationToken) -> io::Result<()>
where
    L: Listener,
    L::Addr: std::fmt::Debug,
{
    let stopped = stop.clone().cancelled_owned();
    let lines = Lines::new(listener);
    let open = lines.open();
    let serving = axum::serve(lines, router).with_graceful_shutdown(stopped);
    let late = async {
        stop.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    let served = tokio::select! {
        served = serving => served,
        () = late => Ok(()),
    };
    open.end();
    served
}

#[derive(Clone)]
struct Ops {
    board: Board,
    ready: Recent<Result<(), String>>,
    status: Recent<Result<Arc<Status>, String>>,
}

/// An answer and when it was made; who comes while it is made waits for it.
type Recent<T> = Arc<Mutex<Option<(Instant, T)>>>;

/// The answer as it is, or a new one when it is too old.
async fn recent<T: Clone>(kept: &Recent<T>, make: impl Future<Output = T>) -> T {
    let mut kept = kept.lock().await;
    match &*kept {
        Some((made, answer)) if made.elapsed() < AGE => answer.clone(),
        _ => {
            let answer = make.await;
            *kept = Some((Instant::now(), answer.clone()));
            answer
        }
    }
}

impl Ops {
    async fn status(&self) -> Result<Arc<Status>, String> {
        let make = async { self.board.status().await.map(Arc::new).map_err(|error| error.to_string()) };
        recent(&self.status, make).await
    }
}

async fn livez(State(ops): State<Ops>) -> Response {
    if ops.board.is_alive() {
        "alive\n".into_response()
    } else {
        unavailable("the thread that writes the state has ended\n")
    }
}

async fn readyz(State(ops): State<Ops>) -> Response {
    match recent(&ops.ready, ops.board.ready()).await {
        Ok(()) => "ready\n".into_response(),
        Err(reason) => unavailable(format!("not ready: {reason}\n")),
    }
}

async fn fresh(State(ops): State<Ops>) -> Response {
    let (fresh, problems) = match ops.status().await {
        Ok(status) => (status.fresh, status.problems.clone()),
        Err(error) => (false, vec![error]),
    };
    let code = if fresh { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(json!({ "fresh": fresh, "problems": problems }))).into_response()
}

async fn prometheus(State(ops): State<Ops>) -> Response {
    match ops.status().await {
        Ok(status) => ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], Metrics::of(&status).text()).into_response(),
        Err(error) => unavailable(format!("{error}\n")),
    }
}

fn unavailable(text: impl Into<String>) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, text.into()).into_response()
}
