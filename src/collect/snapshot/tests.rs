mod takeover;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::collect::Listed;
use crate::model::{Change, Lane, SECOND, uid};
use crate::portal::{Failure, PortalError, PrivatePath};
use crate::record::enrichment::{Computer, Enrichment, Facts, Known, Sighting};
use crate::source::Private;
use crate::store::devices::Told;
use crate::store::streams::StreamKey;
use crate::store::{WriterDb, devices, outbox};

const HOUR: Micros = 3_600 * SECOND;

/// What a portal lists, as a test says.
#[derive(Default)]
struct Script {
    now: Micros,
    /// Organization, vendor id, mode.
    rows: Vec<(&'static str, String, &'static str)>,
    deleted: Vec<(&'static str, String)>,
    /// Counted beside the rows that are listed.
    uncounted: i64,
    /// Requests until one fails.
    fails_after: Option<u32>,
    asked: u32,
}

struct Played(Mutex<Script>);

impl Listing for &'static Played {
    fn now(&self) -> Micros {
        self.0.lock().unwrap().now
    }

    async fn list(&self, query: &Query) -> Result<Listed, CollectError> {
        let mut script = self.0.lock().unwrap();
        script.asked += 1;
        if script.fails_after == Some(0) {
            let failure = Failure::NoOrganization;
            let error = PortalError { site: "acme".to_owned(), endpoint: None, failure };
            return Err(CollectError::Portal(Box::new(error)));
        }
        script.fails_after = script.fails_after.map(|left| left - 1);
        let now = script.now;
        let living =
            script.rows.iter().map(|(organization, id, mode)| row(organization, id, mode, false, now));
        let deleted = script.deleted.iter().map(|(organization, id)| row(organization, id, "-", true, now));
        let mut rows: Vec<ListedRow> = living.collect();
        if query.deleted {
            rows.extend(deleted);
        }
        if let Scope::Organization(organization) = &query.scope {
            rows.retain(|row| row.organization == *organization);
        }
        let total = (rows.len() as u64).checked_add_signed(script.uncounted);
        let (page, size) = (query.page as usize - 1, query.size as usize);
        let rows = rows.into_iter().skip(page * size).take(size).collect();
        Ok(Listed { rows, total, ..Listed::default() })
    }
}

fn row(organization: &str, id: &str, mode: &str, deleted: bool, now: Micros) -> ListedRow {
    let facts = Facts { mode: Some(mode.to_owned()), ..Facts::default() };
    let sighting = Sighting {
        computer: Computer::Id(id.to_lowercase()),
        user: Some(format!("user of {}", mode.to_lowercase())).filter(|_| mode != "unused"),
        facts: Some(Box::new(facts)),
    };
    let body = json!({ "computerId": id, "mode": mode, "isDeleted": deleted, "lastCheckin": now });
    ListedRow {
        id: RowId::Vendor(uid(organization, "computers", id, "device", "0").as_u128()),
        organization: OrganizationId::new(organization),
        organization_name: None,
        vendor_id: Some(id.to_owned()),
        at: Some(now),
        imported: None,
        own: false,
        sighting: Some(Arc::new(sighting)),
        rated: false,
        shape: 0,
        body: Bytes::from(body.to_string()),
    }
}

/// An entry as a sink would see it.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    change: Change,
    organization: String,
    id: String,
    uid: Uuid,
    mode: Value,
    previous: Option<Value>,
    /// The device's mode and last user as known besides the row.
    known: Option<(String, String)>,
}

struct World {
    played: &'static Played,
    stream: SnapshotStream<&'static Played>,
    read: i64,
}

async fn connection(store: &Store, site: &'static str) -> ConnectionId {
    store.write(move |db| Ok(connections::register(db, site)?.id)).await.unwrap()
}

/// A stream of one connection, with its notes as stored.
async fn open(
    store: &Store,
    played: &'static Played,
    site: &'static str,
    scope: Scope,
) -> SnapshotStream<&'static Played> {
    let connection = connection(store, site).await;
    let name = scope.name().to_owned();
    let row = store
        .write(move |db| {
            let key = StreamKey { connection, source: "computers", scope: &name, fingerprint: "" };
            streams::open(db, &key)
        })
        .await
        .unwrap();
    let settings = SnapshotSettings {
        connection,
        epoch: 1,
        source: "computers",
        kind: Kind::Device,
        scope,
        filter: Filter::default(),
        takes_over: false,
        volatile: &["lastCheckin"],
        parts: None,
        page_size: 4,
        restate: Some(24 * HOUR),
        stream: row.id,
        set: row.set,
    };
    let notes = serde_json::from_str(&row.notes).unwrap_or_default();
    let clock = Clock::shifted(chrono::Duration::zero(), 1);
    SnapshotStream {
        settings,
        listing: played,
        store: store.clone(),
        clock,
        notes,
        requests: 0,
        memory: Memory::default(),
    }
}

