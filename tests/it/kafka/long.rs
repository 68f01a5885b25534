//! The long form: the program killed a hundred times under load, while brokers are killed one at a time and all at
//! once; `make crash-kafka KILLS=100`.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tokio::time::{Instant, sleep};

use lockstep::sink::Remedy;

use super::sink::{batch, deliver, sink};
use super::{Scene, start};
use crate::support::app::setting;
use crate::support::binary::was_killed;
use crate::support::kafka::Kafka;
use crate::support::say;

/// Where the program kills itself, if it comes there while it lives.
const CUTS: [&str; 6] = [
    "sink.write.before",
    "sink.write.after",
    "kafka.commit.before",
    "kafka.commit.after",
    "deliver.confirm.after",
    "store.commit.after",
];

/// What was killed.
#[derive(Debug, Default)]
struct Killed {
    at_points: u32,
    at_random: u32,
    brokers: u32,
    /// Times at which no broker was left.
    all_brokers: u32,
}

/// Kills the program so often under load. Every fifth life one broker dies and comes back two lives later; every
/// twentieth all of them die.
async fn kill_often(kafka: &Kafka, scene: &Scene<'_>, kills: u32, dice: &mut StdRng) -> Killed {
    let (mut killed, mut down) = (Killed::default(), None);
    let order = |order: String| tokio::task::block_in_place(|| kafka.order(&order));
    for life in 1..=kills {
        // Now and then it gets the time to go on, whatever the brokers are busy with.
        let patient = life % 4 == 0;
        let point = if patient { "deliver.confirm.after" } else { CUTS.choose(dice).unwrap() };
        let fault =
            (patient || dice.random_bool(0.6)).then(|| format!("{point}:{}", dice.random_range(1..=3)));
        let lasts = if patient { 20_000 } else { dice.random_range(200..6_000) };
        let mut running = start(&scene.place, "run", fault.as_deref());
        let end = Instant::now() + Duration::from_millis(lasts);
        if life % 5 == 0 && down.is_none() {
            let node = dice.random_range(1..=3);
            sleep(Duration::from_millis(dice.random_range(0..1_500))).await;
            order(format!("kill {node}"));
            (killed.brokers, down) = (killed.brokers + 1, Some((node, life + 2)));
        }
        if life % 20 == 10 {
            let left = (1..=3).filter(|node| down.is_none_or(|(down, _)| down != *node));
            let left: Vec<String> = left.map(|node| node.to_string()).collect();
            order(format!("kill {}", left.join(" ")));
            killed.brokers += u32::try_from(left.len()).unwrap();
            killed.all_brokers += 1;
            sleep(Duration::from_millis(dice.random_range(500..3_000))).await;
            order("start 1 2 3".to_owned());
            down = None;
        }
        let ended = loop {
            scene.stir(60);
            let left = end.saturating_duration_since(Instant::now());
            if let Some(status) = running.ended_within(left.min(Duration::from_millis(300))).await {
                break Some(status);
            }
            if Instant::now() >= end {
                break None;
            }
        };
        match ended {
            Some(status) => {
                assert!(was_killed(status), "life {life} ended by itself: {status}\n{}", scene.place.said());
                killed.at_points += 1;
            }
            None => {
                running.kill();
                killed.at_random += 1;
            }
        }
        if let Some((node, _)) = down.take_if(|(_, until)| *until <= life) {
            order(format!("start {node}"));
        }
    }
    if let Some((node, _)) = down {
        order(format!("start {node}"));
    }
    killed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a quarter of an hour: make crash-kafka KILLS=100"]
async fn long() {
    let kills = setting("KILLS").unwrap_or(100);
    let kafka = Kafka::start(3).expect("a real Kafka");
    let scene = Scene::new(&kafka, "long", 20_000, "").await;
    let mut dice = StdRng::seed_from_u64(scene.seed);
    scene.create_topics().await;
    let began = Instant::now();
    let killed = kill_often(&kafka, &scene, kills, &mut dice).await;
    let twice = scene.finish(&scene.place).await;
    let (records, seconds) = (scene.records().len(), began.elapsed().as_secs());
    say(format_args!("seed {}: {killed:?}, {records} records, {twice} twice, {seconds} s", scene.seed));
    assert_eq!(twice, 0, "seed {}: records came twice", scene.seed);
}

/// Positions that were kept as a consumer group's offsets would be gone, as those of a group are that is watched
/// beside. The program and its topics are idle for so long twice: while it runs, and while it does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: make crash-kafka KILLS=100"]
async fn positions_outlast_minutes_in_which_offsets_of_groups_are_forgotten() {
    let kills = setting("KILLS").unwrap_or(100) / 5;
    let short = ["offsets.retention.minutes=1", "offsets.retention.check.interval.ms=5000"];
    let kafka = Kafka::start_with(3, &short).expect("a real Kafka");
    let scene = Scene::new(&kafka, "idle", 5_000, "").await;
    let mut dice = StdRng::seed_from_u64(scene.seed);
    scene.create_topics().await;
    let mut killed = kill_often(&kafka, &scene, kills, &mut dice).await;
    let topic = scene.topic("events");
    for runs in [true, false] {
        kafka.client_tool(&["commit", "watched", &topic]);
        assert_eq!(kafka.client_tool(&["committed", "watched", &topic]).trim(), "1");
        let running = runs.then(|| start(&scene.place, "run", None));
        sleep(Duration::from_secs(100)).await;
        assert_eq!(kafka.client_tool(&["committed", "watched", &topic]).trim(), "-1001", "it is kept");
        drop(running);
        let more = kill_often(&kafka, &scene, kills.div_ceil(2), &mut dice).await;
        killed.at_points += more.at_points;
        killed.at_random += more.at_random;
        killed.brokers += more.brokers;
        killed.all_brokers += more.all_brokers;
    }
    let twice = scene.finish(&scene.place).await;
    let records = scene.records().len();
    say(format_args!("idle, seed {}: {killed:?}, {records} records, {twice} twice", scene.seed));
    assert_eq!(twice, 0, "seed {}: records came twice", scene.seed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes two minutes: make crash-kafka KILLS=100"]
async fn a_partition_without_a_leader_is_waited_for_and_then_has_every_record_once() {
    let kafka = Kafka::start_with(3, &["min.insync.replicas=1"]).expect("a real Kafka");
    kafka.client_tool(&["place", "orphan_events", "3"]);
    kafka.client_tool(&["create", "orphan_positions", "1"]);
    let (mut sink, _folder) =
        sink("orphan", &format!("brokers: [\"{}\"]", kafka.plain().replace(',', "\", \"")));
    let batch = batch(&["{}".to_owned(), "{}".to_owned()]);
    kafka.order("kill 3");
    let error = deliver(&mut sink, &batch).await.unwrap_err();
    assert_eq!(error.remedy(), Remedy::Retry, "{error}");
    assert!(
        error.to_string().contains("nothing is lost") || error.to_string().contains("tried again"),
        "{error}"
    );
    say(format_args!("without a leader: {error}"));
    sink.rest().await;
    kafka.order("start 3");
    let mut delivered = deliver(&mut sink, &batch).await;
    for _ in 0..5 {
        if delivered.is_err() {
            delivered = deliver(&mut sink, &batch).await;
        }
    }
    assert!(delivered.unwrap().is_empty());
    assert_eq!(kafka.read(&["orphan_events"]).len(), 2);
}
