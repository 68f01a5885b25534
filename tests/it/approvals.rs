//! Requests for approval, from the portal to the files: every step once, whatever moves while one reads.

use std::path::Path;
use std::time::Duration;

use lockstep::model::{Micros, SECOND};
use lockstep::simulator::approvals::{Patch, applications};
use lockstep::simulator::dialect::Dialect;
use lockstep::simulator::faults::{Effect, Fault, NoPermission};
use lockstep::simulator::requests::Endpoint;
use lockstep::simulator::world::WorldOptions;
use lockstep::status::{Status, StreamCondition};
use serde_json::Value;

use crate::support::app::{HOUR, MINUTE, SOON, Setup, Site, TestApp, USUAL, fresh_seed, stream, streams};
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

/// The same, where the portal is asked which applications match.
fn enriched() -> Setup {
    let mut site = Site::new("acme", "all");
    site.more.push(format!("sources: {{ {SOURCE}: {{ enrich: [matching_application] }} }}"));
    Setup { sites: vec![site], ..setup(Dialect::default()) }
}

/// The lines of the source in the files below a folder, as they are.
fn lines(folder: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for path in std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()) {
        if path.is_dir() {
            lines.extend(self::lines(&path));
            continue;
        }
        let text = std::fs::read_to_string(path).unwrap();
        let of_source = |line: &&str| line.contains(&format!(r#""source":"{SOURCE}""#));
        lines.extend(text.lines().filter(of_source).map(str::to_owned));
    }
    lines
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_applications_match_is_asked_once_for_what_is_told_and_delivered_with_it() {
    let mut app = TestApp::start(enriched()).await;
    looked(&app).await;
    for step in 0..6 {
        app.advance(11 * MINUTE);
        if step == 3 {
            app.restart().await;
        }
        looked(&app).await;
    }
    app.quiet();
    app.advance(20 * MINUTE);
    looked(&app).await;
    app.stop().await;
    let (steps, _) = compare(&app);
    let (mut with, mut none, mut without) = (0, 0, 0);
    for line in lines(&app.out_folder()) {
        let record: Value = serde_json::from_str(&line).unwrap();
        let row = &record["row"];
        let Some(listed) = record.get("matching_applications") else {
            without += 1;
            continue;
        };
        assert_eq!(row["requestTypeId"], 1, "{row}");
        let names: Vec<&str> =
            listed.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
        let wanted: Vec<&str> = applications(row["hash"].as_str()).iter().map(|(name, _)| *name).collect();
        assert_eq!(names, wanted);
        *(if names.is_empty() { &mut none } else { &mut with }) += 1;
    }
    let stats = app.portal.stats();
    let asked = stats.requests_by_endpoint.get(&Endpoint::MatchingApplications).copied().unwrap_or(0);
    app.note(
        "matching",
        format_args!("{steps} steps, {asked} questions, {with} match, {none} not, {without} not asked"),
    );
    assert_eq!(asked, with + none, "each is asked once");
    assert!(with > 5 && none > 5 && without > 50, "{with} {none} {without}");
    assert!(stats.violations.is_empty(), "{:?}", stats.violations);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_portal_that_refuses_to_say_what_matches_costs_no_event_and_is_said_in_status() {
    let mut app = TestApp::prepare(enriched()).await;
    let effect = Effect::NoPermission { answer: NoPermission::Denied };
    app.portal.fault(Fault::always(effect).at(Endpoint::MatchingApplications));
    app.run().await;
    looked(&app).await;
    let said = |status: &Status| {
        let one = stream(status, SOURCE);
        one.condition == StreamCondition::Ok
            && one.way.as_ref().is_some_and(|way| way.contains("not documented"))
    };
    app.wait("said why", SOON, said).await;
    for _ in 0..3 {
        app.advance(11 * MINUTE);
        looked(&app).await;
    }
    app.quiet();
    app.advance(20 * MINUTE);
    looked(&app).await;
    let asked = app.portal.stats().requests_by_endpoint.get(&Endpoint::MatchingApplications).copied();
    app.stop().await;
    compare(&app);
    assert!(asked.is_some_and(|asked| asked <= 4), "{asked:?} questions within an hour of a refusal");
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
