//! Records in ECS: every field of the type that the schema's field reference gives it, nothing lost.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lockstep::format::{Format, FormatError, Origin};
use lockstep::model::Change;
use lockstep::record::enrichment::Enrichment;
use lockstep::source::{SOURCES, by_name};
use serde_json::{Value, json};

use super::{
    KNOWN, actions, audit_row, encode, entry, fixture, found, is_compared, known, odd, origin, redacted,
    simulated,
};

const ECS: Format = Format::Ecs { row: false };

/// The fields and values that the schema knows, as far as we use them.
struct Reference {
    /// Type and whether it is a list, by name.
    fields: BTreeMap<&'static str, (&'static str, bool)>,
    allowed: BTreeMap<&'static str, Vec<&'static str>>,
    categories: BTreeMap<&'static str, Vec<&'static str>>,
}

impl Reference {
    fn read() -> Self {
        let (mut fields, mut allowed, mut categories) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for line in include_str!("ecs.txt").lines().filter(|line| !line.starts_with('#')) {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["field", name, kind] => drop(fields.insert(name, (kind, false))),
                ["field", name, kind, "list"] => drop(fields.insert(name, (kind, true))),
                ["allowed", name, ref values @ ..] => drop(allowed.insert(name, values.to_vec())),
                ["category", name, ref types @ ..] => drop(categories.insert(name, types.to_vec())),
                _ => panic!("{line}"),
            }
        }
        Self { fields, allowed, categories }
    }

    /// Collects what is wrong with a member, and the names of the fields that are used.
    fn check(&self, path: &str, value: &Value, used: &mut BTreeSet<String>, mistakes: &mut Vec<String>) {
        match (self.fields.get(path), value) {
            (Some((kind, is_list)), value) => {
                used.insert(path.to_owned());
                let values = value.as_array().map_or_else(|| vec![value], |values| values.iter().collect());
                let allowed = self.allowed.get(path);
                let is_one = |value: &&Value| match (allowed, value.as_str()) {
                    (Some(allowed), Some(text)) => allowed.contains(&text),
                    _ => is_of(kind, value),
                };
                if value.is_array() != *is_list || values.is_empty() || !values.iter().all(is_one) {
                    mistakes.push(format!("{path} is no {kind}: {value}"));
                }
            }
            (None, Value::Object(members)) => {
                for (key, member) in members {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    match path.as_str() {
                        "threatlocker" => {}
                        _ if key.contains('.') => mistakes.push(format!("{path} has a dot")),
                        _ => self.check(&path, member, used, mistakes),
                    }
                }
            }
            (None, _) => mistakes.push(format!("{path} is no field of the schema")),
        }
    }

    /// Each type is taken by a category, and each category has a type.
    fn check_class(&self, record: &Value, mistakes: &mut Vec<String>) {
        let list = |key: &str| -> Vec<String> {
            let values = record["event"][key].as_array().into_iter().flatten();
            values.map(|value| value.as_str().unwrap().to_owned()).collect()
        };
        let (categories, types) = (list("category"), list("type"));
        let takes = |category: &String, kind: &String| {
            self.categories.get(category.as_str()).is_some_and(|types| types.contains(&kind.as_str()))
        };
        let is_taken = types.iter().all(|kind| categories.iter().any(|category| takes(category, kind)));
        let is_filled = categories.iter().all(|category| types.iter().any(|kind| takes(category, kind)));
        if !is_taken || !is_filled {
            mistakes.push(format!("categories {categories:?} with types {types:?}"));
        }
    }
}

fn is_of(kind: &str, value: &Value) -> bool {
    match (kind, value) {
        ("keyword" | "wildcard" | "match_only_text", Value::String(text)) => !text.is_empty(),
        ("ip", Value::String(text)) => text.parse::<IpAddr>().is_ok(),
        ("date", Value::String(text)) => chrono::DateTime::parse_from_rfc3339(text).is_ok(),
        ("long", value) => value.is_i64(),
        ("object", Value::Object(members)) => members.values().all(Value::is_string),
        _ => false,
    }
}

