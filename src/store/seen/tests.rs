use crate::model::RowIds;
use proptest::prelude::*;
use rusqlite::Connection;

use super::pack::{MOST_ROWS, decode, encode};
use super::*;
use crate::model;
use crate::simulator::dice::Dice;
use crate::simulator::world::{Source, World, WorldOptions};
use crate::store::tests::memory;

/// A row of a small world. Its times never change; which of them a stream files it by may.
#[derive(Clone, Copy, Debug)]
struct Thing {
    name: u8,
    times: Option<(Micros, Option<Micros>)>,
}

impl Thing {
    /// As a stream hands it over: by its other time first, or listed around `listed` if it says no time.
    fn row(self, by_other: bool, listed: Micros) -> SeenRow {
        let (at, other) = match self.times {
            Some((at, Some(other))) if by_other => (other, Some(at)),
            Some(times) => times,
            None => (listed + 1, None),
        };
        let (uid, organization) = (uid_of(self.name.into()), i64::from(self.name % 2));
        SeenRow { uid, at, other, organization }
    }
}

fn uid_of(number: u64) -> Uuid {
    model::uid("org", "audit", &number.to_string(), "event", "0")
}

#[derive(Clone, Debug)]
enum Step {
    Insert(Vec<(usize, bool, Micros)>, ListedBy),
    Gone { organization: Option<i64>, range: (Micros, Micros), listed: Vec<u8> },
    SwapAxis,
    Prune { before: Micros, gone_only: bool },
    Pack { before: Micros },
}

const THINGS: usize = 12;

/// The seconds of the small world: a few around each of three full hours.
fn second() -> impl Strategy<Value = Micros> {
    (1..4_i64, -2..3_i64).prop_map(|(hour, second)| hour * HOUR + second * SECOND)
}

/// A time that a row may say.
fn time() -> impl Strategy<Value = Micros> {
    (second(), prop::sample::select(vec![0, 5, 999_999])).prop_map(|(second, part)| second + part)
}

/// An end of a request.
fn end() -> impl Strategy<Value = Micros> {
    (second(), 0..2_i64).prop_map(|(second, part)| second + part)
}

fn things() -> impl Strategy<Value = Vec<Thing>> {
    let times = prop::option::weighted(0.85, (time(), prop::option::of(time())));
    prop::collection::vec(times, THINGS)
        .prop_map(|all| all.into_iter().zip(0..).map(|(times, name)| Thing { name, times }).collect())
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let organization = prop::option::of(0..2_i64);
    let listed = prop::collection::vec(0..u8::try_from(THINGS).unwrap(), 0..8);
    let step = prop_oneof![
        6 => prop::collection::vec((0..THINGS, any::<bool>(), second()), 1..6)
            .prop_map(|rows| Step::Insert(rows, ListedBy::TheSet)),
        2 => prop::collection::vec((0..THINGS, any::<bool>(), second()), 1..6)
            .prop_map(|rows| Step::Insert(rows, ListedBy::Another)),
        3 => (organization, (end(), end()), listed)
            .prop_map(|(organization, range, listed)| Step::Gone { organization, range, listed }),
        1 => Just(Step::SwapAxis),
        1 => (second(), any::<bool>()).prop_map(|(before, gone_only)| Step::Prune { before, gone_only }),
        4 => second().prop_map(|before| Step::Pack { before: before + HOUR }),
    ];
    prop::collection::vec(step, 1..40)
}

/// What a set must know: a list of rows, each with whether it is gone.
#[derive(Clone, Default)]
struct Plain(Vec<(SeenRow, bool)>);

impl Plain {
    fn held(&self, organization: Option<i64>, (from, to): (Micros, Micros)) -> RowIds {
        let inside = |row: &SeenRow| {
            (from <= row.at && row.at < to)
                && organization.is_none_or(|organization| row.organization == organization)
        };
        let held = self.0.iter().filter(|(row, gone)| !gone && inside(row));
        held.map(|(row, _)| row.uid.as_u128()).collect()
    }

    fn knows(&self, row: &SeenRow) -> bool {
        self.0.iter().any(|(known, _)| known.uid == row.uid)
    }

    fn insert(&mut self, row: SeenRow, listed_by: ListedBy) -> bool {
        let counts = listed_by == ListedBy::TheSet;
        if let Some((_, gone)) = self.0.iter_mut().find(|(known, _)| known.uid == row.uid) {
            *gone &= !counts;
            return false;
        }
        self.0.push((row, !counts));
        true
    }
}

