//! What is set for the agents of computers, asked for one computer at a time: told when it is another, and once.

use std::collections::BTreeMap;
use std::time::Duration;

use lockstep::model::{Micros, SECOND};
use lockstep::simulator::dialect::Dialect;
use lockstep::simulator::faults::{Effect, Fault, NoPermission};
use lockstep::simulator::requests::Endpoint;
use lockstep::simulator::world::{World, WorldOptions};
use lockstep::simulator::{Options, Simulator};
use lockstep::status::{Status, StreamCondition};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

use crate::support::app::{DAY, HOUR, SOON, Setup, Site, TestApp, fresh_seed, streams};
use crate::support::binary::Place;
use crate::support::output::Output;
use crate::support::power::cut_power;

pub(crate) const SOURCE: &str = "computer_details";

fn world() -> WorldOptions {
    WorldOptions {
        seed: fresh_seed(),
        computers: 30,
        rows_per_day: 500,
        computer_changes_per_day: 200,
        ..WorldOptions::default()
    }
}

fn setup() -> Setup {
    let mut site = Site::new("acme", "all");
    site.more.push(format!("sources: {{ {SOURCE}: {{ enabled: true, every: 150ms, sweep: 6h }} }}"));
    Setup {
        world: world(),
        sites: vec![site],
        without: vec!["unified_audit", "system_audit"],
        ..Setup::default()
    }
}

/// Waits until both sources have looked at the portal since, and nobody is asked about any more.
async fn swept(app: &TestApp, since: Micros) {
    app.wait("looked", SOON, |status| {
        ["computers", SOURCE].into_iter().all(|source| {
            let stream = streams(status).find(|one| one.source == source);
            stream.and_then(|one| one.proven_until).is_some_and(|until| until.timestamp_micros() >= since)
        })
    })
    .await;
    loop {
        let before = app.portal.stats().requests;
        tokio::time::sleep(Duration::from_millis(10 * app.setup.every)).await;
        let asked = app.portal.requests_since(before);
        if !asked.iter().any(|one| one.endpoint == Some(Endpoint::ComputerById)) {
            return;
        }
    }
}

