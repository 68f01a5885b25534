//! What a schedule is made of, and how one is thrown.

use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::super::super::WindowSettings;
use super::super::memory::{BEGIN, DAY, World, organization, settings};
use crate::model::{Micros, SECOND, Seconds};
use crate::simulator::answer::{Content, Row, Threat};
use crate::simulator::dialect::{Dialect, Pagination, Totals};
use crate::simulator::dice::Dice;
use crate::source::Scope;

/// When a row is received, relative to the beginning, and how far from that it happened.
#[derive(Clone, Debug)]
struct Plan {
    received: Micros,
    /// Happened so long before; negative for clocks that are ahead.
    lag: Micros,
    /// From reception until it is listed.
    hidden: Micros,
    /// From being listed until it is deleted.
    life: Option<Micros>,
    /// Rows without id: which of three contents.
    copy: Option<u64>,
    organization: u16,
    action: u8,
}

#[derive(Clone, Debug)]
pub(super) struct Schedule {
    pub(super) seed: u64,
    pub(super) dialect: Dialect,
    rows: Vec<Plan>,
    /// Seconds before each poll, and pieces of background work after it.
    pub(super) polls: Vec<(Seconds, u16)>,
    /// What an operator asks for: before which poll, from when, and for how long.
    pub(super) backfills: Vec<(usize, Seconds, Seconds)>,
    /// Organization, when it falls silent and for how long.
    pub(super) silence: Option<(u16, Seconds, Seconds)>,
    /// An organization with a row every forty minutes.
    pub(super) steady: bool,
    pub(super) page_size: u32,
    pub(super) backfill: Seconds,
    pub(super) retention: Seconds,
    pub(super) live_span: Seconds,
    pub(super) tree: bool,
    pub(super) has_imported: bool,
    /// Whether the stream knows beforehand how deep the portal lists, as it knows of the usual 10,000.
    pub(super) knows_depth: bool,
    pub(super) longest: Option<Seconds>,
    pub(super) failing: f64,
    pub(super) garbled: f64,
    pub(super) crashing: f64,
    pub(super) poison: bool,
    pub(super) tick: Micros,
}

fn plans() -> impl Strategy<Value = Vec<Plan>> {
    let clusters = prop::collection::vec((-10 * DAY..8 * DAY, prop_oneof![Just(1), Just(60)]), 1..3);
    clusters.prop_flat_map(|clusters| {
        let fraction = prop_oneof![2 => Just(0), 1 => 0..SECOND];
        let anywhere = (-10 * DAY..8 * DAY, fraction.clone()).prop_map(|(at, micros)| at * SECOND + micros);
        let clustered = (prop::sample::select(clusters), 0i64..60, fraction)
            .prop_map(|((at, width), place, micros)| (at + place % width) * SECOND + micros);
        let received = prop_oneof![3 => anywhere, 3 => clustered];
        let lag = prop_oneof![
            8 => Just(0),
            4 => 0..90 * SECOND,
            3 => (0..25 * DAY).prop_map(|late| late * SECOND),
            1 => (-2 * DAY..0).prop_map(|ahead| ahead * SECOND),
            1 => prop::sample::select(vec![-3_000 * DAY * SECOND, 4_000 * DAY * SECOND]),
        ];
        let hidden = prop_oneof![4 => Just(0), 4 => 0..60 * SECOND, 1 => (0..2 * DAY).prop_map(|at| at * SECOND)];
        let life = prop_oneof![12 => Just(None), 1 => (1..4 * DAY).prop_map(|life| Some(life * SECOND))];
        let copy = prop_oneof![6 => Just(None), 1 => (0u64..3).prop_map(Some)];
        let plan = (received, lag, hidden, life, copy, 0u16..3, 0u8..5);
        let plan = plan.prop_map(|(received, lag, hidden, life, copy, organization, action)| Plan {
            received,
            lag,
            hidden,
            life,
            copy,
            organization,
            action,
        });
        prop_oneof![6 => prop::collection::vec(plan.clone(), 0..30), 1 => prop::collection::vec(plan, 30..120)]
    })
}

fn polls() -> impl Strategy<Value = Vec<(Seconds, u16)>> {
    let wait = prop_oneof![1 => 1i64..60, 4 => 60i64..900, 3 => 900i64..6 * 3_600, 2 => 3_600i64..2 * DAY];
    let work = prop_oneof![1 => Just(0u16), 2 => 1u16..6, 3 => Just(400u16)];
    prop::collection::vec((wait, work), 1..20)
}

/// Mostly of the days before the start, one over the other; some of time that is owed already.
fn backfills() -> impl Strategy<Value = Vec<(usize, Seconds, Seconds)>> {
    let ask = (0usize..20, -35 * DAY..5 * DAY, prop_oneof![60..DAY, DAY..40 * DAY]);
    prop_oneof![3 => Just(Vec::new()), 2 => prop::collection::vec(ask, 1..4)]
}

