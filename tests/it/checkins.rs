//! Check-ins of computers, asked for one computer at a time within a budget: each is told once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lockstep::model::{Micros, SECOND};
use lockstep::simulator::dialect::{Dialect, Pagination, Totals};
use lockstep::simulator::faults::{Effect, Fault, NoPermission};
use lockstep::simulator::requests::Endpoint;
use lockstep::simulator::world::{World, WorldOptions};
use lockstep::simulator::{Options, Simulator};
use lockstep::status::{Status, StreamCondition};
use lockstep::store::Store;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

use crate::support::app::{DAY, HOUR, SOON, Setup, Site, TestApp, fresh_seed, streams};
use crate::support::binary::Place;
use crate::support::output::Output;
use crate::support::power::cut_power;

pub(crate) const SOURCE: &str = "computer_checkins";

fn setup(dialect: Dialect) -> Setup {
    let mut site = Site::new("acme", "all");
    let how = "enabled: true, every: 150ms, page_size: 10, sweep: 24h, backfill: 24h, retention: 3d";
    site.more.push(format!("sources: {{ {SOURCE}: {{ {how} }} }}"));
    Setup {
        world: WorldOptions {
            seed: fresh_seed(),
            computers: 30,
            rows_per_day: 500,
            ..WorldOptions::default()
        },
        dialect,
        sites: vec![site],
        without: vec!["unified_audit", "system_audit"],
        ..Setup::default()
    }
}

/// Waits until it has looked at the portal since.
async fn looked(app: &TestApp, since: Micros) {
    app.wait("looked", SOON, |status| {
        ["computers", SOURCE].into_iter().all(|source| {
            let stream = streams(status).find(|one| one.source == source);
            stream.and_then(|one| one.proven_until).is_some_and(|until| until.timestamp_micros() >= since)
        })
    })
    .await;
}

/// Lets a day pass, and waits until every computer was asked about once more.
pub(crate) async fn swept(app: &TestApp) {
    looked(app, app.advance(DAY + HOUR)).await;
    // Every poll asks about some, as long as there are any left.
    loop {
        let before = app.portal.stats().requests;
        tokio::time::sleep(Duration::from_millis(20 * app.setup.every)).await;
        let asked = app.portal.requests_since(before);
        if !asked.iter().any(|one| one.endpoint == Some(Endpoint::Checkins)) {
            return;
        }
    }
}

/// Each full check-in of a computer that is there is told once, if it was from `all` on and before `until`; none is told
/// from before `none`. Answers how many are owed.
pub(crate) fn judge(
    output: &Output,
    portal: &Simulator,
    (none, all): (Micros, Micros),
    until: Micros,
) -> usize {
    assert!(output.broken.is_empty(), "{:?}", output.broken);
    let (mut told, mut undated) = (BTreeMap::<(String, u64), u32>::new(), BTreeSet::new());
    for record in output.records.iter().filter(|record| record.source == SOURCE) {
        let row: Value = serde_json::from_str(record.row.as_ref().unwrap().get()).unwrap();
        let id = row["computerCheckinId"].as_u64().unwrap();
        let (computer, named) = record.vendor_id.as_ref().unwrap().split_once('/').unwrap();
        assert_eq!((named, record.change.as_str()), (id.to_string().as_str(), "new"));
        *told.entry((computer.to_owned(), id)).or_default() += 1;
        // However old it is.
        if row["dateTime"].as_str().unwrap().starts_with("0001") {
            undated.insert((computer.to_owned(), id));
        }
    }
    let doubled: Vec<_> = told.iter().filter(|(_, times)| **times > 1).collect();
    assert!(doubled.is_empty(), "{doubled:?}");
    let (now, stage) = (portal.now(), portal.stage());
    let mut owed = 0;
    for computer in &stage.world.fleet.computers {
        let is_there = computer.state(now).is_some_and(|state| !state.removed);
        for one in computer.checkins(now) {
            let was_told = told.remove(&(computer.id.to_string(), one.id)).is_some();
            assert!(!(was_told && one.is_heartbeat), "a heartbeat: {one:?}");
            assert!(!(was_told && one.at.is_some_and(|at| at < none)), "too old: {one:?}");
            let is_owed =
                is_there && !one.is_heartbeat && one.at.is_some_and(|at| (all..until).contains(&at));
            assert!(was_told || !is_owed, "{} lost {one:?}", computer.id);
            owed += usize::from(is_owed);
        }
    }
    told.retain(|one, _| !undated.contains(one));
    assert!(told.is_empty(), "never there: {told:?}");
    owed
}

