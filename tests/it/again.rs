//! What comes to a sink once more: what it was too far behind for, what it refused, and what was lost behind it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lockstep::control;
use lockstep::deliver::SinkCondition;
use lockstep::order::{Done, Order};
use lockstep::simulator::world::{Source, WorldOptions};
use lockstep::store::replays::Wanted;
use serde_json::Value;
use tokio::time::Instant;

use crate::support::app::{HOUR, MINUTE, SOON, Setup, TestApp, delivered, fresh_seed};
use crate::support::gate::{Effect, Gate};
use crate::support::kafka::Kafka;
use crate::support::receiver::{Receiver, Wants};
use crate::support::say;

/// How often each uid came.
fn uids(lines: &[String]) -> BTreeMap<String, usize> {
    let mut uids = BTreeMap::new();
    for line in lines {
        let record: Value = serde_json::from_str(line).unwrap();
        *uids.entry(record["uid"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    uids
}

async fn give(app: &TestApp, order: Order) -> Done {
    let (done, running) = control::give(order, &app.state_folder()).await.unwrap();
    assert!(running);
    done
}

fn sink<'a>(status: &'a lockstep::status::Status, name: &str) -> &'a lockstep::deliver::SinkStatus {
    status.sinks.iter().find(|sink| sink.name == name).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_too_far_behind_lets_the_others_go_on_and_gets_everything_once_in_the_end() {
    let seed = fresh_seed();
    let receiver = Receiver::start(Wants::default()).await;
    let gate = Gate::before(&receiver.url).await;
    gate.always(Effect::Status(503, None));
    let post = format!("{{ name: post, type: http, format: raw, url: {}/records }}", gate.url);
    let world = WorldOptions {
        seed,
        rows_per_day: 20_000,
        backlog_hours: 20,
        computers: 60,
        ..WorldOptions::default()
    };
    let more = "outbox: { limit: 1MiB, keep: 0s }\n".to_owned();
    let app = TestApp::start(Setup { world, sinks: vec![post], more, ..Setup::default() }).await;
    let owes = |status: &lockstep::status::Status| {
        let entries: u64 = sink(status, "post").owed.iter().map(|owed| owed.entries).sum();
        entries
    };
    // It never worked, and yet everything is collected and reaches the other one.
    let long = 3 * SOON;
    app.wait("the other sink has all", long, |status| {
        let streams = status.sites.iter().flat_map(|site| &site.streams);
        owes(status) > 1_000
            && sink(status, "out").pending_bytes == 0
            && streams.clone().count() > 2
            && streams.clone().all(|stream| stream.proven_until.is_some() && !stream.stale)
    })
    .await;
    let status = app.status().await;
    assert!(!status.fresh, "records are missing at a sink");
    let told = status.problems.join("\\n");
    assert!(told.contains("lockstep backfill --sink post"), "{told}");
    gate.open();
    app.wait("the sink has what is left", long, |status| sink(status, "post").pending_bytes == 0).await;
    let before = receiver.lines().len();
    app.advance(10 * MINUTE);
    // So small an outbox may be full once more meanwhile.
    let refill = || Order::Refill { sink: "post".to_owned() };
    assert!(give(&app, refill()).await.count > 0);
    let end = Instant::now() + long;
    while owes(&app.status().await) > 0 || sink(&app.status().await, "post").pending_bytes > 0 {
        assert!(Instant::now() < end, "SEED={seed}: {:?}", app.status().await.problems);
        tokio::time::sleep(Duration::from_millis(100)).await;
        if sink(&app.status().await, "post").owed.iter().any(|owed| !owed.asked) {
            give(&app, refill()).await;
        }
    }
    app.advance(HOUR);
    app.quiet();
    app.wait_caught_up(long).await;
    let output = app.stopped().await;
    let lines = receiver.lines();
    say(format_args!(
        "again: seed {seed}: {} records, {before} of them before the sink was refilled",
        lines.len()
    ));
    let wanted: BTreeSet<String> = output.records.iter().map(|record| record.uid.clone()).collect();
    let came = uids(&lines);
    let twice: Vec<_> = came.iter().filter(|(_, count)| **count > 1).take(3).collect();
    assert!(twice.is_empty(), "SEED={seed}: came twice: {twice:?}");
    let missing: Vec<_> = wanted.iter().filter(|uid| !came.contains_key(*uid)).take(3).collect();
    assert!(missing.is_empty(), "SEED={seed}: never came: {missing:?}");
    assert_eq!(came.len(), wanted.len(), "SEED={seed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poisoned_record_is_the_only_one_refused_and_comes_by_a_retry_once_it_is_taken() {
    let seed = fresh_seed();
    let world = WorldOptions { seed, rows_per_day: 12_000, backlog_hours: 20, ..WorldOptions::default() };
    let receiver = Receiver::start(Wants { poison: None, ..Wants::default() }).await;
    let post = format!("{{ name: post, type: http, format: raw, url: {}/records }}", receiver.url);
    let mut app = TestApp::prepare(Setup { world, sinks: vec![post], ..Setup::default() }).await;
    let rows = app.portal.truth(Source::UnifiedAudit, true);
    let poison: &'static str = rows[rows.len() / 2].id.clone().unwrap().leak();
    receiver.wants(Wants { poison: Some(poison), ..Wants::default() });
    app.run().await;
    app.quiet();
    app.wait("all but one arrived", 3 * SOON, |status| {
        sink(status, "post").dead_letters == 1 && sink(status, "post").pending_bytes == 0
    })
    .await;
    app.wait_caught_up(3 * SOON).await;
    assert_eq!(app.dead_letters().await.len(), 1);
    let before = receiver.lines().len();
    assert!(before > 9_000, "{before}");
    // Refused again it is a letter again.
    for (wants, letters) in [(Some(poison), 1), (None, 0)] {
        receiver.wants(Wants { poison: wants, ..Wants::default() });
        let numbers = app.letter_numbers().await;
        assert_eq!(give(&app, Order::Retry(numbers.clone())).await.count, 1);
        let arrived = |line: &String| line.contains(poison);
        for _ in 0..600 {
            let now = app.letter_numbers().await;
            if now.len() == letters
                && now != numbers
                && receiver.lines().iter().filter(|line| arrived(line)).count() == 1 - letters
            {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(app.letter_numbers().await.len(), letters);
        assert_eq!(receiver.lines().iter().filter(|line| arrived(line)).count(), 1 - letters);
    }
    app.wait_caught_up(3 * SOON).await;
    let output = app.stopped().await;
    let came = uids(&receiver.lines());
    assert!(came.values().all(|count| *count == 1), "SEED={seed}");
    assert_eq!(came.len(), output.records.len(), "SEED={seed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_reaches_kafka_under_the_same_keys_and_its_positions_go_on_as_they_were() {
    let Some(kafka) = Kafka::shared() else { return };
    let seed = fresh_seed();
    let name = format!("again{seed:x}");
    for topic in ["events", "devices"] {
        kafka.client_tool(&["create", &format!("{name}-{topic}"), "1", "retention.ms=-1"]);
    }
    kafka.client_tool(&["create", &format!("{name}-positions"), "1", "cleanup.policy=compact"]);
    let lake = format!(
        "{{ name: lake, type: kafka, format: raw, brokers: [\"{}\"], positions_topic: {name}-positions, \
         topics: {{ events: {name}-events, devices: {name}-devices }} }}",
        kafka.plain()
    );
    let world = WorldOptions { seed, rows_per_day: 1_000, ..WorldOptions::default() };
    let mut app = TestApp::start(Setup { world, sinks: vec![lake], ..Setup::default() }).await;
    app.wait_caught_up(SOON).await;
    let all = |status: &lockstep::status::Status| {
        sink(status, "lake").delivered_records > 1_000 && sink(status, "lake").pending_bytes == 0
    };
    app.wait("delivered", SOON, all).await;
    let wanted = Wanted {
        sink: "lake".to_owned(),
        from: 0,
        to: i64::MAX,
        sources: vec!["unified_audit".to_owned()],
        site: None,
    };
    let done = give(&app, Order::Replay(wanted)).await;
    let entries: u64 = done.stretches.iter().map(|stretch| stretch.entries).sum();
    assert!(entries > 500, "{done:?}");
    app.wait("replayed", SOON, |status| sink(status, "lake").replaying == 0).await;
    // What Kafka says of the positions is what the state knows.
    app.restart().await;
    app.advance(HOUR);
    app.quiet();
    app.wait_caught_up(SOON).await;
    app.wait("delivered", SOON, delivered).await;
    assert_eq!(sink(&app.status().await, "lake").state, SinkCondition::Ok);
    let output = app.stopped().await;
    let topics = [format!("{name}-events"), format!("{name}-devices")];
    let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
    let messages = tokio::task::block_in_place(|| kafka.read(&topics));
    let lines: Vec<String> = messages.into_iter().map(|message| message.value).collect();
    let came = uids(&lines);
    let audit = |uid: &String| {
        output.records.iter().any(|record| record.uid == *uid && record.source == "unified_audit")
    };
    assert_eq!(came.len(), output.records.len(), "SEED={seed}");
    let twice: Vec<&String> = came.iter().filter(|(_, count)| **count == 2).map(|(uid, _)| uid).collect();
    assert_eq!(twice.len() as u64, entries, "SEED={seed}");
    assert!(came.values().all(|count| *count <= 2) && twice.into_iter().all(audit), "SEED={seed}");
}
