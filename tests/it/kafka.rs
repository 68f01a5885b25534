//! The Kafka sink on a real Apache Kafka, read back by an independent client that sees committed records only.

mod long;
mod sink;

use std::collections::HashSet;
use std::time::Duration;

use lockstep::model::SECOND;
use lockstep::simulator::dialect::Dialect;
use lockstep::simulator::world::{Source, World, WorldOptions};
use lockstep::simulator::{Options, Simulator};
use tokio::time::Instant;

use crate::support::app::fresh_seed;
use crate::support::binary::{Place, Running, Signal};
use crate::support::kafka::{Kafka, Message};
use crate::support::output::Output;
use crate::support::verdict::{Truth, compare, micros};

/// The newest rows that need not be delivered, on the portal's time.
const SETTLE: i64 = 5 * SECOND;

/// A portal, a place to run the program in, and topics of their own.
struct Scene<'k> {
    kafka: &'k Kafka,
    portal: Simulator,
    place: Place,
    name: &'static str,
    sink: String,
    seed: u64,
}

impl<'k> Scene<'k> {
    /// `more`: further settings of the sink.
    async fn new(kafka: &'k Kafka, name: &'static str, rows_per_day: i64, more: &str) -> Self {
        let seed = fresh_seed();
        let world = World::new(WorldOptions {
            seed,
            computers: 60,
            rows_per_day,
            audit_rows_per_day: rows_per_day / 25,
            computer_changes_per_day: 500,
            ..WorldOptions::default()
        });
        let options = Options { dialect: Dialect::default(), ..Options::default() };
        let portal = Simulator::start(world, options).await.unwrap();
        let sink = format!(
            "  - {{ name: lake, type: kafka, brokers: [\"{}\"], format: raw, positions_topic: {name}_positions, topics: {{ \
             events: {name}_events, devices: {name}_devices }}{more} }}\n",
            kafka.plain().replace(',', "\", \"")
        );
        let place = Place::with_sink(&portal, &sink);
        Self { kafka, portal, place, name, sink, seed }
    }

    fn topic(&self, what: &str) -> String {
        format!("{}_{what}", self.name)
    }

    /// Every committed record.
    fn records(&self) -> Vec<Message> {
        self.kafka.read(&[&self.topic("events"), &self.topic("devices")])
    }

    /// The same configuration in another place, with a copy of the state.
    fn copied(&self) -> Place {
        let copy = Place::with_sink(&self.portal, &self.sink);
        std::fs::create_dir(copy.state()).unwrap();
        for entry in std::fs::read_dir(self.place.state()).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                std::fs::copy(&path, copy.state().join(path.file_name().unwrap())).unwrap();
            }
        }
        copy
    }

    async fn create_topics(&self) {
        self.place.ask(&["check", "--online", "--create"]).await;
    }

    /// New rows, and a minute in which they settle and computers change.
    fn stir(&self, rows: u32) {
        let now = self.portal.now();
        for (source, rows) in [(Source::UnifiedAudit, rows), (Source::SystemAudit, rows / 5)] {
            for organization in 0..3 {
                self.portal.stage().world.burst(source, organization, now, 1 + rows / 3);
            }
        }
        self.portal.advance(61 * SECOND);
    }

    /// Lets the program finish while the portal's clock stands still, and compares what is at Kafka with the portal.
    /// Answers how many records came more than once.
    async fn finish(&self, place: &Place) -> usize {
        self.portal.advance(3_600 * SECOND);
        self.stir(6);
        self.portal.stage().clock.freeze(true);
        let start = self.portal.now() - 28 * 86_400 * SECOND;
        // A first pass may leave time unproven, of which the next one is sure.
        let (mut went_well, mut said) = (false, String::new());
        for pass in 0..4 {
            if pass < 2 || !went_well {
                (went_well, said) = once(place).await;
            }
        }
        assert!(went_well, "seed {}: {said}", self.seed);
        let mut records = self.records();
        let all = records.len();
        let mut keys = HashSet::new();
        records.retain(|record| keys.insert(record.key.clone()));
        let folder = tempfile::tempdir().unwrap();
        let lines: String = records.iter().map(|record| record.value.clone() + "\n").collect();
        std::fs::write(folder.path().join("all.ndjson"), lines).unwrap();
        let mut output = Output::read(folder.path());
        output.add_dead_letters(&place.state()).await;
        let settled = self.portal.now() - SETTLE;
        let verdict = compare(&Truth::of(&self.portal), &output, |source, row| {
            let at = micros(&row.date_time);
            at < settled && (source != Source::SystemAudit || at >= start)
        });
        let clean = verdict.is_clean();
        assert!(clean, "seed {}: {verdict}\n{}\n{}", self.seed, verdict.examples(), place.said());
        assert!(records.len() > 500, "{} records", records.len());
        all - records.len()
    }
}

