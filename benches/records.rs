//! What a record costs: reading a row and writing it in each format.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lockstep::format::{Format, Origin};
use lockstep::formats::ocsf::Version;
use lockstep::model::{Change, Entry, Kind, Lane};
use lockstep::record::enrichment::Enrichment;
use lockstep::simulator::world::{Source as Audit, World, WorldOptions};
use uuid::Uuid;

const FORMATS: [(&str, Format); 4] = [
    ("raw", Format::Raw),
    ("ocsf 1.3", Format::Ocsf { version: Version::V1_3, row: false }),
    ("ocsf 1.5", Format::Ocsf { version: Version::V1_5, row: false }),
    ("ocsf 1.8", Format::Ocsf { version: Version::V1_8, row: false }),
];

/// Rows of some 1.5 KB of the unified audit, and of the system audit as they are.
fn rows(audit: Audit, short_rows: bool) -> Vec<String> {
    let world =
        World::new(WorldOptions { backlog_hours: 1, odd_share: 0.0, short_rows, ..WorldOptions::default() });
    let rows = world.rows(audit).iter().take(1_000);
    rows.map(|row| {
        let mut bytes = Vec::new();
        world.write_row(audit, row, &mut bytes);
        String::from_utf8(bytes).expect("the simulator writes text")
    })
    .collect()
}

fn encoding(c: &mut Criterion) {
    let sources = [
        ("unified_audit", "unified_audit", rows(Audit::UnifiedAudit, true)),
        ("unified_audit_whole", "unified_audit", rows(Audit::UnifiedAudit, false)),
        ("system_audit", "system_audit", rows(Audit::SystemAudit, false)),
    ];
    for (name, source, rows) in &sources {
        let bytes = rows.iter().map(String::len).sum::<usize>() / rows.len();
        eprintln!("{name}: {bytes} bytes a row");
        let mut group = c.benchmark_group(*name);
        group.throughput(Throughput::Elements(rows.len() as u64));
        for (label, format) in FORMATS {
            group.bench_function(BenchmarkId::from_parameter(label), |bench| {
                let (mut out, mut records) = (Vec::with_capacity(8 << 20), Vec::new());
                bench.iter(|| {
                    out.clear();
                    records.clear();
                    for row in rows {
                        let origin = Origin { site: "acme", source, lane: Lane::Live, collected: 1 };
                        let entry = entry(row);
                        let encoded =
                            format.encode(origin, &entry, Enrichment::default(), &mut out, &mut records);
                        encoded.expect("rows of the simulator are JSON");
                    }
                    black_box(&out);
                });
            });
        }
        group.finish();
    }
}

fn entry(row: &str) -> Entry<'_> {
    Entry {
        number: 1,
        uid: Uuid::from_u128(1),
        kind: Kind::Event,
        change: Change::New,
        organization: "0a",
        vendor_id: Some("v"),
        time: Some(1),
        row,
        previous: None,
    }
}

criterion_group!(benches, encoding);
criterion_main!(benches);
