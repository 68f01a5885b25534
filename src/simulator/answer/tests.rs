use rand::SeedableRng;
use rand::rngs::StdRng;

use super::super::dialect::{Axis, DAY, Oversize, Pagination, Totals};
use super::*;
use crate::model::SECOND;

const NOW: Micros = 100 * DAY;

/// Rows one second apart that end at now, the newest last.
fn rows(count: u64) -> Vec<Row> {
    (0..count)
        .map(|number| {
            let at = NOW - Micros::try_from(count - number).unwrap() * SECOND;
            Row {
                id: Some(number),
                content: Content::Generated(number),
                at,
                imported: at,
                listed_from: at,
                deleted_at: None,
                organization: u16::try_from(number % 3).unwrap(),
                action: u8::try_from(number % 5).unwrap(),
                table: 1,
                threat: Threat::default(),
            }
        })
        .collect()
}

fn all() -> Query {
    Query { size: 10, ..Query::window(0, NOW) }
}

fn moment() -> Moment<'static> {
    Moment { now: NOW, request: 1, silent: &[] }
}

fn ids(rows: &[Row], query: &Query, dialect: &Dialect) -> Vec<u64> {
    let answer = answer(rows, query, dialect, &moment()).unwrap();
    answer.rows.iter().map(|&index| rows[index].id.unwrap()).collect()
}

#[test]
fn the_plain_portal_lists_the_newest_first_and_counts_exactly() {
    let rows = rows(25);
    let pages: Vec<_> =
        (1..=4).map(|page| ids(&rows, &Query { page, ..all() }, &Dialect::default())).collect();
    assert_eq!(pages.concat(), (0..25).rev().collect::<Vec<_>>());
    assert_eq!(pages[3].len(), 0);
    assert_eq!(answer(&rows, &all(), &Dialect::default(), &moment()).unwrap().total, Some(25));
}

#[test]
fn each_end_is_inside_or_outside() {
    let rows = rows(10);
    let query = Query { from: rows[2].at, to: rows[5].at, ..all() };
    let count = |start_inclusive, end_inclusive| {
        ids(&rows, &query, &Dialect { start_inclusive, end_inclusive, ..Dialect::default() }).len()
    };
    assert_eq!(
        (count(true, true), count(false, true), count(true, false), count(false, false)),
        (4, 3, 3, 2)
    );
    let point = Query { from: rows[2].at, to: rows[2].at, ..all() };
    let outside = Dialect { start_inclusive: false, end_inclusive: false, ..Dialect::default() };
    assert!(ids(&rows, &point, &outside).is_empty());
}

#[test]
fn the_axis_decides_which_time_is_asked() {
    let mut rows = rows(3);
    rows[0].imported = NOW - SECOND / 2;
    rows.sort_by_key(|row| row.imported);
    let query = Query { from: NOW - SECOND, to: NOW, ..all() };
    let imported = Dialect { axis: Axis::Imported, ..Dialect::default() };
    assert_eq!(ids(&rows, &query, &imported), [0, 2]);
}

#[test]
fn beyond_the_depth_is_an_error_or_nothing() {
    let rows = rows(50);
    let mut dialect = Dialect { depth_limit: Some(20), ..Dialect::default() };
    let page = |page| Query { page, ..all() };
    assert_eq!(ids(&rows, &page(2), &dialect).len(), 10);
    assert_eq!(answer(&rows, &page(3), &dialect, &moment()), Err(Refusal::OPAQUE));
    dialect.beyond_depth = BeyondDepth::Empty;
    let answer = answer(&rows, &page(3), &dialect, &moment()).unwrap();
    assert_eq!((answer.rows.len(), answer.total), (0, Some(50)));
}

#[test]
fn totals_are_capped_too_high_or_missing() {
    let rows = rows(50);
    let total = |totals, request| {
        let dialect = Dialect { totals, ..Dialect::default() };
        answer(&rows, &all(), &dialect, &Moment { request, ..moment() }).unwrap().total
    };
    assert_eq!(total(Totals::Capped(30), 1), Some(30));
    assert_eq!(total(Totals::OverBy(2), 1), Some(52));
    assert_eq!(total(Totals::Absent, 1), None);
    let missing = (0..1_000).filter(|&n| total(Totals::SometimesAbsent(30), n).is_none()).count();
    assert!((200..400).contains(&missing), "{missing}");
    let silent = Dialect { pagination: Pagination::None, ..Dialect::default() };
    assert_eq!(answer(&rows, &all(), &silent, &moment()).unwrap().total, None);
    let uncounted = Query { with_total: false, ..all() };
    assert_eq!(answer(&rows, &uncounted, &Dialect::default(), &moment()).unwrap().total, None);
}