/// Of each computer that is there it is told how it is set last, first as new and then as changed; nothing is told that
/// was not so, and nothing twice over. Answers how many changes were told.
pub(crate) fn judge(output: &Output, portal: &Simulator, from: Micros) -> usize {
    assert!(output.broken.is_empty(), "{:?}", output.broken);
    let mut told = BTreeMap::<String, Vec<(i64, String, bool, String)>>::new();
    for record in output.records.iter().filter(|record| record.source == SOURCE) {
        let row: Value = serde_json::from_str(record.row.as_ref().unwrap().get()).unwrap();
        let (computer, what) = record.vendor_id.as_ref().unwrap().split_once('/').unwrap();
        assert_eq!((computer, what), (row["computerId"].as_str().unwrap(), "details"));
        assert!(record.organization_id.is_some());
        let way = (row["useProxyServer"].as_bool().unwrap(), row["options"].to_string());
        told.entry(computer.to_owned()).or_default().push((
            record.number,
            record.change.clone(),
            way.0,
            way.1,
        ));
    }
    let (now, stage, mut changes) = (portal.now(), portal.stage(), 0);
    for computer in &stage.world.fleet.computers {
        let mut told = told.remove(&computer.id.to_string()).unwrap_or_default();
        told.sort();
        let is_there = computer.state(now).is_some_and(|state| !state.removed);
        let last = computer.detail(now);
        let ways = computer.details(from, now);
        for (place, (_, change, proxy, options)) in told.iter().enumerate() {
            assert_eq!(change, if place == 0 { "new" } else { "changed" }, "{told:?}");
            let way = ways.iter().find(|way| (way.has_proxy, way.options) == (*proxy, options));
            assert!(way.is_some(), "was never so: {told:?}, {ways:?}");
        }
        assert!(told.windows(2).all(|two| (&two[0].2, &two[0].3) != (&two[1].2, &two[1].3)), "{told:?}");
        let is_right = told
            .last()
            .is_some_and(|(.., proxy, options)| (*proxy, options.as_str()) == (last.has_proxy, last.options));
        assert!(is_right || !is_there, "{last:?} is not told: {told:?}");
        changes += told.len().saturating_sub(1);
    }
    assert!(told.is_empty(), "never there: {told:?}");
    changes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_each_computer_is_set_is_told_when_it_is_another_through_an_outage_and_a_restart() {
    let mut app = TestApp::start(setup()).await;
    let started = app.started;
    swept(&app, started).await;
    let before = app.portal.stats().requests;
    app.quiet();
    let now = app.portal.now();
    swept(&app, now).await;
    let asked = app.portal.requests_since(before);
    let single = asked.iter().filter(|one| one.endpoint == Some(Endpoint::ComputerById)).count();
    assert_eq!(single, 0, "nothing changed, and the sweep is hours away");
    for round in 0..5 {
        let now = app.advance(7 * HOUR);
        swept(&app, now).await;
        if round == 1 {
            let fault = app.portal.fault(Fault::share(0.5, Effect::CutBody));
            app.advance(7 * HOUR);
            let asked = app.portal.stats().requests;
            app.wait("asked some", SOON, |_| app.portal.stats().requests > asked + 20).await;
            app.portal.stop().await;
            app.portal.clear_faults(Some(fault));
            app.portal.stage().clock.advance(30 * HOUR);
            app.restart().await;
            app.portal.restart().await.unwrap();
        }
    }
    let asked_wrongly = app.portal.stats().violations;
    assert!(asked_wrongly.is_empty(), "{asked_wrongly:?}");
    app.portal.stage().clock.freeze(true);
    let now = app.portal.now();
    swept(&app, now - HOUR).await;
    app.stop().await;
    let changes = judge(&app.output(), &app.portal, started);
    app.note("details", format_args!("{changes} changes"));
    assert!(changes > 30, "{changes}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_permission_one_source_is_red_and_the_others_go_on() {
    let mut app = TestApp::prepare(setup()).await;
    let refused = Fault::always(Effect::NoPermission { answer: NoPermission::Denied });
    app.portal.fault(refused.at(Endpoint::ComputerById));
    app.run().await;
    let of = |status: &Status, source: &str| streams(status).find(|one| one.source == source).cloned();
    let status = app
        .wait("was red", SOON, |status| {
            of(status, SOURCE).is_some_and(|one| one.condition == StreamCondition::MissingRole)
        })
        .await;
    let error = of(&status, SOURCE).unwrap().last_error.unwrap();
    assert!(error.contains("View Computers"), "{error}");
    app.wait("collected the computers", SOON, |status| {
        of(status, "computers").is_some_and(|one| one.condition == StreamCondition::Ok && one.rows > 0)
    })
    .await;
    app.portal.clear_faults(None);
    app.wait("went on", SOON + SOON, |status| {
        of(status, SOURCE).is_some_and(|one| one.condition == StreamCondition::Ok)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_again_and_again_they_are_told_once_and_as_they_are() {
    let world = world();
    let seed = world.seed;
    let mut dice = StdRng::seed_from_u64(seed);
    let options = Options { dialect: Dialect::default(), ..Options::default() };
    let mut portal = Simulator::start(World::new(world), options).await.unwrap();
    portal.fault(Fault::share(0.02, Effect::CutBody));
    let place = Place::new(&portal, "64KiB");
    place.reconfigure(
        &format!("      {SOURCE}: {{ enabled: false }}"),
        &format!("      {SOURCE}: {{ enabled: true, every: 200ms, sweep: 2h }}"),
    );
    for audit in ["unified_audit", "system_audit"] {
        let from = format!("      {audit}: {{ every: 1s");
        place.reconfigure(&from, &format!("      {audit}: {{ enabled: false, every: 1s"));
    }
    let none_refused = ("LOCKSTEP_REFUSE", "18446744073709551615");
    let started = portal.now();
    let points = ["store.commit.before", "store.commit.after", "collect.poll.after", "sink.write.after"];
    for life in 0..8 {
        portal.advance(dice.random_range(3_600..14_400) * SECOND);
        let fault = points.get(life / 2).filter(|_| life % 2 == 0);
        let fault = fault.map(|point| format!("{point}:{}", dice.random_range(2..40)));
        let fault = fault.as_deref().map(|fault| ("LOCKSTEP_FAULT", fault));
        let variables: Vec<_> = fault.into_iter().chain([none_refused]).collect();
        let mut running = place.start_with("run", &variables);
        if running.ended_within(Duration::from_millis(dice.random_range(600..3_000))).await.is_none() {
            running.kill();
        }
        if life % 2 == 1 {
            cut_power(&place.out(), &place.fsync_log(), &mut dice);
        }
    }
    portal.clear_faults(None);
    portal.advance(DAY);
    portal.stage().clock.freeze(true);
    for _ in 0..2 {
        let mut once = place.start_with("once", &[none_refused]);
        let ended = once.ended_within(Duration::from_secs(120)).await;
        assert!(ended.is_some_and(|status| status.success()), "SEED={seed}: {}", place.said());
    }
    portal.stop().await;
    let changes = judge(&Output::read(&place.out()), &portal, started);
    assert!(changes > 10, "SEED={seed}: {changes}");
}
