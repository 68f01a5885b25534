use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::model::{Change, Entry, Positions};
use crate::record::enrichment::Enrichment;
use crate::store::WriterDb;
use crate::store::connections::register;
use crate::store::outbox::NewEntry;
use crate::store::tests::memory;
use crate::store::{backfill, replays, sinks};

/// Listed by interval; never listed as it was; and events that are compared with a list of today.
const AUDIT: &str = "unified_audit";
const DEVICES: &str = "computers";
const POLICIES: &str = "policies";

fn is_listed_again(source: &str) -> bool {
    source == AUDIT
}

/// What happens to a sink that keeps positions of its own.
#[derive(Clone, Debug)]
enum Step {
    /// So many rows of one source come at once, into a lane.
    Append(usize, &'static str, Lane),
    /// So many entries are delivered; whether the store hears of it.
    Deliver(usize, bool),
    /// The sink lets go of so many chunks.
    LetGo(usize),
    /// The portal lists every event again.
    ListAgain,
}

fn step() -> impl Strategy<Value = Step> {
    let lane = prop_oneof![Just(Lane::Live), Just(Lane::Backfill)];
    prop_oneof![
        3 => (1..6_usize, prop::sample::select(vec![AUDIT, DEVICES, POLICIES]), lane)
            .prop_map(|(count, source, lane)| Step::Append(count, source, lane)),
        3 => (1..9_usize, any::<bool>()).prop_map(|(count, heard)| Step::Deliver(count, heard)),
        2 => (1..4_usize).prop_map(Step::LetGo),
        1 => Just(Step::ListAgain),
    ]
}

/// A state with a sink, and what that sink has.
struct World {
    db: WriterDb,
    acme: ConnectionId,
    rows: u32,
    delivered: BTreeMap<Uuid, u32>,
    /// Of the sink.
    positions: Positions,
}

impl World {
    fn new() -> Self {
        let db = memory();
        let acme = register(&db, "acme").unwrap().id;
        sinks::configure(&db, &[("slow", "kafka", "raw")]).unwrap();
        Self { db, acme, rows: 0, delivered: BTreeMap::new(), positions: Positions::new() }
    }

    fn uid(row: u32) -> Uuid {
        Uuid::from_u128(u128::from(row))
    }

    fn append(&mut self, count: usize, source: &str, lane: Lane) {
        let kind = if source == DEVICES { Kind::Device } else { Kind::Event };
        let rows = self.rows + 1..=self.rows + u32::try_from(count).unwrap();
        self.rows = *rows.end();
        // As long as rows are.
        let texts: Vec<String> =
            rows.clone().map(|row| blake3::hash(&row.to_be_bytes()).to_hex().repeat(10)).collect();
        let entries: Vec<NewEntry<'_>> = rows
            .zip(&texts)
            .map(|(row, text)| NewEntry {
                uid: Self::uid(row),
                kind,
                change: Change::New,
                organization: "5d1",
                vendor_id: None,
                time: Some(i64::from(row)),
                row: text,
                previous: None,
                known: Enrichment::default(),
            })
            .collect();
        outbox::append(&self.db, self.acme, 1, lane, source, 1_000, 0, &entries).unwrap();
    }

    /// What the sink has counts, as at every recovery.
    fn recover(&self) {
        let ours = sinks::positions(&self.db, "slow").unwrap();
        let lost =
            ours.iter().find(|(lane, number)| self.positions.get(lane).is_none_or(|theirs| theirs < number));
        assert_eq!(lost, None, "the store never claims that the sink has more than it has");
        sinks::confirm(&self.db, "slow", &self.positions, b"").unwrap();
        sinks::recovered(&self.db, "slow").unwrap();
    }

    fn deliver(&mut self, count: usize, heard: bool) -> usize {
        self.recover();
        let mut left = count;
        let mut batch = Positions::new();
        for pending in outbox::pending(&self.db, "slow").unwrap() {
            let (connection, lane) = (pending.connection, pending.lane);
            let chunks = match lane {
                Lane::Refill => refill::read_after(&self.db, "slow", connection, pending.position, 1 << 20),
                _ => outbox::read_after(&self.db, connection, lane, pending.position, 1 << 20),
            };
            for entry in chunks.unwrap().iter().flat_map(|chunk| chunk.entries().unwrap()) {
                if left > 0 && entry.number > pending.position {
                    left -= 1;
                    *self.delivered.entry(entry.uid).or_default() += 1;
                    batch.insert((connection, lane), entry.number);
                }
            }
        }
        self.positions.extend(&batch);
        if heard {
            sinks::confirm(&self.db, "slow", &batch, b"").unwrap();
        }
        count - left
    }