fn tree() -> Scope {
    Scope::Tree(OrganizationId::new("own"))
}

impl World {
    async fn new() -> Self {
        let script = Script { now: 1_000_000 * HOUR, ..Script::default() };
        let played: &'static Played = Box::leak(Box::new(Played(Mutex::new(script))));
        let store = Store::open_in_memory(Clock::shifted(chrono::Duration::zero(), 1)).unwrap();
        Self { played, stream: open(&store, played, "acme", tree()).await, read: 0 }
    }

    /// A world of `count` computers in organization `a`, polled once.
    async fn with(count: usize) -> Self {
        let mut world = Self::new().await;
        world.script(|script| script.rows = (0..count).map(|n| ("a", format!("c{n}"), "Secure")).collect());
        assert_eq!(world.poll().await.len(), count);
        world
    }

    fn script(&self, change: impl FnOnce(&mut Script)) {
        let mut script = self.played.0.lock().unwrap();
        change(&mut script);
        script.now += 60 * SECOND;
    }

    /// The entries that a poll makes.
    async fn poll(&mut self) -> Vec<Seen> {
        let made = self.stream.poll().await.unwrap();
        let seen = self.entries().await;
        assert_eq!(made, seen.len() as u64, "the poll says what it made");
        seen
    }

    async fn entries(&mut self) -> Vec<Seen> {
        let (connection, after) = (self.stream.settings.connection, self.read);
        let read = move |db: &Connection| outbox::read_after(db, connection, Lane::Live, after, 1 << 30);
        let chunks = self.stream.store.read(read).await.unwrap();
        let mut seen = Vec::new();
        for chunk in &chunks {
            self.read = chunk.last;
            let (entries, known) = chunk.entries_and_known::<Known<'_>>().unwrap();
            seen.extend(entries.iter().zip(0..).map(|(entry, place)| seen_of(entry, known.of(place))));
        }
        seen
    }

    fn unknown(&self) -> Vec<(&str, u64)> {
        self.stream
            .notes
            .unknown
            .iter()
            .map(|(organization, count)| (organization.as_str(), *count))
            .collect()
    }
}

fn seen_of(entry: &crate::model::Entry<'_>, known: Enrichment<'_>) -> Seen {
    let mode = |row: &str| serde_json::from_str::<Value>(row).unwrap()["mode"].clone();
    Seen {
        change: entry.change,
        organization: entry.organization.to_owned(),
        id: entry.vendor_id.unwrap().to_owned(),
        uid: entry.uid,
        mode: mode(entry.row),
        previous: entry.previous.map(mode),
        known: known
            .device
            .zip(known.user)
            .map(|(device, user)| (device.mode.unwrap().to_owned(), user.name.to_owned())),
    }
}

fn told(seen: &[Seen]) -> Vec<(Change, &str)> {
    seen.iter().map(|one| (one.change, one.id.as_str())).collect()
}

#[tokio::test]
async fn the_first_walk_enters_every_row_as_new_and_the_next_none() {
    let mut world = World::with(9).await;
    assert_eq!(world.stream.notes.rows, 9);
    assert_eq!((world.stream.notes.listed, world.stream.notes.unproven.clone()), (9, None));
    world.script(|_| ());
    assert_eq!(world.poll().await, [], "the check-in moved, which is no change");
}

#[tokio::test]
async fn a_change_carries_the_row_before_it() {
    let mut world = World::with(5).await;
    world.script(|script| script.rows[3].2 = "Learning");
    let seen = world.poll().await;
    assert_eq!(told(&seen), [(Change::Changed, "c3")]);
    assert_eq!((&seen[0].mode, &seen[0].previous), (&json!("Learning"), &Some(json!("Secure"))));
}

