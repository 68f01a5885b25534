//! Records as a SIEM gets them: valid by the schema's own files, and nothing of a row lost.

mod ecs;
mod found;
mod odd;
mod schemas;

use std::collections::{BTreeMap, BTreeSet};

use lockstep::format::{Encoded, Format, Origin};
use lockstep::formats::ocsf::Version;
use lockstep::model::{Change, Entry, Kind, Lane, Micros, uid};
use lockstep::record::enrichment::{Enrichment, KnownDevice, LastUser, Matching, UserOrigin};
use lockstep::redact::Redaction;
use lockstep::redact::class::{Class, Classes, How};
use lockstep::redact::pseudonym::Key;
use lockstep::simulator::approvals::Request;
use lockstep::simulator::dialect::Dialect;
use lockstep::simulator::online_devices::OnlineDevice;
use lockstep::simulator::policies::Form;
use lockstep::simulator::world::{Source as Audit, World, WorldOptions};
use lockstep::source::{SOURCES, Shape, Source, by_name};
use lockstep::sources::unified_audit::ACTION_TYPES;
use schemas::Judge;
use serde_json::{Map, Value};
use uuid::Uuid;

const SYSTEM_ACTIONS: [&str; 6] = ["Create", "Delete", "Logon", "Logoff", "Modify", "Read"];

const STATUSES: [&str; 8] = ["1", "4", "6", "10", "12", "13", "16", "17"];

/// What is known of a device.
const KNOWN: Enrichment<'_> = Enrichment {
    device: Some(KnownDevice {
        name: Some("WS-0001 – Zoë"),
        os: Some("Windows 11 Pro"),
        group: Some("Workstations"),
        organization: Some("Müßig"),
        mode: Some("Secure"),
    }),
    user: Some(LastUser { name: "EXAMPLE\\a.muster", origin: UserOrigin::Computer, time: Some(5_000_000) }),
    replaces: None,
    matching: None,
};

/// Applications that match, odd ones among them, and that none does.
const MATCHING: Matching<'_> = Matching {
    applications: r#"[{"applicationId":"c20276a1","applicationName":"Example \"Tool\" – ü","organizationName":"master","status":1},{"name":"x","new":{"a":[null,1.50]}}]"#,
    more: 3,
};
const NONE_MATCHES: Matching<'_> = Matching { applications: "[]", more: 0 };

/// Odd things that are known, in turn with nothing and with what is usual.
fn known(number: usize) -> Enrichment<'static> {
    const DEVICE: KnownDevice<'_> =
        KnownDevice { name: None, os: None, group: None, organization: None, mode: None };
    let device = |device| Enrichment { device: Some(device), ..Enrichment::default() };
    let user = |name, time| Enrichment {
        user: Some(LastUser { name, origin: UserOrigin::UnifiedAudit, time }),
        ..Enrichment::default()
    };
    match number % 9 {
        0 | 2 => KNOWN,
        4 => Enrichment { matching: Some(NONE_MATCHES), ..KNOWN },
        7 => Enrichment { matching: Some(MATCHING), ..KNOWN },
        1 => device(KnownDevice { name: Some("two words\n\u{7} \u{10ffff}"), os: Some("\\ud800"), ..DEVICE }),
        3 => device(KnownDevice { mode: Some("{\"a\": 1}"), group: Some("\t"), ..DEVICE }),
        5 => user("a\\b\\c", Some(Micros::MAX)),
        6 => user("\\", Some(-1)),
        _ => Enrichment::default(),
    }
}

fn ocsf(version: Version) -> Format {
    Format::Ocsf { version, row: false }
}

fn actions(source: &dyn Source) -> &'static [&'static str] {
    match source.name() {
        "unified_audit" | "threats" | "private_threats" => &ACTION_TYPES,
        "system_audit" => &SYSTEM_ACTIONS,
        "approval_requests" => &STATUSES,
        _ => &[],
    }
}

fn origin(source: &str) -> Origin<'_> {
    Origin { site: "acme \"north\"", source, lane: Lane::Live, collected: 1_772_366_400_000_001 }
}

