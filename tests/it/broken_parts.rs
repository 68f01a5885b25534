//! A part that breaks off while the others go on, and outputs that lead nowhere.

use std::process::{Command, Output, Stdio};
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

/// `once` into a sink of standard output, which is as the shell says.
async fn into(redirection: &str) -> Output {
    let portal = portal().await;
    let place = Place::new(&portal, "64KiB");
    let config = std::fs::read_to_string(place.path("lockstep.yaml")).unwrap();
    let head = config.split("sinks:").next().unwrap();
    let config = format!("{head}sinks: [{{ name: out, type: stdout, format: raw }}]\n");
    std::fs::write(place.path("lockstep.yaml"), config.replace("28d", "1h")).unwrap();
    let mut program = Command::new("sh");
    program
        .arg("-c")
        .arg(format!("exec {} once -c lockstep.yaml {redirection}", env!("CARGO_BIN_EXE_lockstep")));
    program.current_dir(place.path("")).stdin(Stdio::null());
    tokio::task::spawn_blocking(move || program.output().unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_not_written_to_a_stdout_that_is_closed() {
    let output = into(">&-").await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("sink of type stdout") && said.contains("closed"), "{said}");
    let output = into("> /dev/null").await;
    assert_eq!(output.status.code(), Some(0), "who wants none may say so: {output:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_under_stdout_is_told_as_it_is() {
    let output = into("> /dev/full").await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let last = said.lines().rfind(|line| line.starts_with("sink out: ")).unwrap();
    assert!(last.contains("No space left on device"), "{said}");
    assert_eq!(said.matches("delivery failed").count(), 1, "it is one trouble, told once: {said}");
}
