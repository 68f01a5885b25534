mod matching;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use rusqlite::Connection;
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::{Memory, SnapshotNotes, SnapshotSettings};
use super::*;
use crate::clock::Clock;
use crate::collect::{Listed, ListedRow};
use crate::model::{Change, Kind, Lane, OrganizationId, SECOND, uid};
use crate::portal::{Answer, Failure, PortalError};
use crate::record::enrichment::Matched;
use crate::source::{Query, Scope, Shape, by_name};
use crate::store::streams::StreamKey;
use crate::store::{Store, WriterDb, connections, dead_letters, outbox, snapshots, streams};

const MINUTE: Micros = 60 * SECOND;
const DAY: Micros = 24 * 60 * MINUTE;
const NOW: Micros = 1_772_366_400 * SECOND;

/// A request as the portal has it.
#[derive(Clone, Debug)]
struct Request {
    id: String,
    status: u8,
    acted: Option<Micros>,
    assignee: &'static str,
}

/// What happens before a request for a page is answered: at that number of requests, that.
type Meanwhile = (u32, fn(&mut Script));

/// What a portal answers that is asked which applications match a path.
type Answers = fn(&str) -> Result<Matched, Failure>;

/// A portal that lists requests by status, as a test says.
struct Script {
    now: Micros,
    requests: Vec<Request>,
    refuses: Vec<u8>,
    /// How a status is refused, where not as one that the portal does not know.
    refused_with: Option<fn() -> Failure>,
    totals: bool,
    ordered: bool,
    /// Pending rows that nobody can read.
    unreadable: Vec<String>,
    asked: u32,
    /// Statuses and pages asked for.
    log: Vec<(u8, u32)>,
    meanwhile: Option<Meanwhile>,
    fails_at: Option<u32>,
    /// What it answers where it is asked which applications match a path; nothing at all where there is none.
    matching: Option<Answers>,
    /// Of which organization and path that was asked.
    questions: Vec<(OrganizationId, String)>,
}

#[derive(Clone)]
struct Played(Arc<Mutex<Script>>);

impl Listing for Played {
    fn now(&self) -> Micros {
        self.0.lock().unwrap().now
    }

    async fn list(&self, query: &Query) -> Result<Listed, CollectError> {
        let mut script = self.0.lock().unwrap();
        script.asked += 1;
        let asked = script.asked;
        if let Some((_, happens)) = script.meanwhile.take_if(|(at, _)| *at == asked) {
            happens(&mut script);
        }
        script.log.push((query.part, query.page));
        let fail = |failure| {
            let error = PortalError { site: "acme".to_owned(), endpoint: None, failure };
            Err(CollectError::from(error))
        };
        if script.fails_at == Some(script.asked) {
            return fail(Failure::Unreachable("away".to_owned()));
        }
        if script.refuses.contains(&query.part) {
            return fail(script.refused_with.map_or_else(|| answered(500), |failure| failure()));
        }
        let mut listed: Vec<&Request> =
            script.requests.iter().filter(|one| one.status == query.part).collect();
        if script.ordered && query.part != 1 {
            listed.sort_by_key(|one| std::cmp::Reverse(one.acted));
        }
        let unreadable = if query.part == 1 { script.unreadable.clone() } else { Vec::new() };
        let total = script.totals.then_some((listed.len() + unreadable.len()) as u64);
        let (page, size) = (query.page as usize - 1, query.size as usize);
        let rows = listed.into_iter().skip(page * size).take(size).map(row).collect();
        let unreadable = unreadable.into_iter().map(|row| (Bytes::from(row), "no id".to_owned()));
        let undecodable = if page == 0 { unreadable.collect() } else { Vec::new() };
        Ok(Listed { rows, undecodable, total, ..Listed::default() })
    }

