use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::model::SECOND;
use crate::store::connections::register;
use crate::store::sinks::{configure, confirm};
use crate::store::tests::{clock, memory};
use crate::store::{Store, WriterDb};

pub(in crate::store) fn entry(number: u128, row: &str) -> NewEntry<'_> {
    NewEntry {
        uid: Uuid::from_u128(number),
        kind: Kind::Event,
        change: Change::New,
        organization: "abc",
        vendor_id: Some("v"),
        time: Some(5),
        row,
        previous: None,
        known: crate::record::enrichment::Enrichment::default(),
    }
}

/// Text that does not compress well, the same for the same seed.
fn noise(seed: u64, bytes: usize) -> String {
    let mut state = seed;
    let mut text = String::with_capacity(bytes);
    while text.len() < bytes {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.push_str(&format!("{:x}", state >> 16));
    }
    text.truncate(bytes);
    text
}

fn numbers(chunks: &[Chunk]) -> Vec<i64> {
    chunks.iter().flat_map(|chunk| chunk.entries().unwrap()).map(|entry| entry.number).collect()
}

#[test]
fn lanes_of_a_connection_share_one_counter_and_give_back_every_byte() {
    let db = memory();
    let (acme, other) = (register(&db, "acme").unwrap().id, register(&db, "other").unwrap().id);
    let row = "{\"a\": \"\\u0000 ü\"}";
    let full =
        NewEntry { previous: Some("{}"), kind: Kind::Device, change: Change::Changed, ..entry(1, row) };
    let append = |connection, lane, entries: &[NewEntry<'_>]| {
        append(&db, connection, 1, lane, "computers", 77, 88, entries).unwrap()
    };
    assert_eq!(append(acme, Lane::Live, &[full.clone(), entry(2, "{}")]), 1);
    assert_eq!(append(acme, Lane::Backfill, &[entry(3, "{}")]), 3);
    assert_eq!(append(other, Lane::Live, &[entry(4, "{}")]), 1);
    assert_eq!(append(acme, Lane::Live, &[entry(5, "{}")]), 4);
    let live = read_after(&db, acme, Lane::Live, 0, usize::MAX).unwrap();
    assert_eq!(numbers(&live), [1, 2, 4]);
    assert_eq!(
        (live[0].source.as_str(), live[0].collected, live[0].first, live[0].last),
        ("computers", 77, 1, 2)
    );
    assert_eq!(live[0].entries().unwrap()[0], full.numbered(1));
    assert_eq!(numbers(&read_after(&db, acme, Lane::Backfill, 0, usize::MAX).unwrap()), [3]);
    let expected = [((acme, Lane::Live), 4), ((acme, Lane::Backfill), 3), ((other, Lane::Live), 1)];
    assert_eq!(heads(&db).unwrap(), Positions::from(expected));
}

#[test]
fn nothing_appended_takes_no_number() {
    let db = memory();
    let acme = register(&db, "acme").unwrap().id;
    assert_eq!(append(&db, acme, 1, Lane::Live, "computers", 0, 0, &[]).unwrap(), 1);
    assert_eq!(append(&db, acme, 1, Lane::Live, "computers", 0, 0, &[entry(1, "{}")]).unwrap(), 1);
    assert_eq!(usage(&db).unwrap().chunks, 1);
}

#[test]
fn an_owner_of_an_older_epoch_is_fenced() {
    let db = memory();
    let acme = register(&db, "acme").unwrap().id;
    db.execute("UPDATE connection SET epoch = 2", []).unwrap();
    let error = append(&db, acme, 1, Lane::Live, "computers", 0, 0, &[entry(1, "{}")]).unwrap_err();
    assert!(matches!(error, StoreError::Fenced { epoch: 1, .. }), "{error}");
    assert_eq!((register(&db, "acme").unwrap().head, usage(&db).unwrap()), (0, OutboxUsage::default()));
}

#[test]
fn a_big_page_is_read_back_in_pieces_within_the_bound() {
    let db = memory();
    let acme = register(&db, "acme").unwrap().id;
    let rows: Vec<String> = (0..40).map(|seed| noise(seed, 100_000)).collect();
    let entries: Vec<_> = rows.iter().zip(0..).map(|(row, number)| entry(number, row)).collect();
    append(&db, acme, 1, Lane::Live, "unified_audit", 0, 0, &entries).unwrap();
    let (mut position, mut seen) = (0, Vec::new());
    while position < 40 {
        let chunks = read_after(&db, acme, Lane::Live, position, 2_500_000).unwrap();
        let bytes: usize = chunks.iter().map(|chunk| chunk.body.len()).sum();
        assert!(bytes <= 2_500_000 && chunks.len() == 2, "{} chunks, {bytes} bytes", chunks.len());
        seen.extend(numbers(&chunks));
        position = chunks.last().unwrap().last;
    }
    assert_eq!(seen, (1..=40).collect::<Vec<_>>());
    assert_eq!(read_after(&db, acme, Lane::Live, 0, 1).unwrap().len(), 1, "at least one");
    assert!(read_after(&db, acme, Lane::Live, 40, 1).unwrap().is_empty());
}

