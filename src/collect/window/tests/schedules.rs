//! Random schedules: any dialect, rows late, early, equal, bursting and vanishing, failures and crashes
//! at any request and commit, polls seconds to days apart. After enough quiet days what entered must be
//! what the portal lists, and at every step no interval may claim more than it proved.

use std::collections::{BTreeMap, HashMap, HashSet};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::super::{WindowSettings, WindowStream};
use super::memory::{BEGIN, Book, DAY, Portal, Store, World, hash, organization, row_uid, settings};
use crate::clock::Clock;
use crate::collect::CollectError;
use crate::coverage::{Interval, State};
use crate::model::{Micros, SECOND, Seconds};
use crate::simulator::answer::{Content, Row};
use crate::simulator::dialect::{Dialect, Pagination, Totals};
use crate::simulator::dice::Dice;
use crate::source::Scope;

/// Schedules that one run tries.
const CASES: u32 = 20_000;
/// Names the seed of a run that shall be repeated.
const SEED: &str = "LOCKSTEP_TEST_SEED";
/// Requests that one piece of work may take: a walk of a listing of 200 rows by pages of two, over and
/// over, some intervals deep.
const BOUND: u64 = 20_000;

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
struct Schedule {
    seed: u64,
    dialect: Dialect,
    rows: Vec<Plan>,
    /// Seconds before each poll, and pieces of background work after it.
    polls: Vec<(Seconds, u16)>,
    /// What an operator asks for: before which poll, from when, and for how long.
    backfills: Vec<(usize, Seconds, Seconds)>,
    /// Organization, when it falls silent and for how long.
    silence: Option<(u16, Seconds, Seconds)>,
    /// An organization with a row every forty minutes.
    steady: bool,
    page_size: u32,
    backfill: Seconds,
    retention: Seconds,
    live_span: Seconds,
    tree: bool,
    has_imported: bool,
    /// Whether the stream knows beforehand how deep the portal lists, as it knows of the usual 10,000.
    knows_depth: bool,
    longest: Option<Seconds>,
    failing: f64,
    garbled: f64,
    crashing: f64,
    poison: bool,
    tick: Micros,
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

fn schedules() -> impl Strategy<Value = Schedule> {
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
    fn settings(&self) -> WindowSettings {
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

    fn world(&self) -> World {
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
        }
    }

    fn counts_exactly(&self) -> bool {
        matches!(self.dialect.totals, Totals::Exact | Totals::SometimesAbsent(_))
            && self.dialect.pagination != Pagination::None
    }

    /// A portal that does not count, and never shows the empty page behind the last (it turns no pages, or
    /// refuses the second), shows no listing to be complete: each second with a row is walked alone, and
    /// every re-check walks it again. Bounded work a piece is all that can be asked.
    fn gives_no_end_of_work(&self) -> bool {
        let too_shallow = |depth: u64| depth < 3 * u64::from(self.page_size);
        !self.counts_exactly()
            && (self.dialect.ignores_page_number || self.dialect.depth_limit.is_some_and(too_shallow))
    }

    /// Whether the portal gives what a proof needs.
    fn provable(&self) -> bool {
        self.counts_exactly() && !self.dialect.ignores_page_number && !self.poison
    }
}

/// One run of a schedule.
struct Run<'s> {
    schedule: &'s Schedule,
    settings: WindowSettings,
    portal: Portal,
    store: Store,
    stream: WindowStream<Portal, Store>,
    /// When the whole time before the start had been counted.
    baseline_done: Option<Micros>,
    /// What was asked for so far.
    asked: Vec<(Seconds, Seconds)>,
}

type Verdict = Result<(), String>;

impl<'s> Run<'s> {
    fn new(schedule: &'s Schedule) -> Self {
        let settings = schedule.settings();
        let portal = Portal::new(schedule.world());
        let store = Store::crashing(schedule.seed, schedule.crashing);
        // What is 10,000 in service, in small.
        let cap = match schedule.dialect.totals {
            Totals::Capped(cap) => Some(cap),
            _ => None,
        };
        let limits = [schedule.dialect.depth_limit.filter(|_| schedule.knows_depth), cap];
        store.book().notes.observed.depth_limit = limits.into_iter().flatten().min().or(Some(1_000));
        let stream = store.load(&settings, &portal);
        Self { schedule, settings, portal, store, stream, baseline_done: None, asked: Vec::new() }
    }

    fn whole(&mut self) -> Verdict {
        for (number, (wait, work)) in self.schedule.polls.iter().copied().enumerate() {
            self.portal.wait(wait);
            self.ask_back(number);
            self.poll(work)?;
        }
        self.quiet();
        for (times, wait) in [(8, 900), (12, 4 * 3_600), (12, DAY + 600)] {
            for _ in 0..times {
                self.portal.wait(wait);
                self.poll(u16::MAX)?;
            }
        }
        self.everything_entered()
    }

