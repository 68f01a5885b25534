//! Reports: devices out of one, rows out of others, and what each access gives. The truth is the portal's computers.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use lockstep::simulator::dialect::Dialect;
use lockstep::simulator::faults::{Effect, Fault, NoPermission};
use lockstep::simulator::reports::KeyDoor;
use lockstep::simulator::requests::Endpoint;
use lockstep::simulator::world::{World, WorldOptions};
use lockstep::simulator::{Options, Simulator};
use lockstep::status::{Status, StreamCondition, StreamStatus};
use serde_json::Value;

use crate::support::app::{HOUR, SOON, Setup, Site, TestApp, delivered, fresh_seed, stream, streams};
use crate::support::binary::Place;
use crate::support::output::files;

/// A site that reads nothing but reports, with further lines.
fn site(organizations: &str, lines: &[&str]) -> Site {
    let mut site = Site::new("acme", organizations);
    site.more.push("access: reports".to_owned());
    site.more.extend(lines.iter().map(|line| (*line).to_owned()));
    site
}

fn setup(site: Site) -> Setup {
    let world =
        WorldOptions { seed: fresh_seed(), rows_per_day: 500, computers: 60, ..WorldOptions::default() };
    Setup { world, sites: vec![site], ..Setup::default() }
}

/// Every record of the source in the files below a folder, in the order of their numbers.
fn records(folder: &Path) -> Vec<Value> {
    all_records(folder, "reports")
}

fn all_records(folder: &Path, source: &str) -> Vec<Value> {
    let lines = files(folder).into_iter().flat_map(|file| {
        let text = fs::read_to_string(file).unwrap();
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>()
    });
    let mut records: Vec<Value> = lines.filter(|record| record["source"] == source).collect();
    records.sort_by_key(|record| record["number"].as_i64());
    records
}

/// What the records end with, by computer: organization, mode and user.
fn told(records: &[Value]) -> BTreeMap<String, [Value; 3]> {
    let mut uids = HashSet::new();
    let mut told = BTreeMap::new();
    for record in records {
        assert!(uids.insert(record["uid"].to_string()), "twice: {record}");
        let (id, row) = (record["vendor_id"].as_str().unwrap().to_owned(), &record["row"]);
        if record["change"] == "removed" {
            assert!(told.remove(&id).is_some(), "{record}");
        } else {
            let now = [record["organization_id"].clone(), row["Mode"].clone(), row["Last User"].clone()];
            let before = told.insert(id, now);
            assert_eq!(before.is_none(), record["change"] == "new", "{record}");
        }
    }
    told
}

/// The same of the portal's computers; `covers`: indices of organizations.
fn truth(portal: &Simulator, covers: Option<usize>) -> BTreeMap<String, [Value; 3]> {
    let spelt = |user: &str| serde_json::from_str(&format!("\"{user}\"")).unwrap();
    let only = covers.map(|index| portal.organization(index).to_string());
    let computers = portal.true_computers(false).into_iter();
    let computers = computers.filter(|one| only.as_ref().is_none_or(|only| *only == one.organization_id));
    computers
        .map(|one| {
            let user = one.username.map_or(Value::Null, spelt);
            (one.computer_id, [one.organization_id.into(), one.mode.into(), user])
        })
        .collect()
}

fn reports(status: &Status) -> impl Iterator<Item = &StreamStatus> {
    streams(status).filter(|stream| stream.source == "reports")
}