#[tokio::test]
async fn an_entry_knows_its_device_as_it_is_listed_and_a_removed_one_as_it_last_was() {
    let mut world = World::with(9).await;
    let known = |seen: &[Seen]| -> Vec<(String, String)> {
        seen.iter().map(|one| one.known.clone().unwrap()).collect()
    };
    let as_in = |mode: &str| (mode.to_owned(), format!("user of {}", mode.to_lowercase()));
    world.script(|script| (script.rows[1].2, script.rows[2].2) = ("Learning", "Monitor"));
    assert_eq!(known(&world.poll().await), [as_in("Learning"), as_in("Monitor")]);
    world.script(|script| drop(script.rows.remove(1)));
    world.poll().await;
    assert_eq!(known(&world.poll().await), [as_in("Learning")]);
}

#[tokio::test]
async fn a_computer_that_is_removed_is_listed_no_more() {
    let mut world = World::with(1).await;
    let connection = world.stream.settings.connection;
    let store = world.stream.store.clone();
    let any = || store.read(move |db| devices::any_listed(db, connection));
    world.script(|script| script.rows.clear());
    assert_eq!(world.poll().await, []);
    assert!(any().await.unwrap(), "one walk may have missed it");
    assert_eq!(told(&world.poll().await), [(Change::Removed, "c0")]);
    assert!(!any().await.unwrap());
}

#[tokio::test]
async fn a_row_that_goes_back_to_a_former_state_gets_a_uid_of_its_own() {
    let mut world = World::new().await;
    world.script(|script| script.rows = vec![("a", "c0".to_owned(), "Secure")]);
    let mut uids = vec![world.poll().await[0].uid];
    for mode in ["Learning", "Secure", "Learning", "Secure"] {
        world.script(|script| script.rows[0].2 = mode);
        let seen = world.poll().await;
        assert_eq!(told(&seen), [(Change::Changed, "c0")]);
        uids.push(seen[0].uid);
    }
    let distinct: HashSet<&Uuid> = uids.iter().collect();
    assert_eq!(distinct.len(), 5, "{uids:?}");
}

#[tokio::test]
async fn a_guid_in_another_case_is_the_same_row() {
    let mut world = World::new().await;
    let id = "96984898-302d-5316-8d10-2c1ac39af9e4";
    world.script(|script| script.rows = vec![("a", id.to_owned(), "Secure")]);
    world.poll().await;
    world.script(|script| script.rows = vec![("a", id.to_uppercase(), "Secure")]);
    assert_eq!(world.poll().await, [], "neither a second \"new\" under the same uid, nor a change");
    world.script(|script| script.rows.clear());
    world.poll().await;
    assert_eq!(told(&world.poll().await), [(Change::Removed, id)]);
}

#[tokio::test]
async fn a_row_is_removed_when_two_complete_walks_leave_it_out() {
    let mut world = World::with(10).await;
    world.script(|script| drop(script.rows.remove(2)));
    assert_eq!(world.poll().await, []);
    let seen = world.poll().await;
    assert_eq!(told(&seen), [(Change::Removed, "c2")]);
    assert_eq!(seen[0].previous, Some(json!("Secure")));
    assert_eq!(world.poll().await, [], "and only once");
}

#[tokio::test]
async fn a_row_that_one_walk_missed_is_still_there() {
    let mut world = World::with(10).await;
    let mut missed = None;
    world.script(|script| missed = Some(script.rows.remove(2)));
    assert_eq!(world.poll().await, []);
    world.script(|script| script.rows.push(missed.clone().unwrap()));
    assert_eq!(world.poll().await, []);
    world.script(|script| drop(script.rows.pop()));
    assert_eq!(world.poll().await, [], "two misses with a sight between them are no removal");
}

#[tokio::test]
async fn the_newest_record_of_a_computer_that_moved_to_another_organization_does_not_say_that_it_is_gone() {
    let mut world = World::with(10).await;
    world.script(|script| script.rows[2].0 = "b");
    assert_eq!(told(&world.poll().await), [(Change::New, "c2")]);
    let seen = world.poll().await;
    assert_eq!(told(&seen), [(Change::Removed, "c2"), (Change::Restated, "c2")]);
    assert_eq!([&*seen[0].organization, &*seen[1].organization], ["a", "b"]);
    assert_eq!(world.poll().await, [], "and only once");
}

