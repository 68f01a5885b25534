mod details;
mod moments;

use std::collections::BTreeMap;
use std::sync::Mutex;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::collect::Listed;
use crate::coverage::walk::RowId;
use crate::model::SECOND;
use crate::portal::{Answer, Failure, PortalError};
use crate::source::{Shape, by_name};
use crate::store::WriterDb;
use crate::store::streams::{self, StreamKey};

const MINUTE: Micros = 60 * SECOND;
const HOUR: Micros = 60 * MINUTE;
const START: Micros = 490_000 * HOUR;
/// How long moments are remembered, unless a test says otherwise.
const REMEMBERED: Micros = 48 * HOUR;

/// What a portal has, as a test says.
#[derive(Default)]
struct Script {
    now: Micros,
    source: &'static str,
    /// The rows of each computer.
    rows: BTreeMap<String, Vec<Value>>,
    /// Refused with this status.
    refused: BTreeMap<String, u16>,
    /// Only the older path is there.
    old: bool,
    /// The list says how many there are.
    counts: bool,
    /// Each computer that was asked about.
    asked: Vec<String>,
}

struct Played(Mutex<Script>);

impl Listing for &'static Played {
    fn now(&self) -> Micros {
        self.0.lock().unwrap().now
    }

    async fn list(&self, query: &Query) -> Result<Listed, CollectError> {
        let mut script = self.0.lock().unwrap();
        let computer = query.computer.as_deref().unwrap().to_owned();
        script.asked.push(computer.clone());
        let refused =
            if script.old && !query.older { Some(404) } else { script.refused.get(&computer).copied() };
        if let Some(status) = refused {
            let answer = Answer { status, ..Answer::default() };
            let failure = if status == 403 { Failure::MissingRole(answer) } else { Failure::Answer(answer) };
            return Err(PortalError { site: "acme".to_owned(), endpoint: None, failure }.into());
        }
        assert_eq!(query.scope.organization().as_str(), "a", "asked within the computer's own organization");
        let rows = script.rows.get(&computer).cloned().unwrap_or_default();
        let (page, size) = (query.page as usize - 1, query.size as usize);
        let (skip, take) = if query.older { (0, usize::MAX) } else { (page * size, size) };
        let total = (script.counts && !query.older).then_some(rows.len() as u64);
        let rows = rows.iter().skip(skip).take(take).map(|row| listed(script.source, row)).collect();
        Ok(Listed { rows, total, ..Listed::default() })
    }
}

fn listed(source: &str, row: &Value) -> ListedRow {
    let text = row.to_string();
    let key = by_name(source).unwrap().key(&text, 0).unwrap();
    ListedRow {
        id: RowId::Content(digest(&[text.as_bytes()])),
        organization: key.organization,
        organization_name: None,
        vendor_id: key.vendor_id.map(Cow::into_owned),
        at: key.at,
        imported: None,
        own: false,
        rated: false,
        shape: 0,
        sighting: None,
        body: Bytes::from(text),
    }
}

fn shown(at: Micros) -> String {
    chrono::DateTime::from_timestamp_micros(at).unwrap().to_rfc3339()
}

fn row(id: &str, start: Micros, end: Option<Micros>, by: Option<&str>) -> Value {
    json!({
        "maintenanceModeId": id, "maintenanceTypeId": 14, "displayName": "Isolation",
        "startDateTime": shown(start), "endDateTime": end.map(shown), "addedBy": "admin", "endedBy": by,
    })
}

struct World {
    site: &'static str,
    played: &'static Played,
    stream: PerComputerStream<&'static Played>,
    read: i64,
}

