use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::walk::{Next, RowId, Walk, Why};
use super::*;

fn interval(from: Seconds, to: Seconds, state: State) -> Interval {
    Interval { from, to, state, listed: Some(1), held: 1, checked: 0, reason: None }
}

proptest! {
    /// Whatever is said and forgotten, intervals never overlap and each second says what was said last.
    #[test]
    fn coverage_agrees_with_a_plain_list_of_seconds(
        steps in prop::collection::vec((0i64..200, 1i64..60, 0usize..4), 1..40)
    ) {
        let mut coverage = Coverage::default();
        let mut plain = vec![None; 300];
        for (from, length, what) in steps {
            let to = from + length;
            let state = [None, Some(State::Proven), Some(State::EmptyUnconfirmed), Some(State::Unreachable)][what];
            match state {
                None => coverage.forget(from, to),
                Some(state) => coverage.set(interval(from, to, state)),
            }
            for second in from..to {
                plain[usize::try_from(second).unwrap()] = state;
            }
        }
        let mut end = Seconds::MIN;
        for interval in coverage.intervals() {
            prop_assert!(interval.from >= end && interval.from < interval.to);
            end = interval.to;
        }
        for (second, state) in (0..).zip(&plain) {
            let found = coverage.within(second, second + 1).next().map(|interval| interval.state);
            prop_assert_eq!(found, *state, "second {}", second);
        }
        for (from, to) in coverage.gaps(0, 300) {
            for second in from..to {
                prop_assert!(plain[usize::try_from(second).unwrap()].is_none());
            }
        }
    }

    /// What is stored after each change gives the same coverage when loaded.
    #[test]
    fn the_changed_range_holds_all_that_changed(
        steps in prop::collection::vec((0i64..200, 1i64..60, any::<bool>()), 1..30)
    ) {
        let mut coverage = Coverage::default();
        let mut stored: Vec<Interval> = Vec::new();
        for (from, length, set) in steps {
            if set {
                coverage.set(interval(from, from + length, State::Proven));
            } else {
                coverage.forget(from, from + length);
            }
            if let Some(((from, to), now)) = coverage.take_changed() {
                stored.retain(|old| old.to <= from || old.from >= to);
                stored.extend(now);
            }
        }
        stored.sort_by_key(|interval| interval.from);
        let now: Vec<Interval> = coverage.intervals().cloned().collect();
        prop_assert_eq!(stored, now);
    }
}

#[test]
fn neighbours_are_told_as_one_within_a_day() {
    let mut coverage = Coverage::default();
    coverage.set(interval(0, 100, State::Proven));
    coverage.set(interval(100, 200, State::Proven));
    coverage.set(interval(86_300, 86_400, State::Proven));
    coverage.set(interval(86_400, 86_500, State::Proven));
    let told: Vec<_> = coverage.intervals().map(|one| (one.from, one.to, one.held)).collect();
    assert_eq!(told, [(0, 200, 2), (86_300, 86_400, 1), (86_400, 86_500, 1)]);
    assert_eq!(coverage.proven_until(0), 200);
}

fn ids(range: std::ops::Range<u128>) -> Vec<RowId> {
    range.map(RowId::Vendor).collect()
}

#[test]
fn a_walk_closes_when_the_distinct_rows_equal_the_total() {
    let mut walk = Walk::new(10, 10_000);
    assert_eq!(walk.page(&ids(0..10), Some(15)), Next::Page(2));
    assert_eq!(walk.page(&ids(10..15), Some(15)), Next::Closed);
    assert_eq!(walk.held(), 15);
}

#[test]
fn rows_seen_before_the_total_changed_do_not_count() {
    let mut walk = Walk::new(10, 10_000);
    assert_eq!(walk.page(&ids(0..10), Some(15)), Next::Page(2));
    assert_eq!(walk.page(&ids(10..16), Some(16)), Next::Page(1));
    assert_eq!(walk.page(&ids(0..10), Some(16)), Next::Closed);
}

#[test]
fn a_total_that_changes_three_times_asks_for_a_smaller_interval() {
    let mut walk = Walk::new(2, 10_000);
    assert_eq!(walk.page(&ids(0..2), Some(10)), Next::Page(2));
    assert_eq!(walk.page(&ids(2..4), Some(11)), Next::Page(3));
    assert_eq!(walk.page(&ids(4..6), Some(12)), Next::Page(4));
    assert!(matches!(walk.page(&ids(6..8), Some(13)), Next::Smaller { .. }));
}