    /// What an operator asks for before this poll.
    fn ask_back(&mut self, poll: usize) {
        let now = self.portal.world().now.div_euclid(SECOND);
        let asked = self.schedule.backfills.iter().filter(|(before, ..)| *before == poll);
        let spans = asked.map(|(_, from, length)| (BEGIN + from, (BEGIN + from + length).min(now)));
        for span in spans.filter(|(from, to)| from < to) {
            self.asked.push(span);
            let waiting = &mut self.store.book().asked_back;
            waiting.push(span);
            // As the store tells them.
            waiting.sort_unstable_by_key(|(from, to)| (-to, *from));
            waiting.dedup();
        }
    }

    /// Nothing changes and nothing fails any more; only rows that do not decode stay so.
    fn quiet(&mut self) {
        let mut world = self.portal.world();
        let changes = world.rows.iter().flat_map(|row| [Some(row.listed_from), row.deleted_at]);
        let silences = world.silences.iter().map(|(.., until)| Some(*until));
        let last = changes.chain(silences).flatten().max().unwrap_or_default();
        world.now = world.now.max(last + SECOND);
        (world.failing, world.garbled) = (0.0, 0.0);
        drop(world);
        self.store.book().crashing = 0.0;
    }

    fn poll(&mut self, work: u16) -> Verdict {
        if !self.step(true)?.unwrap_or(true) {
            return Ok(());
        }
        for piece in 0..work {
            match self.step(false)? {
                Some(true) => {}
                Some(false) | None => return Ok(()),
            }
            if piece > 30_000 && self.schedule.gives_no_end_of_work() {
                return Ok(());
            }
            if piece > 30_000 {
                let (asked, notes) = (asked(&self.portal.world()), &self.stream.notes);
                return Err(format!("background work never ends: {notes:?} {asked}"));
            }
        }
        Ok(())
    }

    /// One piece of work. Answers whether there was any, or nothing when it failed.
    fn step(&mut self, live: bool) -> Result<Option<bool>, String> {
        let began = {
            let mut world = self.portal.world();
            world.patience = world.requests + BOUND;
            world.now
        };
        let result = match live {
            true => super::memory::ready(self.stream.live()).map(|_| true),
            false => super::memory::ready(self.stream.background()),
        };
        {
            let world = self.portal.world();
            if world.requests > world.patience {
                return Err(format!("one piece of work asks for ever: {}", asked(&world)));
            }
        }
        if self.baseline_done.is_none() && self.store.book().notes.ancient.is_some() {
            self.baseline_done = Some(self.portal.world().now);
        }
        self.no_state_claims_too_much(began)?;
        match result {
            Ok(more) => Ok(Some(more)),
            Err(error) => {
                let quiet = self.store.book().crashing == 0.0 && self.portal.world().failing == 0.0;
                let excused = self.schedule.poison || self.schedule.crashing + self.schedule.failing > 0.0;
                if quiet && !excused && self.schedule.garbled == 0.0 {
                    return Err(format!("an error without a fault: {error}"));
                }
                // A store that failed knows better than memory; a portal that failed may go either way.
                if matches!(error, CollectError::Store(_)) || (!quiet && self.portal.world().dice.chance(0.3))
                {
                    self.stream = self.store.load(&self.settings, &self.portal);
                }
                Ok(None)
            }
        }
    }

    fn in_scope(&self, row: &Row) -> bool {
        self.schedule.tree || row.organization == 1
    }

