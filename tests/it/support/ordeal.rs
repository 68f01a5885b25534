//! The program is killed again and again while it delivers to a far side that fails, and may finish in the end.

use std::collections::HashMap;
use std::time::Duration;

use lockstep::model::{Micros, SECOND};
use lockstep::simulator::world::{Source, World, WorldOptions};
use lockstep::simulator::{Options, Simulator};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::binary::{Place, was_killed};
use super::gate::Gate;
use super::output::Output;
use super::verdict::{Truth, Verdict, compare, micros};

/// What is left of it.
pub(crate) struct Ordeal {
    pub(crate) portal: Simulator,
    pub(crate) place: Place,
    /// Rows that are older are owed.
    settled: Micros,
}

/// Where the program kills itself, besides at random times.
const POINTS: [&str; 3] = ["sink.write.before", "sink.write.after", "deliver.confirm.after"];

impl Ordeal {
    /// `sinks`: the list of the configuration, without its key. Its far side stands behind the gate. `between` happens
    /// after each kill at a fault point.
    pub(crate) async fn run(sinks: &str, gate: &Gate, seed: u64, between: impl Fn()) -> Self {
        let mut dice = StdRng::seed_from_u64(seed);
        let world = World::new(WorldOptions {
            seed,
            computers: 40,
            rows_per_day: 6_000,
            audit_rows_per_day: 400,
            computer_changes_per_day: 500,
            ..WorldOptions::default()
        });
        let mut portal = Simulator::start(world, Options::default()).await.unwrap();
        let place = Place::new(&portal, "1MiB");
        place.deliver_to(sinks);
        place.reconfigure("backfill: 28d", "backfill: 1d");
        gate.chance(0.15, seed);
        let mut killed: HashMap<&str, u32> = HashMap::new();
        for (point, number) in POINTS.into_iter().flat_map(|point| [(point, 2), (point, 1)]) {
            let mut running = place.start("run", Some(&format!("{point}:{number}")));
            for _ in 0..25 {
                stir(&portal, &mut dice);
                if let Some(status) = running.ended_within(Duration::from_secs(1)).await {
                    assert!(was_killed(status), "ended by itself: {}", place.said());
                    *killed.entry(point).or_default() += 1;
                    break;
                }
            }
            running.kill();
            between();
            let mut running = place.start("run", None);
            tokio::time::sleep(Duration::from_millis(dice.random_range(50..1_200))).await;
            assert!(running.kill(), "ended by itself: {}", place.said());
            stir(&portal, &mut dice);
        }
        assert!(POINTS.iter().all(|point| killed.contains_key(point)), "{killed:?}: {}", place.said());
        gate.open();
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
        for _ in 0..2 {
            let mut once = place.start("once", None);
            let ended = once.ended_within(Duration::from_secs(120)).await;
            assert!(
                ended.is_some_and(|status| status.success()),
                "not complete: {ended:?}\n{}",
                place.said()
            );
        }
        portal.stop().await;
        let settled = portal.now() - 5 * SECOND;
        Self { portal, place, settled }
    }

    /// Compares records, in lines of the raw format, with what the portal has; dead letters count as delivered.
    pub(crate) async fn verdict(&self, lines: impl IntoIterator<Item = String>) -> (Verdict, Output) {
        let folder = tempfile::tempdir().unwrap();
        let text: String = lines.into_iter().map(|line| line + "\n").collect();
        std::fs::write(folder.path().join("found.ndjson"), text).unwrap();
        let mut output = Output::read(folder.path());
        output.add_dead_letters(&self.place.state()).await;
        let start = self.settled - 86_400 * SECOND + 900 * SECOND;
        let owed = |_, row: &lockstep::simulator::truth::TruthRow| {
            (start..self.settled).contains(&micros(&row.date_time))
        };
        (compare(&Truth::of(&self.portal), &output, owed), output)
    }
}

fn stir(portal: &Simulator, dice: &mut StdRng) {
    let now = portal.advance(dice.random_range(1..300) * SECOND);
    for (source, rows) in [(Source::UnifiedAudit, 200), (Source::SystemAudit, 20)] {
        portal.stage().world.burst(source, dice.random_range(0..3), now, rows);
    }
    portal.advance(61 * SECOND);
}