#[test]
fn an_oversize_page_is_refused_or_clamped() {
    let rows = rows(50);
    let query = Query { size: 40, ..all() };
    let mut dialect = Dialect { max_page_size: 20, ..Dialect::default() };
    assert_eq!(answer(&rows, &query, &dialect, &moment()).unwrap_err().status, 400);
    dialect.oversize = Oversize::Clamped;
    let clamped = answer(&rows, &query, &dialect, &moment()).unwrap();
    assert_eq!((clamped.rows.len(), clamped.page_size_used), (20, 20));
    let second = Query { page: 2, ..query };
    assert_eq!(ids(&rows, &second, &dialect)[0], 29);
}

#[test]
fn ties_come_in_another_order_at_another_request() {
    let mut rows = rows(30);
    rows.iter_mut().for_each(|row| row.at = NOW - SECOND);
    let dialect = Dialect { shuffles_ties: true, ..Dialect::default() };
    let order = |request| answer(&rows, &all(), &dialect, &Moment { request, ..moment() }).unwrap().rows;
    assert_ne!(order(1), order(2));
    assert_eq!(order(1), order(1));
}

#[test]
fn rows_appear_and_go_when_they_are_said_to() {
    let mut rows = rows(3);
    rows[0].listed_from = NOW + 1;
    rows[1].deleted_at = Some(NOW);
    assert_eq!(ids(&rows, &all(), &Dialect::default()), [2]);
    let short = Dialect { retention_days: Some(1), ..Dialect::default() };
    let later = Moment { now: rows[2].at + DAY + 1, ..moment() };
    assert!(answer(&rows, &all(), &short, &later).unwrap().rows.is_empty());
}

#[test]
fn scope_action_table_and_silence_choose_rows() {
    let mut rows = rows(15);
    rows[14].table = 2;
    let plain = Dialect::default();
    let scoped = Query { scope: Scope::Organization(1), ..all() };
    assert_eq!(ids(&rows, &scoped, &plain), [13, 10, 7, 4, 1]);
    assert_eq!(ids(&rows, &Query { actions: 0b10, ..all() }, &plain), [11, 6, 1]);
    assert_eq!(ids(&rows, &Query { table: 2, ..all() }, &plain), [14]);
    let silent = Moment { silent: &[0, 1], ..moment() };
    assert_eq!(answer(&rows, &all(), &plain, &silent).unwrap().total, Some(4));
    let alone = Dialect { parent_alone_fails: true, ..Dialect::default() };
    let parent = Query { scope: Scope::Organization(0), ..all() };
    assert_eq!(answer(&rows, &parent, &alone, &moment()), Err(Refusal::OPAQUE));
}

#[test]
fn a_server_that_ignores_the_page_number_answers_page_one_for_ever() {
    let rows = rows(30);
    let dialect = Dialect { ignores_page_number: true, ..Dialect::default() };
    assert_eq!(ids(&rows, &Query { page: 7, ..all() }, &dialect), ids(&rows, &all(), &dialect));
}

#[test]
fn the_order_is_asked_for_only_where_it_is_honoured() {
    let rows = rows(5);
    let ascending = Query { descending: false, ..all() };
    assert_eq!(ids(&rows, &ascending, &Dialect::default())[0], 4);
    assert_eq!(ids(&rows, &ascending, &Dialect { honours_sort: true, ..Dialect::default() })[0], 0);
    let mut arbitrary = ids(&rows, &all(), &Dialect { order: Order::Arbitrary, ..Dialect::default() });
    arbitrary.sort_unstable();
    assert_eq!(arbitrary, [0, 1, 2, 3, 4]);
}

/// Whatever the dialect: with pages that can be turned, no depth and no shuffling, one walk shows
/// every listed row exactly once.
#[test]
fn any_dialect_shows_every_row_once_in_a_quiet_walk() {
    let mut rng = StdRng::seed_from_u64(5);
    for _ in 0..2_000 {
        let mut dialect = Dialect::random(&mut rng);
        (dialect.ignores_page_number, dialect.shuffles_ties, dialect.depth_limit) = (false, false, None);
        let mut rows = rows(70);
        rows.sort_by_key(|row| dialect.axis.of(row));
        let size = dialect.max_page_size.min(7);
        let mut seen: Vec<_> = (1..=70_u64.div_ceil(size) + 1)
            .flat_map(|page| ids(&rows, &Query { from: -1, to: NOW + 1, size, page, ..all() }, &dialect))
            .collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..70).collect::<Vec<_>>(), "{dialect:?}");
    }
}