async fn play(dialect: Dialect, days: u32) -> (TestApp, usize) {
    let mut app = TestApp::start(setup(dialect)).await;
    let since = app.started - DAY;
    // From its first look on it looks back.
    looked(&app, app.started).await;
    for day in 0..days {
        swept(&app).await;
        if day % 2 == 1 {
            app.restart().await;
        }
    }
    let asked_wrongly = app.portal.stats().violations;
    assert!(asked_wrongly.is_empty(), "{asked_wrongly:?}");
    let until = app.portal.now() - 6 * HOUR;
    app.quiet();
    swept(&app).await;
    app.stop().await;
    let owed = judge(&app.output(), &app.portal, (since, since + HOUR), until);
    (app, owed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_is_told_once_however_long_it_is_listed_and_in_whatever_order() {
    let uncounted = Dialect { totals: Totals::Absent, pagination: Pagination::None, ..Dialect::default() };
    let oldest_first = Dialect { oldest_checkins_first: true, ..Dialect::default() };
    for (dialect, days) in [(Dialect::default(), 6), (uncounted, 2), (oldest_first, 2)] {
        let (app, owed) = play(dialect, days).await;
        app.note("check-ins", format_args!("{owed} owed"));
        assert!(owed > 30 * 8 * usize::try_from(days).unwrap() / 2, "{owed}");
        if days > 5 {
            let store = Store::open_read_only(&app.state_folder()).unwrap();
            let kept = store.read(|db| {
                let count =
                    "SELECT count(*) FROM snapshot s JOIN seen_set c ON c.id = s.set_id WHERE c.source = ?1";
                Ok(db.query_row(count, [SOURCE], |row| row.get::<_, usize>(0))?)
            });
            let kept = kept.await.unwrap();
            assert!(kept < owed * 3 / 4, "{kept} of {owed} are remembered");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_asks_each_computer_once_and_reads_no_further_than_it_must() {
    let app = TestApp::start(setup(Dialect::default())).await;
    // A list of forty days is 32 pages; what may have come late is in the first few.
    for _ in 0..2 {
        swept(&app).await;
    }
    app.quiet();
    let before = app.portal.stats().requests;
    swept(&app).await;
    let asked = app.portal.requests_since(before);
    let pages = asked.iter().filter(|one| one.endpoint == Some(Endpoint::Checkins)).count();
    assert!((30..30 * 6).contains(&pages), "{pages} pages of 30 computers");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_permission_one_source_is_red_and_the_others_go_on() {
    let mut app = TestApp::prepare(setup(Dialect::default())).await;
    let refused = Fault::always(Effect::NoPermission { answer: NoPermission::Denied });
    app.portal.fault(refused.at(Endpoint::Checkins));
    app.run().await;
    let of = |status: &Status, source: &str| streams(status).find(|one| one.source == source).cloned();
    let status = app
        .wait("was red", SOON, |status| {
            of(status, SOURCE).is_some_and(|one| one.condition == StreamCondition::MissingRole)
        })
        .await;
    let error = of(&status, SOURCE).unwrap().last_error.unwrap();
    assert!(error.contains("Allow View Checkin History"), "{error}");
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
async fn killed_again_and_again_none_is_lost_or_doubled() {
    let seed = fresh_seed();
    let mut dice = StdRng::seed_from_u64(seed);
    let world = WorldOptions { seed, computers: 30, rows_per_day: 500, ..WorldOptions::default() };
    let mut portal = Simulator::start(World::new(world), Options::default()).await.unwrap();
    let place = Place::new(&portal, "64KiB");
    place.reconfigure(
        &format!("      {SOURCE}: {{ enabled: false }}"),
        &format!("      {SOURCE}: {{ enabled: true, every: 200ms, page_size: 7, sweep: 2h, backfill: 3d, retention: 20d }}"),
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
        let fault = fault.map(|point| format!("{point}:{}", dice.random_range(2..80)));
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
    // What was received late is listed by now.
    portal.advance(8 * HOUR);
    portal.stage().clock.freeze(true);
    for _ in 0..2 {
        let mut once = place.start_with("once", &[none_refused]);
        let ended = once.ended_within(Duration::from_secs(120)).await;
        assert!(ended.is_some_and(|status| status.success()), "SEED={seed}: {}", place.said());
    }
    portal.stop().await;
    let output = Output::read(&place.out());
    // A program may be killed before its first look, from which on it looks back.
    let latest = started + 8 * 14_400 * SECOND - 3 * DAY;
    let until = portal.now() - 7 * HOUR;
    let owed = judge(&output, &portal, (started - 3 * DAY, latest), until);
    assert!(owed > 200, "SEED={seed}: {owed}");
}
