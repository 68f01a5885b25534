//! Records as a SIEM gets them: valid by the schema's own files, and nothing of a row lost.

mod odd;
mod schemas;

use lockstep::format::{Format, Origin};
use lockstep::formats::ocsf::Version;
use lockstep::model::{Change, Entry, Lane};
use lockstep::record::enrichment::{Enrichment, KnownDevice, LastUser, UserOrigin};
use lockstep::simulator::world::{Source as Audit, World, WorldOptions};
use lockstep::source::{SOURCES, Source, by_name};
use lockstep::sources::unified_audit::ACTION_TYPES;
use schemas::Judge;
use serde_json::Value;
use uuid::Uuid;

const SYSTEM_ACTIONS: [&str; 6] = ["Create", "Delete", "Logon", "Logoff", "Modify", "Read"];

/// What is known of a device, in every second test of a row.
const KNOWN: Enrichment<'_> = Enrichment {
    device: Some(KnownDevice {
        name: Some("WS-0001 – Zoë"),
        os: Some("Windows 11 Pro"),
        group: Some("Workstations"),
        organization: Some("Müßig"),
        mode: Some("Secure"),
    }),
    user: Some(LastUser { name: "EXAMPLE\\a.muster", origin: UserOrigin::Computer, time: Some(5_000_000) }),
};

fn ocsf(version: Version) -> Format {
    Format::Ocsf { version, row: false }
}

fn actions(source: &dyn Source) -> &'static [&'static str] {
    match source.name() {
        "unified_audit" => &ACTION_TYPES,
        "system_audit" => &SYSTEM_ACTIONS,
        _ => &[],
    }
}

fn encode(
    format: Format,
    source: &str,
    row: &str,
    previous: Option<(Change, &str)>,
    known: Enrichment<'_>,
) -> Vec<Value> {
    let origin =
        Origin { site: "acme \"north\"", source, lane: Lane::Live, collected: 1_772_366_400_000_001 };
    let (change, previous) = previous.map_or((Change::New, None), |(change, row)| (change, Some(row)));
    let entry = Entry {
        number: 7,
        uid: Uuid::from_u128(7),
        kind: by_name(source).unwrap().kind(),
        change,
        organization: "0a",
        vendor_id: None,
        time: Some(1_772_366_401_500_000),
        row,
        previous,
    };
    let (mut out, mut records) = (Vec::new(), Vec::new());
    format.encode(origin, &entry, known, &mut out, &mut records).unwrap();
    let lines: Vec<_> = out.split_inclusive(|byte| *byte == b'\n').collect();
    assert_eq!(lines.len(), records.len());
    assert_eq!(records.last().map(|record| record.end), Some(out.len()));
    lines.iter().map(|line| serde_json::from_slice(line).unwrap()).collect()
}

fn fixture(source: &str) -> Vec<String> {
    let path = format!("{}/tests/it/fixtures/portal/{source}.json", env!("CARGO_MANIFEST_DIR"));
    let rows: Vec<Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    rows.iter().map(Value::to_string).collect()
}

/// Rows of the simulated portal, odd ones among them.
fn simulated(source: &str) -> Vec<String> {
    let world = World::new(WorldOptions { odd_share: 0.2, computers: 60, ..WorldOptions::default() });
    let audit = match source {
        "unified_audit" => Audit::UnifiedAudit,
        "system_audit" => Audit::SystemAudit,
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
                .collect();
        }
    };
    let row = |row| {
        let mut bytes = Vec::new();
        world.write_row(audit, row, &mut bytes);
        String::from_utf8(bytes).unwrap()
    };
    world.rows(audit).iter().take(1_000).map(row).collect()
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
                let previous = (name == "computers" && number % 4 > 0)
                    .then(|| (changes[number % 3], rows[(number + 1) % rows.len()].as_str()));
                let known = if number % 2 == 0 { Enrichment::default() } else { KNOWN };
                for record in encode(ocsf(version), name, row, previous, known) {
                    judge.judge(&record, &format!("{version} {name} row {number}"));
                }
            }
        }
    }
    judge.verdict("OCSF");
}
