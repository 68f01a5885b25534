//! Random schedules: any dialect, rows late, early, equal, bursting and vanishing, failures and crashes
//! at any request and commit, polls seconds to days apart. After enough quiet days what entered must be
//! what the portal lists, and at every step no interval may claim more than it proved.

mod chance;

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

use self::chance::{Schedule, schedules};
use super::super::{WindowSettings, WindowStream};
use super::memory::{BEGIN, Book, DAY, Portal, Store, World, hash, row_uid};
use crate::clock::Clock;
use crate::collect::CollectError;
use crate::coverage::{Interval, State};
use crate::model::{Micros, RowIds, SECOND, Seconds};
use crate::simulator::answer::Row;
use crate::simulator::dialect::Totals;

/// Schedules that one run tries.
const CASES: u32 = 20_000;
/// Names the seed of a run that shall be repeated.
const SEED: &str = "SEED";
/// Requests that one piece of work may take: a walk of a listing of 200 rows by pages of two, over and
/// over, some intervals deep.
const BOUND: u64 = 20_000;

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
    /// The earliest start that was stored; what lies long before the retention is claimed no more, and entered once.
    earliest: Seconds,
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
        Self {
            schedule,
            settings,
            portal,
            store,
            stream,
            baseline_done: None,
            asked: Vec::new(),
            earliest: Seconds::MAX,
        }
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
        self.earliest = self.earliest.min(self.store.book().notes.start.unwrap_or(Seconds::MAX));
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
            let axis = world.dialect.axis;
            let inside = |row: &&Row| {
                (interval.from * SECOND..interval.to * SECOND).contains(&axis.of(row)) && self.in_scope(row)
            };
            // Of what was joined the oldest check is told: a part may have been walked in a silence since.
            let silent = |organization: u16| {
                world
                    .silences
                    .iter()
                    .any(|(of, from, to)| *of == organization && *from <= world.now && interval.checked < *to)
            };
            let lists = |row: &&Row| {
                world.dialect.lists(row, interval.checked)
                    && world.dialect.lists(row, world.now)
                    && !silent(row.organization)
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
        let mut known = RowIds::default();
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
        let first_contact = self.stream.notes.first_contact;
        let at = world.dialect.axis.of(row);
        let second = at.div_euclid(SECOND);
        let left_out = |second: Seconds| {
            let mut within = self.stream.coverage.within(second, second + 1);
            second < self.earliest || within.any(|one| one.state == State::Baseline)
        };
        // While nobody knows by which time the portal lists, a row beside the claim by either of its times may enter.
        let received = row.imported.div_euclid(SECOND);
        let last = if received - second <= 3 { second.max(received) } else { second };
        let unclaimed = (second - 2..=last + 2).all(left_out);
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

/// Set `SEED` to the seed that a failure printed to repeat it.
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