/// Rows of every kind of a source.
fn rows(name: &str) -> Vec<String> {
    let source = by_name(name).unwrap();
    let odd = (0..2_500).map(|number| odd::row(source, number, actions(source)));
    let more = match name {
        "unified_audit" => [r"HKLM\\Software\\x", r"hkey_current_user\\y", r"\\REGISTRY\\z"]
            .map(|path| audit_row(&format!(r#""actionType":"registry","fullPath":"{path}""#)))
            .to_vec(),
        "system_audit" => vec![r#"{"action":"Create","details":{"page":"Users","objectId":"7"}}"#.to_owned()],
        _ => Vec::new(),
    };
    fixture(name).into_iter().chain(simulated(name)).chain(odd).chain(more).collect()
}

#[test]
fn every_field_is_one_of_the_schema_and_of_its_type() {
    let reference = Reference::read();
    let (mut used, mut wrong, mut total) = (BTreeSet::new(), Vec::new(), 0);
    for source in SOURCES {
        let name = source.name();
        let rows = rows(name);
        let changes = [Change::Changed, Change::Removed, Change::Restated];
        for (number, row) in rows.iter().enumerate() {
            let previous = (is_compared(name) && number % 4 > 0)
                .then(|| (changes[number % 3], rows[(number + 1) % rows.len()].as_str()));
            for record in encode(Format::Ecs { row: number % 8 == 0 }, name, row, previous, known(number)) {
                total += 1;
                let mut mistakes = Vec::new();
                reference.check("", &record, &mut used, &mut mistakes);
                reference.check_class(&record, &mut mistakes);
                if !mistakes.is_empty() {
                    wrong.push(format!("{name} row {number}: {}", mistakes.join("; ")));
                }
            }
        }
    }
    eprintln!("ECS: invalid {} of {total}", wrong.len());
    assert!(wrong.is_empty(), "{}", wrong[..wrong.len().min(10)].join("\n"));
    let listed: BTreeSet<String> = reference.fields.keys().map(|name| (*name).to_owned()).collect();
    assert_eq!(used, listed, "the list has what is used, and no more");
}

#[test]
fn every_field_of_a_redacted_record_is_of_its_type_too() {
    let reference = Reference::read();
    let (mut wrong, mut total) = (Vec::new(), 0);
    for source in SOURCES {
        let name = source.name();
        let rows = rows(name);
        for number in 0..rows.len() {
            for record in redacted(Format::Ecs { row: number % 8 == 0 }, name, &rows, number) {
                total += 1;
                let mut mistakes = Vec::new();
                reference.check("", &record, &mut BTreeSet::new(), &mut mistakes);
                reference.check_class(&record, &mut mistakes);
                if !mistakes.is_empty() {
                    wrong.push(format!("{name} row {number}: {}", mistakes.join("; ")));
                }
            }
        }
    }
    eprintln!("ECS, redacted: invalid {} of {total}", wrong.len());
    assert!(wrong.is_empty(), "{}", wrong[..wrong.len().min(10)].join("\n"));
}

#[test]
fn every_value_of_every_row_can_be_found_again_and_no_member_stands_twice() {
    for source in SOURCES {
        let name = source.name();
        for row in rows(name) {
            let (mut out, mut records) = (Vec::new(), Vec::new());
            let entry = entry(name, &row, None);
            ECS.encode(origin(name), &entry, Enrichment::default(), &mut out, &mut records).unwrap();
            let line = std::str::from_utf8(&out[..records[0].end]).unwrap().trim_end();
            let record: Value = serde_json::from_str(line).unwrap();
            let whole: Value = serde_json::from_str(&row).unwrap();
            let lost = found::lost(&whole, &record);
            assert!(lost.is_empty(), "{name}: {lost:?}\nof {row}\nin {record}");
            assert_eq!(commas(line), commas(&record.to_string()), "of two members one is read: {line}");
        }
    }
}

/// Members of objects and lists, as far as commas tell.
fn commas(json: &str) -> usize {
    json.matches(',').count()
}

#[test]
fn each_action_has_its_category_and_types() {
    let cases = [
        ("execute", "process", "start"),
        ("newprocess", "process", "start"),
        ("install", "process", "start"),
        ("elevate", "process", "change"),
        ("powershell", "process", "start"),
        ("read", "file", "access"),
        ("write", "file", "change"),
        ("move", "file", "change"),
        ("delete", "file", "deletion"),
        ("baseline", "file", "info"),
        ("network", "network", "connection denied"),
        ("dns", "network", "protocol denied"),
        ("web", "network web", "access denied"),
        ("registry", "registry", "change"),
        ("configuration", "configuration", "change"),
        ("teleport", "", ""),
    ];
    for (action, category, types) in cases {
        let row = audit_row(&format!(r#""actionType":"{action}","actionId":2"#));
        let event = &encode(ECS, "unified_audit", &row, None, KNOWN)[0]["event"];
        assert_eq!((words(&event["category"]), words(&event["type"])), (category.into(), types.into()));
        assert_eq!((&event["action"], &event["outcome"]), (&action.into(), &"failure".into()));
        assert_eq!((&event["kind"], &event["severity"]), (&"event".into(), &3.into()));
    }
    let cases = [
        ("Logon", "Login", "authentication", "start"),
        ("Logoff", "Login", "authentication", "end"),
        ("Create", "Administrators", "iam", "user creation"),
        ("Modify", "Administrators", "iam", "user change"),
        ("Delete", "API Users", "iam", "user deletion"),
        ("Create", "Policies", "configuration", "creation"),
        ("Modify", "Policies", "configuration", "change"),
        ("Delete", "Policies", "configuration", "deletion"),
        ("Read", "Policies", "api", "access allowed"),
        ("Create", "Computers", "api", "creation allowed"),
        ("Modify", "Computers", "api", "change allowed"),
        ("Delete", "Computers", "api", "deletion allowed"),
        ("Dance", "Computers", "api", "info allowed"),
    ];
    for (action, page, category, types) in cases {
        let row = format!(
            r#"{{"action":"{action}","effectiveAction":"Permitted","details":{{"page":"{page}","objectId":"7"}}}}"#
        );
        let record = &encode(ECS, "system_audit", &row, None, Enrichment::default())[0];
        let event = &record["event"];
        assert_eq!((words(&event["category"]), words(&event["type"])), (category.into(), types.into()));
        assert_eq!(event["outcome"], "success");
        let target = if category == "iam" { json!("7") } else { Value::Null };
        assert_eq!(record["user"]["target"]["id"], target);
        assert_eq!(record["observer"]["type"], "portal");
    }
}

fn words(list: &Value) -> String {
    let words = list.as_array().into_iter().flatten().map(|word| word.as_str().unwrap());
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn what_has_a_field_of_the_schema_stands_there_and_the_rest_under_threatlocker() {
    let row = r#"{"eActionLogId":"v1","organizationId":"o","organizationName":"Org","computerId":"c","hostname":"WS",
        "osType":1,"username":"EXAMPLE\\a","actionType":"execute","actionId":2,"action":"Deny","effectiveAction":"Deny",
        "fullPath":"c:\\x\\y.exe -a","processPath":"c:\\z.exe","processId":7,"parentProcessId":8,"policyId":"p",
        "policyName":"Default","policyLocation":"Servers","sourceIPAddress":"not one","destinationPort":"70000",
        "dateTime":"2026-03-01 11:50:01.4358150","dateTimeImported":"2026-03-01T12:51:13+01:00",
        "sha256Hash":"short","size":12,"virusTotalCheckArgument":"short","later":{"a":[1]}}"#;
    let record = &encode(ECS, "unified_audit", row, None, Enrichment::default())[0];
    let wanted = json!({
        "@timestamp": "2026-03-01T12:00:01.500000Z",
        "ecs": {"version": "9.0.0"},
        "event": {
            "id": "00000000-0000-0000-0000-000000000007", "kind": "event", "category": ["process"],
            "type": ["start"], "action": "execute", "outcome": "failure", "code": "2", "reason": "Deny",
            "severity": 3, "created": "2026-03-01T11:51:13.000000Z",
            "ingested": "2026-03-01T12:00:00.000001Z", "provider": "ThreatLocker", "module": "threatlocker",
            "dataset": "threatlocker.unified_audit"
        },
        "observer": {"vendor": "ThreatLocker", "product": "ThreatLocker", "type": "agent"},
        "labels": {"site": "acme \"north\""},
        "organization": {"id": "o", "name": "Org"},
        "host": {"id": "c", "hostname": "WS", "name": "WS", "os": {"type": "windows", "name": "Windows"}},
        "user": {"name": "a", "domain": "EXAMPLE"},
        "process": {
            "pid": 7, "name": "y.exe", "executable": "c:\\x\\y.exe", "command_line": "c:\\x\\y.exe -a",
            "parent": {"pid": 8, "name": "z.exe", "executable": "c:\\z.exe"}
        },
        "rule": {"id": "p", "name": "Default", "ruleset": "Servers"},
        "related": {"user": ["a", "EXAMPLE\\a"], "hosts": ["WS"]},
        "threatlocker": {
            "eActionLogId": "v1", "osType": 1, "effectiveAction": "Deny", "sourceIPAddress": "not one",
            "destinationPort": "70000", "dateTime": "2026-03-01 11:50:01.4358150",
            "dateTimeImported": "2026-03-01T12:51:13+01:00", "sha256Hash": "short", "size": 12,
            "virusTotalCheckArgument": "short", "unmapped": {"later": {"a": [1]}}
        }
    });
    assert_eq!(record, &wanted);
}

#[test]
fn each_kind_of_subject_stands_in_its_fields() {
    let hash = "a".repeat(64);
    let members = |action: &str, path: &str| {
        let row = audit_row(&format!(
            r#""actionType":"{action}","fullPath":"{path}","size":5,"sha256Hash":"{hash}","processPath":"/bin/p",
            "parentProcessName":"init","destinationIPAddress":"192.0.2.1","destinationPort":"443""#
        ));
        encode(ECS, "unified_audit", &row, None, Enrichment::default()).remove(0)
    };
    let far = json!({"ip": "192.0.2.1", "port": 443});
    let file = json!({"name": "b.txt", "path": "/a/b.txt", "size": 5, "hash": {"sha256": hash}});
    for action in ["read", "write", "move", "delete", "baseline"] {
        assert_eq!(members(action, "/a/b.txt")["file"], file);
    }
    let script = members("powershell", r"c:\\b.exe -x");
    assert_eq!(script["process"]["command_line"], "c:\\b.exe -x");
    assert_eq!(script["process"]["parent"]["name"], "init");
    assert_eq!((&script["file"], &script["threatlocker"]["size"]), (&Value::Null, &5.into()));
    assert_eq!(members("powershell", "/a/b.ps1")["file"]["name"], "b.ps1");
    assert_eq!(members("execute", "/a/b")["process"]["hash"]["sha256"], hash);
    let registry = members("registry", r"HKEY_LOCAL_MACHINE\\Software");
    assert_eq!(registry["registry"], json!({"path": "HKEY_LOCAL_MACHINE\\Software", "hive": "HKLM"}));
    let network = members("network", "a -> b");
    assert_eq!((&network["destination"], &network["message"]), (&far, &"a -> b".into()));
    let dns = members("dns", "www.example.com");
    assert_eq!((&dns["dns"]["question"]["name"], &dns["destination"]), (&"www.example.com".into(), &far));
    assert_eq!(dns["related"]["hosts"], json!(["WS", "www.example.com"]));
    let web = members("web", "https://example.com:8443/x");
    let url = json!({"full": "https://example.com:8443/x", "scheme": "https", "domain": "example.com"});
    assert_eq!((&web["url"], &web["destination"]["domain"]), (&url, &"example.com".into()));
    assert_eq!(members("web", "a b")["url"], json!({"original": "a b"}));
    assert_eq!(members("configuration", "a rule was made")["message"], "a rule was made");
}

#[test]
fn a_row_of_an_unknown_type_stands_whole_under_threatlocker() {
    let row = audit_row(r#""actionType":"teleport","actionId":2,"fullPath":"c:\\x""#);
    let record = &encode(ECS, "unified_audit", &row, None, Enrichment::default())[0];
    assert_eq!(record["threatlocker"], serde_json::from_str::<Value>(&row).unwrap());
}

#[test]
fn a_leftover_never_takes_the_name_of_something_else_under_threatlocker() {
    let ours = ["unmapped", "device", "last_user", "before", "after"];
    for source in SOURCES {
        let names = source.names().all();
        assert!(!names.iter().any(|name| ours.iter().any(|own| own.eq_ignore_ascii_case(name))));
    }
    let row = r#"{"unmapped":1,"device":2,"last_user":3,"details":[4],"details.page":"5","hostName":"6"}"#;
    let record = &encode(ECS, "system_audit", row, None, KNOWN)[0]["threatlocker"];
    let unmapped = json!({"unmapped": 1, "device": 2, "last_user": 3, "details.page": "5", "hostName": "6"});
    assert_eq!((&record["details"], &record["unmapped"]), (&json!([4]), &unmapped));
    assert_eq!(record["last_user"]["origin"], "computers");
    let row = r#"{"details":{"page":"5","later":true}}"#;
    let record = &encode(ECS, "system_audit", row, None, KNOWN)[0]["threatlocker"];
    assert_eq!(record["details"], json!({"page": "5"}));
    assert_eq!(record["unmapped"], json!({"details.later": true}));
}

#[test]
fn a_computer_is_an_asset_with_its_last_user_and_its_changes_are_events() {
    let before = r#"{"computerId":"c","hostname":"WS","mode":"Secure","isIsolated":false,"isTamperProtectionDisabled":false}"#;
    let after = r#"{"computerId":"c","hostname":"WS","mode":"Learning","isIsolated":true,"isTamperProtectionDisabled":true,
        "computerName":"Front desk","username":"EXAMPLE\\b","lastCheckin":"2026-03-01T10:00:00","group":"Servers",
        "lastCheckinIPAddress":"192.0.2.9","lastCheckinLocalIPAddresses":["10.0.0.1","fe80::1"],"threatLockerVersion":"9.1"}"#;
    let records = encode(ECS, "computers", after, Some((Change::Changed, before)), Enrichment::default());
    let told: Vec<_> = records
        .iter()
        .map(|record| {
            let word = |key: &str| record["event"][key].as_str().unwrap();
            (word("kind"), word("action"), words(&record["event"]["type"]), &record["event"]["severity"])
        })
        .collect();
    let wanted = [
        ("asset", "device-changed", "info".to_owned(), &json!(1)),
        ("event", "mode-changed", "change".to_owned(), &json!(1)),
        ("event", "isolation-on", "change".to_owned(), &json!(1)),
        ("event", "tamper-protection-off", "change".to_owned(), &json!(4)),
    ];
    assert_eq!(told, wanted);
    let device = &records[0];
    let host = json!({"id": "c", "hostname": "WS", "name": "Front desk", "ip": ["10.0.0.1", "fe80::1"]});
    assert_eq!((&device["host"], &device["source"]["ip"]), (&host, &"192.0.2.9".into()));
    assert_eq!(device["user"], json!({"name": "b", "domain": "EXAMPLE"}));
    assert_eq!(device["related"]["ip"], json!(["192.0.2.9", "10.0.0.1", "fe80::1"]));
    assert_eq!(device["agent"], json!({"type": "threatlocker", "version": "9.1"}));
    let facts = json!({"group": "Servers", "last_seen": "2026-03-01T10:00:00.000000Z"});
    assert_eq!(device["threatlocker"]["device"], facts);
    let both = json!({"before": {"mode": "Secure"}, "after": {"mode": "Learning"}});
    assert_eq!(records[1]["threatlocker"], both);
    let uids: BTreeSet<_> = records.iter().map(|record| record["event"]["id"].to_string()).collect();
    assert_eq!(uids.len(), 4, "each record has a uid of its own");
    let action = |change| {
        let records = encode(ECS, "computers", after, Some((change, before)), Enrichment::default());
        let actions = records.iter().map(|record| record["event"]["action"].as_str().unwrap().to_owned());
        actions.collect::<Vec<_>>()
    };
    assert_eq!(action(Change::New), ["device-added", "device-added"]);
    assert_eq!(action(Change::Removed), ["device-removed", "device-removed"]);
    assert_eq!(action(Change::Restated), ["device-restated"]);
}

#[test]
fn a_list_with_one_text_that_is_no_address_stays_under_threatlocker_whole() {
    let row = r#"{"computerId":"c","lastCheckinLocalIPAddresses":["10.0.0.1","fe80::1%eth0"],"lastCheckinIPAddress":"x"}"#;
    let record = &encode(ECS, "computers", row, None, Enrichment::default())[0];
    assert_eq!((&record["host"]["ip"], &record["source"]), (&Value::Null, &Value::Null));
    let kept = &record["threatlocker"];
    assert_eq!(kept["lastCheckinLocalIPAddresses"], json!(["10.0.0.1", "fe80::1%eth0"]));
    assert_eq!(kept["lastCheckinIPAddress"], "x");
}

#[test]
fn what_is_known_of_a_device_and_its_user_completes_the_row_and_never_contradicts_it() {
    let row =
        r#"{"actionType":"read","computerId":"c","organizationName":"Own","username":"EXAMPLE\\other"}"#;
    let record = &encode(ECS, "unified_audit", row, None, KNOWN)[0];
    assert_eq!(
        (&record["host"]["name"], &record["host"]["os"]["full"]),
        (&"WS-0001 – Zoë".into(), &"Windows 11 Pro".into())
    );
    assert_eq!((&record["organization"]["name"], &record["user"]["name"]), (&"Own".into(), &"other".into()));
    let known = &record["threatlocker"];
    assert_eq!(known["device"], json!({"group": "Workstations", "mode": "Secure"}));
    let user = json!({"name": "a.muster", "domain": "EXAMPLE", "origin": "computers", "time": "1970-01-01T00:00:05.000000Z"});
    assert_eq!(known["last_user"], user);
    let related = json!({
        "user": ["other", "EXAMPLE\\other", "a.muster", "EXAMPLE\\a.muster"],
        "hosts": ["WS-0001 – Zoë"],
    });
    assert_eq!(record["related"], related);
    let own = r#"{"actionType":"read","username":"EXAMPLE\\a.muster"}"#;
    let record = &encode(ECS, "unified_audit", own, None, KNOWN)[0];
    assert_eq!(record["threatlocker"]["last_user"], Value::Null, "the row says it itself");
    assert_eq!(record["related"]["user"], json!(["a.muster", "EXAMPLE\\a.muster"]));

    let record = &encode(ECS, "computers", r#"{"computerId":"c"}"#, None, KNOWN)[0];
    assert_eq!(record["user"], json!({"name": "a.muster", "domain": "EXAMPLE"}));
    assert_eq!(record["threatlocker"]["last_user"]["origin"], "computers");
    let record = &encode(ECS, "computers", r#"{"computerId":"c","username":"other"}"#, None, KNOWN)[0];
    assert_eq!(record["user"], json!({"name": "other"}));
    assert_eq!(record["threatlocker"]["last_user"], user);
    let own = r#"{"computerId":"c","username":"EXAMPLE\\a.muster","operatingSystem":"Debian","group":"Own"}"#;
    let record = &encode(ECS, "computers", own, None, KNOWN)[0];
    assert_eq!(record["host"]["os"]["full"], "Debian");
    assert_eq!(record["threatlocker"]["device"]["group"], "Own");
    let since = json!({"origin": "computers", "time": "1970-01-01T00:00:05.000000Z"});
    assert_eq!(record["threatlocker"]["last_user"], since);

    let (before, after) =
        (r#"{"computerId":"c","mode":"Secure"}"#, r#"{"computerId":"c","mode":"Learning"}"#);
    let record = &encode(ECS, "computers", after, Some((Change::Changed, before)), KNOWN)[1];
    assert_eq!(
        (&record["host"]["name"], &record["organization"]["name"]),
        (&"WS-0001 – Zoë".into(), &"Müßig".into())
    );
    let related = json!({"user": ["a.muster", "EXAMPLE\\a.muster"], "hosts": ["WS-0001 – Zoë"]});
    assert_eq!((&record["related"], &record["threatlocker"]["last_user"]), (&related, &user));
}

#[test]
fn a_record_has_the_time_of_its_row_or_that_of_its_collection() {
    let at = |time: Option<i64>, collected: i64| {
        let (mut out, mut records) = (Vec::new(), Vec::new());
        let mut entry = entry("unified_audit", r#"{"dateTimeImported":"0001-01-01T00:00:00"}"#, None);
        entry.time = time;
        let origin = Origin { collected, ..origin("unified_audit") };
        let result = ECS.encode(origin, &entry, Enrichment::default(), &mut out, &mut records);
        result.map(|()| serde_json::from_slice::<Value>(&out).unwrap())
    };
    let record = at(Some(-1), 1_500_000).unwrap();
    assert_eq!(record["@timestamp"], "1969-12-31T23:59:59.999999Z");
    assert_eq!(record["event"]["ingested"], "1970-01-01T00:00:01.500000Z");
    assert_eq!(record["event"]["created"], Value::Null, "the year 1 stands for none");
    for time in [None, Some(i64::MAX), Some(i64::MIN)] {
        assert_eq!(at(time, 1_500_000).unwrap()["@timestamp"], "1970-01-01T00:00:01.500000Z");
    }
    assert!(matches!(at(None, i64::MAX), Err(FormatError::Collected(_))));
}

#[test]
fn the_row_is_carried_word_for_word_where_it_is_wanted() {
    let row = "{\"actionType\":\"execute\",\r\n \"fullPath\":\"\\ud800 \\\"x\\\"\"}";
    let record = &encode(Format::Ecs { row: true }, "unified_audit", row, None, Enrichment::default())[0];
    let kept: Value = serde_json::from_str(record["event"]["original"].as_str().unwrap()).unwrap();
    assert_eq!(kept, json!({"actionType": "execute", "fullPath": r#"\ud800 "x""#}));
    let record = &encode(ECS, "unified_audit", row, None, Enrichment::default())[0];
    assert_eq!(record["event"]["original"], Value::Null);
}

#[test]
fn a_record_is_bounded_by_its_row() {
    let long = "x\\\\\\\"\\u0001".repeat(10_000);
    let addresses = vec!["\"192.0.2.1\""; 10_000].join(",");
    for source in SOURCES {
        let name = source.name();
        let mut rows = vec![format!(r#"{{"lastCheckinLocalIPAddresses":[{addresses}]}}"#)];
        for action in actions(source) {
            let of = source.names().all().iter().filter(|name| !name.contains('.'));
            let members = of.filter(|name| !["actionType", "action"].contains(name));
            let members: Vec<String> = members.map(|name| format!(r#""{name}":"{long}""#)).collect();
            let key = if name == "unified_audit" { "actionType" } else { "action" };
            rows.push(format!(r#"{{{},"{key}":"{action}"}}"#, members.join(",")));
        }
        for row in rows {
            let (mut out, mut records) = (Vec::new(), Vec::new());
            let entry = entry(name, &row, None);
            let format = Format::Ecs { row: true };
            format.encode(origin(name), &entry, KNOWN, &mut out, &mut records).unwrap();
            // Itself, once more as text with its escapes escaped, and what is derived from it.
            assert!(out.len() < row.len() * 4 + 8_192, "{} of {}", out.len(), row.len());
        }
    }
}
