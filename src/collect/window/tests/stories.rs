//! Stories of one fault each, told so that what went wrong can be read.

use super::memory::{ALSO, BEGIN, DAY, Portal, Store, World, hash, organization, ready, row, settings};
use crate::collect::content_uid;
use crate::collect::window::recheck::Uncounted;
use crate::collect::window::{WindowSettings, WindowStream};
use crate::coverage::{Interval, State};
use crate::model::{Kind, SECOND, Seconds, uid};
use crate::simulator::answer::{Row, Threat};
use crate::simulator::dialect::{Axis, BeyondDepth, Dialect, Totals};

struct Story {
    portal: Portal,
    store: Store,
    stream: WindowStream<Portal, Store>,
}

impl Story {
    fn new(rows: Vec<Row>, dialect: Dialect) -> Self {
        Self::of(World::new(rows, dialect))
    }

    fn of(world: World) -> Self {
        let settings = WindowSettings { has_imported: world.has_imported, ..settings(10) };
        let (portal, store) = (Portal::new(world), Store::default());
        let stream = store.load(&settings, &portal);
        Self { portal, store, stream }
    }

    /// Polls every `every` seconds until `until`, relative to the beginning.
    fn poll(&mut self, every: Seconds, until: Seconds) {
        while self.portal.world().now < (BEGIN + until) * SECOND {
            self.portal.wait(every);
            if ready(self.stream.live()).is_ok() {
                while ready(self.stream.background()).is_ok_and(|more| more) {}
            }
        }
    }

    fn state_at(&self, time: Seconds) -> Option<State> {
        self.stream.coverage.within(BEGIN + time, BEGIN + time + 1).next().map(|interval| interval.state)
    }

    fn missing(&self) -> usize {
        let (world, book) = (self.portal.world(), self.store.book());
        let settled = world.now - 300 * SECOND;
        let listed = world.rows.iter().filter(|row| row.at < settled && world.dialect.lists(row, world.now));
        listed.filter(|row| row.id.is_some_and(|id| !book.holds(u128::from(id) + 1))).count()
    }
}

/// A row every ten minutes of organizations in turn, from two days before the beginning to three after.
fn steady(organizations: u16) -> Vec<Row> {
    (0..720)
        .map(|id| {
            let at = (BEGIN - 2 * DAY + id * 600) * SECOND;
            let organization = u16::try_from(id).unwrap() % organizations;
            Row { organization, ..row(u64::try_from(id).unwrap(), at) }
        })
        .filter(|row| row.at > (BEGIN - DAY) * SECOND)
        .collect()
}

#[test]
fn a_silence_where_rows_are_usual_stays_unconfirmed_for_days_until_rows_return() {
    let mut story = Story::new(steady(1), Dialect::default());
    story.portal.world().silences.push((0, (BEGIN + 3_600) * SECOND, (BEGIN + 3 * DAY - 7_200) * SECOND));
    story.poll(300, 3 * DAY - 10_800);
    for hour in 4..68 {
        assert_eq!(story.state_at(hour * 3_600), Some(State::EmptyUnconfirmed), "hour {hour}");
    }
    story.poll(300, 3 * DAY + 3 * DAY);
    assert_eq!(story.missing(), 0);
    assert_eq!(story.state_at(40 * 3_600), Some(State::Proven));
}

#[test]
fn an_organization_that_falls_silent_in_a_tree_is_named_and_read_again_when_it_is_back() {
    let mut story = Story::new(steady(3), Dialect::default());
    story.portal.world().silences.push((1, (BEGIN + 3_600) * SECOND, (BEGIN + DAY) * SECOND));
    story.poll(300, 4 * 3_600);
    let named: Vec<_> = story.stream.notes.silent.keys().cloned().collect();
    assert_eq!(named, [organization(1)]);
    story.poll(300, DAY);
    assert!(story.missing() > 0, "what is hidden cannot be held");
    story.poll(300, DAY + 3_600);
    assert!(story.stream.notes.silent.is_empty());
    assert_eq!(story.missing(), 0, "its return was noticed and its silence read again at once");
}

