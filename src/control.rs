//! The door to a running program: HTTP over a Unix socket, `control.sock` in the state directory, 0600.
//!
//! Whoever may open the state may ask here. Commands that look at or change the state use [`ask`] and go
//! to the state themselves when nobody answers.
//!
//! | request | does |
//! |---|---|
//! | `GET /status` | the whole [`Status`](crate::status::Status) as JSON |
//! | `POST /backfill?site=S&stream=N&from=A&to=B` | a stream of the site owes `[A, B)`, in seconds since 1970, from its next poll on |
//! | `POST /confirm-removed?site=S` | rows held as unknown become removed; answers `{"removed": n}` |
//! | `POST /order` | an [`Order`] as JSON is carried out; answers [`Done`] |

#[cfg(test)]
mod tests;

use std::fs::{File, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::model::Seconds;
use crate::order::{Done, Order};
use crate::status::Board;
use crate::store::{Store, StoreError};
use crate::web::serve_router;

/// Name of the socket in the state directory.
const NAME: &str = "control.sock";
/// Bytes of a path that the operating system takes for a socket.
const LONGEST_PATH: usize = 100;
/// How long a running program may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// The largest answer that is read.
const LARGEST: u64 = 64 << 20;

/// What went wrong between a command and the running program.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("cannot {doing} {}: {source}", path.display())]
    Socket { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("the running lockstep does not answer on {} within {} s: look at its log", path.display(), PATIENCE.as_secs())]
    Silent { path: PathBuf },
    #[error("{} answers something that is no lockstep", path.display())]
    Stranger { path: PathBuf },
}

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error("{0}")]
    Told(String),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the running lockstep and this one do not understand each other ({0}): are both of one version?")]
    Strange(#[from] serde_json::Error),
    #[error("the state cannot be opened: {0}")]
    Interrupted(#[from] tokio::task::JoinError),
}

/// The socket of a running program; its file goes with it.
pub struct Door {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for Door {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "the control socket stays behind");
        }
    }
}

/// Opens the socket. The caller holds the lock of the state directory, so a socket that is there is a
/// dead program's.
///
/// # Errors
/// What the file system says.
pub fn listen(state_dir: &Path) -> Result<Door, ControlError> {
    let path = state_dir.join(NAME);
    let failed = |doing| {
        let path = path.clone();
        move |source| ControlError::Socket { doing, path, source }
    };
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(failed("remove the old control socket")(error));
        }
        _ => {}
    }
    let address = Address::of(state_dir).map_err(failed("open"))?;
    let listener = UnixListener::bind(&address.path).map_err(failed("listen on"))?;
    std::fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(failed("make private"))?;
    Ok(Door { listener, path })
}

/// Where the socket is, in words short enough for the operating system.
struct Address {
    path: PathBuf,
    /// Keeps the detour open.
    _dir: Option<File>,
}

impl Address {
    fn of(state_dir: &Path) -> io::Result<Self> {
        let path = state_dir.join(NAME);
        if path.as_os_str().len() <= LONGEST_PATH {
            return Ok(Self { path, _dir: None });
        }
        let dir = File::open(state_dir)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}/{NAME}", dir.as_raw_fd()));
        Ok(Self { path, _dir: Some(dir) })
    }
}

/// Answers commands until stopped.
///
/// # Errors
/// What the listener says when it cannot go on.
pub async fn serve(door: Door, board: Board, stop: CancellationToken) -> io::Result<()> {
    let router = Router::new()
        .route("/status", get(status))
        .route("/backfill", post(backfill))
        .route("/confirm-removed", post(confirm_removed))
        .route("/order", post(carry_out))
        .with_state(board);
    serve_router(door, router, stop).await
}

impl axum::serve::Listener for Door {
    type Io = UnixStream;
    type Addr = tokio::net::unix::SocketAddr;