async fn open(
    store: &Store,
    site: &'static str,
    played: &'static Played,
) -> PerComputerStream<&'static Played> {
    let name = played.0.lock().unwrap().source;
    let source = by_name(name).unwrap();
    let (id, row) = store
        .write(move |db| {
            let id = connections::register(db, site)?.id;
            let key = StreamKey { connection: id, source: name, scope: "tree", fingerprint: "" };
            Ok((id, streams::open(db, &key)?))
        })
        .await
        .unwrap();
    let settings = PerComputerSettings {
        connection: id,
        epoch: 1,
        source,
        scope: Scope::Tree(OrganizationId::new("own")),
        signs: match (name, source.shape()) {
            ("remediations", _) => &["isIsolated", "mode"],
            (_, Shape::PerComputer { signs, .. }) => signs,
            (_, shape) => panic!("{shape:?}"),
        },
        quiet: "Secure",
        page_size: 3,
        every: Duration::from_secs(60),
        sweep: Duration::from_secs(3_600),
        backfill: 24 * HOUR,
        remembered: source.are_moments().then_some(REMEMBERED),
        stream: row.id,
        set: row.set,
    };
    PerComputerStream {
        settings,
        listing: played,
        store: store.clone(),
        clock: Clock::shifted(chrono::Duration::zero(), 1),
        notes: serde_json::from_str(&row.notes).unwrap_or_default(),
        requests: 0,
        older: false,
        refusals: Refusals::default(),
    }
}

impl World {
    /// Computers by the names `c0`, `c1` and so on, all of them quiet.
    async fn with(computers: usize) -> Self {
        Self::of("remediations", computers).await
    }

    async fn of(source: &'static str, computers: usize) -> Self {
        let script = Script { now: START, source, counts: true, ..Script::default() };
        let played: &'static Played = Box::leak(Box::new(Played(Mutex::new(script))));
        let store = Store::open_in_memory(Clock::shifted(chrono::Duration::zero(), 1)).unwrap();
        Self::at(&store, "acme", played, computers).await
    }

    /// The same portal, read by a site of this name.
    async fn at(store: &Store, site: &'static str, played: &'static Played, computers: usize) -> Self {
        let mut world = Self { site, played, stream: open(store, site, played).await, read: 0 };
        for number in 0..computers {
            world.computer(&format!("c{number}"), false).await;
        }
        world
    }

    /// The source `computers` lists a computer so.
    async fn computer(&mut self, name: &str, isolated: bool) {
        let (id, name, now) = (self.stream.settings.connection, name.to_owned(), self.script(|_| ()));
        let write = move |db: &WriterDb| {
            let key = StreamKey { connection: id, source: "computers", scope: "tree", fingerprint: "" };
            let set = streams::open(db, &key)?.set;
            let organization = connections::organization(db, id, &OrganizationId::new("a"), None, now)?;
            let row = json!({
                "computerId": name, "mode": "Secure", "isIsolated": isolated, "isTamperProtectionDisabled": isolated,
            });
            let row = row.to_string();
            let known = Known {
                fingerprint: digest(&[row.as_bytes()]).to_vec(),
                row: row.into_bytes(),
                presence: Presence::Present,
                restated: 0,
            };
            snapshots::set(db, set, organization, &name, &known, now)
        };
        self.stream.store.write(write).await.unwrap();
    }

    /// Changes the portal, a second later; answers the portal's time.
    fn script(&self, change: impl FnOnce(&mut Script)) -> Micros {
        let mut script = self.played.0.lock().unwrap();
        change(&mut script);
        script.now += SECOND;
        script.now
    }

    async fn poll(&mut self, all: bool) -> Vec<(Change, String, Uuid)> {
        self.stream.poll(all).await.unwrap();
        self.entries().await
    }

    /// The entries made since the last look: change, vendor id and uid.
    async fn entries(&mut self) -> Vec<(Change, String, Uuid)> {
        let (connection, after) = (self.stream.settings.connection, self.read);
        let read = move |db: &Connection| outbox::read_after(db, connection, Lane::Live, after, 1 << 30);
        let (mut seen, kind) = (Vec::new(), self.stream.settings.source.kind());
        for chunk in self.stream.store.read(read).await.unwrap() {
            self.read = chunk.last;
            for entry in chunk.entries().unwrap() {
                assert_eq!((entry.kind, entry.organization), (kind, "a"));
                // Behind the id stands when it began, of what lasts.
                let id = entry.vendor_id.unwrap();
                let id = id.split_once('@').map_or(id, |(id, _)| id);
                seen.push((entry.change, id.to_owned(), entry.uid));
            }
        }
        seen
    }

