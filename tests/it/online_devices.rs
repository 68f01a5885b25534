//! Devices without an agent, from the portal to the files: they come and go, and have nothing to do with computers.

use std::path::Path;

use lockstep::simulator::dialect::{Dialect, Pagination, Totals};
use lockstep::simulator::dice::Dice;
use lockstep::simulator::faults::{Effect, Fault, NoPermission};
use lockstep::simulator::requests::Endpoint;
use lockstep::simulator::world::WorldOptions;
use lockstep::status::{Status, StreamCondition, StreamStatus};
use lockstep::store::Store;
use serde_json::Value;

use crate::support::app::{HOUR, MINUTE, SOON, Setup, Site, TestApp, fresh_seed, streams};
use crate::support::output::{Output, Record};

const SOURCE: &str = "online_devices";

/// Much is seen on networks, and little else happens.
fn setup(dialect: Dialect) -> Setup {
    Setup {
        world: WorldOptions {
            seed: fresh_seed(),
            rows_per_day: 500,
            online_devices: 60,
            online_device_changes_per_day: 60,
            ..WorldOptions::default()
        },
        dialect,
        with: vec![SOURCE],
        without: vec!["unified_audit", "system_audit", "computers"],
        // Rows of one name lie on two pages.
        page_size: 7,
        ..Setup::default()
    }
}

fn of(status: &Status) -> &StreamStatus {
    streams(status).find(|stream| stream.source == SOURCE).expect("its stream was waited for")
}

/// Waits until all was listed to the end twice at a time of the portal that is not before now.
async fn listed(app: &TestApp) {
    for _ in 0..2 {
        let now = app.portal.now();
        app.wait("listed all as it is", SOON, |status| {
            streams(status).any(|stream| stream.source == SOURCE)
                && streams(status)
                    .all(|stream| stream.proven_until.is_some_and(|until| until.timestamp_micros() >= now))
        })
        .await;
        app.advance(MINUTE);
    }
}

fn count(output: &Output, change: &str) -> usize {
    output.records.iter().filter(|record| record.source == SOURCE && record.change == change).count()
}

/// Devices and users that the state knows, of computers, and organizations whose computers were listed.
async fn known_computers(state: &Path) -> [i64; 3] {
    let store = Store::open_read_only(state).unwrap();
    let count = |table: &'static str| {
        store.read(move |db| {
            Ok(db.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0))?)
        })
    };
    let [devices, users, organizations] =
        ["device", "last_user", "organization WHERE last_listed IS NOT NULL"].map(count);
    [devices.await.unwrap(), users.await.unwrap(), organizations.await.unwrap()]
}

