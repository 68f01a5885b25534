//! A part that breaks off while the others go on, and outputs that lead nowhere.

use std::process::{Command, Stdio};
use std::time::Duration;

use lockstep::simulator::world::{World, WorldOptions};
use lockstep::simulator::{Options, Simulator};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::support::app::{SOON, fresh_seed};
use crate::support::binary::Place;

async fn portal() -> Simulator {
    let options = WorldOptions { seed: fresh_seed(), rows_per_day: 2_000, ..WorldOptions::default() };
    Simulator::start(World::new(options), Options::default()).await.unwrap()
}

/// The picture of the running program once it is as wanted.
async fn status(place: &Place, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let end = Instant::now() + SOON;
    loop {
        let mut program = Command::new(env!("CARGO_BIN_EXE_lockstep"));
        program.args(["status", "--json", "-c"]).arg(place.path("lockstep.yaml"));
        let output = tokio::task::spawn_blocking(move || program.stdin(Stdio::null()).output().unwrap())
            .await
            .unwrap();
        let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        if status["running"] == true && wanted(&status) {
            return status;
        }
        assert!(Instant::now() < end, "{what}: {status:#}\n{}", place.said());
        sleep(Duration::from_millis(100)).await;
    }
}

fn problem<'a>(status: &'a Value, what: &str) -> Option<&'a str> {
    status["problems"].as_array()?.iter().filter_map(Value::as_str).find(|problem| problem.contains(what))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_that_breaks_off_is_a_problem_at_once_and_the_other_goes_on() {
    let portal = portal().await;
    let place = Place::new(&portal, "64KiB");
    let other = place.path("other").display().to_string();
    let more = format!("sinks:\n  - {{ name: other, type: file, path: \"{other}/{{source}}.ndjson\" }}\n");
    place.reconfigure("sinks:\n", &more);
    let _program = place.start("run", Some("deliver.confirm.after:2:panic"));
    let told = status(&place, "told a broken sink", |status| problem(status, "broke off").is_some()).await;
    assert_eq!(told["fresh"], false, "{told:#}");
    let sinks = told["sinks"].as_array().unwrap();
    let broken: Vec<_> = sinks.iter().filter(|sink| sink["state"] == "broken").collect();
    assert_eq!(broken.len(), 1, "{sinks:#?}");
    let well = sinks.iter().find(|sink| sink["state"] != "broken").unwrap();
    let (name, before) = (well["name"].clone(), well["delivered_records"].as_u64().unwrap());
    portal.stage().clock.advance(3_600_000_000);
    status(&place, "delivered more to the other", |status| {
        let sink = status["sinks"].as_array().unwrap().iter().find(|sink| sink["name"] == name).unwrap();
        sink["delivered_records"].as_u64().unwrap() > before
    })
    .await;
    let said = place.said();
    assert!(
        said.lines().any(|line| line.contains("ERROR sink{sink=") && line.contains("broke off")),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_breaks_off_is_a_problem_at_once_and_the_others_go_on() {
    let portal = portal().await;
    let place = Place::new(&portal, "64KiB");
    let _program = place.start("run", Some("collect.poll.after:2:panic"));
    let told = status(&place, "told a broken stream", |status| problem(status, "broke off").is_some()).await;
    assert_eq!(told["fresh"], false, "{told:#}");
    let streams = told["sites"][0]["streams"].as_array().unwrap();
    assert_eq!(streams.iter().filter(|stream| stream["condition"] == "broken").count(), 1, "{streams:#?}");
    status(&place, "polled the others", |status| {
        let streams = status["sites"][0]["streams"].as_array().unwrap();
        streams.iter().filter(|stream| stream["condition"] == "ok").count() == 2
    })
    .await;
}