    fn list_again(&self) {
        for row in 1..=self.rows {
            let (connection, source) = (self.acme, "unified_audit");
            if let Some(collected) = release(&self.db, "slow", connection, source, Self::uid(row)).unwrap() {
                let shared = Shared { sink: "slow", connection, source, collected, retried: None };
                let entry = Entry {
                    number: 0,
                    uid: Self::uid(row),
                    kind: Kind::Event,
                    change: Change::New,
                    organization: "5d1",
                    vendor_id: None,
                    time: None,
                    row: "{}",
                    previous: None,
                };
                refill::append(&self.db, &shared, &[(entry, Enrichment::default())]).unwrap();
            }
        }
    }

    fn count(&self, what: &str) -> i64 {
        self.db.query_row(what, [], |row| row.get(0)).unwrap()
    }
}

proptest! {
    #[test]
    fn whatever_a_sink_lets_go_and_however_it_fails_it_gets_everything_once(
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let mut world = World::new();
        for step in steps {
            match step {
                Step::Append(count, source, lane) => world.append(count, source, lane),
                Step::Deliver(count, heard) => drop(world.deliver(count, heard)),
                Step::LetGo(chunks) => {
                    for _ in 0..chunks {
                        let_go(&world.db, "slow", 0, 0, is_listed_again).unwrap();
                    }
                }
                Step::ListAgain => world.list_again(),
            }
            let total = world.count("SELECT ifnull(sum(entries), 0) FROM owed_total");
            prop_assert_eq!(total, world.count("SELECT count(*) FROM owed"));
        }
        world.recover();
        world.list_again();
        while world.deliver(7, true) > 0 {}
        let wanted: BTreeMap<Uuid, u32> = (1..=world.rows).map(|row| (World::uid(row), 1)).collect();
        prop_assert_eq!(&world.delivered, &wanted);
        prop_assert_eq!(world.count("SELECT count(*) FROM refill"), 0);
        let bytes = world.count("SELECT ifnull(sum(128 + length(body)), 0) FROM outbox");
        prop_assert_eq!(outbox::usage(&world.db).unwrap().stored_bytes, u64::try_from(bytes).unwrap());
        prop_assert_eq!(world.count("SELECT count(*) FROM owed_total"), 0);
    }
}

#[test]
fn what_a_sink_let_go_pins_nothing_and_makes_room() {
    let mut world = World::new();
    for _ in 0..20 {
        world.append(5, AUDIT, Lane::Live);
    }
    sinks::configure(&world.db, &[("slow", "kafka", "raw"), ("fast", "file", "raw")]).unwrap();
    let head = outbox::heads(&world.db).unwrap();
    sinks::confirm(&world.db, "fast", &head, b"").unwrap();
    let full = outbox::usage(&world.db).unwrap().stored_bytes;
    assert!(!stands_in_the_way(&world.db, "fast", full).unwrap(), "it is owed nothing");
    assert!(!stands_in_the_way(&world.db, "slow", 2 * full).unwrap(), "it is not far behind");
    assert!(stands_in_the_way(&world.db, "slow", full).unwrap());
    let limit = outbox::pending(&world.db, "slow").unwrap()[0].bytes;
    let mut gone = 0;
    while let entries @ 1.. = let_go(&world.db, "slow", limit, 0, is_listed_again).unwrap() {
        gone += entries;
    }
    assert_eq!(gone, 50, "the older half");
    assert!(!stands_in_the_way(&world.db, "slow", full).unwrap());
    outbox::prune(&world.db, 0, std::time::Duration::MAX, 0, 1_000).unwrap();
    assert_eq!(world.count("SELECT min(first) FROM outbox"), 51, "what it is still owed stays");
    let totals = totals(&world.db).unwrap();
    assert_eq!((totals["slow"][0].entries, totals["slow"][0].asked), (50, false));
}

#[test]
fn what_is_collected_for_one_sink_neither_goes_to_nor_waits_for_another_that_nobody_asked_for() {
    let mut world = World::new();
    world.append(5, AUDIT, Lane::Live);
    sinks::configure(&world.db, &[("slow", "kafka", "raw"), ("dead", "http", "raw")]).unwrap();
    for sink in ["slow", "dead"] {
        while let_go(&world.db, sink, 0, 0, is_listed_again).unwrap() > 0 {}
        sinks::recovered(&world.db, sink).unwrap();
    }
    world
        .db
        .execute_batch("INSERT INTO seen_set VALUES (1, 1, 'unified_audit', ''); INSERT INTO stream VALUES (7, 1, 'unified_audit', 'tree', '', 1, '{}');")
        .unwrap();
    assert_eq!(asked(&world.db, world.acme, "unified_audit").unwrap(), [""; 0]);
    assert_eq!(ask(&world.db, "slow").unwrap(), Asked::Streams(1));
    assert_eq!(ask(&world.db, "slow").unwrap(), Asked::Streams(1), "asked twice it is asked");
    assert_eq!(asked(&world.db, world.acme, "unified_audit").unwrap(), ["slow"]);
    let wish = backfill::asked_again(&world.db, 7).unwrap();
    assert_eq!(wish.iter().map(|wish| wish.sink.as_str()).collect::<Vec<_>>(), ["slow"]);
    // However much waits for the other one.
    let big = vec![0; usize::try_from(MOST_WAITING).unwrap() + 1];
    world
        .db
        .execute(
            "INSERT INTO refill VALUES ('dead', 1, 1, 9, 'unified_audit', 0, 0, NULL, NULL, NULL, ?1)",
            [big],
        )
        .unwrap();
    assert!(is_backed_up(&world.db, "dead").unwrap() && !is_backed_up(&world.db, "slow").unwrap());
    backfill::walked_again(&world.db, 7, &wish[0], wish[0].from).unwrap();
    assert_eq!(asked(&world.db, world.acme, "unified_audit").unwrap(), [""; 0]);
    // One that is configured no more is not collected for.
    assert_eq!(ask(&world.db, "dead").unwrap(), Asked::Streams(1));
    sinks::configure(&world.db, &[("slow", "kafka", "raw")]).unwrap();
    assert_eq!(asked(&world.db, world.acme, "unified_audit").unwrap(), [""; 0]);
    assert_eq!(backfill::asked_again(&world.db, 7).unwrap(), []);
}

#[test]
fn what_a_sink_let_go_is_no_part_of_a_replay() {
    let mut world = World::new();
    world.append(3, AUDIT, Lane::Live);
    world.append(3, DEVICES, Lane::Live);
    world.append(3, AUDIT, Lane::Live);
    let (connection, lane) = (world.acme, Lane::Live);
    let wanted =
        replays::Wanted { sink: "slow".to_owned(), from: 0, to: 2_000, sources: Vec::new(), site: None };
    let planned = |world: &World| -> u64 {
        replays::plan(&world.db, &wanted).unwrap().iter().map(|stretch| stretch.entries).sum()
    };
    assert_eq!(planned(&world), 0, "it never had any");
    assert_eq!(
        (
            let_go(&world.db, "slow", 0, 0, is_listed_again).unwrap(),
            let_go(&world.db, "slow", 0, 0, is_listed_again).unwrap()
        ),
        (3, 3)
    );
    sinks::recovered(&world.db, "slow").unwrap();
    assert_eq!(planned(&world), 0, "it let them go");
    sinks::confirm(&world.db, "slow", &Positions::from([((connection, lane), 9)]), b"").unwrap();
    assert_eq!(planned(&world), 3);
    let stretches = replays::start(&world.db, &wanted).unwrap().unwrap();
    assert_eq!(stretches.len(), 1);
    assert_eq!(replays::start(&world.db, &wanted).unwrap(), None, "one at a time");
    let replay = replays::next(&world.db, "slow").unwrap().unwrap();
    let chunks = replays::read_after(&world.db, "slow", &replay, 0, 1 << 20).unwrap();
    assert_eq!(chunks.iter().map(|chunk| (chunk.first, chunk.last)).collect::<Vec<_>>(), [(7, 9)]);
    assert!(replays::give_up(&world.db, "slow").unwrap());
}

#[test]
fn a_letter_whose_batch_never_came_to_its_end_is_forgotten_by_a_retry_since_its_entry_still_comes() {
    let mut world = World::new();
    world.append(3, AUDIT, Lane::Live);
    let place = (world.acme, Lane::Live, 2);
    let plant = |world: &World| {
        let entry = dead_letters::entry(&world.db, "slow", place, true).unwrap();
        assert!(entry.is_some());
        let letter = NewDeadLetter {
            sink: Some("slow"),
            connection: world.acme,
            source: "unified_audit",
            organization_id: None,
            number: Some(2),
            uid: Some(World::uid(2)),
            vendor_id: None,
            reason: "no",
            stored: 0,
            body: b"",
            entry,
        };
        dead_letters::insert(&world.db, &letter).unwrap();
        dead_letters::numbers(&world.db, None, None).unwrap()[0]
    };
    let number = plant(&world);
    assert_eq!(dead_letters::retry(&world.db, number).unwrap(), Ok(()));
    assert_eq!(world.count("SELECT count(*) FROM refill"), 0, "it comes with its batch");
    let number = plant(&world);
    sinks::confirm(&world.db, "slow", &Positions::from([((world.acme, Lane::Live), 3)]), b"").unwrap();
    assert_eq!(dead_letters::retry(&world.db, number).unwrap(), Ok(()));
    assert_eq!(world.count("SELECT count(*) FROM refill"), 1);
    assert!(dead_letters::entry(&world.db, "slow", (world.acme, Lane::Backfill, 2), true).unwrap().is_none());
}

#[test]
fn with_no_sink_that_works_nothing_is_let_go() {
    let mut world = World::new();
    world.append(5, AUDIT, Lane::Live);
    sinks::configure(&world.db, &[("slow", "kafka", "raw"), ("dead", "file", "raw")]).unwrap();
    assert!(!stands_in_the_way(&world.db, "slow", 1).unwrap());
}