#[test]
fn a_row_that_does_not_decode_is_given_up_alone_and_holds_up_nothing() {
    let mut rows = steady(1);
    rows.push(row(5_000, (BEGIN + 1_000) * SECOND));
    let mut story = Story::new(rows, Dialect::default());
    story.portal.world().poison = Some(5_000);
    story.poll(60, 1_200);
    assert!(story.store.book().dead.is_empty(), "not before three tries a minute apart");
    story.poll(60, 3_600);
    assert_eq!(story.store.book().dead.len(), 1);
    assert_eq!(story.missing(), 1, "all but itself");
    assert_eq!(story.state_at(1_000), Some(State::StableUnproven));
    assert_eq!(story.state_at(3_000), Some(State::Proven));
}

#[test]
fn what_cannot_be_proven_is_left_alone_while_the_portal_counts_as_it_did() {
    let over = Dialect { totals: Totals::OverBy(1), ..Dialect::default() };
    let mut story = Story::new(steady(1), over);
    story.poll(1_800, 2 * DAY);
    assert_eq!(story.state_at(0), Some(State::StableUnproven));
    let before = story.stream.requests;
    story.poll(1_800, 3 * DAY);
    let requests = story.stream.requests - before;
    assert!(requests < 48 * 20, "{requests} requests in a day of 48 polls");
    assert_eq!(story.missing(), 0);
}

#[test]
fn equal_counts_that_hide_a_row_gone_and_one_come_are_found_by_the_rotating_walk() {
    let mut rows = steady(1);
    let swapped = rows.len() / 3;
    rows[swapped].deleted_at = Some((BEGIN + 3 * DAY) * SECOND);
    let late =
        Row { id: Some(9_000), listed_from: (BEGIN + 3 * DAY) * SECOND, deleted_at: None, ..rows[swapped] };
    rows.push(late);
    let mut story = Story::new(rows, Dialect::default());
    story.poll(3_600, 4 * DAY);
    assert_eq!(story.missing(), 1, "counts cannot tell");
    story.poll(3_600, 13 * DAY);
    assert_eq!(story.missing(), 0);
}

#[test]
fn a_count_of_as_many_as_the_portal_counts_at_most_confirms_nothing() {
    let mut rows: Vec<Row> =
        (0..16).map(|id| row(id, (BEGIN + 200 * i64::try_from(id).unwrap()) * SECOND)).collect();
    // The portal lists the second at which a request ends, too.
    rows.extend((16..24).map(|id| row(id, (BEGIN + 4_000) * SECOND)));
    let late = Row { listed_from: (BEGIN + 9_000) * SECOND, ..row(24, (BEGIN + 100) * SECOND) };
    rows.push(late);
    let capped = Dialect { totals: Totals::Capped(24), end_inclusive: true, ..Dialect::default() };
    let mut story = Story::new(rows, capped);
    story.stream.notes.observed.depth_limit = Some(24);
    story.poll(60, 8_000);
    assert_eq!(story.missing(), 0);
    story.portal.wait(1_200);
    let compared = story.stream.compare(BEGIN, BEGIN + 4_000, Uncounted::Leave);
    let (differing, _) = ready(compared).unwrap();
    let found = differing.iter().any(|(from, to)| (*from..*to).contains(&(BEGIN + 100)));
    assert!(found, "25 rows are counted as 24, and 24 are held: {differing:?}");
}