/// One step taken by both.
fn take(db: &WriterDb, plain: &mut Plain, things: &[Thing], step: &Step) -> Result<(), TestCaseError> {
    match step {
        Step::Insert(rows, listed_by) => {
            let rows: Vec<_> =
                rows.iter().map(|(thing, by_other, listed)| things[*thing].row(*by_other, *listed)).collect();
            let new: Vec<bool> = rows.iter().map(|row| plain.insert(*row, *listed_by)).collect();
            prop_assert_eq!(insert(db, 1, &rows, *listed_by).unwrap(), new, "{:?}", rows);
        }
        Step::Gone { organization, range, listed } => {
            let listed: RowIds = listed.iter().map(|name| uid_of((*name).into()).as_u128()).collect();
            let held = plain.held(*organization, *range);
            let unlisted: HashSet<_> = held.difference(&listed).copied().collect();
            let any = any_unlisted(db, 1, *organization, *range, &listed).unwrap();
            prop_assert_eq!(any, !unlisted.is_empty());
            let gone = set_gone(db, 1, *organization, *range, &listed).unwrap();
            prop_assert_eq!(gone, unlisted.len() as u64);
            for (row, gone) in &mut plain.0 {
                *gone |= unlisted.contains(&row.uid.as_u128());
            }
        }
        Step::SwapAxis => {
            swap_axis(db, 1).unwrap();
            for (row, _) in &mut plain.0 {
                if let Some(other) = row.other.as_mut() {
                    std::mem::swap(&mut row.at, other);
                }
            }
        }
        Step::Prune { before, gone_only } => {
            let old = |row: &SeenRow| row.at < *before && row.other.is_none_or(|other| other < *before);
            let count = plain.0.len();
            plain.0.retain(|(row, gone)| !(old(row) && (*gone || !gone_only)));
            let mut pruned = 0;
            while let some @ 1.. = prune(db, 1, *before, *gone_only).unwrap() {
                pruned += some;
            }
            prop_assert_eq!(pruned, (count - plain.0.len()) as u64);
        }
        Step::Pack { before } => {
            pack(db, 1, *before).unwrap();
            let young = "SELECT count(*) FROM seen WHERE at < ?1 AND at % 1000000 <> 1";
            let left: u64 = db.query_row(young, [before], |row| row.get(0)).unwrap();
            prop_assert_eq!(left, 0);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn packed_or_not_a_set_knows_what_a_plain_list_would(things in things(), steps in steps()) {
        let (db, mut plain) = (memory(), Plain::default());
        for step in steps {
            // A job that fails is undone, and tried again.
            db.execute_batch("SAVEPOINT job").unwrap();
            take(&db, &mut plain.clone(), &things, &step)?;
            db.execute_batch("ROLLBACK TO job; RELEASE job").unwrap();
            db.settle(false);
            take(&db, &mut plain, &things, &step)?;
            db.settle(true);
            for organization in [None, Some(0), Some(1)] {
                for range in [(0, 5), (0, 2), (1, 3), (2, 3)] {
                    let range = (range.0 * HOUR, range.1 * HOUR + 1);
                    let held = held(&db, 1, organization, range.0, range.1).unwrap();
                    prop_assert_eq!(held, plain.held(organization, range).len() as u64, "after {:?}", step);
                }
            }
            for by_other in [false, true] {
                let rows: Vec<_> = things.iter().map(|thing| thing.row(by_other, 2 * HOUR)).collect();
                let wanted: Vec<_> = rows.iter().map(|row| plain.knows(row)).collect();
                prop_assert_eq!(known(&db, 1, &rows).unwrap(), wanted, "after {:?}", step);
            }
        }
    }

    #[test]
    fn a_pack_gives_back_its_rows(rows in prop::collection::vec(
        (any::<i32>(), any::<i64>(), prop::option::of(any::<i32>()), any::<bool>()), 1..50)) {
        let mut rows: Vec<_> = rows
            .into_iter()
            .map(|(place, id, other, gone)| PackedRow { place: place.into(), id, other: other.map(i64::from), gone })
            .collect();
        rows.sort_unstable();
        let body = encode(&rows);
        prop_assert_eq!(decode(&body, rows.len(), rows[0].place), Ok(rows));
    }

    #[test]
    fn bytes_that_are_no_pack_are_refused_and_panic_nobody(
        mut body in prop::collection::vec(any::<u8>(), 0..60), rows in 0..6_usize, versioned in any::<bool>()) {
        if let Some(first) = body.first_mut().filter(|_| versioned) {
            *first = 1;
        }
        if let Ok(read) = decode(&body, rows, 0) {
            prop_assert_eq!(read.len(), rows);
            prop_assert_eq!(body[0], 1);
        }
    }
}

fn count(db: &Connection, sql: &str) -> u64 {
    db.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// Rows of one hour, many in each second, in any order.
fn crowd(rows: u64) -> Vec<SeenRow> {
    let mut dice = Dice::new(7, 0, 0);
    let row = |number| {
        let at = dice.below(3_600) * SECOND + dice.below(2) * dice.below(SECOND / 2) * 2;
        SeenRow { uid: uid_of(number), at, other: Some(at + dice.below(90) * SECOND), organization: 1 }
    };
    (0..rows).map(row).collect()
}

#[test]
fn an_hour_of_any_size_is_packs_of_a_bounded_size_in_order() {
    let (db, rows) = (memory(), crowd(30_000));
    // The first half at once, as when the hour closes; then late rows in ever smaller portions.
    for part in [&rows[..15_000], &rows[15_000..25_000], &rows[25_000..29_990], &rows[29_990..]] {
        for page in part.chunks(500) {
            assert_eq!(insert(&db, 1, page, ListedBy::TheSet).unwrap(), vec![true; page.len()]);
        }
        while pack(&db, 1, HOUR).unwrap() == PACKED_ROWS {}
        assert_eq!(count(&db, "SELECT count(*) FROM seen"), 0);
    }
    let most = count(&db, "SELECT max(rows) FROM seen_pack");
    let packs = count(&db, "SELECT count(*) FROM seen_pack");
    assert!(most <= MOST_ROWS as u64 && packs <= 16, "{packs} packs, {most} rows in the largest");
    // Late rows that come one by one, each before the one before it.
    for second in (0..40).rev() {
        let at = HOUR + second * SECOND;
        let late = SeenRow { uid: uid_of(90_000 + at.unsigned_abs()), at, other: None, organization: 1 };
        insert(&db, 1, &[late], ListedBy::TheSet).unwrap();
        assert_eq!(pack(&db, 1, 2 * HOUR).unwrap(), 1);
    }
    assert_eq!(count(&db, "SELECT count(*) FROM seen_pack WHERE first >= 7200"), 1);
    let overlapping = "SELECT count(*) FROM seen_pack a JOIN seen_pack b ON a.id <> b.id
         AND (a.first, a.first_id) <= (b.first, b.first_id) AND b.first < a.last";
    assert_eq!(count(&db, overlapping), 0);
    let (mut page, mut dice) = (rows.clone(), Dice::new(8, 0, 0));
    page.sort_by_key(|row| row.at);
    for page in page.chunks(500) {
        assert_eq!(insert(&db, 1, page, ListedBy::TheSet).unwrap(), vec![false; page.len()]);
    }
    for _ in 0..200 {
        let (from, to) =
            (dice.below(3_600) * SECOND + dice.below(2), dice.below(3_600) * SECOND + dice.below(2));
        let plain = rows.iter().filter(|row| from <= row.at && row.at < to).count() as u64;
        assert_eq!(held(&db, 1, None, from, to).unwrap(), plain);
    }
    swap_axis(&db, 1).unwrap();
    let plain = rows.iter().filter(|row| row.other < Some(HOUR)).count() as u64;
    assert_eq!(held(&db, 1, Some(1), 0, HOUR).unwrap(), plain);
    assert_eq!(held(&db, 1, None, 0, 2 * HOUR).unwrap(), 30_040);
    assert!(count(&db, "SELECT max(rows) FROM seen_pack") <= MOST_ROWS as u64);
}

#[test]
fn a_packed_row_is_known_also_once_its_portal_tells_its_times_more_precisely() {
    let db = memory();
    let row = SeenRow { uid: uid_of(1), at: 90 * SECOND, other: None, organization: 1 };
    insert(&db, 1, &[row], ListedBy::TheSet).unwrap();
    pack(&db, 1, HOUR).unwrap();
    let precise = [SeenRow { at: row.at + 123_456, ..row }, SeenRow { at: row.at - 7, ..row }];
    assert_eq!(known(&db, 1, &precise).unwrap(), [true; 2]);
    assert_eq!(known(&db, 1, &[SeenRow { at: 2 * HOUR, ..row }]).unwrap(), [false], "that is another row");
    let late = SeenRow { uid: uid_of(2), at: 3 * HOUR - 300_000, other: None, organization: 1 };
    insert(&db, 1, &[late], ListedBy::TheSet).unwrap();
    pack(&db, 1, 3 * HOUR).unwrap();
    let rounded = [SeenRow { at: 3 * HOUR, ..late }, SeenRow { at: 3 * HOUR + SECOND, ..late }];
    assert_eq!(known(&db, 1, &rounded).unwrap(), [true; 2], "also where an hour lies between");
    let moved = SeenRow { at: 2 * HOUR, other: Some(row.at), ..row };
    assert_eq!(known(&db, 1, &[moved]).unwrap(), [true], "one of two times is enough");
}

#[test]
fn a_young_row_is_known_by_its_uid_whatever_times_it_comes_with() {
    let db = memory();
    let row = SeenRow { uid: uid_of(1), at: 90 * SECOND, other: None, organization: 1 };
    insert(&db, 1, &[row], ListedBy::TheSet).unwrap();
    let moved = SeenRow { at: 20 * HOUR, other: Some(40 * HOUR), ..row };
    assert_eq!(insert(&db, 1, &[moved], ListedBy::TheSet).unwrap(), [false]);
    assert_eq!(known(&db, 2, &[row]).unwrap(), [false], "in another set it is another row");
    set_gone(&db, 1, None, (0, HOUR), &RowIds::default()).unwrap();
    assert_eq!(insert(&db, 1, &[moved], ListedBy::TheSet).unwrap(), [false]);
    assert_eq!(held(&db, 1, None, 0, HOUR).unwrap(), 1, "it is back where it was");
}

#[test]
fn a_row_that_left_the_table_by_another_way_is_new_again() {
    let db = memory();
    let row = SeenRow { uid: uid_of(1), at: 90 * SECOND, other: None, organization: 1 };
    insert(&db, 1, &[row], ListedBy::TheSet).unwrap();
    db.execute("DELETE FROM seen", []).unwrap();
    assert_eq!(known(&db, 1, &[row]).unwrap(), [false]);
    let moved = SeenRow { at: 91 * SECOND, ..row };
    assert_eq!(insert(&db, 1, &[moved], ListedBy::TheSet).unwrap(), [true]);
    assert_eq!(insert(&db, 1, &[row], ListedBy::TheSet).unwrap(), [false]);
}

#[test]
fn a_damaged_pack_is_an_error_that_names_it() {
    let db = memory();
    insert(&db, 1, &crowd(10), ListedBy::TheSet).unwrap();
    pack(&db, 1, HOUR).unwrap();
    for body in ["x'02'", "x'01'", "CAST(body || x'00' AS BLOB)"] {
        db.execute_batch("SAVEPOINT sound").unwrap();
        db.execute(&format!("UPDATE seen_pack SET body = {body}"), []).unwrap();
        let error = any_unlisted(&db, 1, None, (0, HOUR), &RowIds::default()).unwrap_err();
        assert!(
            matches!(&error, StoreError::Damaged { what, .. } if what == "pack 1 of seen rows"),
            "{error}"
        );
        db.execute_batch("ROLLBACK TO sound").unwrap();
    }
}

/// Bytes of the state that a packed row of the simulated portal takes, indices and all.
fn bytes_a_row(rows_per_hour: i64, hours: i64) -> f64 {
    let world = World::new(WorldOptions {
        organizations: 1,
        rows_per_day: rows_per_hour * 24,
        late_days: 1,
        backlog_hours: 2 * hours,
        live: false,
        ..WorldOptions::default()
    });
    let rows = world.rows(Source::UnifiedAudit);
    // The hours in the middle have all their rows; an older one has only what came late.
    let until = rows.iter().map(|row| row.imported).max().unwrap().div_euclid(HOUR) * HOUR - HOUR;
    let rows: Vec<_> = rows
        .iter()
        .filter(|row| (until - hours * HOUR..until).contains(&row.at))
        .map(|row| SeenRow {
            uid: uid_of(row.id.unwrap()),
            at: row.at,
            other: Some(row.imported),
            organization: 1,
        })
        .collect();
    let db = memory();
    insert(&db, 1, &rows, ListedBy::TheSet).unwrap();
    while pack(&db, 1, until).unwrap() == PACKED_ROWS {}
    let packed = count(&db, "SELECT sum(rows) FROM seen_pack");
    assert!(packed > (rows_per_hour * hours * 9 / 10).unsigned_abs(), "{packed} rows");
    let bytes = count(&db, "SELECT sum(pgsize) FROM dbstat WHERE name LIKE 'seen_pack%'");
    bytes as f64 / packed as f64
}

#[test]
fn a_packed_row_takes_twelve_bytes_of_the_state_at_most_where_there_are_five_hundred_an_hour() {
    for (rows_per_hour, hours) in [(500, 48), (5_000, 6), (41_667, 3)] {
        let bytes = bytes_a_row(rows_per_hour, hours);
        eprintln!("{rows_per_hour} rows an hour: {bytes:.1} bytes a packed row");
        assert!(bytes <= 12.0, "{rows_per_hour} rows an hour: {bytes:.1} bytes a row");
    }
}
