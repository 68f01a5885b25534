//! Killed at any moment, by SIGKILL or with the power of its disk, the program loses nothing, doubles nothing
//! and invents nothing.
//!
//! The real binary collects from a portal that goes on: live rows, late rows, changing computers, rows that come
//! and go while pages are read. It is killed at random times and at every named fault point; after half of the
//! kills its files lose what no fsync had made safe. In the end it may finish, and the files are compared
//! with the portal. `make crash KILLS=50` is the long form.

use std::collections::BTreeMap;
use std::time::Duration;

use lockstep::fault;
use lockstep::model::SECOND;
use lockstep::simulator::dialect::Dialect;
use lockstep::simulator::faults::{Effect, Fault};
use lockstep::simulator::truth::TruthRow;
use lockstep::simulator::world::{Source, World, WorldOptions};
use lockstep::simulator::{Options, Simulator};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use tokio::time::Instant;

use crate::support::binary::{Place, was_killed};
use crate::support::output::Output;
use crate::support::power::{Taken, cut_power};
use crate::support::verdict::{Truth, Verdict, compare, micros};

/// How much is to happen.
struct Plan {
    seed: u64,
    /// Kills at random times.
    random: u32,
    /// Kills at each fault point.
    each: u32,
    /// Rows of the unified audit a day; a day of them is there when the program first starts.
    rows_per_day: i64,
    /// Rows that come at once again and again.
    burst: u32,
    /// The portal's time that passes between two lives, in seconds at most.
    leap: i64,
    /// Size at which an output file is closed.
    file_size: &'static str,
}

/// The Nth time at which a fault point is struck is at most this.
const DEEPEST: u32 = 8;
/// A fault point that is not met in this time is tried again at its first time.
const PATIENCE: Duration = Duration::from_secs(10);
/// The newest rows that need not be in the files, on the portal's time.
const SETTLE: i64 = 5 * SECOND;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_every_fault_point_and_at_random_nothing_is_lost_doubled_or_invented() {
    let (seed, file_size) = (seed(), "16KiB");
    prove(Plan { seed, random: 4, each: 1, rows_per_day: 3_000, burst: 50, leap: 300, file_size }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: make crash KILLS=50"]
async fn long() {
    let (seed, random, file_size) = (seed(), setting("KILLS").unwrap_or(50), "512KiB");
    prove(Plan { seed, random, each: 2, rows_per_day: 100_000, burst: 500, leap: 900, file_size }).await;
}

/// How the files may be packed; the dice choose.
const COMPRESSIONS: [&str; 3] = ["none", "gzip", "zstd"];

/// A kill to come.
#[derive(Clone, Copy)]
struct Kill {
    /// A fault point, or none for a random time.
    at: Option<&'static str>,
    /// The power of the disk goes with it.
    power: bool,
}

async fn prove(plan: Plan) {
    let began = Instant::now();
    let mut dice = StdRng::seed_from_u64(plan.seed);
    let mut portal = start_portal(&plan).await;
    let start = portal.now() - 28 * 86_400 * SECOND;
    let place = Place::new(&portal, plan.file_size);
    let packed = COMPRESSIONS.choose(&mut dice).expect("there are some");
    place.reconfigure("    rotate:", &format!("    compression: {packed}\n    rotate:"));
    let mut killed: BTreeMap<&str, u32> = BTreeMap::new();
    let (mut cuts, mut taken) = (0, Taken::default());
    for kill in kills(&plan, &mut dice) {
        portal.advance(dice.random_range(0..plan.leap) * SECOND);
        stir(&plan, &portal, &mut dice);
        let dead = match kill.at {
            None => kill_at_random(&place, &mut dice).await,
            Some(point) => kill_at(&plan, &place, point, &portal, &mut dice).await,
        };
        *killed.entry(kill.at.unwrap_or("random")).or_default() += u32::from(dead);
        if !dead {
            break;
        }
        if kill.power {
            cuts += 1;
            taken += cut_power(&place.out(), &place.fsync_log(), &mut dice);
        }
    }
    let finished = finish(&place, &portal).await;
    portal.stop().await;
    // The newest seconds are left alone until their rows have settled.
    let settled = portal.now() - SETTLE;

    let mut output = Output::read(&place.out());
    output.add_dead_letters(&place.state()).await;
    // A row from before the backfill that does not say when it was received is owed once that time was counted;
    // a kill may put that off for long.
    let countable = |source, at| source != Source::SystemAudit || at >= start;
    let owed = |source, row: &TruthRow| {
        let at = micros(&row.date_time);
        at < settled && countable(source, at)
    };
    let verdict = compare(&Truth::of(&portal), &output, owed);
    report(&plan, packed, &killed, (cuts, taken), (&verdict, output.dead), began.elapsed());
    assert!(output.dead > 0, "no record was refused");
    let missed: Vec<_> = points().filter(|point| killed.get(point).is_none_or(|count| *count == 0)).collect();
    let sound = verdict.is_clean() && missed.is_empty() && output.surplus.is_empty() && finished;
    assert!(
        sound,
        "seed {}: {verdict}; not killed at: {missed:?}; moved aside: {:?}; finished: {finished}\n{}{}",
        plan.seed,
        output.surplus,
        verdict.examples(),
        tail(&place.said()),
    );
}

/// A portal that makes it hard: late rows, wrong clocks, odd rows, rows without id, and while pages are read
/// rows come and go.
async fn start_portal(plan: &Plan) -> Simulator {
    let world = World::new(WorldOptions {
        seed: plan.seed,
        computers: 120,
        rows_per_day: plan.rows_per_day,
        audit_rows_per_day: plan.rows_per_day / 25,
        computer_changes_per_day: 2_000,
        ..WorldOptions::default()
    });
    let portal =
        Simulator::start(world, Options { dialect: Dialect::default(), ..Options::default() }).await.unwrap();
    portal.fault(Fault::share(0.03, Effect::Drift { rows: 3, backdated: false }));
    portal.fault(Fault::share(0.02, Effect::CutBody));
    portal
}

/// Work for every part: rows for several files, and a minute in which computers change.
fn stir(plan: &Plan, portal: &Simulator, dice: &mut StdRng) {
    let now = portal.now();
    {
        let mut stage = portal.stage();
        for (source, rows) in [(Source::UnifiedAudit, plan.burst), (Source::SystemAudit, plan.burst / 5)] {
            let organization = dice.random_range(0..3);
            stage.world.burst(source, organization, now, dice.random_range(1..=rows));
        }
        stage.world.add_equal_rows(0, now, dice.random_range(1..4));
    }
    portal.advance(61 * SECOND);
}

/// Every point that a program with a file sink meets; `kafka.rs` sees to the others.
fn points() -> impl Iterator<Item = &'static str> {
    fault::points().filter(|point| !point.starts_with("kafka."))
}

/// Every kill of the plan in random order. A schema is made only once, so that comes first.
fn kills(plan: &Plan, dice: &mut StdRng) -> Vec<Kill> {
    let (first, others): (Vec<_>, Vec<_>) = points().partition(|point| point.contains(".migrate."));
    let alternating = |at, count: u32, odd| (0..count).map(move |n| Kill { at, power: n % 2 == odd });
    let mut kills: Vec<Kill> = alternating(None, plan.random, 0).collect();
    for point in others {
        // What a commit is part of differs most.
        let count = if point.contains("store.") { 4 * plan.each } else { plan.each };
        kills.extend(alternating(Some(point), count, dice.random_range(0..2)));
    }
    kills.shuffle(dice);
    first.into_iter().map(|point| Kill { at: Some(point), power: false }).chain(kills).collect()
}

async fn kill_at_random(place: &Place, dice: &mut StdRng) -> bool {
    let mut running = place.start("run", None);
    tokio::time::sleep(Duration::from_millis(dice.random_range(20..2_000))).await;
    assert!(running.kill(), "ended by itself\n{}", tail(&place.said()));
    true
}

/// Lets the program kill itself at a fault point. What it does by then differs: the point is met for the first
/// or a later time.
async fn kill_at(plan: &Plan, place: &Place, point: &str, portal: &Simulator, dice: &mut StdRng) -> bool {
    let packing = point.contains(".pack.");
    let number = if packing || point.contains(".migrate.") { 1 } else { dice.random_range(1..=DEEPEST) };
    for number in [number, 1] {
        if packing {
            // Seen rows are packed a day after their hour closed.
            portal.advance(3_600 * SECOND);
        }
        let mut running = place.start("run", Some(&format!("{point}:{number}")));
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(status) = running.ended_within(Duration::from_millis(500)).await {
                assert!(was_killed(status), "ended by itself: {status}\n{}", tail(&place.said()));
                return true;
            }
            stir(plan, portal, dice);
        }
        running.kill();
    }
    false
}

