//! Threats: one finding of each, whether the query for known threats lists it or the audit gives it a severity.

use std::collections::HashSet;
use std::time::Duration;

use lockstep::model::SECOND;
use lockstep::simulator::dialect::Dialect;
use lockstep::simulator::faults::{Effect, Fault, NoPermission};
use lockstep::simulator::requests::Endpoint;
use lockstep::simulator::world::{Source, World, WorldOptions};
use lockstep::simulator::{Options, Simulator};
use lockstep::status::StreamCondition;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::support::app::{HOUR, SOON, Setup, TestApp, fresh_seed, stream};
use crate::support::binary::Place;
use crate::support::output::Output;
use crate::support::verdict::{Truth, compare, micros};

const LONG: Duration = Duration::from_secs(240);

/// One row of twenty is a threat.
fn world() -> WorldOptions {
    WorldOptions {
        seed: fresh_seed(),
        rows_per_day: 2_000,
        late_days: 3,
        threat_share: 0.05,
        ..WorldOptions::default()
    }
}

fn setup() -> Setup {
    Setup { world: world(), with: vec!["threats"], ..Setup::default() }
}

/// How many of the findings are of known threats, and of others.
fn by_query(app: &TestApp, output: &Output) -> (usize, usize) {
    let found: HashSet<String> = output
        .records
        .iter()
        .filter(|record| record.source == "threats")
        .filter_map(|record| Some(record.vendor_id.as_ref()?.to_lowercase()))
        .collect();
    let stage = app.portal.stage();
    let found = |row: &&_| {
        stage.world.vendor_id(Source::Threats, row).is_some_and(|id| found.contains(&id.to_lowercase()))
    };
    let rows: Vec<_> = stage.world.rows(Source::Threats).iter().filter(found).collect();
    let known = rows.iter().filter(|row| row.threat.known).count();
    (known, rows.len() - known)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_threat_is_one_finding_whichever_query_lists_it_first() {
    let mut app = TestApp::start(setup()).await;
    for step in 0..4 {
        app.wait_caught_up(LONG).await;
        if step % 2 == 1 {
            app.restart().await;
        }
        app.advance(2 * HOUR);
    }
    app.settle(1, LONG).await;
    app.stop().await;
    let (known, others) = by_query(&app, &app.output());
    assert!(known > 20 && others > 5, "{known} known and {others} others");
    app.finish("threats").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threats_filed_by_their_import_are_one_finding_each() {
    let dialect = Dialect::named("imported").unwrap();
    let app = TestApp::start(Setup { dialect, ..setup() }).await;
    for _ in 0..3 {
        app.wait_caught_up(LONG).await;
        app.advance(2 * HOUR);
    }
    app.settle(2, LONG).await;
    app.finish("threats filed by import").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_severity_that_comes_hours_later_gives_its_finding() {
    let world = WorldOptions { late_level_share: 0.7, rows_per_day: 1_000, ..world() };
    let app = TestApp::start(Setup { world, ..setup() }).await;
    app.wait_caught_up(LONG).await;
    {
        // Of rows that were delivered long ago, one that no query for threats lists and one that was no threat.
        let world = &mut app.portal.stage().world;
        let now = world.now();
        let old: Vec<u64> = world
            .rows(Source::UnifiedAudit)
            .iter()
            .filter(|row| (now - 6 * HOUR..now - 2 * HOUR).contains(&row.at) && row.imported < now - HOUR)
            .filter(|row| !row.threat.is_one(now) && row.threat.level.is_none() && row.table == 1)
            .filter_map(|row| row.id)
            .take(2)
            .collect();
        world.judge(old[0], false, Some("Severe"));
        world.judge(old[1], true, None);
    }
    // Each day an eighth of what is kept is walked again, whatever it counts.
    app.settle(9, LONG).await;
    app.finish("severities that come later").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_permission_both_say_which_one_and_the_others_go_on() {
    let app = TestApp::start(setup()).await;
    app.wait_caught_up(LONG).await;
    app.portal.fault(Fault {
        endpoint: Some(Endpoint::UnifiedAudit),
        ..Fault::always(Effect::NoPermission { answer: NoPermission::Denied })
    });
    let status = app
        .wait("said what is missing", SOON, |status| {
            ["unified_audit", "threats"]
                .iter()
                .all(|source| stream(status, source).condition == StreamCondition::MissingRole)
        })
        .await;
    for source in ["unified_audit", "threats"] {
        let error = stream(&status, source).last_error.clone().unwrap();
        assert!(error.contains("View Unified Audit"), "{source}: {error}");
    }
    for source in ["system_audit", "computers"] {
        assert_eq!(stream(&status, source).condition, StreamCondition::Ok, "{source}");
    }
    app.portal.clear_faults(None);
    app.wait_caught_up(LONG).await;
    app.settle(1, LONG).await;
    app.finish("threats without a permission").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_threats_are_not_collected_the_audit_gives_none() {
    let app = TestApp::start(Setup { with: Vec::new(), ..setup() }).await;
    app.wait_caught_up(LONG).await;
    app.settle(1, LONG).await;
    app.finish("threats left out").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_is_killed_all_the_time_gives_each_finding_once() {
    let mut dice = StdRng::seed_from_u64(fresh_seed());
    let options = WorldOptions { computers: 40, rows_per_day: 8_000, backlog_hours: 48, ..world() };
    let world = World::new(options);
    let mut portal = Simulator::start(world, Options::default()).await.unwrap();
    let place = Place::new(&portal, "256KiB");
    place.reconfigure(
        "      threats: { enabled: false }",
        "      threats: { every: 1s, settle: 2s, page_size: 20, backfill: 28d }",
    );
    let start = portal.now();
    for point in [Some("store.commit.before"), None, Some("store.commit.after"), None, None] {
        portal.advance(dice.random_range(300..1_800) * SECOND);
        let fault = point.map(|point| format!("{point}:{}", dice.random_range(5..60)));
        let mut running = place.start("run", fault.as_deref());
        let long = dice.random_range(300..3_000);
        if running.ended_within(Duration::from_millis(long)).await.is_none() {
            running.kill();
        }
    }
    portal.advance(HOUR);
    portal.stage().clock.freeze(true);
    for _ in 0..2 {
        let mut once = place.start("once", None);
        assert!(once.ended_within(LONG).await.is_some(), "{}", place.said());
    }
    portal.stop().await;
    let settled = portal.now() - 60 * SECOND;
    let mut output = Output::read(&place.out());
    output.add_dead_letters(&place.state()).await;
    let truth = Truth::of(&portal).and(&portal, Source::Threats);
    let verdict = compare(&truth, &output, |source, row| {
        let at = micros(&row.date_time);
        at < settled && (source != Source::SystemAudit || at >= start)
    });
    assert!(verdict.0["threats"].owed > 100, "{verdict:?}");
    assert!(verdict.is_clean(), "{verdict}\n{}", verdict.examples());
}