#[test]
fn a_second_of_as_many_rows_as_the_portal_counts_at_most_is_not_called_proven() {
    // One row fewer is listed and counted than there are, and no page tells: only each type of action is few enough.
    let rows = (0..21).map(|id| Row { action: (id % 4) as u8, ..row(id, BEGIN * SECOND) }).collect();
    let beyond_depth = BeyondDepth::Empty;
    let capped =
        Dialect { totals: Totals::Capped(20), depth_limit: Some(21), beyond_depth, ..Dialect::default() };
    let mut story = Story::new(rows, capped);
    story.stream.notes.observed.depth_limit = Some(20);
    story.poll(60, 3_600);
    assert_eq!(story.missing(), 0);
    assert_eq!(story.state_at(0), Some(State::StableUnproven));
    assert_eq!(story.stream.notes.observed.depth(), 20, "nothing tells that it lists more");
}

#[test]
fn a_row_exactly_where_coverage_begins_enters_although_the_time_before_lists_it_too() {
    // The first poll is at BEGIN + 60, and coverage begins a day before its edge.
    let start = BEGIN + 60 - 120 - DAY;
    let rows =
        (-3..3).map(|place| row(u64::try_from(place + 10).unwrap(), (start + place) * SECOND)).collect();
    let mut story = Story::new(rows, Dialect::default());
    story.poll(60, 3_600);
    assert_eq!(story.stream.notes.start, Some(start));
    let entered = |id: u64| story.store.book().entries.contains_key(&(u128::from(id) + 1));
    let entered: Vec<u64> = (0..20).filter(|id| entered(*id)).collect();
    assert_eq!(
        entered,
        [10, 11, 12],
        "row 10 stands exactly on the start, those before it on the time before"
    );
}

#[test]
fn a_portal_that_takes_a_day_and_no_second_more_is_covered_all_the_same() {
    let mut world = World::new(steady(1), Dialect { start_inclusive: false, ..Dialect::default() });
    world.longest = Some(DAY);
    let mut story = Story::of(world);
    story.poll(3_600, 3 * DAY);
    assert_eq!(story.missing(), 0);
    assert_eq!(story.state_at(-DAY / 2), Some(State::Proven));
}

#[test]
fn rows_that_do_not_say_when_they_were_received_never_enter_again_after_a_silence_at_their_end() {
    let mut world = World::new(steady(1), Dialect { retention_days: None, ..Dialect::default() });
    world.has_imported = false;
    // While the oldest rows pass the end of the retention, nothing is listed.
    world.silences.push((0, (BEGIN + 58 * DAY) * SECOND, (BEGIN + 62 * DAY) * SECOND));
    let mut story = Story::of(world);
    story.poll(6 * 3_600, 70 * DAY);
    let again = story.store.book().entries.values().filter(|times| **times != 1).count();
    assert_eq!(again, 0);
}

#[test]
fn a_second_pass_finds_what_came_late_to_the_first_although_nothing_is_counted() {
    let mut rows = steady(1);
    let late = (BEGIN + 200) * SECOND;
    rows.push(Row { listed_from: late, ..row(7_000, (BEGIN - 300) * SECOND) });
    let mut story = Story::new(rows, Dialect { totals: Totals::Absent, ..Dialect::default() });
    ready(story.stream.everything(|_| ())).unwrap();
    story.portal.wait(230);
    assert_eq!(story.missing(), 1);
    ready(story.stream.everything(|_| ())).unwrap();
    assert_eq!(story.missing(), 0);
}

#[test]
fn a_page_that_fails_proves_nothing() {
    let mut story = Story::new(steady(1), Dialect::default());
    story.portal.world().failing = 1.0;
    story.poll(60, 3_600);
    assert_eq!(story.stream.coverage.intervals().count(), 0);
    story.portal.world().failing = 0.0;
    story.poll(60, 7_200);
    assert_eq!(story.missing(), 0);
}

#[test]
fn a_portal_that_leaves_out_the_ends_of_a_request_hides_no_row() {
    let rows = (0..3_600).map(|second| row(second, (BEGIN + second.cast_signed()) * SECOND)).collect();
    let mut story =
        Story::new(rows, Dialect { start_inclusive: false, end_inclusive: false, ..Dialect::default() });
    // Before any re-check could find it.
    story.poll(60, 540);
    assert_eq!(story.missing(), 0);
}

