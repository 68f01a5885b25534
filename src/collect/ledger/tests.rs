use bytes::Bytes;
use uuid::Uuid;

use super::*;
use crate::record::enrichment::{Computer, Known, LastUser, Sighting};
use crate::store::streams::StreamKey;

mod month;
mod rated;

/// Two narrowings of one source, which may both list a row.
async fn two() -> [StreamLedger; 2] {
    open([("acme", "action=2"), ("acme", "action=3")]).await
}

/// Streams by their site and what narrows them.
async fn open(streams: [(&'static str, &'static str); 2]) -> [StreamLedger; 2] {
    let store = Store::open_in_memory(Clock::system()).unwrap();
    [stream(&store, streams[0]).await, stream(&store, streams[1]).await]
}

/// A stream by its site and what narrows it.
async fn stream(store: &Store, (site, fingerprint): (&'static str, &'static str)) -> StreamLedger {
    let open = move |db: &WriterDb| {
        let connection = connections::register(db, site)?;
        let (source, scope) = ("unified_audit", "tree");
        let stream = streams::open(db, &StreamKey { connection: connection.id, source, scope, fingerprint })?;
        Ok((connection, stream))
    };
    let (connection, stream) = store.write(open).await.unwrap();
    StreamLedger {
        store: store.clone(),
        clock: Clock::system(),
        connection: connection.id,
        epoch: connection.epoch,
        source: "unified_audit",
        kind: Kind::Event,
        stream: stream.id,
        set: stream.set,
        organization: None,
        packing: Packing::default(),
        also: None,
    }
}

fn row(number: u128, (enter, owed): (bool, bool)) -> RowCommit {
    RowCommit {
        uid: Uuid::from_u128(number),
        organization: OrganizationId::new("own"),
        organization_name: None,
        vendor_id: None,
        time: Some(1_000 * SECOND),
        at: 1_000 * SECOND,
        other: Some(2_000 * SECOND),
        enter,
        owed,
        sighting: None,
        also: None,
        body: Bytes::from_static(b"{}"),
    }
}

const WITHHELD: (bool, bool) = (false, false);
const NEW: (bool, bool) = (true, false);
const OWED: (bool, bool) = (true, true);

async fn entered(ledger: &StreamLedger, rows: impl IntoIterator<Item = RowCommit>) -> u64 {
    ledger.commit(Commit { rows: rows.into_iter().collect(), ..Commit::default() }).await.unwrap()
}

#[tokio::test]
async fn a_withheld_row_enters_once_when_its_time_is_owed_and_not_before() {
    let [ledger, _] = two().await;
    assert_eq!(entered(&ledger, [row(1, WITHHELD)]).await, 0);
    assert_eq!(entered(&ledger, [row(1, NEW), row(1, WITHHELD)]).await, 0, "seen, and not owed");
    assert_eq!(entered(&ledger, [row(1, OWED), row(1, OWED), row(2, OWED)]).await, 2);
    assert_eq!(entered(&ledger, [row(1, OWED), row(2, OWED), row(1, WITHHELD)]).await, 0);
    assert_eq!(entered(&ledger, [row(1, OWED)]).await, 0, "it is not withheld again");
}

#[tokio::test]
async fn a_row_that_two_narrowings_withhold_enters_with_the_first_that_owes_it() {
    let [first, second] = two().await;
    assert_eq!(entered(&first, [row(1, WITHHELD)]).await + entered(&second, [row(1, WITHHELD)]).await, 0);
    assert_eq!(entered(&second, [row(1, OWED)]).await, 1);
    assert_eq!(entered(&first, [row(1, OWED)]).await, 0);
    assert_eq!(entered(&first, [row(2, WITHHELD)]).await, 0);
    assert_eq!(entered(&second, [row(2, NEW)]).await, 1, "new here, and nowhere delivered");
    assert_eq!(entered(&first, [row(2, OWED)]).await, 0);
}