#[test]
fn a_damaged_chunk_is_told_and_never_delivered() {
    let db = memory();
    let acme = register(&db, "acme").unwrap().id;
    append(&db, acme, 1, Lane::Live, "computers", 0, 0, &[entry(1, &noise(1, 5000))]).unwrap();
    let body: Vec<u8> = db.query_row("SELECT body FROM outbox", [], |row| row.get(0)).unwrap();
    for damage in [body.len() / 2, body.len() - 1] {
        let mut damaged = body.clone();
        damaged[damage] ^= 1;
        db.execute("UPDATE outbox SET body = ?1", [damaged]).unwrap();
        let error = read_after(&db, acme, Lane::Live, 0, usize::MAX).unwrap_err();
        assert!(matches!(&error, StoreError::Damaged { .. }), "{error}");
    }
}

#[test]
fn the_backlog_is_looked_up_and_never_scanned() {
    let db = memory();
    let acme = register(&db, "acme").unwrap().id;
    configure(&db, &[("out", "file", "raw")]).unwrap();
    for number in 0..3 {
        append(&db, acme, 1, Lane::Live, "computers", 10 + number, 0, &[entry(1, &noise(1, 500))]).unwrap();
    }
    confirm(&db, "out", &Positions::from([((acme, Lane::Live), 1)]), b"").unwrap();
    let held: u64 =
        db.query_row("SELECT sum(length(body)) FROM outbox WHERE last > 1", [], |row| row.get(0)).unwrap();
    let expected = PendingLane {
        connection: acme,
        site: "acme".to_owned(),
        lane: Lane::Live,
        position: 1,
        last: 3,
        bytes: held,
        oldest: 11,
    };
    assert_eq!(pending(&db, "out").unwrap(), [expected]);
    let mut plan = db.prepare(&format!("EXPLAIN QUERY PLAN {PENDING}")).unwrap();
    let plan: Vec<String> = plan.query_map(["out"], |row| row.get(3)).unwrap().map(Result::unwrap).collect();
    let scans: Vec<_> = plan.iter().filter(|step| step.contains("SCAN")).collect();
    assert!(scans.iter().all(|step| !step.contains("SCAN o") && !step.contains("SCAN outbox")), "{plan:?}");
}

#[test]
fn without_sinks_nothing_is_deleted() {
    let db = memory();
    let acme = register(&db, "acme").unwrap().id;
    append(&db, acme, 1, Lane::Live, "computers", 0, 0, &[entry(1, "{}")]).unwrap();
    assert_eq!(prune(&db, Micros::MAX, Duration::ZERO, 0, 100).unwrap(), Pruned::default());
    configure(&db, &[("out", "file", "raw")]).unwrap();
    confirm(&db, "out", &Positions::from([((acme, Lane::Live), 1)]), b"").unwrap();
    configure(&db, &[]).unwrap();
    assert_eq!(prune(&db, Micros::MAX, Duration::ZERO, 0, 100).unwrap(), Pruned::default());
}

#[test]
fn a_sink_that_comes_back_is_told_what_it_missed() {
    let db = memory();
    let acme = register(&db, "acme").unwrap().id;
    let key = (acme, Lane::Live);
    configure(&db, &[("out", "file", "raw"), ("lake", "kafka", "raw")]).unwrap();
    for _ in 0..3 {
        append(&db, acme, 1, Lane::Live, "computers", 0, 0, &[entry(1, "{}")]).unwrap();
    }
    confirm(&db, "lake", &Positions::from([(key, 1)]), b"").unwrap();
    configure(&db, &[("out", "file", "raw")]).unwrap();
    confirm(&db, "out", &Positions::from([(key, 3)]), b"").unwrap();
    assert_eq!(prune(&db, 10, Duration::ZERO, u64::MAX, 2).unwrap().rows, 2);
    assert!(missed(&db, "out").unwrap().is_empty());
    let missed = missed(&db, "lake").unwrap();
    assert_eq!((missed.len(), missed[0].position, missed[0].pruned), (1, 1, 2));
}

