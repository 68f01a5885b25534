//! Proof 4: what collecting costs in requests, counted by the portal.

use std::time::Duration;

use lockstep::simulator::faults::{Effect, Fault};
use lockstep::simulator::requests::Endpoint;
use lockstep::simulator::world::{Source, WorldOptions};

use crate::support::app::{DAY, HOUR, MINUTE, SOON, Setup, TestApp, fresh_seed};

/// A listing that stands still.
fn still(rows_per_day: i64) -> WorldOptions {
    WorldOptions {
        seed: fresh_seed(),
        rows_per_day,
        live: false,
        own_noise: false,
        late_share: 0.0,
        ..WorldOptions::default()
    }
}

fn unified_requests(app: &TestApp) -> u64 {
    app.portal.stats().requests_by_endpoint.get(&Endpoint::UnifiedAudit).copied().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_stream_costs_two_requests_a_poll_and_its_rechecks() {
    let app = TestApp::start(Setup { world: still(2_000), every: 100, ..Setup::default() }).await;
    app.wait_caught_up(SOON).await;
    app.wait_idle(SOON).await;
    let (before, began) = (unified_requests(&app), tokio::time::Instant::now());
    tokio::time::sleep(Duration::from_secs(3)).await;
    let idle = unified_requests(&app) - before;
    // 10 % of jitter, and the poll in hand.
    let polls = began.elapsed().as_secs_f64() / 0.09 + 1.0;
    app.note("idle", format_args!("{idle} requests in about {polls:.0} polls"));
    // The edge moves by whole seconds, however often it is looked at.
    assert!(idle >= 2 && idle as f64 <= 2.0 * polls, "{idle} requests in at most {polls} polls");

    // A day in steps of ten minutes; everything that does not ask for the newest rows is looking again.
    let mut rechecks = 0;
    let mut seen = app.portal.stats().requests;
    for _ in 0..144 {
        let now = app.advance(10 * MINUTE);
        app.wait_idle(SOON).await;
        let asked = app.portal.requests_since(seen);
        seen = app.portal.stats().requests;
        rechecks += asked
            .iter()
            .filter(|one| one.endpoint == Some(Endpoint::UnifiedAudit))
            .filter(|one| one.size == 1 || one.to.is_some_and(|to| to < now - 15 * MINUTE))
            .count();
    }
    app.note("re-checks of an idle stream", format_args!("{rechecks} requests a day"));
    assert!(rechecks < 500, "{rechecks} requests a day to look again");
    app.finish("idle").await;
}

/// Collects a backlog and answers pages needed and requests made.
async fn collect(app: &mut TestApp) -> (u64, u64) {
    app.run().await;
    app.wait_caught_up(2 * SOON).await;
    let rows = app.portal.truth(Source::UnifiedAudit, false);
    let since = app.started - DAY;
    let rows = rows.iter().filter(|row| crate::support::verdict::micros(&row.date_time) >= since).count();
    ((rows as u64).div_ceil(500), unified_requests(app))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_costs_little_more_requests_than_it_has_pages() {
    let mut app = TestApp::prepare(Setup { world: still(40_000), every: 2_000, ..Setup::default() }).await;
    let (pages, requests) = collect(&mut app).await;
    app.note("a still backlog", format_args!("{pages} pages, {requests} requests"));
    assert!(requests as f64 <= 1.3 * pages as f64 + 30.0, "{requests} requests for {pages} pages");
    app.advance(HOUR);
    app.wait_caught_up(SOON).await;
    app.finish("a still backlog").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_that_drifts_costs_three_times_its_pages_at_most() {
    let mut app = TestApp::prepare(Setup { world: still(40_000), every: 2_000, ..Setup::default() }).await;
    app.portal
        .fault(Fault::share(0.15, Effect::Drift { rows: 1, backdated: true }).at(Endpoint::UnifiedAudit));
    let (pages, requests) = collect(&mut app).await;
    app.note("a drifting backlog", format_args!("{pages} pages, {requests} requests"));
    assert!(requests as f64 <= 3.0 * pages as f64 + 30.0, "{requests} requests for {pages} pages");
    app.advance(HOUR);
    app.settle(1, 2 * SOON).await;
    app.finish("a drifting backlog").await;
}
