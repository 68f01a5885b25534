//! Random schedules of the whole program over HTTP: any dialect, any fault, any time at which it is stopped.
//!
//! In the end everything that the portal lists must have arrived, and what is missing must lie in an interval
//! that the status does not call proven. `SEED=n SCHEDULES=1` plays one of them again.

use std::sync::Arc;
use std::time::Duration;

use lockstep::model::{Micros, SECOND, Seconds};
use lockstep::simulator::Simulator;
use lockstep::simulator::dialect::{Dialect, Pagination, Totals};
use lockstep::simulator::faults::{Effect, Fault, NoPermission, RetryAfter};
use lockstep::simulator::requests::Endpoint;
use lockstep::simulator::truth::TruthRow;
use lockstep::simulator::world::{Source, WorldOptions};
use lockstep::status::Status;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::Semaphore;

use crate::support::app::{
    DAY, HOUR, MINUTE, Setup, TestApp, caught_up, date, delivered, fresh_seed, setting, windows,
};
use crate::support::output::Output;
use crate::support::say;
use crate::support::verdict::{hash, micros, name};

/// Played at the same time; most of each is waiting.
const AT_ONCE: usize = 6;
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_secs(3);
/// The daily walks that read the whole retention again, a share each.
const SHARES: u32 = 8;

/// What came of all schedules together.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    rows: usize,
    missing_and_said: usize,
    not_looked_over: usize,
    restarts: usize,
    faults: usize,
    asked_back: usize,
    reloads: usize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_random_schedules_lose_nothing_that_is_called_proven() {
    let (seed, schedules) = (fresh_seed(), setting("SCHEDULES").unwrap_or(200));
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut running = Vec::new();
    for seed in seed..seed + schedules {
        let places = places.clone();
        running.push((
            seed,
            tokio::spawn(async move {
                let _place = places.acquire().await.unwrap();
                play(seed).await
            }),
        ));
    }
    let (mut sum, mut failed) = (Sum::default(), Vec::new());
    for (seed, schedule) in running {
        match schedule.await {
            Ok(one) => {
                sum.rows += one.rows;
                sum.missing_and_said += one.missing_and_said;
                sum.not_looked_over += one.not_looked_over;
                sum.restarts += one.restarts;
                sum.faults += one.faults;
                sum.asked_back += one.asked_back;
                sum.reloads += one.reloads;
            }
            Err(_) => failed.push(seed),
        }
    }
    say(format_args!("{schedules} schedules from seed {seed}: {sum:?}, failed {}", failed.len()));
    assert!(failed.is_empty(), "SCHEDULES=1 and SEED one of {failed:?}");
}

/// Whether a dialect lets everything be listed and proven.
fn is_fair(dialect: &Dialect) -> bool {
    matches!(dialect.totals, Totals::Exact | Totals::SometimesAbsent(_))
        && dialect.pagination != Pagination::None
        && !dialect.ignores_page_number
}

fn setup(seed: u64, dice: &mut StdRng) -> Setup {
    let dialect = Dialect::random(dice);
    let world = WorldOptions {
        seed,
        organizations: dice.random_range(1..4),
        computers: dice.random_range(0..6),
        rows_per_day: dice.random_range(50..500),
        audit_rows_per_day: dice.random_range(10..60),
        computer_changes_per_day: 20,
        backlog_hours: dice.random_range(3..30),
        late_share: dice.random_range(0.0..0.3),
        late_days: dice.random_range(1..26),
        future_share: dice.random_range(0.0..0.05),
        other_table_share: 0.02,
        no_id_share: dice.random_range(0.0..0.2),
        own_noise: dice.random(),
        ..WorldOptions::default()
    };
    Setup {
        world,
        page_size: u32::try_from(dice.random_range(1..=dialect.max_page_size)).unwrap(),
        dialect,
        every: 100,
        backfill: dice.random_range(1..30) * 3_600,
        follows: true,
        // Without computers nothing tells whose token it is.
        names_organization: true,
        ..Setup::default()
    }
}

/// One fault, of any kind and share.
fn fault(portal: &Simulator, dice: &mut StdRng) -> Fault {
    let status = |status, retry_after| Effect::Status { status, retry_after, message: None };
    let effect = match dice.random_range(0..15) {
        0 => status(429, Some(RetryAfter::Seconds(0))),
        1 => status(429, Some(RetryAfter::DateIn(dice.random_range(-5..1)))),
        2 => status(500, None),
        3 => status(503, None),
        4 => Effect::CutBody,
        5 => Effect::TruncatedJson,
        6 => Effect::Html,
        7 => Effect::ErrorObject,
        8 => Effect::Reset,
        9 => Effect::Down { reset: dice.random() },
        10 => Effect::TokenRevoked,
        11 => Effect::NoPermission {
            answer: if dice.random() { NoPermission::Empty } else { NoPermission::Denied },
        },
        12 => Effect::SilentOrganization,
        13 => Effect::Drift { rows: dice.random_range(1..3), backdated: dice.random() },
        _ => Effect::Deletion { rows: 1 },
    };
    let mut fault = Fault { share: Some(dice.random_range(0.05..1.0)), ..Fault::always(effect) };
    if dice.random() || matches!(fault.effect, Effect::NoPermission { .. }) {
        let endpoints = [Endpoint::UnifiedAudit, Endpoint::SystemAudit, Endpoint::Computers];
        fault = fault.at(endpoints[dice.random_range(0..3)]);
    }
    if fault.effect == Effect::SilentOrganization {
        let index = dice.random_range(0..portal.stage().world.organizations.len());
        let organization = portal.organization(index);
        fault = fault.of(organization);
    }
    // A listing that never holds still cannot be proven.
    if matches!(fault.effect, Effect::Drift { .. } | Effect::Deletion { .. }) {
        fault.share = fault.share.map(|share| share / 4.0);
    }
    fault
}