/// What the store is compared with: plain lists.
#[derive(Default)]
struct Model {
    heads: BTreeMap<ConnectionId, i64>,
    /// (connection, lane, first, last, stored), in the order of appending.
    chunks: Vec<(ConnectionId, Lane, i64, i64, Micros)>,
    confirmed: BTreeMap<String, Positions>,
    configured: BTreeSet<String>,
    now: Micros,
}

impl Model {
    fn position(&self, sink: &str, connection: ConnectionId, lane: Lane) -> i64 {
        self.confirmed.get(sink).and_then(|all| all.get(&(connection, lane))).copied().unwrap_or(0)
    }

    fn is_confirmed(&self, connection: ConnectionId, lane: Lane, last: i64) -> bool {
        !self.configured.is_empty()
            && self.configured.iter().all(|sink| self.position(sink, connection, lane) >= last)
    }

    /// The numbers of a lane above a position that are still held.
    fn numbers(&self, connection: ConnectionId, lane: Lane, position: i64) -> Vec<i64> {
        let mine = self.chunks.iter().filter(|chunk| chunk.0 == connection && chunk.1 == lane);
        mine.filter(|chunk| chunk.3 > position).flat_map(|chunk| chunk.2..=chunk.3).collect()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Append { connection: usize, lane: bool, entries: usize, fails: bool },
    Confirm { sink: usize, connection: usize, lane: bool, share: f64 },
    Configure { sinks: [bool; 2] },
    Prune { keep: u64, limit: u64, batch: usize },
    Wait { seconds: i64 },
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..2_usize, any::<bool>(), 0..6_usize, prop::bool::weighted(0.1))
            .prop_map(|(connection, lane, entries, fails)| Step::Append { connection, lane, entries, fails }),
        4 => (0..2_usize, 0..2_usize, any::<bool>(), 0.0..=1.0)
            .prop_map(|(sink, connection, lane, share)| Step::Confirm { sink, connection, lane, share }),
        1 => any::<[bool; 2]>().prop_map(|sinks| Step::Configure { sinks }),
        3 => (0..20_u64, prop_oneof![Just(0), 0..6_000_u64, Just(u64::MAX)], 0..5_usize)
            .prop_map(|(keep, limit, batch)| Step::Prune { keep, limit, batch }),
        2 => (0..15_i64).prop_map(|seconds| Step::Wait { seconds }),
        1 => Just(Step::Reopen),
    ]
}

const SINKS: [&str; 2] = ["out", "lake"];

async fn set_sinks(store: &Store, model: &mut Model, wanted: [bool; 2]) {
    let names: Vec<&str> =
        SINKS.into_iter().zip(wanted).filter(|(_, wanted)| *wanted).map(|(name, _)| name).collect();
    model.configured = names.iter().map(|name| (*name).to_owned()).collect();
    let job = move |db: &WriterDb| {
        let sinks: Vec<_> = names.iter().map(|name| (*name, "file", "raw")).collect();
        configure(db, &sinks)
    };
    store.write(job).await.unwrap();
}