#[tokio::test]
async fn what_a_retired_site_delivered_enters_at_no_other_young_or_packed() {
    for packed in [false, true] {
        let [first, second] = open([("acme", ""), ("other", "")]).await;
        // Before, so that the short keys of the two differ.
        let own = OrganizationId::new("own");
        let store = first.store.clone();
        let key = |connection: ConnectionId, id: OrganizationId| {
            store.write(move |db| connections::organization(db, connection, &id, None, 1))
        };
        key(second.connection, OrganizationId::new("another")).await.unwrap();
        assert_eq!(entered(&first, [row(1, NEW)]).await, 1);
        let keys = [key(first.connection, own.clone()).await, key(second.connection, own).await];
        assert_ne!(keys[0].as_ref().unwrap(), keys[1].as_ref().unwrap());
        let set = first.set;
        if packed {
            let pack = move |db: &WriterDb| seen::pack(db, set, 3_000 * SECOND);
            assert_eq!(first.store.write(pack).await.unwrap(), 1);
        }
        first.store.write(|db| connections::retire_all_but(db, &["other"])).await.unwrap();
        assert_eq!(entered(&second, [row(1, NEW), row(2, NEW)]).await, 1, "packed: {packed}");
    }
}

#[tokio::test]
async fn of_two_sites_whichever_sees_a_row_first_enters_it_and_taking_one_out_and_back_changes_nothing() {
    let [first, second] = open([("acme", ""), ("other", "")]).await;
    assert_eq!(entered(&first, [row(1, NEW)]).await, 1);
    assert_eq!(
        entered(&second, [row(1, NEW), row(2, NEW)]).await,
        1,
        "the first may never see the other one"
    );
    assert_eq!(entered(&first, [row(1, NEW), row(2, NEW), row(3, WITHHELD)]).await, 0);
    assert_eq!(entered(&second, [row(3, NEW)]).await, 1, "what one withholds, the other may owe");
    for left in ["other", "acme"] {
        let left = move |db: &WriterDb| {
            connections::retire_all_but(db, &[left])?;
            connections::register(db, "acme")?;
            connections::register(db, "other").map(drop)
        };
        first.store.write(left).await.unwrap();
        for ledger in [&first, &second] {
            assert_eq!(entered(ledger, [row(1, OWED), row(2, OWED), row(3, OWED)]).await, 0);
        }
    }
}

#[tokio::test]
async fn what_lies_before_the_retention_is_withheld_no_longer() {
    let [ledger, _] = two().await;
    assert_eq!(entered(&ledger, [row(1, WITHHELD)]).await, 0);
    let holds = || {
        let set = ledger.set;
        ledger.store.read(move |db| withheld::holds(db, set, Uuid::from_u128(1)))
    };
    ledger.prune(1_500 * SECOND, false).await.unwrap();
    assert!(holds().await.unwrap(), "one of its times is young enough");
    ledger.prune(2_500 * SECOND, false).await.unwrap();
    assert!(!holds().await.unwrap());
}

/// A row of a time with a person or without.
fn of_user(number: u128, seconds: Seconds, user: Option<&str>) -> RowCommit {
    let (computer, user) = (Computer::Id("pc".to_owned()), user.map(str::to_owned));
    let sighting = Some(Arc::new(Sighting { computer, user, facts: None }));
    RowCommit { time: Some(seconds * SECOND), at: seconds * SECOND, sighting, ..row(number, NEW) }
}

/// The users that a stream's entries carry, in order of their numbers, and since when.
async fn users(ledger: &StreamLedger, lane: Lane) -> Vec<Option<(String, Seconds)>> {
    let connection = ledger.connection;
    let read = move |db: &Connection| {
        let mut users = Vec::new();
        for chunk in outbox::read_after(db, connection, lane, 0, usize::MAX)? {
            let (entries, known) = chunk.entries_and_known::<Known<'_>>().unwrap();
            let user = |user: LastUser<'_>| (user.name.to_owned(), user.time.unwrap() / SECOND);
            users.extend((0..entries.len()).map(|place| known.of(place).user.map(user)));
        }
        Ok(users)
    };
    ledger.store.read(read).await.unwrap()
}