    /// What is not in the store is forgotten.
    async fn restart(&mut self) {
        let store = self.stream.store.clone();
        self.stream = open(&store, self.site, self.played).await;
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.played.0.lock().unwrap().asked)
    }
}

fn told(entries: &[(Change, String, Uuid)]) -> Vec<(Change, &str)> {
    entries.iter().map(|(change, id, _)| (*change, id.as_str())).collect()
}

#[tokio::test]
async fn a_maintenance_is_told_when_it_begins_and_when_it_ends_and_never_again() {
    let mut world = World::with(2).await;
    let begun = world.script(|_| ());
    world.script(|script| drop(script.rows.insert("c0".into(), vec![row("M1", begun, None, None)])));
    assert_eq!(told(&world.poll(true).await), [(Change::New, "c0/M1")]);
    assert_eq!(world.poll(true).await, []);
    // Who ended it is enough, whenever it was to end.
    let ended = row("M1", begun, Some(begun + 90 * HOUR), Some("zoe"));
    world.script(|script| drop(script.rows.insert("c0".into(), vec![ended])));
    world.computer("c0", true).await;
    assert_eq!(told(&world.poll(false).await), [(Change::Changed, "c0/M1")]);
    world.computer("c0", false).await;
    assert_eq!(world.poll(true).await, []);
}

#[tokio::test]
async fn a_maintenance_whose_time_has_come_ends_although_its_row_stays_as_it_was() {
    let mut world = World::with(1).await;
    let begun = world.script(|_| ());
    let planned = row("m", begun, Some(begun + 2 * HOUR), None);
    world.script(|script| drop(script.rows.insert("c0".into(), vec![planned])));
    assert_eq!(told(&world.poll(true).await), [(Change::New, "c0/m")]);
    world.script(|script| script.now += 3 * HOUR);
    assert_eq!(told(&world.poll(true).await), [(Change::Changed, "c0/m")]);
    assert_eq!(world.poll(true).await, []);
}

#[tokio::test]
async fn what_ended_before_the_backfill_is_no_event_and_what_lasts_is_one() {
    let mut world = World::with(1).await;
    let old = START - 40 * HOUR;
    let rows = vec![
        row("over", old, Some(old + HOUR), Some("zoe")),
        row("lasting", old, None, None),
        row("ended-lately", old, Some(START - HOUR), Some("zoe")),
        row("lately", START - 3 * HOUR, Some(START - HOUR), None),
    ];
    world.script(|script| drop(script.rows.insert("c0".into(), rows)));
    let told_now = world.poll(true).await;
    let expected = [
        (Change::New, "c0/lasting"),
        (Change::Changed, "c0/ended-lately"),
        (Change::New, "c0/lately"),
        (Change::Changed, "c0/lately"),
    ];
    assert_eq!(told(&told_now), expected);
}

#[tokio::test]
async fn a_computer_whose_row_tells_of_something_is_asked_at_once_and_each_within_a_sweep() {
    let mut world = World::with(120).await;
    world.computer("c7", true).await;
    world.poll(false).await;
    let first = world.asked();
    // An hour has sixty polls, so each takes two of 120.
    assert_eq!((first[0].as_str(), first.len()), ("c7", 3), "{first:?}");
    assert_eq!(world.stream.notes.unproven, None, "what shows nothing is not owed at once");
    let mut asked: HashSet<String> = first.into_iter().collect();
    for _ in 0..60 {
        world.script(|script| script.now += MINUTE);
        world.poll(false).await;
        let now = world.asked();
        assert!(now.len() <= 3, "{now:?}");
        asked.extend(now);
    }
    assert_eq!(asked.len(), 120);
}

#[tokio::test]
async fn all_that_shows_nothing_is_asked_where_nothing_may_be_left() {
    let mut world = World::with(30).await;
    world.poll(true).await;
    assert_eq!(world.asked().len(), 30);
    assert!(world.stream.notes.complete.is_some());
    world.poll(true).await;
    assert_eq!(world.asked().len(), 0, "within a sweep once is enough");
}

