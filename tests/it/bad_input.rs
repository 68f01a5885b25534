//! Rows of every odd shape: delivered as they are, or kept as a dead letter with its reason; none stops a
//! stream.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use lockstep::model::Micros;
use lockstep::simulator::rows::hostile_rows;
use lockstep::simulator::world::{Source, WorldOptions};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::support::app::{HOUR, MINUTE, SOON, Setup, TestApp, fresh_seed, windows};
use crate::support::output::files;
use crate::support::verdict::name;

/// Each row of the examples, with its file. The bytes are as they stand there, line breaks included.
fn examples() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/fixtures/portal");
    let mut rows = Vec::new();
    for file in files(&folder) {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&file).unwrap();
        match serde_json::from_str::<Vec<Box<RawValue>>>(&text) {
            Ok(list) => rows.extend(list.iter().map(|row| (name.clone(), row.get().as_bytes().to_vec()))),
            Err(_) => rows.push((name, text.trim().as_bytes().to_vec())),
        }
    }
    rows
}

/// Rows that the examples do not have.
fn composed(seed: u64) -> Vec<Vec<u8>> {
    let id = |number: u64| format!("{seed:016x}-{number}");
    let organization = "fc10e3e6-afe0-5c22-92a6-b597e759321e";
    let at = "2026-03-01T11:30:00Z";
    let mut rows: Vec<Vec<u8>> = hostile_rows().into_iter().map(<[u8]>::to_vec).collect();
    let mut add = |number: u64, more: &str| {
        let id = id(number);
        let head = format!(
            r#"{{"eActionLogId":"{id}","systemAuditId":"{id}","organizationId":"{organization}","dateTime":"{at}""#
        );
        rows.push(format!("{head}{more}}}").into_bytes());
    };
    add(1, r#","actionId":"2","processId":"8124","size":"734208","osType":"1","isMonitorMode":"false""#);
    add(2, &format!(r#","fullPath":"{}""#, "c:\\\\windows\\\\system32\\\\cmd.exe /c ".repeat(3_000)));
    add(3, r#","fullPath":"a\u0000b\u0001c\u001f\u007f""#);
    add(4, r#","hostname":"\udc00\ud800 alone","username":"\ud83d""#);
    add(5, ",\n\r\n\t\"fullPath\"\n:\r\n\"between tokens\"\n");
    add(6, r#","fullPath":"line one\nline two\r\nline three\u2028end""#);
    add(7, r#","size":1e400,"processId":123456789012345678901234567890,"encryption":-0.0"#);
    add(8, r#","organizationId":"another","dateTime":"tomorrow","dateTimeImported":7"#);
    add(9, &format!(r#","details":{}{}"#, "[".repeat(100), "]".repeat(100)));
    add(10, r#","":"","\u0000":null,"ключ":"значение 🦷""#);
    for number in 20..60 {
        let size = 100 + 2_560 * (number - 20);
        add(number, &format!(r#","fullPath":"{}""#, "x".repeat(usize::try_from(size).unwrap())));
    }
    rows
}

/// As a line shows a row: line breaks between tokens are spaces.
fn shown(row: &[u8]) -> Vec<u8> {
    row.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }).collect()
}

/// When the portal files a row that says so itself.
fn filed(row: &[u8], otherwise: Micros, world: &WorldOptions) -> Micros {
    let value: Value = serde_json::from_slice(row).unwrap_or_default();
    let text = value["dateTime"].as_str().unwrap_or_default();
    let at = chrono::DateTime::parse_from_rfc3339(text).map(|at| at.timestamp_micros());
    at.ok().filter(|at| (world.start - 20 * HOUR..world.start).contains(at)).unwrap_or(otherwise)
}

/// What makes two rows the same: organization and id.
fn identity(row: &[u8], source: Source) -> Option<(String, String)> {
    let value: Value = serde_json::from_slice(row).ok()?;
    let key = if source == Source::UnifiedAudit { "eActionLogId" } else { "systemAuditId" };
    let id = value.get(key)?;
    let id = id.as_str().map(str::to_owned).or_else(|| id.as_i64().map(|id| id.to_string()))?;
    Some((value["organizationId"].as_str().unwrap_or_default().to_lowercase(), id))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_every_odd_shape_are_delivered_or_kept_with_a_reason() {
    let seed = fresh_seed();
    let world = WorldOptions { seed, rows_per_day: 1_000, late_share: 0.0, ..WorldOptions::default() };
    let app = TestApp::prepare(Setup { world: world.clone(), page_size: 50, ..Setup::default() }).await;
    let mut rows = examples();
    assert!(rows.len() > 40, "{}", rows.len());
    rows.extend(composed(seed).into_iter().map(|row| ("composed".to_owned(), row)));
    {
        let mut stage = app.portal.stage();
        for (place, (_, row)) in (0..).zip(&rows) {
            let at = filed(row, world.start - HOUR - place * MINUTE / 8, &world);
            for source in [Source::UnifiedAudit, Source::SystemAudit] {
                stage.world.inject_raw(source, 1, at, row.clone());
            }
        }
    }
    let mut app = app;
    app.run().await;
    // A row that cannot be read is given up after three tries, minutes apart.
    for _ in 0..6 {
        let until = app.portal.now() - 2 * MINUTE;
        app.wait("went on behind the odd rows", SOON, |status| {
            status.sites.iter().all(|site| site.streams.len() == 3)
                && windows(status)
                    .all(|stream| stream.live_until.is_some_and(|live| live.timestamp_micros() >= until))
        })
        .await;
        app.advance(2 * MINUTE);
    }
    app.wait_caught_up(SOON).await;
    app.settle(1, SOON).await;
    let letters = app.dead_letters().await;
    app.stop().await;

    let output = app.output();
    for source in [Source::UnifiedAudit, Source::SystemAudit] {
        let name = name(source);
        let delivered = output.counted(name);
        let mut identities: HashMap<(String, String), usize> = HashMap::new();
        for (_, row) in rows.iter().filter(|(_, row)| delivered.contains_key(&blake3::hash(&shown(row)))) {
            if let Some(identity) = identity(row, source) {
                *identities.entry(identity).or_default() += 1;
            }
        }
        let buried: HashSet<&[u8]> =
            letters.iter().filter(|one| one.0 == name).map(|one| one.2.as_slice()).collect();
        let (mut entered, mut same, mut dead, mut lost) = (0, 0, 0, Vec::new());
        for (file, row) in &rows {
            if delivered.contains_key(&blake3::hash(&shown(row))) {
                entered += 1;
            } else if buried.contains(row.as_slice()) {
                dead += 1;
            } else if identity(row, source).is_some_and(|identity| identities.contains_key(&identity)) {
                same += 1;
            } else {
                lost.push((file, String::from_utf8_lossy(row).chars().take(120).collect::<String>()));
            }
        }
        app.note(
            "odd rows",
            format_args!("{name}: {} rows: {entered} delivered, {dead} dead letters, {same} of an id that is there, lost {}", rows.len(), lost.len()),
        );
        assert!(
            lost.is_empty(),
            "{lost:#?}\nletters: {:?}",
            letters.iter().map(|one| &one.1).collect::<Vec<_>>()
        );
        assert!(dead >= 5, "{dead}");
    }
    assert!(letters.iter().all(|one| !one.1.is_empty()), "every dead letter has a reason");
}