/// The portal's clock stands still, and the program may collect and deliver what there is. The second pass
/// confirms what the first one misses: a computer is removed when two complete walks do not list it.
async fn finish(place: &Place, portal: &Simulator) -> bool {
    portal.clear_faults(None);
    let now = portal.advance(3_600 * SECOND);
    {
        // An organization that has been silent for long is doubted, and rightly so.
        let world = &mut portal.stage().world;
        for source in [Source::UnifiedAudit, Source::SystemAudit] {
            (0..3).for_each(|organization| world.burst(source, organization, now, 2));
        }
    }
    portal.advance(70 * SECOND);
    portal.stage().clock.freeze(true);
    let mut complete = false;
    for _ in 0..2 {
        let mut once = place.start("once", None);
        let status = once.ended_within(Duration::from_secs(300)).await;
        complete = status.is_some_and(|status| status.success());
    }
    complete
}

#[expect(clippy::print_stdout, reason = "figures for whoever runs the proof")]
fn report(
    plan: &Plan,
    packed: &str,
    killed: &BTreeMap<&str, u32>,
    (cuts, taken): (u32, Taken),
    (verdict, dead): (&Verdict, u64),
    lasted: Duration,
) {
    let kills: u32 = killed.values().sum();
    println!("seed {}, compression: {packed}, {:.0} s", plan.seed, lasted.as_secs_f64());
    for (point, count) in killed {
        println!("  killed {count:>3} times: {point}");
    }
    println!(
        "  power cut after {cuts} of them: {} bytes, {} names and {} renames were gone",
        taken.bytes, taken.names, taken.renames
    );
    for (source, tally) in &verdict.0 {
        println!("  {source}: the files and {dead} dead letters {tally}");
    }
    println!("kills {kills} {verdict}");
}

fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().rev().take(15).collect();
    lines.into_iter().rev().map(|line| format!("  stderr: {line}\n")).collect()
}

/// `SEED` from the environment repeats a proof's dice and rows; its times are never quite the same.
fn seed() -> u64 {
    setting("SEED").unwrap_or_else(|| u64::from(rand::random::<u32>()))
}

#[expect(clippy::disallowed_methods, reason = "how make hands a number to a test")]
fn setting<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}
