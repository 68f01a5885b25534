//! What one row costs where it is not copied but read: keying it, and naming it.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lockstep::model::uid;
use lockstep::simulator::world::{Source as Audit, World, WorldOptions};
use lockstep::source::Source;
use lockstep::sources::unified_audit::UnifiedAudit;

fn rows() -> Vec<String> {
    let options =
        WorldOptions { backlog_hours: 1, odd_share: 0.0, short_rows: true, ..WorldOptions::default() };
    let world = World::new(options);
    let rows = world.rows(Audit::UnifiedAudit).iter().take(500);
    rows.map(|row| {
        let mut bytes = Vec::new();
        world.write_row(Audit::UnifiedAudit, row, &mut bytes);
        String::from_utf8(bytes).expect("the simulator writes text")
    })
    .collect()
}

fn keying(c: &mut Criterion) {
    let rows = rows();
    let mut group = c.benchmark_group("row");
    group.throughput(Throughput::Elements(rows.len() as u64));
    group.bench_function("key", |bench| {
        bench.iter(|| {
            for row in &rows {
                drop(black_box(UnifiedAudit.key(black_box(row), 1)));
            }
        });
    });
    let (organization, id) = ("96984898-302d-5316-8d10-2c1ac39af9e4", "7f9c24e8-3b12-4fef-91e0-56a2d5a1b0c3");
    group.bench_function("uid", |bench| {
        bench.iter(|| {
            for _ in &rows {
                black_box(uid(organization, "unified_audit", black_box(id), "event", "0"));
            }
        });
    });
    group.finish();
}

criterion_group!(benches, keying);
criterion_main!(benches);
