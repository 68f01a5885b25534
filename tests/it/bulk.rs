//! Into a real OpenSearch: each record once, whatever happens on the way.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use lockstep::control;
use lockstep::deliver::SinkCondition;
use lockstep::order::Order;
use lockstep::simulator::world::{Source, WorldOptions};
use lockstep::store::replays::Wanted;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::app::{MINUTE, SOON, Setup, TestApp, delivered, fresh_seed};
use crate::support::gate::{Effect, Gate};
use crate::support::opensearch::{OpenSearch, opensearch};

/// The beginning of the names of indices that no other test uses, whatever the seed.
fn prefix() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("t{}-{:x}-", COUNT.fetch_add(1, Ordering::Relaxed), fresh_seed())
}

/// The bytes of all documents, none of which stands in two indices.
async fn lines(far_side: &OpenSearch, prefix: &str) -> Vec<String> {
    let documents = far_side.documents(prefix).await;
    documents.into_iter().map(|document| document.source.get().to_owned()).collect()
}

/// The program with a sink to OpenSearch beside its files.
async fn app(url: &str, prefix: &str, more: &str) -> TestApp {
    let sink = format!(
        "{{ name: search, type: opensearch, format: raw, url: \"{url}\", index: \"{prefix}{{kind}}s-{{date}}\"{more} }}"
    );
    let world = WorldOptions { seed: fresh_seed(), rows_per_day: 3_000, ..WorldOptions::default() };
    TestApp::start(Setup { world, sinks: vec![sink], ..Setup::default() }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_records_the_one_that_the_index_cannot_take_becomes_a_dead_letter() {
    let Some(far_side) = opensearch().await else { return };
    let prefix = prefix();
    let row = json!({ "properties": { "poisoned": { "type": "long" } } });
    far_side.template(&prefix, json!({ "row": row })).await;
    let app = app(&far_side.url, &prefix, "").await;
    app.wait_caught_up(SOON).await;
    let now = app.advance(MINUTE);
    {
        let mut stage = app.portal.stage();
        stage.world.burst(Source::UnifiedAudit, 0, now, 200);
        let at = chrono::DateTime::from_timestamp_micros(now).unwrap().to_rfc3339();
        let organization = stage.world.organizations[0].id.to_string();
        let row = format!(
            r#"{{"eActionLogId":"bad-1","organizationId":"{organization}","dateTime":"{at}","dateTimeImported":"{at}","actionType":"execute","poisoned":"Jane"}}"#
        );
        stage.world.inject_raw(Source::UnifiedAudit, 0, now, row);
    }
    app.advance(2 * MINUTE);
    app.wait("refused the record", SOON, |status| status.sinks.iter().any(|sink| sink.dead_letters > 0))
        .await;
    app.quiet();
    app.wait_caught_up(SOON).await;
    let letters = app.dead_letters().await;
    assert_eq!(letters.len(), 1, "{letters:?}");
    let (source, reason, body) = &letters[0];
    assert_eq!(source, "unified_audit");
    assert!(reason.contains("mapper_parsing_exception") && reason.contains("poisoned"), "{reason}");
    assert!(!reason.contains("Jane"), "{reason}");
    assert!(String::from_utf8_lossy(body).contains("bad-1"));
    let found: Vec<Value> =
        lines(&far_side, &prefix).await.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let output = app.stopped().await;
    assert_eq!(found.len(), output.records.len() - 1, "the files have all");
    let files: std::collections::HashSet<_> =
        output.records.iter().map(|record| record.uid.as_str()).collect();
    assert!(found.iter().all(|document| files.contains(document["uid"].as_str().unwrap())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_far_side_that_asks_to_be_left_alone_is_and_holds_up_no_other_sink() {
    let Some(far_side) = opensearch().await else { return };
    let prefix = prefix();
    far_side.template(&prefix, json!({})).await;
    let gate = Gate::before(&far_side.url).await;
    gate.always(Effect::Status(429, Some(4)));
    let app = app(&gate.url, &prefix, ", concurrent: 1").await;
    let status = app
        .wait("had all in its files", SOON, |status| {
            let done = |name| status.sinks.iter().any(|sink| sink.name == name && sink.pending_bytes == 0);
            done("out") && status.sinks.iter().any(|sink| sink.delivered_records > 2_000) && !done("search")
        })
        .await;
    let search = status.sinks.iter().find(|sink| sink.name == "search").unwrap();
    assert_eq!(search.state, SinkCondition::Retrying);
    let said = search.last_error.clone().unwrap();
    assert!(said.contains("429") && said.contains("left alone for 4 s"), "{said}");
    while gate.seen().len() < 3 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let seen = gate.seen();
    let apart: Vec<Duration> = seen.windows(2).map(|two| two[1].at - two[0].at).collect();
    assert!(apart.iter().all(|apart| *apart >= Duration::from_secs(4)), "{apart:?}");
    gate.open();
    app.quiet();
    app.wait_caught_up(SOON).await;
    app.wait("delivered", SOON, delivered).await;
    let output = app.stopped().await;
    assert_eq!(lines(&far_side, &prefix).await.len(), output.records.len());
}

/// A cluster with a closed index takes nothing for it, which is nobody's fault but the operator's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_index_holds_the_sink_and_no_record_is_given_up() {
    let Some(far_side) = opensearch().await else { return };
    let prefix = prefix();
    far_side.template(&prefix, json!({})).await;
    let app = app(&far_side.url, &prefix, "").await;
    app.wait_caught_up(SOON).await;
    far_side.ask("POST", &format!("{prefix}*/_close"), json!({})).await;
    let now = app.advance(MINUTE);
    app.portal.stage().world.burst(Source::UnifiedAudit, 0, now, 50);
    app.advance(2 * MINUTE);
    let held = |status: &lockstep::status::Status| {
        status.sinks.iter().any(|sink| sink.name == "search" && sink.state == SinkCondition::Held)
    };
    let status = app.wait("held the sink", SOON, held).await;
    let search = status.sinks.iter().find(|sink| sink.name == "search").unwrap();
    assert!(search.last_error.as_ref().unwrap().contains("index_closed_exception"), "{search:?}");
    far_side.ask("POST", &format!("{prefix}*/_open"), json!({})).await;
    let mut app = app;
    app.quiet();
    // A held sink looks again after a minute, or at once after a restart.
    app.restart().await;
    app.wait_caught_up(SOON).await;
    assert!(app.dead_letters().await.is_empty());
    let found = lines(&far_side, &prefix).await.len();
    let output = app.stopped().await;
    assert_eq!(found, output.records.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_lost_or_spoilt_in_an_index_is_there_again_after_a_replay() {
    let Some(far_side) = opensearch().await else { return };
    let prefix = prefix();
    far_side.template(&prefix, json!({})).await;
    let app = app(&far_side.url, &prefix, "").await;
    app.quiet();
    app.wait_caught_up(SOON).await;
    app.wait("delivered", SOON, delivered).await;
    let mut before = lines(&far_side, &prefix).await;
    before.sort_unstable();
    let documents = far_side.documents(&prefix).await;
    for (place, document) in documents.iter().take(40).enumerate() {
        let path = format!("{}/_doc/{}", document.index, document.id);
        match place {
            0 => far_side.ask("PUT", &path, json!({ "spoilt": true })).await,
            _ => far_side.ask("DELETE", &path, json!({})).await,
        };
    }
    assert_eq!(lines(&far_side, &prefix).await.len(), before.len() - 39);
    let wanted = Wanted { sink: "search".to_owned(), from: 0, to: i64::MAX, sources: Vec::new(), site: None };
    let (done, running) = control::give(Order::Replay(wanted), &app.state_folder()).await.unwrap();
    assert!(running && done.count > 0);
    let replayed = |status: &lockstep::status::Status| {
        status.sinks.iter().all(|sink| sink.replaying == 0 && sink.pending_bytes == 0)
    };
    app.wait("replayed", SOON, replayed).await;
    let now = lines(&far_side, &prefix).await;
    let output = app.stopped().await;
    assert!(before.iter().all(|line| now.contains(line)), "all is there as it was");
    assert!(!now.iter().any(|line| line.contains("spoilt")));
    assert!(now.len() <= output.records.len(), "and nothing twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_stream_gets_a_timestamp_with_each_record() {
    let Some(far_side) = opensearch().await else { return };
    let name = format!("{}stream", prefix());
    let body = json!({ "index_patterns": [name], "data_stream": {}, "template": {
        "settings": { "number_of_shards": 1, "number_of_replicas": 0 }, "mappings": { "dynamic": false } } });
    far_side.ask("PUT", &format!("_index_template/{name}"), body).await;
    let sink = format!(
        "{{ name: search, type: opensearch, url: \"{}\", index: {name}, data_stream: true }}",
        far_side.url
    );
    let world = WorldOptions { seed: fresh_seed(), rows_per_day: 300, ..WorldOptions::default() };
    let began = Instant::now();
    let app = TestApp::start(Setup { world, sinks: vec![sink], ..Setup::default() }).await;
    app.quiet();
    app.wait_caught_up(SOON).await;
    let documents = far_side.documents(&name).await;
    assert!(documents.len() > 200, "{} in {:?}", documents.len(), began.elapsed());
    for document in &documents {
        let found: Value = serde_json::from_str(document.source.get()).unwrap();
        let at: chrono::DateTime<chrono::Utc> = found["@timestamp"].as_str().unwrap().parse().unwrap();
        assert_eq!(Some(at.timestamp_millis()), found["time"].as_i64(), "{found}");
        assert_eq!(found["metadata"]["uid"], document.id.as_str(), "{}", document.index);
    }
    app.stopped().await;
}
