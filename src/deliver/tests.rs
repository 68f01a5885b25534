mod again;
mod ahead;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::credentials::SecretSource;
use crate::format::Format;
use crate::model::{Change, Chunk, ConnectionId, Kind, Lane, Micros, OrganizationId, Retried};
use crate::redact::Redact;
use crate::redact::class::{Class, Classes, How};
use crate::select::Select;
use crate::sink::SinkKind;
use crate::sinks::file::{Compression, PathTemplate};
use crate::store::outbox::NewEntry;
use crate::store::refill::Shared;
use crate::store::{connections, dead_letters, refill};

/// A real store in a directory, and file sinks beside it.
struct Bench {
    directory: TempDir,
    store: Store,
    clock: Clock,
    appended: watch::Sender<()>,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = Clock::shifted(chrono::Duration::zero(), 1);
        let store = Store::open(&directory.path().join("state"), clock.clone()).unwrap();
        Self { directory, store, clock, appended: watch::channel(()).0 }
    }

    fn out(&self) -> std::path::PathBuf {
        self.directory.path().join("out")
    }

    async fn append(&self, site: &'static str, lane: Lane, rows: Vec<String>) {
        let appended = self.store.write(move |db| append(db, site, lane, &rows)).await;
        appended.unwrap();
        self.appended.send_replace(());
    }

    async fn workers(&self, sinks: &[(&str, &str)]) -> Vec<Worker> {
        let configs: Vec<SinkConfig> = sinks.iter().map(|(name, path)| self.config(name, path)).collect();
        let names: Vec<String> = sinks.iter().map(|(name, _)| (*name).to_owned()).collect();
        let rows = self
            .store
            .write(move |db| {
                let sinks: Vec<_> = names.iter().map(|name| (name.as_str(), "file", "raw")).collect();
                sinks::configure(db, &sinks)
            })
            .await
            .unwrap();
        let worker = |(config, row): (&SinkConfig, sinks::SinkRow)| {
            let (store, clock, budget) = (self.store.clone(), self.clock.clone(), Budget::new(1 << 20));
            let worker =
                Worker::new(config, row.state, store, clock, budget, settings(), self.appended.subscribe());
            // What holds for a sink that looks ahead holds for one that does not.
            Worker { looks_ahead: true, ..worker }
        };
        configs.iter().zip(rows).map(worker).collect()
    }

    async fn worker(&self) -> Worker {
        self.workers(&[("out", "out/{site}/{source}.ndjson")]).await.remove(0)
    }

    fn config(&self, name: &str, path: &str) -> SinkConfig {
        let path = format!("{}/{path}", self.directory.path().display());
        let path = PathTemplate::parse(&path, Compression::None).unwrap();
        let rotate_age = Duration::from_secs(3600);
        let kind = SinkKind::File { path, rotate_size: 3000, rotate_age, inventory: Vec::new() };
        let (format, select) = (Format::Raw, Select::default());
        let (name, max_per_day) = (name.to_owned(), None);
        let (format_by_default, redact, from_now) = (false, None, false);
        SinkConfig { name, format, format_by_default, redact, select, from_now, max_per_day, kind }
    }

    async fn letters(&self) -> Vec<dead_letters::DeadLetter> {
        self.store.read(|db| dead_letters::list(db, None, None, 100)).await.unwrap()
    }

    async fn positions(&self) -> Positions {
        self.store.read(|db| sinks::positions(db, "out")).await.unwrap()
    }
}

fn settings() -> Settings {
    Settings {
        batch_bytes: 2000,
        pause: (Duration::from_millis(5), Duration::from_millis(20)),
        look_again: Duration::from_millis(20),
        tick: Duration::from_millis(50),
        ..Settings::default()
    }
}

fn append(
    db: &rusqlite::Connection,
    site: &str,
    lane: Lane,
    rows: &[String],
) -> Result<ConnectionId, StoreError> {
    let connection = connections::register(db, site)?;
    let organization = OrganizationId::new(&format!("id-of-{site}"));
    connections::organization(db, connection.id, &organization, Some(&format!("{site} ltd")), 0)?;
    let entries: Vec<NewEntry<'_>> = rows
        .iter()
        .map(|row| NewEntry {
            uid: Uuid::new_v5(&Uuid::nil(), row.as_bytes()),
            kind: Kind::Event,
            change: Change::New,
            organization: organization.as_str(),
            vendor_id: None,
            time: Some(0),
            row,
            previous: None,
            known: crate::record::enrichment::Enrichment::default(),
        })
        .collect();
    // In pages, as collecting does.
    for page in entries.chunks(7) {
        outbox::append(db, connection.id, 1, lane, "audit", 1_795_305_600_000_000, 0, page)?;
    }
    Ok(connection.id)
}