async fn play(seed: u64) -> Sum {
    let mut dice = StdRng::seed_from_u64(seed);
    let setup = setup(seed, &mut dice);
    let (fair, dialect) = (is_fair(&setup.dialect), setup.dialect.clone());
    let mut app = TestApp::start(setup).await;
    // What lies before the first answer that the program heard is not owed.
    app.wait("began", LONG, |status| {
        windows(status).count() == 2 && windows(status).all(|stream| stream.live_until.is_some())
    })
    .await;
    let mut sum = Sum::default();
    let (mut script, mut hidden) = (Vec::new(), false);
    for _ in 0..dice.random_range(2..7) {
        let step = dice.random_range(0..10);
        match step {
            0 | 1 => {
                app.restart().await;
                sum.restarts += 1;
            }
            2 => {
                app.portal.stop().await;
                tokio::time::sleep(Duration::from_millis(dice.random_range(0..150))).await;
                app.portal.restart().await.unwrap();
            }
            3 => app.portal.clear_faults(None),
            4 => {
                let mut stage = app.portal.stage();
                let now = stage.tick();
                let at = now - dice.random_range(-30..300) * MINUTE;
                hidden = true;
                if dice.random() {
                    stage.world.add_equal_rows(0, at, dice.random_range(2..6));
                } else {
                    stage.world.burst(Source::UnifiedAudit, 0, at, dice.random_range(1..80));
                }
            }
            5 => {
                // Twice or thrice, one over the other, and now and then the end follows at once.
                for _ in 0..dice.random_range(1..4) {
                    let span = older(&app, &mut dice);
                    script.push(format!("asked for {} to {}", date(span.0 * SECOND), date(span.1 * SECOND)));
                    app.ask_back(span).await;
                    sum.asked_back += 1;
                }
                if dice.random() {
                    app.restart().await;
                    sum.restarts += 1;
                }
            }
            6 => {
                let largest = u32::try_from(app.setup.dialect.max_page_size).unwrap();
                app.setup.page_size = dice.random_range(1..=largest);
                app.setup.sink = format!(", rotate: {{ size: {}KiB }}", dice.random_range(64..500));
                app.configure();
                sum.reloads += 1;
            }
            _ => {
                let fault = fault(&app.portal, &mut dice);
                script.push(format!("{fault:?}"));
                hidden |= matches!(fault.effect, Effect::NoPermission { .. } | Effect::SilentOrganization);
                app.portal.fault(fault);
                sum.faults += 1;
            }
        }
        let by = match dice.random_range(0..4) {
            0 => SECOND,
            1 => dice.random_range(1..40) * MINUTE,
            2 => dice.random_range(1..8) * HOUR,
            _ => 10 * MINUTE,
        };
        script.push(format!("{step} then {} min", by / MINUTE));
        app.advance(by);
        tokio::time::sleep(Duration::from_millis(dice.random_range(0..250))).await;
    }
    let (status, looked_over) = quiesce(&app, fair, hidden).await;
    sum.not_looked_over += usize::from(!looked_over);
    let proof = match (fair, looked_over) {
        (true, _) => Proof::Owed,
        (false, true) => Proof::Said,
        (false, false) if hidden => Proof::None,
        (false, false) => Proof::SaidUnlessLate,
    };
    // Where the time behind it is never counted to its end, some of it may wait for ever.
    let waiting = app.waiting().await;
    assert!(!fair || waiting.is_none(), "SEED={seed} SCHEDULES=1: never taken up: {:?}", app.asked_back);
    app.stop().await;
    let output = app.output();
    let unasked = unasked(&app, &output);
    app.asked_back.retain(|(_, to)| waiting.is_none_or(|waiting| *to > waiting));
    let verdict = app.verdict(&output);
    for source in [Source::UnifiedAudit, Source::SystemAudit] {
        let tally = &verdict.0[name(source)];
        sum.rows += usize::try_from(tally.delivered).unwrap();
        let said = judge(&app, &output, source, &status, proof);
        sum.missing_and_said += tally.lost.len() - said;
        assert!(
            said + unasked == 0 && tally.doubled.is_empty() && tally.invented.is_empty(),
            "SEED={seed} SCHEDULES=1: {source:?}: {tally}, of the lost not said {said}, nobody asked for {unasked}, started {} after {} s of backfill; {script:#?} {dialect:?}",
            date(app.started),
            app.setup.backfill
        );
    }
    sum
}

