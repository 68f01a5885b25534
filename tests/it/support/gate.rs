//! A way to a far side on which requests go wrong: refused for a while, cut off before or after the far side had
//! them, or slow.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Effect {
    /// It gets through.
    Through,
    /// It is answered with this status, and perhaps with `Retry-After` in seconds; the far side never sees it.
    Status(u16, Option<u32>),
    /// The connection is cut; the far side never sees it.
    CutBefore,
    /// The far side answers, but only half of that comes back, or nothing.
    CutAfter,
    /// It gets through, after so long.
    Slow(Duration),
}

/// A request that came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) at: Instant,
    /// Method, path and query.
    pub(crate) line: String,
    pub(crate) effect: Effect,
}

struct State {
    far_side: String,
    always: Mutex<Option<Effect>>,
    chance: Mutex<Option<(StdRng, f64)>>,
    seen: Mutex<Vec<Seen>>,
}

/// Stands before a far side; gone when it is dropped.
pub(crate) struct Gate {
    pub(crate) url: String,
    state: Arc<State>,
    task: JoinHandle<()>,
}

impl Gate {
    /// Before `far_side`, an address and port. Everything gets through at first.
    pub(crate) async fn before(far_side: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(State {
            far_side: far_side.trim_start_matches("http://").to_owned(),
            always: Mutex::default(),
            chance: Mutex::default(),
            seen: Mutex::default(),
        });
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let state = Arc::clone(&shared);
                tokio::spawn(async move { state.pass(stream).await });
            }
        });
        Self { url, state, task }
    }

    /// From now on every request meets this.
    pub(crate) fn always(&self, effect: Effect) {
        *self.state.always.lock().unwrap() = Some(effect);
    }

    /// From now on this share of requests goes wrong, each in one way or another.
    pub(crate) fn chance(&self, share: f64, seed: u64) {
        *self.state.chance.lock().unwrap() = Some((StdRng::seed_from_u64(seed), share));
    }

    /// From now on everything gets through.
    pub(crate) fn open(&self) {
        *self.state.always.lock().unwrap() = None;
        *self.state.chance.lock().unwrap() = None;
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl State {
    /// One request of a connection, which ends with it.
    async fn pass(&self, mut near: TcpStream) -> Option<()> {
        let (head, body) = read(&mut near).await?;
        let text = String::from_utf8_lossy(&head).into_owned();
        let (line, headers) = text.split_once("\r\n")?;
        let effect = self.effect();
        self.seen.lock().unwrap().push(Seen { at: Instant::now(), line: line.to_owned(), effect });
        match effect {
            Effect::CutBefore => return None,
            Effect::Status(status, wait) => {
                let wait = wait.map(|wait| format!("Retry-After: {wait}\r\n")).unwrap_or_default();
                let answer = format!(
                    "HTTP/1.1 {status} Gate\r\n{wait}Content-Length: 2\r\nConnection: close\r\n\r\nno"
                );
                near.write_all(answer.as_bytes()).await.ok()?;
                return near.shutdown().await.ok();
            }
            Effect::Slow(long) => tokio::time::sleep(long).await,
            Effect::Through | Effect::CutAfter => {}
        }
        let mut far = TcpStream::connect(&self.far_side).await.ok()?;
        let head = format!("{line}\r\nConnection: close\r\n{headers}");
        far.write_all(head.as_bytes()).await.ok()?;
        far.write_all(&body).await.ok()?;
        let mut answer = Vec::new();
        far.read_to_end(&mut answer).await.ok()?;
        if effect == Effect::CutAfter {
            answer.truncate(answer.len() / 2);
        }
        near.write_all(&answer).await.ok()?;
        near.shutdown().await.ok()
    }

    fn effect(&self) -> Effect {
        if let Some(effect) = *self.always.lock().unwrap() {
            return effect;
        }
        let mut chance = self.chance.lock().unwrap();
        let Some((dice, share)) = chance.as_mut() else { return Effect::Through };
        if !dice.random_bool(*share) {
            return Effect::Through;
        }
        match dice.random_range(0..6) {
            0 => Effect::Status(429, Some(1)),
            1 => Effect::Status(503, None),
            2 => Effect::CutBefore,
            3 | 4 => Effect::CutAfter,
            _ => Effect::Slow(Duration::from_millis(300)),
        }
    }
}

/// Head and body of a request.
async fn read(stream: &mut TcpStream) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let mut body = bytes.split_off(end);
    let head = String::from_utf8_lossy(&bytes).to_lowercase();
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
    let length: usize = length.map_or(0, |length| length.parse().unwrap());
    while body.len() < length {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    Some((bytes, body))
}
