use insta::assert_snapshot;

use super::*;
use crate::cli::tests::configured;
use crate::coverage::{Interval, State};
use crate::model::{Micros, SECOND, Seconds};
use crate::status::tests::at;
use crate::store::streams::StreamKey;
use crate::store::{WriterDb, connections, streams};

const DAY: Seconds = 86_400;

fn now() -> Micros {
    at(12, 0).timestamp_micros()
}

#[test]
fn a_moment_is_a_time_a_date_or_how_long_ago() {
    let second = |text: &str| text.parse::<Moment>().map(|moment| moment.second(now()));
    assert_eq!(second("2026-03-01T09:00:00Z"), Ok(at(9, 0).timestamp()));
    assert_eq!(second("2026-03-01T10:00:00+01:00"), Ok(at(9, 0).timestamp()));
    assert_eq!(second("2026-03-01"), Ok(at(0, 0).timestamp()));
    assert_eq!(second("30d"), Ok(now() / SECOND - 30 * DAY));
    for wrong in ["yesterday", "30", "2026-13-01", ""] {
        assert!(second(wrong).unwrap_err().contains("30d"), "{wrong}");
    }
}

#[test]
fn a_span_that_ends_before_it_begins_or_lies_ahead_is_refused() {
    let span = |from: &str, to: Option<&str>| {
        Span::resolve(from.parse().unwrap(), to.map(|to| to.parse().unwrap()), now())
    };
    assert!(span("7d", None).is_ok() && span("7d", Some("6d")).is_ok());
    assert!(span("6d", Some("7d")).unwrap_err().contains("--to 2026-02-22"));
    assert!(span("6d", Some("6d")).is_err());
    assert!(span("2026-03-02", None).unwrap_err().contains("future"));
}

/// A day that is owed and 29 before it: counted for the unified audit, 1,000 rows a day; not for the other.
fn fill(db: &WriterDb) -> Result<(), StoreError> {
    let acme = connections::register(db, "acme")?.id;
    let open = |source, fingerprint| {
        streams::open(db, &StreamKey { connection: acme, source, scope: "tree", fingerprint })
    };
    let start = now() / SECOND - DAY;
    for (stream, counted) in [(open("unified_audit", "table=1")?, true), (open("system_audit", "")?, false)] {
        let one = |from, state, listed, held| Interval {
            from,
            to: from + DAY - 600,
            state,
            listed,
            held,
            checked: 0,
            reason: None,
        };
        let mut intervals = vec![one(start, State::Proven, Some(240), 240)];
        if counted {
            let days = (1..30).map(|day| Interval {
                to: start - (day - 1) * DAY,
                ..one(start - day * DAY, State::Baseline, Some(1_000), 0)
            });
            intervals.extend(days);
        }
        streams::replace_intervals(db, stream.id, (0, i64::MAX), &intervals)?;
        streams::set_notes(db, stream.id, &serde_json::json!({ "start": start }).to_string())?;
    }
    open("computers", "")?;
    Ok(())
}

async fn plan(from: &str, to: Option<&str>) -> Plan {
    let (_dir, config) = configured();
    let store = Store::open_in_memory(Clock::system()).unwrap();
    store.write(fill).await.unwrap();
    let (_, stored) = store.read(|db| plan::read(db, "acme")).await.unwrap().unwrap();
    let span = Span::resolve(from.parse().unwrap(), to.map(|to| to.parse().unwrap()), now()).unwrap();
    Plan::new(&config.connections[0], &stored, &[], span, now())
}

