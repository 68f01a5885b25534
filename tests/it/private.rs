//! Lists that the vendor does not publish, asked as an operator names them: each row is told once, compared with what the
//! portal really holds.

use std::collections::BTreeMap;
use std::time::Duration;

use lockstep::control;
use lockstep::model::{Micros, SECOND};
use lockstep::normalise::parse_time;
use lockstep::simulator::dialect::{Dialect, Pagination, Totals};
use lockstep::simulator::faults::{Effect, Fault, NoPermission};
use lockstep::simulator::requests::Endpoint;
use lockstep::simulator::world::{World, WorldOptions};
use lockstep::simulator::{Options, Simulator};
use lockstep::status::{Status, StreamCondition, StreamStatus};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

use crate::support::app::{DAY, HOUR, MINUTE, SOON, Setup, Site, TestApp, fresh_seed, streams};
use crate::support::binary::Place;
use crate::support::output::{Output, Record};
use crate::support::power::cut_power;

pub(crate) const THREATS: &str = "private_threats";
pub(crate) const REMEDIATIONS: &str = "private_remediations";

/// How the played portal's own pages ask, as an operator would write it down.
pub(crate) const ASKED: [(&str, &str); 2] = [
    (
        THREATS,
        "path: Threat/ThreatGetForTab, id: THREATID, time: raisedAt, body: { state: All, organizationId: \"{organization}\", withChildren: \"{tree}\", paging: { number: \"{page}\", rows: \"{size}\" } }",
    ),
    (
        REMEDIATIONS,
        "path: Incident/RemediationGetList, verb: GET, id: remediationId, body: { kind: endpoint, includeChildren: \"{tree}\" }",
    ),
];

fn world() -> WorldOptions {
    WorldOptions {
        seed: fresh_seed(),
        rows_per_day: 3_000,
        threat_share: 0.05,
        computers: 60,
        computer_changes_per_day: 1_000,
        ..WorldOptions::default()
    }
}

/// Both sources, polled often; `more` are settings of the threats.
fn setup(dialect: Dialect, more: &str) -> Setup {
    let mut site = Site::new("acme", "all");
    let often = "enabled: true, every: 150ms";
    let lines = ASKED.map(|(source, asked)| match source {
        THREATS => format!("  {source}: {{ {often}, page_size: 13, {asked}{more} }}"),
        _ => format!("  {source}: {{ {often}, {asked} }}"),
    });
    site.more.push(format!("sources:\n    {}", lines.join("\n    ")));
    Setup {
        world: world(),
        dialect,
        sites: vec![site],
        without: vec!["unified_audit", "system_audit"],
        ..Setup::default()
    }
}

fn of<'s>(status: &'s Status, source: &str) -> &'s StreamStatus {
    streams(status).find(|stream| stream.source == source).expect("its stream was waited for")
}

/// Waits until these were listed to the end twice at a time of the portal that is not before now.
async fn listed(app: &TestApp, sources: &[&str]) {
    for _ in 0..2 {
        let now = app.portal.now();
        app.wait("listed all as it is", SOON, |status| {
            sources.iter().all(|source| {
                streams(status).any(|stream| {
                    stream.source == *source
                        && stream.proven_until.is_some_and(|until| until.timestamp_micros() >= now)
                })
            })
        })
        .await;
        app.advance(MINUTE);
    }
}

/// The records of a source in the order of their making.
fn records<'o>(output: &'o Output, source: &str) -> Vec<&'o Record> {
    assert!(output.broken.is_empty(), "{:?}", output.broken);
    let mut records: Vec<_> = output.records.iter().filter(|record| record.source == source).collect();
    records.sort_by_key(|record| record.number);
    let mut uids: Vec<_> = records.iter().map(|record| &record.uid).collect();
    uids.sort();
    uids.dedup();
    assert_eq!(uids.len(), records.len(), "a uid came twice");
    records
}

fn row(record: &Record) -> Value {
    serde_json::from_str(record.row.as_ref().unwrap().get()).unwrap()
}

fn count(output: &Output, source: &str, change: &str) -> usize {
    records(output, source).iter().filter(|record| record.change == change).count()
}

