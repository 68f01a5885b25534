//! What the demo's files hold, for people: devices with their last user, and three events in plain words.
//!
//! All of it is read back from the OCSF records, so it shows what a SIEM and an inventory get.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use chrono::DateTime;
use serde_json::Value;

use crate::cli::table::{Table, cut, harmless, time};
use crate::record::enrichment::is_person;

/// So many devices are shown; the files have them all.
const SHOWN: usize = 6;
/// Events are looked for in so many bytes at the end of each file.
const TAIL: u64 = 512 * 1024;

/// What the files of a demo hold.
#[derive(Debug, Default)]
pub(super) struct Sample {
    /// The newest record of each device, by its id.
    devices: BTreeMap<String, Value>,
    events: Vec<Value>,
}

impl Sample {
    /// Reads the OCSF files in a folder. What cannot be read is not shown.
    pub(super) fn read(folder: &Path) -> Self {
        let (mut sample, mut events) = (Self::default(), Vec::new());
        for path in files(folder) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with("computers-") {
                each(&path, u64::MAX, |record| sample.enter(record));
            } else {
                each(&path, TAIL, |record| events.push(record));
            }
        }
        events.sort_by_key(|event| std::cmp::Reverse(event["time"].as_i64()));
        let kinds: [fn(&Value) -> bool; 3] = [
            |event| event["class_uid"] == 1007 && event["disposition_id"] == 2 && is_person(&user(event)),
            |event| event["class_uid"] == 4001 && event["disposition_id"] == 1,
            |event| event["metadata"]["log_name"] == "system_audit",
        ];
        sample.events =
            kinds.iter().filter_map(|kind| events.iter().find(|event| kind(event))).cloned().collect();
        sample
    }

    fn enter(&mut self, record: Value) {
        let Some(uid) = record["device"]["uid"].as_str().map(str::to_owned) else { return };
        let written = |record: &Value| record["metadata"]["logged_time"].as_i64();
        if record["class_uid"] == 5001
            && self.devices.get(&uid).is_none_or(|known| written(known) <= written(&record))
        {
            self.devices.insert(uid, record);
        }
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table =
            Table::new(&["DEVICE", "SYSTEM", "ORGANIZATION", "LAST USER", "LAST SEEN"]).indented();
        for record in self.devices.values().take(SHOWN) {
            let device = &record["device"];
            table.row([
                cut(&name(device), 30),
                text(&device["os"]["name"]),
                cut(&text(&device["org"]["name"]), 30),
                Some(person(&device["owner"]))
                    .filter(|user| !user.is_empty())
                    .unwrap_or_else(|| "-".to_owned()),
                moment(&device["last_seen_time"]),
            ]);
        }
        if !self.devices.is_empty() {
            write!(f, "\nDevices with their last user:\n{table}")?;
        }
        if self.devices.len() > SHOWN {
            writeln!(f, "  and {} more", self.devices.len() - SHOWN)?;
        }
        if !self.events.is_empty() {
            writeln!(f, "\nEvents in plain words:")?;
        }
        for event in &self.events {
            writeln!(f, "  {}", harmless(&told(event)))?;
        }
        Ok(())
    }
}

/// The files of a folder in the order of their names.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    files.sort();
    files
}

/// Hands over each whole record in the last bytes of a file.
fn each(path: &Path, last: u64, mut record: impl FnMut(Value)) {
    let Ok(mut file) = File::open(path) else { return };
    let length = file.metadata().map_or(0, |file| file.len());
    if file.seek(SeekFrom::Start(length.saturating_sub(last))).is_err() {
        return;
    }
    for line in BufReader::new(file).split(b'\n').map_while(Result::ok) {
        // The first may be half a line.
        if let Ok(read) = serde_json::from_slice(&line) {
            record(read);
        }
    }
}

/// One event as a sentence.
fn told(event: &Value) -> String {
    let device = &event["device"];
    let place = match (name(device).as_str(), text(&device["org"]["name"]).as_str()) {
        ("", _) => String::new(),
        (name, "") => format!(" on {name}"),
        (name, organization) => format!(" on {name} of {organization}"),
    };
    let who = Some(user(event)).filter(|who| !who.is_empty()).unwrap_or_else(|| "somebody".to_owned());
    let file = |of: &Value| text(&of["path"]);
    let did = match event["class_uid"].as_u64() {
        Some(1007) => format!("started {}", file(&event["process"]["file"])),
        Some(4001) => format!("connected to {}", endpoint(&event["dst_endpoint"])),
        Some(3002) => {
            format!("did a {} at {}", text(&event["activity_name"]), text(&event["service"]["name"]))
        }
        Some(3004) => format!("did {} a {}", text(&event["activity_name"]), text(&event["entity"]["type"])),
        Some(6003) => format!(
            "called {} of {}",
            text(&event["api"]["operation"]),
            text(&event["metadata"]["product"]["name"])
        ),
        _ => format!("did {} ({})", text(&event["activity_name"]), text(&event["class_name"])),
    };
    let by = text(&event["policy"]["name"]);
    let outcome = match (text(&event["disposition"]).to_lowercase().as_str(), by.as_str()) {
        ("", _) => text(&event["status"]).to_lowercase(),
        (verdict, "") => verdict.to_owned(),
        (verdict, policy) => format!("{verdict} by the policy \"{policy}\""),
    };
    format!("{}{place}: {who} {did}; {outcome}.", moment(&event["time"]))
}

