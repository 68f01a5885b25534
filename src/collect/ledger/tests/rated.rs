//! Rated rows of the audit and the rows of the query for threats: one finding of each, whichever comes first.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::coverage::Axis;

const THINGS: u128 = 6;
/// Where the query for threats begins.
const START: Seconds = 500;

/// The audit's ledger, with the one that rated rows are entered in, and the ledger of the query for threats.
struct Pair {
    audit: StreamLedger,
    threats: StreamLedger,
}

impl Pair {
    async fn open(store: &Store) -> Self {
        let open = async |source: &'static str| {
            let ledger = stream(store, ("acme", "table=1")).await;
            let connection = ledger.connection;
            let key = move |db: &WriterDb| {
                streams::open(db, &StreamKey { connection, source, scope: "tree", fingerprint: "table=1" })
            };
            let row = store.write(key).await.unwrap();
            StreamLedger { source, stream: row.id, set: row.set, ..ledger }
        };
        let threats = open("threats").await;
        let also = Some(Box::new(Also { ledger: threats.clone(), start: START }));
        Self { audit: StreamLedger { also, ..open("unified_audit").await }, threats }
    }
}

fn store() -> Store {
    Store::open_in_memory(Clock::system()).unwrap()
}

fn finding(thing: u128) -> Uuid {
    Uuid::from_u128(1_000 + thing)
}

/// As the audit lists it.
fn audited(thing: u128, rated: bool, (enter, owed): (bool, bool)) -> RowCommit {
    RowCommit { also: rated.then(|| finding(thing)), ..row(thing, (enter, owed)) }
}

/// As the query for threats lists it.
fn known(thing: u128, how: (bool, bool)) -> RowCommit {
    RowCommit { uid: finding(thing), ..row(thing, how) }
}

/// How many entries of each uid a source has, in all lanes.
async fn entries(ledger: &StreamLedger, source: &'static str) -> BTreeMap<Uuid, usize> {
    let connection = ledger.connection;
    let read = move |db: &Connection| {
        let mut counts = BTreeMap::new();
        for lane in [Lane::Live, Lane::Backfill] {
            for chunk in outbox::read_after(db, connection, lane, 0, usize::MAX)? {
                let uids = chunk.entries().unwrap().into_iter().map(|entry| entry.uid).collect::<Vec<_>>();
                for uid in uids.into_iter().filter(|_| chunk.source == source) {
                    *counts.entry(uid).or_default() += 1;
                }
            }
        }
        Ok(counts)
    };
    ledger.store.read(read).await.unwrap()
}

async fn held(ledger: &StreamLedger) -> u64 {
    ledger.held(0, 10_000 * SECOND).await.unwrap()
}

#[derive(Clone, Debug)]
enum Step {
    /// The audit lists these; `enter`: they are owed.
    Audit {
        things: Vec<u128>,
        enter: bool,
    },
    /// The query for threats lists these.
    Known {
        things: Vec<u128>,
        enter: bool,
    },
    /// These have a severity from now on.
    Rate(u128),
    /// A walk of the query for threats that listed only these.
    Gone(Vec<u128>),
    Pack,
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let things = || prop::collection::vec(1..=THINGS, 0..5);
    let step = prop_oneof![
        4 => (things(), prop::bool::weighted(0.8)).prop_map(|(things, enter)| Step::Audit { things, enter }),
        4 => (things(), prop::bool::weighted(0.8)).prop_map(|(things, enter)| Step::Known { things, enter }),
        2 => (1..=THINGS).prop_map(Step::Rate),
        1 => things().prop_map(Step::Gone),
        1 => Just(Step::Pack),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..30)
}

/// What must be, told plainly.
#[derive(Default)]
struct Plain {
    rated: BTreeSet<u128>,
    entered: BTreeSet<u128>,
    /// What the query for threats lists, as far as it was walked.
    listed: BTreeSet<u128>,
}

