//! What comes to a sink once more: refused records that are tried again, and replays.

use super::*;
use crate::formats::ocsf::Version;
use crate::record::enrichment::{Enrichment, Matching};
use crate::store::WriterDb;
use crate::store::replays::Wanted;

const COLLECTED: Micros = 1_795_305_600_000_000;

impl Bench {
    /// The worker of the sink after an upgrade that reads more rows, or before it.
    async fn reading(&self, format: Format) -> Worker {
        let config = SinkConfig { format, ..self.config("out", "out/{site}/{source}.ndjson") };
        let row =
            self.store.write(|db| sinks::configure(db, &[("out", "file", "raw")])).await.unwrap().remove(0);
        let (store, clock, budget) = (self.store.clone(), self.clock.clone(), Budget::new(1 << 20));
        let worker =
            Worker::new(&config, row.state, store, clock, budget, settings(), self.appended.subscribe());
        Worker { looks_ahead: true, ..worker }
    }

    async fn retry_all(&self) -> Vec<Result<(), dead_letters::Stays>> {
        let retry = |db: &WriterDb| {
            let numbers = dead_letters::numbers(db, Some("out"), None)?;
            numbers.into_iter().map(|number| dead_letters::retry(db, number)).collect::<Result<Vec<_>, _>>()
        };
        self.store.write(retry).await.unwrap()
    }

    async fn deliver(&self, mut worker: Worker) {
        let stop = CancellationToken::new();
        worker.until_empty(&stop).await.unwrap();
        worker.finish().await.unwrap();
    }
}

/// No version of it reads the source of these rows.
fn unable() -> Format {
    Format::Ocsf { version: Version::V1_5, row: true }
}

#[tokio::test]
async fn what_was_refused_is_delivered_by_a_retry_once_it_can_be_and_none_of_it_twice() {
    let bench = Bench::new();
    bench.append("acme", Lane::Live, rows(0..15)).await;
    bench.deliver(bench.reading(unable()).await).await;
    assert_eq!(bench.letters().await.len(), 15);
    // Refused again they are letters again, and hold up nothing.
    assert_eq!(bench.retry_all().await, vec![Ok(()); 15]);
    assert_eq!(bench.letters().await.len(), 0);
    bench.deliver(bench.reading(unable()).await).await;
    assert_eq!(bench.letters().await.len(), 15);
    // However many they are, and whatever comes beside them.
    bench.retry_all().await;
    bench.append("acme", Lane::Live, rows(15..20)).await;
    bench.deliver(bench.reading(Format::Raw).await).await;
    let mut names = delivered(&bench.out());
    names.sort_unstable();
    assert_eq!(names, (0..20).collect::<Vec<_>>());
    assert_eq!((bench.letters().await.len(), bench.retry_all().await.len()), (0, 0));
    let left = bench.store.read(|db| outbox::pending(db, "out")).await.unwrap();
    assert_eq!(left, []);
}

#[tokio::test]
async fn a_retry_of_many_that_are_refused_again_holds_up_nothing() {
    let bench = Bench::new();
    let broken: Vec<String> = (0..60).map(|name| format!("broken {name}")).collect();
    for some in broken.chunks(15) {
        bench.append("acme", Lane::Live, some.to_vec()).await;
        bench.append("acme", Lane::Live, rows(0..1000)).await;
        bench.deliver(bench.reading(Format::Raw).await).await;
    }
    assert_eq!(bench.letters().await.len(), 60);
    bench.retry_all().await;
    bench.append("acme", Lane::Live, rows(5000..5001)).await;
    bench.deliver(bench.reading(Format::Raw).await).await;
    assert_eq!(bench.letters().await.len(), 60, "all are letters again");
    assert!(delivered(&bench.out()).contains(&5000));
}

#[tokio::test]
async fn a_letter_whose_sink_is_gone_or_that_never_was_an_entry_stays_one() {
    let bench = Bench::new();
    bench.append("acme", Lane::Live, vec!["broken".to_owned()]).await;
    bench.deliver(bench.worker().await).await;
    bench.store.write(|db| sinks::configure(db, &[("other", "file", "raw")])).await.unwrap();
    assert_eq!(bench.retry_all().await, [Err(dead_letters::Stays::NoSink)]);
    assert_eq!(bench.letters().await.len(), 1);
    let missing = bench.store.write(|db| dead_letters::retry(db, 99)).await.unwrap();
    assert_eq!(missing, Err(dead_letters::Stays::Unknown));
}