#[test]
fn a_total_at_the_depth_limit_is_taken_apart_by_what_it_says() {
    assert!(matches!(
        Walk::new(500, 10_000).page(&ids(0..500), Some(10_000)),
        Next::Smaller { parts: 2, .. }
    ));
    assert!(matches!(
        Walk::new(500, 10_000).page(&ids(0..500), Some(60_000)),
        Next::Smaller { parts: 9, .. }
    ));
}

#[test]
fn without_totals_two_equal_passes_close() {
    let mut walk = Walk::new(10, 10_000);
    assert_eq!(walk.page(&ids(0..5), None), Next::Page(2));
    assert_eq!(walk.page(&[], None), Next::Page(1));
    assert_eq!(walk.page(&ids(0..6), None), Next::Page(2));
    assert_eq!(walk.page(&[], None), Next::Page(1));
    assert_eq!(walk.page(&ids(0..6), None), Next::Page(2));
    assert_eq!(walk.page(&[], None), Next::Closed);
}

#[test]
fn a_total_that_counts_too_much_stays_unproven() {
    let mut walk = Walk::new(10, 10_000);
    let mut next = walk.page(&ids(0..5), Some(7));
    let mut requests = 1;
    while let Next::Page(page) = next {
        next = walk.page(&if page == 1 { ids(0..5) } else { Vec::new() }, Some(7));
        requests += 1;
        assert!(requests < 10);
    }
    assert!(matches!(next, Next::Unproven));
}

#[test]
fn equal_rows_without_id_are_counted_on_one_page() {
    let copy = RowId::Content([7; 16]);
    let mut walk = Walk::new(10, 10_000);
    assert_eq!(walk.page(&[copy, RowId::Vendor(1), copy], Some(3)), Next::Closed);
    assert_eq!(walk.copies().get(&[7; 16]), Some(&2));
}

#[test]
fn equal_rows_on_both_sides_of_the_end_of_a_page_are_asked_with_other_ends() {
    let copy = RowId::Content([7; 16]);
    let mut walk = Walk::new(3, 10_000);
    assert_eq!(walk.page(&[RowId::Vendor(1), RowId::Vendor(2), copy], Some(4)), Next::Page(2));
    assert_eq!(walk.page(&[copy], Some(4)), Next::Page(1), "one row twice, or two?");
    assert_eq!(walk.size(), 2);
    assert_eq!(walk.page(&[RowId::Vendor(1), RowId::Vendor(2)], Some(4)), Next::Page(2));
    assert_eq!(walk.page(&[copy, copy], Some(4)), Next::Page(3));
    assert_eq!(walk.page(&[], Some(4)), Next::Closed);
    assert_eq!(walk.copies().get(&[7; 16]), Some(&2));
}

/// Walks a listing of a few rows of one moment; `shuffles`: in another order at each request.
fn walk_ties(rows: &[RowId], size: u32, total: Option<u64>, shuffles: bool, seed: u64) -> (Next, Walk) {
    let mut dice = StdRng::seed_from_u64(seed);
    let (mut walk, mut page) = (Walk::new(size, 10_000), 1);
    loop {
        let mut listed = rows.to_vec();
        if shuffles {
            listed.shuffle(&mut dice);
        }
        let size = walk.size() as usize;
        let shown: Vec<RowId> = listed.into_iter().skip((page - 1) * size).take(size).collect();
        match walk.page(&shown, total) {
            Next::Page(next) => page = next as usize,
            end => return (end, walk),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 5_000, ..ProptestConfig::default() })]

    #[test]
    fn equal_rows_are_never_counted_twice_and_all_found_where_their_order_holds(
        copies in prop::collection::vec(1u32..5, 1..4),
        vendor in 0u128..6,
        size in 2u32..8,
        totals: bool,
        shuffles: bool,
        seed: u64,
    ) {
        let mut rows: Vec<RowId> = (0..vendor).map(RowId::Vendor).collect();
        for (content, copies) in (0u8..).zip(&copies) {
            rows.extend((0..*copies).map(|_| RowId::Content([content; 16])));
        }
        rows.shuffle(&mut StdRng::seed_from_u64(seed));
        let (end, walk) = walk_ties(&rows, size, totals.then_some(rows.len() as u64), shuffles, seed);
        for (content, copies) in (0u8..).zip(&copies) {
            let counted = walk.copies().get(&[content; 16]).copied().unwrap_or(0);
            prop_assert!(counted <= *copies, "{counted} of {copies}");
            prop_assert!(counted == *copies || end != Next::Closed, "closed with {counted} of {copies}");
        }
        let given_up = matches!(end, Next::Unproven | Next::Smaller { why: Why::NeverStill, .. });
        prop_assert!(shuffles || !given_up, "{end:?} where nothing moves");
    }
}