#[tokio::test]
async fn a_computer_of_which_the_portal_tells_nothing_holds_up_no_other() {
    // Refused as such, for want of a role, and out of reach for now.
    for status in [400, 403, 504] {
        let mut world = World::with(8).await;
        let begun = world.script(|_| ());
        world.computer("c1", true).await;
        world.script(|script| {
            script.refused.insert("c1".into(), status);
            script.rows.insert("c5".into(), vec![row("m", begun, None, None)]);
        });
        assert_eq!(told(&world.poll(true).await), [(Change::New, "c5/m")], "{status}");
        assert_eq!(world.asked().len(), 8, "{status}");
        let unproven = world.stream.notes.unproven.clone().unwrap();
        assert!(unproven.starts_with("1 computers are still") && unproven.contains(&status.to_string()));
        world.script(|script| script.refused.clear());
        world.poll(false).await;
        assert_eq!(world.asked(), ["c1"], "it is due until it is answered: {status}");
        assert_eq!(world.stream.notes.unproven, None);
    }
}

#[test]
fn a_refused_computer_is_news_once_for_each_reason() {
    let due = |computer: &str| Due {
        organization: 1,
        organization_id: "a".to_owned(),
        computer: computer.to_owned(),
        signs: Vec::new(),
        by_signs: true,
    };
    let error = |status, logger_id: &str| {
        let answer = Answer { status, logger_id: Some(logger_id.to_owned()), ..Answer::default() };
        let failure = Failure::Answer(answer);
        CollectError::from(PortalError { site: "acme".to_owned(), endpoint: None, failure })
    };
    let mut refusals = Refusals::default();
    assert!(refusals.is_news(&due("c1"), &error(400, "x")));
    assert!(!refusals.is_news(&due("c1"), &error(400, "y")), "another incident of the same kind");
    assert!(refusals.is_news(&due("c2"), &error(400, "x")) && refusals.is_news(&due("c1"), &error(504, "x")));
    assert!(!refusals.is_news(&due("c1"), &error(400, "x")));
    for number in 0..2 * MOST_REMEMBERED {
        refusals.is_news(&due(&format!("n{number}")), &error(400, "x"));
    }
    assert_eq!(refusals.0.len(), MOST_REMEMBERED);
}

#[tokio::test]
async fn a_portal_that_tells_nothing_of_any_computer_is_an_error() {
    let mut world = World::with(8).await;
    world.script(|script| script.refused = (0..8).map(|number| (format!("c{number}"), 500)).collect());
    let error = world.stream.poll(true).await.unwrap_err();
    assert!(error.to_string().contains("500"), "{error}");
    assert!(world.stream.notes.complete.is_none());
}

#[tokio::test]
async fn an_organization_that_comes_later_brings_no_old_maintenances() {
    let mut world = World::with(0).await;
    world.poll(true).await;
    let came = world.script(|script| script.now += 240 * HOUR);
    let (long_ago, lately) = (came - 100 * HOUR, came - 3 * HOUR);
    let rows = vec![
        row("over", long_ago, Some(long_ago + HOUR), Some("zoe")),
        row("lately", lately, Some(lately + HOUR), Some("zoe")),
    ];
    world.script(|script| drop(script.rows.insert("c0".into(), rows)));
    world.computer("c0", false).await;
    let told_now = world.poll(true).await;
    assert_eq!(told(&told_now), [(Change::New, "c0/lately"), (Change::Changed, "c0/lately")]);
}

#[tokio::test]
async fn an_older_portal_is_asked_at_its_own_path_and_lists_all_at_once() {
    let mut world = World::with(2).await;
    let begun = world.script(|_| ());
    let rows = (0..5).map(|number| row(&format!("m{number}"), begun, None, None)).collect();
    world.script(|script| {
        script.old = true;
        script.rows.insert("c1".into(), rows);
    });
    assert_eq!(world.poll(true).await.len(), 5);
    assert_eq!(world.asked().len(), 3, "the newer path was tried once");
}

