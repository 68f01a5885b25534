//! A real OpenSearch, one for all tests of the process.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::app::setting;
use super::say;

/// Its address, or none where it cannot be had, which is said and fails where `CI` is set.
pub(crate) async fn opensearch() -> Option<OpenSearch> {
    static URL: OnceLock<Option<String>> = OnceLock::new();
    let url = tokio::task::spawn_blocking(|| URL.get_or_init(start).clone()).await.unwrap();
    if url.is_none() {
        assert!(setting::<String>("CI").is_none(), "no OpenSearch: see tests/services/opensearch");
        say("SKIPPED: no OpenSearch could be started (tests/services/opensearch needs a JDK and Maven)");
    }
    url.map(|url| OpenSearch { url, client: reqwest::Client::new() })
}

/// It ends with our end of the pipe, which is never closed before this process is.
fn start() -> Option<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/services/opensearch");
    let mut child = Command::new(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take()?).read_line(&mut line).ok()?;
    let port: u16 = line.strip_prefix("http ")?.trim().parse().ok()?;
    std::mem::forget(child);
    Some(format!("http://127.0.0.1:{port}"))
}

/// A client of our own.
pub(crate) struct OpenSearch {
    pub(crate) url: String,
    client: reqwest::Client,
}

/// A document as it was found.
#[derive(Debug, Deserialize)]
pub(crate) struct Document {
    #[serde(rename = "_index")]
    pub(crate) index: String,
    #[serde(rename = "_id")]
    pub(crate) id: String,
    /// The bytes that were stored.
    #[serde(rename = "_source")]
    pub(crate) source: Box<RawValue>,
}

impl OpenSearch {
    /// Sends JSON and answers the text that comes back. Fails where it does.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: Value) -> String {
        let method = method.parse().unwrap();
        let request = self.client.request(method, format!("{}/{path}", self.url));
        let request = request.header("content-type", "application/json").body(body.to_string());
        let answer = request.send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{path}: {status} {text}");
        text
    }

    /// Indices whose names begin so take what comes, of one shard each; `properties` are mapped.
    pub(crate) async fn template(&self, prefix: &str, properties: Value) {
        let template = json!({
            "settings": { "number_of_shards": 1, "number_of_replicas": 0 },
            "mappings": { "dynamic": false, "properties": properties },
        });
        let body = json!({ "index_patterns": [format!("{prefix}*")], "template": template });
        self.ask("PUT", &format!("_index_template/{prefix}"), body).await;
    }

    /// Every document of the indices whose names begin so.
    pub(crate) async fn documents(&self, prefix: &str) -> Vec<Document> {
        #[derive(Deserialize)]
        struct Page {
            #[serde(rename = "_scroll_id")]
            scroll: String,
            hits: Hits,
        }
        #[derive(Deserialize)]
        struct Hits {
            hits: Vec<Document>,
        }
        self.ask("POST", &format!("{prefix}*/_refresh"), json!({})).await;
        let first = self.ask("POST", &format!("{prefix}*/_search?scroll=1m"), json!({ "size": 2000 })).await;
        let mut page: Page = serde_json::from_str(&first).unwrap();
        let mut all = Vec::new();
        while !page.hits.hits.is_empty() {
            all.append(&mut page.hits.hits);
            let next = json!({ "scroll": "1m", "scroll_id": page.scroll });
            page = serde_json::from_str(&self.ask("POST", "_search/scroll", next).await).unwrap();
        }
        all
    }
}