pub(super) fn schedules() -> impl Strategy<Value = Schedule> {
    let dialect = any::<u64>().no_shrink().prop_map(|seed| Dialect::random(&mut StdRng::seed_from_u64(seed)));
    let portal = (dialect, any::<bool>(), prop_oneof![4 => Just(None), 1 => (DAY..5 * DAY).prop_map(Some)]);
    let silence = prop_oneof![
        3 => Just(None),
        1 => (0u16..3, 0..8 * DAY, 600..2 * DAY).prop_map(Some)
    ];
    let stream = (
        prop_oneof![Just(0), Just(DAY), Just(5 * DAY)],
        prop_oneof![1 => Just(25 * DAY), 3 => Just(60 * DAY)],
        prop_oneof![Just(900), Just(3_600), Just(6 * 3_600)],
        prop::bool::weighted(0.8),
        prop::bool::weighted(0.8),
        2u32..60,
    );
    let share = |often: f64| prop_oneof![4 => Just(0.0), 1 => Just(often / 4.0), 1 => Just(often)];
    let faults =
        (share(0.15), share(0.04), share(0.1), prop::bool::weighted(0.05), prop::bool::weighted(0.08));
    let tick = prop_oneof![Just(1_000), Just(50_000), Just(800_000)];
    let polls = (polls(), backfills());
    (any::<u64>().no_shrink(), portal, plans(), polls, silence, stream, faults, tick).prop_map(
        |(seed, (dialect, knows_depth, longest), rows, (polls, backfills), silence, stream, faults, tick)| {
            let (backfill, retention, live_span, tree, has_imported, page_size) = stream;
            let (failing, garbled, crashing, poison, steady) = faults;
            let largest = dialect.max_page_size.min(dialect.depth_limit.map_or(u64::MAX, |depth| depth / 2));
            let page_size = page_size.min(u32::try_from(largest).unwrap());
            Schedule {
                seed,
                // Two traits that together cannot be told from a shorter listing.
                knows_depth: knows_depth || matches!(dialect.totals, Totals::Capped(_)),
                dialect,
                rows,
                polls,
                backfills,
                silence,
                steady,
                page_size,
                backfill,
                retention,
                live_span,
                tree,
                has_imported,
                longest,
                failing,
                garbled,
                crashing,
                poison,
                tick,
            }
        },
    )
}

impl Schedule {
    pub(super) fn settings(&self) -> WindowSettings {
        let scope =
            if self.tree { Scope::Tree(organization(0)) } else { Scope::Organization(organization(1)) };
        WindowSettings {
            scope,
            backfill: self.backfill,
            retention: self.retention,
            live_span: self.live_span,
            has_imported: self.has_imported,
            ..settings(self.page_size)
        }
    }

    pub(super) fn world(&self) -> World {
        let mut rows: Vec<Row> =
            self.rows.iter().zip(0..).map(|(plan, number)| self.row(plan, number)).collect();
        if self.steady {
            rows.extend((0..200).map(|number| {
                let received = (number * 2_400 - 2 * DAY) * SECOND;
                let plan =
                    Plan { received, lag: 0, hidden: 0, life: None, copy: None, organization: 1, action: 2 };
                self.row(&plan, 1_000 + u64::try_from(number).unwrap())
            }));
        }
        let mut world = World::new(rows, self.dialect.clone());
        if !self.tree {
            world.dialect.parent_alone_fails = false;
        }
        if let Some((organization, from, length)) = self.silence {
            let from = BEGIN + from;
            world.silences.push((organization, from * SECOND, (from + length) * SECOND));
        }
        world.tick = self.tick;
        world.dice = Dice::new(self.seed, 2, 0);
        world.failing = self.failing;
        // A page read again in smaller ones is no single state of the listing: where page numbers are ignored,
        // or where nothing is counted and a listing breaks off without a word, that cannot be noticed.
        let noticed = !self.dialect.ignores_page_number && self.counts_exactly();
        world.garbled = if noticed { self.garbled } else { 0.0 };
        // Where a row cannot be found again by its place, it takes its neighbours with it.
        let found_again = !self.dialect.shuffles_ties && !self.dialect.ignores_page_number;
        let exact = self.dialect.totals == Totals::Exact && self.counts_exactly();
        let poison = self.poison && found_again && self.has_imported && exact;
        world.poison = poison.then_some(0);
        world.longest = self.longest;
        world.has_imported = self.has_imported;
        world
    }

    fn row(&self, plan: &Plan, number: u64) -> Row {
        // Equal rows are equal in both times; a portal that files rows by a time that they do not show
        // would list them in different intervals.
        let (lag, micros) = match plan.copy {
            Some(copy) if copy > 0 => (0, plan.received.rem_euclid(SECOND)),
            _ => (plan.lag, 0),
        };
        let imported = BEGIN * SECOND + plan.received - micros;
        let listed_from = imported + plan.hidden;
        Row {
            id: plan.copy.is_none().then_some(number),
            content: Content::Generated(plan.copy.map_or(number, |copy| copy + 1_000_000)),
            at: imported - lag,
            imported,
            listed_from,
            deleted_at: plan.life.map(|life| listed_from + life),
            organization: plan.organization,
            action: plan.action % 4,
            table: 1,
            threat: Threat::default(),
        }
    }

    pub(super) fn counts_exactly(&self) -> bool {
        matches!(self.dialect.totals, Totals::Exact | Totals::SometimesAbsent(_))
            && self.dialect.pagination != Pagination::None
    }

    /// A portal that does not count, and never shows the empty page behind the last (it turns no pages, or
    /// refuses the second), shows no listing to be complete: each second with a row is walked alone, and
    /// every re-check walks it again. Bounded work a piece is all that can be asked.
    pub(super) fn gives_no_end_of_work(&self) -> bool {
        let too_shallow = |depth: u64| depth < 3 * u64::from(self.page_size);
        !self.counts_exactly()
            && (self.dialect.ignores_page_number || self.dialect.depth_limit.is_some_and(too_shallow))
    }

    /// Whether the portal gives what a proof needs.
    pub(super) fn provable(&self) -> bool {
        self.counts_exactly() && !self.dialect.ignores_page_number && !self.poison
    }
}