#[tokio::test]
async fn a_plan_tells_rows_requests_and_minutes_and_how_they_are_known() {
    let plan = plan("4d12h", None).await;
    assert_snapshot!(plan.to_string(), @r#"
    site acme, at 2026-03-01 12:00:00Z of the portal
      SOURCE                 SCOPE  FROM                  TO                    ROWS       REQUESTS  MINUTES  NOTE
      system_audit           tree   2026-02-25 00:00:00Z  2026-02-28 12:00:00Z  about 845  6         0.0
      unified_audit table=1  tree   2026-02-25 00:00:00Z  2026-02-28 12:00:00Z  3500       11        0.0
      in all 17 requests, about 0.1 minutes at the site's rate
      "about": by the rows a day that were collected so far; else as the portal counted them
    "#);
    let rows: Vec<_> = plan.streams.iter().map(|stream| (stream.rows, stream.estimated)).collect();
    assert_eq!(rows, [(Some(845), true), (Some(3_500), false)], "240 in 23:50 h, 1,000 a day");
    assert_eq!(plan.streams[1].requests, Some(7 + 4));
}

#[tokio::test]
async fn what_the_portal_keeps_no_longer_is_said_and_left_out() {
    let plan = plan("90d", None).await;
    for stream in &plan.streams {
        assert_eq!(stream.begin, now() / SECOND - 30 * DAY + 3_600);
        assert!(stream.note.as_ref().is_some_and(|note| note.contains("keeps 30d")), "{stream:?}");
    }
}

#[tokio::test]
async fn what_is_owed_already_is_not_asked_for_again() {
    let plan = plan("12h", None).await;
    assert_eq!((plan.wanted().count(), plan.requests), (0, 0));
    assert!(plan.to_string().contains("owed already"), "{plan}");
}

#[tokio::test]
async fn an_end_before_the_start_leaves_out_what_lies_between() {
    let plan = plan("5d", Some("3d")).await;
    let audit = &plan.streams[1];
    assert_eq!((audit.seconds, audit.rows), (2 * DAY, Some(2_000)));
    assert_eq!(audit.end, now() / SECOND - 3 * DAY);
}

#[tokio::test]
async fn without_a_running_program_the_state_keeps_what_is_asked_for_until_it_is_taken_up() {
    let (_dir, config) = configured();
    let store = Store::open(&config.state.dir, Clock::system()).unwrap();
    store.write(fill).await.unwrap();
    store.close().await;
    let plan = {
        let store = Store::open_read_only(&config.state.dir).unwrap();
        let (_, stored) = store.read(|db| plan::read(db, "acme")).await.unwrap().unwrap();
        let span = Span::resolve("5d".parse().unwrap(), None, now()).unwrap();
        Plan::new(&config.connections[0], &stored, &["unified_audit".to_owned()], span, now())
    };
    assert!(!hand_over(&config, &plan).await.unwrap());
    let store = Store::open(&config.state.dir, Clock::system()).unwrap();
    let (id, wanted) = (plan.streams[0].id, (plan.streams[0].begin, plan.streams[0].end));
    let asked = |store: &Store| {
        let store = store.clone();
        async move { store.read(move |db| backfill::asked(db, id)).await.unwrap() }
    };
    assert_eq!(asked(&store).await, Some(wanted));
    let waiting = store.read(backfill::waiting).await.unwrap().remove("acme").unwrap();
    let seconds: Vec<_> =
        waiting.iter().map(|asked| [asked.from, asked.to].map(|at| at.unwrap().timestamp())).collect();
    assert_eq!((seconds, &*waiting[0].source), (vec![[wanted.0, wanted.1]], "unified_audit"));
    let other = store.write(move |db| backfill::ask(db, "other", id, wanted)).await.unwrap();
    assert!(!other, "of another site");
    store.write(move |db| backfill::taken_up(db, id, (0, 1))).await.unwrap();
    assert_eq!(asked(&store).await, Some(wanted), "another wish");
    let (older, newer) = ((0, 10), (5, wanted.1 + 1));
    for (span, first) in [(older, wanted), (newer, newer)] {
        store.write(move |db| backfill::ask(db, "acme", id, span)).await.unwrap();
        assert_eq!(asked(&store).await, Some(first), "the newest time comes first");
    }
    for span in [older, newer] {
        store.write(move |db| backfill::taken_up(db, id, span)).await.unwrap();
    }
    store.write(move |db| backfill::taken_up(db, id, wanted)).await.unwrap();
    assert_eq!(asked(&store).await, None);
    assert!(store.read(backfill::waiting).await.unwrap().is_empty());
}
