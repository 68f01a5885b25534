//! What is asked for one computer at a time: maintenances, compared with what the portal really has.

use std::time::Duration;

use lockstep::model::{Micros, SECOND};
use lockstep::simulator::dialect::Dialect;
use lockstep::simulator::faults::{Effect, Fault, NoPermission};
use lockstep::simulator::requests::Endpoint;
use lockstep::simulator::world::WorldOptions;
use lockstep::status::{Status, StreamCondition};

use crate::support::app::{DAY, HOUR, SOON, Setup, TestApp, streams};
use crate::support::steps;

fn setup(dialect: Dialect) -> Setup {
    Setup {
        with: vec!["remediations"],
        world: WorldOptions { computer_changes_per_day: 3_000, rows_per_day: 500, ..Setup::default().world },
        dialect,
        ..Setup::default()
    }
}

/// Whether both sources have looked at the portal since.
fn looked(status: &Status, since: Micros) -> bool {
    let of = |source| streams(status).find(|one| one.source == source);
    ["computers", "remediations"].into_iter().all(|source| {
        of(source).and_then(|one| one.proven_until).is_some_and(|until| until.timestamp_micros() >= since)
    })
}

/// Waits until every computer was asked about once more.
async fn swept(app: &TestApp) {
    app.advance(DAY + HOUR);
    let now = app.portal.now();
    app.wait("looked", SOON, |status| looked(status, now)).await;
    // Every poll asks about some, as long as there are any left.
    let of_one = [Some(Endpoint::Maintenance), Some(Endpoint::MaintenanceUnpaged)];
    loop {
        let before = app.portal.stats().requests;
        tokio::time::sleep(Duration::from_millis(20 * app.setup.every)).await;
        if !app.portal.requests_since(before).iter().any(|one| of_one.contains(&one.endpoint)) {
            break;
        }
    }
    let now = app.portal.now();
    app.wait("looked again", SOON, |status| looked(status, now)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_maintenance_is_told_to_have_begun_and_to_have_ended_once_through_restarts() {
    for dialect in [Dialect::default(), Dialect { unpaged_maintenance: true, ..Dialect::default() }] {
        let mut app = TestApp::start(setup(dialect)).await;
        let began = app.portal.now();
        app.wait("looked", SOON, |status| looked(status, began)).await;
        for round in 0..4 {
            let now = app.advance(2 * HOUR);
            app.wait("looked", SOON, |status| looked(status, now)).await;
            if round % 2 == 1 {
                app.restart().await;
            }
        }
        app.quiet();
        swept(&app).await;
        app.stop().await;
        let (told, owed) = steps::maintenances(&app.output(), &app.portal, began - DAY + 60 * SECOND);
        app.note("maintenances", format_args!("{told} told, {owed} owed"));
        assert!(owed > 50, "{owed}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_permission_one_source_is_red_and_the_others_go_on() {
    let mut app = TestApp::prepare(setup(Dialect::default())).await;
    let refused = Fault::always(Effect::NoPermission { answer: NoPermission::Denied });
    let fault = app.portal.fault(refused.at(Endpoint::Maintenance));
    app.run().await;
    let of = |status: &Status, source: &str| streams(status).find(|one| one.source == source).cloned();
    let status = app
        .wait("was red", SOON, |status| {
            of(status, "remediations").is_some_and(|one| one.condition == StreamCondition::MissingRole)
        })
        .await;
    let error = of(&status, "remediations").unwrap().last_error.unwrap();
    assert!(error.contains("View Computers"), "{error}");
    app.wait("collected the others", SOON, |status| {
        streams(status)
            .filter(|one| one.source != "remediations")
            .all(|one| one.condition == StreamCondition::Ok && one.rows > 0)
    })
    .await;
    app.portal.clear_faults(Some(fault));
    let now = app.portal.now();
    app.wait("looked", Duration::from_secs(90), |status| looked(status, now)).await;
    app.stop().await;
}