#[test]
fn five_equal_rows_without_id_enter_as_five() {
    let equal = Row { id: None, ..row(1, (BEGIN - 3_600) * SECOND) };
    let mut story = Story::new(vec![equal; 5], Dialect::default());
    story.poll(600, 3_600);
    let entries = story.store.book().entries.clone();
    assert_eq!((entries.len(), entries.values().sum::<u32>()), (5, 5));
}

#[test]
fn a_rated_row_is_called_what_the_other_source_calls_it_whatever_stands_beside_it() {
    let at = (BEGIN - 3_600) * SECOND;
    let threat = Threat { level: Some(("Severe", 0)), ..Threat::default() };
    let plain = Row { id: None, ..row(1, at) };
    let rated = Row { threat, ..plain };
    let named = Row { threat, ..row(7, at) };
    let organization = organization(0);
    let by_id = uid(organization.as_str(), ALSO, "1/7", "event", "0");
    let by_content = |ordinal| content_uid(&organization, ALSO, Kind::Event, hash(&plain, true), ordinal);
    for (rows, equals) in [
        (vec![plain, rated, named], 1),
        (vec![rated, named, plain, plain], 1),
        (vec![rated, rated, named], 2),
    ] {
        let mut story = Story::new(rows, Dialect::default());
        story.poll(600, 3_600);
        let wanted = (0..equals).map(by_content).chain([by_id]).collect();
        assert_eq!(story.store.book().also, wanted);
    }
}

#[test]
fn a_portal_that_told_a_wrong_time_for_an_hour_is_followed_all_the_same() {
    for ahead in [DAY, 40 * DAY] {
        let mut story = Story::new(steady(1), Dialect::default());
        story.poll(300, 3_600);
        story.portal.world().ahead = ahead * SECOND;
        story.poll(300, 7_200);
        story.portal.world().ahead = 0;
        story.poll(300, DAY);
        assert_eq!(story.missing(), 0, "{ahead} s ahead");
        assert_eq!(story.state_at(DAY - 3_600), Some(State::Proven));
        assert_eq!(story.state_at(DAY + 3_600), None, "of the future nothing is claimed");
        assert!(story.store.book().entries.values().all(|times| *times == 1));
    }
}

/// A row every ten minutes for ten days before the beginning and three after; `late`: two of them, from
/// before any start, reach the portal half an hour and a day after it.
fn ten_days() -> Vec<Row> {
    let mut rows: Vec<Row> = (-1_440..432)
        .map(|place| row(u64::try_from(place + 2_000).unwrap(), (BEGIN + place * 600) * SECOND))
        .collect();
    for (id, days, after) in [(9_000, 4, 1_800), (9_001, 2, 1_800), (9_002, 4, DAY), (9_003, 2, DAY)] {
        let listed_from = (BEGIN + after) * SECOND;
        let at = (BEGIN - days * DAY + 77) * SECOND;
        rows.push(Row { imported: listed_from, listed_from, ..row(id, at) });
    }
    rows
}

impl Story {
    fn ask_back(&self, from: Seconds, to: Seconds) {
        self.store.book().asked_back.push((BEGIN + from, BEGIN + to));
    }

    /// How often rows of `[from, to)` entered, late ones left out: the least and the most often.
    fn entered(&self, from: Seconds, to: Seconds) -> (u32, u32) {
        let (world, book) = (self.portal.world(), self.store.book());
        let range = (BEGIN + from) * SECOND..(BEGIN + to) * SECOND;
        let on_time = world.rows.iter().filter(|row| row.id < Some(9_000) && range.contains(&row.at));
        let times = on_time.map(|row| {
            let uid = u128::from(row.id.unwrap()) + 1;
            book.entries.get(&uid).copied().unwrap_or(0)
        });
        let times: Vec<u32> = times.collect();
        (*times.iter().min().unwrap(), *times.iter().max().unwrap())
    }