/// Lets hours pass, now and then more than a poll, and proves that the files tell how things stand.
async fn play(mut app: TestApp, name: &str) -> Output {
    listed(&app).await;
    let mut dice = Dice::new(app.setup.world.seed, 99, 0);
    for step in 0..6 {
        app.advance((1 + dice.below(5)) * HOUR);
        listed(&app).await;
        if step == 2 {
            app.restart().await;
        }
    }
    app.quiet();
    listed(&app).await;
    listed(&app).await;
    let asked_wrongly = app.portal.stats().violations;
    assert!(asked_wrongly.is_empty(), "{asked_wrongly:?}");
    app.finish(name).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_events_of_random_devices_replayed_give_the_final_state_and_no_computer() {
    let app = TestApp::start(setup(Dialect::default())).await;
    let state = app.state_folder();
    let kept = tempfile::tempdir().unwrap();
    let (copy, owner) = (kept.path().to_owned(), app.portal.organization(1).to_string());
    let output = {
        let mut app = app;
        listed(&app).await;
        app.stop().await;
        for file in std::fs::read_dir(&state).unwrap() {
            let file = file.unwrap();
            drop(std::fs::copy(file.path(), copy.join(file.file_name())));
        }
        assert_eq!(known_computers(&copy).await, [0; 3], "they are no computers");
        app.run().await;
        play(app, "online devices").await
    };
    for change in ["new", "changed", "removed"] {
        assert!(count(&output, change) > 0, "none was {change}");
    }
    let of_child = |record: &&Record| {
        record.source == SOURCE && record.organization_id.as_deref() == Some(owner.as_str())
    };
    assert!(
        output.records.iter().any(|record| of_child(&record)),
        "a tree is asked organization by organization"
    );
    // Those of one name never take turns.
    let twins: Vec<_> = output
        .records
        .iter()
        .filter(|record| record.vendor_id.as_ref().is_some_and(|id| id.starts_with("desktop-")))
        .collect();
    assert!(twins.len() >= 12, "{}", twins.len());
    let stay = |record: &&&Record| ["new", "restated"].contains(&record.change.as_str());
    assert_eq!(twins.iter().filter(stay).count(), twins.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_do_so_too_where_nothing_is_counted_and_of_one_organization_alone() {
    let dialect = Dialect { totals: Totals::Absent, pagination: Pagination::None, ..Dialect::default() };
    let mut setup = setup(dialect);
    setup.sites = vec![Site::new("acme", "[\"Bäckerei Müßig GmbH\"]")];
    setup.covers = Some(vec![1]);
    let output = play(TestApp::start(setup).await, "online devices, uncounted").await;
    assert!(count(&output, "new") > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_is_empty_all_at_once_is_believed_without_an_alarm_and_what_comes_back_is_new() {
    let mut setup = setup(Dialect::default());
    setup.world.online_device_changes_per_day = 0;
    let app = TestApp::start(setup).await;
    listed(&app).await;
    let all = |removed| {
        let now = app.portal.now();
        let mut stage = app.portal.stage();
        for device in &mut stage.world.online.devices {
            device.story.change(now, |state| state.removed = removed);
        }
    };
    all(true);
    listed(&app).await;
    listed(&app).await;
    let status = app.status().await;
    assert_eq!((of(&status).condition, of(&status).unproven.len()), (StreamCondition::Ok, 0));
    assert!(status.problems.is_empty(), "{:?}", status.problems);
    assert_eq!((count(&app.output(), "new"), count(&app.output(), "removed")), (60, 60));
    all(false);
    listed(&app).await;
    listed(&app).await;
    app.quiet();
    listed(&app).await;
    let output = app.finish("all gone, all back").await;
    assert_eq!((count(&output, "new"), count(&output, "removed"), count(&output, "changed")), (120, 60, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permission_that_is_taken_away_stops_them_alone_and_removes_none() {
    let mut setup = setup(Dialect::default());
    setup.without = vec!["unified_audit", "system_audit"];
    let app = TestApp::start(setup).await;
    listed(&app).await;
    app.portal.fault(
        Fault::always(Effect::NoPermission { answer: NoPermission::Denied }).at(Endpoint::OnlineDevices),
    );
    app.wait("said which permission is missing", SOON, |status| {
        of(status).condition == StreamCondition::MissingRole
            && of(status).last_error.as_ref().is_some_and(|error| error.contains("View Computers"))
    })
    .await;
    app.advance(3 * HOUR);
    let now = app.portal.now();
    app.wait("went on with the others", SOON, |status| {
        streams(status).filter(|stream| stream.source != SOURCE).all(|stream| {
            stream.condition == StreamCondition::Ok
                && stream.proven_until.is_some_and(|until| until.timestamp_micros() >= now)
        })
    })
    .await;
    assert_eq!(count(&app.output(), "removed"), 0);
    app.portal.clear_faults(None);
    app.quiet();
    app.wait("went on with it", SOON + SOON, |status| of(status).condition == StreamCondition::Ok).await;
    listed(&app).await;
    listed(&app).await;
    app.finish("a permission").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_organization_that_is_refused_leaves_the_others_and_removes_none() {
    let mut setup = setup(Dialect::default());
    setup.world.online_device_changes_per_day = 0;
    let app = TestApp::start(setup).await;
    listed(&app).await;
    let child = app.portal.organization(1);
    let refused = Effect::Status { status: 400, retry_after: None, message: None };
    app.portal.fault(Fault::always(refused).at(Endpoint::OnlineDevices).of(child));
    app.wait("said what is not shown", SOON, |status| {
        of(status).unproven.iter().any(|one| format!("{one:?}").contains(&child.to_string()))
    })
    .await;
    let before = app.portal.stats().requests;
    app.wait("went on asking", SOON, |_| {
        let asked = app.portal.requests_since(before);
        let is_its = |one: &&lockstep::simulator::stats::Logged| {
            one.endpoint == Some(Endpoint::OnlineDevices) && one.status == 400
        };
        asked.iter().filter(is_its).count() > 3
    })
    .await;
    assert_eq!(count(&app.output(), "removed"), 0);
    app.quiet();
    listed(&app).await;
    let output = app.finish("an organization refused").await;
    assert_eq!((count(&output, "new"), count(&output, "removed")), (60, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_without_a_name_and_an_address_is_one_dead_letter_and_the_others_are_told() {
    let mut setup = setup(Dialect::default());
    setup.world.online_device_changes_per_day = 0;
    let mut app = TestApp::prepare(setup).await;
    let now = app.portal.now();
    // It has no name, and when it was seen last moves.
    app.portal.stage().world.online.devices[11].story.change(now, |state| state.address = None);
    app.run().await;
    for _ in 0..4 {
        let before = app.portal.stats().requests;
        app.wait("asked once more", SOON, |_| {
            let asked = app.portal.requests_since(before);
            asked.iter().filter(|one| one.endpoint == Some(Endpoint::OnlineDevices)).count() > 20
        })
        .await;
        app.advance(HOUR);
    }
    let status = app.status().await;
    assert_eq!(of(&status).condition, StreamCondition::Ok);
    assert!(
        of(&status).unproven.iter().any(|one| format!("{one:?}").contains("could not be read")),
        "it is said"
    );
    let letters = app.dead_letters().await;
    let reasons: Vec<_> =
        letters.iter().map(|(source, reason, _)| (source.as_str(), reason.as_str())).collect();
    assert_eq!(reasons, [(SOURCE, "a device without a name and an address")]);
    let row: Value = serde_json::from_slice(&letters[0].2).unwrap();
    assert_eq!((&row["computerName"], &row["ipAddress"]), (&Value::Null, &Value::Null));
    let output = app.stopped().await;
    assert_eq!((count(&output, "new"), output.records.len()), (59, 59));
}
