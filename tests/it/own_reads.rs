//! Our own requests in the portal's system audit: recognised, dropped where that is wanted, and told apart from
//! those of somebody else with the same token.

use std::collections::HashSet;
use std::time::Duration;

use lockstep::model::SECOND;
use lockstep::simulator::Simulator;
use lockstep::simulator::truth::TruthRow;
use lockstep::simulator::world::{Source, WorldOptions};

use crate::support::app::{MINUTE, SOON, Setup, Site, TestApp, fresh_seed};
use crate::support::verdict::{hash, micros};

/// Somebody else reads with the same token.
async fn read_elsewhere(portal: &Simulator) {
    let url = format!("{}/portalapi/Computer/ComputerGetByAllParameters", portal.url);
    let request = reqwest::Client::new().post(url).header("Authorization", &portal.token);
    let request = request.header("Content-Type", "application/json");
    let request = request.header("ManagedOrganizationId", portal.organization(0).to_string());
    let answer = request.body(r#"{"pageNumber":1,"pageSize":1}"#).send().await.unwrap();
    assert!(answer.status().is_success(), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_reads_are_dropped_once_recognised_and_somebody_else_with_the_token_is_told() {
    let mut site = Site::new("acme", "all");
    site.more.push("own_reads: drop".to_owned());
    let world =
        WorldOptions { seed: fresh_seed(), rows_per_day: 3_000, own_noise: true, ..WorldOptions::default() };
    let mut app = TestApp::start(Setup { world, sites: vec![site], every: 400, ..Setup::default() }).await;
    app.wait("recognised its own reads", SOON, |status| status.sites[0].own_reads.is_some()).await;
    // A page that was read before still delivers them.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let dropped_from = app.portal.now();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let quiet = app.status().await;
    assert!(!quiet.problems.iter().any(|problem| problem.contains("used elsewhere")), "{:?}", quiet.problems);
    for _ in 0..40 {
        read_elsewhere(&app.portal).await;
    }
    let dropped_until = app.portal.now();
    app.advance(20 * MINUTE);
    // A warning: nothing is missing.
    app.wait("told of somebody else", SOON, |status| {
        status.fresh && status.problems.iter().any(|problem| problem.contains("used elsewhere"))
    })
    .await;
    app.settle(1, SOON).await;
    app.stop().await;
    let output = app.output();
    let tally = app.verdict(&output).0.remove("system_audit").unwrap();
    assert!(tally.doubled.is_empty() && tally.invented.is_empty(), "{tally}");
    let delivered: HashSet<_> = output.records.iter().map(|record| record.hash).collect();
    let rows = app.portal.truth(Source::SystemAudit, false);
    let settled =
        |row: &&TruthRow| (dropped_from - 4 * SECOND..dropped_until).contains(&micros(&row.date_time));
    let own: Vec<&TruthRow> = rows.iter().filter(|row| row.own).filter(settled).collect();
    let kept = own.iter().filter(|row| delivered.contains(&hash(row))).count();
    assert!(own.len() > 40 && kept == 0, "of {} own rows {kept} were delivered", own.len());
    let mut others = rows.iter().filter(|row| !row.own && app.owed(row, Source::SystemAudit));
    assert!(others.all(|row| delivered.contains(&hash(row))), "only own reads are dropped");
}