    /// How often each of the four late rows entered.
    fn late(&self) -> Vec<u32> {
        let book = self.store.book();
        (9_000..9_004).map(|id: u128| book.entries.get(&(id + 1)).copied().unwrap_or(0)).collect()
    }
}

#[test]
fn an_organization_that_joins_the_tree_brings_its_former_day_at_once() {
    let (mut rows, joined) = (steady(1), (BEGIN + 5 * 3_600) * SECOND);
    rows.extend((0..60).map(|n| {
        let at = (BEGIN - 20 * 3_600 + i64::try_from(n).unwrap() * 1_200) * SECOND;
        Row { organization: 7, listed_from: joined, ..row(9_100 + n, at) }
    }));
    let mut story = Story::new(rows, Dialect::default());
    story.poll(300, 5 * 3_600);
    story.store.book().newest_organization = Some(joined);
    story.poll(300, 5 * 3_600 + 900);
    assert_eq!(story.missing(), 0);
    assert!(story.store.book().entries.values().all(|times| *times == 1));
    let before = story.portal.world().requests;
    story.poll(300, 5 * 3_600 + 1_800);
    assert!(story.portal.world().requests - before < 12, "the retention is counted again and again");
}

#[test]
fn what_was_asked_for_while_an_organization_was_silent_is_read_again_when_it_is_back() {
    let rows = ten_days().into_iter().filter(|row| row.id < Some(9_000));
    let rows = rows.map(|row| Row { organization: u16::try_from(row.id.unwrap() % 3).unwrap(), ..row });
    let mut story = Story::new(rows.collect(), Dialect { totals: Totals::Absent, ..Dialect::default() });
    story.poll(300, 3_600);
    let silence = (1, (BEGIN + 3_600) * SECOND, (BEGIN + 8 * 3_600) * SECOND);
    story.portal.world().silences.push(silence);
    story.poll(300, 4 * 3_600);
    story.ask_back(-5 * DAY, 3_600);
    story.poll(300, 7 * 3_600);
    assert_eq!(story.entered(-5 * DAY, -DAY), (0, 1), "what is hidden cannot be held");
    story.poll(300, 9 * 3_600);
    assert_eq!(story.entered(-5 * DAY, 8 * 3_600), (1, 1));
}

#[test]
fn after_a_backfill_every_row_from_then_on_is_an_entry_once() {
    let plain = || Dialect { retention_days: None, ..Dialect::default() };
    let dialects = [
        (plain(), true),
        (plain(), false),
        (Dialect { axis: Axis::Imported, ..plain() }, true),
        (Dialect { start_inclusive: false, end_inclusive: false, ..plain() }, true),
        (Dialect { totals: Totals::Absent, ..plain() }, true),
        (Dialect { totals: Totals::Absent, ..plain() }, false),
        (Dialect { totals: Totals::OverBy(2), ..plain() }, true),
    ];
    for (dialect, has_imported) in dialects {
        let mut world = World::new(ten_days(), dialect.clone());
        world.has_imported = has_imported;
        let mut story = Story::of(world);
        story.poll(300, 2 * 3_600);
        assert_eq!(story.entered(-6 * DAY, -DAY - 600), (0, 0), "{dialect:?}: not owed yet");
        story.ask_back(-5 * DAY, 2 * 3_600);
        story.poll(300, 12 * 3_600);
        assert_eq!(story.entered(-5 * DAY, 11 * 3_600), (1, 1), "{dialect:?} {has_imported}");
        assert_eq!(story.entered(-9 * DAY, -5 * DAY - 600), (0, 0), "{dialect:?} {has_imported}");
        assert!(story.store.book().asked_back.is_empty());
        assert_eq!(story.store.book().notes.start, Some(BEGIN - 5 * DAY));
        assert_ne!(story.state_at(-4 * DAY), Some(State::Baseline));
        story.poll(3_600, 3 * DAY);
        assert_eq!(story.late(), [1, 1, 1, 1], "{dialect:?} {has_imported}: come late, before or after it");
        assert_eq!(story.entered(-5 * DAY, 2 * DAY), (1, 1), "{dialect:?} {has_imported}");
    }
}