    async fn matching(
        &self,
        organization: &OrganizationId,
        question: &Value,
    ) -> Result<Option<Matched>, CollectError> {
        let path = question["path"].as_str().unwrap().to_owned();
        let answer = {
            let mut script = self.0.lock().unwrap();
            script.questions.push((organization.clone(), path.clone()));
            script.matching
        };
        let Some(answer) = answer else { return std::future::pending().await };
        let failed = |failure| match failure {
            Failure::Settings(text) if text == STOPPED => CollectError::Stopped,
            failure => PortalError { site: "acme".to_owned(), endpoint: None, failure }.into(),
        };
        answer(&path).map(Some).map_err(failed)
    }
}

/// Not a failure of the portal: the program is told to stop.
const STOPPED: &str = "stopped";

fn answered(status: u16) -> Failure {
    Failure::Answer(Answer { status, ..Answer::default() })
}

fn row(request: &Request) -> ListedRow {
    let Request { id, status, acted, assignee } = request;
    let spelt = |at: Micros| chrono::DateTime::from_timestamp_micros(at).unwrap().to_rfc3339();
    let body = json!({ "approvalRequestId": id, "path": id, "statusId": status, "actionDate": acted.map(spelt), "assigneeUserId": assignee });
    ListedRow {
        id: RowId::Vendor(uid("o", "approval_requests", id, "event", "0").as_u128()),
        organization: OrganizationId::new("o"),
        organization_name: None,
        vendor_id: Some(id.clone()),
        at: Some(NOW - 20 * DAY),
        imported: None,
        own: false,
        rated: false,
        shape: 0,
        sighting: None,
        body: Bytes::from(body.to_string()),
    }
}

/// A stream, its portal and what was read of its entries.
struct World {
    played: Played,
    stream: SnapshotStream<Played>,
    read: i64,
    uids: HashSet<Uuid>,
}

impl World {
    async fn new() -> Self {
        let script = Script {
            now: NOW,
            requests: Vec::new(),
            refuses: Vec::new(),
            refused_with: None,
            totals: true,
            ordered: true,
            unreadable: Vec::new(),
            asked: 0,
            log: Vec::new(),
            meanwhile: None,
            fails_at: None,
            matching: None,
            questions: Vec::new(),
        };
        let played = Played(Arc::new(Mutex::new(script)));
        let store = Store::open_in_memory(Clock::shifted(chrono::Duration::zero(), 1)).unwrap();
        let connection = store.write(|db| Ok(connections::register(db, "acme")?.id)).await.unwrap();
        let key = move |db: &WriterDb| {
            streams::open(
                db,
                &StreamKey { connection, source: "approval_requests", scope: "tree", fingerprint: "" },
            )
        };
        let row = store.write(key).await.unwrap();
        let parts = PartsSettings {
            parts: by_name("approval_requests").unwrap().parts().unwrap(),
            settled_every: 15 * MINUTE,
            sweep: DAY,
            backfill: 30 * DAY,
            matching: false,
        };
        let Shape::Snapshot { volatile } = by_name("approval_requests").unwrap().shape() else {
            panic!("it is asked as a whole")
        };
        let settings = SnapshotSettings {
            filter: crate::source::Filter::default(),
            takes_over: false,
            connection,
            epoch: 1,
            source: "approval_requests",
            kind: Kind::Event,
            scope: Scope::Tree(OrganizationId::new("own")),
            volatile,
            parts: Some(parts),
            page_size: 4,
            restate: None,
            stream: row.id,
            set: row.set,
        };
        let clock = Clock::shifted(chrono::Duration::zero(), 1);
        let stream = SnapshotStream {
            settings,
            listing: played.clone(),
            store,
            clock,
            notes: SnapshotNotes::default(),
            requests: 0,
            memory: Memory::default(),
        };
        Self { played, stream, read: 0, uids: HashSet::new() }
    }

    fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        self.played.0.lock().unwrap()
    }

    /// Adds requests, each acted on so many minutes before the start.
    fn add(&self, requests: &[(&str, u8, Option<i64>)]) {
        let request = |&(id, status, minutes): &(&str, u8, Option<i64>)| Request {
            id: id.to_owned(),
            status,
            acted: minutes.map(|minutes| NOW - minutes * MINUTE),
            assignee: "",
        };
        self.script().requests.extend(requests.iter().map(request));
    }

    /// Lets a request be decided now.
    fn decide(&self, id: &str, status: u8) {
        decide(&mut self.script(), id, status);
    }

    /// The statuses that a poll asks for, and the entries that it makes.
    async fn poll(&mut self) -> (Vec<u8>, Vec<(Change, String, u8)>) {
        let (asked, outcome) = self.try_poll().await;
        outcome.unwrap();
        (asked, self.entries().await)
    }

    async fn try_poll(&mut self) -> (Vec<u8>, Result<u64, CollectError>) {
        {
            let mut script = self.script();
            script.now += MINUTE;
            script.log.clear();
        }
        let outcome = self.stream.poll().await;
        let mut asked: Vec<u8> = self.script().log.iter().map(|(status, _)| *status).collect();
        asked.dedup();
        (asked, outcome)
    }

    async fn entries(&mut self) -> Vec<(Change, String, u8)> {
        let (connection, after) = (self.stream.settings.connection, self.read);
        let read = move |db: &Connection| outbox::read_after(db, connection, Lane::Live, after, 1 << 30);
        let mut seen = Vec::new();
        for chunk in &self.stream.store.read(read).await.unwrap() {
            self.read = chunk.last;
            for entry in chunk.entries().unwrap() {
                assert!(self.uids.insert(entry.uid), "{} was told twice", entry.row);
                let row: Value = serde_json::from_str(entry.row).unwrap();
                let status = u8::try_from(row["statusId"].as_u64().unwrap()).unwrap();
                seen.push((entry.change, entry.vendor_id.unwrap().to_owned(), status));
            }
        }
        seen
    }

    /// As after a restart of the program.
    async fn reload(&mut self) {
        let stream = self.stream.settings.stream;
        let connection = self.stream.settings.connection;
        let known = self.stream.store.read(move |db| streams::list(db, connection)).await.unwrap();
        let notes = known.into_iter().find(|one| one.id == stream).unwrap().notes;
        self.stream.notes = serde_json::from_str(&notes).unwrap_or_default();
        self.stream.memory = Memory::default();
    }

    async fn removed(&self, id: &'static str) -> bool {
        let set = self.stream.settings.set;
        let known = self.stream.store.read(move |db| snapshots::get(db, set, 1, id)).await.unwrap();
        known.is_some_and(|known| known.presence == snapshots::Presence::Removed)
    }
}

fn decide(script: &mut Script, id: &str, status: u8) {
    let now = script.now;
    let request = script.requests.iter_mut().find(|one| one.id == id).unwrap();
    (request.status, request.acted) = (status, Some(now));
}

fn of(told: &[(Change, String, u8)]) -> Vec<(Change, &str, u8)> {
    told.iter().map(|(change, id, status)| (*change, id.as_str(), *status)).collect()
}

const ALL: [u8; 8] = [1, 4, 6, 10, 12, 13, 16, 17];
const OTHERS: [u8; 8] = [1, 4, 6, 10, 12, 13, 16, 17];

#[tokio::test]
async fn the_first_poll_reads_every_status_and_later_ones_what_is_pending_until_the_rest_is_due() {
    let mut world = World::new().await;
    world.add(&[("a", 1, None), ("b", 4, Some(9)), ("c", 17, None)]);
    let (asked, told) = world.poll().await;
    assert_eq!(asked, ALL);
    assert_eq!(of(&told), [(Change::New, "a", 1), (Change::New, "b", 4), (Change::New, "c", 17)]);
    for _ in 0..14 {
        assert_eq!(world.poll().await, (vec![1], vec![]));
    }
    assert_eq!(world.poll().await.0, OTHERS, "after a quarter of an hour");
    assert_eq!(world.poll().await.0, [1]);
    world.reload().await;
    assert_eq!(
        world.poll().await.0,
        OTHERS,
        "after a start nobody knows what left the pending ones meanwhile"
    );
    world.script().now += DAY;
    assert_eq!(world.poll().await, (ALL.to_vec(), vec![]), "a day later all of it again");
}

