//! A receiver of `_bulk` and of Splunk's protocol that does as little as it may: it unpacks, counts and answers.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::routing::{get, post};
use flate2::read::GzDecoder;

/// Serves until the process is killed. Writes where it is to `told`.
pub(crate) async fn serve(told: &Path) -> anyhow::Result<()> {
    let count = Arc::new(AtomicU64::new(0));
    let app = Router::new()
        .route("/_bulk", post(bulk))
        .route("/services/collector/event", post(events))
        .route(
            "/count",
            get(async |State(count): State<Arc<AtomicU64>>| count.load(Ordering::Relaxed).to_string()),
        )
        .layer(DefaultBodyLimit::disable())
        .with_state(count);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let partly = told.with_extension("part");
    std::fs::write(&partly, listener.local_addr()?.to_string())?;
    std::fs::rename(&partly, told)?;
    Ok(axum::serve(listener, app).await?)
}

fn lines(body: &[u8]) -> u64 {
    let mut text = Vec::new();
    let unpacked = GzDecoder::new(body).read_to_end(&mut text).is_ok();
    let text = if unpacked { &text } else { body };
    text.iter().filter(|byte| **byte == b'\n').count() as u64
}

async fn bulk(State(count): State<Arc<AtomicU64>>, body: Bytes) -> String {
    let items = lines(&body) / 2;
    count.fetch_add(items, Ordering::Relaxed);
    let item = r#"{"create":{"status":201}}"#;
    let items: Vec<&str> = (0..items).map(|_| item).collect();
    format!(r#"{{"errors":false,"items":[{}]}}"#, items.join(","))
}

async fn events(State(count): State<Arc<AtomicU64>>, body: Bytes) -> &'static str {
    count.fetch_add(lines(&body), Ordering::Relaxed);
    r#"{"text":"Success","code":0}"#
}

/// A receiver's process; killed when this is dropped.
pub(crate) struct Receiver {
    pub(crate) url: String,
    address: String,
    /// The file of a token that it does not look at.
    token: PathBuf,
    process: Child,
}

impl Receiver {
    pub(crate) fn start(folder: &Path) -> anyhow::Result<Self> {
        let told = folder.join("receiver");
        if told.exists() {
            std::fs::remove_file(&told)?;
        }
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("receiver").arg(&told).stdin(Stdio::null());
        let mut process = command.spawn().context("starting the receiver")?;
        while !told.exists() {
            ensure!(process.try_wait()?.is_none(), "the receiver ended before it served");
            std::thread::sleep(Duration::from_millis(20));
        }
        let address = std::fs::read_to_string(&told)?;
        let token = folder.join("hec-token");
        std::fs::write(&token, "11111111-2222-4333-8444-555555555555")?;
        Ok(Self { url: format!("http://{address}"), address, token, process })
    }

    /// A sink that delivers here.
    pub(crate) fn sink(&self, protocol: &str) -> String {
        match protocol {
            "bulk" => format!("type: opensearch, url: \"{}\", index: threatlocker-events", self.url),
            _ => {
                let token = self.token.display();
                format!("type: splunk_hec, url: \"{}\", ack: off, token: {{ file: {token} }}", self.url)
            }
        }
    }

    pub(crate) fn clone_address(&self) -> String {
        self.address.clone()
    }

    pub(crate) fn count(&self) -> anyhow::Result<u64> {
        count(&self.address)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // It ends by no other means.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// How many records a receiver has.
pub(crate) fn count(address: &str) -> anyhow::Result<u64> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"GET /count HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.rsplit("\r\n").next().context("no answer")?.trim().parse()?)
}