#[test]
fn a_backfill_that_ends_before_the_start_owes_no_more_than_was_asked_for() {
    let mut story = Story::new(ten_days(), Dialect { retention_days: None, ..Dialect::default() });
    story.poll(300, 3_600);
    story.ask_back(-5 * DAY, -3 * DAY);
    story.poll(3_600, 2 * DAY + 12 * 3_600);
    assert_eq!(story.entered(-5 * DAY, -3 * DAY), (1, 1));
    assert_eq!(story.entered(-3 * DAY + 600, -DAY - 600), (0, 0), "what lies between");
    assert_eq!(story.state_at(-2 * DAY), Some(State::Baseline));
    assert_eq!(story.late(), [1, 1, 1, 1], "what comes late enters, owed or not");
    assert!(story.stream.coverage.proven_until(BEGIN - 5 * DAY) > BEGIN + DAY);
    story.ask_back(-4 * DAY, 0);
    story.poll(3_600, 3 * DAY);
    assert_eq!(story.entered(-5 * DAY, 2 * DAY), (1, 1));
    assert_eq!(story.state_at(-2 * DAY), Some(State::Proven));
    assert_eq!(story.late(), [1, 1, 1, 1]);
}

#[test]
fn a_backfill_goes_on_after_every_crash() {
    for seed in 0..30 {
        let mut world = World::new(ten_days(), Dialect { retention_days: None, ..Dialect::default() });
        // So that every row before the start is remembered, and withheld.
        world.has_imported = false;
        let mut story = Story::of(world);
        story.store = Store::crashing(seed, 0.0);
        let settings = WindowSettings { has_imported: false, ..settings(10) };
        story.stream = story.store.load(&settings, &story.portal);
        story.poll(300, 3_600);
        story.ask_back(-5 * DAY, 3_600);
        story.store.book().crashing = 0.05;
        let mut crashes = 0;
        while story.portal.world().now < (BEGIN + 12 * 3_600) * SECOND {
            story.portal.wait(60);
            let mut done = ready(story.stream.live()).map(|_| true);
            while let Ok(true) = done {
                done = ready(story.stream.background());
            }
            if done.is_err() {
                crashes += 1;
                story.stream = story.store.load(&settings, &story.portal);
            }
        }
        assert!(crashes > 5, "{crashes}");
        assert_eq!(story.entered(-5 * DAY, 11 * 3_600), (1, 1), "seed {seed} with {crashes} crashes");
        assert_eq!(story.entered(-9 * DAY, -5 * DAY - 600), (0, 0), "seed {seed}");
    }
}

#[test]
fn a_backfill_from_before_the_retention_begins_with_it() {
    let mut story = Story::new(ten_days(), Dialect { retention_days: None, ..Dialect::default() });
    story.stream.settings.retention = 3 * DAY;
    story.poll(300, 3_600);
    story.ask_back(-9 * DAY, 0);
    story.poll(300, 2 * 3_600);
    let start = story.stream.notes.start.unwrap();
    assert!((BEGIN - 3 * DAY..BEGIN - 3 * DAY + 3 * 3_600).contains(&start), "{}", start - BEGIN);
    assert_eq!(story.entered(-3 * DAY + 3 * 3_600, 3_600), (1, 1));
    assert_eq!(story.entered(-9 * DAY, -3 * DAY - 600), (0, 0));
}

impl Story {
    /// A stream of three organizations with a row every ten minutes for ten days and more, of a portal that keeps
    /// its rows for three days and as long as it says.
    fn of_three_days(backfill: Seconds) -> Self {
        let rows = (-500..1_700).map(|id| {
            let organization = u16::try_from(id + 500).unwrap() % 3;
            Row { organization, ..row(u64::try_from(id + 500).unwrap(), (BEGIN + id * 600) * SECOND) }
        });
        let mut story = Self::new(rows.collect(), Dialect { retention_days: Some(3), ..Dialect::default() });
        story.stream.settings.retention = 3 * DAY;
        story.stream.settings.backfill = backfill;
        // Shorter than an organization's gaps: behind a leap of the clock each seems silent at first.
        story.stream.settings.live_span = 900;
        story
    }