#[tokio::test]
async fn a_removed_row_that_comes_back_is_new_under_another_uid() {
    let mut world = World::new().await;
    world.script(|script| script.rows = vec![("a", "c0".to_owned(), "Secure")]);
    let mut uids = HashSet::from([world.poll().await[0].uid]);
    for _ in 0..2 {
        world.script(|script| script.rows.clear());
        world.poll().await;
        let gone = world.poll().await;
        assert_eq!(told(&gone), [(Change::Removed, "c0")]);
        world.script(|script| script.rows = vec![("a", "c0".to_owned(), "Secure")]);
        let back = world.poll().await;
        assert_eq!(told(&back), [(Change::New, "c0")]);
        assert!(uids.insert(gone[0].uid) && uids.insert(back[0].uid), "{uids:?}");
    }
}

#[tokio::test]
async fn more_than_a_tenth_and_more_than_three_at_once_are_held_as_unknown() {
    let mut world = World::with(39).await;
    world.script(|script| script.rows.truncate(35));
    assert_eq!(world.poll().await, []);
    assert_eq!(world.unknown(), [("a", 4)]);
    let since = world.stream.notes.unknown_since.unwrap();
    for _ in 0..4 {
        world.script(|_| ());
        assert_eq!(world.poll().await, [], "they stay held, however often they are missing");
    }
    assert_eq!((world.unknown(), world.stream.notes.unknown_since), (vec![("a", 4)], Some(since)));
}

#[tokio::test]
async fn a_tenth_or_three_are_believed() {
    for (all, missing) in [(40, 4), (5, 3)] {
        let mut world = World::with(all).await;
        world.script(|script| script.rows.truncate(all - missing));
        world.poll().await;
        assert_eq!(world.poll().await.len(), missing, "{missing} of {all}");
        assert_eq!(world.unknown(), []);
    }
}

#[tokio::test]
async fn a_whole_organization_of_more_than_one_is_held_and_others_are_judged_by_themselves() {
    let mut world = World::new().await;
    let all = |script: &mut Script| {
        script.rows = (0..50).map(|n| ("a", format!("a{n}"), "Secure")).collect();
        script.rows.extend([("b", "b0".to_owned(), "Secure"), ("b", "b1".to_owned(), "Secure")]);
        script.rows.push(("c", "c0".to_owned(), "Secure"));
    };
    world.script(all);
    world.poll().await;
    world.script(|script| script.rows.retain(|(organization, id, _)| *organization == "a" && id != "a7"));
    world.poll().await;
    let seen = world.poll().await;
    assert_eq!(told(&seen), [(Change::Removed, "a7"), (Change::Removed, "c0")]);
    assert_eq!(world.unknown(), [("b", 2)]);
}

#[tokio::test]
async fn rows_held_as_unknown_are_released_by_their_return_without_an_entry_unless_they_changed() {
    let mut world = World::with(20).await;
    let mut before = Vec::new();
    world.script(|script| before = std::mem::take(&mut script.rows));
    assert_eq!(world.poll().await, [], "an unticked role answers an empty list");
    assert_eq!(world.unknown(), [("a", 20)]);
    before[4].2 = "Learning";
    world.script(|script| script.rows = before);
    assert_eq!(told(&world.poll().await), [(Change::Changed, "c4")]);
    assert_eq!((world.unknown(), world.stream.notes.unknown_since), (vec![], None));
}

#[tokio::test]
async fn rows_held_as_unknown_are_removed_when_the_portal_lists_them_as_deleted() {
    let mut world = World::with(20).await;
    world.script(|script| {
        script.rows.truncate(10);
        script.deleted = (12..20).map(|n| ("a", format!("c{n}"))).collect();
    });
    let seen = world.poll().await;
    let ids: HashSet<String> = seen.iter().map(|one| one.id.clone()).collect();
    assert_eq!(ids, (12..20).map(|n| format!("c{n}")).collect());
    assert!(seen.iter().all(|one| one.change == Change::Removed));
    assert_eq!(world.unknown(), [("a", 2)], "the other two are neither listed nor deleted");
    assert_eq!(world.stream.notes.listed, 10, "what the ordinary walk listed");
}