    /// What the portal listed of an interval when it was checked must be held, unless a held row that
    /// is listed no more made up the count. (Neighbours that were joined carry the older check: what is
    /// listed now counts.)
    fn no_state_claims_too_much(&self, began: Micros) -> Verdict {
        let claims = std::mem::take(&mut self.store.book().told);
        let (world, book) = (self.portal.world(), self.store.book());
        for interval in claims.iter().filter(|interval| interval.state == State::Proven) {
            let silent = world.silent(interval.checked);
            let axis = world.dialect.axis;
            let inside = |row: &&Row| {
                (interval.from * SECOND..interval.to * SECOND).contains(&axis.of(row)) && self.in_scope(row)
            };
            let lists = |row: &&Row| {
                let silent_now = world.silent(world.now);
                world.dialect.lists(row, interval.checked)
                    && world.dialect.lists(row, world.now)
                    && !silent.contains(&row.organization)
                    && !silent_now.contains(&row.organization)
            };
            let mut copies: HashMap<[u8; 16], u32> = HashMap::new();
            let mut missing = Vec::new();
            for row in world.rows.iter().filter(inside).filter(lists) {
                let ordinal = match row.id {
                    Some(_) => 0,
                    None => {
                        let count = copies.entry(hash(row, world.has_imported)).or_default();
                        *count += 1;
                        *count - 1
                    }
                };
                if !book.holds(row_uid(row, ordinal, world.has_imported)) {
                    missing.push(row);
                }
            }
            let made_up = world.rows.iter().filter(|row| !lists(row));
            let fresh = interval.checked > began;
            let counted = |row: &&Row| {
                let uid = row_uid(row, 0, world.has_imported);
                if fresh { book.holds_as_listed(uid) } else { book.holds(uid) }
            };
            let unlisted = made_up.filter(counted).count();
            let invented = match world.dialect.totals {
                Totals::OverBy(extra) => usize::try_from(extra).unwrap(),
                _ => 0,
            };
            if missing.len() > unlisted + invented {
                let (missing, observed) = (missing.first(), &self.stream.notes.observed);
                let held: Vec<u128> = book.shelf(Micros::MIN, Micros::MAX).collect();
                let asked = asked(&world);
                return Err(format!(
                    "{interval:?} claims to be proven and lacks {missing:?}: {observed:?}, held {held:?} {asked}"
                ));
            }
        }
        Ok(())
    }

    /// The end: what entered is what is listed, once each, and nothing is pending.
    fn everything_entered(&self) -> Verdict {
        let (start, edge) = (self.stream.notes.start.unwrap_or_default(), self.stream.edge());
        let (world, book) = (self.portal.world(), self.store.book());
        let horizon = edge - self.settings.retention;
        let gaps = self.stream.coverage.gaps(start.max(horizon + DAY), edge);
        // A row that does not decode takes three polls whenever its time is walked again.
        if let Some(gap) = gaps.iter().find(|(_, to)| edge - to > 300 && world.poison.is_none()) {
            let (asked, broken) = (asked(&world), &self.stream.broken);
            return Err(format!("{gap:?} is still pending: {broken:?} {asked}"));
        }
        self.what_was_asked_for_is_owed(&book, horizon)?;
        let mut known: HashSet<u128> = HashSet::new();
        let mut groups: BTreeMap<[u8; 16], (u32, u32)> = BTreeMap::new();
        for row in world.rows.iter().filter(|row| self.in_scope(row)) {
            let must = self.must_enter(&world, row, horizon);
            let ordinal = match row.id {
                Some(_) => 0,
                None => {
                    let group = groups.entry(hash(row, world.has_imported)).or_default();
                    *group = (group.0 + 1, group.1 + u32::from(must));
                    group.0 - 1
                }
            };
            let uid = row_uid(row, ordinal, world.has_imported);
            known.insert(uid);
            if row.id.is_none() {
                continue;
            }
            match book.entries.get(&uid) {
                None if must => return Err(format!("{row:?} is listed and did not enter")),
                Some(1) if self.must_not_enter(&world, row) => {
                    return Err(format!("{row:?} is from before the start and entered"));
                }
                None | Some(1) => {}
                Some(times) => return Err(format!("{row:?} entered {times} times")),
            }
        }
        for row in world.rows.iter().filter(|row| row.id.is_none() && self.in_scope(row)) {
            // One that was there before the start takes the first ordinal and does not enter.
            let (copies, must) = groups[&hash(row, world.has_imported)];
            let entered = (0..copies)
                .filter(|copy| book.entries.contains_key(&row_uid(row, *copy, world.has_imported)));
            if entered.count() < must as usize {
                return Err(format!("of {must} copies of {row:?} not all entered"));
            }
        }
        if let Some((uid, times)) =
            book.entries.iter().find(|(uid, times)| !known.contains(uid) || **times > 1)
        {
            return Err(format!("{uid:x} was invented, or entered {times} times"));
        }
        Ok(())
    }

    fn what_was_asked_for_is_owed(&self, book: &Book, horizon: Seconds) -> Verdict {
        let start = self.stream.notes.start.unwrap_or_default();
        if !book.asked_back.is_empty() {
            return Err(format!("not taken up: {:?}, start {start}", book.asked_back));
        }
        let left_out = |from: Seconds, to: Seconds| {
            let mut within = self.stream.coverage.within(from, to);
            from < start.min(to) || within.any(|one| one.state == State::Baseline)
        };
        match self.asked.iter().find(|(from, to)| left_out((*from).max(horizon + DAY), *to)) {
            Some(asked) => Err(format!("{asked:?} was asked for and is not owed: start {start}")),
            None => Ok(()),
        }
    }