/// Time that an operator might ask for: mostly from before the start, some of it owed already.
fn older(app: &TestApp, dice: &mut StdRng) -> (Seconds, Seconds) {
    let now = app.portal.now();
    let back = if dice.random() { dice.random_range(0..40 * HOUR) } else { dice.random_range(0..12 * DAY) };
    let from = app.started - Micros::try_from(app.setup.backfill).unwrap() * SECOND / 2 - back;
    let to = if dice.random() { now } else { from + dice.random_range(1..=now - from) };
    (from.div_euclid(SECOND), to.div_euclid(SECOND).max(from.div_euclid(SECOND) + 1))
}

/// Lets everything be looked at again until nothing changes any more. Answers also whether that came to an
/// end.
async fn quiesce(app: &TestApp, fair: bool, hidden: bool) -> (Status, bool) {
    app.quiet();
    let mut looked_over = true;
    // What one answer hides and the next one shows, and what comes late to time long ago, only counts tell at
    // once: without them every share must be walked again.
    let every_share = !fair && (hidden || !app.asked_back.is_empty());
    let days = if every_share { SHARES + 1 } else { 2 };
    for _ in 0..days {
        let now = app.advance(26 * HOUR);
        let target = date(now - HOUR);
        let done = |status: &Status| {
            windows(status).count() == 2
                && windows(status).all(|stream| stream.scrubbed.is_some_and(|at| at >= target))
                && delivered(status)
                && (!fair || caught_up(status, target))
        };
        if fair {
            app.wait("looked everything over again", LONG, done).await;
            // Page by page of a single row, of which some come without a total, it takes most of a minute.
            assert!(app.becomes_idle(3 * LONG).await, "the background work never ends: {:?}", app.setup);
        } else {
            // Some portals give no end of work; what is not done by then must be said.
            looked_over &= app.reaches(SHORT, done).await.is_ok();
            looked_over &= !every_share || app.becomes_idle(3 * SHORT).await;
            if !looked_over {
                break;
            }
        }
    }
    (app.wait("delivered", LONG, delivered).await, looked_over)
}

/// What a row that is missing shows.
#[derive(Clone, Copy)]
enum Proof {
    /// A loss, unless an interval that is said not to be proven holds it.
    Owed,
    /// The same for the time that coverage claims.
    Said,
    /// The same, but nothing was checked again: a late row may not have been listed when its time was checked.
    SaidUnlessLate,
    /// Nothing was checked again, and rows were hidden or put in after it was checked first.
    None,
}

/// How many rows were delivered that the portal had received before the start, of a time that nobody asked for.
/// Rows of the system audit do not say when they were received.
fn unasked(app: &TestApp, output: &Output) -> usize {
    let delivered = output.counted(name(Source::UnifiedAudit));
    // Nobody but the collector knows the very second of its first request.
    let slack = 30 * SECOND;
    let around = |at| [at - slack, at, at + slack].into_iter().any(|at| app.claims(at, 0));
    let rows = app.portal.truth(Source::UnifiedAudit, false);
    let known = rows.iter().filter(|row| delivered.contains_key(&hash(row)));
    let old = known.filter(|row| micros(&row.date_time_imported) < app.started - slack);
    old.filter(|row| !around(app.axis(row))).count()
}

/// How many rows are missing though the status does not say so.
fn judge(app: &TestApp, output: &Output, source: Source, status: &Status, proof: Proof) -> usize {
    let name = name(source);
    let mut held = output.counted(name);
    let stream = windows(status).find(|stream| stream.source == name).expect("the source is collected");
    let now = app.portal.now();
    // What nobody has looked at yet stands in no interval: the status says how far anybody has.
    let seen_until = stream.unproven.iter().map(|one| one.to).chain(stream.live_until).max();
    let mut not_said = 0;
    for row in app.portal.truth(source, false) {
        if let Some(count) = held.get_mut(&hash(&row)).filter(|count| **count > 0) {
            *count -= 1;
            continue;
        }
        let at = app.axis(&row);
        if !app.owed(&row, source) {
            continue;
        }
        // Before the beginning and after now nothing is ever called covered.
        let claimed = at < now - HOUR && app.claims(at, 0);
        let said = stream.unproven_more > 0
            || seen_until.is_none_or(|until| date(at) >= until)
            || stream.unproven.iter().any(|one| (one.from..=one.to).contains(&date(at)));
        let late = micros(&row.date_time_imported) - at > app.setup.settle as Micros * SECOND;
        let wanted = match proof {
            Proof::Owed => true,
            Proof::Said => claimed,
            Proof::SaidUnlessLate => claimed && !late,
            Proof::None => false,
        };
        if !said && wanted {
            not_said += 1;
            if not_said < 4 {
                let TruthRow { date_time, date_time_imported, id, .. } = &row;
                say(format_args!("not said: {name} {id:?} of {date_time} received {date_time_imported}"));
            }
        }
    }
    not_said
}
