//! What is known of a device besides the row that tells of it.

use std::collections::{HashMap, HashSet};

use lockstep::model::Micros;
use lockstep::normalise::parse_time;
use lockstep::record::enrichment::is_person;
use lockstep::simulator::faults::{Effect, Fault};
use lockstep::simulator::requests::Endpoint;
use lockstep::status::Status;
use serde_json::Value;

use crate::support::app::{HOUR, SOON, Setup, TestApp, streams};

/// Every record in the files of a folder with the row that it carries.
fn records(folder: &std::path::Path) -> Vec<(Value, Value)> {
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let texts: Vec<_> = files.map(|file| std::fs::read_to_string(file).unwrap()).collect();
    let lines = texts.iter().flat_map(|text| text.lines());
    lines
        .filter_map(|line| {
            let record: Value = serde_json::from_str(line).unwrap();
            let row = serde_json::from_str(record["raw_data"].as_str()?).unwrap();
            Some((record, row))
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_has_the_device_as_it_was_listed_and_the_user_of_its_own_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ocsf.ndjson");
    let sink = format!(
        "{{ name: ocsf, type: file, path: \"{}\", format: ocsf, version: \"1.5\", raw: true }}",
        path.display()
    );
    let app = TestApp::start(Setup { sinks: vec![sink], ..Setup::default() }).await;
    app.wait_caught_up(SOON).await;
    // Rows from before the check-ins that were listed have no user of the computers.
    app.advance(HOUR);
    app.settle(1, SOON).await;
    app.finish("devices of events").await;

    let records = records(folder.path());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut listed: HashMap<String, (HashSet<String>, HashSet<String>)> = HashMap::new();
    let mut seen: HashMap<(String, String), Micros> = HashMap::new();
    for (_, row) in &records {
        let (computer, user) = (text(&row["computerId"]), text(&row["username"]));
        if row["lastCheckin"].is_string() {
            let (groups, users) = listed.entry(computer).or_default();
            groups.insert(text(&row["group"]));
            users.insert(user);
        } else if row["actionType"].is_string() {
            let at = parse_time(&text(&row["dateTime"])).unwrap_or(Micros::MAX);
            let first = seen.entry((computer, user)).or_insert(at);
            *first = at.min(*first);
        }
    }
    let (mut with_group, mut by_computer, mut by_audit, mut events) = (0, 0, 0, 0);
    for (record, row) in records.iter().filter(|(_, row)| row["actionType"].is_string()) {
        let computer = text(&row["computerId"]);
        let Some((groups, users)) = listed.get(&computer) else { continue };
        events += 1;
        let enrichments = record["enrichments"].as_array().map_or(&[][..], Vec::as_slice);
        if let Some(group) = record["device"]["groups"][0]["name"].as_str() {
            assert!(groups.contains(group), "{record}");
            assert!(enrichments.iter().any(|one| one["name"] == "device.mode"), "{record}");
            with_group += 1;
        }
        let Some(owner) = enrichments.iter().find(|one| one["name"] == "device.owner") else { continue };
        let (name, since) = (text(&owner["value"]), owner["data"]["time"].as_i64().unwrap());
        if let Some(at) = parse_time(&text(&row["dateTime"])) {
            assert!(since <= at / 1_000, "{record}");
        }
        if owner["data"]["origin"] == "computers" {
            assert!(users.contains(&name), "{record}");
            by_computer += 1;
        } else {
            assert!(is_person(&name) && seen[&(computer, name.clone())] / 1_000 <= since, "{record}");
            let own = text(&row["username"]);
            // Of two persons at one moment one is the last.
            let at = parse_time(&text(&row["dateTime"])).map(|at| at / 1_000);
            assert!(own == name || !is_person(&own) || at.is_none_or(|at| at == since), "{record}");
            by_audit += 1;
        }
    }
    eprintln!("{events} events: {with_group} with a group, {by_computer} and {by_audit} with a user");
    // A computer may speak before it is listed.
    assert!(with_group * 100 >= events * 95, "{with_group} of {events}");
    assert!(by_computer > 0 && by_audit > 0, "{by_computer}, {by_audit} of {events}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_its_first_start_a_site_lists_its_computers_before_any_events_and_later_waits_for_nobody() {
    let late = |milliseconds| Fault::always(Effect::Latency { milliseconds }).at(Endpoint::Computers);
    let has = |status: &Status, source| streams(status).any(|one| one.source == source && one.rows > 0);
    let mut app = TestApp::prepare(Setup::default()).await;
    let fault = app.portal.fault(late(1_500));
    app.run().await;
    app.wait("told events", SOON, |status| has(status, "unified_audit")).await;
    // The one row that tells whose the token is is no list.
    let lists = app.portal.requests_since(0).into_iter().filter(|one| one.size > 1);
    let asked: Vec<_> = lists.filter_map(|one| one.endpoint).collect();
    let rows = [Endpoint::Computers, Endpoint::UnifiedAudit, Endpoint::SystemAudit];
    let first = asked.iter().find(|endpoint| rows.contains(endpoint));
    assert_eq!(first, Some(&Endpoint::Computers), "{asked:?}");
    app.portal.clear_faults(Some(fault));
    app.wait("told devices", SOON, |status| has(status, "computers")).await;
    app.stop().await;

    // Longer than events would wait.
    let fault = app.portal.fault(late(60_000));
    let before = app.portal.stats().requests;
    app.run().await;
    let began = tokio::time::Instant::now();
    while !app.portal.requests_since(before).iter().any(|one| one.endpoint == Some(Endpoint::UnifiedAudit)) {
        assert!(began.elapsed() < std::time::Duration::from_secs(10), "events wait for the computers again");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    app.portal.clear_faults(Some(fault));
    app.stop().await;
}