#[tokio::test]
async fn pages_are_read_to_the_end_with_and_without_a_count() {
    for (counts, requests) in [(true, 3), (false, 4)] {
        let mut world = World::with(1).await;
        let begun = world.script(|_| ());
        let rows = (0..7).map(|number| row(&format!("m{number}"), begun, None, None)).collect();
        world.script(|script| {
            script.counts = counts;
            script.rows.insert("c0".into(), rows);
        });
        assert_eq!(world.poll(true).await.len(), 7);
        assert_eq!(world.asked().len(), requests, "counted: {counts}");
    }
}

#[tokio::test]
async fn a_removed_computer_is_asked_about_no_more() {
    let mut world = World::with(2).await;
    world.poll(true).await;
    world.asked();
    let remove = |db: &WriterDb| {
        db.execute("UPDATE snapshot SET state = 'removed' WHERE vendor_id = 'c0'", [])?;
        Ok(())
    };
    world.stream.store.write(remove).await.unwrap();
    world.script(|script| script.now += 2 * HOUR);
    world.poll(true).await;
    assert_eq!(world.asked(), ["c1"]);
    assert_eq!(world.stream.notes.listed, 1);
}

/// Whatever happens between polls, also a crash behind each, every maintenance is told to have begun once, before it
/// is told to have ended, and what is told last is how it stands.
#[tokio::test]
async fn what_is_told_gives_what_the_portal_has() {
    for seed in 0..40 {
        let mut dice = StdRng::seed_from_u64(seed);
        let mut world = World::with(6).await;
        let mut open_now: BTreeMap<String, Micros> = BTreeMap::new();
        let mut over: HashSet<String> = HashSet::new();
        let (mut begun, mut ended) = (BTreeMap::<String, u32>::new(), BTreeMap::<String, u32>::new());
        let mut uids = HashSet::new();
        for step in 0..60 {
            let name = format!("c{}", dice.random_range(0..6));
            let now = world.script(|script| script.now += i64::from(dice.random_range(0..40u32)) * MINUTE);
            match open_now.remove(&name) {
                None => {
                    let id = format!("m{step}");
                    let rows = |script: &mut Script| {
                        script.rows.entry(name.clone()).or_default().insert(0, row(&id, now, None, None));
                    };
                    world.script(rows);
                    open_now.insert(name.clone(), now);
                    world.computer(&name, true).await;
                }
                Some(start) => {
                    let by = dice.random_bool(0.5).then_some("zoe");
                    world.script(|script| {
                        let newest = &mut script.rows.get_mut(&name).unwrap()[0];
                        let id = newest["maintenanceModeId"].as_str().unwrap().to_owned();
                        *newest = row(&id, start, Some(now), by);
                        over.insert(format!("{name}/{id}"));
                    });
                    world.computer(&name, false).await;
                }
            }
            if dice.random_bool(0.6) {
                if dice.random_bool(0.3) {
                    world.script(|script| script.refused = [("c2".to_owned(), 500)].into());
                } else {
                    world.script(|script| script.refused.clear());
                }
                world.stream.poll(dice.random_bool(0.2)).await.ok();
                if dice.random_bool(0.3) {
                    world.restart().await;
                }
            }
            for (change, id, uid) in world.entries().await {
                assert!(uids.insert(uid), "seed {seed}: {id} is told twice under one uid");
                match change {
                    Change::New => *begun.entry(id).or_default() += 1,
                    _ => {
                        assert!(begun.contains_key(&id), "seed {seed}: {id} ends before it begins");
                        *ended.entry(id).or_default() += 1;
                    }
                }
            }
        }
        world.script(|script| {
            script.refused.clear();
            script.now += 2 * HOUR;
        });
        for (change, id, _) in world.poll(true).await {
            let told = if change == Change::New { &mut begun } else { &mut ended };
            *told.entry(id).or_default() += 1;
        }
        let all: usize = world.played.0.lock().unwrap().rows.values().map(Vec::len).sum();
        assert_eq!(begun.len(), all, "seed {seed}");
        assert!(begun.values().chain(ended.values()).all(|count| *count == 1), "seed {seed}");
        assert_eq!(ended.keys().cloned().collect::<HashSet<_>>(), over, "seed {seed}");
    }
}