#[tokio::test]
async fn the_operator_can_confirm_that_unknown_rows_are_removed() {
    let mut world = World::with(20).await;
    let mut before = Vec::new();
    world.script(|script| before = std::mem::take(&mut script.rows));
    world.poll().await;
    let store = world.stream.store.clone();
    let confirm = |site: &'static str| {
        let store = store.clone();
        async move { store.write(move |db| confirm_removed(db, site, 7, 8)).await.unwrap() }
    };
    assert_eq!(confirm("nobody").await, None);
    assert_eq!(confirm("acme").await, Some(20));
    let seen = world.entries().await;
    assert_eq!(seen.len(), 20);
    assert!(seen.iter().all(|one| one.change == Change::Removed && one.previous == Some(json!("Secure"))));
    let stored = open(&store, world.played, "acme", tree()).await.notes;
    assert_eq!((stored.unknown, stored.unknown_since, stored.rows), (vec![], None, 40));
    assert_eq!(confirm("acme").await, Some(0));
    world.poll().await;
    assert_eq!(world.unknown(), []);
    world.script(|script| script.rows = before);
    let back = world.poll().await;
    assert!(back.len() == 20 && back.iter().all(|one| one.change == Change::New));
}

#[tokio::test]
async fn every_row_is_restated_exactly_once_in_an_interval_even_when_the_walk_is_cut_and_repeated() {
    let mut world = World::with(10).await;
    world.script(|script| {
        script.now += 24 * HOUR;
        script.fails_after = Some(1);
    });
    assert!(world.stream.poll().await.is_err());
    let mut restated = world.entries().await;
    assert_eq!(restated.len(), 4, "the first page was committed");
    // As after a crash: what goes on is what was stored.
    world.stream = open(&world.stream.store.clone(), world.played, "acme", tree()).await;
    world.script(|script| script.fails_after = Some(2));
    assert!(world.stream.poll().await.is_err());
    restated.extend(world.entries().await);
    world.script(|script| {
        script.fails_after = None;
        script.rows.push(("a", "c10".to_owned(), "Secure"));
    });
    let last = world.poll().await;
    assert_eq!(told(&last).last(), Some(&(Change::New, "c10")), "what is new needs no restatement");
    restated.extend(last.into_iter().filter(|one| one.change == Change::Restated));
    let ids: HashSet<&str> = restated.iter().map(|one| one.id.as_str()).collect();
    let uids: HashSet<Uuid> = restated.iter().map(|one| one.uid).collect();
    assert_eq!((restated.len(), ids.len(), uids.len()), (10, 10, 10));
    world.script(|script| script.now += 23 * HOUR);
    assert_eq!(world.poll().await, [], "not again within the interval");
    world.script(|script| script.now += HOUR);
    let again = world.poll().await;
    assert_eq!(again.len(), 11);
    assert!(again.iter().all(|one| one.change == Change::Restated && !uids.contains(&one.uid)));
}

#[tokio::test]
async fn a_device_is_restated_once_when_another_last_user_becomes_known() {
    let mut world = World::new().await;
    world.script(|script| script.rows = ["c0", "c1"].map(|id| ("a", id.to_owned(), "unused")).into());
    assert_eq!(world.poll().await.len(), 2);
    let seen = |user: &'static str, at: Micros| {
        move |db: &WriterDb| {
            let key: i64 =
                db.query_row("SELECT id FROM organization WHERE organization_id = 'a'", [], |row| {
                    row.get(0)
                })?;
            let (computer, user) = (Computer::Id("c1".to_owned()), Some(user.to_owned()));
            let sighting = Arc::new(Sighting { computer, user, facts: None });
            devices::note_seen(db, &[Some(Told { organization: key, at, sighting })], at).map(drop)
        }
    };
    let mut uids = HashSet::new();
    for (round, user) in [(1, "alice"), (2, "bob")] {
        world.stream.store.write(seen(user, round * SECOND)).await.unwrap();
        world.script(|script| script.now += HOUR);
        let restated = world.poll().await;
        assert_eq!(told(&restated), [(Change::Restated, "c1")], "{user}");
        assert!(uids.insert(restated[0].uid));
        world.script(|script| script.now += HOUR);
        assert_eq!(world.poll().await, [], "{user} is told");
    }
    world.stream.settings.restate = None;
    world.stream.store.write(seen("carl", 3 * SECOND)).await.unwrap();
    world.script(|script| script.now += HOUR);
    assert_eq!(world.poll().await, [], "nobody wants restatements");
}

#[tokio::test]
async fn an_incomplete_walk_enters_what_it_saw_concludes_nothing_and_is_a_failed_poll() {
    let mut world = World::with(10).await;
    world.script(|script| {
        script.rows.remove(2);
        script.rows.push(("a", "c10".to_owned(), "Secure"));
        script.uncounted = 3;
    });
    for _ in 0..4 {
        let failed = world.stream.poll().await.unwrap_err();
        assert!(matches!(failed, CollectError::Incomplete(_)), "{failed}");
    }
    assert!(world.stream.notes.unproven.is_some());
    assert_eq!(told(&world.entries().await), [(Change::New, "c10")]);
    world.script(|script| script.uncounted = 0);
    assert_eq!(world.poll().await, [], "the first complete walk without it");
    assert_eq!(world.stream.notes.unproven, None);
    assert_eq!(told(&world.poll().await), [(Change::Removed, "c2")]);
}