fn rows(names: std::ops::Range<usize>) -> Vec<String> {
    names.map(|name| format!("{{\"name\":{name}}}")).collect()
}

/// The names of the rows in the files below a directory, file by file in the order of their closing.
fn delivered(directory: &Path) -> Vec<u64> {
    let mut files: BTreeMap<(String, usize), String> = BTreeMap::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(next) = directories.pop() {
        for path in fs::read_dir(next).into_iter().flatten().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let name = path.file_name().unwrap().to_str().unwrap();
            assert!(name.contains(".ndjson"), "{name}");
            let sequence = name.split('.').nth(1).unwrap().parse().unwrap_or(0);
            let directory = path.parent().unwrap().display().to_string();
            files.insert((directory, sequence), fs::read_to_string(&path).unwrap());
        }
    }
    let lines = files.values().flat_map(|text| text.lines());
    lines
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["row"]["name"].as_u64().unwrap())
        .collect()
}

fn sorted(mut names: Vec<u64>) -> Vec<u64> {
    names.sort_unstable();
    names
}

#[test]
fn only_events_that_the_portal_lists_by_time_are_let_go_by_their_ids() {
    let listed_again = |source: &str| room::is_listed_again(source);
    assert!(["unified_audit", "system_audit", "threats"].into_iter().all(listed_again));
    let others = [
        "approval_requests",
        "policies",
        "remediations",
        "organizations",
        "computer_checkins",
        "of a newer version",
    ];
    assert!(!others.into_iter().any(listed_again));
}

#[tokio::test]
async fn everything_pending_arrives_once_and_live_before_backfill() {
    let bench = Bench::new();
    bench.append("acme", Lane::Backfill, rows(100..160)).await;
    bench.append("acme", Lane::Live, rows(0..60)).await;
    let mut worker = bench.worker().await;
    worker.until_empty(&CancellationToken::new()).await.unwrap();
    assert_eq!(delivered(&bench.out()), (0..60).chain(100..160).collect::<Vec<u64>>());
    let status = worker.status().borrow().clone();
    assert_eq!((status.state, status.delivered_records, status.pending_bytes), (SinkCondition::Ok, 120, 0));
    assert!(status.oldest_pending.is_none() && status.last_confirmed.is_some());
}

#[tokio::test]
async fn a_sink_gets_pseudonyms_of_the_key_as_it_is_and_nothing_while_there_is_none() {
    let bench = Bench::new();
    let key = bench.directory.path().join("key");
    let mut classes = Classes::default();
    classes.set(Class::User, How::Pseudonym);
    let redact = Redact { classes, key: Some(SecretSource::File(key.clone())) };
    let mut worker = bench.worker().await;
    worker.assembler.redact = Some(redact);
    let row = |name: u64| vec![format!("{{\"name\":{name},\"username\":\"alice\"}}")];
    let stop = CancellationToken::new();

    bench.append("a", Lane::Live, row(1)).await;
    let error = worker.until_empty(&stop).await.unwrap_err().to_string();
    assert!(error.contains("redact_key") && error.contains("cannot be read"), "{error}");
    assert_eq!(delivered(&bench.out()), [0; 0]);

    fs::write(&key, "the first key of some length").unwrap();
    worker.until_empty(&stop).await.unwrap();
    fs::write(&key, "the second key of some length").unwrap();
    bench.append("a", Lane::Live, row(2)).await;
    worker.until_empty(&stop).await.unwrap();
    worker.finish().await.unwrap();
    let files = fs::read_dir(bench.out().join("a")).unwrap();
    let text: String = files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    assert_eq!(
        (text.matches("alice").count(), text.matches("\"username\":\"user-").count()),
        (0, 2),
        "{text}"
    );
    let ids: BTreeSet<&str> =
        text.split("RedactionKey\":\"").skip(1).filter_map(|rest| rest.get(..8)).collect();
    assert_eq!(ids.len(), 2, "{text}");
}

#[tokio::test]
async fn a_path_by_organization_uses_its_frozen_short_name() {
    let bench = Bench::new();
    bench.append("acme", Lane::Live, rows(0..1)).await;
    let mut worker = bench.workers(&[("out", "out/{org_slug}/{org_id}-{date}.ndjson")]).await.remove(0);
    worker.until_empty(&CancellationToken::new()).await.unwrap();
    assert!(bench.out().join("acme-ltd/id-of-acme-2026-11-22.ndjson.part").exists());
}

/// Polls a future so many times and drops it; true when it was done before.
async fn polled(times: usize, future: impl Future) -> bool {
    let mut future = pin!(future);
    let mut left = times;
    std::future::poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(false);
        }
        left -= 1;
        future.as_mut().poll(context).map(|_| true)
    })
    .await
}

