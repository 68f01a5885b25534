use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use rusqlite::Connection;
use serde_json::json;

use super::super::{Memory, SnapshotNotes, SnapshotSettings};
use super::*;
use crate::clock::Clock;
use crate::collect::{Listed, ListedRow};
use crate::coverage::walk::RowId;
use crate::model::{Lane, OrganizationId, uid};
use crate::portal::{Answer, Failure, PortalError};
use crate::source::{Filter, Query, Scope};
use crate::store::streams::StreamKey;
use crate::store::{Store, connections, outbox, streams};

const HOUR: Seconds = 3_600;
const START: Seconds = 490_000 * HOUR;
const SPAN: Seconds = 48 * HOUR;

/// A portal where something happens every hour.
struct Script {
    now: Seconds,
    dated: bool,
    /// What it does not show any more.
    kept_from: Seconds,
    away: bool,
    /// Spans that were asked for beside the newest.
    asked: Vec<(Seconds, Seconds)>,
}

#[derive(Clone)]
struct Played(Arc<Mutex<Script>>);

impl Listing for Played {
    fn now(&self) -> Micros {
        self.0.lock().unwrap().now * SECOND
    }

    async fn list(&self, query: &Query) -> Result<Listed, CollectError> {
        let mut script = self.0.lock().unwrap();
        script.asked.extend(query.span);
        let fail = |failure| Err(PortalError { site: "acme".to_owned(), endpoint: None, failure }.into());
        if script.away && query.span.is_some() {
            return fail(Failure::Unreachable("away".to_owned()));
        }
        let newest = query.filter.report.as_ref().unwrap().newest(script.now * SECOND);
        let (from, to) = query.span.filter(|_| script.dated).unwrap_or(newest);
        if query.span.is_some() && from < script.kept_from {
            return fail(Failure::Answer(Answer { status: 400, ..Answer::default() }));
        }
        let hours = (from..to).filter(|second| second % HOUR == 0);
        let (last, dated) = (Some(true), script.dated);
        Ok(Listed { rows: hours.map(row).collect(), last, dated, ..Listed::default() })
    }
}

fn row(at: Seconds) -> ListedRow {
    let id = format!("h{}", at / HOUR);
    ListedRow {
        id: RowId::Vendor(uid("a", "reports", &id, "event", "0").as_u128()),
        organization: OrganizationId::new("a"),
        organization_name: None,
        vendor_id: Some(id),
        at: None,
        imported: None,
        own: false,
        rated: false,
        shape: 0,
        sighting: None,
        body: Bytes::from(json!({ "Hour": at / HOUR }).to_string()),
    }
}

struct World {
    played: Played,
    stream: SnapshotStream<Played>,
    read: i64,
    told: Vec<Seconds>,
}

impl World {
    async fn new() -> Self {
        let script = Script { now: START, dated: true, kept_from: 0, away: false, asked: Vec::new() };
        let played = Played(Arc::new(Mutex::new(script)));
        let clock = Clock::shifted(chrono::Duration::zero(), 1);
        let store = Store::open_in_memory(clock.clone()).unwrap();
        let (connection, row) = store
            .write(|db| {
                let connection = connections::register(db, "acme")?.id;
                let key = StreamKey { connection, source: "reports", scope: "tree", fingerprint: "report=x" };
                Ok((connection, streams::open(db, &key)?))
            })
            .await
            .unwrap();
        let span = Duration::from_secs(u64::try_from(SPAN).unwrap());
        let report = Report { names: vec!["x".to_owned()], is_computers: false, span };
        let settings = SnapshotSettings {
            connection,
            epoch: 1,
            source: "reports",
            kind: Kind::Event,
            scope: Scope::Tree(OrganizationId::new("a")),
            filter: Filter { report: Some(report), ..Filter::default() },
            takes_over: false,
            volatile: &[],
            page_size: 1_000,
            parts: None,
            restate: None,
            stream: row.id,
            set: row.set,
        };
        let stream = SnapshotStream {
            settings,
            listing: played.clone(),
            store,
            clock,
            notes: SnapshotNotes::default(),
            requests: 0,
            memory: Memory::default(),
        };
        Self { played, stream, read: 0, told: Vec::new() }
    }

    fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        self.played.0.lock().unwrap()
    }

    /// Polls so many hours later; answers the spans that were asked for beside the newest.
    async fn after(&mut self, hours: Seconds) -> Vec<(Seconds, Seconds)> {
        self.script().now += hours * HOUR;
        self.stream.poll().await.ok();
        let (connection, after) = (self.stream.settings.connection, self.read);
        let read = move |db: &Connection| outbox::read_after(db, connection, Lane::Live, after, 1 << 30);
        for chunk in self.stream.store.read(read).await.unwrap() {
            self.read = chunk.last;
            for entry in chunk.entries().unwrap() {
                let hour = entry.row.trim_matches(|letter: char| !letter.is_ascii_digit());
                self.told.push(hour.parse::<Seconds>().unwrap() * HOUR);
            }
        }
        std::mem::take(&mut self.script().asked)
    }

    /// Whether each hour since the first span was told, and once.
    fn is_whole(&self) -> bool {
        let (told, now) = (self.told.iter().copied().collect::<HashSet<_>>(), self.script().now);
        told.len() == self.told.len() && (START - SPAN..now).step_by(3_600).all(|hour| told.contains(&hour))
    }
}

#[tokio::test]
async fn what_happened_in_an_outage_is_asked_for_afterwards_and_told_once() {
    let mut world = World::new().await;
    assert_eq!(world.after(0).await, []);
    for hours in [24, 24, 48] {
        assert_eq!(world.after(hours).await, [], "one span begins where the other ends");
    }
    let spans = world.after(24 * 10).await;
    assert_eq!(spans.len(), 5, "{spans:?}");
    assert!(world.is_whole(), "{:?}", world.told);
    for _ in 0..4 {
        assert_eq!(world.after(24).await, []);
    }
    world.after(49).await;
    assert!(world.is_whole());
    assert_eq!((world.stream.notes.unproven.clone(), world.stream.notes.spans.holes.len()), (None, 0));
}

#[tokio::test]
async fn a_long_outage_is_made_up_for_in_several_polls_whatever_fails_meanwhile() {
    let mut world = World::new().await;
    world.after(0).await;
    world.script().away = true;
    assert_eq!(world.after(24 * 120).await.len(), 1, "the first that fails ends the poll");
    world.script().away = false;
    assert_eq!(world.after(1).await.len(), MOST_SPANS);
    assert!(world.stream.notes.unproven.is_some() && !world.is_whole());
    for _ in 0..3 {
        world.after(24).await;
    }
    assert!(world.is_whole());
    assert_eq!((world.stream.notes.unproven.clone(), world.stream.notes.spans.holes.len()), (None, 0));
}

#[tokio::test]
async fn what_the_portal_does_not_show_any_more_is_a_hole_that_is_said() {
    let mut world = World::new().await;
    world.after(0).await;
    world.script().kept_from = START + 24 * HOUR;
    for hours in [24 * 10, 0] {
        assert_eq!(world.after(hours).await.len(), 1, "it may be a fault that passes");
        assert!(world.stream.notes.spans.holes.is_empty());
    }
    world.after(0).await;
    let hole = world.stream.notes.spans.holes.clone();
    let [Hole { from, to, why }] = &hole[..] else { panic!("{hole:?}") };
    assert!(*from < START * SECOND && *to < (START + 48 * HOUR) * SECOND && why.contains("400"), "{hole:?}");
    let later: HashSet<_> = world.told.iter().copied().collect();
    assert!((to / SECOND..START + 240 * HOUR).step_by(3_600).all(|hour| later.contains(&hour)));
    assert_eq!(world.after(24).await, [], "it is asked for once");
    let mut status = crate::status::StreamStatus::default();
    status.of_snapshot(&world.stream.notes, world.script().now * SECOND);
    assert_eq!(status.unproven.iter().map(|one| one.state.as_str()).collect::<Vec<_>>(), ["unreachable"]);
    for _ in 0..2 {
        world.after(24 * 45).await;
    }
    let remembered = world.script().now * SECOND - REMEMBERED;
    assert!(world.stream.notes.spans.holes.iter().all(|hole| hole.to > remembered), "not for ever");
}

#[tokio::test]
async fn a_report_that_shows_how_things_are_is_run_once() {
    let mut world = World::new().await;
    world.script().dated = false;
    world.after(0).await;
    assert_eq!(world.after(24 * 30).await, []);
}

proptest! {
    #[test]
    fn the_missing_spans_leave_no_hole_and_show_nothing_that_went_out_of_sight(
        until in 0..1_000_000i64, away in 0..1_000_000i64, span in 3_600..100_000i64,
    ) {
        let now = until + away;
        let spans = missing(until, now, span);
        prop_assert_eq!(spans.is_empty(), now - span <= until);
        let mut reached = until;
        for (from, to) in spans {
            prop_assert!(from <= reached && from >= until - span && to - from <= span && from < to);
            reached = to;
        }
        prop_assert!(now - span <= reached);
    }
}