#[tokio::test]
async fn rows_of_an_organization_that_another_connection_claims_enter_nothing() {
    let mut world = World::with(3).await;
    let store = world.stream.store.clone();
    let mut other = World { stream: open(&store, world.played, "other", tree()).await, ..World::new().await };
    world.script(|script| script.rows.push(("b", "x".to_owned(), "Secure")));
    assert_eq!(told(&other.poll().await), [(Change::New, "x")], "only the organization that is its own");
    assert_eq!(other.stream.notes.listed, 4, "they count for the total");
    assert_eq!(world.poll().await, [], "and now the other way round");
}

#[tokio::test]
async fn rows_of_no_organization_are_each_sites_own() {
    let mut world = World::new().await;
    world.script(|script| script.rows = vec![("", "c1".to_owned(), "Secure")]);
    assert_eq!(told(&world.poll().await), [(Change::New, "c1")]);
    let store = world.stream.store.clone();
    let stream = open(&store, world.played, "other", tree()).await;
    let mut other = World { played: world.played, stream, read: 0 };
    assert_eq!(told(&other.poll().await), [(Change::New, "c1")], "nobody claims what is nobody's");
}

/// What a report shows that tells of no devices, but of things that happened.
async fn report_of_events() -> World {
    let mut world = World::new().await;
    let report = reports::Report {
        names: vec!["Denies by Day".to_owned()],
        is_computers: false,
        span: std::time::Duration::from_secs(86_400),
    };
    let settings = &mut world.stream.settings;
    settings.filter = Filter { report: Some(report), ..Filter::default() };
    (settings.kind, settings.restate) = (Kind::Event, None);
    world
}

#[tokio::test]
async fn rows_that_a_report_showed_come_again_when_they_were_gone_however_many_go_at_once() {
    let mut world = report_of_events().await;
    let rows = |from: usize| -> Vec<_> { (from..10).map(|n| ("a", format!("c{n}"), "Secure")).collect() };
    world.script(|script| script.rows = rows(0));
    assert_eq!(world.poll().await.len(), 10);
    for _ in 0..2 {
        world.script(|script| script.rows = rows(8));
        assert_eq!(world.poll().await, [], "that a row is shown no more is no event");
    }
    world.script(|script| script.rows = rows(0));
    let again = world.poll().await;
    assert_eq!(again.len(), 8, "{again:?}");
    assert!(again.iter().all(|one| one.change == Change::New && one.previous.is_none()), "{again:?}");
    world.script(|_| ());
    assert_eq!(world.poll().await, []);
}

#[tokio::test]
async fn a_report_that_is_empty_all_at_once_is_not_believed() {
    let mut world = report_of_events().await;
    let rows: Vec<_> = (0..10).map(|n| ("a", format!("c{n}"), "Secure")).collect();
    world.script(|script| script.rows.clone_from(&rows));
    world.poll().await;
    for _ in 0..3 {
        world.script(|script| script.rows.clear());
        assert_eq!(world.poll().await, []);
    }
    world.script(|script| script.rows = rows);
    assert_eq!(world.poll().await, [], "nothing of it happened twice");
}

#[tokio::test]
async fn a_stream_of_one_organization_judges_and_tells_only_that() {
    let mut world = World::new().await;
    world.script(|script| {
        script.rows =
            (0..8).map(|n| (if n % 2 == 0 { "a" } else { "b" }, format!("c{n}"), "Secure")).collect();
    });
    let store = world.stream.store.clone();
    let mut streams = Vec::new();
    for organization in ["a", "b"] {
        let scope = Scope::Organization(OrganizationId::new(organization));
        streams.push(open(&store, world.played, "acme", scope).await);
    }
    for stream in &mut streams {
        assert_eq!(stream.poll().await.unwrap(), 4);
    }
    world.script(|script| script.rows.retain(|(organization, ..)| *organization == "a"));
    for stream in &mut streams {
        assert_eq!(stream.poll().await.unwrap(), 0);
    }
    assert_eq!(streams[0].notes.unknown, []);
    assert_eq!(streams[1].notes.unknown, [("b".to_owned(), 4)]);
    assert_eq!(world.entries().await.len(), 8);
}