#[tokio::test]
async fn what_is_pending_no_more_is_looked_for_at_once() {
    let mut world = World::new().await;
    world.add(&[("a", 1, None), ("b", 1, None)]);
    world.poll().await;
    world.decide("a", 10);
    let (asked, told) = world.poll().await;
    assert_eq!((asked, of(&told)), (OTHERS.to_vec(), vec![(Change::Changed, "a", 10)]));
    assert_eq!(world.poll().await, (vec![1], vec![]), "and only once");
    world.decide("b", 13);
    assert_eq!(of(&world.poll().await.1), [(Change::Changed, "b", 13)]);
}

#[tokio::test]
async fn a_request_that_moves_while_one_reads_is_told_once_and_never_looks_removed() {
    // Whatever moves at whatever request of a sweep.
    for at in 1..=10 {
        for status in ALL {
            let mut world = World::new().await;
            world.add(&[("a", 17, None), ("b", 4, Some(5)), ("c", 1, None)]);
            world.poll().await;
            for day in 0..3 {
                let moves: fn(&mut Script) = match status {
                    1 => |script| decide(script, "a", 1),
                    4 => |script| decide(script, "a", 4),
                    6 => |script| decide(script, "a", 6),
                    10 => |script| decide(script, "a", 10),
                    12 => |script| decide(script, "a", 12),
                    13 => |script| decide(script, "a", 13),
                    16 => |script| decide(script, "a", 16),
                    _ => |script| decide(script, "a", 17),
                };
                {
                    let mut script = world.script();
                    // Away from where it is, and back the next day.
                    script.now += DAY;
                    let asked = script.asked;
                    let back: fn(&mut Script) = |script| decide(script, "a", 17);
                    script.meanwhile = Some((asked + at, if day % 2 == 0 { moves } else { back }));
                }
                let mut told = world.poll().await.1;
                for _ in 0..16 {
                    told.extend(world.poll().await.1);
                }
                let gone = told.iter().filter(|(change, ..)| *change == Change::Removed).count();
                let last = world.script().requests.iter().find(|one| one.id == "a").unwrap().status;
                assert_eq!(gone, 0, "to {status} at request {at}");
                assert!(!world.removed("a").await);
                let steps: Vec<u8> =
                    told.iter().filter(|(_, id, _)| id == "a").map(|(.., status)| *status).collect();
                assert_eq!(steps, [last], "to {status} at request {at} of day {day}");
            }
        }
    }
}

#[tokio::test]
async fn what_two_sweeps_do_not_list_is_removed_and_what_one_does_not_list_is_not() {
    let mut world = World::new().await;
    world.add(&[("a", 4, Some(5)), ("b", 4, Some(6)), ("c", 10, Some(7))]);
    world.poll().await;
    world.script().requests.retain(|one| one.id != "b");
    for _ in 0..20 {
        assert_eq!(world.poll().await.1, [], "nothing but a sweep tells that it is gone");
    }
    world.script().now += DAY;
    assert_eq!(world.poll().await.1, []);
    world.script().now += DAY;
    assert_eq!(of(&world.poll().await.1), [(Change::Removed, "b", 4)]);
}

#[tokio::test]
async fn a_status_that_is_refused_stops_no_other_is_asked_again_a_day_later_and_removes_nothing() {
    let mut world = World::new().await;
    world.add(&[("a", 1, None), ("b", 4, Some(5)), ("c", 17, None)]);
    world.script().refuses = vec![17];
    let (asked, told) = world.poll().await;
    assert_eq!(asked, ALL);
    assert_eq!(of(&told), [(Change::New, "a", 1), (Change::New, "b", 4)]);
    assert_eq!(world.stream.notes.parts.skipped, [17].into());
    for _ in 0..40 {
        assert!(!world.poll().await.0.contains(&17));
    }
    // It moves to where nobody can see it.
    world.script().requests[0].status = 17;
    for _ in 0..4 {
        world.script().now += DAY;
        let (asked, told) = world.poll().await;
        assert!(asked.contains(&17) && told.is_empty(), "{told:?}");
    }
    world.script().refuses.clear();
    world.script().now += DAY;
    assert_eq!(of(&world.poll().await.1), [(Change::Changed, "a", 17), (Change::New, "c", 17)]);
    assert!(world.stream.notes.parts.skipped.is_empty());
}