async fn play(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let store = store();
    let (mut pair, mut plain) = (Pair::open(&store).await, Plain::default());
    for step in &steps {
        match step {
            Step::Audit { things, enter } => {
                let rows =
                    things.iter().map(|thing| audited(*thing, plain.rated.contains(thing), (*enter, *enter)));
                entered(&pair.audit, rows).await;
                let rated = things.iter().filter(|thing| *enter && plain.rated.contains(thing));
                plain.entered.extend(rated);
            }
            Step::Known { things, enter } => {
                entered(&pair.threats, things.iter().map(|thing| known(*thing, (*enter, *enter)))).await;
                plain.listed.extend(things);
                plain.entered.extend(things.iter().filter(|_| *enter));
            }
            Step::Rate(thing) => drop(plain.rated.insert(*thing)),
            Step::Gone(things) => {
                let listed: RowIds = things.iter().map(|thing| finding(*thing).as_u128()).collect();
                pair.threats.gone(0, 10_000 * SECOND, listed).await.unwrap();
                plain.listed.retain(|thing| things.contains(thing));
            }
            Step::Pack => {
                let set = pair.threats.set;
                store.write(move |db| seen::pack(db, set, 8_000 * SECOND)).await.unwrap();
            }
            Step::Restart => pair = Pair::open(&store).await,
        }
        prop_assert_eq!(held(&pair.threats).await, plain.listed.len() as u64, "after {:?}", step);
        let found = entries(&pair.threats, "threats").await;
        let wanted = plain.entered.iter().map(|thing| (finding(*thing), 1)).collect();
        prop_assert_eq!(found, wanted, "after {:?}", step);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_threat_is_one_finding_whichever_query_finds_it_and_counts_only_where_its_own_does(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(play(steps))?;
    }
}

#[tokio::test]
async fn a_severity_that_comes_later_gives_its_finding_and_the_row_no_second_event() {
    let store = store();
    let pair = Pair::open(&store).await;
    assert_eq!(entered(&pair.audit, [audited(1, false, OWED)]).await, 1);
    assert_eq!(entries(&pair.audit, "threats").await.len(), 0);
    assert_eq!(entered(&pair.audit, [audited(1, true, OWED)]).await, 0);
    assert_eq!(entries(&pair.audit, "threats").await, [(finding(1), 1)].into());
    assert_eq!(entries(&pair.audit, "unified_audit").await.len(), 1);
}

#[tokio::test]
async fn findings_from_before_the_query_for_threats_begins_do_not_enter_until_asked_for() {
    let store = store();
    let pair = Pair::open(&store).await;
    let old = |thing| RowCommit {
        at: 100 * SECOND,
        other: Some(110 * SECOND),
        time: Some(100 * SECOND),
        ..audited(thing, true, OWED)
    };
    assert_eq!(entered(&pair.audit, [old(1)]).await, 1, "as an event it enters");
    let found = async || entries(&pair.audit, "threats").await.len();
    assert_eq!(found().await, 0);
    let begun = serde_json::to_string(&Notes { start: Some(105), ..Notes::default() }).unwrap();
    let stream = pair.threats.stream;
    store.write(move |db| streams::set_notes(db, stream, &begun)).await.unwrap();
    entered(&pair.audit, [old(1)]).await;
    assert_eq!(found().await, 1, "one of its times lies behind the start");
    let begun = serde_json::to_string(&Notes { start: Some(900), ..Notes::default() }).unwrap();
    store.write(move |db| streams::set_notes(db, stream, &begun)).await.unwrap();
    entered(&pair.audit, [old(2)]).await;
    assert_eq!(found().await, 1);
    assert!(store.write(move |db| backfill::ask(db, "acme", stream, (90, 900))).await.unwrap());
    entered(&pair.audit, [old(2)]).await;
    assert_eq!(found().await, 2, "an operator asks for that time");
}

#[tokio::test]
async fn a_rated_row_is_filed_by_the_time_by_which_the_query_for_threats_files() {
    let store = store();
    let pair = Pair::open(&store).await;
    let mut notes = Notes::default();
    notes.observed.axis = Axis::Imported;
    // The audit has learned that the portal files by the time of import, the other stream has not.
    let row = RowCommit { at: 2_000 * SECOND, other: Some(1_000 * SECOND), ..audited(1, true, OWED) };
    let commit = Commit { rows: vec![row], notes: Some(notes), ..Commit::default() };
    pair.audit.commit(commit).await.unwrap();
    entered(&pair.threats, [known(1, OWED)]).await;
    assert_eq!(pair.threats.held(999 * SECOND, 1_001 * SECOND).await.unwrap(), 1);
    assert_eq!(held(&pair.threats).await, 1);
}

#[tokio::test]
async fn a_finding_that_another_site_entered_enters_nowhere_else() {
    let store = store();
    let pair = Pair::open(&store).await;
    assert_eq!(entered(&pair.audit, [audited(1, true, OWED)]).await, 1);
    let other = stream(&store, ("other", "table=1")).await;
    let connection = other.connection;
    let key = move |db: &WriterDb| {
        streams::open(db, &StreamKey { connection, source: "threats", scope: "tree", fingerprint: "table=1" })
    };
    let opened = store.write(key).await.unwrap();
    let threats = StreamLedger { source: "threats", stream: opened.id, set: opened.set, ..other };
    assert_eq!(entered(&threats, [known(1, OWED), known(2, OWED)]).await, 1, "the other one it sees first");
}

#[tokio::test]
async fn what_a_sink_let_go_of_threats_is_collected_again_from_either_listing() {
    let store = store();
    let pair = Pair::open(&store).await;
    entered(&pair.audit, [audited(1, true, OWED)]).await;
    let (connection, streams) = (pair.audit.connection, [pair.audit.stream, pair.threats.stream]);
    let asked = store.write(move |db| {
        db.execute(
            "INSERT INTO sink (name, type, format, state, configured) VALUES ('slow', 'file', 'raw', x'', 1)",
            [],
        )?;
        db.execute(
            "INSERT INTO owed (sink, connection_id, source, uid, lane, number, time, collected)
             VALUES ('slow', ?1, 'threats', ?2, 0, 1, 1000000000, 1000000000)",
            rusqlite::params![connection, finding(1).as_bytes().as_slice()],
        )?;
        owed::ask(db, "slow")
    });
    assert_eq!(asked.await.unwrap(), owed::Asked::Streams(2));
    // The query for threats has walked that time again, and listed nothing.
    let [_, own] = streams;
    store
        .write(move |db| Ok(db.execute("DELETE FROM walk_again WHERE stream_id = ?1", [own])?))
        .await
        .unwrap();
    entered(&pair.audit, [audited(1, true, OWED)]).await;
    let chunks =
        store.read(move |db| refill::read_after(db, "slow", connection, 0, usize::MAX)).await.unwrap();
    assert_eq!(chunks.iter().map(|chunk| chunk.source.as_str()).collect::<Vec<_>>(), ["threats"]);
}