    /// What is said of time other than that it is proven, or was never owed.
    fn doubts(&self) -> Vec<(State, Seconds, Seconds)> {
        let doubt = |one: &&Interval| !matches!(one.state, State::Proven | State::Baseline);
        let told = |one: &Interval| (one.state, one.from - BEGIN, one.to - BEGIN);
        self.stream.coverage.intervals().filter(doubt).map(told).collect()
    }
}

#[test]
fn a_backfill_as_long_as_the_retention_calls_nothing_expired() {
    let mut story = Story::of_three_days(3 * DAY);
    story.poll(60, 3_600);
    assert_eq!(story.doubts(), []);
    let start = story.stream.notes.start.unwrap();
    assert!(start < BEGIN - 3 * DAY + 7_200, "{}", start - BEGIN);
}

#[test]
fn older_time_asked_for_up_to_the_very_retention_calls_nothing_expired() {
    let mut story = Story::of_three_days(DAY);
    story.poll(60, 3_600);
    story.ask_back(3_600 - 3 * DAY, 0);
    story.poll(60, 2 * 3_600);
    assert_eq!(story.doubts(), []);
    let start = story.stream.notes.start.unwrap();
    assert!(start < BEGIN - 3 * DAY + 3 * 3_600, "{}", start - BEGIN);
}

#[test]
fn what_was_proven_stays_so_when_the_portal_drops_its_rows() {
    let mut story = Story::of_three_days(DAY);
    // A little sooner than it says.
    story.stream.settings.retention = 3 * DAY + 1_800;
    for hour in 1..9 * 24 {
        story.poll(1_800, hour * 3_600);
        assert_eq!(story.doubts(), [], "hour {hour}");
    }
}

#[test]
fn what_was_proven_stays_so_over_leaps_of_the_clock() {
    let mut story = Story::of_three_days(DAY);
    story.poll(60, 3_600);
    for leap in 1..7 {
        story.portal.wait(DAY);
        let until = leap * (DAY + 600) + 3_600;
        story.poll(60, until);
        assert_eq!(story.doubts(), [], "leap {leap}");
    }
}

#[test]
fn what_was_proven_before_two_days_of_rest_stays_so() {
    let mut story = Story::of_three_days(DAY);
    story.poll(600, 2 * DAY);
    story.portal.wait(2 * DAY + DAY / 2);
    story.poll(600, 5 * DAY);
    assert_eq!(story.doubts(), []);
}

#[test]
fn a_portal_that_turns_no_pages_and_counts_nothing_is_asked_little() {
    let rows = (0..1_300).map(|id| row(id, (BEGIN - DAY + 900 + i64::try_from(id).unwrap() * 70) * SECOND));
    let dialect = Dialect { ignores_page_number: true, totals: Totals::Absent, ..Dialect::default() };
    let mut story = Story::new(rows.collect(), dialect);
    story.stream.settings.page_size = 100;
    story.portal.world().patience = 20_000;
    story.poll(60, 300);
    assert_eq!(story.missing(), 0);
    let requests = story.portal.world().requests;
    assert!(requests < 400, "{requests} requests for 1,200 rows");
    assert_eq!(story.doubts(), []);
}