#[test]
fn a_worker_killed_between_any_two_steps_loses_and_doubles_nothing() {
    let mut steps = 0;
    loop {
        let life = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let bench = Bench::new();
        // A runtime that is dropped waits for calls that run on its threads, as the end of a process does.
        life().block_on(async {
            bench.append("acme", Lane::Live, rows(0..20)).await;
            bench.append("beta", Lane::Backfill, rows(20..40)).await;
        });
        let stop = CancellationToken::new();
        let done = life().block_on(async {
            let mut worker = bench.worker().await;
            polled(steps, worker.until_empty(&stop)).await
        });
        life().block_on(async {
            bench.append("acme", Lane::Live, rows(40..50)).await;
            bench.worker().await.until_empty(&stop).await.unwrap();
        });
        assert_eq!(
            sorted(delivered(&bench.out())),
            (0..50).collect::<Vec<u64>>(),
            "killed after {steps} steps"
        );
        if done {
            break;
        }
        steps += 1;
    }
    assert!(steps > 20, "{steps}");
}

#[tokio::test]
async fn a_dead_sink_holds_up_no_other_and_goes_on_when_it_is_repaired() {
    let bench = Bench::new();
    fs::write(bench.directory.path().join("dead"), "a file where a directory should be").unwrap();
    let sinks = [("dead", "dead/{site}.ndjson"), ("out", "out/{site}.ndjson")];
    let mut workers = bench.workers(&sinks).await;
    let stop = CancellationToken::new();
    let (mut out, mut dead) = (workers.pop().unwrap(), workers.pop().unwrap());
    let (mut out_status, mut dead_status) = (out.status(), dead.status());
    let running = {
        let stop = stop.clone();
        tokio::spawn(async move { tokio::join!(out.run(&stop, &stop), dead.run(&stop, &stop)) })
    };
    bench.append("acme", Lane::Live, rows(0..30)).await;
    out_status.wait_for(|status| status.delivered_records == 30).await.unwrap();
    let failing =
        dead_status.wait_for(|status| status.state == SinkCondition::Retrying).await.unwrap().clone();
    assert!(failing.last_error.unwrap().contains("dead") && failing.pending_bytes > 0);
    fs::remove_file(bench.directory.path().join("dead")).unwrap();
    dead_status.wait_for(|status| status.delivered_records == 30).await.unwrap();
    dead_status.wait_for(|status| status.state == SinkCondition::Ok).await.unwrap();
    bench.append("acme", Lane::Live, rows(30..31)).await;
    dead_status.wait_for(|status| status.delivered_records == 31).await.unwrap();
    out_status.wait_for(|status| status.delivered_records == 31).await.unwrap();
    stop.cancel();
    running.await.unwrap();
    assert_eq!(out_status.borrow().state, SinkCondition::Stopped);
    assert_eq!(delivered(&bench.directory.path().join("dead")), (0..31).collect::<Vec<u64>>());
}

#[tokio::test]
async fn a_dead_letter_is_safe_before_anything_is_confirmed_and_is_entered_once() {
    let bench = Bench::new();
    fs::write(bench.out(), "in the way").unwrap();
    let mut bad = rows(0..3);
    bad[1] = "no json".to_owned();
    bench.append("acme", Lane::Live, bad).await;
    let mut worker = bench.worker().await;
    let stop = CancellationToken::new();
    worker.until_empty(&stop).await.unwrap_err();
    let letters = bench.letters().await;
    assert_eq!(letters.len(), 1);
    assert!(letters[0].reason.contains("no JSON") && letters[0].sink.as_deref() == Some("out"));
    assert!(bench.positions().await.is_empty());
    fs::remove_file(bench.out()).unwrap();
    worker.until_empty(&stop).await.unwrap();
    assert_eq!(delivered(&bench.out()), [0, 2]);
    assert_eq!((bench.letters().await.len(), worker.status().borrow().dead_letters), (1, 1));
}

#[tokio::test]
async fn a_batch_of_nothing_but_dead_letters_moves_the_position() {
    let bench = Bench::new();
    bench.append("acme", Lane::Live, vec!["no json".to_owned()]).await;
    bench.worker().await.until_empty(&CancellationToken::new()).await.unwrap();
    assert_eq!((bench.letters().await.len(), bench.positions().await.into_values().sum::<i64>()), (1, 1));
}

#[tokio::test]
async fn too_many_refusals_hold_the_sink_and_give_up_none_of_the_batch() {
    let bench = Bench::new();
    bench.append("acme", Lane::Live, (0..20).map(|number| format!("no json {number}")).collect()).await;
    let mut worker = bench.worker().await;
    let stop = CancellationToken::new();
    let error = worker.until_empty(&stop).await.unwrap_err();
    assert_eq!(error.remedy(), Remedy::Hold);
    assert_eq!(worker.status().borrow().state, SinkCondition::Held);
    assert!(bench.letters().await.is_empty() && bench.positions().await.is_empty());
    worker.settings.most_refused = None;
    worker.until_empty(&stop).await.unwrap();
    assert_eq!(bench.letters().await.len(), 20);
}