/// The user of an event, with its domain.
fn user(event: &Value) -> String {
    let user = if event["user"].is_object() { &event["user"] } else { &event["actor"]["user"] };
    person(user)
}

fn person(user: &Value) -> String {
    match (text(&user["domain"]).as_str(), text(&user["name"])) {
        ("", name) => name,
        (domain, name) => format!("{domain}\\{name}"),
    }
}

fn endpoint(endpoint: &Value) -> String {
    let host = ["hostname", "ip"].into_iter().map(|key| text(&endpoint[key])).find(|host| !host.is_empty());
    let host = host.unwrap_or_else(|| "another machine".to_owned());
    endpoint["port"].as_u64().map_or(host.clone(), |port| format!("{host}, port {port}"))
}

fn name(device: &Value) -> String {
    ["hostname", "name"]
        .into_iter()
        .map(|key| text(&device[key]))
        .find(|name| !name.is_empty())
        .unwrap_or_default()
}

fn moment(milliseconds: &Value) -> String {
    time(milliseconds.as_i64().and_then(DateTime::from_timestamp_millis))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;
    use serde_json::json;

    use super::*;

    fn device(uid: &str, owner: &str, logged: i64) -> Value {
        json!({
            "class_uid": 5001, "metadata": { "logged_time": logged, "log_name": "computers" },
            "device": {
                "uid": uid, "hostname": format!("PC-{uid}"), "os": { "name": "Windows 11 Pro" },
                "org": { "name": "Müller GmbH" }, "owner": { "name": owner, "domain": "CORP" },
                "last_seen_time": 1_772_366_400_000_i64
            }
        })
    }

    #[test]
    fn the_newest_record_of_each_device_and_three_kinds_of_events_are_shown() {
        let folder = tempfile::tempdir().unwrap();
        let lines = |records: &[Value]| {
            records.iter().map(|record| format!("{record}\n")).collect::<String>() + "{\"half"
        };
        let changed =
            json!({ "class_uid": 5019, "device": { "uid": "0" }, "metadata": { "logged_time": 9 } });
        let mut devices =
            vec![device("0", "old", 1), device("0", "new", 3), device("0", "between", 2), changed];
        devices.extend((1..10).map(|number| device(&number.to_string(), "anna", 1)));
        let event = |class: u64, log: &str, disposition: u64, more: Value| {
            let mut event = json!({
                "class_uid": class, "metadata": { "log_name": log }, "disposition_id": disposition,
                "time": 1_772_366_400_000_i64, "actor": { "user": { "name": "anna", "domain": "CORP" } },
            });
            event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            event
        };
        let device = json!({ "hostname": "PC-1", "org": { "name": "Müller GmbH" } });
        let newer = |more: Value| {
            let mut more = more;
            more["time"] = json!(1_772_366_500_000_i64);
            more
        };
        let audit = [
            event(1007, "unified_audit", 1, newer(json!({}))),
            event(1007, "unified_audit", 2, newer(json!({ "actor": {} }))),
            event(1007, "unified_audit", 2, json!({ "time": 1_772_366_300_000_i64 })),
            event(
                1007,
                "unified_audit",
                2,
                json!({
                    "disposition": "Blocked", "policy": { "name": "Default\u{1b}[31m" }, "device": device,
                    "process": { "file": { "path": "c:\\temp\\x.exe" } }
                }),
            ),
            event(
                4001,
                "unified_audit",
                1,
                json!({
                    "disposition": "Allowed", "device": device, "dst_endpoint": { "ip": "192.0.2.1", "port": 443 }
                }),
            ),
        ];
        let system = [event(
            3002,
            "system_audit",
            0,
            json!({
                "activity_name": "Logon", "service": { "name": "the portal" }, "status": "Success"
            }),
        )];
        for (file, records) in
            [("computers-1.ndjson", &devices[..]), ("unified-1", &audit), ("system-1", &system)]
        {
            std::fs::write(folder.path().join(file), lines(records)).unwrap();
        }
        assert_snapshot!(Sample::read(folder.path()).to_string());
    }

    #[test]
    fn where_nothing_was_delivered_nothing_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Sample::read(&folder.path().join("missing")).to_string(), "");
    }
}