    async fn accept(&mut self) -> (UnixStream, Self::Addr) {
        axum::serve::Listener::accept(&mut self.listener).await
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

async fn status(State(board): State<Board>) -> Response {
    match board.status().await {
        Ok(status) => Json(status).into_response(),
        Err(error) => failed(&error),
    }
}

#[derive(Deserialize)]
struct Site {
    site: String,
}

async fn confirm_removed(State(board): State<Board>, Query(Site { site }): Query<Site>) -> Response {
    match board.confirm_removed(&site).await {
        Ok(Some(removed)) => Json(json!({ "removed": removed })).into_response(),
        Ok(None) => {
            let error = format!("the running program knows no site {site}");
            (StatusCode::NOT_FOUND, Json(json!({ "error": error }))).into_response()
        }
        Err(error) => failed(&error),
    }
}

#[derive(Deserialize)]
struct Asked {
    site: String,
    /// Its number in the state.
    stream: i64,
    from: Seconds,
    to: Seconds,
}

async fn backfill(State(board): State<Board>, Query(asked): Query<Asked>) -> Response {
    match board.ask_back(&asked.site, asked.stream, (asked.from, asked.to)).await {
        Ok(true) => Json(json!({})).into_response(),
        Ok(false) => {
            let error = format!("the running program knows no such stream of site {}", asked.site);
            (StatusCode::NOT_FOUND, Json(json!({ "error": error }))).into_response()
        }
        Err(error) => failed(&error),
    }
}

async fn carry_out(State(board): State<Board>, Json(order): Json<Order>) -> Response {
    match board.carry_out(order).await {
        Ok(done) => Json(done).into_response(),
        Err(error) => failed(&error),
    }
}

fn failed(error: &StoreError) -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, Json(json!({ "error": error.to_string() }))).into_response()
}

/// What a running program answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// JSON.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body of a success, or the error in it.
    pub fn ok(self) -> Result<Vec<u8>, String> {
        if self.status == 200 {
            return Ok(self.body);
        }
        let told: Option<serde_json::Value> = serde_json::from_slice(&self.body).ok();
        let error = told.as_ref().and_then(|told| told.get("error")?.as_str());
        Err(error.map_or_else(|| format!("the running lockstep answers {}", self.status), str::to_owned))
    }
}

/// Asks the program that runs on a state directory; `None` when none does. `path` begins with a slash and
/// holds no spaces.
///
/// # Errors
/// A program that is there and does not answer well.
pub async fn ask(state_dir: &Path, method: &str, path: &str) -> Result<Option<Answer>, ControlError> {
    ask_with(state_dir, method, path, b"").await
}

/// The same, with a JSON body.
async fn ask_with(
    state_dir: &Path,
    method: &str,
    path: &str,
    body: &[u8],
) -> Result<Option<Answer>, ControlError> {
    let socket = state_dir.join(NAME);
    let failed =
        |doing: &'static str, source: io::Error| ControlError::Socket { doing, path: socket.clone(), source };
    let absent =
        |error: &io::Error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused);
    let address = match Address::of(state_dir) {
        Err(error) if absent(&error) => return Ok(None),
        address => address.map_err(|error| failed("open", error))?,
    };
    let talk = async {
        let mut stream = match UnixStream::connect(&address.path).await {
            Err(error) if absent(&error) => return Ok(None),
            stream => stream.map_err(|error| failed("connect to", error))?,
        };
        // The old version of HTTP, since its answer simply ends with the connection.
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.0\r\nhost: lockstep\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.map_err(|error| failed("ask", error))?;
        stream.write_all(body).await.map_err(|error| failed("ask", error))?;
        let mut answer = Vec::new();
        let read = stream.take(LARGEST).read_to_end(&mut answer).await;
        read.map_err(|error| failed("read the answer of", error))?;
        Ok(Some(answer))
    };
    let answer = tokio::time::timeout(PATIENCE, talk).await;
    let answer = answer.map_err(|_| ControlError::Silent { path: socket.clone() })??;
    answer.map(|bytes| parse(&bytes).ok_or(ControlError::Stranger { path: socket })).transpose()
}

/// Has an order carried out: by the program that runs on the state directory, or here where none does. Answers whether
/// one does.
///
/// # Errors
/// What the running program says, or the state where there is none.
pub async fn give(order: Order, state_dir: &Path) -> Result<(Done, bool), OrderError> {
    let body = serde_json::to_vec(&order)?;
    if let Some(answer) = ask_with(state_dir, "POST", "/order", &body).await? {
        let told = answer.ok().map_err(OrderError::Told)?;
        return Ok((serde_json::from_slice(&told)?, true));
    }
    // Whoever only orders must not make a state.
    Store::open_read_only(state_dir)?.close().await;
    let dir = state_dir.to_path_buf();
    let store = tokio::task::spawn_blocking(move || Store::open(&dir, Clock::system())).await??;
    let done = store.write(move |db| order.carry_out(db)).await;
    store.close().await;
    Ok((done?, false))
}

/// Reads status and body of an answer whose length the connection tells.
fn parse(answer: &[u8]) -> Option<Answer> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(answer.get(..end)?).ok()?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let body = answer.get(end + 4..)?.to_vec();
    // A shorter body was cut off.
    length.is_none_or(|length| length == body.len()).then_some(Answer { status, body })
}