#[tokio::test]
async fn a_full_store_of_dead_letters_holds_the_sink() {
    let bench = Bench::new();
    bench.append("acme", Lane::Live, vec!["no json".to_owned()]).await;
    let mut worker = bench.worker().await;
    worker.settings.dead_letter_bytes = 0;
    let error = worker.until_empty(&CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, DeliverError::DeadLettersFull { limit: 0 }));
    assert!(bench.positions().await.is_empty());
}

#[tokio::test]
async fn a_file_deleted_while_running_holds_the_sink_until_it_is_back() {
    let bench = Bench::new();
    let stop = CancellationToken::new();
    bench.append("acme", Lane::Live, rows(0..3)).await;
    let mut worker = bench.worker().await;
    worker.until_empty(&stop).await.unwrap();
    let part = bench.out().join("acme/audit.ndjson.part");
    let moved = bench.directory.path().join("moved");
    fs::rename(&part, &moved).unwrap();
    bench.append("acme", Lane::Live, rows(3..6)).await;
    for _ in 0..2 {
        assert_eq!(worker.until_empty(&stop).await.unwrap_err().remedy(), Remedy::Hold);
    }
    assert_eq!(worker.status().borrow().state, SinkCondition::Held);
    fs::rename(&moved, &part).unwrap();
    worker.until_empty(&stop).await.unwrap();
    assert_eq!(delivered(&bench.out()), (0..6).collect::<Vec<u64>>());
}

#[tokio::test]
async fn a_store_restored_from_a_backup_is_noticed_and_the_files_hold_each_record_once() {
    let bench = Bench::new();
    let stop = CancellationToken::new();
    bench.append("acme", Lane::Live, rows(0..5)).await;
    let mut worker = bench.worker().await;
    worker.until_empty(&stop).await.unwrap();
    let backup = worker.saved.clone();
    bench.append("acme", Lane::Live, rows(5..60)).await;
    worker.until_empty(&stop).await.unwrap();
    let restored = bench.store.write(move |db| {
        db.execute("UPDATE position SET number = 5", [])?;
        sinks::save_state(db, "out", &backup.0)
    });
    restored.await.unwrap();
    let mut worker = bench.worker().await;
    worker.until_empty(&stop).await.unwrap();
    assert!(worker.status().borrow().notices.iter().any(|notice| notice.text.contains("older state")));
    let surplus = |path: &fs::DirEntry| path.file_name().to_str().unwrap().contains("surplus");
    let aside = fs::read_dir(bench.out().join("acme")).unwrap().map(Result::unwrap).filter(surplus);
    let aside: Vec<_> = aside.map(|entry| fs::remove_file(entry.path()).unwrap()).collect();
    assert!(!aside.is_empty());
    assert_eq!(sorted(delivered(&bench.out())), (0..60).collect::<Vec<u64>>());
}

#[tokio::test]
async fn a_file_closes_by_age_although_nothing_comes_in() {
    let bench = Bench::new();
    bench.append("acme", Lane::Live, rows(0..3)).await;
    let stop = CancellationToken::new();
    bench.worker().await.until_empty(&stop).await.unwrap();
    let mut later = bench.worker().await;
    later.clock = Clock::shifted(chrono::Duration::hours(2), 1);
    later.until_empty(&stop).await.unwrap();
    assert!(bench.out().join("acme/audit.ndjson").exists());
    assert_eq!(delivered(&bench.out()), [0, 1, 2]);
}

mod assembling {
    use proptest::prelude::*;

    use super::*;
    use crate::deliver::assemble::{Bounds, Outcome, assemble};
    use crate::format::{Encoded, Origin};
    use crate::formats::ocsf::Version;
    use crate::model::Entry;
    use crate::record::enrichment::{Computer, Enrichment, Facts, Sighting, UserOrigin};
    use crate::store::WriterDb;
    use crate::store::devices::{self, Told};
    use crate::store::outbox::PendingLane;
    use crate::store::tests::memory;

    const PLENTY: usize = 1 << 30;

    fn from_outbox(
        db: &rusqlite::Connection,
        lane: &PendingLane,
        position: i64,
        bytes: usize,
    ) -> Result<Vec<Chunk>, StoreError> {
        outbox::read_after(db, lane.connection, lane.lane, position, bytes)
    }

    fn next(db: &rusqlite::Connection, turn: usize, bounds: Bounds) -> Outcome {
        let lanes = outbox::pending(db, "out").unwrap();
        assemble(db, &lanes, turn, bounds, from_outbox, |origin, entry, known, out, records| {
            assert!(!entry.row.contains("panic"), "planted");
            Format::Raw.encode(origin, entry, known, out, records)
        })
        .unwrap()
    }

