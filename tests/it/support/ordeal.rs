//! The program is killed again and again while it delivers to a far side that fails, and may finish in the end.

use std::time::Duration;

use lockstep::model::{Micros, SECOND};
use lockstep::simulator::truth::TruthRow;
use lockstep::simulator::world::{Source, World, WorldOptions};
use lockstep::simulator::{Options, Simulator};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;

use super::binary::{Place, was_killed};
use super::far_side::{FarSide, once_each};
use super::output::Output;
use super::verdict::{Truth, Verdict, compare, micros};

/// Where the program kills itself, when it comes there for this time at most; or somebody kills it at a random time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kill {
    pub(crate) at: Option<&'static str>,
    pub(crate) depth: u32,
}

/// What it came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) seed: u64,
    /// Kills that took place.
    pub(crate) kills: usize,
    /// Fault points that were never met.
    pub(crate) missed: Vec<&'static str>,
    pub(crate) records: usize,
    pub(crate) verdict: Verdict,
    /// Records that a reader finds more than once, with one uid.
    pub(crate) repeats: usize,
    /// Whatever else is not as it should be.
    pub(crate) complaints: Vec<String>,
    /// Requests that were made to fail.
    pub(crate) failed: Option<usize>,
}

/// A fault point that is not met in the first time is tried again at its first time. A program that is killed in the
/// first second of its life may leave a transaction open that nobody takes over: Kafka ends it after a minute.
const PATIENCE: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(120)];

/// Kills the program so, lets it finish, and compares what the far side has with the portal.
pub(crate) async fn endure(far: &FarSide, kills: &[Kill], seed: u64) -> Outcome {
    let mut dice = StdRng::seed_from_u64(seed);
    let world = World::new(WorldOptions {
        seed,
        computers: 40,
        rows_per_day: 3_000,
        audit_rows_per_day: 200,
        computer_changes_per_day: 500,
        ..WorldOptions::default()
    });
    let mut portal = Simulator::start(world, Options::default()).await.unwrap();
    let place = Place::with_sink(&portal, "");
    place.reconfigure("backfill: 28d", "backfill: 1d");
    far.prepare(&place).await;
    far.be_bad(seed);
    // The first start decides how far back is collected, and may be killed before it is noted.
    let owed_from = portal.now() - 22 * 3_600 * SECOND;
    let (mut landed, mut missed) = (0, Vec::new());
    for kill in kills {
        stir(&portal, &mut dice);
        match kill.at {
            None => {
                let mut running = place.start("run", None);
                tokio::time::sleep(Duration::from_millis(dice.random_range(20..1_500))).await;
                assert!(running.kill(), "ended by itself: {}", place.said());
                landed += 1;
            }
            Some(point) => match kill_at(point, kill.depth, &place, &portal, &mut dice).await {
                true => landed += 1,
                false => missed.push(point),
            },
        }
        far.restart();
    }
    far.be_good();
    let mut complaints = Vec::new();
    if let Err(said) = finish(&place, &portal).await {
        complaints.push(format!("not complete in the end: {said}"));
    }
    portal.stop().await;
    let failed = far.failed();
    let (lines, repeats, others) = once_each(far.lines(&place).await);
    complaints.extend(others.iter().take(3).map(|line| format!("not the record that came before: {line}")));
    complaints.extend(far.complaints(&place.said()));
    let (verdict, records) = judged(lines, &place, &portal, owed_from).await;
    Outcome { seed, kills: landed, missed, records, verdict, repeats, complaints, failed }
}

/// Lets the program kill itself; false where it never comes to the point.
async fn kill_at(
    point: &'static str,
    depth: u32,
    place: &Place,
    portal: &Simulator,
    dice: &mut StdRng,
) -> bool {
    let packing = point.contains(".pack.");
    let depth = if packing || point.contains(".migrate.") { 1 } else { depth };
    for (depth, patience) in [depth, 1].into_iter().zip(PATIENCE) {
        if packing {
            // Seen rows are packed a day after their hour closed.
            portal.advance(3_600 * SECOND);
        }
        let mut running = place.start("run", Some(&format!("{point}:{depth}")));
        let end = Instant::now() + patience;
        while Instant::now() < end {
            if let Some(status) = running.ended_within(Duration::from_millis(400)).await {
                assert!(was_killed(status), "ended by itself: {status}\n{}", place.said());
                return true;
            }
            stir(portal, dice);
        }
        running.kill();
    }
    false
}

/// New rows, and a minute in which they settle and computers change.
fn stir(portal: &Simulator, dice: &mut StdRng) {
    let now = portal.advance(dice.random_range(1..120) * SECOND);
    for (source, rows) in [(Source::UnifiedAudit, 60), (Source::SystemAudit, 10)] {
        portal.stage().world.burst(source, dice.random_range(0..3), now, rows);
    }
    portal.advance(61 * SECOND);
}

/// The portal's clock stands still, and the program collects and delivers what there is. A first pass may leave
/// time unproven, of which the next one is sure.
async fn finish(place: &Place, portal: &Simulator) -> Result<(), String> {
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
    for pass in 0..4 {
        if pass < 2 || !complete {
            let mut once = place.start("once", None);
            let ended = once.ended_within(Duration::from_secs(120)).await;
            complete = ended.is_some_and(|status| status.success());
        }
    }
    if complete { Ok(()) } else { Err(place.said()) }
}

/// Dead letters count as delivered.
async fn judged(
    lines: Vec<String>,
    place: &Place,
    portal: &Simulator,
    owed_from: Micros,
) -> (Verdict, usize) {
    let folder = tempfile::tempdir().unwrap();
    let text: String = lines.into_iter().map(|line| line + "\n").collect();
    std::fs::write(folder.path().join("found.ndjson"), text).unwrap();
    let mut output = Output::read(folder.path());
    let records = output.records.len();
    output.add_dead_letters(&place.state()).await;
    // The newest seconds are left alone until their rows have settled.
    let settled = portal.now() - 5 * SECOND;
    let owed = |_, row: &TruthRow| (owed_from..settled).contains(&micros(&row.date_time));
    (compare(&Truth::of(portal), &output, owed), records)
}