#[tokio::test]
async fn a_status_that_the_role_does_not_cover_is_skipped_like_one_that_is_not_known() {
    let mut world = World::new().await;
    world.add(&[("a", 1, None), ("b", 4, Some(5)), ("c", 17, None)]);
    world.script().refuses = vec![4];
    world.script().refused_with = Some(|| Failure::MissingRole(Answer { status: 403, ..Answer::default() }));
    let (asked, told) = world.poll().await;
    assert_eq!(asked, ALL);
    assert_eq!(of(&told), [(Change::New, "a", 1), (Change::New, "c", 17)]);
    assert_eq!(world.stream.notes.parts.skipped, [4].into());
}

#[tokio::test]
async fn a_status_that_is_out_of_reach_for_now_stops_no_other_is_told_and_is_asked_again_with_the_next_poll()
{
    let mut world = World::new().await;
    world.add(&[("a", 1, None), ("b", 4, Some(5)), ("c", 17, None)]);
    for day in 0..2 {
        world.script().now += day * DAY;
        world.script().refuses = vec![4];
        world.script().refused_with = Some(|| answered(504));
        let (asked, outcome) = world.try_poll().await;
        assert_eq!(asked, ALL, "day {day}");
        assert!(matches!(outcome, Err(CollectError::Portal(_))), "{outcome:?}");
        assert!(world.stream.notes.unproven.as_ref().is_some_and(|why| why.contains("504")));
        assert!(world.stream.notes.parts.skipped.is_empty(), "that is no refusal");
        let told = world.entries().await;
        let expected = if day == 0 { vec![(Change::New, "a", 1), (Change::New, "c", 17)] } else { vec![] };
        assert_eq!(of(&told), expected);
        world.script().refuses.clear();
        let (asked, told) = world.poll().await;
        assert_eq!(asked, ALL, "what was missed is not left for a later day");
        assert_eq!(of(&told), if day == 0 { vec![(Change::New, "b", 4)] } else { vec![] });
        assert_eq!(world.stream.notes.unproven, None);
    }
}

#[tokio::test]
async fn a_portal_that_lists_nothing_any_more_is_not_believed_though_one_status_is_refused() {
    let mut world = World::new().await;
    world.script().refuses = vec![17];
    world.add(&[("a", 1, None), ("b", 4, Some(5)), ("c", 4, Some(6))]);
    world.poll().await;
    let listed = world.script().requests.clone();
    world.script().requests.clear();
    world.script().now += DAY;
    assert_eq!(world.poll().await.1, []);
    assert_eq!(world.stream.notes.unknown, [("o".to_owned(), 3)]);
    assert!(world.stream.notes.unknown_since.is_some());
    for _ in 0..3 {
        world.script().now += DAY;
        assert_eq!(world.poll().await.1, [], "nothing is concluded either");
    }
    world.reload().await;
    world.script().requests = listed;
    world.script().now += 20 * MINUTE;
    assert_eq!(world.poll().await.1, []);
    assert_eq!((world.stream.notes.unknown.len(), world.stream.notes.unknown_since), (0, None));
}

#[tokio::test]
async fn requests_of_a_status_that_is_refused_are_no_sign_that_the_portal_was_emptied() {
    let mut world = World::new().await;
    world.add(&[("a", 4, Some(5)), ("b", 4, Some(6)), ("c", 1, None)]);
    world.poll().await;
    world.script().refuses = vec![4];
    // A single one may have moved there.
    world.decide("c", 4);
    world.script().now += DAY;
    assert_eq!(world.poll().await.1, []);
    assert_eq!(world.stream.notes.unknown, []);
}