#[tokio::test]
async fn a_replay_delivers_what_was_collected_in_a_time_again_and_moves_no_position() {
    let bench = Bench::new();
    bench.append("acme", Lane::Live, rows(0..20)).await;
    bench.append("beta", Lane::Backfill, rows(20..25)).await;
    bench.deliver(bench.worker().await).await;
    let positions = bench.positions().await;
    let wanted = |from, to, site: Option<&str>| Wanted {
        sink: "out".to_owned(),
        from,
        to,
        sources: vec!["audit".to_owned()],
        site: site.map(str::to_owned),
    };
    let nothing = wanted(COLLECTED + 1, COLLECTED + 2, None);
    assert_eq!(bench.store.write(move |db| replays::start(db, &nothing)).await.unwrap(), Some(vec![]));
    let acme = wanted(COLLECTED, COLLECTED + 1, Some("acme"));
    let stretches = bench.store.write(move |db| replays::start(db, &acme)).await.unwrap().unwrap();
    assert_eq!(stretches.iter().map(|stretch| stretch.entries).collect::<Vec<_>>(), [20]);
    // What is to be delivered again is kept until it was, however old it is.
    let prune = |db: &WriterDb| outbox::prune(db, Micros::MAX, Duration::ZERO, 0, 1000);
    bench.store.write(prune).await.unwrap();
    let mut worker = bench.worker().await;
    // A round at a time, from a new life of the program each.
    while bench.store.read(replays::waiting).await.unwrap().contains_key("out") {
        worker = bench.worker().await;
        worker.round(&CancellationToken::new()).await.unwrap();
    }
    worker.finish().await.unwrap();
    let mut names = delivered(&bench.out());
    names.sort_unstable();
    let mut twice: Vec<u64> = (0..20).chain(0..25).collect();
    twice.sort_unstable();
    assert_eq!(names, twice);
    assert_eq!(bench.positions().await, positions);
    bench.store.write(prune).await.unwrap();
    let left = bench.store.read(outbox::usage).await.unwrap();
    assert_eq!(left.chunks, 0);
}

#[tokio::test]
async fn what_applications_match_a_request_comes_as_it_was_told_at_first_by_a_retry_and_by_a_replay() {
    let bench = Bench::new();
    let entry = |db: &WriterDb| {
        let connection = connections::register(db, "acme")?.id;
        let matching = Matching { applications: r#"[{"name":"a"}]"#, more: 1 };
        let known = [None, Some(matching), Some(Matching { applications: "[]", more: 0 })];
        let entries = known.map(|matching| NewEntry {
            uid: Uuid::from_u128(u128::from(matching.map_or(7, |matching| matching.more))),
            kind: Kind::Event,
            change: Change::New,
            organization: "o",
            vendor_id: None,
            time: Some(0),
            row: r#"{"name":1}"#,
            previous: None,
            known: Enrichment { matching, ..Enrichment::default() },
        });
        outbox::append(db, connection, 1, Lane::Live, "audit", COLLECTED, 0, &entries).map(drop)
    };
    bench.store.write(entry).await.unwrap();
    bench.appended.send_replace(());
    let lines = || {
        let files = fs::read_dir(bench.out().join("acme")).into_iter().flatten();
        let texts: Vec<_> = files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect();
        let lines = texts.iter().flat_map(|text| text.lines());
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    bench.deliver(bench.reading(unable()).await).await;
    assert_eq!(bench.letters().await.len(), 3);
    bench.retry_all().await;
    bench.deliver(bench.reading(Format::Raw).await).await;
    let retried = lines();
    let told: Vec<serde_json::Value> =
        retried.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut told: Vec<String> = told.iter().map(|line| line["matching_applications"].to_string()).collect();
    told.sort();
    assert_eq!(told, ["[]", r#"[{"name":"a"}]"#, "null"]);
    let wanted =
        Wanted { sink: "out".to_owned(), from: COLLECTED, to: COLLECTED + 1, sources: vec![], site: None };
    bench.store.write(move |db| replays::start(db, &wanted)).await.unwrap().unwrap();
    while bench.store.read(replays::waiting).await.unwrap().contains_key("out") {
        let mut worker = bench.reading(Format::Raw).await;
        worker.round(&CancellationToken::new()).await.unwrap();
        worker.finish().await.unwrap();
    }
    // A retry gives them a lane and numbers of its own; nothing else is another.
    let plain = |lines: Vec<String>| {
        let mut lines: Vec<String> = lines
            .iter()
            .map(|line| {
                let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
                (line["lane"], line["number"]) = (0.into(), 0.into());
                line.to_string()
            })
            .collect();
        lines.sort();
        lines
    };
    assert_eq!(plain(lines()), plain([retried.clone(), retried].concat()));
}
