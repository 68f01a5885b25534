use chrono::Duration;
use insta::assert_snapshot;

use super::picture::{Covered, Stretch};
use super::strip::Scale;
use super::*;
use crate::cli::tests::configured;
use crate::coverage::{Interval, State};
use crate::model::{SECOND, Seconds};
use crate::status::tests::at;
use crate::store::streams::StreamKey;
use crate::store::{StoreError, WriterDb, connections, streams};

/// The edge of the unified audit, whose rows settle for two minutes, at twelve.
fn edge() -> Seconds {
    at(11, 58).timestamp()
}

fn interval(hours: (Seconds, Seconds), state: State, listed: Option<u64>, held: u64) -> Interval {
    let (from, to) = (edge() - hours.0 * 3_600, edge() - hours.1 * 3_600);
    let reason = match state {
        State::Proven | State::Baseline => None,
        _ => Some(format!("it is {}", state.as_str())),
    };
    Interval { from, to, state, listed, held, checked: at(11, 0).timestamp() * SECOND, reason }
}

/// Seven days with a gap, a silence, a second that counts differently, and time before the start.
fn fill(db: &WriterDb) -> Result<(), StoreError> {
    let acme = connections::register(db, "acme")?.id;
    let open = |source, fingerprint| {
        streams::open(db, &StreamKey { connection: acme, source, scope: "tree", fingerprint })
    };
    let audit = open("unified_audit", "table=1")?;
    let second =
        Interval { to: edge() - 30 * 3_600 + 1, ..interval((30, 29), State::StableUnproven, Some(3), 2) };
    let intervals = [
        interval((200, 100), State::Baseline, Some(700), 0),
        interval((100, 60), State::Proven, Some(400), 400),
        interval((60, 55), State::EmptyUnconfirmed, Some(0), 0),
        interval((50, 30), State::Proven, Some(200), 200),
        second.clone(),
        Interval { from: second.to, ..interval((30, 0), State::Proven, None, 0) },
    ];
    // The last poll was a minute ago.
    let last = Interval { to: edge() - 60, ..intervals[5].clone() };
    streams::replace_intervals(db, audit.id, (0, i64::MAX), &intervals[..5])?;
    streams::replace_intervals(db, audit.id, (last.from, last.to), &[last])?;
    let silent = serde_json::json!({ "quiet": at(7, 30).timestamp_micros() });
    let notes = serde_json::json!({ "start": edge() - 100 * 3_600, "rows": 10, "silent": silent });
    streams::set_notes(db, audit.id, &notes.to_string())?;
    // What another narrowing collected in former days is no part of the coverage.
    let former = open("unified_audit", "table=2")?;
    streams::set_notes(db, former.id, &notes.to_string())?;
    open("system_audit", "")?;
    let computers = open("computers", "")?;
    let notes = serde_json::json!({ "complete": at(9, 0).timestamp_micros(), "unknown": [["own", 20]] });
    streams::set_notes(db, computers.id, &notes.to_string())
}

async fn picture(asked: Asked<'_>) -> Picture {
    let (_dir, config) = configured();
    let store = Store::open_in_memory(Clock::system()).unwrap();
    store.write(fill).await.unwrap();
    Picture::take(&store, &config, asked, None, at(12, 0)).await.unwrap()
}

const ALL: Asked<'static> = Asked { site: None, sources: &[] };

#[tokio::test]
async fn the_page_shows_a_strip_and_what_is_not_proven_with_its_evidence() {
    let picture = picture(ALL).await;
    assert_snapshot!(Page { picture: &picture, width: 100 }.to_string());
}

#[tokio::test]
async fn the_intervals_for_machines_leave_no_hole_and_name_every_state() {
    let picture = picture(ALL).await;
    let json = serde_json::to_value(&picture).unwrap();
    let stream = &json["sites"][0]["streams"][2];
    assert_eq!((&stream["source"], &stream["shape"]), (&"unified_audit".into(), &"window".into()));
    let intervals = stream["intervals"].as_array().unwrap();
    for two in intervals.windows(2) {
        assert_eq!(two[0]["to"], two[1]["from"]);
    }
    assert_eq!(intervals.last().unwrap()["to"], stream["edge"]);
    let states: Vec<_> = intervals.iter().map(|one| one["state"].as_str().unwrap()).collect();
    let wanted = "baseline proven empty_unconfirmed pending proven stable_unproven proven upcoming";
    assert_eq!(states.join(" "), wanted);
    let evidence = |place: usize| (&intervals[place]["listed"], &intervals[place]["held"]);
    assert_eq!(evidence(1), (&400.into(), &400.into()));
    assert_eq!(evidence(6), (&serde_json::Value::Null, &serde_json::Value::Null), "no counts of its own");
}

