//! What collecting costs in requests.

use super::memory::{BEGIN, DAY, Portal, Store, World, ready, row, settings};
use crate::collect::window::WindowStream;
use crate::model::{SECOND, Seconds};
use crate::simulator::answer::Row;
use crate::simulator::dialect::Dialect;

const PAGE: u64 = 500;

/// So many rows, evenly over `[from, to)` relative to the beginning.
fn evenly(count: u64, from: Seconds, to: Seconds) -> Vec<Row> {
    let step = (to - from) * SECOND / i64::try_from(count).unwrap();
    (0..count).map(|id| row(id, (BEGIN + from) * SECOND + i64::try_from(id).unwrap() * step)).collect()
}

fn stream(rows: Vec<Row>) -> (WindowStream<Portal, Store>, Portal, Store) {
    let (portal, store) = (Portal::new(World::new(rows, Dialect::default())), Store::default());
    (store.load(&settings(500), &portal), portal, store)
}

fn poll(stream: &mut WindowStream<Portal, Store>) {
    ready(stream.live()).unwrap();
    while ready(stream.background()).unwrap() {}
}

#[test]
fn an_idle_stream_asks_twice_a_poll_at_most_and_rechecks_three_hundred_times_a_day() {
    let (mut stream, portal, _) = stream(evenly(6_000, -20 * DAY, 0));
    for _ in 0..10 {
        portal.wait(60);
        poll(&mut stream);
    }
    for day in 0..3 {
        let mut rechecks = 0;
        for _ in 0..1_440 {
            portal.wait(60);
            let before = stream.requests;
            ready(stream.live()).unwrap();
            assert!(stream.requests - before <= 2, "a poll took {} requests", stream.requests - before);
            let before = stream.requests;
            while ready(stream.background()).unwrap() {}
            rechecks += stream.requests - before;
        }
        eprintln!("day {day}: {rechecks} requests of re-checks");
        assert!(rechecks <= 300, "{rechecks} requests of re-checks in a day");
    }
}

#[test]
fn collecting_costs_little_more_than_the_pages() {
    let mut burst = evenly(60_000, -7_200, -7_140);
    burst.extend(
        evenly(600, -DAY + 900, 0).into_iter().map(|one| Row { id: one.id.map(|id| id + 100_000), ..one }),
    );
    let shapes = [
        ("nothing", Vec::new()),
        ("a few", evenly(40, -DAY + 900, 0)),
        ("a page an hour", evenly(12_000, -DAY + 900, 0)),
        ("many", evenly(50_000, -DAY + 900, 0)),
        ("all in the last hour", evenly(30_000, -3_600, 0)),
        ("sixty thousand in a minute", burst),
    ];
    for (name, rows) in shapes {
        let count = rows.len() as u64;
        let (mut stream, portal, store) = stream(rows);
        portal.wait(600);
        poll(&mut stream);
        let bound = count.div_ceil(PAGE) * 13 / 10 + 30;
        eprintln!("{name}: {count} rows, {} requests, bound {bound}", stream.requests);
        assert_eq!(store.book().entries.len() as u64, count, "{name}");
        assert!(stream.requests <= bound, "{name}: {} requests, bound {bound}", stream.requests);
    }
}

#[test]
fn under_drift_collecting_costs_three_times_the_pages_at_most() {
    let mut rows = evenly(30_000, -DAY + 900, 0);
    // While the walk is on, a late row every two seconds and a deletion every five.
    for number in 0..600 {
        let place = usize::try_from(number * 47 % 30_000).unwrap();
        let id = 100_000 + u64::try_from(number).unwrap();
        let listed_from = (BEGIN + 600 + number * 2) * SECOND;
        rows.push(Row { id: Some(id), imported: listed_from, listed_from, ..rows[place] });
        rows[place].deleted_at = Some((BEGIN + 600 + number * 5) * SECOND);
    }
    let count = rows.len() as u64;
    let (mut stream, portal, store) = stream(rows);
    portal.world().tick = SECOND / 2;
    portal.wait(600);
    poll(&mut stream);
    let bound = count.div_ceil(PAGE) * 3 + 30;
    eprintln!("drift: {count} rows, {} requests, bound {bound}", stream.requests);
    assert!(stream.requests <= bound, "{} requests, bound {bound}", stream.requests);
    // The next daily scrub finds what came behind the walk's back.
    for _ in 0..30 {
        portal.wait(3_600);
        poll(&mut stream);
    }
    let (world, book) = (portal.world(), store.book());
    let missing = world.rows.iter().filter(|row| world.dialect.lists(row, world.now));
    let missing = missing.filter(|row| row.id.is_some_and(|id| !book.holds(u128::from(id) + 1)));
    assert_eq!(missing.count(), 0);
}
