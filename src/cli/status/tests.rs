use insta::assert_snapshot;

use super::*;
use crate::cli::tests::configured;
use crate::coverage::{Interval, State};
use crate::model::Lane;
use crate::status::Owed;
use crate::status::tests::{at, populated};
use crate::store::outbox::NewEntry;
use crate::store::streams::StreamKey;
use crate::store::{WriterDb, connections, outbox, sinks, streams};

#[test]
fn the_page_tells_what_is_wrong_first() {
    assert_snapshot!(Page(&populated()).to_string());
}

#[test]
fn the_page_tells_how_fast_a_stream_is_and_how_long_what_it_owes_will_take() {
    let mut status = populated();
    let stream = &mut status.sites[0].streams[0];
    stream.rows_per_second = Some(250.0);
    stream.owed =
        Some(Owed { seconds: 86_400.0, of_seconds: 10.0 * 86_400.0, remaining_seconds: Some(600.0) });
    let page = Page(&status).to_string();
    let line = |start: &str| page.lines().find(|line| line.trim_start().starts_with(start)).unwrap();
    assert!(line("SOURCE").contains("ROWS/S"), "{page}");
    assert!(line("unified_audit table=1  tree").contains(" 1234  250 "), "{page}");
    let told = line("unified_audit table=1 of tree: backfill, ");
    assert!(told.ends_with("1d of 10d left, about 10 min"), "{told}");
    assert!(!page.contains("computers of north: backfill"), "{page}");
}

#[tokio::test]
async fn without_a_running_program_the_state_tells() {
    let (_dir, config) = configured();
    let missing = Store::open_read_only(&config.state.dir).err().unwrap().to_string();
    assert!(missing.contains("there is no state"), "{missing}");
    let store = Store::open(&config.state.dir, Clock::system()).unwrap();
    store.write(fill).await.unwrap();
    store.close().await;

    let store = Store::open_read_only(&config.state.dir).unwrap();
    let picture = offline::status(&store, &config, at(12, 0)).await.unwrap();
    assert!(!picture.running && !picture.fresh);
    assert_snapshot!(Page(&picture).to_string());
}

#[tokio::test]
async fn without_a_running_program_ages_run_on_the_portals_clock() {
    let (_dir, config) = configured();
    let store = Store::open_in_memory(Clock::system()).unwrap();
    store.write(fill).await.unwrap();
    let ahead = move |db: &WriterDb| {
        let acme = connections::register(db, "acme")?.id;
        connections::set_clock(db, acme, at(12, 0).timestamp_micros(), at(2, 0).timestamp_micros())
    };
    store.write(ahead).await.unwrap();
    let picture = offline::status(&store, &config, at(2, 0)).await.unwrap();
    let acme = &picture.sites[0];
    assert_eq!((acme.portal_time, acme.clock_offset_seconds), (Some(at(12, 0)), Some(36_000.0)));
    assert_eq!(acme.streams[0].lag_seconds, Some(3.0 * 3_600.0));
    assert!(acme.streams.iter().all(|stream| stream.stale && !stream.unproven.is_empty()));
    for one in acme.streams.iter().flat_map(|stream| &stream.unproven) {
        assert!(one.from < one.to && one.to <= at(12, 0), "{one:?}");
    }
    // A clock of ours that was set back since: the length of what is not proven is none, never less.
    let picture = offline::status(&store, &config, at(2, 0) - chrono::Duration::days(2)).await.unwrap();
    let unproven = picture.sites[0].streams.iter().flat_map(|stream| &stream.unproven);
    assert!(unproven.clone().count() > 0 && unproven.clone().all(|one| one.from <= one.to));
}

/// A day of an account: a gap, a silent organization, computers that are held as unknown, a backlog.
fn fill(db: &WriterDb) -> Result<(), crate::store::StoreError> {
    let acme = connections::register(db, "acme")?.id;
    connections::set_organization(db, acme, &crate::model::OrganizationId::new("own"))?;
    let hour = |hour| at(hour, 0).timestamp();
    let open = |source, fingerprint| {
        streams::open(db, &StreamKey { connection: acme, source, scope: "tree", fingerprint })
    };
    let audit = open("unified_audit", "table=1")?;
    let proven = |from, to| Interval {
        from,
        to,
        state: State::Proven,
        listed: Some(5),
        held: 5,
        checked: 0,
        reason: None,
    };
    let intervals = [proven(hour(0), hour(3)), proven(hour(4), hour(9))];
    streams::replace_intervals(db, audit.id, (0, i64::MAX), &intervals)?;
    let silent = serde_json::json!({ "quiet": at(7, 30).timestamp_micros() });
    let notes = serde_json::json!({ "start": hour(0), "rows": 10, "silent": silent });
    streams::set_notes(db, audit.id, &notes.to_string())?;
    let computers = open("computers", "")?;
    let notes = serde_json::json!({
        "complete": at(9, 0).timestamp_micros(),
        "unknown": [["own", 20]],
        "unknown_since": at(8, 0).timestamp_micros(),
        "rows": 20,
    });
    streams::set_notes(db, computers.id, &notes.to_string())?;
    sinks::configure(db, &[("out", "stdout", "raw")])?;
    let entry = NewEntry {
        uid: uuid::Uuid::nil(),
        kind: crate::model::Kind::Event,
        change: crate::model::Change::New,
        organization: "own",
        vendor_id: None,
        time: None,
        row: "{}",
        previous: None,
        known: crate::record::enrichment::Enrichment::default(),
    };
    let (collected, stored) = (at(9, 0).timestamp_micros(), at(9, 0).timestamp_micros());
    outbox::append(db, acme, 1, Lane::Live, "unified_audit", collected, stored, &[entry])?;
    Ok(())
}