#[tokio::test]
async fn a_guid_whose_letters_change_their_case_is_no_change() {
    let mut world = World::new().await;
    let modes =
        ["6f9619ff-8b86-d011-b42d-00cf4fc964ff", "6F9619FF-8B86-D011-B42D-00CF4FC964FF", "Secure", "SECURE"];
    let mut changes = Vec::new();
    for mode in modes {
        world.script(|script| script.rows = vec![("a", "c1".to_owned(), mode)]);
        changes.push(world.poll().await.len());
    }
    assert_eq!(changes, [1, 0, 1, 1], "the same GUID, then a text in two cases");
}

#[tokio::test]
async fn fingerprints_of_an_older_program_are_made_anew_without_entries() {
    let mut world = World::with(3).await;
    let age = |db: &WriterDb| {
        let aged =
            db.execute("UPDATE snapshot SET fingerprint = randomblob(16) WHERE vendor_id <> 'c2'", [])?;
        Ok(aged)
    };
    assert_eq!(world.stream.store.write(age).await.unwrap(), 2);
    world.script(|script| script.rows[1].2 = "Learning");
    let seen = world.poll().await;
    assert_eq!(told(&seen), [(Change::Changed, "c1")], "a change in between is one all the same");
    let prints = |db: &Connection| {
        let mut prints = db.prepare("SELECT DISTINCT fingerprint FROM snapshot WHERE vendor_id <> 'c1'")?;
        let prints = prints.query_map([], |row| row.get::<_, Vec<u8>>(0))?.collect::<Result<Vec<_>, _>>();
        Ok(prints?)
    };
    let anew = world.stream.store.read(prints).await.unwrap();
    world.script(|_| {});
    assert_eq!(world.poll().await, []);
    assert_eq!(world.stream.store.read(prints).await.unwrap(), anew);
}

/// What the script lists, in another shape, without some of it, or partly.
#[derive(Clone, Default)]
struct Bent {
    shape: u8,
    unseen: Vec<String>,
    partial: Option<String>,
    counts_nothing: bool,
}

