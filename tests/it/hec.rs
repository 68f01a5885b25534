//! Into Splunk's HTTP Event Collector, played strictly: no record is lost, and what came twice has the same uid.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use lockstep::deliver::SinkCondition;
use lockstep::simulator::world::{Source, WorldOptions};
use lockstep::status::Status;
use serde_json::Value;

use crate::support::app::{MINUTE, SOON, Setup, TestApp, fresh_seed};
use crate::support::hec::{self, Collector, Event};

fn uid(event: &Event) -> String {
    event.fields.as_ref().unwrap()["uid"].as_str().unwrap().to_owned()
}

/// The program with a sink to the collector beside its files.
async fn app(collector: &Collector, token: &std::path::Path, more: &str) -> TestApp {
    let sink = format!(
        "{{ name: splunk, type: splunk_hec, url: \"{}\", token: {{ file: {} }}{more} }}",
        collector.url,
        token.display()
    );
    let world = WorldOptions { seed: fresh_seed(), rows_per_day: 1_000, ..WorldOptions::default() };
    TestApp::start(Setup { world, sinks: vec![sink], ..Setup::default() }).await
}

fn token_file(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

async fn held(app: &TestApp) -> String {
    let is_held = |status: &Status| status.sinks.iter().any(|sink| sink.state == SinkCondition::Held);
    let status = app.wait("held the sink", SOON, is_held).await;
    let sink = status.sinks.iter().find(|sink| sink.name == "splunk").unwrap();
    sink.last_error.clone().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_token_holds_the_sink_until_there_is_another_and_nothing_is_given_up() {
    let collector = Collector::start(hec::Setup::default()).await;
    let (_folder, token) = token_file("22222222-0000-4000-8000-000000000000");
    let app = app(&collector, &token, "").await;
    let said = held(&app).await;
    assert!(said.contains("Invalid token") && said.contains(&token.display().to_string()), "{said}");
    assert!(!said.contains("22222222-0000"), "{said}");
    assert!(collector.indexed().is_empty());
    std::fs::write(&token, hec::Setup::default().token).unwrap();
    app.quiet();
    // Long before a held sink looks again by itself.
    let began = tokio::time::Instant::now();
    app.wait_caught_up(SOON).await;
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
    assert!(app.dead_letters().await.is_empty());
    tokio::time::sleep(Duration::from_millis(400)).await;
    let found = collector.indexed().len();
    let output = app.stopped().await;
    assert!(found >= output.records.len() && found > 500, "{found}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_event_that_the_collector_refuses_becomes_a_dead_letter_and_the_others_arrive() {
    let collector =
        Collector::start(hec::Setup { poison: Some("poisoned-path"), ..hec::Setup::default() }).await;
    let (_folder, token) = token_file(&hec::Setup::default().token);
    let app = app(&collector, &token, ", format: raw").await;
    app.wait_caught_up(SOON).await;
    let now = app.advance(MINUTE);
    {
        let mut stage = app.portal.stage();
        stage.world.burst(Source::UnifiedAudit, 0, now, 100);
        let at = chrono::DateTime::from_timestamp_micros(now).unwrap().to_rfc3339();
        let organization = stage.world.organizations[0].id.to_string();
        let row = format!(
            r#"{{"eActionLogId":"bad-1","organizationId":"{organization}","dateTime":"{at}","dateTimeImported":"{at}","actionType":"execute","fullPath":"poisoned-path"}}"#
        );
        stage.world.inject_raw(Source::UnifiedAudit, 0, now, row);
    }
    app.advance(2 * MINUTE);
    app.wait("refused the event", SOON, |status| status.sinks.iter().any(|sink| sink.dead_letters > 0)).await;
    app.quiet();
    app.wait_caught_up(SOON).await;
    let letters = app.dead_letters().await;
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert!(letters[0].1.contains("Invalid data format"), "{}", letters[0].1);
    tokio::time::sleep(Duration::from_millis(400)).await;
    let found: HashSet<String> = collector.indexed().iter().map(uid).collect();
    let output = app.stopped().await;
    let missing: Vec<_> = output.records.iter().filter(|record| !found.contains(&record.uid)).collect();
    assert_eq!(missing.len(), 1, "{missing:?}");
    assert_eq!(missing[0].vendor_id.as_deref(), Some("bad-1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_the_token_may_not_write_to_holds_the_sink_and_says_what_to_do() {
    let collector =
        Collector::start(hec::Setup { indexes: Some(vec!["main"]), ..hec::Setup::default() }).await;
    let (_folder, token) = token_file(&hec::Setup::default().token);
    let app = app(&collector, &token, ", index: threatlocker").await;
    let said = held(&app).await;
    assert!(
        said.contains("may not write to the index threatlocker") && said.contains("Incorrect index"),
        "{said}"
    );
    assert!(app.dead_letters().await.is_empty() && collector.indexed().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_acknowledgements_are_a_must_nothing_is_sent_to_a_token_without() {
    let collector = Collector::start(hec::Setup::default()).await;
    let (_folder, token) = token_file(&hec::Setup::default().token);
    let app = app(&collector, &token, ", ack: on").await;
    let said = held(&app).await;
    assert!(said.contains("offers no indexer acknowledgement"), "{said}");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(collector.indexed().is_empty(), "it sent events");
    collector.change(|setup| setup.ack = true);
    let mut app = app;
    app.quiet();
    app.restart().await;
    app.wait_caught_up(SOON).await;
    assert!(collector.indexed().len() > 500);
    app.stopped().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_envelope_tells_time_host_and_source_of_each_record() {
    let collector = Collector::start(hec::Setup { ack: true, ..hec::Setup::default() }).await;
    let (_folder, token) = token_file(&hec::Setup::default().token);
    let app = app(&collector, &token, ", index: main").await;
    app.quiet();
    app.wait_caught_up(SOON).await;
    let events = collector.indexed();
    let mut sourcetypes: BTreeMap<String, usize> = BTreeMap::new();
    let mut hosts = 0;
    for event in &events {
        let record: Value = serde_json::from_str(event.event.as_ref().unwrap().get()).unwrap();
        assert_eq!(record["metadata"]["uid"], uid(event));
        let seconds = event.time.as_ref().unwrap().as_f64().unwrap();
        assert!((seconds * 1_000.0 - record["time"].as_f64().unwrap()).abs() < 1.0, "{seconds} {record}");
        assert_eq!((event.index.as_deref(), event.source.as_deref()), (Some("main"), Some("lockstep:acme")));
        if let Some(host) = &event.host {
            let devices = [&record["device"], &record["entity"]["device"]];
            let told = devices.iter().flat_map(|device| [&device["hostname"], &device["name"]]);
            assert!(told.into_iter().any(|told| told == host), "{host}: {record}");
            hosts += 1;
        }
        *sourcetypes.entry(event.sourcetype.clone().unwrap()).or_default() += 1;
    }
    let names: Vec<_> = sourcetypes.keys().map(String::as_str).collect();
    assert_eq!(names, ["threatlocker:computers", "threatlocker:system_audit", "threatlocker:unified_audit"]);
    assert!(hosts > 500, "{hosts} of {}", events.len());
    app.stopped().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_does_not_wait_for_an_acknowledgement_that_never_comes() {
    let indexing = Duration::from_secs(3_600);
    let collector = Collector::start(hec::Setup { ack: true, indexing, ..hec::Setup::default() }).await;
    let (_folder, token) = token_file(&hec::Setup::default().token);
    let mut app = app(&collector, &token, ", format: raw").await;
    app.wait("had all in its files", SOON, |status| {
        status
            .sinks
            .iter()
            .any(|sink| sink.name == "out" && sink.pending_bytes == 0 && sink.delivered_records > 500)
    })
    .await;
    let took = app.stop().await;
    assert!(took < Duration::from_secs(15), "{took:?}");
    collector.change(|setup| setup.indexing = Duration::ZERO);
    app.run().await;
    app.quiet();
    app.wait_caught_up(SOON).await;
    let found: HashSet<String> = collector.indexed().iter().map(uid).collect();
    assert_eq!(found.len(), app.stopped().await.records.len());
}
