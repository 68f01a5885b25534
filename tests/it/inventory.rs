//! The list of all computers is the portal's, whole at any time, and no failure of it holds up anything else.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use lockstep::model::SECOND;
use lockstep::simulator::computers::Patch;
use lockstep::simulator::faults::{Effect, Fault};
use lockstep::simulator::requests::Endpoint;
use lockstep::simulator::world::{World, WorldOptions};
use lockstep::simulator::{Options, Simulator};
use serde_json::Value;

use crate::support::app::{HOUR, SOON, Setup, TestApp, fresh_seed};
use crate::support::binary::Place;

const COLUMNS: &str =
    "id,serial,host,os,last_user,last_user_since,last_seen,mode,site,organization,presence\r\n";

async fn portal() -> Simulator {
    let options = WorldOptions {
        seed: fresh_seed(),
        computers: 450,
        rows_per_day: 500,
        computer_changes_per_day: 0,
        ..WorldOptions::default()
    };
    Simulator::start(World::new(options), Options::default()).await.unwrap()
}

/// A place whose one sink has these settings besides its path.
fn place(portal: &Simulator, settings: &str) -> Place {
    let place = Place::new(portal, "1MiB");
    let dir = place.path("").display().to_string();
    place.reconfigure("    rotate:", &format!("    {}\n    rotate:", settings.replace("DIR", &dir)));
    place
}

fn lines(path: &Path) -> BTreeMap<String, Value> {
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let by_id: BTreeMap<String, Value> =
        lines.map(|line| (line["id"].as_str().unwrap().to_owned(), line)).collect();
    assert_eq!(by_id.len(), text.lines().count(), "a computer stands twice");
    by_id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_list_is_the_portals_with_the_user_and_the_last_check_in_of_each_computer() {
    let portal = portal().await;
    let place = place(&portal, "inventory: [DIR/lists/all.ndjson, DIR/lists/all.csv]");
    let (ndjson, csv) = (place.path("lists/all.ndjson"), place.path("lists/all.csv"));
    assert!(place.ask(&["check"]).await.contains("the list of all computers in"));
    place.ask(&["once"]).await;

    let listed = lines(&ndjson);
    let truth = portal.true_computers(false);
    assert!(truth.len() > 400);
    assert_eq!(listed.len(), truth.len());
    let mut users = 0;
    for computer in &truth {
        let line = &listed[&computer.computer_id];
        assert_eq!(line["mode"], computer.mode, "{line}");
        assert_eq!((&line["site"], &line["presence"]), (&"acme".into(), &"present".into()), "{line}");
        let named = ["serial", "host", "os", "organization"].iter().all(|column| line[column].is_string());
        assert!(named, "{line}");
        if let Some(user) = computer.username.filter(|user| !user.is_empty()) {
            assert_eq!(line["last_user"], user.replace(r"\\", r"\"), "{line}");
            assert!(line["last_user_since"].as_str().is_some_and(|since| since.ends_with('Z')), "{line}");
            users += 1;
        }
    }
    assert!(users > 100, "{users}");
    let text = fs::read_to_string(&csv).unwrap();
    assert!(text.starts_with(COLUMNS) && text.ends_with("\r\n"));
    assert_eq!(text.lines().count(), truth.len() + 1);

    // A check-in alone is no change of a computer; one that is gone leaves with the second listing without it.
    let gone = truth[7].computer_id.clone();
    portal.advance(3_600 * SECOND);
    let now = portal.now();
    {
        let mut stage = portal.stage();
        let computers = &mut stage.world.fleet.computers;
        computers.iter_mut().find(|one| one.id.to_string() == gone).unwrap().patch(now, Patch::Removed(true));
    }
    place.ask(&["once"]).await;
    let later = lines(&ndjson);
    assert_eq!(later[&gone]["presence"], "missing");
    let moved = listed.iter().filter(|(id, line)| {
        let (before, after) =
            (line["last_seen"].as_str().unwrap(), later[*id]["last_seen"].as_str().unwrap());
        assert!(before <= after, "{line} {}", later[*id]);
        before < after
    });
    assert!(moved.count() > 300);
    place.ask(&["once"]).await;
    let last = lines(&ndjson);
    assert_eq!(last.len(), truth.len() - 1);
    assert!(!last.contains_key(&gone));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_list_has_the_organizations_that_the_sink_wants_and_nothing_that_it_is_spared() {
    let portal = portal().await;
    let one = portal.organization(1).to_string();
    let place = place(
        &portal,
        &format!(
            "inventory: DIR/one.ndjson\n    select: {{ organizations: [{one}] }}\n    redact: {{ user: remove, device: remove }}"
        ),
    );
    place.ask(&["once"]).await;
    let text = fs::read_to_string(place.path("one.ndjson")).unwrap();
    let truth = portal.true_computers(false);
    let wanted = truth.iter().filter(|computer| computer.organization_id == one).count();
    assert!(wanted > 10 && wanted < truth.len());
    assert_eq!(text.lines().count(), wanted);
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        for column in ["id", "serial", "host", "last_user"] {
            assert_eq!(line[column], Value::Null, "{line}");
        }
        assert!(line["mode"].is_string(), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_former_list_stays_until_the_computers_were_listed_completely() {
    let portal = portal().await;
    let place = place(&portal, "inventory: DIR/list.csv");
    fs::write(place.path("list.csv"), "the former one").unwrap();
    let sick = portal.fault(Fault::always(Effect::Html).at(Endpoint::Computers));
    let mut once = place.start("once", None);
    assert!(!once.ended_within(SOON).await.unwrap().success());
    assert_eq!(fs::read_to_string(place.path("list.csv")).unwrap(), "the former one");
    portal.clear_faults(Some(sick));
    place.ask(&["once"]).await;
    assert!(fs::read_to_string(place.path("list.csv")).unwrap().starts_with(COLUMNS));
    assert!(!place.path("list.csv.part").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_cannot_be_written_is_told_and_holds_up_no_record() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list.csv");
    fs::create_dir_all(list.join("in the way")).unwrap();
    let sink = format!(", inventory: {}", list.display());
    let app = TestApp::start(Setup { sink, ..Setup::default() }).await;
    app.wait_caught_up(SOON).await;
    let told = |problem: &String| problem.contains("sink out: its inventory is as old as");
    let status = app.wait("told", SOON, |status| status.problems.iter().any(told)).await;
    let sink = &status.sinks[0];
    assert!(sink.delivered_records > 0 && sink.last_error.is_none(), "{sink:?}");
    let inventory = sink.inventory.clone().unwrap();
    assert!(inventory.last_error.unwrap().contains("list.csv"));
    assert_eq!(inventory.written, None);
    app.advance(HOUR);
    app.settle(1, SOON).await;
    app.finish("a list in the way").await;
}