struct BentListing(&'static Played, Arc<Mutex<Bent>>);

impl Listing for BentListing {
    fn now(&self) -> Micros {
        self.0.now()
    }

    async fn list(&self, query: &Query) -> Result<Listed, CollectError> {
        let mut listed = self.0.list(query).await?;
        let bent = self.1.lock().unwrap().clone();
        for row in &mut listed.rows {
            let (id, organization) = (row.vendor_id.clone().unwrap(), row.organization.as_str());
            row.id = RowId::Vendor(uid(organization, "policies", &id, "state", "0").as_u128());
            let name = serde_json::from_slice::<Value>(&row.body).unwrap()["mode"].clone();
            row.body = Bytes::from(json!({ "policyId": id, "name": name }).to_string());
            (row.shape, row.sighting) = (bent.shape, None);
        }
        let kept = |row: &ListedRow| !bent.unseen.contains(row.vendor_id.as_ref().unwrap());
        let (kept, unseen): (Vec<_>, Vec<_>) = std::mem::take(&mut listed.rows).into_iter().partition(kept);
        listed.rows = kept;
        listed.unseen = unseen.into_iter().filter_map(|row| row.vendor_id).collect();
        listed.partial = bent.partial;
        listed.total = listed.total.filter(|_| !bent.counts_nothing);
        Ok(listed)
    }
}

/// Policies of the script's ids, each called by its mode.
async fn bent(
    played: &'static Played,
    bent: &Arc<Mutex<Bent>>,
    store: &Store,
) -> SnapshotStream<BentListing> {
    let plain = open(store, played, "acme", tree()).await;
    let mut settings = plain.settings.clone();
    (settings.source, settings.kind) = ("policies", Kind::State);
    SnapshotStream {
        settings,
        listing: BentListing(played, Arc::clone(bent)),
        store: store.clone(),
        clock: plain.clock,
        notes: SnapshotNotes::default(),
        requests: 0,
        memory: Memory::default(),
    }
}

#[tokio::test]
async fn what_is_listed_without_a_row_is_not_missing_and_nothing_is_concluded_from_a_part() {
    let world = World::with(0).await;
    let how = Arc::new(Mutex::new(Bent::default()));
    let mut stream = bent(world.played, &how, &world.stream.store).await;
    let script = |change: fn(&mut Script)| change(&mut world.played.0.lock().unwrap());
    script(|script| script.rows = (0..6).map(|n| ("a", format!("c{n}"), "x")).collect());
    assert_eq!(stream.poll().await.unwrap(), 6);
    how.lock().unwrap().unseen = vec!["c2".to_owned()];
    for _ in 0..3 {
        assert_eq!(stream.poll().await.unwrap(), 0, "c2 is there");
    }
    how.lock().unwrap().partial = Some("one group is not known".to_owned());
    script(|script| drop(script.rows.remove(5)));
    for _ in 0..3 {
        assert_eq!(stream.poll().await.unwrap(), 0, "c5 may be in that group");
    }
    assert_eq!(stream.notes.unproven.as_deref(), Some("one group is not known"));
    how.lock().unwrap().partial = None;
    assert_eq!([stream.poll().await.unwrap(), stream.poll().await.unwrap()], [0, 1], "c5 is gone");
}

#[tokio::test]
async fn a_listing_that_counts_nothing_may_end_with_a_full_page() {
    let world = World::with(0).await;
    let how = Arc::new(Mutex::new(Bent { counts_nothing: true, ..Bent::default() }));
    let mut stream = bent(world.played, &how, &world.stream.store).await;
    let rows = 3 * stream.settings.page_size;
    world.played.0.lock().unwrap().rows = (0..rows).map(|n| ("a", format!("c{n}"), "x")).collect();
    assert_eq!(stream.poll().await.unwrap(), u64::from(rows));
    assert_eq!(stream.notes.unproven, None);
}

#[tokio::test]
async fn a_row_in_another_shape_is_a_change_only_where_it_contradicts() {
    let world = World::with(0).await;
    let how = Arc::new(Mutex::new(Bent::default()));
    let mut stream = bent(world.played, &how, &world.stream.store).await;
    let mut entries = Vec::new();
    for (shape, name) in [(0, "x"), (1, "x"), (0, "x"), (1, "x"), (1, "y"), (0, "y"), (0, "x"), (0, "x")] {
        how.lock().unwrap().shape = shape;
        world.played.0.lock().unwrap().rows = vec![("a", "c0".to_owned(), name)];
        entries.push(stream.poll().await.unwrap());
    }
    assert_eq!(entries, [1, 0, 0, 0, 1, 0, 1, 0]);
}

/// A list of what happened, of which the operator wants to know when `mode` changes.
async fn told_once(changes: &[&str]) -> World {
    let mut world = World::new().await;
    let private = Private {
        path: PrivatePath::new("Threat/ThreatGet", false).unwrap(),
        body: serde_json::Map::new(),
        id: None,
        time: None,
        changes: changes.iter().map(|name| (*name).to_owned()).collect(),
        backfill: std::time::Duration::from_secs(86_400),
    };
    let settings = &mut world.stream.settings;
    settings.filter = Filter { private: Some(Arc::new(private)), ..Filter::default() };
    (settings.source, settings.kind, settings.restate) = ("private_threats", Kind::Event, None);
    world
}

#[tokio::test]
async fn what_is_told_once_is_told_once_however_rows_come_go_and_change() {
    const MODES: [&str; 3] = ["Active", "Snoozed", "Cleared"];
    for changes in [&["MODE"][..], &[]] {
        let mut world = told_once(changes).await;
        let mut dice = crate::simulator::dice::Dice::new(7, 0, changes.len() as u64);
        let mut known: BTreeMap<String, &str> = BTreeMap::new();
        for _ in 0..80 {
            let there: Vec<_> = (0..12)
                .map(|n| (dice.below(3) > 0).then(|| ("a", format!("c{n:02}"), MODES[dice.index(3)])))
                .collect::<Vec<_>>()
                .into_iter()
                .flatten()
                .collect();
            world.script(|script| script.rows.clone_from(&there));
            let mut expected = Vec::new();
            for (_, id, mode) in &there {
                match known.insert(id.clone(), mode) {
                    None => expected.push((Change::New, id.as_str())),
                    Some(before) if before != *mode && !changes.is_empty() => {
                        expected.push((Change::Changed, id.as_str()));
                    }
                    Some(_) => {}
                }
            }
            assert_eq!(told(&world.poll().await), expected);
        }
        assert_eq!(known.len(), 12);
    }
}