    fn batch(db: &rusqlite::Connection, turn: usize, bound: usize) -> Assembled {
        match next(db, turn, Bounds { batch: bound, memory: PLENTY }) {
            Outcome::Batch(assembled) => assembled,
            Outcome::NeedsMemory(bytes) => panic!("{bytes}"),
        }
    }

    /// Rows of the audit in a page, as computer, second and user, before it perhaps a computer as it is listed.
    type Step = (Vec<(u8, i64, u8)>, Option<(u8, u8, u8)>);

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let rows = prop::collection::vec((0..3_u8, 1..100_i64, 0..3_u8), 1..6);
        let listed = prop::option::of((0..3_u8, 0..3_u8, 0..3_u8));
        prop::collection::vec((rows, listed), 1..12)
    }

    /// What collecting does with them.
    fn collect(db: &WriterDb, (rows, listed): &Step) {
        let connection = connections::register(db, "acme").unwrap().id;
        let own = OrganizationId::new("5d1");
        let organization = connections::organization(db, connection, &own, None, 0).unwrap();
        let told = |computer: u8, at, user: u8, mode: Option<u8>| {
            let facts = |mode| Facts { mode: Some(format!("mode-{mode}")), ..Facts::default() };
            let sighting = Sighting {
                computer: Computer::Id(format!("pc-{computer}")),
                user: (user > 0).then(|| format!("user-{user}")),
                facts: mode.map(facts).map(Box::new),
            };
            Told { organization, at, sighting: Arc::new(sighting) }
        };
        if let Some((computer, user, mode)) = listed {
            devices::note_listed(db, &told(*computer, 50, *user, Some(*mode)), UserOrigin::Computer, 100)
                .unwrap();
        }
        let told: Vec<_> =
            rows.iter().map(|(computer, at, user)| Some(told(*computer, *at, *user, None))).collect();
        let known = devices::note_seen(db, &told, 100).unwrap();
        let texts: Vec<_> = rows.iter().map(|(pc, ..)| format!("{{\"computerId\":\"pc-{pc}\"}}")).collect();
        let entries: Vec<_> = texts
            .iter()
            .enumerate()
            .map(|(place, row)| NewEntry {
                uid: Uuid::nil(),
                kind: Kind::Event,
                change: Change::New,
                organization: own.as_str(),
                vendor_id: None,
                time: Some(rows[place].1),
                row,
                previous: None,
                known: known.of(place),
            })
            .collect();
        outbox::append(db, connection, 1, Lane::Live, "unified_audit", 100, 0, &entries).unwrap();
    }

    /// All that is in the outbox, as a sink gets it that has nothing yet.
    fn delivered(db: &rusqlite::Connection) -> Vec<u8> {
        records(db, PLENTY).batch.buffer.to_vec()
    }

    /// The next records of up to so many bytes.
    fn records(db: &rusqlite::Connection, bound: usize) -> Assembled {
        let lanes = outbox::pending(db, "out").unwrap();
        let bounds = Bounds { batch: bound, memory: PLENTY };
        let format = Format::Ocsf { version: Version::V1_5, row: true };
        let encode =
            |origin: Origin<'_>,
             entry: &Entry<'_>,
             known: Enrichment<'_>,
             out: &mut Vec<u8>,
             records: &mut Vec<Encoded>| format.encode(origin, entry, known, out, records);
        match assemble(db, &lanes, 0, bounds, from_outbox, encode).unwrap() {
            Outcome::Batch(assembled) if assembled.refused.is_empty() => assembled,
            other => panic!("{other:?}"),
        }
    }

    proptest! {
        #[test]
        fn a_lane_that_is_delivered_again_after_any_changes_gives_equal_bytes(
            before in steps(),
            after in steps(),
        ) {
            let db = memory();
            sinks::configure(&db, &[("out", "file", "ocsf 1.5")]).unwrap();
            before.iter().for_each(|step| collect(&db, step));
            let first = delivered(&db);
            let named = before.iter().flat_map(|(rows, _)| rows).any(|(_, _, user)| *user > 0);
            let text = std::str::from_utf8(&first).unwrap();
            prop_assert!(!named || text.contains("device.owner"), "who is seen is known");
            after.iter().for_each(|step| collect(&db, step));
            let again = delivered(&db);
            prop_assert_eq!(&again[..first.len()], &first[..]);
            devices::prune(&db, i64::MAX, 0, 100).unwrap();
            prop_assert_eq!(delivered(&db), &again[..]);
            // In batches that end inside of chunks.
            let mut pieces = Vec::new();
            while pieces.len() < again.len() {
                let next = records(&db, 3_000);
                prop_assert!(!next.batch.buffer.is_empty());
                pieces.extend_from_slice(&next.batch.buffer);
                sinks::confirm(&db, "out", &next.positions, b"").unwrap();
            }
            prop_assert_eq!(pieces, again);
        }
    }

    #[test]
    fn an_entry_of_several_records_is_taken_whole_or_not_at_all() {
        let db = memory();
        sinks::configure(&db, &[("out", "file", "raw")]).unwrap();
        append(&db, "acme", Lane::Live, &rows(0..3)).unwrap();
        let lanes = outbox::pending(&db, "out").unwrap();
        // Two records an entry: its name, and a further one of another kind and unknown.
        let encode = |_: Origin<'_>,
                      entry: &Entry<'_>,
                      _: Enrichment<'_>,
                      out: &mut Vec<u8>,
                      records: &mut Vec<Encoded>| {
            for (line, uid, kind, unknown) in [
                (format!("{}\n", entry.number), entry.uid, Kind::Device, false),
                ("further\n".to_owned(), Uuid::new_v5(&entry.uid, b"further"), Kind::Event, true),
            ] {
                out.extend_from_slice(line.as_bytes());
                records.push(Encoded {
                    end: out.len(),
                    uid,
                    kind,
                    severity: None,
                    time: None,
                    host: None,
                    device: None,
                    unknown,
                });
            }
            Ok(())
        };
        let assembled = |bound| match assemble(
            &db,
            &lanes,
            0,
            Bounds { batch: bound, memory: PLENTY },
            from_outbox,
            encode,
        ) {
            Ok(Outcome::Batch(assembled)) => assembled,
            other => panic!("{other:?}"),
        };
        let all = assembled(PLENTY);
        let lines: Vec<_> = all.batch.records.iter().map(|record| all.batch.bytes(record).to_vec()).collect();
        let wanted: [&[u8]; 6] = [b"1\n", b"further\n", b"2\n", b"further\n", b"3\n", b"further\n"];
        assert_eq!(lines, wanted);
        let kinds: Vec<_> = all.batch.records.iter().map(|record| (record.number, record.kind)).collect();
        assert_eq!(kinds[..3], [(1, Kind::Device), (1, Kind::Event), (2, Kind::Device)]);
        assert_ne!(all.batch.records[0].uid, all.batch.records[1].uid);
        assert_eq!(all.unknown, 3);
        // Room for one entry and a half.
        let some = assembled(15);
        assert_eq!(some.batch.records.len(), 2);
        assert_eq!(some.positions.into_values().collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn of_an_entry_that_is_tried_again_only_the_record_that_was_refused_goes() {
        let db = memory();
        sinks::configure(&db, &[("out", "file", "raw")]).unwrap();
        append(&db, "acme", Lane::Live, &rows(0..2)).unwrap();
        let chunk = outbox::read_after(&db, 1, Lane::Live, 0, PLENTY).unwrap().remove(0);
        let entry = chunk.entries().unwrap().remove(1);
        let further = |uid: Uuid| Uuid::new_v5(&uid, b"further");
        for record in [Some(further(entry.uid)), None] {
            let (connection, source) = (chunk.connection, "audit");
            let retried = Some(Retried { record });
            let shared = Shared { sink: "out", connection, source, collected: chunk.collected, retried };
            refill::append(&db, &shared, &[(entry.clone(), Enrichment::default())]).unwrap();
        }
        let lanes: Vec<_> = outbox::pending(&db, "out")
            .unwrap()
            .into_iter()
            .filter(|pending| pending.lane == Lane::Refill)
            .collect();
        let encode = |_: Origin<'_>,
                      entry: &Entry<'_>,
                      _: Enrichment<'_>,
                      out: &mut Vec<u8>,
                      records: &mut Vec<Encoded>| {
            for (line, uid) in [("first", entry.uid), ("further", further(entry.uid)), ("last", Uuid::nil())]
            {
                out.extend_from_slice(format!("{line}\n").as_bytes());
                let (end, kind) = (out.len(), Kind::Event);
                let unknown = false;
                let (severity, time, host, device) = (None, None, None, None);
                records.push(Encoded { end, uid, kind, severity, time, host, device, unknown });
            }
            Ok(())
        };
        let read = |db: &rusqlite::Connection, lane: &PendingLane, position, bytes| {
            refill::read_after(db, "out", lane.connection, position, bytes)
        };
        let bounds = Bounds { batch: PLENTY, memory: PLENTY };
        let Outcome::Batch(assembled) = assemble(&db, &lanes, 0, bounds, read, encode).unwrap() else {
            panic!("no batch")
        };
        assert_eq!(assembled.batch.buffer, "further\nfirst\nfurther\nlast\n");
        assert!(outbox::pending(&db, "other").unwrap().iter().all(|pending| pending.lane != Lane::Refill));
    }

    #[test]
    fn a_panic_over_one_entry_is_a_dead_letter_and_the_others_go_on() {
        let db = memory();
        sinks::configure(&db, &[("out", "file", "raw")]).unwrap();
        append(&db, "acme", Lane::Live, &["{\"a\":1}".into(), "{\"panic\":1}".into(), "{\"b\":1}".into()])
            .unwrap();
        let assembled = batch(&db, 0, PLENTY);
        assert_eq!(assembled.batch.records.len(), 2);
        assert_eq!(assembled.refused.len(), 1);
        assert!(assembled.refused[0].reason.contains("planted"));
        assert_eq!(assembled.positions.into_values().collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn a_chunk_that_cannot_be_read_is_one_dead_letter_with_all_its_bytes() {
        let db = memory();
        sinks::configure(&db, &[("out", "file", "raw")]).unwrap();
        append(&db, "acme", Lane::Live, &rows(0..9)).unwrap();
        let other: Vec<u8> =
            db.query_row("SELECT body FROM outbox ORDER BY last", [], |row| row.get(0)).unwrap();
        let whole = zstd::decode_all(other.as_slice()).unwrap();
        let broken = zstd::bulk::compress(&whole[..whole.len() - 5], 1).unwrap();
        db.execute("UPDATE outbox SET body = ?1 WHERE first = 1", [broken]).unwrap();
        let assembled = batch(&db, 0, PLENTY);
        assert_eq!((assembled.refused.len(), assembled.batch.records.len()), (1, 2));
        assert!(assembled.refused[0].reason.contains("1 to 7"));
    }

    #[test]
    fn a_large_entry_asks_for_memory_and_goes_alone() {
        let db = memory();
        sinks::configure(&db, &[("out", "file", "raw")]).unwrap();
        let large = format!("{{\"a\":\"{}\"}}", "x".repeat(100_000));
        append(&db, "acme", Lane::Live, &[large, "{}".into()]).unwrap();
        let small = Bounds { batch: 1000, memory: 3000 };
        let Outcome::NeedsMemory(bytes) = next(&db, 0, small) else { panic!("no memory asked for") };
        assert!(bytes > 300_000);
        let Outcome::Batch(assembled) = next(&db, 0, Bounds { memory: bytes, ..small }) else {
            panic!("asked for memory again")
        };
        assert_eq!(assembled.batch.records.len(), 1);
    }

    #[test]
    fn a_connection_with_a_long_backlog_holds_up_no_other() {
        let db = memory();
        sinks::configure(&db, &[("out", "file", "raw")]).unwrap();
        append(&db, "acme", Lane::Live, &rows(0..5000)).unwrap();
        append(&db, "beta", Lane::Live, &rows(0..3)).unwrap();
        append(&db, "beta", Lane::Backfill, &rows(3..6)).unwrap();
        for turn in 0..2 {
            let sites: Vec<_> =
                batch(&db, turn, 300_000).batch.records.iter().map(|record| record.site.clone()).collect();
            assert!(sites.contains(&"acme".into()) && sites.contains(&"beta".into()));
        }
    }

    #[test]
    fn when_a_batch_has_room_for_one_only_connections_take_turns() {
        let db = memory();
        sinks::configure(&db, &[("out", "file", "raw")]).unwrap();
        for site in ["a", "b", "c"] {
            append(&db, site, Lane::Live, &rows(0..20)).unwrap();
        }
        let first = |turn| batch(&db, turn, 300).batch.records[0].connection;
        let mut seen: Vec<ConnectionId> = (0..3).map(first).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 3);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn batch_after_batch_every_lane_is_read_in_order_within_the_bound(
            lanes in prop::collection::vec((0usize..3, any::<bool>(), 1usize..40), 1..8), bound in 300usize..5000,
        ) {
            let db = memory();
            sinks::configure(&db, &[("out", "file", "raw")]).unwrap();
            let mut wanted: BTreeMap<(ConnectionId, Lane), usize> = BTreeMap::new();
            for (site, live, count) in lanes {
                let lane = if live { Lane::Live } else { Lane::Backfill };
                let id = append(&db, ["a", "b", "c"][site], lane, &rows(0..count)).unwrap();
                *wanted.entry((id, lane)).or_default() += count;
            }
            let mut seen: BTreeMap<(ConnectionId, Lane), Vec<i64>> = BTreeMap::new();
            for turn in 0.. {
                let more = !outbox::pending(&db, "out").unwrap().is_empty();
                let assembled = batch(&db, turn, bound);
                prop_assert_eq!(more, !assembled.batch.records.is_empty());
                if !more {
                    break;
                }
                prop_assert!(assembled.batch.buffer.len() <= bound || assembled.batch.records.len() == 1);
                let mut end = 0;
                for record in assembled.batch.records.iter() {
                    prop_assert_eq!(record.bytes.start, end);
                    end = record.bytes.end;
                    seen.entry((record.connection, record.lane)).or_default().push(record.number);
                }
                prop_assert_eq!(end, assembled.batch.buffer.len());
                let live = |record: &crate::sink::Record| record.lane == Lane::Live;
                prop_assert!(assembled.batch.records.is_sorted_by_key(|record| !live(record)));
                sinks::confirm(&db, "out", &assembled.positions, b"").unwrap();
            }
            for (lane, numbers) in &seen {
                prop_assert!(numbers.is_sorted_by(|one, next| one < next));
                prop_assert_eq!(numbers.len(), wanted[lane]);
            }
            prop_assert_eq!(seen.len(), wanted.len());
        }
    }
}

/// A sink that wants these sites alone.
async fn wanting(bench: &Bench, sites: &[&str]) -> Worker {
    let mut config = bench.config("out", "out/{site}/{source}.ndjson");
    config.select.sites = sites.iter().map(|site| (*site).to_owned()).collect();
    let configured = bench.store.write(|db| sinks::configure(db, &[("out", "file", "raw")])).await;
    let (store, clock, budget) = (bench.store.clone(), bench.clock.clone(), Budget::new(1 << 20));
    let state = configured.unwrap().remove(0).state;
    Worker::new(&config, state, store, clock, budget, settings(), bench.appended.subscribe())
}

#[tokio::test]
async fn what_a_renamed_site_has_still_to_deliver_waits_until_its_new_label_is_known_and_goes_to_who_wants_that()
 {
    let bench = Bench::new();
    let own = OrganizationId::new("own");
    let discovered = |site: &'static str, own: OrganizationId| {
        bench.store.write(move |db| {
            let id = connections::register(db, site)?.id;
            connections::set_organization(db, id, &own)
        })
    };
    let never = CancellationToken::new();
    bench.append("acme", Lane::Live, rows(0..5)).await;
    bench.append("gamma", Lane::Live, rows(5..8)).await;
    discovered("acme", own.clone()).await.unwrap();
    discovered("gamma", OrganizationId::new("of gamma")).await.unwrap();
    // Renamed, and not yet spoken to under the new label; the other is configured no more.
    let renamed = bench.store.write(|db| {
        connections::retire_all_but(db, &["acme-de"])?;
        connections::register(db, "acme-de").map(drop)
    });
    renamed.await.unwrap();
    wanting(&bench, &["acme-de"]).await.until_empty(&never).await.unwrap();
    assert_eq!(bench.positions().await, Positions::new());
    discovered("acme-de", own).await.unwrap();
    let mut worker = wanting(&bench, &["acme-de"]).await;
    worker.until_empty(&never).await.unwrap();
    assert_eq!(worker.status().borrow().delivered_records, 5);
    assert_eq!(bench.positions().await.len(), 2);
    assert_eq!(bench.store.read(|db| outbox::pending(db, "out")).await.unwrap(), []);
}

#[tokio::test]
async fn what_a_day_brings_is_counted_across_restarts_and_more_than_wanted_is_told_and_held_back_by_nothing()
{
    let bench = Bench::new();
    let never = CancellationToken::new();
    let delivered = async |rows: Vec<String>| {
        bench.append("acme", Lane::Live, rows).await;
        let mut config = bench.config("out", "out/{site}/{source}.ndjson");
        config.max_per_day = Some(5_000);
        let configured = bench.store.write(|db| sinks::configure(db, &[("out", "file", "raw")])).await;
        let (store, clock, budget) = (bench.store.clone(), bench.clock.clone(), Budget::new(1 << 20));
        let state = configured.unwrap().remove(0).state;
        let worker =
            Worker::new(&config, state, store, clock, budget, settings(), bench.appended.subscribe());
        let mut worker = worker;
        worker.until_empty(&never).await.unwrap();
        worker.status().borrow().today.unwrap()
    };
    let now = bench.clock.now();
    let first = delivered(rows(0..5)).await;
    let whole = || {
        let files = fs::read_dir(bench.out().join("acme")).unwrap();
        files.map(|file| file.unwrap().metadata().unwrap().len()).sum::<u64>()
    };
    assert_eq!((first.records, first.bytes), (5, whole()));
    assert_eq!(first.passed(now), None);
    let second = delivered(rows(5..10)).await;
    assert_eq!((second.records, second.bytes), (10, whole()));
    let third = delivered(rows(10..40)).await;
    assert_eq!(third.records, 40);
    assert_eq!(third.passed(now), Some(5_000));
    assert_eq!(third.passed(now + chrono::Duration::days(1)), None, "another day");
}
