//! Into a real OpenSearch: each record once, whatever happens on the way.

use std::time::Duration;

use lockstep::deliver::SinkCondition;
use serde_json::json;

use crate::support::app::{SOON, Setup, TestApp, fresh_seed};
use crate::support::gate::{Effect, Gate};
use crate::support::opensearch::{OpenSearch, opensearch};
use crate::support::ordeal::Ordeal;
use crate::support::say;

/// A name that no other test uses.
fn prefix() -> String {
    format!("t{:x}-", fresh_seed())
}

/// The raw rows of all documents, none of which stands in two indices.
async fn lines(far_side: &OpenSearch, prefix: &str) -> Vec<String> {
    let documents = far_side.documents(prefix).await;
    documents.into_iter().map(|document| document.source.get().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_requests_fail_every_record_is_in_one_index_once() {
    let Some(far_side) = opensearch().await else { return };
    let (seed, prefix) = (fresh_seed(), prefix());
    far_side.template(&prefix, json!({})).await;
    let gate = Gate::before(&far_side.url).await;
    let sink = format!(
        "  - {{ name: search, type: opensearch, format: raw, url: {}, index: \"{prefix}{{kind}}s-{{org_id}}-{{date}}\", request_size: 64KiB }}",
        gate.url
    );
    let ordeal = Ordeal::run(&sink, &gate, seed).await;
    let lines = lines(&far_side, &prefix).await;
    let (verdict, output) = ordeal.verdict(lines).await;
    let failed = gate.seen().iter().filter(|seen| seen.effect != Effect::Through).count();
    say(format_args!(
        "bulk: seed {seed}: {} records, {} requests of which {failed} failed: {verdict}",
        output.records.len(),
        gate.seen().len()
    ));
    assert!(failed > 5 && output.records.len() > 1_000, "too little happened");
    assert!(verdict.is_clean(), "SEED={seed}: {verdict}\n{}", verdict.examples());
}