#[tokio::test]
async fn a_site_and_a_source_alone_can_be_asked_for() {
    let sources = ["computers".to_owned()];
    let picture = picture(Asked { site: Some("acme"), sources: &sources }).await;
    let [site] = &picture.sites[..] else { panic!("{picture:?}") };
    let [stream] = &site.streams[..] else { panic!("{site:?}") };
    assert!(matches!(&stream.covered, Covered::Snapshot { walked, .. } if *walked == Some(at(9, 0))));
}

#[tokio::test]
async fn the_reason_of_what_is_pending_is_what_the_running_program_meets() {
    let (_dir, config) = configured();
    let store = Store::open_in_memory(Clock::system()).unwrap();
    store.write(fill).await.unwrap();
    let mut status = crate::status::tests::populated();
    let stream = &mut status.sites[0].streams[0];
    (stream.source, stream.scope, stream.query) = ("unified_audit".into(), "tree".into(), "table=1".into());
    stream.last_error = Some("the portal is on fire".to_owned());
    status.sites[0].site = "acme".to_owned();
    let picture = Picture::take(&store, &config, ALL, Some(&status), at(12, 0)).await.unwrap();
    let Covered::Window { intervals, .. } = &picture.sites[0].streams[2].covered else { panic!() };
    let pending: Vec<_> = intervals.iter().filter(|one| one.state == "pending").collect();
    assert_eq!(pending.len(), 2, "what the next poll would take, too");
    assert!(pending.iter().all(|one| one.reason.as_deref() == Some("the portal is on fire")));
    assert!(picture.running);
}

#[tokio::test]
async fn ages_run_on_the_portals_clock() {
    let (_dir, config) = configured();
    let store = Store::open_in_memory(Clock::system()).unwrap();
    store.write(fill).await.unwrap();
    let ahead = |db: &WriterDb| {
        let acme = connections::register(db, "acme")?.id;
        connections::set_clock(db, acme, at(12, 0).timestamp_micros(), at(2, 0).timestamp_micros())
    };
    store.write(ahead).await.unwrap();
    let picture = Picture::take(&store, &config, ALL, None, at(2, 0)).await.unwrap();
    assert_eq!(picture.sites[0].portal_time, at(12, 0));
    assert_eq!(picture.sites[1].portal_time, at(2, 0), "of which nothing is known");
}

fn stretch(from: i64, to: i64, state: &'static str) -> Stretch {
    let minutes = |count| at(12, 0) + Duration::minutes(count);
    let (from, to) = (minutes(from), minutes(to));
    Stretch { from, to, state, listed: None, held: None, checked: None, reason: None }
}

#[test]
fn in_a_sign_the_worst_state_wins_however_short_it_is() {
    let scale = Scale::new(168, at(12, 30));
    let strip = |intervals: &[Stretch]| scale.strip(intervals).chars().rev().take(3).collect::<String>();
    let proven = [stretch(-120, 30, "proven")];
    assert_eq!(strip(&proven), "███");
    let worse = [stretch(-120, -59, "proven"), stretch(-59, -58, "pending"), stretch(-58, 30, "proven")];
    assert_eq!(strip(&worse), "█░█");
    let worst = [
        stretch(-120, -59, "stable_unproven"),
        stretch(-59, -58, "pending"),
        stretch(-58, -57, "expired"),
        stretch(-57, -10, "proven"),
        stretch(-10, 30, "upcoming"),
    ];
    assert_eq!(strip(&worst), " x~", "what the next poll asks for is no state");
}

#[test]
fn a_strip_is_as_fine_as_the_terminal_is_wide() {
    for (width, hours, signs) in
        [(400, 1, 168), (168, 1, 168), (167, 2, 84), (84, 2, 84), (83, 4, 42), (40, 4, 42)]
    {
        let scale = Scale::new(width, at(12, 30));
        assert_eq!((scale.hours(), scale.strip(&[]).chars().count()), (hours, signs), "{width}");
        assert!(scale.ruler().chars().count() <= signs, "{}", scale.ruler());
    }
}