    /// The interval at a time on the axis.
    fn interval_at(&self, at: Micros) -> Option<&Interval> {
        let second = at.div_euclid(SECOND);
        self.stream.coverage.within(second, second + 1).next()
    }

    fn must_enter(&self, world: &World, row: &Row, horizon: Seconds) -> bool {
        let start = self.stream.notes.start.unwrap_or_default();
        let axis = world.dialect.axis;
        let at = axis.of(row);
        // A row that does not decode takes three polls whenever its time is walked, and others wait; here
        // polls are days apart. Its own story is told elsewhere.
        if !world.dialect.lists(row, world.now) || world.poison.is_some() {
            return false;
        }
        let now = world.now.div_euclid(SECOND);
        if at >= now * SECOND {
            // The future: as far as the portal lets us ask.
            let near = world.longest.is_none() || at < (now + DAY - 600) * SECOND;
            return near && self.provable_there(world, row);
        }
        if at < (horizon + DAY) * SECOND {
            return false;
        }
        let state = self.interval_at(at).map(|interval| interval.state);
        if at >= start * SECOND && state != Some(State::Baseline) {
            match state {
                Some(State::Proven) => true,
                Some(State::StableUnproven | State::Unreachable) => self.provable_there(world, row),
                _ => true,
            }
        } else {
            let since = self.baseline_done.unwrap_or(Micros::MAX);
            let arrived = if world.has_imported { row.imported } else { row.listed_from };
            arrived > since && self.schedule.provable() && !self.vanishing_hides(world, at)
        }
    }

    /// Before the start only counts are compared: rows that vanish there make up for rows that arrive.
    fn vanishing_hides(&self, world: &World, at: Micros) -> bool {
        let elsewhere = world.dialect.retention_axis != world.dialect.axis;
        (world.dialect.retention_days.is_some() && elsewhere)
            || world.rows.iter().any(|row| {
                row.deleted_at.is_some() && (world.dialect.axis.of(row) - at).abs() < 31 * DAY * SECOND
            })
    }

    /// Whether nothing about this portal excuses an interval that is not proven.
    fn provable_there(&self, world: &World, row: &Row) -> bool {
        let second = world.dialect.axis.of(row).div_euclid(SECOND);
        let crowd = world
            .rows
            .iter()
            .filter(|other| (world.dialect.axis.of(other).div_euclid(SECOND) - second).abs() <= 1);
        self.schedule.provable() && crowd.count() < usize::try_from(self.schedule.page_size).unwrap()
    }

    /// Rows from before the start that the portal had before it was first heard.
    fn must_not_enter(&self, world: &World, row: &Row) -> bool {
        let (start, first_contact) =
            (self.stream.notes.start.unwrap_or_default(), self.stream.notes.first_contact);
        let at = world.dialect.axis.of(row);
        let second = at.div_euclid(SECOND);
        let left_out = |second: Seconds| {
            let mut within = self.stream.coverage.within(second, second + 1);
            second < start || within.any(|one| one.state == State::Baseline)
        };
        let unclaimed = (second - 2..=second + 2).all(left_out);
        world.has_imported && unclaimed && row.imported < first_contact
    }
}

/// The last requests, the newest first.
fn asked(world: &World) -> String {
    world.asked.iter().map(|asked| format!("\n{asked:?}")).collect()
}

fn seed() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "a door for tests: repeats a run by its seed")]
    let given = std::env::var(SEED).ok();
    given.map_or_else(
        || Clock::system().now().timestamp_micros().unsigned_abs(),
        |seed| seed.parse().expect("the seed is a number"),
    )
}

fn try_schedules(seed: u64, cases: u32) {
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 2_000, ..Config::default() };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let verdict =
        runner.run(&schedules(), |schedule| Run::new(&schedule).whole().map_err(TestCaseError::fail));
    match verdict {
        Ok(()) => {}
        Err(TestError::Fail(reason, schedule)) => {
            panic!("{reason}\nseed {seed} (set {SEED} to repeat), schedule: {schedule:#?}")
        }
        Err(TestError::Abort(reason)) => panic!("{reason}"),
    }
}

/// Set `LOCKSTEP_TEST_SEED` to the seed that a failure printed to repeat it.
#[test]
fn whatever_the_portal_and_the_faults_all_that_is_listed_enters_once_and_no_state_claims_too_much() {
    let seed = seed();
    eprintln!("{CASES} schedules, seed {seed}");
    std::thread::scope(|scope| {
        for half in 0..2 {
            scope.spawn(move || try_schedules(seed.wrapping_add(half), CASES / 2));
        }
    });
}
