//! Proof 3: rows that come late, early, in bursts or without an id, while others come and go between two
//! pages, whatever our own clock says.

use std::time::Duration;

use lockstep::simulator::dialect::Dialect;
use lockstep::simulator::faults::{Effect, Fault};
use lockstep::simulator::world::{Source, WorldOptions};

use crate::support::app::{DAY, HOUR, MINUTE, SOON, Setup, TestApp, fresh_seed};

const LONG: Duration = Duration::from_secs(240);

/// A world in which nearly everything is out of order.
fn unruly(rows_per_day: i64) -> WorldOptions {
    WorldOptions {
        seed: fresh_seed(),
        rows_per_day,
        late_share: 0.15,
        late_days: 25,
        future_share: 0.02,
        skew_seconds: 600,
        other_table_share: 0.02,
        no_id_share: 0.05,
        ..WorldOptions::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_rows_late_early_and_in_a_burst_arrive_once() {
    let app = TestApp::start(Setup { world: unruly(32_000), ..Setup::default() }).await;
    app.wait_caught_up(LONG).await;
    app.portal.fault(Fault::share(0.1, Effect::Drift { rows: 2, backdated: false }));
    app.portal.fault(Fault::share(0.05, Effect::Deletion { rows: 1 }));
    for hour in 0..12 {
        if hour == 6 {
            let mut stage = app.portal.stage();
            let now = stage.tick();
            stage.world.burst(Source::UnifiedAudit, 1, now - 20 * MINUTE, 60_000);
            stage.world.add_equal_rows(1, now - 10 * MINUTE, 5);
        }
        app.advance(HOUR);
        app.wait_caught_up(LONG).await;
    }
    app.settle(2, LONG).await;
    let rows = app.portal.truth(Source::UnifiedAudit, false).len();
    assert!(rows > 100_000, "{rows}");
    app.finish("100,000 rows out of order").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_come_and_go_while_their_pages_are_read_are_neither_lost_nor_doubled() {
    let world = WorldOptions { backlog_hours: 48, ..unruly(8_000) };
    let setup = Setup { world, page_size: 100, backfill: 86_400, ..Setup::default() };
    let mut app = TestApp::prepare(setup).await;
    app.portal.fault(Fault::share(0.3, Effect::Drift { rows: 3, backdated: true }));
    app.portal.fault(Fault::share(0.3, Effect::Deletion { rows: 2 }));
    app.run().await;
    app.wait_caught_up(LONG).await;
    for _ in 0..6 {
        app.advance(20 * MINUTE);
        app.wait_caught_up(LONG).await;
    }
    app.settle(10, LONG).await;
    app.finish("drift and deletion while paging").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_filed_by_their_import_arrive_once() {
    let dialect = Dialect::named("imported").unwrap();
    let app = TestApp::start(Setup { world: unruly(8_000), dialect, ..Setup::default() }).await;
    app.wait_caught_up(LONG).await;
    for _ in 0..6 {
        app.advance(HOUR);
        app.wait_caught_up(LONG).await;
    }
    app.settle(2, LONG).await;
    app.finish("filed by import").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_equal_rows_without_an_id_are_five_records() {
    let world =
        WorldOptions { seed: fresh_seed(), rows_per_day: 500, no_id_share: 0.3, ..WorldOptions::default() };
    let app = TestApp::start(Setup { world, ..Setup::default() }).await;
    app.wait_caught_up(SOON).await;
    {
        let mut stage = app.portal.stage();
        let now = stage.tick();
        // In what is covered already, and in what is still to come.
        stage.world.add_equal_rows(2, now - HOUR, 5);
        stage.world.add_equal_rows(1, now + MINUTE, 5);
    }
    app.advance(HOUR);
    app.wait_caught_up(SOON).await;
    app.settle(1, SOON).await;
    let counts = app.finish("five equal rows").await.counted("system_audit");
    assert_eq!(counts.values().filter(|count| **count == 5).count(), 2);
}

/// The collector's clock is off by so much, from the beginning and differently after a restart while the
/// portal is down.
async fn with_a_wrong_clock(ahead: i64, name: &str) {
    let world = WorldOptions { rows_per_day: 3_000, ..unruly(3_000) };
    let mut app = TestApp::start(Setup { world, clock_ahead: ahead, ..Setup::default() }).await;
    app.wait_caught_up(SOON).await;
    app.advance(3 * HOUR);
    app.wait_caught_up(SOON).await;
    app.stop().await;
    app.portal.stop().await;
    app.portal.stage().clock.advance(3 * HOUR);
    app.setup.clock_ahead = -ahead;
    app.run().await;
    app.wait("said that the portal is away", SOON, |status| status.sites[0].last_error.is_some()).await;
    app.portal.restart().await.unwrap();
    app.wait_caught_up(SOON).await;
    let status = app.status().await;
    let offset = status.sites[0].clock_offset_seconds.unwrap();
    assert!(offset.abs() > 86_400.0, "our clock is {offset} s off, and status says so");
    app.settle(1, SOON).await;
    app.finish(name).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_two_days_ahead_changes_nothing() {
    with_a_wrong_clock(2 * DAY, "clock two days ahead").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_two_days_behind_changes_nothing() {
    with_a_wrong_clock(-2 * DAY, "clock two days behind").await;
}
