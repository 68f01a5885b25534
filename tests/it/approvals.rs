//! Requests for approval, from the portal to the files: every step once, whatever moves while one reads.

use std::time::Duration;

use lockstep::model::{Micros, SECOND};
use lockstep::simulator::approvals::Patch;
use lockstep::simulator::dialect::Dialect;
use lockstep::simulator::faults::{Effect, Fault, NoPermission};
use lockstep::simulator::requests::Endpoint;
use lockstep::simulator::world::WorldOptions;
use lockstep::status::{Status, StreamCondition};

use crate::support::app::{HOUR, MINUTE, SOON, Setup, TestApp, USUAL, fresh_seed, stream, streams};
use crate::support::output::Output;
use crate::support::steps;

const SOURCE: &str = "approval_requests";

fn setup(dialect: Dialect) -> Setup {
    let world =
        WorldOptions { seed: fresh_seed(), approvals: 90, approvals_per_day: 400, ..WorldOptions::default() };
    Setup { world, dialect, with: vec![SOURCE], without: USUAL.to_vec(), page_size: 50, ..Setup::default() }
}

/// Compares the files with the portal. Answers how many steps were told, and of how many requests none.
fn compare(app: &TestApp) -> (usize, usize) {
    steps::requests(&Output::read(&app.out_folder()), &app.portal, app.started)
}

/// Waits until the requests were looked at after now, twice, and are delivered.
async fn looked(app: &TestApp) {
    let now = app.portal.now();
    let until = chrono::DateTime::from_timestamp_micros(now).unwrap();
    app.wait("looked at the requests", SOON, |status| {
        let mut requests = streams(status).filter(|one| one.source == SOURCE).peekable();
        requests.peek().is_some()
            && requests.all(|one| {
                one.condition == StreamCondition::Ok && one.live_until.is_some_and(|live| live > until)
            })
            && status.sinks.iter().all(|sink| sink.pending_bytes == 0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_step_of_every_request_is_told_once_across_restarts_and_in_every_dialect() {
    for dialect in ["plain", "no-totals", "strict"] {
        let mut app = TestApp::start(setup(Dialect::named(dialect).unwrap())).await;
        looked(&app).await;
        for step in 0..14 {
            app.advance(if step == 9 { 25 * HOUR } else { 11 * MINUTE });
            if step % 5 == 3 {
                app.restart().await;
            }
            looked(&app).await;
        }
        app.quiet();
        app.advance(20 * MINUTE);
        looked(&app).await;
        app.advance(25 * HOUR);
        looked(&app).await;
        app.stop().await;
        let (steps, silent) = compare(&app);
        app.note("requests", format_args!("{dialect}: {steps} steps told, {silent} requests of the past"));
        assert!(steps > 300 && silent > 5, "{steps} {silent}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_status_is_told_in_status_stops_no_other_and_is_asked_once_a_day() {
    let dialect = Dialect { refused_statuses: vec![17], ..Dialect::default() };
    let mut app = TestApp::start(setup(dialect)).await;
    looked(&app).await;
    for _ in 0..4 {
        app.advance(20 * MINUTE);
        looked(&app).await;
    }
    let status = app.status().await;
    assert_eq!(stream(&status, SOURCE).skipped_statuses, [17]);
    let asked =
        || app.portal.requests_since(0).into_iter().filter(|one| one.part == Some(17)).map(|one| one.at);
    let first: Vec<Micros> = asked().collect();
    // Each request is tried again at once, as any that is answered with 500.
    assert!(first.iter().all(|at| at - first[0] < 30 * SECOND), "{first:?}");
    {
        let mut stage = app.portal.stage();
        let now = stage.tick();
        let request = stage.world.approvals.open(1, now);
        stage.world.approvals.requests[request].patch(now + 1, Patch::Status(17));
    }
    app.advance(25 * HOUR);
    looked(&app).await;
    // A poll that began before the day passed is none of it.
    app.wait("asked again a day later", SOON, |_| asked().count() > first.len()).await;
    app.portal.stage().set_dialect(Dialect::default());
    app.advance(25 * HOUR);
    looked(&app).await;
    let all = |status: &Status| stream(status, SOURCE).skipped_statuses.is_empty();
    app.wait("listed every status again", SOON, all).await;
    app.quiet();
    app.advance(20 * MINUTE);
    looked(&app).await;
    app.stop().await;
    compare(&app);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permission_that_is_taken_away_makes_one_source_red_names_it_and_spoils_no_other() {
    let mut app = TestApp::start(Setup { without: vec!["unified_audit"], ..setup(Dialect::default()) }).await;
    looked(&app).await;
    let effect = Effect::NoPermission { answer: NoPermission::Denied };
    let fault = app.portal.fault(Fault::always(effect).at(Endpoint::ApprovalRequests));
    let red = |status: &Status| {
        streams(status).any(|one| one.source == SOURCE && one.condition == StreamCondition::MissingRole)
    };
    let status = app.wait("missed its role", SOON, red).await;
    let failing = stream(&status, SOURCE).failing.clone().unwrap();
    assert!(failing.remedy.contains("View Approvals"), "{failing:?}");
    app.advance(10 * MINUTE);
    let others = |status: &Status| {
        streams(status).filter(|one| one.source != SOURCE).all(|one| one.condition == StreamCondition::Ok)
    };
    app.wait("kept the others well", SOON, others).await;
    app.portal.clear_faults(Some(fault));
    tokio::time::sleep(Duration::from_millis(500)).await;
    looked(&app).await;
    app.quiet();
    app.advance(20 * MINUTE);
    looked(&app).await;
    app.stop().await;
    compare(&app);
}
