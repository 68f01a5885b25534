//! What is asked for one computer at a time: maintenances, compared with what the portal really has.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lockstep::model::{Micros, SECOND};
use lockstep::simulator::dialect::Dialect;
use lockstep::simulator::faults::{Effect, Fault, NoPermission};
use lockstep::simulator::requests::Endpoint;
use lockstep::simulator::world::WorldOptions;
use lockstep::status::{Status, StreamCondition};
use serde_json::Value;

use crate::support::app::{DAY, HOUR, SOON, Setup, TestApp, streams};

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

/// By computer and maintenance, how often each was told to have begun and to have ended.
type Told = BTreeMap<String, (u32, u32)>;

fn told(app: &TestApp) -> Told {
    let (mut told, mut uids) = (Told::new(), BTreeSet::new());
    for file in std::fs::read_dir(app.out_folder().join("acme")).unwrap() {
        let path = file.unwrap().path();
        if !path.file_name().unwrap().to_string_lossy().starts_with("remediations") {
            continue;
        }
        for line in std::fs::read_to_string(path).unwrap().lines() {
            let record: Value = serde_json::from_str(line).unwrap();
            assert!(uids.insert(record["uid"].as_str().unwrap().to_owned()), "twice: {record}");
            let entry = told.entry(record["vendor_id"].as_str().unwrap().to_owned()).or_default();
            match record["change"].as_str().unwrap() {
                "new" => entry.0 += 1,
                "changed" => entry.1 += 1,
                other => panic!("{other}: {record}"),
            }
        }
    }
    told
}

/// The same as the portal has it, of computers that are there; what ended before `since` is left out.
fn truth(app: &TestApp, since: Micros) -> Told {
    let now = app.portal.now();
    let stage = app.portal.stage();
    let seed = stage.world.options.seed;
    let living = stage.world.fleet.computers.iter().filter(|one| one.state(now).is_some_and(|s| !s.removed));
    let all = living.flat_map(|one| one.maintenances(seed, now));
    let owed = all.filter(|one| one.end.is_none_or(|end| end >= since));
    owed.map(|one| {
        let name = one.id.map_or_else(|| one.type_id.to_string(), |id| id.to_string());
        let name = format!("{name}@{}", one.start);
        let began = one.end.is_none() || one.start >= since || one.end.is_some_and(|end| end >= since);
        (format!("{}/{name}", one.computer_id), (u32::from(began), u32::from(one.end.is_some())))
    })
    .collect()
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
        let (told, truth) = (told(&app), truth(&app, began - DAY + 60 * SECOND));
        app.note("maintenances", format_args!("{} told, {} owed", told.len(), truth.len()));
        assert!(truth.len() > 50, "{}", truth.len());
        for (key, (_, ended)) in &truth {
            let seen = told.get(key).copied().unwrap_or_default();

            assert_eq!((seen.1, seen.0 <= 1), (*ended, true), "{key}");
        }
        assert!(told.values().all(|(begun, ended)| *begun <= 1 && *ended <= 1));
        let begun = truth.iter().filter(|(key, _)| told[*key].0 == 1).count();
        assert!(begun * 10 >= truth.len() * 9, "{begun} of {}", truth.len());
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
