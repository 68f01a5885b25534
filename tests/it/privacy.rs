//! What a sink is spared never reaches its files.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use lockstep::redact::class::Class;
use lockstep::simulator::world::{World, WorldOptions};
use lockstep::simulator::{Options, Simulator};
use serde_json::Value;

use crate::support::binary::Place;

const KEY: &str = "a key of the whole program's test";

/// The records of all files in a folder.
fn records(folder: &Path) -> Vec<Value> {
    let mut records = Vec::new();
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => records.extend(self::records(&path)),
            false => {
                let text = fs::read_to_string(path).unwrap();
                records.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
            }
        }
    }
    records
}

/// The texts in fields that a sink is to be spared.
fn personal(value: &Value, found: &mut Vec<String>) {
    let fields = || Class::ALL.iter().flat_map(|class| class.fields());
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                match value {
                    Value::String(text) if fields().any(|field| field.eq_ignore_ascii_case(key)) => {
                        found.push(text.trim().to_lowercase());
                    }
                    value => personal(value, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| personal(value, found)),
        _ => {}
    }
}

/// Every text of a record in lower case, one a line.
fn told(value: &Value, told_so_far: &mut String) {
    match value {
        Value::Object(members) => members.values().for_each(|value| told(value, told_so_far)),
        Value::Array(values) => values.iter().for_each(|value| told(value, told_so_far)),
        Value::String(text) => *told_so_far += &(text.to_lowercase() + "\n"),
        _ => {}
    }
}

/// As `docs/privacy.md` says: too short to be looked for, or nobody's.
fn stays(value: &str) -> bool {
    let nobody = ["nt authority\\", "nt service\\", "window manager\\", "font driver host\\"];
    value.chars().count() < 3
        || value.starts_with("00000000-0000-0000-0000-")
        || ["system", "root"].contains(&value)
        || nobody.iter().any(|start| value.starts_with(start))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_file_of_a_sink_holds_what_the_sink_is_spared() {
    let options = WorldOptions {
        backlog_hours: 3,
        rows_per_day: 8_000,
        computers: 40,
        odd_share: 0.2,
        live: false,
        ..WorldOptions::default()
    };
    let portal = Simulator::start(World::new(options), Options::default()).await.unwrap();
    let place = Place::new(&portal, "64KiB");
    fs::write(place.path("key"), format!("{KEY}\n")).unwrap();
    let (dir, key) = (place.path("").display().to_string(), place.path("key").display().to_string());
    let all = Class::ALL.map(Class::as_str);
    let removed = all.map(|class| format!("{class}: remove")).join(", ");
    let mut sinks = String::from("sinks:\n");
    for (name, format, redact) in [
        ("spared-raw", "raw", format!("[{}]", all.join(", "))),
        ("spared-ocsf", "ocsf", format!("[{}]", all.join(", "))),
        ("spared-ecs", "ecs", format!("{{ {removed} }}")),
    ] {
        let raw = if format == "raw" { "" } else { "raw: true, " };
        sinks += &format!(
            "  - {{ name: {name}, type: file, path: \"{dir}/{name}/{{source}}.ndjson\", format: {format}, {raw}redact: \
             {redact}, redact_key: {{ file: {key} }} }}\n"
        );
    }
    place.reconfigure("sinks:\n", &sinks);
    let told_by_check = place.ask(&["check"]).await;
    assert!(told_by_check.contains("spared: user, ip, "), "{told_by_check}");
    let said = place.ask(&["once"]).await;
    assert!(!said.contains(KEY) && !told_by_check.contains(KEY), "{said}");

    let mut values: HashMap<String, Vec<String>> = HashMap::new();
    for record in records(&place.out()) {
        let mut found = Vec::new();
        personal(&record["row"], &mut found);
        personal(&record["previous"], &mut found);
        found.retain(|value| !stays(value));
        values.insert(record["uid"].as_str().unwrap().to_owned(), found);
    }
    let gathered: usize = values.values().map(Vec::len).sum();
    assert!(values.len() > 1_000 && gathered > 3_000, "{gathered} values of {} rows", values.len());
    for (sink, uid, pseudonyms) in [
        ("spared-raw", "/uid", true),
        ("spared-ocsf", "/metadata/uid", true),
        ("spared-ecs", "/event/id", false),
    ] {
        let (mut looked_at, mut replaced) = (0, 0);
        for record in records(&place.path(sink)) {
            let id = record.pointer(uid).and_then(Value::as_str).unwrap_or_else(|| panic!("{record}"));
            let mut text = String::new();
            told(&record, &mut text);
            replaced += usize::from(text.contains("user-"));
            // A further record of an entry has a uid of its own.
            let Some(values) = values.get(id) else { continue };
            looked_at += 1;
            for value in values {
                assert!(!text.contains(value.as_str()), "{sink}: {value} in {record}");
            }
        }
        assert_eq!(looked_at, values.len(), "{sink}");
        assert_eq!(replaced > 500, pseudonyms, "{sink}: {replaced}");
    }
}