#[test]
fn rows_that_share_one_id_are_never_proven_away() {
    for totals in [Totals::Exact, Totals::Absent] {
        let mut rows = steady(1);
        // Two of a page: as sources do that write a constant in place of an id.
        let shared = row(1, (BEGIN - 1_000) * SECOND);
        rows.extend([0, 30, 60].map(|after| Row {
            at: shared.at + after * SECOND,
            id: Some(9_000),
            ..shared
        }));
        let mut story = Story::new(rows, Dialect { totals, ..Dialect::default() });
        story.poll(60, 3_600);
        let doubts = story.doubts();
        let told = |(state, from, to): &(State, Seconds, Seconds)| {
            *state == State::StableUnproven && *from <= -1_000 && *to > -940
        };
        assert!(doubts.iter().any(told), "{totals:?}: {doubts:?}");
        assert_eq!(story.missing(), 0, "the others are held");
    }
}

#[test]
fn a_row_that_gets_another_time_shares_no_id() {
    let mut rows = steady(1);
    let moved = row(9_000, (BEGIN + 700) * SECOND);
    rows.push(Row { deleted_at: Some((BEGIN + 1_500) * SECOND), ..moved });
    rows.push(Row { at: moved.at + 300 * SECOND, listed_from: (BEGIN + 1_500) * SECOND, ..moved });
    let mut story = Story::new(rows, Dialect::default());
    story.poll(60, 2 * 3_600);
    assert_eq!(story.doubts(), []);
}

#[test]
fn an_organization_that_the_tree_does_not_show_is_found_within_a_day_and_the_others_are_not_suspected() {
    let mut story = Story::new(steady(3), Dialect::default());
    story.store.book().members = vec![0, 1, 2];
    story.portal.world().hidden = vec![1];
    story.poll(300, DAY + 7_200);
    let alone = |story: &Story| story.stream.notes.alone.keys().cloned().collect::<Vec<_>>();
    assert_eq!(alone(&story), [organization(1)]);
    assert!(story.stream.notes.silent.is_empty());
    story.portal.world().hidden.clear();
    // The tree lists them now: they are held as soon as a count says so.
    story.poll(300, 3 * DAY);
    assert_eq!(alone(&story), []);
    assert_eq!(story.missing(), 0);
}

#[test]
fn an_organization_that_falls_silent_because_the_tree_hides_it_is_asked_alone_at_once() {
    let mut story = Story::new(steady(3), Dialect::default());
    story.store.book().members = vec![0, 1, 2];
    story.poll(300, 2 * DAY);
    assert!(story.stream.notes.alone.is_empty(), "{:?}", story.stream.notes.alone);
    story.portal.world().hidden = vec![2];
    story.poll(300, 2 * DAY + 3 * 3_600);
    assert_eq!(story.stream.notes.alone.keys().collect::<Vec<_>>(), [&organization(2)]);
}

#[test]
fn rows_that_come_late_make_no_organization_look_hidden() {
    let mut rows = steady(3);
    for (number, row) in rows.iter_mut().enumerate() {
        row.listed_from += [0, 900, 7_200, 36_000][number % 4] * SECOND;
    }
    let mut story = Story::new(rows, Dialect::default());
    story.store.book().members = vec![0, 1, 2];
    let mut polled = 0;
    while polled < 3 * DAY {
        polled += 3_600;
        story.poll(300, polled);
        assert!(story.stream.notes.alone.is_empty(), "{:?}", story.stream.notes.alone);
    }
}

#[test]
fn an_organization_that_the_tree_lists_again_is_left_to_it_though_rows_come_late_all_the_time() {
    let mut rows = steady(3);
    for (number, row) in rows.iter_mut().enumerate() {
        row.listed_from += [0, 0, 0, 40_000][number % 4] * SECOND;
    }
    let mut story = Story::new(rows, Dialect::default());
    story.store.book().members = vec![0, 1, 2];
    story.portal.world().hidden = vec![1];
    story.poll(300, DAY + 7_200);
    assert_eq!(story.stream.notes.alone.keys().collect::<Vec<_>>(), [&organization(1)]);
    story.portal.world().hidden.clear();
    story.poll(300, 2 * DAY + 7_200);
    assert!(story.stream.notes.alone.is_empty(), "{:?}", story.stream.notes.alone);
}