#[tokio::test]
async fn a_status_that_worked_before_is_asked_again_soon() {
    let mut world = World::new().await;
    world.add(&[("a", 4, Some(5))]);
    world.poll().await;
    world.script().refuses = vec![4];
    world.script().now += 20 * MINUTE;
    assert!(world.poll().await.0.contains(&4));
    assert_eq!(world.stream.notes.parts.skipped, [4].into());
    world.script().now += 20 * MINUTE;
    assert!(world.poll().await.0.contains(&4), "a fault of a minute hides no decision for a day");
}

#[tokio::test]
async fn a_portal_that_refuses_all_or_what_is_pending_fails() {
    let mut world = World::new().await;
    world.add(&[("a", 1, None), ("b", 4, Some(5))]);
    world.script().refuses = ALL.to_vec();
    assert!(matches!(world.try_poll().await.1, Err(CollectError::Refused(_))));
    assert!(world.stream.notes.parts.skipped.is_empty(), "that is no status");
    world.script().refuses = vec![1];
    assert!(matches!(world.try_poll().await.1, Err(CollectError::Refused(_))));
    assert_eq!(of(&world.entries().await), [(Change::New, "b", 4)], "the others go on");
}

#[tokio::test]
async fn what_was_decided_long_before_the_start_is_remembered_and_told_when_it_changes() {
    let mut world = World::new().await;
    let month = 30 * 24 * 60;
    world.add(&[("old", 4, Some(month + 10)), ("new", 4, Some(month - 10)), ("waits", 1, None)]);
    let (_, told) = world.poll().await;
    assert_eq!(of(&told), [(Change::New, "waits", 1), (Change::New, "new", 4)]);
    world.script().requests[0].assignee = "somebody";
    world.script().now += DAY;
    assert_eq!(of(&world.poll().await.1), [(Change::Changed, "old", 4)]);
}

