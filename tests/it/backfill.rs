//! Older time that an operator asks for: collected once, through kills, without a running program and with one.

use std::time::Duration;

use lockstep::model::{Micros, SECOND};
use lockstep::simulator::world::{Source, World, WorldOptions};
use lockstep::simulator::{Options, Simulator};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::support::app::{DAY, HOUR, SOON, fresh_seed};
use crate::support::binary::{Place, was_killed};
use crate::support::output::Output;
use crate::support::say;
use crate::support::verdict::{Truth, compare, micros};

/// The newest rows, and those on the second of a border, are owed to nobody.
const SLACK: Micros = 30 * SECOND;

/// Every row that the portal listed by then and dated in `[from, now)` is in the files once; answers how many
/// audit rows there are in all.
async fn verify(place: &Place, portal: &Simulator, from: Micros, what: &str) -> u64 {
    let settled = portal.now() - SLACK;
    let mut output = Output::read(&place.out());
    output.add_dead_letters(&place.state()).await;
    let owed = |at: Micros| (from + SLACK..settled).contains(&at);
    let verdict = compare(&Truth::of(portal), &output, |_, row| owed(micros(&row.date_time)));
    for (source, tally) in &verdict.0 {
        say(format_args!("backfill, {what}: {source}: {tally}"));
    }
    assert!(verdict.is_clean(), "{what}: {verdict}\n{}\n{}", verdict.examples(), place.said());
    verdict.0.iter().filter(|(source, _)| *source != "computers").map(|(_, tally)| tally.delivered).sum()
}

/// Whether everything from then on is proven, as `lockstep coverage` has it.
async fn all_proven(place: &Place, from: Micros) -> bool {
    let json = place.ask(&["coverage", "acme", "--json"]).await;
    let picture: Value = serde_json::from_str(json.trim()).unwrap();
    let streams = picture["sites"][0]["streams"].as_array().unwrap().clone();
    let windows: Vec<_> = streams.iter().filter(|stream| stream["shape"] == "window").collect();
    assert_eq!(windows.len(), 2, "{json}");
    windows.iter().all(|stream| {
        let intervals = stream["intervals"].as_array().unwrap();
        let since = |one: &&Value| micros(one["to"].as_str().unwrap()) > from + SLACK;
        let mut since = intervals.iter().filter(since).peekable();
        since.peek().is_some()
            && since.all(|one| ["proven", "upcoming"].contains(&one["state"].as_str().unwrap()))
    })
}

async fn once(place: &Place) {
    let mut once = place.start("once", None);
    let status = once.ended_within(5 * SOON).await.expect("a pass ends");
    assert!(status.success(), "{}", place.said());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_backfill_every_row_from_then_on_is_in_the_files_once_killed_or_not() {
    let seed = fresh_seed();
    say(format_args!("backfill: seed {seed}"));
    let world = World::new(WorldOptions {
        seed,
        rows_per_day: 4_000,
        audit_rows_per_day: 600,
        computer_changes_per_day: 0,
        backlog_hours: 96,
        late_share: 0.0,
        future_share: 0.0,
        live: false,
        own_noise: false,
        ..WorldOptions::default()
    });
    let portal = Simulator::start(world, Options::default()).await.unwrap();
    {
        // An organization that happens to be silent for long is doubted, and rightly so.
        let world = &mut portal.stage().world;
        let now = world.now();
        for source in [Source::UnifiedAudit, Source::SystemAudit] {
            (0..3).for_each(|organization| world.burst(source, organization, now, 2));
        }
    }
    portal.advance(70 * SECOND);
    portal.stage().clock.freeze(true);
    let place = Place::new(&portal, "1MiB");
    place.reconfigure("backfill: 28d", "backfill: 3h");
    once(&place).await;
    let first = verify(&place, &portal, portal.now() - 3 * HOUR, "before").await;

    let told = place.ask(&["backfill", "acme", "--from", "2d", "--dry-run"]).await;
    assert!(told.contains("nothing is changed") && told.contains("unified_audit"), "{told}");
    once(&place).await;
    assert_eq!(verify(&place, &portal, portal.now() - 3 * HOUR, "dry run").await, first);

    let told = place.ask(&["backfill", "acme", "--from", "2d"]).await;
    assert!(told.contains("no lockstep is running"), "{told}");
    let mut killed = 0;
    for number in [3, 9, 14, 6, 20, 11] {
        let point = if number % 2 == 0 { "store.commit.before" } else { "store.commit.after" };
        let mut pass = place.start("once", Some(&format!("{point}:{number}")));
        let status = pass.ended_within(5 * SOON).await.expect("it ends");
        killed += u32::from(was_killed(status));
    }
    assert!(killed >= 4, "{killed}");
    once(&place).await;
    let second = verify(&place, &portal, portal.now() - 2 * DAY, "killed").await;
    assert!(second > first + 3_000, "{first} {second}");
    assert!(all_proven(&place, portal.now() - 2 * DAY).await);
    let told = place.ask(&["backfill", "acme", "--from", "36h"]).await;
    assert!(told.contains("owed already"), "{told}");

    // Through the program that runs.
    let mut running = place.start("run", None);
    let until = Instant::now() + SOON;
    while !place.state().join("control.sock").exists() && Instant::now() < until {
        sleep(Duration::from_millis(50)).await;
    }
    let told = place.ask(&["backfill", "acme", "--from", "3d"]).await;
    assert!(told.contains("the running lockstep takes it up"), "{told}");
    let until = Instant::now() + SOON;
    while !all_proven(&place, portal.now() - 3 * DAY).await {
        assert!(Instant::now() < until, "never proven: {}", place.ask(&["coverage"]).await);
        sleep(Duration::from_millis(300)).await;
    }
    assert!(running.kill());
    once(&place).await;
    let third = verify(&place, &portal, portal.now() - 3 * DAY, "running").await;
    assert!(third > second + 3_000, "{second} {third}");
}