/// Starts the program, to kill itself at a fault point if one is given. A few records are refused.
fn start(place: &Place, command: &str, fault: Option<&str>) -> Running {
    let fault = fault.map(|fault| ("LOCKSTEP_FAULT", fault));
    let variables: Vec<_> = [("LOCKSTEP_REFUSE", "300")].into_iter().chain(fault).collect();
    place.start_with(command, &variables)
}

/// Collects and delivers once; whether all went well, and what was said.
async fn once(place: &Place) -> (bool, String) {
    let before = place.said().len();
    let mut once = start(place, "once", None);
    let ended = once.ended_within(Duration::from_secs(120)).await;
    (ended.is_some_and(|status| status.success()), place.said().split_off(before))
}

/// Waits until the program said one of these.
async fn said(place: &Place, what: &[&str]) -> bool {
    let end = Instant::now() + Duration::from_secs(60);
    while Instant::now() < end {
        let said = place.said();
        if what.iter().any(|what| said.contains(what)) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    false
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_the_portal_lists_is_in_the_topics_once_with_its_key_and_headers() {
    let Some(kafka) = Kafka::shared() else { return };
    let scene = Scene::new(kafka, "whole", 2_000, "").await;
    let said = scene.place.ask(&["check", "--online", "--create"]).await;
    for says in ["whole_events", "was created", "exactly once: a transaction was begun and aborted"] {
        assert!(said.contains(says), "{said}");
    }
    assert_eq!(scene.finish(&scene.place).await, 0, "records came twice");
    for record in scene.records() {
        let value: serde_json::Value = serde_json::from_str(&record.value).unwrap();
        assert_eq!(value["uid"], record.key);
        assert_eq!(record.headers["uid"], record.key);
        assert_eq!(value["source"], record.headers["source"]);
        assert_eq!((record.headers["site"].as_str(), record.headers["format"].as_str()), ("acme", "raw"));
        let devices = value["kind"] == "device" || value["kind"] == "state";
        assert_eq!(record.topic, scene.topic(if devices { "devices" } else { "events" }), "{value}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_instances_on_copies_of_one_state_one_goes_on_and_the_other_is_held_and_says_so() {
    let Some(kafka) = Kafka::shared() else { return };
    let scene = Scene::new(kafka, "copies", 1_000, "").await;
    scene.create_topics().await;
    assert!(once(&scene.place).await.0);
    let copy = scene.copied();
    let places = [&scene.place, &copy];
    let mut running = places.map(|place| start(place, "run", None));
    let held = ["another producer took over the transactional id", "were not written with this state"];
    let mut loser = None;
    for _ in 0..100 {
        scene.stir(30);
        tokio::time::sleep(Duration::from_millis(200)).await;
        loser = places.iter().position(|place| held.iter().any(|held| place.said().contains(held)));
        if loser.is_some() {
            break;
        }
    }
    let loser = loser.expect("one of them notices the other");
    // The other one is given the time to write.
    scene.stir(30);
    tokio::time::sleep(Duration::from_secs(3)).await;
    running.iter_mut().for_each(|running| assert!(running.kill(), "it ended by itself"));
    assert_eq!(scene.finish(places[1 - loser]).await, 0, "records came twice");
    let (went_well, said) = once(places[loser]).await;
    assert!(!went_well && said.contains("were not written with this state"), "{said}");
    assert_eq!(scene.finish(places[1 - loser]).await, 0, "records came twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn positions_that_are_gone_hold_the_sink_until_this_one_loss_is_accepted() {
    let Some(kafka) = Kafka::shared() else { return };
    let scene = Scene::new(kafka, "gone", 1_000, "").await;
    scene.create_topics().await;
    assert!(once(&scene.place).await.0);
    let before = scene.records().len();
    let positions = scene.topic("positions");
    kafka.client_tool(&["delete", &positions]);
    scene.stir(30);
    let (went_well, said) = once(&scene.place).await;
    assert!(!went_well && said.contains(&format!("there is no topic {positions}")), "{said}");
    scene.create_topics().await;
    let (went_well, said) = once(&scene.place).await;
    assert!(!went_well && said.contains("positions of this sink are gone"), "{said}");
    assert_eq!(scene.records().len(), before, "something was delivered meanwhile");
    let word = said.split("accept_lost_positions: ").nth(1).and_then(|rest| rest.get(..8)).unwrap();
    scene.place.reconfigure("type: kafka", &format!("type: kafka, accept_lost_positions: {word}"));
    assert_eq!(scene.finish(&scene.place).await, 0, "records came twice");
    kafka.client_tool(&["delete", &positions]);
    scene.create_topics().await;
    scene.stir(30);
    let (went_well, said) = once(&scene.place).await;
    assert!(!went_well && said.contains("positions of this sink are gone"), "another loss: {said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_does_not_exist_holds_the_sink_and_is_not_made_by_itself() {
    let Some(kafka) = Kafka::shared() else { return };
    let scene = Scene::new(kafka, "unknown", 500, "").await;
    for topic in ["positions", "devices"] {
        kafka.client_tool(&["create", &scene.topic(topic), "1"]);
    }
    let (went_well, said) = once(&scene.place).await;
    let says = "there is no topic unknown_events, and lockstep makes none by itself";
    assert!(!went_well && said.contains(says) && said.contains("kafka-topics.sh"), "{said}");
    let topics = kafka.client_tool(&["topics"]);
    assert!(topics.contains("unknown_devices") && !topics.contains("unknown_events"), "{topics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_is_not_held_up_by_brokers_that_do_not_answer() {
    let portal = Simulator::start(World::new(WorldOptions::default()), Options::default()).await.unwrap();
    let sink = "  - { name: lake, type: kafka, brokers: [\"127.0.0.1:9\"] }\n";
    let place = Place::with_sink(&portal, sink);
    let mut running = start(&place, "run", None);
    // It is in the middle of trying.
    tokio::time::sleep(Duration::from_secs(3)).await;
    running.signal(Signal::TERM);
    let ended = running.ended_within(Duration::from_secs(10)).await;
    assert!(ended.is_some_and(|status| status.success()), "{ended:?} {}", place.said());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_that_are_killed_one_at_a_time_and_all_at_once_lose_and_double_nothing() {
    let Some(kafka) = Kafka::start(3) else { return };
    let scene = Scene::new(&kafka, "brokers", 2_000, "").await;
    scene.create_topics().await;
    let running = start(&scene.place, "run", None);
    for order in ["kill 1", "start 1", "kill 2", "kill 1", "kill 3"] {
        for _ in 0..3 {
            scene.stir(30);
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        tokio::task::block_in_place(|| kafka.order(order));
    }
    scene.stir(30);
    assert!(said(&scene.place, &["nothing is lost meanwhile"]).await, "{}", scene.place.said());
    tokio::task::block_in_place(|| kafka.order("start 1 2 3"));
    scene.stir(30);
    tokio::time::sleep(Duration::from_secs(3)).await;
    drop(running);
    assert_eq!(scene.finish(&scene.place).await, 0, "seed {}: records came twice", scene.seed);
}