#[tokio::test]
async fn a_backfilled_row_has_the_user_of_its_time_and_none_of_later_times() {
    let [ledger, _] = two().await;
    let commit = async |lane, rows: Vec<RowCommit>| {
        let commit = Commit { lane: Some(lane), rows, collected: 9_000 * SECOND, ..Commit::default() };
        ledger.commit(commit).await.unwrap();
    };
    commit(Lane::Live, vec![of_user(1, 2_000, Some("a")), of_user(2, 5_000, Some("b"))]).await;
    commit(Lane::Backfill, vec![of_user(3, 1_999, None), of_user(4, 4_999, None), of_user(5, 5_000, None)])
        .await;
    let user = |name: &str, since| Some((name.to_owned(), since));
    assert_eq!(users(&ledger, Lane::Backfill).await, [None, user("a", 2_000), user("b", 5_000)]);
    assert_eq!(users(&ledger, Lane::Live).await, [user("a", 2_000), user("b", 5_000)]);
}

#[tokio::test]
async fn a_clock_that_is_ahead_names_no_last_user_for_years() {
    let [ledger, _] = two().await;
    let page = |collected: Seconds, row| Commit {
        lane: Some(Lane::Live),
        rows: vec![row],
        collected: collected * SECOND,
        ..Commit::default()
    };
    ledger.commit(page(3_000, of_user(1, 900_000_000, Some("a")))).await.unwrap();
    ledger.commit(page(4_000, of_user(2, 4_000, Some("b")))).await.unwrap();
    ledger.commit(page(5_000, of_user(3, 900_000_000, None))).await.unwrap();
    let user = |name: &str, since| Some((name.to_owned(), since));
    assert_eq!(users(&ledger, Lane::Live).await, [user("a", 3_000), user("b", 4_000), user("b", 4_000)]);
}

#[tokio::test]
async fn the_user_of_a_row_without_a_time_is_the_last_one_from_when_it_was_collected() {
    let [ledger, _] = two().await;
    let page = |rows: Vec<RowCommit>| Commit {
        lane: Some(Lane::Live),
        rows,
        collected: 3_000 * SECOND,
        ..Commit::default()
    };
    let timeless = RowCommit { time: None, ..of_user(1, 1_000, Some("a")) };
    ledger.commit(page(vec![timeless])).await.unwrap();
    ledger.commit(page(vec![of_user(2, 2_999, None), of_user(3, 3_000, None)])).await.unwrap();
    let a = Some(("a".to_owned(), 3_000));
    assert_eq!(users(&ledger, Lane::Live).await, [a.clone(), None, a]);
}

const DAY: Seconds = 86_400;

#[tokio::test]
async fn over_months_the_state_stays_as_large_as_its_retention_makes_it() {
    let [ledger, _] = two().await;
    let mut largest = [0, 0];
    for day in 0..100 {
        for page in 0..4 {
            let collected = (day * 4 + page + 1) * DAY / 4 * SECOND;
            let rows = (0..120).map(|place| {
                let at = collected - DAY / 4 * SECOND + place * 180 * SECOND;
                let uid = Uuid::new_v5(&Uuid::NAMESPACE_OID, &at.to_be_bytes());
                RowCommit { uid, at, other: Some(at + 20 * SECOND), ..row(1, NEW) }
            });
            let commit = Commit { rows: rows.collect(), collected, ..Commit::default() };
            assert_eq!(ledger.commit(commit).await.unwrap(), 120);
        }
        ledger.prune((day - 30) * DAY * SECOND, false).await.unwrap();
        let (young, pages): (i64, i64) = ledger
            .store
            .write(|db| {
                db.execute("DELETE FROM outbox", [])?;
                let pages = |name: &str| db.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
                let young = db.query_row("SELECT count(*) FROM seen", [], |row| row.get(0))?;
                Ok((young, pages("page_count")? - pages("freelist_count")?))
            })
            .await
            .unwrap();
        assert!(young <= 480 + 20, "day {day}: {young} rows are not packed");
        let largest = &mut largest[usize::from(day >= 40)];
        *largest = pages.max(*largest);
    }
    let [before, after] = largest;
    assert!(after <= before + before / 20, "{before} pages after 40 days, {after} after 100");
    let (set, to) = (ledger.set, 100 * DAY * SECOND);
    let held = ledger.store.read(move |db| seen::held(db, set, None, 0, to)).await.unwrap();
    assert_eq!(held, 31 * 480);
}