#[tokio::test]
async fn what_nobody_was_told_of_is_not_told_to_be_gone_nor_to_be_there_again() {
    let mut world = World::new().await;
    let month = 30 * 24 * 60;
    world.add(&[("old", 4, Some(month + 10)), ("older", 4, Some(month + 20)), ("waits", 1, None)]);
    world.poll().await;
    world.script().requests[1].assignee = "somebody";
    world.script().now += DAY;
    assert_eq!(of(&world.poll().await.1), [(Change::Changed, "older", 4)]);
    let listed = world.script().requests.clone();
    // One goes after the other, since all of an organization at once are not believed.
    world.script().requests.retain(|one| one.id == "waits");
    let mut told = Vec::new();
    for _ in 0..2 {
        world.script().now += DAY;
        told.extend(world.poll().await.1);
    }
    assert_eq!(of(&told), [(Change::Removed, "older", 4)]);
    assert!(world.removed("old").await);
    world.script().requests = listed;
    world.script().now += DAY;
    assert_eq!(of(&world.poll().await.1), [(Change::New, "older", 4)]);
    world.script().requests[0].assignee = "somebody";
    world.script().now += DAY;
    assert_eq!(of(&world.poll().await.1), [(Change::Changed, "old", 4)]);
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_one_dead_letter_however_its_clock_runs() {
    let mut world = World::new().await;
    for seconds in 0..3 {
        let timer = json!({ "totalTimeInSeconds": seconds });
        let nameless = json!({ "statusId": 1, "hostname": "h", "approvalRequestTimerDto": timer });
        let other = json!({ "statusId": 1, "hostname": "g", "approvalRequestTimerDto": timer });
        let unreadable = [nameless, other, json!(7)];
        world.script().unreadable = unreadable.map(|row| row.to_string()).to_vec();
        world.poll().await;
    }
    let letters = world.stream.store.read(|db| dead_letters::list(db, None, None, 100)).await.unwrap();
    assert_eq!(letters.len(), 3, "{letters:?}");
}

#[tokio::test]
async fn only_a_page_that_tells_nothing_new_ends_a_look() {
    let mut world = World::new().await;
    let many: Vec<String> = (0..30).map(|number| format!("r{number}")).collect();
    let known: Vec<(&str, u8, Option<i64>)> = many.iter().map(|id| (id.as_str(), 4, Some(10))).collect();
    world.add(&known[..20]);
    world.poll().await;
    let fresh: Vec<(&str, u8, Option<i64>)> =
        known[20..].iter().map(|(id, status, _)| (*id, *status, Some(1))).collect();
    world.add(&fresh);
    world.script().now += 20 * MINUTE;
    assert_eq!(world.poll().await.1.len(), 10);
    let pages = world.script().log.iter().filter(|(status, _)| *status == 4).count();
    assert_eq!(pages, 4, "ten new ones on three pages of four, and one more");
}

#[tokio::test]
async fn a_look_that_broke_off_is_taken_up_to_the_end() {
    for totals in [true, false] {
        let mut world = World::new().await;
        world.script().totals = totals;
        world.add(&[("a", 4, Some(9_000))]);
        world.poll().await;
        let many: Vec<String> = (0..9).map(|number| format!("r{number}")).collect();
        world.add(&many.iter().map(|id| (id.as_str(), 4, Some(3))).collect::<Vec<_>>());
        {
            let mut script = world.script();
            script.now += 20 * MINUTE;
            // Pending takes one request, or two passes of it; then the second page of those approved.
            script.fails_at = Some(script.asked + if totals { 3 } else { 4 });
        }
        assert!(world.try_poll().await.1.is_err());
        let first = world.entries().await.len();
        assert_eq!(first, 4, "its first page is kept");
        world.reload().await;
        assert_eq!(world.poll().await.1.len(), 5, "what lay below it is not forgotten (totals: {totals})");
    }
}

#[tokio::test]
async fn a_portal_that_keeps_no_order_is_read_to_the_end() {
    let mut world = World::new().await;
    world.script().ordered = false;
    world.script().totals = false;
    let many: Vec<String> = (0..9).map(|number| format!("r{number}")).collect();
    let old: Vec<(&str, u8, Option<i64>)> =
        many.iter().zip(0..).map(|(id, at)| (id.as_str(), 4, Some(100 - at))).collect();
    world.add(&old);
    world.poll().await;
    world.add(&[("late", 4, Some(1))]);
    world.script().now += 20 * MINUTE;
    assert_eq!(of(&world.poll().await.1), [(Change::New, "late", 4)]);
}

#[tokio::test]
async fn a_decision_without_a_time_stands_last_and_is_found_by_the_count() {
    let mut world = World::new().await;
    let many: Vec<String> = (0..9).map(|number| format!("r{number}")).collect();
    world.add(&many.iter().map(|id| (id.as_str(), 16, Some(50))).collect::<Vec<_>>());
    world.poll().await;
    world.add(&[("untimed", 16, None)]);
    world.script().now += 20 * MINUTE;
    assert_eq!(of(&world.poll().await.1), [(Change::New, "untimed", 16)]);
}

#[tokio::test]
async fn members_that_do_not_count_make_no_entry_and_neither_does_another_spelling() {
    let print = |row: &str| {
        let counts = by_name("approval_requests").unwrap().parts().unwrap().counts;
        crate::normalise::fingerprint_of(row, counts).unwrap()
    };
    let one = r#"{"statusId":4,"actionDate":"2026-03-01T10:30:00","approvedBy":"a","assigneeUserId":null,"count":1}"#;
    let same = r#"{"StatusId":"4","actionDate":"2026-03-01T10:30:00.0000000Z","approvedBy":"a","assigneeUserId":"00000000-0000-0000-0000-000000000000"}"#;
    assert_eq!(print(one), print(same));
    for other in [
        one.replace("4,", "6,"),
        one.replace("30:00", "30:01"),
        one.replace("\"a\"", "\"b\""),
        one.replace("null", "\"x\""),
    ] {
        assert_ne!(print(one), print(&other), "{other}");
    }
    let unset = |text: &str| print(&format!(r#"{{"statusId":1,"actionDate":{text}}}"#));
    assert_eq!(unset("null"), unset("\"0001-01-01T00:00:00\""));
}