/// Waits until every report was run so often again, and all of it is delivered.
async fn runs(app: &TestApp, times: usize) {
    for _ in 0..times {
        let since = reports(&app.status().await).filter_map(|stream| stream.last_success).max();
        app.wait("ran the reports again", SOON, |status| {
            reports(status).count() > 0
                && reports(status).all(|stream| stream.last_success > since)
                && delivered(status)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_with_reports_alone_tells_every_computer_of_the_tree_and_each_change_and_asks_for_nothing_else()
 {
    let mut app = TestApp::start(setup(site("all", &[]))).await;
    runs(&app, 1).await;
    for _ in 0..6 {
        app.advance(2 * HOUR);
        runs(&app, 1).await;
    }
    app.restart().await;
    app.quiet();
    runs(&app, 3).await;
    let told = told(&records(&app.out_folder()));
    assert_eq!(told, truth(&app.portal, None));
    assert!(told.len() > 50, "{}", told.len());
    let asked: HashSet<_> = app.portal.requests_since(0).into_iter().filter_map(|one| one.endpoint).collect();
    assert!(!asked.contains(&Endpoint::UnifiedAudit) && !asked.contains(&Endpoint::SystemAudit), "{asked:?}");
    assert!(app.portal.stats().violations.is_empty(), "{:?}", app.portal.stats().violations);
    assert_eq!(
        reports(&app.status().await).map(|stream| stream.query.as_str()).collect::<Vec<_>>(),
        ["report=all computers"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn computers_are_the_same_in_every_way_that_a_portal_tells_a_report() {
    for (number, dialect) in ["plain", "wild", "no-totals"].into_iter().enumerate() {
        let dialect = Dialect::named(dialect).unwrap();
        let app = TestApp::prepare(Setup { dialect, ..setup(site("own", &[])) }).await;
        let mut app = app;
        {
            let mut stage = app.portal.stage();
            (stage.reports.flat, stage.reports.bare) = (number != 0, number != 1);
            stage.reports.without_ids = number == 2;
        }
        app.run().await;
        runs(&app, 2).await;
        app.quiet();
        runs(&app, 2).await;
        let told = told(&records(&app.out_folder()));
        let truth = truth(&app.portal, Some(0));
        assert_eq!(told.len(), truth.len());
        match number {
            2 => assert!(told.keys().all(|id| id.starts_with("host:")), "{told:?}"),
            _ => assert_eq!(told, truth),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_that_is_suddenly_empty_removes_nobody() {
    let app = TestApp::start(setup(site("all", &[]))).await;
    runs(&app, 2).await;
    let before = records(&app.out_folder()).len();
    app.quiet();
    app.portal.stage().reports.empty = true;
    let held = |status: &Status| stream(status, "reports").unproven.iter().any(|one| one.state == "unknown");
    app.wait("doubted the empty report", SOON, held).await;
    runs(&app, 3).await;
    app.portal.stage().reports.empty = false;
    app.wait("believed it again", SOON, |status| !held(status)).await;
    runs(&app, 1).await;
    let after = records(&app.out_folder());
    assert!(after[before..].iter().all(|record| record["change"] != "removed"), "{:?}", &after[before..]);
    assert_eq!(told(&after), truth(&app.portal, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_other_report_gives_each_of_its_rows_once_under_its_name_and_one_that_is_not_there_stops_no_other()
 {
    let reports_setting =
        "sources: { reports: { enabled: true, every: 150ms, names: [denies_by-DAY, Wonders] } }";
    let mut acme = Site::new("acme", "all");
    acme.more.push(reports_setting.to_owned());
    let app = TestApp::start(Setup { sites: vec![acme], ..setup(Site::new("x", "all")) }).await;
    let failing = |status: &Status| {
        let wonders = reports(status).find(|stream| stream.query == "report=wonders");
        let error = wonders.and_then(|stream| stream.last_error.clone()).unwrap_or_default();
        error.contains("no report \"Wonders\"")
            && error.contains("\"Denies by Day\"")
            && error.contains("\"All-Computers\"")
    };
    app.wait("said which reports there are", SOON, failing).await;
    let others = |status: &Status| {
        reports(status)
            .filter(|stream| stream.query != "report=wonders")
            .all(|stream| stream.condition == StreamCondition::Ok && stream.last_success.is_some())
            && delivered(status)
    };
    app.wait("ran the others", SOON, others).await;
    app.advance(24 * HOUR);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let rows: Vec<Value> =
        records(&app.out_folder()).into_iter().filter(|record| record["kind"] == "event").collect();
    let (first, second): (Vec<_>, Vec<_>) = rows.iter().partition(|one| one["row"]["Day"] == "2026-03-01");
    assert_eq!((first.len(), second.len()), (4, 4), "three organizations, and one row twice: {rows:#?}");
    let ids: HashSet<String> = rows.iter().map(|record| record["uid"].to_string()).collect();
    assert_eq!(ids.len(), 8);
    for record in &rows {
        assert!(record["vendor_id"].as_str().unwrap().starts_with("denies by day#"), "{record}");
        assert_eq!(record["change"], "new");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_name_their_organization_stay_its_own_when_the_role_may_see_organizations_no_more() {
    let setting = "sources: { reports: { enabled: true, every: 150ms, names: [Denies by Day] } }";
    let mut acme = Site::new("acme", "all");
    acme.more.push(setting.to_owned());
    let mut app = TestApp::prepare(Setup { sites: vec![acme], ..setup(Site::new("x", "all")) }).await;
    app.quiet();
    app.run().await;
    runs(&app, 2).await;
    let events = |app: &TestApp| {
        let records = records(&app.out_folder()).into_iter();
        records.filter(|record| record["kind"] == "event").collect::<Vec<_>>()
    };
    let before = events(&app);
    let own = app.portal.organization(0).to_string();
    assert!(before.iter().any(|record| record["organization_id"] == own), "{before:#?}");
    let unticked = Effect::NoPermission { answer: NoPermission::Denied };
    for endpoint in [Endpoint::ChildOrganizations, Endpoint::OrganizationsForMove] {
        app.portal.fault(Fault::always(unticked.clone()).at(endpoint));
    }
    runs(&app, 2).await;
    app.restart().await;
    runs(&app, 2).await;
    assert_eq!(events(&app), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_for_reports_alone_is_told_to_name_its_organization_and_then_works() {
    let mut app = TestApp::prepare(setup(site("own", &[]))).await;
    let unticked = Effect::NoPermission { answer: NoPermission::Denied };
    for endpoint in [Endpoint::Computers, Endpoint::ChildOrganizations, Endpoint::OrganizationsForMove] {
        app.portal.fault(Fault::always(unticked.clone()).at(endpoint));
    }
    app.run().await;
    app.wait("said what is missing", SOON, |status| {
        let problems = status.problems.join(" ");
        problems.contains("organization_id") && !problems.contains("renew")
    })
    .await;
    app.stop().await;
    let own = app.portal.organization(0);
    app.setup.sites = vec![site("own", &[&format!("organization_id: {own}")])];
    app.configure();
    app.run().await;
    runs(&app, 2).await;
    app.quiet();
    runs(&app, 2).await;
    assert_eq!(told(&records(&app.out_folder())).len(), truth(&app.portal, Some(0)).len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_set_of_columns_is_told_once() {
    let mut app = TestApp::start(setup(site("all", &[]))).await;
    runs(&app, 2).await;
    let fields = |status: &Status| -> Vec<(String, String)> {
        let fields = status.sites.iter().flat_map(|site| &site.fields);
        fields.map(|notice| (notice.field.clone(), notice.change.clone())).collect()
    };
    assert_eq!(fields(&app.status().await), [], "what a report has at first is usual");
    app.quiet();
    app.portal.stage().reports.extra_column = Some("Colour");
    let added = [("Colour".to_owned(), "added".to_owned())];
    let status = app.wait("told the column", SOON, |status| !fields(status).is_empty()).await;
    assert_eq!(fields(&status), added);
    runs(&app, 2).await;
    app.restart().await;
    runs(&app, 2).await;
    assert_eq!(fields(&app.status().await), added);
    app.portal.stage().reports.extra_column = None;
    let dropped = [("Colour".to_owned(), "dropped".to_owned())];
    app.wait("told that it is gone", SOON, |status| fields(status) == dropped).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_permission_reports_alone_stand_still_and_say_which_to_tick() {
    let app = TestApp::start(Setup { with: vec!["reports"], ..setup(Site::new("acme", "all")) }).await;
    app.wait_caught_up(SOON).await;
    for endpoint in [Endpoint::ReportList, Endpoint::ReportRows] {
        app.portal.fault(Fault::always(Effect::NoPermission { answer: NoPermission::Denied }).at(endpoint));
    }
    let red = |status: &Status| {
        let one = stream(status, "reports");
        one.condition == StreamCondition::MissingRole
            && one.last_error.as_ref().is_some_and(|error| error.contains("View Reports"))
    };
    app.wait("said which permission is missing", SOON, red).await;
    app.advance(HOUR);
    let status = app
        .wait("went on with the others", SOON, |status| {
            streams(status)
                .filter(|one| one.source != "reports")
                .all(|one| one.condition == StreamCondition::Ok)
        })
        .await;
    assert!(red(&status));
    app.wait("delivered the others", SOON, delivered).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_far_above_the_largest_answer_takes_the_memory_of_a_batch() {
    let http = "http: { body_limit: 64KiB }";
    let mut setup = setup(site("all", &[http]));
    setup.world.computers = 500;
    setup.more = "memory: 32MiB".to_owned();
    let mut app = TestApp::prepare(setup).await;
    app.portal.stage().reports.padding = 100_000;
    app.run().await;
    app.wait("read the whole report", SOON, |status| {
        reports(status).any(|stream| stream.rows >= 300 && stream.last_success.is_some()) && delivered(status)
    })
    .await;
    app.quiet();
    runs(&app, 3).await;
    assert_eq!(told(&records(&app.out_folder())), truth(&app.portal, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_that_breaks_off_concludes_nothing_and_is_run_again() {
    let mut setup = setup(site("all", &[]));
    setup.world.computer_changes_per_day = 0;
    setup.world.computers = 300;
    let mut app = TestApp::prepare(setup).await;
    app.portal.stage().reports.padding = 4_000;
    app.portal.fault(Fault::next(3, Effect::CutBody).at(Endpoint::ReportRows));
    app.portal.fault(Fault::next(2, Effect::TruncatedJson).at(Endpoint::ReportRows));
    app.run().await;
    runs(&app, 4).await;
    assert_eq!(told(&records(&app.out_folder())), truth(&app.portal, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whenever_it_is_killed_no_device_of_a_report_is_lost_or_told_twice() {
    let options =
        WorldOptions { seed: fresh_seed(), computers: 300, rows_per_day: 100, ..WorldOptions::default() };
    let portal = Simulator::start(World::new(options), Options::default()).await.unwrap();
    portal.stage().reports.padding = 3_000;
    let place = Place::new(&portal, "256KiB");
    place.reconfigure("    rate: unlimited\n", "    rate: unlimited\n    access: reports\n");
    let text = fs::read_to_string(place.path("lockstep.yaml")).unwrap();
    let (before, rest) = text.split_once("    sources:\n").unwrap();
    let (_, after) = rest.split_once("\nstate:").unwrap();
    let own = "    sources: { reports: { every: 200ms } }\nstate:";
    fs::write(place.path("lockstep.yaml"), format!("{before}{own}{after}")).unwrap();
    for life in 0..6 {
        let mut running = place.start("run", None);
        tokio::time::sleep(Duration::from_millis(250 + 170 * life)).await;
        running.kill();
        portal.advance(HOUR);
    }
    portal.stage().world.options.live = false;
    for _ in 0..3 {
        place.ask(&["once"]).await;
    }
    assert_eq!(told(&records(&place.out())), truth(&portal, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_opens_reports_behind_another_door_and_nothing_else_is_asked_for() {
    let mut app = TestApp::prepare(setup(site("all", &[]))).await;
    let own = app.portal.organization(0);
    let key = app.portal.token.replace('a', "b").to_uppercase();
    app.portal.stage().key_door =
        Some(KeyDoor { header: "x-auth-key", path: "/legacy/v1", key: key.clone() });
    app.setup.sites = vec![Site::new("acme", "own")];
    app.setup.sites[0].more.extend([
        "access: auth_key".to_owned(),
        "auth_key: { header: X-Auth-Key, path: /legacy/v1 }".to_owned(),
        format!("organization_id: {own}"),
    ]);
    app.configure();
    fs::write(app.file().with_file_name("token-acme"), &key).unwrap();
    app.run().await;
    runs(&app, 2).await;
    app.quiet();
    runs(&app, 2).await;
    assert_eq!(told(&records(&app.out_folder())), truth(&app.portal, Some(0)));
    let asked: HashSet<_> = app.portal.requests_since(0).into_iter().filter_map(|one| one.endpoint).collect();
    assert_eq!(asked, HashSet::from([Endpoint::ReportList, Endpoint::ReportRows]));
    assert!(app.portal.stats().violations.is_empty(), "{:?}", app.portal.stats().violations);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_that_moves_from_reports_to_everything_keeps_its_devices_and_says_what_each_replaces() {
    for with_ids in [true, false] {
        let mut app = TestApp::prepare(setup(site("all", &[]))).await;
        app.portal.stage().reports.without_ids = !with_ids;
        app.quiet();
        app.run().await;
        runs(&app, 2).await;
        app.stop().await;
        let devices = records(&app.out_folder());
        let known = told(&devices);
        app.setup.sites = vec![Site::new("acme", "all")];
        app.configure();
        app.run().await;
        app.wait_caught_up(SOON).await;
        // The computers are listed twice at least, and again after a restart.
        tokio::time::sleep(Duration::from_secs(1)).await;
        app.restart().await;
        app.wait_caught_up(SOON).await;
        assert_eq!(
            records(&app.out_folder()).len(),
            devices.len(),
            "nothing more is told of the report's devices"
        );
        let computers = all_records(&app.out_folder(), "computers");
        assert_eq!(computers.len(), app.portal.true_computers(false).len());
        for record in &computers {
            let replaced = &record["replaces"];
            let id = replaced["vendor_id"].as_str().unwrap_or_else(|| panic!("{record}"));
            let before = devices.iter().find(|device| device["vendor_id"] == id).unwrap();
            assert_eq!(
                (&before["uid"], &before["organization_id"]),
                (&replaced["uid"], &record["organization_id"])
            );
            assert_eq!(before["row"]["Hostname"], record["row"]["hostname"]);
            assert!(known.contains_key(id));
        }
        app.stop().await;
    }
}