#[test]
fn a_total_below_what_one_state_of_the_listing_shows_proves_nothing_of_equal_rows() {
    let copy = RowId::Content([7; 16]);
    let rows = [RowId::Vendor(1), RowId::Vendor(2), copy, copy];
    let (end, walk) = walk_ties(&rows, 3, Some(3), false, 0);
    assert_ne!(end, Next::Closed, "capped at three");
    assert_eq!(walk.copies().get(&[7; 16]), Some(&2));
}

#[test]
fn a_total_that_ends_with_a_full_page_is_checked_for_being_a_cap() {
    let mut walk = Walk::new(10, 10_000);
    assert_eq!(walk.page(&ids(0..10), Some(10)), Next::Page(2));
    assert_eq!(walk.page(&[], Some(10)), Next::Closed);
    let mut capped = Walk::new(10, 10_000);
    assert_eq!(capped.page(&ids(0..10), Some(10)), Next::Page(2));
    assert!(matches!(capped.page(&ids(10..20), Some(10)), Next::Smaller { .. }));
}

/// What a walk makes of a portal that turns no pages and counts nothing: always the same rows, of which it lists no
/// more than `clamp` on a page.
fn walk_without_pages(listed: u64, clamp: usize, size: u32, fullest: u64) -> (Next, usize) {
    let rows: Vec<RowId> = (0..u128::from(listed)).map(RowId::Vendor).collect();
    let page = &rows[..rows.len().min(clamp).min(size as usize)];
    let mut walk = Walk::new(size, 10_000).knowing(fullest);
    for asked in 1.. {
        match walk.page(page, None) {
            Next::Page(_) => assert!(asked < 100, "it asks for ever"),
            end => return (end, asked),
        }
    }
    unreachable!("it ends or fails")
}

#[test]
fn without_totals_a_page_again_that_was_not_full_ends_a_listing_and_a_clamped_one_does_not() {
    let smaller = Next::Smaller { parts: 2, why: Why::PageRepeats };
    assert_eq!(walk_without_pages(20, 100, 50, 50), (Next::Closed, 4), "two passes of two pages");
    assert_eq!(walk_without_pages(20, 100, 50, 21), (Next::Closed, 4));
    assert_eq!(
        walk_without_pages(20, 100, 20, 50),
        (smaller.clone(), 2),
        "as many as asked: there may be more"
    );
    assert_eq!(
        walk_without_pages(60, 20, 50, 20),
        (smaller.clone(), 2),
        "as many as ever: it may be clamped"
    );
    assert_eq!(walk_without_pages(60, 20, 50, 0), (smaller, 2), "nothing is known of its pages");
}

#[test]
fn a_last_page_again_ends_a_listing_that_turns_its_pages() {
    let rows: Vec<RowId> = (0..25).map(RowId::Vendor).collect();
    let mut walk = Walk::new(10, 10_000).knowing(10);
    for pass in 0..2 {
        assert_eq!(walk.page(&rows[..10], None), Next::Page(2));
        assert_eq!(walk.page(&rows[10..20], None), Next::Page(3));
        assert_eq!(walk.page(&rows[20..], None), Next::Page(4));
        // Ties come in another order each time.
        let again: Vec<RowId> = rows[20..].iter().rev().copied().collect();
        assert_eq!(walk.page(&again, None), if pass == 0 { Next::Page(1) } else { Next::Closed });
    }
    assert_eq!(walk.held(), 25);
}