async fn run(steps: Vec<Step>) {
    let dir = TempDir::new().unwrap();
    let mut store = Store::open(dir.path(), clock()).unwrap();
    let mut model = Model::default();
    let connections = ["acme", "other"];
    let ids = store
        .write(move |db| {
            connections.iter().map(|site| Ok(register(db, site)?.id)).collect::<Result<Vec<_>, StoreError>>()
        })
        .await
        .unwrap();
    set_sinks(&store, &mut model, [true, true]).await;
    let lane_of = |backfill: bool| if backfill { Lane::Backfill } else { Lane::Live };
    for step in steps {
        match step {
            Step::Append { connection, lane, entries, fails } => {
                let (id, lane, now) = (ids[connection], lane_of(lane), model.now);
                let job = move |db: &WriterDb| {
                    let row = noise(entries as u64, 300);
                    let all: Vec<_> = (0..entries).map(|number| entry(number as u128, &row)).collect();
                    let first = append(db, id, 1, lane, "computers", now, now, &all)?;
                    if fails { Err(StoreError::Closed) } else { Ok(first) }
                };
                let first = store.write(job).await;
                if fails {
                    first.unwrap_err();
                } else {
                    let head = model.heads.entry(id).or_default();
                    assert_eq!(first.unwrap(), *head + 1);
                    let count = i64::try_from(entries).unwrap();
                    if count > 0 {
                        model.chunks.push((id, lane, *head + 1, *head + count, now));
                    }
                    *head += count;
                }
            }
            Step::Confirm { sink, connection, lane, share } => {
                let (id, lane) = (ids[connection], lane_of(lane));
                let head = model.heads.get(&id).copied().unwrap_or(0);
                #[expect(clippy::cast_possible_truncation, reason = "a share of a small number")]
                let number = (head as f64 * share) as i64;
                let positions = Positions::from([((id, lane), number)]);
                let sent = positions.clone();
                store.write(move |db| confirm(db, SINKS[sink], &sent, b"s")).await.unwrap();
                let known = model.confirmed.entry(SINKS[sink].to_owned()).or_default();
                let position = known.entry((id, lane)).or_default();
                *position = number.max(*position);
            }
            Step::Configure { sinks } => {
                // A sink that never was configured cannot confirm, so both are known from the start.
                set_sinks(&store, &mut model, sinks).await;
            }
            Step::Prune { keep, limit, batch } => {
                let (now, keep) = (model.now, Duration::from_secs(keep));
                let before = store.read(usage).await.unwrap().stored_bytes;
                let pruned = store.write(move |db| prune(db, now, keep, limit, batch)).await.unwrap();
                let cutoff = now - i64::try_from(keep.as_secs()).unwrap() * SECOND;
                let after = before - pruned.bytes;
                let (gone, kept): (Vec<_>, Vec<_>) = {
                    let mut left = pruned.rows;
                    let decide = |chunk: &(ConnectionId, Lane, i64, i64, Micros)| {
                        let goes = left > 0 && model.is_confirmed(chunk.0, chunk.1, chunk.3);
                        left -= u64::from(goes);
                        goes
                    };
                    model.chunks.iter().copied().partition(decide)
                };
                assert_eq!(gone.len() as u64, pruned.rows, "only what every sink has");
                assert!(gone.len() <= batch);
                if gone.len() < batch {
                    let left = kept.iter().find(|chunk| model.is_confirmed(chunk.0, chunk.1, chunk.3));
                    if let Some(left) = left {
                        assert!(left.4 > cutoff && after <= limit, "{left:?} should be gone");
                    }
                }
                model.chunks = kept;
            }
            Step::Wait { seconds } => model.now += seconds * SECOND,
            Step::Reopen => {
                store.close().await;
                store = Store::open(dir.path(), clock()).unwrap();
            }
        }
        compare(&store, &model, &ids).await;
    }
}

async fn compare(store: &Store, model: &Model, ids: &[ConnectionId]) {
    for &id in ids {
        for lane in Lane::ALL {
            for sink in SINKS {
                let position = model.position(sink, id, lane);
                let held =
                    store.read(move |db| read_after(db, id, lane, position, usize::MAX)).await.unwrap();
                let expected = model.numbers(id, lane, position);
                assert_eq!(numbers(&held), expected, "{sink} {lane:?}");
                let pending = store.read(move |db| pending(db, sink)).await.unwrap();
                let found = pending.iter().find(|pending| pending.connection == id && pending.lane == lane);
                assert_eq!(found.is_some(), !expected.is_empty());
                if let Some(found) = found {
                    let stored = move |db: &Connection| {
                        let sum = "SELECT sum(length(body)), min(collected) FROM outbox
                                   WHERE connection_id = ?1 AND lane = ?2 AND last > ?3";
                        Ok(db.query_row(sum, params![id, lane.code(), position], |row| {
                            Ok((row.get::<_, u64>(0)?, row.get::<_, Micros>(1)?))
                        })?)
                    };
                    let (bytes, oldest) = store.read(stored).await.unwrap();
                    assert_eq!((found.bytes, found.oldest, found.position), (bytes, oldest, position));
                    assert_eq!(Some(found.last), expected.last().copied());
                }
            }
        }
    }
    let counted = |db: &Connection| {
        let broken = db.prepare("PRAGMA foreign_key_check")?.exists([])?;
        assert!(!broken);
        let count = "SELECT ifnull(sum(128 + length(body)), 0), count(*), min(stored) FROM outbox";
        Ok(db.query_row(count, [], |row| {
            Ok(OutboxUsage { stored_bytes: row.get(0)?, chunks: row.get(1)?, oldest: row.get(2)? })
        })?)
    };
    assert_eq!(store.read(usage).await.unwrap(), store.read(counted).await.unwrap());
    assert_eq!(store.read(usage).await.unwrap().chunks, model.chunks.len() as u64);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_agrees_with_plain_lists(steps in prop::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(steps));
    }
}
