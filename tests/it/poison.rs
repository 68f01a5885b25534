//! One record of ten thousand that no far side takes: it becomes a dead letter of each, and all others arrive, once.

use std::collections::HashSet;

use lockstep::model::Micros;
use lockstep::simulator::world::{Source, WorldOptions};
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use serde::Deserialize;
use serde_json::json;

use crate::support::app::{MINUTE, SOON, Setup, TestApp, fresh_seed};
use crate::support::kafka::Kafka;
use crate::support::opensearch::opensearch;
use crate::support::output::Output;
use crate::support::receiver::{Receiver, Wants};
use crate::support::say;

/// Rows beside the poisoned one.
const ROWS: u32 = 9_999;

/// A row whose one field is of a type that the index does not take, whose text the receiver refuses, and which is
/// larger than the topic takes, however it is packed.
fn poisoned(organization: &str, at: Micros, seed: u64) -> String {
    let mut noise = vec![0; 350_000];
    StdRng::seed_from_u64(seed).fill_bytes(&mut noise);
    let noise: String = noise.iter().map(|byte| format!("{byte:02x}")).collect();
    let at = chrono::DateTime::from_timestamp_micros(at).unwrap().to_rfc3339();
    format!(
        r#"{{"eActionLogId":"bad-1","organizationId":"{organization}","dateTime":"{at}","dateTimeImported":"{at}","actionType":"execute","poisoned":"Jane","notes":"{noise}"}}"#
    )
}

/// The uids of lines, each of which is there once.
fn uids(lines: &[String]) -> HashSet<String> {
    #[derive(Deserialize)]
    struct Line {
        uid: String,
    }
    let uids: HashSet<String> =
        lines.iter().map(|line| serde_json::from_str::<Line>(line).unwrap().uid).collect();
    assert_eq!(uids.len(), lines.len(), "some came twice");
    uids
}

/// All that is in the files but the poisoned record.
fn all_but_one(found: &HashSet<String>, files: &Output) {
    assert_eq!(files.records.len(), found.len() + 1);
    let missing: Vec<_> = files.records.iter().filter(|record| !found.contains(&record.uid)).collect();
    assert_eq!(missing.len(), 1, "{missing:?}");
    assert_eq!(missing[0].vendor_id.as_deref(), Some("bad-1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_ten_thousand_records_the_poisoned_one_is_a_dead_letter_of_each_sink_and_all_others_arrive_once() {
    let Some(search) = opensearch().await else { return };
    let Some(kafka) = Kafka::shared() else { return };
    let seed = fresh_seed();
    let name = format!("poison{seed:x}");
    search.template(&name, json!({ "row": { "properties": { "poisoned": { "type": "long" } } } })).await;
    for (topic, setting) in [
        ("events", "max.message.bytes=300000"),
        ("devices", "retention.ms=-1"),
        ("positions", "cleanup.policy=compact"),
    ] {
        kafka.client_tool(&["create", &format!("{name}-{topic}"), "1", setting]);
    }
    let receiver = Receiver::start(Wants { poison: Some("\"poisoned\""), ..Wants::default() }).await;
    let sinks = vec![
        format!("{{ name: post, type: http, format: raw, url: \"{}/records\" }}", receiver.url),
        format!(
            "{{ name: search, type: opensearch, format: raw, url: \"{}\", index: \"{name}-{{date}}\" }}",
            search.url
        ),
        format!(
            "{{ name: lake, type: kafka, format: raw, brokers: [\"{}\"], positions_topic: {name}-positions, \
             topics: {{ events: {name}-events, devices: {name}-devices }} }}",
            kafka.plain()
        ),
    ];
    let world = WorldOptions { seed, rows_per_day: 200, ..WorldOptions::default() };
    let without = vec!["system_audit", "computers"];
    let app = TestApp::start(Setup { world, sinks, without, ..Setup::default() }).await;
    // A far side that has taken nothing yet is not believed when it refuses.
    app.wait_caught_up(SOON).await;
    let now = app.advance(MINUTE);
    {
        let mut stage = app.portal.stage();
        let organization = stage.world.organizations[0].id.to_string();
        stage.world.burst(Source::UnifiedAudit, 0, now, ROWS / 2);
        stage.world.inject_raw(Source::UnifiedAudit, 0, now, poisoned(&organization, now, seed));
        stage.world.burst(Source::UnifiedAudit, 0, now, ROWS - ROWS / 2);
    }
    app.advance(2 * MINUTE);
    let names = ["post", "search", "lake"];
    app.wait("refused the record everywhere", 2 * SOON, |status| {
        let refused = |name| status.sinks.iter().any(|sink| sink.name == name && sink.dead_letters == 1);
        names.into_iter().all(refused)
    })
    .await;
    app.quiet();
    app.wait_caught_up(2 * SOON).await;
    let letters = app.dead_letters().await;
    let reasons: Vec<&str> = letters.iter().map(|(_, reason, _)| reason.as_str()).collect();
    assert_eq!(reasons.len(), 3, "{reasons:?}");
    for says in ["one of these is poisoned", "mapper_parsing_exception", "max.message.bytes"] {
        assert_eq!(reasons.iter().filter(|reason| reason.contains(says)).count(), 1, "{reasons:?}");
    }
    for (_, reason, body) in &letters {
        assert!(!reason.contains("Jane"), "{reason}");
        assert!(body.windows(7).any(|bytes| bytes == b"\"bad-1\""));
    }
    let files = app.stopped().await;
    assert!(files.records.len() > ROWS as usize, "{}", files.records.len());
    say(format_args!("poison: seed {seed}: {} records, one refused by each sink", files.records.len()));
    all_but_one(&uids(&receiver.lines()), &files);
    let documents = search.documents(&name).await;
    let documents: Vec<String> =
        documents.into_iter().map(|document| document.source.get().to_owned()).collect();
    all_but_one(&uids(&documents), &files);
    let messages = tokio::task::block_in_place(|| kafka.read(&[&format!("{name}-events")]));
    let values: Vec<String> = messages.into_iter().map(|message| message.value).collect();
    all_but_one(&uids(&values), &files);
}