/// Each threat that is listed and was raised since then is told once under its own name, and nothing else is. Those that
/// an older row told to be active are told to be cleared once where `clears`. Answers how many are owed.
pub(crate) fn judge_threats(output: &Output, portal: &Simulator, since: Micros, clears: bool) -> usize {
    let stage = portal.stage();
    let mut owed: BTreeMap<String, bool> = BTreeMap::new();
    for threat in stage.private_threats(None) {
        let name = match threat.id {
            Some(id) => id.to_string(),
            None => blake3::hash(threat.text(&stage.world).as_bytes()).to_string(),
        };
        owed.insert(name, threat.raised >= since);
    }
    let mut told: BTreeMap<String, Vec<(&str, bool)>> = BTreeMap::new();
    for record in records(output, THREATS) {
        let row = row(record);
        let id = row.get("threatId").or(row.get("ThreatID")).and_then(Value::as_str);
        let name = id.map_or_else(|| record.hash.to_string(), str::to_owned);
        assert_eq!(id, record.vendor_id.as_deref().filter(|id| !id.starts_with('#')), "{record:?}");
        let at = row["organizationId"].as_str().map_or_else(|| portal_own(&stage), str::to_owned);
        assert_eq!(record.organization_id.as_deref(), Some(at.as_str()));
        told.entry(name).or_default().push((&record.change, row["state"] == "Cleared"));
    }
    for (name, told) in &told {
        assert!(owed.contains_key(name), "{name} was never there: {told:?}");
        let right = match &told[..] {
            [("new", _)] => true,
            [("new", false), ("changed", true)] => clears,
            // What was raised long before the start and cleared since.
            [("changed", true)] => clears && !owed[name],
            _ => false,
        };
        assert!(right, "{name}: {told:?}");
    }
    let missing: Vec<_> = owed.iter().filter(|(name, owed)| **owed && !told.contains_key(*name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    owed.values().filter(|owed| **owed).count()
}

fn portal_own(stage: &lockstep::simulator::stage::Stage) -> String {
    stage.world.organizations[0].id.to_string()
}

/// Each remediation that lasts or ended since then is told to have begun and to have ended, each once. Answers how many.
pub(crate) fn judge_remediations(output: &Output, portal: &Simulator, since: Micros) -> usize {
    let mut told: BTreeMap<(String, u64, Micros), Vec<&str>> = BTreeMap::new();
    for record in records(output, REMEDIATIONS) {
        let row = row(record);
        let start = parse_time(row["startDateTime"].as_str().unwrap()).unwrap();
        let computer = row["computerId"].as_str().unwrap().to_owned();
        told.entry((computer, row["maintenanceTypeId"].as_u64().unwrap(), start))
            .or_default()
            .push(&record.change);
    }
    let truth = portal.stage().private_remediations(None);
    assert!(told.len() <= truth.len(), "{} of {}", told.len(), truth.len());
    let mut owed = 0;
    for (_, one) in truth {
        let name = (one.computer_id.to_string(), u64::from(one.type_id), one.start);
        let told = told.remove(&name).unwrap_or_default();
        match one.end {
            Some(end) if end < since => assert!(told.len() <= 2, "{one:?}: {told:?}"),
            Some(_) if one.start < since && told == ["changed"] => {}
            Some(_) => assert_eq!(told, ["new", "changed"], "{one:?}"),
            None => assert_eq!(told, ["new"], "{one:?}"),
        }
        owed += usize::from(one.end.is_none_or(|end| end >= since));
    }
    assert!(told.is_empty(), "{told:?}");
    owed
}

async fn play(more: &str, dialect: Dialect) -> (TestApp, Micros) {
    let mut app = TestApp::start(setup(dialect, more)).await;
    let started = app.started;
    listed(&app, &[THREATS, REMEDIATIONS]).await;
    for round in 0..5 {
        app.advance(2 * HOUR);
        listed(&app, &[THREATS, REMEDIATIONS]).await;
        if round == 2 {
            app.restart().await;
        }
    }
    app.quiet();
    listed(&app, &[THREATS, REMEDIATIONS]).await;
    let asked_wrongly = app.portal.stats().violations;
    assert!(asked_wrongly.is_empty(), "{asked_wrongly:?}");
    app.stop().await;
    (app, started)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_threat_is_told_once_and_each_remediation_to_have_begun_and_ended_whatever_else_moves() {
    let uncounted = Dialect { totals: Totals::Absent, pagination: Pagination::None, ..Dialect::default() };
    for dialect in [Dialect::default(), uncounted] {
        let (app, started) = play("", dialect).await;
        let output = app.output();
        // From its first look on it looks back.
        let since = started - 30 * DAY + HOUR;
        let threats = judge_threats(&output, &app.portal, since, false);
        let remediations = judge_remediations(&output, &app.portal, since);
        app.note("told once", format_args!("{threats} threats, {remediations} remediations"));
        assert!(threats > 100 && remediations > 20, "{threats} {remediations}");
        assert_eq!(count(&output, THREATS, "changed"), 0, "nobody asked for changes");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_a_member_that_counts_is_told_and_what_is_older_than_the_backfill_is_not() {
    let (app, started) = play(", changes: [STATE], backfill: 4h", Dialect::default()).await;
    let output = app.output();
    let owed = judge_threats(&output, &app.portal, started - 3 * HOUR, true);
    assert!(owed > 30 && count(&output, THREATS, "changed") > 10, "{owed}");
    let oldest = records(&output, THREATS)
        .into_iter()
        .filter(|record| record.change == "new")
        .map(|record| parse_time(row(record)["raisedAt"].as_str().unwrap()).unwrap())
        .min();
    assert!(oldest.unwrap() >= started - 4 * HOUR, "{oldest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_choice_of_what_counts_tells_nothing_anew() {
    let mut app = TestApp::start(setup(Dialect::default(), "")).await;
    listed(&app, &[THREATS]).await;
    app.quiet();
    listed(&app, &[THREATS]).await;
    app.stop().await;
    let before = records(&app.output(), THREATS).len();
    app.setup.sites[0].more[1] = setup(Dialect::default(), ", changes: [fullPath]").sites[0].more[1].clone();
    app.configure();
    app.run().await;
    listed(&app, &[THREATS]).await;
    app.stop().await;
    assert_eq!((records(&app.output(), THREATS).len(), before > 100), (before, true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_is_missing_and_a_path_that_is_not_there_stop_one_source_and_say_what_to_do() {
    let app = TestApp::start(setup(Dialect::default(), "")).await;
    listed(&app, &[THREATS, REMEDIATIONS]).await;
    let denied = Effect::NoPermission { answer: NoPermission::Denied };
    app.portal.fault(Fault::always(denied).at(Endpoint::PrivateThreats));
    let missing = Effect::Status { status: 404, retry_after: None, message: None };
    app.portal.fault(Fault::always(missing).at(Endpoint::PrivateRemediations));
    let status = app
        .wait("said what is wrong", SOON, |status| {
            of(status, THREATS).condition == StreamCondition::MissingRole
                && of(status, REMEDIATIONS).last_error.is_some()
        })
        .await;
    let error = |source| of(&status, source).last_error.clone().unwrap();
    assert!(error(THREATS).contains("View ThreatLocker threats"), "{}", error(THREATS));
    assert!(error(REMEDIATIONS).contains("Incident/RemediationGetList"), "{}", error(REMEDIATIONS));
    let now = app.portal.now();
    let status = app
        .wait("went on with the others", SOON, |status| {
            of(status, "computers").proven_until.is_some_and(|until| until.timestamp_micros() >= now)
                && format!("{:?}", status.problems).contains("compare path, verb and body")
        })
        .await;
    assert_eq!(of(&status, "computers").condition, StreamCondition::Ok);
    app.portal.clear_faults(None);
    app.wait("went on with them", SOON + SOON, |status| {
        [THREATS, REMEDIATIONS].iter().all(|source| of(status, source).condition == StreamCondition::Ok)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_portal_that_ignores_the_page_is_noticed_and_not_asked_for_ever() {
    let dialect = Dialect { ignores_page_number: true, ..Dialect::default() };
    let app = TestApp::start(setup(dialect, "")).await;
    let status = app
        .wait("noticed", SOON, |status| {
            streams(status).any(|one| one.source == THREATS && one.last_error.is_some())
        })
        .await;
    let error = of(&status, THREATS).last_error.clone().unwrap();
    assert!(error.contains("the portal repeats a page"), "{error}");
    let before = app.portal.stats().requests;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let asked = app.portal.requests_since(before);
    let pages = asked.iter().filter(|one| one.endpoint == Some(Endpoint::PrivateThreats)).count();
    assert!(pages <= 300, "{pages} pages in two seconds");
    // Thirteen are listed, of which some may be equal, and some are new since.
    let told = count(&app.output(), THREATS, "new");
    assert!((8..30).contains(&told), "what is listed is told all the same: {told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_is_empty_all_at_once_is_doubted_and_what_comes_back_is_not_told_again() {
    let app = TestApp::start(setup(Dialect::default(), "")).await;
    app.quiet();
    listed(&app, &[THREATS]).await;
    let before = records(&app.output(), THREATS).len();
    let empty = Effect::NoPermission { answer: NoPermission::Empty };
    let fault = app.portal.fault(Fault::always(empty).at(Endpoint::PrivateThreats));
    app.wait("was doubted", SOON, |status| {
        of(status, THREATS).unproven.iter().any(|one| one.state == "unknown")
    })
    .await;
    app.portal.clear_faults(Some(fault));
    app.wait("was believed again", SOON, |status| of(status, THREATS).unproven.is_empty()).await;
    listed(&app, &[THREATS]).await;

    let empty = Effect::NoPermission { answer: NoPermission::Empty };
    let fault = app.portal.fault(Fault::always(empty).at(Endpoint::PrivateThreats));
    app.wait("was doubted once more", SOON, |status| !of(status, THREATS).unproven.is_empty()).await;
    let answer = control::ask(&app.state_folder(), "POST", "/confirm-removed?site=acme").await.unwrap();
    let answer: Value = serde_json::from_slice(&answer.unwrap().ok().unwrap()).unwrap();
    assert_eq!(answer["removed"].as_u64(), Some(before as u64), "the operator's word counts for all of them");
    app.wait("took that word", SOON, |status| of(status, THREATS).unproven.is_empty()).await;
    app.portal.clear_faults(Some(fault));
    listed(&app, &[THREATS]).await;
    assert_eq!((records(&app.output(), THREATS).len(), before > 100), (before, true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_organization_alone_is_told_its_own_rows() {
    let mut setup = setup(Dialect::default(), "");
    setup.sites[0].organizations = "[\"Bäckerei Müßig GmbH\"]".to_owned();
    let mut app = TestApp::start(setup).await;
    listed(&app, &[THREATS]).await;
    app.quiet();
    listed(&app, &[THREATS]).await;
    let own = app.portal.organization(1).to_string();
    let owed = app.portal.stage().private_threats(Some(1)).len();
    app.stop().await;
    let output = app.output();
    let told = records(&output, THREATS);
    assert!(told.iter().all(|record| record.organization_id.as_deref() == Some(own.as_str())));
    assert!(told.len() > 20 && told.len() <= owed, "{} of {owed}", told.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_again_and_again_they_lose_and_double_nothing() {
    let world = world();
    let mut dice = StdRng::seed_from_u64(world.seed);
    let seed = world.seed;
    let mut portal = Simulator::start(World::new(world), Options::default()).await.unwrap();
    portal.fault(Fault::share(0.02, Effect::CutBody));
    let place = Place::new(&portal, "64KiB");
    for (source, asked) in ASKED {
        let paged = if source == THREATS { ", page_size: 13, changes: [state]" } else { "" };
        place.reconfigure(
            &format!("      {source}: {{ enabled: false }}"),
            &format!("      {source}: {{ enabled: true, every: 1s, {asked}{paged} }}"),
        );
    }
    for audit in ["unified_audit", "system_audit"] {
        place.reconfigure(
            &format!("      {audit}: {{ every: 1s"),
            &format!("      {audit}: {{ enabled: false, every: 1s"),
        );
    }
    let started = portal.now();
    let points = ["store.commit.before", "store.commit.after", "collect.poll.after", "sink.write.after"];
    for life in 0..8 {
        portal.advance(dice.random_range(300..2_400) * SECOND);
        let fault = points.get(life / 2).filter(|_| life % 2 == 0);
        let fault = fault.map(|point| format!("{point}:{}", dice.random_range(1..20)));
        let fault = fault.as_deref().map(|fault| ("LOCKSTEP_FAULT", fault));
        let variables: Vec<_> =
            fault.into_iter().chain([("LOCKSTEP_REFUSE", "18446744073709551615")]).collect();
        let mut running = place.start_with("run", &variables);
        if running.ended_within(Duration::from_millis(dice.random_range(600..3_000))).await.is_none() {
            running.kill();
        }
        if life % 2 == 1 {
            cut_power(&place.out(), &place.fsync_log(), &mut dice);
        }
    }
    portal.clear_faults(None);
    portal.stage().clock.freeze(true);
    for _ in 0..2 {
        let mut once = place.start_with("once", &[("LOCKSTEP_REFUSE", "18446744073709551615")]);
        let ended = once.ended_within(Duration::from_secs(120)).await;
        assert!(ended.is_some_and(|status| status.success()), "SEED={seed}: {}", place.said());
    }
    portal.stop().await;
    let output = Output::read(&place.out());
    // A program may be killed before its first look, from which on it looks back.
    let since = started + 8 * 2_400 * SECOND - 30 * DAY;
    let threats = judge_threats(&output, &portal, since, true);
    let remediations = judge_remediations(&output, &portal, since);
    assert!(threats > 100 && remediations > 20, "SEED={seed}: {threats} {remediations}");
}