fn entry<'a>(source: &str, row: &'a str, previous: Option<(Change, &'a str)>) -> Entry<'a> {
    let (change, previous) = previous.map_or((Change::New, None), |(change, row)| (change, Some(row)));
    Entry {
        number: 7,
        uid: Uuid::from_u128(7),
        kind: by_name(source).unwrap().kind(),
        change,
        organization: "0a",
        vendor_id: ["remediations", "computer_checkins", "computer_details"]
            .contains(&source)
            .then_some("c/m"),
        time: Some(1_772_366_401_500_000),
        row,
        previous,
    }
}

/// The records of a row, each read from its own line.
fn encode(
    format: Format,
    source: &str,
    row: &str,
    previous: Option<(Change, &str)>,
    known: Enrichment<'_>,
) -> Vec<Value> {
    let (mut out, mut records) = (Vec::new(), Vec::new());
    let entry = entry(source, row, previous);
    format.encode(origin(source), &entry, known, &mut out, &mut records).unwrap();
    let mut start = 0;
    let read = |record: &Encoded| {
        let line = &out[start..record.end];
        start = record.end;
        assert!(line.ends_with(b"}\n") && line.iter().filter(|byte| **byte == b'\n').count() == 1);
        serde_json::from_slice(line).unwrap()
    };
    records.iter().map(read).collect()
}

fn fixture(source: &str) -> Vec<String> {
    let source = match source {
        "organizations" => "child_organizations",
        "computer_details" => "computer_detail",
        // Nobody knows their rows; those that are known are what they are read as.
        "private_threats" => "threats",
        "private_remediations" => "remediations",
        other => other,
    };
    let path = format!("{}/tests/it/fixtures/portal/{source}.json", env!("CARGO_MANIFEST_DIR"));
    let rows: Vec<Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    rows.iter().map(Value::to_string).collect()
}

/// Rows of the simulated portal, odd ones among them.
fn simulated(source: &str) -> Vec<String> {
    let world = World::new(WorldOptions { odd_share: 0.2, computers: 60, ..WorldOptions::default() });
    simulated_by(&world, source).collect()
}

fn simulated_by(world: &World, source: &str) -> std::vec::IntoIter<String> {
    let audit = match source {
        "remediations" | "private_remediations" => {
            let computers = world.fleet.computers.iter();
            let rows = computers.flat_map(|one| one.maintenances(world.options.seed, world.now()));
            return rows.map(|one| one.text()).collect::<Vec<_>>().into_iter();
        }
        "unified_audit" => Audit::UnifiedAudit,
        "system_audit" => Audit::SystemAudit,
        "approval_requests" => return simulated_requests(world),
        "threats" | "private_threats" => Audit::Threats,
        "policies" => return simulated_policies(world).into_iter(),
        "organizations" => return Vec::new().into_iter(),
        "online_devices" => return simulated_online_devices().into_iter(),
        "computer_details" => return simulated_details(world).into_iter(),
        _ => {
            let computers = world.fleet.listed(world.now(), None, true);
            return computers
                .iter()
                .map(|computer| {
                    let mut row = String::new();
                    let organization = &world.organizations[usize::from(computer.organization)];
                    computer.write(organization, world.now(), 60, 1, &mut row);
                    row
                })
                .collect::<Vec<_>>()
                .into_iter();
        }
    };
    let row = |row| {
        let mut bytes = Vec::new();
        world.write_row(audit, row, &mut bytes);
        String::from_utf8(bytes).unwrap()
    };
    world.rows(audit).iter().take(1_000).map(row).collect::<Vec<_>>().into_iter()
}

/// Of each computer several, hours apart.
fn simulated_details(world: &World) -> Vec<String> {
    let mut rows = Vec::new();
    for computer in &world.fleet.computers {
        for hours in [0, 7, 30] {
            let mut row = String::new();
            computer.write_detail(world.now() + hours * 3_600_000_000, 1, &mut row);
            rows.push(row);
        }
    }
    rows
}

fn simulated_online_devices() -> Vec<String> {
    let world = World::new(WorldOptions { online_devices: 60, ..WorldOptions::default() });
    let write = |device: &OnlineDevice| {
        let mut row = String::new();
        device.write(world.now(), &mut row);
        row
    };
    world.online.devices.iter().map(write).collect()
}

/// In each form in which a portal may write them.
fn simulated_policies(world: &World) -> Vec<String> {
    let other = Dialect { names_policies_otherwise: true, ..Dialect::default() };
    let sparse = Dialect { sparse_policies: true, ..Dialect::default() };
    let forms = [
        (Form::Row, Dialect::default()),
        (Form::Row, other),
        (Form::Row, sparse),
        (Form::Alone, Dialect::default()),
    ];
    let mut rows = Vec::new();
    for (form, dialect) in forms {
        for policy in world.policies.listed(world.now(), None) {
            let (owner, mut row) = (&world.organizations[usize::from(policy.organization)], String::new());
            policy.write(form, &dialect, world.now(), 24, 1, owner, &mut row);
            rows.push(row);
        }
    }
    rows
}

fn simulated_requests(world: &World) -> std::vec::IntoIter<String> {
    let row = |request: &Request| {
        let mut row = String::new();
        let organization = &world.organizations[usize::from(request.organization)];
        request.write(organization, world.now(), 1, &mut row);
        row
    };
    let requests = world.approvals.requests.iter().filter(|request| request.opened <= world.now());
    requests.map(row).collect::<Vec<_>>().into_iter()
}

/// Whether rows of a source are compared with those before.
fn is_compared(source: &str) -> bool {
    let source = by_name(source).unwrap();
    matches!(source.shape(), Shape::Snapshot { .. }) || source.kind() == Kind::Device
}

#[test]
fn every_record_is_valid_by_the_schema_in_every_version() {
    let Some(mut judge) = Judge::new() else { return };
    for version in Version::ALL {
        for source in SOURCES {
            let name = source.name();
            let odd = (0..2_500).map(|number| odd::row(source, number, actions(source)));
            let rows: Vec<String> = fixture(name).into_iter().chain(simulated(name)).chain(odd).collect();
            let changes = [Change::Changed, Change::Removed, Change::Restated];
            for (number, row) in rows.iter().enumerate() {
                let previous = (is_compared(name) && number % 4 > 0)
                    .then(|| (changes[number % 3], rows[(number + 1) % rows.len()].as_str()));
                for record in encode(ocsf(version), name, row, previous, known(number)) {
                    judge.judge(&record, &format!("{version} {name} row {number}"));
                }
            }
        }
    }
    judge.verdict("OCSF");
}

/// The records of a row for a sink that is spared everything, in one way or the other.
fn redacted(format: Format, source: &str, rows: &[String], number: usize) -> Vec<Value> {
    let how = if number.is_multiple_of(2) { How::Pseudonym } else { How::Remove };
    let mut classes = Classes::default();
    Class::ALL.iter().for_each(|class| classes.set(*class, how));
    let redaction = Redaction { classes, key: Key::new(b"sixteen bytes or more") };
    let previous = rows[(number + 1) % rows.len()].as_str();
    let previous = is_compared(source).then_some((Change::Changed, previous));
    let known = if number.is_multiple_of(3) { Enrichment::default() } else { KNOWN };
    let original = entry(source, &rows[number], previous);
    let redacted = redaction.apply(source, &original, &known).unwrap();
    let entry = redacted.entry(&original);
    let previous = entry.previous.map(|row| (entry.change, row));
    encode(format, source, entry.row, previous, redacted.known(&known))
}

#[test]
fn every_redacted_record_is_valid_too() {
    let Some(mut judge) = Judge::new() else { return };
    for version in Version::ALL {
        for source in SOURCES {
            let name = source.name();
            let odd = (0..600).map(|number| odd::row(source, number, actions(source)));
            let rows: Vec<String> =
                fixture(name).into_iter().chain(simulated(name).into_iter().take(300)).chain(odd).collect();
            for number in 0..rows.len() {
                let format = Format::Ocsf { version, row: number % 5 == 0 };
                for record in redacted(format, name, &rows, number) {
                    judge.judge(&record, &format!("{version} {name} redacted row {number}"));
                }
            }
        }
    }
    judge.verdict("OCSF, redacted");
}

/// Class and activity of each action type that is permitted, in 1.3, 1.5 and 1.8 (`schemas.md`).
const CLASSES: [(&str, [(u64, u64); 3]); 15] = [
    ("execute", [(1007, 1); 3]),
    ("newprocess", [(1007, 1); 3]),
    ("install", [(1007, 1); 3]),
    ("elevate", [(1007, 5); 3]),
    ("powershell", [(1007, 1), (1009, 1), (1009, 1)]),
    ("read", [(1001, 2); 3]),
    ("write", [(1001, 3); 3]),
    ("move", [(1001, 5); 3]),
    ("delete", [(1001, 4); 3]),
    ("baseline", [(1001, 99); 3]),
    ("network", [(4001, 1); 3]),
    ("dns", [(4003, 1); 3]),
    ("web", [(4001, 1), (4002, 0), (4002, 0)]),
    ("registry", [(201_001, 3); 3]),
    ("configuration", [(5019, 1); 3]),
];

#[test]
fn every_action_type_has_its_class_equally_often_and_only_unknown_ones_are_base_events() {
    let source = by_name("unified_audit").unwrap();
    let mut types = ACTION_TYPES.to_vec();
    types.push("teleport");
    for (place, version) in Version::ALL.into_iter().enumerate() {
        let mut table: BTreeMap<(String, u64), u64> = BTreeMap::new();
        // One row more than there are types gives any value for a type.
        for number in (0..2_720).filter(|number| number % 17 < 16) {
            let row = odd::row(source, number, &types);
            let record = &encode(ocsf(version), "unified_audit", &row, None, KNOWN)[0];
            let action = record["metadata"]["event_code"].as_str().unwrap_or("teleport").to_owned();
            let class = record["class_uid"].as_u64().unwrap();
            assert_eq!(record["type_uid"], class * 100 + record["activity_id"].as_u64().unwrap());
            *table.entry((action, class)).or_default() += 1;
        }
        eprintln!("OCSF {version}");
        for ((action, class), count) in &table {
            eprintln!("  {action:>14} -> {class:>6}: {count}");
        }
        for action in &types {
            let of: Vec<_> = table.iter().filter(|((known, _), _)| known == action).collect();
            assert_eq!(of.iter().map(|(_, count)| **count).sum::<u64>(), 160, "{action}");
            let wanted = CLASSES.iter().find(|(known, _)| known == action).map_or(0, |(_, by)| by[place].0);
            let storage = version == Version::V1_8 && ["read", "write", "move", "delete"].contains(action);
            assert!(
                of.iter().all(|((_, class), _)| *class == wanted || storage && *class == 1010),
                "{action}"
            );
        }
    }
}

fn audit_row(members: &str) -> String {
    format!(r#"{{"eActionLogId":"a","computerId":"c","hostname":"WS","username":"u",{members}}}"#)
}

#[test]
fn a_decision_on_a_request_has_its_verdict_where_the_version_has_one_and_the_time_it_took() {
    let rows = fixture("approval_requests");
    for version in Version::ALL {
        let told = |row: &str| encode(ocsf(version), "approval_requests", row, None, KNOWN);
        let judged = version >= Version::V1_5;
        for (row, disposition, action, seconds) in [(1, 8, 1, 1_066), (2, 25, 2, 57_599)] {
            let records = told(&rows[row]);
            let [decision, opening] = &records[..] else { panic!("{records:?}") };
            assert_eq!((&decision["type_uid"], &opening["type_uid"]), (&300_403.into(), &300_401.into()));
            assert_ne!(decision["metadata"]["uid"], opening["metadata"]["uid"]);
            let verdict = [&decision["disposition_id"], &decision["action_id"]];
            let wanted = [Value::from(disposition), Value::from(action)];
            assert_eq!(verdict.map(Clone::clone), if judged { wanted } else { [Value::Null, Value::Null] });
            assert_eq!(decision["entity"]["data"]["secondsToDecision"], seconds);
            assert_eq!(decision["duration"].as_i64().map(|milliseconds| milliseconds / 1_000), Some(seconds));
            assert!(opening.get("disposition_id").is_none() && opening.get("duration").is_none());
            assert_eq!(
                (&decision["device"]["hostname"], decision["time"].as_i64() > opening["time"].as_i64()),
                (&serde_json::from_str::<Value>(&rows[row]).unwrap()["hostname"], true)
            );
        }
        let [opening] = &told(&rows[0])[..] else { panic!("one record") };
        assert_eq!(opening["comment"], "Bitte freigeben – brauche ich für die Präsentation 🙏");
        assert_eq!(opening["actor"]["user"]["email_addr"], "a.muster@example.com");
        let approved = &told(&rows[1])[0];
        assert_eq!(
            (&approved["actor"]["user"]["name"], &approved["status_detail"]),
            (&"admin@example.com".into(), &"approved".into())
        );
        let unknown = rows[0].replace(r#""statusId":1"#, r#""statusId":3"#);
        assert_eq!(told(&unknown)[0]["status_detail"], "other");
    }
    let unknown = rows[0].replace(r#""statusId":1"#, r#""statusId":3"#);
    let (mut out, mut records) = (Vec::new(), Vec::new());
    let entry = entry("approval_requests", &unknown, None);
    ocsf(Version::V1_5).encode(origin("approval_requests"), &entry, KNOWN, &mut out, &mut records).unwrap();
    assert!(records[0].unknown, "it is counted");
}

#[test]
fn applications_that_match_a_request_stand_in_each_of_its_records_and_it_is_told_that_none_does() {
    let rows = fixture("approval_requests");
    // The second was decided before it was seen, so it gives two records.
    for (row, count) in [(&rows[0], 1), (&rows[1], 2)] {
        let told = |format, matching| {
            let known = Enrichment { matching, ..KNOWN };
            let records = encode(format, "approval_requests", row, None, known);
            assert_eq!(records.len(), count);
            records
        };
        for version in Version::ALL {
            for record in told(ocsf(version), Some(MATCHING)) {
                let all = record["enrichments"].as_array().unwrap();
                let all: Vec<&Value> =
                    all.iter().filter(|one| one["name"] == "matching_application").collect();
                let listed: Vec<Value> = serde_json::from_str(MATCHING.applications).unwrap();
                assert_eq!(
                    all.iter().map(|one| &one["data"]).collect::<Vec<_>>(),
                    listed.iter().collect::<Vec<_>>()
                );
                assert_eq!(
                    (&all[0]["value"], &all[1]["value"]),
                    (&"Example \"Tool\" – ü".into(), &"x".into())
                );
                assert_eq!(all[0]["provider"], "ThreatLocker");
                let unmapped = &record["unmapped"];
                assert_eq!(unmapped["more_matching_applications"], 3);
                assert!(unmapped.get("matching_applications").is_none());
            }
            for record in told(ocsf(version), Some(NONE_MATCHES)) {
                assert_eq!(record["unmapped"]["matching_applications"], Value::Array(Vec::new()));
                assert!(record["unmapped"].get("more_matching_applications").is_none());
            }
            assert!(
                told(ocsf(version), None).iter().all(|record| !record.to_string().contains("matching_app"))
            );
        }
        let ecs = Format::Ecs { row: false };
        for record in told(ecs, Some(MATCHING)) {
            let own = &record["threatlocker"];
            assert_eq!(
                own["matching_applications"].to_string(),
                serde_json::from_str::<Value>(MATCHING.applications).unwrap().to_string()
            );
            assert_eq!(own["more_matching_applications"], 3);
        }
        for record in told(ecs, Some(NONE_MATCHES)) {
            assert_eq!(record["threatlocker"]["matching_applications"], Value::Array(Vec::new()));
        }
        assert!(told(ecs, None).iter().all(|record| !record.to_string().contains("matching_app")));
    }
}

#[test]
fn a_permitted_row_has_the_activity_of_its_type() {
    for (place, version) in Version::ALL.into_iter().enumerate() {
        for (action, by_version) in CLASSES {
            let row = audit_row(&format!(r#""actionType":"{}","actionId":1"#, action.to_uppercase()));
            let record = &encode(ocsf(version), "unified_audit", &row, None, Enrichment::default())[0];
            let found = (record["class_uid"].as_u64().unwrap(), record["activity_id"].as_u64().unwrap());
            assert_eq!(found, by_version[place], "{action} in {version}");
        }
    }
}

#[test]
fn verdict_and_effect_give_severity_action_disposition_and_status() {
    // members; severity, action, disposition, status, and the activity of a network row.
    let cases = [
        (r#""actionId":1,"effectiveAction":"Permit""#, [1, 1, 1, 1, 1]),
        (r#""actionId":"1""#, [1, 1, 1, 1, 1]),
        (r#""actionId":4"#, [1, 1, 1, 1, 1]),
        (r#""actionId":2,"effectiveAction":"Deny""#, [3, 2, 2, 2, 5]),
        (r#""actionId":2"#, [3, 2, 2, 2, 5]),
        (r#""actionId":3"#, [3, 2, 2, 2, 5]),
        (r#""actionId":99"#, [3, 2, 2, 2, 5]),
        (r#""actionId":2,"isMonitorMode":true"#, [2, 1, 1, 1, 1]),
        (r#""actionId":2,"isMonitorMode":true,"effectiveAction":"Permit""#, [2, 1, 1, 1, 1]),
        (r#""actionId":2,"isMonitorMode":true,"effectiveAction":"Deny""#, [3, 2, 2, 2, 5]),
        (r#""actionId":6"#, [4, 2, 7, 2, 5]),
        (r#""actionId":6,"isMonitorMode":true,"effectiveAction":"Permit""#, [4, 1, 7, 1, 1]),
        (r#""action":"Deny""#, [3, 2, 2, 2, 5]),
        (r#""action":"permitted""#, [1, 1, 1, 1, 1]),
        (r#""actionId":5"#, [0, 0, 0, 0, 1]),
        (r#""actionId":1,"threatSeverityLevel":"Severe""#, [5, 1, 1, 1, 1]),
        (r#""actionId":1,"threatSeverityLevel":"Warning""#, [3, 1, 1, 1, 1]),
        (r#""actionId":2,"threatSeverityLevel":"""#, [3, 2, 2, 2, 5]),
    ];
    for version in Version::ALL {
        for (members, wanted) in cases {
            let row = audit_row(&format!(r#""actionType":"network",{members}"#));
            let record = &encode(ocsf(version), "unified_audit", &row, None, Enrichment::default())[0];
            let keys = ["severity_id", "action_id", "disposition_id", "status_id", "activity_id"];
            assert_eq!(keys.map(|key| record[key].as_u64().unwrap()), wanted, "{members}");
        }
    }
}

/// A row of the audit as a finding, with the uid that lockstep gives it.
fn finding(format: Format, members: &str) -> Value {
    let row = audit_row(members);
    let entry = Entry {
        uid: uid("0a", "threats", "1/a", "event", "0"),
        vendor_id: Some("a"),
        ..entry("threats", &row, None)
    };
    let (mut out, mut records) = (Vec::new(), Vec::new());
    format.encode(origin("threats"), &entry, KNOWN, &mut out, &mut records).unwrap();
    serde_json::from_slice(&out).unwrap()
}

#[test]
fn a_threat_is_a_finding_with_its_level_its_evidence_and_the_event_it_was_found_by() {
    let sha256 = "a".repeat(64);
    let members = format!(
        r#""actionType":"execute","actionId":2,"threatSeverityLevel":"Severe","fullPath":"c:\\x\\mimi.exe -q",
        "sha256Hash":"{sha256}","engineRatings":[{{"name":"AV","rating":null}}],"notes":"Known threat","policyId":"p""#
    );
    for version in Version::ALL {
        let record = &finding(ocsf(version), &members);
        let number = |key: &str| record[key].as_u64().unwrap();
        assert_eq!(
            (number("class_uid"), number("type_uid"), number("severity_id")),
            (2004, 200_401, 5),
            "{version}"
        );
        assert_eq!((number("action_id"), number("disposition_id")), (2, 2));
        let info = &record["finding_info"];
        let event = uid("0a", "unified_audit", "1/a", "event", "0").to_string();
        assert_eq!(info["uid"], record["metadata"]["uid"]);
        assert_eq!(
            (&info["title"], &info["desc"]),
            (&"Severe threat: mimi.exe".into(), &"Known threat".into())
        );
        assert_eq!(info["related_events"], serde_json::json!([{ "uid": event }]));
        let evidence = &record["evidences"][0];
        assert_eq!(evidence["file"]["hashes"][0]["value"], sha256.as_str());
        assert_eq!(evidence["process"]["cmd_line"], r"c:\x\mimi.exe -q");
        assert_eq!(record["evidences"][1]["data"]["engineRatings"][0]["name"], "AV");
        let device = if version >= Version::V1_5 { &record["device"] } else { &evidence["device"] };
        assert_eq!((&device["uid"], &device["owner"]["name"]), (&"c".into(), &"a.muster".into()));
    }
    let record = &finding(Format::Ecs { row: false }, &members);
    let event = &record["event"];
    assert_eq!(
        (&event["kind"], &event["category"][0], &event["severity"]),
        (&"alert".into(), &"malware".into(), &5.into())
    );
    assert_eq!(event["dataset"], "threatlocker.threats");
    assert_eq!(record["process"]["hash"]["sha256"], sha256.as_str());
    let related = uid("0a", "unified_audit", "1/a", "event", "0").to_string();
    assert_eq!(record["threatlocker"]["related_event"]["id"], related);
}

#[test]
fn a_level_that_nobody_knows_is_unknown_and_stays_readable() {
    let of = |level: &str| {
        let record = finding(ocsf(Version::V1_5), &format!(r#""actionType":"execute","actionId":2,{level}"#));
        (record["severity_id"].as_u64().unwrap(), record["unmapped"]["threatSeverityLevel"].clone())
    };
    assert_eq!(of(r#""threatSeverityLevel":"WARNING""#), (3, "WARNING".into()));
    assert_eq!(of(r#""threatSeverityLevel":"Dire""#), (0, "Dire".into()));
    assert_eq!(of(r#""threatSeverityLevel":null"#), (0, Value::Null), "whatever its policy said");
}

#[test]
fn every_value_of_every_row_can_be_found_again() {
    for version in Version::ALL {
        for source in SOURCES {
            let name = source.name();
            let odd = (0..2_000).map(|number| odd::row(source, number, actions(source)));
            for row in fixture(name).into_iter().chain(simulated(name)).chain(odd) {
                let record = &encode(ocsf(version), name, &row, None, Enrichment::default())[0];
                // A key that came twice has its count behind it.
                let whole: Value = serde_json::from_str(&row).unwrap();
                let lost = found::lost(&whole, record);
                assert!(lost.is_empty(), "{version} {name}: {lost:?}\nof {row}\nin {record}");
            }
        }
    }
}

/// Rows as a portal writes them, every member in its place, by source and kind.
fn typical() -> Vec<(&'static str, String)> {
    let world = World::new(WorldOptions { odd_share: 0.0, computers: 60, ..WorldOptions::default() });
    let mut typical: Vec<(&str, String)> =
        simulated_by(&world, "computers").map(|row| ("computers", row)).collect();
    for source in ["unified_audit", "system_audit", "approval_requests", "threats"] {
        typical.extend(simulated_by(&world, source).map(|row| (source, row)));
    }
    for source in SOURCES {
        typical.extend(source.examples().into_iter().map(|row| (source.name(), row)));
    }
    typical
}

#[test]
fn what_is_not_mapped_is_a_small_part_of_every_kind_of_row() {
    let mut shares: BTreeMap<(&str, String, String), (usize, usize)> = BTreeMap::new();
    for (source, row) in typical() {
        let whole: Value = serde_json::from_str(&row).unwrap();
        let record = &encode(ocsf(Version::V1_5), source, &row, None, Enrichment::default())[0];
        let kind = whole["actionType"].as_str().or(whole["action"].as_str()).filter(|_| !is_compared(source));
        let kind = kind.or(whole["displayName"].as_str().filter(|_| source == "remediations"));
        let key =
            (source, kind.unwrap_or(source).to_owned(), record["class_name"].as_str().unwrap().to_owned());
        let share = shares.entry(key).or_default();
        share.0 += record["unmapped"].to_string().len();
        share.1 += whole.to_string().len();
    }
    let mut most = Vec::new();
    for ((source, kind, class), (rest, whole)) in shares {
        let percent = rest * 100 / whole;
        eprintln!("unmapped: {percent:>2} of 100 bytes of {source} {kind} ({class})");
        let bound = match source {
            "computers" => 37,
            "remediations" => 34,
            "system_audit" => 28,
            "approval_requests" => 60,
            // A proxy and options of an agent have no place in the schemas.
            "computer_details" => 75,
            _ => 30,
        };
        if percent >= bound {
            most.push(format!("{source} {kind} ({class}): {percent} of 100 bytes, not below {bound}"));
        }
    }
    assert!(most.is_empty(), "{most:#?}");
}

#[test]
fn where_a_connection_is_made_the_file_that_the_row_tells_of_is_that_of_the_process() {
    let sha256 = "a".repeat(64);
    for version in [Version::V1_5, Version::V1_8] {
        for action in ["network", "dns", "web", "registry", "configuration"] {
            let row = audit_row(&format!(
                r#""actionType":"{action}","processId":7,"processPath":"c:\\a.exe","size":9,"sha256Hash":"{sha256}","isProtectedProcess":true,"certText":"Example","applicationId":"b""#
            ));
            let record = &encode(ocsf(version), "unified_audit", &row, None, Enrichment::default())[0];
            let process = &record["actor"]["process"];
            let file = &process["file"];
            assert_eq!(
                (&file["size"], &file["hashes"][0]["value"]),
                (&9.into(), &sha256.as_str().into()),
                "{action}"
            );
            assert_eq!(
                (&file["xattributes"]["certText"], &file["product"]["uid"]),
                (&"Example".into(), &"b".into())
            );
            assert_eq!(process["xattributes"]["isProtectedProcess"], true);
        }
    }
}

#[test]
fn the_portal_is_the_logger_that_gave_an_event_its_id() {
    let row = audit_row(r#""actionType":"read""#);
    let record = &encode(ocsf(Version::V1_5), "unified_audit", &row, None, Enrichment::default())[0];
    assert_eq!(record["metadata"]["loggers"][0]["event_uid"], "a");
    assert!(record["unmapped"].get("eActionLogId").is_none());
}

#[test]
fn a_changed_proxy_is_a_change_of_the_configuration_that_tells_both_ways() {
    let before = r#"{"computerId":"c","name":"ws-1","useProxyServer":false,"proxyURL":null,"options":["a"]}"#;
    let after =
        r#"{"computerId":"c","name":"ws-1","useProxyServer":true,"proxyURL":"http://p:1","options":["a"]}"#;
    let told = |format| {
        let changed = Some((Change::Changed, before));
        encode(format, "computer_details", after, changed, Enrichment::default())
    };
    let records = told(ocsf(Version::V1_5));
    assert_eq!(records.len(), 2, "nothing is told of the options: {records:?}");
    assert_eq!((&records[0]["class_uid"], &records[0]["status_detail"]), (&5001.into(), &"changed".into()));
    assert_eq!(records[0]["unmapped"]["proxyURL"], "http://p:1");
    let change = &records[1];
    assert_eq!((&change["class_uid"], &change["message"]), (&5019.into(), &"proxy".into()));
    assert_eq!((&change["device"]["uid"], &change["device"]["name"]), (&"c".into(), &"ws-1".into()));
    let [was, is] = ["before", "after"].map(|when| &change["unmapped"][when]);
    assert_eq!((&was["useProxyServer"], &is["useProxyServer"]), (&false.into(), &true.into()));
    assert_eq!(is["proxyURL"], "http://p:1");
    let records = told(Format::Ecs { row: false });
    let actions: Vec<_> = records.iter().map(|record| &record["event"]["action"]).collect();
    assert_eq!(actions, ["device-changed", "proxy-changed"]);
    assert_eq!(records[1]["threatlocker"]["before"]["useProxyServer"], false);
}

#[test]
fn a_computer_tells_its_mode_and_what_belongs_to_it() {
    let row = r#"{"computerId":"c","mode":"Learning","isIsolated":false,"maintenanceTypeId":3,"macAddress":"00-53-00-00-00-01",
        "threatLockerVersion":"9.1","serviceVersion":"9.2","ipAddress":"192.0.2.7"}"#;
    let record = &encode(ocsf(Version::V1_5), "computers", row, None, Enrichment::default())[0];
    let device = &record["device"];
    let policy = &device["agent_list"][0]["policies"][0];
    assert_eq!((&policy["name"], &policy["data"]["maintenanceTypeId"]), (&"Learning".into(), &3.into()));
    assert_eq!(policy["data"]["isIsolated"], false);
    assert_eq!((&device["mac"], &device["ip"]), (&"00-53-00-00-00-01".into(), &"192.0.2.7".into()));
    assert_eq!(device["agent_list"][1]["version"], "9.2");
    assert!(record.get("unmapped").is_none(), "{record}");
}

#[test]
fn a_device_without_an_agent_says_so_where_it_is_and_what_it_is_called() {
    let row = &fixture("online_devices")[0];
    for version in Version::ALL {
        let records = encode(ocsf(version), "online_devices", row, None, Enrichment::default());
        let [device, added] = &records[..] else { panic!("{records:?}") };
        assert_eq!((&device["class_uid"], &added["type_uid"]), (&5001.into(), &300_401.into()));
        for device in [&device["device"], &added["entity"]["device"]] {
            assert_eq!((&device["is_managed"], &device["ip"]), (&false.into(), &"198.51.100.200".into()));
            assert_eq!(device["hostname"], "DRUCKER-EG");
            assert!(device.get("agent_list").is_none() && device.get("owner").is_none(), "{device}");
        }
        assert!(device["device"]["last_seen_time"].is_i64());
        let unnamed = r#"{"computerName":null,"ipAddress":"198.51.100.201"}"#;
        let added = &encode(ocsf(version), "online_devices", unnamed, None, Enrichment::default())[1];
        assert_eq!(added["entity"]["name"], "198.51.100.201", "what has no name goes by its address");
    }
    for record in encode(Format::Ecs { row: false }, "online_devices", row, None, Enrichment::default()) {
        assert_eq!(record["host"]["ip"], serde_json::json!(["198.51.100.200"]));
        assert_eq!(record["threatlocker"]["device"]["is_managed"], false);
        assert!(record.get("source").is_none() && record.get("agent").is_none(), "{record}");
    }
    let computer = r#"{"computerId":"c","ipAddress":"192.0.2.7"}"#;
    let record = &encode(ocsf(Version::V1_5), "computers", computer, None, Enrichment::default())[0];
    assert!(record["device"].get("is_managed").is_none() && record["device"]["agent_list"].is_array());
}

#[test]
fn the_page_of_the_portal_says_what_was_changed_and_else_what_the_function_names_first() {
    let class = |action: &str, page: &str, function: &str| {
        let details = format!(r#"{{"page":"{page}","function":"{function}"}}"#);
        let row = format!(r#"{{"username":"u","action":"{action}","details":{details}}}"#);
        let record = &encode(ocsf(Version::V1_5), "system_audit", &row, None, Enrichment::default())[0];
        record["class_uid"].as_u64().unwrap()
    };
    for (action, page, function, wanted) in [
        ("Modify", "Policies", "Copy policy to users group", 3004),
        ("Modify", "Administrators", "Update policy rights", 3001),
        ("Create", "Groups", "Copy policy to users group", 3004),
        ("Create", "Groups", "Add user to policy group", 3001),
        ("Delete", "", "Remove role", 3001),
        ("Modify", "Computers", "Update maintenance mode", 6003),
        ("Read", "Policies", "View", 6003),
    ] {
        assert_eq!(class(action, page, function), wanted, "{action} {page} {function}");
    }
}

#[test]
fn who_only_reads_of_tamper_protection_does_no_harm() {
    let severity = |action: &str, effect: &str| {
        let row = format!(
            r#"{{"username":"u","action":"{action}","effectiveAction":"{effect}","details":{{"page":"Computers","function":"Tamper protection"}}}}"#
        );
        let record = &encode(ocsf(Version::V1_5), "system_audit", &row, None, Enrichment::default())[0];
        record["severity_id"].as_u64().unwrap()
    };
    assert_eq!((severity("Read", "Permitted"), severity("Read", "Denied")), (1, 3));
    assert_eq!(severity("Modify", "Permitted"), 4);
}

#[test]
fn an_administrators_deed_names_the_page_the_organization_and_the_note() {
    let row = r#"{"username":"u","organizationId":"o","organizationName":"Müßig","action":"Modify","notes":"asked for",
        "details":{"page":"Policies","objectId":"p"}}"#;
    for version in Version::ALL {
        let record = &encode(ocsf(version), "system_audit", row, None, Enrichment::default())[0];
        let actor = &record["actor"];
        assert_eq!(
            (&actor["invoked_by"], &actor["user"]["org"]["name"]),
            (&"Policies".into(), &"Müßig".into())
        );
        assert_eq!(record["comment"], "asked for");
    }
    let row =
        row.replace("Policies", "Computers").replace(r#""notes""#, r#""systemAuditObjectTypeId":4,"notes""#);
    let record = &encode(ocsf(Version::V1_5), "system_audit", &row, None, Enrichment::default())[0];
    assert_eq!(record["resources"][0]["type"], "4");
}

#[test]
fn a_process_path_with_arguments_is_a_command_line() {
    let row = audit_row(
        r#""actionType":"execute","fullPath":"c:\\b.exe","processPath":"c:\\a.exe /factory,{7} -x c:\\c","parentProcessId":4"#,
    );
    let ecs = &encode(Format::Ecs { row: false }, "unified_audit", &row, None, Enrichment::default())[0];
    let parent = &ecs["process"]["parent"];
    assert_eq!((&parent["name"], &parent["executable"]), (&"a.exe".into(), &r"c:\a.exe".into()));
    assert_eq!(parent["command_line"], r"c:\a.exe /factory,{7} -x c:\c");
    let ocsf = &encode(ocsf(Version::V1_5), "unified_audit", &row, None, Enrichment::default())[0];
    let process = &ocsf["actor"]["process"];
    assert_eq!((&process["name"], &process["file"]["path"]), (&"a.exe".into(), &r"c:\a.exe".into()));
    assert_eq!(process["cmd_line"], r"c:\a.exe /factory,{7} -x c:\c");
}

#[test]
fn a_row_of_an_unknown_type_is_a_base_event_that_holds_everything_and_is_counted() {
    let row = audit_row(r#""actionType":"teleport","actionId":2,"fullPath":"c:\\x""#);
    let whole: Value = serde_json::from_str(&row).unwrap();
    for version in Version::ALL {
        let record = &encode(ocsf(version), "unified_audit", &row, None, KNOWN)[0];
        assert_eq!(
            (&record["class_uid"], &record["activity_name"]),
            (&Value::from(0), &Value::from("teleport"))
        );
        assert_eq!(record["unmapped"], whole);
    }
    let entry = entry("unified_audit", &row, None);
    let (mut out, mut records) = (Vec::new(), Vec::new());
    ocsf(Version::V1_5).encode(origin("unified_audit"), &entry, KNOWN, &mut out, &mut records).unwrap();
    assert!(records[0].unknown);
}

#[test]
fn a_changed_computer_gives_a_record_for_each_thing_that_changed() {
    let before = r#"{"computerId":"c","hostname":"WS","mode":"Secure","isIsolated":false,"isTamperProtectionDisabled":false}"#;
    let after = r#"{"computerId":"c","hostname":"WS","mode":"Learning","isIsolated":true,"isTamperProtectionDisabled":true}"#;
    let told = |change, row, previous| -> Vec<(u64, u64, Value, Value)> {
        encode(ocsf(Version::V1_5), "computers", row, Some((change, previous)), Enrichment::default())
            .iter()
            .map(|record| {
                let number = |key: &str| record[key].as_u64().unwrap();
                (
                    number("type_uid"),
                    number("severity_id"),
                    record["message"].clone(),
                    record["metadata"]["uid"].clone(),
                )
            })
            .collect()
    };
    let changed = told(Change::Changed, after, before);
    let kinds: Vec<_> =
        changed.iter().map(|(kind, severity, what, _)| (*kind, *severity, what.as_str())).collect();
    let wanted = [
        (500_102, 1, None),
        (501_901, 1, Some("mode")),
        (501_901, 1, Some("isolation")),
        (501_901, 4, Some("tamper_protection")),
    ];
    assert_eq!(kinds, wanted);
    let uids: BTreeSet<_> = changed.iter().map(|(.., uid)| uid.to_string()).collect();
    assert_eq!(uids.len(), 4, "each record has a uid of its own");
    assert_eq!(changed, told(Change::Changed, after, before), "and the same at every time");
    let kinds = |change| told(change, after, before).iter().map(|(kind, ..)| *kind).collect::<Vec<_>>();
    assert_eq!(kinds(Change::New), [500_102, 300_401]);
    assert_eq!(kinds(Change::Removed), [500_102, 300_404]);
    assert_eq!(kinds(Change::Restated), [500_102]);
}

#[test]
fn a_row_that_no_reader_likes_becomes_lines_that_every_reader_takes() {
    let row = "{\"actionType\":\"execute\",\r\n \"fullPath\":\"\\ud800 x \\\\ud800 \\ud83d\\ude00 \\uDC00\",\n\"a\":{\n}}";
    for version in Version::ALL {
        let record =
            &encode(Format::Ocsf { version, row: true }, "unified_audit", row, None, Enrichment::default())
                [0];
        assert_eq!(record["process"]["file"]["path"], r"\ud800 x \ud800 😀 \uDC00");
        assert_eq!(record["unmapped"]["a"], serde_json::json!({}));
        assert!(serde_json::from_str::<Value>(record["raw_data"].as_str().unwrap()).is_ok());
    }
}

#[test]
fn what_is_known_of_a_device_and_its_user_stands_in_its_events_unless_the_row_says_it() {
    let row = r#"{"actionType":"read","computerId":"c","organizationName":"Own"}"#;
    let record = &encode(ocsf(Version::V1_5), "unified_audit", row, None, KNOWN)[0];
    let device = &record["device"];
    assert_eq!((&device["name"], &device["os"]["name"]), (&"WS-0001 – Zoë".into(), &"Windows 11 Pro".into()));
    assert_eq!(
        (&device["org"]["name"], &device["groups"][0]["name"]),
        (&"Own".into(), &"Workstations".into())
    );
    assert_eq!(
        (&device["owner"]["name"], &device["owner"]["domain"]),
        (&"a.muster".into(), &"EXAMPLE".into())
    );
    let user = &record["enrichments"][1];
    assert_eq!((&user["data"]["origin"], &user["data"]["time"]), (&"computers".into(), &5_000.into()));
    let computer = r#"{"computerId":"c","username":"other"}"#;
    let record = &encode(ocsf(Version::V1_5), "computers", computer, None, KNOWN)[0];
    assert_eq!(record["device"]["owner"]["name"], "other");
    let record = &encode(ocsf(Version::V1_5), "computers", r#"{"computerId":"c"}"#, None, KNOWN)[0];
    assert_eq!(record["device"]["owner"]["name"], "a.muster");
    assert_eq!(record["enrichments"].as_array().unwrap().len(), 2);
}

#[test]
fn a_change_of_a_device_tells_what_is_known_of_it() {
    let (before, after) =
        (r#"{"computerId":"c","mode":"Secure"}"#, r#"{"computerId":"c","mode":"Learning"}"#);
    for version in Version::ALL {
        let told =
            |change| encode(ocsf(version), "computers", after, Some((change, before)), KNOWN).remove(1);
        for device in [&told(Change::Changed)["device"], &told(Change::New)["entity"]["device"]] {
            assert_eq!(
                (&device["os"]["name"], &device["org"]["name"]),
                (&"Windows 11 Pro".into(), &"Müßig".into())
            );
            assert_eq!(
                (&device["groups"][0]["name"], &device["owner"]["name"]),
                (&"Workstations".into(), &"a.muster".into())
            );
        }
    }
}

#[test]
fn a_device_has_one_name_and_the_rows_own_comes_first() {
    let row = r#"{"actionType":"read","computerId":"c","hostname":"WS 1"}"#;
    let (mut out, mut records) = (Vec::new(), Vec::new());
    let (origin, entry) = (origin("unified_audit"), entry("unified_audit", row, None));
    ocsf(Version::V1_3).encode(origin, &entry, KNOWN, &mut out, &mut records).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains(r#""name":"WS 1""#) && !text.contains("WS-0001"), "{text}");
}

#[test]
fn the_page_of_fields_is_what_the_encoders_tell_and_lists_every_field() {
    let path = format!("{}/docs/fields.md", env!("CARGO_MANIFEST_DIR"));
    let page = lockstep::cli::explain::page();
    let written = std::fs::read_to_string(&path).unwrap();
    assert!(written == page, "write it anew: cargo run -- explain --page > docs/fields.md");
    for source in SOURCES {
        for row in fixture(source.name()) {
            for name in serde_json::from_str::<Map<String, Value>>(&row).unwrap().keys() {
                // Of a report, only headings that are accepted are known.
                let listed = page.contains(&format!("| `{name}` | ")) || source.name() == "reports";
                assert!(listed || name == "aFieldOfALaterPortal", "{name} of {}", source.name());
            }
        }
    }
    assert!(!page.contains("nowhere"), "a field that no example fills");
}
