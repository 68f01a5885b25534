//! To whatever takes records by POST, played strictly.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use lockstep::deliver::SinkCondition;
use lockstep::simulator::world::WorldOptions;
use serde_json::Value;

use crate::support::app::{SOON, Setup, TestApp, fresh_seed};
use crate::support::receiver::{Receiver, Wants};

/// The first line of each uid.
fn once_each(lines: &[String]) -> Vec<String> {
    let mut seen = HashSet::new();
    let uid =
        |line: &String| serde_json::from_str::<Value>(line).unwrap()["uid"].as_str().unwrap().to_owned();
    lines.iter().filter(|line| seen.insert(uid(line))).cloned().collect()
}

fn secret_file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

async fn app(receiver: &Receiver, more: &str) -> TestApp {
    let sink = format!("{{ name: post, type: http, format: raw, url: \"{}/records\"{more} }}", receiver.url);
    let world = WorldOptions { seed: fresh_seed(), rows_per_day: 1_000, ..WorldOptions::default() };
    TestApp::start(Setup { world, sinks: vec![sink], ..Setup::default() }).await
}

/// Everything that was delivered arrived, none of it twice.
async fn all_arrived(app: TestApp, receiver: &Receiver) {
    app.quiet();
    app.wait_caught_up(SOON).await;
    let letters = app.dead_letters().await;
    assert!(letters.is_empty(), "{letters:?}");
    let output = app.stopped().await;
    let lines = receiver.lines();
    assert_eq!(receiver.wrong(), [""; 0]);
    assert_eq!(lines.len(), output.records.len());
    let uids = once_each(&lines).len();
    assert_eq!(uids, lines.len(), "some arrived twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn arrays_are_packed_signed_and_cut_to_what_the_far_side_takes() {
    let key = "a key of some length".to_owned();
    let wants = Wants { key: Some(key.clone()), array: true, largest: Some(150_000), ..Wants::default() };
    let receiver = Receiver::start(wants).await;
    let (_folder, secret) = secret_file(&key);
    let more = format!(
        ", body: array, compression: gzip, auth: {{ type: hmac, secret: {{ file: {} }} }}",
        secret.display()
    );
    let app = app(&receiver, &more).await;
    all_arrived(app, &receiver).await;
}

async fn shown(more: impl Fn(&Path) -> String, header: (&'static str, String)) {
    let receiver = Receiver::start(Wants { header: Some(header), ..Wants::default() }).await;
    let (_folder, secret) = secret_file("s3cret-of-ours");
    let app = app(&receiver, &more(&secret)).await;
    all_arrived(app, &receiver).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_travels_in_the_header_that_was_chosen() {
    let auth = |kind: &'static str| {
        move |file: &Path| format!(", auth: {{ type: {kind}, secret: {{ file: {} }} }}", file.display())
    };
    tokio::join!(
        shown(auth("basic, username: me"), ("authorization", "Basic bWU6czNjcmV0LW9mLW91cnM=".to_owned())),
        shown(auth("bearer"), ("authorization", "Bearer s3cret-of-ours".to_owned())),
        shown(auth("header, header: X-Api-Key"), ("x-api-key", "s3cret-of-ours".to_owned())),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_far_side_that_refuses_every_record_holds_the_sink_before_any_is_given_up() {
    let receiver = Receiver::start(Wants { poison: Some("\"uid\""), ..Wants::default() }).await;
    let app = app(&receiver, "").await;
    let status = app
        .wait("held the sink", SOON, |status| {
            status.sinks.iter().any(|sink| sink.state == SinkCondition::Held)
        })
        .await;
    let sink = status.sinks.iter().find(|sink| sink.name == "post").unwrap();
    let said = sink.last_error.clone().unwrap();
    assert!(said.contains("refused") && said.contains("poisoned") && said.contains("given up"), "{said}");
    assert!(app.dead_letters().await.is_empty());
    receiver.wants(Wants::default());
    let mut app = app;
    app.restart().await;
    all_arrived(app, &receiver).await;
}
